# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All series of a fleet at once: the journal of the key store as state, evidence by series, and one step of everything.

A line of the journal is one action: ``{serial, wall, steady, boot, uptime, file, domain, algorithm, step, key, why,
evidence}``. The last line of a key is what it is now.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names, rotation
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.rotation import (
    Action,
    Evidence,
    KeyState,
    Look,
    Now,
    Policy,
    Shown,
    Signer,
    Step,
    Tick,
    Wait,
)

CLOCK_TOLERANCE_SECONDS = 300

Name = tuple[str, str]  # of a series: domain and algorithm
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Store:
    """What a journal says."""

    serial: int = 0
    tick: Optional[Tick] = None
    file: Optional[str] = None  # the identity of the journal when its last line was written: a copy has another
    series: Mapping[Name, tuple[KeyState, ...]] = field(default_factory=dict)

    def keys_of(self, policy: Policy) -> tuple[KeyState, ...]:
        return self.series.get((policy.domain, policy.algorithm), ())


@dataclass(frozen=True)
class Done:
    """What a step of the whole fleet comes to."""

    store: Store
    actions: tuple[tuple[Policy, Action], ...]
    waits: tuple[tuple[Policy, Wait], ...]
    findings: tuple[Finding, ...]
    resting: bool = False  # nothing that the store holds may be used


def fold(lines: Iterable[Record]) -> Store:
    """The state that a journal adds up to. Raises ValueError naming the line that it cannot be read from."""
    series: dict[Name, dict[int, KeyState]] = {}
    last: Record = {}
    for number, line in enumerate(lines, 1):
        try:
            key = _key(line["key"])
            series.setdefault((line["domain"], line["algorithm"]), {})[key.id] = key
            tick = Tick(int(line["wall"]), str(line["boot"]), int(line["uptime"]), int(line["steady"]))
            serial, file = int(line["serial"]), line.get("file")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"line {number} is no step of a key ({error.__class__.__name__} at {error})") from None
        last = {"tick": tick, "serial": serial, "file": file}
    if not last:
        return Store()
    ordered = {name: tuple(held[number] for number in sorted(held)) for name, held in series.items()}
    return Store(last["serial"], last["tick"], last["file"], ordered)


_FIELDS = frozenset(each.name for each in dataclasses.fields(KeyState))


def _key(given: Record) -> KeyState:
    key = KeyState(**{name: value for name, value in given.items() if name in _FIELDS})
    if key.state not in rotation.STATES:
        raise ValueError(f"state {key.state!r}")
    return key


def lines(actions: Iterable[tuple[Policy, Action]], serial: int, tick: Tick, file: str) -> list[dict[str, Any]]:
    """The lines by which actions are added to a journal."""
    return [
        {
            "serial": serial,
            "wall": tick.wall,
            "steady": tick.steady,
            "boot": tick.boot,
            "uptime": tick.uptime,
            "file": file,
            "domain": policy.domain,
            "algorithm": policy.algorithm,
            "step": action.kind,
            "key": dataclasses.asdict(action.key),
            "why": action.why,
            "evidence": action.evidence,
        }
        for policy, action in actions
    ]


def with_actions(store: Store, actions: Iterable[tuple[Policy, Action]]) -> Store:
    changed = dict(store.series)
    for policy, action in actions:
        name = (policy.domain, policy.algorithm)
        changed[name] = rotation.after(changed.get(name, ()), [action])
    return dataclasses.replace(store, series=changed)


def policies(given: Iterable[Record], store: Store, hosts: Sequence[str], zones: Sequence[str]) -> list[Policy]:
    """The series that the fleet wants, and those that only the journal still knows: they are brought to their end."""
    wanted = {(each["domain"], each["algorithm"]): Policy.of(each) for each in given}
    for name, held in store.series.items():
        if name in wanted or all(key.cleared for key in held):
            continue
        domain, algorithm = name
        wanted[name] = Policy(
            domain,
            algorithm,
            bits=held[-1].bits,
            ttl_seconds=held[-1].ttl,
            hosts=tuple(hosts),
            selector=held[-1].selector,
            left=True,
            unserved=bool(zones) and names.enclosing(held[-1].name, zones) is None,
        )
    return list(wanted.values())


class AllEvidence:
    """What was seen, by series. ``given`` has the shape that docs/dkim.md names."""

    def __init__(self, given: Optional[Record], without: Iterable[str] = ()) -> None:
        found = given or {}
        self._without = frozenset(without)
        self._looks = {(look["name"], look["type"]): _look(look) for look in found.get("looks") or ()}
        self._hosts: Mapping[str, Record] = {host: one for host, one in (found.get("hosts") or {}).items() if one}
        self._signs = {host: _marks(one.get("signs")) for host, one in self._hosts.items()}
        self._holds = {host: _marks(one.get("holds")) or {} for host, one in self._hosts.items()}
        self.asked = bool(found.get("hosts"))
        self._passed: dict[str, set[str]] = {}
        for one in found.get("passed") or ():
            self._passed.setdefault(one["domain"], set()).add(one["selector"])

    @property
    def serial(self) -> int:
        """The highest that a host runs a table of."""
        return max((one.get("serial") or 0 for one in self._hosts.values()), default=0)

    def is_whole(self, policies: Iterable[Policy]) -> bool:
        """Whether every signing host shows what it signs with, and at least one of them has a table of ours."""
        hosts = {host for policy in policies for host in policy.hosts} - self._without
        return self.serial > 0 and all(self._signs.get(host) is not None for host in hosts)

    @property
    def clocks(self) -> dict[str, float]:
        return {host: float(one["clock"]) for host, one in self._hosts.items() if one.get("clock") is not None}

    def of(self, policy: Policy) -> Evidence:
        name = (policy.domain, policy.algorithm)
        signers: dict[str, Signer] = {}
        for host in policy.hosts:
            if host in self._hosts:
                unknown = policy.domain in (self._hosts[host].get("unknown") or ())
                signs = None if unknown else self._signs[host]
                holds = self._holds[host].get(name, frozenset())
                signers[host] = Signer(None if signs is None else signs.get(name, frozenset()), holds)
        passed = frozenset(self._passed.get(policy.domain, ()))
        return Evidence(self._looks, signers, passed, self._without, self.asked)


def _look(given: Record) -> Look:
    shown = tuple(
        Shown(str(one["server"]), one["status"], tuple(one.get("values") or ()), one.get("ttl"))
        for one in given.get("servers") or ()
    )
    return Look(shown, bool(given.get("whole")))


def _marks(entries: Optional[Iterable[Record]]) -> Optional[dict[Name, frozenset[tuple[str, str]]]]:
    if entries is None:
        return None
    found: dict[Name, set[tuple[str, str]]] = {}
    for one in entries:
        found.setdefault((one["domain"], one["algorithm"]), set()).add((one["selector"], one.get("fingerprint") or ""))
    return {name: frozenset(marks) for name, marks in found.items()}


def clock_findings(store: Store, tick: Tick, clocks: Mapping[str, float]) -> list[Finding]:
    """Errors where the key host's clock cannot be right, warnings where another's is not."""
    found = []
    remedy = "Set the clocks (chrony, systemd-timesyncd) and run again"
    if store.tick and tick.wall < store.tick.wall - CLOCK_TOLERANCE_SECONDS:
        behind = store.tick.wall - tick.wall
        why = "the journal has entries that are younger, so one of the two is wrong"
        found.append(Finding("clock of the key host", f"{behind} seconds behind its own journal", why, remedy))
    far = {host: round(clock - tick.wall) for host, clock in clocks.items()}
    far = {host: off for host, off in far.items() if abs(off) > CLOCK_TOLERANCE_SECONDS}
    if len(far) * 2 > len(clocks):
        told = ", ".join(f"{host} {off:+d} s" for host, off in sorted(far.items()))
        why = "most signing hosts have another time, so nothing that depends on time is done"
        found.append(Finding("clock of the key host", told, why, remedy))
    else:
        for host, off in sorted(far.items()):
            found.append(Finding(f"clock of {host}", f"{off:+d} seconds", "the key host has another", remedy, WARNING))
    return found


def requested(store: Store, wanted: Sequence[Policy], requests: Iterable[Record], now: Now) -> Done:
    """What persons ask for, as actions."""
    actions: list[tuple[Policy, Action]] = []
    findings: list[Finding] = []
    for request in requests:
        domain, algorithm = str(request["domain"]).lower().rstrip("."), request.get("algorithm")
        meant = [one for one in wanted if one.domain == domain and algorithm in (None, one.algorithm)]
        selector = request.get("selector")
        if selector:
            holders = [one for one in meant if any(key.selector == selector for key in store.keys_of(one))]
            meant = holders or meant[:1]
        if not meant:
            has = ", ".join(sorted({one.domain for one in wanted})[:20])
            found = f"{domain}" + (f" {algorithm}" if algorithm else "")
            findings.append(Finding("requests", found, "the fleet has no such keys", f"Name one of {has}"))
        for policy in meant:
            step = rotation.ask(store.keys_of(policy), policy, now, request["reason"], selector)
            findings.extend(step.findings)
            actions.extend((policy, action) for action in step.actions)
            store = with_actions(store, [(policy, action) for action in step.actions])
    return Done(store, tuple(actions), (), tuple(findings))


def advance(store: Store, wanted: Sequence[Policy], now: Now, evidence: AllEvidence, restored: bool) -> Done:
    """One step of every series; of a restored store only what its hosts and DNS prove."""
    judge = rotation.reconcile if restored else rotation.step
    results: list[tuple[Policy, Step]] = []
    for policy in wanted:
        results.append((policy, judge(store.keys_of(policy), policy, now, evidence.of(policy))))
    waits = tuple((policy, wait) for policy, step in results for wait in step.waits)
    findings = tuple(finding for _policy, step in results for finding in step.findings)
    resting = restored and bool(waits)
    actions = () if resting else tuple((policy, action) for policy, step in results for action in step.actions)
    return Done(with_actions(store, actions), actions, waits, findings, resting)


@dataclass(frozen=True)
class Hosts:
    """What signing hosts do not do as they should: domains by host."""

    silent: Mapping[str, list[str]]  # nobody knows what they sign with
    behind: Mapping[str, list[str]]  # they do not sign with the newest key

    @property
    def count(self) -> int:
        return len({*self.silent, *self.behind})

    @property
    def findings(self) -> list[Finding]:
        away = "Bring it back and run rotate_dkim.yml, or name it in mta_dkim_without once it is off for good"
        return [
            *(
                Finding(
                    f"host {host}", f"no answer for {_some(domains)}", "old keys must stay as they are", away, WARNING
                )
                for host, domains in sorted(self.silent.items())
            ),
            *(
                Finding(
                    f"host {host}",
                    f"no newest key for {_some(domains)}",
                    "it signs without",
                    "Run rotate_dkim.yml",
                    WARNING,
                )
                for host, domains in sorted(self.behind.items())
            ),
        ]


def _some(domains: Sequence[str]) -> str:
    each = list(dict.fromkeys(domains))
    return each[0] if len(each) == 1 else f"{each[0]} and {len(each) - 1} more"


def hosts(store: Store, wanted: Iterable[Policy], evidence: AllEvidence, now: Now) -> Hosts:
    """The hosts that keep keys waiting; those that could not have followed yet are not among them."""
    silent: dict[str, list[str]] = {}
    behind: dict[str, list[str]] = {}
    for policy in wanted if evidence.asked else ():
        chosen = rotation.signing(store.keys_of(policy), policy)
        if chosen is None:
            continue
        signers = evidence.of(policy).signers
        for host in policy.hosts:
            signs = signers[host].signs if host in signers else None
            if signs is None:
                silent.setdefault(host, []).append(policy.domain)
            elif chosen.mark not in signs and now.steady - chosen.entered > policy.margin_seconds:
                behind.setdefault(host, []).append(policy.domain)
    return Hosts(silent, behind)
