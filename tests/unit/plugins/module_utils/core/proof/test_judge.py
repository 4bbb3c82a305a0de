# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the proof: what the fleet derives passes, every loss is caught, and what is unknown never passes."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life as rotation
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import (
    NO,
    UNKNOWN,
    YES,
    Answer,
    Answers,
    Question,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, parse
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies, spf
from ansible_collections.mailops.mta.plugins.module_utils.core.proof import judge
from hypothesis import given
from hypothesis import strategies as st

TOP = Path(__file__).resolve().parents[6]
KEY = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="


def load(name, changes=()):
    document = yaml.safe_load((TOP / "inventories" / name / "fleet.yml").read_text())
    for (*way, last), value in changes:
        place = document
        for step in way:
            place = place[step]
        place[last] = value
    value, findings = parse.parse(document)
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
EXPECTED = judge.expectations(LAB)


def keys_of(lab=LAB):
    """The record sets of the key host. As a key that is taken over: by its bare name, active, and signed with."""
    found = []
    for each in derive.fleet_variables(lab)["mta_dkim_series"]:
        suffix = "-ed25519" if each["algorithm"] == "ed25519" else ""
        found += key_sets(each, (each["slots"] or [each["selector"]])[0] + suffix, KEY)
    return found


def key_sets(series, selector, key, life="active", *, signs=True, state="present"):
    domain, algorithm = series["domain"], series["algorithm"]
    common = {"domain": domain, "algorithm": algorithm, "selector": selector, "life": life, "signs": signs}
    alias, name = names.alias_name(domain, selector), names.record_name(domain, selector, series["delegate"])
    text = "v=DKIM1; p=" if life == "revoked" else policies.dkim(algorithm, key)
    sets = [{"name": name, "type": "TXT", "values": [text], "state": state, **common}]
    if alias != name:
        sets.append({"name": alias, "type": "CNAME", "values": [name], "state": state, **common})
    return sets


def stands(sets):
    return {Question(each["name"], each["type"]): Answer(YES, tuple(each["values"])) for each in sets}


def world(lab=LAB):
    """Every answer that the lab's derived records give, and what others publish."""
    known = {}
    for entry in derive.record_sets(lab):
        known[Question(entry["name"], entry["type"])] = Answer(YES, tuple(entry["values"]))
    known.update(stands(keys_of(lab)))
    for host in {host for stream in lab.streams.values() for host in stream.return_path.mx}:
        known[Question(host, "A")] = Answer(YES, ("198.18.0.80",))
    return known


def prove(known, seen=None, lab=LAB, **only):
    seen = seen or judge.Seen()
    if seen.keys is None:
        seen = dataclasses.replace(seen, keys=keys_of(lab))
    return prove_as_it_is(known, seen, lab, **only)


def prove_as_it_is(known, seen, lab=LAB, **only):
    while True:
        answers = Answers(known)
        proof = judge.judge(EXPECTED if lab is LAB else RICH_EXPECTED, answers, seen, **only)
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
    keys = [key for key in keys_of() if key["type"] == "TXT"]
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
                "dkim": [
                    {"domain": key["domain"], "selector": key["selector"], "result": "pass"}
                    for key in keys
                    if key["domain"] == probe["domain"]
                ],
                "dmarc": {"result": "pass"},
                "headers": ["From", "To"],
            }
        )
    for probe in EXPECTED["intruders"]:
        refusal = "SMTPDataError: (554, b'5.7.1 stream a sends From its own domains only')"
        probes.append({**probe, "message_id": "<intruder>", "error": refusal})
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


RICH_EXPECTED = judge.expectations(RICH)
RICH_WORLD = world(RICH)
NEW = sorted(set(RICH_WORLD) - set(RECORDS), key=lambda question: (question.name, question.rtype))


def test_records_of_every_kind_pass():
    assert prove(RICH_WORLD, lab=RICH).findings == ()
    assert {"A", "AAAA", "CAA", "CNAME", "MX", "PTR", "TLSA", "TXT"} <= {question.rtype for question in RICH_WORLD}
    assert Question("_spf1.news.acme.test", "TXT") in NEW


@pytest.mark.parametrize("lost", NEW, ids=lambda question: f"{question.name}-{question.rtype}")
def test_each_lost_record_of_every_kind_is_an_error(lost):
    for answer, state in ((Answer(NO), "FAIL"), (Answer(UNKNOWN, detail="SERVFAIL"), "unknown")):
        proof = prove({**RICH_WORLD, lost: answer}, lab=RICH)
        assert {finding.severity for finding in proof.findings} == {"error"}
        assert any(state in row.values() for row in proof.rows)


def test_each_lost_value_is_an_error():
    for record in RICH_EXPECTED["records"]:
        question = Question(record["name"], record["type"])
        for value in record["values"]:
            left = tuple(each for each in RICH_WORLD[question].values if each != value)
            proof = prove({**RICH_WORLD, question: Answer(YES, (*left, "203.0.113.1"))}, lab=RICH)
            assert any(value in finding.why for finding in proof.findings)


def test_a_policy_that_hides_the_inherited_one_is_an_error():
    stray = {Question("_dmarc.tx.acme.test", "TXT"): Answer(YES, ("v=DMARC1; p=none",))}
    proof = prove({**RICH_WORLD, **stray}, lab=RICH)
    assert ["inherit" in finding.why for finding in proof.findings] == [True]


def test_a_stranger_in_a_part_of_spf_is_an_error():
    part = Question("_spf1.news.acme.test", "TXT")
    wider = RICH_WORLD[part].values[0].replace("v=spf1", "v=spf1 ip4:203.0.113.0/24")
    proof = prove({**RICH_WORLD, part: Answer(YES, (wider,))}, lab=RICH)
    assert [finding.where for finding in proof.findings] == ["_spf1.news.acme.test TXT (SPF)"]


def test_a_delegated_key_is_judged_by_its_alias_and_compared_with_the_key_host():
    keys = keys_of(RICH)
    assert keys[-1]["type"] == "CNAME"
    assert prove(RICH_WORLD, lab=RICH).findings == ()
    alias = Question(keys[-1]["name"], "CNAME")
    astray = {**RICH_WORLD, alias: Answer(YES, ("s1.acme-outreach.test.dkim.elsewhere.test",))}
    (finding,) = prove(astray, lab=RICH).findings
    assert finding.where == "s1._domainkey.acme-outreach.test CNAME"
    assert "s1.acme-outreach.test.dkim.acme.test" in finding.why
    keys[-2]["values"] = [policies.dkim("rsa", "AAAA")]
    assert "another public key" in str(prove(RICH_WORLD, judge.Seen(keys=keys), RICH).findings)


UNVERIFIED = {  # how a record shows the right key, and what the findings begin with
    "h=sha1": ["h=sha1"],
    "h=sha1:sha512; s=*": ["h=sha1:sha512"],
    "s=chat": ["s=chat"],
    "t=y": ["t=y"],
    "t=y:s": ["t=y:s"],
    "h=sha1; s=chat; t=y": ["h=sha1", "s=chat", "t=y"],
    "k=foobar": ["k=foobar"],
    "k=foobar; t=y": ["k=foobar", "t=y"],
}


@pytest.mark.parametrize("life", ["active", "verified", "retiring"])
@pytest.mark.parametrize("delegated", [False, True])
@pytest.mark.parametrize("tags_shown", UNVERIFIED)
def test_the_right_key_in_a_record_that_receivers_do_not_take_fails(tags_shown, delegated, life):
    keys = keys_of(RICH)
    key = next(each for each in keys if each["type"] == "TXT" and delegated is ("dkim.acme.test" in each["name"]))
    key.update(life=life)
    kind = "" if "k=" in tags_shown else f"k={key['algorithm']}; "
    shown = f"v=DKIM1; {kind}{tags_shown}; p={policies.parse_dkim(key['values'][0]).public_key}"
    known = {**RICH_WORLD, Question(key["name"], "TXT"): Answer(YES, (shown,))}
    proof = prove(known, judge.Seen(keys=keys), RICH)
    assert [finding.found for finding in proof.findings] == UNVERIFIED[tags_shown]
    alias = names.alias_name(key["domain"], key["selector"])
    assert {finding.where for finding in proof.findings} == {f"{alias} TXT (DKIM)"}
    assert {finding.severity for finding in proof.findings} == {"error"}
    assert "FAIL" in states(proof, "dkim").values()


@pytest.mark.parametrize("tags_shown", ["h=sha1:sha256", "s=email", "s=chat:*", "t=s", "h=sha256; n=note; t=s"])
def test_tags_that_change_nothing_for_mail_pass(tags_shown):
    keys = keys_of()
    shown = f"v=DKIM1; k={keys[0]['algorithm']}; {tags_shown}; p={KEY}"
    proof = prove({**world(), Question(keys[0]["name"], "TXT"): Answer(YES, (shown,))}, judge.Seen(keys=keys))
    assert proof.findings == ()


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
    proof = prove(world(), judge.Seen(observations=lines, probes=probes, relay=relay("refused")))
    assert proof.findings == ()
    assert_all_ok(proof)


def assert_all_ok(proof):
    """PowerMTA is not asked whether it refuses another stream's domain."""
    powermta = {host.name for host in LAB.hosts.values() if host.engine == "powermta"}
    for row in proof.rows:
        not_asked = {"apart"} if row["host"] in powermta else set()
        assert {check: row[check] for check in judge.CHECKS} == {
            check: "-" if check in not_asked else "ok" for check in judge.CHECKS
        }


@pytest.mark.parametrize(
    ("error", "state", "says"),
    [
        (None, "FAIL", "it took a message From"),
        ("SMTPDataError: (451, b'4.7.1 Try again later')", "unknown", "451"),
        ("SMTPDataError: (451, b'4.7.1 500 messages are waiting')", "unknown", "451"),
        ("ConnectionRefusedError: refused", "unknown", "ConnectionRefusedError"),
        ("SMTPSenderRefused: (550, b'no', 'verify@a.test')", "ok", None),
    ],
)
def test_a_stream_that_takes_the_domain_of_another_is_caught(error, state, says):
    probes, lines = sent_and_seen()
    (wrong,) = (probe for probe in probes if probe["label"] == "apart-cold")
    assert wrong["domain"] != wrong["sender"] == "acme-outreach.test"
    wrong["error"] = error
    proof = prove(world(), judge.Seen(observations=lines, probes=probes, relay=relay("refused")))
    assert {row["apart"] for row in proof.rows if row["stream"] == "cold"} == {state}
    assert {row["apart"] for row in proof.rows if row["stream"] != "cold"} == {"ok", "-"}
    assert [says in str(finding) for finding in proof.findings] == ([True] if says else [])


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
    proof = prove(world(), judge.Seen(observations=lines, probes=probes))
    first = EXPECTED["addresses"][0]["ips"][0]
    assert states(proof, check)[first] == state
    assert [says in str(finding) for finding in proof.findings] == [True] * len(proof.findings) != []


def test_a_probe_that_was_not_sent_is_unknown():
    probes, lines = sent_and_seen()
    probes[0]["error"] = "ConnectionRefusedError: refused"
    gone = probes.pop(3)
    proof = prove(world(), judge.Seen(observations=lines[1:], probes=probes))
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
    proof = prove(world(), judge.Seen(relay=relay(state)))
    assert set(states(proof, "relay").values()) == {seen}
    assert bool(proof.findings) == (seen != "ok")


def test_a_firewall_is_no_fault_where_the_vantage_has_mail_from_that_host():
    probes, lines = sent_and_seen()
    proof = prove(world(), judge.Seen(observations=lines, probes=probes, relay=relay("filtered")))
    assert set(states(proof, "relay").values()) == {"ok"}


def test_an_open_relay_is_the_fault_of_its_host_only():
    proof = prove(world(), judge.Seen(relay=relay("open", host="mta1")))
    assert {(row["host"], row["relay"]) for row in proof.rows} == {("mta1", "FAIL"), ("mta2", "ok"), ("mta3", "ok")}
    assert prove(world(), judge.Seen(relay=relay("open", host="mta1")), hosts=["mta2"]).findings == ()


def test_an_open_relay_is_named_by_what_opened_it():
    opened = "bare postmaster (MAIL FROM:<>, RCPT TO:<postmaster>, DATA): 354 go ahead; open as well: VRFY"
    (*refused, last) = relay("refused", host="mta1")
    proof = prove(world(), judge.Seen(relay=[*refused, {**last, "state": "open", "detail": opened}]))
    (finding,) = proof.findings
    assert finding.where == f"{last['host']} {last['ip']} port {last['port']}"
    assert finding.found == f"open to strangers: {opened}"


def test_keys_of_the_key_host_must_be_the_published_ones():
    keys = keys_of()
    keys[0]["values"] = [policies.dkim("rsa", "AAAA")]
    assert "another public key" in str(prove(world(), judge.Seen(keys=keys)).findings[0])
    for values in (None, []):  # not made yet, or of a restored store that must not be believed
        keys[0]["values"] = values
        (finding,) = prove(world(), judge.Seen(keys=keys)).findings
        assert (finding.where, finding.found) == ("DKIM key (rsa) of tx.acme.test", "no key that may be used")
        assert "mailops.mta.site" in finding.remedy


def test_where_the_key_host_was_not_asked_only_signatures_are_proven():
    """Nobody else knows the selectors."""
    assert set(states(prove_as_it_is(world(), judge.Seen()), "dkim").values()) == {"-"}
    probes, lines = sent_and_seen()
    seen = judge.Seen(observations=lines, probes=probes)
    assert set(states(prove_as_it_is(world(), seen), "dkim").values()) == {"ok"}
    for line in lines:
        line["dkim"] = [{**signature, "domain": "other.test"} for signature in line["dkim"]]
    assert set(states(prove_as_it_is(world(), seen), "dkim").values()) == {"FAIL"}


# ---- while keys rotate

SERIES = derive.fleet_variables(LAB)["mta_dkim_series"][0]  # RSA, of the first stream
OTHER = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
NEXT = Question("s12027q1._domainkey.tx.acme.test", "TXT")


def rotating(life, *, new_signs=False, old_life="active", state="present"):
    """The keys of the lab while the first series goes from s1 to s12027q1, which is in ``life``."""
    keys = keys_of()
    keys[0].update(signs=not new_signs, life=old_life)
    return keys + key_sets(SERIES, "s12027q1", OTHER, life, signs=new_signs, state=state)


def seen_with(keys, *selectors):
    """What the sink sees of the first stream where its RSA signature is by these selectors."""
    probes, lines = sent_and_seen()
    for line in lines:
        others = [each for each in line["dkim"] if each["selector"] != "s1" or each["domain"] != "tx.acme.test"]
        if any(each["domain"] == "tx.acme.test" for each in line["dkim"]):
            line["dkim"] = [
                *others,
                *({"domain": "tx.acme.test", "selector": selector, "result": "pass"} for selector in selectors),
            ]
    return judge.Seen(observations=lines, probes=probes, relay=relay("refused"), keys=keys)


@pytest.mark.parametrize(
    ("keys", "signed"),
    [
        (rotating("published"), "s1"),
        (rotating("verified"), "s1"),
        (rotating("active", new_signs=True), "s12027q1"),
        (rotating("active", new_signs=True, old_life="retiring"), "s12027q1"),
    ],
    ids=["published", "verified", "active", "retiring"],
)
def test_each_stage_of_a_rotation_passes(keys, signed):
    proof = prove({**world(), **stands(keys)}, seen_with(keys, signed))
    assert proof.findings == ()
    assert_all_ok(proof)


def test_a_host_that_has_not_followed_yet_is_a_doubt():
    keys = rotating("active", new_signs=True)
    proof = prove({**world(), **stands(keys)}, seen_with(keys, "s1"))
    assert {finding.severity for finding in proof.findings} == {"warning"}
    assert {finding.found for finding in proof.findings} == {"signed with s1, not with s12027q1"}
    assert set(states(proof, "dkim").values()) == {"ok", "warn"}


@pytest.mark.parametrize(
    ("keys", "signed"),
    [
        (rotating("published"), "s12027q1"),  # a host ran ahead of the key host
        (rotating("active", new_signs=True, old_life="retiring"), "s1"),  # or was believed to have followed
        (rotating("published"), "gone"),
    ],
)
def test_a_signature_by_a_key_that_should_not_sign_is_an_error(keys, signed):
    proof = prove({**world(), **stands(keys)}, seen_with(keys, signed))
    assert {finding.severity for finding in proof.findings} == {"error"}
    assert all(f"no signature, but by '{signed}'" in finding.found for finding in proof.findings)


@pytest.mark.parametrize(
    ("life", "nothing", "another"),
    [
        ("published", "warning", "error"),
        ("verified", "warning", "error"),
        ("retiring", "error", "error"),
        ("revoked", "warning", "error"),
        ("active", "error", "error"),
    ],
)
def test_a_key_that_does_not_sign_must_not_be_another_and_retires_in_place(life, nothing, another):
    keys = rotating(life)
    for answer, severity in ((Answer(NO), nothing), (Answer(YES, (policies.dkim("rsa", "AAAA"),)), another)):
        proof = prove({**world(), **stands(keys), NEXT: answer}, judge.Seen(keys=keys))
        assert [(finding.where, finding.severity) for finding in proof.findings] == [
            (f"{NEXT.name} TXT (DKIM)", severity)
        ]
    unknown = {NEXT: Answer(UNKNOWN, detail="SERVFAIL")}
    assert "unknown" in str(prove({**world(), **stands(keys), **unknown}, judge.Seen(keys=keys)).findings[0])


def test_a_compromised_key_must_be_revoked_in_dns():
    keys = rotating("revoked")
    assert prove({**world(), **stands(keys)}, judge.Seen(keys=keys)).findings == ()
    shown = {NEXT: Answer(YES, (policies.dkim("rsa", OTHER),))}
    (finding,) = prove({**world(), **shown}, judge.Seen(keys=keys)).findings
    assert "revoked" in finding.why


def test_what_is_withdrawn_or_not_made_yet_is_not_looked_for():
    gone = rotating("withdrawn", state="absent")
    coming = rotating("published")
    coming[-1]["values"] = None
    for held in (gone, coming):
        assert prove(world(), judge.Seen(keys=held)).findings == ()


@pytest.mark.parametrize(("signs", "says"), [((False, False), "none of which signs"), ((True, True), "sign")])
def test_exactly_one_key_signs(signs, says):
    keys = rotating("active")
    keys[0]["signs"], keys[-1]["signs"] = signs
    (finding,) = prove({**world(), **stands(keys)}, judge.Seen(keys=keys)).findings
    assert finding.where == "DKIM key (rsa) of tx.acme.test"
    assert says in finding.found
    assert "s12027q1" in finding.found


def life_of_a_series(policy):
    """The keys of a series from run to run while one replaces another: what the key host, DNS and hosts have."""
    held, wall, steady, dns, signs = (), 1_800_000_000, 0, {}, {}
    for run in range(24):
        if run == 5:
            assert len(held) == 1
            held = rotation.after(held, rotation.ask(held, policy, rotation.Now(wall, steady), "demand").actions)
        looks = {
            name: rotation.Look((rotation.Shown("ns", YES if dns.get(name) else NO, dns.get(name, ()), 60),), True)
            for name in rotation.questions(held, policy, rotation.Evidence())
        }
        holds = frozenset(key.mark for key in rotation.holding(held, policy))
        signers = {host: rotation.Signer(frozenset(signs.get(host, ())), holds) for host in policy.hosts}
        passed = frozenset(mark[0] for marks in signs.values() for mark in marks)
        evidence = rotation.Evidence(looks, signers, passed)
        step = rotation.step(held, policy, rotation.Now(wall, steady), evidence)
        held = tuple(made(key) for key in rotation.after(held, step.actions))
        records = rotation.records(held, policy)
        dns = {(each["name"], each["type"]): tuple(each["values"]) for each in records if each["state"] == "present"}
        chosen = rotation.signing(held, policy)
        # One host follows in the first run, all in the second.
        late = [host for host in policy.hosts if signs.get(host) and chosen and chosen.mark not in signs[host]]
        for host in policy.hosts if len(late) < len(policy.hosts) else policy.hosts[:1]:
            signs[host] = {chosen.mark} if chosen else set()
        yield held, records, dns, {host: {mark[0] for mark in marks} for host, marks in signs.items()}
        wall, steady = wall + 15, steady + 15


def made(key):
    if key.record is not None:
        return key
    text = policies.dkim("rsa", base64.b64encode(f"key {key.id}".encode()).decode())
    return dataclasses.replace(key, record=text, fingerprint=keys.fingerprint_of_record(text))


@pytest.mark.parametrize("stream", ["marketing", "cold"])
def test_what_the_key_host_says_passes_in_the_whole_life_of_a_key(stream):
    """The rotation and the proof agree, with and without aliases; meanwhile a host that is late is a doubt."""
    (given,) = [
        each
        for each in derive.fleet_variables(LAB)["mta_dkim_series"]
        if (each["algorithm"], each["streams"]) == ("rsa", [stream])
    ]
    policy = rotation.Policy.of(given)
    others = [key for key in keys_of() if (key["domain"], key["algorithm"]) != (policy.domain, "rsa")]
    known = {**world(), **dict.fromkeys(stands(keys_of()), Answer(NO)), **stands(others)}
    states_seen, doubts = set(), set()
    for held, records, dns, signs in life_of_a_series(policy):
        states_seen |= {key.state for key in held}
        seen = judge.Seen(keys=[*others, *records])
        if rotation.signing(held, policy):
            probes, lines = sent_and_seen()
            for probe, line in zip(probes, lines):
                if probe["domain"] == policy.domain:
                    line["dkim"] = [each for each in line["dkim"] if each["selector"].endswith("-ed25519")]
                    by = [
                        {"domain": policy.domain, "selector": each, "result": "pass"} for each in signs[probe["host"]]
                    ]
                    line["dkim"] += by
            seen = dataclasses.replace(seen, probes=probes, observations=lines)
        shown = {Question(*name): Answer(YES, values) for name, values in dns.items()}
        findings = prove({**known, **shown}, seen, streams=[stream]).findings
        if rotation.signing(held, policy):
            assert [finding for finding in findings if finding.severity == "error"] == []
            doubts |= {finding.found for finding in findings}
        else:
            assert [finding.where for finding in findings] == [f"DKIM key (rsa) of {policy.domain}"]
    # A key that every host holds already is verified only in passing.
    assert states_seen == {*rotation.STATES} - {rotation.VERIFIED}
    assert len(doubts) == (len(policy.hosts) > 1)


def test_limits_choose_rows():
    assert {row["host"] for row in prove(world(), hosts=["mta2"]).rows} == {"mta2"}
    assert {row["stream"] for row in prove(world(), streams=["bulk"]).rows} == {"bulk"}
    assert prove({}, streams=["bulk"]).findings
    assert all("cold" not in str(finding) for finding in prove({}, streams=["bulk"]).findings)


def test_the_table_shows_every_address_and_every_finding():
    proof = prove({})
    lines = judge.lines(proof, "a note")
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
    wide = spf.widened(stream["spf"], policies.spf(["192.0.2.99"]))
    known[Question(name, "TXT")] = Answer(
        YES, tuple(wide if policies.is_spf(text) else text for text in known[Question(name, "TXT")].values)
    )
    proof = judge.judge(EXPECTED, Answers(known), judge.Seen(keys=keys_of()))
    rows = {row["spf"] for row in proof.rows if row["stream"] == stream["name"]}
    assert rows == {"warn"}
    assert [
        (finding.severity, "192.0.2.99" in finding.found) for finding in proof.findings if "SPF" in finding.where
    ] == [("warning", True)]
