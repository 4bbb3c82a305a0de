# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only OVHcloud has: signed requests, a record for each value, forms of TXT, and a refresh that deploys."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import ovh
from ansible_collections.mailops.mta.plugins.module_utils.providers.ovh import Ovh
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Garbled,
    Permanent,
    Transient,
)
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins.ovh import (
    BATCH,
    CREDENTIALS,
    StandIn,
)

ZONE = harness.ZONE


@pytest.fixture
def line() -> harness.Line:
    return harness.Line(StandIn(ZONE))


def opened(line: harness.Line, **credentials: str) -> Ovh:
    return ovh.open_zone(Access(ZONE, {**CREDENTIALS, **credentials}, connect=line.connect))


def address(*values: str, ttl: int = 3600) -> RecordSet:
    return RecordSet.of(f"a.{ZONE}", "A", ttl, values)


def methods(line: harness.Line) -> list[str]:
    """The requests that write, and how their paths end."""
    return [f"{method} {url.rsplit('/', 1)[1]}" for method, url in line.requests if method != "GET"]


def test_the_clock_of_the_service_counts(line: harness.Line) -> None:
    provider = opened(line)
    provider.clock = lambda: 1_000_000_000.5  # years behind
    provider.read()
    provider.read()
    assert [url for _method, url in line.requests].count("https://eu.api.ovh.com/1.0/auth/time") == 1


@pytest.mark.parametrize("name", list(CREDENTIALS))
def test_a_wrong_key_of_any_kind_is_told(line: harness.Line, name: str) -> None:
    with pytest.raises(Permanent, match="refused the key") as caught:
        opened(line, **{name: "wrong"}).read()
    assert name in caught.value.remedy
    assert CREDENTIALS["application_secret"] not in str(vars(caught.value))


def test_a_call_that_is_not_granted_and_a_missing_zone(line: harness.Line) -> None:
    line.stand_in.granted = False
    with pytest.raises(Permanent, match=r"refused access .*has not been granted") as caught:
        opened(line).read()
    assert "/domain/zone/<zone>/*" in caught.value.remedy
    line.stand_in.granted, line.stand_in.zone = True, "other.example"
    with pytest.raises(Permanent, match=f"has no zone {ZONE}"):
        opened(line).read()


@pytest.mark.parametrize(
    ("kind", "subdomain", "target", "ttl", "shown"),
    [
        ("SPF", "", '"v=spf1 include:mx.ovh.com ~all"', 0, (ZONE, "TXT", 3600, "v=spf1 include:mx.ovh.com ~all")),
        ("DKIM", "s._domainkey", "v=DKIM1; p=Ab+/", 60, (f"s._domainkey.{ZONE}", "TXT", 60, "v=DKIM1; p=Ab+/")),
        ("DMARC", "_dmarc", "v=DMARC1; p=none", 60, (f"_dmarc.{ZONE}", "TXT", 60, "v=DMARC1; p=none")),
        ("TXT", "*.w", '"a" "b"', 60, (f"*.w.{ZONE}", "TXT", 60, "ab")),
        ("MX", "", "10 mx", 60, (ZONE, "MX", 60, f"10 mx.{ZONE}")),
        ("CNAME", "WWW", "Elsewhere.example.", 60, (f"www.{ZONE}", "CNAME", 60, "elsewhere.example")),
        ("LOC", "l", "no such place", 60, (f"l.{ZONE}", "LOC", 60, "no such place")),
    ],
)
def test_its_forms(
    line: harness.Line, kind: str, subdomain: str, target: str, ttl: int, shown: tuple[str, str, int, str]
) -> None:
    line.stand_in.add(kind, subdomain, target, ttl)
    name, rtype, seconds, value = shown
    assert opened(line).read()[name, rtype] == RecordSet(name, rtype, seconds, (value,))


def test_an_spf_made_by_the_console_gives_way_to_ours(line: harness.Line) -> None:
    old = line.stand_in.add("SPF", "", '"v=spf1 ~all"', 0)
    theirs = line.stand_in.add("TXT", "", '"theirs"', 0)
    provider = opened(line)
    before = provider.read()[ZONE, "TXT"]
    provider.write([Change(before, RecordSet.of(ZONE, "TXT", 3600, ["theirs", "v=spf1 -all"]))])
    assert methods(line) == ["POST record", f"DELETE {old}", "POST refresh"]
    assert line.stand_in.records[theirs]["target"] == '"theirs"'
    assert opened(line).read()[ZONE, "TXT"].values == ("theirs", "v=spf1 -all")


def test_a_long_text_is_one_quoted_string(line: harness.Line) -> None:
    key = "v=DKIM1; k=rsa; p=" + "Ab+/" * 180
    opened(line).write([Change(None, RecordSet.of(f"s._domainkey.{ZONE}", "TXT", 3600, [key]))])
    assert f'"{key}"' in [each["target"] for each in line.stand_in.records.values()]


@pytest.mark.parametrize("text", ['say "hi"', "back\\slash", "b\u00fccher"])
def test_a_text_that_it_would_spoil_is_refused_before_anything_is_sent(line: harness.Line, text: str) -> None:
    provider = opened(line)
    provider.read()
    with pytest.raises(Permanent, match=f"^odd.{ZONE} TXT: "):
        provider.write(
            [Change(None, address("192.0.2.1")), Change(None, RecordSet.of(f"odd.{ZONE}", "TXT", 60, [text]))]
        )
    assert methods(line) == []


def test_a_record_takes_a_new_value_and_others_keep_theirs(line: harness.Line) -> None:
    one, two = (line.stand_in.add("A", "a", f"192.0.2.{number}", 3600) for number in (1, 2))
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "A"]
    late = line.stand_in.add("A", "a", "192.0.2.99", 3600)  # somebody else, after the read
    provider.write([Change(before, address("192.0.2.2", "192.0.2.3", "192.0.2.4"))])
    assert methods(line) == [f"PUT {one}", "POST record", "POST refresh"]
    left = {number: line.stand_in.records[number]["target"] for number in (one, two, late)}
    assert left == {one: "192.0.2.3", two: "192.0.2.2", late: "192.0.2.99"}


def test_a_new_ttl_goes_to_each_record_that_has_another(line: harness.Line) -> None:
    one, _two = (line.stand_in.add("A", "a", f"192.0.2.{number}", ttl) for number, ttl in ((1, 600), (2, 7200)))
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "A"]
    assert before.ttl == 600
    provider.write([Change(before, address(*before.values, ttl=7200))])
    assert methods(line) == [f"PUT {one}", "POST refresh"]
    assert opened(line).read()[f"a.{ZONE}", "A"].ttl == 7200


def test_what_is_written_is_deployed(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    provider.write([Change(None, address("192.0.2.1"))])
    assert ("a", "A", "192.0.2.1", 3600) in line.stand_in.served


@pytest.mark.parametrize("happened", [True, False])
def test_a_refresh_that_was_not_confirmed_is_asked_for_again(line: harness.Line, happened: bool) -> None:
    fault = harness.dropped if happened else harness.status(500)
    provider = opened(line)
    provider.read()
    line.faults = lambda number, method, url: fault if url.endswith("/refresh") else None
    with pytest.raises(Transient):
        provider.write([Change(None, address("192.0.2.1"))])
    with pytest.raises(Transient):
        provider.read()
    line.faults = harness.no_faults
    assert address("192.0.2.1") in provider.read().values()
    assert ("a", "A", "192.0.2.1", 3600) in line.stand_in.served
    refreshes = line.stand_in.refreshes
    provider.read()
    assert line.stand_in.refreshes == refreshes


def test_a_write_that_was_refused_asks_for_no_refresh(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    with pytest.raises(Permanent, match=rf"refused a.{ZONE} A \(HTTP 400 INVALID_ARGUMENT: Invalid ttl 30"):
        provider.write([Change(None, address("192.0.2.1", ttl=30))])
    provider.read()
    assert line.stand_in.refreshes == 0


def test_a_half_done_write_is_deployed_by_the_next_read(line: harness.Line) -> None:
    provider = opened(line)
    provider.read()
    line.faults = lambda number, method, url: harness.status(500) if methods(line)[1:] else None
    with pytest.raises(Faulty):
        provider.write([Change(None, address("192.0.2.1", "192.0.2.2"))])
    line.faults = harness.no_faults
    assert provider.read()[f"a.{ZONE}", "A"] == address("192.0.2.1")
    assert ("a", "A", "192.0.2.1", 3600) in line.stand_in.served


def test_a_read_that_broke_off_goes_on(line: harness.Line) -> None:
    for number in range(3 * BATCH):
        line.stand_in.add("TXT", f"h{number}", '"x"', 3600)
    provider = opened(line)
    line.faults = lambda number, method, url: harness.status(503) if number % 2 else None
    attempts = 0
    while True:
        attempts += 1
        try:
            state = provider.read()
            break
        except Faulty:
            assert attempts < 20
    assert len([key for key in state if key[1] == "TXT"]) == 3 * BATCH
    assert len(line.requests) == 2 * (1 + 1 + 4)  # the time, the list, four batches; each the second time


def test_a_record_that_went_away_between_list_and_batch(line: harness.Line) -> None:
    number = line.stand_in.add("A", "a", "192.0.2.1", 3600)
    provider = opened(line)

    def faults(_number: int, _method: str, url: str) -> None:
        if str(number) in url:
            line.stand_in.records.pop(number, None)

    line.faults = faults
    with pytest.raises(Conflict, match="went away"):
        provider.read()
    line.faults = harness.no_faults
    assert (f"a.{ZONE}", "A") not in provider.read()


def test_a_record_that_somebody_deleted_meanwhile(line: harness.Line) -> None:
    number = line.stand_in.add("A", "a", "192.0.2.1", 3600)
    provider = opened(line)
    before = provider.read()[f"a.{ZONE}", "A"]
    del line.stand_in.records[number]
    for after in (None, address("192.0.2.2")):
        with pytest.raises(Conflict, match="deleted a record meanwhile"):
            provider.write([Change(before, after)])


@pytest.mark.parametrize("body", [b"{}", b"null", b'"x"', b'[{"key": "1"}]', b'[{"value": {"id": 1}}]', b"<html>"])
def test_an_answer_of_another_shape_is_garbled(line: harness.Line, body: bytes) -> None:
    line.faults = lambda number, method, url: harness.status(200, body) if "/record/" in url else None
    with pytest.raises(Garbled):
        opened(line).read()
    line.faults = lambda number, method, url: harness.status(200, body)
    with pytest.raises(Garbled):
        opened(line).read()
