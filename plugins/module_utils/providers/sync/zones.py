# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes zones as they are wanted: read, plan, write, look again, until nothing is left to plan.

A write is never repeated. After a failure whose effect is unknown the zone is read and planned anew, so that an answer
that was lost costs nothing and a change of somebody else is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet, State
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.foreign import printable
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import ownership
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan as zones
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.plan import Leaving, Plan, Retire, Wanted
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Conflict,
    Permanent,
    Provider,
    ProviderError,
    Transient,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import servers
from ansible_collections.mailops.mta.plugins.module_utils.shell import garbage
from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Pace

AT_ONCE = 4
_CONFLICTS = 20
_ROUNDS = 8  # plans that were written whole and did not last
_FEW = 20  # record sets whose names are looked at alone where that is enough
# Before a service without compare-and-swap is looked at again: what another writer had under way at ours has come then.
_SETTLE_SECONDS = 0.02
_FIRST_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Policy:
    """``changed_only`` trusts the manifest: what it lists as standing is not looked at."""

    owner: str
    retire: Retire = field(default_factory=Retire)
    changed_only: bool = False
    force: bool = False
    max_change_percent: float = 30.0
    timeout_seconds: float = 120.0
    check: bool = False
    diff: bool = False


@dataclass(frozen=True)
class Job:
    """One zone to make. ``open`` connects lazily and may raise ProviderError."""

    zone: str
    provider: str
    open: Callable[[], Provider]
    wanted: Wanted
    servers: tuple[str, ...] = ()
    servers_wait_seconds: float = 10.0


@dataclass
class Outcome:
    zone: str
    provider: str
    before: str = ""
    after: str = ""
    changes: dict[Key, Change] = field(default_factory=dict)
    leaving: tuple[Leaving, ...] = ()
    unknown_keys: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.changes)

    def count(self, action: str) -> int:
        return sum(
            change.action == action
            for key, change in self.changes.items()
            if not ownership.is_manifest(key[0], self.zone)
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.zone,
            "provider": self.provider,
            "changed": self.changed,
            "created": self.count(rrset.CREATE),
            "updated": self.count(rrset.UPDATE),
            "deleted": self.count(rrset.DELETE),
            "leaving": [
                {"record": line, "until": _day(each.until)} for each in self.leaving for line in each.record_set.lines()
            ],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def run_all(jobs: Sequence[Job], policy: Policy, pace: Optional[Pace] = None) -> list[Outcome]:
    """Every zone, several at once; one that fails stops no other."""
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return list(pool.map(lambda job: run(job, policy, pace or Pace()), jobs))


def run(job: Job, policy: Policy, pace: Pace) -> Outcome:
    """One zone. All that goes wrong ends in ``findings``."""
    work = _Work(job, policy, pace)
    try:
        provider = job.open()
    except ProviderError as error:
        work.fail(error)
        return work.outcome
    try:
        with garbage.kept():
            work.converge(provider)
            work.note_unknown_keys()
            work.ask_servers()
    except Exception as error:  # a fault of ours in one zone must not hide what happened in the others
        work.fail(Permanent(f"{type(error).__name__}: {error}", "this is a fault of the collection", "report it"))
    finally:
        provider.close()
    return work.outcome


class _Work:
    """What is known while one zone is made."""

    def __init__(self, job: Job, policy: Policy, pace: Pace) -> None:
        self.job = job
        self.policy = policy
        self.pace = pace
        self.outcome = Outcome(job.zone, job.provider)
        self.open_batch: Sequence[Change] = ()  # written, or not: nobody said
        self.unfit: set[Key] = set()  # record sets that the service cannot take
        self.state: State = {}
        self.seen: Optional[frozenset[str]] = None  # the names that were looked at; None: the whole zone
        self.written = 0.0  # when the last write was confirmed
        self.complete = False
        self.atomic = True

    def converge(self, provider: Provider) -> None:
        deadline = self.pace.clock() + self.policy.timeout_seconds
        self.atomic = provider.limits.atomic
        failures = {"read": 0, "write": 0}
        conflicts = rounds = 0
        first = True
        touched: Optional[set[str]] = None  # by the writes since the last look, all of which were confirmed
        expected: State = {}
        plan: Optional[Plan] = None
        while True:
            stage = "read"
            try:
                names, touched = touched, None  # a look that fails is not tried again name by name
                if names is not None and plan and self.stands(provider, names, expected):
                    self.complete = True
                    self.tell(plan)
                    return
                if names is None:
                    self.look(provider)
                failures["read"] = 0
                self.settle()
                plan = self.plan(provider, first)
                first = False
                if self.stop(plan, rounds):
                    return
                stage = "write"
                done: list[Change] = []
                for batch in batches(plan, provider):
                    self.open_batch = batch
                    provider.write(batch)
                    self.written = self.pace.clock()
                    self.note(batch)
                    self.open_batch = ()
                    done.extend(batch)
                    failures["write"] = conflicts = 0
                rounds += 1
                touched = {change.key[0] for change in done}
                expected = zones.apply(self.state, done)
            except Conflict as error:
                self.forget()
                conflicts += 1
                if conflicts >= _CONFLICTS or not self.wait(conflicts, 0.0 if conflicts == 1 else None, deadline):
                    self.look_once_more(provider)
                    self.fail(error, "somebody else keeps changing this zone", "run again when that is over")
                    return
            except Transient as error:
                failures[stage] += 1
                if not error.unsure and stage == "write":
                    self.forget()
                if failures[stage] >= error.tries or not self.wait(sum(failures.values()), error.after, deadline):
                    lost = self.open_batch
                    self.look_once_more(provider)
                    self.fail(error, batch=lost)
                    return
            except Permanent as error:
                lost = self.open_batch
                self.forget()
                self.look_once_more(provider)
                self.fail(error, batch=lost)
                return

    def plan(self, provider: Provider, first: bool) -> Plan:
        """What is to be written, without what the service cannot take."""
        policy, zone = self.policy, self.job.zone
        wanted, misfits = zones.fit(self.job.wanted, provider.limits)
        while True:
            plan = zones.plan(
                zone, self.state, self.without_unfit(wanted), policy.owner, policy.retire, provider.limits, self.seen
            )
            unfit = self.refused(provider, plan)
            if not unfit:
                break
            self.unfit |= unfit
        told = self.outcome.findings
        told.extend(each for each in map(self.place, (*misfits, *plan.drift)) if each not in told)
        if first and policy.diff:
            self.show(plan)
        return plan

    def without_unfit(self, wanted: Wanted) -> Wanted:
        if not self.unfit:
            return wanted
        sets, absent = (
            tuple(each for each in some if each.key not in self.unfit) for some in (wanted.sets, wanted.absent)
        )
        return Wanted(sets, wanted.held | self.unfit, absent)

    def refused(self, provider: Provider, plan: Plan) -> set[Key]:
        """The record sets that the service says it cannot take, each with its finding."""
        keys = set()
        for change in plan.changes:
            try:
                provider.cost(change)
            except Permanent as error:
                keys.add(change.key)
                where = f"record {change.key[0]} {change.key[1]}"
                self.outcome.findings.append(self.place(Finding(where, error.found, error.why, error.remedy)))
        return keys

    def stands(self, provider: Provider, names: Collection[str], expected: State) -> bool:
        """Whether the zone is ``expected`` after a write that was confirmed; what it is else is then known."""
        left = self.written + _SETTLE_SECONDS - self.pace.clock()
        if left > 0 and not provider.limits.exact:
            self.pace.sleep(left)
        if provider.alone():
            self.state = expected
        elif self.seen is None and len(names) > _FEW:
            self.state = provider.read()
        else:
            self.state = _joined(expected, provider.read(names), names)
        return self.state == expected

    def look(self, provider: Provider) -> None:
        """Reads the whole zone, or what its manifest does not vouch for."""
        self.seen = None
        if not (self.policy.changed_only and self.look_at_changes(provider)):
            self.state = provider.read()

    def look_at_changes(self, provider: Provider) -> bool:
        """False where the manifest does not tell what to look at, or it is too much to be worth it."""
        zone = self.job.zone
        listing = [*ownership.names(zone, 0), *ownership.names(zone, 1)]
        state = provider.read(listing)
        names = zones.unknown(zone, state, self.job.wanted, self.policy.owner)
        if names is None or len(names) > _FEW:
            return False
        names |= {change.key[0] for change in self.open_batch}  # to find out whether it was written
        self.state = {**state, **provider.read(names)} if names else state
        self.seen = frozenset((*listing, *names))
        return True

    def stop(self, plan: Plan, rounds: int) -> bool:
        """True where nothing is to be done, or nothing may be; why is noted."""
        policy = self.policy
        over = plan.over(policy.max_change_percent) and not policy.force
        if not (plan.empty or over or policy.check or rounds >= _ROUNDS):
            return False
        self.tell(plan)
        if over:
            self.outcome.findings.append(_over(self.job.zone, plan, policy.max_change_percent))
        elif policy.check:
            self.note([*plan.changes, *plan.manifest])
        elif not plan.empty:
            self.outcome.findings.append(_restless(self.job.zone, plan))
        self.complete = plan.empty
        return True

    def tell(self, plan: Plan) -> None:
        """Notes what the last plan says beside its changes."""
        self.outcome.leaving = plan.leaving
        self.outcome.findings.extend(self.place(finding) for finding in plan.findings)
        if plan.leaving:
            self.outcome.findings.append(_leaving(self.job.zone, plan.leaving, self.policy.retire))

    def note(self, batch: Iterable[Change]) -> None:
        """``batch`` has happened."""
        for change in batch:
            key = change.key
            first = self.outcome.changes.get(key)
            if first is None:
                self.outcome.changes[key] = change
            elif first.before == change.after:
                del self.outcome.changes[key]
            else:
                self.outcome.changes[key] = Change(first.before, change.after)

    def settle(self) -> None:
        """Finds out from the zone as it is now which part of an unanswered write happened."""
        batch, self.open_batch = self.open_batch, ()
        for change in batch:
            now = self.state.get(change.key)
            if now == change.after or (now != change.before and not self.atomic):
                self.note([Change(change.before, now)])

    def forget(self) -> None:
        """The write did not happen; of one that is not atomic perhaps a part did."""
        if self.atomic:
            self.open_batch = ()

    def look_once_more(self, provider: Provider) -> None:
        """Before giving up: whether an unanswered write happened."""
        if self.open_batch:
            try:
                self.state = provider.read()
            except ProviderError:
                return
            self.settle()

    def wait(self, attempt: int, after: Optional[float], deadline: float) -> bool:
        seconds = self.pace.seconds(attempt, after)
        if self.pace.clock() + seconds > deadline:
            return False
        self.pace.sleep(seconds)
        return True

    def show(self, plan: Plan) -> None:
        every = [*plan.changes, *plan.manifest]
        self.outcome.before = _text(self.job.zone, (change.before for change in every))
        self.outcome.after = _text(self.job.zone, (change.after for change in every))

    def place(self, finding: Finding) -> Finding:
        return Finding(
            f"zone {self.job.zone}, {finding.where}", finding.found, finding.why, finding.remedy, finding.severity
        )

    def fail(
        self, error: ProviderError, why: str = "", remedy: str = "", batch: Optional[Sequence[Change]] = None
    ) -> None:
        """``batch`` is what was being written."""
        found = error.found
        if batch:
            found += f"; it was to write {_some([' '.join(change.key) for change in batch], 5)}"
        if self.open_batch:
            # Nobody can tell any more; to say that nothing changed might be a lie.
            self.note(self.open_batch)
            found += "; whether the last write happened is unknown, the next run finds out"
        self.outcome.findings.append(
            Finding(
                f"zone {self.job.zone} ({self.job.provider})",
                found,
                why or error.why or "the service says so",
                remedy or error.remedy or "run again later",
            )
        )

    def note_unknown_keys(self) -> None:
        if self.seen is None:
            self.outcome.unknown_keys = zones.unknown_keys(
                self.job.zone, self.state, self.job.wanted, self.policy.owner
            )

    def ask_servers(self) -> None:
        """Every authoritative server shows what was written, or there is a finding."""
        if self.policy.check or not (self.complete and self.outcome.changed):
            return
        keys = list(self.outcome.changes)
        self.outcome.findings.extend(
            self.place(finding)
            for finding in servers.unequal(self.job.servers, keys, self.state, self.job.servers_wait_seconds, self.pace)
        )


def batches(plan: Plan, provider: Provider) -> Iterator[list[Change]]:
    """The plan in writes that the service takes.

    One write where it fits. Else the manifest goes first as a superset and shrinks last: a run that is killed in
    between leaves nothing that the manifest does not list.
    """
    sizes = [provider.cost(change) for change in plan.changes]
    once = [*plan.manifest, *plan.changes]
    total = sum(sizes) + sum(provider.cost(change) for change in plan.manifest)
    fits = total <= provider.limits.max_cost and len(once) <= provider.limits.max_changes
    if fits and (provider.limits.atomic or len(once) == 1):
        yield once
        return
    before = [provider.cost(change) for change in plan.manifest_before]
    yield from _cut([*plan.manifest_before, *plan.changes], [*before, *sizes], provider)
    yield from cut(plan.manifest_after, provider)


def cut(changes: Iterable[Change], provider: Provider) -> Iterator[list[Change]]:
    """``changes`` in their order, in parts that one write can carry."""
    listed = list(changes)
    return _cut(listed, [provider.cost(change) for change in listed], provider)


def _cut(changes: Iterable[Change], sizes: Iterable[int], provider: Provider) -> Iterator[list[Change]]:
    batch: list[Change] = []
    total = 0
    for change, cost in zip(changes, sizes):
        if batch and (total + cost > provider.limits.max_cost or len(batch) >= provider.limits.max_changes):
            yield batch
            batch, total = [], 0
        batch.append(change)
        total += cost
    if batch:
        yield batch


def _text(zone: str, sets: Iterable[Optional[RecordSet]]) -> str:
    lines: list[str] = []
    for record_set in sets:
        if record_set is None:
            continue
        if ownership.is_manifest(record_set.name, zone):
            lines.extend(f"{record_set.name} lists {ownership.describe(value)}" for value in record_set.values)
        else:
            lines.extend(record_set.lines())
    return "".join(f"{printable(line, len(line))}\n" for line in sorted(lines))


def _joined(state: State, seen: State, names: Collection[str]) -> State:
    """``state`` with what stands at ``names`` as it was seen now."""
    rest = {key: each for key, each in state.items() if key[0] not in names}
    return {**rest, **{key: each for key, each in seen.items() if key[0] in names}}


def _day(number: int) -> str:
    return date.fromordinal(_FIRST_DAY + number).isoformat()


def _leaving(zone: str, leaving: Sequence[Leaving], retire: Retire) -> Finding:
    lines = [f"{line} (until {_day(each.until)})" for each in leaving for line in each.record_set.lines()]
    remedy = "the first run from that day on deletes them; to have it now, run with retire: now"
    if retire.when == zones.NEVER:
        remedy = "run with retire: due from that day on, or with retire: now"
    return Finding(
        f"zone {zone}",
        f"{len(lines)} value(s) that nothing declares any more: {_some(lines)}",
        "this fleet wrote them and keeps them, because mail in flight may still need them",
        remedy,
        WARNING,
    )


def _over(zone: str, plan: Plan, percent: float) -> Finding:
    lines: list[str] = []
    for change in plan.changes:
        before = change.before.lines() if change.before else []
        after = set(change.after.lines()) if change.after else set()
        lines.extend(line for line in before if line not in after)
    return Finding(
        f"zone {zone}",
        f"the plan deletes or updates {plan.touched} of {plan.owned} owned values ({plan.percent:.0f} %): "
        + _some(lines),
        f"more than {percent:g} % at once is more often a mistake in the fleet file than a wish, so it was not written",
        "look at the list; if it is right, run with force",
    )


def _restless(zone: str, plan: Plan) -> Finding:
    names = sorted({f"{change.key[0]} {change.key[1]}" for change in (*plan.changes, *plan.manifest)})
    return Finding(
        f"zone {zone}",
        f"written {_ROUNDS} times and still not as planned: {_some(names)}",
        "the service stores something else, or somebody undoes it",
        "compare the record with what the service shows, and find the other writer",
    )


def _some(lines: Sequence[str], limit: int = 20) -> str:
    shown = "; ".join(line if len(line) <= 120 else f"{line[:117]}..." for line in lines[:limit])
    return f"{shown}; and {len(lines) - limit} more" if len(lines) > limit else shown


def summary(outcomes: Iterable[Outcome]) -> Mapping[str, Any]:
    """All outcomes as a module returns them."""
    done = list(outcomes)
    return {
        "changed": any(outcome.changed for outcome in done),
        "zones": [outcome.as_dict() for outcome in done],
        "unknown_keys": sorted({name for outcome in done for name in outcome.unknown_keys}),
        "diff": [
            {
                "before_header": f"zone {outcome.zone}",
                "after_header": f"zone {outcome.zone}",
                "before": outcome.before,
                "after": outcome.after,
            }
            for outcome in done
            if outcome.before != outcome.after
        ],
    }
