# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small world in which DKIM keys rotate: servers that lag, caches, hosts, mail in queues, runs that die or overlap.

A world is a hashable value, so that a search can visit all of them. Time is counted in ticks of a day. What makes it
small enough:

- Caches are not listed. Anybody may ask at any moment, so what counts is how long a cache *may* still remember an
  answer that no server gives any more (``stale``). A signature can be verified by every receiver if all servers show
  its record and nothing else may be remembered.
- Mail is not listed. Every host that is up signs at every moment, so what counts is how long ago a key was last used
  (``queued``).
- Only differences count: keys are kept as if now were always the same moment and their past moved away.
- Servers that are alike, hosts that are alike and runs under way change places freely.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys as core

DAY = 86400
WALL = 1_800_000_000  # 2027-01-15
STEADY = 100 * DAY
SERVERS = 2
DOMAIN = "example.com"

Mark = tuple[str, str]  # selector, fingerprint
Record = tuple[str, str, str, int]  # name, type, text, TTL in ticks
View = tuple[Record, ...]


class Broken(AssertionError):
    """A law does not hold in a world."""

    def __init__(self, law: str, why: str) -> None:
        super().__init__(f"law {law}: {why}")
        self.law = law


class Host(NamedTuple):
    state: str  # up | down | gone
    serial: int
    signs: frozenset[Mark]
    holds: frozenset[Mark]
    out: bool = False  # it is not to sign with the series any more


class Seen(NamedTuple):
    """What a run has gathered; None is what it could not find out."""

    views: tuple[Optional[View], ...]
    hosts: tuple[Optional[tuple[frozenset[Mark], frozenset[Mark]]], ...]
    gone: tuple[bool, ...]
    passed: frozenset[str]
    asked: bool  # hosts, that is


class Run(NamedTuple):
    """A run that is under way: how far it is, the state that its evidence is for, and the state that it carries out."""

    at: int
    serial: int
    seen: Seen
    keys: int
    table: int  # the serial of those keys
    age: int  # ticks


class World(NamedTuple):
    keys: int  # the state of the store, as a number of Machine.states
    serial: int
    wall: int  # ticks that the clock on the wall is ahead
    zone: tuple[tuple[Record, int], ...]  # with the ticks after which a record that nobody declares goes, or DECLARED
    views: tuple[View, ...]  # what each server shows
    stale: tuple[tuple[str, str, str, int], ...]  # name, type, text or "" for none, ticks that caches may remember it
    queued: tuple[tuple[Mark, int], ...]  # ticks for which mail signed by this key may still be delivered
    hosts: tuple[Host, ...]
    runs: tuple[Optional[Run], ...]
    backup: Optional[tuple[int, int]]  # keys, serial
    image: Optional[Host]
    restored: bool  # the store was, and has not come to terms with the world yet
    epoch: int  # times that happened: what is made anew afterwards is another key
    withdrawn: frozenset[Mark]
    revoked: frozenset[Mark]
    cut: frozenset[Mark]  # revoked by a person in DNS: no law holds for what they sign
    left: tuple[int, ...]  # how often each of LIMITS may still happen


DECLARED = -1
LIMITS = ("fault", "demand", "compromise", "jump", "restore", "image", "cut", "leave", "part", "loss")


@dataclass(frozen=True)
class Case:
    """One small world: what the policy says, and what may happen how often."""

    name: str
    policy: dict[str, Any] = field(default_factory=dict)
    negative: tuple[int, ...] = (2, 2)  # of each server, ticks
    ttl: int = 1
    margin: int = 0
    life: int = 2  # of mail in a queue
    keep: int = 2
    undeclared: int = 6  # ticks after which a record that nobody declares is removed
    foreign: Optional[tuple[str, int]] = None  # a text with its TTL at the first selector
    slow: int = 0  # runs under way at a time, besides those that go through without a pause
    patience: Optional[int] = None  # ticks after which such a run has ended, None for never
    settled: bool = True  # start with an active key
    ticks: int = 12
    bound: int = 16  # ticks within which rest is reached once faults stop
    fault: int = 1
    demand: int = 1
    compromise: int = 0
    jump: int = 0
    restore: int = 0
    image: int = 0
    cut: int = 0
    leave: int = 0
    part: int = 0
    loss: int = 0
    # What others than the rotation have to do; without it the laws do not hold.
    careful: bool = True  # a restored store first comes to terms with the world
    matched: bool = True  # evidence counts for the state that it was gathered for
    guarded: bool = True  # hosts refuse older tables


class Weather(NamedTuple):
    """What is wrong during one run."""

    server: Optional[int] = None  # does not answer
    unseen: Optional[int] = None  # a host that shows nothing
    unreached: Optional[int] = None  # a host that takes nothing
    follow: tuple[bool, ...] = (True,) * SERVERS  # servers that show at once what is published
    unwritten: Optional[int] = None  # the first or last record is not written
    lines: Optional[int] = None  # killed after so many lines of the journal
    keys_only: Optional[int] = None  # killed between keys and table on this host
    unasked: bool = False  # a playbook for DNS only: it neither asks the hosts nor gives them anything
    unproven: bool = False  # no test mail came through


FINE = Weather()
GATHER, STEP, PUBLISH, LOOK, STEP_2, PUSH, PROVE = "gather", "step", "publish", "look", "step again", "push", "prove"


class Machine:
    """The worlds of one case under one version of the rotation: what may happen, and whether the laws hold."""

    def __init__(self, rotation: ModuleType, case: Case) -> None:
        self.rotation: Any = rotation
        self.case = case
        hosts = case.policy.get("hosts", ("h0", "h1"))
        given = {
            "domain": DOMAIN,
            "algorithm": "rsa",
            "bits": 2048,
            "ttl_seconds": case.ttl * DAY,
            "selector": "k",
            "margin_seconds": case.margin * DAY,
            "keep_retired_seconds": case.keep * DAY,
            **case.policy,
            "hosts": hosts,
        }
        self.basic = rotation.Policy(**given, fleet=hosts)
        self._policies: dict[tuple[bool, tuple[bool, ...]], Any] = {}
        self.states: list[tuple[Any, ...]] = []
        waits = max(*case.negative, case.ttl, case.foreign[1] if case.foreign else 0) + case.margin
        # Nothing is waited for so many ticks, so whatever is older is as old as this.
        self.long_ago = max(waits, case.keep, case.policy.get("every_days", 0)) + 1
        self._numbers: dict[tuple[Any, ...], int] = {}
        self.needs: dict[Mark, tuple[tuple[str, str, str], ...]] = {}
        self._stepped: dict[Any, tuple[int, ...]] = {}
        self._older: dict[int, int] = {}
        self._records: dict[tuple[int, bool], list[tuple[str, str, Optional[str], tuple[str, ...]]]] = {}
        self._tables: dict[tuple[int, bool], tuple[frozenset[Mark], frozenset[Mark]]] = {}
        self._rests: set[World] = set()
        self.program = (GATHER, STEP, PUBLISH, LOOK, STEP_2, *[PUSH] * len(hosts), PROVE, STEP)

    # ---- numbers for states of the store

    def number(self, held: tuple[Any, ...]) -> int:
        found = self._numbers.get(held)
        if found is None:
            found = self._numbers[held] = len(self.states)
            self.states.append(held)
        return found

    def policy(self, world: World) -> Any:
        return self._policy(self.has_left(world), tuple(host.out for host in world.hosts))

    def _policy(self, left: bool, outs: tuple[bool, ...]) -> Any:
        found = self._policies.get((left, outs))
        if found is None:
            hosts = tuple(host for host, out in zip(self.basic.fleet, outs) if not (out or left))
            found = self._policies[left, outs] = dataclasses.replace(self.basic, left=left, hosts=hosts)
        return found

    def has_left(self, world: World) -> bool:
        return world.left[LIMITS.index("leave")] < self.case.leave

    def older(self, number: int) -> int:
        """The same keys a tick later."""
        found = self._older.get(number)
        if found is None:
            wall, steady = WALL - self.long_ago * DAY, STEADY - self.long_ago * DAY
            found = self._older[number] = self.number(
                tuple(
                    dataclasses.replace(
                        key,
                        born=max(key.born - DAY, wall),
                        entered=max(key.entered - DAY, steady),
                        seen_since=key.seen_since and max(key.seen_since - DAY, steady),
                        quiet_since=key.quiet_since and max(key.quiet_since - DAY, steady),
                    )
                    for key in self.states[number]
                )
            )
        return found

    # ---- beginnings

    def begin(self) -> World:
        case = self.case
        zone: View = ()
        if case.foreign:
            name = f"{self.rotation.free_selector((), self.basic, self.now(0))}._domainkey.{DOMAIN}"
            zone = ((name, "TXT", *case.foreign),)
        hosts = tuple(Host("up", 0, frozenset(), frozenset()) for _host in self.basic.fleet)
        world = World(
            keys=self.number(()),
            serial=0,
            wall=0,
            zone=tuple((record, DECLARED) for record in zone),
            views=(zone,) * SERVERS,
            stale=(),
            queued=(),
            hosts=hosts,
            runs=(None,) * case.slow,
            backup=None,
            image=None,
            restored=False,
            epoch=0,
            withdrawn=frozenset(),
            revoked=frozenset(),
            cut=frozenset(),
            left=tuple(getattr(case, name) for name in LIMITS),
        )
        if case.settled:
            world = self.settle(world)
        if case.restore:
            world = world._replace(backup=(world.keys, world.serial))
        if case.image:
            world = world._replace(image=world.hosts[0])
        return self.canonical(world)

    # ---- time

    def now(self, wall: int) -> Any:
        return self.rotation.Now(WALL + wall * DAY, STEADY)

    def tick(self, world: World) -> World:
        return world._replace(
            keys=self.older(world.keys),
            zone=tuple((record, left if left == DECLARED else max(0, left - 1)) for record, left in world.zone),
            stale=tuple((*key, left - 1) for *key, left in world.stale if left > 1),  # type: ignore[misc]
            queued=tuple((mark, left - 1) for mark, left in world.queued if left > 1),
            runs=tuple(map(self.later, world.runs)),
            backup=world.backup and (self.older(world.backup[0]), world.backup[1]),
        )

    def later(self, run: Optional[Run]) -> Optional[Run]:
        patience = self.case.patience
        if run is None or (patience is not None and run.age >= patience):
            return None
        return run._replace(keys=self.older(run.keys), age=0 if patience is None else run.age + 1)

    # ---- what a run does, one stage after the other

    def gather(self, world: World, weather: Weather) -> Run:
        views = tuple(None if at == weather.server else view for at, view in enumerate(world.views))
        hosts = tuple(
            None if weather.unasked or at == weather.unseen or host.state != "up" else (host.signs, host.holds)
            for at, host in enumerate(world.hosts)
        )
        gone = tuple(host.state == "gone" for host in world.hosts)
        passed = frozenset(
            mark[0] for at, host in enumerate(world.hosts) if hosts[at] is not None for mark in host.signs
        )
        passed = frozenset(selector for selector in passed if self.basic.proof and not weather.unproven)
        return Run(1, world.serial, Seen(views, hosts, gone, passed, not weather.unasked), world.keys, world.serial, 0)

    def step(self, world: World, run: Run, weather: Weather) -> tuple[World, Run]:
        """Evidence that was gathered for another state of the store moves nothing."""
        if run.serial == world.serial or not self.case.matched:
            chain = self.stepped(world, run.seen)
            lines = len(chain) - 1 if weather.lines is None else min(weather.lines, len(chain) - 1)
            if lines > 0 or (world.restored and chain):
                world = self.written(world, chain, lines)
        return world, run._replace(keys=world.keys, serial=world.serial, table=world.serial)

    def written(self, world: World, chain: tuple[int, ...], lines: int) -> World:
        serial = world.serial + 1
        restored = world.restored
        if restored and lines == len(chain) - 1:
            restored = False
            serial = max(serial, *(host.serial + 1 for host in world.hosts))
        gone = {key.mark for key in self.states[chain[lines]] if key.state == self.rotation.WITHDRAWN}
        revoked = {key.mark for key in self.states[chain[lines]] if key.revoked}
        return world._replace(
            keys=chain[lines],
            serial=serial,
            restored=restored,
            withdrawn=world.withdrawn | gone,
            revoked=world.revoked | revoked,
            stale=self.not_asked(world.stale, chain[: lines + 1]),
        )

    def not_asked(self, stale: tuple[Any, ...], chain: tuple[int, ...]) -> tuple[Any, ...]:
        """Where no key could be signed with, nobody has asked for the name of one before mail carries it."""
        if not stale or self.basic.first_key != "now":
            return stale
        names: set[str] = set()
        for before, later in zip(chain, chain[1:]):
            held = self.states[later]
            if not any(key.usable for key in self.states[before]):
                names |= {
                    need[0]
                    for key in held
                    if key.usable and [one.selector for one in held].count(key.selector) == 1
                    for need in self.needs[key.mark]
                }
        return tuple(each for each in stale if each[0] not in names)

    def stepped(self, world: World, seen: Seen) -> tuple[int, ...]:
        """The states of the store after each action of a step, the one before it first; () where none may be used."""
        key = (world.keys, world.wall, world.epoch, world.restored, self.policy(world).hosts, seen)
        found = self._stepped.get(key)
        if found is None:
            found = self._stepped[key] = self._step(world, seen)
        return found

    def _step(self, world: World, seen: Seen) -> tuple[int, ...]:
        rotation, policy, now = self.rotation, self.policy(world), self.now(world.wall)
        held = self.states[world.keys]
        evidence = self.evidence(held, policy, seen)
        do = rotation.reconcile if world.restored else rotation.step
        made = do(held, policy, now, evidence)
        if world.restored and made.waits:
            return ()
        chain = [held]
        for action in made.actions:
            action = self.complete(action, world.epoch)
            chain.append(rotation.after(chain[-1], [action]))
            if not world.restored:
                self.check_action(chain[-2], chain[-1], policy, seen)
        again = do(chain[-1], policy, now, evidence).actions
        made_one = any(action.kind == "make" for action in made.actions)  # then its record is new evidence
        if again and not made_one and (not world.restored or rotation.after(chain[-1], again) != chain[-1]):
            raise Broken("F", f"the same evidence says more in a second step: {[action.text for action in again]}")
        return tuple(map(self.number, chain))

    def complete(self, action: Any, epoch: int) -> Any:
        """What the store does with a key that is to be made."""
        key = action.key
        if action.kind == "make":
            data = hashlib.sha256(f"{key.selector} {key.id} {epoch}".encode()).digest()
            text = f"v=DKIM1; k=rsa; p={base64.b64encode(data).decode()}"
            key = dataclasses.replace(key, record=text, fingerprint=core.fingerprint_of_record(text))
            needs = [(key.name, "TXT", text)]
            if key.alias:
                needs.append((key.alias, "CNAME", key.name))
            self.needs[key.mark] = tuple(needs)
        return dataclasses.replace(action, key=key)

    def check_action(self, before: tuple[Any, ...], later: tuple[Any, ...], policy: Any, seen: Seen) -> None:
        was = {key.id: key for key in before}
        for key in later:
            old = was.get(key.id)
            if old is None:
                self.check_new(key, before, policy)
            elif old.state != key.state:
                self.check_move(old, key, later, policy, seen)

    def check_new(self, key: Any, before: tuple[Any, ...], policy: Any) -> None:
        if not policy.slots and key.selector in {one.selector for one in before}:
            raise Broken("O", f"a selector is used again, {key.selector}")

    def check_move(self, old: Any, key: Any, later: tuple[Any, ...], policy: Any, seen: Seen) -> None:
        rotation = self.rotation
        shown = [(name, host) for name, host, gone in zip(policy.fleet, seen.hosts, seen.gone) if not gone]
        hosts = [host for name, host in shown if name in policy.hosts]
        others = {one.mark for one in later if one.usable and one.id != key.id}
        if old.state == rotation.WITHDRAWN:
            raise Broken("D", f"{key.selector} was withdrawn and is {key.state}")
        if old.state == rotation.NEW and key.state == rotation.PUBLISHED:
            for view in seen.views:
                if view is None or any(each[:2] == (key.name, "TXT") and "p=" in each[2] for each in view):
                    raise Broken("O", f"{key.selector} is published, and a server may show another key there")
        lacking = any(host is None or key.mark not in host[1] for host in hosts)
        waits = bool(others) or policy.first_key != "now"
        if (old.state, key.state) == (rotation.VERIFIED, rotation.ACTIVE) and lacking and waits:
            raise Broken("H", f"{key.selector} is active, and a host has not shown to hold it")
        if old.state == rotation.ACTIVE and not policy.left:
            if not others:
                raise Broken("C", f"{key.selector} was the last and is {key.state}")
            behind = any(host is None or not others & host[0] for host in hosts)
            if behind or any(host is None or key.mark in host[0] for _name, host in shown):
                raise Broken(
                    "R", f"{key.selector} is {key.state}, and a host has not shown to sign with what follows it"
                )
            if policy.proof and not key.revoked and not seen.passed & {mark[0] for mark in others}:
                raise Broken("P", f"{key.selector} is {key.state}, and no receiver has seen what follows it")

    def evidence(self, held: tuple[Any, ...], policy: Any, seen: Seen) -> Any:
        rotation = self.rotation
        signers = {host: rotation.Signer(*shown) for host, shown in zip(policy.fleet, seen.hosts) if shown is not None}
        without = frozenset(host for host, gone in zip(policy.fleet, seen.gone) if gone)
        bare = rotation.Evidence({}, signers, seen.passed, without)
        looks = {}
        for name, rtype in rotation.questions(held, policy, bare):
            looks[name, rtype] = rotation.Look(
                tuple(self.shows(at, view, name, rtype) for at, view in enumerate(seen.views)), True
            )
        return rotation.Evidence(looks, signers, seen.passed, without, seen.asked)

    def shows(self, at: int, view: Optional[View], name: str, rtype: str) -> Any:
        shown, server = self.rotation.Shown, f"ns{at}"
        if view is None:
            return shown(server, "unknown")
        for there, kind, text, ttl in view:
            if (there, kind) == (name, rtype):
                return shown(server, "yes", (text,), ttl * DAY)
        return shown(server, "no", (), self.case.negative[at] * DAY)

    def declared(self, number: int, left: bool) -> list[tuple[str, str, Optional[str], tuple[str, ...]]]:
        """Name, type, text that is to stand there or None, texts that are to go."""
        found = self._records.get((number, left))
        if found is None:
            found = self._records[number, left] = [
                (each["name"], each["type"], each["values"][0], ())
                if each["state"] == "present"
                else (each["name"], each["type"], None, tuple(each["values"]))
                for each in self.rotation.records(self.states[number], dataclasses.replace(self.basic, left=left))
                if each["values"] and not (each["type"] == "CNAME" and self.basic.external)
            ]
        return found

    def publish(self, world: World, run: Run, weather: Weather) -> World:
        if not world.restored:
            declared = self.declared(run.keys, self.has_left(world))
            if weather.unwritten is not None:
                declared = declared[1:] if weather.unwritten == 0 else declared[:-1]
            zone = {(record[0], record[1]): (record, left) for record, left in world.zone}
            before = dict(zone)
            for name, rtype, text, gone in declared:
                there = zone.get((name, rtype))
                if text is not None:
                    zone[name, rtype] = ((name, rtype, text, self.case.ttl), DECLARED)
                elif there and there[0][2] in gone:
                    del zone[name, rtype]
            if weather.unwritten is None:
                wanted = {(name, rtype) for name, rtype, text, _gone in declared if text is not None}
                for key, (record, left) in before.items():
                    if key in zone and key not in wanted and not self.is_foreign(record):
                        if left == 0:
                            del zone[key]
                        elif left == DECLARED:
                            zone[key] = (record, self.case.undeclared)
            new = tuple(sorted(zone.values()))
            world = world if new == world.zone else world._replace(zone=new)
        for at, follows in enumerate(weather.follow):
            if follows:
                world = self.sync(world, at)
        return world

    def is_foreign(self, record: Record) -> bool:
        if record[1] == "CNAME" and self.basic.external:
            return True
        return self.case.foreign is not None and record[2] == self.case.foreign[0]

    def sync(self, world: World, at: int) -> World:
        """A server shows what is published. What it showed before may be remembered."""
        new = tuple(record for record, _left in world.zone)
        old = world.views[at]
        if new == old:
            return world
        stale = {(name, rtype, text): left for name, rtype, text, left in world.stale}
        was = {(name, rtype): (text, ttl) for name, rtype, text, ttl in old}
        becomes = {(name, rtype): (text, ttl) for name, rtype, text, ttl in new}
        for key in was.keys() | becomes.keys():
            text, ttl = was.get(key, ("", self.case.negative[at]))
            if text != becomes.get(key, ("", 0))[0]:
                stale[(*key, text)] = max(ttl, stale.get((*key, text), 0))
        views = tuple(new if number == at else view for number, view in enumerate(world.views))
        kept = tuple(sorted((*key, left) for key, left in stale.items() if left > 0))
        return world._replace(views=views, stale=kept)

    def push(self, world: World, run: Run, at: int, weather: Weather) -> World:
        """Keys first, then the table that names them; a host keeps a table that is newer."""
        host = world.hosts[at]
        if host.state != "up" or at == weather.unreached or weather.unasked or world.restored:
            return world
        signs, given = self.table(run.keys, self.has_left(world) or host.out)
        holds = host.holds | given
        newer = (run.table >= host.serial or not self.case.guarded) and weather.keys_only != at
        if newer and signs <= holds:  # it may lack a key that the store has lost
            if host.signs - world.cut and not signs and not (self.has_left(world) or host.out):
                raise Broken("G", f"host {at} is told to sign nothing")
            new = host._replace(holds=given | (signs & holds), serial=run.table, signs=signs)
        else:
            new = host._replace(holds=holds)
        if new == host:
            return world
        return world._replace(hosts=tuple(new if number == at else each for number, each in enumerate(world.hosts)))

    def table(self, number: int, left: bool) -> tuple[frozenset[Mark], frozenset[Mark]]:
        """What hosts are to sign with, and the keys that the store can give them."""
        found = self._tables.get((number, left))
        if found is None:
            held, policy = self.states[number], dataclasses.replace(self.basic, left=left)
            chosen = self.rotation.signing(held, policy)
            wanted = self.rotation.holding(held, policy)
            found = self._tables[number, left] = (
                frozenset([chosen.mark] if chosen else []),
                frozenset(key.mark for key in wanted if key.private),
            )
        return found

    def advance(self, world: World, run: Run, weather: Weather) -> tuple[World, Run]:
        """One stage of a run."""
        stage = self.program[run.at]
        if stage in (STEP, STEP_2):
            world, run = self.step(world, run, weather)
        elif stage == PUBLISH:
            world = self.publish(world, run, weather)
        elif stage == LOOK:
            fresh = self.gather(world, weather)
            run = run._replace(seen=run.seen._replace(views=fresh.seen.views))
        elif stage == PUSH:
            world = self.used(self.push(world, run, run.at - self.program.index(PUSH), weather))
        elif stage == PROVE:
            fresh = self.gather(world, weather)
            run = run._replace(seen=run.seen._replace(hosts=fresh.seen.hosts, passed=fresh.seen.passed))
        return world, run._replace(at=run.at + 1)

    def through(self, world: World, weather: Weather) -> Iterator[World]:
        """A run without a pause: the world after each of its stages."""
        run = self.gather(world, weather)
        while run.at < len(self.program):
            killed = weather.lines is not None and self.program[run.at] in (STEP, STEP_2)
            before = world.keys
            world, run = self.advance(world, run, weather)
            yield world
            if killed and world.keys != before:
                return

    # ---- mail

    def used(self, world: World) -> World:
        """Every host that is up signs mail at this moment."""
        now = {mark for host in world.hosts if host.state == "up" for mark in host.signs}
        if not now:
            return world
        queued = {**dict(world.queued), **dict.fromkeys(now, self.case.life)}
        known = tuple(sorted(queued.items()))
        return world if known == world.queued else world._replace(queued=known)

    # ---- what may happen

    def events(self, world: World) -> Iterator[tuple[str, World]]:
        yield from self._runs(world)
        yield from self._slow_runs(world)
        yield from self._surroundings(world)
        yield from self._people(world)

    def may(self, world: World, what: str) -> bool:
        return world.left[LIMITS.index(what)] > 0

    def spend(self, world: World, what: str) -> World:
        at = LIMITS.index(what)
        return world._replace(left=(*world.left[:at], world.left[at] - 1, *world.left[at + 1 :]))

    def _runs(self, world: World) -> Iterator[tuple[str, World]]:
        stages = list(self.through(world, FINE))
        yield "run", stages[-1]
        if not self.may(world, "fault"):
            return
        previous = world
        for at, later in enumerate(stages[:-1], 1):
            if later != previous:
                yield f"run killed after {self.program[at]} ({at})", self.spend(later, "fault")
            previous = later
        for weather in self.weathers(world):
            changed = [field for field in Weather._fields if getattr(weather, field) != getattr(FINE, field)]
            label = ", ".join(f"{field}={getattr(weather, field)}" for field in changed)
            *_stages, last = self.through(world, weather)
            yield f"run with {label}", self.spend(last, "fault")

    def weathers(self, world: World) -> Iterator[Weather]:
        for at in range(SERVERS):
            yield Weather(server=at)
            others = tuple(number != at for number in range(SERVERS))
            yield Weather(follow=others)
            yield Weather(server=at, follow=others)
        yield Weather(follow=(False,) * SERVERS)
        for at in range(len(world.hosts)):
            yield Weather(unseen=at)
            yield Weather(unreached=at)
            yield Weather(unseen=at, unreached=at)
            yield Weather(keys_only=at)
        for record in (0, -1):
            yield Weather(unwritten=record)
        for lines in (1, 2):
            yield Weather(lines=lines)
        yield Weather(unasked=True)
        if self.basic.proof:
            yield Weather(unproven=True)

    def _slow_runs(self, world: World) -> Iterator[tuple[str, World]]:
        for slot, run in enumerate(world.runs):
            if run is None:
                if self.may(world, "fault"):
                    yield (
                        f"slow run {slot} begins",
                        self._put(self.spend(world, "fault"), slot, self.gather(world, FINE)),
                    )
                continue
            yield f"slow run {slot} dies", self._put(world, slot, None)
            later, further = self.advance(world, run, FINE)
            done = further.at == len(self.program)
            yield f"slow run {slot}: {self.program[run.at]}", self._put(later, slot, None if done else further)

    def _put(self, world: World, slot: int, run: Optional[Run]) -> World:
        return world._replace(runs=tuple(run if at == slot else each for at, each in enumerate(world.runs)))

    def _surroundings(self, world: World) -> Iterator[tuple[str, World]]:
        zone = tuple(record for record, _left in world.zone)
        for at in range(SERVERS):
            if world.views[at] != zone:
                yield f"server {at} follows", self.sync(world, at)
        for at, host in enumerate(world.hosts):
            others = world.hosts[:at], world.hosts[at + 1 :]
            if host.state == "down":
                back = (*others[0], host._replace(state="up"), *others[1])
                yield f"host {at} is back", self.used(world._replace(hosts=back))
                if self.may(world, "fault") and any(each.state == "up" for each in (*others[0], *others[1])):
                    gone = (*others[0], host._replace(state="gone"), *others[1])
                    yield f"host {at} is off for good", self.spend(world._replace(hosts=gone), "fault")
            elif host.state == "up":
                if self.may(world, "fault"):
                    down = (*others[0], host._replace(state="down"), *others[1])
                    yield f"host {at} goes down", self.spend(world._replace(hosts=down), "fault")
                if self._may_be_restored(world, host):
                    old = (*others[0], world.image._replace(state="up", out=host.out), *others[1])  # type: ignore[union-attr]
                    yield f"host {at} is restored", self.used(self.spend(world._replace(hosts=old), "image"))
        if self.may(world, "jump"):
            for ticks in (3, -3):
                yield f"clock jumps by {ticks}", self.spend(world._replace(wall=world.wall + ticks), "jump")

    def _may_be_restored(self, world: World, host: Host) -> bool:
        """Nothing can help against a host that comes back with a key that was withdrawn or revoked in good faith, and a
        run that has looked at it already cannot know."""
        image = world.image
        if image is None or not self.may(world, "image") or any(world.runs) or image[1:] == host[1:]:
            return False
        return not image.signs & (world.withdrawn | world.revoked | world.cut)

    def _people(self, world: World) -> Iterator[tuple[str, World]]:
        held = self.states[world.keys]
        chosen = self.rotation.signing(held, self.policy(world))
        if not world.restored:
            if self.may(world, "demand") and chosen is not None:
                asked = self.ask(self.spend(world, "demand"), self.rotation.DEMAND, chosen.selector)
                yield "a new key is demanded", asked
            if self.may(world, "compromise"):
                for key in held:
                    if key.state != self.rotation.WITHDRAWN and key.replace != self.rotation.COMPROMISED:
                        asked = self.ask(self.spend(world, "compromise"), self.rotation.COMPROMISED, key.selector)
                        yield f"{key.selector} is compromised", asked
        if self.may(world, "restore") and not any(world.runs):
            if world.backup is not None:
                number, serial = world.backup
                if number != world.keys:
                    old = world._replace(keys=number, serial=serial, restored=self.case.careful, epoch=world.epoch + 1)
                    yield "the store is restored", self.spend(old, "restore")
            if world.backup != (world.keys, world.serial) and not world.restored:
                yield "the store is saved", world._replace(backup=(world.keys, world.serial))
        if self.may(world, "image"):
            for at, host in enumerate(world.hosts):
                if host != world.image and host.state == "up":
                    yield f"host {at} is saved", world._replace(image=host)
        if self.may(world, "loss") and not any(world.runs) and not world.restored:
            coming = {key.name for key in held if key.state in (self.rotation.PUBLISHED, self.rotation.VERIFIED)}
            lost = world._replace(zone=tuple(each for each in world.zone if each[0][0] not in coming))
            if lost.zone != world.zone:
                for at in range(SERVERS):
                    lost = self.sync(lost, at)
                yield "somebody removes the record of a key that comes", self.spend(lost, "loss")
        if self.may(world, "cut") and chosen is not None:
            cut = tuple(
                ((record[0], record[1], self.rotation.names.REVOKED_KEY, record[3]), left)
                if record[:3] in self.needs[chosen.mark] and record[1] == "TXT"
                else (record, left)
                for record, left in world.zone
            )
            cut_off = world._replace(zone=cut, cut=world.cut | {chosen.mark})
            for at in range(SERVERS):
                cut_off = self.sync(cut_off, at)
            if cut != world.zone:
                yield "somebody revokes the key in DNS", self.spend(cut_off, "cut")
        aliased = self.with_aliases(world)
        if aliased is not world:
            yield "the aliases are set", aliased
        if self.may(world, "part") and not self.has_left(world):
            for at, host in enumerate(world.hosts):
                rest = [each for number, each in enumerate(world.hosts) if number != at and not each.out]
                if not host.out and any(each.state != "gone" for each in rest):
                    parted = (*world.hosts[:at], host._replace(out=True), *world.hosts[at + 1 :])
                    yield f"host {at} is not to sign any more", self.spend(world._replace(hosts=parted), "part")
        if self.may(world, "leave"):
            yield "the fleet leaves the domain", self.spend(world, "leave")

    def with_aliases(self, world: World) -> World:
        """Whoever runs the zone sets what they were asked for, on all servers."""
        if not self.basic.external:
            return world
        there = {record[:2] for record, _left in world.zone}
        live = [key for key in self.states[world.keys] if key.state not in (self.rotation.NEW, self.rotation.WITHDRAWN)]
        new = tuple(
            ((key.alias, "CNAME", key.name, self.case.ttl), DECLARED)
            for key in live
            if (key.alias, "CNAME") not in there
        )
        if not new:
            return world
        world = world._replace(zone=tuple(sorted((*world.zone, *new))))
        for at in range(SERVERS):
            world = self.sync(world, at)
        return world

    def ask(self, world: World, reason: str, selector: str) -> World:
        held = self.states[world.keys]
        asked = self.rotation.ask(held, self.policy(world), self.now(world.wall), reason, selector)
        if not asked.actions:
            return world
        return self.written(world, (self.number(self.rotation.after(held, asked.actions)),), 0)

    # ---- one world for many that are alike

    def canonical(self, world: World) -> World:
        world = self._with_small_serials(world)
        runs = sorted((run for run in world.runs if run), key=_order)
        hosts = [
            (host, *((run.seen.hosts[at], run.seen.gone[at]) for run in runs)) for at, host in enumerate(world.hosts)
        ]
        servers = [(view, *(run.seen.views[at] for run in runs)) for at, view in enumerate(world.views)]
        hosts.sort(key=_order)
        if len(set(self.case.negative)) == 1:
            servers.sort(key=_order)
        runs = [
            run._replace(
                seen=Seen(
                    tuple(server[1 + number] for server in servers),
                    tuple(host[1 + number][0] for host in hosts),
                    tuple(host[1 + number][1] for host in hosts),
                    *run.seen[3:],
                )
            )
            for number, run in enumerate(runs)
        ]
        return world._replace(
            views=tuple(server[0] for server in servers),
            hosts=tuple(host[0] for host in hosts),
            runs=(*[None] * (len(world.runs) - len(runs)), *runs),
        )

    def _with_small_serials(self, world: World) -> World:
        """Of serials, only order counts, and how far the store is from those that are ahead of it."""
        found = {host.serial for host in (*world.hosts, *([world.image] if world.image else []))}
        found |= {serial for run in world.runs if run for serial in (run.serial, run.table)}
        found |= {world.backup[1]} if world.backup else set()
        below = sorted(serial for serial in found if serial < world.serial)
        moved = {serial: at for at, serial in enumerate(below)}
        for serial in (*found, world.serial):
            if serial >= world.serial:
                moved[serial] = len(below) + serial - world.serial
        return world._replace(
            serial=moved[world.serial],
            hosts=tuple(host._replace(serial=moved[host.serial]) for host in world.hosts),
            image=world.image and world.image._replace(serial=moved[world.image.serial]),
            runs=tuple(run and run._replace(serial=moved[run.serial], table=moved[run.table]) for run in world.runs),
            backup=world.backup and (world.backup[0], moved[world.backup[1]]),
        )

    # ---- the laws

    def check(self, world: World) -> None:
        up = [(at, host) for at, host in enumerate(world.hosts) if host.state == "up"]
        signing = {mark: at for at, host in up for mark in host.signs}
        for mark, _left in world.queued:
            if mark in world.cut or (mark in world.revoked and mark not in signing):
                continue
            why = self.unseen(world, mark)
            if why:
                if mark in signing:
                    raise Broken("A", f"host {signing[mark]} signs with {mark[0]}, and {why}")
                raise Broken("B", f"mail signed with {mark[0]} is on its way, and {why}")
        for mark, at in signing.items():
            if mark in world.withdrawn:
                raise Broken("D", f"host {at} signs with {mark[0]}, which was withdrawn")

    def unseen(self, world: World, mark: Mark) -> str:
        """Why a receiver may not see the record of a key."""
        for name, rtype, text in self.needs[mark]:
            for at, view in enumerate(world.views):
                shown = next((record[2] for record in view if record[:2] == (name, rtype)), "nothing")
                if shown != text:
                    return f"server {at} shows {shown} at {name} {rtype}"
            for there, kind, other, left in world.stale:
                if (there, kind) == (name, rtype) and other != text:
                    return f"a cache may remember {other or 'nothing'} at {name} {rtype} for {left} more ticks"
        return ""

    def settle(self, world: World) -> World:
        """Faults stop and runs go on: the world at rest. Raises Broken where it does not come to rest in time."""
        world = world._replace(
            runs=(None,) * len(world.runs),
            hosts=tuple(host._replace(state="up") if host.state == "down" else host for host in world.hosts),
        )
        world = self.canonical(self.used(world))
        if world in self._rests:
            return world
        passed = [world]
        why = "it was not tried"
        for _tick in range(self.case.bound):
            world = self.with_aliases(world)
            for later in self.through(world, FINE):
                if later is not world:
                    self.check(later)
                world = later
            world = self.canonical(world)
            if world in self._rests:
                self._rests.update(passed)
                return world
            passed.append(world)
            why = self.unrest(world)
            if not why:
                self._rests.update(passed)
                return world
            world = self.tick(world)
        raise Broken("E", f"no rest after {self.case.bound} ticks without a fault: {why}")

    def unrest(self, world: World) -> str:
        """Why a world is not at rest."""
        rotation = self.rotation
        held = self.states[world.keys]
        live = [key for key in held if key.state != rotation.WITHDRAWN]
        hosts = [host for host in world.hosts if host.state == "up"]
        if world.restored:
            return "the store was restored"
        if self.has_left(world):
            wanted: frozenset[Mark] = frozenset()
            if live:
                return f"{live[0].selector} is {live[0].state}"
        else:
            if [key.state for key in live] != [rotation.ACTIVE]:
                return ", ".join(f"{key.selector} is {key.state}" for key in live) or "there is no key"
            if live[0].replace or not live[0].private:
                return f"{live[0].selector} is to be replaced"
            wanted = frozenset([live[0].mark])
        of = {False: wanted, True: frozenset()}
        if any(host.signs != of[host.out] or host.holds != of[host.out] for host in hosts):
            return "a host is behind"
        records = {need for mark in wanted for need in self.needs[mark]}
        if self.basic.external:
            records = {need for need in records if need[1] == "TXT"}
        shown = [{record[:3] for record in view if not self.is_foreign(record)} for view in world.views]
        if any(each != records for each in shown):
            return "a server is behind"
        return ""


@functools.lru_cache(maxsize=1 << 16)
def _order(value: Any) -> Any:
    """Something that can be compared, of any part of a world."""
    if value is None:
        return ()
    if isinstance(value, frozenset):
        return tuple(sorted(value))
    if isinstance(value, tuple):
        return tuple(map(_order, value))
    return (value,)
