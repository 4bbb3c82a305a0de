# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only deSEC has: one TTL floor a domain, pages by Link header, errors by position, no compare-and-swap."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import desec
from ansible_collections.mailops.mta.plugins.module_utils.providers.desec import Desec
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Garbled,
    Permanent,
    Throttled,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Throttle
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.desec import (
    CREDENTIALS,
    PAGE_SIZE,
    StandIn,
)

ZONE = harness.ZONE


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle, "wait", lambda self: None)


@pytest.fixture
def line() -> harness.Line:
    return harness.Line(StandIn(ZONE))


def opened(line: harness.Line, **credentials: str) -> Desec:
    return desec.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, connect=line.connect))


def address(name: str, *values: str, ttl: int = 3600) -> RecordSet:
    return RecordSet.of(f"{name}.{ZONE}", "A", ttl, values or ("192.0.2.1",))


def create(*sets: RecordSet) -> list[Change]:
    return [Change(None, each) for each in sets]


def test_the_smallest_ttl_is_the_one_of_the_domain(line: harness.Line) -> None:
    line.stand_in.minimum_ttl = 60
    provider = opened(line)
    provider.read()
    assert provider.limits.ttl_min == 60
    provider.write(create(address("a", ttl=60)))
    provider.read()
    assert sum(url.endswith(f"/domains/{ZONE}/") for _method, url in line.requests) == 1


def test_an_update_of_values_leaves_a_ttl_below_the_floor_alone(line: harness.Line) -> None:
    line.stand_in.minimum_ttl = 60
    old = address("a", ttl=60)
    opened(line).write(create(old))
    line.stand_in.minimum_ttl = 3600
    provider = opened(line)
    assert provider.read()[old.key] == old
    new = address("a", "192.0.2.2", ttl=60)
    provider.write([Change(old, new)])
    assert provider.read()[old.key] == new


@pytest.mark.parametrize("count", [PAGE_SIZE - 1, PAGE_SIZE, 3 * PAGE_SIZE + 1])
def test_every_page_is_read(line: harness.Line, count: int) -> None:
    sets = [address(f"h{number}") for number in range(count)]
    provider = opened(line)
    provider.write(create(*sets))
    assert {each for each in provider.read().values() if each.type == "A"} == set(sets)
    assert all(url.startswith("https://desec.io/api/v1/domains/") for _method, url in line.requests)


def test_a_link_that_leads_nowhere_new_ends(line: harness.Line) -> None:
    opened(line).write(create(*[address(f"h{number}") for number in range(PAGE_SIZE * 2)]))
    line.faults = lambda number, method, url: (
        harness.status(200, b"[]", link=f'<https://elsewhere.example/?cursor=c1>; rel="next", <{url}>; rel="prev"')
        if "cursor" in url
        else None
    )
    before = len(line.requests)
    assert opened(line).read() == {}
    assert [url for _method, url in line.requests[before + 1 :]] == [
        f"https://desec.io/api/v1/domains/{ZONE}/rrsets/?cursor=",
        f"https://desec.io/api/v1/domains/{ZONE}/rrsets/?cursor=c1",
    ]


def test_few_names_are_asked_one_by_one(line: harness.Line) -> None:
    apex = RecordSet.of(ZONE, "TXT", 3600, ["a"])
    wild = RecordSet.of(f"*.{ZONE}", "A", 3600, ["192.0.2.9"])
    provider = opened(line)
    provider.write(create(apex, wild, *[address(f"h{number}") for number in range(PAGE_SIZE)]))
    found = provider.read([ZONE, wild.name, f"missing.{ZONE}"])
    assert {each for each in found.values() if each.type != "NS"} == {apex, wild}
    assert len(provider.read([f"h{number}.{ZONE}" for number in range(4)])) == PAGE_SIZE + 3


def test_errors_name_the_record_sets_and_nothing_is_written(line: harness.Line) -> None:
    provider = opened(line)
    before = provider.read()
    bad = RecordSet.of(f"alias.{ZONE}", "CNAME", 60, ["elsewhere.example"])
    with pytest.raises(Permanent) as caught:
        provider.write(create(address("good"), bad))
    assert f"alias.{ZONE} CNAME: Ensure this value is greater than or equal to 3600." in caught.value.found
    assert f"good.{ZONE}" not in caught.value.found
    assert opened(line).read() == before


def test_an_update_of_what_somebody_deleted_is_a_conflict(line: harness.Line) -> None:
    one = address("a")
    first, second = opened(line), opened(line)
    first.write(create(one))
    second.read()
    first.write([Change(one, None)])
    with pytest.raises(Conflict) as caught:
        second.write([Change(one, address("a", "192.0.2.2"))])
    assert f"a.{ZONE} A" in caught.value.found
    assert one.key not in opened(line).read()


def test_a_neighbours_value_keeps_its_letters(line: harness.Line) -> None:
    line.stand_in.rrsets["", "MX"] = line.stand_in._made(
        {"subname": "", "type": "MX", "ttl": 3600, "records": ["10 MX.Example.NET."]}
    )
    provider = opened(line)
    old = provider.read()[ZONE, "MX"]
    provider.write([Change(old, RecordSet.of(ZONE, "MX", 3600, [*old.values, f"20 mx.{ZONE}"]))])
    assert sorted(line.stand_in.rrsets["", "MX"]["records"]) == ["10 MX.Example.NET.", f"20 mx.{ZONE}."]


def test_a_token_that_may_not_write_a_type(line: harness.Line) -> None:
    line.stand_in.forbidden = ("A",)
    with pytest.raises(Permanent) as caught:
        opened(line).write(create(address("a")))
    assert "Insufficient token permissions" in caught.value.found
    assert "policy" in caught.value.remedy


def test_wrong_token_and_missing_domain(line: harness.Line) -> None:
    with pytest.raises(Permanent, match=r"refused the key.*Invalid token") as caught:
        opened(line, api_token="wrong").read()
    assert "api_token" in caught.value.remedy
    line.stand_in.zone = "other.example"
    with pytest.raises(Permanent, match=f"has no zone {ZONE}"):
        opened(line).read()


def test_too_many_requests_tell_when_to_come_again(line: harness.Line) -> None:
    line.faults = lambda number, method, url: harness.status(429, b'{"detail": "Slow."}', retry_after="50")
    with pytest.raises(Throttled) as caught:
        opened(line).read()
    assert caught.value.after == 50


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"minimum_ttl": "x"}', b"null", b"<html>"])
def test_an_answer_of_another_shape_is_garbled(line: harness.Line, body: bytes) -> None:
    line.faults = lambda number, method, url: harness.status(200, body)
    with pytest.raises(Garbled):
        opened(line).read()


@pytest.mark.parametrize("body", [b'{"a": 1}', b'[{"name": 1}]', b"[1]", b'[{"name": "a.", "type": "A", "ttl": 1}]'])
def test_record_sets_of_another_shape_are_garbled(line: harness.Line, body: bytes) -> None:
    line.faults = lambda number, method, url: harness.status(200, body) if "rrsets" in url else None
    with pytest.raises(Garbled):
        opened(line).read()
