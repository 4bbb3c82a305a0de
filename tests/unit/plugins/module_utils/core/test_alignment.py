# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the proof: what the fleet derives passes, every loss is caught, and what is unknown never passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.mailops.mta.plugins.module_utils.core import alignment, derive, fleet, names, spf, tags
from ansible_collections.mailops.mta.plugins.module_utils.core.answers import (
    NO,
    UNKNOWN,
    YES,
    Answer,
    Answers,
    Question,
)
from hypothesis import given
from hypothesis import strategies as st

TOP = Path(__file__).resolve().parents[5]
KEY = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="


def load(name, changes=()):
    document = yaml.safe_load((TOP / "inventories" / name / "fleet.yml").read_text())
    for (*way, last), value in changes:
        place = document
        for step in way:
            place = place[step]
        place[last] = value
    value, findings = fleet.parse(document)
    if value is None:
        pytest.fail("\n".join(map(str, findings)))
    return value


LAB = load("lab")
# The lab with a record of every kind.
RICH = load(
    "lab",
    [
        (("organisational_dmarc",), {"policy": "reject", "rua": ["d@acme-outreach.test"]}),
        (("dmarc",), {"policy": "reject"}),
        (("zones", "acme.test", "signed"), True),
        (("verifications",), ["google-site-verification=abc"]),
        (("caa",), {"issue": ["ca.test"]}),
        (("records",), [{"name": "www.acme.test", "type": "A", "values": ["198.18.0.9"], "reason": "web"}]),
        (("hosts", "web1"), {"engine": "none"}),
        (("streams", "transactional", "dmarc"), {"inherit": True}),
        (("streams", "transactional", "bimi"), {"logo": "https://acme.test/l.svg"}),
        (("streams", "transactional", "return_path"), {"mx": ["mx.acme.test"], "tlsa": [f"3 1 1 {'ab' * 32}"]}),
        (("streams", "marketing", "mta_sts"), {"mode": "testing", "cname": "sts.sink.test"}),
        (
            ("streams", "bulk", "mta_sts"),
            {"mode": "testing", "host": "web1", "addresses": ["198.18.0.8", "fd00:198:18::8"]},
        ),
        (
            ("streams", "bulk", "addresses"),
            [{"ip": f"198.18.2.{2 * n}", "host": "mta1", "ehlo": f"n{n}.acme.test"} for n in range(28)],
        ),
        (("streams", "cold", "dkim"), {"algorithms": ["rsa"], "delegate": "dkim.acme.test"}),
    ],
)
EXPECTED = alignment.expectations(LAB)


def world(lab=LAB):
    """Every answer that the lab's derived records give, and what others publish."""
    known = {}
    for entry in derive.record_sets(lab):
        known[Question(entry["name"], entry["type"])] = Answer(YES, tuple(entry["values"]))
    for key in derive.fleet_variables(lab)["mta_dkim_keys"]:
        known[Question(key["record"], "TXT")] = Answer(YES, (tags.dkim(key["algorithm"], KEY),))
    for host in {host for stream in lab.streams.values() for host in stream.return_path.mx}:
        known[Question(host, "A")] = Answer(YES, ("198.18.0.80",))
    return known


def prove(known, seen=None, expected=None, **only):
    while True:
        answers = Answers(known)
        proof = alignment.judge(expected or EXPECTED, answers, seen or alignment.Seen(), **only)
        if not answers.wanted:
            return proof
        known = {**{question: ask(known, question) for question in answers.wanted}, **known}


def ask(known, question):
    """As a resolver: through the alias, if there is one."""
    alias = known.get(Question(question.name, "CNAME"))
    if alias is None or question.rtype == "CNAME" or alias.status != YES:
        return alias if alias and alias.status == UNKNOWN else Answer(NO)
    return known.get(Question(alias.values[0], question.rtype), Answer(NO))


def sent_and_seen():
    by_label = {address["label"]: address for address in EXPECTED["addresses"]}
    path = {stream["name"]: stream["return_path"]["domain"] for stream in EXPECTED["streams"]}
    keys = [key for stream in EXPECTED["streams"] for key in stream["dkim"]]
    probes, lines = [], []
    for number, probe in enumerate(EXPECTED["probes"]):
        address = by_label[probe["label"]]
        message_id = f"<{number}@{probe['domain']}>"
        probes.append({**probe, "message_id": message_id, "error": None})
        lines.append(
            {
                "event": "accepted",
                "message_id": message_id,
                "source_ip": address["ips"][-1],
                "ehlo": address["ehlo"],
                "tls": {"version": "TLSv1.3"},
                "mail_from": f"bounce@{path[probe['stream']]}",
                "spf": {"result": "pass"},
                "dkim": [{**key, "result": "pass"} for key in keys if key["domain"] == probe["domain"]],
                "dmarc": {"result": "pass"},
                "headers": ["From", "To"],
            }
        )
    return probes, lines


def states(proof, check):
    return {row["address"].split()[0]: row[check] for row in proof.rows}


def test_expectations_are_plain_data():
    assert json.loads(json.dumps(EXPECTED)) == EXPECTED


def test_what_the_fleet_derives_passes_and_nobody_else_was_asked():
    proof = prove(world())
    assert proof.findings == ()
    assert len(proof.rows) == len(LAB.addresses())
    for row in proof.rows:
        assert {row[check] for check in ("fcrdns", "spf", "dkim", "dmarc", "mx", "reports", "records")} == {"ok"}
        assert {row[check] for check in ("source", "tls", "relay")} == {"-"}


RECORDS = sorted(world(), key=lambda question: (question.name, question.rtype))


@pytest.mark.parametrize("lost", RECORDS, ids=lambda question: f"{question.name}-{question.rtype}")
def test_each_lost_record_is_an_error_and_each_unknown_one_is_unknown(lost):
    known = world()
    for answer, state in ((Answer(NO), "FAIL"), (Answer(UNKNOWN, detail="SERVFAIL"), "unknown")):
        proof = prove({**known, lost: answer})
        assert {finding.severity for finding in proof.findings} == {"error"}
        assert any(state in row.values() for row in proof.rows)
        assert ("unknown" in str(proof.findings)) == (state == "unknown")


RICH_EXPECTED = alignment.expectations(RICH)
RICH_WORLD = world(RICH)
NEW = sorted(set(RICH_WORLD) - set(RECORDS), key=lambda question: (question.name, question.rtype))


def test_records_of_every_kind_pass():
    assert prove(RICH_WORLD, expected=RICH_EXPECTED).findings == ()
    assert {"A", "AAAA", "CAA", "CNAME", "MX", "PTR", "TLSA", "TXT"} <= {question.rtype for question in RICH_WORLD}
    assert Question("_spf1.news.acme.test", "TXT") in NEW


@pytest.mark.parametrize("lost", NEW, ids=lambda question: f"{question.name}-{question.rtype}")
def test_each_lost_record_of_every_kind_is_an_error(lost):
    for answer, state in ((Answer(NO), "FAIL"), (Answer(UNKNOWN, detail="SERVFAIL"), "unknown")):
        proof = prove({**RICH_WORLD, lost: answer}, expected=RICH_EXPECTED)
        assert {finding.severity for finding in proof.findings} == {"error"}
        assert any(state in row.values() for row in proof.rows)


def test_each_lost_value_is_an_error():
    for record in RICH_EXPECTED["records"]:
        question = Question(record["name"], record["type"])
        for value in record["values"]:
            left = tuple(each for each in RICH_WORLD[question].values if each != value)
            proof = prove({**RICH_WORLD, question: Answer(YES, (*left, "203.0.113.1"))}, expected=RICH_EXPECTED)
            assert any(value in finding.why for finding in proof.findings)


def test_a_policy_that_hides_the_inherited_one_is_an_error():
    stray = {Question("_dmarc.tx.acme.test", "TXT"): Answer(YES, ("v=DMARC1; p=none",))}
    proof = prove({**RICH_WORLD, **stray}, expected=RICH_EXPECTED)
    assert ["inherit" in finding.why for finding in proof.findings] == [True]


def test_a_stranger_in_a_part_of_spf_is_an_error():
    part = Question("_spf1.news.acme.test", "TXT")
    wider = RICH_WORLD[part].values[0].replace("v=spf1", "v=spf1 ip4:203.0.113.0/24")
    proof = prove({**RICH_WORLD, part: Answer(YES, (wider,))}, expected=RICH_EXPECTED)
    assert [finding.where for finding in proof.findings] == ["_spf1.news.acme.test TXT (SPF)"]


def test_a_delegated_key_is_compared_with_the_key_host():
    keys = [
        {"name": key["record"], "values": [tags.dkim(key["algorithm"], KEY)]}
        for stream in RICH_EXPECTED["streams"]
        for key in stream["dkim"]
    ]
    assert prove(RICH_WORLD, alignment.Seen(keys=keys), RICH_EXPECTED).findings == ()
    keys[-1]["values"] = [tags.dkim("rsa", "AAAA")]
    assert "another public key" in str(prove(RICH_WORLD, alignment.Seen(keys=keys), RICH_EXPECTED).findings)


@given(st.sets(st.sampled_from(RECORDS), min_size=1))
def test_unknown_answers_never_make_an_ok(lost):
    known = world()
    proof = prove({**known, **{question: Answer(UNKNOWN, detail="time-out") for question in lost}})
    assert proof.findings
    assert all(finding.found.startswith("unknown (") for finding in proof.findings)
    gone = {question.name for question in lost if question.rtype == "PTR"}
    for row in proof.rows:
        if {names.reverse_name(ip) for ip in row["address"].split()} & gone:
            assert row["fcrdns"] == "unknown"


def test_what_arrived_well_passes():
    probes, lines = sent_and_seen()
    proof = prove(world(), alignment.Seen(observations=lines, probes=probes, relay=relay("refused")))
    assert proof.findings == ()
    assert {row[check] for row in proof.rows for check in alignment.CHECKS} == {"ok"}


@pytest.mark.parametrize(
    ("wrong", "check", "state", "says"),
    [
        ({"source_ip": "198.18.0.11"}, "source", "FAIL", "another address"),
        ({"ehlo": "localhost"}, "source", "FAIL", "EHLO 'localhost'"),
        ({"mail_from": "app@other.test"}, "source", "FAIL", "bounces are to go"),
        ({"headers": ["from", "x-binding"]}, "source", "FAIL", "X-Binding"),
        ({"event": "rejected", "answer": "550 no"}, "source", "FAIL", "550 no"),
        ({"tls": None}, "tls", "FAIL", "no TLS"),
        ({"spf": {"result": "softfail"}}, "spf", "FAIL", "SPF softfail"),
        ({"spf": {"result": "temperror"}}, "spf", "unknown", "SPF temperror"),
        ({"dkim": []}, "dkim", "FAIL", "no signature"),
        ({"dmarc": {"result": "fail"}}, "dmarc", "FAIL", "DMARC fail"),
        ({"dmarc": None}, "dmarc", "unknown", "not evaluated"),
        ({"message_id": "<another>"}, "source", "unknown", "has not seen it"),
    ],
)
def test_what_arrived_badly_is_caught(wrong, check, state, says):
    probes, lines = sent_and_seen()
    lines[0].update(wrong)
    proof = prove(world(), alignment.Seen(observations=lines, probes=probes))
    first = EXPECTED["addresses"][0]["ips"][0]
    assert states(proof, check)[first] == state
    assert [says in str(finding) for finding in proof.findings] == [True] * len(proof.findings) != []


def test_a_probe_that_was_not_sent_is_unknown():
    probes, lines = sent_and_seen()
    probes[0]["error"] = "ConnectionRefusedError: refused"
    gone = probes.pop(3)
    proof = prove(world(), alignment.Seen(observations=lines[1:], probes=probes))
    assert "ConnectionRefusedError" in str(proof.findings[0])
    assert any(gone["label"] in finding.where for finding in proof.findings)


def relay(state, host=None):
    return [
        {"host": entry["host"], "ip": ip, "port": port, "state": state if host in (None, entry["host"]) else "refused"}
        for entry in EXPECTED["listeners"]
        for ip in entry["ips"]
        for port in entry["ports"]
    ]


@pytest.mark.parametrize(
    ("state", "seen"),
    [("refused", "ok"), ("closed", "ok"), ("open", "FAIL"), ("filtered", "unknown"), ("unknown", "unknown")],
)
def test_the_relay_column_says_what_the_probe_found(state, seen):
    proof = prove(world(), alignment.Seen(relay=relay(state)))
    assert set(states(proof, "relay").values()) == {seen}
    assert bool(proof.findings) == (seen != "ok")


def test_a_firewall_is_no_fault_where_the_vantage_has_mail_from_that_host():
    probes, lines = sent_and_seen()
    proof = prove(world(), alignment.Seen(observations=lines, probes=probes, relay=relay("filtered")))
    assert set(states(proof, "relay").values()) == {"ok"}


def test_an_open_relay_is_the_fault_of_its_host_only():
    proof = prove(world(), alignment.Seen(relay=relay("open", host="mta1")))
    assert {(row["host"], row["relay"]) for row in proof.rows} == {("mta1", "FAIL"), ("mta2", "ok")}
    assert prove(world(), alignment.Seen(relay=relay("open", host="mta1")), hosts=["mta2"]).findings == ()


def test_keys_of_the_key_host_must_be_the_published_ones():
    keys = [
        {"name": key["record"], "values": [tags.dkim(key["algorithm"], KEY)]}
        for stream in EXPECTED["streams"]
        for key in stream["dkim"]
    ]
    assert prove(world(), alignment.Seen(keys=keys)).findings == ()
    keys[0]["values"] = [tags.dkim("rsa", "AAAA")]
    assert "another public key" in str(prove(world(), alignment.Seen(keys=keys)).findings[0])
    for values in (None, [None], []):
        keys[0]["values"] = values
        assert "has no key" in str(prove(world(), alignment.Seen(keys=keys)).findings[0])


def test_limits_choose_rows():
    assert {row["host"] for row in prove(world(), hosts=["mta2"]).rows} == {"mta2"}
    assert {row["stream"] for row in prove(world(), streams=["bulk"]).rows} == {"bulk"}
    assert prove({}, streams=["bulk"]).findings
    assert all("cold" not in str(finding) for finding in prove({}, streams=["bulk"]).findings)


def test_the_table_shows_every_address_and_every_finding():
    proof = prove({})
    lines = alignment.lines(proof, "a note")
    text = "\n".join(lines)
    assert all(row["address"] in text for row in proof.rows)
    assert all(str(finding) in text for finding in proof.findings)
    assert lines[0].split()[:3] == ["stream", "host", "address"]
    assert lines[-2] == "a note"
    assert lines[-1].endswith("errors, 0 warnings")


def test_a_policy_that_is_still_wide_is_a_doubt_and_no_failure():
    known = world()
    stream = EXPECTED["streams"][1]
    name = stream["return_path"]["domain"]
    wide = spf.widened(stream["spf"], tags.spf(["192.0.2.99"]))
    known[Question(name, "TXT")] = Answer(
        YES, tuple(wide if tags.is_spf(text) else text for text in known[Question(name, "TXT")].values)
    )
    proof = alignment.judge(EXPECTED, Answers(known), alignment.Seen())
    rows = {row["spf"] for row in proof.rows if row["stream"] == stream["name"]}
    assert rows == {"warn"}
    assert [
        (finding.severity, "192.0.2.99" in finding.found) for finding in proof.findings if "SPF" in finding.where
    ] == [("warning", True)]
