# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Cloudflare has: records with ids, comments and tags, proxied and locked ones, automatic TTLs, batches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan as zones
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.plan import Wanted
from ansible_collections.mailops.mta.plugins.module_utils.providers import cloudflare
from ansible_collections.mailops.mta.plugins.module_utils.providers.cloudflare import Cloudflare
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Garbled,
    Permanent,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.cloudflare import (
    CREDENTIALS,
    PAGE_SIZE,
    StandIn,
)

ZONE = harness.ZONE


@pytest.fixture
def line() -> harness.Line:
    return harness.Line(StandIn(ZONE))


def opened(line: harness.Line, **credentials: str) -> Cloudflare:
    return cloudflare.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, connect=line.connect))


def apply(provider: Cloudflare, *sets: RecordSet) -> None:
    plan = zones.plan(ZONE, provider.read(), Wanted(sets), "us", limits=provider.limits)
    provider.write(plan.changes)


def contents(line: harness.Line, name: str) -> dict[str, Any]:
    return {each["content"]: each for each in line.stand_in.records.values() if each["name"] == name}


ODD = ('quote " backslash \\ semicolon ;', "bücher", "x" * 255, "y" * 256, " two  spaces ", "z" * 4080)


@pytest.mark.parametrize("text", ODD)
def test_txt_of_any_kind_is_read_as_it_was_written(line: harness.Line, text: str) -> None:
    wanted = RecordSet.of(f"odd.{ZONE}", "TXT", 60, [text])
    provider = opened(line)
    provider.read()
    provider.write([Change(None, wanted)])
    assert opened(line).read() == {wanted.key: wanted}


@pytest.mark.parametrize("content", ["v=DMARC1; p=none", '"v=DMARC1; p=none"', '"v=DMARC1;" " p=none"'])
def test_txt_of_others_is_the_same_quoted_or_not(line: harness.Line, content: str) -> None:
    line.stand_in.add(name=f"_dmarc.{ZONE}", type="TXT", content=content)
    wanted = RecordSet.of(f"_dmarc.{ZONE}", "TXT", 300, ["v=DMARC1; p=none"])
    assert opened(line).read() == {wanted.key: wanted}


def test_every_page_is_read_and_a_few_names_are_asked_alone(line: harness.Line) -> None:
    for number in range(2 * PAGE_SIZE + 1):
        line.stand_in.add(name=f"h{number}.{ZONE}", type="A", content="192.0.2.1")
    provider = opened(line)
    assert len(provider.read()) == 2 * PAGE_SIZE + 1
    before = len(line.requests)
    assert set(provider.read([f"h1.{ZONE}", f"*.{ZONE}"])) == {(f"h1.{ZONE}", "A")}
    assert len(line.requests) == before + 2


def test_a_new_value_takes_the_place_of_the_old_one_with_its_comment_and_tags(line: harness.Line) -> None:
    old = line.stand_in.add(name=ZONE, type="TXT", content='"v=spf1 -all"', comment="see 4711", tags=["owner:mail"])
    theirs = line.stand_in.add(name=ZONE, type="TXT", content="site-verification=abc", ttl=7200, comment="theirs")
    provider = opened(line)
    apply(provider, RecordSet.of(ZONE, "TXT", 300, ["v=spf1 mx -all"]))
    kept = line.stand_in.records[old["id"]]
    assert (kept["content"], kept["comment"], kept["tags"]) == ('"v=spf1 mx -all"', "see 4711", ["owner:mail"])
    assert line.stand_in.records[theirs["id"]] == theirs
    assert len(line.stand_in.records) == 2


def test_what_somebody_adds_between_read_and_write_survives(line: harness.Line) -> None:
    provider = opened(line)
    state = provider.read()
    line.stand_in.add(name=ZONE, type="TXT", content='"theirs"', ttl=60)
    provider.write(zones.plan(ZONE, state, Wanted((RecordSet.of(ZONE, "TXT", 300, ["v=spf1 -all"]),)), "us").changes)
    assert set(contents(line, ZONE)) == {'"theirs"', '"v=spf1 -all"'}


def test_a_new_ttl_is_written_to_every_record_of_the_set_and_leaves_their_content(line: harness.Line) -> None:
    line.stand_in.add(name=ZONE, type="TXT", content='"a" "b"', ttl=60)
    line.stand_in.add(name=ZONE, type="TXT", content="c", ttl=3600)
    provider = opened(line)
    before = provider.read()[ZONE, "TXT"]
    assert before.ttl == 60
    provider.write([Change(before, before._replace(ttl=120))])
    assert {each["ttl"] for each in line.stand_in.records.values()} == {120}
    assert opened(line).read()[ZONE, "TXT"].values == before.values


def test_an_automatic_ttl_is_300_seconds_and_no_difference(line: harness.Line) -> None:
    line.stand_in.add(name=f"a.{ZONE}", type="A", content="192.0.2.1", ttl=1)
    wanted = RecordSet.of(f"a.{ZONE}", "A", 300, ["192.0.2.1"])
    state = opened(line).read()
    assert state == {wanted.key: wanted}
    assert not zones.plan(ZONE, state, Wanted((wanted,)), "us").changes


@pytest.mark.parametrize("values", [["192.0.2.2"], ["192.0.2.1", "192.0.2.2"]])
def test_a_proxied_record_is_read_and_never_touched(line: harness.Line, values: list[str]) -> None:
    record = line.stand_in.add(name=f"mx.{ZONE}", type="A", content="192.0.2.1", proxied=True)
    provider = opened(line)
    before = provider.read()[f"mx.{ZONE}", "A"]
    change = Change(before, RecordSet.of(f"mx.{ZONE}", "A", 300, values))
    for act in (lambda: provider.write([change]), lambda: provider.cost(change)):
        with pytest.raises(Permanent, match=f"mx.{ZONE} A 192.0.2.1 is proxied") as caught:
            act()
        assert "DNS only" in caught.value.remedy
    assert line.stand_in.records == {record["id"]: record}
    assert not [method for method, _url in line.requests if method != "GET"]


def test_a_locked_record_stops_what_would_change_it_and_nothing_else(line: harness.Line) -> None:
    line.stand_in.add(
        name=ZONE, type="TXT", content='"v=spf1 include:_spf.mx.cloudflare.net ~all"', meta={"read_only": True}
    )
    provider = opened(line)
    apply(provider, RecordSet.of(ZONE, "TXT", 300, ["verification=1"]))
    assert len(line.stand_in.records) == 2
    with pytest.raises(Permanent, match="is locked"):
        apply(provider, RecordSet.of(ZONE, "TXT", 300, ["v=spf1 -all"]))


def test_one_refused_record_leaves_the_whole_batch_undone(line: harness.Line) -> None:
    line.stand_in.add(name=f"a.{ZONE}", type="CNAME", content="elsewhere.example")
    provider = opened(line)
    provider.read()
    changes = [Change(None, RecordSet.of(f"{name}.{ZONE}", "A", 60, ["192.0.2.1"])) for name in ("b", "a")]
    with pytest.raises(Permanent, match=r"HTTP 400: .*A, AAAA, or CNAME record with that host already exists"):
        provider.write(changes)
    assert len(line.stand_in.records) == 1


def test_a_record_that_is_gone_or_there_already_is_a_conflict(line: harness.Line) -> None:
    record = line.stand_in.add(name=f"a.{ZONE}", type="A", content="192.0.2.1")
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "A"]
    for after in (None, RecordSet.of(f"a.{ZONE}", "A", 300, ["192.0.2.2"])):
        del line.stand_in.records[record["id"]]
        with pytest.raises(Conflict, match="not as it was read"):
            provider.write([Change(before, after)])
        line.stand_in.records[record["id"]] = record
    with pytest.raises(Conflict, match="identical"):
        provider.write([Change(None, before)])


def test_what_was_written_can_be_changed_before_it_is_read_again(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    one, two = (RecordSet.of(f"a.{ZONE}", "TXT", 60, [text]) for text in ("one", "two"))
    for change in (Change(None, one), Change(one, two), Change(two, None), Change(None, two), Change(two, None)):
        provider.write([change])
    assert opened(line).read() == {}


def test_the_cost_is_the_number_of_operations(line: harness.Line) -> None:
    provider = opened(line)
    names = [f"{number}.{ZONE}" for number in range(100)]
    provider.read()
    provider.write([Change(None, RecordSet.of(name, "A", 60, ["192.0.2.1", "192.0.2.2"])) for name in names])
    state = provider.read()
    changes = [Change(each, each._replace(ttl=90, values=("192.0.2.1", "192.0.2.9"))) for each in state.values()]
    assert [provider.cost(change) for change in changes] == [2] * 100
    provider.write(changes)
    assert all(each.ttl == 90 and "192.0.2.9" in each.values for each in provider.read().values())


@pytest.mark.parametrize(
    ("kind", "count", "says"),
    [
        ("secondary", 1, "type secondary"),
        ("partial", 1, "type partial"),
        ("full", 0, "no zone"),
        ("full", 2, "several"),
    ],
)
def test_a_zone_that_cannot_be_written_is_told(line: harness.Line, kind: str, count: int, says: str) -> None:
    line.stand_in.zones = [{**line.stand_in.zones[0], "type": kind}] * count
    with pytest.raises(Permanent, match=says) as caught:
        opened(line).read()
    assert ZONE in caught.value.found
    assert caught.value.remedy


def test_a_wrong_token_is_named_as_such(line: harness.Line) -> None:
    with pytest.raises(Permanent, match="refused the key") as caught:
        opened(line, api_token="wrong").read()
    assert "wrong" not in str(caught.value)
    assert "api_token" in caught.value.remedy


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"result": null}',
        b'{"result": [{"id": "1", "name": "a", "type": "A"}], "result_info": {"total_pages": 1}}',
        b'{"result": [{"id": "1", "name": "a", "type": "MX", "content": "b", "ttl": 1}], "result_info": {}}',
        b'{"result": []}',
    ],
)
def test_an_answer_of_another_shape_is_garbled(line: harness.Line, body: bytes) -> None:
    line.faults = lambda number, method, url: (
        (lambda carry_out: client.Response(200, {}, body)) if "dns_records" in url else None
    )
    with pytest.raises(Garbled):
        opened(line).read()


# What the service handed out on 2026-08-07, as the tests of another project recorded it: kind, fields, canonical value.
RECORDED = [
    ("SRV", {"content": "6 7 foo.com", "priority": 5, "data": '{"port":7,"priority":5,"target":"foo.com","weight":6}'},
     "5 6 7 foo.com"),
    ("SRV", {"content": "65 75 .", "priority": 15, "data": '{"port":75,"priority":15,"target":".","weight":65}'},
     "15 65 75"),
    ("TLSA", {"content": "3 1 1 0AB1", "data": '{"certificate":"0AB1","matching_type":1,"selector":1,"usage":3}'},
     "3 1 1 0ab1"),
    ("SSHFP", {"content": "1 1 66c7", "data": '{"algorithm":1,"fingerprint":"66C7","type":1}'}, "1 1 66c7"),
    ("DS", {"content": "2075 13 2 3f7a", "data": '{"algorithm":13,"digest":"3F7A","digest_type":2,"key_tag":2075}'},
     "2075 13 2 3f7a"),
    ("NAPTR", {"content": '103 20 "A" "E2U+sip" "" example.foo.com.', "data": '{"flags":"A","order":103}'},
     '103 20 "A" "E2U+sip" "" example.foo.com.'),
    ("MX", {"content": "bar.com", "priority": 100}, "100 bar.com"),
    ("PTR", {"content": "foo.com"}, "foo.com"),
    ("TXT", {"content": '"in\\"ter\\"ior"'}, 'in"ter"ior'),
    ("TXT", {"content": '"2back\\\\\\\\slash"'}, "2back\\\\slash"),
]  # fmt: skip


@pytest.mark.parametrize(("rtype", "fields", "value"), RECORDED)
def test_recorded_answers_are_understood(line: harness.Line, rtype: str, fields: dict[str, Any], value: str) -> None:
    if "data" in fields:
        fields = {**fields, "data": json.loads(fields["data"])}
    line.stand_in.add(name=f"r.{ZONE}", type=rtype, **fields)
    assert opened(line).read() == {(f"r.{ZONE}", rtype): RecordSet.of(f"r.{ZONE}", rtype, 300, [value])}


@pytest.mark.parametrize("pages", ["1e999", "-1e999", "null", "[1]", '"many"'])
def test_a_number_of_pages_that_is_none_is_no_answer_of_the_service(line: harness.Line, pages: str) -> None:
    body = f'{{"result": [], "result_info": {{"total_pages": {pages}}}}}'.encode()
    line.faults = lambda _number, _method, url: harness.status(200, body) if "dns_records" in url else None
    with pytest.raises(Garbled):
        opened(line).read()
