# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one part of a fleet says against another. Each rule yields findings; none stops the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, POSTFIX, POWERMTA, RSA, Fleet
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import nearest, shown
from ansible_collections.mailops.mta.plugins.module_utils.core.tags import SPF_MAX_LOOKUPS

ENGINE_ALGORITHMS = {POSTFIX: (RSA, ED25519), POWERMTA: (RSA,)}


def check(fleet: Fleet) -> list[Finding]:
    """The cross-checks over a whole fleet."""
    findings: list[Finding] = []
    for rule in (
        _addresses_stand_once,
        _hosts_fit,
        _names_are_served,
        _streams_share_nothing,
        _separate_streams_are_separate,
        _dkim_can_be_signed,
        _dmarc_reports_are_authorised,
        _return_paths_align,
        _spf_stays_within_limits,
    ):
        findings.extend(rule(fleet))
    return findings


def _addresses_stand_once(fleet: Fleet) -> Iterable[Finding]:
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


def _hosts_fit(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        for number, address in enumerate(stream.addresses):
            where = f"streams.{stream.name}.addresses[{number}]"
            host = fleet.hosts.get(address.host)
            if host is None:
                yield Finding(
                    f"{where}.host",
                    shown(address.host),
                    f"no such host{nearest(address.host, fleet.hosts)}",
                    "Write one of hosts",
                )
                continue
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
        if stream.addresses and not any(address.share for address in stream.addresses):
            yield Finding(
                f"streams.{stream.name}.addresses",
                "every share is 0",
                "the stream could send nothing",
                "Give at least one address a share",
            )
    listening: dict[str, str] = {}
    for host in fleet.hosts.values():
        for ip in host.listen:
            if ip in listening:
                yield Finding(
                    f"hosts.{host.name}.listen",
                    f"'{ip}'",
                    f"{listening[ip]} listens there too",
                    "Write its own address",
                )
            listening.setdefault(ip, host.name)
        if not fleet.streams_on(host.name):
            yield Finding(
                f"hosts.{host.name}", "no stream has an address on it", "it would send nothing", "Remove it", WARNING
            )


def _names_are_served(fleet: Fleet) -> Iterable[Finding]:
    def unserved(where: str, name: str, what: str) -> Iterable[Finding]:
        if fleet.zone_of(name) is None:
            yield Finding(
                where,
                f"'{name}'",
                f"no zone of this file holds {what}{nearest(name.partition('.')[2], fleet.zones)}",
                f"Add the zone that holds {name} to zones",
            )

    for stream in fleet.streams.values():
        for position, domain in enumerate(stream.domains):
            where = f"streams.{stream.name}." + ("domain" if not position else f"extra_domains[{position - 1}]")
            yield from unserved(where, domain, "the sending domain")
        if stream.return_path.domain not in stream.domains:
            yield from unserved(
                f"streams.{stream.name}.return_path.domain", stream.return_path.domain, "the return-path domain"
            )
        for number, address in enumerate(stream.addresses):
            where = f"streams.{stream.name}.addresses[{number}]"
            if not names.is_within(address.ehlo, stream.domain) or fleet.zone_of(stream.domain):
                yield from unserved(f"{where}.ehlo", address.ehlo, "the EHLO name")
            for ip in address.ips:
                if fleet.zone_of(names.reverse_name(ip)) is None:
                    yield Finding(
                        where,
                        f"'{ip}'",
                        "no zone of this file holds its PTR record",
                        f"Add its reverse zone to zones, or have its owner point the PTR to {address.ehlo}",
                        WARNING,
                    )


def _streams_share_nothing(fleet: Fleet) -> Iterable[Finding]:
    seen: dict[tuple[str, Any], str] = {}
    if fleet.front:
        seen[("port", fleet.front.port)] = "front"

    def once(where: str, kind: str, value: Any, why: str) -> Iterable[Finding]:
        owner = seen.setdefault((kind, value), where)
        if owner != where:
            yield Finding(where, f"'{value}'", f"{owner} has this {kind} already; {why}", f"Choose another {kind}")

    for stream in fleet.streams.values():
        place = f"streams.{stream.name}"
        yield from once(f"{place}.port", "port", stream.port, "a port chooses one stream")
        for domain in dict.fromkeys((*stream.domains, stream.return_path.domain)):
            yield from once(place, "domain", domain, "two streams under one domain share its reputation")
        for login in stream.inject_users:
            yield from once(f"{place}.inject_users", "login", login, "a login chooses one stream")


def organisational_domain(name: str, fleet: Fleet) -> str:
    """The registered domain above ``name``, as far as the file tells: its topmost zone, else its last two labels."""
    labels = name.split(".")
    for start in range(len(labels) - 1, -1, -1):
        zone = ".".join(labels[start:])
        if zone in fleet.zones:
            return zone
    return ".".join(labels[-2:])


def _separate_streams_are_separate(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        own = {organisational_domain(domain, fleet) for domain in stream.domains}
        for other in stream.separate_from:
            if other not in fleet.streams:
                continue
            shared = own & {organisational_domain(domain, fleet) for domain in fleet.streams[other].domains}
            if shared:
                yield Finding(
                    f"streams.{stream.name}.separate_from",
                    f"{other} is under {', '.join(sorted(shared))} as well",
                    "complaints count against the organisational domain, so the two are not separate",
                    "Send this stream from a registered domain of its own",
                )


def _dkim_can_be_signed(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        for host in sorted({address.host for address in stream.addresses if address.host in fleet.hosts}):
            engine = fleet.hosts[host].engine
            for algorithm in stream.dkim.algorithms:
                if algorithm not in ENGINE_ALGORITHMS[engine]:
                    yield Finding(
                        f"streams.{stream.name}.dkim.algorithms",
                        f"'{algorithm}'",
                        f"{engine} on {host} cannot sign with it",
                        f"Write algorithms: [{', '.join(ENGINE_ALGORITHMS[engine])}]",
                    )
        if RSA not in stream.dkim.algorithms:
            yield Finding(
                f"streams.{stream.name}.dkim.algorithms",
                "no rsa",
                "large receivers do not verify Ed25519 signatures yet, the mail would count as unsigned",
                "Add rsa",
                WARNING,
            )


def _dmarc_reports_are_authorised(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        for domain in stream.domains:
            for mailbox in stream.dmarc.rua:
                target = mailbox.rpartition("@")[2]
                if (
                    organisational_domain(target, fleet) != organisational_domain(domain, fleet)
                    and fleet.zone_of(target) is None
                    and target not in stream.dmarc.rua_authorised
                ):
                    yield Finding(
                        f"streams.{stream.name}.dmarc.rua",
                        f"'{mailbox}'",
                        f"{target} must allow reports about {domain} (RFC 9990), and no zone of this file holds it",
                        f"Have {domain}._report._dmarc.{target} published, then add {target} to rua_authorised",
                    )


def _return_paths_align(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        path = stream.return_path.domain
        strict = stream.dmarc.alignment_spf == "s"
        aligned = (
            path == stream.domain
            if strict
            else organisational_domain(path, fleet) == organisational_domain(stream.domain, fleet)
        )
        if not aligned:
            yield Finding(
                f"streams.{stream.name}.return_path.domain",
                f"'{path}'",
                f"SPF for it does not align with {stream.domain} under DMARC, so DKIM alone would have to pass",
                f"Use a name under {stream.domain}" + (", or relaxed alignment" if strict else ""),
                WARNING,
            )


def _spf_stays_within_limits(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        if len(stream.spf.include) > SPF_MAX_LOOKUPS:
            yield Finding(
                f"streams.{stream.name}.spf.include",
                f"{len(stream.spf.include)} includes",
                f"SPF allows {SPF_MAX_LOOKUPS} look-ups in all (RFC 7208 4.6.4), and each include costs at least one",
                "Remove includes",
            )
