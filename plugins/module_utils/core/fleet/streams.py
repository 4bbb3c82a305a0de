# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section streams of the fleet file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.receivers import WARMUP_MESSAGES_PER_DAY
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import inherit
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.hosts import RESERVED_NAMES
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.receivers import Receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.model import (
    ED25519,
    RSA,
    Address,
    Dmarc,
    ReturnPath,
    Spf,
    Stream,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, shown

_OWN_KEYS = (
    "domain",
    "extra_domains",
    "port",
    "inject_from",
    "inject_users",
    "addresses",
    "separate_from",
    "spf",
    "return_path",
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z")
_TLSA = re.compile(r"([0-3]) ([01]) ([012]) ([0-9a-fA-F]+)\Z")
_TLSA_DIGITS = {"1": 64, "2": 128}  # of SHA-256 and SHA-512 (RFC 6698 2.1.3)
_STREAM_HINTS = {
    "warmup_from": "it stands beside the address that is new",
    "ip": "addresses stand in a list",
}


@dataclass(frozen=True)
class FleetWide:
    """What the file says for all streams, read once."""

    root: Reader
    domain: str
    bounce_host: Optional[str]
    settings: inherit.Settings
    receivers: Receivers
    organisational_dmarc: Optional[Dmarc]
    without_ed25519: set[str]  # hosts whose engine cannot sign with it


def read_streams(fleet: FleetWide) -> dict[str, Stream]:
    streams = {name: _stream(name, reader, fleet) for name, reader in fleet.root.entries("streams")}
    return {name: stream for name, stream in streams.items() if stream}


def _stream(name: str, reader: Reader, fleet: FleetWide) -> Optional[Stream]:
    reader.known((*_OWN_KEYS, *inherit.KEYS, "receivers"), _STREAM_HINTS)
    if not _NAME.match(name) or name in RESERVED_NAMES:
        reader.refuse(
            None,
            shown(name),
            "it is no name of a stream",
            "Write small letters, digits and underscores, not a group's name",
        )
    reader.require("domain", "the domain that the stream sends from")
    reader.require("port", "the port on which applications hand in this stream's mail")
    domain = reader.domain("domain")
    own = inherit.read_settings(reader, {**inherit.KEYS, "receivers": fleet.receivers.key})
    settings = inherit.merge({**fleet.settings, "receivers": fleet.receivers.settings}, own)
    inherit.refuse_own_policy(reader, settings, "Write it in organisational_dmarc, or inherit: false here")
    if domain is None:
        return None
    if not reader.has("inject_from") and not reader.has("inject_users"):
        reader.refuse(
            "inject_from",
            "missing",
            "nobody could hand in mail",
            "Write inject_from (networks) or inject_users (logins)",
        )
    queue_life_seconds = settings.get("queue_life_seconds") or 432000
    addresses = _addresses(name, domain, reader)
    rsa_only = any(address.host in fleet.without_ed25519 for address in addresses)
    extra_domains = reader.domains("extra_domains")
    if domain in extra_domains:
        place = f"extra_domains[{extra_domains.index(domain)}]"
        reader.refuse(place, shown(domain), "it stands there twice, for it is the stream's domain", "Remove it here")
    return Stream(
        name=name,
        domain=domain,
        extra_domains=extra_domains,
        port=reader.integer("port", 1, 65535, 0),
        inject_from=reader.networks("inject_from"),
        inject_users=reader.words("inject_users", _LOGIN, "login"),
        addresses=addresses,
        dkim=inherit.dkim(settings.get("dkim"), queue_life_seconds, (RSA,) if rsa_only else (RSA, ED25519)),
        dmarc=_dmarc(settings, fleet),
        mta_sts=inherit.mta_sts(settings.get("mta_sts")),
        tls_rpt=settings.get("tls_rpt", (f"tls@{fleet.domain}",)),
        spf=_spf(reader),
        return_path=_return_path(reader, domain, fleet),
        limits=fleet.receivers.limits(settings["receivers"]),
        ttl_seconds=settings.get("ttl_seconds") or inherit.TTL_SECONDS,
        separate_from=_separate_from(name, reader, fleet.root),
        queue_life_seconds=queue_life_seconds,
        warmup_messages_per_day=(settings.get("warmup") or {}).get("messages_per_day") or WARMUP_MESSAGES_PER_DAY,
        bimi=inherit.bimi((reader if "bimi" in reader.data else fleet.root).mapping("bimi"), settings.get("bimi")),
        verifications=settings.get("verifications") or (),
        caa=inherit.caa(settings.get("caa")),
        max_message_bytes=settings.get("max_message_bytes") or 10240000,
        remove_received=settings.get("remove_received") or False,
    )


def _dmarc(settings: inherit.Settings, fleet: FleetWide) -> Dmarc:
    own = inherit.dmarc(settings.get("dmarc"), fleet.domain)
    return replace(fleet.organisational_dmarc or own, inherit=True) if own.inherit else own


def _addresses(stream: str, domain: str, reader: Reader) -> tuple[Address, ...]:
    addresses = []
    if not reader.require("addresses", "at least one source address"):
        return ()
    for number, item in enumerate(reader.items("addresses")):
        place = f"addresses[{number}]"
        if not isinstance(item, Mapping):
            reader.refuse(place, shown(item), "a mapping is expected", "Write {ip: ..., host: ...}")
            continue
        entry = Reader(item, reader.at(place), reader.findings)
        entry.known(("ip", "ip6", "host", "ehlo", "share", "warmup_from"))
        if not entry.has("ip") and not entry.has("ip6"):
            entry.require("ip", "an IP address")
        entry.require("host", "the host that has this address")
        first, second = entry.ip("ip"), entry.ip("ip6")
        if second and not names.is_ipv6(second):
            entry.refuse("ip6", shown(second), "it is no IPv6 address", "Write an IPv6 address, or leave ip6 out")
            second = None
        if first and names.is_ipv6(first):
            if second:
                entry.refuse("ip", shown(first), "both addresses are IPv6", "Write an entry for each")
            first, second = None, first
        if not first and not second:
            continue
        addresses.append(
            Address(
                stream=stream,
                host=entry.text("host", ""),
                ehlo=entry.domain("ehlo") or _ehlo_name(first or second or "", domain),
                ipv4=first,
                ipv6=second,
                share=entry.integer("share", 0, 100, 1),
                warmup_from=entry.day("warmup_from"),
            )
        )
    return tuple(addresses)


def _ehlo_name(ip: str, domain: str) -> str:
    """``mta10.tx.example.com`` for 203.0.113.10: it says nothing of its neighbours and stays when they change.

    Receivers distrust names that spell the whole address (generic PTR), so only the last part of it is used.
    """
    parsed = ipaddress.ip_address(ip)
    last = int(parsed) & (0xFF if parsed.version == 4 else 0xFFFF)
    return f"mta{last}.{domain}" if parsed.version == 4 else f"mta{last:x}-6.{domain}"


def _spf(stream: Reader) -> Spf:
    reader = stream.mapping("spf")
    reader.known(("include", "all"))
    return Spf(
        include=reader.domains("include"),
        all=reader.choice("all", ("-all", "~all"), "-all"),
    )


def _return_path(stream: Reader, domain: str, fleet: FleetWide) -> ReturnPath:
    def tlsa_problem(text: str) -> Optional[str]:
        found = _TLSA.match(text)
        if not found:
            return "it is not usage, selector and matching type, and the data in hexadecimal"
        if found.group(1) in "01":
            return "mail servers ignore the usages 0 and 1 (RFC 7672 3.1.3)"
        digits = _TLSA_DIGITS.get(found.group(3), len(found.group(4)) + len(found.group(4)) % 2)
        if len(found.group(4)) != digits:
            return f"its data have {len(found.group(4))} hexadecimal digits, {digits} are needed"
        return None

    reader = stream.mapping("return_path")
    reader.known(("domain", "mx", "tlsa"))
    mx = reader.domains("mx")
    if not mx:
        if not fleet.root.has("bounce_host"):
            reader.refuse(
                "mx",
                "missing",
                "bounces of this stream would have nowhere to go",
                "Write the fleet's bounce_host, or return_path.mx here",
            )
        mx = (fleet.bounce_host,) if fleet.bounce_host else ()
    return ReturnPath(
        domain=reader.domain("domain", domain) or domain,
        mx=mx,
        tlsa=tuple(text.lower() for text in reader.texts("tlsa", tlsa_problem)),
    )


def _separate_from(name: str, reader: Reader, root: Reader) -> tuple[str, ...]:
    if not reader.has("separate_from"):
        return ()
    others = [other for other in root.mapping("streams").data if other != name]
    if reader.data.get("separate_from") == "all":
        return tuple(others)
    return reader.choices("separate_from", others, ())
