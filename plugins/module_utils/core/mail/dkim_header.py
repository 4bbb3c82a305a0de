# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM signature fields as data: what one says, and the bytes that were signed (RFC 6376 3.5, 3.7, RFC 8463 3).

Only relaxed/relaxed without l= is read, which is what the signer makes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA

FIELD = "DKIM-Signature"
_ALGORITHMS = {"rsa-sha256": RSA, "ed25519-sha256": ED25519}
_BARE = re.compile(r"(?:(?<=[;\s])|\A)b[ \t\r\n]*=[^;]*")
_SPACE = re.compile(rb"[ \t]+")

Field = tuple[str, str]  # name and value of a header field, the value as it stands after the colon


@dataclass(frozen=True)
class Signature:
    domain: str
    selector: str
    algorithm: str
    signed: tuple[str, ...]  # names of the header fields, lower case
    body_hash: bytes
    value: bytes
    field: str  # the field's value, from which the text of value itself is left out when it is signed


def parse(value: str) -> Signature:
    """Reads the value of a DKIM-Signature field. Raises ValueError."""
    found = policies.tag_list(value)
    algorithm = _ALGORITHMS.get(found.get("a", ""))
    if found.get("v") != "1" or algorithm is None:
        raise ValueError(f"its version or algorithm is unknown (v={found.get('v')}, a={found.get('a')})")
    if found.get("c") != "relaxed/relaxed" or "l" in found:
        raise ValueError(f"it is not relaxed/relaxed over the whole body (c={found.get('c')})")
    try:
        body_hash, signature = (base64.b64decode("".join(found[tag].split()), validate=True) for tag in ("bh", "b"))
        domain, selector, signed = found["d"].lower(), found["s"].lower(), found["h"]
    except (KeyError, binascii.Error):
        raise ValueError("it is not complete") from None
    identity = found.get("i", f"@{domain}").rpartition("@")[2].lower()
    if identity != domain and not identity.endswith(f".{domain}"):
        raise ValueError(f"its i= is not at d= or below (i={found['i']}, d={domain}; RFC 6376 3.5)")
    names = tuple(name.strip().lower() for name in signed.split(":"))
    return Signature(domain, selector, algorithm, names, body_hash, signature, value)


def body_hash(body: bytes) -> bytes:
    """SHA-256 over a body with CRLF line ends in relaxed form (RFC 6376 3.4.4)."""
    lines = [_SPACE.sub(b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    text = b"\r\n".join(lines).rstrip(b"\r\n")
    return hashlib.sha256(text + b"\r\n" if text else b"").digest()


def signed_bytes(signature: Signature, fields: Sequence[Field]) -> bytes:
    """What was signed of a message with these header fields. The last of several fields of a name counts first."""
    left: dict[str, list[str]] = {}
    for name, value in fields:
        left.setdefault(name.lower(), []).append(value)
    parts = [_relaxed(name, left[name].pop()) for name in signature.signed if left.get(name)]
    return b"".join(parts) + _relaxed(FIELD, _BARE.sub("b=", signature.field, count=1))[:-2]


def _relaxed(name: str, value: str) -> bytes:
    text = _SPACE.sub(b" ", re.sub(rb"\r?\n", b"", value.encode("utf-8"))).strip(b" ")
    return name.lower().encode("ascii") + b":" + text + b"\r\n"
