# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a PowerMTA configuration lets in: listeners, the right to relay, and the monitor."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.rules import EVERYTHING
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import Directive, words
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.tree import (
    FALSE,
    TRUE,
    Scope,
    Tree,
    bare,
    network,
    on,
    plain,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import shown

_PRIVATE = [
    ipaddress.ip_network(each)
    for each in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
]
MONITOR_PORT = "8080"  # where nothing says http-mgmt-port
_OPEN = {4: 8, 6: 16}  # a network as wide as this is the Internet
_WIDE = {4: 16, 6: 32}  # and one as wide as this is no longer one's own


def listeners(tree: Tree) -> list[tuple[str, Directive | Scope, str]]:
    """Each listener as lines and sections say it: address and port, where its source is named, the source."""
    found: list[tuple[str, Directive | Scope, str]] = []
    for line in tree.top.all("smtp-listener"):
        listener, *more = words(line.value) or ("",)
        source = next((plain(each.partition("=")[2]) for each in more if each.lower().startswith("source=")), "")
        found.append((listener, line, source))
    for scope in tree.of("smtp-listener"):
        listener, *more = words(scope.argument) or ("",)
        source = next((plain(each.partition("=")[2]) for each in more if each.lower().startswith("source=")), "")
        found.append((listener, scope.last("source") or scope, source or scope.value("source")))
    return found


def is_private(text: str) -> bool:
    """Whether an address or network is loopback or private."""
    given = network(text)
    return given is not None and any(
        given.version == each.version and given.subnet_of(each)  # type: ignore[arg-type]
        for each in _PRIVATE
    )


def listener_address(listener: str) -> str:
    return listener.rpartition(":")[0].strip("[]")


def _everybody(tree: Tree) -> dict[int, list[Scope]]:
    """By version of IP, the sources that are for every client, the general settings of strangers."""
    found: dict[int, list[Scope]] = {4: [], 6: []}
    for scope in tree.of("source"):
        given = network(scope.argument)
        if given is not None and given.prefixlen == 0:
            found[given.version].append(scope)
    return found


def _last(scopes: Iterable[Scope], name: str) -> Optional[Directive]:
    line = None
    for scope in scopes:
        line = scope.last(name) or line
    return line


def says(line: Optional[Directive]) -> bool:
    return line is not None and plain(line.value).lower() in TRUE


def _relays_are_closed(tree: Tree) -> Iterable[Finding]:
    """A connection has the settings of the sources for its address, the widest first, then of its listener's source."""
    everybody = _everybody(tree)
    bound = listeners(tree) or [("0.0.0.0:25", tree.top, "")]
    line = tree.top.last("always-allow-relaying")
    if says(line) and line is not None:
        yield on(
            line,
            "outside of all sources it lets every client send to everybody: an open relay",
            "Move it into the <source> of your own clients",
        )
    for scope in tree.of("source"):
        given = network(scope.argument)
        line = scope.last("always-allow-relaying")
        if given is None or given.prefixlen >= _WIDE[given.version] or is_private(scope.argument):
            continue
        if not says(line) or line is None:
            continue
        opened = [
            listener
            for listener, _place, source in bound
            if _relays([*everybody[given.version], scope, *tree.sources.get(source, [])])
        ]
        public = [listener for listener in opened if not is_private(listener_address(listener))]
        if opened and given.prefixlen < _OPEN[given.version]:
            yield on(
                line,
                f"clients everywhere may send to everybody through the listener {(public or opened)[0]}"
                + (": an open relay" if public else ""),
                "Write the networks of your own clients, or require-auth yes beside it",
                severity=ERROR if public else WARNING,
                found=f"{shown(line.value)} for {scope.argument}",
            )
        elif opened:
            yield on(
                line,
                "it is a wide public network, and all in it may send to everybody",
                "Write the networks of your own clients",
                severity=WARNING,
                found=f"{shown(line.value)} for {scope.argument}",
            )
    yield from _listeners_are_closed(tree, everybody)


def _relays(scopes: Sequence[Scope]) -> bool:
    """Whether a connection with the settings of these sources may send to everybody without a login."""
    service = _last(scopes, "smtp-service")
    served = service is None or plain(service.value).lower() not in FALSE
    return served and says(_last(scopes, "always-allow-relaying")) and not says(_last(scopes, "require-auth"))


def _listeners_are_closed(tree: Tree, everybody: dict[int, list[Scope]]) -> Iterable[Finding]:
    by_source: dict[str, list[str]] = {}
    for listener, _place, source in listeners(tree):
        by_source.setdefault(source, []).append(listener)
    for name, scopes in tree.sources.items():
        bound = by_source.get(name, [])
        line = _last(scopes, "always-allow-relaying")
        opened = any(_relays([*general, *scopes]) for general in everybody.values())
        if not bound or line is None or not says(line) or not opened:
            continue
        public = [listener for listener in bound if not is_private(listener_address(listener))]
        yield on(
            line,
            f"the source is bound to the listener {(public or bound)[0]}, so whoever reaches it may send to everybody"
            + (": an open relay" if public else ""),
            "Give the right to relay to the <source> of your clients' networks, or to authenticated users",
            severity=ERROR if public else WARNING,
            found=f"{shown(line.value)} at a listener",
        )


def _domains_are_ours(tree: Tree) -> Iterable[Finding]:
    """relay-domain and relay-address take mail for what they name, from everybody."""
    for _scope, line in tree.lines("relay-domain"):
        names = tree.expanded(plain(line.value).lower())
        if any(name == "*" or (bare(name) != name and "." not in bare(name)) for name in names):
            yield on(
                line,
                "it takes mail for all these domains from everybody and passes it on: an open relay",
                "Name your own domains",
            )
    for _scope, line in tree.lines("relay-address"):
        if EVERYTHING.match(line.value) or line.value.replace("\\", "") in ("/@/", "/.*@.*/", "/^.*@.*$/", "/.+@.+/"):
            yield on(
                line,
                "it takes mail for every address from everybody and passes it on: an open relay",
                "Name your own addresses",
            )


def _streams_are_kept_apart(tree: Tree) -> Iterable[Finding]:
    bound = {source for _listener, _line, source in listeners(tree) if source}
    networks = [tree.top, *(scope for scope in tree.of("source") if network(scope.argument) is not None)]
    said = [line for scope in networks for line in scope.all("process-x-virtual-mta")[-1:]]
    inherited = next(filter(says, said), None)
    for name in sorted(bound):
        scopes = tree.sources.get(name, [])
        line, default = _last(scopes, "process-x-virtual-mta"), _last(scopes, "default-virtual-mta")
        if line is None and inherited is not None and default is not None:
            yield on(
                default,
                f"{inherited.place} lets a header X-Virtual-MTA choose any other one, and <source {name}> inherits it",
                f"Write process-x-virtual-mta no into <source {name}>",
                severity=WARNING,
            )
        if says(line) and line is not None and default is not None:
            yield on(
                line,
                f"the listener is for {plain(default.value)}, yet a header X-Virtual-MTA chooses any other one",
                "Write process-x-virtual-mta no where a port stands for a stream",
                severity=WARNING,
            )


def _listeners_stand_once(tree: Tree) -> Iterable[Finding]:
    given: list[tuple[str, Directive | Scope]] = [
        (words(line.value)[0], line) for line in tree.top.all("smtp-listener") if line.value
    ]
    given += [(words(scope.argument)[0], scope) for scope in tree.of("smtp-listener") if scope.argument]
    for line in tree.top.all("smtp-listener"):
        for option in words(line.value)[1:]:
            if not option.lower().startswith("source="):
                yield on(line, "behind the address only source=NAME may stand", "Write source=NAME, or nothing")
    seen: dict[str, Directive | Scope] = {}
    monitor = tree.top.value("http-mgmt-port") or MONITOR_PORT
    for listener, place in given:
        if monitor != "0" and listener.rpartition(":")[2] == monitor:
            yield on(
                place,
                f"the web monitor listens at the port {monitor}",
                "Write another port here, or another http-mgmt-port",
            )
        first = seen.setdefault(listener, place)
        if first is not place:
            yield on(place, f"{first.place} listens there already", "Remove one of them")
        if listener.count(":") > 1:
            yield on(
                place,
                "the manuals do not show how a listener for IPv6 is written",
                "Try it with pmta test config first",
                severity=WARNING,
            )


def _monitor_is_closed(tree: Tree) -> Iterable[Finding]:
    off = tree.top.value("http-mgmt-port") == "0"
    seen: dict[tuple[int, int], dict[object, Directive]] = {}
    for line in tree.top.all("http-access"):
        who, *rights = words(line.value) or ("",)
        given = network(who)
        if given is None:
            continue
        earlier = None
        for (version, length), held in seen.items():
            if version == given.version and length <= given.prefixlen:
                earlier = earlier or held.get(given.supernet(new_prefix=length))
        seen.setdefault((given.version, given.prefixlen), {}).setdefault(given, line)
        if earlier is not None:
            yield on(
                line,
                f"the first match counts, and {earlier.place} is for all of it already",
                "Move it up, or remove it",
                severity=WARNING,
            )
        if off or (rights and rights[0].lower().startswith("none")) or is_private(who):
            continue
        if given.prefixlen < _WIDE[given.version]:
            everybody = given.prefixlen < _OPEN[given.version]
            yield on(
                line,
                f"the monitor shows queues, addresses and files; {'everybody' if everybody else 'a wide network'} "
                "may open it",
                "Name the hosts of your administrators and of your monitoring",
                severity=ERROR if everybody else WARNING,
            )


RULES = (
    _relays_are_closed,
    _domains_are_ours,
    _streams_are_kept_apart,
    _listeners_stand_once,
    _monitor_is_closed,
)
