# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix behind the port of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import Capabilities, Engine
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import MILTER_SOCKET, RSPAMD
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import files, instances
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Address, Fleet


class Postfix(Engine):
    name = "postfix"
    title = "Postfix"
    signer = RSPAMD
    configuration = ("/etc/postfix*/master.cf",)
    can = Capabilities(
        weighted_shares=True,
        warm_up=False,
        relay_by_port=True,
        message_check=True,  # by its signer
        size_by_stream=True,  # by its signer
        bounces_by_stream=True,
        bounce_processing=False,
    )

    def variables(self, fleet: Fleet, host: str) -> dict[str, Any]:
        return {"mta_postfix": {"instances": instances.instances(fleet, host)}}

    def signing(self, fleet: Fleet, host: str) -> dict[str, Any]:
        return {"socket": MILTER_SOCKET, "admission": admission.admission(fleet, host)}

    def last_try_seconds(self, queue_life_seconds: int) -> int:
        return instances.last_try_seconds(queue_life_seconds)

    def bound_addresses(self, text: str) -> set[str]:
        return files.bound_addresses(text)

    def effort(self, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        # Sources of lmdb tables are the files without a suffix.
        return files.effort(before, after, {name for name in (*before, *after) if "." not in name})

    def queue_of(self, address: Address, group: str) -> str:
        return instances.transport(address, group)
