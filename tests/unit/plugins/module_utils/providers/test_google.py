# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Google Cloud DNS has: exact deletions, routing policies, managed zones, its quotas, a signed assertion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import google
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Garbled,
    Permanent,
    ProviderError,
    Throttled,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import zones
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.google import (
    ACCOUNT,
    CREDENTIALS,
    PAGE,
    StandIn,
)

ZONE = harness.ZONE


@pytest.fixture
def line() -> harness.Line:
    return harness.Line(StandIn(ZONE))


def opened(line: harness.Line, options: Any = None, **credentials: Any) -> google.Google:
    return google.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, options or {}, connect=line.connect))


def other(name: str, *rrdatas: str, rtype: str = "A", ttl: int = 60) -> dict[str, Any]:
    return {"name": f"{name}.", "type": rtype, "ttl": ttl, "rrdatas": list(rrdatas)}


def test_foreign_values_keep_their_own_layout(line: harness.Line) -> None:
    theirs = ['"two" "strings"', '"accented \\195\\169"']
    line.stand_in.rrsets.append(other(ZONE, *theirs, rtype="TXT", ttl=77))
    provider = opened(line)
    before = provider.read()[ZONE, "TXT"]
    assert before.values == ("accented é", "twostrings")
    provider.write([Change(before, RecordSet.of(ZONE, "TXT", 77, [*before.values, "ours"]))])
    (now,) = (each for each in line.stand_in.rrsets if each["type"] == "TXT")
    assert sorted(now["rrdatas"]) == sorted([*theirs, '"ours"'])
    provider.write([Change(provider.read()[ZONE, "TXT"], before)])
    (now,) = (each for each in line.stand_in.rrsets if each["type"] == "TXT")
    assert (sorted(now["rrdatas"]), now["ttl"]) == (sorted(theirs), 77)


def test_a_routing_policy_is_shown_and_never_changed(line: harness.Line) -> None:
    policy = {"wrr": {"items": [{"weight": 1, "rrdatas": ["192.0.2.1"]}, {"weight": 2, "rrdatas": ["192.0.2.2"]}]}}
    line.stand_in.rrsets.append({**other(f"www.{ZONE}"), "routingPolicy": policy})
    before = list(line.stand_in.rrsets)
    provider = opened(line)
    shown = provider.read()[f"www.{ZONE}", "A"]
    for after in (None, RecordSet.of(*shown.key, 60, ["192.0.2.99"])):
        with pytest.raises(Permanent, match=f"www.{ZONE} A has a routing policy") as caught:
            provider.write([Change(None, RecordSet.of(f"new.{ZONE}", "A", 60, ["192.0.2.1"])), Change(shown, after)])
        assert caught.value.remedy
    assert line.stand_in.rrsets == before


def test_some_names_take_one_request_each(line: harness.Line) -> None:
    line.stand_in.rrsets += [other(f"n{n}.{ZONE}", "192.0.2.1") for n in range(2 * PAGE)]
    provider = opened(line, {"managed_zone": "a-zone"})
    provider.read()
    line.requests.clear()
    assert provider.read([f"n5.{ZONE}", f"none.{ZONE}"]) == {
        (f"n5.{ZONE}", "A"): RecordSet.of(f"n5.{ZONE}", "A", 60, ["192.0.2.1"])
    }
    assert len(line.requests) == 2
    line.requests.clear()
    assert len(provider.read()) == 2 * PAGE + 1
    assert len(line.requests) == 3


def test_a_change_stays_within_the_quotas(line: harness.Line) -> None:
    """The stand-in refuses more than 1,000 record sets and more than 100,000 bytes."""
    sets = [RecordSet.of(f"n{n}.{ZONE}", "A", 60, ["192.0.2.1"]) for n in range(1500)]
    sets += [RecordSet.of(f"t{n}.{ZONE}", "TXT", 60, ["x" * 9000, "y" * 9000]) for n in range(8)]
    provider = opened(line)
    provider.read()
    batches = list(zones.cut([Change(None, each) for each in sets], provider))
    for batch in batches:
        provider.write(batch)
    assert len(batches) == 3
    after = [RecordSet.of(each.name, each.type, 61, each.values) for each in sets]
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
    line.stand_in.rrsets = [each for each in line.stand_in.rrsets if each["type"] != "A"]
    line.stand_in.rrsets += [other(some.name, *values, ttl=ttl)] if values else []
    before = list(line.stand_in.rrsets)
    beside = Change(None, RecordSet.of(f"b.{ZONE}", "A", 60, ["192.0.2.1"]))
    for after in (None, RecordSet.of(*some.key, 60, ["192.0.2.9"])):
        with pytest.raises(Conflict):
            provider.write([beside, Change(some, after)])
    assert line.stand_in.rrsets == before


def error(status: int, reason: str) -> harness.Fault:
    said = {"message": "why", "errors": [{"reason": reason, "message": "why"}]}
    return harness.status(status, json.dumps({"error": said}).encode())


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (error(403, "rateLimitExceeded"), Throttled, "why"),
        (error(403, "quotaExceeded"), Throttled, "why"),
        (error(403, "forbidden"), Permanent, "refused access"),
        (error(404, "notFound"), Permanent, "no zone"),
        (error(413, "quotaExceeded"), Permanent, "why"),
        (harness.status(200, b"[]"), Garbled, "API"),
        (harness.status(200, b'{"kind": "dns#x", "rrsets": [{"name": "a."}]}'), Garbled, "API"),
    ],
)
def test_errors_have_the_meaning_of_the_service(
    line: harness.Line, fault: harness.Fault, kind: type[ProviderError], text: str
) -> None:
    provider = opened(line)
    provider.read()
    line.faults = lambda number, method, url: fault
    with pytest.raises(kind, match=text) as caught:
        provider.read()
    assert caught.type is kind


@pytest.mark.parametrize(
    ("account", "text"),
    [
        ("{", "service_account cannot be used"),
        ("[]", "service_account cannot be used"),
        ({"client_email": "x"}, "service_account cannot be used"),
        ({**ACCOUNT, "private_key": "no-key"}, "private_key of the service account"),
        ({**ACCOUNT, "client_email": "somebody@else"}, "refused the key"),
        ({**ACCOUNT, "private_key_id": "another"}, "refused the key"),
    ],
)
def test_a_wrong_account_is_told_and_not_shown(line: harness.Line, account: Any, text: str) -> None:
    with pytest.raises(Permanent, match=text) as caught:
        opened(line, service_account=account).read()
    assert "service_account" in caught.value.remedy
    assert "PRIVATE KEY" not in str(vars(caught.value))


def test_an_account_may_be_decoded(line: harness.Line) -> None:
    assert (ZONE, "NS") in opened(line, service_account=dict(ACCOUNT)).read()


def test_the_managed_zone_is_found_by_its_name_or_named(line: harness.Line) -> None:
    first = line.stand_in.managed[0]
    line.stand_in.managed.append({**first, "name": "inside", "visibility": "private"})
    assert (ZONE, "NS") in opened(line).read()
    line.stand_in.managed.append({**first, "name": "second"})
    with pytest.raises(Permanent, match=r"several.*a-zone, inside, second") as caught:
        opened(line).read()
    assert "managed_zone" in caught.value.remedy
    assert (ZONE, "NS") in opened(line, {"managed_zone": "second"}).read()


def test_a_zone_that_is_not_there_or_another_is_refused(line: harness.Line) -> None:
    with pytest.raises(Permanent, match="no zone"):
        opened(line, {"managed_zone": "none"}).read()
    line.stand_in.managed[0]["visibility"] = "private"
    with pytest.raises(Permanent, match="only private"):
        opened(line).read()
    line.stand_in.managed = []
    with pytest.raises(Permanent, match=f"no managed zone {ZONE}"):
        opened(line).read()
    with pytest.raises(Permanent, match=f"a-zone is not {ZONE}"):
        opened(harness.Line(StandIn("example.net")), {"managed_zone": "a-zone"}).read()
