# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Gandi has: labels and targets relative to the zone, pages by number, creation only where nothing stands."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import gandi
from ansible_collections.mailops.mta.plugins.module_utils.providers.gandi import Gandi
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Garbled,
    Permanent,
    Throttled,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Throttle
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.gandi import (
    CREDENTIALS,
    MOST_A_PAGE,
    StandIn,
)

ZONE = harness.ZONE


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle, "wait", lambda self: None)


@pytest.fixture
def line() -> harness.Line:
    return harness.Line(StandIn(ZONE))


def opened(line: harness.Line, **credentials: str) -> Gandi:
    return gandi.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, connect=line.connect))


def stands(line: harness.Line, label: str, rtype: str, ttl: int, *values: str) -> None:
    line.stand_in.rrsets[label, rtype] = line.stand_in._made(label, rtype, ttl, list(values))


def text(label: str, *values: str, ttl: int = 3600) -> RecordSet:
    return RecordSet.of(f"{label}.{ZONE}", "TXT", ttl, values or ("x",))


@pytest.mark.parametrize(
    ("rtype", "value", "shown"),
    [
        ("CNAME", "www", f"www.{ZONE}"),
        ("CNAME", "@", ZONE),
        ("CNAME", "www.Elsewhere.example.", "www.elsewhere.example"),
        ("MX", "10 spool.mail.gandi.net.", "10 spool.mail.gandi.net"),
        ("MX", "10 mx", f"10 mx.{ZONE}"),
        ("MX", "10 @", f"10 {ZONE}"),
        ("SRV", "0 1 587 submission", f"0 1 587 submission.{ZONE}"),
        ("TXT", '"a; b" "c"', "a; bc"),
        ("TXT", "bare", "bare"),
        ("ALIAS", "webredir.vip.gandi.net.", "webredir.vip.gandi.net."),
    ],
)
def test_targets_relative_to_the_zone(line: harness.Line, rtype: str, value: str, shown: str) -> None:
    stands(line, "name", rtype, 10800, value)
    assert opened(line).read()[f"name.{ZONE}", rtype] == RecordSet.of(f"name.{ZONE}", rtype, 10800, [shown])


def test_a_neighbours_value_keeps_its_form(line: harness.Line) -> None:
    stands(line, "mx", "MX", 10800, "10 Relay")
    stands(line, "@", "TXT", 7200, '"th" "eirs"')
    provider = opened(line)
    state = provider.read()
    provider.write(
        [
            Change(state[f"mx.{ZONE}", "MX"], RecordSet.of(f"mx.{ZONE}", "MX", 600, [f"10 relay.{ZONE}"])),
            Change(state[ZONE, "TXT"], RecordSet.of(ZONE, "TXT", 7200, ["theirs", "v=spf1 -all"])),
        ]
    )
    assert line.stand_in.rrsets["mx", "MX"]["rrset_values"] == ["10 Relay"]
    assert line.stand_in.rrsets["mx", "MX"]["rrset_ttl"] == 600
    assert line.stand_in.rrsets["@", "TXT"]["rrset_values"] == ['"th" "eirs"', '"v=spf1 -all"']


@pytest.mark.parametrize("count", [MOST_A_PAGE - 1, MOST_A_PAGE, 3 * MOST_A_PAGE])
def test_every_page_is_read(line: harness.Line, count: int) -> None:
    sets = [text(f"h{number}") for number in range(count)]
    provider = opened(line)
    provider.write([Change(None, each) for each in sets])
    assert {each for each in provider.read().values() if each.type == "TXT"} == set(sets)


def test_a_page_that_is_empty_ends(line: harness.Line) -> None:
    line.faults = lambda number, method, url: harness.status(200, b"[]", total_count="100")
    assert opened(line).read() == {}
    assert len(line.requests) == 1


def test_a_record_set_that_somebody_made_meanwhile_is_a_conflict(line: harness.Line) -> None:
    first, second = opened(line), opened(line)
    first.read()
    second.read()
    first.write([Change(None, text("a", "first"))])
    with pytest.raises(Conflict, match="already exists"):
        second.write([Change(None, text("a", "second"))])
    assert opened(line).read()[f"a.{ZONE}", "TXT"].values == ("first",)


def test_a_record_set_that_somebody_deleted_meanwhile(line: harness.Line) -> None:
    first, second = opened(line), opened(line)
    first.write([Change(None, text("a"))])
    second.read()
    first.write([Change(text("a"), None)])
    with pytest.raises(Conflict, match=f"a.{ZONE} TXT was deleted"):
        second.write([Change(text("a"), None)])


def test_errors_name_the_record(line: harness.Line) -> None:
    with pytest.raises(Permanent) as caught:
        opened(line).write([Change(None, text("a", ttl=60))])
    assert f"refused a.{ZONE} TXT (HTTP 400: rrset_ttl: 60 is not between 300" in caught.value.found
    state = opened(line).read()
    with pytest.raises(Permanent, match=f"refused {ZONE} NS .*cannot be set here"):
        opened(line).write([Change(state[ZONE, "NS"], RecordSet.of(ZONE, "NS", 10800, ["ns.example.net"]))])


def test_wrong_token_no_access_and_missing_domain(line: harness.Line) -> None:
    with pytest.raises(Permanent, match="refused the key") as caught:
        opened(line, api_token="pat_wrong").read()
    assert "api_token" in caught.value.remedy
    line.stand_in.allowed = False
    with pytest.raises(Permanent, match=r"refused access .*Access was denied"):
        opened(line).read()
    line.stand_in.allowed, line.stand_in.zone = True, "other.example"
    with pytest.raises(Permanent, match=f"has no zone {ZONE}"):
        opened(line).read()


def test_too_many_requests(line: harness.Line) -> None:
    line.faults = lambda number, method, url: harness.status(429)
    with pytest.raises(Throttled):
        opened(line).read()


@pytest.mark.parametrize("body", [b"{}", b"null", b"[1]", b'[{"rrset_name": "a", "rrset_type": "A"}]', b"<html>"])
def test_an_answer_of_another_shape_is_garbled(line: harness.Line, body: bytes) -> None:
    line.faults = lambda number, method, url: harness.status(200, body)
    with pytest.raises(Garbled):
        opened(line).read()
