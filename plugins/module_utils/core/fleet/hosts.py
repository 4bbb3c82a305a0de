# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section hosts of the fleet file."""

from __future__ import annotations

import re

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.table import DEFAULT, ENGINES
from ansible_collections.mailops.mta.plugins.module_utils.core.model import NO_ENGINE, Host
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, nearest, shown

HOST_KEYS = ("engine", "listen", "families", "interface", "bounce_listen", "firewall")
# Groups and hosts of this plugin, and what other inventory plugins take for a part of a group.
RESERVED_NAMES = ("front", "fleet", "control", "all", "ungrouped", "mta", "mta_sts", "hosts", "children", "vars")
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}\Z")  # IFNAMSIZ of Linux, without what its tools split at


def read_hosts(root: Reader) -> dict[str, Host]:
    return {name: _host(name, reader) for name, reader in root.entries("hosts")}


def _host(name: str, reader: Reader) -> Host:
    if not HOST_NAME.match(name) or name in RESERVED_NAMES:
        reader.refuse(None, shown(name), "it is no host name or has a meaning of its own", "Choose another name")
    engine = reader.choice("engine", (*ENGINES, NO_ENGINE), DEFAULT)
    listen = reader.ips("listen")
    if not reader.has("listen") and names.is_address(reader.data.get("ansible_host")):
        listen = tuple(filter(None, (reader.ip("ansible_host"),)))
    elif not reader.has("listen") and engine != NO_ENGINE:
        reader.refuse(
            "listen",
            "missing",
            "nothing says on which address applications reach this host",
            "Write listen: [the address of its inner interface]",
        )
    for key in reader.data:
        if key not in HOST_KEYS and not str(key).startswith("ansible_"):
            reader.refuse(
                str(key),
                "unknown key",
                f"nothing reads it{nearest(str(key), HOST_KEYS)}",
                f"Use one of {', '.join(HOST_KEYS)}, or a connection variable that begins with ansible_",
            )
    return Host(
        name=name,
        engine=engine,
        listen=listen,
        families=reader.choices("families", ("ipv4", "ipv6"), ("ipv4", "ipv6")),
        interface=reader.word("interface", _INTERFACE, "name of a network interface"),
        bounce_listen=reader.ips("bounce_listen"),
        firewall=reader.boolean("firewall", True),
        variables={key: value for key, value in reader.data.items() if str(key).startswith("ansible_")},
    )
