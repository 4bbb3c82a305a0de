# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Route 53 has: octal escapes, routing policies and aliases, its limits, its errors, its hosted zones."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import route53
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Garbled,
    Permanent,
    ProviderError,
    Throttled,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Throttle
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import zones
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.route53 import (
    CREDENTIALS,
    PAGE,
    ZONE_ID,
    Set,
    StandIn,
)
from hypothesis import given
from hypothesis import strategies as st

ZONE = harness.ZONE
ALIAS = (
    "<AliasTarget><HostedZoneId>Z2FDTNDATAQYW2</HostedZoneId><DNSName>d1.cloudfront.net.</DNSName>"
    "<EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>"
)

DECLARED = (
    b'<!DOCTYPE x [<!ENTITY e "false">]><x xmlns="https://route53.amazonaws.com/doc/2013-04-01/">'
    b"<ResourceRecordSets/><IsTruncated>&e;</IsTruncated></x>"
)


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle, "wait", lambda self: None)


@pytest.fixture
def line() -> harness.Line:
    return harness.Line(StandIn(ZONE))


def opened(line: harness.Line, options: Any = None, **credentials: str) -> route53.Route53:
    return route53.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, options or {}, connect=line.connect))


def test_foreign_values_keep_their_own_layout(line: harness.Line) -> None:
    theirs = ('"two" "strings"', '"accented \\303\\251 and \\"quoted\\""')
    line.stand_in.sets.append(Set(f"{ZONE}.", "TXT", 77, theirs))
    provider = opened(line)
    before = provider.read()[ZONE, "TXT"]
    assert before.values == ('accented é and "quoted"', "twostrings")
    provider.write([Change(before, RecordSet.of(ZONE, "TXT", 77, [*before.values, "ü"]))])
    (now,) = (each for each in line.stand_in.sets if each.type == "TXT")
    assert sorted(now.values) == sorted([*theirs, '"\\303\\274"'])
    after = provider.read()[ZONE, "TXT"]
    provider.write([Change(after, before)])
    (now,) = (each for each in line.stand_in.sets if each.type == "TXT")
    assert (sorted(now.values), now.ttl) == (sorted(theirs), 77)


@given(st.binary(max_size=600))
def test_txt_in_octal_is_read_as_it_was_written(data: bytes) -> None:
    text = txt.decode(data)
    written = route53._presentation("TXT", text)
    assert written.isascii()
    assert written.isprintable()
    assert route53._canonical("TXT", written) == text


@pytest.mark.parametrize("name", [f"*.{ZONE}", f"*.a.{ZONE}", f"0/25.{ZONE}", f"_a-b.{ZONE}", f"a.*.{ZONE}"])
def test_escaped_names_are_the_same_names(line: harness.Line, name: str) -> None:
    some = RecordSet.of(name, "TXT", 60, ["x"])
    opened(line).read()
    provider = opened(line)
    provider.read()
    provider.write([Change(None, some)])
    provider = opened(line)
    assert provider.read()[some.key] == some
    assert provider.read([name]) == {some.key: some}
    provider.write([Change(some, None)])
    assert some.key not in provider.read()


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ([Set(f"www.{ZONE}.", "A", None, (), ALIAS)], "an alias of d1.cloudfront.net."),
        (
            [
                Set(f"www.{ZONE}.", "A", 60, (f"192.0.2.{n}",), f"<Weight>{n}</Weight>", identifier=f"w{n}")
                for n in range(1, PAGE + 5)
            ],
            "routing policy",
        ),
        (
            [Set(f"www.{ZONE}.", "A", 60, ("192.0.2.1",), "<TrafficPolicyInstanceId>1</TrafficPolicyInstanceId>")],
            "traffic policy",
        ),
    ],
)
def test_what_cannot_be_expressed_is_shown_and_never_changed(line: harness.Line, extra: list[Set], what: str) -> None:
    line.stand_in.sets.extend(extra)
    before = list(line.stand_in.sets)
    provider = opened(line)
    shown = provider.read()[f"www.{ZONE}", "A"]
    assert opened(line).read([f"www.{ZONE}"]) == {shown.key: shown}
    for after in (None, RecordSet.of(*shown.key, 60, ["192.0.2.99"])):
        with pytest.raises(Permanent, match=f"www.{ZONE} A is .*{what}") as caught:
            provider.write([Change(None, RecordSet.of(f"new.{ZONE}", "A", 60, ["192.0.2.1"])), Change(shown, after)])
        assert caught.value.remedy
    assert line.stand_in.sets == before
    provider.write([Change(None, RecordSet.of(f"www.{ZONE}", "TXT", 60, ["beside"]))])
    assert line.stand_in.sets[:-1] == before


def test_some_names_take_one_request_each(line: harness.Line) -> None:
    sets = [RecordSet.of(f"n{n}.{ZONE}", "A", 60, ["192.0.2.1"]) for n in range(3 * PAGE)]
    provider = opened(line)
    provider.read()
    for batch in zones.cut([Change(None, each) for each in sets], provider):
        provider.write(batch)
    line.requests.clear()
    assert provider.read([sets[5].name, f"none.{ZONE}"]) == {sets[5].key: sets[5]}
    assert len(line.requests) == 2
    line.requests.clear()
    assert {each.key for each in sets} <= set(provider.read())
    assert len(line.requests) == 4


@pytest.mark.parametrize("values", [[f"192.0.{n // 200}.{n % 200}" for n in range(390)], ["x" * 3000, "y" * 3000]])
def test_a_batch_stays_within_both_limits(line: harness.Line, values: list[str]) -> None:
    """The stand-in refuses more than 1,000 values and more than 32,000 characters."""
    rtype = "TXT" if len(values) == 2 else "A"
    sets = [RecordSet.of(f"n{n}.{ZONE}", rtype, 60, values) for n in range(8)]
    provider = opened(line)
    provider.read()
    batches = list(zones.cut([Change(None, each) for each in sets], provider))
    for batch in batches:
        provider.write(batch)
    assert 1 < len(batches) < 6
    after = [RecordSet.of(each.name, rtype, 61, values) for each in sets]
    for batch in zones.cut([Change(*pair) for pair in zip(sets, after)], provider):
        provider.write(batch)
    state = provider.read()
    assert [state[each.key] for each in after] == after


@pytest.mark.parametrize(
    ("ttl", "values"), [(60, ("192.0.2.1", "192.0.2.2")), (60, ("192.0.2.2",)), (61, ("192.0.2.1",)), (60, ())]
)
def test_a_record_set_that_was_changed_meanwhile_is_a_conflict(
    line: harness.Line, ttl: int, values: tuple[str, ...]
) -> None:
    some = RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"])
    provider = opened(line)
    provider.read()
    provider.write([Change(None, some)])
    line.stand_in.sets = [each for each in line.stand_in.sets if each.type != "A"]
    line.stand_in.sets += [Set(f"a.{ZONE}.", "A", ttl, values)] if values else []
    before = list(line.stand_in.sets)
    other = Change(None, RecordSet.of(f"b.{ZONE}", "A", 60, ["192.0.2.1"]))
    for after in (None, RecordSet.of(*some.key, 60, ["192.0.2.9"])):
        with pytest.raises(Conflict, match=f"a.{ZONE}"):
            provider.write([other, Change(some, after)])
    assert line.stand_in.sets == before


def error(code: str, said: str = "why", status: int = 400) -> harness.Fault:
    body = f"<ErrorResponse xmlns='https://route53.amazonaws.com/doc/2013-04-01/'><Error><Code>{code}</Code>"
    return harness.status(status, f"{body}<Message>{said}</Message></Error></ErrorResponse>".encode())


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (error("Throttling", "Rate exceeded"), Throttled, "Rate exceeded"),
        (error("PriorRequestNotComplete"), Throttled, "PriorRequestNotComplete"),
        (error("ExpiredToken", status=403), Permanent, "refused the key"),
        (error("AccessDenied", status=403), Permanent, "refused access"),
        (error("InvalidChangeBatch", "it is protected"), Permanent, "it is protected"),
        (error("InternalFailure", status=500), Faulty, "InternalFailure"),
        (
            harness.status(
                400,
                b'<InvalidChangeBatch xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Messages>'
                b"<Message>Tried to delete x but it was not found</Message></Messages></InvalidChangeBatch>",
            ),
            Conflict,
            "was not found",
        ),
        (harness.status(200, b"<html/>"), Garbled, "API"),
        (harness.status(200, DECLARED), Garbled, "document type"),
        (harness.status(200, b"\xff\xfe<\x00"), Garbled, "API"),
    ],
)
def test_errors_have_the_meaning_of_the_service(
    line: harness.Line, fault: harness.Fault, kind: type[ProviderError], text: str
) -> None:
    provider = opened(line)
    provider.read()
    line.faults = lambda number, method, url: fault
    for call in (provider.read, lambda: provider.write([Change(None, RecordSet.of(ZONE, "TXT", 60, ["x"]))])):
        with pytest.raises(kind) as caught:
            call()
        assert caught.type is kind
        assert text in caught.value.found + caught.value.why


@pytest.mark.parametrize("wrong", [{"secret_access_key": "no"}, {"access_key_id": "no"}, {"session_token": ""}])
def test_a_wrong_key_is_told_and_not_shown(line: harness.Line, wrong: dict[str, str]) -> None:
    with pytest.raises(Permanent, match="refused the key") as caught:
        opened(line, **wrong).read()
    assert CREDENTIALS["secret_access_key"] not in str(vars(caught.value))


def test_the_hosted_zone_is_found_by_its_name_or_named(line: harness.Line) -> None:
    line.stand_in.hosted += [("ZPRIVATE", f"{ZONE}.", True), ("ZOTHER", f"z.{ZONE}.", False)]
    assert (ZONE, "NS") in opened(line).read()
    line.stand_in.hosted.append(("ZSECOND", f"{ZONE}.", False))
    with pytest.raises(Permanent, match=f"{ZONE_ID}, ZSECOND") as caught:
        opened(line).read()
    assert "hosted_zone_id" in caught.value.remedy
    line.requests.clear()
    assert (ZONE, "NS") in opened(line, {"hosted_zone_id": f"/hostedzone/{ZONE_ID}"}).read()
    assert len(line.requests) == 1


def test_a_zone_that_is_not_there_or_another_is_refused(line: harness.Line) -> None:
    with pytest.raises(Permanent, match="no zone"):
        opened(line, {"hosted_zone_id": "ZNONE"}).read()
    line.stand_in.hosted = [("ZPRIVATE", f"{ZONE}.", True)]
    with pytest.raises(Permanent, match="only private"):
        opened(line).read()
    line.stand_in.hosted = []
    with pytest.raises(Permanent, match=f"no hosted zone {ZONE}"):
        opened(line).read()
    other = harness.Line(StandIn("example.net"))
    with pytest.raises(Permanent, match=f"{ZONE_ID} is not {ZONE}"):
        opened(other, {"hosted_zone_id": ZONE_ID}).read()
