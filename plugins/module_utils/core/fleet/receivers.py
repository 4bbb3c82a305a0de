# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section receivers of the fleet file, and what a stream says over it: receiver groups and their limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines import receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import inherit
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Limits, ReceiverGroup
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, shown

_LIMITS = {
    "concurrency": inherit.number(1, 1000),
    "messages_per_connection": inherit.number(1, 10000),
    "rate_delay_seconds": inherit.number(0, 3600),
    "tls": inherit.one_of("may", "encrypt"),
}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")


@dataclass(frozen=True)
class Receivers:
    groups: Mapping[str, ReceiverGroup]  # with the fleet's limits, the default group last
    defaults: Mapping[str, Limits]  # by group, where the file says nothing
    settings: inherit.Settings  # by group, what the fleet says of its limits
    key: inherit.Key  # what a stream says of them

    def limits(self, settings: Optional[inherit.Settings]) -> dict[str, Limits]:
        """The limits of a stream by receiver group, from its merged settings."""
        return {name: inherit.applied(self.defaults[name], (settings or {}).get(name)) for name in self.groups}


def read_receivers(root: Reader) -> Receivers:
    groups = {group.name: group for group in receivers.DEFAULTS}
    entries = root.entries("receivers")
    settings = {name: inherit.read_settings(reader, _LIMITS) for name, reader in entries}
    fallback = groups.pop(receivers.DEFAULT)
    fallback_limits = inherit.applied(fallback.limits, settings.get(receivers.DEFAULT))
    replaced = {name for name, reader in entries if reader.has("domains")}
    owner = {domain: name for name, group in groups.items() if name not in replaced for domain in group.domains}
    defaults = {group.name: group.limits for group in receivers.DEFAULTS}
    for name, reader in entries:
        reader.known((*_LIMITS, "domains"))
        if not _NAME.match(name):
            reader.refuse(None, shown(name), "it is no name of a receiver group", "Write small letters and digits")
        known = fallback if name == receivers.DEFAULT else groups.get(name)
        domains = reader.domains("domains")
        if known is None:
            reader.require("domains", "the recipient domains of a new receiver group")
        if name == receivers.DEFAULT and domains:
            reader.refuse("domains", shown(domains), "the default group has every other domain", "Remove it")
        for domain in domains:
            if owner.setdefault(domain, name) != name:
                reader.refuse("domains", shown(domain), f"it belongs to {owner[domain]} already", "Remove it here")
        base = known or fallback
        limits = defaults.setdefault(name, fallback_limits)  # a new group is as the default group
        group = replace(
            base,
            name=name,
            domains=domains or (known.domains if known else ()),
            # Whoever shares a host shares its queue, so a group that gave a domain away cannot be told by its hosts.
            mx=base.mx if not domains or set(base.domains) <= set(domains) else (),
            limits=inherit.applied(limits, settings[name]),
            source="the fleet file",
        )
        if name == receivers.DEFAULT:
            fallback = group
        else:
            groups[name] = group
    groups[receivers.DEFAULT] = fallback
    return Receivers(groups, defaults, settings, inherit.mapping(dict.fromkeys(groups, inherit.mapping(_LIMITS))))
