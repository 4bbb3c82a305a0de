# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Azure DNS by its API 2018-05-01 (learn.microsoft.com/rest/api/dns), one record set in a request.

Each record set has an etag. A change names the one that was read, and a creation says that there is none: so both are
refused where somebody else was faster. An application signs in with its secret (RFC 6749 4.4).
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.providers.oauth import Token
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Permanent,
    Provider,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Rest, Throttle, required

_URL = "https://management.azure.com"
_LOGIN_URL = "https://login.microsoftonline.com"
_VERSION = "api-version=2018-05-01"
_KEY_REMEDY = "correct tenant_id, client_id and client_secret in the credentials"
# Where the records of a type stand, and their fields in the order of the presentation format.
_FIELDS = {
    "A": ("ARecords", ("ipv4Address",)),
    "AAAA": ("AAAARecords", ("ipv6Address",)),
    "CAA": ("caaRecords", ("flags", "tag", "value")),
    "CNAME": ("CNAMERecord", ("cname",)),
    "MX": ("MXRecords", ("preference", "exchange")),
    "NS": ("NSRecords", ("nsdname",)),
    "PTR": ("PTRRecords", ("ptrdname",)),
    "SRV": ("SRVRecords", ("priority", "weight", "port", "target")),
    "TXT": ("TXTRecords", ("value",)),
}

_Record = dict[str, Any]


@dataclass(frozen=True)
class _Stored:
    """A record set as Azure has it: its records by canonical value, and what else must stay as it is."""

    etag: str
    metadata: Optional[Mapping[str, str]]
    target: str  # of an alias, else empty
    records: Mapping[str, list[_Record]]


class Azure(Provider):
    limits = SERVICES["azure"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self._zone = access.zone
        url = str(credentials.get("url") or _URL).rstrip("/")
        tenant, subscription, group = (
            urllib.parse.quote(str(part), safe="")
            for part in (
                credentials["tenant_id"],
                credentials["subscription_id"],
                access.options.get("resource_group") or credentials["resource_group"],
            )
        )
        form = {
            "grant_type": "client_credentials",
            "client_id": str(credentials["client_id"]),
            "client_secret": str(credentials["client_secret"]),
            "scope": f"{url}/.default",
        }
        login = str(credentials.get("login_url") or _LOGIN_URL).rstrip("/")
        self._token = Token(access, f"{login}/{tenant}/oauth2/v2.0/token", "Azure", _KEY_REMEDY, lambda: form)
        self._rest = Rest(
            access.client(url, {}),
            "Azure DNS",
            access,
            key_remedy=_KEY_REMEDY,
            access_remedy="give the application the role DNS Zone Contributor on the zone",
            throttle=Throttle.of(f"azure {subscription} {form['client_id']}", self.limits.requests_per_second),
        )
        self._path = (
            f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network/dnsZones/"
            + urllib.parse.quote(access.zone, safe="")
        )
        self._stored: dict[Key, _Stored] = {}

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        """Always the whole zone: at one name, each type would take a request of its own."""
        self._stored = {}
        state: dict[Key, RecordSet] = {}
        path = f"{self._path}/recordsets?{_VERSION}"
        for _number in self._rest.pages():
            page = self._request("GET", path)
            try:
                for element in page["value"]:
                    key = (self._absolute(element["name"]), element["type"].rpartition("/")[2])
                    if key[1] != "SOA":
                        stored = self._stored[key] = _stored(key[1], element)
                        values = stored.records or ([f"alias of {stored.target}"] if stored.target else [])
                        if values:  # a record set may be without records
                            state[key] = RecordSet.of(*key, element["properties"].get("TTL") or 0, values)
                # Only the path: a token goes nowhere else.
                following = urllib.parse.urlsplit(str(page.get("nextLink") or ""))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._rest.garbled(f"{type(error).__name__} {error}") from error
            if not following.path:
                break
            path = f"{following.path}?{following.query}"
        return state

    def cost(self, change: Change) -> int:
        return 1

    def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._write(change)

    def close(self) -> None:
        self._rest.close()
        self._token.close()

    def _write(self, change: Change) -> None:
        name, rtype = change.key
        stored = self._stored.get(change.key)
        if stored and stored.target:
            raise Permanent(
                f"record {name} {rtype} is an alias of {stored.target}",
                "a plain record set would take its place",
                "take it out of the fleet file, or remove it in Azure",
            )
        path = f"{self._path}/{rtype}/{urllib.parse.quote(self._relative(name), safe='@*')}?{_VERSION}"
        condition = {"If-Match": stored.etag} if stored else {"If-None-Match": "*"}
        if change.after is None:
            if self._rest.send("DELETE", path, None, {**condition, **self._token.header()}).status == 204:
                raise Conflict(f"record {name} {rtype} was removed by somebody else")
            self._stored.pop(change.key, None)
            return
        self._stored[change.key] = self._put(path, condition, change.after, stored)

    def _put(self, path: str, condition: Mapping[str, str], after: RecordSet, stored: Optional[_Stored]) -> _Stored:
        had = stored.records if stored else {}
        kept = {value: had.get(value) or [_record(after, value)] for value in after.values}
        listed = [record for each in kept.values() for record in each]
        field = _FIELDS[after.type][0]
        properties: dict[str, Any] = {"TTL": after.ttl, field: listed[0] if after.type == "CNAME" else listed}
        metadata = stored.metadata if stored else None
        if metadata:
            properties["metadata"] = metadata
        answer = self._request("PUT", path, {"properties": properties}, condition)
        return _Stored(required(answer.get("etag"), str, self._rest, "etag"), metadata, "", kept)

    def _request(self, method: str, path: str, body: Any = None, headers: Optional[Mapping[str, str]] = None) -> Any:
        answer = self._rest.json(method, path, body, {**(headers or {}), **self._token.header()})
        return required(answer, dict, self._rest, "the answer")

    def _absolute(self, relative: str) -> str:
        return self._zone if relative == "@" else records.canonical_name(f"{relative}.{self._zone}")

    def _relative(self, name: str) -> str:
        return "@" if name == self._zone else name[: -len(self._zone) - 1]


def _stored(rtype: str, element: Mapping[str, Any]) -> _Stored:
    properties = element["properties"]
    field = _FIELDS[rtype][0] if rtype in _FIELDS else ""
    listed = properties.get(field) or []
    kept: dict[str, list[_Record]] = {}
    for record in [listed] if isinstance(listed, dict) else listed:
        kept.setdefault(_value(rtype, record), []).append(record)
    target = (properties.get("targetResource") or {}).get("id") or ""
    return _Stored(element["etag"], properties.get("metadata"), str(target), kept)


def _value(rtype: str, record: _Record) -> str:
    """The canonical value of a record."""
    fields = [record[field] for field in _FIELDS[rtype][1]]
    if rtype == "TXT":
        return "".join(fields[0])
    if rtype == "CAA":
        fields[2] = f'"{fields[2]}"'
    text = " ".join(map(str, fields))
    try:
        return records.canonical(rtype, text)
    except ValueError:
        return text  # foreign data that we would not write


def _record(after: RecordSet, value: str) -> _Record:
    fields = _FIELDS[after.type][1]
    if after.type == "TXT":
        return {"value": _strings(after, value)}
    *numbers, last = records.presentation(after.type, value).split(" ", len(fields) - 1)
    words: list[Any] = [int(word) if word.isascii() and word.isdigit() else word for word in numbers]
    if after.type == "CAA":
        last = last.strip('"')
    elif last != ".":
        last = last.rstrip(".")
    return dict(zip(fields, [*words, last]))


def _strings(after: RecordSet, value: str) -> list[str]:
    """Strings of at most 255 bytes, cut between characters, for the API takes text and no bytes."""
    strings = [""]
    size = 0
    for character in value:
        try:
            more = len(character.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise Permanent(
                f"record {after.name} TXT holds bytes that are no text",
                "the API of Azure takes text only",
                "remove them",
            ) from error
        if size + more > txt.MAX_STRING:
            strings.append("")
            size = 0
        strings[-1] += character
        size += more
    return strings


def open_zone(access: Access) -> Azure:
    return Azure(access)
