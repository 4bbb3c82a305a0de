# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A part and its rest are all that is held; a few names are asked one by one, and many as the whole zone."""

from __future__ import annotations

from typing import NamedTuple, Optional

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers.part import Part, record_sets
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.sampled_from("abcdef")
HELD = st.dictionaries(st.tuples(NAMES, st.sampled_from(("A", "TXT"))), st.integers())


class Numbered(NamedTuple):
    value: str
    ttl: int


@pytest.mark.parametrize(
    ("names", "asked"),
    [(None, [None]), ((), []), (("b", "a"), ["a", "b"]), (("a", "b", "c"), [None]), ({"a"}, ["a"])],
)
def test_a_few_names_are_asked_one_by_one(names: Optional[tuple[str, ...]], asked: list[Optional[str]]) -> None:
    assert list(Part(names, 2)) == asked


@given(held=HELD, names=st.one_of(st.none(), st.sets(NAMES)))
def test_a_part_and_its_rest_are_all(held: dict[tuple[str, str], int], names: Optional[set[str]]) -> None:
    part = Part(names, 3)
    inside, outside = part.inside(held), part.outside(held)
    assert {**inside, **outside} == held
    assert not set(inside) & set(outside)
    assert all((name in part) == (key in inside) for key in held for name in [key[0]]) or list(part) == [None]
    assert list(part) != [None] or inside == held


def test_records_make_record_sets_with_the_lowest_ttl() -> None:
    key, gone = ("a.test", "A"), ("b.test", "A")
    held = {key: {1: Numbered("192.0.2.1", 300), 2: Numbered("192.0.2.2", 60)}, gone: {}}
    assert record_sets(held) == {key: RecordSet.of(*key, 60, ["192.0.2.1", "192.0.2.2"])}
