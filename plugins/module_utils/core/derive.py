# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from a fleet: the slice of each host, the record sets, the keys and what proof must find.

The shapes are those of docs/architecture.md. Nothing in here decides anything that the fleet file does not say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core import alignment, names, postfix, tags
from ansible_collections.mailops.mta.plugins.module_utils.core.model import POSTFIX, RSA, Fleet, Stream
from ansible_collections.mailops.mta.plugins.module_utils.core.signer import MILTER_SOCKET


def host_variables(fleet: Fleet, host: str) -> dict[str, Any]:
    """The variables of one MTA host: its own slice and nothing more."""
    streams = fleet.streams_on(host)
    variables: dict[str, Any] = {
        "mta_engine": fleet.hosts[host].engine,
        "mta_streams": [stream.name for stream in streams],
        "mta_interface": fleet.hosts[host].interface,
        "mta_addresses": [ip for stream in streams for address in stream.addresses_on(host) for ip in address.ips],
        "mta_sasl_users": {login: [stream.name] for stream in _logins(fleet, host) for login in stream.inject_users},
        "mta_dkim": {
            "socket": MILTER_SOCKET,
            "keys": [
                {"domain": key["domain"], "selector": key["selector"], "algorithm": key["algorithm"]}
                for stream in streams
                for key in _stream_keys(stream)
            ],
        },
    }
    if fleet.hosts[host].engine == POSTFIX:
        variables["mta_postfix"] = {"instances": postfix.instances(fleet, host)}
    return variables


def fleet_variables(fleet: Fleet) -> dict[str, Any]:
    """The variables of the host ``fleet``, which stands for the whole."""
    return {
        "mta_fleet": {
            "name": fleet.name,
            "domain": fleet.domain,
            "key_host": fleet.key_host,
            "hosts": list(fleet.hosts),
            "front": None
            if fleet.front is None
            else {"port": fleet.front.port, "header": fleet.front.header, "hosts": list(fleet.front.hosts)},
            "streams": {
                stream.name: {
                    "domain": stream.domain,
                    "port": stream.port,
                    "logins": list(stream.inject_users),
                    "addresses": [ip for address in stream.addresses for ip in address.ips],
                }
                for stream in fleet.streams.values()
            },
        },
        "mta_dns": {
            "owner": fleet.name,
            "zones": [
                {
                    "name": zone.name,
                    "provider": zone.provider,
                    "credentials": zone.credentials,
                    "options": dict(zone.options),
                }
                for zone in fleet.zones.values()
            ],
            "records": record_sets(fleet),
        },
        "mta_dkim_keys": [key for stream in fleet.streams.values() for key in _stream_keys(stream)],
        "mta_proof": alignment.expectations(fleet),
    }


def _logins(fleet: Fleet, host: str) -> Iterable[Stream]:
    """The streams whose logins a host must know: all where its front listener may carry any of them."""
    if fleet.front and host in fleet.front.hosts:
        return fleet.streams.values()
    return fleet.streams_on(host)


def _stream_keys(stream: Stream) -> list[dict[str, Any]]:
    return [
        {
            "domain": domain,
            "selector": stream.dkim.selector_for(algorithm),
            "algorithm": algorithm,
            "bits": stream.dkim.rsa_bits if algorithm == RSA else 256,
            "ttl": stream.ttl_seconds,
        }
        for domain in stream.domains
        for algorithm in stream.dkim.algorithms
    ]


@dataclass
class _Records:
    """Record sets in the making: values for one name and type meet, and each says what it is for."""

    sets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, rtype: str, value: str, ttl: int, reason: str) -> None:
        entry = self.sets.setdefault(
            (name, rtype), {"name": name, "type": rtype, "ttl": ttl, "values": [], "reason": reason}
        )
        entry["ttl"] = min(entry["ttl"], ttl)
        if value not in entry["values"]:
            entry["values"].append(value)


def record_sets(fleet: Fleet) -> list[dict[str, Any]]:
    """Every record set that the fleet needs in DNS, DKIM keys excepted (only the key host knows those)."""
    records = _Records()
    sending = {domain for stream in fleet.streams.values() for domain in (*stream.domains, stream.return_path.domain)}
    for stream in fleet.streams.values():
        _stream_records(fleet, stream, records)
        _address_records(fleet, stream, sending, records)
    return list(records.sets.values())


def spf_text(stream: Stream) -> str:
    """The SPF record of a stream's domains: exactly its pool, and what the file adds (RFC 7208)."""
    ips = [ip for address in stream.addresses for ip in address.ips]
    return tags.spf(ips, include=stream.spf.include, all=stream.spf.all)


def _stream_records(fleet: Fleet, stream: Stream, records: _Records) -> None:
    ttl = stream.ttl_seconds
    path = stream.return_path
    of = f"stream {stream.name}"
    for preference, host in enumerate(path.mx, 1):
        records.add(path.domain, "MX", f"{preference * 10} {host}", ttl, f"{of}: takes its bounces")
    for domain in dict.fromkeys((*stream.domains, path.domain)):
        records.add(domain, "TXT", spf_text(stream), ttl, f"{of}: SPF, the addresses of its pool")
    for domain in stream.domains:
        records.add(f"_dmarc.{domain}", "TXT", tags.dmarc(stream.dmarc), ttl, f"{of}: DMARC policy")
        for mailbox in stream.dmarc.rua:
            target = mailbox.rpartition("@")[2]
            if fleet.zone_of(target) and fleet.zone_of(target) != fleet.zone_of(domain):
                records.add(
                    f"{domain}._report._dmarc.{target}", "TXT", "v=DMARC1", ttl, f"{of}: its DMARC reports may go there"
                )
    records.add(f"_smtp._tls.{path.domain}", "TXT", tags.tls_rpt(stream.tls_rpt), ttl, f"{of}: TLS reports")
    if stream.mta_sts.mode != "none":
        policy = tags.mta_sts_policy(path.mx, stream.mta_sts)
        records.add(f"_mta-sts.{path.domain}", "TXT", tags.mta_sts_record(policy), ttl, f"{of}: MTA-STS policy id")


def _address_records(fleet: Fleet, stream: Stream, sending: set[str], records: _Records) -> None:
    ttl = stream.ttl_seconds
    for address in stream.addresses:
        of = f"stream {stream.name}, address {address.label}"
        for ip in address.ips:
            records.add(address.ehlo, "AAAA" if names.is_ipv6(ip) else "A", ip, ttl, f"{of}: EHLO name")
            reverse = names.reverse_name(ip)
            if fleet.zone_of(reverse):
                records.add(reverse, "PTR", address.ehlo, ttl, f"{of}: reverse of its EHLO name")
        if address.ehlo not in sending:
            # A bounce has no sender, so receivers check SPF for the EHLO name (RFC 7208 2.4).
            records.add(address.ehlo, "TXT", tags.spf(address.ips), ttl, f"{of}: SPF of its EHLO name")
