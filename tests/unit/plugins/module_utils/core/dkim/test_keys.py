# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import subprocess
from contextlib import suppress

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies
from hypothesis import given
from hypothesis import strategies as st

ED25519 = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""  # RFC 8463 A.2, a published example
ED25519_SEED = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
ED25519_SPKI = bytes.fromhex("302a300506032b6570032100") + base64.b64decode(
    "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
)


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def rsa() -> bytes:
    return _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")


def test_the_example_of_rfc_8463() -> None:
    assert keys.for_rspamd(ED25519) == ED25519_SEED
    public = keys.public_key(ED25519_SPKI)
    assert (public.algorithm, public.bits) == ("ed25519", 256)
    assert public.record == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def test_an_rsa_key_keeps_its_form_and_its_record_can_be_parsed(rsa: bytes) -> None:
    assert keys.private_key(rsa.decode())[0] == "rsa"
    assert keys.for_rspamd(rsa.decode()) == rsa.decode()
    spki = _openssl("pkey", "-pubout", "-outform", "DER", given=rsa)
    public = keys.public_key(spki)
    assert (public.algorithm, public.bits) == ("rsa", 2048)
    assert base64.b64decode(policies.parse_dkim(public.record).public_key) == spki


@given(cut=st.integers(min_value=0, max_value=len(ED25519_SPKI) - 1))
def test_a_cut_public_key_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        keys.public_key(ED25519_SPKI[:cut])


@given(cut=st.integers(min_value=0, max_value=len(ED25519) - 3))
def test_a_cut_private_key_is_refused_and_not_quoted(cut: int) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        keys.for_rspamd(ED25519[:cut])
    assert ED25519_SEED[:12] not in str(error.value)
    assert error.value.__cause__ is None


@given(data=st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        keys.public_key(data)


@given(private=st.binary(min_size=1, max_size=200))
def test_a_seal_opens_with_its_private_key_alone(private: bytes) -> None:
    public = keys.PublicKey("ed25519", 256, ED25519_SPKI)
    text = keys.seal(public, private)
    assert keys.unseal(text, private) == public
    with pytest.raises(ValueError, match="belong together"):
        keys.unseal(text, private + b"x")


def test_a_changed_public_part_breaks_the_seal() -> None:
    text = keys.seal(keys.PublicKey("ed25519", 256, ED25519_SPKI), b"private")
    other = base64.b64encode(ED25519_SPKI[:-1] + b"\x00").decode()
    with pytest.raises(ValueError, match="belong together"):
        keys.unseal(text.replace(base64.b64encode(ED25519_SPKI).decode(), other), b"private")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"public": 1, "seal": "x"}', '{"public": "!", "seal": "x"}', "\x00"])
def test_a_broken_seal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="broken"):
        keys.unseal(text, b"private")


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (keys.Key("example.com", "s1", "rsa", 1024), "1024"),
        (keys.Key("example.com", "s1", "ed25519", 2048), "2048"),
        (keys.Key("example.com", "a.b", "rsa", 2048), "one label"),
        (keys.Key("example.com", "", "rsa", 2048), "one label"),
        (keys.Key("../etc", "s1", "rsa", 2048), "label"),
        (keys.Key("a/b.com", "s1", "rsa", 2048), "label"),
        (keys.Key(".".join(["a" * 60] * 4), "s1", "rsa", 2048), "characters"),
    ],
)
def test_keys_that_cannot_be(key: keys.Key, word: str) -> None:
    assert word in (key.problem or "")


def test_a_good_key_has_no_problem() -> None:
    assert keys.Key("example.com", "s1", "rsa", 2048).problem is None
    assert keys.Key("example.com", "s1", "rsa").problem is None


def test_a_record_and_its_key_have_one_fingerprint(rsa: bytes) -> None:
    spki = _openssl("pkey", "-pubout", "-outform", "DER", given=rsa)
    for public in (keys.public_key(spki), keys.public_key(ED25519_SPKI)):
        assert keys.fingerprint_of_record(public.record) == public.fingerprint
        assert keys.bits_of_record(public.record) == public.bits
    assert keys.fingerprint_of_record("v=DKIM1; p=") == ""
    assert keys.fingerprint_of_record("v=spf1 -all") is None
    assert keys.fingerprint_of_record("v=DKIM1; p=!") is None
    assert [keys.bits_of_record(f"v=DKIM1; {end}") for end in ("p=", "p=AAAA", "k=ed25519; p=AAAA")] == [None] * 3


def test_a_record_holds_its_key_in_the_form_of_its_type_alone(rsa: bytes) -> None:
    spki, bare = _openssl("pkey", "-pubout", "-outform", "DER", given=rsa), ED25519_SPKI[-32:]
    for public in (keys.public_key(spki), keys.public_key(ED25519_SPKI)):
        assert keys.key_of_record(policies.parse_dkim(public.record)) == public
    for kind, data in (("rsa", bare), ("rsa", ED25519_SPKI), ("ed25519", spki), ("ed25519", bare[1:]), ("x", bare)):
        with pytest.raises(ValueError, match=f"k={kind}"):
            keys.key_of_record(policies.DkimRecord(kind, base64.b64encode(data).decode()))


@given(st.sampled_from(("rsa", "ed25519", "", "x")), st.binary(max_size=64))
def test_no_record_raises_anything_but_a_value_error(kind: str, data: bytes) -> None:
    with suppress(ValueError):
        assert keys.key_of_record(policies.DkimRecord(kind, base64.b64encode(data).decode())).algorithm == kind
