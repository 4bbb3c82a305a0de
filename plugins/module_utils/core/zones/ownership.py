# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a zone remembers of its owners: hashes of the values that each of them wrote, and what is to become of them.

They stand in TXT records at ``_mailops.<zone>`` and, where they are many, at ``_mailops-<hex digits>.<zone>``; so they
outlive every controller and need no second store. One value there belongs to one owner and reads
``v=mailops1; f=<owner>; h=<hashes>; l=<hash and day, ...>; p=<hashes>``: ``h`` stand and are declared, ``l`` stand and
nothing declares them since that day (days since 1970), ``p`` were about to be written.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet, State
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import UNLIMITED, Limits
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.txt import encode

TTL = 300
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_LABEL = re.compile(r"_mailops(?:-[0-9a-f]{1,3})?\Z")
_VALUE = re.compile(r"v=mailops1; f=([^;]+); h=([A-Za-z0-9_-]*)(?:; l=([A-Za-z0-9_-]*))?(?:; p=([A-Za-z0-9_-]*))?\Z")
_HASH_BYTES = 8
_DAY_BYTES = 2
_sha256 = hashlib.sha256
# A value holds about this many hashes at most, 7 kB: old and new together must fit one DNS message many times over.
_IN_ONE_VALUE = 512
_BYTES_EACH = (_HASH_BYTES + _DAY_BYTES) * 4 / 3
_BYTES_BESIDE = 120


def mark(key: Key, value: str) -> bytes:
    """The hash that stands for one value of one record set."""
    return _sha256(f"{key[0]}\0{key[1]}\0{value}".encode("utf-8", "surrogateescape")).digest()[:_HASH_BYTES]


def is_manifest(name: str, zone: str) -> bool:
    label, _dot, rest = name.partition(".")
    return rest == zone and _LABEL.match(label) is not None


def names(zone: str, digits: int) -> list[str]:
    """Where a manifest stands that is split by ``digits`` hex digits."""
    if not digits:
        return [f"_mailops.{zone}"]
    return [f"_mailops-{number:0{digits}x}.{zone}" for number in range(16**digits)]


@dataclass(frozen=True)
class Marks:
    """The hashes of one owner. No hash is in two of the three."""

    settled: frozenset[bytes] = frozenset()
    leaving: Mapping[bytes, int] = field(default_factory=dict)  # since which day
    pending: frozenset[bytes] = frozenset()

    @cached_property
    def all(self) -> frozenset[bytes]:
        return self.settled | self.pending | frozenset(self.leaving)


@dataclass(frozen=True)
class Manifest:
    """Whose values the zone holds, as far as it says so."""

    mine: Marks
    others: frozenset[bytes]
    labels: frozenset[int] = frozenset()  # how many hex digits the names have under which it stands
    is_far: bool = False  # somebody's list is split by so many digits that it is found with the whole zone only

    @property
    def ours(self) -> frozenset[bytes]:
        return self.mine.all

    @classmethod
    def read(cls, state: State, zone: str, owner: str) -> Manifest:
        settled: set[bytes] = set()
        pending: set[bytes] = set()
        leaving: dict[bytes, int] = {}
        others: set[bytes] = set()
        digits: set[int] = set()
        is_far = False
        for record_set in _sets(state, zone):
            for value in record_set.values:
                found = _VALUE.match(value)
                if not found:
                    continue
                days = _dated(found.group(3))
                is_far = is_far or not any(found.group(2, 3, 4))
                if found.group(1) == owner:
                    digits.add(_digits_of(record_set.name))
                    settled.update(_cut(found.group(2), _HASH_BYTES))
                    leaving.update(days)
                    pending.update(_cut(found.group(4), _HASH_BYTES))
                else:
                    for some in (_cut(found.group(2), _HASH_BYTES), days, _cut(found.group(4), _HASH_BYTES)):
                        others.update(some)
        # A run that was killed between two writes may leave a hash in two places.
        settled -= leaving.keys()
        mine = Marks(frozenset(settled), leaving, frozenset(pending - settled - leaving.keys()))
        return cls(mine, frozenset(others), frozenset(digits), is_far)

    def holds(self, marks: Marks, limits: Limits) -> bool:
        """Whether it says ``marks`` already, where it should."""
        digits = _digits(len(marks.all), limits)
        return marks == self.mine and self.labels <= ({0, digits} if digits > 1 else {digits})


def changes(
    state: State, zone: str, owner: str, marks: Marks, limits: Limits = UNLIMITED, *, keep: bool = False
) -> list[Change]:
    """What makes the zone's manifest of ``owner`` hold ``marks``. With ``keep``, values under other names stay."""
    wanted = {name: _text(owner, marks, some) for name, some in _buckets(zone, marks.all, limits).items()}
    result = []
    for name in sorted({*wanted, *(record_set.name for record_set in _sets(state, zone))}):
        before = state.get((name, "TXT"))
        had = before.values if before else ()
        if name in wanted and had == (wanted[name],):
            continue
        foreign = [value for value in had if not _is_of(value, owner)]
        if name in wanted:
            values = [*foreign, wanted[name]]
        elif keep:
            continue
        else:
            values = foreign
        ttl = before.ttl if before else limits.ttl(TTL)
        after = RecordSet.of(name, "TXT", ttl, values) if values else None
        if after != before:
            result.append(Change(before, after))
    # What takes hashes over comes before what gives them away, so that a run that is killed forgets none.
    return sorted(result, key=lambda change: change.key[0] not in wanted)


def describe(value: str) -> str:
    """A manifest value for people: whose it is and how many values it lists."""
    found = _VALUE.match(value)
    if not found:
        return value
    count = [
        len(_cut(found.group(2), _HASH_BYTES)),
        len(_dated(found.group(3))),
        len(_cut(found.group(4), _HASH_BYTES)),
    ]
    return f"{sum(count)} value(s) of {found.group(1)}, {count[1]} of them leaving ({_short(value)})"


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


def _digits_of(name: str) -> int:
    label = name.partition(".")[0]
    return len(label.partition("-")[2])


def _digits(count: int, limits: Limits) -> int:
    """By how many digits so many hashes are split. Some buckets get more than others: a quarter of the room is left."""
    room = min(_IN_ONE_VALUE, int((limits.txt_max - _BYTES_BESIDE) / _BYTES_EACH))
    digits = 0
    while digits < 3 and count > (room if not digits else room * 16**digits * 3 // 4):
        digits += 1
    return digits


def _buckets(zone: str, marks: Iterable[bytes], limits: Limits) -> dict[str, list[bytes]]:
    """By the first hex digits of the hashes."""
    listed = list(marks)
    digits = _digits(len(listed), limits)
    result: dict[str, list[bytes]] = {}
    for each in listed:
        label = f"_mailops-{each.hex()[:digits]}" if digits else "_mailops"
        result.setdefault(f"{label}.{zone}", []).append(each)
    if digits > 1:
        result.setdefault(f"_mailops.{zone}", [])  # tells whoever looks at few names that there is more
    return result


def _text(owner: str, marks: Marks, some: Iterable[bytes]) -> str:
    listed = sorted(some)
    text = f"v=mailops1; f={owner}; h={_base64(each for each in listed if each in marks.settled)}"
    leaving = [each + marks.leaving[each].to_bytes(_DAY_BYTES, "big") for each in listed if each in marks.leaving]
    if leaving:
        text += f"; l={_base64(leaving)}"
    pending = [each for each in listed if each in marks.pending]
    if pending:
        text += f"; p={_base64(pending)}"
    return text


def _base64(parts: Iterable[bytes]) -> str:
    return base64.urlsafe_b64encode(b"".join(parts)).decode("ascii").rstrip("=")


def _cut(text: Optional[str], size: int) -> list[bytes]:
    """What ``_base64`` joined; none where it is cut off in a way that cannot be read."""
    if not text:
        return []
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return []
    return [data[start : start + size] for start in range(0, len(data) - size + 1, size)]


def _dated(text: Optional[str]) -> dict[bytes, int]:
    return {
        each[:_HASH_BYTES]: int.from_bytes(each[_HASH_BYTES:], "big") for each in _cut(text, _HASH_BYTES + _DAY_BYTES)
    }
