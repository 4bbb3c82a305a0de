# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA behind the port of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import NOTHING, Capabilities, Engine
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import POWERMTA
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import effort, slices, ways_in
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Address, Fleet


class PowerMTA(Engine):
    name = "powermta"
    title = "PowerMTA"
    signer = POWERMTA
    configuration = ("/etc/pmta/conf.d/*.conf",)
    can = Capabilities(
        weighted_shares=False,  # it takes the addresses of a pool in turn
        warm_up=True,
        relay_by_port=False,
        message_check=False,
        size_by_stream=False,
        bounces_by_stream=False,
        bounce_processing=True,
    )

    def variables(self, fleet: Fleet, host: str) -> dict[str, Any]:
        return {"mta_powermta": slices.slice_of(fleet, host)}

    def signing(self, fleet: Fleet, host: str) -> dict[str, Any]:
        return {"socket": None}

    def last_try_seconds(self, queue_life_seconds: int) -> int:
        return ways_in.last_try_seconds(queue_life_seconds)

    def bound_addresses(self, text: str) -> set[str]:
        return effort.bound_addresses(text)

    def effort(self, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        found, _monitor = effort.effort(before, after)
        return NOTHING if found == effort.LOAD else found

    def queue_of(self, address: Address, group: str) -> str:
        return slices.virtual_mta(address)  # its queue is that and the recipient's domain
