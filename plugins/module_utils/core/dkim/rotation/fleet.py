# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All series of a fleet at once: the journal of the key store as state, evidence by series, and one step of everything.

A line of the journal is one action: ``{serial, wall, steady, boot, uptime, sure, file, domain, algorithm, step, key,
why, evidence}``. The last line of a key is what it is now.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation.life import (
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
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding

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
    newest: dict[Name, dict[int, tuple[int, Record]]] = {}
    last: Record = {}
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            newest.setdefault((line["domain"], line["algorithm"]), {})[line["key"]["id"]] = (number, line["key"])
            last = line
        if not last:
            return Store()
        sure = bool(last.get("sure"))
        tick = Tick(int(last["wall"]), str(last["boot"]), int(last["uptime"]), int(last["steady"]), sure)
        serial, file = int(last["serial"]), last.get("file")
        series: dict[Name, tuple[KeyState, ...]] = {}
        for name, held in newest.items():
            keys = []
            for key_id in sorted(held):
                number, given = held[key_id]
                keys.append(_key(given))
            series[name] = tuple(keys)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"line {number} is no step of a key ({error.__class__.__name__} at {error})") from None
    return Store(serial, tick, file, series)


_FIELDS = frozenset(each.name for each in dataclasses.fields(KeyState))


def _key(given: Record) -> KeyState:
    values = {name: value for name, value in given.items() if name in _FIELDS}
    key = KeyState(**{**values, "hosts": tuple(values.get("hosts") or ())})
    if key.state not in life.STATES:
        raise ValueError(f"state {key.state!r}")
    for name in ("id", "bits", "born", "entered", "wait_seconds", "ttl"):
        if not isinstance(values.get(name, 0), int):
            raise ValueError(name)
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
            "sure": tick.sure,
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
        changed[name] = life.after(changed.get(name, ()), [action])
    return dataclasses.replace(store, series=changed)


def policies(given: Iterable[Record], store: Store, hosts: Sequence[str], zones: Sequence[str]) -> list[Policy]:
    """The series that the fleet wants, and those that only the journal still knows: they are brought to their end."""
    wanted = {(each["domain"], each["algorithm"]): Policy.of({**each, "fleet": list(hosts)}) for each in given}
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
            zones=frozenset(zones) or None,
        )
    return list(wanted.values())


class AllEvidence:
    """What was seen, by series. ``given`` has the shape that the module dkim_rotation documents.

    Hosts may be broken or hostile: one whose part has another shape was not seen, and `findings` names it. Nor was
    one whose state is further ahead of ``serial`` (the store's) and of most hosts than an honest one can be.
    """

    def __init__(self, given: Optional[Record], without: Iterable[str] = (), serial: int = 0) -> None:
        found = given or {}
        self._without = frozenset(without)
        self._looks = {(look["name"], look["type"]): _look(look) for look in found.get("looks") or ()}
        self.asked = bool(found.get("hosts"))
        self.findings: list[Finding] = []
        self._hosts: dict[str, _HostEvidence] = {}
        for host, one in (found.get("hosts") or {}).items():
            if one and host not in self._without:
                try:
                    self._hosts[host] = _HostEvidence.of(one)
                except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                    why = "so nothing of it counts"
                    remedy = "Look at what dkim_signer_info returns there"
                    told = f"evidence of another shape ({error.__class__.__name__})"
                    self.findings.append(Finding(f"host {host}", told, why, remedy, WARNING))
        # One that answered in another shape, or that `without` leaves out, has a vote and confirms nothing.
        answered = {host for host, one in (found.get("hosts") or {}).items() if one}
        self._votes = len(answered | self._without)
        most = max(serial, min(self._confirmed(), _MOST_RUNS)) + RUNS_AHEAD
        for host in sorted(host for host, one in self._hosts.items() if one.serial > most):
            self.findings.append(_too_far(host, self._hosts.pop(host).serial, most))
        self._passed: dict[str, set[str]] = {}
        for entry in found.get("passed") or ():
            self._passed.setdefault(entry["domain"], set()).add(entry["selector"])

    @property
    def serial(self) -> int:
        """The highest state that a host has a table of."""
        return max((one.serial for one in self._hosts.values()), default=0)

    def _confirmed(self) -> int:
        """The highest state that most hosts have reached."""
        serials = sorted((one.serial for one in self._hosts.values()), reverse=True)
        return next(iter(serials[self._votes // 2 :]), 0)

    def ahead_of(self, serial: int) -> list[str]:
        """Hosts that have a table of a later state."""
        return sorted(host for host, one in self._hosts.items() if one.serial > serial)

    def is_most(self, hosts: Collection[str]) -> bool:
        """Whether they are more than half of all that have a vote: one host alone decides nothing about others."""
        return len(hosts) * 2 > self._votes

    def is_current(self, serial: int) -> bool:
        """Whether hosts show that there is no later state: some have a table, and none, or a minority, a later one."""
        ahead = self.ahead_of(serial)
        behind = [host for host, one in self._hosts.items() if 0 < one.serial <= serial]
        return bool(behind) and (not ahead or self.is_most(behind))

    @property
    def clocks(self) -> dict[str, float]:
        return {host: one.clock for host, one in self._hosts.items() if one.clock is not None}

    def of(self, policy: Policy) -> Evidence:
        name = (policy.domain, policy.algorithm)
        signers: dict[str, Signer] = {}
        for host, one in self._hosts.items():
            signs = None if one.signs is None or policy.domain in one.unknown else one.signs.get(name, frozenset())
            if host in policy.hosts or host in policy.fleet or signs:
                signers[host] = Signer(signs, one.holds.get(name, frozenset()))
        passed = frozenset(self._passed.get(policy.domain, ()))
        return Evidence(self._looks, signers, passed, self._without, self.asked)

    def is_whole(self, policies: Iterable[Policy]) -> bool:
        """Whether every signing host shows what it signs with."""
        hosts = {host for policy in policies for host in policy.hosts} - self._without
        return all(host in self._hosts and self._hosts[host].signs is not None for host in hosts)


def _too_far(host: str, serial: int, most: int) -> Finding:
    found = f"a table of state {serial}, where at most {most} can be"
    why = "no run of this fleet has come so far, so nothing of it counts and keys that it may use stay"
    remedy = (
        "Find out who changed /etc/rspamd/mailops/installed.json or /etc/pmta/conf.d/70-dkim.conf there, and set the "
        "host up anew; name it in mta_dkim_without meanwhile"
    )
    return Finding(f"host {host}", found, why, remedy)


def _look(given: Record) -> Look:
    shown = tuple(
        Shown(str(one["server"]), one["status"], tuple(one.get("values") or ()), one.get("ttl"))
        for one in given.get("servers") or ()
    )
    return Look(shown, bool(given.get("whole")))


@dataclass(frozen=True)
class _HostEvidence:
    """What one host shows, by series."""

    serial: int
    clock: Optional[float]
    signs: Optional[Mapping[Name, frozenset[tuple[str, str]]]]
    holds: Mapping[Name, frozenset[tuple[str, str]]]
    unknown: frozenset[str]  # domains

    @classmethod
    def of(cls, given: Record) -> _HostEvidence:
        serial = given.get("serial") or 0
        if not isinstance(serial, int) or not 0 <= serial < _MOST_STEPS:
            raise ValueError("serial")
        clock = None if given.get("clock") is None else float(given["clock"])
        if clock is not None and not 0 <= clock < _MOST_STEPS:
            raise ValueError("clock")
        signs = given.get("signs")
        unknown = frozenset(str(domain) for domain in given.get("unknown") or ())
        return cls(serial, clock, None if signs is None else _marks(signs), _marks(given.get("holds") or ()), unknown)


_MOST_STEPS = 2**53
RUNS_AHEAD = 1000  # by which an honest host may be ahead of most others: runs that ended before those were reached
_MOST_RUNS = 10**9  # more than a run each second of thirty years: a lie, however many say so
_SELECTOR = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_FINGERPRINT = re.compile(r"[0-9a-f]{32}\Z")


def _marks(entries: Iterable[Record]) -> dict[Name, frozenset[tuple[str, str]]]:
    found: dict[Name, set[tuple[str, str]]] = {}
    for one in entries:
        if not _SELECTOR.match(one["selector"]) or not _FINGERPRINT.match(one["fingerprint"]):
            raise ValueError("selector or fingerprint")
        found.setdefault((one["domain"], one["algorithm"]), set()).add((one["selector"], one["fingerprint"]))
    return {name: frozenset(marks) for name, marks in found.items()}


def clock_findings(store: Store, tick: Tick, clocks: Mapping[str, float]) -> list[Finding]:
    """Errors where the key host's clock cannot be right, warnings where another's is not."""
    found = []
    remedy = "Set the clocks (chrony, systemd-timesyncd) and run again"
    if store.tick and tick.wall < store.tick.wall - life.CLOCK_TOLERANCE_SECONDS:
        behind = store.tick.wall - tick.wall
        why = "the journal has entries that are younger, so one of the two is wrong"
        found.append(Finding("clock of the key host", f"{behind} seconds behind its own journal", why, remedy))
    far = {host: round(clock - tick.wall) for host, clock in clocks.items()}
    far = {host: off for host, off in far.items() if abs(off) > life.CLOCK_TOLERANCE_SECONDS}
    if len(far) * 2 > len(clocks):
        told = ", ".join(f"{host} {off:+d} s" for host, off in sorted(far.items()))
        why = "most signing hosts have another time, so nothing that depends on time is done"
        found.append(Finding("clock of the key host", told, why, remedy))
    else:
        for host, off in sorted(far.items()):
            found.append(Finding(f"clock of {host}", f"{off:+d} seconds", "the key host has another", remedy, WARNING))
    return found


def requested(store: Store, wanted: Sequence[Policy], requests: Iterable[Record], now: Now) -> Done:
    """What persons ask for, as actions. Domains are canonical."""
    actions: list[tuple[Policy, Action]] = []
    findings: list[Finding] = []
    for request in requests:
        domain, algorithm = request["domain"], request.get("algorithm")
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
            step = life.ask(store.keys_of(policy), policy, now, request["reason"], selector)
            findings.extend(step.findings)
            actions.extend((policy, action) for action in step.actions)
            store = with_actions(store, [(policy, action) for action in step.actions])
    return Done(store, tuple(actions), (), tuple(findings))


def advance(
    store: Store,
    wanted: Sequence[Policy],
    now: Now,
    evidence: AllEvidence,
    restored: bool,
    ahead: Collection[str] = (),
) -> Done:
    """One step of every series; of a restored store only what its hosts and DNS prove.

    So it is with series of hosts that are ``ahead`` of a store that is current otherwise: they may tell of their own.
    """
    results: list[tuple[Policy, Step]] = []
    resting = False
    for policy in wanted:
        compared = restored or not set(ahead).isdisjoint(policy.hosts)
        judge = life.reconcile if compared else life.step
        step = judge(store.keys_of(policy), policy, now, evidence.of(policy))
        resting = resting or (compared and bool(step.waits))
        results.append((policy, step))
    waits = tuple((policy, wait) for policy, step in results for wait in step.waits)
    findings = tuple(finding for _policy, step in results for finding in step.findings)
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
        chosen = life.signing(store.keys_of(policy), policy)
        if chosen is None:
            continue
        seen = evidence.of(policy)
        signers = seen.signers
        for host in set(policy.hosts) - seen.without:
            signs = signers[host].signs if host in signers else None
            if signs is None:
                silent.setdefault(host, []).append(policy.domain)
            elif chosen.mark not in signs and now.steady - chosen.entered > policy.margin_seconds:
                behind.setdefault(host, []).append(policy.domain)
    return Hosts(silent, behind)
