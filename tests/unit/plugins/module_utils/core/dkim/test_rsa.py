# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RSA keys as numbers, against the library cryptography: whole keys only, and exactly their own signatures."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys, rsa
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric import rsa as judge
from hypothesis import given
from hypothesis import strategies as st

PRIVATE = judge.generate_private_key(public_exponent=65537, key_size=2048)
DER = PRIVATE.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)
KEY = rsa.from_private(DER)


def sign(message: bytes) -> bytes:
    return PRIVATE.sign(message, padding.PKCS1v15(), hashes.SHA256())


def test_its_public_part_is_that_of_others() -> None:
    spki = PRIVATE.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert KEY.spki == spki
    assert keys.public_key(KEY.spki).bits == 2048


@given(message=st.binary(max_size=200))
def test_a_signature_is_its_own(message: bytes) -> None:
    assert KEY.verifies(sign(message), message)
    assert not KEY.verifies(sign(message), message + b"x")


SIGNATURE = sign(b"message")


@given(place=st.integers(0, len(SIGNATURE) - 1), bit=st.integers(0, 7))
def test_a_changed_signature_is_not(place: int, bit: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[place] ^= 1 << bit
    assert not KEY.verifies(bytes(changed), b"message")


@pytest.mark.parametrize("wrong", [b"", SIGNATURE[:-1], SIGNATURE + b"\0", b"\0" + SIGNATURE, b"\xff" * len(SIGNATURE)])
def test_a_signature_of_another_size_is_not(wrong: bytes) -> None:
    assert not KEY.verifies(wrong, b"message")


@given(place=st.integers(0, len(DER) - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_private_key_can_change_unnoticed(place: int, bit: int) -> None:
    changed = bytearray(DER)
    changed[place] ^= 1 << bit
    with pytest.raises(ValueError, match=r"."):
        rsa.from_private(bytes(changed))


@given(cut=st.integers(0, len(DER) - 1))
def test_a_cut_private_key_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        rsa.from_private(DER[:cut])
