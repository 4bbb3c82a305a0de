# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RSA keys as numbers (RFC 8017): whether a private key is whole, its public part, and whether a signature is its own.

Loading a key with OpenSSL 3 takes over a millisecond, these few operations on integers under a tenth of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import der

ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")  # rsaEncryption with its NULL (RFC 8017 A.1)
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")  # DigestInfo without the digest (RFC 8017 9.2)
_NUMBERS = 9  # version, n, e, d, p, q, d mod p-1, d mod q-1, 1/q mod p (RFC 8017 A.1.2)


@dataclass(frozen=True)
class RsaKey:
    modulus: int
    exponent: int

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        numbers = der.encoded(der.SEQUENCE, der.integer(self.modulus) + der.integer(self.exponent))
        return der.encoded(der.SEQUENCE, ALGORITHM + der.encoded(der.BIT_STRING, b"\0" + numbers))

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """RSASSA-PKCS1-v1_5 with SHA-256."""
        size = (self.modulus.bit_length() + 7) // 8
        end = _SHA256 + hashlib.sha256(signed).digest()
        wanted = b"\x00\x01" + b"\xff" * (size - len(end) - 3) + b"\x00" + end
        given = int.from_bytes(signature, "big")
        if len(signature) != size or given >= self.modulus:
            return False
        return pow(given, self.exponent, self.modulus).to_bytes(size, "big") == wanted


def from_private(data: bytes) -> RsaKey:
    """The public part of an RSAPrivateKey, whose numbers must all belong together. A ValueError quotes none of them."""
    numbers = der.integers(data)
    if len(numbers) != _NUMBERS or numbers[0] != 0:
        raise ValueError("it is no whole RSA key of two primes")
    _version, n, e, d, p, q, dp, dq, inverse = numbers
    if min(n, e, d, p, q) < 3 or p * q != n or inverse * q % p != 1 or (dp, dq) != (d % (p - 1), d % (q - 1)):
        raise ValueError("its numbers do not belong together")
    if e * dp % (p - 1) != 1 or e * dq % (q - 1) != 1:
        raise ValueError("its numbers do not belong together")
    return RsaKey(n, e)
