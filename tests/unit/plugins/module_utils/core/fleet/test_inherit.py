# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fleet says holds for every stream that does not say otherwise, by one rule for all keys."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import instances
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import inherit, parse
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Bimi
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    REMOVE,
    S,
    changed,
    records_of,
    refused,
    refused_at,
    series_of,
)

WRONG = [
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
    ("a DMARC tag of the past", [(f"{S}/dmarc", {"pct": 50})], "streams.transactional.dmarc.pct", "RFC 9989"),
    (
        "a DMARC policy nobody knows",
        [(f"{S}/dmarc", {"policy": "quarantaine"})],
        "streams.transactional.dmarc.policy",
        "did you mean 'quarantine'",
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
    ("a schedule without messages", [("warmup", {"messages_per_day": [50, 0]})], "warmup.messages_per_day[1]", "0"),
    (
        "a schedule of something else",
        [("streams/bulk/warmup", {"messages_per_hour": [50]})],
        "streams.bulk.warmup.messages_per_hour",
        "messages_per_day",
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
    ("an issuer that is none", [("caa", {"issue": ["letsencrypt"]})], "caa.issue[0]", "letsencrypt"),
    ("a report address without mailto", [("caa", {"iodef": "a@example.com"})], "caa.iodef", "mailto"),
    (
        "a policy host of ours and of somebody else",
        [(f"{S}/mta_sts", {"mode": "testing", "addresses": ["203.0.113.80"], "cname": "sts.example.org"})],
        "streams.transactional.mta_sts.cname",
        "alias",
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
        "a policy inherited and written",
        [("organisational_dmarc", {}), (f"{S}/dmarc", {"inherit": True, "policy": "reject"})],
        "streams.transactional.dmarc.policy",
        "inherits",
    ),
    (
        "a policy for missing names nobody knows",
        [(f"{S}/dmarc", {"missing_policy": "rejekt"})],
        "streams.transactional.dmarc.missing_policy",
        "did you mean 'reject'",
    ),
    ("MTA-STS in a mode nobody knows", [(f"{S}/mta_sts", {"mode": "on"})], "streams.transactional.mta_sts.mode", "on"),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


def test_the_fleet_sets_what_streams_do_not():
    parsed, _findings = parse.parse(
        changed(("dmarc", {"policy": "reject"}), ("streams/bulk/dmarc", {"alignment_dkim": "s"}), ("ttl_seconds", 60))
    )
    assert (parsed.streams["bulk"].dmarc.policy, parsed.streams["bulk"].dmarc.alignment_dkim) == ("reject", "s")
    assert parsed.streams["transactional"].dmarc.alignment_dkim == "r"
    assert parsed.streams["transactional"].ttl_seconds == 60


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
    (
        "mta_sts",
        {"mode": "testing", "host": "mta1", "addresses": ["203.0.113.80"], "cname": "sts.example.org"},
        "mta_sts.cname",
    ),
    ("dmarc", {"inherit": False, "rua": [1]}, "dmarc.rua[0]"),
    ("receivers", {"google": {"concurrency": 0}}, "receivers.google.concurrency"),
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


# A value of each key; nothing in here is a default.
VALUES = {
    "dkim": {
        "algorithms": ["rsa"],
        "rsa_bits": 3072,
        "selector": "mail",
        "delegate": "dkim.example.com",
        "slots": ["a", "b"],
        "rotation": {"every_days": 90},
        "first_key": "wait",
        "margin_seconds": 60,
        "keep_retired_seconds": 700000,
    },
    "dmarc": {
        "policy": "reject",
        "subdomain_policy": "quarantine",
        "missing_policy": "reject",
        "testing": True,
        "rua": ["reports@example.com"],
        "alignment_dkim": "s",
        "alignment_spf": "s",
        "rua_authorised": ["example.org"],
        "inherit": False,
    },
    "mta_sts": {"mode": "enforce", "max_age_seconds": 86400, "host": "mta1", "addresses": ["203.0.113.80"]},
    "tls_rpt": ["tls@example.net"],
    "bimi": {"logo": "https://example.com/l.svg", "evidence": "https://example.com/l.pem"},
    "caa": CAA,
    "verifications": ["a=b"],
    "receivers": {"google": {"concurrency": 3, "messages_per_connection": 7}, "default": {"rate_delay_seconds": 9}},
    "ttl_seconds": 60,
    "queue_life_seconds": 86400,
    "warmup": {"messages_per_day": [5, 10]},
    "max_message_bytes": 70000,
    "remove_received": True,
}
ENFORCED = ("streams/bulk/dmarc", {"policy": "reject"})  # which a logo needs
OFF = (None, "", [], {})
NO_DEFAULT = {("tls_rpt",): (), ("dmarc", "rua"): ()}  # switched off, these are none; all others are the default


def bulk(*changes):
    """The stream bulk of the changed file, which has no other, or what is wrong with the file."""
    parsed, findings = parse.parse(changed(("streams/transactional", REMOVE), ("streams/cold", REMOVE), *changes))
    return parsed.streams["bulk"] if parsed else {finding.found for finding in errors(findings)}


def base(key):
    return [ENFORCED] if key == "bimi" else []


def subkeys():
    return [(key, sub) for key, value in VALUES.items() if isinstance(value, dict) for sub in value]


def test_the_laws_below_hold_for_every_key():
    assert VALUES.keys() == {*inherit.KEYS, "receivers"}


@pytest.mark.parametrize("key", VALUES)
def test_what_the_fleet_says_is_as_if_the_stream_said_it(key):
    wanted = bulk((f"streams/bulk/{key}", VALUES[key]), *base(key))
    assert wanted == bulk((key, VALUES[key]), *base(key)) != bulk(*base(key))


@pytest.mark.parametrize("off", OFF, ids=repr)
@pytest.mark.parametrize("key", VALUES)
def test_an_empty_value_switches_off_what_the_fleet_says(key, off):
    wanted = bulk(*base(key))
    if (key,) in NO_DEFAULT:
        wanted = dataclasses.replace(wanted, **{key: NO_DEFAULT[key,]})
    assert bulk((key, VALUES[key]), (f"streams/bulk/{key}", off), *base(key)) == wanted
    assert bulk((key, off), *base(key)) == wanted


@pytest.mark.parametrize(("key", "sub"), subkeys(), ids=lambda each: each)
def test_mappings_are_merged_key_by_key(key, sub):
    without = {name: value for name, value in VALUES[key].items() if name != sub}
    whole = bulk((key, VALUES[key]), *base(key))
    assert bulk((key, without), (f"streams/bulk/{key}", {sub: VALUES[key][sub]}), *base(key)) == whole


@pytest.mark.parametrize("off", OFF, ids=repr)
@pytest.mark.parametrize(("key", "sub"), subkeys(), ids=lambda each: each)
def test_an_empty_value_in_a_mapping_switches_off_that_key_alone(key, sub, off):
    wanted = bulk((key, {name: value for name, value in VALUES[key].items() if name != sub}), *base(key))
    if (key, sub) in NO_DEFAULT:
        wanted = dataclasses.replace(
            wanted, **{key: dataclasses.replace(getattr(wanted, key), **{sub: NO_DEFAULT[key, sub]})}
        )
    assert bulk((key, VALUES[key]), (f"streams/bulk/{key}", {sub: off}), *base(key)) == wanted


@pytest.mark.parametrize("sub", ["google", "default"])
def test_limits_of_a_receiver_group_are_merged_key_by_key(sub):
    fleet = ("receivers", {sub: {"concurrency": 3, "tls": "may"}})
    limits = bulk(fleet, ("streams/bulk/receivers", {sub: {"tls": None, "rate_delay_seconds": 2}})).limits
    builtin = {group.name: group.limits for group in receivers.DEFAULTS}
    assert limits == {**builtin, sub: dataclasses.replace(builtin[sub], concurrency=3, rate_delay_seconds=2)}


@pytest.mark.parametrize(
    ("fleet", "own", "wanted"),
    [
        ({"every_days": 90}, {"quarters": [2]}, (None, (2,))),
        ({"quarters": [2]}, {"every_days": 90}, (90, ())),
        ({"quarters": [2]}, {"every_days": 0}, (None, ())),
        ({"every_days": 90}, {"quarters": []}, (90, ())),
        ({"every_days": 90}, {"every_days": None}, (None, (1, 3))),
        ({"quarters": [2]}, {"quarters": []}, (None, (1, 3))),
        ({"every_days": 0}, {}, (None, (1, 3))),
    ],
)
def test_age_and_calendar_of_a_key_exclude_each_other(fleet, own, wanted):
    found = bulk(("dkim", {"rotation": fleet}), ("streams/bulk/dkim", {"rotation": own})).dkim
    assert (found.every_days, found.quarters) == wanted


@pytest.mark.parametrize(
    ("fleet", "own"),
    [
        ({"host": "mta1", "addresses": ["203.0.113.80"]}, {"cname": "sts.example.org"}),
        ({"cname": "sts.example.org"}, {"host": "mta1", "addresses": ["203.0.113.80"]}),
    ],
)
def test_an_alias_and_addresses_of_a_policy_host_exclude_each_other(fleet, own):
    assert bulk(("mta_sts", fleet), ("streams/bulk/mta_sts", own)) == bulk(("streams/bulk/mta_sts", own))


def test_without_report_addresses_no_record_asks_for_reports():
    _parsed, records = records_of(("streams/bulk/tls_rpt", None), ("streams/bulk/dmarc", {"rua": []}))
    assert ("_smtp._tls.news.example.com", "TXT") not in records
    assert ("_smtp._tls.tx.example.com", "TXT") in records
    assert records["_dmarc.news.example.com", "TXT"]["values"] == ["v=DMARC1; p=none"]


@pytest.mark.parametrize("off", OFF, ids=repr)
def test_an_empty_policy_of_the_organisational_domain_is_none(off):
    parsed, records = records_of(("organisational_dmarc", off))
    assert parsed.organisational_dmarc is None
    assert ("_dmarc.example.com", "TXT") not in records


def test_a_logo_may_be_the_streams_and_its_certificate_the_fleets():
    evidence = {"evidence": "https://example.com/l.pem"}
    own = [(f"streams/{name}/bimi", {"logo": f"https://example.com/{name}.svg"}) for name in ("transactional", "bulk")]
    changes = (("bimi", evidence), ("dmarc", {"policy": "reject"}), *own)
    assert [finding.where for finding in refused(changed(*changes))] == ["bimi.logo"]
    parsed, findings = parse.parse(changed(*changes, ("streams/cold/bimi", None)))
    assert findings == []
    for name in ("transactional", "bulk"):
        assert parsed.streams[name].bimi == Bimi(f"https://example.com/{name}.svg", evidence["evidence"])
    assert parsed.streams["cold"].bimi is None


@pytest.mark.parametrize("own", [None, {"rsa_bits": 3072}])
def test_a_wrong_value_of_the_fleet_is_found_where_every_stream_has_its_own(own):
    streams = [(f"streams/{name}/dkim", own) for name in ("transactional", "bulk", "cold")]
    found = refused(changed(("dkim", {"rsa_bits": 2050}), *streams))
    assert [finding.where for finding in found] == ["dkim.rsa_bits"]


def test_what_follows_from_a_switched_off_key_is_found_in_the_stream():
    parsed, findings = parse.parse(
        changed(
            ("zones/example.net", {"provider": "external"}),
            ("dkim", {"delegate": "dkim.example.com", "slots": ["a", "b"]}),
            ("streams/cold/dkim", None),
        )
    )
    assert parsed is not None
    assert [(finding.where, finding.found) for finding in findings] == [("streams.cold.dkim.delegate", "missing")]


@pytest.mark.parametrize("first", ["default", "corp"])
def test_a_new_receiver_group_has_the_limits_of_the_default_group(first):
    groups = {"default": {"concurrency": 3}, "corp": {"domains": ["corp.example"], "tls": "encrypt"}}
    ordered = {name: groups[name] for name in (first, *groups)}
    found = bulk(("receivers", ordered)).limits
    assert found["corp"] == dataclasses.replace(found["default"], tls="encrypt")
    assert found["default"].concurrency == 3
    off = bulk(("receivers", ordered), ("streams/bulk/receivers", {"corp": None})).limits
    assert off["corp"] == off["default"] == found["default"]
