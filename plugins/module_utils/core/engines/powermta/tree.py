# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PowerMTA configuration by name: read once, so that each rule looks up what it needs instead of searching for it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import values
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import (
    Directive,
    Node,
    Place,
    Section,
    unquoted,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.table import GLOBAL, SECRETS
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import nearest, shown

DEFAULT_VMTA = "{default}"
TRUE = frozenset({"yes", "true"})
FALSE = frozenset({"no", "false"})

# Of these the first word may be shown, the others are secret; of the rest of SECRETS nothing.
FIRST_WORD = frozenset({"tls-certificate", "smtp-server-tls-certificate", "smtp-client-certificate", "server"})
_HIDDEN = "a value that is not shown"

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_MACRO = re.compile(r"\$(\w+)")
_MOST_NAMES = 1000  # of one pattern with its macros put in
_MOST_COMPARED = 20_000  # names for all hints together: a file of nothing but mistakes is answered in time too
_LONGEST_NAME = 253  # of a domain


@dataclass(frozen=True, eq=False)
class Scope:
    """A section, or the whole file (tag ``global``), with what stands in it by name in the order of the file."""

    tag: str
    argument: str
    place: Place
    parent: Optional[Scope]
    number: int  # of the section in the file, includes put in
    written: str = ""
    body: list[Directive | Scope] = field(default_factory=list)
    directives: dict[str, list[Directive]] = field(default_factory=dict)
    sections: dict[str, list[Scope]] = field(default_factory=dict)

    def all(self, name: str) -> list[Directive]:
        return self.directives.get(name, [])

    def last(self, name: str) -> Optional[Directive]:
        lines = self.directives.get(name)
        return lines[-1] if lines else None

    def value(self, name: str) -> str:
        """The value that counts, without quotes; empty where nothing says it."""
        line = self.last(name)
        return plain(line.value) if line else ""

    def is_true(self, name: str) -> bool:
        return self.value(name).lower() in TRUE

    def is_false(self, name: str) -> bool:
        return self.value(name).lower() in FALSE

    def __str__(self) -> str:
        return self.written or "the file"


@dataclass(frozen=True, eq=False)
class Tree:
    """The whole configuration: all scopes by tag, and the indexes that several rules share."""

    main: str
    top: Scope
    scopes: Mapping[str, list[Scope]]
    release: tuple[int, int]
    names: frozenset[str]
    whole: bool = True  # whether all that it includes was there to be read
    _effort: list[int] = field(default_factory=lambda: [_MOST_COMPARED])  # what is left for hints

    def of(self, tag: str) -> list[Scope]:
        """All sections of a kind, wherever they stand."""
        return self.scopes.get(tag, [])

    def hint(self, word: str, known: Iterable[str]) -> str:
        """``nearest``, as long as there are not too many mistakes."""
        names = list(known)
        if len(word) > _LONGEST_NAME or self._effort[0] < len(names):
            return ""
        self._effort[0] -= len(names)
        return nearest(word, names)

    def other_case(self, word: str, known: Iterable[str]) -> str:
        """The known name that differs in its capitals only, or nothing; within the same bounds."""
        names = list(known)
        if self._effort[0] < len(names):
            return ""
        lowered = word.lower()
        return next((name for name in names if name.lower() == lowered), "")

    @property
    def absent(self) -> str:
        """The severity of what is not there: it may stand in a file that could not be read."""
        return ERROR if self.whole else WARNING

    def everywhere(self) -> Iterator[Scope]:
        yield self.top
        for scopes in self.scopes.values():
            yield from scopes

    @cached_property
    def by_directive(self) -> Mapping[str, list[tuple[Scope, Directive]]]:
        found: dict[str, list[tuple[Scope, Directive]]] = {}
        for scope in self.everywhere():
            for name, lines in scope.directives.items():
                found.setdefault(name, []).extend((scope, line) for line in lines)
        return found

    def lines(self, name: str) -> list[tuple[Scope, Directive]]:
        """All lines of one directive with the scope that each stands in."""
        return self.by_directive.get(name, [])

    @cached_property
    def vmtas(self) -> Mapping[str, Scope]:
        return self.named("virtual-mta")

    @cached_property
    def pools(self) -> Mapping[str, Scope]:
        return self.named("virtual-mta-pool")

    def named(self, tag: str) -> Mapping[str, Scope]:
        """The sections of a kind by their names; of two with one name the first."""
        found: dict[str, Scope] = {}
        for scope in self.of(tag):
            found.setdefault(scope.argument, scope)
        return found

    @cached_property
    def members(self) -> Mapping[Scope, Mapping[str, Directive]]:
        """By pool, the line that names each member."""
        return {
            pool: {plain(line.value): line for line in reversed(pool.all("virtual-mta"))}
            for pool in self.of("virtual-mta-pool")
        }

    @cached_property
    def pools_of(self) -> Mapping[str, list[Scope]]:
        """By virtual MTA, the pools that it is a member of, or that keep it as a cold one."""
        found: dict[str, dict[Scope, None]] = {}
        for pool, members in self.members.items():
            for name in (*members, *(plain(line.value) for line in pool.all("cold-virtual-mta"))):
                found.setdefault(name, {})[pool] = None
        return {name: list(pools) for name, pools in found.items()}

    @cached_property
    def sources(self) -> Mapping[str, list[Scope]]:
        """Named sources, the reserved ones among them."""
        found: dict[str, list[Scope]] = {}
        for scope in self.of("source"):
            if network(scope.argument) is None:
                found.setdefault(scope.argument, []).append(scope)
        return found

    @cached_property
    def macros(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for line in self.top.all("domain-macro"):
            name, members = head(line.value)
            found[name] = tuple(each.strip() for each in members.split(",") if each.strip())
        return found

    @cached_property
    def _domains(self) -> dict[Scope, dict[str, list[Scope]]]:
        return {}

    @cached_property
    def _expanded(self) -> dict[str, tuple[str, ...]]:
        return {}

    def domains(self, scope: Scope) -> Mapping[str, list[Scope]]:
        """The domain sections of a scope by each pattern that they are for, macros put in."""
        held = self._domains.get(scope)
        if held is None:
            held = self._domains[scope] = {}
            for section in scope.sections.get("domain", []):
                for name in self.expanded(section.argument):
                    held.setdefault(name.lower(), []).append(section)
        return held

    def expanded(self, pattern: str) -> tuple[str, ...]:
        """The patterns that one with macros stands for; itself where its macros cannot be resolved."""
        if "$" not in pattern:
            return (pattern,)
        if pattern not in self._expanded:
            try:
                self._expanded[pattern] = values.expand_macros(self.macros, pattern)[:_MOST_NAMES] or (pattern,)
            except ValueError:
                self._expanded[pattern] = (pattern,)
        return self._expanded[pattern]

    def above(self, section: Scope) -> list[Scope]:
        """The scopes whose domain sections a domain section falls back to, its own first."""
        own = section.parent or self.top
        found = [own]
        if own.tag == "virtual-mta":
            found += self.pools_of.get(own.argument, [])
        return found if own is self.top else [*found, self.top]

    def effective(self, section: Scope, name: str) -> Optional[Directive]:
        """What a domain section says, or what it inherits: virtual MTA before pool before the whole file."""
        line = section.last(name)
        if line is not None:
            return line
        patterns = [general for each in self.expanded(section.argument) for general in wider(each.lower())]
        for scope in self.above(section):
            held = self.domains(scope)
            for pattern in patterns:
                for other in held.get(pattern, []):
                    line = other.last(name)
                    if line is not None:
                        return line
        return None


def build(
    nodes: Iterable[Node],
    main: str,
    release: tuple[int, int] = (5, 0),
    names: frozenset[str] = frozenset(),
    whole: bool = True,
) -> Tree:
    """The tree of the nodes of a document. Deep nesting costs no stack.

    ``release`` is of the PowerMTA that shall read it; ``names`` are virtual MTAs and pools that exist elsewhere.
    """
    top = Scope(GLOBAL, "", Place(main, 1), None, 0)
    scopes: dict[str, list[Scope]] = {}
    waiting: list[tuple[Scope, Iterator[Node]]] = [(top, iter(nodes))]
    number = 0
    while waiting:
        scope, rest = waiting[-1]
        for node in rest:
            if isinstance(node, Directive):
                scope.body.append(node)
                scope.directives.setdefault(node.key, []).append(node)
            elif isinstance(node, Section):
                number += 1
                argument = plain(node.argument)
                told = harmless_argument(node.key, argument)
                written = f"<{node.tag} {told}>" if told else f"<{node.tag}>"
                inner = Scope(node.key, argument, node.place, scope, number, written)
                scope.body.append(inner)
                scope.sections.setdefault(node.key, []).append(inner)
                scopes.setdefault(node.key, []).append(inner)
                waiting.append((inner, iter(node.body)))
                break
        else:
            waiting.pop()
    return Tree(main, top, scopes, release, names, whole)


def plain(value: str) -> str:
    """A value without its quotes; as it stands where they are broken."""
    if not value.startswith('"'):
        return value
    try:
        return unquoted(value)
    except ValueError:
        return value


def head(value: str) -> tuple[str, str]:
    """The first word, and what follows it."""
    first, *rest = value.split(None, 1) or ("",)
    return first, rest[0] if rest else ""


def wider(domain: str) -> tuple[str, ...]:
    """The patterns that a domain, or the pattern of a domain, falls under, the closest first."""
    if len(domain) > _LONGEST_NAME:
        return (domain, "*")
    labels = bare(domain).split(".")
    found = [domain, f"[*.]{bare(domain)}"]
    for cut in range(1, len(labels)):
        parent = ".".join(labels[cut:])
        found += [f"*.{parent}", f"[*.]{parent}"]
    return (*found, "*")


def parents(domain: str) -> Iterator[str]:
    """A domain and the domains above it."""
    while domain and len(domain) <= _LONGEST_NAME:
        yield domain
        domain = domain.partition(".")[2]


@lru_cache(maxsize=4096)
def network(text: str) -> Optional[values.Network]:
    """The network that an address or a CIDR names, or None."""
    try:
        given = values.network(text)
    except ValueError:
        return None
    if given.version == 6 and given.subnet_of(_MAPPED):  # clients over IPv4, as a socket for both sees them
        return ipaddress.ip_network((int(given.network_address) & 0xFFFFFFFF, given.prefixlen - 96))
    return given


def bare(pattern: str) -> str:
    """A pattern without what stands for subdomains."""
    return pattern[4:] if pattern.startswith("[*.]") else pattern[2:] if pattern.startswith("*.") else pattern


def macros_in(pattern: str) -> list[str]:
    return _MACRO.findall(pattern)


def where(place: Scope | Directive) -> str:
    name = place.name if isinstance(place, Directive) else str(place)
    name = name if len(name) <= 80 else name[:77] + "..."
    return f"{place.place}: {name}"


def harmless_argument(tag: str, argument: str) -> str:
    """What a finding may show of a section's argument: no password that stands there by mistake."""
    if tag in SECRETS:
        return _HIDDEN if argument else ""
    return head(argument)[0] if tag == "smtp-user" else argument


def harmless(line: Directive) -> str:
    """What a finding may show of a line's value: nothing of a secret."""
    if line.key in FIRST_WORD:
        return shown(head(line.value)[0])
    if line.key in SECRETS:
        return _HIDDEN
    if line.key == "smtp-hosts":
        return shown(re.sub(r"(?<![^\s,;])[^\s,;]*@", "", line.value) or None)
    if "://" in line.value:
        return shown(re.sub(r"//[^/@\s]*@", "//", line.value))
    return shown(line.value or None)


def on(
    place: Scope | Directive,
    why: str,
    remedy: str,
    *,
    severity: str = ERROR,
    found: str = "",
) -> Finding:
    """A finding about a line or a section. ``found`` without words is what the line says."""
    said = found or (
        harmless(place)
        if isinstance(place, Directive)
        else shown(harmless_argument(place.tag, place.argument) or "this section")
    )
    return Finding(where(place), said, why, remedy, severity)
