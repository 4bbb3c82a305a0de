# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one engine cannot do as the other does. Nothing of it happens in silence: each is a finding."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission, table
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import Engine
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet

_SMTP_PORT = 25


def _without(fleet: Fleet, capability: str) -> dict[str, Engine]:
    """The hosts whose engine cannot do it, each with its engine."""
    engines = {host.name: table.engine_of(fleet, host.name) for host in fleet.mta_hosts()}
    return {name: engine for name, engine in engines.items() if not getattr(engine.can, capability)}


def _with(capability: str) -> str:
    """The engines that can do it, as a person would write them in the fleet file."""
    return " or ".join(f"engine: {name}" for name, engine in table.ENGINES.items() if getattr(engine.can, capability))


def warm_up_has_a_schedule(fleet: Fleet) -> Iterable[Finding]:
    unable = _without(fleet, "warm_up")
    for stream in fleet.streams.values():
        for number, address in enumerate(stream.addresses):
            if address.warmup_from is None or address.host not in fleet.hosts:
                continue
            where = f"streams.{stream.name}.addresses[{number}].warmup_from"
            warm = [other for other in stream.addresses_on(address.host) if other.share and not other.warmup_from]
            engine = fleet.hosts[address.host].engine
            if address.host in unable or engine not in table.ENGINES:
                yield Finding(
                    where,
                    address.warmup_from,
                    f"{engine} on {address.host} knows no schedule of warm-up",
                    f"Remove it and raise share by hand, or move the address to a host with {_with('warm_up')}",
                )
            elif not warm:
                yield Finding(
                    where,
                    address.warmup_from,
                    f"{stream.name} has no warm address on {address.host} that takes what is over the schedule",
                    "Remove warmup_from where its schedule is over; else put an address without it beside it on that"
                    " host, or limit the stream under receivers",
                )


def shares_count(fleet: Fleet) -> Iterable[Finding]:
    unable = _without(fleet, "weighted_shares")
    for stream in fleet.streams.values():
        for host in dict.fromkeys(address.host for address in stream.addresses if address.host in unable):
            shares = sorted({address.share for address in stream.addresses_on(host) if address.share})
            if len(shares) > 1:
                yield Finding(
                    f"streams.{stream.name}.addresses",
                    f"shares {', '.join(map(str, shares))} on {host}",
                    f"{unable[host].title} takes the addresses of a pool in turn, so each share but 0 counts the same"
                    " there",
                    "Write equal shares on that host",
                    WARNING,
                )


def networks_reach_their_stream_only(fleet: Fleet) -> Iterable[Finding]:
    """Who may relay is decided by a client's address, whichever port the client comes to."""
    for host, engine in sorted(_without(fleet, "relay_by_port").items()):
        allowed = {stream.name: frozenset(stream.inject_from) for stream in fleet.streams_on(host)}
        if fleet.front and host in fleet.front.hosts:
            allowed["front"] = frozenset(fleet.front.inject_from)
        everybody = frozenset().union(*allowed.values())
        for name, networks in allowed.items():
            more = sorted(everybody - networks)
            if more:
                yield Finding(
                    f"streams.{name}.inject_from" if name in fleet.streams else "front.inject_from",
                    f"without {', '.join(more)}",
                    f"{engine.title} lets a network relay on all ports of {host} or on none, so they can reach this one"
                    " too",
                    "Write the same networks for all streams of that host, give logins instead, or close the port by a"
                    " firewall",
                    WARNING,
                )


def broken_messages_leave(fleet: Fleet) -> Iterable[Finding]:
    """One finding for all hosts of an engine, because it is always so."""
    unable = _without(fleet, "message_check")
    for engine in dict.fromkeys(engine.name for engine in unable.values()):
        hosts = sorted(host for host, its in unable.items() if its.name == engine and fleet.streams_on(host))
        streams = [
            stream.name
            for stream in fleet.streams.values()
            if any(address.host in hosts for address in stream.addresses)
        ]
        for host in hosts[:1]:
            yield Finding(
                f"hosts.{host}.engine",
                f"'{engine}'",
                f"{unable[host].title} has no directive that refuses a second From, To, Subject or Date field, a line"
                f" over 998 bytes, a bare CR or a NUL, so such mail of {', '.join(streams)} leaves, and receivers may"
                " refuse it",
                "Have the applications write messages by RFC 5322, or send these streams from hosts with"
                f" {_with('message_check')}, which refuse such messages",
                WARNING,
            )


def front_takes_the_largest_message(fleet: Fleet) -> Iterable[Finding]:
    """The size is limited where a message comes in, and at the front listener its stream is not known yet."""
    fronts = fleet.front.hosts if fleet.front else ()
    for host, engine in sorted(_without(fleet, "size_by_stream").items()):
        largest = admission.largest_message_bytes(fleet)
        smaller = [stream.name for stream in fleet.streams_on(host) if stream.max_message_bytes < largest]
        if smaller and host in fronts:
            yield Finding(
                "front.hosts",
                host,
                f"the front listener of {engine.title} takes messages of {largest} bytes for every stream, also for"
                f" {', '.join(smaller)}, whose own ports take less",
                f"Write the same max_message_bytes for all streams, or leave {host} out of front.hosts",
                WARNING,
            )


def front_bounces_have_a_name(fleet: Fleet) -> Iterable[Finding]:
    """Bounces that an engine writes itself have no sender, so the SPF record of the EHLO name decides."""
    for host in sorted(
        set(_without(fleet, "bounces_by_stream")).intersection(fleet.front.hosts if fleet.front else ())
    ):
        if not fleet.streams_on(host):
            yield Finding(
                "front.hosts",
                host,
                "no stream has an address there, so bounces of its front listener leave under a name without SPF, and"
                " receivers may refuse them",
                f"Leave {host} out of front.hosts, or give a stream an address there",
                WARNING,
            )


def bounces_are_taken(fleet: Fleet) -> Iterable[Finding]:
    able = {host.name for host in fleet.mta_hosts()} - set(_without(fleet, "bounce_processing"))
    for host in fleet.hosts.values():
        taken = [stream.name for stream in fleet.streams_on(host.name) if stream.port == _SMTP_PORT]
        if taken and {"127.0.0.1", *host.listen}.intersection(host.bounce_listen):
            yield Finding(
                f"hosts.{host.name}.bounce_listen",
                ", ".join(host.bounce_listen),
                f"applications of {', '.join(taken)} hand in their mail on port {_SMTP_PORT} of the same address",
                "Write another address here, or another port there",
            )
        if host.bounce_listen and host.name not in able:
            yield Finding(
                f"hosts.{host.name}.bounce_listen",
                ", ".join(host.bounce_listen),
                f"engine {host.engine} does not process bounces and complaints in this release",
                f"Remove it, or write {_with('bounce_processing')}",
            )
