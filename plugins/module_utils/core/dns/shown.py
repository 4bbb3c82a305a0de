# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every authoritative server shows at some names, each by itself: the evidence that a key may be used.

As in an audit nothing is asked here; see authorities. "yes" is what stands at that name at that server and nothing
else: what an alias leads to may change without us, so a name that is one has no values for whoever asks for TXT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import authorities, services
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import (
    UNKNOWN,
    YES,
    Answer,
    Answers,
    Question,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.authorities import Server, ServerAnswers
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding

TYPES = ("CNAME", "TXT")


@dataclass(frozen=True)
class Zone:
    """A zone that the caller knows. ``servers``: empty, where its NS records name them."""

    name: str
    external: bool = False
    servers: tuple[str, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Zone:
        """From an entry of the option ``zones``. Raises ValueError where its name is none."""
        listed = (entry.get("options") or {}).get("servers") or ()
        external = entry["provider"] == services.EXTERNAL
        return cls(names.to_ascii(str(entry["name"])), external, tuple(str(server) for server in listed))


@dataclass(frozen=True)
class Shown:
    """What one server shows. ``ttl`` in seconds; of "no": how long that may be remembered (RFC 2308 5)."""

    server: str
    status: str
    values: tuple[str, ...] = ()
    ttl: Optional[int] = None
    detail: str = ""


@dataclass(frozen=True)
class Look:
    """``why`` says what hinders to know all servers; empty where ``shown`` has them all."""

    question: Question
    shown: tuple[Shown, ...]
    why: str

    def as_dict(self) -> dict[str, Any]:
        servers = [{**vars(each), "values": list(each.values)} for each in self.shown]
        return {
            "name": self.question.name,
            "type": self.question.rtype,
            "whole": not self.why,
            "why": self.why,
            "servers": servers,
        }


def look(
    questions: Iterable[Question], zones: Iterable[Zone], resolver: Answers, servers: ServerAnswers
) -> tuple[Look, ...]:
    """One look for each question. It is the answer once nothing is wanted any more."""
    places = _Places({zone.name: zone for zone in zones}, resolver, servers)
    return tuple(_look(question, places.of(question.name), servers) for question in questions)


@dataclass(frozen=True)
class _Place:
    """The servers of one zone: those that answer for it, and why others do not."""

    alive: tuple[Server, ...] = ()
    dead: tuple[Shown, ...] = ()
    why: str = ""


@dataclass
class _Places:
    """Where names are served. Many names share a zone, so each zone is looked for once."""

    zones: Mapping[str, Zone]
    resolver: Answers
    servers: ServerAnswers
    _cuts: dict[str, tuple[str, str]] = field(default_factory=dict)
    _found: dict[str, _Place] = field(default_factory=dict)

    def of(self, name: str) -> _Place:
        zone, why = self._zone(name)
        if not zone:
            return _Place(why=why)
        if zone not in self._found:
            self._found[zone] = self._place(zone)
        return self._found[zone]

    def _zone(self, name: str) -> tuple[str, str]:
        """The zone that holds ``name``, or why that is unknown."""
        enclosing = names.enclosing(name, self.zones)
        if enclosing:
            known = self.zones[enclosing]
            # Somebody else's zone may begin further up or down, where we need not know.
            if known.servers or not known.external:
                return enclosing, ""
        return self._cut(name)

    def _cut(self, name: str) -> tuple[str, str]:
        """The same by its delegation: the zone begins at the nearest name above that has NS records."""
        if name not in self._cuts:
            self._cuts[name] = self._nearest(name)
        return self._cuts[name]

    def _nearest(self, name: str) -> tuple[str, str]:
        if not name:
            return "", "no resolver finds a zone that holds it"
        answer = self.resolver.get(name, "NS")
        if answer.status == YES and not answer.alias:
            return name, ""
        # No zone begins at an alias; where it leads to may be broken, which says nothing of the zone.
        if answer.status == UNKNOWN and self.resolver.get(name, "CNAME").status != YES:
            return "", f"who serves it is unknown: {name} NS: {answer.detail}"
        return self._cut(name.partition(".")[2])

    def _place(self, zone: str) -> _Place:
        known = self.zones.get(zone)
        if known and known.servers:
            found = authorities.configured(zone, known.servers, self.resolver)
            servers, problems = found.servers, list(found.problems)
        else:
            servers, problems = self._delegated(zone)
        answers = {server: self._answers_for(zone, server) for server in servers}
        return _Place(
            tuple(server for server, answer in answers.items() if answer.status != UNKNOWN),
            tuple(
                Shown(server.label, UNKNOWN, detail=answer.detail)
                for server, answer in answers.items()
                if answer.status == UNKNOWN
            ),
            "; ".join(f"{problem.where}: {problem.found}" for problem in problems),
        )

    def _delegated(self, zone: str) -> tuple[tuple[Server, ...], list[Finding]]:
        """Those whom a resolver knows, and those whom they name beside them."""
        delegated = self.resolver.get(zone, "NS")
        first = authorities.delegated(zone, delegated.values, self.resolver)
        named = {host for server in first.servers for host in self._answers_for(zone, server).values}
        second = authorities.delegated(zone, sorted(named.difference(delegated.values)), self.resolver)
        servers = dict.fromkeys((*first.servers, *second.servers))
        return tuple(servers), [
            *authorities.delegation_problems(zone, delegated),
            *first.problems,
            *second.problems,
        ]

    def _answers_for(self, zone: str, server: Server) -> Answer:
        return self.servers.get(server.address, zone, "NS")


def _look(question: Question, place: _Place, servers: ServerAnswers) -> Look:
    shown = [_shown(question, server, servers) for server in place.alive]
    return Look(question, (*shown, *place.dead), place.why)


def _shown(question: Question, server: Server, servers: ServerAnswers) -> Shown:
    answer = servers.get(server.address, *question)
    is_known = (server.address, question) in servers.known
    if question.rtype != "CNAME" and is_known and (answer.alias or answer.status == UNKNOWN):
        alias = servers.get(server.address, question.name, "CNAME")
        if alias.status == YES:
            found = f"an alias (CNAME) of {alias.values[0]}"
            return Shown(server.label, YES, (), alias.ttl, f"{found}: {_what(question, answer)}")
        if answer.alias:
            return Shown(server.label, YES, (), answer.ttl, f"an alias of {answer.alias}")
    return Shown(server.label, answer.status, answer.values, answer.ttl, answer.detail)


def _what(question: Question, answer: Answer) -> str:
    if answer.status == UNKNOWN:
        return answer.detail
    return "; ".join(answer.values) or f"no {question.rtype} there"
