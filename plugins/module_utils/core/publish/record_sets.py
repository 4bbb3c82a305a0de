# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record sets of a fleet: what stands at each name, why, and which streams use it.

DKIM keys and the aliases of delegated ones are not in it: only the key host knows them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Caa, Dmarc, Fleet, Stream

# Answers (RFC 6891 6.2.5 and DNS Flag Day 2020): without EDNS, and what passes every path unfragmented.
ANSWER_SMALL = 512
ANSWER_SAFE = 1232
_HEADER, _OPT, _FIXED = 12, 11, 12  # bytes: of a message, of its EDNS record, of a record with a compressed name


@dataclass
class _Records:
    """Record sets in the making: values for one name and type meet, and each says what it is for and for whom."""

    sets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, rtype: str, value: str, ttl: int, reason: str, stream: str = "") -> None:
        entry = self.sets.setdefault(
            (name, rtype), {"name": name, "type": rtype, "ttl": ttl, "values": {}, "reason": {}, "streams": set()}
        )
        entry["ttl"] = min(entry["ttl"], ttl)
        entry["values"][value] = None
        entry["reason"][reason] = None
        if stream:
            entry["streams"].add(stream)

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                **entry,
                "values": list(entry["values"]),
                "reason": "; ".join(entry["reason"]),
                "streams": sorted(entry["streams"]),
            }
            for entry in self.sets.values()
        ]


@functools.lru_cache(maxsize=1)  # checked, then published; read only
def record_sets(fleet: Fleet) -> list[dict[str, Any]]:
    """``[{name, type, ttl, values, reason, streams}]``; the reasons of all who need a record set are joined by '; '."""
    records = _Records()
    sending = {name for stream in fleet.streams.values() for name in spf_names(stream)}
    for stream in fleet.streams.values():
        _policy_records(stream, records)
        _address_records(fleet, stream, sending, records)
    _dmarc_records(fleet, records)
    _add_further(fleet, records)
    return records.listed()


def further_record_sets(fleet: Fleet) -> list[dict[str, Any]]:
    """Those of ``record_sets`` that no part of a message depends on; a value beside them may be in another set."""
    records = _Records()
    _add_further(fleet, records)
    return records.listed()


def answer_size(name: str, texts: Iterable[str]) -> int:
    """Bytes of the DNS answer that holds these TXT values, each cut into strings of 255 bytes."""
    data = (sum(1 + len(part) for part in txt.strings(text)) for text in texts)
    return _HEADER + len(name) + 2 + 4 + sum(_FIXED + size for size in data) + _OPT


# ---- what is said of a stream


def spf_names(stream: Stream) -> tuple[str, ...]:
    """The names at which its SPF record stands."""
    return tuple(dict.fromkeys((*stream.domains, stream.return_path.domain)))


def spf_records(stream: Stream) -> dict[str, str]:
    """The SPF record of a stream's domains (first), and its parts: exactly its pool, and what the file adds."""
    longest = max(len(name) for name in (f"_spf10.{stream.domain}", *spf_names(stream)))
    return policies.spf_records(
        stream.domain,
        tuple(ip for address in stream.addresses for ip in address.ips),
        stream.spf.include,
        stream.spf.all,
        policies.SPF_MAX_TEXT - longest,  # RFC 7208 3.4: the name and the text together
    )


@dataclass(frozen=True)
class DmarcPolicy:
    """One DMARC record: of a stream, or the organisational one, which has the streams that inherit it as heirs."""

    domain: str
    dmarc: Dmarc
    ttl_seconds: int
    stream: str = ""
    heirs: tuple[str, ...] = ()


def dmarc_policies(fleet: Fleet) -> Iterable[DmarcPolicy]:
    """Every DMARC record that the fleet publishes."""
    if fleet.organisational_dmarc:
        heirs = tuple(stream.name for stream in fleet.streams.values() if stream.dmarc.inherit)
        yield DmarcPolicy(fleet.domain, fleet.organisational_dmarc, fleet.ttl_seconds, heirs=heirs)
    for stream in fleet.streams.values():
        if not stream.dmarc.inherit:
            yield from dmarc_policies_of(fleet, stream)


def dmarc_policies_of(fleet: Fleet, stream: Stream) -> list[DmarcPolicy]:
    """The records that receivers apply to a stream: its own, or the one it inherits (RFC 9989 4.10.1)."""
    if stream.dmarc.inherit:
        return [DmarcPolicy(fleet.domain, stream.dmarc, fleet.ttl_seconds)]
    return [DmarcPolicy(domain, stream.dmarc, stream.ttl_seconds, stream.name) for domain in stream.domains]


def foreign_reports(fleet: Fleet, policy: DmarcPolicy) -> list[str]:
    """The domains that must allow reports about this one: those of another organisation (RFC 9990 4)."""
    own = fleet.organisational_domain(policy.domain)
    targets = dict.fromkeys(mailbox.rpartition("@")[2] for mailbox in policy.dmarc.rua)
    return [target for target in targets if fleet.organisational_domain(target) != own]


def caa_values(caa: Caa) -> list[str]:
    """RFC 8659 4. Wildcards are nobody's to issue unless the file names somebody: a policy host needs none."""
    return [
        *(f'0 issue "{issuer}"' for issuer in caa.issue or (";",)),
        *(f'0 issuewild "{issuer}"' for issuer in caa.issuewild or (";",)),
        *([f'0 iodef "{caa.iodef}"'] if caa.iodef else []),
    ]


# ---- its record sets

Add = Callable[[str, str, str, str], None]


def _adder(records: _Records, stream: Stream, of: str = "") -> Add:
    """Adds name, type, value and reason for one stream."""
    whose = f"stream {stream.name}{of}"
    return lambda name, rtype, value, reason: records.add(
        name, rtype, value, stream.ttl_seconds, f"{whose}: {reason}", stream.name
    )


def _policy_records(stream: Stream, records: _Records) -> None:
    add, path = _adder(records, stream), stream.return_path
    for preference, host in enumerate(path.mx, 1):
        add(path.domain, "MX", f"{preference * 10} {host}", "takes its bounces")
    (_domain, top), *parts = spf_records(stream).items()
    for domain in spf_names(stream):
        add(domain, "TXT", top, "SPF, the addresses of its pool")
    for name, text in parts:
        add(name, "TXT", text, f"SPF, a part of that of {stream.domain}")
    if stream.tls_rpt:
        add(f"_smtp._tls.{path.domain}", "TXT", policies.tls_rpt(stream.tls_rpt), "TLS reports")
    if stream.mta_sts.mode != "none":
        policy = policies.mta_sts_policy(path.mx, stream.mta_sts)
        add(f"_mta-sts.{path.domain}", "TXT", policies.mta_sts_record(policy), "MTA-STS policy id")


def _dmarc_records(fleet: Fleet, records: _Records) -> None:
    for policy in dmarc_policies(fleet):
        ttl, whose = policy.ttl_seconds, f"stream {policy.stream}" if policy.stream else f"fleet {fleet.name}"
        what = f"{whose}: DMARC policy"
        if policy.heirs:
            what += f" of the organisational domain, {policy.dmarc.for_heirs} for {', '.join(policy.heirs)}"
        for user in policy.heirs or (policy.stream,):
            records.add(f"_dmarc.{policy.domain}", "TXT", policies.dmarc(policy.dmarc), ttl, what, user)
            for target in foreign_reports(fleet, policy):
                if fleet.zone_of(target):
                    name = f"{policy.domain}._report._dmarc.{target}"
                    records.add(name, "TXT", "v=DMARC1", ttl, f"{whose}: its DMARC reports may go there", user)


def _add_further(fleet: Fleet, records: _Records) -> None:
    for stream in fleet.streams.values():
        _domain_records(stream, _adder(records, stream))
        _policy_host_records(stream, _adder(records, stream))
        for host in stream.return_path.mx if stream.return_path.tlsa else ():
            for value in stream.return_path.tlsa if fleet.zone_of(host) else ():
                _adder(records, stream)(f"_25._tcp.{host}", "TLSA", value, f"DANE, the certificate of {host}")
    for record in fleet.records:
        for value in record.values:
            records.add(record.name, record.type, value, record.ttl_seconds, record.reason)


def _domain_records(stream: Stream, add: Add) -> None:
    for domain in stream.domains:
        for text in stream.verifications:
            add(domain, "TXT", text, "proves to somebody else that the domain is ours")
        if stream.bimi:
            add(f"default._bimi.{domain}", "TXT", policies.bimi(stream.bimi), "BIMI, the logo beside its mail")


def _policy_host_records(stream: Stream, add: Add) -> None:
    sts = stream.mta_sts
    if sts.mode == "none":
        return
    for ip in sts.addresses:
        add(stream.policy_host, "AAAA" if names.is_ipv6(ip) else "A", ip, "serves its MTA-STS policy")
    if sts.cname:
        add(stream.policy_host, "CNAME", sts.cname, "serves its MTA-STS policy")
    for value in caa_values(stream.caa) if sts.addresses and stream.caa else ():
        add(stream.policy_host, "CAA", value, "who may issue the policy host's certificate")


def _address_records(fleet: Fleet, stream: Stream, sending: set[str], records: _Records) -> None:
    for address in stream.addresses:
        add = _adder(records, stream, f", address {address.label}")
        for ip in address.ips:
            add(address.ehlo, "AAAA" if names.is_ipv6(ip) else "A", ip, "EHLO name")
            usual, reverse = names.reverse_name(ip), fleet.reverse_name(ip)
            if fleet.zone_of(reverse):
                add(reverse, "PTR", address.ehlo, "reverse of its EHLO name")
            if usual != reverse and fleet.zone_of(usual):
                add(usual, "CNAME", reverse, "leads into the classless zone of its PTR record")
        if address.ehlo not in sending:
            # A bounce has no sender, so receivers check SPF for the EHLO name (RFC 7208 2.4).
            add(
                address.ehlo,
                "TXT",
                policies.spf_records(address.ehlo, address.ips)[address.ehlo],
                "SPF of its EHLO name",
            )
