# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PowerMTA's configuration on a host is made from: the slice of the host, and what comes from elsewhere.

The slice is a plain mapping, because it travels through the inventory to the host::

    {host_name, postmaster, relay_networks: [CIDR], remove_headers: [name], sink_domain, max_message_bytes,
     streams: [{name, domains, return_path, port, listen: [ip], logins, queue_life_seconds, limits: {group: {...}},
                max_message_bytes, remove_received,
                addresses: [{name, label, ehlo, ips, share, warmup_from}], warmup_messages_per_day: [n]}],
     receivers: [{name, domains, mx, slow_down: [pattern]}],
     front: {port, listen: [ip], header, default, max_message_bytes} or null,
     forwards: [{stream, hosts: ["[ip]:port"], logins, domains, return_path, queue_life_seconds, max_message_bytes}],
     bounces: {listen: [ip], domains: [..]} or null}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.next_hop import next_hops
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Address, Fleet, Stream

# ---- the slice of a host


def slice_of(fleet: Fleet, host: str) -> dict[str, Any]:
    """The variable ``mta_powermta`` of a host."""
    listen = ["127.0.0.1", *fleet.hosts[host].listen]
    streams = fleet.streams_on(host)
    front = fleet.front if fleet.front and host in fleet.front.hosts else None
    networks = [*(network for stream in streams for network in stream.inject_from)]
    networks += front.inject_from if front else []
    fronts = fleet.front.hosts if fleet.front else ()
    networks += [names.host_network(ip) for name in fronts for ip in fleet.hosts[name].listen]
    return {
        "host_name": f"{names.host_label(host)}.{fleet.domain}",
        "postmaster": f"postmaster@{fleet.domain}",
        "relay_networks": list(dict.fromkeys(("127.0.0.1/32", "::1/128", *networks))),
        "remove_headers": [fleet.front.header] if fleet.front else [],
        "sink_domain": fleet.verify.sink_domain if fleet.verify else None,
        "max_message_bytes": admission.largest_message_bytes(fleet) + admission.TRACE_BYTES,
        "streams": [_stream_slice(fleet, stream, host, listen) for stream in streams],
        "receivers": [
            {
                "name": group.name,
                "domains": list(group.domains),
                "mx": list(group.mx),
                "slow_down": [reply.pattern for reply in group.slow_down],
            }
            for group in fleet.receivers.values()
        ],
        "front": front
        and {
            "port": front.port,
            "listen": listen,
            "header": front.header,
            "default": front.default,
            "max_message_bytes": admission.largest_message_bytes(fleet),
        },
        "forwards": list(_forwards(fleet, host)) if front else [],
        "bounces": _bounces_slice(fleet, host),
    }


def _stream_slice(fleet: Fleet, stream: Stream, host: str, listen: Sequence[str]) -> dict[str, Any]:
    return {
        "name": stream.name,
        "domains": list(stream.domains),
        "return_path": stream.return_path.domain,
        "port": stream.port,
        "listen": list(listen),
        "logins": list(stream.inject_users),
        "queue_life_seconds": stream.queue_life_seconds,
        "max_message_bytes": stream.max_message_bytes + (admission.TRACE_BYTES if fleet.front else 0),
        "remove_received": stream.remove_received,
        "limits": {group: asdict(limits) for group, limits in stream.limits.items()},
        "addresses": [
            {
                "name": virtual_mta(address),
                "label": address.label,
                "ehlo": address.ehlo,
                "ips": list(address.ips),
                "share": address.share,
                "warmup_from": address.warmup_from,
            }
            for address in stream.addresses_on(host)
        ],
        "warmup_messages_per_day": list(stream.warmup_messages_per_day),
    }


def _forwards(fleet: Fleet, host: str) -> Iterable[dict[str, Any]]:
    """Streams of the front listener that send from other hosts: their next hop."""
    for stream in fleet.streams.values():
        hops = [f"[{hop.ip}]:{hop.port}" for hop in next_hops(fleet, host, stream) if hop.host != host]
        if hops:
            yield {
                "stream": stream.name,
                "hosts": hops,
                "logins": list(stream.inject_users),
                "domains": list(stream.domains),
                "return_path": stream.return_path.domain,
                "queue_life_seconds": stream.queue_life_seconds,
                "max_message_bytes": stream.max_message_bytes,
            }


def _bounces_slice(fleet: Fleet, host: str) -> Optional[dict[str, Any]]:
    listen = fleet.hosts[host].bounce_listen
    domains = dict.fromkeys(stream.return_path.domain for stream in fleet.streams.values())
    return {"listen": list(listen), "domains": list(domains)} if listen else None


def virtual_mta(address: Address) -> str:
    """Its name in queues, accounting and reports; it says which address sent."""
    return f"{address.stream}-{address.label}"


LIVE, DRAINED, WAITING, COLD = "live", "drained", "waiting", "cold"


@dataclass(frozen=True)
class Options:
    """What a host's configuration takes from somewhere else than the fleet file."""

    today: date
    passwords: Mapping[str, str] = field(default_factory=dict)  # by login
    monitor_from: tuple[str, ...] = ()  # addresses or networks that may read the monitor
    monitor_port: int = 8080
    directory: str = "/etc/pmta/conf.d"  # of the set in place
    spool_directory: str = "/var/spool/pmta"
    log_directory: str = "/var/log/pmta"
    certificate: str = ""  # a PEM file with certificate and key, for logins
    accounting_days: int = 8
    accounting_max_bytes: int = 52428800


def state(address: Mapping[str, Any], days: int, today: date) -> str:
    """What an address does today, with a warm-up of so many days: live, drained, waiting for its day, or cold."""
    if not address["share"]:
        return DRAINED
    if address["warmup_from"] is None:
        return LIVE
    age = (today - date.fromisoformat(address["warmup_from"])).days
    return WAITING if age < 0 else COLD if age < days else LIVE


def states(stream: Mapping[str, Any], today: date) -> dict[str, str]:
    """By virtual MTA, what it does today."""
    days = len(stream["warmup_messages_per_day"])
    return {address["name"]: state(address, days, today) for address in stream["addresses"]}


KEYS_END = ".keys"  # ends the name of a file with the keys of one domain, which each virtual MTA of its stream includes


def keys_file(domain: str) -> str:
    return f"dkim-{domain}{KEYS_END}"


def keys_files(host: Mapping[str, Any]) -> list[str]:
    """The files with keys that the virtual MTAs of a host include; PowerMTA does not start without one of them."""
    return [keys_file(domain) for stream in host["streams"] for domain in stream["domains"]]
