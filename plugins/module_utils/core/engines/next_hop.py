# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a front listener hands a stream's mail on: the same answer for every engine."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet, Stream

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Hop:
    host: str
    ip: str
    port: int


def next_hops(fleet: Fleet, host: str, stream: Stream) -> tuple[Hop, ...]:
    """Where the front listener on ``host`` hands a stream's mail on: to itself, or to others in the order of the file.

    A host whose addresses of the stream are all drained gets none.
    """
    hosts = list(dict.fromkeys(address.host for address in stream.addresses if address.share))
    if host in hosts:
        return (Hop(host, LOOPBACK, stream.port),)
    families = {names.is_ipv6(ip) for ip in fleet.hosts[host].listen}
    return tuple(Hop(name, _reachable(fleet.hosts[name].listen, families), stream.port) for name in hosts)


def _reachable(listen: tuple[str, ...], families: set[bool]) -> str:
    """An address of a family that the front host has an address of; IPv4 where both would do."""
    return min(listen, key=lambda ip: (names.is_ipv6(ip) not in families, names.is_ipv6(ip)))
