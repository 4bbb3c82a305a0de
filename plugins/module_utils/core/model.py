# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as values. Every name and address in here is canonical (see names); nothing in here can change."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names

NO_ENGINE = "none"  # a host that sends nothing; it serves MTA-STS policies or keeps the keys
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
    warmup_from: Optional[str] = None  # the day, as 2026-11-01, on which it begins to take the stream's schedule

    @property
    def ips(self) -> tuple[str, ...]:
        return tuple(ip for ip in (self.ipv4, self.ipv6) if ip)

    @property
    def label(self) -> str:
        """Its name in services and logs, unique over all fleets: ``203-0-113-10``."""
        return names.address_label(self.ips[0])


@dataclass(frozen=True)
class Dkim:
    """How keys are made and replaced. Which keys there are, and their selectors, the key host alone knows."""

    algorithms: tuple[str, ...]
    rsa_bits: int
    selector: str  # what selectors begin with
    delegate: Optional[str] = None  # a domain of ours that holds the keys; the sending domain has aliases to it
    slots: tuple[str, ...] = ()  # selectors used in turn, because their aliases are set once; empty: named by date
    every_days: Optional[int] = None  # a key is replaced at this age
    quarters: tuple[int, ...] = ()  # or when these quarters of the year begin; neither: on demand only
    first_key: str = "now"  # now | wait, until caches can hold nothing else
    margin_seconds: int = 3600  # added to every wait for caches
    keep_retired_seconds: int = 604800  # how long the key of mail under way stays published


@dataclass(frozen=True)
class Dmarc:
    """RFC 9989 tags; ``rua`` holds mail addresses without the mailto: scheme.

    With ``inherit`` the domain publishes none of it: these are the tags of the organisational domain.
    """

    policy: str
    subdomain_policy: Optional[str]
    rua: tuple[str, ...]
    alignment_dkim: str  # r or s
    alignment_spf: str
    rua_authorised: tuple[str, ...]  # foreign domains known to accept our reports
    missing_policy: Optional[str] = None  # np, of names that do not exist
    testing: bool = False
    inherit: bool = False

    @property
    def for_heirs(self) -> str:
        """What receivers apply to a domain below that publishes no policy (RFC 9989 4.7)."""
        return self.subdomain_policy or self.policy


@dataclass(frozen=True)
class MtaSts:
    mode: str  # none | testing | enforce
    max_age_seconds: int
    host: Optional[str] = None  # the inventory host that serves the policy
    addresses: tuple[str, ...] = ()  # where it serves it
    cname: Optional[str] = None  # or the policy host of somebody else


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
    tlsa: tuple[str, ...] = ()  # data of TLSA records for each of mx (RFC 7672)


@dataclass(frozen=True)
class Bimi:
    logo: str  # URL of an SVG
    evidence: str  # URL of its mark certificate, or empty


@dataclass(frozen=True)
class Caa:
    """Who may issue certificates for the policy hosts (RFC 8659); nobody may issue what its list leaves out."""

    issue: tuple[str, ...]
    issuewild: tuple[str, ...]
    iodef: Optional[str]


@dataclass(frozen=True)
class Record:
    """A record set that the file writes out. Its values are as in a zone file."""

    name: str
    type: str
    ttl_seconds: int
    values: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Limits:
    """What one source address may do at one receiver group."""

    concurrency: int
    messages_per_connection: int
    rate_delay_seconds: int
    tls: str  # smtp_tls_security_level: may | encrypt


@dataclass(frozen=True)
class Reply:
    """An answer by which an operator asks a source to slow down: a regular expression, and an answer that it fits."""

    pattern: str
    sample: str


@dataclass(frozen=True)
class ReceiverGroup:
    """Mailboxes behind one operator, found by recipient domain."""

    name: str
    domains: tuple[str, ...]  # empty for the default group
    limits: Limits
    source: str
    mx: tuple[str, ...] = ()  # hosts that take mail for all of its domains, each of the lowest preference
    slow_down: tuple[Reply, ...] = ()


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
    queue_life_seconds: int = 432000  # how old a message may be at its last attempt but one
    warmup_messages_per_day: tuple[int, ...] = ()  # of one address at one receiver, from its first day on
    bimi: Optional[Bimi] = None
    verifications: tuple[str, ...] = ()  # texts by which others see that we own the domain
    caa: Optional[Caa] = None
    max_message_bytes: int = 10240000  # message_size_limit of postconf(5)
    remove_received: bool = False  # receivers see no Received field of an application

    @property
    def domains(self) -> tuple[str, ...]:
        return (self.domain, *self.extra_domains)

    @property
    def policy_host(self) -> str:
        """The name that serves the MTA-STS policy (RFC 8461 3.2)."""
        return f"mta-sts.{self.return_path.domain}"

    def addresses_on(self, host: str) -> tuple[Address, ...]:
        return tuple(address for address in self.addresses if address.host == host)


@dataclass(frozen=True)
class Host:
    name: str
    engine: str
    listen: tuple[str, ...]  # addresses on which applications reach it; loopback is added by the engine
    families: tuple[str, ...]  # ipv4, ipv6
    interface: Optional[str]  # None: the interface of the default route
    bounce_listen: tuple[str, ...] = ()  # addresses on which it takes bounces and complaints, port 25
    firewall: bool = True  # False: the host has a firewall of its own
    variables: Mapping[str, Any] = field(default_factory=dict)  # given on to Ansible as they are

    @property
    def is_mta(self) -> bool:
        return self.engine != NO_ENGINE


@dataclass(frozen=True)
class Zone:
    name: str
    provider: str
    credentials: Optional[str]  # the name of an entry of mta_dns_credentials
    options: Mapping[str, Any] = field(default_factory=dict)
    signed: bool = False  # with DNSSEC
    network: Optional[str] = None  # of a classless reverse zone (RFC 2317)


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


@dataclass(frozen=True, eq=False)  # itself a key of caches
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
    organisational_dmarc: Optional[Dmarc] = None  # what stands at _dmarc.<domain>
    records: tuple[Record, ...] = ()
    ttl_seconds: int = 3600
    bounce_host: Optional[str] = None

    @functools.cached_property
    def _streams_by_host(self) -> Mapping[str, tuple[Stream, ...]]:
        found: dict[str, dict[str, Stream]] = {}
        for address in self.addresses():
            found.setdefault(address.host, {})[address.stream] = self.streams[address.stream]
        return {host: tuple(streams.values()) for host, streams in found.items()}

    def streams_on(self, host: str) -> tuple[Stream, ...]:
        return self._streams_by_host.get(host, ())

    @functools.cached_property
    def _policies_by_host(self) -> Mapping[str, Sequence[Stream]]:
        found: dict[str, list[Stream]] = {}
        for stream in self.streams.values():
            if stream.mta_sts.host and stream.mta_sts.mode != "none":
                found.setdefault(stream.mta_sts.host, []).append(stream)
        return found

    def policies_on(self, host: str) -> Sequence[Stream]:
        """The streams whose MTA-STS policy this host serves."""
        return self._policies_by_host.get(host, ())

    def mta_hosts(self) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts.values() if host.is_mta)

    def addresses(self) -> tuple[Address, ...]:
        return tuple(address for stream in self.streams.values() for address in stream.addresses)

    def zone_of(self, name: str) -> Optional[str]:
        return names.enclosing(name, self.zones)

    def organisational_domain(self, name: str) -> str:
        """The registered domain above ``name`` as far as the file tells: its topmost zone, else its last two labels."""
        labels = name.split(".")
        for start in range(len(labels) - 1, -1, -1):
            zone = ".".join(labels[start:])
            if zone in self.zones:
                return zone
        return ".".join(labels[-2:])

    @functools.cached_property
    def _classless(self) -> tuple[tuple[ipaddress.IPv4Network, str], ...]:
        return tuple((ipaddress.IPv4Network(zone.network), zone.name) for zone in self.zones.values() if zone.network)

    def reverse_name(self, ip: str) -> str:
        """Where the PTR record of ``ip`` stands: below a classless zone (RFC 2317) where one holds it."""
        usual = names.reverse_name(ip)
        if not names.is_ipv6(ip):
            for network, zone in self._classless:
                if ipaddress.IPv4Address(ip) in network:
                    return f"{usual.partition('.')[0]}.{zone}"
        return usual
