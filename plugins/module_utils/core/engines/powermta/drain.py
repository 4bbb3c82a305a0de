# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual MTAs that left the fleet: they stay, with all their settings, until no mail waits for them.

PowerMTA bounces queued mail whose virtual MTA is gone (5.3.5). So the first run after a removal takes what leads to a
virtual MTA and keeps the thing itself; a later run, which finds its queues empty, takes the rest. Whether PowerMTA
tells names by their case is not documented, so here they are compared without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.fragments import BANNER, DRAINING
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import (
    Directive,
    Node,
    Section,
    parse,
    sections,
    values,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.writing import (
    directive,
    remark,
    section,
    text,
)

POOL_END = "-draining"  # no stream has a hyphen in its name, so this is no name of a pool of the fleet
_POOL = "virtual-mta-pool"
_MEMBERS = ("virtual-mta", "cold-virtual-mta")
_WARM_UP = "max-cold-virtual-mta-msg"  # diverts nothing where there is no cold virtual MTA
_NAMED = ("rewrite-list", "smtp-pattern-list")  # what a pool or a domain in it may name
_REROUTES = ("reroute-to-virtual-mta", "backoff-reroute-to-virtual-mta")  # to a virtual MTA or a pool
_MACRO = re.compile(r"\$([A-Za-z0-9_]+)")


@dataclass(frozen=True)
class Draining:
    """What of an old set stays beside the new one."""

    virtual_mtas: tuple[str, ...] = ()
    fragment: Optional[str] = None  # None: nothing stays
    files: frozenset[str] = frozenset()  # the names of those that the fragment includes


def draining(before: Mapping[str, str], after: Mapping[str, str], queued: Optional[Mapping[str, int]]) -> Draining:
    """What stays of the set ``before`` when ``after`` comes.

    ``queued`` counts the recipients that wait by virtual MTA; None where PowerMTA does not tell, and then all stays.
    """
    old = [(name, node) for name, content in before.items() for node in parse(content, name).nodes]
    new = [node for name, content in after.items() if name != DRAINING for node in parse(content, name).nodes]
    waits = None if queued is None else {name.casefold() for name, recipients in queued.items() if recipients}
    gone = _gone(old, new)
    first = [key for key, (name, _one) in gone.items() if name != DRAINING or waits is None or key in waits]
    if not first:
        return Draining()
    nodes = [node for _file, node in old]
    kept = _with_targets(first, {key: one for key, (_file, one) in gone.items()}, nodes)
    whole: list[Node] = [*kept.values(), *_pools(nodes, kept)]
    there = {_name(node) for node in new}
    moved = {one.argument.casefold() for one in sections(nodes, _POOL) if _name(one) not in there}
    return Draining(
        tuple(one.argument for one in kept.values()),
        text(
            [
                remark(BANNER),
                remark("These left the fleet and wait until their queues are empty. Nothing leads new mail to them."),
                *(_built(node, moved) for node in [*_missing(whole, nodes, there), *whole]),
            ]
        ),
        frozenset(
            line.value.rpartition("/")[2]
            for line in _everything(whole)
            if isinstance(line, Directive) and line.key == "include"
        ),
    )


def _gone(old: Iterable[tuple[str, Node]], new: Sequence[Node]) -> dict[str, tuple[str, Section]]:
    """The virtual MTAs that only the old set has: file and section, by name without case."""
    wanted = {one.argument.casefold() for one in sections(new, "virtual-mta")}
    wanted.add("")  # a section that names nothing is nothing to keep
    return {
        node.argument.casefold(): (name, node)
        for name, node in old
        if isinstance(node, Section) and node.key == "virtual-mta" and node.argument.casefold() not in wanted
    }


def _with_targets(first: Iterable[str], gone: Mapping[str, Section], nodes: Sequence[Node]) -> dict[str, Section]:
    """These virtual MTAs, and all others that are gone to which their mail may be led away."""
    found = set(first)
    while True:
        kept = {name: one for name, one in gone.items() if name in found}
        targets = {
            line.value.casefold()
            for line in _everything([*kept.values(), *_pools(nodes, kept)])
            if isinstance(line, Directive) and line.key in _REROUTES
        }
        for pool in sections(nodes, _POOL):
            if {pool.argument.casefold(), _drained(pool.argument).casefold()} & targets:
                targets.update(one.value.casefold() for key in _MEMBERS for one in values(pool.body, key))
        more = (targets & set(gone)) - found
        if not more:
            return kept
        found |= more


def _pools(nodes: Sequence[Node], kept: Mapping[str, Section]) -> Iterator[Section]:
    """For each old pool that has some of them: its settings, with these members only.

    Members that left in different runs are in one pool, which has the settings that it had last.
    """
    members: dict[str, list[str]] = {}
    settings: dict[str, list[Node]] = {}
    for pool in sections(nodes, _POOL):
        mine = [one.value for one in values(pool.body, "virtual-mta") if one.value.casefold() in kept]
        if mine:
            name = _drained(pool.argument)
            members.setdefault(name, []).extend(mine)
            rest = [node for node in pool.body if not (isinstance(node, Directive) and node.key in _MEMBERS)]
            if name != pool.argument or name not in settings:
                settings[name] = rest
    for name, mine in members.items():
        yield section(_POOL, name, [*(directive("virtual-mta", one) for one in mine), *settings[name]])


def _drained(pool: str) -> str:
    return pool if pool.endswith(POOL_END) else f"{pool}{POOL_END}"


def _missing(whole: Iterable[Node], old: Sequence[Node], new: set[tuple[str, str]]) -> Iterator[Node]:
    """The lists and macros that they name and that the new set has no more. A macro may name another one."""
    named: set[tuple[str, str]] = set()
    for node in _everything(whole):
        if isinstance(node, Directive) and node.key in _NAMED:
            named.add((node.key, node.value.casefold()))
        elif isinstance(node, Section) and node.key == "domain":
            named.update(_macros(node.argument))
    texts = {_name(node): node.value for node in old if isinstance(node, Directive)}
    more = named
    while more:
        more = {macro for name in more for macro in _macros(texts.get(name, ""))} - named
        named = named | more
    there = set(new)
    for node in old:
        name = _name(node)
        if name in named and name not in there:
            there.add(name)
            yield node


def _macros(words: str) -> Iterator[tuple[str, str]]:
    return (("domain-macro", macro.casefold()) for macro in _MACRO.findall(words))


def _name(node: Node) -> tuple[str, str]:
    if isinstance(node, Section):
        return node.key, node.argument.casefold()
    if isinstance(node, Directive) and node.key == "domain-macro":
        return node.key, node.value.split(" ")[0].casefold()
    return "", ""


def _everything(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        if isinstance(node, Section):
            yield from _everything(node.body)


def _built(node: Node, moved: set[str]) -> Node:
    """As it is printed in its new place, for mail that is there already. ``moved``: pools that have another name."""
    if isinstance(node, Section):
        body = [one for one in node.body if not (isinstance(one, Directive) and one.key == _WARM_UP)]
        return section(node.tag, node.argument, [_built(one, moved) for one in body])
    if isinstance(node, Directive) and node.key in _REROUTES and node.value.casefold() in moved:
        return directive(node.name, _drained(node.value))
    return replace(node, source=None)
