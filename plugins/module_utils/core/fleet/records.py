# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section records of the fleet file: record sets that it writes out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Record, Zone
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, shown
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan


def read_records(root: Reader, served: Mapping[str, Zone], ttl_seconds: int) -> tuple[Record, ...]:
    """Record sets that the file writes out, each judged as dns_records does."""
    found: list[Record] = []
    for number, item in enumerate(root.items("records")):
        place = f"records[{number}]"
        if not isinstance(item, Mapping):
            root.refuse(place, shown(item), "a mapping is expected", "Write {name: ..., type: ..., values: [...]}")
            continue
        entry = Reader(item, place, root.findings)
        entry.known(("name", "type", "ttl_seconds", "values", "reason"))
        for key, what in (("name", "the full name"), ("type", "its type"), ("values", "at least one value")):
            entry.require(key, what)
        entry.require("reason", "what it is for, and who uses it")
        record = Record(
            name=entry.text("name", ""),
            type=entry.text("type", "").upper(),
            ttl_seconds=entry.integer("ttl_seconds", 30, 86400, ttl_seconds),
            values=entry.texts("values", lambda _text: None),
            reason=entry.text("reason", ""),
        )
        if not (record.name and record.type and record.values):
            continue
        for value in record.values if record.type == "AAAA" else ():
            plain = names.mapped(ipaddress.ip_address(value)) if names.is_address(value) else None
            if plain:
                why = "it is an IPv4 address in IPv6 form (RFC 4291 2.5.5.2)"
                entry.refuse("values", shown(value), why, f"Write {plain} in a record of type A")
        sets, findings = plan.assign(served, [{"name": record.name, "type": record.type, "values": record.values}])
        root.findings.extend(replace(finding, where=place) for finding in findings)
        found.extend(
            replace(record, name=one.name, values=one.values) for wanted in sets.values() for one in wanted.sets
        )
    return tuple(found)
