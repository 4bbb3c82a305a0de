# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a PowerMTA configuration sends mail: names that lead nowhere or that nothing names, pools, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.access import listeners
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.rules import results
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import Directive, words
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.table import RESERVED_SOURCES
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.tree import (
    DEFAULT_VMTA,
    Scope,
    Tree,
    head,
    macros_in,
    network,
    on,
    plain,
    wider,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import shown

BY_SOURCE_IP = "by-smtp-source-ip"
_TO_VMTA = (
    "default-virtual-mta",
    "cold-virtual-mta",
    "reroute-to-virtual-mta",
    "backoff-reroute-to-virtual-mta",
    "invalid-virtual-mta-fallback",
)
# directive: the section that it names
_TO_SECTION = {
    "pattern-list": "pattern-list",
    "smtp-pattern-list": "smtp-pattern-list",
    "rewrite-list": "rewrite-list",
    "suppression-lists": "address-list",
    "source-group": "source-group",
    "use-proxy": "proxy",
}
_LISTS = ("suppression-lists", "use-proxy")  # they may name several
# What a rule of a section does, and what it is called.
_UNUSED = {
    "pattern-list": ("pattern-list", "no source names it, so no message passes it"),
    "smtp-pattern-list": ("smtp-pattern-list", "no domain names it, so no reply is matched with it"),
    "rewrite-list": ("rewrite-list", "nothing names it, so it rewrites nothing"),
    "address-list": ("suppression-lists", "no suppression-lists names it, so it suppresses nothing"),
    "source-group": ("source-group", "no source names it, so it limits nothing"),
    "proxy": ("use-proxy", "no use-proxy names it"),
}
_FIXED = ("smtp-hosts", "route", "queue-to")  # a domain that says one of these goes where it says
_NOWHERE_TLDS = frozenset({"rollup", "queue", "invalid", "localdomain"})


# ---- names


def _names_are_of_one_kind(tree: Tree) -> Iterable[Finding]:
    for name, pool in tree.pools.items():
        if name in tree.vmtas:
            yield on(
                pool,
                f"{tree.vmtas[name].place} gives this name to a virtual MTA, and both share one space of names",
                "Give the pool a name of its own",
            )


def _targets_exist(tree: Tree) -> Iterable[Finding]:
    known = {*tree.vmtas, *tree.pools, *tree.names, DEFAULT_VMTA}
    known |= {f"{scope.argument}-cold" for scope, _line in tree.lines("auto-cold-virtual-mta")}
    missing = "no virtual MTA and no pool has this name"
    for name in _TO_VMTA:
        for _scope, line in tree.lines(name):
            target = plain(line.value)
            by_address = target == BY_SOURCE_IP and name == "default-virtual-mta"
            if target and " " not in target and target not in known and not by_address:
                yield _leads_nowhere(tree, line, missing, target, known)
    for _scope, line, kind, target in results(tree):
        if kind == "virtual-mta" and target not in known:
            yield _leads_nowhere(tree, line, missing, target, known)
        elif kind == "call-to" and target not in tree.named("pattern-list"):
            yield _leads_nowhere(tree, line, "no <pattern-list> has this name", target, tree.named("pattern-list"))
    for name, tag in _TO_SECTION.items():
        held = tree.named(tag)
        for _scope, line in tree.lines(name):
            for target in _named_by(name, line):
                if target not in held:
                    yield _leads_nowhere(tree, line, f"no <{tag}> has this name", target, held)
    sources = {*tree.sources, *RESERVED_SOURCES}
    told: list[tuple[Directive | Scope, str]] = [(place, source) for _listener, place, source in listeners(tree)]
    told += [(line, plain(line.value)) for scope, line in tree.lines("source") if scope.tag == "smtp-user"]
    for place, source in told:
        if source and source not in sources:
            yield _leads_nowhere(tree, place, "no <source> has this name", source, sources)
    yield from _queues_exist(tree)


def _leads_nowhere(tree: Tree, place: Directive | Scope, why: str, target: str, known: Iterable[str]) -> Finding:
    twin = tree.other_case(target, known)
    if twin:
        why = f"it is '{twin}' where it is defined; whether PowerMTA minds the case is not known"
        return on(place, why, "Write it the same way in both places", found=shown(target), severity=WARNING)
    return on(
        place,
        f"{why}{tree.hint(target, known)}",
        "Correct the name, or define it",
        found=shown(target),
        severity=tree.absent,
    )


def _named_by(name: str, line: Directive) -> list[str]:
    value = plain(line.value)
    if name in _LISTS:
        return [each for each in re.split(r"[\s,;]+", value) if each]
    return [value] if value else []


def _queues_exist(tree: Tree) -> Iterable[Finding]:
    """queue-to: its domain needs hosts of its own unless DNS knows it, and its virtual MTA must exist."""
    known = {*tree.vmtas, *tree.names, DEFAULT_VMTA}
    for scope, line in tree.lines("queue-to"):
        domain, _slash, vmta = plain(line.value).partition("/")
        if vmta and vmta not in known:
            yield _leads_nowhere(tree, line, "no virtual MTA has this name", vmta, known)
        label = domain.rpartition(".")[2].lower()
        if domain and ("." not in domain or label in _NOWHERE_TLDS) and not _has_hosts(tree, domain, scope):
            yield on(
                line,
                "DNS cannot know this queue, and no <domain> of its name has smtp-hosts, so its mail would have no way",
                f"Write <domain {domain}> with smtp-hosts, or name a queue of a domain",
            )


def _has_hosts(tree: Tree, queue: str, scope: Scope) -> bool:
    places = [tree.top, *([scope.parent] if scope.parent and scope.parent is not tree.top else [])]
    for place in places:
        held = tree.domains(place)
        for pattern in wider(queue.lower()):
            for section in held.get(pattern, []):
                if section.value("smtp-hosts") or section.value("route"):
                    return True
                if section.value("type").lower() not in ("", "smtp"):
                    return True
    return False


def _lists_are_used(tree: Tree) -> Iterable[Finding]:
    used: dict[str, set[str]] = {tag: set() for tag in _UNUSED}
    for name, tag in _TO_SECTION.items():
        for _scope, line in tree.lines(name):
            used[tag].update(_named_by(name, line))
    used["pattern-list"].update(target for _scope, _line, kind, target in results(tree) if kind == "call-to")
    for tag, (directive, why) in _UNUSED.items():
        for scope in tree.of(tag):
            if scope.parent is tree.top and scope.argument and scope.argument not in used[tag]:
                yield on(scope, why, f"Name it with {directive}, or remove it", severity=WARNING)
    told = {plain(line.value) for _scope, line in tree.lines("source")}
    told |= {source for _listener, _line, source in listeners(tree)}
    for name, scopes in tree.sources.items():
        if name not in told and name not in RESERVED_SOURCES:
            yield on(
                scopes[0],
                "no listener and no user names it, so no connection has its settings",
                f"Write source={name} behind a listener, or source {name} into an smtp-user, or remove it",
                severity=WARNING,
            )
    mentioned = {
        name.lower()
        for scope in tree.everywhere()
        for text in (scope.argument, *(line.value for lines in scope.directives.values() for line in lines))
        if "$" in text
        for name in macros_in(text)
    }
    for line in tree.top.all("domain-macro"):
        name = head(line.value)[0]
        if name and name.lower() not in mentioned:
            yield on(line, "no pattern uses it", f"Write ${name} into a pattern, or remove it", severity=WARNING)


# ---- virtual MTAs and pools


def _pools_have_members(tree: Tree) -> Iterable[Finding]:
    known = {*tree.vmtas, *tree.names}
    for pool in tree.of("virtual-mta-pool"):
        members = pool.all("virtual-mta")
        if not members:
            yield on(
                pool,
                "no virtual-mta stands in it, so it can send nothing",
                "Write virtual-mta NAME for each",
                severity=tree.absent,
            )
        for line in members:
            name, *more = words(line.value) or ("",)
            name = plain(name)
            if more:
                yield on(
                    line,
                    "a pool has no weights or other words behind a member; its members take turns",
                    f"Write virtual-mta {name}",
                )
            if name in tree.pools and name not in tree.vmtas:
                yield on(line, "it is a pool, and a pool has virtual MTAs as its members", "Name its virtual MTAs")
            elif name and name not in known:
                yield _leads_nowhere(tree, line, "no virtual MTA has this name", name, known)
        seen: set[str] = set()
        for line in members:
            if plain(line.value) in seen:
                yield on(line, "it is a member already", "Remove one of them", severity=WARNING)
            seen.add(plain(line.value))


def _domains_bind_to_one_pool(tree: Tree) -> Iterable[Finding]:
    for name, pools in tree.pools_of.items():
        with_domains = [pool for pool in pools if "domain" in pool.sections and name in tree.members[pool]]
        for pool in with_domains[1:]:
            yield on(
                tree.members[pool][name],
                f"it is a member of {with_domains[0]} at {with_domains[0].place} too, and both pools hold <domain> "
                "sections, of which only one could count for it",
                "Take it out of one pool, or move the domain sections into the virtual MTAs",
            )


def _addresses_are_given(tree: Tree) -> Iterable[Finding]:
    general = bool(tree.top.all("smtp-source-host") or tree.top.all("smtp-proxy-source-host"))
    for vmta in tree.of("virtual-mta"):
        proxied = vmta.all("smtp-proxy-source-host")
        if proxied and vmta.all("use-proxy"):
            yield on(proxied[0], "use-proxy stands beside it, and the two exclude each other", "Remove one of them")
        if proxied and vmta.all("smtp-source-host"):
            yield on(
                proxied[0], "smtp-source-host stands beside it, and the two exclude each other", "Remove one of them"
            )
        given = ("smtp-source-host", "smtp-source-ip", "smtp-proxy-source-host", "use-proxy", "auto-cold-virtual-mta")
        if any(vmta.all(name) for name in given) or _goes_elsewhere(vmta):
            continue
        yield on(
            vmta,
            "it has no smtp-source-host, so its mail leaves from the address of the whole server",
            "Write smtp-source-host IP FQDN into it",
            severity=WARNING if general else tree.absent,
        )


def _goes_elsewhere(vmta: Scope) -> bool:
    """Whether all mail of it goes to named hosts or to no host at all, so that its address is of no concern."""
    return any(
        section.argument == "*"
        and (any(section.value(name) for name in _FIXED) or section.value("type").lower() not in ("", "smtp"))
        for section in vmta.sections.get("domain", [])
    )


def _source_hosts_fit(tree: Tree) -> Iterable[Finding]:
    """IP first, then the name; and one address greets with one name."""
    names: dict[str, tuple[str, Directive]] = {}
    for _scope, line in tree.lines("smtp-source-host"):
        given = words(line.value)
        if len(given) == 2 and network(given[0]) is None and network(given[1]) is not None:
            yield on(
                line,
                "the address comes first, then the name; several scripts that are handed around have it the wrong way",
                f"Write smtp-source-host {given[1]} {given[0]}",
            )
            continue
        problem = _source_host_problem(given)
        if problem:
            yield on(line, problem, "Write smtp-source-host IP FQDN")
            continue
        name, first = names.setdefault(given[0], (given[1].lower(), line))
        if name != given[1].lower():
            yield on(
                line,
                f"{first.place} greets with {name} from this address; its reverse DNS can name only one of them",
                "Give each address one name",
                severity=WARNING,
            )


def _source_host_problem(given: tuple[str, ...]) -> Optional[str]:
    if len(given) != 2:
        return "it needs an address and the name that it greets with" if len(given) < 2 else "it has too many words"
    if network(given[0]) is None:
        return f"{shown(given[0])} is no IP address and no network"
    if "." not in given[1] or not re.match(r"[\w.-]+\Z", given[1]):
        return f"{shown(given[1])} is no full domain name"
    return None


def _cold_ones_are_warmed(tree: Tree) -> Iterable[Finding]:
    cold = tree.lines("cold-virtual-mta") + tree.lines("auto-cold-virtual-mta")
    holders = {scope for scope, _line in cold}
    limited = [(scope, line) for scope, line in tree.lines("max-cold-virtual-mta-msg") if _above_zero(line.value)]
    for section, line in limited:
        own = section.parent or tree.top
        if not (holders if own is tree.top else holders.intersection(_counting_for(tree, own))):
            yield on(
                line,
                "nothing has a cold-virtual-mta" if own is tree.top else f"{own} has no cold-virtual-mta",
                "Write cold-virtual-mta NAME into the warm virtual MTA or its pool, or remove the line",
                severity=WARNING,
                found=f"{shown(line.value)} without effect",
            )
    anywhere = {section.parent for section, _line in limited}
    idle = {scope for scope in holders if anywhere.isdisjoint((tree.top, *_counting_for(tree, scope)))}
    for scope, line in cold:
        if scope in idle:
            yield on(
                line,
                "no <domain> that counts for it has a max-cold-virtual-mta-msg, and without one nothing is diverted",
                "Write max-cold-virtual-mta-msg 50/d,100/d,... into <domain *>",
                severity=WARNING,
            )
        if scope in tree.members and plain(line.value) in tree.members[scope]:
            yield on(
                line,
                "it is a full member of the pool as well, so it gets its whole part from the first day on",
                "Remove it from the members until it is warm",
                severity=WARNING,
            )


def _counting_for(tree: Tree, scope: Scope) -> Iterator[Scope]:
    """A pool and its members, or a virtual MTA and its pools."""
    yield scope
    if scope.tag == "virtual-mta":
        yield from tree.pools_of.get(scope.argument, [])
    else:
        yield from (tree.vmtas[name] for name in tree.members.get(scope, ()) if name in tree.vmtas)


def _above_zero(value: str) -> bool:
    return any(each.strip().partition("/")[0].strip("0") for each in value.split(","))


def _removed_ones_have_a_way(tree: Tree) -> Iterable[Finding]:
    if tree.lines("invalid-virtual-mta-fallback"):
        return
    for scope, line in tree.lines("reject-invalid-virtual-mta"):
        if scope.is_false(line.key):
            yield on(
                line,
                "messages for a virtual MTA that does not exist are taken and then bounced, for there is no "
                "invalid-virtual-mta-fallback",
                "Write invalid-virtual-mta-fallback NAME, or let them be rejected",
                severity=WARNING,
            )


RULES = (
    _names_are_of_one_kind,
    _targets_exist,
    _lists_are_used,
    _pools_have_members,
    _domains_bind_to_one_pool,
    _addresses_are_given,
    _source_hosts_fit,
    _cold_ones_are_warmed,
    _removed_ones_have_a_way,
)
