# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from a fleet: the slice of each host, record sets and series of keys."""

from __future__ import annotations

import json

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life as rotation
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import YES, Answer, Answers, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, parse
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies as tags
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import spf
from ansible_collections.mailops.mta.plugins.module_utils.core.publish import record_sets
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    GOOD,
    RECORD,
    REMOVE,
    S,
    changed,
    records_of,
    series_of,
)

ALGORITHMS = ("rsa", "ed25519")


def test_each_host_gets_its_slice_and_nothing_more():
    parsed, _findings = parse.parse(GOOD)
    for host, other in (("mta1", "mta2"), ("mta2", "mta1")):
        variables = derive.host_variables(parsed, host)
        assert variables["mta_addresses"] == [
            ip for address in parsed.addresses() if address.host == host for ip in address.ips
        ]
        foreign = {ip for address in parsed.addresses() if address.host == other for ip in address.ips}
        assert not [ip for ip in foreign if f"'{ip}'" in repr(variables)]


def test_every_address_is_named_forward_and_reverse():
    parsed, _findings = parse.parse(GOOD)
    records = {(record["name"], record["type"]): record for record in derive.record_sets(parsed)}
    for address in parsed.addresses():
        assert address.ipv4 in records[(address.ehlo, "A")]["values"]
    assert records[("10.113.0.203.in-addr.arpa", "PTR")]["values"] == ["mta10.tx.example.com"]
    assert records[("mta20.news.example.com", "AAAA")]["values"] == ["2001:db8::20"]


def test_a_policy_host_gets_its_policies_and_their_ids_stand_in_dns():
    sts = {"mode": "testing", "host": "web1", "addresses": ["203.0.113.80", "2001:db8::80"]}
    parsed, records = records_of(
        ("hosts/web1", {"engine": "none", "ansible_host": "10.0.0.80"}),
        ("mta_sts", sts),
        ("streams/cold/mta_sts", {"mode": "none"}),
        ("streams/bulk/mta_sts", {"cname": "sts.example.org"}),
        ("caa", {"issue": ["letsencrypt.org"], "iodef": "mailto:pki@example.com"}),
    )
    policies = derive.host_variables(parsed, "web1")
    assert set(policies) == {"mta_engine", "mta_mta_sts"}
    assert [each["host"] for each in policies["mta_mta_sts"]["policies"]] == ["mta-sts.tx.example.com"]
    for each in policies["mta_mta_sts"]["policies"]:
        assert tags.parse_mta_sts_policy(each["policy"]).mx == ("bounces.example.com",)
        assert records[(f"_mta-sts.{each['domain']}", "TXT")]["values"] == [f"v=STSv1; id={each['id']}"]
    assert "mta_mta_sts" not in derive.host_variables(parsed, "mta1")
    assert derive.fleet_variables(parsed)["mta_fleet"]["hosts"] == ["mta1", "mta2"]
    assert records[("mta-sts.tx.example.com", "A")]["values"] == ["203.0.113.80"]
    assert records[("mta-sts.tx.example.com", "AAAA")]["values"] == ["2001:db8::80"]
    assert records[("mta-sts.tx.example.com", "CAA")]["values"] == [
        '0 issue "letsencrypt.org"',
        '0 issuewild ";"',
        '0 iodef "mailto:pki@example.com"',
    ]
    assert records[("mta-sts.news.example.com", "CNAME")]["values"] == ["sts.example.org"]
    assert ("mta-sts.news.example.com", "CAA") not in records
    assert not [name for name, _rtype in records if name.endswith("mta-sts.example.net")]


def test_each_domain_has_a_series_of_keys_for_each_algorithm():
    series = series_of((f"{S}/extra_domains", ["shop.example.com"]), ("streams/cold/dkim", {"algorithms": ["rsa"]}))
    assert set(series) == {
        *((domain, alg) for domain in ("tx.example.com", "shop.example.com", "news.example.com") for alg in ALGORITHMS),
        ("example.net", "rsa"),
    }
    for each in series.values():
        assert rotation.Policy.of(each) == rotation.Policy(
            each["domain"],
            each["algorithm"],
            bits=2048 if each["algorithm"] == "rsa" else 256,
            ttl_seconds=3600,
            hosts=tuple(each["hosts"]),
            # So the keys of fleets that wrote nothing, s1 and s1-ed25519, are taken over.
            selector="s1",
            quarters=(1, 3),
            streams=tuple(each["streams"]),
        )
        assert json.loads(json.dumps(each)) == each
    assert series["news.example.com", "rsa"]["hosts"] == ["mta1", "mta2"]
    assert series["tx.example.com", "rsa"]["hosts"] == ["mta1"]
    assert series["shop.example.com", "ed25519"]["streams"] == ["transactional"]


def test_keys_are_delegated_where_somebody_else_sets_their_aliases_once():
    series = series_of(
        ("zones/example.net", {"provider": "external"}),
        ("streams/cold/dkim", {"delegate": "dkim.example.com", "slots": ["a", "b"]}),
    )
    assert {domain for (domain, _algorithm), each in series.items() if each["external"]} == {"example.net"}
    assert {each["delegate"] for each in series.values()} == {None, "dkim.example.com"}


def test_a_signing_host_is_told_its_domains_and_no_key():
    parsed, _findings = parse.parse(GOOD)
    for host, domains in (
        ("mta1", ["tx.example.com", "news.example.com"]),
        ("mta2", ["news.example.com", "example.net"]),
    ):
        assert derive.host_variables(parsed, host)["mta_dkim"] == {
            "signer": "rspamd",
            "socket": "/run/rspamd/dkim.sock",
            "domains": domains,
            "admission": admission.admission(parsed, host),
        }


def test_powermta_signs_by_itself_and_gets_its_own_slice():
    parsed, _findings = parse.parse(changed(("hosts/mta1/engine", "powermta")))
    found = derive.host_variables(parsed, "mta1")
    domains = ["tx.example.com", "news.example.com"]
    assert found["mta_dkim"] == {"signer": "powermta", "socket": None, "domains": domains}
    assert [stream["name"] for stream in found["mta_powermta"]["streams"]] == ["transactional", "bulk"]
    assert "mta_postfix" not in found
    assert "mta_powermta" not in derive.host_variables(parsed, "mta2")


def test_a_stream_that_inherits_publishes_no_policy_and_applies_that_of_the_organisation():
    organisation = {"policy": "reject", "subdomain_policy": "quarantine", "missing_policy": "reject"}
    _parsed, records = records_of(
        ("organisational_dmarc", organisation),
        ("dmarc", {"inherit": True}),
        ("streams/cold/dmarc", {"inherit": False, "testing": True}),
        (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
    )
    assert records[("_dmarc.example.com", "TXT")]["values"] == [
        "v=DMARC1; p=reject; sp=quarantine; np=reject; rua=mailto:dmarc@example.com"
    ]
    assert records[("_dmarc.example.com", "TXT")]["streams"] == ["bulk", "transactional"]
    assert records[("_dmarc.example.net", "TXT")]["values"] == ["v=DMARC1; p=none; rua=mailto:dmarc@example.com; t=y"]
    assert ("_dmarc.tx.example.com", "TXT") not in records
    assert records[("_dmarc.example.com", "TXT")]["reason"].endswith("quarantine for transactional, bulk")


def test_further_records_stand_at_their_names():
    tlsa = f"3 1 1 {'AB' * 32}"
    _parsed, records = records_of(
        ("zones/example.com/signed", True),
        ("verifications", ["google-site-verification=abc"]),
        (f"{S}/verifications", ["yahoo-verification-key=xyz="]),
        (f"{S}/dmarc", {"policy": "reject"}),
        (f"{S}/bimi", {"logo": "https://example.com/l.svg", "evidence": "https://example.com/l.pem"}),
        (f"{S}/return_path", {"tlsa": [tlsa]}),
        (
            "records",
            [RECORD, {**RECORD, "name": "TX.example.com", "type": "txt", "values": ["a=b"], "ttl_seconds": 60}],
        ),
    )
    assert records[("default._bimi.tx.example.com", "TXT")]["values"] == [
        "v=BIMI1; l=https://example.com/l.svg; a=https://example.com/l.pem"
    ]
    assert records[("tx.example.com", "TXT")]["values"][1:] == ["yahoo-verification-key=xyz=", "a=b"]
    assert records[("tx.example.com", "TXT")]["ttl"] == 60
    assert "google-site-verification=abc" in records[("news.example.com", "TXT")]["values"]
    assert records[("_25._tcp.bounces.example.com", "TLSA")]["values"] == [tlsa.lower()]
    assert records[("www.example.com", "A")]["reason"] == "the web site"
    assert records[("www.example.com", "A")]["streams"] == []


def test_every_record_says_why_and_who_uses_it():
    _parsed, records = records_of(
        ("records", REMOVE),
        ("zones/example.com/signed", True),
        (f"{S}/return_path", {"tlsa": [f"3 1 1 {'ab' * 32}"]}),
        ("streams/bulk/return_path", {"tlsa": [f"3 1 1 {'ab' * 32}"]}),
    )
    shared = records[("_25._tcp.bounces.example.com", "TLSA")]
    assert shared["streams"] == ["bulk", "transactional"]
    assert [part.partition(":")[0] for part in shared["reason"].split("; ")] == ["stream transactional", "stream bulk"]
    for record in records.values():
        assert record["streams"] == sorted(set(record["streams"])) != []
        assert all(f"stream {name}" in record["reason"] for name in record["streams"])


def test_a_large_pool_is_split_and_each_address_passes():
    pool = [{"ip": f"198.51.100.{n * 2}", "host": "mta1", "ehlo": f"m{n}.example.com"} for n in range(100)]
    domain = f"{'x' * 30}.example.com"
    parsed, records = records_of((f"{S}/addresses", pool), (f"{S}/domain", domain))
    known = {Question(*key): Answer(YES, tuple(record["values"])) for key, record in records.items()}
    for entry in pool:
        assert spf.evaluate(entry["ip"], domain, Answers(known)).result == spf.PASS
    assert spf.evaluate("198.51.100.1", domain, Answers(known)).result == spf.FAIL
    for (name, rtype), record in records.items():
        if rtype == "TXT":
            assert record_sets.answer_size(name, record["values"]) <= record_sets.ANSWER_SMALL
    assert parsed.streams["transactional"].addresses


def test_no_name_ever_has_two_spf_records():
    parsed, _findings = parse.parse(changed((f"{S}/addresses/0/ehlo", "tx.example.com")))
    for record in derive.record_sets(parsed):
        assert len([value for value in record["values"] if value.startswith("v=spf1")]) <= 1, record


def test_reports_to_another_zone_of_ours_are_authorised():
    parsed, _findings = parse.parse(GOOD)
    records = {(record["name"], record["type"]): record["values"] for record in derive.record_sets(parsed)}
    assert records[("example.net._report._dmarc.example.com", "TXT")] == ["v=DMARC1"]
    assert ("tx.example.com._report._dmarc.example.com", "TXT") not in records
