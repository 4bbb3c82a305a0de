# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import Limits
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import ownership
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan as zones
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.plan import Plan, Retire, Wanted, apply, plan
from hypothesis import given, settings
from hypothesis import strategies as st

ZONE = "example.com"
NAMES = st.sampled_from([ZONE, "a.example.com", "b.example.com", "k._domainkey.example.com"])
TEXTS = st.sampled_from(
    [
        "v=spf1 -all",
        "v=spf1 mx -all",
        "v=spf1 ip4:192.0.2.0/31 include:a.example -all",
        "v=DMARC1; p=none",
        "v=DKIM1; p=AA",
        "p=BB",
        "google-site-verification=1",
        "x",
        "",
    ]
)
IPS = st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
NOW = Retire(zones.NOW)
RETIRES = st.sampled_from([NOW, Retire(zones.DUE), Retire(zones.NEVER)])
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
    return st.builds(wanted_of, st.lists(record_sets(), max_size=6), st.lists(record_sets(), max_size=3))


def wanted_of(sets: list[RecordSet], absent: list[RecordSet]) -> Wanted:
    """As ``assign`` makes it: one record set of each key, and nothing both present and absent."""
    present = {each.key: each for each in sets}
    gone = {
        each.key: RecordSet.of(
            *each.key, each.ttl, set(each.values).difference(present[each.key].values if each.key in present else ())
        )
        for each in absent
    }
    return Wanted(tuple(present.values()), absent=tuple(gone.values()))


def all_of(made: Plan) -> list[Change]:
    return [*made.changes, *made.manifest]


def done(state: dict[Key, RecordSet], wanted: Wanted, owner: str, **how: Any) -> dict[Key, RecordSet]:
    return apply(state, all_of(plan(ZONE, state, wanted, owner, **how)))


def values(state: dict[Key, RecordSet]) -> set[tuple[Key, str]]:
    return {
        (key, value) for key, each in state.items() if not ownership.is_manifest(key[0], ZONE) for value in each.values
    }


@given(states(), wanteds(), wanteds(), RETIRES)
def test_applying_a_plan_leaves_nothing_to_plan(
    state: dict[Key, RecordSet], old: Wanted, new: Wanted, retire: Retire
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
    after = done(done(done(state, old, "us"), new, "us"), Wanted(()), "us", retire=NOW)
    assert foreign <= values(after)
    for key, _value in foreign:
        assert after[key].ttl == state[key].ttl


@given(states(), wanteds())
def test_retirement_takes_back_exactly_what_was_added(state: dict[Key, RecordSet], wanted: Wanted) -> None:
    added = values(done(state, wanted, "us"))
    after = values(done(done(state, wanted, "us"), Wanted(()), "us", retire=NOW))
    ours = {(each.key, value) for each in wanted.sets for value in each.values}
    assert after == added - ours


@given(states(), wanteds(), wanteds(), wanteds())
def test_two_owners_never_touch_each_other(
    state: dict[Key, RecordSet], theirs: Wanted, ours: Wanted, later: Wanted
) -> None:
    state = done(state, theirs, "them")
    listed = {(each.key, value) for each in theirs.sets for value in each.values}
    for wanted in (ours, later, Wanted(())):
        made = plan(ZONE, state, wanted, "us", retire=NOW)
        state = apply(state, all_of(made))
        assert listed <= values(state)
        for change in made.changes:
            if change.retimed and change.before:
                assert not any((change.key, value) in listed for value in change.before.values)
    # A TTL that was left alone for a neighbour is theirs again when the neighbour goes.
    assert not any(change.added or change.removed for change in all_of(plan(ZONE, state, theirs, "them")))


@given(states(), wanteds(), wanteds(), RETIRES, st.data())
def test_killed_anywhere_the_next_run_finishes(
    state: dict[Key, RecordSet], old: Wanted, new: Wanted, retire: Retire, data: st.DataObject
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
    left = values(done(killed, Wanted(()), "us", retire=NOW))
    assert not (left - before) & ours


@given(states(), wanteds(), wanteds(), st.lists(record_sets(), min_size=1, max_size=4), RETIRES)
def test_what_is_absent_leaves_at_once_if_it_is_ours(
    state: dict[Key, RecordSet], old: Wanted, theirs: Wanted, absent: list[RecordSet], retire: Retire
) -> None:
    """Beside that, everything is as without it: what is foreign, another owner's, or waits for its day."""
    state = done(done(state, theirs, "them"), old, "us")
    listed = ownership.Manifest.read(state, ZONE, "us")
    unwanted = {(each.key, value) for each in absent for value in each.values}
    ours = {pair for pair in unwanted & values(state) if ownership.mark(*pair) in listed.ours - listed.others}
    wanted = Wanted((), absent=wanted_of([], absent).absent)
    unwanted &= {(each.key, value) for each in wanted.absent for value in each.values}
    after = done(state, wanted, "us", retire=retire)
    assert values(after) == values(done(state, Wanted(()), "us", retire=retire)) - (ours & unwanted)
    assert not ownership.Manifest.read(after, ZONE, "us").ours & {ownership.mark(*pair) for pair in unwanted}
    assert plan(ZONE, after, wanted, "us", retire=retire).empty
    back = [Change(None, each) for each in absent if not any(key[0] == each.name for key in after)]
    again = plan(ZONE, apply(after, back), wanted, "us", retire=retire)
    assert again.changes == ()  # what somebody else puts there is his


def test_what_is_absent_does_not_wait_for_the_rest_of_its_set() -> None:
    name = "k._domainkey.example.com"
    both = RecordSet.of(name, "TXT", 60, ["one", "two"])
    state = done({}, Wanted((both,)), "us")
    held = frozenset([both.key])
    made = plan(ZONE, state, Wanted((), held, (RecordSet.of(name, "TXT", 60, ["one"]),)), "us", Retire(zones.NEVER))
    assert apply(state, all_of(made))[both.key].values == ("two",)
    assert made.leaving == ()


def test_our_own_alias_makes_room_when_it_is_absent() -> None:
    alias = RecordSet.of("a.example.com", "CNAME", 60, ["elsewhere.example"])
    state = done({}, Wanted((alias,)), "us")
    wanted = Wanted((RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"]),), absent=(alias,))
    assert [change.action for change in plan(ZONE, state, wanted, "us").changes] == ["delete", "create"]
    foreign = {alias.key: alias}
    assert len(plan(ZONE, foreign, wanted, "us").findings) == 1


def test_a_policy_that_is_absent_is_not_waited_for() -> None:
    state = done({}, spf_set("192.0.2.1", "192.0.2.9"), "us", retire=Retire(today=100))
    old = state[ZONE, "TXT"]
    new = Wanted(spf_set("192.0.2.1").sets, absent=(old,))
    assert spf_of(done(state, new, "us", retire=Retire(today=101))) == policies.spf(["192.0.2.1"])
    new = Wanted(spf_set("192.0.2.1", "192.0.2.20").sets, absent=(old,))
    assert spf_of(done(state, new, "us", retire=Retire(today=101))) == policies.spf(["192.0.2.1", "192.0.2.20"])
    wide = done(state, spf_set("192.0.2.1", "192.0.2.20"), "us", retire=Retire(today=101))
    new = Wanted(spf_set("192.0.2.1", "192.0.2.20").sets, absent=(wide[ZONE, "TXT"],))
    assert spf_of(done(wide, new, "us", retire=Retire(today=102))) == policies.spf(["192.0.2.1", "192.0.2.20"])
    # What is never to stand is not made either.
    assert spf_of(done(state, new, "us", retire=Retire(today=102))) == policies.spf(["192.0.2.1", "192.0.2.20"])


def test_a_part_of_a_policy_goes_when_it_is_absent_though_it_is_still_included() -> None:
    part = RecordSet.of(f"_spf1.{ZONE}", "TXT", 60, ["v=spf1 ip4:192.0.2.1 -all"])
    whole = RecordSet.of(ZONE, "TXT", 60, [f"v=spf1 include:{part.name} -all"])
    state = done({}, Wanted((part, whole)), "us")
    assert part.key in done(state, Wanted((whole,)), "us", retire=NOW)
    assert part.key not in done(state, Wanted((whole,), absent=(part,)), "us")


def test_what_is_absent_and_was_taken_away_is_forgotten_without_reading_the_whole_zone() -> None:
    key = RecordSet.of("k._domainkey.example.com", "TXT", 60, ["v=DKIM1; p=AA"])
    other = RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"])
    state = done({}, Wanted((key, other)), "us")
    del state[key.key]
    wanted = Wanted((other,), absent=(key,))
    assert zones.unknown(ZONE, state, wanted, "us") == {key.name}
    seen = frozenset((*ownership.names(ZONE, 0), key.name))
    part = {each: found for each, found in state.items() if each[0] in seen}
    state = apply(state, all_of(plan(ZONE, part, wanted, "us", seen=seen)))
    assert zones.unknown(ZONE, state, wanted, "us") == set()
    assert state == done(state, wanted, "us")


def test_what_is_absent_and_was_not_looked_at_stays_in_the_list() -> None:
    key = RecordSet.of("k._domainkey.example.com", "TXT", 60, ["v=DKIM1; p=AA"])
    state = done({}, Wanted((key,)), "us")
    seen = frozenset(ownership.names(ZONE, 0))
    part = {each: found for each, found in state.items() if each[0] in seen}
    assert plan(ZONE, part, Wanted((), absent=(key,)), "us", seen=seen).empty


def test_unknown_keys_are_keys_and_aliases_that_nobody_declares() -> None:
    key = "v=DKIM1; k=rsa; p=AA"
    sets = [
        RecordSet.of("declared._domainkey.example.com", "TXT", 60, [key]),
        RecordSet.of("held._domainkey.example.com", "TXT", 60, [key]),
        RecordSet.of("absent._domainkey.example.com", "TXT", 60, [key]),
        RecordSet.of("old._domainkey.sub.example.com", "TXT", 60, ["k=rsa; p=AA", "note"]),
        RecordSet.of("alias._domainkey.example.com", "CNAME", 60, ["key.elsewhere.example"]),
        RecordSet.of("revoked._domainkey.example.com", "TXT", 60, ["v=DKIM1; p="]),
        RecordSet.of("note._domainkey.example.com", "TXT", 60, ["some text"]),
        RecordSet.of("a._domainkey.example.com", "A", 60, ["192.0.2.1"]),
        RecordSet.of("x.example.com", "TXT", 60, [key]),
        RecordSet.of("_domainkey.example.com", "TXT", 60, ["o=-"]),
    ]
    wanted = Wanted((sets[0],), frozenset([sets[1].key]), (RecordSet.of(sets[2].name, "TXT", 60, []),))
    unknown = [
        "alias._domainkey.example.com",
        "old._domainkey.sub.example.com",
        "revoked._domainkey.example.com",
    ]
    state = {each.key: each for each in sets}
    marks = ownership.Marks(frozenset(ownership.mark(each.key, key) for each in sets[:3]))
    written = apply(state, ownership.changes(state, ZONE, "us", marks))
    assert zones.unknown_keys(ZONE, written, wanted, "us") == unknown
    # A key that this owner has not written is not known for its name alone.
    assert zones.unknown_keys(ZONE, written, wanted, "others") == sorted([*unknown, sets[1].name, sets[2].name])


def test_equal_records_are_adopted_without_a_change() -> None:
    state = {(ZONE, "TXT"): RecordSet.of(ZONE, "TXT", 60, ["v=spf1 -all", "other"])}
    made = plan(ZONE, state, Wanted((RecordSet.of(ZONE, "TXT", 300, ["v=spf1 -all"]),)), "us")
    assert made.changes == ()
    assert [change.key[0] for change in made.manifest] == [f"_mailops.{ZONE}"]


def test_what_has_no_values_yet_rests() -> None:
    key = "k._domainkey.example.com"
    state = done({}, Wanted((RecordSet.of(key, "TXT", 60, ["v=DKIM1; p=AA"]),)), "us")
    held = Wanted((), frozenset([(key, "TXT")]))
    made = plan(ZONE, state, held, "us", retire=NOW)
    assert made.empty
    assert made.leaving == ()
    assert not plan(ZONE, state, Wanted(()), "us", retire=NOW).empty


def test_an_alias_in_the_way_is_a_finding_and_stays() -> None:
    state = {("a.example.com", "CNAME"): RecordSet.of("a.example.com", "CNAME", 60, ["elsewhere.example"])}
    made = plan(ZONE, state, Wanted((RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"]),)), "us")
    assert made.empty
    assert "alias" in made.findings[0].why


def test_our_own_alias_makes_room_when_retired() -> None:
    state = done({}, Wanted((RecordSet.of("a.example.com", "CNAME", 60, ["elsewhere.example"]),)), "us")
    wanted = Wanted((RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"]),))
    assert plan(ZONE, state, wanted, "us").findings
    assert [change.action for change in plan(ZONE, state, wanted, "us", retire=NOW).changes] == ["delete", "create"]


def spf_set(*ips: str) -> Wanted:
    return Wanted((RecordSet.of(ZONE, "TXT", 60, [policies.spf(ips)]),))


def spf_of(state: dict[Key, RecordSet]) -> str:
    return state[ZONE, "TXT"].values[0]


def test_an_spf_policy_grows_at_once_and_narrows_when_mail_is_through() -> None:
    state = done({}, spf_set("192.0.2.1", "192.0.2.9"), "us", retire=Retire(today=100))
    new = spf_set("192.0.2.1", "192.0.2.20")
    for day in range(101, 111):
        made = plan(ZONE, state, new, "us", retire=Retire(today=day))
        state = apply(state, all_of(made))
        assert spf_of(state) == policies.spf(["192.0.2.1", "192.0.2.9", "192.0.2.20"])
        assert [each.until for each in made.leaving] == [111]
        assert made.drift == ()
    assert plan(ZONE, state, new, "us", retire=Retire(today=110)).empty
    state = done(state, new, "us", retire=Retire(today=111))
    assert spf_of(state) == policies.spf(["192.0.2.1", "192.0.2.20"])
    assert ownership.Manifest.read(state, ZONE, "us").mine.leaving == {}


def test_a_second_address_that_leaves_begins_the_days_anew() -> None:
    state = done({}, spf_set("192.0.2.1", "192.0.2.9", "192.0.2.20"), "us", retire=Retire(today=100))
    state = done(state, spf_set("192.0.2.1", "192.0.2.9"), "us", retire=Retire(today=101))
    state = done(state, spf_set("192.0.2.1"), "us", retire=Retire(today=105))
    state = done(state, spf_set("192.0.2.1"), "us", retire=Retire(today=114))
    assert "192.0.2.9" in spf_of(state)
    assert spf_of(done(state, spf_set("192.0.2.1"), "us", retire=Retire(today=115))) == policies.spf(["192.0.2.1"])
    assert spf_of(done(state, spf_set("192.0.2.1"), "us", retire=NOW)) == policies.spf(["192.0.2.1"])


def test_an_address_that_comes_back_ends_the_waiting() -> None:
    both = spf_set("192.0.2.1", "192.0.2.9")
    first = done({}, both, "us", retire=Retire(today=100))
    state = done(first, spf_set("192.0.2.1"), "us", retire=Retire(today=101))
    assert done(state, both, "us", retire=Retire(today=102)) == first


def test_a_foreign_spf_policy_is_not_kept_but_told() -> None:
    state = {(ZONE, "TXT"): RecordSet.of(ZONE, "TXT", 60, ["v=spf1 include:other.example -all"])}
    made = plan(ZONE, state, spf_set("192.0.2.1"), "us")
    assert ["other.example" in each.found for each in made.drift] == [True]
    assert spf_of(apply(state, all_of(made))) == policies.spf(["192.0.2.1"])


@given(states(), wanteds(), st.data())
def test_drift_is_told_exactly_where_somebody_changed_ours(
    state: dict[Key, RecordSet], wanted: Wanted, data: st.DataObject
) -> None:
    state = done(state, wanted, "us")
    assert plan(ZONE, state, wanted, "us").drift == ()
    ours = [each for each in wanted.sets if each.values]
    if ours:
        hit = data.draw(st.sampled_from(ours))
        del state[hit.key]
        told = plan(ZONE, state, wanted, "us").drift
        assert [each.where for each in told] == [f"record {hit.name} {hit.type}"]


@given(states(), wanteds(), wanteds(), st.data())
def test_a_killed_run_is_no_drift(state: dict[Key, RecordSet], old: Wanted, new: Wanted, data: st.DataObject) -> None:
    state = done(state, old, "us")
    made = plan(ZONE, state, new, "us")
    steps = [*made.manifest_before, *made.changes, *made.manifest_after]
    killed = apply(state, steps[: data.draw(st.integers(0, len(steps)))])
    assert [each for each in plan(ZONE, killed, new, "us").drift if "somebody changed" in each.why] == []


@given(states(), wanteds(), wanteds())
def test_what_the_manifest_vouches_for_need_not_be_read(state: dict[Key, RecordSet], old: Wanted, new: Wanted) -> None:
    """A plan from the names that the manifest does not vouch for asks for the same values as one from the whole."""
    state = done(state, old, "us")
    names = zones.unknown(ZONE, state, new, "us")
    if names is None:
        return
    seen = frozenset((*ownership.names(ZONE, 0), *names))
    part = {key: each for key, each in state.items() if key[0] in seen}
    made = plan(ZONE, part, new, "us", seen=seen)
    after = apply(state, all_of(made))
    whole = done(state, new, "us")
    assert values(whole) <= values(after)
    listed = ownership.Manifest.read(after, ZONE, "us").ours
    assert listed >= ownership.Manifest.read(whole, ZONE, "us").ours
    assert {ownership.mark(key, value) for key, value in values(after) - values(whole)} <= listed
    # What it could not see it still lists, so that a whole run finds it.
    assert values(done(after, Wanted(()), "us", retire=NOW)) == values(done(whole, Wanted(()), "us", retire=NOW))


def texts(**sets: str) -> Wanted:
    return Wanted(
        tuple(
            RecordSet.of(f"{name}.{ZONE}" if name != "top" else ZONE, "TXT", 60, [text]) for name, text in sets.items()
        )
    )


def test_a_part_of_a_policy_outlives_the_policy_that_includes_it() -> None:
    def include(*parts: str) -> str:
        return "v=spf1 " + "".join(f"include:{part}.{ZONE} " for part in parts) + "-all"

    parts = {f"_spf{number}": f"v=spf1 ip4:192.0.2.{number * 8}/29 -all" for number in (1, 2, 3)}
    three = texts(top=include("_spf1", "_spf2", "_spf3"), **parts)
    two = texts(top=include("_spf1", "_spf2"), **{name: parts[name] for name in ("_spf1", "_spf2")})
    one = texts(top="v=spf1 ip4:192.0.2.8/29 -all")
    state: dict[Key, RecordSet] = {}
    for day in range(40):
        state = done(state, three if day < 1 else two if day < 6 else one, "us", retire=Retire(today=day))
        for target in re.findall(r"include:(\S+)", spf_of(state)):
            assert (target, "TXT") in state, f"day {day}"
    assert values(state) == {((ZONE, "TXT"), "v=spf1 ip4:192.0.2.8/29 -all")}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.data())
def test_a_manifest_that_changes_its_layout_forgets_nothing_when_killed(
    first: int, second: int, data: st.DataObject
) -> None:
    limits = Limits(txt_max=504)
    state = apply({}, ownership.changes({}, ZONE, "us", settled(first), limits))
    steps = ownership.changes(state, ZONE, "us", settled(second), limits)
    killed = apply(state, steps[: data.draw(st.integers(0, len(steps)))])
    kept = settled(first).settled & settled(second).settled
    assert kept <= ownership.Manifest.read(killed, ZONE, "us").ours


def test_a_list_that_few_names_do_not_hold_says_so() -> None:
    limits = Limits(txt_max=504)
    for count in (1, 27, 300, 900, 20_000):
        state = apply({}, ownership.changes({}, ZONE, "us", settled(count), limits))
        names = {*ownership.names(ZONE, 0), *ownership.names(ZONE, 1)}
        part = {key: each for key, each in state.items() if key[0] in names}
        found = ownership.Manifest.read(part, ZONE, "us")
        assert found.mine == settled(count) or found.is_far
        assert ownership.Manifest.read(state, ZONE, "us").holds(settled(count), limits)


def test_a_policy_that_cannot_wait_is_told() -> None:
    state = done({}, spf_set(*[f"10.{number}.0.1" for number in range(0, 200, 2)]), "us", retire=Retire(today=1))
    made = plan(ZONE, state, spf_set("192.0.2.1"), "us", retire=Retire(today=2))
    assert ["narrows at once" in each.found for each in made.drift] == [True]
    assert spf_of(apply(state, all_of(made))) == policies.spf(["192.0.2.1"])


def test_somebody_elses_second_policy_does_not_end_the_waiting() -> None:
    state = done({}, spf_set("192.0.2.1", "192.0.2.9"), "us", retire=Retire(today=1))
    ours = state[ZONE, "TXT"]
    state[ZONE, "TXT"] = RecordSet.of(ZONE, "TXT", 60, [*ours.values, "v=spf1 include:x.example -all"])
    assert "192.0.2.9" in spf_of(done(state, spf_set("192.0.2.1"), "us", retire=Retire(today=2)))


def test_a_clock_that_was_ahead_once_does_not_count() -> None:
    wanted = Wanted((RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"]),))
    state = done({}, wanted, "us", retire=Retire(today=1))
    state = done(state, Wanted(()), "us", retire=Retire(today=30_000))
    assert plan(ZONE, state, Wanted(()), "us", retire=Retire(today=2)).leaving[0].until == 12


def test_an_alias_beside_what_a_signer_keeps_is_changed() -> None:
    alias = RecordSet.of("a.example.com", "CNAME", 60, ["one.example"])
    signature = RecordSet.of("a.example.com", "RRSIG", 60, ["CNAME 13 3 60 x"])
    state = done({signature.key: signature}, Wanted((alias,)), "us")
    made = plan(ZONE, state, Wanted((RecordSet.of("a.example.com", "CNAME", 60, ["two.example"]),)), "us")
    assert (made.findings, len(made.changes)) == ((), 1)


def test_an_alias_waits_for_what_another_owner_lists() -> None:
    shared = Wanted((RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"]),))
    state = done(done({}, shared, "them"), shared, "us")
    alias = Wanted((RecordSet.of("a.example.com", "CNAME", 60, ["one.example"]),))
    made = plan(ZONE, state, alias, "us", retire=NOW)
    assert (len(made.findings), made.changes) == (1, ())


@pytest.mark.parametrize(
    "entries",
    [
        [("a", "CNAME", "one.example"), ("a", "A", "192.0.2.1")],
        [("a", "CNAME", "one.example"), ("a", "CNAME", "two.example")],
        [("a", "TXT", "v=spf1 -all"), ("a", "TXT", "v=spf1 mx -all")],
    ],
)
def test_what_cannot_stand_together_is_a_finding(entries: list[tuple[str, str, str]]) -> None:
    listed = [{"name": f"{name}.example.com", "type": rtype, "values": [value]} for name, rtype, value in entries]
    assert len(zones.assign([ZONE], listed)[1]) == 1


def test_below_a_delegation_nothing_is_written() -> None:
    cut = RecordSet.of("sub.example.com", "NS", 60, ["ns1.elsewhere.example"])
    wanted = Wanted(
        (
            RecordSet.of("a.sub.example.com", "A", 60, ["192.0.2.1"]),
            RecordSet.of("sub.example.com", "TXT", 60, ["x"]),
            RecordSet.of("sub.example.com", "DS", 60, ["1 8 2 AB"]),
            RecordSet.of("b.example.com", "A", 60, ["192.0.2.1"]),
        )
    )
    made = plan(ZONE, {cut.key: cut}, wanted, "us")
    assert [each.where for each in made.findings] == ["record a.sub.example.com A", "record sub.example.com TXT"]
    assert [change.key[0] for change in made.changes] == ["b.example.com", "sub.example.com"]


def test_what_a_service_cannot_hold_is_a_finding_and_rests() -> None:
    limits = Limits(ttl_min=300, ttl_max=3600, types=frozenset(("A", "TXT")), txt_max=10)
    wanted = Wanted(
        (
            RecordSet.of("a.example.com", "A", 60, ["192.0.2.1"]),
            RecordSet.of("b.example.com", "A", 86400, ["192.0.2.1"]),
            RecordSet.of("c.example.com", "TLSA", 300, ["3 1 1 ab"]),
            RecordSet.of("d.example.com", "TXT", 300, ["ü" * 6]),
        )
    )
    fitting, findings = zones.fit(wanted, limits)
    assert [each.ttl for each in fitting.sets] == [300, 3600]
    assert [each.where for each in findings] == ["record c.example.com TLSA", "record d.example.com TXT"]
    assert fitting.held == {("c.example.com", "TLSA"), ("d.example.com", "TXT")}


@pytest.mark.parametrize("txt_max", [2000, 65_000])
def test_a_manifest_fits_what_a_service_holds(txt_max: int) -> None:
    for count in (1, 100, 500, 3000):
        marks = settled(count)
        leaving = ownership.Marks(frozenset(), dict.fromkeys(marks.settled, 20000))
        for each in (marks, leaving):
            state = apply({}, ownership.changes({}, ZONE, "us", each, Limits(txt_max=txt_max)))
            assert ownership.Manifest.read(state, ZONE, "us").mine == each
            assert max(len(value) for each in state.values() for value in each.values) <= txt_max


def _zone_of(count: int) -> tuple[dict[Key, RecordSet], Wanted]:
    wanted = Wanted(tuple(RecordSet.of(f"h{n}.example.com", "A", 60, [f"192.0.2.{n}"]) for n in range(count)))
    return done({}, wanted, "us"), wanted


def test_what_is_absent_counts_in_the_safety_limit() -> None:
    state, wanted = _zone_of(100)
    made = plan(ZONE, state, Wanted(wanted.sets[31:], absent=wanted.sets[:31]), "us", Retire(zones.NEVER))
    assert (made.owned, made.touched, made.over(30)) == (100, 31, True)


@pytest.mark.parametrize(("count", "gone", "over"), [(10, 3, False), (10, 4, True), (9, 9, False), (100, 31, True)])
def test_the_safety_limit_counts_owned_values(count: int, gone: int, over: bool) -> None:
    state, wanted = _zone_of(count)
    made = plan(ZONE, state, Wanted(wanted.sets[gone:]), "us", retire=NOW)
    assert (made.owned, made.touched) == (count, gone)
    assert made.over(30) is over


def test_foreign_values_do_not_dilute_the_safety_limit() -> None:
    state, _wanted = _zone_of(10)
    foreign = {
        (f"f{n}.example.com", "A"): RecordSet.of(f"f{n}.example.com", "A", 60, ["192.0.2.99"]) for n in range(90)
    }
    assert plan(ZONE, {**state, **foreign}, Wanted(()), "us", retire=NOW).percent == 100


def settled(count: int) -> ownership.Marks:
    return ownership.Marks(
        frozenset(ownership.mark((f"{n}.example.com", "A"), "192.0.2.1") for n in range(count)),
    )


@pytest.mark.parametrize("count", [0, 1, 512, 513, 5000, 9000])
def test_a_manifest_of_any_size_fits_messages(count: int) -> None:
    marks = settled(count)
    made = ownership.changes({}, ZONE, "us", marks)
    state = apply({}, made)
    assert ownership.Manifest.read(state, ZONE, "us").mine == marks
    assert ownership.changes(state, ZONE, "us", marks) == []
    assert all(len(value) < 8_000 for each in state.values() for value in each.values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1200), st.integers(0, 1200))
def test_a_manifest_may_grow_and_shrink_over_its_layouts(first: int, second: int) -> None:
    other = RecordSet.of(f"_mailops.{ZONE}", "TXT", 60, ["v=mailops1; f=them; h=AAAAAAAAAAA"])
    state = apply({other.key: other}, ownership.changes({other.key: other}, ZONE, "us", settled(first)))
    state = apply(state, ownership.changes(state, ZONE, "us", settled(second)))
    assert ownership.Manifest.read(state, ZONE, "us").mine == settled(second)
    assert ownership.Manifest.read(state, ZONE, "them").ours == {bytes(8)}


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
    assert rrset.canonical(rtype, written) == canonical
    assert rrset.canonical(rtype, rrset.presentation(rtype, canonical)) == canonical


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"name": "a.example.com", "type": "A", "values": ["fd00::1"]}, "no IPv4 address"),
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


def test_what_is_present_is_not_absent() -> None:
    entries = [("absent", ["one", "two"]), ("present", ["two"]), ("absent", ["three"]), ("absent", None)]
    declared = [{"name": "a.example.com", "type": "TXT", "values": some, "state": state} for state, some in entries]
    for order in (declared, declared[::-1]):
        wanted, findings = zones.assign([ZONE], order)
        assert findings == []
        assert [each.values for each in wanted[ZONE].sets] == [("two",)]
        assert [each.values for each in wanted[ZONE].absent] == [("one", "three")]
        assert wanted[ZONE].held == frozenset()


def test_absent_values_of_an_alias_may_be_several() -> None:
    entry = {"name": "a.example.com", "type": "CNAME", "values": ["x.test", "y.test"], "state": "absent"}
    assert zones.assign([ZONE], [entry])[1] == []
