# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA as data: laws that every accepted fleet's configuration keeps, and what single keys become."""

from __future__ import annotations

import datetime
import json
import re

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import fleet as fleet_file
from ansible_collections.mailops.mta.plugins.module_utils.core import names, powermta, receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.powermta_set import holds_secret
from ansible_collections.mailops.mta.plugins.module_utils.core.powermta_syntax import sections, unquoted, values
from ansible_collections.mailops.mta.plugins.module_utils.core.powermta_values import rate
from ansible_collections.mailops.mta.plugins.modules.powermta_configuration import PASSWORD
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.powermta_fleets import (
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
            powermta.virtual_mta(address): [(ip, address.ehlo) for ip in address.ips]
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
        rules = [re.fullmatch(r"X-Binding /(.*)/ virtual-mta=(\S+)", one.value).groups() for one in seen.rules["front"]]
        for stream in fleet.streams.values():
            fitting = [target for pattern, target in rules if re.search(pattern, f" {stream.name} ")]
            assert len(fitting) == 1
            assert_leads_to(fleet, name, seen, fitting[0], stream)
        default = seen.says("front", "default-virtual-mta")
        assert_leads_to(fleet, name, seen, default, fleet.streams[fleet.front.default])
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
        data = powermta.slice_of(fleet, name)
        assert set(picture(texts).users) == set(powermta.logins(data))
        for login in powermta.logins(data):
            assert {file for file, text in texts.items() if password(login) in text} == {powermta.USERS}
        assert {name for name, text in texts.items() if holds_secret(text)} <= {powermta.USERS}


@FEW
@given(documents())
def test_the_slice_survives_json_and_a_second_rendering_is_the_same(document):
    for fleet, name, texts in hosts_of(document):
        data = json.loads(json.dumps(powermta.slice_of(fleet, name)))
        assert data == powermta.slice_of(fleet, name)
        passwords = {login: password(login) for login in powermta.logins(data)}
        again = powermta.files(data, powermta.Options(today=TODAY, passwords=passwords))
        assert again == {file: text for file, text in texts.items() if file != powermta.DKIM}


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
    assert powermta.state({"share": share, "warmup_from": warmup_from}, 3, datetime.date(2026, 11, 10)) == what


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
    assert list(seen.targets("alerts")) == ["alerts-apart", "alerts-203-0-113-31"]
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
    said = powermta._rate(seconds)
    if not seconds:
        assert said == "unlimited"
        return
    assert re.fullmatch(r"[1-9]\d*/[smh]", said)  # M/unit needs 5.0
    count, every = rate(said)
    assert every / count >= seconds


@given(st.integers(1, 10**7))
def test_an_interval_says_the_same_seconds(seconds):
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    said = powermta._interval(seconds)
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
    assert powermta._regex("a#b/c") == r"/a\x23b\/c/"
    assert powermta._regex(r"a\/b") == r"/a\/b/"


def test_what_the_fleet_file_says_of_engines_is_kept():
    parsed, findings = fleet_file.parse(DOCUMENT)
    assert [str(one.where) for one in findings] == ["front.header", "front.header"]
    assert parsed.streams["bulk"].dkim.algorithms == ("rsa",)
