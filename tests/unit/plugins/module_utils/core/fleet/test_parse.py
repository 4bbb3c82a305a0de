# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the fleet file: what is wrong is refused and all of it named, what is right survives."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, parse
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    GOOD,
    RECORD,
    REMOVE,
    S,
    changed,
    refused,
    refused_at,
)
from hypothesis import given
from hypothesis import strategies as st


def test_the_good_file_has_no_findings():
    parsed, findings = parse.parse(GOOD)
    assert findings == []
    assert list(parsed.streams) == ["transactional", "bulk", "cold"]
    assert parsed.streams["bulk"].addresses[0].ipv6 == "2001:db8::20"


WRONG = [
    ("an unknown key of the file", [("stream", {})], "stream", "did you mean 'streams'"),
    ("no key host where there is a choice", [("key_host", REMOVE)], "key_host", "missing"),
    ("a key host that is not there", [("key_host", "mta3")], "key_host", "mta3"),
    (
        "a front default that is not there",
        [("front", {"port": 2500, "default": "bluk"})],
        "front.default",
        "did you mean 'bulk'",
    ),
    ("streams as a list", [("streams", [1, 2])], "streams", "mapping"),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


def test_all_findings_are_named_at_once():
    wrong = {
        "streams.transactional.dkim.algorithms[0]": (f"{S}/dkim", {"algorithms": ["dsa"]}),
        "streams.cold.domain": ("zones/example.net", REMOVE),
        "streams.transactional.inject_from[0]": (f"{S}/inject_from", ["0.0.0.0/0"]),
        "streams.transactional.port": (f"{S}/port", 70000),
        "key_host": ("key_host", REMOVE),
        "hosts.mta1.engin": ("hosts/mta1/engin", "postfix"),
    }
    assert wrong.keys() <= {finding.where for finding in refused(changed(*wrong.values()))}


def test_what_a_stream_without_a_domain_says_wrong_is_named_too():
    found = refused(changed((f"{S}/domain", REMOVE), (f"{S}/dkim", {"rsa_bits": 2050})))
    assert [finding.where for finding in found] == [
        "streams.transactional.domain",
        "streams.transactional.dkim.rsa_bits",
    ]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _places(item, (*path, number))


# Every key that GOOD leaves to its default.
FULL = changed(
    ("zones/example.com/signed", True),
    ("zones/0~26.113.0.203.in-addr.arpa", {"provider": "rfc2136", "credentials": "rdns", "network": "203.0.113.0/26"}),
    ("organisational_dmarc", {"policy": "reject", "missing_policy": "reject", "testing": False}),
    ("dmarc", {"inherit": True}),
    ("streams/cold/dmarc", {"inherit": False, "policy": "quarantine"}),
    ("mta_sts", {"mode": "testing", "host": "mta1", "addresses": ["203.0.113.80"], "max_age_seconds": 86400}),
    ("streams/cold/mta_sts", {"cname": "sts.example.org"}),
    ("caa", {"issue": ["letsencrypt.org"], "issuewild": [], "iodef": "mailto:pki@example.com"}),
    ("bimi", {"logo": "https://example.com/l.svg", "evidence": "https://example.com/l.pem"}),
    ("verifications", ["google-site-verification=abc"]),
    (
        "dkim",
        {
            "delegate": "dkim.example.com",
            "slots": ["a", "b"],
            "rotation": {"every_days": 30},
            "first_key": "wait",
            "margin_seconds": 60,
            "keep_retired_seconds": 600000,
        },
    ),
    ("streams/cold/dkim", {"rotation": {"quarters": [1, 3]}}),
    ("queue_life_seconds", 86400),
    (f"{S}/return_path", {"tlsa": [f"3 1 1 {'ab' * 32}"]}),
    ("records", [*GOOD["records"], {**RECORD, "ttl_seconds": 60}]),
)


def test_the_full_file_is_right_and_its_records_fit_into_its_zones():
    parsed, findings = parse.parse(FULL)
    assert findings == []
    dns = derive.fleet_variables(parsed)["mta_dns"]
    wanted, problems = plan.assign({zone["name"]: zone for zone in dns["zones"]}, dns["records"])
    assert problems == []
    assert sum(len(each.sets) for each in wanted.values()) == len(dns["records"])
    assert all(plan.plan(zone, {}, each, "fleet").findings == () for zone, each in wanted.items())


@given(st.sampled_from([path for path in _places(FULL) if path]), JUNK)
def test_any_wrong_value_is_a_finding_never_a_traceback(path, junk):
    document = copy.deepcopy(FULL)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = junk
    parsed, findings = parse.parse(document)
    assert parsed is not None or errors(findings)


@pytest.mark.parametrize("document", [{}, {"streams": None}, {"hosts": {"a": None}}, {"streams": {"bulk": None}}])
def test_an_empty_file_is_refused(document):
    assert refused(document)


MAPPED = "::ffff:203.0.113.99"


ADDRESSES = [
    ("hosts/mta1/ansible_host", MAPPED, "hosts.mta1.ansible_host"),
    ("hosts/mta1/ansible_host", "::FFFF:cb00:7163", "hosts.mta1.ansible_host"),
    ("hosts/mta1/listen", [MAPPED], "hosts.mta1.listen[0]"),
    ("hosts/mta1/bounce_listen", [MAPPED], "hosts.mta1.bounce_listen[0]"),
    (f"{S}/addresses/0/ip", MAPPED, "streams.transactional.addresses[0].ip"),
    (f"{S}/addresses/0/ip6", MAPPED, "streams.transactional.addresses[0].ip6"),
    (f"{S}/inject_from", [f"{MAPPED}/128"], "streams.transactional.inject_from[0]"),
    ("front", {"port": 2500, "default": "bulk", "inject_from": [MAPPED]}, "front.inject_from[0]"),
    ("mta_sts", {"mode": "testing", "host": "mta1", "addresses": [MAPPED]}, "mta_sts.addresses[0]"),
    ("zones/example.com/options", {"servers": [MAPPED]}, "zones.example.com.options.servers[0]"),
    ("zones/example.com/options", {"servers": [f"[{MAPPED}]:5353"]}, "zones.example.com.options.servers[0]"),
    ("records", [{**RECORD, "type": "AAAA", "values": [MAPPED]}], "records[0].values"),
]


@pytest.mark.parametrize(("path", "value", "where"), ADDRESSES, ids=[f"{case[0]} {case[1]}" for case in ADDRESSES])
def test_an_ipv4_address_in_ipv6_form_is_refused_wherever_one_is_read(path, value, where):
    found = refused(changed((path, value)))
    assert [finding.where for finding in found] == [where]
    assert "203.0.113.99" in f"{found[0].why} {found[0].remedy}".replace(MAPPED, "")


@pytest.mark.parametrize(
    "change",
    [
        ("hosts/mta2/listen", ["x"]),
        (f"{S}/domain", "a b"),
        ("streams/cold/addresses/0/ip", "x"),
        ("streams/bulk/addresses", [{"ip": "203.0.113.20"}, {"ip": "x", "host": "mta2"}]),
        ("domain", "a b"),
        ("zones/example.org", {"provider": "memory", "signed": "x"}),
        ("mta_sts", {"host": "mta1", "addresses": ["x"]}),
    ],
    ids=str,
)
def test_nothing_false_follows_another_error(change):
    found = parse.parse(changed(change, ("front", {"port": 2500, "default": "transactional"})))[1]
    assert found
    for finding in found:
        assert finding.severity == ERROR or "provider" in finding.where
        assert "invalid.invalid" not in str(finding)
        assert not finding.where.startswith("front")
    places = [finding.where for finding in found]
    assert not [(one, other) for one in places for other in places if one.startswith(f"{other}[")]
