# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones by dynamic update: AXFR (RFC 5936) reads, UPDATE (RFC 2136) with exact prerequisites writes, TSIG signs.

A prerequisite that fails is a Conflict, so that no change of somebody else is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Permanent,
    Provider,
    ProviderError,
    Transient,
    Unreachable,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns import wire


class Rfc2136(Provider):
    limits = SERVICES["rfc2136"].limits

    def __init__(self, access: Access, peer: wire.Peer) -> None:
        self._zone = access.zone
        self._peer = peer
        self._raw: dict[Key, dict[str, list[Any]]] = {}
        self._edits: dict[Key, tuple[Change, wire.Edit]] = {}

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        """Always the whole zone: one transfer costs less than a question for each type that may stand at a name."""
        try:
            rrsets = wire.transfer(self._peer, self._zone)
        except (wire.NotConnected, wire.AnswerLost, wire.Refused) as error:
            raise self._problem(error, "the transfer") from error
        state = {}
        self._raw = {}
        self._edits = {}
        for rrset in rrsets:
            raw: dict[str, list[Any]] = {}
            for data in rrset.data:
                raw.setdefault(_canonical(rrset.type, data), []).append(data)
            key = (rrset.name, rrset.type)
            self._raw[key] = raw
            state[key] = RecordSet.of(*key, rrset.ttl, raw)
        return state

    def cost(self, change: Change) -> int:
        return wire.size_of(self._edit(change))

    def write(self, changes: Sequence[Change]) -> None:
        try:
            wire.update(self._peer, self._zone, [self._edit(change) for change in changes])
        except (wire.NotConnected, wire.AnswerLost, wire.Refused) as error:
            raise self._problem(error, "the update") from error

    def close(self) -> None:
        """Every message has its own connection."""

    def _edit(self, change: Change) -> wire.Edit:
        """The change for the wire, made once for its size and for the message."""
        made = self._edits.get(change.key)
        if made is None or made[0] is not change:
            made = self._edits[change.key] = (change, self._made(change))
        return made[1]

    def _made(self, change: Change) -> wire.Edit:
        name, rtype = change.key
        before, after = change.before, change.after
        expected = [data for value in before.values for data in self._data(change.key, value)] if before else []
        if change.retimed and before and after:
            removed = expected
            added = [data for value in after.values for data in self._data(change.key, value)]
        else:
            removed = [data for value in change.removed for data in self._data(change.key, value)]
            added = [data for value in change.added for data in self._data(change.key, value)]
        ttl = after.ttl if after else 0
        return wire.Edit(name, rtype, ttl, tuple(expected), tuple(removed), tuple(added))

    def _data(self, key: Key, value: str) -> list[Any]:
        """What stands in the zone for ``value``, in its own layout, or what we would write."""
        raw = self._raw.get(key, {}).get(value)
        if raw:
            return raw
        rtype = key[1]
        if rtype == "TXT":
            return [wire.txt_data(txt.strings(value))]
        try:
            return [wire.data_of(rtype, records.presentation(rtype, value))]
        except ValueError as error:
            raise Permanent(f"record {key[0]} {rtype}: {error}", "it cannot be encoded", "correct the value") from error

    def _problem(self, error: Exception, what: str) -> ProviderError:
        server = f"{self._peer.host} port {self._peer.port}"
        if isinstance(error, wire.NotConnected):
            return Unreachable(
                f"the DNS server {server} cannot be reached",
                str(error),
                "start it, or correct server and port in the credentials",
            )
        if isinstance(error, wire.AnswerLost):
            return Transient(
                f"the DNS server {server} gave no usable answer to {what}", str(error), "look at it and run again"
            )
        code = str(error)
        if code in ("NXRRSET", "YXRRSET", "NXDOMAIN", "YXDOMAIN"):
            return Conflict(f"a record set is not as it was read ({code})")
        if code == "SERVFAIL":
            return Faulty(f"the DNS server {server} failed at {what} (SERVFAIL)", "it has a problem", "look at its log")
        if code in ("BADKEY", "BADSIG"):
            return Permanent(
                f"the DNS server {server} refused the key {self._peer.key_name} ({code})",
                "it knows no such key" if code == "BADKEY" else "the secret or algorithm is not the server's",
                "correct key_name, key_secret and key_algorithm in the credentials",
            )
        if code == "BADTIME":
            return Permanent(
                f"the DNS server {server} refused the time of the signature", "the clocks differ", "set them right"
            )
        if code in ("NOTAUTH", "NOTZONE"):
            return Permanent(
                f"the DNS server {server} does not serve the zone {self._zone} ({code})",
                "zones are made by their operator, not by a run",
                "create the zone there, or correct zones in the fleet file",
            )
        if code == "REFUSED":
            return Permanent(
                f"the DNS server {server} refused {what} of {self._zone}",
                f"the key {self._peer.key_name} may not do it, or the server checks the data",
                "allow the key in allow-transfer and allow-update, and look at the server's log",
            )
        return Permanent(f"the DNS server {server} refused {what} ({code})", "it says so", "look at its log")


def _canonical(rtype: str, data: Any) -> str:
    if rtype == "TXT":
        return txt.decode(wire.joined(data))
    return records.as_read(rtype, wire.text_of(data))


def open_zone(access: Access) -> Rfc2136:
    if wire.IMPORT_PROBLEM:
        raise Permanent("dnspython is missing", wire.IMPORT_PROBLEM, "install dnspython where this task runs")
    credentials = access.credentials
    try:
        peer = wire.Peer(
            str(credentials["server"]),
            int(credentials.get("port") or 53),
            str(credentials.get("key_name") or ""),
            str(credentials.get("key_secret") or ""),
            str(credentials.get("key_algorithm") or "hmac-sha256"),
            access.timeout_seconds,
        )
        peer.key()
    except ValueError as error:
        raise Permanent(
            "the TSIG key or the port cannot be used", str(error), "correct them in the credentials"
        ) from error
    return Rfc2136(access, peer)
