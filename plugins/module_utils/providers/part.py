# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one read of a zone is about: a few names, asked one by one, or the whole zone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Optional, Protocol, TypeVar

from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Key, RecordSet

Held = TypeVar("Held")


class Record(Protocol):
    """One record of a service that gives each record a number and a TTL of its own."""

    @property
    def value(self) -> str: ...

    @property
    def ttl(self) -> int: ...


class Part:
    """Iterates over the names to ask for: those of a read, or None, once, for the whole zone."""

    def __init__(self, names: Optional[Collection[str]], few: int) -> None:
        """``few``: the most names for which single requests cost less than the pages of the whole zone."""
        self.names = frozenset(names) if names is not None and len(names) <= few else None

    def __iter__(self) -> Iterator[Optional[str]]:
        yield from [None] if self.names is None else sorted(self.names)

    def inside(self, held: Mapping[Key, Held]) -> dict[Key, Held]:
        """What is held of this part: the answer to the read."""
        return {key: each for key, each in held.items() if self.names is None or key[0] in self.names}

    def outside(self, held: Mapping[Key, Held]) -> dict[Key, Held]:
        """What stays known while this part is read again."""
        return {key: each for key, each in held.items() if self.names is not None and key[0] not in self.names}


def record_sets(held: Mapping[Key, Mapping[Any, Record]]) -> dict[Key, RecordSet]:
    """Records by their numbers, as record sets. Where TTLs differ, the lowest counts (RFC 2181 5.2)."""
    return {
        key: RecordSet.of(*key, min(each.ttl for each in some.values()), (each.value for each in some.values()))
        for key, some in held.items()
        if some
    }
