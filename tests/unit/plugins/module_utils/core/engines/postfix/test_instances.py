# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix as data: a golden picture of each kind of instance, and laws of shares, relaying and retirement.

``MTA_GOLDEN=write`` writes the golden files anew; read the difference before you keep it.
"""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import NOTHING, RELOAD, RESTART
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import files, instances, parts
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Address
from hypothesis import given
from hypothesis import strategies as st

GOLDEN = Path(__file__).parents[2] / "golden"
DOCUMENT = {
    "plugin": "mailops.mta.fleet",
    "domain": "example.com",
    "bounce_host": "bounces.example.com",
    "key_host": "mta1",
    "hosts": {"mta1": {"ansible_host": "10.0.0.11"}, "mta2": {"ansible_host": "10.0.0.12"}},
    "zones": {
        "example.com": {"provider": "powerdns", "credentials": "pdns"},
        "113.0.203.in-addr.arpa": {"provider": "rfc2136", "credentials": "rdns"},
        "8.b.d.0.1.0.0.2.ip6.arpa": {"provider": "rfc2136", "credentials": "rdns"},
    },
    "front": {
        "port": 2500,
        "header": "X-Binding",
        "default": "bulk",
        "inject_from": ["10.0.0.0/24"],
    },
    "verify": {"sink_domain": "sink.example.com", "sink_host": "rx1"},
    "streams": {
        "bulk": {
            "domain": "news.example.com",
            "extra_domains": ["letters.example.com"],
            "return_path": {"domain": "bounce.news.example.com"},
            "port": 2527,
            "inject_from": ["10.0.0.0/24", "2001:db8:1::/64"],
            "inject_users": ["shop"],
            "addresses": [
                {"ip": "203.0.113.20", "ip6": "2001:db8::20", "host": "mta1", "share": 3},
                {"ip": "203.0.113.21", "host": "mta1"},
            ],
        },
        "alerts": {
            "domain": "alerts.example.com",
            "port": 2528,
            "inject_from": ["10.0.0.0/24"],
            "addresses": [{"ip": "203.0.113.30", "host": "mta2"}],
        },
    },
}
KNOWN = ("smtpd_forbid_bare_newline", "smtpd_forbid_unauth_pipelining")


@pytest.fixture(scope="module")
def fleet():
    parsed, findings = parse.parse(DOCUMENT)
    assert parsed is not None, findings
    return parsed


def instance(fleet, host, name):
    return next(found for found in instances.instances(fleet, host) if found["name"] == name)


def texts(data, **more):
    return files.files(data, **{"settings": {}, "known": KNOWN, **more})


@pytest.mark.parametrize("name", ["postfix-bulk", "postfix-front"])
def test_an_instance_looks_as_it_did(fleet, name):
    picture = []
    for file, text in texts(instance(fleet, "mta1", name)).items():
        lines = [line for line in text.splitlines() if not line.startswith("mailops_slots_")]
        if file == files.SHARES:
            lines = [line for line in lines if re.search(r"-(00|74|75|99) ", line)]
        picture += [f"===== {file}", *(line[:200] for line in lines)]
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("MTA_GOLDEN") == "write":
        path.write_text("\n".join(picture) + "\n", encoding="utf-8")
    assert "\n".join(picture) + "\n" == path.read_text(encoding="utf-8")


def test_a_host_gets_its_own_instances_and_they_survive_json(fleet):
    assert [found["name"] for found in instances.instances(fleet, "mta1")] == ["postfix-bulk", "postfix-front"]
    assert [found["name"] for found in instances.instances(fleet, "mta2")] == ["postfix-alerts", "postfix-front"]
    found = instances.instances(fleet, "mta1")
    assert json.loads(json.dumps(found)) == found


def test_every_transport_binds_all_families_that_it_may_use(fleet):
    for service in instance(fleet, "mta1", "postfix-bulk")["services"]:
        if service["command"] != "smtp":
            continue
        options = service["options"]
        assert ("smtp_bind_address" in options) == (options["inet_protocols"] in ("all", "ipv4"))
        assert ("smtp_bind_address6" in options) == (options["inet_protocols"] in ("all", "ipv6"))


def test_nothing_in_a_stream_can_send_without_a_bound_address(fleet):
    services = instance(fleet, "mta1", "postfix-bulk")["services"]
    assert {service["service"] for service in services if service["command"] in ("smtp", "lmtp", "local", "pipe")} == {
        name for name in (service["service"] for service in services) if name.startswith(instances.TRANSPORT_PREFIX)
    }


@pytest.mark.parametrize("name", ["postfix-bulk", "postfix-front"])
def test_relaying_ends_in_a_refusal(fleet, name):
    settings = instance(fleet, "mta1", name)["main_cf"]
    for parameter in ("smtpd_relay_restrictions", "smtpd_recipient_restrictions"):
        assert settings[parameter].endswith(", reject")
    assert settings["smtpd_tls_auth_only"] == "yes"
    networks = settings["mynetworks"].split()
    assert "127.0.0.1/32" in networks
    assert not {"0.0.0.0/0", "[::]/0"} & set(networks)


def restrictions(text):
    """The restrictions of one parameter; what is in braces is one word."""
    return [part.strip() for part in re.split(r",(?![^{]*})", text) if part.strip()]


@pytest.mark.parametrize("name", ["postfix-bulk", "postfix-front", "postfix-alerts"])
def test_a_stranger_is_refused_before_the_recipient_and_again_at_data(fleet, name):
    """smtpd(8) skips what it asks of a recipient for a bare postmaster, and what it delays until then."""
    settings = instance(fleet, "mta2" if name.endswith("alerts") else "mta1", name)["main_cf"]
    assert settings["smtpd_delay_reject"] == "no"
    for parameter in ("smtpd_sender_restrictions", "smtpd_data_restrictions"):
        asked = restrictions(settings[parameter])
        assert asked[-1] == "reject"
        permits = [
            word
            for word in asked
            if word.startswith("permit") or word.startswith("check_sasl_access lmdb:${config_directory}/logins")
        ]
        assert asked.index(permits[0]) == len(asked) - 1 - len(permits), "nothing may follow what permits"
    logins = settings["smtpd_sasl_auth_enable"] == "yes"
    client = restrictions(settings["smtpd_client_restrictions"])
    assert bool(client) != logins
    if client:
        assert client[0] == "permit_mynetworks"
        assert " static:{521 5.7.1 " in client[1]
    limit = int(settings["smtpd_client_connection_count_limit"])
    assert limit == (parts.STRANGER_CONNECTIONS if logins else 0)


RECEIVED = (
    "Received: from app.internal (unknown [10.0.0.5])\n"
    "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\n"
    "\tby {host} (Postfix) with ESMTPSA id 4dKz1x2Y3Zz\n"
    "\tfor <someone@example.org>; Sun, 29 Nov 2026 10:00:00 +0000 (UTC)"
)


def header_check(table, field):
    """header_checks(5) with pcre_table(5): case is ignored, "." matches a line's end, the first line decides."""
    for line in table.splitlines():
        pattern, action = re.fullmatch(r"/(.*)/ (\S+.*)", line).groups()
        found = re.search(pattern, field, re.IGNORECASE | re.DOTALL)
        if found:
            return found.expand(re.sub(r"\$(\d)", r"\\\1", action))
    return None


def test_receivers_see_no_received_field_of_an_application_where_the_file_says_so():
    document = copy.deepcopy(DOCUMENT)
    document["streams"]["bulk"]["remove_received"] = True
    parsed, _findings = parse.parse(document)
    table = instance(parsed, "mta1", "postfix-bulk")["tables"]["header.pcre"]
    own = header_check(table, RECEIVED.format(host="mta1.news.example.com"))
    assert own == (
        "REPLACE Received: by mta1.news.example.com (Postfix) with ESMTPSA id 4dKz1x2Y3Zz;"
        " Sun, 29 Nov 2026 10:00:00 +0000 (UTC)"
    )
    for host in ("front-mta1.example.com", "app.internal", "mta1xnews.example.com"):
        assert header_check(table, RECEIVED.format(host=host)) == "IGNORE"
    assert header_check(table, "Received: (qmail 1 invoked by uid 2); 1 Jan 2026 00:00:00 -0000") == "IGNORE"
    assert header_check(table, "Subject: Received: from me") is None
    assert "Received" not in instance(parse.parse(DOCUMENT)[0], "mta1", "postfix-bulk")["tables"]["header.pcre"]


def shares_of(**holders):
    return "".join(f"{group}-{slot:02d} {holder}:\n" for group, holder in holders.items() for slot in range(3))


@pytest.mark.parametrize(
    ("before", "after", "interim"),
    [
        ({"default": "a"}, {"default": "b"}, {"default": "a"}),
        ({"default": "a"}, {"default": "a2"}, {"default": "a2"}),
        ({"default": "a"}, {"default": "a", "new": "b"}, {"default": "a", "new": "a"}),
        ({"default": "a", "gone": "a2"}, {"default": "b"}, {"default": "a", "gone": "a2"}),
        ({}, {"default": "b"}, {"default": "b"}),
    ],
    ids=["new service", "known service", "new group", "group that goes", "nothing before"],
)
def test_no_slot_is_drawn_whose_service_is_not_there_yet(before, after, interim):
    running = "a unix - - n - - smtp\na2 unix - - n - - smtp\n"
    assert files.interim_shares(shares_of(**before), shares_of(**after), running) == shares_of(**interim)


def test_a_new_address_gets_nothing_before_the_reload_and_its_share_after(fleet):
    document = copy.deepcopy(DOCUMENT)
    document["streams"]["bulk"]["addresses"].append({"ip": "203.0.113.22", "host": "mta1", "share": 4})
    document["receivers"] = {"partner": {"domains": ["partner.example.org"]}}
    before = texts(instance(fleet, "mta1", "postfix-bulk"))
    after = texts(instance(parse.parse(document)[0], "mta1", "postfix-bulk"))
    services = {block.service for block in files.blocks(before["master.cf"])}
    interim = dict(
        line.split(" ", 1)
        for line in files.interim_shares(before["shares"], after["shares"], before["master.cf"]).splitlines()
    )
    wanted = dict(line.split(" ", 1) for line in after["shares"].splitlines())
    assert set(interim) == set(wanted)
    assert {holder.partition(":")[0] for holder in interim.values()} <= services
    assert not {holder.partition(":")[0] for holder in wanted.values()} <= services


addresses = st.lists(
    st.tuples(st.integers(1, 250), st.integers(0, 50)), min_size=1, max_size=20, unique_by=lambda pair: pair[0]
).map(
    lambda pairs: [
        Address("bulk", "mta1", f"m{last}.example.com", f"203.0.113.{last}", None, share) for last, share in pairs
    ]
)


@given(addresses)
def test_slots_are_all_held_and_in_proportion(pool):
    held = instances.shares("google", pool)
    assert sum(held.values()) == instances.SLOTS
    total = sum(address.share for address in pool)
    if not total:
        assert set(held) == {instances.DRAINED}
        return
    for address in pool:
        exact = address.share * instances.SLOTS / total
        assert abs(held.get(f"{instances.transport(address, 'google')}:", 0) - exact) < 1
        if not address.share:
            assert f"{instances.transport(address, 'google')}:" not in held


def test_a_change_of_shares_needs_no_reload(fleet):
    data = instance(fleet, "mta1", "postfix-bulk")
    moved = {**data, "shares": {group: dict(reversed(list(held.items()))) for group, held in data["shares"].items()}}
    before, after = texts(data), texts(moved)
    assert before != after
    assert files.effort(before, after, files.lmdb_names(data)) == NOTHING


def test_a_change_of_settings_needs_a_reload_and_of_protocols_a_restart(fleet):
    data = instance(fleet, "mta1", "postfix-bulk")
    before = texts(data)
    reloaded = texts(data, settings={"queue_run_delay": "10s"})
    restarted = texts(data, settings={"inet_protocols": "ipv4"})
    tables = files.lmdb_names(data)
    assert files.effort(before, before, tables) == NOTHING
    assert files.effort(before, reloaded, tables) == RELOAD
    assert files.effort(before, restarted, tables) == RESTART
    shuffled = {**before, "senders.pcre": "".join(reversed(before["senders.pcre"].splitlines(keepends=True)))}
    assert files.effort(before, shuffled, tables) == RELOAD  # the order of a pcre table has a meaning


def test_a_removed_address_stays_without_a_reload_and_goes_after_its_time(fleet):
    whole = instance(fleet, "mta1", "postfix-bulk")
    gone = "out-203-0-113-21-"
    document = copy.deepcopy(DOCUMENT)
    del document["streams"]["bulk"]["addresses"][1]
    less = instance(parse.parse(document)[0], "mta1", "postfix-bulk")
    before = texts(whole)

    def step(current, now):
        retired = files.retire(current["master.cf"], less, now=now, patience_seconds=600)
        kept = files.retired_settings(current["main.cf"], retired)
        return texts(less, settings=kept, retired=retired)

    first = step(before, 1000)
    assert gone in first["master.cf"]
    assert files.effort(before, first, files.lmdb_names(less)) == NOTHING
    assert step(first, 1001) == first == step(first, 1599)
    last = step(first, 1600)
    assert gone not in last["master.cf"]
    assert gone not in last["main.cf"]
    assert last == texts(less)


def test_a_drained_instance_keeps_everything_but_its_listeners(fleet):
    master_cf = texts(instance(fleet, "mta1", "postfix-bulk"))["master.cf"]
    before, after = files.blocks(master_cf), files.blocks(files.without_listeners(master_cf))
    kept = [block for block in before if block.type != "inet"]
    assert [block.service for block in after] == [block.service for block in kept]
    assert len(after) < len(before)
    differing = [(old, new) for old, new in zip(kept, after) if old != new]
    assert [(old.service, new.text) for old, new in differing] == [
        ("cleanup", f"{differing[0][0].text}\n  -o non_smtpd_milters=")
    ]


def test_bound_addresses_are_found(fleet):
    master_cf = texts(instance(fleet, "mta1", "postfix-bulk"))["master.cf"]
    assert {names.address(ip) for ip in files.bound_addresses(master_cf)} == {
        "203.0.113.20",
        "203.0.113.21",
        "2001:db8::20",
    }


def test_senders_of_other_streams_are_refused_and_returns_are_rewritten(fleet):
    tables = instance(fleet, "mta1", "postfix-bulk")["tables"]
    allowed = re.compile(tables["senders.pcre"].splitlines()[0][1:].rpartition("/")[0])
    assert allowed.search("a@news.example.com")
    assert not allowed.search("a@alerts.example.com")
    assert not allowed.search("a@newsxexample.com")
    pattern, _slash, result = tables["return-path.pcre"].strip()[1:].rpartition("/")
    assert re.search(pattern, "a+b@letters.example.com").group(1) == "a+b"
    assert result == " ${1}@bounce.news.example.com"


def queue_settings(seconds):
    document = copy.deepcopy(DOCUMENT)
    document["streams"]["alerts"]["queue_life_seconds"] = seconds
    parsed, _findings = parse.parse(document)
    by_name = {each["name"]: each["main_cf"] for each in instances.instances(parsed, "mta2")}
    assert "maximal_queue_lifetime" not in by_name["postfix-front"]  # what waits there is signed behind it
    usual = {"minimal_backoff_time": "300s", "maximal_backoff_time": "4000s", "queue_run_delay": "300s"}
    settings = {**usual, **by_name["postfix-alerts"]}
    names = (*usual, "maximal_queue_lifetime", "bounce_queue_lifetime")
    return {name: int(re.fullmatch(r"(\d+)s", settings[name]).group(1)) for name in names}


@pytest.mark.parametrize("seconds", [60, 69, 599, 2999, 3000, 39999, 40000, 432000, 2592000])
def test_mail_leaves_the_queue_by_the_time_that_keys_wait_for(seconds):
    found = queue_settings(seconds)
    assert found["maximal_queue_lifetime"] == found["bounce_queue_lifetime"] == seconds
    assert 0 < found["minimal_backoff_time"] <= found["maximal_backoff_time"] <= 4000
    late = found["maximal_backoff_time"] + found["queue_run_delay"]
    assert instances.last_try_seconds(seconds) == seconds + late
    assert late <= seconds / 5


def test_the_front_feeds_the_host_that_sends():
    document = copy.deepcopy(DOCUMENT)
    document["streams"]["alerts"]["addresses"] = [
        {"ip": "203.0.113.30", "host": "mta2", "share": 0},
        {"ip": "203.0.113.31", "host": "mta1"},
    ]
    for share, port_of in ((0, "forward-host:[10.0.0.11]:2528"), (1, "forward:[127.0.0.1]:2528")):
        document["streams"]["alerts"]["addresses"][0]["share"] = share
        front = instance(parse.parse(document)[0], "mta2", "postfix-front")
        assert f"FILTER {port_of}\n" in front["tables"]["header.pcre"]
