# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of hosts: what listens on them, and whether they are used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet


def listen_apart(fleet: Fleet) -> Iterable[Finding]:
    listening: dict[str, str] = {}
    for host in fleet.hosts.values():
        for ip in host.listen:
            if ip in listening:
                yield Finding(
                    f"hosts.{host.name}.listen",
                    f"'{ip}'",
                    f"{listening[ip]} listens there too",
                    "Write its own address",
                )
            listening.setdefault(ip, host.name)


def are_used(fleet: Fleet) -> Iterable[Finding]:
    for host in fleet.hosts.values():
        if host.is_mta and not fleet.streams_on(host.name):
            yield Finding(
                f"hosts.{host.name}", "no stream has an address on it", "it would send nothing", "Remove it", WARNING
            )
        if not host.is_mta and not fleet.policies_on(host.name) and host.name != fleet.key_host:
            yield Finding(
                f"hosts.{host.name}", "engine: none", "no policy is served on it and no key kept", "Remove it", WARNING
            )


def ssh_stays_open(fleet: Fleet) -> Iterable[Finding]:
    """The firewall closes a listener's port to everybody else, an administrator among them."""
    for host in fleet.mta_hosts():
        ports = {22, _number(host.variables.get("ansible_port"))}
        taken = {f"streams.{stream.name}.port": stream.port for stream in fleet.streams_on(host.name)}
        if fleet.front and host.name in fleet.front.hosts:
            taken["front.port"] = fleet.front.port
        for where, port in taken.items():
            if host.firewall and port in ports:
                yield Finding(
                    where,
                    f"'{port}'",
                    f"ssh answers on this port of {host.name}, and the firewall would close it to you",
                    f"Choose another port, or write firewall: false for {host.name}",
                )


def _number(value: Any) -> int:
    return int(value) if str(value).isdecimal() else 0
