# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones of the fleet file: what is wrong is refused, and classless and external zones hold their names."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, parse
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    REMOVE,
    S,
    changed,
    records_of,
    refused,
    refused_at,
)

WRONG = [
    (
        "a provider nobody knows",
        [("zones/example.com/provider", "powerdsn")],
        "zones.example.com.provider",
        "did you mean 'powerdns'",
    ),
    (
        "a zone name with a slash that is no network",
        [("zones/3~26.113.0.203.in-addr.arpa", {"provider": "rfc2136"})],
        "zones.3/26.113.0.203.in-addr.arpa",
        "slash",
    ),
    (
        "a network that the zone's name contradicts",
        [("zones/0~26.113.0.203.in-addr.arpa", {"provider": "rfc2136", "network": "203.0.113.64/26"})],
        "zones.0/26.113.0.203.in-addr.arpa.network",
        "203.0.113.0/26",
    ),
    (
        "a network of another reverse zone",
        [("zones/0-63.113.0.203.in-addr.arpa", {"provider": "rfc2136", "network": "198.51.100.0/26"})],
        "zones.0-63.113.0.203.in-addr.arpa.network",
        "100.51.198.in-addr.arpa",
    ),
    (
        "a network that needs no classless zone",
        [("zones/113.0.203.in-addr.arpa/network", "203.0.113.0/24")],
        "zones.113.0.203.in-addr.arpa.network",
        "/24",
    ),
    (
        "an IPv6 network",
        [("zones/113.0.203.in-addr.arpa/network", "2001:db8::/64")],
        "zones.113.0.203.in-addr.arpa.network",
        "IPv4",
    ),
    ("signed as text", [("zones/example.com/signed", "yes")], "zones.example.com.signed", "true or false"),
    (
        "credentials for a zone that nobody writes",
        [("zones/example.com/provider", "external")],
        "zones.example.com.credentials",
        "pdns",
    ),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


CLASSLESS = {"provider": "rfc2136", "credentials": "rdns"}


@pytest.mark.parametrize(
    ("zone", "settings"),
    [
        ("0~26.113.0.203.in-addr.arpa", CLASSLESS),
        ("0-63.113.0.203.in-addr.arpa", {**CLASSLESS, "network": "203.0.113.0/26"}),
    ],
)
def test_a_classless_zone_holds_the_ptr_records_of_its_network(zone, settings):
    name = zone.replace("~", "/")
    alone, records = records_of((f"zones/{zone}", settings), ("zones/113.0.203.in-addr.arpa", REMOVE))
    for address in alone.addresses():
        owner = f"{address.ipv4.rpartition('.')[2]}.{name}"
        assert records[(owner, "PTR")]["values"] == [address.ehlo]
        assert names.owner_problem(owner) is None
    assert not any(rtype == "CNAME" for _name, rtype in records)
    _both, records = records_of((f"zones/{zone}", settings))
    assert records[("10.113.0.203.in-addr.arpa", "CNAME")]["values"] == [f"10.{name}"]
    assert ("10.113.0.203.in-addr.arpa", "PTR") not in records


def test_addresses_outside_a_classless_network_are_not_in_it():
    _parsed, records = records_of(
        ("zones/0~26.113.0.203.in-addr.arpa", CLASSLESS), (f"{S}/addresses/0/ip", "203.0.113.64")
    )
    assert records[("64.113.0.203.in-addr.arpa", "PTR")]["values"] == ["mta64.tx.example.com"]


def test_an_external_zone_serves_its_names_and_says_so():
    parsed, records = records_of(("zones/example.net", {"provider": "external", "signed": True}))
    listed = {zone["name"]: zone for zone in derive.fleet_variables(parsed)["mta_dns"]["zones"]}
    assert listed["example.net"] == {
        "name": "example.net",
        "provider": "external",
        "credentials": None,
        "options": {},
        "signed": True,
    }
    assert listed["example.com"]["signed"] is False
    assert ("example.net", "TXT") in records


def test_the_stand_in_of_tests_is_a_warning_and_no_suggestion():
    parsed, findings = parse.parse(changed(("zones/example.com", {"provider": "memory"})))
    assert parsed is not None
    assert [(finding.where, finding.severity) for finding in findings] == [("zones.example.com.provider", WARNING)]
    assert "memory" not in findings[0].remedy
    assert "memory" not in str(refused(changed(("zones/example.com/provider", "memry")))[0]).replace("memry", "")
