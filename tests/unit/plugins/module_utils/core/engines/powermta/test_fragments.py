# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA as data: laws that every accepted fleet's configuration keeps, and what single keys become."""

from __future__ import annotations

import datetime
import itertools
import json
import re

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission, receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import fragments as powermta
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import (
    slices,
    spelling,
    ways_in,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.effort import holds_secret
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import sections, unquoted, values
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.values import rate
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse
from ansible_collections.mailops.mta.plugins.modules.powermta_configuration import PASSWORD
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.engines.powermta.fleets import (
    DOCUMENT,
    TODAY,
    changed,
    documents,
    fleet_of,
    fragments,
    judged,
    password,
    picture,
    sections_of,
    written,
)
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=30)
IPV6_LISTENER = "the manuals do not show how a listener for IPv6 is written"


def hosts_of(document):
    """Each PowerMTA host of a fleet: (fleet, name, its fragments)."""
    fleet = fleet_of(document)
    for name, host in fleet.hosts.items():
        if host.engine == "powermta":
            yield fleet, name, fragments(fleet, name)


@FEW
@given(documents())
def test_our_own_checker_finds_nothing_in_what_any_fleet_becomes(document):
    for _fleet, _name, texts in hosts_of(document):
        assert [str(one) for one in judged(texts) if IPV6_LISTENER not in one.why] == []


@FEW
@given(documents())
def test_every_address_is_a_virtual_mta_of_one_pool_and_says_its_name(document):
    for fleet, name, texts in hosts_of(document):
        seen = picture(texts)
        members = [member for pool in seen.pools.values() for member in pool]
        assert len(members) == len(set(members))
        wanted = {
            slices.virtual_mta(address): [(ip, address.ehlo) for ip in address.ips]
            for stream in fleet.streams_on(name)
            for address in stream.addresses_on(name)
        }
        assert {member: seen.source_hosts[member] for member in members} == wanted
        assert set(seen.source_hosts) - set(members) == set(seen.hops)
        assert {one for pool in seen.cold.values() for one in pool} <= set(members)


@FEW
@given(documents())
def test_no_way_in_leads_to_another_stream(document):
    for fleet, name, texts in hosts_of(document):
        seen = picture(texts)
        for stream in fleet.streams_on(name):
            own = {ip for address in stream.addresses_on(name) for ip in address.ips}
            sources = {source for place, source in seen.listeners.items() if place.endswith(f":{stream.port}")}
            assert sources == {stream.name}
            targets = list(seen.targets(stream.name))
            assert targets
            for target in targets:
                assert seen.leads_to(target) <= own
            assert seen.says(stream.name, "process-x-virtual-mta") == "no"
        for login, source in seen.users.items():
            stream = next(one for one in fleet.streams.values() if login in one.inject_users)
            assert seen.says(source, "require-auth") == "yes"
            for target in seen.targets(source):
                assert_leads_to(fleet, name, seen, target, stream)


@FEW
@given(documents())
def test_the_front_listener_leads_each_name_to_its_stream(document):
    for fleet, name, texts in hosts_of(document):
        seen = picture(texts)
        if fleet.front is None:
            assert "front" not in seen.sources
            continue
        assert {source for place, source in seen.listeners.items() if place.endswith(":2500")} == {"front"}
        for stream in fleet.streams.values():
            for headers in ({"X-Binding": f" {stream.name} \r\n"}, {"X-Binding": stream.name.upper()}):
                found = seen.routed("front", {**headers, "From": f"a@{stream.domain}"})
                assert_leads_to(fleet, name, seen, found, stream)
        default = fleet.streams[fleet.front.default]
        for found in (seen.routed("front", {"From": f"a@{default.domain}"}), seen.says("front", "default-virtual-mta")):
            assert_leads_to(fleet, name, seen, found, default)
        assert seen.routed("front", {"X-Binding": "none", "From": f"a@{default.domain}"}) == ways_in.REFUSED
        assert seen.routed("front", {"X-Binding": "", "From": f"a@{default.domain}"}) == ways_in.REFUSED
        assert seen.says("front", "process-x-virtual-mta") == "no"
        assert "remove-header X-Binding" in texts[powermta.HOST]


def assert_leads_to(fleet, host, seen, target, stream):
    """By an address of the stream here, or to the stream's own port on another host of it."""
    if target in seen.hops:
        for hop in seen.hops[target]:
            ip, port = re.fullmatch(r"\[(.*)\]:(\d+)", hop).groups()
            (there,) = (one.name for one in fleet.hosts.values() if ip in one.listen)
            assert there != host
            assert any(address.share for address in stream.addresses_on(there))
            assert int(port) == stream.port
    else:
        assert seen.leads_to(target) <= {ip for address in stream.addresses_on(host) for ip in address.ips}


@FEW
@given(documents())
def test_no_way_in_takes_the_from_domain_of_another_stream(document):
    """From whomever, by whatever port, login or header: it goes to what refuses."""
    for fleet, name, texts in hosts_of(document):
        seen = picture(texts)
        for source in {*seen.listeners.values(), *seen.users.values()} - {"inbound-bounces", "takes-nothing"}:
            if source == ways_in.REFUSED:
                assert seen.says(source, "smtp-service") == "no"
                continue
            for chosen, other in itertools.product(["", *fleet.streams], fleet.streams.values()):
                headers = {"From": f'"a@b" <x@{other.domain}>', **({"X-Binding": chosen} if chosen else {})}
                found = seen.routed(source, headers)
                if found != ways_in.REFUSED:
                    assert_leads_to(fleet, name, seen, found, other)
            assert seen.routed(source, {"From": "ceo@elsewhere.test"}) == ways_in.REFUSED
            assert seen.routed(source, {}) == ways_in.REFUSED
        assert seen.hops.get(ways_in.REFUSED) in (None, ["[127.0.0.2]:2599"])


@FEW
@given(documents())
def test_a_login_decides_whatever_the_header_says(document):
    for fleet, name, texts in hosts_of(document):
        seen = picture(texts)
        for login, source in seen.users.items():
            own = next(one for one in fleet.streams.values() if login in one.inject_users)
            author = {"From": f"a@{own.domain}"}
            assert_leads_to(fleet, name, seen, seen.routed(source, author), own)
            for other in fleet.streams.values():
                found = seen.routed(source, {**author, "X-Binding": other.name})
                refused = other is not own and fleet.front is not None
                assert (found == ways_in.REFUSED) is refused, (login, other.name, found)


@pytest.mark.parametrize(
    ("author", "passes"),
    [
        ("a@news.example.com", True),
        (" A@NEWS.example.com\r\n", True),
        (" News <a@letters.example.com>\r\n", True),
        (' "Doe, J. (x@y)" <a@news.example.com>', True),
        (" Doe, John\r\n <a@news.example.com>\r\n", True),
        (" =?utf-8?q?J=C3=B6rg?= <a+b=c@news.example.com> (work)", True),
        ("<a@news.example.com>", True),
        (r' "a \" b" <a@news.example.com>', True),
        ("a@alerts.example.com", False),
        ("a@x.news.example.com", False),
        ("a@newsxexample.com", False),
        ("a@news.example.com.evil.test", False),
        ("a@alerts.example.com, b@news.example.com", False),
        ("b@news.example.com, a@alerts.example.com", False),
        ("A <a@alerts.example.com>, B <b@news.example.com>", False),
        ('"b@news.example.com" <a@alerts.example.com>', False),
        ("b@news.example.com <a@alerts.example.com>", False),
        ("<a@alerts.example.com> <b@news.example.com>", False),
        ("a@alerts.example.com (b@news.example.com)", False),
        ("group: b@news.example.com;", False),
        ("", False),
    ],
)
def test_a_from_field_passes_with_one_mailbox_of_the_stream(author, passes):
    seen = picture(fragments(fleet_of(DOCUMENT), "mta1"))
    assert (seen.routed("bulk", {"From": author}) == "bulk") is passes


def test_a_from_field_of_an_international_domain_passes_in_both_spellings():
    document = changed(("streams/bulk/extra_domains", ["news.b\u00fccher.test"]))
    document["zones"]["b\u00fccher.test"] = {"provider": "powerdns", "credentials": "pdns"}
    seen = picture(fragments(fleet_of(document), "mta1"))
    for domain in ("news.b\u00fccher.test", "news.xn--bcher-kva.test"):
        assert seen.routed("bulk", {"From": f"a@{domain}"}) == "bulk"


@FEW
@given(documents())
def test_each_virtual_mta_has_the_keys_of_its_stream_and_no_other(document):
    for fleet, name, texts in hosts_of(document):
        assert not [file for file, text in texts.items() if file.endswith(".conf") and "domain-key" in text]
        wanted = {
            slices.virtual_mta(address): sorted(map(slices.keys_file, stream.domains))
            for stream in fleet.streams_on(name)
            for address in stream.addresses_on(name)
        }
        held = {
            one.argument: sorted(line.value.rpartition("/")[2] for line in values(one.body, "include"))
            for one in written(texts, "virtual-mta")
        }
        assert {one: files for one, files in held.items() if files} == wanted


@FEW
@given(documents())
def test_every_way_in_has_a_limit_of_its_size(document):
    for fleet, name, texts in hosts_of(document):
        seen = picture(texts)
        sizes = {source: seen.says(source, "max-message-size") for source in seen.sources}
        more = admission.TRACE_BYTES if fleet.front else 0
        for stream in fleet.streams_on(name):
            assert sizes[stream.name] == f"{stream.max_message_bytes + more}b"
        if fleet.front and name in fleet.front.hosts:
            assert sizes["front"] == f"{max(one.max_message_bytes for one in fleet.streams.values())}b"
        assert sizes["0/0"] is not None
        assert not {"0", "0b", "unlimited"} & set(sizes.values())
        assert all(sizes[source] for source in seen.users.values())


def test_the_trace_of_applications_is_left_out_where_the_fleet_says_so():
    plain, hidden = (
        fragments(fleet_of(changed(("streams/bulk/remove_received", value))), "mta1") for value in (False, True)
    )
    assert "Received" not in "".join(plain.values())
    assert {file for file in plain if plain[file] != hidden[file]} == {"30-stream-bulk.conf"}
    added = set(hidden["30-stream-bulk.conf"].splitlines()) - set(plain["30-stream-bulk.conf"].splitlines())
    assert {line.strip() for line in added} == {"hide-message-source yes", "remove-header X-Binding,Received"}
    # A login at another stream's port has that port's settings but for what its own source says.
    assert plain["30-stream-bulk.conf"].count("hide-message-source no") == 2
    assert judged(hidden) == []


def test_bounces_of_powermta_leave_as_the_address_that_they_leave_from_and_find_the_return_path():
    texts = fragments(fleet_of(DOCUMENT), "mta1")
    host = texts[powermta.HOST]
    assert "\nsmtp-source-host 203.0.113.20 mta20.news.example.com\n" in host
    assert '\ncustom-dsn-from-header "Mail Delivery System <MAILER-DAEMON@mta20.news.example.com>"\n' in host
    ways = {one.argument: values(one.body, "smtp-hosts")[0].value for one in sections_of(texts, "domain")}
    assert ways == dict.fromkeys(("news.example.com", "letters.example.com"), "lookup-mx:bounce.news.example.com")
    for pool in sections_of(texts, "virtual-mta-pool"):  # what people get there goes where their MX says
        (own,) = (one for one in sections(pool.body, "domain") if one.argument == "$_senders")
        assert values(own.body, "smtp-hosts")[0].value == '""'


def test_strangers_get_no_reports():
    seen = picture(fragments(fleet_of(changed(("hosts/mta1/bounce_listen", ["203.0.113.9"]))), "mta1"))
    reports = {source: seen.says(source, "suppress-local-dsn") for source in seen.sources}
    assert (reports["0/0"], reports["inbound-bounces"]) == ("yes", "yes")
    relaying = {source for source in seen.sources if seen.says(source, "always-allow-relaying") == "yes"}
    assert {source for source, said in reports.items() if said == "no"} == relaying
    assert (seen.says("0/0", "auto-qualify-domain"), seen.says("0/0", "accept-invalid-recipients")) == ("no", "no")


@FEW
@given(documents())
def test_the_right_to_relay_is_of_clients_and_logins_and_of_no_port(document):
    for fleet, name, texts in hosts_of(document):
        seen = picture(texts)
        assert seen.listeners
        for source in seen.listeners.values():
            assert seen.says(source, "always-allow-relaying") in (None, "no")
        relaying = {source for source in seen.sources if seen.says(source, "always-allow-relaying") == "yes"}
        by_login = {source for source in relaying if seen.says(source, "require-auth") == "yes"}
        assert by_login == set(seen.users.values())
        networks = {"127.0.0.1/32", "::1/128"}
        for stream in fleet.streams_on(name):
            networks.update(stream.inject_from)
        if fleet.front:
            networks.update(fleet.front.inject_from)
            networks.update(names.host_network(ip) for host in fleet.front.hosts for ip in fleet.hosts[host].listen)
        assert relaying - by_login == networks
        assert not {"0/0", "0.0.0.0/0", "::/0"} & relaying


@FEW
@given(documents())
def test_passwords_stand_in_one_file(document):
    for fleet, name, texts in hosts_of(document):
        data = slices.slice_of(fleet, name)
        assert set(picture(texts).users) == set(ways_in.logins(data))
        for login in ways_in.logins(data):
            assert {file for file, text in texts.items() if password(login) in text} == {powermta.USERS}
        assert {name for name, text in texts.items() if holds_secret(text)} <= {powermta.USERS}


@FEW
@given(documents())
def test_the_slice_survives_json_and_a_second_rendering_is_the_same(document):
    for fleet, name, texts in hosts_of(document):
        data = json.loads(json.dumps(slices.slice_of(fleet, name)))
        assert data == slices.slice_of(fleet, name)
        passwords = {login: password(login) for login in ways_in.logins(data)}
        again = powermta.files(data, slices.Options(today=TODAY, passwords=passwords))
        assert again == {
            file: text for file, text in texts.items() if file != powermta.DKIM and not file.endswith(slices.KEYS_END)
        }


@given(st.from_regex(PASSWORD, fullmatch=True))
def test_every_password_that_is_accepted_reads_back(secret):
    fleet = fleet_of(DOCUMENT)
    texts = fragments(fleet, "mta1", passwords={"shop": secret, "bell": "x"})
    users = {one.argument: one for one in sections_of(texts, "smtp-user")}
    assert unquoted(values(users["shop"].body, "password")[0].value) == secret


# ---- what an address does


@pytest.mark.parametrize(
    ("share", "warmup_from", "what"),
    [
        (1, None, "live"),
        (0, None, "drained"),
        (0, "2026-11-09", "drained"),
        (1, "2026-11-11", "waiting"),
        (1, "2026-11-10", "cold"),
        (1, "2026-11-08", "cold"),
        (1, "2026-11-07", "live"),
    ],
)
def test_what_an_address_does_follows_from_share_and_day(share, warmup_from, what):
    assert slices.state({"share": share, "warmup_from": warmup_from}, 3, datetime.date(2026, 11, 10)) == what


def test_addresses_that_send_nothing_new_stand_apart_with_the_same_limits():
    texts = fragments(fleet_of(DOCUMENT), "mta1")
    seen = picture(texts)
    assert seen.pools["bulk"] == ["bulk-203-0-113-20", "bulk-203-0-113-21"]
    assert seen.cold["bulk"] == ["bulk-203-0-113-23"]
    assert seen.pools["bulk-apart"] == ["bulk-203-0-113-22", "bulk-203-0-113-23", "bulk-203-0-113-24"]
    bodies = {
        one.argument: {
            domain.argument: [line.value for line in domain.body if line.key != "max-cold-virtual-mta-msg"]
            for domain in sections(one.body, "domain")
        }
        for one in sections_of(texts, "virtual-mta-pool")
    }
    assert bodies["bulk"] == bodies["bulk-apart"]
    assert set(bodies["bulk"]) >= {"*", "$google", "google.rollup"}


def test_warm_up_follows_the_fleets_schedule_and_ends_by_itself():
    def schedule(document, **more):
        pools = sections_of(fragments(fleet_of(document), "mta1", **more), "virtual-mta-pool")
        bulk = next(one for one in pools if one.argument == "bulk")
        general = next(sections(bulk.body, "domain"))
        return [line.value for line in values(general.body, "max-cold-virtual-mta-msg")], picture(
            fragments(fleet_of(document), "mta1", **more)
        )

    said, _seen = schedule(changed(("streams/bulk/warmup", {"messages_per_day": [5, 5, 10]})))
    assert said == ["5/d,5/d,10/d"]
    said, _seen = schedule(DOCUMENT)
    assert said == [",".join(f"{count}/d" for count in receivers.WARMUP_MESSAGES_PER_DAY)]
    said, seen = schedule(DOCUMENT, today=datetime.date(2027, 1, 1))
    assert said == []
    assert len(seen.pools["bulk"]) == 4
    assert seen.pools["bulk-apart"] == ["bulk-203-0-113-22"]


def test_a_stream_that_is_drained_here_takes_mail_from_this_host_only():
    document = changed(
        (
            "streams/alerts/addresses",
            [{"ip": "203.0.113.30", "host": "mta2"}, {"ip": "203.0.113.31", "host": "mta1", "share": 0}],
        )
    )
    seen = picture(fragments(fleet_of(document), "mta1"))
    assert [place for place, source in seen.listeners.items() if source == "alerts"] == ["127.0.0.1:2528"]
    assert list(seen.targets("alerts")) == ["alerts-apart", "alerts-203-0-113-31", "alerts-apart"]
    assert seen.hops["forward-alerts"] == ["[10.0.0.12]:2528"]


def test_a_host_without_streams_listens_on_no_outer_address():
    document = changed(
        ("hosts/mta3", {"ansible_host": "10.0.0.13", "engine": "powermta"}), ("front", None), ("key_host", "mta1")
    )
    texts = fragments(fleet_of(document), "mta3")
    seen = picture(texts)
    assert set(seen.listeners) == {"127.0.0.1:2525"}
    assert seen.says("takes-nothing", "always-allow-relaying") == "no"
    assert judged(texts) == []


# ---- values


@given(st.integers(0, 3600))
def test_a_delay_is_never_shorter_than_asked_for(seconds):
    said = spelling.rate(seconds)
    if not seconds:
        assert said == "unlimited"
        return
    assert re.fullmatch(r"[1-9]\d*/[smh]", said)  # M/unit needs 5.0
    count, every = rate(said)
    assert every / count >= seconds


@given(st.integers(1, 10**7))
def test_an_interval_says_the_same_seconds(seconds):
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    said = spelling.interval(seconds)
    assert int(said[:-1]) * units[said[-1]] == seconds


@pytest.mark.parametrize("seconds", [60, 599, 3600, 432000, 2592000])
def test_mail_is_tried_often_within_its_life(seconds):
    texts = fragments(fleet_of(changed(("streams/bulk/queue_life_seconds", seconds))), "mta1")
    text = texts["30-stream-bulk.conf"]
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}

    def said(name):
        amount, unit = re.search(rf"^ +{name} (\d+)([dhms])$", text, re.MULTILINE).groups()
        return int(amount) * units[unit]

    assert said("bounce-after") == seconds
    assert 0 < said("retry-after") <= said("backoff-retry-after") <= seconds / 10
    assert said("backoff-to-normal-after") <= seconds / 2


@pytest.mark.parametrize(
    ("address", "bounce"),
    [
        ("a@bounce.news.example.com", True),
        ("fbl@bounce.news.example.com", False),
        ("fbl2@bounce.news.example.com", True),
        ("a@bouncexnews.example.com", False),
        ("a@b.bounce.news.example.com", False),
    ],
)
def test_bounces_and_complaints_are_told_apart(address, bounce):
    texts = fragments(fleet_of(changed(("hosts/mta1/bounce_listen", ["203.0.113.9"]))), "mta1")
    assert judged(texts) == []
    (processor,) = sections_of(texts, "bounce-processor")
    (loop,) = sections_of(texts, "feedback-loop-processor")
    patterns = [line.value for one in sections(processor.body, "address-list") for line in values(one.body, "address")]
    assert any(re.search(one[1:-1], address) for one in patterns) is bounce
    complaints = [line.value for one in sections(loop.body, "address-list") for line in values(one.body, "address")]
    assert (address in complaints) is address.startswith("fbl@")
    assert picture(texts).listeners["203.0.113.9:25"] == "inbound-bounces"


@pytest.mark.parametrize("number", range(len(powermta._BOUNCE_CATEGORIES)))
def test_bounce_categories_are_some_that_powermta_knows(number):
    pattern, category = powermta._BOUNCE_CATEGORIES[number]
    re.compile(pattern)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", category)


@pytest.mark.parametrize(
    ("answer", "category"),
    [
        ("550 5.1.1 User unknown", "bad-mailbox"),
        ("552 5.2.2 The email account that you tried to reach is over quota", "quota-issues"),
        ("550 5.7.26 Unauthenticated email from example.com is not accepted due to DMARC policy", "policy-related"),
        ("554 5.7.1 Service unavailable; client host blocked using Spamhaus", "spam-related"),
        ("550 5.2.1 mailbox disabled", "inactive-mailbox"),
        ("554 no valid reason", "other"),
    ],
)
def test_answers_fall_into_their_category(answer, category):
    found = next(name for pattern, name in powermta._BOUNCE_CATEGORIES if re.search(pattern, answer, re.IGNORECASE))
    assert found == category


def test_a_number_sign_and_a_slash_stay_in_a_regular_expression():
    assert spelling.regex("a#b/c") == r"/a\x23b\/c/"
    assert spelling.regex(r"a\/b") == r"/a\/b/"


def test_what_the_fleet_file_says_of_engines_is_kept():
    parsed, findings = parse.parse(DOCUMENT)
    assert [str(one.where) for one in findings] == ["hosts.mta1.engine"]
    assert parsed.streams["bulk"].dkim.algorithms == ("rsa",)
