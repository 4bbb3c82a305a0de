# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of the fleet file: what is wrong is refused at its place."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    RECORD,
    refused_at,
)

WRONG = [
    ("a record without a reason", [("records", [{**RECORD, "reason": ""}])], "records[0].reason", "missing"),
    ("a record outside the zones", [("records", [{**RECORD, "name": "www.example.org"}])], "records[0]", "no zone"),
    ("a record of the server's", [("records", [{**RECORD, "type": "SOA"}])], "records[0]", "server"),
    ("a record with data of another type", [("records", [{**RECORD, "values": ["www"]}])], "records[0]", "www"),
    (
        "a record where the manifest stands",
        [("records", [{**RECORD, "name": "_mailops.example.com"}])],
        "records[0]",
        "reserved",
    ),
    ("a TTL that is none", [("records", [{**RECORD, "ttl_seconds": 1}])], "records[0].ttl_seconds", "1"),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)
