# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a zone remembers of its owners: hashes of the values that each of them wrote.

They stand in TXT records at ``_mailops.<zone>`` and, where they are many, at ``_mailops-<hex digits>.<zone>``; so they
outlive every controller and need no second store. One value there belongs to one owner.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ansible_collections.mailops.mta.plugins.module_utils.core.records import Change, Key, RecordSet, State
from ansible_collections.mailops.mta.plugins.module_utils.core.txt import encode

TTL = 300
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_LABEL = re.compile(r"_mailops(?:-[0-9a-f]{1,3})?\Z")
_VALUE = re.compile(r"v=mailops1; f=([^;]+); h=([A-Za-z0-9_-]*)\Z")
_HASH_BYTES = 8
# A value holds about this many hashes at most, 5.5 kB: old and new together must fit one DNS message many times over.
_IN_ONE_VALUE = 512


def mark(key: Key, value: str) -> bytes:
    """The hash that stands for one value of one record set."""
    return hashlib.sha256(encode("\0".join((*key, value)))).digest()[:_HASH_BYTES]


def is_manifest(name: str, zone: str) -> bool:
    label, _dot, rest = name.partition(".")
    return rest == zone and _LABEL.match(label) is not None


@dataclass(frozen=True)
class Manifest:
    """Whose values the zone holds, as far as it says so."""

    ours: frozenset[bytes]
    others: frozenset[bytes]

    @classmethod
    def read(cls, state: State, zone: str, owner: str) -> Manifest:
        ours: set[bytes] = set()
        others: set[bytes] = set()
        for record_set in _sets(state, zone):
            for value in record_set.values:
                found = _VALUE.match(value)
                if found:
                    (ours if found.group(1) == owner else others).update(_marks(found.group(2)))
        return cls(frozenset(ours), frozenset(others))


def changes(state: State, zone: str, owner: str, marks: Collection[bytes], *, keep: bool = False) -> list[Change]:
    """What makes the zone's manifest of ``owner`` hold ``marks``. With ``keep``, values under other names stay."""
    wanted = {name: _text(owner, some) for name, some in _buckets(zone, marks).items()}
    result = []
    for name in sorted({*wanted, *(record_set.name for record_set in _sets(state, zone))}):
        before = state.get((name, "TXT"))
        had = before.values if before else ()
        foreign = [value for value in had if not _is_of(value, owner)]
        if name in wanted:
            values = [*foreign, wanted[name]]
        elif keep:
            continue
        else:
            values = foreign
        ttl = before.ttl if before and foreign else TTL
        after = RecordSet.of(name, "TXT", ttl, values) if values else None
        if after != before:
            result.append(Change(before, after))
    return result


def describe(value: str) -> str:
    """A manifest value for people: whose it is and how many values it lists."""
    found = _VALUE.match(value)
    return f"{len(_marks(found.group(2)))} value(s) of {found.group(1)} ({_short(value)})" if found else value


def _short(value: str) -> str:
    return hashlib.sha256(encode(value)).hexdigest()[:8]


def _sets(state: State, zone: str) -> list[RecordSet]:
    return [
        record_set
        for key, record_set in state.items()
        if key[1] == "TXT" and key[0].startswith("_mailops") and is_manifest(key[0], zone)
    ]


def _is_of(value: str, owner: str) -> bool:
    found = _VALUE.match(value)
    return found is not None and found.group(1) == owner


def _buckets(zone: str, marks: Collection[bytes]) -> dict[str, list[bytes]]:
    digits = 0
    while digits < 3 and len(marks) > _IN_ONE_VALUE * 16**digits:
        digits += 1
    result: dict[str, list[bytes]] = {}
    for each in marks:
        label = f"_mailops-{each.hex()[:digits]}" if digits else "_mailops"
        result.setdefault(f"{label}.{zone}", []).append(each)
    return result


def _text(owner: str, marks: Iterable[bytes]) -> str:
    listed = base64.urlsafe_b64encode(b"".join(sorted(marks))).decode("ascii").rstrip("=")
    return f"v=mailops1; f={owner}; h={listed}"


def _marks(text: str) -> list[bytes]:
    """The hashes of a value; none where it is cut off in a way that cannot be read."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return []
    return [data[start : start + _HASH_BYTES] for start in range(0, len(data) - _HASH_BYTES + 1, _HASH_BYTES)]
