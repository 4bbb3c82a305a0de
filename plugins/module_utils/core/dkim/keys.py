# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM keys as bytes and texts: what a key file holds, what its record says, what the signer reads.

Only the few DER structures of RFC 5280 4.1, RFC 5958 and RFC 8410 that hold RSA and Ed25519 keys are read here.
Making a key, and a public key from a private one, is openssl's work (see shell/dkim/keys).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import der
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA

RSA_BITS = (2048, 3072, 4096)
ED25519_BITS = 256
_OIDS = {bytes.fromhex("2a864886f70d010101"): RSA, bytes.fromhex("2b6570"): ED25519}
ED25519_HEAD = bytes.fromhex("302a300506032b6570032100")  # what stands before the 32 bytes of a key (RFC 8410 4)
_MAX_FILE_NAME = 240  # of the 255 that file systems allow; suffixes need the rest


@dataclass(frozen=True)
class Key:
    """A key that the fleet wants. Its name is the name of its record (RFC 6376 3.6.2.1) and of its files."""

    domain: str
    selector: str
    algorithm: str
    bits: Optional[int] = None  # None: whatever the key has

    @property
    def name(self) -> str:
        return names.alias_name(self.domain, self.selector)

    @property
    def problem(self) -> Optional[str]:
        """Why no such key can be, or None."""
        if self.bits is not None and self.algorithm == RSA and self.bits not in RSA_BITS:
            return f"an RSA key has {', '.join(map(str, RSA_BITS))} bits, not {self.bits}"
        if self.bits is not None and self.algorithm == ED25519 and self.bits != ED25519_BITS:
            return f"an Ed25519 key has {ED25519_BITS} bits, not {self.bits}"
        if len(self.name) > _MAX_FILE_NAME:
            return f"its record's name has {len(self.name)} characters, {_MAX_FILE_NAME} can be kept"
        if not self.selector or "." in self.selector:
            return "its selector is not one label"
        return names.owner_problem(self.name)


@dataclass(frozen=True)
class PublicKey:
    algorithm: str
    bits: int
    spki: bytes  # SubjectPublicKeyInfo, DER

    @property
    def record(self) -> str:
        """The text of its record: RSA keys as SubjectPublicKeyInfo, Ed25519 keys bare (RFC 8463 4)."""
        data = self.spki if self.algorithm == RSA else self.spki[-32:]
        return policies.dkim(self.algorithm, base64.b64encode(data).decode("ascii"))

    @property
    def fingerprint(self) -> str:
        """By which key host, signing hosts and records are compared: 32 hex digits of SHA-256 over the SPKI."""
        return hashlib.sha256(self.spki).hexdigest()[:32]


def fingerprint_of_record(text: str) -> Optional[str]:
    """The fingerprint of the key in a DKIM record; "" where it is revoked (p= is empty), None where there is none."""
    spki = _spki_of_record(text)
    return hashlib.sha256(spki).hexdigest()[:32] if spki else None if spki is None else ""


def bits_of_record(text: str) -> Optional[int]:
    """The size of the key in a DKIM record, None where there is none."""
    try:
        return public_key(_spki_of_record(text) or b"").bits
    except ValueError:
        return None


def key_of_record(record: policies.DkimRecord) -> PublicKey:
    """The key that a receiver finds in a DKIM record. Raises ValueError where it finds none of the type in k=."""
    data = base64.b64decode(record.public_key, validate=True)
    if record.key_type == ED25519:
        if len(data) != 32:
            raise ValueError(f"k=ed25519 needs the 32 bytes of a key alone (RFC 8463 4), not {len(data)} bytes")
        return public_key(ED25519_HEAD + data)
    if record.key_type != RSA:
        raise ValueError(f"'k={record.key_type}' is neither rsa nor ed25519 (RFC 6376 3.6.1, RFC 8463)")
    try:
        key = public_key(data)
    except ValueError as error:
        raise ValueError(f"k=rsa needs an RSA key as SubjectPublicKeyInfo, and {error}") from error
    if key.algorithm != RSA:
        raise ValueError(f"k=rsa (also where k= is left out) needs an RSA key, not one for {key.algorithm}")
    return key


def _spki_of_record(text: str) -> Optional[bytes]:
    try:
        record = policies.parse_dkim(text)
        data = base64.b64decode(record.public_key, validate=True)
    except ValueError:
        return None
    return ED25519_HEAD + data if data and record.key_type == ED25519 else data


def public_key(spki: bytes) -> PublicKey:
    """The key in a SubjectPublicKeyInfo. Raises ValueError."""
    algorithm_der, key = der.first(der.only(spki, der.SEQUENCE), der.SEQUENCE, der.BIT_STRING)
    algorithm = _algorithm(algorithm_der)
    if algorithm == ED25519:
        if len(key) != 33:
            raise ValueError("the Ed25519 key is not 32 bytes long")
        return PublicKey(algorithm, ED25519_BITS, spki)
    modulus = der.first(der.only(key[1:], der.SEQUENCE), der.INTEGER)[0]
    return PublicKey(algorithm, int.from_bytes(modulus, "big").bit_length(), spki)


def private_key(pem: str) -> tuple[str, bytes]:
    """The algorithm and the inner key of a whole PKCS#8 file (RFC 5958). A ValueError never quotes the file."""
    lines = pem.strip().splitlines()
    if len(lines) < 3 or lines[0] != "-----BEGIN PRIVATE KEY-----" or lines[-1] != "-----END PRIVATE KEY-----":
        raise ValueError("it is no whole PKCS#8 key in PEM form")
    try:
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error:
        raise ValueError("its base64 is broken") from None
    inside = der.only(data, der.SEQUENCE)
    _version, algorithm_der, inner = der.first(inside, der.INTEGER, der.SEQUENCE, der.OCTET_STRING)
    return _algorithm(algorithm_der), inner


def for_rspamd(pem: str) -> str:
    """A private key as rspamd 3.4 and newer read it from a file: RSA as PEM, Ed25519 as the base64 of its seed."""
    algorithm, inner = private_key(pem)
    if algorithm == RSA:
        return pem
    seed = der.only(inner, der.OCTET_STRING)  # RFC 8410 7: CurvePrivateKey
    if len(seed) != 32:
        raise ValueError("the Ed25519 key is not 32 bytes long")
    return base64.b64encode(seed).decode("ascii")


def seal(public: PublicKey, private: bytes) -> str:
    """The file that lies beside a private key: its public part, bound to exactly that private file by an HMAC."""
    text = base64.b64encode(public.spki).decode("ascii")
    return json.dumps({"public": text, "seal": _mac(public.spki, private)}) + "\n"


def unseal(text: str, private: bytes) -> PublicKey:
    """The public part in ``text``. Raises ValueError where text or private file is not what was sealed."""
    try:
        held: Any = json.loads(text)
        spki = base64.b64decode(held["public"], validate=True)
        intact = hmac.compare_digest(held["seal"], _mac(spki, private))
    except (ValueError, TypeError, KeyError):
        raise ValueError("the file of its public part is broken") from None
    if not intact:
        raise ValueError("the private key and its public part do not belong together")
    return public_key(spki)


def _mac(spki: bytes, private: bytes) -> str:
    return hmac.new(private, spki, hashlib.sha256).hexdigest()


def _algorithm(data: bytes) -> str:
    oid = der.first(data, der.OID)[0]
    if oid not in _OIDS:
        raise ValueError("it is neither an RSA nor an Ed25519 key")
    return _OIDS[oid]
