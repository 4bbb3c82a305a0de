# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A DNS service in memory: the reference of what a provider does, and the stand-in of tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES, Limits
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Provider,
)

_STORE: dict[str, MemoryZone] = {}


class MemoryZone(Provider):
    """One zone, and what was done to it. ``fault`` is called before and after each commit and may raise."""

    def __init__(self, sets: Iterable[RecordSet] = (), limits: Optional[Limits] = None) -> None:
        self.state: dict[Key, RecordSet] = {each.key: each for each in sets}
        self.limits = limits or SERVICES["memory"].limits
        self.writes: list[tuple[Change, ...]] = []
        self.reads = 0
        self.fault: Callable[[str], None] = lambda moment: None

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        self.fault("read")
        self.reads += 1
        if names is None:
            return dict(self.state)
        return {key: each for key, each in self.state.items() if each.name in names}

    def cost(self, change: Change) -> int:
        return sum(
            len(value) + len(each.name) + 32 for each in (change.before, change.after) if each for value in each.values
        )

    def write(self, changes: Sequence[Change]) -> None:
        self.fault("before")
        for change in changes:
            if self.state.get(change.key) != change.before:
                raise Conflict(f"{change.key[0]} {change.key[1]} was changed by somebody else")
        self.state = plan.apply(self.state, changes)
        self.writes.append(tuple(changes))
        self.fault("after")

    def close(self) -> None:
        """Nothing is open."""


def open_zone(access: Access) -> MemoryZone:
    """The zone of this name in this process, made where it is missing."""
    return _STORE.setdefault(access.zone, MemoryZone())
