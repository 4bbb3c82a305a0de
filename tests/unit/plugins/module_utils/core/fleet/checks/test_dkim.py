# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check of DKIM keys finds what it is for."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    S,
    refused_at,
    warned_at,
)

WRONG = [
    (
        "selectors whose keys have names too long",
        [(f"{S}/domain", f"{('a' * 60 + '.') * 3}example.com"), (f"{S}/dkim", {"selector": "m" * 40})],
        "streams.transactional.dkim.selector",
        "240 can be kept",
    ),
    (
        "slots whose keys have names too long",
        [
            (f"{S}/domain", f"{('a' * 60 + '.') * 3}example.com"),
            (f"{S}/dkim", {"slots": ["m" * 40, "b"], "delegate": "d.example.com"}),
        ],
        "streams.transactional.dkim.slots",
        "240 can be kept",
    ),
    (
        "a delegated key whose name is too long only for a date",
        [(f"{S}/dkim", {"delegate": f"{('a' * 48 + '.') * 4}{'b' * 12}.example.com"})],
        "streams.transactional.dkim.delegate",
        "253 are allowed",
    ),
    (
        "keys renewed sooner than they can be",
        [(f"{S}/dkim", {"rotation": {"every_days": 7}})],
        "streams.transactional.dkim.rotation.every_days",
        "Write 8 or more",
    ),
    (
        "a retired key that is gone before its mail",
        [("dkim", {"keep_retired_seconds": 432000 + 4300 + 3599})],
        "dkim.keep_retired_seconds",
        f"Write {432000 + 4300 + 3600} or more",
    ),
    (
        "mail that waits longer than its key",
        [(f"{S}/queue_life_seconds", 1209600), (f"{S}/dkim", {"keep_retired_seconds": 604800})],
        "streams.transactional.dkim.keep_retired_seconds",
        "queue_life_seconds 1209600",
    ),
    (
        "slots without aliases",
        [(f"{S}/dkim", {"slots": ["a", "b"]})],
        "streams.transactional.dkim.slots",
        "delegate",
    ),
    (
        "new aliases wanted from somebody else for ever",
        [("zones/example.net", {"provider": "external"}), ("streams/cold/dkim", {"delegate": "dkim.example.com"})],
        "streams.cold.dkim.slots",
        "Write slots: [a, b]",
    ),
    (
        "a delegated key under a name too long",
        [(f"{S}/dkim", {"delegate": f"{('a' * 45 + '.') * 5}example.com"})],
        "streams.transactional.dkim.delegate",
        "253",
    ),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ([(f"{S}/dkim", {"algorithms": ["ed25519"]})], "streams.transactional.dkim.algorithms"),
        ([("zones/example.net", {"provider": "external"})], "streams.cold.dkim.delegate"),
    ],
)
def test_what_can_stand_but_should_not_is_a_warning(changes, where):
    warned_at(changes, where)
