# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import foreign
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Garbled, Permanent
from hypothesis import given
from hypothesis import strategies as st

STEERING = ["\x1b[2J", "\x07", "\r", "\n", "\x9b31m", "\u202eabc", "\u2066", "\u200b", "\udc9b", "\x00", "\u2028"]


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_shown_is_printable_and_what_was_printable_stays(text: str) -> None:
    shown = foreign.printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_what_is_shown_has_an_end() -> None:
    shown = foreign.printable("x" * 60000)
    assert len(shown) < foreign.LONGEST + 40
    assert shown.endswith("x ... (60000 characters)")


@pytest.mark.parametrize("text", STEERING)
def test_no_finding_steers_a_terminal(text: str) -> None:
    finding = Finding(f"a{text}", f"b{text}", f"c{text}", f"d{text}")
    assert str(finding).isprintable()
    assert all(value.isprintable() for value in finding.as_dict().values())


@pytest.mark.parametrize("text", STEERING)
@pytest.mark.parametrize("kind", [Garbled, Permanent])
def test_no_error_of_a_service_steers_a_terminal(kind: type[Permanent], text: str) -> None:
    error = kind(f"it said {text}", f"because {text}", "look")
    assert f"{error}{error.found}{error.why}".isprintable()


@pytest.mark.parametrize("text", ["[" * 200000, '{"a":' * 200000, "[" * 200000 + "]" * 200000, "nul", "", "\xff"])
def test_json_that_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested too deep|Expecting"):
        foreign.parsed(text)
    with pytest.raises(ValueError, match=r"nested too deep|Expecting|decode"):
        foreign.parsed(text.encode("latin-1"))


@pytest.mark.parametrize("text", ["1e999", "-1e999", '{"ttl": 1e999}', "[Infinity]", "-Infinity", "NaN"])
def test_a_number_that_no_integer_can_be_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        foreign.parsed(text)
    assert foreign.parsed("[1.5, 2]") == [1.5, 2]


@given(st.text(st.sampled_from("ab "), max_size=40), st.integers(1, 40))
def test_a_text_is_cut_between_words(text: str, longest: int) -> None:
    shown = foreign.shortened(text, longest)
    assert shown == text if len(text) <= longest else shown.endswith("...")
    assert len(shown) <= longest + len(" ...")
    assert set(shown.split()) <= {*text.split(), "..."}
