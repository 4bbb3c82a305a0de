# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the addresses of streams and of their EHLO names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import nearest, shown

_LAB_DOMAINS = ("test", "invalid", "localhost")  # RFC 6761
# RFC 1918, RFC 6598, RFC 1112 4, RFC 4193, RFC 3879
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (*("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "240.0.0.0/4"), "fc00::/7", "fec0::/10"),
    )
)


def are_unique(fleet: Fleet) -> Iterable[Finding]:
    by_ip: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for stream in fleet.streams.values():
        for number, address in enumerate(stream.addresses):
            where = f"streams.{stream.name}.addresses[{number}]"
            for ip in address.ips:
                if ip in by_ip:
                    yield Finding(
                        where,
                        f"'{ip}'",
                        f"{by_ip[ip]} has this address already; an address has one reputation and one EHLO name",
                        "Give each stream addresses of its own",
                    )
                by_ip.setdefault(ip, where)
            if address.ehlo in by_name:
                yield Finding(
                    where,
                    f"EHLO name '{address.ehlo}'",
                    f"{by_name[address.ehlo]} has this name already; forward and reverse DNS could not both be right",
                    "Write ehlo: with another name",
                )
            by_name.setdefault(address.ehlo, where)


def fit_their_host(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        for number, address in enumerate(stream.addresses):
            where = f"streams.{stream.name}.addresses[{number}]"
            if not address.host:  # which is refused already
                continue
            host = fleet.hosts.get(address.host)
            if host is None:
                yield Finding(
                    f"{where}.host",
                    shown(address.host),
                    f"no such host{nearest(address.host, fleet.hosts)}",
                    "Write one of hosts",
                )
                continue
            if not host.is_mta:
                yield Finding(
                    f"{where}.host",
                    shown(address.host),
                    f"it has no engine (hosts.{address.host}.engine), so nothing could send from it",
                    "Choose another host, or give this one an engine",
                )
            for ip, family in ((address.ipv4, "ipv4"), (address.ipv6, "ipv6")):
                if ip and family not in host.families:
                    yield Finding(
                        where,
                        f"'{ip}'",
                        f"{host.name} has no {family}",
                        f"Move the address, or add {family} to hosts.{host.name}.families",
                    )
                if ip and ip in host.listen:
                    yield Finding(
                        where,
                        f"'{ip}'",
                        f"it is the address on which {host.name} listens for applications",
                        "Use an address for sending only",
                        WARNING,
                    )
            if address.ipv6 and not address.ipv4:
                yield Finding(
                    where,
                    f"'{address.ipv6}'",
                    "mail from it cannot reach receivers that have IPv4 only",
                    "Write an IPv4 address beside it (ip: ..., ip6: ...)",
                    WARNING,
                )


def one_has_a_share(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        if stream.addresses and not any(address.share for address in stream.addresses):
            yield Finding(
                f"streams.{stream.name}.addresses",
                "every share is 0",
                "the stream could send nothing",
                "Give at least one address a share",
            )


def are_public(fleet: Fleet) -> Iterable[Finding]:
    """What SPF and PTR records say of a private address is true in no other network. A lab under .test may be one."""
    for stream in fleet.streams.values():
        if stream.domain.rpartition(".")[2] in _LAB_DOMAINS:
            continue
        for number, address in enumerate(stream.addresses):
            for ip in address.ips:
                parsed = ipaddress.ip_address(ip)
                network = next((each for each in _PRIVATE if parsed in each), None)
                if network:
                    yield Finding(
                        f"streams.{stream.name}.addresses[{number}]",
                        f"'{ip}'",
                        f"it lies in {network}, which is not routed in the Internet, so no receiver sees mail from it",
                        "Write the public address that is on the host's interface",
                        WARNING,
                    )
