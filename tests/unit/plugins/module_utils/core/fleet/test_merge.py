# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet in fragments is the same fleet."""

from __future__ import annotations

from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import merge, parse
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    GOOD,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.data())
def test_a_fleet_in_fragments_is_the_same_fleet(data):
    parts = [{"streams": {}, "hosts": {}, "zones": {}} for _number in range(3)]
    for key, value in GOOD.items():
        if key not in merge.SECTIONS:
            data.draw(st.sampled_from(parts))[key] = value
            continue
        for name, item in value.items():
            data.draw(st.sampled_from(parts)).setdefault(key, {})[name] = item
    merged, findings = merge.fragments([(f"{number}.yml", part) for number, part in enumerate(parts)])
    assert findings == []
    assert parse.parse(merged)[0].streams.keys() == GOOD["streams"].keys()
    assert all(merged[section] == GOOD[section] for section in ("hosts", "zones", "streams"))


def test_a_thing_said_in_two_files_is_refused():
    _merged, findings = merge.fragments(
        [("a.yml", GOOD), ("b.yml", {"streams": {"bulk": {}}}), ("c.yml", {"domain": "example.org"})]
    )
    assert [(finding.where, finding.found) for finding in findings] == [
        ("streams.bulk", "it stands in a.yml and in b.yml"),
        ("domain", "it stands in a.yml and in c.yml"),
    ]
