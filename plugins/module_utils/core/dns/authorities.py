# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves a zone: every address of every server that its delegation, or the fleet file, names.

A delegation names hosts, never addresses or ports: strangers write it, and do not choose whom else the controller asks.

Nothing is asked here. What is lacking is noted in the answers given; a caller (shell/dns/asker) asks and comes again.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import (
    UNKNOWN,
    YES,
    Answer,
    Answers,
    Question,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, Finding

MAX_SERVERS = 26  # that one zone's delegation may name: twice as many as the root has
MAX_ADDRESSES = 64  # of all servers of one zone


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


def configured(zone: str, texts: Iterable[str], answers: Answers, severity: str = ERROR) -> Authorities:
    """The servers that the option ``servers`` of a zone names: addresses or hosts, with a port where it is not 53."""
    problems: list[Finding] = []
    endpoints: list[tuple[str, int, bool]] = []
    for text in texts:
        try:
            endpoints.append(_endpoint(text))
        except ValueError as error:
            problems.append(Finding(f"zone {zone}", f"options.servers '{text}'", str(error), "Correct it"))
    return _found(zone, endpoints, problems, answers, severity)


def delegated(zone: str, hosts: Iterable[str], answers: Answers, severity: str = ERROR) -> Authorities:
    """The servers that NS records of a zone name."""
    problems: list[Finding] = []
    endpoints: list[tuple[str, int, bool]] = []
    for host in hosts:
        problem = names.owner_problem(host) or ("it is an address" if host.rpartition(".")[2].isdigit() else None)
        if problem:
            why = f"resolvers cannot ask this name server: {problem}, and an NS record names a host (RFC 1035 3.3.11)"
            remedy = "Name the server by a host name in the zone and at its parent"
            problems.append(Finding(f"{zone} NS", f"'{host}'", why, remedy, severity))
        elif len(endpoints) == MAX_SERVERS:
            problems.append(_too_many(f"{zone} NS", "name servers", MAX_SERVERS, severity))
            break
        else:
            endpoints.append((host, 53, False))
    return _found(zone, endpoints, problems, answers, severity)


def _too_many(where: str, what: str, most: int, severity: str) -> Finding:
    why = "only these are asked, and resolvers ask no more either"
    return Finding(where, f"more than {most} {what}", why, "Take some of them out", severity)


def _found(
    zone: str, endpoints: Iterable[tuple[str, int, bool]], problems: list[Finding], answers: Answers, severity: str
) -> Authorities:
    found: dict[str, Server] = {}
    for host, port, is_address in endpoints:
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
    servers = tuple(found.values())
    if len(servers) > MAX_ADDRESSES:
        problems.append(_too_many(f"servers of zone {zone}", "addresses", MAX_ADDRESSES, severity))
    return Authorities(servers[:MAX_ADDRESSES], tuple(problems))


@functools.lru_cache(maxsize=1024)  # thousands of zones share a few servers
def _endpoint(text: str) -> tuple[str, int, bool]:
    """Host, port, and whether the host is an address. Raises ValueError."""
    host, port = names.endpoint(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host, port, False
    return host, port, True
