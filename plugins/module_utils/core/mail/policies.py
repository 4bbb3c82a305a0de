# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts of mail policy records: SPF, DKIM, DMARC, MTA-STS and TLS-RPT, built and parsed.

Each text has one frozen value: ``parse_x(value.text) == value``, and ``parse_x(text).text`` is the canonical spelling.
A parser raises ValueError with the reason where a receiver would not accept the record.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Bimi, Dmarc, MtaSts

# --- SPF (RFC 7208) -------------------------------------------------------------------------------------------------

SPF_VERSION = "v=spf1"
SPF_MAX_LOOKUPS = 10  # RFC 7208 4.6.4
SPF_MAX_VOIDS = 2
SPF_MAX_TEXT = 450  # RFC 7208 3.4: name and answer together should fit 512 octets
LOOKUP_MECHANISMS = ("include", "a", "mx", "ptr", "exists")
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)\Z", re.IGNORECASE)
_MECHANISM = re.compile(r"([+~?-]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?:([:/])(.*))?\Z", re.IGNORECASE)
_DUAL_CIDR = re.compile(r"(.*?)(?:/(\d{1,3}))?(?://(\d{1,3}))?\Z")
_SPEC = re.compile(r"(?:%\{[slodiphcrtv]\d*r?[.\-+,/_=]*\}|%%|%_|%-|[\x21-\x24\x26-\x7e])+\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Mechanism:
    """``domain`` of a, mx, ptr, include and exists is empty where the checked domain is meant."""

    qualifier: str
    name: str
    domain: str = ""
    network: str = ""  # of ip4 and ip6, canonical CIDR; a single address without its prefix length
    prefix4: int = 32  # of a and mx
    prefix6: int = 128

    @property
    def text(self) -> str:
        value = f":{self.domain or self.network}" if self.domain or self.network else ""
        value += f"/{self.prefix4}" if self.prefix4 != 32 else ""
        value += f"//{self.prefix6}" if self.prefix6 != 128 else ""
        return f"{self.qualifier.replace('+', '')}{self.name}{value}"


@dataclass(frozen=True)
class Spf:
    mechanisms: tuple[Mechanism, ...]
    modifiers: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        terms = [mechanism.text for mechanism in self.mechanisms]
        return " ".join([SPF_VERSION, *terms, *(f"{name}={value}" for name, value in self.modifiers)])

    @property
    def redirect(self) -> str:
        return dict(self.modifiers).get("redirect", "")

    @property
    def lookups(self) -> int:
        """The terms in this record itself that cost a DNS query (RFC 7208 4.6.4); what they lead to is not in it."""
        asking = sum(mechanism.name in LOOKUP_MECHANISMS for mechanism in self.mechanisms)
        return asking + bool(self.redirect)


def is_spf(text: str) -> bool:
    return text.lower() == SPF_VERSION or text.lower().startswith(SPF_VERSION + " ")


def spf_networks(ips: Iterable[str]) -> tuple[str, ...]:
    """The fewest networks that hold ``ips`` and no other address: IPv4 first, ascending."""
    parsed = [ipaddress.ip_network(ip) for ip in ips]
    four = ipaddress.collapse_addresses(ip for ip in parsed if isinstance(ip, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(ip for ip in parsed if isinstance(ip, ipaddress.IPv6Network))
    return (*map(_network_text, four), *map(_network_text, six))


def spf(ips: Iterable[str], include: Iterable[str] = (), all: str = "-all") -> str:
    """The record that lets exactly ``ips`` send, and whoever the ``include`` domains let."""
    mechanisms = tuple(
        Mechanism("+", "ip6" if names.is_ipv6(network) else "ip4", network=network) for network in spf_networks(ips)
    )
    includes = tuple(Mechanism("+", "include", domain=domain) for domain in include)
    return Spf((*mechanisms, *includes, _mechanism(all))).text


@lru_cache(maxsize=65536)  # checked, published and proven
def spf_records(
    domain: str, ips: tuple[str, ...], include: tuple[str, ...] = (), all: str = "-all", room: int = SPF_MAX_TEXT
) -> dict[str, str]:
    """The record of ``domain``, and the parts that it includes where one text of ``room`` characters cannot hold all.

    The parts are ``_spf1.<domain>`` and so on; each costs a look-up. Together they let exactly ``ips`` send.
    """
    whole = spf(ips, include, all)
    if len(whole) <= room:
        return {domain: whole}
    parts: list[list[str]] = []
    left = 0
    for network in spf_networks(ips):
        term = len(f" ip6:{network}" if names.is_ipv6(network) else f" ip4:{network}")
        if term > left:
            parts.append([])
            left = room - len(f"{SPF_VERSION} -all")
        parts[-1].append(network)
        left -= term
    named = {f"_spf{number}.{domain}": part for number, part in enumerate(parts, 1)}
    return {
        domain: spf((), (*named, *include), all),
        **{name: spf(part) for name, part in named.items()},
    }


@lru_cache(maxsize=4096)  # a record is evaluated once for each address of its pool
def parse_spf(text: str) -> Spf:
    if not is_spf(text):
        raise ValueError(f"it does not start with '{SPF_VERSION}'")
    mechanisms: list[Mechanism] = []
    modifiers: list[tuple[str, str]] = []
    for term in text[len(SPF_VERSION) :].split(" "):
        modifier = _MODIFIER.match(term)
        if not term:
            continue
        if modifier:
            name, value = modifier.group(1).lower(), modifier.group(2)
            if name in ("redirect", "exp"):
                _check_spec(term, value)
                if name in dict(modifiers):
                    raise ValueError(f"'{name}=' stands in it twice")
            modifiers.append((name, value))
        else:
            mechanisms.append(_mechanism(term))
    return Spf(tuple(mechanisms), tuple(modifiers))


def spf_problems(text: str) -> list[str]:
    """What is wrong with a record as far as the text alone tells; ``core.spf`` follows what it refers to."""
    try:
        record = parse_spf(text)
    except ValueError as error:
        return [str(error)]
    problems = []
    if record.lookups > SPF_MAX_LOOKUPS:
        problems.append(f"it costs {record.lookups} DNS lookups, {SPF_MAX_LOOKUPS} are allowed")
    if len(text) > SPF_MAX_TEXT:
        problems.append(f"it has {len(text)} characters; over {SPF_MAX_TEXT} the answer may not fit one UDP packet")
    return problems


def _mechanism(term: str) -> Mechanism:
    match = _MECHANISM.match(term)
    if not match:
        raise ValueError(f"'{term}' is no SPF mechanism")
    qualifier, name, separator, value = match.group(1) or "+", match.group(2).lower(), match.group(3), match.group(4)
    if name == "all":
        if separator:
            raise ValueError(f"'{term}': 'all' takes no value")
        return Mechanism(qualifier, name)
    if name in ("ip4", "ip6"):
        if separator != ":":
            raise ValueError(f"'{term}' names no network")
        return Mechanism(qualifier, name, network=_network(term, value, 4 if name == "ip4" else 6))
    if name in ("a", "mx"):
        cidr = _DUAL_CIDR.match(f"/{value}" if separator == "/" else value or "")
        domain, four, six = cidr.groups() if cidr else ("", None, None)
        prefix4, prefix6 = int(four or 32) if four != "0" else 0, int(six or 128) if six != "0" else 0
        if prefix4 > 32 or prefix6 > 128:
            raise ValueError(f"'{term}' has a prefix length out of range")
        if separator == ":":
            _check_spec(term, domain)
        return Mechanism(qualifier, name, domain=domain.lower(), prefix4=prefix4, prefix6=prefix6)
    if separator == "/" or (separator is None and name != "ptr"):
        raise ValueError(f"'{term}' names no domain")
    if separator:
        _check_spec(term, value)
    return Mechanism(qualifier, name, domain=(value or "").lower())


def _check_spec(term: str, value: str) -> None:
    if not _SPEC.match(value):
        raise ValueError(f"'{term}' names no domain")


def _network(term: str, value: str, version: int) -> str:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f"'{term}': {error}") from error
    if network.version != version or not re.fullmatch(r"[0-9a-fA-F.:]+(/\d+)?", value):
        raise ValueError(f"'{term}' is no IPv{version} network")
    return _network_text(network)


def _network_text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if single else str(network)


# --- tag lists (RFC 6376 3.2) ---------------------------------------------------------------------------------------

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


def tag_list(text: str) -> dict[str, str]:
    """``a=b; c=d`` as a dict in the order of the text."""
    found: dict[str, str] = {}
    parts = text.split(";")
    if not parts[-1].strip():
        parts.pop()
    for part in parts:
        tag, equals, value = part.partition("=")
        tag = tag.strip()
        if not equals or not _TAG.match(tag):
            raise ValueError(f"'{part.strip()}' is no tag=value")
        if tag in found:
            raise ValueError(f"the tag '{tag}' stands in it twice")
        found[tag] = value.strip()
    return found


def _versioned(text: str, version: str) -> dict[str, str]:
    found = tag_list(text)
    if not found or next(iter(found.items())) != ("v", version):
        raise ValueError(f"it does not start with 'v={version}'")
    return found


def _join(pairs: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name}={value}" for name, value in pairs if value)


def _mailto(address: str) -> str:
    # RFC 9989 4.7: a comma, an exclamation mark or a semicolon inside a URI must be encoded.
    return "mailto:" + quote(address, safe="@.+-_~/='*$&")


def _uris(value: str) -> tuple[str, ...]:
    """Report destinations: mail addresses without ``mailto:``, other URIs as they are."""
    found = []
    for uri in value.split(","):
        uri = uri.strip()
        scheme, colon, rest = uri.partition(":")
        if not colon or not rest:
            raise ValueError(f"'{uri}' is no URI")
        found.append(unquote(rest) if scheme.lower() == "mailto" else uri)
    return tuple(found)


def _uri_text(destinations: Sequence[str]) -> str:
    return ",".join(uri if re.match(r"https?:", uri) else _mailto(uri) for uri in destinations)


# --- DKIM (RFC 6376, RFC 8463) --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DkimRecord:
    key_type: str  # rsa | ed25519
    public_key: str  # base64 without white space; empty: the key is revoked
    hashes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        pairs = (
            ("v", "DKIM1"),
            ("k", self.key_type),
            ("h", ":".join(self.hashes)),
            ("s", ":".join(self.services)),
            ("t", ":".join(self.flags)),
        )
        return f"{_join(pairs)}; p={self.public_key}"


def dkim(algorithm: str, public_key: str) -> str:
    return DkimRecord(algorithm, public_key).text


def parse_dkim(text: str) -> DkimRecord:
    found = tag_list(text)
    if "v" in found and next(iter(found.items())) != ("v", "DKIM1"):
        raise ValueError("its version is not 'DKIM1' or does not stand first")
    if "p" not in found:
        raise ValueError("it holds no public key (p=)")
    key = "".join(found["p"].split())
    try:
        base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise ValueError(f"its public key is no base64: {error}") from error
    for tag in ("h", "s"):
        # An empty list is not one that is left out: it names nothing (RFC 6376 3.2).
        if tag in found and not _colons(found[tag]):
            raise ValueError(f"'{tag}=' names nothing that the key is for (RFC 6376 3.6.1)")
    return DkimRecord(
        found.get("k", "rsa"),
        key,
        _colons(found.get("h", "")),
        _colons(found.get("s", "")),
        _colons(found.get("t", "")),
    )


def dkim_problems(record: DkimRecord) -> list[tuple[str, str]]:
    """What keeps receivers from verifying mail with a record, whatever its key: what it says, and why that counts.

    See RFC 6376 3.6.1. The flag s is none: the signers write no i=, so d= stands for both.
    """
    problems = []
    if record.hashes and "sha256" not in record.hashes:
        why = "signatures are made with sha256, so receivers ignore the key (RFC 6376 3.6.1, RFC 8301 3.1)"
        problems.append((f"h={':'.join(record.hashes)}", why))
    if record.services and not {"email", "*"}.intersection(record.services):
        why = "the key is not for email, so receivers ignore it (RFC 6376 3.6.1)"
        problems.append((f"s={':'.join(record.services)}", why))
    if "y" in record.flags:
        why = "the domain only tests DKIM, so receivers may take its mail for unsigned (RFC 6376 3.6.1)"
        problems.append((f"t={':'.join(record.flags)}", why))
    return problems


def _colons(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(":") if word.strip())


# --- DMARC (RFC 9989: pct, rf and ri are gone) ----------------------------------------------------------------------

_POLICIES = ("none", "quarantine", "reject")
_REMOVED = ("pct", "rf", "ri")


@dataclass(frozen=True)
class DmarcRecord:
    policy: str
    subdomain_policy: str = ""  # empty: as policy
    missing_policy: str = ""  # np, of names that do not exist; empty: as subdomain_policy
    alignment_dkim: str = "r"
    alignment_spf: str = "r"
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()
    failure_options: str = ""
    testing: bool = False
    psd: str = ""
    removed: tuple[str, ...] = ()  # tags of RFC 7489 that mean nothing any more

    @property
    def text(self) -> str:
        return _join(
            (
                ("v", "DMARC1"),
                ("p", self.policy),
                ("sp", self.subdomain_policy),
                ("np", self.missing_policy),
                ("adkim", self.alignment_dkim if self.alignment_dkim != "r" else ""),
                ("aspf", self.alignment_spf if self.alignment_spf != "r" else ""),
                ("rua", _uri_text(self.rua)),
                ("ruf", _uri_text(self.ruf)),
                ("fo", self.failure_options),
                ("t", "y" if self.testing else ""),
                ("psd", self.psd),
            )
        )


def dmarc(wanted: Dmarc) -> str:
    return DmarcRecord(
        policy=wanted.policy,
        subdomain_policy=wanted.subdomain_policy or "",
        missing_policy=wanted.missing_policy or "",
        alignment_dkim=wanted.alignment_dkim,
        alignment_spf=wanted.alignment_spf,
        rua=wanted.rua,
        testing=wanted.testing,
    ).text


def is_dmarc(text: str) -> bool:
    return bool(re.match(r"v\s*=\s*DMARC1\s*(;|\Z)", text))


def parse_dmarc(text: str) -> DmarcRecord:
    found = _versioned(text, "DMARC1")
    rua = _uris(found["rua"]) if found.get("rua") else ()
    # RFC 9989 4.7: without a policy, a record that asks for reports counts as p=none.
    policy = found.get("p", "none" if rua else "").lower()
    if policy not in _POLICIES:
        raise ValueError(f"its policy '{policy}' is none of {', '.join(_POLICIES)}")
    for tag, allowed in (
        ("sp", _POLICIES),
        ("np", _POLICIES),
        ("adkim", ("r", "s")),
        ("aspf", ("r", "s")),
        ("t", ("y", "n")),
        ("psd", ("y", "n", "u")),
    ):
        if tag in found and found[tag].lower() not in allowed:
            raise ValueError(f"'{tag}={found[tag]}' is none of {', '.join(allowed)}")
    return DmarcRecord(
        policy=policy,
        subdomain_policy=found.get("sp", "").lower(),
        missing_policy=found.get("np", "").lower(),
        alignment_dkim=found.get("adkim", "r").lower(),
        alignment_spf=found.get("aspf", "r").lower(),
        rua=rua,
        ruf=_uris(found["ruf"]) if found.get("ruf") else (),
        failure_options=found.get("fo", ""),
        testing=found.get("t", "n").lower() == "y",
        psd=found.get("psd", "").lower(),
        removed=tuple(tag for tag in _REMOVED if tag in found),
    )


# --- BIMI (draft-brand-indicators-for-message-identification) -------------------------------------------------------


def bimi(wanted: Bimi) -> str:
    return _join((("v", "BIMI1"), ("l", wanted.logo), ("a", wanted.evidence)))


# --- MTA-STS (RFC 8461) and TLS-RPT (RFC 8460) ----------------------------------------------------------------------

_STS_MODES = ("none", "testing", "enforce")
_STS_MAX_AGE = 31557600  # RFC 8461 3.2


@dataclass(frozen=True)
class MtaStsPolicy:
    mode: str
    mx: tuple[str, ...]
    max_age_seconds: int

    @property
    def text(self) -> str:
        lines = ["version: STSv1", f"mode: {self.mode}", *(f"mx: {host}" for host in self.mx)]
        return "".join(f"{line}\r\n" for line in (*lines, f"max_age: {self.max_age_seconds}"))


@dataclass(frozen=True)
class MtaStsRecord:
    id: str

    @property
    def text(self) -> str:
        return f"v=STSv1; id={self.id}"


@dataclass(frozen=True)
class TlsRptRecord:
    rua: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"v=TLSRPTv1; rua={_uri_text(self.rua)}"


def mta_sts_policy(mx: Iterable[str], wanted: MtaSts) -> str:
    """The file at https://mta-sts.<domain>/.well-known/mta-sts.txt."""
    return MtaStsPolicy(wanted.mode, tuple(mx), wanted.max_age_seconds).text


def parse_mta_sts_policy(text: str) -> MtaStsPolicy:
    found: dict[str, str] = {}
    mx: list[str] = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if not line.strip():
            continue
        if not colon:
            raise ValueError(f"the line '{line}' is no 'key: value'")
        if name == "mx":
            mx.append(names.to_ascii(value))
        else:
            found.setdefault(name, value)
    if found.get("version") != "STSv1":
        raise ValueError("its version is not 'STSv1'")
    if found.get("mode") not in _STS_MODES:
        raise ValueError(f"its mode is none of {', '.join(_STS_MODES)}")
    max_age = found.get("max_age", "")
    if not re.fullmatch(r"\d{1,10}", max_age) or int(max_age) > _STS_MAX_AGE:
        raise ValueError(f"max_age is no number of seconds up to {_STS_MAX_AGE}")
    if not mx and found["mode"] != "none":
        raise ValueError("it names no mx")
    return MtaStsPolicy(found["mode"], tuple(mx), int(max_age))


def mta_sts_record(policy: str) -> str:
    """The TXT record that announces ``policy``; its id changes when, and only when, the policy does."""
    return MtaStsRecord(hashlib.sha256(policy.encode()).hexdigest()[:32]).text


def parse_mta_sts_record(text: str) -> MtaStsRecord:
    found = _versioned(text, "STSv1")
    if not re.fullmatch(r"[A-Za-z0-9]{1,32}", found.get("id", "")):
        raise ValueError("its id is not 1 to 32 letters and digits")
    return MtaStsRecord(found["id"])


def tls_rpt(addresses: Iterable[str]) -> str:
    return TlsRptRecord(tuple(addresses)).text


def parse_tls_rpt(text: str) -> TlsRptRecord:
    found = _versioned(text, "TLSRPTv1")
    if not found.get("rua"):
        raise ValueError("it names no destination (rua=)")
    return TlsRptRecord(_uris(found["rua"]))


def authorises_reports(texts: Iterable[str] | None) -> bool:
    """True where the TXT values at ``<domain>._report._dmarc.<rua domain>`` accept reports (RFC 9990 4)."""
    return any(is_dmarc(text) for text in texts or ())
