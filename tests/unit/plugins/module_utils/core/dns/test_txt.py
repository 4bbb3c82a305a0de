# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt
from hypothesis import given
from hypothesis import strategies as st

ANY_BYTES = st.binary(max_size=900)


@given(ANY_BYTES)
def test_bytes_survive_as_text(data: bytes) -> None:
    assert txt.encode(txt.decode(data)) == data


@given(ANY_BYTES)
def test_what_is_quoted_is_parsed_back(data: bytes) -> None:
    text = txt.decode(data)
    assert txt.parse(txt.quote(text)) == text
    assert txt.quote(text).isascii()


@given(ANY_BYTES, st.lists(st.integers(min_value=1, max_value=600), max_size=8))
def test_any_chunking_is_the_same_text(data: bytes, cuts: list[int]) -> None:
    parts, rest = [], data
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]
    parts.append(rest)
    written = " ".join(
        '"' + "".join(chr(byte) if 31 < byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in part) + '"'
        for part in parts
    )
    assert txt.parse(written) == txt.decode(data)


@given(ANY_BYTES)
def test_strings_fit_the_wire_and_lose_nothing(data: bytes) -> None:
    strings = txt.strings(txt.decode(data))
    assert b"".join(strings) == data
    assert strings
    assert all(len(each) <= 255 for each in strings)


@given(st.text(alphabet='"\\ ab;09', max_size=30))
def test_parse_never_fails(text: str) -> None:
    txt.parse(text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('"a" "b"', "ab"),
        ('"a"  "b"', "ab"),
        ('"a""b"', "ab"),
        ('"a" b', "ab"),
        ("v=DKIM1; k=rsa; p=abc", "v=DKIM1; k=rsa; p=abc"),
        (r'"v=DKIM1\; p=a"', "v=DKIM1; p=a"),
        (r'"\195\169"', "é"),
        (r'"say \"hi\""', 'say "hi"'),
        ('"' + "x" * 700 + '"', "x" * 700),
        ('"open', "open"),
        ('""', ""),
        ("", ""),
    ],
)
def test_every_way_of_writing(content: str, text: str) -> None:
    assert txt.parse(content) == text
