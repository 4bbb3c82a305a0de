# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section receivers of the fleet file: receiver groups and what one address may do there."""

from __future__ import annotations

import re
from dataclasses import fields, replace

from ansible_collections.mailops.mta.plugins.module_utils.core.engines import receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Limits, ReceiverGroup
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, shown

LIMIT_KEYS = tuple(field.name for field in fields(Limits))
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")


def read_receivers(root: Reader) -> dict[str, ReceiverGroup]:
    groups = {group.name: group for group in receivers.DEFAULTS}
    fallback = groups.pop(receivers.DEFAULT)
    replaced = {name for name, reader in root.entries("receivers") if reader.has("domains")}
    owner = {domain: name for name, group in groups.items() if name not in replaced for domain in group.domains}
    for name, reader in root.entries("receivers"):
        reader.known((*LIMIT_KEYS, "domains"))
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
        group = replace(
            base,
            name=name,
            domains=domains or (known.domains if known else ()),
            # Whoever shares a host shares its queue, so a group that gave a domain away cannot be told by its hosts.
            mx=base.mx if not domains or set(base.domains) <= set(domains) else (),
            limits=limits(reader, base.limits),
            source="the fleet file",
        )
        if name == receivers.DEFAULT:
            fallback = group
        else:
            groups[name] = group
    groups[receivers.DEFAULT] = fallback
    return groups


def limits(reader: Reader, default: Limits) -> Limits:
    return Limits(
        concurrency=reader.integer("concurrency", 1, 1000, default.concurrency),
        messages_per_connection=reader.integer("messages_per_connection", 1, 10000, default.messages_per_connection),
        rate_delay_seconds=reader.integer("rate_delay_seconds", 0, 3600, default.rate_delay_seconds),
        tls=reader.choice("tls", ("may", "encrypt"), default.tls),
    )
