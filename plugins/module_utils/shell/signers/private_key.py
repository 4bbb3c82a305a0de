# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys in the form that the signer reads: their public part, and whether a signature is their own.

Ed25519 is the work of OpenSSL's libcrypto, the one that Python itself runs on, so nothing needs to be installed; a
process for each of thousands of keys would take minutes.
"""

from __future__ import annotations

import _hashlib
import base64
import binascii
import ctypes
import functools
import hashlib
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys, rsa
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import PublicKey
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA

_NID = 1087  # of Ed25519 in OpenSSL's obj_mac.h
_SEED_BYTES = _KEY_BYTES = 32
_SIGNATURE_BYTES = 64


class Ed25519Key:
    def __init__(self, seed: bytes) -> None:
        crypto = _library()
        private = crypto.EVP_PKEY_new_raw_private_key(_NID, None, seed, _SEED_BYTES)
        public, size = ctypes.create_string_buffer(_KEY_BYTES), ctypes.c_size_t(_KEY_BYTES)
        try:
            if not private or crypto.EVP_PKEY_get_raw_public_key(private, public, ctypes.byref(size)) != 1:
                raise ValueError("OpenSSL reads no Ed25519 key from it")
        finally:
            crypto.EVP_PKEY_free(private)
            crypto.ERR_clear_error()
        self._public = public.raw
        self.spki = keys.ED25519_HEAD + self._public

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """As RFC 8463 3 has it: the signature is over the SHA-256 of what was signed."""
        if len(signature) != _SIGNATURE_BYTES:
            return False
        crypto, data = _library(), hashlib.sha256(signed).digest()
        public = crypto.EVP_PKEY_new_raw_public_key(_NID, None, self._public, _KEY_BYTES)
        context = crypto.EVP_MD_CTX_new()
        try:
            begun = crypto.EVP_DigestVerifyInit(context, None, None, None, public) == 1
            return begun and crypto.EVP_DigestVerify(context, signature, _SIGNATURE_BYTES, data, len(data)) == 1
        finally:
            crypto.EVP_MD_CTX_free(context)
            crypto.EVP_PKEY_free(public)
            crypto.ERR_clear_error()


class SignersKey:
    """What a key file of the signer holds (core.keys.for_rspamd). The private part is not kept."""

    def __init__(self, content: bytes) -> None:
        """Raises ValueError, which never quotes the key."""
        self._key = _read(content)
        self.public: PublicKey = keys.public_key(self._key.spki)

    def made(self, signature: bytes, signed: bytes) -> bool:
        return self._key.verifies(signature, signed)


def _read(content: bytes) -> rsa.RsaKey | Ed25519Key:
    try:
        text = content.decode("ascii").strip()
        if text.startswith("-----"):
            algorithm, inner = keys.private_key(text)
            if algorithm == RSA:
                return rsa.from_private(inner)
            raise ValueError(f"it is a key in PEM form, which rspamd does not read as {ED25519}")
        seed = base64.b64decode(text, validate=True)
    except (UnicodeDecodeError, binascii.Error):
        raise ValueError("it is no key that rspamd reads") from None
    if len(seed) != _SEED_BYTES:
        raise ValueError("it is no key that rspamd reads")
    return Ed25519Key(seed)


@functools.lru_cache
def _library() -> Any:
    # A library's handle finds the functions of what it is linked with; None, where Python has hashlib built in.
    crypto: Any = ctypes.CDLL(getattr(_hashlib, "__file__", None))
    pointer, size, number, data = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("EVP_PKEY_new_raw_private_key", pointer, (number, pointer, data, size)),
        ("EVP_PKEY_new_raw_public_key", pointer, (number, pointer, data, size)),
        ("EVP_PKEY_get_raw_public_key", number, (pointer, data, pointer)),
        ("EVP_PKEY_free", None, (pointer,)),
        ("EVP_MD_CTX_new", pointer, ()),
        ("EVP_MD_CTX_free", None, (pointer,)),
        ("EVP_DigestVerifyInit", number, (pointer, pointer, pointer, pointer, pointer)),
        ("EVP_DigestVerify", number, (pointer, data, size, data, size)),
        ("ERR_clear_error", None, ()),
    ):
        function = getattr(crypto, name)
        function.restype, function.argtypes = result, arguments
    return crypto
