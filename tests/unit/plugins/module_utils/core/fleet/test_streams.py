# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams of the fleet file: what is wrong is refused at its place."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    GOOD,
    REMOVE,
    S,
    changed,
    refused,
    refused_at,
)

WRONG = [
    (
        "EHLO name of one label",
        [(f"{S}/addresses/0/ehlo", "mta")],
        "streams.transactional.addresses[0].ehlo",
        "one label",
    ),
    (
        "a name that is not legal",
        [(f"{S}/domain", "tx..example.com")],
        "streams.transactional.domain",
        "tx..example.com",
    ),
    ("a name with a space", [(f"{S}/domain", "tx .example.com")], "streams.transactional.domain", "tx .example.com"),
    (
        "an IPv4 address in IPv6 form",
        [("streams/bulk/addresses/1/ip", "::ffff:203.0.113.21")],
        "streams.bulk.addresses[1].ip",
        "IPv4 address in IPv6 form",
    ),
    ("an unknown key of a stream", [(f"{S}/prot", 2525)], "streams.transactional.prot", "did you mean 'port'"),
    (
        "an address without a host",
        [(f"{S}/addresses/0/host", REMOVE)],
        "streams.transactional.addresses[0].host",
        "missing",
    ),
    ("no address at all", [(f"{S}/addresses", [])], "streams.transactional.addresses", "missing"),
    (
        "an address that is none",
        [(f"{S}/addresses/0/ip", "203.0.113.256")],
        "streams.transactional.addresses[0].ip",
        "203.0.113.256",
    ),
    (
        "a loopback address",
        [(f"{S}/addresses/0/ip", "127.0.0.1")],
        "streams.transactional.addresses[0].ip",
        "127.0.0.1",
    ),
    (
        "an IPv4 address as ip6",
        [(f"{S}/addresses/0/ip6", "203.0.113.99")],
        "streams.transactional.addresses[0].ip6",
        "203.0.113.99",
    ),
    ("an open relay", [(f"{S}/inject_from", ["0.0.0.0/0"])], "streams.transactional.inject_from[0]", "open relay"),
    (
        "a network with host bits",
        [(f"{S}/inject_from", ["10.0.0.1/8"])],
        "streams.transactional.inject_from[0]",
        "host bits",
    ),
    ("nobody may inject", [("streams/bulk/inject_from", REMOVE)], "streams.bulk.inject_from", "nobody"),
    ("a port that is none", [(f"{S}/port", 70000)], "streams.transactional.port", "70000"),
    ("a port as text", [(f"{S}/port", "2525")], "streams.transactional.port", "whole number"),
    (
        "a stream name that groups cannot have",
        [("streams/Big-Mail", copy.deepcopy(GOOD["streams"]["cold"]))],
        "streams.Big-Mail",
        "Big-Mail",
    ),
    ("bounces without a home", [("bounce_host", REMOVE)], "streams.bulk.return_path.mx", "missing"),
    (
        "a day that is none",
        [("streams/bulk/addresses/1/warmup_from", "2026-02-30")],
        "streams.bulk.addresses[1].warmup_from",
        "2026-02-30",
    ),
    (
        "TLSA of a usage that mail servers ignore",
        [(f"{S}/return_path", {"tlsa": [f"1 1 1 {'ab' * 32}"]})],
        "streams.transactional.return_path.tlsa[0]",
        "RFC 7672",
    ),
    (
        "TLSA data of another length",
        [(f"{S}/return_path", {"tlsa": ["3 1 1 abcd"]})],
        "streams.transactional.return_path.tlsa[0]",
        "64",
    ),
    (
        "a further domain that is the first",
        [(f"{S}/extra_domains", ["tx.example.com"])],
        "streams.transactional.extra_domains[0]",
        "twice",
    ),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


def test_names_become_a_labels():
    parsed, findings = parse.parse(
        changed(
            ("zones/bücher.example", {"provider": "powerdns", "credentials": "pdns"}),
            ("streams/bulk/extra_domains", ["News.Bücher.example."]),
        )
    )
    assert parsed is not None, [str(finding) for finding in findings]
    assert parsed.streams["bulk"].extra_domains == ("news.xn--bcher-kva.example",)


def test_a_network_around_all_of_ipv4_in_ipv6_form_is_an_open_relay():
    for network in ("::fffe:0:0/95", "::/64", "::/16"):
        assert "open relay" in refused(changed((f"{S}/inject_from", [network])))[0].why
