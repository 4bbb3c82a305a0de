# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens are what RFC 7515 says and verify with the public key only."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

KEY = rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how).decode("ascii")


def decoded(part: str) -> bytes:
    assert "=" not in part
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_token_is_signed_over_header_and_claims() -> None:
    claims = {"iss": "ü", "iat": 1}
    header, payload, signature = jwt.rs256({"kid": "k"}, claims, pem(KEY)).split(".")
    assert json.loads(decoded(header)) == {"kid": "k", "alg": "RS256", "typ": "JWT"}
    assert json.loads(decoded(payload)) == claims
    public = KEY.public_key()
    public.verify(decoded(signature), f"{header}.{payload}".encode("ascii"), padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(decoded(signature), f"{header}.{payload}x".encode("ascii"), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(
    "key", ["", "no key", "ü", pem(KEY, b"secret"), pem(ec.generate_private_key(ec.SECP256R1())), pem(KEY)[:200]]
)
def test_what_is_no_usable_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        jwt.rs256({}, {}, key)
    assert "PRIVATE" not in str(caught.value)
