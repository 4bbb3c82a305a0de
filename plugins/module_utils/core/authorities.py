# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves a zone: every address of every server that its delegation, or the fleet file, names.

Nothing is asked here. What is lacking is noted in the answers given; a caller asks it and comes again (shell/asker).
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.answers import UNKNOWN, YES, Answer, Answers, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, Finding


@dataclass
class ServerAnswers:
    """As Answers, for questions that go to one authoritative server each."""

    known: Mapping[tuple[str, Question], Answer]
    wanted: set[tuple[str, Question]] = field(default_factory=set)

    def get(self, server: str, name: str, rtype: str) -> Answer:
        question = (server, Question(name, rtype))
        answer = self.known.get(question)
        if answer is None:
            self.wanted.add(question)
            return Answer(UNKNOWN, detail="it was not asked")
        return answer


@dataclass(frozen=True)
class Server:
    address: str  # as a resolver takes it; with the port where it is not 53
    label: str  # for people: with its name, where it was found by one


@dataclass(frozen=True)
class Authorities:
    """Whom to ask about a zone, each address once. Without ``problems`` they are all that there are."""

    servers: tuple[Server, ...]
    problems: tuple[Finding, ...]


def delegation_problems(zone: str, delegated: Answer, severity: str = ERROR) -> Iterator[Finding]:
    """Why a resolver's answer for the zone's NS records does not say who serves it."""
    if delegated.status == UNKNOWN:
        why = "no resolver says who serves the zone"
        remedy = "See that the resolvers (mta_resolvers) answer, and that the servers of the zone do"
        yield Finding(f"{zone} NS", f"unknown ({delegated.detail})", why, remedy, severity)
    elif delegated.status != YES:
        why = "a resolver does not find the zone, and neither do receivers"
        remedy = "Have it delegated to its servers, and see that they answer"
        yield Finding(f"{zone} NS", "no NS records", why, remedy, severity)


def find(zone: str, texts: Iterable[str], answers: Answers, severity: str = ERROR) -> Authorities:
    """The servers that ``texts`` name, as NS records or the option ``servers`` of a zone do."""
    problems: list[Finding] = []
    found: dict[str, Server] = {}
    for text in texts:
        try:
            host, port, is_address = _endpoint(text)
        except ValueError as error:
            problems.append(Finding(f"zone {zone}", f"options.servers '{text}'", str(error), "Correct it"))
            continue
        if is_address:
            label = names.endpoint_text(host, port)
            found.setdefault(label, Server(label, label))
            continue
        both = [answers.get(host, rtype) for rtype in ("A", "AAAA")]
        addresses = [value for answer in both for value in answer.values]
        for each in addresses:
            address = names.endpoint_text(each, port)
            found.setdefault(address, Server(address, f"{host} ({address})"))
        unknown = next((answer.detail for answer in both if answer.status == UNKNOWN), "")
        if unknown or not addresses:
            asked = f"unknown ({unknown})" if unknown else "no address"
            why = (
                "it may have more addresses, which nobody asks" if addresses else "whoever is sent there gets no answer"
            )
            remedy = "Give it an A or AAAA record, or take it out of the zone's servers"
            if unknown:
                remedy = "See that the resolvers (mta_resolvers) find its A and AAAA records"
            problems.append(Finding(f"server {host} of zone {zone}", asked, why, remedy, severity))
    return Authorities(tuple(found.values()), tuple(problems))


@functools.lru_cache(maxsize=1024)  # thousands of zones share a few servers
def _endpoint(text: str) -> tuple[str, int, bool]:
    """Host, port, and whether the host is an address. Raises ValueError."""
    host, port = names.endpoint(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host, port, False
    return host, port, True
