# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one part of a fleet says against another. Each rule yields findings; none stops the others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import table
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.checks import engines as engine_checks
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies as tags
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA, Fleet
from ansible_collections.mailops.mta.plugins.module_utils.core.publish import record_sets
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import nearest, shown
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan

DAY_SECONDS = 86400
_LAB_DOMAINS = ("test", "invalid", "localhost")  # RFC 6761
# RFC 1918, RFC 6598, RFC 1112 4, RFC 4193, RFC 3879
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        (*("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "240.0.0.0/4"), "fc00::/7", "fec0::/10"),
    )
)


def check(fleet: Fleet) -> list[Finding]:
    """The cross-checks over a whole fleet."""
    findings: list[Finding] = []
    for rule in (
        _addresses_stand_once,
        _hosts_fit,
        _addresses_are_public,
        _names_are_served,
        _streams_share_nothing,
        _ssh_stays_open,
        _separate_streams_are_separate,
        engine_checks.check,
        _dkim_can_be_signed,
        _dkim_names_fit,
        _dkim_keys_can_be_replaced,
        _dmarc_reports_are_authorised,
        _dmarc_is_inherited,
        _subdomain_policies_count,
        _bimi_is_enforced,
        _return_paths_align,
        _bounces_have_a_way,
        _mta_sts_is_served,
        _tlsa_is_signed,
        _spf_stays_within_limits,
        _records_fit_together,
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
        if host.is_mta and not fleet.streams_on(host.name):
            yield Finding(
                f"hosts.{host.name}", "no stream has an address on it", "it would send nothing", "Remove it", WARNING
            )
        if not host.is_mta and not fleet.policies_on(host.name) and host.name != fleet.key_host:
            yield Finding(
                f"hosts.{host.name}", "engine: none", "no policy is served on it and no key kept", "Remove it", WARNING
            )


def _addresses_are_public(fleet: Fleet) -> Iterable[Finding]:
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


def _names_are_served(fleet: Fleet) -> Iterable[Finding]:
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
            yield from once(f"{place}.inject_users", "login", login.lower(), "a login chooses one stream")


def _ssh_stays_open(fleet: Fleet) -> Iterable[Finding]:
    """The firewall closes a listener's port to everybody else, an administrator among them."""
    for host in fleet.mta_hosts():
        ports = {22, _number(host.variables.get("ansible_port"))}
        taken = {f"streams.{stream.name}.port": stream.port for stream in fleet.streams_on(host.name)}
        if fleet.front and host.name in fleet.front.hosts:
            taken["front.port"] = fleet.front.port
        for where, port in taken.items():
            if host.firewall and port in ports:
                yield Finding(
                    where,
                    f"'{port}'",
                    f"ssh answers on this port of {host.name}, and the firewall would close it to you",
                    f"Choose another port, or write firewall: false for {host.name}",
                )


def _number(value: Any) -> int:
    return int(value) if str(value).isdecimal() else 0


def _separate_streams_are_separate(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        own = {fleet.organisational_domain(domain) for domain in stream.domains}
        for other in stream.separate_from:
            if other not in fleet.streams:
                continue
            shared = own & {fleet.organisational_domain(domain) for domain in fleet.streams[other].domains}
            if shared:
                yield Finding(
                    f"streams.{stream.name}.separate_from",
                    f"{other} is under {', '.join(sorted(shared))} as well",
                    "complaints count against the organisational domain, so the two are not separate",
                    "Send this stream from a registered domain of its own",
                )


def _dkim_can_be_signed(fleet: Fleet) -> Iterable[Finding]:
    engines = {host.name for host in fleet.mta_hosts()}
    for stream in fleet.streams.values():
        for host in sorted({address.host for address in stream.addresses if address.host in engines}):
            engine = fleet.hosts[host].engine
            for algorithm in stream.dkim.algorithms:
                if algorithm not in table.algorithms(engine):
                    yield Finding(
                        f"streams.{stream.name}.dkim.algorithms",
                        f"'{algorithm}'",
                        f"{engine} on {host} cannot sign with it",
                        f"Write algorithms: [{', '.join(table.algorithms(engine))}]",
                    )
        if RSA not in stream.dkim.algorithms:
            yield Finding(
                f"streams.{stream.name}.dkim.algorithms",
                "no rsa",
                "large receivers do not verify Ed25519 signatures yet, the mail would count as unsigned",
                "Add rsa",
                WARNING,
            )


def _dkim_names_fit(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        dkim = stream.dkim
        suffix = f"-{ED25519}" if ED25519 in dkim.algorithms else ""
        # Named by date, such as s1-20261231b: a second key of one day has a letter more.
        longest = max(dkim.slots, key=len, default=f"{dkim.selector}-20261231b") + suffix
        where = f"streams.{stream.name}.dkim." + ("slots" if dkim.slots else "selector")
        for domain in stream.domains:
            problem = Key(domain, longest, RSA).problem
            if problem:
                found = f"'{names.alias_name(domain, longest)}'"
                yield Finding(where, found, problem, "Use a shorter one, or a shorter domain")
            record = names.record_name(domain, longest, dkim.delegate)
            if dkim.delegate and len(record) > names.MAX_NAME:
                why = f"its name has {len(record)} characters, {names.MAX_NAME} are allowed"
                yield Finding(f"streams.{stream.name}.dkim.delegate", f"'{record}'", why, "Use a shorter domain")


def _dkim_keys_can_be_replaced(fleet: Fleet) -> Iterable[Finding]:
    senders = {host.name for host in fleet.mta_hosts()}
    for stream in fleet.streams.values():
        where, dkim = f"streams.{stream.name}.dkim", stream.dkim
        engines = {fleet.hosts[address.host].engine for address in stream.addresses if address.host in senders}
        tries = [table.ENGINES[engine].last_try_seconds(stream.queue_life_seconds) for engine in engines]
        lasting = max(tries, default=stream.queue_life_seconds) + stream.ttl_seconds
        if dkim.keep_retired_seconds < lasting:
            yield Finding(
                f"{where}.keep_retired_seconds",
                str(dkim.keep_retired_seconds),
                f"mail that the old key signed leaves the queue (queue_life_seconds {stream.queue_life_seconds}) up to"
                f" {lasting - stream.ttl_seconds} seconds later, and its key would be gone",
                f"Write {lasting} or more, or leave it out",
            )
        whole = stream.ttl_seconds + dkim.margin_seconds + dkim.keep_retired_seconds
        if dkim.every_days and whole > dkim.every_days * DAY_SECONDS:
            days = -(-whole // DAY_SECONDS)
            yield Finding(
                f"{where}.rotation.every_days",
                str(dkim.every_days),
                f"to publish a key, wait for caches and retire the old one takes {whole} seconds (ttl_seconds,"
                " margin_seconds and keep_retired_seconds), so the next would be due before",
                f"Write {days} or more",
            )
        if dkim.slots and not dkim.delegate:
            yield Finding(
                f"{where}.slots",
                f"[{', '.join(dkim.slots)}]",
                "only aliases that somebody sets once need fixed selectors, and a selector is free again late",
                "Write delegate: with a domain of yours, or remove slots",
            )
        for zone in dict.fromkeys(map(fleet.zone_of, stream.domains)):
            if zone is None or fleet.zones[zone].provider != services.EXTERNAL:
                continue
            if not dkim.delegate:
                yield Finding(
                    f"{where}.delegate",
                    "missing",
                    f"somebody else runs {zone}, so each new key waits until they have set its record",
                    "Write delegate: with a domain of yours, and slots: [a, b], whose aliases they set once",
                    WARNING,
                )
            elif not dkim.slots:
                yield Finding(
                    f"{where}.slots",
                    "missing",
                    f"somebody else runs {zone}, and each new selector would need an alias from them",
                    "Write slots: [a, b]; their aliases are set once",
                )


def _dmarc_reports_are_authorised(fleet: Fleet) -> Iterable[Finding]:
    for policy in record_sets.dmarc_policies(fleet):
        where = f"streams.{policy.stream}.dmarc.rua" if policy.stream else "organisational_dmarc.rua"
        for target in record_sets.foreign_reports(fleet, policy):
            if fleet.zone_of(target) is None and target not in policy.dmarc.rua_authorised:
                mailboxes = [mailbox for mailbox in policy.dmarc.rua if mailbox.endswith(f"@{target}")]
                yield Finding(
                    where,
                    f"'{', '.join(mailboxes)}'",
                    f"{target} must allow reports about {policy.domain} (RFC 9990), and no zone of this file holds it",
                    f"Have {policy.domain}._report._dmarc.{target} published, then add {target} to rua_authorised",
                )


def _dmarc_is_inherited(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        where = f"streams.{stream.name}.dmarc.inherit"
        if not stream.dmarc.inherit:
            continue
        if fleet.organisational_dmarc is None:
            yield Finding(
                where,
                "true",
                f"nothing of this file publishes a policy at _dmarc.{fleet.domain}",
                "Write organisational_dmarc, or give the stream a policy of its own",
            )
        for domain in stream.domains:
            if not names.is_within(domain, fleet.domain):
                yield Finding(
                    where,
                    "true",
                    f"{domain} is not below {fleet.domain}, so receivers would find no policy for it (RFC 9989 4.10.1)",
                    "Write inherit: false and a policy for this stream",
                )


def _subdomain_policies_count(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        if not fleet.organisational_dmarc or stream.dmarc.inherit or fleet.domain in stream.domains:
            continue
        for key in ("subdomain_policy", "missing_policy"):
            if getattr(stream.dmarc, key) and names.is_within(stream.domain, fleet.domain):
                yield Finding(
                    f"streams.{stream.name}.dmarc.{key}",
                    f"'{getattr(stream.dmarc, key)}'",
                    f"receivers take it from _dmarc.{fleet.domain} only (RFC 9989 4.7)",
                    "Write it in organisational_dmarc",
                    WARNING,
                )


def _bimi_is_enforced(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        if not stream.bimi:
            continue
        policies = {f"streams.{stream.name}.dmarc": stream.dmarc}
        if fleet.organisational_dmarc and names.is_within(stream.domain, fleet.domain):
            policies["organisational_dmarc"] = fleet.organisational_dmarc
        for place, dmarc in policies.items():
            weak = [
                *(["policy none"] if dmarc.policy == "none" else []),
                *(["subdomain_policy none"] if dmarc.subdomain_policy == "none" else []),
                *(["testing"] if dmarc.testing else []),
            ]
            if weak:
                yield Finding(
                    f"streams.{stream.name}.bimi",
                    ", ".join(weak),
                    "mailbox operators show a logo only where DMARC is enforced, for subdomains as well",
                    f"Write quarantine or reject in {place}, or remove bimi",
                )


def _mta_sts_is_served(fleet: Fleet) -> Iterable[Finding]:
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


def _tlsa_is_signed(fleet: Fleet) -> Iterable[Finding]:
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


def _return_paths_align(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        path = stream.return_path.domain
        strict = stream.dmarc.alignment_spf == "s"
        aligned = (
            path == stream.domain
            if strict
            else fleet.organisational_domain(path) == fleet.organisational_domain(stream.domain)
        )
        if not aligned:
            yield Finding(
                f"streams.{stream.name}.return_path.domain",
                f"'{path}'",
                f"SPF for it does not align with {stream.domain} under DMARC, so DKIM alone would have to pass",
                f"Use a name under {stream.domain}" + (", or relaxed alignment" if strict else ""),
                WARNING,
            )


def _bounces_have_a_way(fleet: Fleet) -> Iterable[Finding]:
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


def _spf_stays_within_limits(fleet: Fleet) -> Iterable[Finding]:
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


def _records_fit_together(fleet: Fleet) -> Iterable[Finding]:
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
