# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerDNS Authoritative by its HTTP API (doc.powerdns.com/authoritative/http-api). One PATCH is one transaction.

The API has no compare-and-swap, so the caller reads again after each write.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import records
from ansible_collections.mailops.mta.plugins.module_utils.core.records import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Garbled,
    Limits,
    Permanent,
    Throttled,
    Transient,
    Unreachable,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell import httpclient

# webserver-max-bodysize is 2 MB by default; half of it leaves room for what JSON adds.
LIMITS = Limits(max_cost=1_000_000)
_JSON = json.JSONEncoder(separators=(",", ":"))
_READ_ONLY = ("Slave", "Secondary", "Consumer")


class PowerDns:
    limits = LIMITS

    def __init__(self, access: Access, client: httpclient.HttpClient) -> None:
        self._zone = access.zone
        self._client = client
        # "=2F" stands for a slash in the API's zone ids (RFC 2317 zones).
        zone_id = urllib.parse.quote(f"{access.zone}.", safe=".-_=").replace("%2F", "=2F")
        server_id = urllib.parse.quote(str(access.credentials.get("server_id") or "localhost"), safe="")
        self._path = f"/api/v1/servers/{server_id}/zones/{zone_id}"
        self._host = urllib.parse.urlsplit(str(access.credentials["url"])).hostname or ""
        self._canonical: dict[tuple[str, str], str] = {}
        self._records: dict[Key, list[dict[str, Any]]] = {}
        self._texts: dict[Key, tuple[Change, str]] = {}

    def read(self) -> dict[Key, RecordSet]:
        response = self._request("GET", self._path)
        try:
            zone = json.loads(response.body)
            kind, rrsets = zone.get("kind"), zone["rrsets"]
            state = self._state(rrsets)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Garbled(
                "the answer is no zone of the PowerDNS API",
                f"it cannot be read: {type(error).__name__}",
                "check that url names the PowerDNS API and nothing else answers there",
            ) from error
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
        body = f'{{"rrsets":[{",".join([self._text(change) for change in changes])}]}}'
        self._request("PATCH", self._path, body.encode("ascii"))

    def close(self) -> None:
        self._client.close()

    def _state(self, rrsets: list[dict[str, Any]]) -> dict[Key, RecordSet]:
        state: dict[Key, RecordSet] = {}
        self._records = {}
        self._texts = {}
        known = self._canonical
        for rrset in rrsets:
            rtype = rrset["type"]
            if rtype == "SOA":
                continue
            key = (records.canonical_name(rrset["name"]), rtype)
            self._records[key] = rrset["records"]
            values = []
            for record in rrset["records"]:
                if record.get("disabled"):
                    continue
                content = record["content"]
                value = known.get((rtype, content))
                if value is None:
                    value = known[rtype, content] = _canonical(rtype, content)
                values.append(value)
            if values:
                state[key] = RecordSet.of(*key, rrset["ttl"], values)
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
                had.setdefault(self._canonical[rtype, content], []).append(content)
        if change.after is None and not disabled:
            return {**rrset, "changetype": "DELETE"}
        contents: list[str] = []
        for value in change.after.values if change.after else ():
            if value in had:  # as it stands, so that a neighbour's value keeps its layout
                contents.extend(had[value])
                continue
            content = records.presentation(rtype, value)
            self._canonical[rtype, content] = value
            contents.append(content)
        some = change.after or change.before
        rrset.update(ttl=some.ttl if some else 0, changetype="REPLACE")
        rrset["records"] = [{"content": content, "disabled": False} for content in contents]
        rrset["records"] += [{"content": content, "disabled": True} for content in disabled if content not in contents]
        return rrset

    def _request(self, method: str, path: str, body: Optional[bytes] = None) -> httpclient.Response:
        try:
            response = self._client.request(method, path, body)
        except httpclient.NotConnected as error:
            raise Unreachable(
                "the PowerDNS API cannot be reached", str(error), "start the server, or correct url in the credentials"
            ) from error
        except httpclient.AnswerLost as error:
            raise Transient(
                "the PowerDNS API gave no answer", str(error), "look at the server and run again"
            ) from error
        status = response.status
        if status in (200, 204):
            return response
        said = f"HTTP {status}{_message(response)}"
        if status == 401:
            raise Permanent(
                f"the PowerDNS API refused the key ({said})",
                "api_key is not the server's",
                "correct api_key in the credentials",
            )
        if status == 403:
            raise Permanent(
                f"the PowerDNS API refused access ({said})",
                "this client or key is not allowed",
                "allow it in webserver-allow-from",
            )
        if status == 404 or (status == 422 and "Could not find domain" in said):
            raise Permanent(
                f"the PowerDNS server has no zone {self._zone} ({said})",
                "zones are made by their operator, not by a run",
                "create the zone there, or correct zones in the fleet file",
            )
        if status == 409:
            raise Conflict(f"the zone changed meanwhile ({said})")
        if status == 429:
            raise Throttled(
                f"too many requests ({said})",
                "the API limits them",
                "run again later",
                httpclient.retry_after(response),
            )
        if status >= 500:
            raise Faulty(
                f"the PowerDNS API failed ({said})",
                "the server has a problem",
                "look at its log",
                httpclient.retry_after(response),
            )
        raise Permanent(
            f"the PowerDNS API refused the request ({said})", "the server says so", "correct the record it names"
        )


def _canonical(rtype: str, content: str) -> str:
    try:
        return records.canonical(rtype, content)
    except ValueError:
        return content  # foreign data that we would not write


def _message(response: httpclient.Response) -> str:
    try:
        answer = json.loads(response.body)
        text = answer.get("error") if isinstance(answer, dict) else None
    except ValueError:
        text = None
    return f": {' '.join(str(text).split())[:300]}" if text else ""


def open_zone(access: Access) -> PowerDns:
    credentials = access.credentials
    try:
        client = httpclient.HttpClient(
            str(credentials["url"]),
            {"X-API-Key": str(credentials["api_key"])},
            timeout_seconds=access.timeout_seconds,
            ca_file=credentials.get("ca_file"),
        )
    except (ValueError, OSError) as error:
        raise Permanent("url or ca_file cannot be used", str(error), "correct them in the credentials") from error
    return PowerDns(access, client)
