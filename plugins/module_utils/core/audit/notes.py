# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit knows while it judges, and what it has found so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.audit.subject import Zone
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import Answer, Answers, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.authorities import Server, ServerAnswers
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding

OK = "ok"
DRIFT = "drift"  # something else stands there
MISSING = "missing"
UNEQUAL = "unequal"  # some servers show it, others do not
UNKNOWN = "unknown"  # nobody could be asked, or the key host did not give the value
EXTERNAL = "external"  # not there yet, and the zone is somebody else's

DNS = "Run the playbook mailops.mta.dns"
AGAIN = "Make it answer, then audit again"
UNPROVEN = "what cannot be found out is not proven"


@dataclass(frozen=True)
class Fetched:
    """What a policy host served: ``body``, or else the ``problem``. ``expires``: its certificate, epoch seconds."""

    body: str = ""
    problem: str = ""
    expires: Optional[float] = None


RESOLVER = Server("", "the resolver")


@dataclass
class World:
    """``policies`` by domain: those that were fetched. ``now`` in epoch seconds."""

    resolver: Answers
    servers: ServerAnswers
    policies: Mapping[str, Fetched]
    now: float

    def ask(self, server: Server, name: str, rtype: str) -> Answer:
        if server is RESOLVER:
            return self.resolver.get(name, rtype)
        return self.servers.get(server.address, name, rtype)


@dataclass(frozen=True)
class Sample:
    """One value of a metric; audit_text prints it."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    value: float


@dataclass(frozen=True)
class Audit:
    states: Mapping[rrset.Key, str]
    findings: tuple[Finding, ...]
    samples: tuple[Sample, ...]


@dataclass
class Notes:
    """What has been found so far."""

    states: dict[rrset.Key, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    silent: list[tuple[Zone, Server, str]] = field(default_factory=list)  # servers that are no authority, and why
    answering: set[str] = field(default_factory=set)  # addresses
    stands: dict[Question, Answer] = field(default_factory=dict)  # declared record sets, as shown or as they should be

    def sample(self, metric: str, value: float, **labels: str) -> None:
        self.samples.append(Sample(metric, tuple(labels.items()), value))


def listed(values: Iterable[str]) -> str:
    return ", ".join(f"'{short(value)}'" for value in values) or "nothing"


def joined(labels: Iterable[str]) -> str:
    return ", ".join(labels)


def short(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
