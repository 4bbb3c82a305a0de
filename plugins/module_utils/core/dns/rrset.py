# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record sets in the one form that is compared, and what a change of one means."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt

Key = tuple[str, str]  # name, type

CREATE = "create"
UPDATE = "update"
DELETE = "delete"

# Types whose data are numbers and then one name.
_NAMED = {"CNAME": 0, "DNAME": 0, "NS": 0, "PTR": 0, "MX": 1, "SRV": 3}
_HEX = {"DS": 3, "SMIMEA": 3, "SSHFP": 2, "TLSA": 3}  # numbers, and then hex digits with or without spaces
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}\Z")  # what ipaddress would print; it takes eight times as long
_TYPE = re.compile(r"[A-Z][A-Z0-9-]*\Z")


def canonical_name(text: str) -> str:
    """A name as servers write it, lower case and without the final dot. Escapes stay."""
    return text[:-1].lower() if text.endswith(".") else text.lower()


def canonical(rtype: str, value: str) -> str:
    """``value`` in canonical form; two values are the same data exactly when these are equal. Raises ValueError.

    Types that are not known here are text with single spaces; TXT is the joined text, see txt.
    """
    if rtype == "TXT":
        return txt.parse(value)
    if rtype == "A":
        if _IPV4.match(value):
            return value
        return _address(ipaddress.IPv4Address, value, "IPv4")
    if rtype == "AAAA":
        return _address(ipaddress.IPv6Address, value, "IPv6")
    words = value.split()
    if rtype in _NAMED:
        count = _NAMED[rtype]
        numbers = words[:count]
        if len(words) != count + 1 or not all(
            each.isascii() and each.isdecimal() and int(each) < 65536 for each in numbers
        ):
            raise ValueError(f"{rtype} data are {count} number(s) below 65536 and a name" if count else "it is no name")
        return " ".join([*(str(int(word)) for word in words[:count]), canonical_name(words[count])]).rstrip(" ") or "."
    if rtype == "CAA" and len(words) > 2:
        text = value.split(None, 2)[2].strip()
        return f"{words[0]} {words[1].lower()} {txt.quote(txt.parse(text))}"
    if rtype in _HEX and len(words) > _HEX[rtype]:
        return " ".join([*words[: _HEX[rtype]], "".join(words[_HEX[rtype] :]).lower()])
    if rtype == "OPENPGPKEY":
        return "".join(words)
    if not words:
        raise ValueError("it is empty")
    return " ".join(words)


def _address(kind: Callable[[str], object], value: str, family: str) -> str:
    try:
        return str(kind(value.strip()))
    except ValueError as error:
        raise ValueError(f"it is no {family} address") from error


def as_read(rtype: str, value: str) -> str:
    """The canonical form of data that stand in a zone; the text itself where we would not write such data."""
    try:
        return canonical(rtype, value)
    except ValueError:
        return value


def declared(rtype: str, value: str) -> str:
    """The canonical form of a value that a person wrote: TXT without quotes is taken letter by letter."""
    if rtype == "TXT" and not (len(value) > 1 and value.startswith('"') and value.endswith('"')):
        return value
    return canonical(rtype, value)


def presentation(rtype: str, value: str) -> str:
    """A canonical value as zone files and services take it: TXT cut and quoted, names with their final dot."""
    if rtype == "TXT":
        return txt.quote(value)
    if rtype in _NAMED and not value.endswith("."):
        numbers = value.count(" ") + 1 == _NAMED[rtype]
        return f"{value} ." if numbers else f"{value}."
    return value


class RecordSet(NamedTuple):
    """All values of one name and type. Values are canonical and sorted.

    A tuple, because zones hold thousands and making one costs a third of what a frozen dataclass costs.
    """

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]

    @classmethod
    def of(cls, name: str, rtype: str, ttl: int, values: Iterable[str]) -> RecordSet:
        listed = tuple(values)
        return cls(name, rtype, ttl, listed if len(listed) == 1 else tuple(sorted(set(listed))))

    @property
    def key(self) -> Key:
        return self[:2]

    def lines(self) -> list[str]:
        """For people, one value a line."""
        return [f"{self.name} {self.ttl} {self.type} {presentation(self.type, value)}" for value in self.values]


State = Mapping[Key, RecordSet]  # a zone as read, SOA left out


class Change(NamedTuple):
    """What happens to one record set. ``before`` and ``after`` are never both None."""

    before: Optional[RecordSet]
    after: Optional[RecordSet]

    @property
    def key(self) -> Key:
        some = self.after or self.before
        if some is None:
            raise ValueError("a change needs a record set")
        return some[:2]

    @property
    def action(self) -> str:
        if self.before is None:
            return CREATE
        return DELETE if self.after is None else UPDATE

    @property
    def removed(self) -> tuple[str, ...]:
        kept = set(self.after.values) if self.after else set()
        return tuple(value for value in self.before.values if value not in kept) if self.before else ()

    @property
    def added(self) -> tuple[str, ...]:
        had = set(self.before.values) if self.before else set()
        return tuple(value for value in self.after.values if value not in had) if self.after else ()

    @property
    def retimed(self) -> bool:
        return bool(self.before and self.after and self.before.ttl != self.after.ttl)


def check_type(rtype: str) -> Optional[str]:
    """Why ``rtype`` cannot be managed, or None."""
    if not _TYPE.match(rtype):
        return "a record type is written in capitals, such as TXT"
    if rtype in ("SOA", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY"):
        return "this type belongs to the server of the zone"
    return None
