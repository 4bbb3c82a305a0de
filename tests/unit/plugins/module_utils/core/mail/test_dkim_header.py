# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM signature fields: the bytes that were signed are those of RFC 8463's own example, however it is folded."""

from __future__ import annotations

import base64
import contextlib

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import dkim_header
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding
from hypothesis import given
from hypothesis import strategies as st

# RFC 8463 A.2 and A.3: keys, message and signatures.
ED25519_KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
RSA_KEY = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3Fut"
    "ACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)
BY_ED25519 = """ v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="""
BY_RSA = """ v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="""
FIELDS = [
    ("From", " Joe SixPack <joe@football.example.com>"),
    ("To", " Suzie Q <suzie@shopping.example.net>"),
    ("Subject", " Is dinner ready?"),
    ("Date", " Fri, 11 Jul 2003 21:00:37 -0700 (PDT)"),
    ("Message-ID", " <20030712040037.46341.5F8J@football.example.com>"),
]
BODY = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"


def verify(value: str, fields: list[dkim_header.Field]) -> None:
    """Raises InvalidSignature."""
    found = dkim_header.parse(value)
    signed = dkim_header.signed_bytes(found, fields)
    if found.algorithm == "rsa":
        public = serialization.load_der_public_key(base64.b64decode(RSA_KEY))
        public.verify(found.value, signed, padding.PKCS1v15(), hashes.SHA256())
    else:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(signed)
        ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(ED25519_KEY)).verify(found.value, digest.finalize())


@pytest.mark.parametrize(
    ("value", "algorithm", "selector"), [(BY_ED25519, "ed25519", "brisbane"), (BY_RSA, "rsa", "test")]
)
def test_the_example_of_rfc_8463(value: str, algorithm: str, selector: str) -> None:
    found = dkim_header.parse(value)
    assert (found.domain, found.selector, found.algorithm) == ("football.example.com", selector, algorithm)
    assert found.body_hash == dkim_header.body_hash(BODY)
    verify(value, FIELDS)


@pytest.mark.parametrize("value", [BY_ED25519, BY_RSA])
@pytest.mark.parametrize("name", range(len(FIELDS)))
def test_a_changed_or_an_added_field_is_seen(value: str, name: int) -> None:
    changed = [(key, f"{text}x" if number == name else text) for number, (key, text) in enumerate(FIELDS)]
    with pytest.raises(InvalidSignature):
        verify(value, changed)
    if FIELDS[name][0] in ("From", "Subject", "Date"):  # these stand in h= twice
        with pytest.raises(InvalidSignature):
            verify(value, [*FIELDS, (FIELDS[name][0], " another")])


@given(space=st.sampled_from([" ", "\t", "  ", "\r\n ", "\r\n\t", " \n "]))
def test_space_and_folding_do_not_matter(space: str) -> None:
    verify(BY_RSA.replace("\n ", space), [(name, text.replace(" ", space)) for name, text in FIELDS])


@pytest.mark.parametrize(
    ("body", "same"),
    [(b"", b"\r\n\r\n"), (b"a\r\n", b"a"), (b"a\r\n", b"a \t\r\n\r\n\r\n"), (b"a b\r\n", b"a \t b\r\n")],
)
def test_bodies_that_are_one(body: bytes, same: bytes) -> None:
    assert dkim_header.body_hash(body) == dkim_header.body_hash(same)
    assert dkim_header.body_hash(body) != dkim_header.body_hash(b"x" + same)


@pytest.mark.parametrize(
    ("old", "new"),
    [("v=1", "v=2"), ("a=rsa-sha256", "a=rsa-sha1"), ("c=relaxed/relaxed", "c=simple/simple"), ("q=dns/txt", "l=3"),
     (" d=football.example.com;", ""), ("b=F45dVWDf", "b=!"), (" s=test;", ""), ("v=1;", "v=1; v=1;")],
)  # fmt: skip
def test_what_is_not_the_signers_own_kind_is_refused(old: str, new: str) -> None:
    assert old in BY_RSA
    with pytest.raises(ValueError, match=r"."):
        dkim_header.parse(BY_RSA.replace(old, new))


@pytest.mark.parametrize(
    ("identity", "fits"),
    [
        ("i=joe@football.example.com", True),
        ("i=@team.Football.example.com", True),
        ("i=@example.com", False),
        ("i=@notfootball.example.com", False),
        ("i=@football.example.com.test", False),
        ("i=", False),
    ],
)
def test_an_identity_is_at_the_domain_that_signs_or_below(identity: str, fits: bool) -> None:
    text = BY_RSA.replace("i=@football.example.com", identity)
    if fits:
        assert dkim_header.parse(text).domain == "football.example.com"
        return
    with pytest.raises(ValueError, match="i="):
        dkim_header.parse(text)


@given(text=st.text(max_size=80))
def test_no_text_does_more_than_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        dkim_header.parse(text)
