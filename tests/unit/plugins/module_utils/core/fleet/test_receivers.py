# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receiver groups of the fleet file: what is wrong is refused, and limits follow the rule of inheritance."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    refused_at,
)

WRONG = [
    (
        "a receiver group without domains",
        [("receivers", {"corp": {"concurrency": 2}})],
        "receivers.corp.domains",
        "missing",
    ),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)
