# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter as data: whom the engines let in may connect, everybody else not, and mail leaves from its pool.

Laws are judged by the rules, read as the kernel reads them: the first that fits decides. ``MTA_GOLDEN=write`` writes
the golden file anew; read the difference before you keep it.
"""

from __future__ import annotations

import copy
import ipaddress
import itertools
import json
import os
from pathlib import Path

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import instances
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import slices
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse
from ansible_collections.mailops.mta.plugins.module_utils.core.host import firewall
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.engines.powermta.fleets import (
    changed,
    documents,
    fleet_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).parents[1] / "golden" / "firewall.txt"
LAWFUL = settings(max_examples=60, derandomize=True)
ELSEWHERE = ("192.0.2.200", "203.0.113.250", "198.51.100.1", "2001:db8:ffff::1", "fd00:ffff::1", "::ffff:10.0.0.1")
HERE = "198.51.100.99"  # an address of the host that no rule names


@st.composite
def fleets(draw):
    """Fleets of both engines, some with a port 25 for applications, whose hosts let in overlapping networks."""
    document = draw(documents())
    streams = list(document["streams"].values())
    if draw(st.booleans()):
        streams[0]["port"] = 25
    for stream in streams:
        stream["inject_from"] = [*stream["inject_from"], *draw(st.sampled_from([[], ["10.1.0.0/16", "10.0.0.0/9"]]))]
    return fleet_of(document)


def rules_of(fleet, host):
    return firewall.rules(*parts(fleet, host))


def parts(fleet, host):
    slice_ = firewall.slice_of(fleet, host)
    own = [ip for address in fleet.addresses() if address.host == host for ip in address.ips]
    return slice_["listeners"], slice_["bounces"], slice_["forwards"], own


def verdict(rules, chain, port, source, destination):
    """What becomes of a new connection that does not stay on the host."""
    for rule in rules:
        if (rule.chain, rule.port) == (chain, port) and all(
            not networks or within(ip, networks)
            for ip, networks in ((source, rule.sources), (destination, rule.destinations))
        ):
            return rule.verdict
    return firewall.ACCEPT


def within(ip, networks):
    address = ipaddress.ip_address(ip)
    return any(address in ipaddress.ip_network(network) for network in networks)


def edges(networks):
    """The first and the last address of each network, and those beside it."""
    for network in map(ipaddress.ip_network, networks):
        first, last = int(network.network_address), int(network.broadcast_address)
        kind = type(network.network_address)
        yield from (
            str(kind(number)) for number in (first - 1, first, last, last + 1) if 0 < number < 2**network.max_prefixlen
        )


def let_in_by_the_engine(fleet, host):
    """By port, the networks that Postfix or PowerMTA lets relay there, as its own configuration says."""
    engine = fleet.hosts[host].engine
    if engine == "postfix":
        for instance in instances.instances(fleet, host):
            networks = [text.replace("[", "").replace("]", "") for text in instance["main_cf"]["mynetworks"].split()]
            yield int(instance["listen"][0].rpartition(":")[2]), networks, bool(instance["lmdb"]["logins"])
        return
    data = slices.slice_of(fleet, host)
    everything = [*data["streams"], *data["forwards"]]
    for stream in data["streams"]:
        yield stream["port"], data["relay_networks"], bool(stream["logins"])
    if data["front"]:
        yield data["front"]["port"], data["relay_networks"], any(stream["logins"] for stream in everything)


def where_to(fleet, host):
    """Addresses of the host that are no bounce listener."""
    return [ip for ip in (*fleet.hosts[host].listen, HERE) if ip not in fleet.hosts[host].bounce_listen]


@LAWFUL
@given(fleets())
def test_whom_postfix_lets_relay_may_connect_and_nobody_else(fleet):
    for host in (host.name for host in fleet.mta_hosts() if host.engine == "postfix"):
        rules = rules_of(fleet, host)
        for port, networks, logins in let_in_by_the_engine(fleet, host):
            outside = [text for text in networks if not ipaddress.ip_network(text).is_loopback]
            for source, here in itertools.product((*edges(outside), *ELSEWHERE), where_to(fleet, host)):
                found = verdict(rules, firewall.INPUT, port, source, here)
                other = firewall.LIMITED if logins else firewall.REFUSED
                assert found == (firewall.ACCEPT if within(source, outside) else other), (host, port, source)


@LAWFUL
@given(fleets())
def test_powermta_keeps_the_networks_of_each_port_apart_by_the_firewall_alone(fleet):
    front = fleet.front
    fronts = [ip for name in (front.hosts if front else ()) for ip in fleet.hosts[name].listen]
    for host in (host.name for host in fleet.mta_hosts() if host.engine == "powermta"):
        rules = rules_of(fleet, host)
        own = {stream.port: (*stream.inject_from, *fronts) for stream in fleet.streams_on(host)}
        if front and host in front.hosts:
            own[front.port] = front.inject_from
        for port, networks, logins in let_in_by_the_engine(fleet, host):
            for source, here in itertools.product((*edges(networks), *ELSEWHERE), where_to(fleet, host)):
                found = verdict(rules, firewall.INPUT, port, source, here)
                other = firewall.LIMITED if logins else firewall.REFUSED
                assert found == (firewall.ACCEPT if within(source, own[port]) else other), (host, port, source)
                assert found != firewall.ACCEPT or within(source, networks), (host, port, source)


@LAWFUL
@given(fleets())
def test_no_other_port_of_a_host_is_touched(fleet):
    for host in fleet.mta_hosts():
        rules = rules_of(fleet, host.name)
        ports = {stream.port for stream in fleet.streams_on(host.name)}
        ports |= {fleet.front.port} if fleet.front and host.name in fleet.front.hosts else set()
        assert {rule.port for rule in rules if rule.chain == firewall.INPUT} == ports
        assert {rule.port for rule in rules if rule.chain == firewall.OUTPUT} == {25}
        for port, source in itertools.product({22, 80, 443, 8080} - ports, ELSEWHERE):
            assert verdict(rules, firewall.INPUT, port, source, HERE) == firewall.ACCEPT
            assert verdict(rules, firewall.OUTPUT, port, HERE, source) == firewall.ACCEPT


@LAWFUL
@given(fleets())
def test_bounces_come_in_from_everywhere(fleet):
    for host in fleet.mta_hosts():
        rules = rules_of(fleet, host.name)
        for here, source in itertools.product(host.bounce_listen, ELSEWHERE):
            assert verdict(rules, firewall.INPUT, 25, source, here) == firewall.ACCEPT


@LAWFUL
@given(fleets())
def test_mail_leaves_from_the_pools_of_its_host_and_from_nowhere_else(fleet):
    for host in fleet.mta_hosts():
        rules = rules_of(fleet, host.name)
        for address in fleet.addresses():
            for ip, receiver in itertools.product(address.ips, ELSEWHERE[:4]):
                wanted = firewall.ACCEPT if address.host == host.name else firewall.WRONG_SOURCE
                assert verdict(rules, firewall.OUTPUT, 25, ip, receiver) == wanted
        for ip in (*host.listen, *host.bounce_listen, HERE, *ELSEWHERE):
            assert verdict(rules, firewall.OUTPUT, 25, ip, "192.0.2.7") == firewall.WRONG_SOURCE


@LAWFUL
@given(fleets())
def test_the_front_listener_reaches_the_streams_of_other_hosts(fleet):
    fronts = fleet.front.hosts if fleet.front else ()
    for name, stream in itertools.product(fronts, fleet.streams.values()):
        there = {address.host for address in stream.addresses} - {name}
        for source, other in itertools.product(fleet.hosts[name].listen, there):
            for ip in fleet.hosts[other].listen:
                assert verdict(rules_of(fleet, name), firewall.OUTPUT, stream.port, source, ip) == firewall.ACCEPT
                assert verdict(rules_of(fleet, other), firewall.INPUT, stream.port, source, ip) == firewall.ACCEPT


@LAWFUL
@given(fleets())
def test_the_text_holds_each_rule_once_and_networks_never_overlap(fleet):
    for host in fleet.mta_hosts():
        rules = rules_of(fleet, host.name)
        text = firewall.text(rules)
        lines = [line.strip() for line in text.splitlines() if "comment" in line]
        assert (
            len(lines)
            == len(set(lines))
            == sum(
                max(1, len({one.version for one in rule.sources}), len({one.version for one in rule.destinations}))
                for rule in rules
            )
        )
        for rule in rules:
            for networks in (rule.sources, rule.destinations):
                for one, other in itertools.combinations(networks, 2):
                    assert one.version != other.version or not one.overlaps(other)
        assert json.loads(json.dumps(firewall.slice_of(fleet, host.name))) == firewall.slice_of(fleet, host.name)


def full_fleet():
    return fleet_of(
        changed(
            ("hosts/mta1/bounce_listen", ["203.0.113.200", "2001:db8::200"]),
            ("streams/bulk/port", 25),
            ("streams/bulk/inject_users", None),
            ("streams/bulk/inject_from", ["10.0.0.0/24", "10.0.0.128/25", "2001:db8:1::/64"]),
            ("streams/alerts/port", 2528),
            ("streams/alerts/addresses", [{"ip": "203.0.113.30", "host": "mta1"}]),
            ("streams/more", more_stream()),
        )
    )


def more_stream():
    return {
        "domain": "more.example.com",
        "port": 2529,
        "inject_from": ["10.0.0.0/24"],
        "addresses": [{"ip": "203.0.113.40", "host": "mta2"}],
    }


def test_a_golden_table():
    text = firewall.text(rules_of(full_fleet(), "mta1"))
    if os.environ.get("MTA_GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_only_our_own_table_is_named():
    text = firewall.text(rules_of(full_fleet(), "mta1"))
    assert "flush" not in text
    assert {line for line in text.splitlines() if "table" in line and not line.startswith("#")} == {
        "table inet mailops",
        "delete table inet mailops",
        "table inet mailops {",
    }
    assert "policy drop" not in text
    assert text.count("policy accept") == 2


def test_the_front_listener_may_hand_on_to_port_25_of_another_host_from_its_own_address():
    fleet = fleet_of(changed(("streams/alerts/port", 25)))
    rules = rules_of(fleet, "mta1")
    assert verdict(rules, firewall.OUTPUT, 25, "10.0.0.11", "10.0.0.12") == firewall.ACCEPT
    assert verdict(rules, firewall.OUTPUT, 25, "10.0.0.11", "10.0.0.13") == firewall.WRONG_SOURCE
    without = rules_of(fleet_of(changed(("streams/alerts/port", 25), ("front", None))), "mta1")
    assert verdict(without, firewall.OUTPUT, 25, "10.0.0.11", "10.0.0.12") == firewall.WRONG_SOURCE


def test_the_limits_are_those_that_were_given():
    text = firewall.text(rules_of(full_fleet(), "mta1"), 7, 11)
    assert text.count("ct count over 7 ") == 2
    assert text.count("ct count over 11 ") == 1


def test_a_host_with_a_firewall_of_its_own_has_none_of_ours():
    fleet = fleet_of(changed(("hosts/mta2/firewall", False)))
    assert firewall.slice_of(fleet, "mta1")["state"] == "present"
    assert firewall.slice_of(fleet, "mta2")["state"] == "absent"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (([{"name": "x", "port": 2525, "networks": ["10.0.0.1/8"], "logins": False}], [], [], []), "10.0.0.1/8"),
        (([{"name": 'x" drop', "port": 2525, "networks": [], "logins": False}], [], [], []), "not a valid listener"),
        (([], ["any"], [], []), "any"),
        (([], [], [], ["203.0.113.300"]), "203.0.113.300"),
    ],
)
def test_what_the_table_cannot_hold_is_refused(told, words):
    with pytest.raises(ValueError, match=words):
        firewall.rules(*told)


def findings(*changes):
    _parsed, found = parse.parse(changed(*changes))
    return [(one.severity, one.where, one.why) for one in found if "ssh" in one.why]


OWN_PORT = copy.deepcopy({"ansible_host": "10.0.0.12", "engine": "powermta", "ansible_port": 2528})


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ([], None),
        ([("streams/alerts/port", 22)], "streams.alerts.port"),
        ([("front/port", 22), ("front/hosts", ["mta1"])], "front.port"),
        ([("hosts/mta2", OWN_PORT)], "streams.alerts.port"),
        ([("hosts/mta1", {**OWN_PORT, "ansible_host": "10.0.0.11"})], None),
        ([("hosts/mta2", {**OWN_PORT, "firewall": False})], None),
        ([("streams/alerts/port", 22), ("hosts/mta2/firewall", False)], None),
    ],
)
def test_a_port_of_ssh_is_never_closed(changes, where):
    assert [(severity, place) for severity, place, _why in findings(*changes)] == ([(ERROR, where)] if where else [])
