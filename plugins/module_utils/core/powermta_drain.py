# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual MTAs that left the fleet: they stay, with all their settings, until no mail waits for them.

PowerMTA bounces queued mail whose virtual MTA is gone (5.3.5). So the first run after a removal takes what leads to a
virtual MTA and keeps the thing itself; a later run, which finds its queues empty, takes the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.powermta import BANNER, DRAINING
from ansible_collections.mailops.mta.plugins.module_utils.core.powermta_syntax import (
    Directive,
    Node,
    Section,
    directive,
    parse,
    remark,
    section,
    sections,
    text,
    values,
)

POOL_END = "-draining"  # no stream has a hyphen in its name, so this is no name of a pool of the fleet
_MEMBERS = ("virtual-mta", "cold-virtual-mta")
_WARM_UP = "max-cold-virtual-mta-msg"  # diverts nothing where there is no cold virtual MTA
_NAMED = ("rewrite-list", "smtp-pattern-list")  # what a pool or a domain in it may name
_MACRO = re.compile(r"\$([A-Za-z0-9_]+)")


@dataclass(frozen=True)
class Draining:
    """What of an old set stays beside the new one."""

    virtual_mtas: tuple[str, ...] = ()
    fragment: Optional[str] = None  # None: nothing stays


def draining(before: Mapping[str, str], after: Mapping[str, str], queued: Optional[Mapping[str, int]]) -> Draining:
    """What stays of the set ``before`` when ``after`` comes.

    ``queued`` counts the recipients that wait by virtual MTA; None where PowerMTA does not tell, and then all stays.
    """
    old = [(name, node) for name, content in before.items() for node in parse(content, name).nodes]
    new = [node for name, content in after.items() if name != DRAINING for node in parse(content, name).nodes]
    wanted = {one.argument for one in sections(new, "virtual-mta")}
    wanted.add("")  # a section that names nothing is nothing to keep
    kept: dict[str, Section] = {}
    for name, node in old:
        if not isinstance(node, Section) or node.key != "virtual-mta" or node.argument in wanted:
            continue
        if name != DRAINING or queued is None or queued.get(node.argument, 0):
            kept[node.argument] = node
    if not kept:
        return Draining()
    nodes = [node for _name, node in old]
    pools = list(_pools(nodes, kept))
    whole: list[Node] = [*kept.values(), *pools]
    return Draining(
        tuple(kept),
        text(
            [
                remark(BANNER),
                remark("These left the fleet and wait until their queues are empty. Nothing leads new mail to them."),
                *(_built(node) for node in [*_missing(whole, nodes, new), *whole]),
            ]
        ),
    )


def _pools(nodes: Sequence[Node], kept: Mapping[str, Section]) -> Iterator[Section]:
    """For each old pool that has some of them: its settings, with these members only.

    Members that left in different runs are in one pool, which has the settings that it had last.
    """
    members: dict[str, list[str]] = {}
    settings: dict[str, list[Node]] = {}
    for pool in sections(nodes, "virtual-mta-pool"):
        mine = [one.value for one in values(pool.body, "virtual-mta") if one.value in kept]
        if mine:
            drains = pool.argument.endswith(POOL_END)
            name = pool.argument if drains else f"{pool.argument}{POOL_END}"
            members.setdefault(name, []).extend(mine)
            rest = [node for node in pool.body if not (isinstance(node, Directive) and node.key in _MEMBERS)]
            if not drains or name not in settings:
                settings[name] = rest
    for name, mine in members.items():
        yield section("virtual-mta-pool", name, [*(directive("virtual-mta", one) for one in mine), *settings[name]])


def _missing(whole: Iterable[Node], old: Sequence[Node], new: Sequence[Node]) -> Iterator[Node]:
    """The lists and macros that they name and that the new set has no more."""
    named: set[tuple[str, str]] = set()
    for node in _everything(whole):
        if isinstance(node, Directive) and node.key in _NAMED:
            named.add((node.key, node.value))
        elif isinstance(node, Section) and node.key == "domain":
            named.update(("domain-macro", macro) for macro in _MACRO.findall(node.argument))
    there = {_name(node) for node in new}
    for node in old:
        name = _name(node)
        if name in named and name not in there:
            there.add(name)
            yield node


def _name(node: Node) -> tuple[str, str]:
    if isinstance(node, Section):
        return node.key, node.argument
    if isinstance(node, Directive) and node.key == "domain-macro":
        return node.key, node.value.split(" ")[0]
    return "", ""


def _everything(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        if isinstance(node, Section):
            yield from _everything(node.body)


def _built(node: Node) -> Node:
    """As it is printed in its new place, for mail that is there already."""
    if isinstance(node, Section):
        body = [one for one in node.body if not (isinstance(one, Directive) and one.key == _WARM_UP)]
        return section(node.tag, node.argument, [_built(one) for one in body])
    return replace(node, source=None)
