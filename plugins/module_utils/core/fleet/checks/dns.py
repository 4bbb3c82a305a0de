# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the fleet publishes: zones that hold its names, and record sets that fit together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies as tags
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet
from ansible_collections.mailops.mta.plugins.module_utils.core.publish import record_sets
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import nearest, shown
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan


def names_are_served(fleet: Fleet) -> Iterable[Finding]:
    def unserved(where: str, name: str, what: str) -> Iterable[Finding]:
        if fleet.zone_of(name) is None:
            yield Finding(
                where,
                f"'{name}'",
                f"no zone of this file holds {what}{nearest(name.partition('.')[2], fleet.zones)}",
                f"Add the zone that holds {name} to zones",
            )

    if fleet.organisational_dmarc:
        yield from unserved("organisational_dmarc", fleet.domain, "the organisational domain")
    for stream in fleet.streams.values():
        for position, domain in enumerate(stream.domains):
            where = f"streams.{stream.name}." + ("domain" if not position else f"extra_domains[{position - 1}]")
            yield from unserved(where, domain, "the sending domain")
        if stream.return_path.domain not in stream.domains:
            yield from unserved(
                f"streams.{stream.name}.return_path.domain", stream.return_path.domain, "the return-path domain"
            )
        delegate = stream.dkim.delegate
        if delegate:
            yield from unserved(f"streams.{stream.name}.dkim.delegate", delegate, "the delegated DKIM keys")
            zone = fleet.zones.get(fleet.zone_of(delegate) or "")
            if zone and zone.provider == services.EXTERNAL:
                yield Finding(
                    f"streams.{stream.name}.dkim.delegate",
                    f"'{delegate}'",
                    f"somebody else runs its zone {zone.name}, so new keys would have to wait for them",
                    "Write a domain in a zone that you run",
                )
        for number, address in enumerate(stream.addresses):
            where = f"streams.{stream.name}.addresses[{number}]"
            if not names.is_within(address.ehlo, stream.domain) or fleet.zone_of(stream.domain):
                yield from unserved(f"{where}.ehlo", address.ehlo, "the EHLO name")
            for ip in address.ips:
                if fleet.zone_of(fleet.reverse_name(ip)) is None:
                    yield Finding(
                        where,
                        f"'{ip}'",
                        "no zone of this file holds its PTR record",
                        f"Add its reverse zone to zones, or have its owner point the PTR to {address.ehlo}",
                        WARNING,
                    )


def bounces_have_a_way(fleet: Fleet) -> Iterable[Finding]:
    """Whoever runs the bounce host may publish its address, so that the file has none is no more than a doubt."""
    users: dict[str, list[str]] = {}
    for stream in fleet.streams.values():
        for host in stream.return_path.mx:
            users.setdefault(host, []).append(stream.name)
    reached = {entry["name"] for entry in record_sets.record_sets(fleet) if entry["type"] in ("A", "AAAA", "CNAME")}
    for host, streams in users.items():
        zone = fleet.zone_of(host)
        # Who runs an external zone publishes what stands there; the audit sees whether they do.
        if host in reached or zone is None or fleet.zones[zone].provider == services.EXTERNAL:
            continue
        yield Finding(
            "bounce_host" if host == fleet.bounce_host else f"streams.{streams[0]}.return_path.mx",
            f"'{host}'",
            f"it is in your zone {zone}, but this file gives the name no address; without one no bounce of"
            f" {', '.join(streams)} can be delivered",
            f"Write {{name: {host}, type: A, values: [...]}} in records; if another tool publishes the address,"
            " prove it with the playbook mailops.mta.dns_audit",
            WARNING,
        )


def mta_sts_is_served(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        where, sts = f"streams.{stream.name}.mta_sts", stream.mta_sts
        if sts.host and sts.host not in fleet.hosts:
            yield Finding(
                f"{where}.host",
                shown(sts.host),
                f"no such host{nearest(sts.host, fleet.hosts)}",
                "Write one of hosts",
            )
        if sts.host and not sts.addresses:
            yield Finding(
                f"{where}.addresses",
                "missing",
                f"{stream.policy_host} would have no address",
                f"Write the addresses on which {sts.host} is reached from outside",
            )
        if sts.mode != "none" and not (sts.host or sts.addresses or sts.cname):
            yield Finding(
                where,
                f"mode {sts.mode}",
                "the policy is announced but nothing of this file serves it",
                "Write host and addresses, or cname",
                WARNING,
            )


def tlsa_is_signed(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        for host in stream.return_path.mx if stream.return_path.tlsa else ():
            where = f"streams.{stream.name}.return_path.tlsa"
            zone = fleet.zone_of(host)
            if zone is None:
                yield Finding(
                    where,
                    f"MX {host}",
                    "no zone of this file holds it, so its TLSA records are not published from here",
                    f"Have them published at _25._tcp.{host}",
                    WARNING,
                )
            elif not fleet.zones[zone].signed:
                yield Finding(
                    where,
                    f"MX {host}",
                    f"{zone} is not signed with DNSSEC, and mail servers ignore TLSA records there (RFC 7672 2.2)",
                    f"Sign the zone and write zones.{zone}.signed: true, or remove tlsa",
                )


def spf_stays_within_limits(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        where = f"streams.{stream.name}.spf.include"
        texts = list(record_sets.spf_records(stream).values())
        include, parts, top = len(stream.spf.include), len(texts) - 1, texts[0]
        if include + parts > tags.SPF_MAX_LOOKUPS:
            pool = f" and {parts} for a pool that no single record can hold" if parts else ""
            yield Finding(
                where,
                f"{include} includes{pool}",
                f"SPF allows {tags.SPF_MAX_LOOKUPS} look-ups in all (RFC 7208 4.6.4), and each costs at least one",
                "Remove includes, or use fewer addresses that do not lie side by side",
            )
        if len(top) > tags.SPF_MAX_TEXT:
            yield Finding(
                where,
                f"a record of {len(top)} characters",
                f"the answer fits 512 bytes with {tags.SPF_MAX_TEXT} characters (RFC 7208 3.4)",
                "Remove includes, or use shorter domain names",
            )


def records_fit_together(fleet: Fleet) -> Iterable[Finding]:
    """What meets at one name: aliases stand alone, each policy once, and the answer has a size that passes."""
    written = {(record.name, record.type): number for number, record in reversed([*enumerate(fleet.records)])}
    sets = record_sets.record_sets(fleet)
    types: dict[str, list[str]] = {}
    for entry in sets:
        types.setdefault(entry["name"], []).append(entry["type"])
    for entry in sets:
        name, rtype, values = entry["name"], entry["type"], entry["values"]
        number = written.get((name, rtype))
        where = (
            f"records[{number}]"
            if number is not None
            else f"streams.{entry['streams'][0]}"
            if entry["streams"]
            else "organisational_dmarc"
        )
        if len(name) > names.MAX_NAME:
            yield Finding(
                where, f"'{name}'", f"its name has more than {names.MAX_NAME} characters", "Use shorter domain names"
            )
        if number is not None and rtype != "TXT" and entry["streams"]:
            yield Finding(
                where,
                f"{name} {rtype}",
                f"it follows from {', '.join(entry['streams'])} already ({entry['reason']})",
                "Remove it",
            )
        if rtype == "CNAME" and (len(values) > 1 or len(types[name]) > 1):
            beside = [other for other in types[name] if other != "CNAME"] or ["CNAME"]
            yield Finding(
                where,
                f"{name} CNAME",
                f"{', '.join(beside)} is to stand there too, and an alias stands alone (RFC 1034 3.6.2)",
                "Remove one of the two",
            )
        if rtype == "TXT":
            yield from _texts_fit(where, name, values)


def _texts_fit(where: str, name: str, texts: Sequence[str]) -> Iterable[Finding]:
    claims = [plan.claim(name, text) for text in texts] if len(texts) > 1 else []
    kinds = [what for kind, what in claims if kind == "version"]
    for what in sorted({what for what in kinds if kinds.count(what) > 1}):
        yield Finding(
            where,
            f"{kinds.count(what)} {what} records at {name}",
            "receivers ignore all where there is more than one",
            "Say it in one place",
        )
    size = record_sets.answer_size(name, texts)
    if size > record_sets.ANSWER_SMALL:
        yield Finding(
            where,
            f"{len(texts)} TXT values at {name}, an answer of {size} bytes",
            f"more than {record_sets.ANSWER_SAFE} bytes do not pass every path"
            if size > record_sets.ANSWER_SAFE
            else f"more than {record_sets.ANSWER_SMALL} bytes need EDNS or TCP, which some receivers lack",
            "Remove verifications or includes that nobody needs any more",
            ERROR if size > record_sets.ANSWER_SAFE else WARNING,
        )
