# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit looks at: the declared record sets by zone, each with what it is for and who uses it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset, services
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan as zones

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Zone:
    name: str
    provider: str
    servers: tuple[str, ...] = ()  # empty: those that its NS records name
    signed: bool = False

    @property
    def external(self) -> bool:
        return self.provider == services.EXTERNAL

    @property
    def severity(self) -> str:
        """What is wrong in somebody else's zone cannot be put right by a run."""
        return WARNING if self.external else ERROR


@dataclass(frozen=True)
class Row:
    """One declared record set. ``held``: its values are not known, so what stands there is not compared.

    ``gone``: its values are withdrawn and must not stand there.
    """

    zone: Zone
    record: RecordSet
    held: bool
    reason: str
    streams: tuple[str, ...]
    domain: str  # whose registry it belongs to: a sending domain, else the zone
    gone: bool = False

    @property
    def where(self) -> str:
        return f"{self.record.name} {self.record.type}"


@dataclass(frozen=True)
class Subject:
    zones: tuple[Zone, ...]
    rows: tuple[Row, ...]
    addresses: tuple[Record, ...]  # of expectations
    streams: Mapping[str, Record]
    findings: tuple[Finding, ...]


def subject(
    zone_entries: Iterable[Record],
    record_entries: Iterable[Record],
    expectations: Optional[Record] = None,
    domains: Iterable[str] = (),
) -> Subject:
    """What is to be audited, canonical; only what concerns ``domains``, where any are given."""
    known, asked, wrong = _named(zone_entries, domains)
    expected = expectations or {}
    streams = {stream["name"]: stream for stream in expected.get("streams") or ()}
    declared, withdrawn = _parted(record_entries)
    by_zone, problems = zones.assign(known, declared)
    uses = _uses((*declared, *withdrawn))
    owners = _Owners(streams)

    def row(zone: str, record: RecordSet, gone: bool) -> Row:
        use = uses.get(record.key, _Use())
        domain = use.domain or owners.domain(record, use.streams) or zone
        return Row(known[zone], record, not record.values, use.reason, use.streams, domain, gone)

    rows: list[Row] = []
    for zone, wanted in by_zone.items():
        sets = [
            *wanted.sets,
            *(
                RecordSet(*key, zones.DEFAULT_TTL, ())
                for key in sorted(wanted.held - {each.key for each in wanted.sets})
            ),
        ]
        rows.extend(row(zone, _carried(known[zone], each), False) for each in sets)
    taken = {each.record.key for each in rows}
    # Where something is declared, what is withdrawn is a value beside it. A zone that left the file is not looked at.
    for zone, unwanted in zones.assign(known, withdrawn)[0].items():
        rows.extend(row(zone, each, True) for each in unwanted.sets if each.key not in taken)
    whole = Subject(tuple(known.values()), tuple(rows), (), streams, (*wrong, *problems))
    found = _restricted(whole, expected, asked)
    return replace(found, findings=(*found.findings, *_without_keys(found.streams.values(), declared)))


@dataclass(frozen=True)
class _Use:
    """What a record set is for, who uses it, and the domain that signs with it where it is of a DKIM key."""

    reason: str = ""
    streams: tuple[str, ...] = ()
    domain: str = ""


def _uses(entries: Iterable[Record]) -> dict[rrset.Key, _Use]:
    found: dict[rrset.Key, _Use] = {}
    for entry in entries:
        known = found.get(_key(entry), _Use())
        found[_key(entry)] = _Use(
            known.reason or str(entry.get("reason") or ""),
            _united(known.streams, entry.get("streams") or ()),
            known.domain or str(entry.get("domain") or ""),
        )
    return found


def _parted(entries: Iterable[Record]) -> tuple[list[Record], list[dict[str, Any]]]:
    """What must stand, and what must not any more.

    A key that has no value yet stands nowhere; it counts where its domain has no other one of its algorithm.
    """
    everything = list(entries)
    present = [entry for entry in everything if entry.get("state") != "absent"]
    made = {_series(entry) for entry in present if entry.get("values")}
    declared = [
        entry for entry in present if entry.get("values") or not entry.get("algorithm") or _series(entry) not in made
    ]
    withdrawn = [
        {**entry, "state": "present"} for entry in everything if entry.get("state") == "absent" and entry.get("values")
    ]
    return declared, withdrawn


def _series(entry: Record) -> tuple[Any, Any]:
    return entry.get("domain"), entry.get("algorithm")


def _without_keys(streams: Iterable[Record], declared: Iterable[Record]) -> Iterator[Finding]:
    """A key host that cannot be asked must not make its keys look as if nobody needed them."""
    have = {_series(entry) for entry in declared}
    missing = [
        f"DKIM key ({key['algorithm']}) of {key['domain']}"
        for stream in streams
        for key in stream.get("dkim") or ()
        if _series(key) not in have
    ]
    if missing:
        where = missing[0] if len(missing) == 1 else f"{missing[0]} and {len(missing) - 1} more"
        why = "nobody can tell at which selector it stands, and whether what stands there is right"
        remedy = "Let this reach the key host; where it has no key, run the playbook mailops.mta.site"
        yield Finding(where, "no key is known", why, remedy, WARNING)


def _named(zone_entries: Iterable[Record], domains: Iterable[str]) -> tuple[dict[str, Zone], list[str], list[Finding]]:
    known: dict[str, Zone] = {}
    asked: list[str] = []
    findings: list[Finding] = []
    for entry in zone_entries:
        try:
            zone = _zone(entry)
            known[zone.name] = zone
        except ValueError as error:
            findings.append(Finding(f"zone {entry['name']}", "the name", str(error), "Write a domain name"))
    for domain in domains:
        try:
            asked.append(names.to_ascii(domain))
        except ValueError as error:
            findings.append(Finding(f"domain {domain}", "the name", str(error), "Write a domain name"))
    return known, asked, findings


def _zone(entry: Record) -> Zone:
    options = entry.get("options") or {}
    servers = tuple(str(server) for server in options.get("servers") or ())
    return Zone(names.to_ascii(str(entry["name"])), str(entry["provider"]), servers, bool(entry.get("signed")))


def _key(entry: Record) -> rrset.Key:
    name = str(entry.get("name") or "")
    with contextlib.suppress(ValueError):  # assign has a finding for it
        name = names.to_ascii(name)
    return (name, str(entry.get("type") or "").upper())


def _united(*lists: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(each) for some in lists for each in some))


def _carried(zone: Zone, wanted: RecordSet) -> RecordSet:
    """With the TTL that the zone's service can keep."""
    service = services.SERVICES.get(zone.provider)
    if service is None:
        return wanted
    return wanted._replace(ttl=service.limits.ttl(wanted.ttl))


class _Owners:
    """Which sending domain a record set is there for."""

    def __init__(self, streams: Mapping[str, Record]) -> None:
        self._first = {name: stream["domains"][0] for name, stream in streams.items()}
        self._domains = {domain for stream in streams.values() for domain in stream["domains"]}

    def domain(self, record: RecordSet, users: Sequence[str]) -> Optional[str]:
        author = record.name.partition("._report._dmarc.")[0]
        for name in (author, record.name, *(record.values if record.type == "PTR" else ())):
            found = names.enclosing(name, self._domains)
            if found:
                return found
        return next((self._first[user] for user in users if user in self._first), None)


def _restricted(whole: Subject, expected: Record, asked: Sequence[str]) -> Subject:
    def concerns(*candidates: str) -> bool:
        return not asked or any(names.is_within(name, domain) for name in candidates for domain in asked)

    rows = tuple(row for row in whole.rows if concerns(row.record.name, row.domain))
    streams = {
        name: stream
        for name, stream in whole.streams.items()
        if concerns(*stream["domains"], stream["return_path"]["domain"])
    }
    used = {row.zone.name for row in rows}
    findings = whole.findings
    if asked and not rows:
        has = ", ".join(sorted({row.domain for row in whole.rows})) or "nothing"
        why = "nothing that the fleet declares stands at or below it"
        findings += (Finding(f"domain {', '.join(asked)}", "no record set", why, f"Choose among {has}"),)
    return Subject(
        tuple(zone for zone in whole.zones if not asked or zone.name in used),
        rows,
        tuple(address for address in expected.get("addresses") or () if address["stream"] in streams),
        streams,
        findings,
    )
