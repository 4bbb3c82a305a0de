# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check of DMARC finds what it is for."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    S,
    refused_at,
    warned_at,
)

WRONG = [
    (
        "DMARC reports to strangers",
        [(f"{S}/dmarc", {"rua": ["d@reports.example.org"]})],
        "streams.transactional.dmarc.rua",
        "reports.example.org",
    ),
    (
        "a logo without enforcement",
        [(f"{S}/bimi", {"logo": "https://example.com/logo.svg"})],
        "streams.transactional.bimi",
        "policy none",
    ),
    (
        "a logo of a domain whose subdomains are not enforced",
        [
            (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
            (f"{S}/dmarc", {"policy": "reject", "subdomain_policy": "none"}),
        ],
        "streams.transactional.bimi",
        "subdomain_policy none",
    ),
    (
        "a logo while DMARC is tested",
        [
            (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
            (f"{S}/dmarc", {"policy": "reject", "testing": True}),
        ],
        "streams.transactional.bimi",
        "testing",
    ),
    (
        "a logo below an organisation without enforcement",
        [
            (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
            (f"{S}/dmarc", {"policy": "reject"}),
            ("organisational_dmarc", {"policy": "none"}),
        ],
        "streams.transactional.bimi",
        "organisational_dmarc",
    ),
    (
        "a policy inherited from nowhere",
        [(f"{S}/dmarc", {"inherit": True})],
        "streams.transactional.dmarc.inherit",
        "organisational_dmarc",
    ),
    (
        "a policy inherited from a stranger",
        [("organisational_dmarc", {"policy": "reject"}), ("streams/cold/dmarc", {"inherit": True})],
        "streams.cold.dmarc.inherit",
        "example.net",
    ),
    (
        "reports of the organisational domain to strangers",
        [("organisational_dmarc", {"rua": ["d@reports.example.org"]})],
        "organisational_dmarc.rua",
        "reports.example.org",
    ),
    (
        "a logo whose inherited policy is none",
        [
            (f"{S}/bimi", {"logo": "https://example.com/logo.svg"}),
            (f"{S}/dmarc", {"inherit": True}),
            ("organisational_dmarc", {"policy": "reject", "subdomain_policy": "none"}),
        ],
        "streams.transactional.bimi",
        "subdomain_policy none",
    ),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ([(f"{S}/return_path", {"domain": "bounce.example.net"})], "streams.transactional.return_path.domain"),
        (
            [("organisational_dmarc", {"policy": "none"}), (f"{S}/dmarc", {"missing_policy": "reject"})],
            "streams.transactional.dmarc.missing_policy",
        ),
    ],
)
def test_what_can_stand_but_should_not_is_a_warning(changes, where):
    warned_at(changes, where)
