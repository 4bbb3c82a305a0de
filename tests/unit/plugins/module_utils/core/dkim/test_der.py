# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DER: what is written is read again, of any length, and nothing that is cut, other or followed by more is read."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import der
from hypothesis import given
from hypothesis import strategies as st

TAGS = st.sampled_from((der.INTEGER, der.BIT_STRING, der.OCTET_STRING, der.OID, der.SEQUENCE))
SIZES = st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000))


@given(tag=TAGS, size=SIZES, more=st.binary(max_size=3))
def test_an_element_is_read_as_it_was_written(tag: int, size: int, more: bytes) -> None:
    content = b"\x5a" * size
    assert der.element(der.encoded(tag, content) + more, tag) == (content, more)


@given(number=st.integers(0, 1 << 4096))
def test_a_number_is_read_as_it_was_written(number: int) -> None:
    assert der.integers(der.encoded(der.SEQUENCE, der.integer(number) * 2)) == [number, number]


@pytest.mark.parametrize(
    ("number", "whole"), [(0, "020100"), (127, "02017f"), (128, "02020080"), (256, "02020100"), (65537, "0203010001")]
)
def test_a_number_has_the_fewest_bytes(number: int, whole: str) -> None:
    assert der.integer(number) == bytes.fromhex(whole)  # X.690 8.3.2


@given(size=SIZES, data=st.data())
def test_a_cut_element_is_refused(size: int, data: st.DataObject) -> None:
    whole = der.encoded(der.OCTET_STRING, bytes(size))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match=r"cut short|structure"):
        der.element(whole[:cut], der.OCTET_STRING)


def test_another_element_is_refused_and_what_follows_too() -> None:
    whole = der.encoded(der.OCTET_STRING, b"a")
    assert der.only(whole, der.OCTET_STRING) == b"a"
    with pytest.raises(ValueError, match="structure"):
        der.only(whole, der.SEQUENCE)
    with pytest.raises(ValueError, match="follows"):
        der.only(whole + b"\0", der.OCTET_STRING)
    with pytest.raises(ValueError, match="structure"):
        der.first(whole + whole, der.OCTET_STRING, der.OID)
    assert der.first(whole + whole, der.OCTET_STRING) == [b"a"]
