# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the fleet file: what is wrong is refused and all of it named, what is right survives."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import derive, fleet
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, errors
from hypothesis import given
from hypothesis import strategies as st

GOOD = {
    "plugin": "mailops.mta.fleet",
    "domain": "example.com",
    "bounce_host": "bounces.example.com",
    "key_host": "mta1",
    "hosts": {"mta1": {"ansible_host": "10.0.0.11"}, "mta2": {"ansible_host": "10.0.0.12"}},
    "zones": {
        "example.com": {"provider": "powerdns", "credentials": "pdns"},
        "example.net": {"provider": "powerdns", "credentials": "pdns"},
        "113.0.203.in-addr.arpa": {"provider": "rfc2136", "credentials": "rdns"},
        "8.b.d.0.1.0.0.2.ip6.arpa": {"provider": "rfc2136", "credentials": "rdns"},
    },
    "streams": {
        "transactional": {
            "domain": "tx.example.com",
            "port": 2525,
            "inject_from": ["10.0.0.0/8"],
            "inject_users": ["shop"],
            "addresses": [{"ip": "203.0.113.10", "host": "mta1"}],
        },
        "bulk": {
            "domain": "news.example.com",
            "port": 2527,
            "inject_from": ["10.0.0.0/8"],
            "addresses": [
                {"ip": "203.0.113.20", "ip6": "2001:db8::20", "host": "mta1"},
                {"ip": "203.0.113.21", "host": "mta2", "share": 3},
            ],
        },
        "cold": {
            "domain": "example.net",
            "port": 2528,
            "inject_from": ["10.0.0.0/8"],
            "separate_from": "all",
            "addresses": [{"ip": "203.0.113.30", "host": "mta2"}],
        },
    },
}
REMOVE = object()


def changed(*changes):
    document = copy.deepcopy(GOOD)
    for path, value in changes:
        place = document
        *way, last = path.split("/")
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if value is REMOVE:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value
    return document


def refused(document):
    parsed, findings = fleet.parse(document)
    assert parsed is None
    return errors(findings)


def test_the_good_file_has_no_findings():
    parsed, findings = fleet.parse(GOOD)
    assert findings == []
    assert list(parsed.streams) == ["transactional", "bulk", "cold"]
    assert parsed.streams["bulk"].addresses[0].ipv6 == "2001:db8::20"


S = "streams/transactional"
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
        "EHLO name outside the zones",
        [(f"{S}/addresses/0/ehlo", "mta.example.org")],
        "streams.transactional.addresses[0].ehlo",
        "mta.example.org",
    ),
    (
        "EHLO name of one label",
        [(f"{S}/addresses/0/ehlo", "mta")],
        "streams.transactional.addresses[0].ehlo",
        "one label",
    ),
    ("two streams share a domain", [("streams/bulk/domain", "tx.example.com")], "streams.bulk", "tx.example.com"),
    ("two streams share a port", [("streams/bulk/port", 2525)], "streams.bulk.port", "2525"),
    (
        "the front listener has a stream's port",
        [("front", {"port": 2525, "default": "bulk"})],
        "streams.transactional.port",
        "front",
    ),
    ("two streams share a login", [("streams/bulk/inject_users", ["shop"])], "streams.bulk.inject_users", "shop"),
    (
        "a separate stream is not separate",
        [("streams/cold/domain", "cold.example.com")],
        "streams.cold.separate_from",
        "example.com",
    ),
    (
        "too many SPF includes",
        [(f"{S}/spf", {"include": [f"s{n}.example.org" for n in range(11)]})],
        "streams.transactional.spf.include",
        "11",
    ),
    (
        "an algorithm nobody knows",
        [(f"{S}/dkim", {"algorithms": ["dsa"]})],
        "streams.transactional.dkim.algorithms[0]",
        "dsa",
    ),
    ("a key too short", [(f"{S}/dkim", {"rsa_bits": 1024})], "streams.transactional.dkim.rsa_bits", "1024"),
    (
        "a selector that DNS cannot hold",
        [(f"{S}/dkim", {"selector": "Mail_1"})],
        "streams.transactional.dkim.selector",
        "Mail_1",
    ),
    (
        "DMARC reports to strangers",
        [(f"{S}/dmarc", {"rua": ["d@reports.example.org"]})],
        "streams.transactional.dmarc.rua",
        "reports.example.org",
    ),
    ("a DMARC tag of the past", [(f"{S}/dmarc", {"pct": 50})], "streams.transactional.dmarc.pct", "RFC 9989"),
    (
        "a DMARC policy nobody knows",
        [(f"{S}/dmarc", {"policy": "quarantaine"})],
        "streams.transactional.dmarc.policy",
        "did you mean 'quarantine'",
    ),
    (
        "an address of a family the host lacks",
        [("hosts/mta1/families", ["ipv4"])],
        "streams.bulk.addresses[0]",
        "2001:db8::20",
    ),
    ("a zone nobody serves", [("zones/example.net", REMOVE)], "streams.cold.domain", "example.net"),
    (
        "a name that is not legal",
        [(f"{S}/domain", "tx..example.com")],
        "streams.transactional.domain",
        "tx..example.com",
    ),
    ("a name with a space", [(f"{S}/domain", "tx .example.com")], "streams.transactional.domain", "tx .example.com"),
    ("an unknown key of a stream", [(f"{S}/prot", 2525)], "streams.transactional.prot", "did you mean 'port'"),
    ("an unknown key of the file", [("stream", {})], "stream", "did you mean 'streams'"),
    ("an unknown key of a host", [("hosts/mta1/engin", "postfix")], "hosts.mta1.engin", "did you mean 'engine'"),
    (
        "an address without a host",
        [(f"{S}/addresses/0/host", REMOVE)],
        "streams.transactional.addresses[0].host",
        "missing",
    ),
    (
        "a host that is not there",
        [(f"{S}/addresses/0/host", "mta9")],
        "streams.transactional.addresses[0].host",
        "mta9",
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
    ("no key host where there is a choice", [("key_host", REMOVE)], "key_host", "missing"),
    ("a key host that is not there", [("key_host", "mta3")], "key_host", "mta3"),
    ("bounces without a home", [("bounce_host", REMOVE)], "streams.bulk.return_path.mx", "missing"),
    ("every share drained", [(f"{S}/addresses/0/share", 0)], "streams.transactional.addresses", "share"),
    (
        "a provider nobody knows",
        [("zones/example.com/provider", "powerdsn")],
        "zones.example.com.provider",
        "did you mean 'powerdns'",
    ),
    ("an engine that is not there yet", [("hosts/mta1/engine", "powermta")], "hosts.mta1.engine", "powermta"),
    ("a host nobody can reach", [("hosts/mta1", {"ansible_host": "mta1.example.com"})], "hosts.mta1.listen", "missing"),
    ("a listener of two hosts", [("hosts/mta2/listen", ["10.0.0.11"])], "hosts.mta2.listen", "10.0.0.11"),
    (
        "a receiver group without domains",
        [("receivers", {"corp": {"concurrency": 2}})],
        "receivers.corp.domains",
        "missing",
    ),
    (
        "a front default that is not there",
        [("front", {"port": 2500, "default": "bluk"})],
        "front.default",
        "did you mean 'bulk'",
    ),
    ("streams as a list", [("streams", [1, 2])], "streams", "mapping"),
    ("MTA-STS in a mode nobody knows", [(f"{S}/mta_sts", {"mode": "on"})], "streams.transactional.mta_sts.mode", "on"),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    found = [finding for finding in refused(changed(*changes)) if finding.where == where]
    assert found, f"nothing at {where}: {[str(finding) for finding in refused(changed(*changes))]}"
    assert any(text in str(finding) for finding in found)
    assert all(finding.why and finding.remedy for finding in found)


def test_all_findings_are_named_at_once():
    apart = {
        "an algorithm nobody knows",
        "a zone nobody serves",
        "an open relay",
        "a port that is none",
        "no key host where there is a choice",
        "an unknown key of a host",
    }
    cases = [case for case in WRONG if case[0] in apart]
    assert len(cases) == len(apart)
    together = {finding.where for finding in refused(changed(*[change for case in cases for change in case[1]]))}
    assert {case[2] for case in cases} <= together


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ([("zones/113.0.203.in-addr.arpa", REMOVE)], "streams.transactional.addresses[0]"),
        ([(f"{S}/dkim", {"algorithms": ["ed25519"]})], "streams.transactional.dkim.algorithms"),
        ([(f"{S}/return_path", {"domain": "bounce.example.net"})], "streams.transactional.return_path.domain"),
        ([("hosts/mta3", {"ansible_host": "10.0.0.13"})], "hosts.mta3"),
    ],
)
def test_what_can_stand_but_should_not_is_a_warning(changes, where):
    parsed, findings = fleet.parse(changed(*changes))
    assert parsed is not None
    assert [finding.where for finding in findings if finding.severity == WARNING].count(where) >= 1
    assert not [finding for finding in findings if finding.severity == ERROR]


def test_the_fleet_sets_what_streams_do_not():
    parsed, _findings = fleet.parse(
        changed(("dmarc", {"policy": "reject"}), ("streams/bulk/dmarc", {"alignment_dkim": "s"}), ("ttl_seconds", 60))
    )
    assert (parsed.streams["bulk"].dmarc.policy, parsed.streams["bulk"].dmarc.alignment_dkim) == ("reject", "s")
    assert parsed.streams["transactional"].dmarc.alignment_dkim == "r"
    assert parsed.streams["transactional"].ttl_seconds == 60


def test_names_become_a_labels():
    parsed, findings = fleet.parse(
        changed(
            ("zones/bücher.example", {"provider": "powerdns"}), ("streams/bulk/extra_domains", ["News.Bücher.example."])
        )
    )
    assert parsed is not None, [str(finding) for finding in findings]
    assert parsed.streams["bulk"].extra_domains == ("news.xn--bcher-kva.example",)


@given(st.data())
def test_a_fleet_in_fragments_is_the_same_fleet(data):
    parts = [{"streams": {}, "hosts": {}, "zones": {}} for _number in range(3)]
    for key, value in GOOD.items():
        if key not in fleet.SECTIONS:
            data.draw(st.sampled_from(parts))[key] = value
            continue
        for name, item in value.items():
            data.draw(st.sampled_from(parts)).setdefault(key, {})[name] = item
    merged, findings = fleet.merge([(f"{number}.yml", part) for number, part in enumerate(parts)])
    assert findings == []
    assert fleet.parse(merged)[0].streams.keys() == GOOD["streams"].keys()
    assert all(merged[section] == GOOD[section] for section in ("hosts", "zones", "streams"))


def test_a_thing_said_in_two_files_is_refused():
    _merged, findings = fleet.merge(
        [("a.yml", GOOD), ("b.yml", {"streams": {"bulk": {}}}), ("c.yml", {"domain": "example.org"})]
    )
    assert [(finding.where, finding.found) for finding in findings] == [
        ("streams.bulk", "it stands in a.yml and in b.yml"),
        ("domain", "it stands in a.yml and in c.yml"),
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


@given(st.sampled_from([path for path in _places(GOOD) if path]), JUNK)
def test_any_wrong_value_is_a_finding_never_a_traceback(path, junk):
    document = copy.deepcopy(GOOD)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = junk
    parsed, findings = fleet.parse(document)
    assert parsed is not None or errors(findings)


@pytest.mark.parametrize("document", [{}, {"streams": None}, {"hosts": {"a": None}}, {"streams": {"bulk": None}}])
def test_an_empty_file_is_refused(document):
    assert refused(document)


def test_each_host_gets_its_slice_and_nothing_more():
    parsed, _findings = fleet.parse(GOOD)
    for host, other in (("mta1", "mta2"), ("mta2", "mta1")):
        variables = derive.host_variables(parsed, host)
        assert variables["mta_addresses"] == [
            ip for address in parsed.addresses() if address.host == host for ip in address.ips
        ]
        foreign = {ip for address in parsed.addresses() if address.host == other for ip in address.ips}
        assert not [ip for ip in foreign if f"'{ip}'" in repr(variables)]


def test_every_address_is_named_forward_and_reverse():
    parsed, _findings = fleet.parse(GOOD)
    records = {(record["name"], record["type"]): record for record in derive.record_sets(parsed)}
    for address in parsed.addresses():
        assert address.ipv4 in records[(address.ehlo, "A")]["values"]
    assert records[("10.113.0.203.in-addr.arpa", "PTR")]["values"] == ["mta10.tx.example.com"]
    assert records[("mta20.news.example.com", "AAAA")]["values"] == ["2001:db8::20"]


def test_no_name_ever_has_two_spf_records():
    parsed, _findings = fleet.parse(changed((f"{S}/addresses/0/ehlo", "tx.example.com")))
    for record in derive.record_sets(parsed):
        assert len([value for value in record["values"] if value.startswith("v=spf1")]) <= 1, record


def test_reports_to_another_zone_of_ours_are_authorised():
    parsed, _findings = fleet.parse(GOOD)
    records = {(record["name"], record["type"]): record["values"] for record in derive.record_sets(parsed)}
    assert records[("example.net._report._dmarc.example.com", "TXT")] == ["v=DMARC1"]
    assert ("tx.example.com._report._dmarc.example.com", "TXT") not in records
