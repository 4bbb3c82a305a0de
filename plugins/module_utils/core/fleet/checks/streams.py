# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of streams against each other: what each must have for itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet


def share_nothing(fleet: Fleet) -> Iterable[Finding]:
    seen: dict[tuple[str, Any], str] = {}
    if fleet.front:
        seen[("port", fleet.front.port)] = "front"

    def once(where: str, kind: str, value: Any, why: str) -> Iterable[Finding]:
        owner = seen.setdefault((kind, value), where)
        if owner != where:
            yield Finding(where, f"'{value}'", f"{owner} has this {kind} already; {why}", f"Choose another {kind}")

    for stream in fleet.streams.values():
        place = f"streams.{stream.name}"
        yield from once(f"{place}.port", "port", stream.port, "a port chooses one stream")
        for domain in dict.fromkeys((*stream.domains, stream.return_path.domain)):
            yield from once(place, "domain", domain, "two streams under one domain share its reputation")
        for login in stream.inject_users:
            yield from once(f"{place}.inject_users", "login", login.lower(), "a login chooses one stream")


def are_separate(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        own = {fleet.organisational_domain(domain) for domain in stream.domains}
        for other in stream.separate_from:
            if other not in fleet.streams:
                continue
            shared = own & {fleet.organisational_domain(domain) for domain in fleet.streams[other].domains}
            if shared:
                yield Finding(
                    f"streams.{stream.name}.separate_from",
                    f"{other} is under {', '.join(sorted(shared))} as well",
                    "complaints count against the organisational domain, so the two are not separate",
                    "Send this stream from a registered domain of its own",
                )
