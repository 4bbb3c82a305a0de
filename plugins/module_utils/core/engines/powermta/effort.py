# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of PowerMTA fragments against another: what a running PowerMTA must do to go from one to the other.

A '#' begins a comment wherever it stands, so a line without what follows it is what PowerMTA reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import NOTHING, RELOAD, RESTART
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.table import (
    SECRETS,
    SECRETS_AFTER_A_WORD,
)

LOAD = "load"  # the set changes hands, PowerMTA reads it the next time it reads anything
START = "start"

_RESTART = ("run-as-root",)
_MONITOR = ("http-mgmt-port",)  # the monitor is a service of its own
_DOMAIN_RESTART = "type"  # of a domain: how its queued mail leaves


def effort(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, bool]:
    """(nothing | load | reload | restart, whether the monitor must restart), from the texts of two configurations."""
    if before == after:
        return NOTHING, False
    old, new = ({name: tuple(_lines(text)) for name, text in texts.items()} for texts in (before, after))
    old, new = ({name: lines for name, lines in texts.items() if lines} for texts in (old, new))
    if old == new:
        return LOAD, False
    monitor = _named(old, _MONITOR) != _named(new, _MONITOR)
    kinds = (_types(old), _types(new))
    moved = any(kinds[1].get(place, kind) != kind for place, kind in kinds[0].items())
    if moved or _named(old, _RESTART) != _named(new, _RESTART):
        return RESTART, monitor
    return RELOAD, monitor


def holds_secret(text: str) -> bool:
    """Whether a text has a directive whose value nobody else may see; of a file or a method, the word after it."""
    told = (line.lower().split(" ") for line in _lines(text))
    return any(words[0] in SECRETS and len(words) > (2 if words[0] in SECRETS_AFTER_A_WORD else 1) for words in told)


def virtual_mtas(text: str) -> set[str]:
    """The virtual MTAs of a text, in small letters."""
    return {line[13:].rstrip(">").strip().lower() for line in _lines(text) if line.lower().startswith("<virtual-mta ")}


def bound_addresses(text: str) -> set[str]:
    """The addresses from which the virtual MTAs of a text send."""
    hosts = (line.split(" ") for line in _lines(text) if line.lower().startswith("smtp-source-host "))
    return {words[1] for words in hosts if "/" not in words[1]}


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        read = " ".join(line.partition("#")[0].split())
        if read:
            yield read


def _named(texts: Mapping[str, Iterable[str]], directives: tuple[str, ...]) -> list[str]:
    return sorted(line for lines in texts.values() for line in lines if line.split(" ")[0].lower() in directives)


def _types(texts: Mapping[str, Iterable[str]]) -> dict[tuple[str, ...], str]:
    """By the sections around it, the type of each domain."""
    found: dict[tuple[str, ...], str] = {}
    for lines in texts.values():
        around: list[str] = []
        for line in lines:
            if line.startswith("</"):
                around = around[:-1]
            elif line.startswith("<"):
                around = [*around, line]
                if line.lower().startswith("<domain "):
                    found[tuple(around)] = "smtp"
            elif line.split(" ")[0].lower() == _DOMAIN_RESTART and around:
                found[tuple(around)] = line.partition(" ")[2].lower()
    return found
