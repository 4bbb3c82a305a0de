# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures against the test suite that AWS published for Signature Version 4 (aws-sig-v4-test-suite)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import aws

KEYS = aws.Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "", "us-east-1", "service")
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=timezone.utc)
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7"
    "mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d"
    "+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("method", "path", "token", "expected"),
    [
        ("GET", "/", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("GET", "/?Param1=value1", "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("GET", f"/{UNRESERVED}", "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("GET", "/ሴ", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("POST", "/", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("POST", "/", TOKEN, "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
    ],
)
def test_published_signatures(method: str, path: str, token: str, expected: str) -> None:
    keys = replace(KEYS, session_token=token)
    headers = aws.signature(keys, method, f"https://example.amazonaws.com{path}", b"", NOW)
    assert headers["Authorization"].endswith(f"Signature={expected}")
    assert (headers["Host"], headers.get("X-Amz-Security-Token", "")) == ("example.amazonaws.com", token)


def test_every_part_is_signed() -> None:
    url = "https://h.example:8443/a?b=c"
    one = aws.signature(KEYS, "GET", url, b"", NOW)
    others = [
        aws.signature(KEYS, "PUT", url, b"", NOW),
        aws.signature(KEYS, "GET", url, b"x", NOW),
        aws.signature(KEYS, "GET", url.replace("8443", "8444"), b"", NOW),
        aws.signature(KEYS, "GET", url + "d", b"", NOW),
        aws.signature(KEYS, "GET", url, b"", NOW.replace(second=1)),
        aws.signature(replace(KEYS, secret_access_key="x"), "GET", url, b"", NOW),
        aws.signature(replace(KEYS, session_token="x"), "GET", url, b"", NOW),
        aws.signature(replace(KEYS, region="x"), "GET", url, b"", NOW),
    ]
    signatures = {each["Authorization"].rpartition("=")[2] for each in (one, *others)}
    assert len(signatures) == 1 + len(others)


def test_secrets_are_not_shown() -> None:
    assert "wJalr" not in repr(KEYS)
    assert TOKEN not in repr(replace(KEYS, session_token=TOKEN))
