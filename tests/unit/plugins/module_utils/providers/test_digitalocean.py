# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only DigitalOcean has: one record in each request, ``@``, TXT without quotes, values that it cannot hold."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import digitalocean
from ansible_collections.mailops.mta.plugins.module_utils.providers.digitalocean import DigitalOcean
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Garbled,
    Permanent,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Throttle
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.digitalocean import (
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


def opened(line: harness.Line, **credentials: str) -> DigitalOcean:
    return digitalocean.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, connect=line.connect))


def methods(line: harness.Line) -> list[str]:
    return [method for method, _url in line.requests if method != "GET"]


# What the service handed out, as the tests of another project recorded it: type, fields, canonical value.
RECORDED: list[tuple[str, dict[str, Any], str]] = [
    ("MX", {"data": "@", "priority": 8}, f"8 {ZONE}"),
    ("MX", {"data": "bar.com", "priority": 5}, "5 bar.com"),
    ("NS", {"data": "@"}, ZONE),
    ("CNAME", {"data": "xn--ndaaa.com"}, "xn--ndaaa.com"),
    ("SRV", {"data": "foo.com", "priority": 5, "port": 7, "weight": 6}, "5 6 7 foo.com"),
    ("SRV", {"data": ".", "priority": 15, "port": 75, "weight": 65}, "15 65 75"),
    ("CAA", {"data": "letsencrypt.org", "flags": 128, "tag": "issue"}, '128 issue "letsencrypt.org"'),
    ("CAA", {"data": ";", "flags": 0, "tag": "issuewild"}, '0 issuewild ";"'),
    ("TXT", {"data": 'in"ter"ior'}, 'in"ter"ior'),
    ("TXT", {"data": '"left'}, '"left'),
    ("TXT", {"data": 'right"'}, 'right"'),
    ("TXT", {"data": "wssemi ; colon"}, "wssemi ; colon"),
    ("TXT", {"data": "trailingws "}, "trailingws "),
]


@pytest.mark.parametrize(("rtype", "fields", "value"), RECORDED)
def test_recorded_answers_are_understood(line: harness.Line, rtype: str, fields: dict[str, Any], value: str) -> None:
    line.stand_in.add(rtype, "r", fields.pop("data"), **fields)
    assert opened(line).read([f"r.{ZONE}"]) == {(f"r.{ZONE}", rtype): RecordSet.of(f"r.{ZONE}", rtype, 1800, [value])}


@pytest.mark.parametrize("data", ["v=DKIM1; p=abcd", '"v=DKIM1; p=ab" "cd"'])
def test_txt_that_somebody_cut_into_strings_is_the_same(line: harness.Line, data: str) -> None:
    line.stand_in.add("TXT", "s._domainkey", data)
    assert opened(line).read()[f"s._domainkey.{ZONE}", "TXT"].values == ("v=DKIM1; p=abcd",)


def test_the_zone_as_a_target_and_its_own_servers_are_read_as_they_are(line: harness.Line) -> None:
    provider = opened(line)
    state = provider.read()
    assert set(state) == {(ZONE, "NS")}
    mx = RecordSet.of(f"a.{ZONE}", "MX", 60, [f"10 {ZONE}", "20 b.example"])
    provider.write([Change(None, mx)])
    assert opened(line).read()[mx.key] == mx


def test_every_page_is_read_and_a_few_names_are_asked_alone(line: harness.Line) -> None:
    for number in range(2 * PAGE_SIZE):
        line.stand_in.add("A", f"h{number}", "192.0.2.1")
    provider = opened(line)
    assert len(provider.read()) == 2 * PAGE_SIZE + 1
    before = len(line.requests)
    assert set(provider.read([f"h1.{ZONE}", f"*.{ZONE}", ZONE])) == {(f"h1.{ZONE}", "A"), (ZONE, "NS")}
    assert len(line.requests) == before + 3


def test_what_somebody_adds_between_read_and_write_survives(line: harness.Line) -> None:
    ours = line.stand_in.add("TXT", "@", "v=spf1 -all", ttl=300)
    kept = line.stand_in.add("TXT", "@", "theirs", ttl=7200)
    provider = opened(line)
    before = provider.read()[ZONE, "TXT"]
    late = line.stand_in.add("TXT", "@", "late", ttl=60)
    provider.write([Change(before, before._replace(values=("theirs", "v=spf1 mx -all")))])
    assert methods(line) == ["PATCH"]
    assert line.stand_in.records[ours["id"]]["data"] == "v=spf1 mx -all"
    assert [line.stand_in.records[each["id"]] for each in (kept, late)] == [kept, late]


def test_new_values_come_before_old_ones_leave(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    one = RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"])
    three = one._replace(ttl=90, values=("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    two = one._replace(values=("192.0.2.4",))
    changes = [Change(None, one), Change(one, three), Change(three, two), Change(two, None)]
    for change in (*changes, Change(None, two), Change(two, None)):
        assert provider.cost(change) > 0
        provider.write([change])
        after = {} if change.after is None else {change.key: change.after}
        assert opened(line).read([one.name]) == after
    assert methods(line) == [
        "POST",
        *["POST", "POST", "PATCH"],
        *["PATCH", "DELETE", "DELETE"],
        "DELETE",
        "POST",
        "DELETE",
    ]


def test_a_record_that_is_gone_is_a_conflict_and_a_zone_that_is_not_there_is_told(line: harness.Line) -> None:
    record = line.stand_in.add("A", "a", "192.0.2.1")
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "A"]
    del line.stand_in.records[record["id"]]
    for after in (None, before._replace(values=("192.0.2.2",))):
        with pytest.raises(Conflict, match="a record is gone"):
            provider.write([Change(before, after)])
    line.stand_in.zone = "other.example"
    with pytest.raises(Permanent, match=f"no zone {ZONE}"):
        provider.read()


@pytest.mark.parametrize("text", ["", "back\\slash", "bücher", "tab\t", "\udc80"])
def test_a_value_that_the_service_would_spoil_is_refused_before_anything_is_written(
    line: harness.Line, text: str
) -> None:
    provider = opened(line)
    provider.read()
    change = Change(None, RecordSet.of(f"a.{ZONE}", "TXT", 60, ["fine", text]))
    for act in (provider.cost, lambda each: provider.write([each])):
        with pytest.raises(Permanent, match=rf"record a\.{ZONE} TXT: DigitalOcean cannot hold the value") as caught:
            act(change)
        assert caught.value.remedy
    assert methods(line) == []


def test_the_longest_value_is_one_that_the_service_takes(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    text = "x" * provider.limits.txt_max
    provider.write([Change(None, RecordSet.of(f"a.{ZONE}", "TXT", 60, [text]))])
    with pytest.raises(Permanent, match=r"HTTP 422: .*too long"):
        provider.write([Change(None, RecordSet.of(f"b.{ZONE}", "TXT", 60, [text + "x"]))])


def test_a_wrong_token_is_named_as_such(line: harness.Line) -> None:
    with pytest.raises(Permanent, match="refused the key") as caught:
        opened(line, api_token="wrong").read()
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [b"[]", b'{"domain_records": []}', b'{"domain_records": [{"name": "a", "type": "A"}], "links": {}}', b"{}"],
)
def test_an_answer_of_another_shape_is_garbled(line: harness.Line, body: bytes) -> None:
    line.faults = lambda number, method, url: lambda carry_out: client.Response(200, {}, body)
    with pytest.raises(Garbled):
        opened(line).read()


def test_the_answer_to_a_write_without_the_record_leaves_it_open_whether_it_happened(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    line.faults = lambda number, method, url: harness.status(201, b"{}")
    with pytest.raises(Garbled) as caught:
        provider.write([Change(None, RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"]))])
    assert caught.value.unsure
