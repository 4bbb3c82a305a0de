# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one engine cannot do as the other does. Nothing of it happens in silence: each is a finding."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import POWERMTA, Fleet, Stream

_SMTP_PORT = 25


def _hosts(fleet: Fleet) -> set[str]:
    return {host.name for host in fleet.hosts.values() if host.engine == POWERMTA}


def _streams(fleet: Fleet) -> Iterable[tuple[Stream, str]]:
    """Each stream with each of its PowerMTA hosts."""
    hosts = _hosts(fleet)
    for stream in fleet.streams.values():
        for host in dict.fromkeys(address.host for address in stream.addresses if address.host in hosts):
            yield stream, host


def warm_up_has_a_schedule(fleet: Fleet) -> Iterable[Finding]:
    hosts = _hosts(fleet)
    for stream in fleet.streams.values():
        for number, address in enumerate(stream.addresses):
            if address.warmup_from is None or address.host not in fleet.hosts:
                continue
            where = f"streams.{stream.name}.addresses[{number}].warmup_from"
            warm = [other for other in stream.addresses_on(address.host) if other.share and not other.warmup_from]
            if address.host not in hosts:
                yield Finding(
                    where,
                    address.warmup_from,
                    f"{fleet.hosts[address.host].engine} on {address.host} knows no schedule of warm-up",
                    "Remove it and raise share by hand, or move the address to a host with engine: powermta",
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
    for stream, host in _streams(fleet):
        shares = sorted({address.share for address in stream.addresses_on(host) if address.share})
        if len(shares) > 1:
            yield Finding(
                f"streams.{stream.name}.addresses",
                f"shares {', '.join(map(str, shares))} on {host}",
                "PowerMTA takes the addresses of a pool in turn, so each share but 0 counts the same there",
                "Write equal shares on that host",
                WARNING,
            )


def networks_reach_their_stream_only(fleet: Fleet) -> Iterable[Finding]:
    """Who may relay is said of a client's address, whichever port it comes to."""
    for host in sorted(_hosts(fleet)):
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
                    f"PowerMTA lets a network relay on all ports of {host} or on none, so they can reach this one too",
                    "Write the same networks for all streams of that host, give logins instead, or close the port by a"
                    " firewall",
                    WARNING,
                )


def broken_messages_leave(fleet: Fleet) -> Iterable[Finding]:
    """What the signer of a Postfix host refuses at injection: one finding for all hosts, because it is always so."""
    streams = list(dict.fromkeys(stream.name for stream, _host in _streams(fleet)))
    for host in sorted(host for host in _hosts(fleet) if fleet.streams_on(host))[:1]:
        yield Finding(
            f"hosts.{host}.engine",
            f"'{POWERMTA}'",
            "PowerMTA has no directive that refuses a second From, To, Subject or Date field, a line over 998"
            f" bytes, a bare CR or a NUL, so such mail of {', '.join(streams)} leaves, and receivers may refuse it",
            "Have the applications write messages by RFC 5322, or send these streams from Postfix hosts, which"
            " refuse such messages",
            WARNING,
        )


def front_takes_the_largest_message(fleet: Fleet) -> Iterable[Finding]:
    """The size is limited where a message comes in, and at the front listener its stream is not known yet."""
    for host in sorted(_hosts(fleet).intersection(fleet.front.hosts if fleet.front else ())):
        here = fleet.streams_on(host)
        largest = admission.largest_message_bytes(fleet)
        smaller = [stream.name for stream in here if stream.max_message_bytes < largest]
        if smaller:
            yield Finding(
                "front.hosts",
                host,
                f"the front listener of PowerMTA takes messages of {largest} bytes for every stream, also for"
                f" {', '.join(smaller)}, whose own ports take less",
                f"Write the same max_message_bytes for all streams, or leave {host} out of front.hosts",
                WARNING,
            )


def front_bounces_have_a_name(fleet: Fleet) -> Iterable[Finding]:
    """Bounces that PowerMTA writes itself have no sender, so the SPF record of the EHLO name decides."""
    for host in sorted(_hosts(fleet).intersection(fleet.front.hosts if fleet.front else ())):
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
    for host in fleet.hosts.values():
        taken = [stream.name for stream in fleet.streams_on(host.name) if stream.port == _SMTP_PORT]
        if taken and {"127.0.0.1", *host.listen}.intersection(host.bounce_listen):
            yield Finding(
                f"hosts.{host.name}.bounce_listen",
                ", ".join(host.bounce_listen),
                f"applications of {', '.join(taken)} hand in their mail on port {_SMTP_PORT} of the same address",
                "Write another address here, or another port there",
            )
        if host.bounce_listen and host.engine != POWERMTA:
            yield Finding(
                f"hosts.{host.name}.bounce_listen",
                ", ".join(host.bounce_listen),
                f"engine {host.engine} does not process bounces and complaints in this release",
                "Remove it, or write engine: powermta",
            )
