# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the Domain Records part of the DigitalOcean API."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {"api_token": "dop_v1_7c5b9f3d1e"}
OPTIONS: dict[str, Any] = {}
LACKS = ("odd", "bytes", "nomail")  # an empty TXT value, backslashes and a null MX are refused

BASE = "https://api.digitalocean.com"
PAGE_SIZE = 20
_FIELDS = {"type", "name", "data", "priority", "port", "ttl", "weight", "flags", "tag"}
# What a new record has to name (models/domain_record_types.yml), the fields that may be null included.
_WANTED: dict[str, tuple[str, ...]] = {
    "A": ("name", "data"),
    "AAAA": ("name", "data"),
    "CAA": ("name", "data", "flags", "tag"),
    "CNAME": ("name", "data"),
    "MX": ("data", "priority"),
    "NS": ("name", "data", "flags", "tag"),
    "SRV": ("name", "data", "priority", "port", "flags", "tag"),
    "TXT": ("name", "data", "flags", "tag"),
}
_LABEL = r"[a-z0-9_*](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:@|{_LABEL}(?:\.{_LABEL})*)\Z")
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.)\Z")

Record = dict[str, Any]


class Refused(Exception):
    def __init__(self, status: int, word: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.word = word


class StandIn:
    """A stand-in for the DigitalOcean API v2 as its OpenAPI description of August 2026 gives the domain records, and as
    recorded answers show it; refuses what those refuse. Names are written with a final dot and handed out without, the
    zone's own is handed out as ``@``, TXT stands without quotes and has 512 bytes as a zone file would quote it.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.made = 28448428
        self.records: dict[int, Record] = {}
        self.add("SOA", "@", "1800", ttl=1800)
        for number in (1, 2, 3):
            self.add("NS", "@", f"ns{number}.digitalocean.com", ttl=1800)

    def add(self, rtype: str, name: str, data: str, **fields: Any) -> Record:
        """A record of somebody else, as it stands there already."""
        self.made += 1
        empty = dict.fromkeys(("priority", "port", "weight", "flags", "tag"))
        record = {"id": self.made, "type": rtype, "name": name, "data": data, "ttl": 1800, **empty, **fields}
        self.records[self.made] = record
        return record

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> client.Response:
        base, path, query = split(url)
        try:
            if headers.get("Authorization") != f"Bearer {CREDENTIALS['api_token']}":
                raise Refused(401, "unauthorized", "Unable to authenticate you")
            own = f"/v2/domains/{self.zone}/records"
            if base != BASE or not f"{path}/".startswith(f"{own}/"):
                raise Refused(404, "not_found", "The resource you requested could not be found.")
            if body is not None and headers.get("Content-Type") != "application/json":
                raise Refused(415, "unsupported_media_type", "The content type is not supported.")
            if (method, path) == ("GET", own):
                return self._list(query)
            if (method, path) == ("POST", own):
                made = self._checked(json.loads(body or b""), None)
                return _json(201, {"domain_record": self.add(made.pop("type"), made.pop("name"), **made)})
            number = int(path[len(own) + 1 :] or 0)
            if number not in self.records:
                raise Refused(404, "not_found", "The resource you requested could not be found.")
            record = self.records[number]
            if method == "DELETE":
                del self.records[number]
                return client.Response(204, {}, b"")
            if method != "PATCH":
                raise Refused(404, "not_found", "The resource you requested could not be found.")
            record.update(self._checked(json.loads(body or b""), record))
            return _json(200, {"domain_record": record})
        except Refused as error:
            return _json(error.status, {"id": error.word, "message": str(error), "request_id": "4d9d8375"})

    def _list(self, query: Mapping[str, str]) -> client.Response:
        if set(query) - {"name", "type", "page", "per_page"} or not 1 <= int(query.get("per_page", 20)) <= 200:
            raise Refused(400, "bad_request", "per_page must be between 1 and 200")
        asked = query.get("name")
        found = [each for each in self.records.values() if asked is None or asked == _absolute(each["name"], self.zone)]
        page, size = int(query.get("page", 1)), min(PAGE_SIZE, int(query.get("per_page", 20)))
        last = max(1, -(-len(found) // size))
        links: dict[str, Any] = {}
        if last > 1:
            own = f"{BASE}/v2/domains/{self.zone}/records?page="
            pages = {"first": f"{own}1", "prev": f"{own}{page - 1}"} if page > 1 else {}
            if page < last:
                pages.update(next=f"{own}{page + 1}", last=f"{own}{last}")
            links = {"pages": pages}
        part = found[(page - 1) * size : page * size]
        return _json(200, {"domain_records": part, "links": links, "meta": {"total": len(found)}})

    def _checked(self, fields: Record, old: Record | None) -> Record:
        """The fields as they are kept. Without ``old`` all that the type has must be there."""
        rtype = fields.get("type")
        if rtype not in _WANTED or (old and old["type"] != rtype):
            raise Refused(422, "unprocessable_entity", "Type is not valid.")
        unknown = set(fields) - _FIELDS
        missing = [] if old else [field for field in _WANTED[rtype] if field not in fields]
        if unknown or missing:
            raise Refused(422, "unprocessable_entity", f"Fields are wrong: {sorted(unknown) or missing}")
        ttl = fields.get("ttl", 1800)
        if not isinstance(ttl, int) or not 30 <= ttl <= 2147483647:
            raise Refused(422, "unprocessable_entity", "TTL must be at least 30 seconds.")
        name = fields.get("name", old["name"] if old else "@")
        if not _NAME.match(name) or f".{name}".endswith(f".{self.zone}"):
            raise Refused(422, "unprocessable_entity", "Name Only valid hostname characters are allowed.")
        for field in {"MX": ("priority",), "SRV": ("priority", "port", "weight"), "CAA": ("flags",)}.get(rtype, ()):
            if "data" in fields and not isinstance(fields.get(field), int):
                raise Refused(422, "unprocessable_entity", f"{field} is not a number.")
        if "data" not in fields:
            return fields
        kept = {**fields, "data": self._data(rtype, fields["data"], fields.get("tag"))}
        others = [each for each in self.records.values() if each["name"] == name and each is not old]
        beside = {each["type"] for each in others}
        if (rtype == "CNAME" and beside) or "CNAME" in beside:
            raise Refused(422, "unprocessable_entity", "CNAME records cannot share a name with other records.")
        if any(_same(each, kept) for each in others):
            raise Refused(422, "unprocessable_entity", "Data has already been taken.")
        return kept

    def _data(self, rtype: str, data: Any, tag: Any) -> str:
        if not isinstance(data, str) or not data:
            raise Refused(422, "unprocessable_entity", "Data can't be blank.")
        if rtype in ("A", "AAAA"):
            try:
                return str((ipaddress.IPv4Address if rtype == "A" else ipaddress.IPv6Address)(data))
            except ValueError:
                raise Refused(422, "unprocessable_entity", "IP address did not match the record's type.") from None
        if rtype == "TXT":
            quoted = len(data) + data.count('"') + 2 + 3 * ((len(data) - 1) // 255)
            if quoted > 509 or "\\" in data or not data.isascii() or not data.isprintable():
                raise Refused(422, "unprocessable_entity", "Data is too long or has characters that are not allowed.")
            return data
        if rtype == "CAA":
            if tag not in ("issue", "issuewild", "iodef") or (tag != "iodef" and not data.endswith(".")):
                raise Refused(422, "unprocessable_entity", "Data needs to end with a dot (.)")
            return data[:-1] if tag != "iodef" else data
        if rtype == "SRV" and data == ".":
            return data
        if not _HOST.match(data):
            raise Refused(422, "unprocessable_entity", "Data needs to end with a dot (.)")
        return "@" if data == f"{self.zone}." else data[:-1]


def _same(one: Record, other: Record) -> bool:
    return all(one.get(field) == other.get(field) for field in _FIELDS - {"ttl"})


def _absolute(name: str, zone: str) -> str:
    return zone if name == "@" else f"{name}.{zone}"


def _json(status: int, body: Any) -> client.Response:
    return client.Response(status, {"content-type": "application/json"}, json.dumps(body).encode())
