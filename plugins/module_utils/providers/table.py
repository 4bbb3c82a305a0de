# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every DNS service, one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.mailops.mta.plugins.module_utils.providers import memory, powerdns, rfc2136
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access, Provider


@dataclass(frozen=True)
class Service:
    """How a service is opened, and the names that its credentials and options may have."""

    open: Callable[[Access], Provider]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


# Credential values that may be shown; all others are secrets.
PUBLIC = frozenset(("url", "server", "port", "server_id", "ca_file", "key_name", "key_algorithm"))

SERVICES: dict[str, Service] = {
    "memory": Service(memory.open_zone),
    "powerdns": Service(powerdns.open_zone, ("url", "api_key"), ("server_id", "ca_file")),
    "rfc2136": Service(rfc2136.open_zone, ("server", "key_name", "key_secret"), ("port", "key_algorithm")),
}

# Options of every zone: authoritative servers that are asked after an apply, and how long they may lag.
COMMON_OPTIONS = ("servers", "servers_wait_seconds")
