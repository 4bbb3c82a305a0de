# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Hetzner has: relative names, the TTL of the zone, actions that end later, protected record sets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import hetzner
from ansible_collections.mailops.mta.plugins.module_utils.providers.hetzner import Hetzner
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Garbled,
    Permanent,
    Transient,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Throttle
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.hetzner import (
    CREDENTIALS,
    PAGE_SIZE,
    StandIn,
)

ZONE = harness.ZONE


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    monkeypatch.setattr(Throttle, "wait", lambda self: seen.append(1))
    return seen


@pytest.fixture
def line() -> harness.Line:
    return harness.Line(StandIn(ZONE))


def opened(line: harness.Line, **credentials: str) -> Hetzner:
    return hetzner.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, connect=line.connect))


def values(line: harness.Line, name: str, rtype: str) -> list[str]:
    return [record["value"] for record in line.stand_in.rrsets[name, rtype]["records"]]


def posted(line: harness.Line) -> list[str]:
    return [url.rpartition("/")[2] for method, url in line.requests if method == "POST"]


def test_relative_names_and_targets_are_read_as_what_they_stand_for(line: harness.Line) -> None:
    line.stand_in.add("@", "MX", ["10 mx", "20 mx.elsewhere.example."])
    line.stand_in.add("www", "CNAME", [f"{ZONE}."])
    state = opened(line).read()
    assert state[ZONE, "MX"].values == (f"10 mx.{ZONE}", "20 mx.elsewhere.example")
    assert state[f"www.{ZONE}", "CNAME"].values == (ZONE,)
    assert (ZONE, "SOA") not in state


def test_a_record_set_without_a_ttl_has_the_one_of_the_zone_and_keeps_it(line: harness.Line) -> None:
    line.stand_in.ttl = 7200
    line.stand_in.add("a", "TXT", ['"theirs"'])
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "TXT"]
    assert before.ttl == 7200
    provider.write([Change(before, before._replace(values=("ours", "theirs")))])
    assert line.stand_in.rrsets["a", "TXT"]["ttl"] is None
    assert opened(line).read()[f"a.{ZONE}", "TXT"] == before._replace(values=("ours", "theirs"))


def test_every_page_is_read_and_a_few_names_are_asked_alone(line: harness.Line) -> None:
    for number in range(2 * PAGE_SIZE + 1):
        line.stand_in.add(f"h{number}", "A", ["192.0.2.1"])
    provider = opened(line)
    assert len(provider.read()) == 2 * PAGE_SIZE + 2
    before = len(line.requests)
    assert set(provider.read([f"h1.{ZONE}", f"*.{ZONE}", ZONE])) == {(f"h1.{ZONE}", "A"), (ZONE, "NS")}
    assert len(line.requests) == before + 3


def test_what_somebody_adds_between_read_and_write_survives_with_its_comment(line: harness.Line) -> None:
    line.stand_in.add("@", "TXT", ['"v=spf1 -all"', '"old" "theirs"'], 300)
    provider = opened(line)
    before = provider.read()[ZONE, "TXT"]
    theirs = {"value": '"new theirs"', "comment": "see 4711"}
    line.stand_in.rrsets["@", "TXT"]["records"].append(theirs)
    provider.write([Change(before, before._replace(values=("oldtheirs", "v=spf1 mx -all")))])
    assert theirs in line.stand_in.rrsets["@", "TXT"]["records"]
    assert set(values(line, "@", "TXT")) == {'"old" "theirs"', '"new theirs"', '"v=spf1 mx -all"'}
    assert posted(line) == ["add_records", "remove_records"]


def test_a_value_leaves_in_every_layout_in_which_it_stands(line: harness.Line) -> None:
    line.stand_in.add("a", "TXT", ['"one two"', '"one " "two"', '"theirs"'])
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "TXT"]
    assert before.values == ("one two", "theirs")
    provider.write([Change(before, before._replace(values=("theirs",)))])
    assert values(line, "a", "TXT") == ['"theirs"']


def test_an_alias_gets_a_new_target_at_once(line: harness.Line) -> None:
    line.stand_in.add("a", "CNAME", ["one.example."], 60)
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "CNAME"]
    provider.write([Change(before, before._replace(ttl=90, values=("two.example",)))])
    assert opened(line).read()[f"a.{ZONE}", "CNAME"] == RecordSet.of(f"a.{ZONE}", "CNAME", 90, ["two.example"])
    assert posted(line) == ["set_records", "change_ttl"]


def test_a_write_ends_when_its_action_does(line: harness.Line, waits: list[int]) -> None:
    provider = opened(line)
    provider.read()
    wanted = RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"])
    provider.write([Change(None, wanted)])
    assert waits == [1]
    assert provider.read([wanted.name]) == {wanted.key: wanted}


def test_an_action_that_never_ends_leaves_it_open_whether_it_happened(line: harness.Line) -> None:
    line.stand_in.never_ends = True
    provider = opened(line)
    provider.read()
    with pytest.raises(Transient, match=f"add_records of a.{ZONE} A has not ended") as caught:
        provider.write([Change(None, RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"]))])
    assert caught.value.unsure
    with pytest.raises(Conflict, match="locked"):
        provider.write([Change(None, RecordSet.of(f"b.{ZONE}", "A", 60, ["192.0.2.1"]))])


def test_an_action_that_fails_is_planned_anew(line: harness.Line) -> None:
    line.stand_in.fails = True
    provider = opened(line)
    provider.read()
    with pytest.raises(Conflict, match=f"a.{ZONE} A failed: Action failed"):
        provider.write([Change(None, RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"]))])


def test_a_protected_record_set_is_read_and_never_touched(line: harness.Line) -> None:
    line.stand_in.add("a", "A", ["192.0.2.1"], protection={"change": True})
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "A"]
    for act in (provider.cost, lambda change: provider.write([change])):
        with pytest.raises(Permanent, match=f"a.{ZONE} A is protected") as caught:
            act(Change(before, None))
        assert "protection" in caught.value.remedy
    assert posted(line) == []


def test_a_record_set_that_is_gone_is_a_conflict(line: harness.Line) -> None:
    line.stand_in.add("a", "A", ["192.0.2.1"])
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "A"]
    del line.stand_in.rrsets["a", "A"]
    with pytest.raises(Conflict, match="gone"):
        provider.write([Change(before, None)])


def test_a_record_set_that_came_with_another_ttl_is_a_conflict(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    line.stand_in.add("a", "TXT", ['"theirs"'], 7200)
    with pytest.raises(Conflict, match="another TTL"):
        provider.write([Change(None, RecordSet.of(f"a.{ZONE}", "TXT", 60, ["ours"]))])
    assert values(line, "a", "TXT") == ['"theirs"']


def test_what_was_written_can_be_changed_before_it_is_read_again(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    one, two = (RecordSet.of(f"a.{ZONE}", "TXT", ttl, [text]) for text, ttl in (("one", 60), ("two", 90)))
    for change in (Change(None, one), Change(one, two), Change(two, two._replace(values=("3",)))):
        provider.write([change])
    assert opened(line).read([one.name]) == {one.key: two._replace(values=("3",))}


def test_a_refusal_names_the_field(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    with pytest.raises(Permanent, match=r"HTTP 422: invalid input in fields \(records: 'x'") as caught:
        provider.write([Change(None, RecordSet.of(f"a.{ZONE}", "A", 60, ["x"]))])
    assert caught.value.remedy


def test_a_secondary_zone_is_refused(line: harness.Line) -> None:
    line.stand_in.mode = "secondary"
    with pytest.raises(Permanent, match="mode secondary"):
        opened(line).read()


def test_a_zone_of_another_project_and_a_wrong_token_are_told(line: harness.Line) -> None:
    with pytest.raises(Permanent, match="refused the key") as caught:
        opened(line, api_token="wrong").read()
    assert "wrong" not in str(caught.value)
    line.stand_in.zone = "other.example"
    with pytest.raises(Permanent, match=f"no zone {ZONE}"):
        opened(line).read()


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"zone": {"mode": "primary"}}',
        b'{"zone": {"mode": "primary", "ttl": 60}, "rrsets": []}',
        b'{"zone": {"mode": "primary", "ttl": 60}, "rrsets": [{"name": "a", "type": "A"}], "meta": {}}',
    ],
)
def test_an_answer_of_another_shape_is_garbled(line: harness.Line, body: bytes) -> None:
    line.faults = lambda number, method, url: lambda carry_out: client.Response(200, {}, body)
    with pytest.raises(Garbled):
        opened(line).read()


@pytest.mark.parametrize("answer", [{}, {"action": None}, {"action": {"status": "running"}}])
def test_an_action_of_another_shape_leaves_it_open_whether_it_happened(line: harness.Line, answer: Any) -> None:
    provider = opened(line)
    provider.read()
    line.faults = lambda number, method, url: harness.status(201, json.dumps(answer).encode())
    with pytest.raises(Transient) as caught:
        provider.write([Change(None, RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"]))])
    assert caught.value.unsure
