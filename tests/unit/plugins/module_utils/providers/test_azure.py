# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Azure DNS has: etags, relative names, TXT as lists of strings, metadata, aliases, empty record sets."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import azure
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Garbled,
    Permanent,
    Throttled,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Throttle
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.azure import (
    CREDENTIALS,
    PAGE,
    StandIn,
)
from hypothesis import given
from hypothesis import strategies as st

ZONE = harness.ZONE


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle, "wait", lambda self: None)


@pytest.fixture
def line() -> harness.Line:
    return harness.Line(StandIn(ZONE))


def opened(line: harness.Line, options: Any = None, **credentials: str) -> azure.Azure:
    return azure.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, options or {}, connect=line.connect))


def put(provider: azure.Azure, record_set: RecordSet) -> None:
    provider.write([Change(provider.read().get(record_set.key), record_set)])


def test_foreign_values_keep_their_layout_and_the_set_its_metadata(line: harness.Line) -> None:
    theirs = [{"value": ["two", "strings"]}, {"value": ["one"]}]
    metadata = {"owner": "them"}
    line.stand_in.store("@", "TXT", {"TTL": 77, "TXTRecords": theirs, "metadata": metadata})
    provider = opened(line)
    before = provider.read()[ZONE, "TXT"]
    assert before == RecordSet.of(ZONE, "TXT", 77, ["one", "twostrings"])
    put(provider, RecordSet.of(ZONE, "TXT", 77, [*before.values, "x" * 300]))
    now = line.stand_in.sets["@", "TXT"]["properties"]
    assert all(each in now["TXTRecords"] for each in [*theirs, {"value": ["x" * 255, "x" * 45]}])
    put(provider, before)
    now = line.stand_in.sets["@", "TXT"]["properties"]
    assert sorted(now["TXTRecords"], key=str) == sorted(theirs, key=str)
    assert (now["TTL"], now["metadata"]) == (77, metadata)


@given(st.text(st.characters(codec="utf-8"), max_size=600))
def test_strings_are_cut_between_characters(text: str) -> None:
    strings = azure._strings(RecordSet.of("a", "TXT", 60, [text]), text)
    assert "".join(strings) == text
    assert strings
    assert all(0 < len(each.encode("utf-8")) <= 255 for each in strings[:-1])
    assert len(strings[-1].encode("utf-8")) <= 255


def test_bytes_that_are_no_text_are_refused(line: harness.Line) -> None:
    with pytest.raises(Permanent, match=f"odd.{ZONE} TXT"):
        put(opened(line), RecordSet.of(f"odd.{ZONE}", "TXT", 60, ["\udcff"]))


@pytest.mark.parametrize(
    ("name", "relative"), [(ZONE, "@"), (f"a.b.{ZONE}", "a.b"), (f"*.{ZONE}", "*"), (f"*.w.{ZONE}", "*.w")]
)
def test_names_are_relative_there(line: harness.Line, name: str, relative: str) -> None:
    some = RecordSet.of(name, "MX", 60, ["10 mx.example.net", f"20 mx.{ZONE}"])
    put(opened(line), some)
    stored = line.stand_in.sets[relative, "MX"]["properties"]["MXRecords"]
    assert stored == [{"preference": 10, "exchange": "mx.example.net"}, {"preference": 20, "exchange": f"mx.{ZONE}"}]
    assert opened(line).read()[some.key] == some


def test_a_target_with_a_final_dot_is_the_same(line: harness.Line) -> None:
    line.stand_in.store("www", "CNAME", {"TTL": 60, "CNAMERecord": {"cname": "Elsewhere.Example."}})
    assert opened(line).read()[f"www.{ZONE}", "CNAME"].values == ("elsewhere.example",)


def test_an_alias_is_shown_and_never_changed(line: harness.Line) -> None:
    target = {"id": "/subscriptions/x/resourceGroups/y/providers/Microsoft.Network/publicIPAddresses/z"}
    line.stand_in.store("www", "A", {"TTL": 60, "targetResource": target})
    before = dict(line.stand_in.sets)
    provider = opened(line)
    shown = provider.read()[f"www.{ZONE}", "A"]
    for after in (None, RecordSet.of(*shown.key, 60, ["192.0.2.9"])):
        with pytest.raises(Permanent, match=f"www.{ZONE} A is an alias of .*publicIPAddresses/z") as caught:
            provider.write([Change(shown, after)])
        assert caught.value.remedy
    assert line.stand_in.sets == before


def test_a_record_set_without_records_is_filled(line: harness.Line) -> None:
    line.stand_in.store("a", "A", {"TTL": 60, "ARecords": [], "metadata": {"why": "kept"}})
    provider = opened(line)
    some = RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"])
    assert some.key not in provider.read()
    put(provider, some)
    assert provider.read()[some.key] == some
    assert line.stand_in.sets["a", "A"]["properties"]["metadata"] == {"why": "kept"}


def test_all_pages_are_read(line: harness.Line) -> None:
    for n in range(3 * PAGE):
        line.stand_in.store(f"n{n}", "A", {"TTL": 60, "ARecords": [{"ipv4Address": "192.0.2.1"}]})
    assert len(opened(line).read([f"n1.{ZONE}"])) == 3 * PAGE + 1
    assert len(line.requests) == 5  # the token and four pages


def test_each_write_knows_the_etag_of_the_one_before(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    sets = [RecordSet.of(f"a.{ZONE}", "A", ttl, ["192.0.2.1"]) for ttl in (60, 61, 62)]
    for before, after in zip([None, *sets], [*sets, None]):
        provider.write([Change(before, after)])
    provider.write([Change(None, sets[0])])
    assert opened(line).read()[sets[0].key] == sets[0]


def test_whoever_is_overtaken_meets_a_conflict(line: harness.Line) -> None:
    some = RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"])
    slow = opened(line)
    slow.read()
    put(opened(line), some)
    with pytest.raises(Conflict):
        slow.write([Change(None, some)])
    slow.read()
    put(opened(line), RecordSet.of(*some.key, 61, ["192.0.2.1"]))
    before = dict(line.stand_in.sets)
    for after in (None, RecordSet.of(*some.key, 60, ["192.0.2.9"])):
        with pytest.raises(Conflict):
            slow.write([Change(some, after)])
    assert line.stand_in.sets == before


def test_a_record_set_that_is_gone_is_no_success_of_ours(line: harness.Line) -> None:
    some = RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"])
    provider = opened(line)
    put(provider, some)
    line.faults = lambda number, method, url: harness.status(204, b"")
    with pytest.raises(Conflict, match=f"a.{ZONE} A"):
        provider.write([Change(some, None)])


def test_errors_have_the_meaning_of_the_service(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    line.faults = lambda number, method, url: harness.status(
        429, b'{"error": {"code": "TooManyRequests", "message": "wait"}}', retry_after="17"
    )
    with pytest.raises(Throttled, match="wait") as caught:
        provider.read()
    assert caught.value.after == 17
    for body in (b"[]", b"{}", b'{"value": [{"name": "a"}]}'):
        line.faults = lambda number, method, url, body=body: harness.status(200, body)
        with pytest.raises(Garbled):
            provider.read()


@pytest.mark.parametrize("wrong", [{"client_secret": "no"}, {"client_id": "no"}])
def test_a_wrong_secret_is_told_and_not_shown(line: harness.Line, wrong: dict[str, str]) -> None:
    with pytest.raises(Permanent, match=r"refused the key.*AADSTS7000215") as caught:
        opened(line, **wrong).read()
    assert CREDENTIALS["client_secret"] not in str(vars(caught.value))


def test_a_zone_may_name_another_group(line: harness.Line) -> None:
    with pytest.raises(Permanent, match=f"no zone {ZONE}"):
        opened(line, {"resource_group": "other"}).read()
    assert (ZONE, "NS") in opened(line, {"resource_group": "a-group"}, resource_group="other").read()


def test_the_token_goes_to_no_other_host(line: harness.Line) -> None:
    page = b'{"value": [], "nextLink": "https://evil.example/subscriptions/x?y=z"}'
    line.faults = lambda number, method, url: harness.status(200, page) if number == 2 else None
    with pytest.raises(Permanent):
        opened(line).read()
    assert {url.split("/")[2] for _method, url in line.requests} == {
        "login.microsoftonline.com",
        "management.azure.com",
    }
