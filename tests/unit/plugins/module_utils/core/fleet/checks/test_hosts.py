# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check of hosts finds what it is for."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    refused_at,
    warned_at,
)

WRONG = [
    ("a listener of two hosts", [("hosts/mta2/listen", ["10.0.0.11"])], "hosts.mta2.listen", "10.0.0.11"),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ([("hosts/mta3", {"ansible_host": "10.0.0.13"})], "hosts.mta3"),
        ([("hosts/web1", {"engine": "none"})], "hosts.web1"),
    ],
)
def test_what_can_stand_but_should_not_is_a_warning(changes, where):
    warned_at(changes, where)
