# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for octoDNS providers."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
from octodns.provider import ProviderException
from octodns.provider.base import BaseProvider
from octodns.record import Delete, Record

CREDENTIALS: dict[str, Any] = {
    "class": f"{__name__}.InMemory",
    "settings": {"token": "a-token", "strict_supports": False},
}
OPTIONS: dict[str, Any] = {}
# Quotes, backslashes and bytes beyond ASCII: each provider escapes them in a way of its own.
LACKS = ("odd", "bytes")

_SERVERS: dict[str, StandIn] = {}

Data = dict[str, Any]


class StandIn:
    """The service behind ``InMemory``: record data as octoDNS has them, by relative name and type."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.data: dict[tuple[str, str], Data] = {
            ("", "NS"): {"type": "NS", "ttl": 3600, "values": ["ns1.example.net.", "ns2.example.net."]}
        }

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(_SERVERS, f"{self.zone}.", self)


class InMemory(BaseProvider):  # type: ignore[misc]
    """A stand-in for an octoDNS provider as octoDNS 1.22 describes one (BaseProvider, BaseSource.populate).

    Like real ones it leaves out what it does not support when it reads, would when it plans, and compares nothing when
    it writes; and it keeps what it has read until a write succeeds. Refuses plans that do not hold together, and an
    alias beside other records.
    """

    SUPPORTS_GEO = False
    SUPPORTS_DYNAMIC = True
    SUPPORTS_ROOT_NS = True
    SUPPORTS = frozenset(("A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SRV", "TLSA", "TXT"))

    def __init__(self, id: str, token: str, **settings: Any) -> None:
        self.log = logging.getLogger(f"InMemory[{id}]")
        super().__init__(id, **settings)
        self._token = token
        self._read: dict[str, dict[tuple[str, str], Data]] = {}

    def _server(self, zone: str) -> StandIn | None:
        if self._token != "a-token":
            raise ProviderException("the token is not valid")
        return _SERVERS.get(zone)

    def populate(self, zone: Any, target: bool = False, lenient: bool = False) -> bool:
        server = self._server(zone.name)
        kept = self._read.setdefault(zone.name, copy.deepcopy(server.data) if server else {})
        for (name, rtype), data in kept.items():
            if rtype in self.SUPPORTS:
                record = Record.new(zone, name, copy.deepcopy(data), source=self, lenient=lenient)
                zone.add_record(record, lenient=lenient)
        return server is not None

    def _apply(self, plan: Any) -> None:
        server = self._server(plan.desired.name)
        if server is None or not plan.changes:
            raise ProviderException("there is no such zone, or nothing to do")
        new = dict(server.data)
        for change in plan.changes:  # octoDNS sorts them: deletions first
            record = change.record
            key = (record.name, record._type)
            if isinstance(change, Delete):
                new.pop(key, None)
            else:
                new[key] = self._checked(record, plan)
        names = [name for name, rtype in new if rtype == "CNAME"]
        if any(name in names and rtype != "CNAME" for name, rtype in new):
            raise ProviderException("a CNAME would share its name")
        server.data = new
        self._read.pop(plan.desired.name, None)

    def _checked(self, record: Any, plan: Any) -> Data:
        shown = {(each.name, each._type): each for each in plan.desired.records}
        if shown.get((record.name, record._type)) is not record:
            raise ProviderException("the desired zone does not hold the change")
        if getattr(record, "values", None) == []:
            raise ProviderException("a record without values")
        data = {**record.data, "type": record._type}
        if hasattr(record, "values"):  # octoDNS leaves out empty values of its own data
            data.pop("value", None)
            data["values"] = [getattr(value, "data", value) for value in record.values]
        return copy.deepcopy(data)
