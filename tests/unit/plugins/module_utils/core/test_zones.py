# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import manifest, records, zones
from ansible_collections.mailops.mta.plugins.module_utils.core.records import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import Plan, Wanted, apply, plan
from hypothesis import given, settings
from hypothesis import strategies as st

ZONE = "example.com"
NAMES = st.sampled_from([ZONE, "a.example.com", "b.example.com", "k._domainkey.example.com"])
TEXTS = st.sampled_from(
    [
        "v=spf1 -all",
        "v=spf1 mx -all",
        "v=DMARC1; p=none",
        "v=DKIM1; p=AA",
        "p=BB",
        "google-site-verification=1",
        "x",
        "",
    ]
)
IPS = st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
TTLS = st.sampled_from([60, 300, 3600])


def record_sets(texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[RecordSet]:
    return st.one_of(
        st.builds(RecordSet.of, NAMES, st.just("TXT"), TTLS, st.lists(texts, min_size=1, max_size=3)),
        st.builds(RecordSet.of, NAMES, st.just("A"), TTLS, st.lists(IPS, min_size=1, max_size=2)),
        st.builds(RecordSet.of, NAMES, st.just("MX"), TTLS, st.just(["10 a.example.com"])),
    )


def states() -> st.SearchStrategy[dict[Key, RecordSet]]:
    return st.lists(record_sets(), max_size=6).map(lambda sets: {each.key: each for each in sets})


def wanteds() -> st.SearchStrategy[Wanted]:
    return st.lists(record_sets(), max_size=6).map(
        lambda sets: Wanted(tuple({each.key: each for each in sets}.values()))
    )


def all_of(made: Plan) -> list[Change]:
    return [*made.changes, *made.manifest]


def done(state: dict[Key, RecordSet], wanted: Wanted, owner: str, **how: Any) -> dict[Key, RecordSet]:
    return apply(state, all_of(plan(ZONE, state, wanted, owner, **how)))


def values(state: dict[Key, RecordSet]) -> set[tuple[Key, str]]:
    return {
        (key, value) for key, each in state.items() if not manifest.is_manifest(key[0], ZONE) for value in each.values
    }


@given(states(), wanteds(), wanteds(), st.booleans())
def test_applying_a_plan_leaves_nothing_to_plan(
    state: dict[Key, RecordSet], old: Wanted, new: Wanted, retire: bool
) -> None:
    state = done(done(state, old, "us"), new, "us", retire=retire)
    assert plan(ZONE, state, new, "us", retire=retire).empty


@given(states(), wanteds())
def test_all_that_is_wanted_stands_there(state: dict[Key, RecordSet], wanted: Wanted) -> None:
    after = values(done(state, wanted, "us"))
    assert {(each.key, value) for each in wanted.sets for value in each.values} <= after


@given(states(), wanteds(), wanteds())
def test_foreign_values_survive_with_their_ttl(state: dict[Key, RecordSet], old: Wanted, new: Wanted) -> None:
    claims = {
        (each.key, zones.claim(each.name, value) if each.type == "TXT" else None)
        for wanted in (old, new)
        for each in wanted.sets
        for value in each.values
    }
    foreign = {
        (key, value)
        for key, value in values(state)
        if (key, zones.claim(key[0], value) if key[1] == "TXT" else None) not in claims
    }
    after = done(done(done(state, old, "us"), new, "us"), Wanted(()), "us", retire=True)
    assert foreign <= values(after)
    for key, _value in foreign:
        assert after[key].ttl == state[key].ttl


@given(states(), wanteds())
def test_retirement_takes_back_exactly_what_was_added(state: dict[Key, RecordSet], wanted: Wanted) -> None:
    added = values(done(state, wanted, "us"))
    after = values(done(done(state, wanted, "us"), Wanted(()), "us", retire=True))
    ours = {(each.key, value) for each in wanted.sets for value in each.values}
    assert after == added - ours


@given(states(), wanteds(), wanteds(), wanteds())
def test_two_owners_never_touch_each_other(
    state: dict[Key, RecordSet], theirs: Wanted, ours: Wanted, later: Wanted
) -> None:
    state = done(state, theirs, "them")
    listed = {(each.key, value) for each in theirs.sets for value in each.values}
    for wanted in (ours, later, Wanted(())):
        made = plan(ZONE, state, wanted, "us", retire=True)
        state = apply(state, all_of(made))
        assert listed <= values(state)
        for change in made.changes:
            if change.retimed and change.before:
                assert not any((change.key, value) in listed for value in change.before.values)
    # A TTL that was left alone for a neighbour is theirs again when the neighbour goes.
    assert not any(change.added or change.removed for change in all_of(plan(ZONE, state, theirs, "them")))


@given(states(), wanteds(), wanteds(), st.booleans(), st.data())
def test_killed_anywhere_the_next_run_finishes(
    state: dict[Key, RecordSet], old: Wanted, new: Wanted, retire: bool, data: st.DataObject
) -> None:
    state = done(state, old, "us")
    whole = done(state, new, "us", retire=retire)
    made = plan(ZONE, state, new, "us", retire=retire)
    steps = [*made.manifest_before, *made.changes, *made.manifest_after]
    assert values(apply(state, steps)) == values(whole)
    killed = apply(state, steps[: data.draw(st.integers(0, len(steps)))])
    assert done(killed, new, "us", retire=retire) == whole


@given(states(), wanteds(), wanteds(), st.data())
def test_killed_anywhere_nothing_ours_is_forgotten(
    state: dict[Key, RecordSet], old: Wanted, new: Wanted, data: st.DataObject
) -> None:
    made = plan(ZONE, state, new, "us")
    steps = [*made.manifest_before, *made.changes, *made.manifest_after]
    killed = apply(state, steps[: data.draw(st.integers(0, len(steps)))])
    before = values(state)
    ours = {(each.key, value) for each in new.sets for value in each.values}
    left = values(done(killed, Wanted(()), "us", retire=True))
    assert not (left - before) & ours


def test_equal_records_are_adopted_without_a_change() -> None:
    state = {(ZONE, "TXT"): RecordSet.of(ZONE, "TXT", 60, ["v=spf1 -all", "other"])}
    made = plan(ZONE, state, Wanted((RecordSet.of(ZONE, "TXT", 300, ["v=spf1 -all"]),)), "us")
    assert made.changes == ()
    assert [change.key[0] for change in made.manifest] == [f"_mailops.{ZONE}"]


def test_what_has_no_values_yet_rests() -> None:
    key = "k._domainkey.example.com"
    state = done({}, Wanted((RecordSet.of(key, "TXT", 60, ["v=DKIM1; p=AA"]),)), "us")
    held = Wanted((), frozenset([(key, "TXT")]))
    made = plan(ZONE, state, held, "us", retire=True)
    assert made.empty
    assert made.retirable == ()
    assert not plan(ZONE, state, Wanted(()), "us", retire=True).empty


def test_an_alias_in_the_way_is_a_finding_and_stays() -> None:
    state = {("a.example.com", "CNAME"): RecordSet.of("a.example.com", "CNAME", 60, ["elsewhere.example"])}
    made = plan(ZONE, state, Wanted((RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"]),)), "us")
    assert made.empty
    assert "alias" in made.findings[0].why


def test_our_own_alias_makes_room_when_retired() -> None:
    state = done({}, Wanted((RecordSet.of("a.example.com", "CNAME", 60, ["elsewhere.example"]),)), "us")
    wanted = Wanted((RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"]),))
    assert plan(ZONE, state, wanted, "us").findings
    assert [change.action for change in plan(ZONE, state, wanted, "us", retire=True).changes] == ["delete", "create"]


def _zone_of(count: int) -> tuple[dict[Key, RecordSet], Wanted]:
    wanted = Wanted(tuple(RecordSet.of(f"h{n}.example.com", "A", 60, [f"192.0.2.{n}"]) for n in range(count)))
    return done({}, wanted, "us"), wanted


@pytest.mark.parametrize(("count", "gone", "over"), [(10, 3, False), (10, 4, True), (9, 9, False), (100, 31, True)])
def test_the_safety_limit_counts_owned_values(count: int, gone: int, over: bool) -> None:
    state, wanted = _zone_of(count)
    made = plan(ZONE, state, Wanted(wanted.sets[gone:]), "us", retire=True)
    assert (made.owned, made.touched) == (count, gone)
    assert made.over(30) is over


def test_foreign_values_do_not_dilute_the_safety_limit() -> None:
    state, _wanted = _zone_of(10)
    foreign = {
        (f"f{n}.example.com", "A"): RecordSet.of(f"f{n}.example.com", "A", 60, ["192.0.2.99"]) for n in range(90)
    }
    assert plan(ZONE, {**state, **foreign}, Wanted(()), "us", retire=True).percent == 100


@pytest.mark.parametrize("count", [0, 1, 512, 513, 5000, 9000])
def test_a_manifest_of_any_size_fits_messages(count: int) -> None:
    marks = {manifest.mark((f"{n}.example.com", "A"), "192.0.2.1") for n in range(count)}
    made = manifest.changes({}, ZONE, "us", marks)
    state = apply({}, made)
    assert manifest.Manifest.read(state, ZONE, "us").ours == marks
    assert manifest.changes(state, ZONE, "us", marks) == []
    assert all(len(value) < 8_000 for each in state.values() for value in each.values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1200), st.integers(0, 1200))
def test_a_manifest_may_grow_and_shrink_over_its_layouts(first: int, second: int) -> None:
    def marks(count: int) -> set[bytes]:
        return {manifest.mark((f"{n}.example.com", "A"), "192.0.2.1") for n in range(count)}

    other = RecordSet.of(f"_mailops.{ZONE}", "TXT", 60, ["v=mailops1; f=them; h=AAAAAAAAAAA"])
    state = apply({other.key: other}, manifest.changes({other.key: other}, ZONE, "us", marks(first)))
    state = apply(state, manifest.changes(state, ZONE, "us", marks(second)))
    assert manifest.Manifest.read(state, ZONE, "us").ours == marks(second)
    assert manifest.Manifest.read(state, ZONE, "them").ours == {bytes(8)}


@pytest.mark.parametrize(
    ("rtype", "written", "canonical"),
    [
        ("AAAA", "2001:DB8:0::10", "2001:db8::10"),
        ("MX", "010  Mx.Example.COM.", "10 mx.example.com"),
        ("MX", "0 .", "0"),
        ("PTR", "Host.Example.com.", "host.example.com"),
        ("SRV", "0 5 25 A.example.com.", "0 5 25 a.example.com"),
        ("TLSA", "3 1 1 AB CD", "3 1 1 abcd"),
        ("CAA", '0  issue "ca.example"', '0 issue "ca.example"'),
        ("TXT", '"a" "b"', "ab"),
    ],
)
def test_canonical_values(rtype: str, written: str, canonical: str) -> None:
    assert records.canonical(rtype, written) == canonical
    assert records.canonical(rtype, records.presentation(rtype, canonical)) == canonical


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"name": "a.example.com", "type": "A", "values": ["fd00::1"]}, "Expected 4 octets"),
        ({"name": "a.example.com", "type": "MX", "values": ["mail.example.com"]}, "number"),
        ({"name": "a.example.net", "type": "A", "values": ["192.0.2.1"]}, "none of the zones"),
        ({"name": "a b.example.com", "type": "A", "values": ["192.0.2.1"]}, "cannot stand"),
        ({"name": "a.example.com", "type": "SOA", "values": ["x"]}, "belongs to the server"),
        ({"name": "_mailops.example.com", "type": "TXT", "values": ["x"]}, "owned values"),
        ({"name": "a.example.com", "type": "TXT", "ttl": -1, "values": ["x"]}, "TTL"),
        ({"name": "a.example.com", "type": "CNAME", "values": ["a.test", "b.test"]}, "alias"),
        ({"name": "a.example.com", "type": "t x", "values": ["x"]}, "capitals"),
    ],
)
def test_wrong_records_are_findings(entry: dict[str, Any], why: str) -> None:
    wanted, findings = zones.assign([ZONE], [entry])
    assert wanted[ZONE] == Wanted(())
    assert why in findings[0].why


def test_records_go_to_the_longest_zone_and_unite() -> None:
    wanted, findings = zones.assign(
        ["example.com", "sub.example.com"],
        [
            {"name": "A.sub.example.com.", "type": "TXT", "ttl": 300, "values": ["one"]},
            {"name": "a.sub.example.com", "type": "TXT", "ttl": 60, "values": ['"t" "wo"', "one"]},
            {"name": "b.example.com", "type": "TXT", "values": None},
        ],
    )
    assert findings == []
    assert wanted["sub.example.com"].sets == (RecordSet.of("a.sub.example.com", "TXT", 60, ["one", "two"]),)
    assert wanted["example.com"] == Wanted((), frozenset([("b.example.com", "TXT")]))
