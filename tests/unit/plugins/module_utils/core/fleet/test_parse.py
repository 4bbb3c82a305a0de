# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the fleet file: what is wrong is refused and all of it named, what is right survives."""

from __future__ import annotations

import copy
import datetime
import json

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life as rotation
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import YES, Answer, Answers, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission, receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import instances
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, merge, parse
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies as tags
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import spf
from ansible_collections.mailops.mta.plugins.module_utils.core.publish import record_sets
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan
from hypothesis import given
from hypothesis import strategies as st

GOOD = {
    "plugin": "mailops.mta.fleet",
    "domain": "example.com",
    "bounce_host": "bounces.example.com",
    "key_host": "mta1",
    "records": [{"name": "bounces.example.com", "type": "A", "values": ["203.0.113.98"], "reason": "takes bounces"}],
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
ALGORITHMS = ("rsa", "ed25519")


def changed(*changes):
    document = copy.deepcopy(GOOD)
    for path, value in changes:
        place = document
        *way, last = path.split("/")
        way, last = [step.replace("~", "/") for step in way], last.replace("~", "/")
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if value is REMOVE:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value
    return document


def refused(document):
    parsed, findings = parse.parse(document)
    assert parsed is None
    return errors(findings)


def test_the_good_file_has_no_findings():
    parsed, findings = parse.parse(GOOD)
    assert findings == []
    assert list(parsed.streams) == ["transactional", "bulk", "cold"]
    assert parsed.streams["bulk"].addresses[0].ipv6 == "2001:db8::20"


S = "streams/transactional"
RECORD = {"name": "www.example.com", "type": "A", "values": ["203.0.113.99"], "reason": "the web site"}
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
    (
        "an IPv4 address in IPv6 form",
        [("streams/bulk/addresses/1/ip", "::ffff:203.0.113.21")],
        "streams.bulk.addresses[1].ip",
        "IPv4 address in IPv6 form",
    ),
    (
        "a message size below the smallest",
        [(f"{S}/max_message_bytes", 1000)],
        f"{S.replace('/', '.')}.max_message_bytes",
        "65536",
    ),
    (
        "a message size above what the signer reads",
        [("max_message_bytes", 104857601)],
        "max_message_bytes",
        "104857600",
    ),
    ("a message size with a unit", [("max_message_bytes", "10M")], "max_message_bytes", "whole number"),
    (
        "a removal of Received that is no truth",
        [(f"{S}/remove_received", "all")],
        f"{S.replace('/', '.')}.remove_received",
        "true or false",
    ),
    ("a firewall that is no truth", [("hosts/mta1/firewall", "nft")], "hosts.mta1.firewall", "true or false"),
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
    ("an engine that does not exist", [("hosts/mta1/engine", "powermt")], "hosts.mta1.engine", "'powermta'"),
    (
        "a day that is none",
        [("streams/bulk/addresses/1/warmup_from", "2026-02-30")],
        "streams.bulk.addresses[1].warmup_from",
        "2026-02-30",
    ),
    ("a schedule without messages", [("warmup", {"messages_per_day": [50, 0]})], "warmup.messages_per_day[1]", "0"),
    (
        "a schedule of something else",
        [("streams/bulk/warmup", {"messages_per_hour": [50]})],
        "streams.bulk.warmup.messages_per_hour",
        "messages_per_day",
    ),
    (
        "bounces at what is no address",
        [("hosts/mta1", {"ansible_host": "10.0.0.11", "engine": "powermta", "bounce_listen": ["mta1"]})],
        "hosts.mta1.bounce_listen[0]",
        "mta1",
    ),
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
    (
        "a logo without enforcement",
        [(f"{S}/bimi", {"logo": "https://example.com/logo.svg"})],
        "streams.transactional.bimi",
        "policy none",
    ),
    (
        "a logo of a domain whose subdomains are not enforced",
        [
            (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
            (f"{S}/dmarc", {"policy": "reject", "subdomain_policy": "none"}),
        ],
        "streams.transactional.bimi",
        "subdomain_policy none",
    ),
    (
        "a logo while DMARC is tested",
        [
            (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
            (f"{S}/dmarc", {"policy": "reject", "testing": True}),
        ],
        "streams.transactional.bimi",
        "testing",
    ),
    (
        "a logo below an organisation without enforcement",
        [
            (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
            (f"{S}/dmarc", {"policy": "reject"}),
            ("organisational_dmarc", {"policy": "none"}),
        ],
        "streams.transactional.bimi",
        "organisational_dmarc",
    ),
    (
        "a logo without TLS",
        [(f"{S}/bimi", {"logo": "http://example.com/logo.svg"})],
        "streams.transactional.bimi.logo",
        "https",
    ),
    (
        "a logo that is no SVG",
        [(f"{S}/bimi", {"logo": "https://example.com/logo.png"})],
        "streams.transactional.bimi.logo",
        "SVG",
    ),
    (
        "a certificate that would end its tag",
        [(f"{S}/bimi", {"logo": "https://example.com/logo.svg", "evidence": "https://example.com/a;b.pem"})],
        "streams.transactional.bimi.evidence",
        "semicolons",
    ),
    ("evidence without a logo", [(f"{S}/bimi", {"evidence": "x"})], "streams.transactional.bimi.logo", "missing"),
    (
        "a verification that is an SPF record",
        [("verifications", ["v=spf1 -all"])],
        "verifications[0]",
        "spf1",
    ),
    (
        "a verification of two lines",
        [(f"{S}/verifications", ["google-site-verification=a\nb"])],
        "streams.transactional.verifications[0]",
        "printable",
    ),
    (
        "a verification twice",
        [(f"{S}/verifications", ["a=b", "a=b"])],
        "streams.transactional.verifications[1]",
        "twice",
    ),
    (
        "so many verifications that the answer is lost",
        [(f"{S}/verifications", [f"site-verification-{n}={'x' * 200}" for n in range(6)])],
        "streams.transactional",
        "1232",
    ),
    ("an issuer that is none", [("caa", {"issue": ["letsencrypt"]})], "caa.issue[0]", "letsencrypt"),
    ("a report address without mailto", [("caa", {"iodef": "a@example.com"})], "caa.iodef", "mailto"),
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
        "a policy host of ours and of somebody else",
        [(f"{S}/mta_sts", {"mode": "testing", "addresses": ["203.0.113.80"], "cname": "sts.example.org"})],
        "streams.transactional.mta_sts.cname",
        "alias",
    ),
    (
        "TLSA in a zone that is not signed",
        [(f"{S}/return_path", {"tlsa": [f"3 1 1 {'ab' * 32}"]})],
        "streams.transactional.return_path.tlsa",
        "example.com",
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
        "a selector of two labels",
        [(f"{S}/dkim", {"selector": "mail.eu"})],
        "streams.transactional.dkim.selector",
        "mail.eu",
    ),
    (
        "a selector too long for a date",
        [(f"{S}/dkim", {"selector": "m" * 41})],
        "streams.transactional.dkim.selector",
        "a date",
    ),
    (
        "selectors whose keys have names too long",
        [(f"{S}/domain", f"{('a' * 60 + '.') * 3}example.com"), (f"{S}/dkim", {"selector": "m" * 40})],
        "streams.transactional.dkim.selector",
        "240 can be kept",
    ),
    (
        "slots whose keys have names too long",
        [
            (f"{S}/domain", f"{('a' * 60 + '.') * 3}example.com"),
            (f"{S}/dkim", {"slots": ["m" * 40, "b"], "delegate": "d.example.com"}),
        ],
        "streams.transactional.dkim.slots",
        "240 can be kept",
    ),
    (
        "a delegated key whose name is too long only for a date",
        [(f"{S}/dkim", {"delegate": f"{('a' * 48 + '.') * 4}{'b' * 12}.example.com"})],
        "streams.transactional.dkim.delegate",
        "253 are allowed",
    ),
    (
        "keys renewed by age and by the calendar",
        [(f"{S}/dkim", {"rotation": {"every_days": 90, "quarters": [1]}})],
        "streams.transactional.dkim.rotation.quarters",
        "every_days",
    ),
    (
        "a fifth quarter",
        [("dkim", {"rotation": {"quarters": [1, 5]}})],
        "dkim.rotation.quarters[1]",
        "from 1 to 4",
    ),
    (
        "a quarter twice",
        [("dkim", {"rotation": {"quarters": [2, 2]}})],
        "dkim.rotation.quarters[1]",
        "twice",
    ),
    (
        "a calendar that nobody knows",
        [("dkim", {"rotation": {"months": [1]}})],
        "dkim.rotation.months",
        "every_days, quarters",
    ),
    (
        "keys renewed sooner than they can be",
        [(f"{S}/dkim", {"rotation": {"every_days": 7}})],
        "streams.transactional.dkim.rotation.every_days",
        "Write 8 or more",
    ),
    (
        "a retired key that is gone before its mail",
        [("dkim", {"keep_retired_seconds": 432000 + 4300 + 3599})],
        "dkim.keep_retired_seconds",
        f"Write {432000 + 4300 + 3600} or more",
    ),
    (
        "mail that waits longer than its key",
        [(f"{S}/queue_life_seconds", 1209600), (f"{S}/dkim", {"keep_retired_seconds": 604800})],
        "streams.transactional.dkim.keep_retired_seconds",
        "queue_life_seconds 1209600",
    ),
    ("a queue of no time", [(f"{S}/queue_life_seconds", 59)], "streams.transactional.queue_life_seconds", "60"),
    ("a queue of a year", [("queue_life_seconds", 31536000)], "queue_life_seconds", "2592000"),
    (
        "a first key that nobody understands",
        [(f"{S}/dkim", {"first_key": "later"})],
        "streams.transactional.dkim.first_key",
        "now, wait",
    ),
    (
        "one slot",
        [(f"{S}/dkim", {"slots": ["a"], "delegate": "dkim.example.com"})],
        "streams.transactional.dkim.slots",
        "two or more",
    ),
    (
        "a slot that DNS cannot hold",
        [(f"{S}/dkim", {"slots": ["a", "b_c", "d"], "delegate": "dkim.example.com"})],
        "streams.transactional.dkim.slots[1]",
        "b_c",
    ),
    (
        "a slot twice",
        [(f"{S}/dkim", {"slots": ["a", "b", "a"], "delegate": "dkim.example.com"})],
        "streams.transactional.dkim.slots[2]",
        "twice",
    ),
    (
        "a slot with the name of another's Ed25519 key",
        [(f"{S}/dkim", {"slots": ["a", "a-ed25519"], "delegate": "dkim.example.com"})],
        "streams.transactional.dkim.slots[1]",
        "Ed25519",
    ),
    (
        "slots without aliases",
        [(f"{S}/dkim", {"slots": ["a", "b"]})],
        "streams.transactional.dkim.slots",
        "delegate",
    ),
    (
        "new aliases wanted from somebody else for ever",
        [("zones/example.net", {"provider": "external"}), ("streams/cold/dkim", {"delegate": "dkim.example.com"})],
        "streams.cold.dkim.slots",
        "Write slots: [a, b]",
    ),
    (
        "a further domain that is the first",
        [(f"{S}/extra_domains", ["tx.example.com"])],
        "streams.transactional.extra_domains[0]",
        "twice",
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
        "a policy inherited from nowhere",
        [(f"{S}/dmarc", {"inherit": True})],
        "streams.transactional.dmarc.inherit",
        "organisational_dmarc",
    ),
    (
        "a policy inherited from a stranger",
        [("organisational_dmarc", {"policy": "reject"}), ("streams/cold/dmarc", {"inherit": True})],
        "streams.cold.dmarc.inherit",
        "example.net",
    ),
    (
        "a policy inherited and written",
        [("organisational_dmarc", {}), (f"{S}/dmarc", {"inherit": True, "policy": "reject"})],
        "streams.transactional.dmarc.policy",
        "inherits",
    ),
    (
        "two policies of the organisational domain",
        [("organisational_dmarc", {"policy": "reject"}), (f"{S}/domain", "example.com")],
        "streams.transactional",
        "dmarc1",
    ),
    (
        "reports of the organisational domain to strangers",
        [("organisational_dmarc", {"rua": ["d@reports.example.org"]})],
        "organisational_dmarc.rua",
        "reports.example.org",
    ),
    (
        "a policy for missing names nobody knows",
        [(f"{S}/dmarc", {"missing_policy": "rejekt"})],
        "streams.transactional.dmarc.missing_policy",
        "did you mean 'reject'",
    ),
    (
        "a logo whose inherited policy is none",
        [
            (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
            (f"{S}/dmarc", {"inherit": True}),
            ("organisational_dmarc", {"policy": "reject", "subdomain_policy": "none"}),
        ],
        "streams.transactional.bimi",
        "subdomain_policy none",
    ),
    (
        "a delegated key under a name too long",
        [(f"{S}/dkim", {"delegate": f"{('a' * 45 + '.') * 5}example.com"})],
        "streams.transactional.dkim.delegate",
        "253",
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
    ("a record without a reason", [("records", [{**RECORD, "reason": ""}])], "records[0].reason", "missing"),
    ("a record outside the zones", [("records", [{**RECORD, "name": "www.example.org"}])], "records[0]", "no zone"),
    ("a record of the server's", [("records", [{**RECORD, "type": "SOA"}])], "records[0]", "server"),
    ("a record with data of another type", [("records", [{**RECORD, "values": ["www"]}])], "records[0]", "www"),
    (
        "a record where the manifest stands",
        [("records", [{**RECORD, "name": "_mailops.example.com"}])],
        "records[0]",
        "reserved",
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
    ("a TTL that is none", [("records", [{**RECORD, "ttl_seconds": 1}])], "records[0].ttl_seconds", "1"),
    (
        "an address on a host without an engine",
        [("hosts/mta1/engine", "none")],
        "streams.bulk.addresses[0].host",
        "engine",
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
        ([("zones/example.net", {"provider": "external"})], "streams.cold.dkim.delegate"),
        ([(f"{S}/return_path", {"domain": "bounce.example.net"})], "streams.transactional.return_path.domain"),
        ([("hosts/mta3", {"ansible_host": "10.0.0.13"})], "hosts.mta3"),
        ([("hosts/web1", {"engine": "none"})], "hosts.web1"),
        (
            [("organisational_dmarc", {"policy": "none"}), (f"{S}/dmarc", {"missing_policy": "reject"})],
            "streams.transactional.dmarc.missing_policy",
        ),
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
    parsed, findings = parse.parse(changed(*changes))
    assert parsed is not None
    assert [finding.where for finding in findings if finding.severity == WARNING].count(where) >= 1
    assert not [finding for finding in findings if finding.severity == ERROR]


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


def test_the_fleet_sets_what_streams_do_not():
    parsed, _findings = parse.parse(
        changed(("dmarc", {"policy": "reject"}), ("streams/bulk/dmarc", {"alignment_dkim": "s"}), ("ttl_seconds", 60))
    )
    assert (parsed.streams["bulk"].dmarc.policy, parsed.streams["bulk"].dmarc.alignment_dkim) == ("reject", "s")
    assert parsed.streams["transactional"].dmarc.alignment_dkim == "r"
    assert parsed.streams["transactional"].ttl_seconds == 60


def test_names_become_a_labels():
    parsed, findings = parse.parse(
        changed(
            ("zones/bücher.example", {"provider": "powerdns", "credentials": "pdns"}),
            ("streams/bulk/extra_domains", ["News.Bücher.example."]),
        )
    )
    assert parsed is not None, [str(finding) for finding in findings]
    assert parsed.streams["bulk"].extra_domains == ("news.xn--bcher-kva.example",)


@given(st.data())
def test_a_fleet_in_fragments_is_the_same_fleet(data):
    parts = [{"streams": {}, "hosts": {}, "zones": {}} for _number in range(3)]
    for key, value in GOOD.items():
        if key not in merge.SECTIONS:
            data.draw(st.sampled_from(parts))[key] = value
            continue
        for name, item in value.items():
            data.draw(st.sampled_from(parts)).setdefault(key, {})[name] = item
    merged, findings = merge.fragments([(f"{number}.yml", part) for number, part in enumerate(parts)])
    assert findings == []
    assert parse.parse(merged)[0].streams.keys() == GOOD["streams"].keys()
    assert all(merged[section] == GOOD[section] for section in ("hosts", "zones", "streams"))


def test_a_thing_said_in_two_files_is_refused():
    _merged, findings = merge.fragments(
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


def records_of(*changes):
    parsed, findings = parse.parse(changed(*changes))
    assert parsed is not None, [str(finding) for finding in findings]
    return parsed, {(record["name"], record["type"]): record for record in derive.record_sets(parsed)}


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


def series_of(*changes):
    parsed, _records = records_of(*changes)
    return {(each["domain"], each["algorithm"]): each for each in derive.fleet_variables(parsed)["mta_dkim_series"]}


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


def test_what_a_stream_says_of_its_keys_goes_before_what_the_fleet_says():
    everywhere = {
        "selector": "mail",
        "rotation": {"every_days": 90},
        "first_key": "wait",
        "margin_seconds": 60,
        "keep_retired_seconds": 700000,
    }
    series = series_of(
        ("dkim", everywhere),
        ("queue_life_seconds", 259200),
        (f"{S}/dkim", {"rotation": {"quarters": [4, 2]}, "keep_retired_seconds": 800000}),
        ("streams/bulk/dkim", {"rotation": {"every_days": 0}, "delegate": "dkim.example.com", "slots": ["a", "b"]}),
        ("verify", {"sink_domain": "sink.example.org", "sink_host": "rx1"}),
        ("ttl_seconds", 300),
    )
    shown = {
        domain: [each[key] for key in ("every_days", "quarters", "keep_retired_seconds", "slots", "delegate")]
        for (domain, algorithm), each in series.items()
        if algorithm == "rsa"
    }
    assert shown == {
        "tx.example.com": [None, [2, 4], 800000, [], None],
        "news.example.com": [None, [], 700000, ["a", "b"], "dkim.example.com"],
        "example.net": [90, [], 700000, [], None],
    }
    for each in series.values():
        common = [each[key] for key in ("selector", "first_key", "margin_seconds", "ttl_seconds", "proof")]
        assert common == ["mail", "wait", 60, 300, True]


@pytest.mark.parametrize("seconds", [60, 3600, 86400, 432000, 2592000])
def test_a_retired_key_outlives_the_queue_unless_told_otherwise(seconds):
    parsed, findings = parse.parse(changed(("queue_life_seconds", seconds), ("streams/cold/queue_life_seconds", 7200)))
    assert findings == []
    for name, life in (("bulk", seconds), ("cold", 7200)):
        stream = parsed.streams[name]
        assert stream.dkim.keep_retired_seconds >= instances.last_try_seconds(life) + stream.ttl_seconds
        assert stream.queue_life_seconds == life


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


def test_warm_up_is_read_from_the_stream_before_the_fleet():
    days = ("streams/bulk/addresses/1/warmup_from", datetime.date(2026, 11, 9))  # YAML makes a date of it
    for changes, wanted in (
        ([], receivers.WARMUP_MESSAGES_PER_DAY),
        ([("warmup", {"messages_per_day": [5, 5, 10]})], (5, 5, 10)),
        ([("warmup", {"messages_per_day": [5]}), ("streams/bulk/warmup", {"messages_per_day": [7]})], (7,)),
    ):
        document = changed(("hosts/mta2/engine", "powermta"), days, *changes)
        document["streams"]["bulk"]["addresses"].append({"ip": "203.0.113.22", "host": "mta2", "share": 3})
        parsed, findings = parse.parse(document)
        assert errors(findings) == []
        assert parsed.streams["bulk"].warmup_messages_per_day == wanted
        assert parsed.streams["bulk"].addresses[1].warmup_from == "2026-11-09"


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


def test_a_host_without_an_engine_is_no_mta():
    parsed, findings = parse.parse(
        changed(("hosts/keys", {"engine": "none"}), ("key_host", "keys"), ("front", {"port": 2500, "default": "bulk"}))
    )
    assert findings == []
    assert derive.host_variables(parsed, "keys") == {"mta_engine": "none"}
    assert parsed.front.hosts == ("mta1", "mta2")
    assert {entry["host"] for entry in derive.fleet_variables(parsed)["mta_proof"]["listeners"]} == {"mta1", "mta2"}


def test_no_name_ever_has_two_spf_records():
    parsed, _findings = parse.parse(changed((f"{S}/addresses/0/ehlo", "tx.example.com")))
    for record in derive.record_sets(parsed):
        assert len([value for value in record["values"] if value.startswith("v=spf1")]) <= 1, record


def test_reports_to_another_zone_of_ours_are_authorised():
    parsed, _findings = parse.parse(GOOD)
    records = {(record["name"], record["type"]): record["values"] for record in derive.record_sets(parsed)}
    assert records[("example.net._report._dmarc.example.com", "TXT")] == ["v=DMARC1"]
    assert ("tx.example.com._report._dmarc.example.com", "TXT") not in records


FLEET_WIDE = [
    ("dkim", {"rsa_bits": 2050}, "dkim.rsa_bits"),
    ("dkim", {"rsa_bits": "x"}, "dkim.rsa_bits"),
    ("dkim", {"selector": "Mail_1"}, "dkim.selector"),
    ("dkim", {"algorithms": ["dsa"]}, "dkim.algorithms[0]"),
    ("dkim", {"delegate": "keys.example.org"}, "dkim.delegate"),
    ("dkim", {"keep_retired_seconds": 60}, "dkim.keep_retired_seconds"),
    ("dkim", {"rotation": {"every_days": 1}}, "dkim.rotation.every_days"),
    ("dkim", {"slots": ["a", "b"]}, "dkim.slots"),
    ("dmarc", {"policy": "x"}, "dmarc.policy"),
    ("dmarc", {"rua": ["d@reports.example.org"]}, "dmarc.rua"),
    ("mta_sts", {"mode": "x"}, "mta_sts.mode"),
    ("mta_sts", {"mode": "enforce", "host": "web9", "addresses": ["203.0.113.80"]}, "mta_sts.host"),
    ("mta_sts", {"mode": "enforce", "host": "mta1", "addresses": ["x"]}, "mta_sts.addresses[0]"),
    ("tls_rpt", ["x"], "tls_rpt[0]"),
    ("bimi", {"logo": "x"}, "bimi.logo"),
    ("bimi", {"logo": "https://example.com/l.svg"}, "bimi"),
    ("caa", {"issue": ["-"]}, "caa.issue[0]"),
    ("verifications", ["v=spf1 -all"], "verifications[0]"),
    ("warmup", {"messages_per_day": [0]}, "warmup.messages_per_day[0]"),
    ("ttl_seconds", 1, "ttl_seconds"),
    ("queue_life_seconds", 1, "queue_life_seconds"),
    ("max_message_bytes", 1, "max_message_bytes"),
    ("remove_received", 1, "remove_received"),
    ("bounce_host", "a b", "bounce_host"),
]


@pytest.mark.parametrize(("key", "value", "where"), FLEET_WIDE, ids=[f"{case[2]} {case[1]}" for case in FLEET_WIDE])
def test_a_wrong_value_of_the_fleet_is_one_finding_at_its_place(key, value, where):
    found = refused(changed((key, value)))
    assert [finding.where for finding in found] == [where]


def test_what_a_stream_says_itself_is_found_in_the_stream():
    found = refused(changed(("dkim", {"rsa_bits": 2050}), ("streams/cold/dkim", {"rsa_bits": 2051, "selector": "s2"})))
    assert [finding.where for finding in found] == ["dkim.rsa_bits", "streams.cold.dkim.rsa_bits"]
    found = refused(changed(("dkim", {"keep_retired_seconds": 60})))
    assert "(streams transactional, bulk, cold)" in found[0].why


CAA = {"issue": ["a.example"], "issuewild": ["b.example"], "iodef": "mailto:c@example.com"}


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({"issue": ["x.example"]}, {**CAA, "issue": ["x.example"]}),
        ({"issuewild": []}, {**CAA, "issuewild": []}),
        ({"iodef": "https://x.example/"}, {**CAA, "iodef": "https://x.example/"}),
        ({"iodef": None}, {**CAA, "iodef": None}),
        ({}, None),
        (None, None),
    ],
)
def test_what_a_stream_says_of_caa_goes_before_what_the_fleet_says_key_by_key(own, wanted):
    parsed, findings = parse.parse(changed(("caa", CAA), ("streams/cold/caa", own)))
    assert findings == []
    shown = {
        name: stream.caa
        and {key: list(value) if isinstance(value, tuple) else value for key, value in vars(stream.caa).items()}
        for name, stream in parsed.streams.items()
    }
    assert shown == {"transactional": CAA, "bulk": CAA, "cold": wanted}


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


def test_a_network_around_all_of_ipv4_in_ipv6_form_is_an_open_relay():
    for network in ("::fffe:0:0/95", "::/64", "::/16"):
        assert "open relay" in refused(changed((f"{S}/inject_from", [network])))[0].why


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


def test_the_stand_in_of_tests_is_a_warning_and_no_suggestion():
    parsed, findings = parse.parse(changed(("zones/example.com", {"provider": "memory"})))
    assert parsed is not None
    assert [(finding.where, finding.severity) for finding in findings] == [("zones.example.com.provider", WARNING)]
    assert "memory" not in findings[0].remedy
    assert "memory" not in str(refused(changed(("zones/example.com/provider", "memry")))[0]).replace("memry", "")


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (
            "hosts/mta1/interface",
            ["eth0", "enp3s0f1", "eth0.100", "br-12ab", "x" * 15, None, ""],
            ["x" * 16, "a/b", "a b", "-a", "..", "eth0\nlink del eth0", "é", "a:1", 5.5, ["eth0"]],
        ),
        ("zones/example.com/credentials", ["pdns", "pdns_2", "a.b-c"], ["a b", "-a", "a\nb", "x" * 65, "é", {"a": 1}]),
    ],
)
def test_names_of_interfaces_and_credentials_are_strict(path, right, wrong):
    for value in right:
        assert parse.parse(changed((path, value)))[0] is not None
    for value in wrong:
        assert path.replace("/", ".") in [finding.where for finding in refused(changed((path, value)))]
    for value in ("rx 1", "rx1\n", "-rx", "rx/1"):
        sink = {"sink_domain": "sink.example.org", "sink_host": value}
        assert [finding.where for finding in refused(changed(("verify", sink)))] == ["verify.sink_host"]


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
