# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RSA keys as numbers (RFC 8017): whether a private key is whole, its public part, and whether a signature is its own.

Loading a key with OpenSSL 3 takes over a millisecond, these few operations on integers under a tenth of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_SEQUENCE, _INTEGER, _BIT_STRING = 0x30, 0x02, 0x03
_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")  # rsaEncryption with its NULL
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")  # DigestInfo without the digest (RFC 8017 9.2)
_NUMBERS = 9  # version, n, e, d, p, q, d mod p-1, d mod q-1, 1/q mod p (RFC 8017 A.1.2)


@dataclass(frozen=True)
class RsaKey:
    modulus: int
    exponent: int

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        numbers = b"".join(_der(_INTEGER, n.to_bytes(n.bit_length() // 8 + 1, "big")) for n in self._public)
        return _der(_SEQUENCE, _ALGORITHM + _der(_BIT_STRING, b"\0" + _der(_SEQUENCE, numbers)))

    @property
    def _public(self) -> tuple[int, int]:
        return self.modulus, self.exponent

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """RSASSA-PKCS1-v1_5 with SHA-256."""
        size = (self.modulus.bit_length() + 7) // 8
        end = _SHA256 + hashlib.sha256(signed).digest()
        wanted = b"\x00\x01" + b"\xff" * (size - len(end) - 3) + b"\x00" + end
        given = int.from_bytes(signature, "big")
        if len(signature) != size or given >= self.modulus:
            return False
        return pow(given, self.exponent, self.modulus).to_bytes(size, "big") == wanted


def from_private(der: bytes) -> RsaKey:
    """The public part of an RSAPrivateKey, whose numbers must all belong together. A ValueError quotes none of them."""
    numbers = _integers(der)
    if len(numbers) != _NUMBERS or numbers[0] != 0:
        raise ValueError("it is no whole RSA key of two primes")
    _version, n, e, d, p, q, dp, dq, inverse = numbers
    if min(n, e, d, p, q) < 3 or p * q != n or inverse * q % p != 1 or (dp, dq) != (d % (p - 1), d % (q - 1)):
        raise ValueError("its numbers do not belong together")
    if e * dp % (p - 1) != 1 or e * dq % (q - 1) != 1:
        raise ValueError("its numbers do not belong together")
    return RsaKey(n, e)


def _integers(der: bytes) -> list[int]:
    """The numbers in a SEQUENCE of INTEGER. Raises ValueError."""
    content, rest = _element(der, _SEQUENCE)
    if rest:
        raise ValueError("something follows the key")
    found = []
    while content:
        number, content = _element(content, _INTEGER)
        found.append(int.from_bytes(number, "big", signed=True))
    return found


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    if len(data) < 2 or data[0] != tag:
        raise ValueError("its structure is not that of an RSA key")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("it is cut short")
    return data[start : start + length], data[start + length :]


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content
