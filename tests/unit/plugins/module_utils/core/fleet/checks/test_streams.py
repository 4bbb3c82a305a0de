# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check of streams finds what it is for."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    refused_at,
)

WRONG = [
    ("two streams share a domain", [("streams/bulk/domain", "tx.example.com")], "streams.bulk", "tx.example.com"),
    ("two streams share a port", [("streams/bulk/port", 2525)], "streams.bulk.port", "2525"),
    (
        "the front listener has a stream's port",
        [("front", {"port": 2525, "default": "bulk"})],
        "streams.transactional.port",
        "front",
    ),
    ("two streams share a login", [("streams/bulk/inject_users", ["shop"])], "streams.bulk.inject_users", "shop"),
    (
        "a separate stream is not separate",
        [("streams/cold/domain", "cold.example.com")],
        "streams.cold.separate_from",
        "example.com",
    ),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)
