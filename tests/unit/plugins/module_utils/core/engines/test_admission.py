# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What streams admit: a domain has one stream, and a network reaches the streams that name it."""

from __future__ import annotations

import copy
import ipaddress
import json
import re

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import instances
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse

DOCUMENT = {
    "plugin": "mailops.mta.fleet",
    "domain": "example.com",
    "bounce_host": "bounces.example.com",
    "key_host": "mta1",
    "max_message_bytes": 2000000,
    "hosts": {"mta1": {"ansible_host": "10.0.0.11"}, "mta2": {"ansible_host": "10.0.0.12"}},
    "zones": {
        "example.com": {"provider": "memory"},
        "bücher.example": {"provider": "memory"},
        "113.0.203.in-addr.arpa": {"provider": "memory"},
    },
    "front": {"port": 2500, "default": "shop", "inject_from": ["10.0.0.0/8", "2001:db8::/32"], "hosts": ["mta1"]},
    "streams": {
        "shop": {
            "domain": "shop.example.com",
            "port": 2525,
            "inject_from": ["10.1.0.0/16"],
            "inject_users": ["shop"],
            "addresses": [{"ip": "203.0.113.10", "host": "mta1"}],
        },
        "news": {
            "domain": "news.bücher.example",
            "extra_domains": ["letters.example.com"],
            "return_path": {"domain": "bounce.example.com"},
            "port": 2526,
            "inject_from": ["10.2.0.0/16", "10.3.1.0/24", "2001:db8:1::/48"],
            "max_message_bytes": 4000000,
            "addresses": [{"ip": "203.0.113.11", "host": "mta2"}],
        },
        "cold": {
            "domain": "cold.example.com",
            "port": 2527,
            "inject_from": ["10.3.0.0/16"],
            "inject_users": ["sales"],
            "addresses": [{"ip": "203.0.113.12", "host": "mta2"}],
        },
    },
}


def fleet_of(**changes):
    parsed, findings = parse.parse({**copy.deepcopy(DOCUMENT), **changes})
    assert parsed is not None, findings
    return parsed


def test_a_host_knows_its_own_streams_and_a_front_host_all():
    fleet = fleet_of()
    assert list(admission.admission(fleet, "mta2")["streams"]) == ["news", "cold"]
    assert admission.admission(fleet, "mta2")["front"] is None
    whole = admission.admission(fleet, "mta1")
    assert list(whole["streams"]) == ["shop", "news", "cold"]
    assert whole["front"]["logins"] == {"shop": "shop", "sales": "cold"}
    assert json.loads(json.dumps(whole)) == whole


def test_a_from_domain_has_one_stream_in_every_spelling():
    streams = admission.admission(fleet_of(), "mta1")["streams"]
    owners = [spelling for stream in streams.values() for spelling in stream["from"]]
    assert len(owners) == len(set(owners))
    assert streams["news"]["from"] == {
        "news.xn--bcher-kva.example": "news.xn--bcher-kva.example",
        "news.bücher.example": "news.xn--bcher-kva.example",
        "news.bu\u0308cher.example": "news.xn--bcher-kva.example",
        "letters.example.com": "letters.example.com",
    }
    assert set(streams["news"]["senders"]) == {*streams["news"]["from"], "bounce.example.com"}


def matching(networks, ip):
    """As signing.lua and cidr_table(5) look: the longest prefix is asked first."""
    address = ipaddress.ip_address(ip)
    return next((found for network, found in networks.items() if address in ipaddress.ip_network(network)), None)


@pytest.mark.parametrize(
    ("ip", "streams", "stream"),
    [
        ("10.1.0.5", ["shop"], "shop"),
        ("10.2.0.5", ["news"], "news"),
        ("10.3.2.5", ["cold"], "cold"),
        ("10.3.1.5", ["news", "cold"], None),
        ("10.9.0.5", None, "shop"),
        ("2001:db8:1::5", ["news"], "news"),
        ("2001:db8:2::5", None, "shop"),
    ],
)
def test_the_network_decides_and_the_default_is_for_networks_of_no_stream(ip, streams, stream):
    networks = admission.networks(fleet_of())
    assert matching(networks, ip) == streams
    assert admission.stream_of_network(streams or [], "shop") == stream


def test_postfix_sends_a_network_where_the_signer_expects_its_mail():
    fleet = fleet_of()
    (front,) = (one for one in instances.instances(fleet, "mta1") if one["stream"] == "front")
    table = dict(line.split(" ", 1) for line in front["tables"]["networks.cidr"].splitlines())
    assert list(table) == list(admission.networks(fleet))
    for network, streams in admission.networks(fleet).items():
        stream = admission.stream_of_network(streams, "shop")
        port = re.search(r":(\d+)$", table[network])
        expected = None if stream in (None, "shop") else fleet.streams[stream].port
        assert (port and int(port.group(1))) == expected


def test_the_front_takes_the_largest_and_what_it_took_fits_into_the_stream():
    fleet = fleet_of()
    size = {
        one["stream"]: int(one["main_cf"]["message_size_limit"])
        for host in ("mta1", "mta2")
        for one in instances.instances(fleet, host)
    }
    assert size["front"] == 4000000
    for name, stream in fleet.streams.items():
        assert size[name] == stream.max_message_bytes + admission.TRACE_BYTES
    alone = copy.deepcopy(DOCUMENT)
    del alone["front"]
    parsed, _findings = parse.parse(alone)
    assert [one["main_cf"]["message_size_limit"] for one in instances.instances(parsed, "mta1")] == ["2000000"]


def test_a_bounce_of_the_front_is_from_the_domain_of_the_stream_that_takes_it():
    fleet = fleet_of()
    (front,) = (one for one in instances.instances(fleet, "mta1") if one["stream"] == "front")
    shop = fleet.streams["shop"]
    assert front["main_cf"]["myorigin"] == shop.domain
    assert front["main_cf"]["default_transport"].endswith(f":{shop.port}")
    assert admission.admission(fleet, "mta1")["streams"]["shop"]["from"][front["main_cf"]["myorigin"]] == shop.domain
