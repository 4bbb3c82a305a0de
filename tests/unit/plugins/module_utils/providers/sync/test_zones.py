# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, UNKNOWN, YES, Answer, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import Limits
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan as zones
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.plan import Wanted
from ansible_collections.mailops.mta.plugins.module_utils.providers import rfc2136
from ansible_collections.mailops.mta.plugins.module_utils.providers.memory import MemoryZone
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Garbled,
    Permanent,
    Throttled,
    Transient,
    Unreachable,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import servers
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import zones as sync
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns import wire
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from hypothesis import given, settings
from hypothesis import strategies as st

ZONE = "example.com"
NOW = zones.Retire(zones.NOW)


class Killed(BaseException):
    """What SIGKILL does: no handler runs."""


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def pace(self) -> client.Pace:
        return client.Pace(sleep=self.sleep, dice=lambda: 1.0, clock=lambda: self.now)


def hosts(count: int, last: int = 1) -> Wanted:
    return Wanted(tuple(RecordSet.of(f"h{n}.{ZONE}", "A", 60, [f"192.0.2.{last}"]) for n in range(count)))


def go(zone: MemoryZone, wanted: Wanted, clock: Clock | None = None, **policy: Any) -> sync.Outcome:
    job = sync.Job(ZONE, "memory", lambda: zone, wanted)
    return sync.run(job, sync.Policy("us", **policy), (clock or Clock()).pace)


def at(number: int, moment: str, error: Callable[[], BaseException]) -> Callable[[str], None]:
    """A fault at the ``number``-th ``moment``."""
    seen = [0]

    def fault(now: str) -> None:
        if now == moment:
            seen[0] += 1
            if seen[0] == number:
                raise error()

    return fault


def plain(state: dict[Key, RecordSet]) -> dict[Key, RecordSet]:
    return {key: each for key, each in state.items() if not key[0].startswith("_mailops")}


def wanted_state(wanted: Wanted) -> dict[Key, RecordSet]:
    return {each.key: each for each in wanted.sets}


def test_one_zone_is_one_write() -> None:
    zone = MemoryZone()
    outcome = go(zone, hosts(20), diff=True)
    assert (outcome.changed, outcome.count("create"), outcome.findings) == (True, 20, [])
    assert len(zone.writes) == 1
    assert outcome.before == ""
    assert "h0.example.com 60 A 192.0.2.1\n" in outcome.after
    assert not go(zone, hosts(20)).changed


def test_check_mode_writes_nothing_and_tells_all() -> None:
    zone = MemoryZone()
    outcome = go(zone, hosts(3), check=True, diff=True)
    assert (outcome.changed, outcome.count("create"), zone.writes) == (True, 3, [])
    assert go(zone, hosts(3), diff=True).after == outcome.after


def test_check_mode_finds_a_dead_server() -> None:
    zone = MemoryZone()
    zone.fault = at(1, "read", lambda: Permanent("no", "because", "do"))
    assert go(zone, hosts(1), check=True).findings[0].found == "no"


def test_a_lost_answer_counts_as_the_change_it_was() -> None:
    zone = MemoryZone()
    zone.fault = at(1, "after", lambda: Transient("lost"))
    outcome = go(zone, hosts(5))
    assert (outcome.changed, outcome.count("create"), outcome.findings, len(zone.writes)) == (True, 5, [], 1)


def test_a_write_that_did_not_happen_is_planned_anew() -> None:
    zone = MemoryZone()
    zone.fault = at(1, "before", lambda: Transient("lost"))
    outcome = go(zone, hosts(5))
    assert (outcome.changed, outcome.findings, len(zone.writes)) == (True, [], 1)


def test_a_lost_answer_before_a_dead_server_does_not_say_unchanged() -> None:
    zone = MemoryZone()

    def fault(moment: str) -> None:
        if moment == "after":
            raise Transient("lost")
        if zone.writes:
            raise Unreachable("gone", "it is down", "start it")

    zone.fault = fault
    outcome = go(zone, hosts(2))
    assert outcome.changed
    assert "unknown" in outcome.findings[0].found


@pytest.mark.parametrize("error", [Throttled, Unreachable, Faulty])
def test_a_write_that_never_succeeds_is_no_change(error: type[Transient]) -> None:
    zone = MemoryZone()

    def fault(moment: str) -> None:
        if moment == "before":
            raise error("no")

    zone.fault = fault
    outcome = go(zone, hosts(2))
    assert (outcome.changed, len(outcome.findings), zone.state) == (False, 1, {})


def test_retry_after_is_honoured() -> None:
    zone, clock = MemoryZone(), Clock()
    zone.fault = at(1, "read", lambda: Transient("429", after=7.0))
    assert go(zone, hosts(1), clock).findings == []
    assert clock.slept == [7.0]


def test_a_wait_beyond_the_time_limit_is_a_finding_at_once() -> None:
    zone, clock = MemoryZone(), Clock()
    zone.fault = at(1, "read", lambda: Transient("too many requests", "limits", "later", after=3600.0))
    assert go(zone, hosts(1), clock).findings[0].found == "too many requests"
    assert clock.slept == []


@pytest.mark.parametrize(("error", "tries"), [(Unreachable, 4), (Faulty, 20), (Garbled, 3), (Transient, 20)])
def test_what_stays_broken_ends_in_one_finding(error: type[Transient], tries: int) -> None:
    zone, clock = MemoryZone(), Clock()
    reads = [0]

    def fault(moment: str) -> None:
        reads[0] += 1
        raise error("broken", "it is", "mend it")

    zone.fault = fault
    outcome = go(zone, hosts(1), clock, timeout_seconds=10_000.0)
    assert [finding.remedy for finding in outcome.findings] == ["mend it"]
    assert (reads[0], outcome.changed) == (tries, False)


def test_a_conflict_is_planned_anew_and_the_other_change_survives() -> None:
    zone = MemoryZone()
    other = RecordSet.of("h0.example.com", "TXT", 60, ["theirs"])
    mine = Wanted((RecordSet.of("h0.example.com", "TXT", 60, ["mine"]),))

    def fault(moment: str) -> None:
        if moment == "before" and other.key not in zone.state:
            zone.state[other.key] = other

    zone.fault = fault
    assert go(zone, mine).findings == []
    assert zone.state[other.key].values == ("mine", "theirs")


def test_endless_conflicts_end() -> None:
    zone = MemoryZone()

    def fault(moment: str) -> None:
        if moment == "before":
            raise Conflict("changed")

    zone.fault = fault
    outcome = go(zone, hosts(1), timeout_seconds=100_000.0)
    assert "somebody else" in outcome.findings[0].why
    assert not outcome.changed


def test_a_service_that_stores_something_else_is_found_out() -> None:
    class Rounding(MemoryZone):
        def read(self, names: Collection[str] | None = None) -> dict[Key, RecordSet]:
            return {key: RecordSet.of(*key, 3600, each.values) for key, each in super().read(names).items()}

        def write(self, changes: Any) -> None:
            self.state = {**self.state, **{change.key: change.after for change in changes if change.after}}

    outcome = go(Rounding(limits=Limits()), hosts(1))
    assert "still not as planned" in outcome.findings[0].found


def test_the_safety_limit_stops_with_a_list_and_force_passes_it() -> None:
    zone = MemoryZone()
    go(zone, hosts(12))
    before = dict(zone.state)
    outcome = go(zone, hosts(12, last=2))
    assert "12 of 12" in outcome.findings[0].found
    assert "h0.example.com 60 A 192.0.2.1" in outcome.findings[0].found
    assert (zone.state, outcome.changed) == (before, False)
    assert go(zone, hosts(12, last=2), force=True).count("update") == 12


def test_what_may_leave_is_told_and_kept_until_retired() -> None:
    zone = MemoryZone()
    go(zone, hosts(3))
    assert [key[0] for key in go(zone, hosts(2)).changes] == [f"_mailops.{ZONE}"]  # since when it leaves
    outcome = go(zone, hosts(2))
    assert (outcome.changed, outcome.findings[0].severity) == (False, "warning")
    assert outcome.as_dict()["leaving"] == [{"record": "h2.example.com 60 A 192.0.2.1", "until": "1970-01-11"}]
    outcome = go(zone, hosts(2), retire=NOW)
    assert (outcome.count("delete"), outcome.findings) == (1, [])
    assert plain(zone.state) == wanted_state(hosts(2))


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from(["before", "after"]), st.integers(120, 900))
def test_killed_between_any_two_writes_the_next_run_finishes(number: int, moment: str, size: int) -> None:
    foreign = RecordSet.of(f"h0.{ZONE}", "TXT", 77, ["theirs"])
    zone = MemoryZone([foreign], Limits(max_cost=size))
    go(zone, hosts(12))
    new = Wanted(hosts(6, last=2).sets)
    zone.fault = at(number, moment, Killed)
    try:
        go(zone, new, retire=NOW, force=True)
    except Killed:
        zone.fault = lambda now: None
        assert go(zone, new, retire=NOW, force=True).findings == []
    zone.fault = lambda now: None
    assert plain(zone.state) == {**wanted_state(new), foreign.key: foreign}
    assert not go(zone, new, retire=NOW).changed
    go(zone, Wanted(()), retire=NOW, force=True)
    assert zone.state == {foreign.key: foreign}


def test_faults_of_every_kind_over_a_hundred_zones() -> None:
    """15 % too many requests, 15 % out of order, 15 % carried out and not answered."""
    dice = random.Random(4)
    zones = {f"z{n}.example": MemoryZone() for n in range(100)}

    def fault(moment: str) -> None:
        roll = dice.random()
        if moment in ("read", "before"):
            if roll < 0.15:
                raise Transient("429", after=0.0)
            if roll < 0.30:
                raise Faulty("503", after=0.0)
        elif roll < 0.15:
            raise Transient("lost", after=0.0)

    jobs = []
    for name, zone in zones.items():
        zone.fault = fault
        wanted = Wanted(tuple(RecordSet.of(f"h{n}.{name}", "A", 60, ["192.0.2.1"]) for n in range(12)))
        jobs.append(sync.Job(name, "memory", lambda zone=zone: zone, wanted))  # type: ignore[misc]
    outcomes = sync.run_all(jobs, sync.Policy("us"), Clock().pace)
    assert [finding for outcome in outcomes for finding in outcome.findings] == []
    assert sum(outcome.count("create") for outcome in outcomes) == 1200


def test_one_bad_zone_stops_no_other() -> None:
    def broken() -> Any:
        raise Permanent("it refused the key", "wrong", "correct it")

    def faulty() -> Any:
        zone = MemoryZone()
        zone.fault = at(1, "read", lambda: RuntimeError("a fault of ours"))
        return zone

    good = MemoryZone()
    jobs = [
        sync.Job("a.example", "memory", broken, Wanted(())),
        sync.Job("b.example", "memory", faulty, Wanted(())),
        sync.Job(ZONE, "memory", lambda: good, hosts(1)),
    ]
    result = sync.summary(sync.run_all(jobs, sync.Policy("us")))
    assert result["changed"]
    assert [len(zone["findings"]) for zone in result["zones"]] == [1, 1, 0]


def test_what_a_service_cannot_take_is_told_and_the_rest_is_written() -> None:
    class Picky(MemoryZone):
        def cost(self, change: Any) -> int:
            if change.key[0] == f"h1.{ZONE}":
                raise Permanent("it is proxied", "the service says so", "make it DNS only")
            return super().cost(change)

    zone = Picky()
    outcome = go(zone, hosts(3))
    assert [(each.where, each.remedy) for each in outcome.findings] == [
        (f"zone {ZONE}, record h1.{ZONE} A", "make it DNS only")
    ]
    assert sorted(plain(zone.state)) == [(f"h0.{ZONE}", "A"), (f"h2.{ZONE}", "A")]
    again = go(zone, hosts(3))
    assert (again.changed, len(again.findings)) == (False, 1)


def test_what_a_service_does_not_let_go_is_told_once_and_the_rest_goes() -> None:
    class Keeping(MemoryZone):
        def cost(self, change: Any) -> int:
            if change.removed and change.key[0] == f"h1.{ZONE}":
                raise Permanent("it is proxied", "the service says so", "make it DNS only")
            return super().cost(change)

    zone = Keeping()
    go(zone, hosts(3))
    outcome = go(zone, Wanted((), absent=hosts(3).sets))
    assert [each.where for each in outcome.findings] == [f"zone {ZONE}, record h1.{ZONE} A"]
    assert sorted(plain(zone.state)) == [(f"h1.{ZONE}", "A")]


# RFC 2136: what each refusal means


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (wire.Refused("BADKEY"), Permanent, "refused the key"),
        (wire.Refused("BADSIG"), Permanent, "refused the key"),
        (wire.Refused("BADTIME"), Permanent, "time"),
        (wire.Refused("NOTAUTH"), Permanent, "does not serve"),
        (wire.Refused("REFUSED"), Permanent, "refused"),
        (wire.Refused("NOTIMP"), Permanent, "NOTIMP"),
        (wire.Refused("SERVFAIL"), Faulty, "SERVFAIL"),
        (wire.Refused("NXRRSET"), Conflict, "NXRRSET"),
        (wire.Refused("YXRRSET"), Conflict, "YXRRSET"),
        (wire.NotConnected("refused"), Unreachable, "cannot be reached"),
        (wire.AnswerLost("timed out"), Transient, "no usable answer"),
    ],
)
def test_refusals_of_updates(
    error: Exception, kind: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any) -> Any:
        raise error

    monkeypatch.setattr(wire, "transfer", fail)
    monkeypatch.setattr(wire, "update", fail)
    provider = rfc2136.Rfc2136(Access(ZONE), wire.Peer("192.0.2.1", key_name="k"))
    for action in (provider.read, lambda: provider.write([])):
        with pytest.raises(kind, match=says) as caught:
            action()
        assert caught.type is kind


@pytest.mark.parametrize("secret", ["not base64!", "é", ""])
def test_a_key_that_cannot_be_one_is_refused(secret: str) -> None:
    with pytest.raises(Permanent, match="TSIG key"):
        rfc2136.open_zone(Access(ZONE, {"server": "192.0.2.1", "key_name": "k", "key_secret": secret}))


def test_a_server_without_keys_is_asked_unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(wire, "transfer", lambda peer, zone: seen.append(peer.key()) or [])
    assert rfc2136.open_zone(Access(ZONE, {"server": "192.0.2.1"})).read() == {}
    assert seen == [None]


# Authoritative servers afterwards


def test_servers_that_lag_are_asked_again_and_those_that_stay_behind_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    record_set = RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"])

    class Servers:
        """Stands for the resolver: what each of the servers of this test answers."""

        def __init__(self, listed: list[str], timeout_seconds: float, *, recursive: bool) -> None:
            (self.server,) = listed
            assert not recursive

        def ask_each(self, questions: list[Question]) -> dict[tuple[str, Question], Answer]:
            fresh = self.server == "good" or (self.server == "slow" and clock.now > 2)
            answer = Answer(YES, ("192.0.2.1",)) if fresh else Answer(NO)
            if self.server == "dead":
                answer = Answer(UNKNOWN, detail="time-out")
            return {(self.server, question): answer for question in questions}

    monkeypatch.setattr(servers, "Resolver", Servers)
    asked = ("good", "slow", "stale", "dead")
    findings = servers.unequal(asked, [record_set.key], {record_set.key: record_set}, 5.0, clock.pace)
    assert [finding.where for finding in findings] == ["server stale", "server dead"]
    assert "time-out" in findings[1].found
