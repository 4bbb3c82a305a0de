# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter of a mail host as data: who may connect to its listeners, and from which addresses mail leaves.

The slice is a plain mapping, because it travels through the inventory to the host::

    {state: present | absent, listeners: [{name, port, networks: [CIDR], logins: bool}], bounces: [ip], forwards: [ip]}

``rules`` makes a list of it in which the first rule that fits a new connection decides; what no rule fits is accepted.
``text`` writes that list as one table of nftables. No other table is touched, and no other port.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet

FAMILY, TABLE = "inet", "mailops"
INPUT, OUTPUT = "input", "output"
# What a rule does with a connection. LIMITED, REFUSED and WRONG_SOURCE are chains of the table.
ACCEPT, LIMITED, REFUSED, WRONG_SOURCE = "accept", "limited", "refused", "wrong_source"
SMTP_PORT = 25
PRESENT, ABSENT = "present", "absent"

# Connections of strangers to a port with logins. smtpd(8) has 100 processes for a listener: strangers get half of them.
CONNECTIONS_PER_SOURCE, CONNECTIONS = 20, 50

_REMARK = re.compile(r"[\w .-]{1,100}\Z", re.ASCII)  # a comment of nft(8) has 128 characters at most

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass(frozen=True)
class Rule:
    """What happens to a new connection; without networks, whatever its other end is."""

    chain: str
    port: int
    verdict: str
    remark: str
    sources: tuple[Network, ...] = ()
    destinations: tuple[Network, ...] = ()


# ---- the slice of a host


def slice_of(fleet: Fleet, host: str) -> dict[str, Any]:
    """The variable ``mta_firewall`` of a host."""
    front = fleet.front if fleet.front and host in fleet.front.hosts else None
    forwarding = [names.host_network(ip) for name in _fronts(fleet) for ip in fleet.hosts[name].listen]
    listeners = [
        _listener(f"stream {stream.name}", stream.port, (*stream.inject_from, *forwarding), bool(stream.inject_users))
        for stream in fleet.streams_on(host)
    ]
    if front:
        logins = any(stream.inject_users for stream in fleet.streams.values())
        listeners.append(_listener("front listener", front.port, front.inject_from, logins))
    return {
        "state": PRESENT if fleet.hosts[host].firewall else ABSENT,
        "listeners": listeners,
        "bounces": list(fleet.hosts[host].bounce_listen),
        "forwards": list(dict.fromkeys(_next_hops(fleet, host))) if front else [],
    }


def _fronts(fleet: Fleet) -> tuple[str, ...]:
    return fleet.front.hosts if fleet.front else ()


def _listener(name: str, port: int, networks: Iterable[str], logins: bool) -> dict[str, Any]:
    return {"name": name, "port": port, "networks": list(dict.fromkeys(networks)), "logins": logins}


def _next_hops(fleet: Fleet, host: str) -> Iterable[str]:
    """Where the front listener hands on to port 25, from the host's own address."""
    for stream in fleet.streams.values():
        if stream.port == SMTP_PORT:
            for address in stream.addresses:
                if address.host != host:
                    yield from fleet.hosts[address.host].listen


# ---- the rules


def rules(
    listeners: Iterable[Mapping[str, Any]], bounces: Iterable[str], forwards: Iterable[str], sources: Iterable[str]
) -> list[Rule]:
    """``sources`` are the addresses that mail may leave from. Raises ValueError for what the table cannot hold."""
    found: list[Rule] = []
    here = _networks(bounces)
    for listener in listeners:
        name, port = listener["name"], listener["port"]
        if not _REMARK.match(name):
            raise ValueError(f"'{name}' is not a valid listener name: use 1 to 100 letters, digits, spaces, _, . and -")
        if port == SMTP_PORT and here:
            found.append(Rule(INPUT, port, ACCEPT, "bounces and complaints", destinations=here))
        networks = _networks(listener["networks"])
        if networks:
            found.append(Rule(INPUT, port, ACCEPT, name, sources=networks))
        found.append(Rule(INPUT, port, LIMITED if listener["logins"] else REFUSED, name))
    there, own = _networks(forwards), _networks(sources)
    if there:
        found.append(Rule(OUTPUT, SMTP_PORT, ACCEPT, "from the front listener", destinations=there))
    if own:
        found.append(Rule(OUTPUT, SMTP_PORT, ACCEPT, "from the pools", sources=own))
    return [*found, Rule(OUTPUT, SMTP_PORT, WRONG_SOURCE, "from any other address")]


def closing(listeners: Iterable[Mapping[str, Any]], ports: Iterable[int]) -> list[str]:
    """The names of the listeners whose rules would close one of these ports to an administrator."""
    kept = set(ports)
    return [f"{listener['name']} (port {listener['port']})" for listener in listeners if listener["port"] in kept]


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The fewest networks that hold the same addresses, IPv4 first; nft refuses those that overlap."""
    parsed = [ipaddress.ip_network(text) for text in texts]
    return (
        *ipaddress.collapse_addresses([one for one in parsed if isinstance(one, ipaddress.IPv4Network)]),
        *ipaddress.collapse_addresses([one for one in parsed if isinstance(one, ipaddress.IPv6Network)]),
    )


# ---- the text

# A connection is judged by its first packet, so one that is open stays open whatever changes.
_NEW_ONLY = "tcp flags & (syn | ack) != syn accept"
# The answer of a port without a listener: strangers learn nothing, and who is left out by mistake learns so at once.
_RESET = "reject with tcp reset"
_TOO_MANY = f"counter name {LIMITED} {_RESET}"


def text(found: Iterable[Rule], per_source: int = CONNECTIONS_PER_SOURCE, in_total: int = CONNECTIONS) -> str:
    """A file for nft(8) that makes the table, or replaces the whole of it in one transaction."""
    lines: dict[str, list[str]] = {INPUT: [], OUTPUT: []}
    for rule in found:
        lines[rule.chain] += _lines(rule)
    body = [
        f"counter {REFUSED} {{ }}",
        f"counter {LIMITED} {{ }}",
        f"counter {WRONG_SOURCE} {{ }}",
        # A full set counts no further source; the port's own count still holds.
        *_set("connections4", "ipv4_addr . inet_service"),
        *_set("connections6", "ipv6_addr . inet_service"),
        *_set("connections", "inet_service"),
        *_chain(INPUT, ['iif "lo" accept', _NEW_ONLY, *lines[INPUT]], hook=INPUT),
        *_chain(OUTPUT, ['oif "lo" accept', _NEW_ONLY, *lines[OUTPUT]], hook=OUTPUT),
        *_chain(REFUSED, [f"counter name {REFUSED} {_RESET}"]),
        *_chain(
            LIMITED,
            [
                f"add @connections4 {{ ip saddr . tcp dport ct count over {per_source} }} {_TOO_MANY}",
                f"add @connections6 {{ ip6 saddr & ffff:ffff:ffff:ffff:: . tcp dport ct count over {per_source} }}"
                f" {_TOO_MANY}",
                f"add @connections {{ tcp dport ct count over {in_total} }} {_TOO_MANY}",
            ],
        ),
        *_chain(
            WRONG_SOURCE,
            [
                'limit rate 6/minute log prefix "mailops, port 25 from a wrong address: "',
                f"counter name {WRONG_SOURCE} reject with icmpx admin-prohibited",
            ],
        ),
    ]
    return "\n".join(
        [
            "# Managed by Ansible (mailops.mta.firewall): change the fleet file instead.",
            f"table {FAMILY} {TABLE}",
            f"delete table {FAMILY} {TABLE}",
            f"table {FAMILY} {TABLE} {{",
            *(f"\t{line}" for line in body),
            "}",
            "",
        ]
    )


def _lines(rule: Rule) -> Iterable[str]:
    verdict = rule.verdict if rule.verdict == ACCEPT else f"goto {rule.verdict}"
    end = f'tcp dport {rule.port} {verdict} comment "{rule.remark}"'
    sides = [("saddr", rule.sources), ("daddr", rule.destinations)]
    if not any(networks for _side, networks in sides):
        yield end
    for side, networks in sides:
        for version, family in ((4, "ip"), (6, "ip6")):
            told = [_shown(network) for network in networks if network.version == version]
            if told:
                yield f"{family} {side} {{ {', '.join(told)} }} {end}"


def _shown(network: Network) -> str:
    return str(network if network.num_addresses > 1 else network.network_address)


def _set(name: str, key: str) -> list[str]:
    return [f"set {name} {{", f"\ttype {key}", "\tsize 65535", "\tflags dynamic", "}"]


def _chain(name: str, lines: Iterable[str], hook: str = "") -> list[str]:
    head = [f"\ttype filter hook {hook} priority filter; policy accept;"] if hook else []
    return [f"chain {name} {{", *head, *(f"\t{line}" for line in lines), "}"]
