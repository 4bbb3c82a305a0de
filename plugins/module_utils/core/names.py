# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domain names and IP addresses in the one form that everything else compares.

A name is lower case, made of A-labels (RFC 5891), without the final dot. An address is what ``ipaddress`` prints.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Optional

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")
_OWNER_LABEL = re.compile(r"(?:\*|_?(?!-)[a-z0-9_-]{1,62}(?<!-))\Z")
_CLASSLESS_LABEL = re.compile(r"\d{1,3}/\d{2}\Z")  # RFC 2317 4
MAX_NAME = 253  # RFC 1035 2.3.4: 255 octets on the wire, counting length octets and the root


def to_ascii(text: str) -> str:
    """``text`` as a canonical name: lower case, A-labels, no final dot. Raises ValueError where IDNA refuses it."""
    name = text.strip().rstrip(".").lower()
    if name.isascii():
        return name
    if len(name) > MAX_NAME:  # of A-labels, which are longer; IDNA would take long over it
        raise ValueError(f"it has {len(name)} characters, {MAX_NAME} are allowed")
    try:
        # The codec is IDNA 2003; for the labels that registries admit it gives the same A-labels as RFC 5891,
        # except for the four deviation characters, which are refused here so that nobody gets another domain.
        if any(character in name for character in "\u00df\u03c2\u200c\u200d"):
            raise ValueError("it holds a character that IDNA 2003 and 2008 encode differently; write the xn-- form")
        return name.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(str(error)) from error


@functools.cache
def spellings(name: str) -> tuple[str, ...]:
    """A canonical name, and the same in U-labels (RFC 5890 2.3.2.1), composed and decomposed, where these differ."""
    try:
        unicode_name = name.encode("ascii").decode("idna")
    except UnicodeError:
        return (name,)
    return tuple(dict.fromkeys((name, unicode_name, unicodedata.normalize("NFD", unicode_name))))


def hostname_problem(name: str) -> Optional[str]:
    """Why ``name`` (canonical) is no legal host name of two labels or more (RFC 952, RFC 1123), or None."""
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME:
        return f"it has {len(name)} characters, {MAX_NAME} are allowed"
    labels = name.split(".")
    if len(labels) < 2:
        return "it has one label only; a full domain name is needed"
    for label in labels:
        if not _LABEL.match(label):
            return f"the label '{label}' is not letters, digits and inner hyphens (63 at most)"
    if labels[-1].isdigit():
        return "its last label is a number"
    return None


def owner_problem(name: str) -> Optional[str]:
    """Why ``name`` cannot own a record, or None.

    As for host names, but underscores (RFC 8552), a leading ``*`` and, in reverse zones, ``0/26`` (RFC 2317) may stand.
    """
    if not name or len(name) > MAX_NAME:
        return "it is empty or too long"
    for position, label in enumerate(name.split(".")):
        if "/" in label and _CLASSLESS_LABEL.match(label) and name.endswith(".in-addr.arpa"):
            continue
        if not _OWNER_LABEL.match(label) or (label == "*" and position):
            return f"the label '{label}' cannot stand in a record's name"
    return None


def is_within(name: str, zone: str) -> bool:
    """True where ``name`` is ``zone`` or below it."""
    return name == zone or name.endswith("." + zone)


def enclosing(name: str, zones: Iterable[str]) -> Optional[str]:
    """The longest of ``zones`` that ``name`` lies in, or None: one look-up a label when ``zones`` is a set or dict."""
    known = zones if isinstance(zones, (set, frozenset, dict)) else set(zones)
    while name:
        if name in known:
            return name
        name = name.partition(".")[2]
    return None


def address(text: str) -> str:
    """``text`` as a canonical IP address. Raises ValueError."""
    return str(ipaddress.ip_address(str(text).strip()))


def is_address(text: Any) -> bool:
    try:
        address(text)
    except ValueError:
        return False
    return True


def mapped(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Optional[ipaddress.IPv4Address]:
    """The IPv4 address that an IPv6 address stands for (RFC 4291 2.5.5.2), or None."""
    return ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None


def reach(host: str) -> str:
    """How far what is sent to ``host`` in clear text gets: ``host`` itself, an inner ``network``, or the ``world``.

    Only an address tells; what a name leads to is for others to say. ``localhost`` is the host (RFC 6761 6.3).
    """
    if host == "localhost":
        return "host"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return "world"
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return "host" if ip.is_loopback else "world" if ip.is_global else "network"


def is_ipv6(ip: str) -> bool:
    return ":" in ip


@functools.cache
def reverse_name(ip: str) -> str:
    """The name whose PTR record names ``ip`` (RFC 1035 3.5, RFC 3596 2.5)."""
    return ipaddress.ip_address(ip).reverse_pointer


def alias_name(domain: str, selector: str) -> str:
    """Where a verifier looks for a DKIM key (RFC 6376 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


REVOKED_KEY = "v=DKIM1; p="  # a key that is revoked (RFC 6376 3.6.1)


def record_name(domain: str, selector: str, delegate: Optional[str]) -> str:
    """Where a DKIM key stands: at the same name, or in the domain that it is delegated to."""
    return alias_name(domain, selector) if delegate is None else f"{selector}.{domain}.{delegate}"


@functools.cache
def host_label(host: str) -> str:
    """An inventory host's name as one DNS label: ``mta1-example`` for mta1.example."""
    return re.sub(r"[^a-z0-9]+", "-", host.lower()).strip("-")


def host_network(ip: str) -> str:
    """The network of one address, in CIDR form."""
    return f"{ip}/{128 if is_ipv6(ip) else 32}"


def address_label(ip: str) -> str:
    """``ip`` as a word for service and log names: ``203-0-113-10``, ``fd00-0-0-0-0-0-0-10``."""
    parsed = ipaddress.ip_address(ip)
    if parsed.version == 4:
        return str(parsed).replace(".", "-")
    digits = parsed.packed.hex()  # Python 3.13 writes mapped addresses with dots
    return "-".join(f"{int(digits[at : at + 4], 16):x}" for at in range(0, 32, 4))


def classless_network(zone: str) -> Optional[str]:
    """The network of ``0/26.113.0.203.in-addr.arpa`` in CIDR form, or None where the name holds none (RFC 2317 4)."""
    label, _dot, rest = zone.partition(".")
    if not _CLASSLESS_LABEL.match(label):
        return None
    start, _slash, length = label.partition("/")
    first = ".".join((*reversed(rest.split(".")[:-2]), start))
    try:
        network = str(ipaddress.IPv4Network(f"{first}/{length}"))
    except ValueError:
        return None
    return network if rest == reverse_parent(network) else None


def reverse_parent(network: str) -> str:
    """The reverse zone of the /24 that an IPv4 network of /24 or longer lies in."""
    return reverse_name(str(ipaddress.IPv4Network(network).network_address)).partition(".")[2]


def endpoint(text: str) -> tuple[str, int]:
    """``192.0.2.1``, ``ns1.example.com``, either with ``:port``; IPv6 with a port in brackets. Raises ValueError."""
    text = text.strip()
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    plain = _plain(bare)
    if plain:
        return plain, 53
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "53"
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"'{text}' is no server; write an address or name, and :port if it is not 53")
    plain = _plain(host.strip("[]"))
    if plain:
        return plain, int(port)
    name = to_ascii(host)
    problem = owner_problem(name)
    if problem:
        raise ValueError(f"'{text}' is no server: {problem}")
    return name, int(port)


def _plain(text: str) -> Optional[str]:
    """``text`` as a canonical address, or None. Raises ValueError for an IPv4 address in IPv6 form."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if mapped(parsed):
        raise ValueError(f"'{text}' is an IPv4 address in IPv6 form (RFC 4291 2.5.5.2); write {mapped(parsed)}")
    return str(parsed)


def endpoint_text(host: str, port: int) -> str:
    """The inverse of ``endpoint``."""
    return host if port == 53 else place(host, port)


def place(host: str, port: int) -> str:
    """A host with a port, an IPv6 address in brackets (RFC 3986 3.2.2)."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"
