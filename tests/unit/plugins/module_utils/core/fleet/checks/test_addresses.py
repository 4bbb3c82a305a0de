# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check of addresses finds what it is for."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    S,
    changed,
    refused_at,
)

WRONG = [
    (
        "two streams share an address",
        [("streams/bulk/addresses/1/ip", "203.0.113.10")],
        "streams.bulk.addresses[1]",
        "203.0.113.10",
    ),
    (
        "one stream names an address twice",
        [("streams/bulk/addresses/1/ip", "203.0.113.20")],
        "streams.bulk.addresses[1]",
        "203.0.113.20",
    ),
    (
        "one EHLO name on two addresses",
        [("streams/bulk/addresses/1/ehlo", "mta10.tx.example.com")],
        "streams.bulk.addresses[1]",
        "mta10.tx.example.com",
    ),
    (
        "an address of a family the host lacks",
        [("hosts/mta1/families", ["ipv4"])],
        "streams.bulk.addresses[0]",
        "2001:db8::20",
    ),
    (
        "a host that is not there",
        [(f"{S}/addresses/0/host", "mta9")],
        "streams.transactional.addresses[0].host",
        "mta9",
    ),
    ("every share drained", [(f"{S}/addresses/0/share", 0)], "streams.transactional.addresses", "share"),
    (
        "an address on a host without an engine",
        [("hosts/mta1/engine", "none")],
        "streams.bulk.addresses[0].host",
        "engine",
    ),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


@pytest.mark.parametrize(
    "ip", ["10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "240.0.0.1", "fd00::1", "fec0::1"]
)
def test_a_private_address_of_a_pool_is_a_warning_outside_a_lab(ip):
    entry = {"ip": ip, "host": "mta1"} if "." in ip else {"ip": "203.0.113.10", "ip6": ip, "host": "mta1"}
    parsed, findings = parse.parse(changed((f"{S}/addresses/0", entry)))
    assert parsed is not None
    assert [finding.found for finding in findings if "not routed" in finding.why] == [f"'{ip}'"]
    _parsed, findings = parse.parse(
        changed(
            (f"{S}/addresses/0", entry), (f"{S}/domain", "acme.test"), ("zones/acme.test", {"provider": "external"})
        )
    )
    assert not [finding for finding in findings if "not routed" in finding.why]
