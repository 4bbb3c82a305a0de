# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading of plain data into checked values: every wrong place becomes a finding, and reading goes on.

A reader stands at one place of the document. Its methods return the value in canonical form, or a stand-in (the
default, or None) after they noted a finding, so that one run shows everything that is wrong.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Callable, Optional, Union

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, Finding

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
EMPTY: tuple[Any, ...] = (None, "", [], {})  # values that count as not written
_LONGEST_WORD = 100  # that is compared: the comparison costs the square of its length
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}\Z")
_URL = re.compile(r"(https://[A-Za-z0-9\[]|mailto:[!#-+\--:<-?A-~]+@)[!#-+\--:<-~]+\Z")


def nearest(word: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'`` for the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1) if len(word) <= _LONGEST_WORD else []
    return f", did you mean '{close[0]}'" if close else ""


def shown(value: Any) -> str:
    """A value as the user wrote it, short."""
    text = "nothing" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Reader:
    """One mapping of the document, at ``path``."""

    def __init__(self, data: Mapping[str, Any], path: str, findings: list[Finding]) -> None:
        self.data = data
        self.path = path
        self.findings = findings

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def refuse(self, key: Optional[str], found: str, why: str, remedy: str, *, severity: str = ERROR) -> None:
        where = self.path if key is None else self.at(key)
        self.findings.append(Finding(where or "the file", found, why, remedy, severity))

    def known(self, keys: Sequence[str], hints: Optional[Mapping[str, str]] = None) -> None:
        """Refuse every key that is not in ``keys``; ``hints`` explains keys that people write often."""
        for key in self.data:
            if key in keys:
                continue
            hint = (hints or {}).get(str(key))
            self.refuse(
                str(key),
                "unknown key",
                hint or f"nothing reads it{nearest(str(key), keys)}",
                f"Use one of {', '.join(sorted(keys))}",
            )

    def has(self, key: str) -> bool:
        return self.data.get(key) not in EMPTY

    def require(self, key: str, what: str) -> bool:
        if self.has(key):
            return True
        self.refuse(key, "missing", f"{what} is needed", f"Write {key}")
        return False

    def mapping(self, key: str) -> Reader:
        """The mapping under ``key``; an empty one where it is absent or wrong."""
        value = self.data.get(key)
        if value in EMPTY:
            value = {}
        elif not isinstance(value, Mapping):
            self.refuse(key, shown(value), "a mapping is expected", f"Write {key} as 'name: value' pairs")
            value = {}
        return Reader(value, self.at(key), self.findings)

    def entries(self, key: str) -> list[tuple[str, Reader]]:
        """The entries of the mapping of mappings under ``key``."""
        outer = self.mapping(key)
        return [(str(name), outer.mapping(name)) for name in outer.data]

    def items(self, key: str) -> list[Any]:
        """The list under ``key``; a scalar counts as a list of one, as in the rest of Ansible."""
        value = self.data.get(key)
        if value in EMPTY:
            return []
        if isinstance(value, Mapping):
            self.refuse(key, shown(value), "a list is expected", f"Write {key} as a list")
            return []
        if isinstance(value, (list, tuple)):
            return list(value)
        return [value]

    def _each(self, key: str, read: Callable[[str, Any], Any], distinct: bool = True) -> tuple[Any, ...]:
        values = []
        for number, item in enumerate(self.items(key)):
            value = read(f"{key}[{number}]", item)
            if value is None:
                continue
            if distinct and value in values:
                self.refuse(f"{key}[{number}]", shown(item), "it stands there twice", "Remove one")
                continue
            values.append(value)
        return tuple(values)

    def text(self, key: str, default: Any = None) -> Any:
        value = self.data.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            self.refuse(key, shown(value), "a text is expected", f"Write {key} as a text")
            return default
        return str(value)

    def word(self, key: str, pattern: re.Pattern[str], what: str) -> Optional[str]:
        """A text that ``pattern`` matches."""
        value = self.text(key)
        if not value or pattern.match(value):
            return value or None
        self.refuse(key, shown(value), f"it is no {what}", f"Write a {what} that matches {pattern.pattern}")
        return None

    def boolean(self, key: str, default: Any = None) -> Any:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(key, shown(value), "true or false is expected", f"Write {key}: true or {key}: false")
            return default
        return value

    def url(self, key: str, schemes: Sequence[str]) -> Optional[str]:
        """A URL that can stand in a tag list: printable ASCII without spaces, commas and semicolons."""
        value = self.text(key)
        if not value:
            return None
        if not _URL.match(value) or value.partition(":")[0] not in schemes:
            self.refuse(
                key,
                shown(value),
                f"it is no {' or '.join(schemes)} URL of printable ASCII without spaces, commas and semicolons",
                f"Write a URL that begins with {schemes[0]}:",
            )
            return None
        return str(value)

    def choice(self, key: str, allowed: Sequence[str], default: Any = None) -> Any:
        value = self.text(key, default)
        if value is not None and value not in allowed:
            self.refuse(
                key,
                shown(value),
                f"it is none of {', '.join(allowed)}{nearest(str(value), allowed)}",
                f"Write one of {', '.join(allowed)}",
            )
            return default
        return value

    def choices(self, key: str, allowed: Sequence[str], default: tuple[str, ...]) -> tuple[str, ...]:
        def read(place: str, item: Any) -> Optional[str]:
            if item in allowed:
                return str(item)
            self.refuse(
                place,
                shown(item),
                f"it is none of {', '.join(allowed)}{nearest(str(item), allowed)}",
                f"Write one or more of {', '.join(allowed)}",
            )
            return None

        return self._each(key, read) or default

    def integer(self, key: str, low: int, high: int, default: Any = None) -> Any:
        value = self.data.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(key, shown(value), "a whole number is expected", f"Write a number from {low} to {high}")
            return default
        if not low <= value <= high:
            self.refuse(key, shown(value), f"it is not from {low} to {high}", f"Write a number from {low} to {high}")
            return default
        return value

    def day(self, key: str) -> Optional[str]:
        """A calendar day as 2026-11-01; YAML reads it as a date of its own."""
        value = self.data.get(key)
        if value is None:
            return None
        try:
            return date.fromisoformat(str(value)).isoformat()
        except ValueError:
            self.refuse(key, shown(str(value)), "it is no day", "Write it as 2026-11-01")
            return None

    def integers(self, key: str, low: int, high: int, distinct: bool = True) -> tuple[int, ...]:
        def read(place: str, value: Any) -> Optional[int]:
            if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
                return value
            wanted = f"whole number from {low} to {high}"
            self.refuse(place, shown(value), f"it is no {wanted}", f"Write a {wanted}")
            return None

        return self._each(key, read, distinct)

    def _name(self, place: str, value: Any) -> Optional[str]:
        if not isinstance(value, str):
            self.refuse(place, shown(value), "a domain name is expected", "Write a full domain name")
            return None
        try:
            name = names.to_ascii(value)
        except ValueError as error:
            self.refuse(place, shown(value), f"it is no legal domain name: {error}", "Write a legal domain name")
            return None
        problem = names.hostname_problem(name)
        if problem:
            self.refuse(place, shown(value), f"it is no legal host name: {problem}", "Write a full domain name")
            return None
        return name

    def domain(self, key: str, default: Optional[str] = None) -> Optional[str]:
        """A host or domain name in canonical form."""
        return self._name(key, self.data[key]) if self.has(key) else default

    def domains(self, key: str) -> tuple[str, ...]:
        return self._each(key, self._name)

    def _ip(self, place: str, value: Any) -> Optional[str]:
        try:
            parsed = ipaddress.ip_address(str(value).strip())
        except ValueError:
            self.refuse(place, shown(value), "it is no IP address", "Write one IPv4 or IPv6 address")
            return None
        mapped = names.mapped(parsed)
        if mapped:
            self.refuse(place, shown(value), "it is an IPv4 address in IPv6 form (RFC 4291 2.5.5.2)", f"Write {mapped}")
            return None
        if parsed.is_multicast or parsed.is_unspecified or parsed.is_loopback or parsed.is_link_local:
            self.refuse(place, shown(value), "it is no address that mail can come from", "Write a routable address")
            return None
        return str(parsed)

    def ip(self, key: str) -> Optional[str]:
        return self._ip(key, self.data[key]) if self.has(key) else None

    def ips(self, key: str) -> tuple[str, ...]:
        return self._each(key, self._ip)

    def networks(self, key: str) -> tuple[str, ...]:
        """Networks in CIDR form, none so wide that it would admit strangers."""

        def read(place: str, value: Any) -> Optional[str]:
            try:
                network: Network = ipaddress.ip_network(str(value).strip())
            except ValueError as error:
                self.refuse(place, shown(value), f"it is no network: {error}", "Write a network such as 10.0.0.0/8")
                return None
            if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
                first = names.mapped(network.network_address)
                plain = f"{first}/{network.prefixlen - _MAPPED.prefixlen}"
                why = "it is an IPv4 network in IPv6 form (RFC 4291 2.5.5.2)"
                self.refuse(place, shown(value), why, f"Write {plain}")
                return None
            if isinstance(network, ipaddress.IPv6Network) and _MAPPED.subnet_of(network):
                network = ipaddress.IPv4Network("0.0.0.0/0")  # which such a network admits as well
            if network.prefixlen < (8 if network.version == 4 else 16):
                self.refuse(
                    place,
                    shown(value),
                    "so wide a network makes an open relay",
                    "Write the networks of your own applications",
                )
                return None
            return str(network)

        return self._each(key, read)

    def mailboxes(self, key: str) -> tuple[str, ...]:
        """Mail addresses with the domain in canonical form; a leading mailto: is accepted and dropped."""

        def read(place: str, value: Any) -> Optional[str]:
            text = str(value)
            local, at, domain = (text[7:] if text.startswith("mailto:") else text).rpartition("@")
            if not at or not _MAILBOX.match(local):
                self.refuse(place, shown(value), "it is no mail address", "Write an address such as dmarc@example.com")
                return None
            name = self._name(place, domain)
            return f"{local}@{name}" if name else None

        return self._each(key, read)

    def texts(self, key: str, problem: Callable[[str], Optional[str]]) -> tuple[str, ...]:
        """Texts of printable ASCII with which ``problem`` finds nothing wrong."""

        def read(place: str, value: Any) -> Optional[str]:
            if not isinstance(value, str) or not value or not (value.isascii() and value.isprintable()):
                self.refuse(place, shown(value), "a text of printable ASCII is expected", "Write it in quotes")
                return None
            why = problem(value)
            if why:
                self.refuse(place, shown(value), why, "Correct it, or remove it")
                return None
            return value

        return self._each(key, read)

    def words(self, key: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
        def read(place: str, value: Any) -> Optional[str]:
            if isinstance(value, str) and pattern.match(value):
                return value
            self.refuse(place, shown(value), f"it is no {what}", f"Write a {what} that matches {pattern.pattern}")
            return None

        return self._each(key, read)
