# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check of names and record sets finds what it is for."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    RECORD,
    REMOVE,
    S,
    changed,
    refused_at,
    warned_at,
)

WRONG = [
    (
        "EHLO name outside the zones",
        [(f"{S}/addresses/0/ehlo", "mta.example.org")],
        "streams.transactional.addresses[0].ehlo",
        "mta.example.org",
    ),
    (
        "too many SPF includes",
        [(f"{S}/spf", {"include": [f"s{n}.example.org" for n in range(11)]})],
        "streams.transactional.spf.include",
        "11",
    ),
    ("a zone nobody serves", [("zones/example.net", REMOVE)], "streams.cold.domain", "example.net"),
    (
        "so many verifications that the answer is lost",
        [(f"{S}/verifications", [f"site-verification-{n}={'x' * 200}" for n in range(6)])],
        "streams.transactional",
        "1232",
    ),
    (
        "a policy host that is not there",
        [(f"{S}/mta_sts", {"mode": "testing", "host": "mta9", "addresses": ["203.0.113.80"]})],
        "streams.transactional.mta_sts.host",
        "mta9",
    ),
    (
        "a policy host without an address",
        [(f"{S}/mta_sts", {"mode": "testing", "host": "mta1"})],
        "streams.transactional.mta_sts.addresses",
        "missing",
    ),
    (
        "TLSA in a zone that is not signed",
        [(f"{S}/return_path", {"tlsa": [f"3 1 1 {'ab' * 32}"]})],
        "streams.transactional.return_path.tlsa",
        "example.com",
    ),
    (
        "keys delegated to a zone that is not here",
        [(f"{S}/dkim", {"delegate": "dkim.example.org"})],
        "streams.transactional.dkim.delegate",
        "dkim.example.org",
    ),
    (
        "keys delegated to a zone that somebody else runs",
        [
            ("zones/example.org", {"provider": "external"}),
            (f"{S}/dkim", {"delegate": "dkim.example.org"}),
        ],
        "streams.transactional.dkim.delegate",
        "somebody else",
    ),
    (
        "two policies of the organisational domain",
        [("organisational_dmarc", {"policy": "reject"}), (f"{S}/domain", "example.com")],
        "streams.transactional",
        "dmarc1",
    ),
    (
        "a return path under which policies have names too long",
        [(f"{S}/return_path", {"domain": f"{('a' * 58 + '.') * 4}example.com"})],
        "streams.transactional",
        "253",
    ),
    (
        "SPF includes that no record can hold",
        [(f"{S}/spf", {"include": [f"{'s' * 60}.s{n}.example.org" for n in range(9)]})],
        "streams.transactional.spf.include",
        "characters",
    ),
    (
        "a record that follows from a stream",
        [("records", [{**RECORD, "name": "mta10.tx.example.com"}])],
        "records[0]",
        "transactional",
    ),
    (
        "an alias beside a stream's records",
        [("records", [{**RECORD, "name": "tx.example.com", "type": "CNAME", "values": ["www.example.com"]}])],
        "records[0]",
        "alias",
    ),
    (
        "a second SPF record",
        [("records", [{**RECORD, "name": "tx.example.com", "type": "TXT", "values": ["v=spf1 mx -all"]}])],
        "records[0]",
        "spf1",
    ),
    (
        "a pool that no SPF record can hold",
        [
            (
                f"{S}/addresses",
                [
                    {"ip": f"198.51.{n // 100}.{n % 100 * 2}", "host": "mta1", "ehlo": f"m{n}.example.com"}
                    for n in range(300)
                ],
            )
        ],
        "streams.transactional.spf.include",
        "look-ups",
    ),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ([("zones/113.0.203.in-addr.arpa", REMOVE)], "streams.transactional.addresses[0]"),
        ([(f"{S}/mta_sts", {"mode": "testing"})], "streams.transactional.mta_sts"),
        ([("records", REMOVE)], "bounce_host"),
        ([(f"{S}/return_path", {"mx": ["mx.example.com"]})], "streams.transactional.return_path.mx"),
        (
            [(f"{S}/return_path", {"mx": ["bounces.example.com", "mx.tx.example.com"]})],
            "streams.transactional.return_path.mx",
        ),
        (
            [(f"{S}/return_path", {"mx": ["mx.example.org"], "tlsa": [f"3 1 1 {'ab' * 32}"]})],
            "streams.transactional.return_path.tlsa",
        ),
        (
            [(f"{S}/verifications", [f"site-verification-{n}={'x' * 100}" for n in range(4)])],
            "streams.transactional",
        ),
    ],
)
def test_what_can_stand_but_should_not_is_a_warning(changes, where):
    warned_at(changes, where)


@pytest.mark.parametrize(
    "changes",
    [
        [("records/0/type", "AAAA"), ("records/0/values", ["2001:db8::98"])],
        [("records/0/type", "CNAME"), ("records/0/values", ["mx.example.org"])],
        [("records", REMOVE), ("bounce_host", "mta10.tx.example.com")],  # the EHLO name of an address
        [("records", REMOVE), ("bounce_host", "mx.example.org")],  # in no zone of the file
        [("records", REMOVE), ("zones/bounces.example.com", {"provider": "external"})],
    ],
)
def test_a_bounce_host_with_an_address_or_in_a_zone_of_others_is_no_finding(changes):
    parsed, findings = parse.parse(changed(*changes))
    assert parsed is not None
    assert findings == []


def test_a_bounce_host_of_several_streams_is_named_once_with_all_of_them():
    _parsed, findings = parse.parse(changed(("records", REMOVE)))
    (finding,) = findings
    assert finding.severity == WARNING
    assert "transactional, bulk, cold" in finding.why
    assert "{name: bounces.example.com, type: A" in finding.remedy
