# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON Web Tokens signed with RS256 (RFC 7519, RFC 7515, RFC 7518 3.3)."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from typing import Any


def rs256(header: Mapping[str, Any], claims: Mapping[str, Any], private_key: str) -> str:
    """The token. ``private_key`` is PEM. Raises ValueError where it is no RSA key, ImportError without cryptography."""
    # Only who uses such a service needs it.
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    text = f"{_encoded({**header, 'alg': 'RS256', 'typ': 'JWT'})}.{_encoded(claims)}"
    return f"{text}.{_base64(_key(private_key).sign(text.encode('ascii'), padding.PKCS1v15(), hashes.SHA256()))}"


@functools.lru_cache(maxsize=8)  # reading a key takes fifty times as long as signing
def _key(private_key: str) -> Any:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key = serialization.load_pem_private_key(private_key.encode("ascii"), None)
    except (TypeError, UnicodeError) as error:
        raise ValueError("it is encrypted or no PEM") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("it is no RSA key")
    return key


def _encoded(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode("ascii"))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
