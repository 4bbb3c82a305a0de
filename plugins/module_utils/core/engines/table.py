# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines, one line each."""

from __future__ import annotations

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import Engine
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import SIGNERS
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix.port import Postfix
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.port import PowerMTA
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet

DEFAULT = Postfix.name  # of a host whose engine the fleet file does not name
ENGINES: dict[str, Engine] = {
    Postfix.name: Postfix(),
    PowerMTA.name: PowerMTA(),
}


def algorithms(engine: str) -> tuple[str, ...]:
    """The DKIM algorithms that mail of an engine is signed with."""
    return SIGNERS[ENGINES[engine].signer]


def engine_of(fleet: Fleet, host: str) -> Engine:
    """The engine of a host that has one. Raises KeyError for a host that sends nothing."""
    return ENGINES[fleet.hosts[host].engine]
