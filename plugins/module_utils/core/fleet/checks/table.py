# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a fleet, all of them: what one part of the file says against another.

A check is one function in a file of this folder, ``Fleet -> Iterable[Finding]``, and one line here. No check stops the
others, so that one run shows everything that is wrong.
"""

from __future__ import annotations

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.checks import (
    addresses,
    dkim,
    dmarc,
    dns,
    engines,
    hosts,
    streams,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet

CHECKS = (
    addresses.are_unique,
    addresses.fit_their_host,
    addresses.one_has_a_share,
    addresses.are_public,
    hosts.listen_apart,
    hosts.are_used,
    hosts.ssh_stays_open,
    streams.share_nothing,
    streams.are_separate,
    engines.warm_up_has_a_schedule,
    engines.shares_count,
    engines.networks_reach_their_stream_only,
    engines.broken_messages_leave,
    engines.front_takes_the_largest_message,
    engines.front_bounces_have_a_name,
    engines.bounces_are_taken,
    dkim.engines_can_sign,
    dkim.names_fit,
    dkim.keys_can_be_replaced,
    dmarc.reports_are_authorised,
    dmarc.policy_is_inherited,
    dmarc.subdomain_policies_count,
    dmarc.bimi_is_enforced,
    dmarc.return_paths_align,
    dns.names_are_served,
    dns.bounces_have_a_way,
    dns.mta_sts_is_served,
    dns.tlsa_is_signed,
    dns.spf_stays_within_limits,
    dns.records_fit_together,
)


def check(fleet: Fleet) -> list[Finding]:
    return [finding for each in CHECKS for finding in each(fleet)]
