# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as values. Every name and address in here is canonical (see names); nothing in here can change."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names

POSTFIX = "postfix"
POWERMTA = "powermta"
RSA = "rsa"
ED25519 = "ed25519"


@dataclass(frozen=True)
class Address:
    """One source of mail: an EHLO name with an IPv4 address, an IPv6 address, or one of each."""

    stream: str
    host: str
    ehlo: str
    ipv4: Optional[str]
    ipv6: Optional[str]
    share: int  # its part of the pool's traffic, relative to the other shares on its host; 0 drains it

    @property
    def ips(self) -> tuple[str, ...]:
        return tuple(ip for ip in (self.ipv4, self.ipv6) if ip)

    @property
    def label(self) -> str:
        """Its name in services and logs, unique over all fleets: ``203-0-113-10``."""
        return names.address_label(self.ips[0])


@dataclass(frozen=True)
class Dkim:
    algorithms: tuple[str, ...]
    rsa_bits: int
    selector: str

    def selector_for(self, algorithm: str) -> str:
        return self.selector if algorithm == RSA else f"{self.selector}-{algorithm}"


@dataclass(frozen=True)
class Dmarc:
    """RFC 9989 tags; ``rua`` holds mail addresses without the mailto: scheme."""

    policy: str
    subdomain_policy: Optional[str]
    rua: tuple[str, ...]
    alignment_dkim: str  # r or s
    alignment_spf: str
    rua_authorised: tuple[str, ...]  # foreign domains known to accept our reports


@dataclass(frozen=True)
class MtaSts:
    mode: str  # none | testing | enforce
    max_age_seconds: int


@dataclass(frozen=True)
class Spf:
    """What an SPF record says beside the pool's addresses (RFC 7208)."""

    include: tuple[str, ...]
    all: str  # -all | ~all


@dataclass(frozen=True)
class ReturnPath:
    """The domain of every envelope sender (RFC 5321 2.3.3) and the hosts that take its bounces."""

    domain: str
    mx: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """What one source address may do at one receiver group."""

    concurrency: int
    messages_per_connection: int
    rate_delay_seconds: int
    tls: str  # smtp_tls_security_level: may | encrypt


@dataclass(frozen=True)
class ReceiverGroup:
    """Mailboxes behind one operator, found by recipient domain."""

    name: str
    domains: tuple[str, ...]  # empty for the default group
    limits: Limits
    source: str


@dataclass(frozen=True)
class Stream:
    name: str
    domain: str
    extra_domains: tuple[str, ...]
    port: int
    inject_from: tuple[str, ...]  # networks in CIDR form
    inject_users: tuple[str, ...]
    addresses: tuple[Address, ...]
    dkim: Dkim
    dmarc: Dmarc
    mta_sts: MtaSts
    tls_rpt: tuple[str, ...]  # mail addresses
    spf: Spf
    return_path: ReturnPath
    limits: Mapping[str, Limits]  # by receiver group, complete
    ttl_seconds: int
    separate_from: tuple[str, ...]  # stream names

    @property
    def domains(self) -> tuple[str, ...]:
        return (self.domain, *self.extra_domains)

    def addresses_on(self, host: str) -> tuple[Address, ...]:
        return tuple(address for address in self.addresses if address.host == host)


@dataclass(frozen=True)
class Host:
    name: str
    engine: str
    listen: tuple[str, ...]  # addresses on which applications reach it; loopback is added by the engine
    families: tuple[str, ...]  # ipv4, ipv6
    interface: Optional[str]  # None: the interface of the default route
    variables: Mapping[str, Any] = field(default_factory=dict)  # given on to Ansible as they are


@dataclass(frozen=True)
class Zone:
    name: str
    provider: str
    credentials: Optional[str]  # the name of an entry of mta_dns_credentials
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Front:
    """A listener for applications that choose the stream by header or login instead of by port."""

    port: int
    header: str
    default: str  # the stream of messages that choose none
    inject_from: tuple[str, ...]
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Verify:
    """Where proof mail goes: each address sends to verify-<label>@<sink_domain>; the sink tells what it saw."""

    sink_domain: str
    sink_host: str  # an inventory host outside the fleet, also the vantage of the open-relay probe


@dataclass(frozen=True)
class Fleet:
    name: str
    domain: str
    hosts: Mapping[str, Host]
    zones: Mapping[str, Zone]
    streams: Mapping[str, Stream]
    receivers: Mapping[str, ReceiverGroup]  # the default group last
    key_host: str
    front: Optional[Front]
    verify: Optional[Verify]

    @functools.cached_property
    def _streams_by_host(self) -> Mapping[str, tuple[Stream, ...]]:
        found: dict[str, dict[str, Stream]] = {}
        for address in self.addresses():
            found.setdefault(address.host, {})[address.stream] = self.streams[address.stream]
        return {host: tuple(streams.values()) for host, streams in found.items()}

    def streams_on(self, host: str) -> tuple[Stream, ...]:
        return self._streams_by_host.get(host, ())

    def addresses(self) -> tuple[Address, ...]:
        return tuple(address for stream in self.streams.values() for address in stream.addresses)

    def zone_of(self, name: str) -> Optional[str]:
        return names.enclosing(name, self.zones)
