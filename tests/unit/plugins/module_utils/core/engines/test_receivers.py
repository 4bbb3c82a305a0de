# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ships about receivers: every answer that slows down has its sample, every name can be one."""

from __future__ import annotations

import re

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.values import problem

REPLIES = [(group.name, reply) for group in receivers.DEFAULTS for reply in group.slow_down]
ORDINARY = (
    "250 2.0.0 OK  1763980800 a1-20020a05600c",
    "550 5.1.1 <user@example.com>: Recipient address rejected: User unknown",
    "450 4.2.0 <user@example.com>: Recipient address rejected: Greylisted, try again later",
    "421 4.3.2 Service shutting down",
    "452 4.2.2 The email account that you tried to reach is over quota",
    "554 5.7.1 Message rejected because of its content",
)


def fits(reply, answer):
    return re.search(reply.pattern, answer, re.IGNORECASE) is not None


@pytest.mark.parametrize(("group", "reply"), REPLIES)
def test_a_pattern_fits_its_sample_and_no_other_operators(group, reply):
    assert fits(reply, reply.sample)
    for other, another in REPLIES if group != receivers.DEFAULT else []:  # that one is for all who have none
        assert fits(reply, another.sample) is (other == group and another == reply), another.sample


@pytest.mark.parametrize("answer", ORDINARY)
def test_an_ordinary_answer_slows_nothing_down(answer):
    assert [group for group, reply in REPLIES if fits(reply, answer)] == []


@pytest.mark.parametrize(("group", "reply"), REPLIES)
def test_a_pattern_is_a_regular_expression_that_powermta_reads(group, reply):
    assert problem("regex", f"/{reply.pattern}/") is None
    assert "#" not in reply.pattern


def test_every_mail_host_has_a_legal_name_and_one_operator():
    hosts = [host for group in receivers.DEFAULTS for host in group.mx]
    assert len(hosts) == len(set(hosts))
    assert [host for host in hosts if names.hostname_problem(host) or host.count(".") < 2] == []


def test_the_warm_up_begins_small_and_never_falls():
    days = receivers.WARMUP_MESSAGES_PER_DAY
    assert len(days) == 30
    assert days[0] == 50
    assert list(days) == sorted(days)
    assert all(later <= 3 * earlier for earlier, later in zip(days, days[1:]))
