# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of DKIM keys: what may be done next, on which evidence, and what has to be waited for.

A series is the keys of one domain and algorithm in the order of their making. `step` says which of them go on; what
stands in DNS and what hosts sign with follows from the keys alone (`records`, `signing`, `holding`), so a run that was
killed anywhere is finished by the next one. Missing evidence never moves a key.

The laws:

1. A host signs only with a key that every authoritative server has shown for as long as a cache may remember anything
   else, and that every signing host has shown to hold. The first key of a series may be used as soon as every server
   shows it (``first_key: now``): there is no other to sign with, and nobody has asked for a name that no mail carries.
2. A key starts to retire when every signing host has shown to sign with a newer one and not with it.
3. It stays published for ``keep_retired_seconds`` after that, and for as long as a host may still sign with it.
4. The last usable key of a series that is signed with is never retired.
5. A withdrawn key is never signed with again.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Callable, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, UNKNOWN, YES
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519

NEW, PUBLISHED, VERIFIED = "new", "published", "verified"
ACTIVE, RETIRING, WITHDRAWN = "active", "retiring", "withdrawn"
COMING = (NEW, PUBLISHED, VERIFIED)
STATES = (*COMING, ACTIVE, RETIRING, WITHDRAWN)

# Why a key is made.
FIRST, AGE, QUARTER, SIZE, MOVED, LOST = "first", "age", "quarter", "size", "moved", "lost"
DEMAND, COMPROMISED = "demand", "compromised"  # what a person can ask for
IMPORTED, ADOPTED = "imported", "adopted"  # keys that we did not make

_MOST_STRANGERS = 8  # of a series, that a restored store asks DNS for
MIN_RSA_BITS = 2048  # RFC 8301 3.2
MAX_CACHE_SECONDS = 604800  # resolvers remember nothing for longer, whatever a TTL says (RFC 8767 4)
CLOCK_TOLERANCE_SECONDS = 300  # by which clocks of hosts may differ
_DAY = 86400


@dataclass(frozen=True)
class Policy:
    """What the fleet file says of one series."""

    domain: str
    algorithm: str
    bits: int
    ttl_seconds: int
    hosts: tuple[str, ...]  # that sign with it
    selector: str  # what its selectors begin with
    every_days: Optional[int] = None  # replace a key that is so old
    quarters: tuple[int, ...] = ()  # or when these quarters of the year begin
    slots: tuple[str, ...] = ()  # or use these selectors in turn, whenever a key is replaced
    delegate: Optional[str] = None  # a domain of ours that holds the keys
    external: bool = False  # the aliases that lead there are set by somebody else
    first_key: str = "now"  # or "wait"
    margin_seconds: int = 3600
    keep_retired_seconds: int = 604800
    proof: bool = False  # mail to a sink shows what its signatures are worth
    fleet: tuple[str, ...] = ()  # all signing hosts of the fleet: those that signed with an old key are asked for it
    left: bool = False  # nothing in the fleet signs with it any more
    zones: Optional[frozenset[str]] = None  # of the fleet, where it is left: outside of them nothing can be done
    streams: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Policy:
        """From the shape of ``mta_dkim_series``; lists become tuples, what is absent or null has its default."""
        known = {each.name for each in dataclasses.fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if name in known and value is not None
        }
        return cls(**values)

    def serves(self, name: str) -> bool:
        return self.zones is None or names.enclosing(name, self.zones) is not None


@dataclass(frozen=True)
class KeyState:
    """One key in its life. Nothing in it is secret. ``steady`` times are those of `steady_seconds`."""

    id: int  # counts the keys of its series
    selector: str
    name: str  # where its TXT record stands
    alias: Optional[str]  # the name at which verifiers look, where that is another one
    state: str
    because: str
    record: Optional[str]  # None: it is not made yet
    fingerprint: str
    bits: int
    born: int  # wall
    entered: int  # steady: since when it has this state
    private: bool = True  # the store has its private part
    wait_seconds: int = 0  # how long caches may remember what stood at its names before it
    seen_since: Optional[int] = None  # steady: since when every server shows it
    quiet_since: Optional[int] = None  # steady: since when every signing host is known not to sign with it
    replace: str = ""  # why a person wants it replaced
    revoked: bool = False
    cleared: bool = False  # withdrawn, and no server shows it any more
    ttl: int = 3600  # of its record
    hosts: tuple[str, ...] = ()  # that were to sign with it, ever

    @property
    def mark(self) -> tuple[str, str]:
        """By which signing hosts show it."""
        return (self.selector, self.fingerprint)

    @property
    def usable(self) -> bool:
        return self.state == ACTIVE and not self.revoked

    @property
    def text(self) -> Optional[str]:
        return names.REVOKED_KEY if self.revoked else self.record


@dataclass(frozen=True)
class Now:
    wall: int
    steady: int


@dataclass(frozen=True)
class Tick:
    """The key host's clocks at one moment."""

    wall: int
    boot: str  # names the time since the host was started
    uptime: int
    steady: int = 0
    sure: bool = False  # signing hosts had the same wall clock


@dataclass(frozen=True)
class Shown:
    """What one address of an authoritative server answers."""

    server: str
    status: str
    values: tuple[str, ...] = ()
    ttl: Optional[int] = None  # of "no": how long that may be remembered (RFC 2308)


@dataclass(frozen=True)
class Look:
    shown: tuple[Shown, ...]
    whole: bool  # every authoritative server is among them

    @property
    def complete(self) -> bool:
        return self.whole and bool(self.shown) and all(one.status in (YES, NO) for one in self.shown)

    @property
    def remembered_seconds(self) -> int:
        return min(max((one.ttl or 0 for one in self.shown), default=0), MAX_CACHE_SECONDS)

    def every(self, *values: str) -> bool:
        return self.complete and all(one.status == YES and one.values == values for one in self.shown)

    def denies(self, value: Optional[str]) -> bool:
        """Some server shows something else than ``value`` alone, whatever others do."""
        return any(one.status != UNKNOWN and one.values != (value,) for one in self.shown)

    @property
    def empty(self) -> bool:
        return self.complete and all(one.status == NO for one in self.shown)


@dataclass(frozen=True)
class Signer:
    """What a host shows: (selector, fingerprint) of each key of the series."""

    signs: Optional[frozenset[tuple[str, str]]]  # None: it could not be found out
    holds: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Evidence:
    looks: Mapping[tuple[str, str], Look] = field(default_factory=dict)  # by name and type
    signers: Mapping[str, Signer] = field(default_factory=dict)  # by host; of one that is away there is nothing
    passed: frozenset[str] = frozenset()  # selectors of signatures that a receiver found good
    without: frozenset[str] = frozenset()  # hosts of which a person says that they are off
    asked: bool = True  # whether hosts were asked at all


@dataclass(frozen=True)
class Action:
    """``key`` is the key as it is afterwards."""

    kind: str  # make | move | note | adopt
    key: KeyState
    why: str
    evidence: str = ""

    @property
    def text(self) -> str:
        state = "" if self.kind == "note" else f" {self.key.state}"
        return f"{self.key.selector}{state}: {self.why}"


@dataclass(frozen=True)
class Wait:
    selector: str
    what: str
    until: Optional[int] = None  # wall, where only time is waited for
    remedy: str = ""


@dataclass(frozen=True)
class Step:
    actions: tuple[Action, ...] = ()
    waits: tuple[Wait, ...] = ()
    findings: tuple[Finding, ...] = ()


def steady_seconds(last: Optional[Tick], now: Tick) -> int:
    """Seconds that have surely gone by in the life of a store. No change of a clock adds to them.

    Over a boot, or from host to host, the wall clock counts where other hosts vouched for it both times. Else it is no
    more than the time since the boot.
    """
    if last is None:
        return 0
    if now.boot == last.boot:
        passed = now.uptime - last.uptime
    elif now.sure and last.sure:
        passed = now.wall - last.wall - CLOCK_TOLERANCE_SECONDS
    else:
        passed = min(now.uptime, now.wall - last.wall)
    return last.steady + max(0, passed)


def after(held: Iterable[KeyState], actions: Iterable[Action]) -> tuple[KeyState, ...]:
    changed = {key.id: key for key in held}
    changed.update((action.key.id, action.key) for action in actions)
    return tuple(changed[number] for number in sorted(changed))


def signing(held: Iterable[KeyState], policy: Policy) -> Optional[KeyState]:
    """The key that every host is to sign with: the newest that is usable and can be brought to every host."""
    usable = [key for key in held if key.usable]
    ours = [key for key in usable if key.private]
    return (ours or usable)[-1] if usable and not policy.left else None


def holding(held: Iterable[KeyState], policy: Policy) -> tuple[KeyState, ...]:
    """The keys that every signing host is to have."""
    if policy.left:
        return ()
    return tuple(key for key in held if key.usable or (key.state in (PUBLISHED, VERIFIED) and not key.revoked))


def records(held: Iterable[KeyState], policy: Policy) -> list[dict[str, Any]]:
    """The record sets of a series, in the shape that dns_records takes. Values are null where a key is not made yet."""
    found: list[dict[str, Any]] = []
    held = tuple(held)
    chosen = signing(held, policy)
    for key in held:
        gone = key.state == WITHDRAWN
        # A key that DNS has not been asked about must not overwrite what may stand there.
        if key.state == NEW or key.cleared:
            continue
        life = "revoked" if key.revoked and not gone else key.state
        common = {
            "ttl": policy.ttl_seconds,
            "state": "absent" if gone else "present",
            "streams": list(policy.streams),
            "domain": policy.domain,
            "selector": key.selector,
            "algorithm": policy.algorithm,
            "life": life,
            "signs": key == chosen,
        }
        known = [text for text in (key.record, names.REVOKED_KEY if key.revoked else None) if text]
        values = known if gone else [key.text] if key.text else None
        reason = f"DKIM key ({policy.algorithm}) of {policy.domain}, {life}"
        if policy.serves(key.name):
            found.append({"name": key.name, "type": "TXT", "values": values, "reason": reason, **common})
        if key.alias and policy.serves(key.alias):
            leads = f"leads to a DKIM key ({policy.algorithm}) of {policy.domain}"
            found.append({"name": key.alias, "type": "CNAME", "values": [key.name], "reason": leads, **common})
    return found


def questions(held: Iterable[KeyState], policy: Policy, evidence: Evidence) -> list[tuple[str, str]]:
    """The names and types that `step` would like looks of."""
    asked: dict[tuple[str, str], None] = {}
    for key in held:
        if not key.cleared:
            asked[(key.name, "TXT")] = None
            if key.alias and key.state != WITHDRAWN:
                asked[(key.alias, "CNAME")] = None
    for selector, _fingerprint in strangers(held, policy, evidence)[:_MOST_STRANGERS]:
        asked[(_place(policy, selector)[0], "TXT")] = None
    return list(asked)


def is_moving(held: Iterable[KeyState]) -> bool:
    """True while evidence of DNS alone may take a key further."""
    return any(key.state in COMING or (key.state == WITHDRAWN and not key.cleared) for key in held)


def is_superseded(held: Iterable[KeyState], policy: Policy) -> bool:
    """True while hosts may still sign with a key that is not the one."""
    held = tuple(held)
    chosen = signing(held, policy)
    return any(key.state == ACTIVE and key != chosen for key in held)


def is_followed(held: Iterable[KeyState], policy: Policy) -> bool:
    """True while what signing hosts show may take a key further."""
    held = tuple(held)
    return is_superseded(held, policy) or any(key.state in (PUBLISHED, VERIFIED) for key in held)


def step(held: Sequence[KeyState], policy: Policy, now: Now, evidence: Evidence) -> Step:
    """What is due and proven. Applied with `after`, the same evidence has nothing more to say."""
    run = _Run(tuple(held), policy, now, evidence)
    run.notice_revocations()
    run.drop_what_nobody_needs()
    run.publish()
    run.verify()
    run.activate()
    run.remember_hosts()
    run.retire()
    run.withdraw()
    run.clear()
    run.make_what_is_due()
    run.judge()
    return Step(tuple(run.actions), tuple(run.waits), tuple(run.findings))


def reconcile(held: Sequence[KeyState], policy: Policy, now: Now, evidence: Evidence) -> Step:
    """What a store that was restored from a backup has to believe: its hosts and DNS, not what it remembers.

    Where it has waits, nothing of the store may be used yet.
    """
    run = _Run(tuple(held), policy, now, evidence)
    if not run.everything_is_known():
        return Step((), tuple(run.waits), tuple(run.findings))
    run.adopt_what_hosts_sign_with()
    run.notice_revocations()
    run.believe_the_world()
    return Step(tuple(run.actions), tuple(run.waits), tuple(run.findings))


def ask(held: Sequence[KeyState], policy: Policy, now: Now, reason: str, selector: Optional[str] = None) -> Step:
    """What a person wants of a series: its key replaced (`DEMAND`), or all keys or the one named ended (`COMPROMISED`).

    A compromised key stays in use until another one can take its place; one that is not signed with any more is
    revoked at once, so mail on its way that it signed fails.
    """
    run = _Run(tuple(held), policy, now, Evidence())
    named = [key for key in held if key.state != WITHDRAWN and selector in (None, key.selector)]
    if not named and selector is not None:
        has = ", ".join(key.selector for key in held if key.state != WITHDRAWN) or "no key"
        run._find(f"{policy.domain} {policy.algorithm}", f"selector {selector}", f"it has {has}", "Name one of these")
    chosen = signing(held, policy)
    answered = [key for key in held if key.because == reason and (key.state in COMING or key == chosen)]
    if selector is None and answered and (answered != [chosen] or is_superseded(held, policy)):
        return Step((), tuple(run.waits), tuple(run.findings))  # the same request again, and it is being answered
    for key in named:
        if reason == DEMAND:
            if key == chosen:
                run._note(key, REASONS[DEMAND], replace=key.replace or DEMAND)
        elif key.state in COMING:
            run._drop(key, "it is compromised and was never used")
        elif key.state == RETIRING:
            run._note(key, "it is compromised", revoked=True)
        else:
            run._note(key, "it is compromised", replace=COMPROMISED)
    return Step(tuple(run.actions), (), tuple(run.findings))


def due(held: Sequence[KeyState], policy: Policy, now: Now) -> str:
    """Why a new key is to be made now, or nothing."""
    if policy.left or any(key.state in COMING for key in held):
        return ""
    key = signing(held, policy)
    if key is None:
        return FIRST
    if any(one.replace == COMPROMISED and one.id >= key.id for one in held if one.state == ACTIVE):
        return COMPROMISED
    if not key.private:
        return LOST
    if sum(one.state == ACTIVE for one in held) > 1:
        return ""  # hosts are still on their way to the newest one
    if key.replace:
        return key.replace
    if (key.name, key.alias) != _place(policy, key.selector):
        return MOVED
    if key.bits < policy.bits:
        return SIZE
    begins = next_due(key, policy, now)
    if begins is not None and begins <= now.wall:
        return QUARTER if policy.quarters else AGE
    return ""


def next_due(key: KeyState, policy: Policy, now: Now) -> Optional[int]:
    """When its age or the calendar asks for another key (wall), None for never."""
    if policy.quarters:
        return next(begin for begin in _quarter_begins(policy.quarters, key.born) if begin > key.born)
    if policy.every_days:
        return key.born + policy.every_days * _DAY
    return None


def age_days(key: KeyState, now: Now) -> float:
    return max(0, now.wall - key.born) / _DAY


def _quarter_begins(quarters: Sequence[int], start: int) -> Iterator[int]:
    year = _date(start).year
    while True:
        for quarter in sorted(quarters):
            first = datetime(year, 3 * quarter - 2, 1, tzinfo=timezone.utc)
            yield int(first.timestamp())
        year += 1


def _date(wall: int) -> datetime:
    return datetime.fromtimestamp(wall, timezone.utc)


def _place(policy: Policy, selector: str) -> tuple[str, Optional[str]]:
    """Where the record of a selector stands, and the alias that leads there."""
    name = names.record_name(policy.domain, selector, policy.delegate)
    alias = names.alias_name(policy.domain, selector)
    return name, None if name == alias else alias


def free_selector(held: Sequence[KeyState], policy: Policy, now: Now) -> Optional[str]:
    """The selector of a key that is made now; None where all slots are in use."""
    if policy.slots:
        # The file of a key that ends now lies in the store under its name until this step is written down.
        live = {key.selector for key in held if not key.cleared or key.entered == now.steady}
        order = {key.selector: key.id for key in held}
        free = [slot for slot in map(_suffixed(policy), policy.slots) if slot not in live]
        return min(free, key=lambda slot: order.get(slot, 0), default=None)
    used = {key.selector for key in held}
    day = _date(now.wall)
    stem = f"{policy.selector}-{day:%Y%m%d}"
    if policy.quarters:
        separator = "-" if policy.selector[-1:].isdigit() else ""
        stem = f"{policy.selector}{separator}{day.year}q{(day.month + 2) // 3}"
    suffixed = _suffixed(policy)
    return next(name for name in map(suffixed, _lettered(stem)) if name not in used)


def _lettered(stem: str) -> Iterator[str]:
    yield stem
    for letter in string.ascii_lowercase[1:]:
        yield stem + letter
    number = 1
    while True:
        yield f"{stem}-{number}"
        number += 1


def _suffixed(policy: Policy) -> Callable[[str], str]:
    suffix = f"-{ED25519}" if policy.algorithm == ED25519 else ""
    return lambda selector: selector + suffix


def fresh(held: Sequence[KeyState], policy: Policy, now: Now, selector: str, because: str) -> KeyState:
    """A key that is to be made; its record and fingerprint are filled in once it is."""
    name, alias = _place(policy, selector)
    return KeyState(
        id=max((key.id for key in held), default=0) + 1,
        selector=selector,
        name=name,
        alias=alias,
        state=NEW,
        because=because,
        record=None,
        fingerprint="",
        bits=policy.bits,
        born=now.wall,
        entered=now.steady,
        ttl=policy.ttl_seconds,
    )


def strangers(held: Iterable[KeyState], policy: Policy, evidence: Evidence) -> list[tuple[str, str]]:
    """What hosts sign with and the store does not know."""
    known = {key.mark for key in held}
    found = {
        mark
        for host in policy.hosts
        for signer in [evidence.signers.get(host)]
        if signer and signer.signs
        for mark in signer.signs
    }
    return sorted(found - known)


class _Run:
    """One step of one series: the keys as far as they have come, and why they came no further."""

    def __init__(self, held: tuple[KeyState, ...], policy: Policy, now: Now, evidence: Evidence) -> None:
        self.held = held
        self.policy = policy
        self.now = now
        self.evidence = evidence
        self.actions: list[Action] = []
        self.waits: list[Wait] = []
        self.findings: list[Finding] = []

    # ---- what the rules are made of

    def _do(self, kind: str, key: KeyState, why: str, evidence: str = "") -> None:
        self.actions.append(Action(kind, key, why, evidence))
        self.held = after(self.held, self.actions[-1:])

    def _move(self, key: KeyState, state: str, why: str, evidence: str = "", **changes: Any) -> None:
        self._do("move", dataclasses.replace(key, state=state, entered=self.now.steady, **changes), why, evidence)

    def _drop(self, key: KeyState, why: str, evidence: str = "") -> None:
        """An end without a life: of a key that no host may have signed with."""
        self._move(key, WITHDRAWN, why, evidence, cleared=key.state == NEW)

    def _note(self, key: KeyState, why: str, **changes: Any) -> KeyState:
        noted = dataclasses.replace(key, **changes)
        if noted != key:
            self._do("note", noted, why)
        return noted

    def _wait(self, key: Optional[KeyState], what: str, remedy: str = "", seconds: Optional[int] = None) -> None:
        until = None if seconds is None else self.now.wall + max(0, seconds)
        self.waits.append(Wait(key.selector if key else "", what, until, remedy))

    def _find(self, where: str, found: str, why: str, remedy: str, severity: str = "error") -> None:
        self.findings.append(Finding(where, found, why, remedy, severity))

    def _in(self, *states: str) -> list[KeyState]:
        return [key for key in self.held if key.state in states]

    @property
    def _signing(self) -> Optional[KeyState]:
        return signing(self.held, self.policy)

    def _look(self, name: str, rtype: str) -> Look:
        return self.evidence.looks.get((name, rtype), Look((), False))

    def _looks(self, key: KeyState) -> list[Look]:
        return [self._look(key.name, "TXT"), *([self._look(key.alias, "CNAME")] if key.alias else [])]

    def _visible(self, key: KeyState) -> Optional[bool]:
        """Whether every server shows the key as it is; None where that is not known."""
        txt = self._look(key.name, "TXT")
        alias = self._look(key.alias, "CNAME") if key.alias else None
        if key.text and txt.every(key.text) and (alias is None or alias.every(key.name)):
            return True
        if txt.denies(key.text) or (alias is not None and alias.denies(key.name)):
            return False
        return None

    def _missing(self, key: Optional[KeyState] = None) -> tuple[str, ...]:
        """Hosts that sign, or did with ``key``, and show nothing of what they sign with."""
        former = set(key.hosts if key else ()) & set(self.policy.fleet)
        return tuple(
            host
            for host in sorted({*self.policy.hosts, *former})
            if host not in self.evidence.without
            and (host not in self.evidence.signers or self.evidence.signers[host].signs is None)
        )

    def _known(self) -> dict[str, Signer]:
        return {
            host: self.evidence.signers[host]
            for host in self.policy.hosts
            if host in self.evidence.signers and host not in self.evidence.without
        }

    def _sign_with(self, key: KeyState) -> tuple[str, ...]:
        """Also hosts that are not to: a stream may have left them."""
        found = (host for host, signer in self.evidence.signers.items() if key.mark in (signer.signs or ()))
        return tuple(sorted(host for host in found if host not in self.evidence.without))

    def _wait_for_hosts(self, key: KeyState, hosts: Sequence[str], what: str) -> None:
        remedy = "Bring them back and run rotate_dkim.yml, or name them in mta_dkim_without once they are off for good"
        self._wait(key, f"{', '.join(hosts)} {what}", remedy)

    def _wait_for_dns(self, key: KeyState) -> None:
        for (name, rtype), look in zip(((key.name, "TXT"), (key.alias or "", "CNAME")), self._looks(key)):
            if not look.shown:
                self._wait(key, f"nobody has asked the servers of {name} {rtype}", "Run rotate_dkim.yml")
                continue
            silent = [one.server for one in look.shown if one.status == UNKNOWN]
            wanted = key.name if rtype == "CNAME" else key.text
            differing = [one.server for one in look.shown if one.status != UNKNOWN and one.values != (wanted,)]
            if silent or not look.whole:
                who = ", ".join(silent) or f"an authoritative server of {name}"
                self._wait(
                    key, f"{who} does not answer for {name} {rtype}", "See that every server of the zone answers"
                )
            if differing and rtype == "CNAME" and self.policy.external:
                remedy = f"Have them set: {name} {self.policy.ttl_seconds} IN CNAME {key.name}."
                self._wait(key, f"{name} does not lead to {key.name} on {', '.join(differing)}", remedy)
            elif differing and key.state != NEW:
                beside = [one for one in look.shown if wanted in one.values and len(one.values) > 1]
                what = "shows something else beside" if beside else "does not show"
                remedy = "Remove it: receivers take one record only (RFC 6376 3.6.2.2)" if beside else "Run dns.yml"
                self._wait(key, f"{', '.join(differing)} {what} {name} {rtype}", remedy)

    # ---- the rules, in the order of a key's life

    def adopt_what_hosts_sign_with(self) -> None:
        """A key that hosts sign with and the store has lost stays published until another one takes its place."""
        for selector, fingerprint in strangers(self.held, self.policy, self.evidence)[:_MOST_STRANGERS]:
            name, _alias = _place(self.policy, selector)
            look = self._look(name, "TXT")
            text = look.shown[0].values[0] if look.shown and look.shown[0].values else ""
            who = ", ".join(
                host for host, signer in self._known().items() if (selector, fingerprint) in (signer.signs or ())
            )
            remedy = "Let rotate_dkim.yml replace it, and find out who set it up or which backup was restored"
            if fingerprint and look.every(text) and keys.fingerprint_of_record(text) == fingerprint:
                key = dataclasses.replace(
                    fresh(self.held, self.policy, self.now, selector, ADOPTED),
                    state=ACTIVE,
                    record=text,
                    fingerprint=fingerprint,
                    bits=keys.bits_of_record(text) or self.policy.bits,
                    private=False,
                    seen_since=self.now.steady,
                )
                self._do("adopt", key, f"{who} sign with it and the store does not know it", "its record is in DNS")
                self._find(name, who, "signs with a key that the store does not know", remedy, WARNING)
            else:
                why = "signs with a key that the store does not know and that DNS does not show on every server"
                self._find(name, who, why, remedy)

    def notice_revocations(self) -> None:
        for key in self._in(PUBLISHED, VERIFIED, ACTIVE, RETIRING):
            shown = [one for one in self._look(key.name, "TXT").shown if one.status == YES]
            if key.revoked or not any(keys.fingerprint_of_record(text) == "" for one in shown for text in one.values):
                continue
            if key.state in (PUBLISHED, VERIFIED):
                self._move(key, RETIRING, "DNS shows it as revoked", revoked=True)
            else:
                self._note(key, "DNS shows it as revoked", revoked=True, replace=COMPROMISED)
            why = "somebody revoked it in DNS, or the key store is older than that"
            self._find(key.name, "an empty p=", why, "Let rotate_dkim.yml put another key in its place", WARNING)

    def remember_hosts(self) -> None:
        """A host that a stream has left may have mail of its key in a queue, and may sign with it yet."""
        chosen = self._signing
        if chosen is not None and not set(self.policy.hosts) <= set(chosen.hosts):
            hosts = tuple(sorted({*chosen.hosts, *self.policy.hosts}))
            self._note(chosen, "its signing hosts are remembered", hosts=hosts)

    def drop_what_nobody_needs(self) -> None:
        """A key on its way that was never signed with needs no life to an end."""
        if self.policy.left:
            for key in self._in(*COMING):
                self._drop(key, "nothing in the fleet signs with it any more, and nothing did")

    def make_what_is_due(self) -> None:
        why = due(self.held, self.policy, self.now)
        if not why:
            return
        selector = free_selector(self.held, self.policy, self.now)
        if selector is None:
            retiring = ", ".join(key.selector for key in self._in(RETIRING))
            self._wait(
                None, f"every slot is in use, {retiring or 'none of them'} retires", "Add a slot if this is urgent"
            )
            return
        self._do("make", fresh(self.held, self.policy, self.now, selector, why), REASONS[why])

    def publish(self) -> None:
        for key in self._in(NEW):
            if key.record is None:
                continue
            looks = self._looks(key)
            if not looks[0].complete or (key.alias and not self.policy.external and not looks[1].complete):
                self._wait_for_dns(key)
                continue
            values = {text for one in looks[0].shown for text in one.values}
            others = sorted(text for text in values - {key.record} if keys.fingerprint_of_record(text) is not None)
            if others and (self.policy.slots or key.because == IMPORTED):
                why = "another key stands at its selector, which signatures may still need"
                remedy = "Remove it once no mail is signed with it, or choose another selector"
                self._find(f"{key.name} TXT", others[0][:60], why, remedy)
                self._wait(key, "its selector holds another key", remedy)
            elif others:
                self._drop(key, "its selector is taken in DNS", others[0][:60])
                self._wait(key, "its selector is taken in DNS", "The next step takes another one")
            else:
                longest = max(look.remembered_seconds for look in looks)
                self._move(key, PUBLISHED, "nothing else stands at its name", _told(looks), wait_seconds=longest)

    def verify(self) -> None:
        for key in self._in(PUBLISHED):
            visible = self._visible(key)
            longest = max(key.wait_seconds, *(look.remembered_seconds for look in self._looks(key)))
            if visible is None:
                self._wait_for_dns(key)
            elif not visible:
                self._note(key, "a server does not show it", seen_since=None, wait_seconds=longest)
                self._wait_for_dns(key)
            else:
                since = self.now.steady if key.seen_since is None else key.seen_since
                key = self._note(key, "every server shows it", seen_since=since, wait_seconds=longest)
                left = since + self._cache_seconds(key) - self.now.steady
                if left <= 0 or self._may_hurry(key):
                    why = "every server shows it" if left > 0 else "and no cache remembers anything else"
                    self._move(key, VERIFIED, why, _told(self._looks(key)))
                else:
                    self._wait(key, "caches may remember that it was not there", seconds=left)

    def _cache_seconds(self, key: KeyState) -> int:
        return max(key.wait_seconds, self.policy.ttl_seconds) + self.policy.margin_seconds

    def _may_hurry(self, key: KeyState) -> bool:
        """There is nothing else to sign with, and no mail has ever named its selector (a slot may have been used)."""
        unused = all(one.selector != key.selector for one in self.held if one.id != key.id)
        return self.policy.first_key == "now" and self._signing is None and unused

    def activate(self) -> None:
        for key in self._in(VERIFIED):
            visible = self._visible(key)
            if visible is None:
                self._wait_for_dns(key)
            elif not visible:
                self._move(key, PUBLISHED, "a server does not show it any more", seen_since=None)
                self._wait_for_dns(key)
            elif self._may_hurry(key):
                self._move(key, ACTIVE, "there is no other key to sign with", _told(self._looks(key)))
            else:
                known = self._known()
                lacking = [
                    host
                    for host in self.policy.hosts
                    if host not in self.evidence.without and (host not in known or key.mark not in known[host].holds)
                ]
                if lacking:
                    self._wait_for_hosts(key, lacking, "must show that the key is there")
                else:
                    told = f"{_told(self._looks(key))}; {len(known)} of {len(self.policy.hosts)} hosts hold it"
                    self._move(key, ACTIVE, "every server shows it and every host holds it", told)

    def retire(self) -> None:
        chosen = self._signing
        for key in self._in(ACTIVE):
            if key == chosen or (chosen is None and not self.policy.left):
                continue
            urgent = key.replace == COMPROMISED
            if self._hosts_left(key, chosen) and self._is_proven(key, chosen, urgent):
                successor = chosen.selector if chosen else "nothing"
                told = f"{len(self._known())} of {len(self.policy.hosts)} hosts sign with {successor}"
                why = f"every host signs with {successor} instead"
                quiet = self.now.steady
                self._move(key, RETIRING, why, told, revoked=key.revoked or urgent, quiet_since=quiet)

    def _hosts_left(self, key: KeyState, chosen: Optional[KeyState]) -> bool:
        missing = self._missing(key)
        on_it = self._sign_with(key)
        others = tuple(
            host for host, signer in self._known().items() if chosen and chosen.mark not in (signer.signs or ())
        )
        if missing:
            self._wait_for_hosts(key, missing, "must show what they sign with")
        behind = tuple(dict.fromkeys((*on_it, *(host for host in others if host not in missing))))
        if behind:
            self._wait(key, f"{', '.join(behind)} must follow", "Run rotate_dkim.yml on them")
        return not (missing or behind)

    def _is_proven(self, key: KeyState, chosen: Optional[KeyState], urgent: bool) -> bool:
        """The successor works: servers show it now, and a receiver found a signature of it good."""
        if chosen is None:
            return True
        if not self._visible(chosen):
            self._wait_for_dns(chosen)
            return False
        if self.policy.proof and not urgent and chosen.selector not in self.evidence.passed:
            self._wait(key, f"no receiver has seen a good signature by {chosen.selector}", "Run rotate_dkim.yml")
            return False
        return True

    def withdraw(self) -> None:
        chosen = self._signing
        for key in self._in(RETIRING):
            on_it, missing = self._sign_with(key), self._missing(key)
            if on_it:
                why = "signs with a retired key; its mail can be verified only while the record stays"
                self._find(key.name, ", ".join(on_it), why, "Run rotate_dkim.yml on it")
            if not self.evidence.asked:
                self._wait(key, "nobody has asked the signing hosts", "Run rotate_dkim.yml")
                continue
            # Only time counts in which every host was known not to sign with it.
            since = self.now.steady if key.quiet_since is None else key.quiet_since
            why = "some host may sign with it" if on_it or missing else "no host signs with it"
            key = self._note(key, why, quiet_since=None if on_it or missing else since)
            left = since + self.policy.keep_retired_seconds - self.now.steady
            if missing:
                self._wait_for_hosts(key, missing, "must show what they sign with")
            elif on_it:
                self._wait(key, f"{', '.join(on_it)} must follow", "Run rotate_dkim.yml on them")
            elif left > 0:
                self._wait(key, "mail that it signed may still be on its way", seconds=left)
            elif chosen is not None and not self._visible(chosen):
                self._wait_for_dns(chosen)
            else:
                self._move(key, WITHDRAWN, "no mail that it signed is on its way any more")

    def clear(self) -> None:
        for key in self._in(WITHDRAWN):
            look = self._look(key.name, "TXT")
            is_served = self.policy.serves(key.name)
            if key.cleared or (is_served and not look.complete):
                continue
            if not is_served:
                self._note(key, "its zone left the fleet", cleared=True)
            elif any(text in (key.record, names.REVOKED_KEY) for one in look.shown for text in one.values):
                self._wait(key, f"{key.name} still shows a withdrawn key", "Run dns.yml")
            else:
                self._note(key, "no server shows it any more", cleared=True)

    # ---- a restored store

    def everything_is_known(self) -> bool:
        missing = self._missing()
        asked = questions(self.held, self.policy, self.evidence)
        if missing:
            remedy = "Bring them back, or name them in mta_dkim_without once they are off for good"
            self._wait(None, f"the store was restored, and {', '.join(missing)} must show what they sign with", remedy)
        for name in sorted({name for name, rtype in asked if rtype == "TXT" and not self._look(name, rtype).complete}):
            remedy = "See that every server of its zone answers, and run rotate_dkim.yml"
            self._wait(None, f"the store was restored, and every server must answer for {name}", remedy)
        return not self.waits

    def believe_the_world(self) -> None:
        signed = any(self._sign_with(key) for key in self.held)
        for key in self._in(*COMING, ACTIVE, RETIRING):
            look = self._look(key.name, "TXT")
            shown = {text for one in look.shown for text in one.values}
            if self._sign_with(key):
                if key.state != ACTIVE:
                    self._move(key, ACTIVE, "hosts sign with it", _told([look]), seen_since=self.now.steady)
            elif shown & {key.record, names.REVOKED_KEY}:
                if key.state == ACTIVE and not signed:
                    continue
                why = "no host signs with it, and nobody remembers since when"
                self._move(key, RETIRING, why, _told([look]), quiet_since=self.now.steady)
            else:
                self._drop(key, "no host signs with it and DNS does not show it", _told([look]))

    # ---- what a person should know

    def judge(self) -> None:
        for key in self._in(ACTIVE):
            if self.policy.algorithm != ED25519 and key.bits < MIN_RSA_BITS:
                why = f"receivers may treat signatures below {MIN_RSA_BITS} bits as none (RFC 8301 3.2)"
                self._find(key.name, f"{key.bits} bits", why, "Write rsa_bits: 2048 and run rotate_dkim.yml", WARNING)
        for selector, _fingerprint in strangers(self.held, self.policy, self.evidence)[:1]:
            name = names.alias_name(self.policy.domain, selector)
            who = ", ".join(
                host
                for host, signer in sorted(self.evidence.signers.items())
                if any(mark[0] == selector for mark in signer.signs or ())
            )
            why = "signs with a key that the store does not know"
            self._find(name, who, why, "Run the role dkim on it, and find out who set that key up", WARNING)
        looks = [look for key in self._in(*COMING) for look in self._looks(key)]
        longest = max((look.remembered_seconds for look in looks), default=0)
        if longest > _DAY:
            where = f"zone of {self.policy.domain}"
            why = (
                f"a new key waits for {longest / _DAY:.0f} days, for caches may remember as long that it was not there"
            )
            self._find(where, f"a negative TTL of {longest} seconds", why, "Lower the minimum of its SOA", WARNING)
        chosen = self._signing
        if chosen is not None and self._visible(chosen) is False:
            why = "hosts sign with it, and a server does not show it as it is"
            self._find(chosen.name, "another record or none", why, "Run dns.yml, and see that every server follows")


REASONS = {
    FIRST: "there is no key to sign with",
    AGE: "the key before it is old",
    QUARTER: "a quarter has begun",
    SIZE: "the key before it is shorter than the fleet file says",
    MOVED: "the fleet file wants its record elsewhere",
    LOST: "the store has no private part of the key before it",
    DEMAND: "a person asked for it",
    COMPROMISED: "the key before it is compromised",
    IMPORTED: "it was there before",
    ADOPTED: "hosts sign with it",
}


def _told(looks: Iterable[Look]) -> str:
    """Evidence in a line."""
    parts = []
    for look in looks:
        shows = sum(one.status == YES for one in look.shown)
        parts.append(f"{shows} of {len(look.shown)} servers show it, remembered for {look.remembered_seconds} s")
    return "; ".join(parts)
