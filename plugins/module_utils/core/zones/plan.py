# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must change in one zone, and what must not. Values are owned, not record sets.

A declared TXT value claims the value with the same version tag at its name (our SPF replaces the SPF that stands there)
and nothing else; a declared value of another type claims the record set. What nothing declares any more, or something
declares absent, is ours to delete only where the zone's manifest says that we wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset, txt
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet, State
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import UNLIMITED, Limits
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies, spf
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import ownership as manifest
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.ownership import Manifest, Marks, mark

NEVER, DUE, NOW = "never", "due", "now"  # when values that nothing declares any more are deleted
SMALL_ZONE = 10  # below this many owned record sets a percentage says nothing
DEFAULT_TTL = 3600
PRESENT, ABSENT = "present", "absent"  # what a declared record can be
MAX_TTL = 2**31 - 1  # RFC 2181 8

_BESIDE_ALL = frozenset(("RRSIG", "NSEC", "NSEC3"))  # what the signer of a zone puts beside every record set
_INCLUDE = re.compile(r"\binclude:(\S+)")
_VERSION = re.compile(r"\s*v\s*=\s*([A-Za-z0-9]+)\s*(?:;|\s|\Z)")
_VERSIONS = frozenset(("spf1", "dmarc1", "stsv1", "tlsrptv1", "dkim1", "bimi1"))
_KEY_TAG = re.compile(r"(?:^|;)\s*[kp]\s*=")
_KEY = ("version", "dkim1")
_SELECTOR = re.compile(r"[a-z0-9_-]+\Z")  # one label, and no wildcard


@dataclass(frozen=True)
class Wanted:
    """What one zone should hold: complete record sets, and those whose values are not known yet and must rest.

    Values in ``absent`` leave at once where this owner wrote them; the TTL there says nothing.
    """

    sets: tuple[RecordSet, ...]
    held: frozenset[Key] = frozenset()
    absent: tuple[RecordSet, ...] = ()


@dataclass(frozen=True)
class Retire:
    """When values leave that nothing declares any more. Days are counted from 1970-01-01."""

    when: str = DUE
    today: int = 0
    # Mail may wait in our queue for five days, and what it comes back as for five more in the queue of its receiver.
    after_days: int = 10

    def since(self, day: Optional[int]) -> int:
        """``day``, or today; a clock that was ahead once does not count."""
        return self.today if day is None else min(day, self.today)

    def is_due(self, since: int) -> bool:
        return self.when == NOW or (self.when == DUE and self.today >= since + self.after_days)


DEFAULT_RETIRE = Retire()


@dataclass(frozen=True)
class Leaving:
    """Values that this owner wrote and nothing declares. They are kept until the day ``until``."""

    record_set: RecordSet
    until: int


@dataclass(frozen=True)
class Plan:
    """The changes of one zone in the order in which they are safe. Empty where nothing must change.

    ``drift`` says what somebody else changed and this plan puts back; it is no reason against the plan.
    """

    changes: tuple[Change, ...]
    manifest: tuple[Change, ...]  # for a provider that applies everything at once
    manifest_before: tuple[Change, ...]  # a superset of old and new, written before the changes
    manifest_after: tuple[Change, ...]  # shrinks it, after them
    leaving: tuple[Leaving, ...]
    findings: tuple[Finding, ...]
    drift: tuple[Finding, ...]
    owned_sets: int
    owned: int
    touched: int

    @property
    def empty(self) -> bool:
        return not (self.changes or self.manifest)

    @property
    def percent(self) -> float:
        return 100.0 * self.touched / self.owned if self.owned else 0.0

    def over(self, percent: float) -> bool:
        """True where it touches more of a zone's owned values than ``percent``."""
        return self.owned_sets >= SMALL_ZONE and self.percent > percent


def claim(name: str, text: str) -> tuple[str, str]:
    """What a TXT value stands for at its name: a kind of policy of which there is one, or only itself."""
    found = _VERSION.match(text)
    if found and found.group(1).lower() in _VERSIONS:
        return ("version", found.group(1).lower())
    # RFC 6376 3.6.1: in a key record the v= tag may be left out.
    if not found and "_domainkey" in name and _KEY_TAG.search(text):
        return _KEY
    return ("text", text)


def of_key_host(
    given: Iterable[Mapping[str, Any]], series: Iterable[Mapping[str, Any]], *, written: bool = True
) -> tuple[list[Mapping[str, Any]], list[Finding]]:
    """The records of a key host that may be published, and a finding for each that is none of a DKIM key.

    A key host decides about the keys of domains that the fleet signs for (``series``: ``domain``, ``delegate``) and
    about no other record. Records of domains that have left stay as they are in DNS (no values), until they are
    declared absent; a selector there may be somebody else's. So it is below ``_domainkey`` and where the fleet
    delegates keys to; elsewhere a key of a domain that has left is not kept, and leaves as what nobody declares. Where
    nothing is ``written``, but looked at, they have their values.
    """
    series = list(series)
    keys = {f"_domainkey.{one['domain']}" for one in series}
    delegates = {one["delegate"] for one in series if one.get("delegate")}
    delegated = {f"{one['domain']}.{one['delegate']}" for one in series if one.get("delegate")}
    taken: list[Mapping[str, Any]] = []
    findings = []
    for entry in given:
        parent = _parent_of_key(entry)
        is_text = entry["type"] == "TXT"
        is_kept = parent.startswith("_domainkey.") or (is_text and names.enclosing(parent, delegates) is not None)
        has_left = is_text and bool(entry.get("domain")) and parent.startswith(f"{entry['domain']}.")
        is_ours = parent in keys or (is_text and parent in delegated)
        if is_ours or ((is_kept or has_left) and entry.get("state") == ABSENT):
            taken.append(entry)
        elif is_kept:
            taken.append({**entry, "values": None} if written else entry)
        elif not has_left:
            where = f"record {entry['name']} {entry['type']}"
            found = "the key host gives it, and it is none of a DKIM key"
            why = "a key host decides about DKIM keys alone"
            remedy = "see who else is on the key host (docs/security.md). Nothing was published"
            findings.append(Finding(where, found, why, remedy))
    return taken, findings


def _parent_of_key(entry: Mapping[str, Any]) -> str:
    """What follows the selector in the name of a DKIM key or of an alias of one; nothing where it is neither."""
    try:
        selector, _dot, parent = names.to_ascii(str(entry["name"])).partition(".")
    except ValueError:
        return ""
    holds_keys = entry["type"] == "CNAME" or (
        entry["type"] == "TXT" and all(_is_key(value) for value in entry.get("values") or ())
    )
    return parent if holds_keys and _SELECTOR.match(selector) else ""


def _is_key(text: str) -> bool:
    try:
        policies.parse_dkim(text)
    except ValueError:
        return False
    return True


def assign(zones: Iterable[str], declared: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Wanted], list[Finding]]:
    """Declared records by zone, values of one name and type united, and a finding for each that cannot stand.

    What one entry declares present and another one absent is present.
    """
    sets: dict[str, dict[Key, RecordSet]] = {zone: {} for zone in zones}
    held: dict[str, set[Key]] = {zone: set() for zone in sets}
    absent: dict[str, dict[Key, set[str]]] = {zone: {} for zone in sets}
    findings: list[Finding] = []
    for entry in declared:
        made = _declared(entry, sets)
        if isinstance(made, Finding):
            findings.append(made)
            continue
        zone, record_set = made
        if entry.get("state") == ABSENT:
            absent[zone].setdefault(record_set.key, set()).update(record_set.values)
            continue
        if not record_set.values:
            held[zone].add(record_set.key)
            continue
        other = sets[zone].get(record_set.key)
        if other:
            record_set = RecordSet.of(
                other.name, other.type, min(other.ttl, record_set.ttl), (*other.values, *record_set.values)
            )
        sets[zone][record_set.key] = record_set
    for zone in sets:
        findings.extend(_incompatible(sets[zone]))
    return {
        zone: Wanted(tuple(sets[zone].values()), frozenset(held[zone]), _absent(absent[zone], sets[zone]))
        for zone in sets
    }, findings


def _absent(given: Mapping[Key, set[str]], sets: Mapping[Key, RecordSet]) -> tuple[RecordSet, ...]:
    return tuple(
        RecordSet.of(*key, DEFAULT_TTL, values.difference(sets[key].values if key in sets else ()))
        for key, values in given.items()
    )


def _incompatible(sets: Mapping[Key, RecordSet]) -> Iterable[Finding]:
    """What cannot stand together though each of it could alone."""
    aliases = {name for name, rtype in sets if rtype == "CNAME"}
    for (name, rtype), each in sets.items():
        where = f"record {name} {rtype}"
        if rtype == "CNAME" and len(each.values) > 1:
            yield Finding(where, f"{len(each.values)} values", "a name is an alias of one other", "leave one value")
        elif rtype != "CNAME" and name in aliases:
            why = "an alias cannot share its name with other records"
            yield Finding(where, "a CNAME is declared at this name", why, "leave one of the two")
        elif rtype == "TXT" and sum(claim(name, value) == ("version", "spf1") for value in each.values) > 1:
            yield Finding(where, "two SPF policies", "receivers reject both (RFC 7208 4.5)", "leave one of them")


def _declared(entry: Mapping[str, Any], zones: Mapping[str, Any]) -> tuple[str, RecordSet] | Finding:
    rtype = str(entry.get("type") or "").upper()
    where = f"record {entry.get('name')} {rtype}"
    try:
        name = names.to_ascii(str(entry.get("name") or ""))
    except ValueError as error:
        return Finding(where, f"the name {entry.get('name')}", str(error), "write a domain name")
    problem = names.owner_problem(name)
    if problem:
        return Finding(where, f"the name '{name}'", problem, "write a domain name")
    problem = rrset.check_type(rtype)
    if problem:
        return Finding(where, f"the type '{rtype}'", problem, "leave it to the server or correct the type")
    zone = names.enclosing(name, zones)
    if zone is None:
        return Finding(where, "no zone for it", "none of the zones given holds this name", "add its zone to zones")
    if manifest.is_manifest(name, zone):
        return Finding(where, "a reserved name", "the list of owned values stands there", "choose another name")
    raw_ttl = entry.get("ttl")
    ttl = DEFAULT_TTL if raw_ttl is None else int(raw_ttl)
    if not 0 <= ttl <= MAX_TTL:
        return Finding(where, f"ttl {ttl}", f"a TTL is 0 to {MAX_TTL} seconds", "correct it")
    values = []
    for value in entry.get("values") or ():
        try:
            values.append(rrset.declared(rtype, str(value)))
        except ValueError as error:
            return Finding(where, f"the value '{value}'", str(error), "correct the value")
    if rtype == "CNAME" and len(set(values)) > 1 and entry.get("state") != ABSENT:
        return Finding(where, f"{len(set(values))} values", "a name is an alias of one other", "leave one value")
    return zone, RecordSet.of(name, rtype, ttl, values)


def fit(wanted: Wanted, limits: Limits) -> tuple[Wanted, list[Finding]]:
    """``wanted`` as far as a service can hold it: TTLs within its bounds, and a finding for each set that it cannot."""
    if limits.bounds_nothing:
        return wanted, []
    sets: list[RecordSet] = []
    findings: list[Finding] = []
    held = set(wanted.held)
    for each in wanted.sets:
        problem = None
        if limits.types and each.type not in limits.types:
            problem = (f"the type {each.type}", "this service does not serve it", "have another service run the zone")
        elif each.type == "TXT" and max(len(txt.encode(value)) for value in each.values) > limits.txt_max:
            long = max(len(txt.encode(value)) for value in each.values)
            problem = (f"a value of {long} bytes", f"this service holds {limits.txt_max}", "write a shorter one")
        if problem:
            findings.append(Finding(f"record {each.name} {each.type}", *problem))
            held.add(each.key)
        elif each.ttl != limits.ttl(each.ttl):
            sets.append(RecordSet(each.name, each.type, limits.ttl(each.ttl), each.values))
        else:
            sets.append(each)
    return Wanted(tuple(sets), frozenset(held), wanted.absent), findings


def unknown(zone: str, state: State, wanted: Wanted, owner: str) -> Optional[set[str]]:
    """The names whose record sets must be looked at, by what the manifest in ``state`` says; None: it has no list."""
    listed = Manifest.read(state, zone, owner)
    if not listed.ours or listed.is_far:
        return None
    settled = listed.mine.settled
    found: set[str] = set()
    for each in wanted.sets:
        if not all(mark(each.key, value) in settled for value in each.values):
            name = each.name
            while name != zone:  # a delegation above it matters as well
                found.add(name)
                name = name.partition(".")[2]
            found.add(each.name)
    found.update(
        each.name for each in wanted.absent if any(mark(each.key, value) in listed.ours for value in each.values)
    )
    return found


def unknown_keys(zone: str, state: State, wanted: Wanted, owner: str) -> list[str]:
    """The names below ``_domainkey`` where a zone that was read whole has a key or an alias and nobody declares any.

    Values that must rest, or leave, are known where ``owner`` wrote them: who names a name only has not declared them.
    """
    declared = {each.name for each in wanted.sets}
    named = {key[0] for key in wanted.held} | {each.name for each in wanted.absent}
    ours = Manifest.read(state, zone, owner).ours
    found = set()
    for (name, rtype), each in state.items():
        if "._domainkey." in name and name not in declared and rtype in ("TXT", "CNAME"):
            keys = [value for value in each.values if rtype == "CNAME" or claim(name, value) == _KEY]
            if any(name not in named or mark(each.key, value) not in ours for value in keys):
                found.add(name)
    return sorted(found)


def plan(
    zone: str,
    state: State,
    wanted: Wanted,
    owner: str,
    retire: Retire = DEFAULT_RETIRE,
    limits: Limits = UNLIMITED,
    seen: Optional[frozenset[str]] = None,
) -> Plan:
    """What leads from ``state`` to ``wanted``.

    With ``seen``, ``state`` holds no more than what stands at these names; what stands elsewhere is as the manifest
    says, and rests.
    """
    given = _Given.of(zone, state, wanted, owner, retire, limits, seen)
    draft = _Draft(resting=set(wanted.held))
    _claim_all(given, draft)
    index = _standing(given, draft)
    _retire(given, draft, index)
    once, before, after = _list(given, draft, index)
    return Plan(
        _in_order(draft.changed.values()),
        once,
        before,
        after,
        tuple(
            Leaving(RecordSet.of(*key, state[key].ttl, values), until)
            for (key, until), values in sorted(draft.staying.items())
        ),
        tuple(draft.findings),
        tuple(draft.drift),
        *_weigh(given, draft, index),
    )


@dataclass(frozen=True)
class _Given:
    """What every step of a plan reads."""

    zone: str
    state: State
    wanted: Wanted
    owner: str
    retire: Retire
    limits: Limits
    seen: Optional[frozenset[str]]
    listed: Manifest
    gone: frozenset[bytes]  # what is declared absent, as far as it was looked at

    @classmethod
    def of(
        cls,
        zone: str,
        state: State,
        wanted: Wanted,
        owner: str,
        retire: Retire,
        limits: Limits,
        seen: Optional[frozenset[str]],
    ) -> _Given:
        looked = [each for each in wanted.absent if seen is None or each.name in seen]
        gone = frozenset(mark(each.key, value) for each in looked for value in each.values)
        return cls(zone, state, wanted, owner, retire, limits, seen, Manifest.read(state, zone, owner), gone)

    def leaves(self, each: bytes) -> bool:
        """Whether a listed value that nothing declares goes now. What another owner lists stays."""
        if each in self.listed.others:
            return False
        return each in self.gone or self.retire.is_due(self.retire.since(self.listed.mine.leaving.get(each)))


@dataclass
class _Draft:
    """What the steps of a plan have found out so far. Values are known by their marks, see manifest."""

    resting: set[Key]  # nothing that is not declared leaves there
    changed: dict[Key, Change] = field(default_factory=dict)
    marks: set[bytes] = field(default_factory=set)  # what is declared and stands afterwards
    kept: set[bytes] = field(default_factory=set)  # what stays in the list as it is
    awaited: set[bytes] = field(default_factory=set)  # what is declared and waits behind a wider policy
    leaving: dict[bytes, int] = field(default_factory=dict)  # what stays for now: since which day
    staying: dict[tuple[Key, int], list[str]] = field(default_factory=dict)  # the same by key and day until
    findings: list[Finding] = field(default_factory=list)
    drift: list[Finding] = field(default_factory=list)

    def stays(self, key: Key, value: str, each: bytes, since: int, retire: Retire) -> None:
        self.leaving[each] = since
        self.staying.setdefault((key, since + retire.after_days), []).append(value)


# ---- what is declared


def _claim_all(given: _Given, draft: _Draft) -> None:
    """Every declared record set that does not stand there yet, as far as it was looked at."""
    beside = _Obstacles(given)
    state, seen, marks = given.state, given.seen, draft.marks
    for record_set in given.wanted.sets:
        key = record_set[:2]
        existing = state.get(key)
        own = [mark(key, value) for value in record_set.values]
        if existing == record_set or (seen is not None and key[0] not in seen):
            marks.update(own)
        else:
            _claim(given, draft, beside, record_set, existing, own)


def _claim(
    given: _Given,
    draft: _Draft,
    beside: _Obstacles,
    record_set: RecordSet,
    existing: Optional[RecordSet],
    own: list[bytes],
) -> None:
    listed, key = given.listed, record_set[:2]
    wider = _widened(existing, record_set, given) if existing else None
    if isinstance(wider, Finding):
        draft.drift.append(wider)
        wider = None
    if wider:
        record_set = wider.record_set
    finding = beside.problem(record_set)
    change = None if finding else _merge(existing, record_set, listed)
    if change and listed.others:
        finding = _contested(change, listed)
    if finding:
        draft.findings.append(finding)
        draft.resting.add(key)
        return
    if wider:
        standing = [mark(key, value) for value in record_set.values]
        draft.awaited.update(set(own).difference(standing))
        draft.stays(key, wider.text, mark(key, wider.text), wider.since, given.retire)
        own = standing
    draft.marks.update(own)
    if change:
        draft.changed[key] = change
        if change.before or listed.ours:
            draft.drift.extend(_drift(change, listed))


def apply(state: State, changes: Iterable[Change]) -> dict[Key, RecordSet]:
    """``state`` after ``changes``."""
    result = dict(state)
    for change in changes:
        if change.after:
            result[change.after[:2]] = change.after
        else:
            result.pop(change.key, None)
    return result


class _Obstacles:
    """What makes a declared record set impossible: an alias at its name, or a delegation above it."""

    def __init__(self, given: _Given) -> None:
        self._zone = given.zone
        self._types: dict[str, list[RecordSet]] = {}
        self._cuts: set[str] = set()
        alias_wanted = {each.name for each in given.wanted.sets if each.type == "CNAME"}
        for (name, rtype), record_set in given.state.items():
            if rtype in _BESIDE_ALL:
                continue
            if rtype == "NS" and name != given.zone:
                self._cuts.add(name)
            if rtype == "CNAME" or name in alias_wanted:
                own = [mark(record_set.key, value) for value in record_set.values]
                if not all(each in given.listed.ours and given.leaves(each) for each in own):
                    self._types.setdefault(name, []).append(record_set)

    def problem(self, record_set: RecordSet) -> Optional[Finding]:
        where = f"record {record_set.name} {record_set.type}"
        # Where a CNAME stands, nothing else may (RFC 1034 3.6.2).
        for other in self._types.get(record_set.name, ()):
            if other.type != record_set.type and "CNAME" in (other.type, record_set.type):
                return Finding(
                    where,
                    f"{other.type} {' '.join(other.values)} stands at this name",
                    "an alias cannot share its name with other records",
                    f"remove the {other.type}, or run with retire: now if this fleet wrote it",
                )
        if self._cuts:
            cut = names.enclosing(record_set.name, self._cuts)
            if cut and not (cut == record_set.name and record_set.type in ("NS", "DS")):
                return Finding(
                    where,
                    f"{cut} is delegated to other servers (NS)",
                    f"nobody sees what {self._zone} holds below it",
                    f"add {cut} to zones, with the service that runs it",
                )
        return None


@dataclass(frozen=True)
class _Wider:
    """An SPF policy that still allows what the wanted one does not, and since when it waits to be narrowed."""

    record_set: RecordSet
    text: str
    since: int


def _included(state: State) -> frozenset[str]:
    """The names that an SPF policy of the zone includes as it stands: their own policies must outlive it."""
    return frozenset(
        found.group(1).lower()
        for each in state.values()
        if each.type == "TXT"
        for value in each.values
        if value.startswith("v=spf1")
        for found in _INCLUDE.finditer(value)
    )


def _widened(existing: RecordSet, wanted: RecordSet, given: _Given) -> _Wider | Finding | None:
    """None where nothing is to be kept. An address that leaves the pool may still have mail under way."""
    listed, retire = given.listed, given.retire
    if wanted.type != "TXT" or retire.when == NOW:
        return None
    new = [value for value in wanted.values if claim(wanted.name, value) == ("version", "spf1")]
    old = [
        value
        for value in existing.values
        if claim(wanted.name, value) == ("version", "spf1")
        and mark(wanted.key, value) in listed.ours
        and mark(wanted.key, value) not in given.gone
    ]
    if len(new) != 1 or len(old) != 1 or new == old:
        return None
    text = spf.widened(new[0], old[0])
    if text is None or len(txt.encode(text)) > given.limits.txt_max:
        return Finding(
            f"record {wanted.name} TXT",
            "its SPF policy narrows at once",
            "with what it let send before it would cost too many look-ups or be too long",
            "let mail of the addresses that leave go out first (share: 0), then remove them",
            WARNING,
        )
    # While the same policy waits, the days go on; another one begins them anew.
    same = mark(wanted.key, new[0]) in listed.mine.pending
    since = retire.since(listed.mine.leaving.get(mark(wanted.key, old[0])) if same else None)
    if text == new[0] or retire.is_due(since) or mark(wanted.key, text) in given.gone:
        return None
    values = [text if value == new[0] else value for value in wanted.values]
    return _Wider(RecordSet.of(*wanted.key, wanted.ttl, values), text, since)


def _drift(change: Change, listed: Manifest) -> Iterable[Finding]:
    """What ``change`` finds otherwise than this fleet left it, or takes from somebody else."""
    name, rtype = change.key
    foreign = [value for value in change.removed if mark(change.key, value) not in listed.ours]
    lost = bool(listed.mine.settled.intersection(mark(change.key, value) for value in change.added))
    shown = "; ".join(foreign) or "nothing"
    where = f"record {name} {rtype}"
    if lost:
        yield Finding(
            where,
            f"{shown} stands where this fleet wrote something else",
            "somebody changed it since the last run",
            "it is put back; find out who writes there",
            WARNING,
        )
    elif foreign:
        yield Finding(
            where,
            f"{shown} stood there, and this fleet did not write it",
            "it is replaced by what the fleet file says",
            "if somebody else needs it, say so in the fleet file",
            WARNING,
        )


def _merge(existing: Optional[RecordSet], wanted: RecordSet, listed: Manifest) -> Optional[Change]:
    """How ``wanted`` joins what stands there, or None where it already does."""
    if existing is None:
        return Change(None, wanted)
    if existing == wanted:
        return None
    kept: list[str] = []
    if wanted.type == "TXT":
        claims = {claim(wanted.name, value) for value in wanted.values}
        kept = [value for value in existing.values if claim(wanted.name, value) not in claims]
    # A record set has one TTL; where somebody else has a value in it, it is not ours to change.
    shared = any(mark(wanted.key, value) not in listed.ours for value in kept)
    if listed.others and not shared:
        shared = any(mark(wanted.key, value) in listed.others for value in existing.values)
    after = RecordSet.of(wanted.name, wanted.type, existing.ttl if shared else wanted.ttl, (*kept, *wanted.values))
    return None if after == existing else Change(existing, after)


def _contested(change: Change, listed: Manifest) -> Optional[Finding]:
    """A finding where ``change`` would remove a value that another owner lists."""
    lost = [value for value in change.removed if mark(change.key, value) in listed.others]
    if not lost:
        return None
    return Finding(
        f"record {change.key[0]} {change.key[1]}",
        f"{lost[0]} stands there and belongs to another fleet",
        "both would overwrite each other at every run",
        "let one of the fleets declare this name",
    )


# ---- what is not


Index = Mapping[bytes, tuple[Key, str]]  # every value that stands in the zone, by its mark


def _standing(given: _Given, draft: _Draft) -> Index:
    """Empty where no step needs it: a zone that is as it should be is the common case."""
    if not any(change.before for change in draft.changed.values()) and given.listed.ours <= draft.marks:
        return {}
    return {mark(each.key, value): (each.key, value) for each in given.state.values() for value in each.values}


def _retire(given: _Given, draft: _Draft, index: Index) -> None:
    """What the manifest lists and nobody declares: it rests, it stays until its day, or it goes."""
    stale = _stale(given, draft, index)
    included = _included(given.state) if stale else frozenset()
    going: dict[Key, list[str]] = {}
    for each in stale:
        key, value = index[each]
        needed = key[1] == "TXT" and key[0] in included and each not in given.gone
        if given.leaves(each) and not needed:
            going.setdefault(key, []).append(value)
        else:
            draft.stays(key, value, each, given.retire.since(given.listed.mine.leaving.get(each)), given.retire)
    for key, values in going.items():
        draft.changed[key] = _without(given.state[key], draft.changed.get(key), values)


def _stale(given: _Given, draft: _Draft, index: Index) -> list[bytes]:
    """The values that leave, sooner or later; notes those that stay in the list as they are."""
    listed, stale = given.listed, []
    for each in listed.ours - draft.marks:
        if each not in index:
            if given.seen is not None and each not in given.gone:
                draft.kept.add(each)
            continue
        key, value = index[each]
        change = draft.changed.get(key)
        if change and value in change.removed:
            continue
        if key in draft.resting and each not in given.gone:
            draft.kept.add(each)
        elif each not in listed.others:
            stale.append(each)
    return sorted(stale)


def _without(existing: RecordSet, change: Optional[Change], values: Iterable[str]) -> Change:
    after = change.after if change else existing
    gone = set(values)
    left = [value for value in after.values if value not in gone] if after else []
    return Change(existing, RecordSet.of(existing.name, existing.type, after.ttl, left) if after and left else None)


# ---- the list, the order, the weight


def _list(
    given: _Given, draft: _Draft, index: Index
) -> tuple[tuple[Change, ...], tuple[Change, ...], tuple[Change, ...]]:
    """How the manifest changes: at once; or as a superset before the changes, and what shrinks it after them."""
    had, zone, owner, limits = given.listed.mine, given.zone, given.owner, given.limits
    leaving = {**draft.leaving, **{each: had.leaving[each] for each in draft.kept & had.leaving.keys()}}
    pending = frozenset((draft.awaited - draft.marks) | (draft.kept & had.pending))
    final = Marks(frozenset((draft.marks | draft.kept) - leaving.keys() - pending), leaving, pending)
    if given.listed.holds(final, limits):
        return (), (), ()
    once = tuple(manifest.changes(given.state, zone, owner, final, limits))
    if not (once and draft.changed):
        return once, (), once
    both = {**leaving, **had.leaving}
    removed = {mark(key, value) for key, change in draft.changed.items() for value in change.removed}
    settled = (had.settled | (final.settled & index.keys())) - both.keys() - removed
    # A policy that waits to be narrowed counts its days from when it is listed so, not from a write that broke off.
    unlisted = draft.awaited - had.pending
    superset = Marks(settled, both, (final.all | had.all) - settled - both.keys() - unlisted)
    before = tuple(manifest.changes(given.state, zone, owner, superset, limits, keep=True))
    after = tuple(manifest.changes(apply(given.state, before), zone, owner, final, limits))
    return once, before, after


def _in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Addresses before the MX records that need them, and deletions last unless a new set takes the name."""
    listed = list(changes)
    taken = {change.key[0] for change in listed if change.before is None}

    def rank(change: Change) -> tuple[int, Key]:
        name, rtype = change.key
        # Also the parts of an SPF policy before the policy that includes them.
        weight = 0 if rtype in ("A", "AAAA") or name.startswith("_spf") else 2 if rtype == "MX" else 1
        if change.after is None:
            weight = -1 if name in taken else 5 - weight
        return weight, change.key

    return tuple(sorted(listed, key=rank))


def _weigh(given: _Given, draft: _Draft, index: Index) -> tuple[int, int, int]:
    """Owned record sets and values that stand in the zone, and how many of those values change."""
    listed, changed = given.listed, draft.changed
    removed = {mark(key, value) for key, change in changed.items() for value in change.removed}
    mine = listed.ours | draft.marks
    retimed = {
        each
        for key, change in changed.items()
        if change.retimed and change.before
        for each in (mark(key, value) for value in change.before.values)
        if each in mine
    }
    if given.seen is not None:  # the zone is known by its list alone, one value a set
        return len(listed.ours), len(listed.ours), len(removed | retimed)
    owned = [key for each, (key, _value) in index.items() if each in mine or each in removed]
    return len(set(owned)), len(owned), len(removed | retimed)
