# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerDNS Authoritative by its HTTP API (doc.powerdns.com/authoritative/http-api). One PATCH is one transaction.

The API has no compare-and-swap. Where it raises the serial with each write, the serial is looked at right before a
write and after it, which leaves another writer a millisecond; elsewhere the caller reads again what it wrote.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Collection, Sequence
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Permanent,
    Provider,
    ProviderError,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Rest, message

_JSON = json.JSONEncoder(separators=(",", ":"))
_READ_ONLY = ("Slave", "Secondary", "Consumer")
# Values of soa_edit_api that raise the serial with each write; at the first one of a day it jumps, and tells nothing.
_COUNTING = ("DEFAULT", "INCREASE", "SOA-EDIT-INCREASE")
_FEW = 20  # names that are asked one by one rather than with the whole zone


class PowerDns(Provider):
    limits = SERVICES["powerdns"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self._zone = access.zone
        self._rest = Rest(
            access.client(str(credentials["url"]), {"X-API-Key": str(credentials["api_key"])}),
            "PowerDNS",
            access,
            key_remedy="correct api_key in the credentials",
            access_remedy="allow it in webserver-allow-from",
            refusal=self._refusal,
        )
        # "=2F" stands for a slash in the API's zone ids (RFC 2317 zones).
        zone_id = urllib.parse.quote(f"{access.zone}.", safe=".-_=").replace("%2F", "=2F")
        server_id = urllib.parse.quote(str(credentials.get("server_id") or "localhost"), safe="")
        self._path = f"/api/v1/servers/{server_id}/zones/{zone_id}"
        self._records: dict[Key, list[dict[str, Any]]] = {}
        self._texts: dict[Key, tuple[Change, str]] = {}
        self._serial: Optional[int] = None  # as it must be if nobody but us wrote; None: nothing tells

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        self._records = {}
        self._texts = {}
        if names is None or len(names) > _FEW:
            return self._part("")
        state: dict[Key, RecordSet] = {}
        for name in sorted(set(names)):
            state.update(self._part(f"?rrset_name={urllib.parse.quote(name)}."))
        return state

    def _part(self, query: str) -> dict[Key, RecordSet]:
        zone = self._rest.json("GET", self._path + query)
        try:
            kind, rrsets = zone.get("kind"), zone["rrsets"]
            self._serial = zone.get("serial") if zone.get("soa_edit_api") in _COUNTING else None
            state = self._state(rrsets)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._rest.garbled(type(error).__name__) from error
        if kind in _READ_ONLY:
            raise Permanent(
                f"the zone is of kind {kind} here",
                "its primary would overwrite every change",
                "name the primary in url",
            )
        return state

    def cost(self, change: Change) -> int:
        return len(self._text(change)) + 1

    def write(self, changes: Sequence[Change]) -> None:
        if self._serial is not None and not self.alone():
            raise Conflict("somebody else wrote since the zone was read (its serial tells)")
        body = f'{{"rrsets":[{",".join([self._text(change) for change in changes])}]}}'
        self._rest.send("PATCH", self._path, body.encode("ascii"))
        if self._serial is not None:
            self._serial += 1

    def alone(self) -> bool:
        """Each write raises the serial by one: another serial tells of another writer, or of a day's first write."""
        if self._serial is None:
            return False
        zone = self._rest.json("GET", f"{self._path}?rrsets=false")
        return isinstance(zone, dict) and bool(zone.get("serial") == self._serial)

    def close(self) -> None:
        self._rest.close()

    def _state(self, rrsets: list[dict[str, Any]]) -> dict[Key, RecordSet]:
        state: dict[Key, RecordSet] = {}
        for rrset in rrsets:
            name, rtype, listed = rrset["name"].rstrip(".").lower(), rrset["type"], rrset["records"]
            if rtype == "SOA":
                continue
            self._records[name, rtype] = listed
            values = [records.as_read(rtype, record["content"]) for record in listed if not record.get("disabled")]
            if len(values) == 1:  # nearly all; the general way takes twice as long
                state[name, rtype] = RecordSet(name, rtype, rrset["ttl"], (values[0],))
            elif values:
                state[name, rtype] = RecordSet.of(name, rtype, rrset["ttl"], values)
        return state

    def _text(self, change: Change) -> str:
        """The change as JSON, made once for its size and for the request."""
        made = self._texts.get(change.key)
        if made is None or made[0] is not change:
            made = self._texts[change.key] = (change, _JSON.encode(self._rrset(change)))
        return made[1]

    def _rrset(self, change: Change) -> dict[str, Any]:
        name, rtype = change.key
        rrset: dict[str, Any] = {"name": f"{name}.", "type": rtype}
        had: dict[str, list[str]] = {}
        disabled: list[str] = []
        for record in self._records.get(change.key, ()):
            content = record["content"]
            if record.get("disabled"):
                disabled.append(content)
            else:
                had.setdefault(records.as_read(rtype, content), []).append(content)
        if change.after is None and not disabled:
            return {**rrset, "changetype": "DELETE"}
        contents: list[str] = []
        for value in change.after.values if change.after else ():
            if value in had:  # as it stands, so that a neighbour's value keeps its layout
                contents.extend(had[value])
                continue
            contents.append(records.presentation(rtype, value))
        some = change.after or change.before
        rrset.update(ttl=some.ttl if some else 0, changetype="REPLACE")
        rrset["records"] = [{"content": content, "disabled": False} for content in contents]
        rrset["records"] += [{"content": content, "disabled": True} for content in disabled if content not in contents]
        return rrset

    def _refusal(self, status: int, answer: Any) -> Optional[ProviderError]:
        said = message(answer)
        if status != 422 or "Could not find domain" not in said:
            return None
        return Permanent(
            f"the PowerDNS server has no zone {self._zone} (HTTP {status}{said})",
            "zones are made by their operator, not by a run",
            "create the zone there, or correct zones in the fleet file",
        )


def open_zone(access: Access) -> PowerDns:
    return PowerDns(access)
