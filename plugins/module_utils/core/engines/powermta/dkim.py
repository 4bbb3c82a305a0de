# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM keys in a PowerMTA configuration: the files that name them, and which key signs for a domain.

PowerMTA takes the first line ``domain-key`` whose domain is the message's or one above it; lines of a virtual MTA or a
pool come before those of the whole file. So that no stream can sign for another one, none of our lines is one of the
whole file: each domain has a file, which the virtual MTAs of its stream include.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.fragments import BANNER
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.fragments import DKIM as FRAGMENT
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.slices import KEYS_END, keys_file
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import (
    Blank,
    Directive,
    Node,
    parse,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.tree import (
    TRUE,
    Scope,
    Tree,
    parents,
    plain,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.writing import directive, remark, text
from ansible_collections.mailops.mta.plugins.module_utils.core.model import RSA

_DIRECTIVE = "domain-key"
_ANY = "*"
_LEFT = re.compile(r"# left the fleet on ([0-9]{4}-[0-9]{2}-[0-9]{2})\Z")
_STATE = re.compile(r"# state ([0-9]{1,16}) of the key store\Z")
_BY_FROM = frozenset({"sender-or-from", "strict-from"})


@dataclass(frozen=True)
class Reference:
    """A line ``domain-key``. One that cannot be read has the domain ``*`` and no file."""

    selector: str
    domain: str
    path: str
    place: str = field(default="", compare=False)
    scope: str = field(default="", compare=False)  # the section that it stands in
    left: Optional[date] = field(default=None, compare=False)  # the day on which its domain left the fleet


@dataclass(frozen=True)
class Keys:
    """What the fragment and the files of the domains say."""

    serial: Optional[int]  # of the state of the key store; None: it tells none
    references: tuple[Reference, ...] = ()
    files: tuple[str, ...] = ()  # names of the files of domains


def domain_keys(
    keys: Iterable[SigningKey],
    serial: int,
    directory: str,
    domains: Iterable[str] = (),
    staying: Iterable[Reference] = (),
    files: Iterable[str] = (),
) -> dict[str, str]:
    """The files for these keys, which lie in ``directory``, by name. Raises ValueError.

    ``domains`` without a key have a file as well, and ``files`` that are there stay, because virtual MTAs may include
    them. ``staying`` has the lines of domains that left.
    """
    chosen: dict[str, SigningKey] = {}
    for key in sorted(set(keys)):
        if key.algorithm != RSA:
            raise ValueError(f"{key.file}: PowerMTA signs with RSA keys alone, and this one is {key.algorithm}")
        if key.domain in chosen:
            other = chosen[key.domain].selector
            raise ValueError(f"{key.file}: PowerMTA signs with one key of a domain, and {other} is to sign as well")
        chosen[key.domain] = key
    lines = {one.domain: one for one in staying}
    lines.update(
        {key.domain: Reference(key.selector, key.domain, f"{directory}/{key.file}") for key in chosen.values()}
    )
    return {
        FRAGMENT: text([remark(f"state {serial} of the key store")]),
        **dict.fromkeys((*map(keys_file, domains), *files), without_keys()),
        **{keys_file(one.domain): text([remark(BANNER), *_lines(one)]) for one in lines.values()},
    }


def without_keys() -> str:
    """The file of a domain that has no key yet."""
    return text([remark(BANNER)])


def _lines(one: Reference) -> Iterator[Node]:
    if one.left:
        yield remark(f"left the fleet on {one.left.isoformat()}")
    yield directive(_DIRECTIVE, f"{one.selector},{one.domain},{one.path}")


def staying(before: Keys, domains: Iterable[str], today: date, days: int) -> tuple[Reference, ...]:
    """The lines of domains that left the fleet and whose mail may still wait here.

    PowerMTA signs as it delivers, so mail that was taken before would leave unsigned. Their records stay in DNS for as
    long (dns_records, retire_after_days).
    """
    wanted = set(domains)
    gone = (replace(one, left=one.left or today) for one in before.references if one.domain not in wanted)
    return tuple(one for one in gone if one.left and (today - one.left).days < days)


def installed(files: Mapping[str, str]) -> Keys:
    """What the files that `domain_keys` made say, among the others of a set. Raises ValueError where they tell no
    state."""
    if FRAGMENT not in files:
        return Keys(None)
    nodes = parse(files[FRAGMENT], FRAGMENT).nodes
    states = [found for node in nodes if isinstance(node, Blank) for found in [_STATE.match(node.text)] if found]
    if len(states) != 1:
        raise ValueError("it does not tell which state of the key store it is of")
    held = tuple(sorted(name for name in files if name.endswith(KEYS_END)))
    references = (one for name in held for one in _references(files[name], name))
    return Keys(int(states[0].group(1)), tuple(references), held)


def _references(written: str, name: str) -> Iterator[Reference]:
    left = None
    for node in parse(written, name).nodes:
        if isinstance(node, Directive) and node.key == _DIRECTIVE:
            yield replace(reference(node), left=left and date.fromisoformat(left.group(1)))
        left = _LEFT.match(node.text) if isinstance(node, Blank) else None


def reference(line: Directive, scope: str = "") -> Reference:
    parts = [plain(part.strip(" \t")) for part in plain(line.value).split(",", 2)]
    if len(parts) != 3 or not all(parts):
        return Reference("", _ANY, "", str(line.place), scope)
    return Reference(parts[0].lower(), _canonical(parts[1]), parts[2], str(line.place), scope)


def _canonical(domain: str) -> str:
    try:
        return domain if domain == _ANY else names.to_ascii(domain)
    except ValueError:
        return domain.lower()


class Choice:
    """Which key signs for a domain, in a whole configuration."""

    def __init__(self, tree: Tree) -> None:
        found: dict[Scope, list[Reference]] = {}
        for scope, line in tree.lines(_DIRECTIVE):
            found.setdefault(scope, []).append(reference(line, str(scope)))
        self._general = _by_domain(found.pop(tree.top, []))
        self._special = [_by_domain(references) for references in found.values()]

    def of(self, domain: str) -> Reference:
        """The one key that signs, whatever virtual MTA of its stream a message takes. Raises ValueError where there is
        none, or another.

        A section that names no key of the domain is another stream's, which cannot send for this one.
        """
        special = [lines for lines in self._special if domain in lines or _ANY in lines]
        found = [one for lines in (*special, self._general) for one in [_first(lines, domain)] if one is not None]
        if not found:
            above = next((one for lines in self._special for one in [_first(lines, domain)] if one is not None), None)
            if above is None:
                raise ValueError(f"no line {_DIRECTIVE} fits it, so its mail leaves unsigned")
            found = [above]
        chosen = found[0]
        for other in found[1:]:
            if other != chosen:
                raise ValueError(f"{other.scope} has another key for it at {other.place}")
        if chosen.domain != domain:
            raise ValueError(f"its mail is signed for {chosen.domain} by the key at {chosen.place}")
        return chosen


Lines = Mapping[str, tuple[int, Reference]]  # by domain: the first line of it, and how many lines are before that


def _by_domain(references: Sequence[Reference]) -> Lines:
    lines: dict[str, tuple[int, Reference]] = {}
    for number, one in enumerate(references):
        lines.setdefault(one.domain, (number, one))
    return lines


def _first(lines: Lines, domain: str) -> Optional[Reference]:
    found = [lines[name] for name in (*parents(domain), _ANY) if name in lines]
    return min(found, key=lambda entry: entry[0])[1] if found else None


def doubts(tree: Tree) -> list[str]:
    """Why the lines ``domain-key`` alone do not tell what signs; nothing, where they do."""
    found = []
    if not any(_is_true(line) for _scope, line in tree.lines("dkim-sign")):
        found.append("no section says 'dkim-sign yes', so mail leaves unsigned")
    for scope, line in tree.lines("dkim-identity"):
        if plain(line.value).lower() not in _BY_FROM:
            found.append(f"{line.place}: {line.name} in {scope} has keys chosen by another domain than the sender's")
    for name, why in (
        ("second-dkim-sign", "has messages signed twice"),
        ("process-x-dkim-options", "lets whoever sends choose a key"),
        ("process-x-dkim-key", "lets whoever sends bring a key"),
    ):
        for scope, line in tree.lines(name):
            if plain(line.value).lower() not in ("no", "false"):
                found.append(f"{line.place}: {line.name} in {scope} {why}")
    return found


def _is_true(line: Directive) -> bool:
    return plain(line.value).lower() in TRUE
