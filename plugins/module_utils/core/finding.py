# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding: one thing that is wrong, where it stands, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.foreign import printable

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    r"""One thing that is wrong.

    ``where`` is a place the user knows: a path in the fleet file (``streams.bulk.port``), a record, a host.
    ``found`` and ``why`` say what is there and the reason it cannot stay; ``remedy`` says what to write or do.
    All of them may quote what came from outside: this is where such text becomes fit for a terminal.
    """

    where: str
    found: str
    why: str
    remedy: str
    severity: str = ERROR

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, printable(getattr(self, field.name)))

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.found}: {self.why}. {self.remedy}."

    def as_dict(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "where": self.where,
            "found": self.found,
            "why": self.why,
            "remedy": self.remedy,
        }


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that must stop the work."""
    return [finding for finding in findings if finding.severity == ERROR]


def report(findings: Iterable[Finding]) -> str:
    """All findings as text, errors first, one a line."""
    ordered = sorted(findings, key=lambda finding: (finding.severity != ERROR,))
    return "\n".join(f"  {number}. {finding}" for number, finding in enumerate(ordered, 1))
