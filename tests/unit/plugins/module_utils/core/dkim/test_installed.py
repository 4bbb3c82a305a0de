# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies on a signing host: names of key files that can be read back, the tables, and what is in force."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import installed
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import Installed, SigningKey
from hypothesis import given
from hypothesis import strategies as st

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
KEYS = st.builds(
    SigningKey,
    domain=st.lists(LABEL, min_size=2, max_size=4).map(".".join),
    selector=LABEL,
    algorithm=st.sampled_from(["rsa", "ed25519"]),
    fingerprint=st.text("0123456789abcdef", min_size=32, max_size=32),
)
KEY = SigningKey("tx.example.com", "s1", "rsa", "0123456789abcdef" * 2)


@given(key=KEYS)
def test_a_files_name_tells_its_key(key: SigningKey) -> None:
    assert key.problem is None
    assert installed.parse_file(key.file) == (key.selector, key.domain, key.fingerprint[:8])
    assert installed.may_be_of(key.file) == (key.selector, key.domain)


@given(keys=st.lists(KEYS, max_size=6, unique=True))
def test_tables_name_every_key_once_and_nothing_else(keys: list[SigningKey]) -> None:
    tables = installed.tables(keys)
    assert sorted(name for text in tables.values() for name in text.splitlines()) == sorted(key.file for key in keys)
    assert {key.domain for key in keys} == set(tables)
    assert tables == installed.tables(reversed(keys))


def test_the_bare_name_of_older_versions_may_hold_a_key_too() -> None:
    assert installed.parse_file("s1._domainkey.tx.example.com.key") is None
    assert installed.may_be_of("s1._domainkey.tx.example.com.key") == ("s1", "tx.example.com")
    assert installed.may_be_of("readme.key") is None
    assert installed.may_be_of(".new") is None


@pytest.mark.parametrize(
    "wrong",
    [
        SigningKey("tx.example.com", "s1", "rsa", "0123"),
        SigningKey("tx.example.com", "s1", "rsa", "0123456789ABCDEF" * 2),
        SigningKey("tx.example.com", "s1", "rsa", "0123456789abcdef" * 2 + "\n"),
        SigningKey("tx.example.com", "s1/../..", "rsa", KEY.fingerprint),
        SigningKey("../tx.example.com", "s1", "rsa", KEY.fingerprint),
        SigningKey("tx.example.com", "a.b", "rsa", KEY.fingerprint),
        SigningKey("a" * 60 + ("." + "b" * 60) * 3, "s1", "rsa", KEY.fingerprint),
    ],
)
def test_keys_that_cannot_be(wrong: SigningKey) -> None:
    assert wrong.problem


@given(state=st.builds(Installed, serial=st.integers(0), digest=st.text("0123456789abcdef", max_size=64)))
def test_what_is_in_force_can_be_read_back(state: Installed) -> None:
    assert installed.parse_installed(state.text) == state


def test_nothing_installed_is_not_the_same_as_a_broken_file() -> None:
    assert installed.parse_installed(None) == Installed(None, "")
    for broken in (
        "",
        "{",
        "[]",
        "{}",
        '{"serial": "7", "digest": ""}',
        '{"serial": true, "digest": ""}',
        '{"serial": 7}',
    ):
        with pytest.raises(ValueError, match="broken"):
            installed.parse_installed(broken)
