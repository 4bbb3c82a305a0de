# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a PowerMTA configuration for people: what was read, what is wrong, what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.mailops.mta.plugins.module_utils.core import tables
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import Document
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.tree import build
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, Finding

# What is counted, and what it is called.
_COUNTED = {
    "virtual_mtas": "virtual-mta",
    "pools": "virtual-mta-pool",
    "sources": "source",
    "domains": "domain",
    "users": "smtp-user",
}


def counts(document: Document, files: Mapping[str, str], main: str) -> dict[str, int]:
    """How much was checked."""
    tree = build(document.nodes, main)
    return {
        "files": len(files),
        "lines": sum(len(each.splitlines()) for each in files.values()),
        "directives": sum(len(lines) for lines in tree.by_directive.values()),
        **{name: len(tree.of(tag)) for name, tag in _COUNTED.items()},
    }


def lines(findings: Sequence[Finding], files: Mapping[str, str], counted: Mapping[str, int]) -> list[str]:
    """One row for each file, the findings in the order of the files, what to do next, and a verdict."""
    errors = sum(finding.severity == ERROR for finding in findings)
    rows = [(path, str(len(each.splitlines())), *_found_in(path, findings)) for path, each in files.items()]
    return [
        *(tables.columns(("file", "lines", "errors", "warnings"), rows) if rows else ["nothing was read"]),
        "",
        *(f"{number}. {finding}" for number, finding in enumerate(findings, 1)),
        f"Next: {_next(errors, len(findings) - errors)}",
        f"{_count(counted['virtual_mtas'], 'virtual MTA')} in {_count(counted['pools'], 'pool')}, "
        f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}",
    ]


def _found_in(path: str, findings: Sequence[Finding]) -> tuple[str, str]:
    here = [finding for finding in findings if finding.where.startswith(f"{path}:") or finding.where == path]
    errors = sum(finding.severity == ERROR for finding in here)
    return str(errors), str(len(here) - errors)


def _next(errors: int, warnings: int) -> str:
    if errors:
        return "correct the errors, then check again; do not reload PowerMTA before."
    if warnings:
        return "read the warnings, then pmta test config and pmta reload."
    return "pmta test config, for only PowerMTA itself knows all that it refuses; then pmta reload."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
