# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section zones of the fleet file."""

from __future__ import annotations

import ipaddress
import re
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Zone
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, shown

PROVIDERS = tuple(name for name in services.NAMES if name != services.MEMORY)
_CREDENTIALS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")


def read_zones(root: Reader) -> dict[str, Zone]:
    found: dict[str, Zone] = {}
    for written, reader in root.entries("zones"):
        try:
            name = names.to_ascii(written)
            problem = names.owner_problem(name)
        except ValueError as error:
            name, problem = written, str(error)
        if problem:
            reader.refuse(None, shown(written), f"it is no zone name: {problem}", "Write a legal domain name")
            continue
        if name in found:
            reader.refuse(None, shown(written), "the zone stands there twice", "Remove one")
        reader.known(("provider", "credentials", "options", "signed", "network"))
        reader.require("provider", "the DNS service")
        if reader.data.get("provider") == services.MEMORY:
            provider = services.MEMORY
            why = "it stands in for a DNS service in tests, and publishes nothing"
            reader.refuse("provider", shown(provider), why, f"Write one of {', '.join(PROVIDERS)}", severity=WARNING)
        else:
            provider = reader.choice("provider", PROVIDERS, services.EXTERNAL)
        if provider == services.EXTERNAL and reader.data.get("provider") == provider and reader.has("credentials"):
            reader.refuse("credentials", shown(reader.data["credentials"]), "nobody writes this zone", "Remove it")
        service = services.SERVICES.get(provider)
        if service and service.required and not reader.has("credentials"):
            why = f"{service.title} needs {', '.join(service.required)}"
            reader.refuse("credentials", "missing", why, "Name an entry of the variable mta_dns_credentials")
        if service:
            reader.mapping("options").known((*services.COMMON_OPTIONS, *service.options))
            _servers(reader.mapping("options"))
        found[name] = Zone(
            name=name,
            provider=provider,
            credentials=reader.word("credentials", _CREDENTIALS, "name of an entry of mta_dns_credentials"),
            options=dict(reader.mapping("options").data),
            signed=reader.boolean("signed", False),
            network=_zone_network(name, reader),
        )
    return found


def _servers(options: Reader) -> None:
    for number, server in enumerate(options.items("servers")):
        try:
            names.endpoint(str(server))
        except ValueError as error:
            place = f"servers[{number}]"
            options.refuse(place, shown(server), str(error), "Write 192.0.2.53, ns1.example.com or [2001:db8::53]:53")


def _zone_network(name: str, reader: Reader) -> Optional[str]:
    """The network of a classless reverse zone (RFC 2317), from its key or its name."""
    named = names.classless_network(name)
    if not reader.has("network"):
        if "/" in name and named is None:
            reader.refuse(
                None,
                shown(name),
                "the label with the slash is not the first address and the prefix length of a network in that /24",
                "Write the zone's name as your provider delegates it, such as 0/26.113.0.203.in-addr.arpa",
            )
        return named
    try:
        network = ipaddress.IPv4Network(reader.text("network", ""))
    except ValueError as error:
        reader.refuse(
            "network", shown(reader.data["network"]), f"it is no IPv4 network: {error}", "Write 203.0.113.0/26"
        )
        return named
    if network.prefixlen < 25:
        reader.refuse(
            "network", shown(str(network)), "a network of /24 or wider has reverse zones of its own", "Remove network"
        )
        return named
    text = str(network)
    if named not in (None, text) or not name.endswith(f".{names.reverse_parent(text)}"):
        expected = named or f"below {names.reverse_parent(text)}"
        reader.refuse("network", shown(text), f"the zone's name says {expected}", "Correct the name or the network")
    return text
