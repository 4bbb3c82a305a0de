# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of an engine, over every engine; and a third engine, which is one class and one entry of the table."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import re

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import milter
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import (
    NOTHING,
    RELOAD,
    RESTART,
    Capabilities,
    Engine,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.next_hop import LOOPBACK, Hop, next_hops
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import files
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import fragments, slices, ways_in
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.table import DEFAULT, ENGINES
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, parse

FILE = {
    "plugin": "mailops.mta.fleet",
    "domain": "example.com",
    "key_host": "mta1",
    "bounce_host": "bounce.example.com",
    "hosts": {
        "mta1": {"ansible_host": "10.0.0.11"},
        "mta2": {"ansible_host": "10.0.0.12"},
    },
    "zones": {
        "example.com": {"provider": "external"},
        "113.0.203.in-addr.arpa": {"provider": "external"},
    },
    "front": {"port": 2500, "default": "news", "inject_from": ["10.0.0.0/8"], "hosts": ["mta1"]},
    "streams": {
        "news": {
            "domain": "news.example.com",
            "port": 2525,
            "inject_from": ["10.0.0.0/8"],
            "addresses": [
                {"ip": "203.0.113.10", "host": "mta1", "share": 0},
                {"ip": "203.0.113.11", "host": "mta2"},
            ],
        },
        "tx": {
            "domain": "tx.example.com",
            "port": 2526,
            "inject_from": ["10.0.0.0/8"],
            "inject_users": ["shop"],
            "addresses": [{"ip": "203.0.113.12", "host": "mta1"}, {"ip": "203.0.113.13", "host": "mta1"}],
        },
    },
}


def fleet_of(engine, change=lambda document: None):
    document = copy.deepcopy(FILE)
    for host in document["hosts"].values():
        host["engine"] = engine
    change(document)
    fleet, findings = parse.parse(document)
    assert fleet is not None, findings
    return fleet


def rendered_postfix(slice_):
    return {
        f"{instance['name']}/{name}": text
        for instance in slice_["mta_postfix"]["instances"]
        for name, text in files.files(instance, settings={}, known=()).items()
    }


def rendered_powermta(slice_):
    host = slice_["mta_powermta"]
    passwords = dict.fromkeys(ways_in.logins(host), "secret")
    return fragments.files(host, slices.Options(today=datetime.date(2026, 11, 10), passwords=passwords))


RENDER = {"postfix": rendered_postfix, "powermta": rendered_powermta}


def texts(engine, fleet, host):
    return RENDER[engine](ENGINES[engine].variables(fleet, host))


def test_the_default_is_an_engine_and_every_engine_can_be_rendered_here():
    assert DEFAULT in ENGINES
    assert set(RENDER) == set(ENGINES)


@pytest.fixture(params=sorted(ENGINES))
def engine(request):
    return request.param


def test_the_table_has_each_engine_under_its_name(engine):
    assert ENGINES[engine].name == engine
    assert ENGINES[engine].title.lower() == engine
    assert set(milter.SIGNERS[ENGINES[engine].signer]) >= {"rsa"}


def test_a_slice_travels_as_json_and_names_no_other_host_of_the_pool(engine):
    slice_ = ENGINES[engine].variables(fleet_of(engine), "mta2")
    assert all(name.startswith("mta_") for name in slice_)
    assert json.loads(json.dumps(slice_)) == slice_
    assert "203.0.113.11" in json.dumps(slice_)
    assert not re.search(r"203\.0\.113\.1[023]", json.dumps(slice_))


@pytest.mark.parametrize("host", ["mta1", "mta2"])
def test_what_is_rendered_binds_the_pool_addresses_of_the_host_and_no_other(engine, host):
    fleet = fleet_of(engine)
    own = {ip for stream in fleet.streams_on(host) for one in stream.addresses_on(host) for ip in one.ips}
    bound = {ip for text in texts(engine, fleet, host).values() for ip in ENGINES[engine].bound_addresses(text)}
    assert bound & {ip for one in fleet.addresses() for ip in one.ips} == own
    assert bound <= own | {LOOPBACK, *fleet.hosts[host].listen}


def test_each_address_has_a_queue_name_of_its_own_which_the_configuration_knows(engine):
    fleet = fleet_of(engine)
    for host in fleet.hosts:
        whole = "\n".join(texts(engine, fleet, host).values())
        own = [one for one in fleet.addresses() if one.host == host]
        for group in fleet.receivers:
            queues = [ENGINES[engine].queue_of(one, group) for one in own]
            assert len(set(queues)) == len(own)
            assert all(re.search(rf"(?<![\w-]){re.escape(queue)}(?![\w-])", whole) for queue in queues)


def test_the_same_files_need_nothing_and_another_ehlo_name_needs_a_reload(engine):
    def renamed(document):
        document["streams"]["tx"]["addresses"][0]["ehlo"] = "other.example.com"

    before, after = texts(engine, fleet_of(engine), "mta1"), texts(engine, fleet_of(engine, renamed), "mta1")
    effort = ENGINES[engine].effort
    assert before != after
    assert effort(before, dict(before)) == NOTHING
    assert effort(before, after) in (RELOAD, RESTART)
    assert effort(after, before) == effort(before, after)


@pytest.mark.parametrize("life", [60, 3600, 86400, 432000, 2592000])
def test_the_last_attempt_is_not_before_the_end_of_the_queue_and_a_tenth_of_it_later_at_most(engine, life):
    last = ENGINES[engine].last_try_seconds(life)
    assert life < last <= life + 2 * (life // 10)
    assert last <= ENGINES[engine].last_try_seconds(life + 1)


def test_a_key_stays_published_until_the_last_attempt_of_every_engine(engine):
    fleet = fleet_of(engine)
    for stream in fleet.streams.values():
        last = ENGINES[engine].last_try_seconds(stream.queue_life_seconds)
        assert stream.dkim.keep_retired_seconds >= last + stream.ttl_seconds


def test_the_signer_gets_the_domains_of_the_host_and_what_the_engine_says(engine):
    fleet = fleet_of(engine)
    signing = derive.host_variables(fleet, "mta2")["mta_dkim"]
    assert signing["signer"] == ENGINES[engine].signer
    assert signing["domains"] == ["news.example.com"]
    assert "socket" in signing


# ---- the next hop


def sends(document):
    document["streams"]["news"]["addresses"][0]["share"] = 1


def elsewhere(document):
    document["streams"]["news"]["addresses"].pop(0)


HOPS = [
    ("a host that is drained feeds the host that sends", lambda document: None, (Hop("mta2", "10.0.0.12", 2525),)),
    ("a host that sends feeds itself", sends, (Hop("mta1", LOOPBACK, 2525),)),
    ("a host without an address of the stream", elsewhere, (Hop("mta2", "10.0.0.12", 2525),)),
]


@pytest.mark.parametrize(("change", "hops"), [pytest.param(*case[1:], id=case[0]) for case in HOPS])
def test_both_front_listeners_hand_on_to_the_same_hop(engine, change, hops):
    fleet = fleet_of(engine, change)
    assert next_hops(fleet, "mta1", fleet.streams["news"]) == hops
    whole = texts(engine, fleet, "mta1")
    front = "\n".join(text for name, text in whole.items() if "front" in name)
    away = [f"[{hop.ip}]:{hop.port}" for hop in hops if hop.host != "mta1"]
    assert re.findall(r"\[10\.0\.0\.12\]:2525", front)[:1] == away[:1]
    assert all(place in front for place in away)


def test_of_two_families_the_front_host_reaches_the_one_that_it_has():
    def two(document):
        document["hosts"]["mta1"]["listen"] = ["fd00::11"]
        document["hosts"]["mta2"]["listen"] = ["10.0.0.12", "fd00::12"]

    fleet = fleet_of("postfix", two)
    assert next_hops(fleet, "mta1", fleet.streams["news"]) == (Hop("mta2", "fd00::12", 2525),)


def test_the_packet_filter_lets_every_hop_to_port_25_pass(engine):
    def port(document):
        document["streams"]["news"]["port"] = 25

    fleet = fleet_of(engine, port)
    hops = next_hops(fleet, "mta1", fleet.streams["news"])
    assert {hop.ip for hop in hops} <= set(derive.host_variables(fleet, "mta1")["mta_firewall"]["forwards"])
    assert hops


# ---- what an engine cannot do is a finding


def shares(document):
    document["streams"]["tx"]["addresses"][0]["share"] = 3


def warm_up(document):
    document["streams"]["tx"]["addresses"][0]["warmup_from"] = "2026-11-01"


def networks(document):
    document["streams"]["tx"]["inject_from"] = ["10.0.0.0/16"]


def sizes(document):
    document["streams"]["tx"]["max_message_bytes"] = 1000000


def front_alone(document):
    document["hosts"]["mta3"] = {"ansible_host": "10.0.0.13", "engine": document["hosts"]["mta1"]["engine"]}
    document["front"]["hosts"] = ["mta3"]


def bounces(document):
    document["hosts"]["mta1"]["bounce_listen"] = ["10.0.0.11"]


# Of each capability a fleet that needs it, and words of the finding where the engine lacks it.
NEEDS = {
    "weighted_shares": (shares, "addresses of a pool in turn"),
    "warm_up": (warm_up, "knows no schedule of warm-up"),
    "relay_by_port": (networks, "on all ports of mta1 or on none"),
    "message_check": (lambda document: None, "refuses a second From"),
    "size_by_stream": (sizes, "whose own ports take less"),
    "bounces_by_stream": (front_alone, "leave under a name without SPF"),
    "bounce_processing": (bounces, "does not process bounces"),
}


def test_every_capability_has_its_finding():
    assert set(NEEDS) == {field.name for field in dataclasses.fields(Capabilities)}


@pytest.mark.parametrize("capability", sorted(NEEDS))
def test_what_an_engine_cannot_do_is_a_finding_and_what_it_can_is_none(engine, capability):
    change, words = NEEDS[capability]
    document = copy.deepcopy(FILE)
    for host in document["hosts"].values():
        host["engine"] = engine
    change(document)
    found = [one for one in parse.parse(document)[1] if words in f"{one.found} {one.why}"]
    assert bool(found) is not getattr(ENGINES[engine].can, capability), found


# ---- a third engine


class Fake(Engine):
    name = "fake"
    title = "Fake"
    signer = milter.RSPAMD
    configuration = ("/etc/fake/*.conf",)
    can = Capabilities(**{field.name: True for field in dataclasses.fields(Capabilities)})

    def variables(self, fleet, host):
        return {"mta_fake": {"streams": [stream.name for stream in fleet.streams_on(host)]}}

    def signing(self, fleet, host):
        return {"socket": milter.MILTER_SOCKET}

    def last_try_seconds(self, queue_life_seconds):
        return queue_life_seconds

    def bound_addresses(self, text):
        return set(text.split())

    def effort(self, before, after):
        return NOTHING if before == after else RESTART

    def queue_of(self, address, group):
        return address.label


@pytest.fixture
def third(monkeypatch):
    monkeypatch.setitem(ENGINES, Fake.name, Fake())


def test_a_third_engine_is_one_class_and_one_line_of_the_table(third):
    def mixed(document):
        document["hosts"]["mta1"]["engine"] = "powermta"
        document["front"]["hosts"] = ["mta2"]

    fleet = fleet_of("fake", mixed)
    variables = derive.host_variables(fleet, "mta2")
    assert variables["mta_engine"] == "fake"
    assert variables["mta_fake"] == {"streams": ["news"]}
    assert variables["mta_dkim"] == {
        "signer": "rspamd",
        "domains": ["news.example.com"],
        "socket": milter.MILTER_SOCKET,
    }
    assert fleet.streams["tx"].dkim.algorithms == ("rsa",)
    assert derive.fleet_variables(fleet)["mta_proof"]["streams"]


def test_what_a_third_engine_can_do_is_no_finding_and_is_offered_as_a_remedy(third):
    for change, words in NEEDS.values():
        document = copy.deepcopy(FILE)
        for host in document["hosts"].values():
            host["engine"] = "fake"
        change(document)
        findings = parse.parse(document)[1]
        assert not errors(findings)
        assert not [one for one in findings if words in f"{one.found} {one.why}"]
    document = copy.deepcopy(FILE)
    warm_up(document)
    assert any("engine: powermta or engine: fake" in one.remedy for one in parse.parse(document)[1])


def test_an_engine_that_is_none_is_refused_with_the_names_of_all(third):
    document = copy.deepcopy(FILE)
    document["hosts"]["mta1"]["engine"] = "exim"
    _fleet, findings = parse.parse(document)
    assert any("fake" in f"{one.why} {one.remedy}" and "exim" in one.found for one in findings)
