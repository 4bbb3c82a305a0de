# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding: one thing that is wrong, where it stands, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.text import visible

ERROR = "error"
WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    r"""One thing that is wrong.

    ``where`` is a place the user knows: a path in the fleet file (``streams.bulk.port``), a record, a host.
    ``found`` and ``why`` say what is there and the reason it cannot stay; ``remedy`` says what to write or do.
    What prints as nothing, turns the line or breaks it is written out (``\n``), for values come from strangers.
    """

    where: str
    found: str
    why: str
    remedy: str
    severity: str = ERROR

    def __str__(self) -> str:
        return visible(f"{self.severity}: {self.where}: {self.found}: {self.why}. {self.remedy}.")

    def as_dict(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "where": visible(self.where),
            "found": visible(self.found),
            "why": visible(self.why),
            "remedy": visible(self.remedy),
        }


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that must stop the work."""
    return [finding for finding in findings if finding.severity == ERROR]


def report(findings: Iterable[Finding]) -> str:
    """All findings as text, errors first, one a line."""
    ordered = sorted(findings, key=lambda finding: (finding.severity != ERROR,))
    return "\n".join(f"  {number}. {finding}" for number, finding in enumerate(ordered, 1))
