# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run over the key store: what its journal says, a step of every series, the keys that it asks for, the journal.

A key is on disk before the journal names it, and the journal is on disk before anything outside sees a step. What a
killed run left is used or cleaned up by the next one.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key, PublicKey
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import fleet, life
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation.fleet import AllEvidence, Done, Store
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation.life import (
    Action,
    KeyState,
    Now,
    Policy,
    Tick,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding, errors
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim import journal
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import NO_BACKUP, KeyStore, StoreError
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import clock

_Actions = tuple[tuple[Policy, Action], ...]


class Refused(Exception):
    """Something is wrong with the store, the clocks or the request. Nothing was changed."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("refused")
        self.findings = list(findings)


@dataclass(frozen=True)
class Order:
    """What a run is given; the shapes are those of the module dkim_rotation."""

    series: Sequence[Mapping[str, Any]]
    evidence: Optional[Mapping[str, Any]] = None
    serial: Optional[int] = None  # of the state that the evidence was gathered for
    requests: Sequence[Mapping[str, Any]] = ()
    without: Sequence[str] = ()
    hosts: Sequence[str] = ()
    zones: Sequence[str] = ()
    unknown_keys: Sequence[str] = ()
    steps: bool = True  # False: only tell what there is


@dataclass(frozen=True)
class Report:
    done: Done
    policies: Sequence[Policy]
    now: Now
    evidence: AllEvidence
    before: Store
    hosts_behind: int
    archived: Sequence[str] = field(default_factory=tuple)

    @property
    def changed(self) -> bool:
        return bool(self.done.actions or self.archived)


class Run:
    def __init__(self, keys: KeyStore, order: Order, check_mode: bool) -> None:
        self.keys = keys
        self.order = dataclasses.replace(order, requests=[_canonical(one) for one in order.requests])
        self.check_mode = check_mode
        self.journal = journal.Journal(os.path.join(keys.directory, journal.JOURNAL))

    def go(self) -> Report:
        """The caller holds the lock of the store. Raises Refused, StoreError, OSError."""
        before = self._read()
        evidence = AllEvidence(self.order.evidence, self.order.without, before.serial)
        reading = _reading()
        clocks = fleet.clock_findings(before, reading, evidence.clocks)
        told = clocks + evidence.findings
        told += _no_hosts(set(self.order.without) - set(self.order.hosts) if self.order.hosts else ())
        tick = tick_of(before, reading, sure=bool(evidence.clocks) and not errors(clocks))
        now = Now(tick.wall, tick.steady)
        wanted = fleet.policies(self.order.series, before, self.order.hosts, self.order.zones)
        copied = before.tick is not None and self.journal.identity() != before.file
        if not self.order.steps:
            return Report(Done(before, (), (), (), resting=copied), wanted, now, evidence, before, 0)
        damaged, given_up = self._survey(before, wanted)
        refused = [*errors(clocks), *_twice(self.order.series), *damaged]
        archived = [] if self.check_mode or refused else self._archive(before)
        taken_over, findings = self._take_over(before, wanted, now)
        taken_over = (*given_up, *taken_over)
        store = fleet.with_actions(before, taken_over)
        asked = fleet.requested(store, wanted, self.order.requests, now)
        refused += [one for one in (*findings, *asked.findings) if one not in refused]
        if refused:
            raise Refused(refused)
        ahead = evidence.ahead_of(before.serial)
        is_current = copied and evidence.is_whole(wanted) and evidence.is_current(before.serial)
        lost = bool(ahead) and not store.series
        restored = lost or evidence.is_most(ahead) or (copied and not is_current)
        if ahead and not restored and not copied and self.order.requests:
            raise Refused([*_ahead(ahead, before.serial), *_unheard(self.order.requests)])
        if ahead and not restored and not copied:  # the store is old or they lie, and doing nothing harms no mail
            told += _ahead(ahead, before.serial)
            rest = Done(before, (), (), tuple(told), resting=True)
            return Report(rest, wanted, now, evidence, before, len(ahead), archived)
        # Hosts refuse a state older than the one that they have, so the next one is later than all that count.
        known_serial = max(before.serial, evidence.serial if restored or copied else 0)
        if self.order.serial not in (None, before.serial):
            evidence = AllEvidence(None, self.order.without)
            told.append(_late(before.serial, self.order.serial))
        done = self._advance(asked.store, wanted, now, evidence, restored, ahead)
        if lost and not done.resting and not done.actions:  # nobody signs, so there is nothing to be taken over
            done = self._advance(asked.store, wanted, now, evidence, False)
        if done.resting and self.order.requests:
            raise Refused(_unheard(self.order.requests))
        actions = () if done.resting else (*taken_over, *asked.actions, *done.actions)
        if (restored or is_current) and not done.resting and not actions:
            actions = self._mark_as_compared(before, wanted)
        store = done.store if actions else before
        if actions:
            store = self._commit(store, actions, known_serial + 1, tick)
            archived += [] if self.check_mode else self._archive(store)
        hosts = fleet.hosts(store, wanted, evidence, now)
        findings = [*told, *done.findings, *hosts.findings, *_unknown(self.order.unknown_keys)]
        done = dataclasses.replace(done, store=store, actions=tuple(actions), findings=tuple(findings))
        return Report(done, wanted, now, evidence, before, hosts.count, archived)

    def _read(self) -> Store:
        try:
            return fleet.fold(self.journal.read())
        except ValueError as error:
            raise StoreError(f"{self.journal.path}: {error}. Restore the journal from a backup") from None

    def _survey(self, store: Store, wanted: Sequence[Policy]) -> tuple[list[Finding], _Actions]:
        """What is wrong with the private keys that hosts must have now or soon.

        One that is damaged or gone and that a person calls compromised is given up: it has no private part any more.
        """
        meant: dict[str, tuple[Policy, KeyState]] = {}
        for policy in wanted:
            for key in store.keys_of(policy):
                if key.private and key.record and (key.usable or key.state in life.COMING):
                    meant[_file_key(policy, key).name] = (policy, key)
        found = self.keys.survey([_file_key(policy, key) for policy, key in meant.values()])
        findings = list(found.findings)
        remedy = f"Restore the key store (playbook mailops.mta.restore_dkim), or {NO_BACKUP}"
        for lost in found.missing:
            path = os.path.join(self.keys.directory, f"{lost.name}.pem")
            findings.append(Finding(path, lost.name, "it is gone, and the journal says that hosts use it", remedy))
        for name, public in found.public.items():
            if public.fingerprint != meant[name][1].fingerprint:
                path = os.path.join(self.keys.directory, f"{name}.pem")
                findings.append(Finding(path, name, "it is not the key that the journal names", remedy))
        given_up = {one.found for one in findings if one.found in meant and self._is_given_up(*meant[one.found])}
        findings = [one for one in findings if one.found not in given_up]
        if not findings and not self.check_mode:
            for unsealed in found.unsealed:
                self.keys.seal(unsealed, found)
        why = "its private part is lost"
        return findings, tuple(
            (policy, Action("note", dataclasses.replace(key, private=False), why))
            for policy, key in (meant[name] for name in sorted(given_up))
        )

    def _is_given_up(self, policy: Policy, key: KeyState) -> bool:
        return any(
            one["reason"] == life.COMPROMISED
            and one["domain"] == policy.domain
            and one.get("algorithm") in (None, policy.algorithm)
            and one.get("selector") in (None, key.selector)
            for one in self.order.requests
        )

    def _archive(self, store: Store) -> list[str]:
        moved = []
        for (domain, algorithm), held in store.series.items():
            for key in held:
                file = Key(domain, key.selector, algorithm)
                path = os.path.join(self.keys.directory, f"{file.name}.pem")
                gone = key.state == life.WITHDRAWN and key.private and key.fingerprint
                if gone and os.path.exists(path) and self.keys.archive(file, key.fingerprint):
                    moved.append(file.name)
        return moved

    def _take_over(self, store: Store, wanted: Sequence[Policy], now: Now) -> tuple[_Actions, list[Finding]]:
        """Keys of older versions of the collection: named by the fleet file, with no journal."""
        # Only of a store that has no journal: later, a file of that name is what a domain left here once.
        unknown = [policy for policy in wanted if not store.serial and not policy.left]
        files = {
            Key(policy.domain, _plain(policy), policy.algorithm): policy
            for policy in unknown
            if os.path.exists(os.path.join(self.keys.directory, f"{_plain(policy)}._domainkey.{policy.domain}.pem"))
        }
        found = self.keys.survey(list(files))
        actions = []
        for file, policy in files.items():
            if file.name in found.public:
                key = life.fresh((), policy, now, file.selector, life.IMPORTED)
                # Hosts sign with it as it is, so it needs no proof that it may be used.
                key = dataclasses.replace(key, state=life.ACTIVE, seen_since=now.steady)
                key = _filled(key, found.public[file.name])
                actions.append((policy, Action("adopt", key, life.REASONS[life.IMPORTED])))
        return tuple(actions), list(found.findings)

    def _advance(
        self,
        store: Store,
        wanted: Sequence[Policy],
        now: Now,
        evidence: AllEvidence,
        restored: bool,
        ahead: Collection[str] = (),
    ) -> Done:
        done = fleet.advance(store, wanted, now, evidence, restored, ahead)
        making = [(policy, action) for policy, action in done.actions if action.kind == "make"]
        if not making or self.check_mode:
            return done
        made = self._make(making)
        others = tuple(each for each in done.actions if each[1].kind != "make")
        renewed = {(policy.domain, policy.algorithm) for policy, _action in making}
        store = fleet.with_actions(done.store, made)
        again = fleet.advance(store, [policy for policy, _action in making], now, evidence, False)
        return Done(
            again.store,
            (*others, *made, *again.actions),
            (*(each for each in done.waits if (each[0].domain, each[0].algorithm) not in renewed), *again.waits),
            (*done.findings, *(finding for finding in again.findings if finding not in done.findings)),
        )

    def _make(self, actions: Sequence[tuple[Policy, Action]]) -> _Actions:
        files = {_file_key(policy, action.key): (policy, action) for policy, action in actions}
        made = self.keys.make_all(files)
        return tuple(
            (policy, dataclasses.replace(action, key=_filled(action.key, made[file.name])))
            for file, (policy, action) in files.items()
        )

    def _mark_as_compared(self, store: Store, wanted: Sequence[Policy]) -> _Actions:
        policy = next((policy for policy in wanted if store.keys_of(policy)), None)
        if policy is None:
            return ()
        why = "the store was copied or restored, and is what its hosts and DNS show"
        return ((policy, Action("note", store.keys_of(policy)[-1], why)),)

    def _commit(self, store: Store, actions: _Actions, serial: int, tick: Tick) -> Store:
        if self.check_mode:
            return store  # of the state that is there: hosts and the next call go by its serial
        file = self.journal.identity()
        self.journal.append(fleet.lines(actions, serial, tick, file))
        return dataclasses.replace(store, serial=serial, tick=tick, file=file)


def _canonical(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """With its domain as the fleet has it; one that is no name is no domain of the fleet either."""
    try:
        return {**request, "domain": names.to_ascii(str(request["domain"]))}
    except ValueError:
        return request


def _unknown(keys: Sequence[str]) -> list[Finding]:
    why = "nobody in the fleet signs with it, and whoever has its private part can sign in our name"
    remedy = "Remove it, or name the stream that needs it under 'records' of the fleet file"
    return [Finding(name, "a DKIM key that nobody declared", why, remedy, WARNING) for name in keys]


def _twice(series: Sequence[Mapping[str, Any]]) -> list[Finding]:
    count = Counter(f"{one['domain']} {one['algorithm']}" for one in series)
    why, remedy = "a domain has one series of keys for each algorithm", "Leave one entry"
    return [Finding("series", name, why, remedy) for name in sorted(count) if count[name] > 1]


def _ahead(hosts: Sequence[str], serial: int) -> list[Finding]:
    why = "the key store was set back, or this host lies; nothing is done until it is known which"
    remedy = (
        "Restore the newest backup (restore_dkim.yml) or bring all signing hosts back, and run rotate_dkim.yml; where "
        "the key store is the newest there was and no other host has such a state, find out who changed "
        "/etc/rspamd/mailops/installed.json or /etc/pmta/conf.d/70-dkim.conf there, set the host up anew, and name it "
        "in mta_dkim_without meanwhile"
    )
    told = f"a table of a later state than the key store's ({serial})"
    return [Finding(f"host {host}", told, why, remedy) for host in hosts]


def _unheard(requests: Sequence[Mapping[str, Any]]) -> list[Finding]:
    why = "the key store rests until it was compared with its hosts and with what DNS shows"
    remedy = "Run rotate_dkim.yml without requests until it does not rest any more, then with them"
    return [Finding("requests", str(one["domain"]), why, remedy) for one in requests]


def _no_hosts(unknown: Collection[str]) -> list[Finding]:
    why = "no signing host of the fleet has this name"
    return [Finding("mta_dkim_without", f"'{name}'", why, "Correct or remove it", WARNING) for name in sorted(unknown)]


def _late(serial: int, given: Optional[int]) -> Finding:
    return Finding(
        "the key store",
        f"state {serial} instead of {given}",
        "another run has gone further since this one looked around, so what it saw does not count",
        "Run rotate_dkim.yml again",
        WARNING,
    )


def tick_of(store: Store, reading: Optional[Tick] = None, sure: bool = False) -> Tick:
    """The key host's clocks now, and how much of a store's life has gone by."""
    now = dataclasses.replace(reading or _reading(), sure=sure)
    return dataclasses.replace(now, steady=life.steady_seconds(store.tick, now))


def _reading() -> Tick:
    return Tick(int(time.time()), clock.boot_id(), clock.uptime())


def _file_key(policy: Policy, key: KeyState) -> Key:
    return Key(policy.domain, key.selector, policy.algorithm, key.bits)


def _plain(policy: Policy) -> str:
    return f"{policy.selector}-{ED25519}" if policy.algorithm == ED25519 else policy.selector


def _filled(key: KeyState, public: PublicKey) -> KeyState:
    return dataclasses.replace(key, record=public.record, fingerprint=public.fingerprint, bits=public.bits)
