# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks authoritative servers whether they show what was written."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import records, txt
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.records import Key, State
from ansible_collections.mailops.mta.plugins.module_utils.shell import dnswire
from ansible_collections.mailops.mta.plugins.module_utils.shell.httpclient import Pace

Server = tuple[str, int]
_ANSWER_SECONDS = 3.0
_BETWEEN_SECONDS = 0.5


def parse(text: str) -> Server:
    """``192.0.2.1``, ``ns1.example.com``, either with ``:port``; IPv6 with a port in brackets. Raises ValueError."""
    text = text.strip()
    try:
        return str(ipaddress.ip_address(text.strip("[]"))), 53
    except ValueError:
        host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "53"
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"'{text}' is no server; write an address or name, and :port if it is not 53")
    return host.strip("[]"), int(port)


def unequal(
    asked: Iterable[Server], keys: Sequence[Key], state: State, wait_seconds: float, pace: Pace
) -> list[Finding]:
    """A finding for each server that does not show ``state`` at ``keys`` within ``wait_seconds``."""
    if dnswire.IMPORT_PROBLEM:
        problem = "dnspython is missing, so no server was asked"
        return [Finding("servers", problem, dnswire.IMPORT_PROBLEM, "install dnspython")] if list(asked) else []
    findings = []
    for host, port in asked:
        deadline = pace.clock() + wait_seconds
        left, seen = list(keys), ""
        while left:
            left, seen = _differing(dnswire.Peer(host, port, timeout_seconds=_ANSWER_SECONDS), left, state)
            if not left or pace.clock() + _BETWEEN_SECONDS > deadline:
                break
            pace.sleep(_BETWEEN_SECONDS)
        if left:
            some = ", ".join(f"{name} {rtype}" for name, rtype in left[:10])
            findings.append(
                Finding(
                    f"server {host} port {port}",
                    f"{len(left)} record set(s) differ from what was written: {some}; {seen}",
                    f"after {wait_seconds:g} seconds it still shows something else; receivers may ask it",
                    "look at transfers and caches of this server, then verify",
                )
            )
    return findings


def _differing(peer: dnswire.Peer, keys: Sequence[Key], state: State) -> tuple[list[Key], str]:
    left: list[Key] = []
    seen = ""
    for position, key in enumerate(keys):
        wanted = state.get(key)
        try:
            found = dnswire.ask(peer, *key)
        except (dnswire.AnswerLost, dnswire.NotConnected, dnswire.Refused) as error:
            # A server that does not answer once is not asked for all the rest.
            return [*left, *keys[position:]], f"{key[0]} {key[1]}: {error}"
        shown = _values(found)
        if shown != (set(wanted.values) if wanted else set()):
            left.append(key)
            seen = f"{key[0]} {key[1]} shows {sorted(shown) or 'nothing'}"
    return left, seen


def _values(found: Optional[dnswire.Rrset]) -> set[str]:
    if found is None:
        return set()
    if found.type == "TXT":
        return {txt.decode(dnswire.joined(data)) for data in found.data}
    values = set()
    for data in found.data:
        text = dnswire.text_of(data)
        try:
            values.add(records.canonical(found.type, text))
        except ValueError:
            values.add(text)
    return values
