# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the audit: what is declared has no finding, each planted fault has exactly its own, silence is never ok."""

from __future__ import annotations

import base64
import copy
import itertools
import re
from dataclasses import replace

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.audit import judge, notes, report, subject
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import (
    NO,
    UNKNOWN,
    YES,
    Answer,
    Answers,
    Question,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies

NOW = 1_800_000_000.0
A, B, SIX, C = "192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3"
MAIL, REVERSE, PARTNER = "example.com", "113.0.203.in-addr.arpa", "partner.net"
SPF = "v=spf1 ip4:203.0.113.10 include:_spf.esp.net -all"
KEY_2048 = (
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAx6NfvtrJByink5Bn0fZCv+7deAgCFoRL5XRRnfObUmrKcFLO+WCOomXxSvnqN0+GnRv6"
    "GYSECH/upZy160HfOddJObBlGzl34AlmELql2gHDbn3puQtwdeNOjFj6xurGxSI70pRiP0FMFL8TiDPmGkyHE98Rj7RzP/4RdosicHXPb/E6XPoe"
    "85vSTwYX5rC+oFKU1khGXVNIn7MVeJs9O5FzvhMR7dFOugBTSQhudbolAcFXqcSPTS650+axJRP4738FBJxats3jYYbqvLU7r1XY5u/8LtGXd2Fx"
    "xKH9a69JTjmPPbQIUDkp14ppibmOn7UXbCQIANr5VnAjq0eHewIDAQAB"
)
KEY_1024 = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC8cXa1OruHlnkEkV37nDhsoglQhOpcyNk3tDStS+XORI5qmNkjrfyPsPIMsLim81Dg6juHoLei"
    "XntPbW0gqZ1aghgUrYwdAb6UzREf8pt9n9kVl1R2mAcqUj2KNYUE13hkEwiqayKtcXkHEJyozRBUftCowyNOhslZPYwW1IoUhwIDAQAB"
)
ED25519 = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
DKIM = policies.dkim("rsa", KEY_2048)
ED25519_KEY = policies.dkim("ed25519", ED25519)
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmax_age: 604800\r\n"
STS = policies.mta_sts_record(POLICY)

ZONES = [
    {"name": MAIL, "provider": "powerdns", "options": {}},
    {"name": REVERSE, "provider": "rfc2136", "options": {"servers": [A, "ns2.example.com:5353"]}},
    {"name": PARTNER, "provider": "external"},
]
RECORDS = [
    ("tx.example.com", "TXT", [SPF], "SPF"),
    ("tx.example.com", "MX", ["10 mx.example.com"], "takes its bounces"),
    ("mta1.tx.example.com", "A", ["203.0.113.10"], "EHLO name"),
    ("mta1.tx.example.com", "TXT", ["v=spf1 ip4:203.0.113.10 -all"], "SPF of its EHLO name"),
    ("_dmarc.tx.example.com", "TXT", ["v=DMARC1; p=reject"], "DMARC policy"),
    ("s1._domainkey.tx.example.com", "TXT", [DKIM], "DKIM key"),
    ("s1-ed25519._domainkey.tx.example.com", "TXT", [policies.dkim("ed25519", ED25519)], "DKIM key"),
    ("s2._domainkey.tx.example.com", "CNAME", ["s2.keys.partner.net"], "DKIM key of a partner"),
    ("_mta-sts.tx.example.com", "TXT", [STS], "MTA-STS policy id"),
    ("_25._tcp.mx.example.com", "TLSA", ["3 1 1 " + "ab" * 32], "certificate of mx"),
    ("10.113.0.203.in-addr.arpa", "PTR", ["mta1.tx.example.com"], "reverse of its EHLO name"),
    ("tx.example.com._report._dmarc.partner.net", "TXT", ["v=DMARC1"], "its reports may go there"),
]
KEYS = {  # by the names of their records, as the key host gives them
    f"{selector}._domainkey.tx.example.com": {
        "domain": "tx.example.com",
        "selector": selector,
        "algorithm": algorithm,
        "life": "active",
        "signs": True,
        "state": "present",
    }
    for selector, algorithm in (("s1", "rsa"), ("s1-ed25519", "ed25519"))
}
DECLARED = [
    {
        "name": name,
        "type": rtype,
        "ttl": 300,
        "values": values,
        "reason": f"stream tx: {why}",
        "streams": ["tx"],
        **KEYS.get(name, {}),
    }
    for name, rtype, values, why in RECORDS
]
EXPECTED = {
    "addresses": [
        {"stream": "tx", "host": "m1", "label": "a", "ips": ["203.0.113.10"], "ehlo": "mta1.tx.example.com"},
        # The reverse zone of this one is the hoster's.
        {"stream": "cold", "host": "m1", "label": "b", "ips": ["198.51.100.7"], "ehlo": "mta2.cold.test"},
    ],
    "streams": [
        {
            "name": "tx",
            "domains": ["tx.example.com"],
            "return_path": {"domain": "tx.example.com"},
            "dkim": [
                {"domain": "tx.example.com", "algorithm": "rsa"},
                {"domain": "tx.example.com", "algorithm": "ed25519"},
            ],
        },
        {"name": "cold", "domains": ["cold.test"], "return_path": {"domain": "cold.test"}, "dkim": []},
    ],
}


def yes(*values, ttl=300, authenticated=False):
    return Answer(YES, values, ttl=ttl, authoritative=True, authenticated=authenticated)


class Net:
    """Everything that anybody answers, as it should be; a test breaks one thing of it."""

    def __init__(self):
        self.resolver = {
            (MAIL, "NS"): yes("ns1.example.com", "ns2.example.com"),
            (REVERSE, "NS"): yes("ns1.example.com"),
            (PARTNER, "NS"): yes("ns.partner.net"),
            ("ns1.example.com", "A"): yes(A),
            ("ns1.example.com", "AAAA"): yes(SIX),
            ("ns2.example.com", "A"): yes(B),
            ("ns.partner.net", "A"): yes(C),
            (MAIL, "SOA"): yes("ns1.example.com h.example.com 7 1 1 1 1", authenticated=True),
            ("mx.example.com", "A"): yes("203.0.113.25"),
            ("_spf.esp.net", "TXT"): yes("v=spf1 ip4:198.51.100.0/24 -all"),
            ("s2._domainkey.tx.example.com", "TXT"): yes(DKIM),
            ("cold.test", "TXT"): yes("v=spf1 ip4:198.51.100.7 -all"),
            ("mta2.cold.test", "TXT"): yes("v=spf1 ip4:198.51.100.7 -all"),
            ("7.100.51.198.in-addr.arpa", "PTR"): yes("mta2.cold.test"),
        }
        self.of = {MAIL: (A, SIX, B), REVERSE: (A, f"{B}:5353"), PARTNER: (C,)}
        self.servers = {}
        for zone, servers in self.of.items():
            for server in servers:
                self.servers[server, zone, "SOA"] = yes(
                    f"ns1.example.com h.example.com 7 1 1 1 1 {zone}"[: -1 - len(zone)]
                )
                self.servers[server, zone, "NS"] = self.resolver[zone, "NS"]
                for name, rtype, values, _why in RECORDS:
                    if name.endswith(zone) and not (zone == MAIL and name.endswith(PARTNER)):
                        self.servers[server, name, rtype] = yes(*values)
        self.policies = {"tx.example.com": notes.Fetched(POLICY, expires=NOW + 60 * 86400)}

    def at(self, key, *servers):
        """Where a record set stands, on all servers or on some."""
        return [each for each in self.servers if each[1:] == key and (not servers or each[0] in servers)]

    def put(self, name, rtype, *values, at=(), ttl=300):
        for each in self.at((name, rtype), *at):
            self.servers[each] = yes(*values, ttl=ttl) if values else Answer(NO)

    def dead(self, server, zone=None, why="REFUSED"):
        for each in self.servers:
            if each[0] == server and (zone is None or each[1].endswith(zone)):
                self.servers[each] = Answer(UNKNOWN, detail=why)


def run(net, zones=None, declared=None, expected=None, domains=()):
    """Rounds as the module makes them; whatever nobody answers does not exist."""
    given = subject.subject(
        ZONES if zones is None else zones,
        DECLARED if declared is None else declared,
        EXPECTED if expected is None else expected,
        domains,
    )
    resolver = {Question(*key): answer for key, answer in net.resolver.items()}
    servers = {(server, Question(name, rtype)): answer for (server, name, rtype), answer in net.servers.items()}
    for _round in range(20):
        world = notes.World(Answers(resolver), notes.ServerAnswers(servers), net.policies, NOW)
        result = judge.judge(given, world)
        if not world.resolver.wanted and not world.servers.wanted:
            return given, result
        resolver.update((question, Answer(NO)) for question in world.resolver.wanted)
        servers.update((question, Answer(NO, authoritative=True)) for question in world.servers.wanted)
    return pytest.fail("it never stops asking")


def test_what_is_declared_has_no_finding():
    given, result = run(Net())
    assert [str(finding) for finding in result.findings] == []
    assert set(result.states.values()) == {notes.OK}
    assert len(result.states) == len(given.rows) == len(RECORDS)


SPF_AT = "tx.example.com", "TXT"
DMARC_AT = "_dmarc.tx.example.com", "TXT"
KEY_AT = "s1._domainkey.tx.example.com", "TXT"
MX_AT = "tx.example.com", "MX"
STS_URL = "https://mta-sts.tx.example.com/.well-known/mta-sts.txt"
LONG = "v=spf1 ip4:203.0.113.10 include:_spf.esp.net exp=" + "x" * 480 + " -all"
DEEP = "v=spf1 " + " ".join(f"include:i{n}.esp.net" for n in range(11)) + " -all"


def policy(net, **changes):
    net.policies["tx.example.com"] = replace(net.policies["tx.example.com"], **changes)


def announced(text):
    """The announcement of another policy, for faults that are the declared policy's own."""
    return [
        {**entry, "values": [policies.mta_sts_record(text)]} if entry["name"].startswith("_mta-sts") else entry
        for entry in DECLARED
    ]


def includes(net, *texts):
    for number, text in enumerate(texts):
        net.resolver[f"i{number}.esp.net", "TXT"] = yes(text)


def eight(net):
    net.resolver["_spf.esp.net", "TXT"] = yes("v=spf1 " + " ".join(f"include:i{n}.esp.net" for n in range(7)) + " -all")
    includes(net, *["v=spf1 -all"] * 7)


# What is broken, where the finding stands, what it says, its severity, and the states that are not ok.
FAULTS = {
    "missing everywhere": (lambda net: net.put(*MX_AT), "tx.example.com MX", "nothing", "error", "missing"),
    "missing at one server": (
        lambda net: net.put(*MX_AT, at=[B]),
        f"tx.example.com MX at ns2.example.com ({B})",
        "nothing",
        "error",
        "unequal",
    ),
    "another value everywhere": (
        lambda net: net.put(*MX_AT, "10 evil.test"),
        "tx.example.com MX",
        "'10 evil.test'",
        "error",
        "drift",
    ),
    "another value at one server": (
        lambda net: net.put(*MX_AT, "10 evil.test", at=[A]),
        f"tx.example.com MX at ns1.example.com ({A})",
        "evil.test",
        "error",
        "unequal",
    ),
    "a value too many in a set that is ours": (
        lambda net: net.put("mta1.tx.example.com", "A", "203.0.113.10", "203.0.113.99"),
        "mta1.tx.example.com A",
        "'203.0.113.99' beside ours",
        "error",
        "drift",
    ),
    "our value gone beside a foreign one": (
        lambda net: net.put(*DMARC_AT, "site-verification=1"),
        "_dmarc.tx.example.com TXT",
        "1 value(s), but not",
        "error",
        "missing",
    ),
    "another policy of the same kind": (
        lambda net: net.put(*SPF_AT, "v=spf1 -all"),
        "tx.example.com TXT",
        "'v=spf1 -all'",
        "error",
        "drift",
    ),
    "two SPF records": (
        lambda net: net.put(*SPF_AT, SPF, "v=spf1 -all"),
        "tx.example.com TXT",
        "ignore all SPF records",
        "error",
        "drift",
    ),
    "two DMARC records": (
        lambda net: net.put(*DMARC_AT, "v=DMARC1; p=reject", "v=DMARC1; p=none"),
        "_dmarc.tx.example.com TXT",
        "ignore all DMARC records",
        "error",
        "drift",
    ),
    "a pool that only narrows later": (
        lambda net: net.put(*SPF_AT, "v=spf1 ip4:203.0.113.10 ip4:203.0.113.99 include:_spf.esp.net -all"),
        "tx.example.com TXT",
        "mail under way",
        "warning",
        "",
    ),
    "foreign values differ": (
        lambda net: net.put(*SPF_AT, SPF, "site-verification=1", at=[B]),
        "tx.example.com TXT",
        "different values beside ours",
        "warning",
        "unequal",
    ),
    "a bounce host without an address": (
        lambda net: net.resolver.pop(("mx.example.com", "A")),
        "mx.example.com A",
        "tx.example.com leads there, so no bounce can be delivered",
        "error",
        "",
    ),
    "a bounce host that nobody tells of": (
        lambda net: net.resolver.update({("mx.example.com", "A"): Answer(UNKNOWN, detail="SERVFAIL")}),
        "mx.example.com A",
        "unknown (SERVFAIL)",
        "error",
        "",
    ),
    "a delegated selector with a revoked key": (
        lambda net: net.resolver.update({("s2._domainkey.tx.example.com", "TXT"): yes("v=DKIM1; p=")}),
        "s2._domainkey.tx.example.com CNAME",
        "an empty key: that revokes the selector",
        "error",
        "",
    ),
    "a delegated selector with two keys": (
        lambda net: net.resolver.update({("s2._domainkey.tx.example.com", "TXT"): yes(DKIM, ED25519_KEY)}),
        "s2._domainkey.tx.example.com TXT",
        "2 records",
        "error",
        "",
    ),
    "a note beside a key": (
        lambda net: net.put(*KEY_AT, DKIM, "note"),
        "s1._domainkey.tx.example.com TXT",
        "2 records",
        "error",
        "",
    ),
    "another TTL": (
        lambda net: net.put(*MX_AT, "10 mx.example.com", ttl=60, at=[B]),
        "tx.example.com MX",
        "TTL 60 at ns2",
        "warning",
        "",
    ),
    "a key that is revoked": (
        lambda net: net.put(*KEY_AT, "v=DKIM1; k=rsa; p="),
        "s1._domainkey.tx.example.com TXT",
        "an empty key revokes",
        "error",
        "drift",
    ),
    "a server that refuses": (
        lambda net: net.dead(B),
        f"server ns2.example.com ({B}) of zone example.com",
        "REFUSED",
        "error",
        "",
    ),
    "an IPv4 server that is silent": (
        lambda net: net.dead(A, MAIL, "time-out"),
        f"server ns1.example.com ({A}) of zone example.com",
        "lame",
        "error",
        "",
    ),
    "no way to IPv6": (lambda net: net.dead(SIX, why="unreachable"), "IPv6", f"({SIX})", "warning", ""),
    "a server with an empty zone": (
        lambda net: net.servers.update({(B, MAIL, "SOA"): Answer(NO)}),
        f"server ns2.example.com ({B}) of zone example.com",
        "no SOA",
        "error",
        "",
    ),
    "a server that hides one record set": (
        lambda net: net.servers.update({(B, *MX_AT): Answer(UNKNOWN, detail="time-out")}),
        f"server ns2.example.com ({B})",
        "time-out) for 1 record set(s): tx.example.com MX",
        "error",
        "unknown",
    ),
    "unequal serials": (
        lambda net: net.put(MAIL, "SOA", "ns1.example.com h.example.com 6 1 1 1 1", at=[B]),
        "example.com SOA",
        "6 at ns2",
        "warning",
        "",
    ),
    "unequal NS sets": (
        lambda net: net.put(MAIL, "NS", "ns1.example.com", at=[B]),
        "example.com NS",
        "do not agree",
        "error",
        "",
    ),
    "a delegation that leads elsewhere": (
        lambda net: net.put(MAIL, "NS", "ns1.example.com", "ns3.example.com"),
        "example.com NS",
        "a resolver has",
        "error",
        "",
    ),
    "a zone without delegation": (
        lambda net: net.resolver.update({(REVERSE, "NS"): Answer(NO)}),
        f"{REVERSE} NS",
        "no NS records",
        "error",
        "",
    ),
    "a delegation that does not answer": (
        lambda net: net.resolver.update({(REVERSE, "NS"): Answer(UNKNOWN, detail="SERVFAIL")}),
        f"{REVERSE} NS",
        "unknown (SERVFAIL)",
        "error",
        "",
    ),
    "a name server without an address": (
        lambda net: [
            net.resolver.update({(MAIL, "NS"): yes("ns1.example.com", "ns2.example.com", "ns9.example.com")}),
            net.put(MAIL, "NS", "ns1.example.com", "ns2.example.com", "ns9.example.com"),
        ],
        "server ns9.example.com of zone example.com",
        "no address",
        "error",
        "",
    ),
    "TLSA in a zone that nobody validates": (
        lambda net: net.resolver.update({(MAIL, "SOA"): yes("ns1.example.com h.example.com 7 1 1 1 1")}),
        "zone example.com",
        "_25._tcp.mx.example.com TLSA",
        "warning",
        "",
    ),
    "an include that is no SPF": (
        lambda net: net.resolver.update({("_spf.esp.net", "TXT"): yes("hello")}),
        "tx.example.com TXT (SPF)",
        "which has no SPF record",
        "error",
        "",
    ),
    "an include that cannot be asked": (
        lambda net: net.resolver.update({("_spf.esp.net", "TXT"): Answer(UNKNOWN, detail="SERVFAIL")}),
        "tx.example.com TXT (SPF)",
        "unknown (_spf.esp.net TXT: SERVFAIL)",
        "error",
        "",
    ),
    "an include that costs too much": (
        lambda net: [net.resolver.update({("_spf.esp.net", "TXT"): yes(DEEP)}), includes(net, *["v=spf1 -all"] * 11)],
        "tx.example.com TXT (SPF)",
        "more than 10 DNS lookups",
        "error",
        "",
    ),
    "look-ups near the limit": (eight, "tx.example.com TXT (SPF)", "8 of 10", "warning", ""),
    "an include full of voids": (
        lambda net: net.resolver.update(
            {("_spf.esp.net", "TXT"): yes("v=spf1 a:a.esp.net a:b.esp.net a:c.esp.net -all")}
        ),
        "tx.example.com TXT (SPF)",
        "more than 2 of its lookups find nothing",
        "error",
        "",
    ),
    "an address that no SPF lets send": (
        lambda net: net.resolver.update({("cold.test", "TXT"): yes("v=spf1 ip4:198.51.100.9 -all")}),
        "cold.test TXT (SPF) for 198.51.100.7",
        "fail",
        "error",
        "",
    ),
    "a delegated selector without a key": (
        lambda net: net.resolver.update({("s2._domainkey.tx.example.com", "TXT"): Answer(NO)}),
        "s2._domainkey.tx.example.com TXT",
        "no key",
        "error",
        "",
    ),
    "a delegated selector with a weak key": (
        lambda net: net.resolver.update({("s2._domainkey.tx.example.com", "TXT"): yes(policies.dkim("rsa", KEY_1024))}),
        "s2._domainkey.tx.example.com CNAME",
        "an RSA key of 1024 bits",
        "warning",
        "",
    ),
    "a policy that is not served": (
        lambda net: policy(net, body="", problem="HTTP 404"),
        STS_URL,
        "HTTP 404",
        "error",
        "",
    ),
    "another policy is served": (
        lambda net: policy(net, body=POLICY.replace("mx.example", "old.example")),
        STS_URL,
        "old.example.com",
        "error",
        "",
    ),
    "no policy is served": (lambda net: policy(net, body="<html>"), STS_URL, "it is no policy", "error", ""),
    "a certificate that ends soon": (
        lambda net: policy(net, expires=NOW + 5.5 * 86400),
        STS_URL,
        "5 more days",
        "warning",
        "",
    ),
    "the partner lacks our record": (
        lambda net: net.put("tx.example.com._report._dmarc.partner.net", "TXT"),
        "tx.example.com._report._dmarc.partner.net TXT",
        'Have the owner of the zone set: tx.example.com._report._dmarc.partner.net 300 TXT "v=DMARC1"',
        "warning",
        "external",
    ),
    "a hoster's reverse name is another": (
        lambda net: net.resolver.update({("7.100.51.198.in-addr.arpa", "PTR"): yes("static-7.hoster.net")}),
        "7.100.51.198.in-addr.arpa PTR",
        "docs/ptr.md",
        "error",
        "",
    ),
    "a hoster's reverse name is unknown": (
        lambda net: net.resolver.update({("7.100.51.198.in-addr.arpa", "PTR"): Answer(UNKNOWN, detail="time-out")}),
        "7.100.51.198.in-addr.arpa PTR",
        "unknown (time-out)",
        "error",
        "",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_exactly_its_finding(fault):
    plant, where, says, severity, state = FAULTS[fault]
    net = Net()
    plant(net)
    _given, result = run(net)
    assert [finding.where for finding in result.findings] == [where], "\n".join(map(str, result.findings))
    (finding,) = result.findings
    assert says in str(finding)
    assert finding.severity == severity
    assert {each for each in result.states.values() if each != notes.OK} == ({state} - {""})


# Faults of what is declared itself: DNS shows it, and it is bad.
DECLARED_FAULTS = {
    "a weak key": (KEY_AT, policies.dkim("rsa", KEY_1024), "an RSA key of 1024 bits", "warning"),
    "a key that is none": (KEY_AT, "v=DKIM1; k=rsa; p=AAAA", "no key that a receiver can read", "error"),
    "an SPF answer over 512 bytes": (SPF_AT, LONG, "should fit 512", "warning"),
    "an answer over 1232 bytes": (DMARC_AT, "v=DMARC1; p=reject; x=" + "y" * 1300, "over 1232", "warning"),
}


@pytest.mark.parametrize("fault", DECLARED_FAULTS)
def test_a_bad_declaration_is_a_finding_even_where_dns_shows_it(fault):
    key, value, says, severity = DECLARED_FAULTS[fault]
    net = Net()
    net.put(*key, value)
    declared = [{**entry, "values": [value]} if (entry["name"], entry["type"]) == key else entry for entry in DECLARED]
    _given, result = run(net, declared=declared)
    assert [finding.where for finding in result.findings] == [" ".join(key)], "\n".join(map(str, result.findings))
    assert says in str(result.findings[0])
    assert result.findings[0].severity == severity


@pytest.mark.parametrize(
    ("text", "says"),
    [(POLICY.replace("enforce", "none"), "mode none"), (POLICY.replace("604800", "3600"), "max_age 3600")],
)
def test_a_weak_policy_that_is_announced_as_it_is_served(text, says):
    net = Net()
    policy(net, body=text)
    net.put("_mta-sts.tx.example.com", "TXT", policies.mta_sts_record(text))
    _given, result = run(net, declared=announced(text))
    assert [(finding.where, finding.found) for finding in result.findings] == [(STS_URL, says)]


def test_a_policy_with_other_line_ends_is_the_same_policy():
    net = Net()
    policy(net, body=POLICY.replace("\r\n", "\n"))
    assert run(net)[1].findings == ()


def test_policies_that_were_not_fetched_are_no_finding():
    net = Net()
    net.policies = {}
    assert run(net)[1].findings == ()


def test_foreign_values_beside_ours_are_nothing_and_keep_their_ttl():
    net = Net()
    net.put(*SPF_AT, SPF, "site-verification=1", ttl=9)
    assert run(net)[1].findings == ()


def test_somebody_elses_spelling_of_our_policy_counts():
    net = Net()
    net.put("tx.example.com._report._dmarc.partner.net", "TXT", "v=DMARC1;")
    _given, result = run(net)
    assert [str(finding) for finding in result.findings if finding.severity == "error"] == []


def test_a_reverse_name_in_somebody_elses_zone_is_a_line_for_its_owner():
    zones = [ZONES[0], {"name": REVERSE, "provider": "external"}, ZONES[2]]
    net = Net()
    net.resolver[REVERSE, "NS"] = Answer(NO)  # the hoster's zone begins further up
    _given, result = run(net, zones=zones)
    (finding,) = result.findings
    assert (finding.where, finding.severity) == ("10.113.0.203.in-addr.arpa PTR", "warning")
    assert "10.113.0.203.in-addr.arpa 300 PTR mta1.tx.example.com." in finding.remedy
    assert "docs/ptr.md" in finding.remedy
    net.resolver["10.113.0.203.in-addr.arpa", "PTR"] = yes("mta1.tx.example.com")
    assert run(net, zones=zones)[1].findings == ()


@pytest.mark.parametrize(
    ("answer", "state"), [(yes("v=DMARC1"), "ok"), (Answer(NO), "external"), (Answer(UNKNOWN, detail="x"), "unknown")]
)
def test_somebody_elses_zone_that_begins_elsewhere_is_asked_through_the_resolver(answer, state):
    net = Net()
    net.resolver[PARTNER, "NS"] = Answer(NO)
    net.resolver["tx.example.com._report._dmarc.partner.net", "TXT"] = answer
    _given, result = run(net)
    assert result.states["tx.example.com._report._dmarc.partner.net", "TXT"] == state
    assert [finding.severity for finding in result.findings] == ([] if state == "ok" else ["warning"])


def test_a_key_that_the_key_host_did_not_give_is_unknown():
    declared = [{**entry, "values": None} if entry["name"] == KEY_AT[0] else entry for entry in DECLARED]
    _given, result = run(Net(), declared=declared)
    assert result.states[KEY_AT] == notes.UNKNOWN
    assert [(finding.where, finding.severity) for finding in result.findings] == [(" ".join(KEY_AT), "warning")]


def test_a_key_host_that_was_not_asked_is_a_finding_and_not_a_fleet_without_keys():
    without_rsa = [entry for entry in DECLARED if entry["name"] != KEY_AT[0]]
    without_any = [entry for entry in DECLARED if entry["name"] not in KEYS]
    for declared, where in (
        (without_rsa, "DKIM key (rsa) of tx.example.com"),
        (without_any, "DKIM key (rsa) of tx.example.com and 1 more"),
    ):
        given, result = run(Net(), declared=declared)
        assert [(finding.where, finding.severity) for finding in result.findings] == [(where, "warning")]
        assert where in "\n".join(report.registry(given, {}, asked=False))
    assert run(Net(), declared=without_any, domains=["cold.test"])[1].findings[-1].found == "no record set"


def test_a_key_record_belongs_to_the_domain_that_signs_with_it():
    target = "s3.tx.example.com.dkim.example.com"
    key = {**KEYS[KEY_AT[0]], "name": target, "type": "TXT", "values": [DKIM], "streams": []}
    (row,) = [row for row in subject.subject(ZONES, [*DECLARED, key]).rows if row.record.name == target]
    assert row.domain == "tx.example.com"


# ---- while keys rotate

GONE_AT = "s0._domainkey.tx.example.com", "TXT"
WITHDRAWN = {
    **KEYS[KEY_AT[0]],
    "name": GONE_AT[0],
    "type": "TXT",
    "ttl": 300,
    "selector": "s0",
    "life": "withdrawn",
    "signs": False,
    "state": "absent",
    "values": [DKIM, "v=DKIM1; p="],
    "reason": "DKIM key (rsa) of tx.example.com, withdrawn",
    "streams": ["tx"],
}


def test_a_withdrawn_key_is_gone_everywhere_and_nobody_reads_of_it():
    given, result = run(Net(), declared=[*DECLARED, WITHDRAWN])
    assert result.findings == ()
    assert result.states[GONE_AT] == notes.OK
    text = "\n".join([*report.lines(given, result), *report.registry(given, result.states, asked=True)])
    assert "s0." not in text
    assert len(report.table(given, result.states)) == len(RECORDS)


@pytest.mark.parametrize("shown", [DKIM, "v=DKIM1; p="])
def test_a_withdrawn_key_that_a_server_still_shows_is_a_finding(shown):
    net = Net()
    net.servers[(B, *GONE_AT)] = yes(shown)
    given, result = run(net, declared=[*DECLARED, WITHDRAWN])
    (finding,) = result.findings
    assert (finding.where, finding.severity) == (f"{' '.join(GONE_AT)} at ns2.example.com ({B})", "warning")
    assert "withdrawn" in finding.why
    assert result.states[GONE_AT] == notes.DRIFT
    text = "\n".join(report.lines(given, result))
    assert "drift" in text
    assert "mailops.mta.dns --check --diff" in text


def test_what_others_have_where_a_key_was_withdrawn_is_their_business():
    net = Net()
    for server in net.of[MAIL]:
        net.servers[(server, *GONE_AT)] = yes(policies.dkim("rsa", KEY_1024))
    assert run(net, declared=[*DECLARED, WITHDRAWN])[1].findings == ()


def test_a_withdrawn_key_of_which_a_server_does_not_tell_is_unknown():
    net = Net()
    net.servers[(B, *GONE_AT)] = Answer(UNKNOWN, detail="time-out")
    _given, result = run(net, declared=[*DECLARED, WITHDRAWN])
    assert result.states[GONE_AT] == notes.UNKNOWN
    assert [finding.where for finding in result.findings] == [f"server ns2.example.com ({B})"]


def test_an_alias_that_is_withdrawn_need_not_lead_to_a_key():
    alias = {**WITHDRAWN, "type": "CNAME", "values": ["s0.tx.example.com.dkim.example.com"]}
    assert run(Net(), declared=[*DECLARED, alias])[1].findings == ()
    net = Net()
    for server in net.of[MAIL]:
        net.servers[server, GONE_AT[0], "CNAME"] = yes("s0.tx.example.com.dkim.example.com")
    assert [finding.where for finding in run(net, declared=[*DECLARED, alias])[1].findings] == [f"{GONE_AT[0]} CNAME"]


def test_a_slot_that_is_used_again_is_judged_by_what_is_declared():
    again = {**WITHDRAWN, "name": KEY_AT[0], "values": [policies.dkim("rsa", KEY_1024)]}
    given, result = run(Net(), declared=[*DECLARED, again])
    assert result.findings == ()
    assert not any(row.gone for row in given.rows)


def test_a_key_that_is_not_made_yet_stands_nowhere_while_another_signs():
    coming = {**WITHDRAWN, "life": "published", "state": "present", "values": None}
    given, result = run(Net(), declared=[*DECLARED, coming])
    assert result.findings == ()
    assert len(given.rows) == len(RECORDS)


@pytest.mark.parametrize(
    ("key", "shown", "says"),
    [
        (KEY_2048, KEY_2048, ""),
        (KEY_1024, KEY_1024, "1024 bits"),
        (KEY_2048, "", "revokes"),
        (KEY_2048, None, "nothing"),
    ],
)
def test_a_key_that_is_delegated_into_a_zone_of_ours_is_judged_once(key, shown, says):
    alias, target = "s3._domainkey.tx.example.com", "s3.tx.example.com.dkim.example.com"
    common = {"ttl": 300, "streams": ["tx"], "domain": "tx.example.com", "selector": "s3", "algorithm": "rsa"}
    declared = [
        {"name": alias, "type": "CNAME", "values": [target], "reason": "alias", **common},
        {"name": target, "type": "TXT", "values": [policies.dkim("rsa", key)], "reason": "DKIM key", **common},
    ]
    net = Net()
    for server in net.of[MAIL]:
        net.servers[server, alias, "CNAME"] = yes(target)
        if shown is not None:
            net.servers[server, target, "TXT"] = yes(policies.dkim("rsa", shown))
    given, result = run(net, declared=[*DECLARED, *declared])
    assert {row.domain for row in given.rows if row.record.name == target} == {"tx.example.com"}
    assert [finding.where for finding in result.findings] == ([f"{target} TXT"] if says else [])
    assert says in "".join(map(str, result.findings))


def test_the_ttl_that_a_service_can_keep_is_the_one_that_counts():
    zones = [{**ZONES[0], "provider": "desec"}, *ZONES[1:]]  # its floor is an hour
    net = Net()
    for each in list(net.servers):
        if each[1].endswith(MAIL):
            net.servers[each] = yes(*net.servers[each].values, ttl=3600)
    assert run(net, zones=zones)[1].findings == ()


@pytest.mark.parametrize("server", [A, B, SIX, C, f"{B}:5353"])
def test_where_nobody_answers_nothing_is_ok(server):
    """Silence of any server never adds a record set that is ok."""
    sound = {key for key, state in run(Net())[1].states.items() if state == notes.OK}
    net = Net()
    net.dead(server, why="time-out")
    silent = run(net)[1]
    assert {key for key, state in silent.states.items() if state == notes.OK} <= sound
    assert silent.findings


def test_without_any_server_every_state_is_unknown():
    net = Net()
    net.servers = {key: Answer(UNKNOWN, detail="time-out") for key in net.servers}
    net.resolver = {key: Answer(UNKNOWN, detail="time-out") for key in net.resolver}
    given, result = run(net)
    assert set(result.states.values()) == {notes.UNKNOWN}
    assert len(result.states) == len(given.rows)


def test_input_is_left_as_it_was():
    before = copy.deepcopy((ZONES, DECLARED, EXPECTED))
    run(Net())
    assert before == (ZONES, DECLARED, EXPECTED)


# ---- domains


def test_one_domain_takes_its_reverse_names_and_reports_along():
    given, result = run(Net(), domains=["tx.example.com"])
    assert {row.record.key for row in given.rows} == {(name, rtype) for name, rtype, _values, _why in RECORDS}
    assert {row.domain for row in given.rows} == {"tx.example.com"}
    assert [address["stream"] for address in given.addresses] == ["tx"]
    assert result.findings == ()


def test_a_domain_above_takes_what_is_below_it():
    assert len(subject.subject(ZONES, DECLARED, EXPECTED, ["example.com"]).rows) == len(RECORDS)


def test_a_domain_that_is_not_there_is_a_finding():
    given = subject.subject(ZONES, DECLARED, EXPECTED, ["nowhere.test"])
    assert given.rows == ()
    assert "tx.example.com" in str(given.findings[-1])


def test_wrong_input_is_a_finding_each():
    zones = [*ZONES, {"name": "stra\u00dfe.test", "provider": "memory"}]
    declared = [*DECLARED, {"name": "a.nowhere.test", "type": "A", "values": ["192.0.2.1"]}]
    given = subject.subject(zones, declared, EXPECTED, ["stra\u00dfe.test"])
    assert len(given.findings) == 3
    zones = [{**ZONES[1], "options": {"servers": ["192.0.2.1:x", A, "ns2.example.com:5353"]}}, ZONES[0], ZONES[2]]
    assert [finding.found for finding in run(Net(), zones=zones)[1].findings] == ["options.servers '192.0.2.1:x'"]


# ---- small parts


@pytest.mark.parametrize(("key", "bits"), [(KEY_2048, 2048), (KEY_1024, 1024)])
def test_the_size_of_an_rsa_key_is_a_metric(key, bits):
    net = Net()
    net.resolver["s2._domainkey.tx.example.com", "TXT"] = yes(policies.dkim("rsa", key))
    _given, result = run(net)
    sizes = {dict(each.labels)["selector"]: each.value for each in result.samples if each.metric.endswith("key_size")}
    assert sizes == {"s1": 2048, "s1-ed25519": 256, "s2": bits}


def spki(key):
    """Ed25519 as it stands in a key file (RFC 8410 4)."""
    return base64.b64encode(bytes.fromhex("302a300506032b6570032100") + base64.b64decode(key)).decode()


RSA_BARE = base64.b64encode(base64.b64decode(KEY_2048)[24:]).decode()  # RSAPublicKey, without what stands around it
NOT_VERIFIED = {  # what a key record says, and what the finding says of it
    f"v=DKIM1; k=rsa; h=sha1; p={KEY_2048}": "sha256",
    f"v=DKIM1; h=sha1:sha512; p={KEY_2048}": "sha256",
    f"v=DKIM1; h=; p={KEY_2048}": "names nothing",
    f"v=DKIM1; k=rsa; s=chat; p={KEY_2048}": "not for email",
    f"v=DKIM1; k=ed25519; s=tlsrpt : x; p={ED25519}": "not for email",
    f"v=DKIM1; k=rsa; t=y; p={KEY_2048}": "only tests",
    f"v=DKIM1; k=ed25519; t=s:y; p={ED25519}": "only tests",
    f"k=foobar; p={KEY_2048}": "'k=foobar'",
    f"v=DKIM1; k=RSA; p={KEY_2048}": "'k=RSA'",
    f"v=DKIM1; k=rsa; p={ED25519}": "SubjectPublicKeyInfo",
    f"v=DKIM1; p={spki(ED25519)}": "not one for ed25519",
    f"v=DKIM1; k=rsa; p={RSA_BARE}": "SubjectPublicKeyInfo",
    f"v=DKIM1; k=ed25519; p={spki(ED25519)}": "not 44 bytes",
    f"v=DKIM1; k=ed25519; p={KEY_2048}": "not 294 bytes",
    f"v=DKIM2; k=rsa; p={KEY_2048}": "version",
    f"k=rsa; v=DKIM1; p={KEY_2048}": "version",
    "v=DKIM1; k=rsa": "no public key",
}
VERIFIED = (
    f"p={KEY_2048}",
    f"v=DKIM1; k=rsa; h=sha1:sha256; s=email; t=s; p={KEY_2048}",
    f"v=DKIM1; k=ed25519; h=sha256; s=*; p={ED25519}",
    f"v=DKIM1; k=ed25519; s=chat:email; t=; n=a note; p={ED25519}",
)


def key_findings(place, text):
    """Of a record that is declared, or to which an alias leads, and that DNS shows as it is."""
    net, declared = Net(), DECLARED
    if place == "alias":
        net.resolver["s2._domainkey.tx.example.com", "TXT"] = yes(text)
    else:
        net.put(*KEY_AT, text)
        declared = [{**each, "values": [text]} if (each["name"], each["type"]) == KEY_AT else each for each in declared]
    return run(net, declared=declared)[1].findings


@pytest.mark.parametrize("place", ["alias", "record"])
@pytest.mark.parametrize("text", NOT_VERIFIED)
def test_a_key_that_no_receiver_verifies_with_is_an_error(place, text):
    (finding,) = key_findings(place, text)
    assert finding.where.startswith({"alias": "s2", "record": "s1"}[place] + "._domainkey.tx.example.com ")
    assert NOT_VERIFIED[text] in str(finding)
    assert finding.severity == "error"
    assert ("s2.keys.partner.net" in finding.remedy) is (place == "alias")


@pytest.mark.parametrize("place", ["alias", "record"])
@pytest.mark.parametrize("text", VERIFIED)
def test_a_key_that_every_receiver_takes_has_no_finding(place, text):
    assert key_findings(place, text) == ()


def test_all_that_is_wrong_with_a_key_is_said():
    found = key_findings("alias", f"v=DKIM1; k=foobar; h=sha1; s=chat; t=y; p={KEY_2048}")
    assert [finding.found[:2] for finding in found] == ["h=", "s=", "t=", "'v"]


@pytest.mark.parametrize(("rtype", "value"), [("A", "203.0.113.25"), ("AAAA", "2001:db8::25")])
@pytest.mark.parametrize("declared", [True, False])
def test_one_address_of_a_bounce_host_is_enough(rtype, value, declared):
    net = Net()
    del net.resolver["mx.example.com", "A"]
    if not declared:
        net.resolver["mx.example.com", rtype] = yes(value)
        assert run(net)[1].findings == ()
        return
    for server in net.of[MAIL]:
        net.servers[server, "mx.example.com", rtype] = yes(value)
    entry = {"name": "mx.example.com", "type": rtype, "ttl": 300, "values": [value], "reason": "bounces", "streams": []}
    assert run(net, declared=[*DECLARED, entry])[1].findings == ()


def test_each_bounce_host_counts_and_no_mail_at_all_needs_none():
    def mx(name, *values):
        return {"name": name, "type": "MX", "ttl": 300, "values": values, "reason": "bounces", "streams": ["tx"]}

    net = Net()
    more = [
        mx("a.example.com", "10 mx.example.com", "20 gone.example.com"),
        mx("b.example.com", "10 gone.example.com"),
        mx("c.example.com", "0 ."),
    ]
    for entry in more:
        for server in net.of[MAIL]:
            net.servers[server, entry["name"], "MX"] = yes(*(value.replace("0 .", "0") for value in entry["values"]))
    (finding,) = run(net, declared=[*DECLARED, *more])[1].findings
    assert finding.where == "gone.example.com A"
    assert "a.example.com, b.example.com" in finding.why


# ---- what people and machines read


def test_lines_name_every_finding_and_what_comes_next():
    net = Net()
    net.put(*MX_AT)
    given, result = run(net)
    text = "\n".join(report.lines(given, result))
    assert all(str(finding) in text for finding in result.findings)
    assert "mailops.mta.dns --check --diff" in text
    assert text.endswith(f"{len(RECORDS)} record sets in 3 zones, 1 error, 0 warnings")
    assert report.lines(given, result)[2].startswith("missing")
    assert "nothing is to be done" in "\n".join(report.lines(*run(Net())))


def test_the_registry_has_every_record_set_once_with_or_without_states():
    given, result = run(Net())
    asked = report.registry(given, result.states, True)
    silent = report.registry(given, {}, False)
    for lines in (asked, silent):
        for name, rtype, _values, _why in RECORDS:
            assert sum(line.split()[:2] == [name, rtype] for line in lines) == 1
    assert "state" in asked[1]
    assert "state" not in silent[1]
    assert asked[0] == "tx.example.com (used by tx)"


def test_the_registry_has_every_value_whole_and_of_keys_the_beginning():
    policy = f"v=spf1 {' '.join(f'ip4:192.0.2.{number}' for number in range(1, 30))} -all"
    key = next(value for name, _rtype, values, _why in RECORDS if name == KEY_AT[0] for value in values)
    declared = [
        {**entry, "values": ["site=x", policy]} if (entry["name"], entry["type"]) == SPF_AT else entry
        for entry in DECLARED
    ]
    given = subject.subject(ZONES, declared, EXPECTED)
    lines = report.registry(given, {row.record.key: notes.OK for row in given.rows}, True)
    (at,) = [number for number, line in enumerate(lines) if line.split()[:3] == [*SPF_AT, "300"]]
    shown = list(itertools.takewhile(lambda line: line.startswith("   "), lines[at + 1 :]))
    assert lines[at].split()[3:5] == ["site=x", "ok"]
    assert " ".join(" ".join(shown).split()) == policy
    assert max(map(len, shown)) < 140
    assert key not in "\n".join(lines)
    assert any(key[:50] in line for line in lines)


def test_a_domain_that_is_not_there_is_not_called_sound():
    given = subject.subject(ZONES, DECLARED, EXPECTED, ["nowhere.test"])
    for asked in (True, False):
        assert report.registry(given, {}, asked)[-1].startswith("0 record sets. Next: name a domain")


def test_a_table_row_says_what_why_and_who():
    given, result = run(Net())
    row = next(row for row in report.table(given, result.states) if (row["name"], row["type"]) == SPF_AT)
    assert row == {
        "domain": "tx.example.com",
        "zone": MAIL,
        "provider": "powerdns",
        "name": "tx.example.com",
        "type": "TXT",
        "ttl": 300,
        "values": [SPF],
        "state": "ok",
        "reason": "stream tx: SPF",
        "streams": ["tx"],
    }


METRIC = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.]+)\Z')


def test_metrics_are_prometheus_text_and_say_what_the_audit_says():
    net = Net()
    net.put(*MX_AT)
    _given, result = run(net)
    text = report.metrics(result)
    assert text.endswith("\n")
    typed, seen = set(), {}
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            typed.add(line.split()[2])
        elif not line.startswith("# HELP"):
            name, labels, value = METRIC.match(line).groups()
            assert name in typed
            assert (name, labels) not in seen
            seen[name, labels] = float(value)
    assert seen["mta_dns_record_ok", f'zone="{MAIL}",name="tx.example.com",type="MX"'] == 0
    assert seen["mta_dns_record_ok", f'zone="{MAIL}",name="tx.example.com",type="TXT"'] == 1
    assert seen["mta_dns_findings", 'severity="error"'] == 1
    assert seen["mta_dns_findings", 'severity="warning"'] == 0
    assert seen["mta_dns_spf_lookups", 'domain="tx.example.com"'] == 1
    assert seen["mta_dns_dkim_key_size", 'domain="tx.example.com",selector="s1"'] == 2048
    assert seen["mta_dns_dkim_key_size", 'domain="tx.example.com",selector="s1-ed25519"'] == 256
    assert seen["mta_dns_dkim_key_size", 'domain="tx.example.com",selector="s2"'] == 2048
    assert seen["mta_mta_sts_certificate_expires_timestamp_seconds", 'domain="tx.example.com"'] == NOW + 60 * 86400
    assert seen["mta_dns_audit_timestamp_seconds", None] == NOW
    assert {name for name, _labels in seen} == set(report.HELP)


def test_labels_are_escaped():
    sample = notes.Sample("mta_dns_server_ok", (("zone", 'a"b\\c\nd'),), 1.0)
    assert 'zone="a\\"b\\\\c\\nd"' in report.metrics(notes.Audit({}, (), (sample,)))
