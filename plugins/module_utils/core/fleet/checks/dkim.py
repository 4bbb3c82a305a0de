# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of DKIM keys: engines can sign with them, their names fit into DNS, and they can be replaced."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import table
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA, Fleet

DAY_SECONDS = 86400


def engines_can_sign(fleet: Fleet) -> Iterable[Finding]:
    engines = {host.name for host in fleet.mta_hosts()}
    for stream in fleet.streams.values():
        for host in sorted({address.host for address in stream.addresses if address.host in engines}):
            engine = fleet.hosts[host].engine
            for algorithm in stream.dkim.algorithms:
                if algorithm not in table.algorithms(engine):
                    yield Finding(
                        f"streams.{stream.name}.dkim.algorithms",
                        f"'{algorithm}'",
                        f"{engine} on {host} cannot sign with it",
                        f"Write algorithms: [{', '.join(table.algorithms(engine))}]",
                    )
        if RSA not in stream.dkim.algorithms:
            yield Finding(
                f"streams.{stream.name}.dkim.algorithms",
                "no rsa",
                "large receivers do not verify Ed25519 signatures yet, the mail would count as unsigned",
                "Add rsa",
                WARNING,
            )


def names_fit(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        dkim = stream.dkim
        suffix = f"-{ED25519}" if ED25519 in dkim.algorithms else ""
        # Named by date, such as s1-20261231b: a second key of one day has a letter more.
        longest = max(dkim.slots, key=len, default=f"{dkim.selector}-20261231b") + suffix
        where = f"streams.{stream.name}.dkim." + ("slots" if dkim.slots else "selector")
        for domain in stream.domains:
            problem = Key(domain, longest, RSA).problem
            if problem:
                found = f"'{names.alias_name(domain, longest)}'"
                yield Finding(where, found, problem, "Use a shorter one, or a shorter domain")
            record = names.record_name(domain, longest, dkim.delegate)
            if dkim.delegate and len(record) > names.MAX_NAME:
                why = f"its name has {len(record)} characters, {names.MAX_NAME} are allowed"
                yield Finding(f"streams.{stream.name}.dkim.delegate", f"'{record}'", why, "Use a shorter domain")


def keys_can_be_replaced(fleet: Fleet) -> Iterable[Finding]:
    senders = {host.name for host in fleet.mta_hosts()}
    for stream in fleet.streams.values():
        where, dkim = f"streams.{stream.name}.dkim", stream.dkim
        engines = {fleet.hosts[address.host].engine for address in stream.addresses if address.host in senders}
        tries = [table.ENGINES[engine].last_try_seconds(stream.queue_life_seconds) for engine in engines]
        lasting = max(tries, default=stream.queue_life_seconds) + stream.ttl_seconds
        if dkim.keep_retired_seconds < lasting:
            yield Finding(
                f"{where}.keep_retired_seconds",
                str(dkim.keep_retired_seconds),
                f"mail that the old key signed leaves the queue (queue_life_seconds {stream.queue_life_seconds}) up to"
                f" {lasting - stream.ttl_seconds} seconds later, and its key would be gone",
                f"Write {lasting} or more, or leave it out",
            )
        whole = stream.ttl_seconds + dkim.margin_seconds + dkim.keep_retired_seconds
        if dkim.every_days and whole > dkim.every_days * DAY_SECONDS:
            days = -(-whole // DAY_SECONDS)
            yield Finding(
                f"{where}.rotation.every_days",
                str(dkim.every_days),
                f"to publish a key, wait for caches and retire the old one takes {whole} seconds (ttl_seconds,"
                " margin_seconds and keep_retired_seconds), so the next would be due before",
                f"Write {days} or more",
            )
        if dkim.slots and not dkim.delegate:
            yield Finding(
                f"{where}.slots",
                f"[{', '.join(dkim.slots)}]",
                "only aliases that somebody sets once need fixed selectors, and a selector is free again late",
                "Write delegate: with a domain of yours, or remove slots",
            )
        for zone in dict.fromkeys(map(fleet.zone_of, stream.domains)):
            if zone is None or fleet.zones[zone].provider != services.EXTERNAL:
                continue
            if not dkim.delegate:
                yield Finding(
                    f"{where}.delegate",
                    "missing",
                    f"somebody else runs {zone}, so each new key waits until they have set its record",
                    "Write delegate: with a domain of yours, and slots: [a, b], whose aliases they set once",
                    WARNING,
                )
            elif not dkim.slots:
                yield Finding(
                    f"{where}.slots",
                    "missing",
                    f"somebody else runs {zone}, and each new selector would need an alias from them",
                    "Write slots: [a, b]; their aliases are set once",
                )
