# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the DNS part of the Cloudflare API."""

from __future__ import annotations

import copy
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {"api_token": "Sn3lZJTBX6kkg7OdcBUAxOO963GEIyGQqnFTOFYY"}
OPTIONS: dict[str, Any] = {}
LACKS = ("odd",)  # an empty TXT value is refused

BASE = "https://api.cloudflare.com"
ZONE_ID = "023e105f4ecef8ad9ca31a8372d0c353"
PAGE_SIZE = 20
BATCH = 200  # operations in a batch of a zone of the plan Free
_FIELDS = {"name", "ttl", "type", "content", "data", "priority", "comment", "tags", "proxied", "settings"}
_DATA: dict[str, dict[str, type]] = {
    "CAA": {"flags": int, "tag": str, "value": str},
    "SRV": {"priority": int, "weight": int, "port": int, "target": str},
    "TLSA": {"usage": int, "selector": int, "matching_type": int, "certificate": str},
    "SSHFP": {"algorithm": int, "type": int, "fingerprint": str},
}
_HOST = re.compile(r"(\.|([a-z0-9_*-]{1,63}\.)*[a-z0-9_-]{1,63})\Z")
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"(?: +"(?:[^"\\]|\\.)*")*\Z')
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_UNIT = re.compile(r"\\[0-9]{3}|\\.|.", re.DOTALL)

Record = dict[str, Any]


class Refused(Exception):
    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class StandIn:
    """A stand-in for the Cloudflare API v4 as its OpenAPI description (August 2026: zones, dns_records, batch) and the
    pages "DNS record types" and "Batch record changes" give it; refuses what those refuse. What it hands out has the
    form of recorded answers: names without final dot, TXT quoted and cut at 255 bytes, hexadecimal in capitals.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.records: dict[str, Record] = {}
        self.zones = [{"id": ZONE_ID, "name": zone, "type": "full", "status": "active", "plan": {"legacy_id": "free"}}]
        self.made = 0

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> client.Response:
        base, path, query = split(url)
        records = f"/client/v4/zones/{ZONE_ID}/dns_records"
        try:
            if headers.get("Authorization") != f"Bearer {CREDENTIALS['api_token']}":
                raise Refused(403, 9109, "Invalid access token")
            if (base, method, path) == (BASE, "GET", "/client/v4/zones"):
                return _page([each for each in self.zones if each["name"] == query["name"]], query)
            if (base, method, path) == (BASE, "GET", records):
                if set(query) - {"name.exact", "page", "per_page"}:
                    raise Refused(400, 9207, "a parameter that this stand-in does not take")
                found = [
                    each for each in self.records.values() if query.get("name.exact", each["name"]) == each["name"]
                ]
                return _page(found, query)
            if (base, method, path) == (BASE, "POST", f"{records}/batch"):
                if headers.get("Content-Type") != "application/json":
                    raise Refused(415, 10015, "Unsupported content type")
                return _answer(200, self._batch(json.loads(body or b"")))
            raise Refused(404, 7003, f"Could not route to {path}, perhaps your object identifier is invalid?")
        except Refused as error:
            errors = [{"code": error.code, "message": str(error)}]
            return _answer(error.status, None, errors)

    def add(self, **fields: Any) -> Record:
        """A record of somebody else, as it stands there already."""
        self.made += 1
        number = f"{self.made:032x}"
        self.records[number] = record = {
            "id": number,
            "content": "",
            "proxiable": fields["type"] in ("A", "AAAA", "CNAME"),
            "proxied": False,
            "ttl": 1,
            "settings": {},
            "meta": {},
            "comment": None,
            "tags": [],
            "created_on": "2026-08-07T13:14:11.161545Z",
            "modified_on": "2026-08-07T13:14:11.161545Z",
            **fields,
        }
        return record

    def _batch(self, body: Any) -> dict[str, Any]:
        """In one transaction: deletes, patches, puts, posts."""
        if not isinstance(body, dict) or set(body) - {"deletes", "patches", "puts", "posts"} or not any(body.values()):
            raise Refused(400, 9207, "Request body is invalid.")
        if sum(map(len, body.values())) > BATCH:
            raise Refused(400, 81062, f"Batch operation limit of {BATCH} exceeded.")
        before = copy.deepcopy(self.records)
        result: dict[str, Any] = {}
        try:
            for each in body.get("deletes", ()):
                self._own(each["id"])
                result.setdefault("deletes", []).append(self.records.pop(each["id"]))
            for each in body.get("patches", ()):
                fields = {name: value for name, value in each.items() if name != "id"}
                old = self._own(each["id"])
                if fields.get("type", old["type"]) != old["type"]:
                    raise Refused(400, 9021, "The type of a record cannot be changed.")
                checked = self._checked(fields, old["id"], old)
                old.update(checked, modified_on="2026-08-07T18:27:50.600422Z")
                result.setdefault("patches", []).append(old)
            for each in body.get("posts", ()):
                result.setdefault("posts", []).append(self.add(**self._checked(each, "", {})))
            return json.loads(json.dumps(result))  # type: ignore[no-any-return]
        except Refused:
            self.records = before
            raise

    def _own(self, number: str) -> Record:
        if number not in self.records:
            raise Refused(404, 81044, "Record does not exist.")
        if self.records[number]["meta"].get("read_only"):
            raise Refused(400, 1043, "This record is managed by Email Routing and cannot be changed.")
        return self.records[number]

    def _checked(self, record: Record, own: str, old: Record) -> Record:
        """``record`` in the form in which it is kept. What a patch of ``old`` does not name stays as it is."""
        missing = {"name", "type", "ttl"} - set(record)
        if missing or set(record) - _FIELDS:
            raise Refused(400, 9207, f"Request body is invalid: {sorted(missing or set(record) - _FIELDS)}")
        name, rtype, ttl = record["name"], record["type"], record["ttl"]
        if not f".{name}".endswith(f".{self.zone}") or not _HOST.match(name):
            raise Refused(400, 9000, f"DNS name '{name}' is invalid.")
        if not isinstance(ttl, int) or (ttl != 1 and not 60 <= ttl <= 86400):
            raise Refused(400, 9021, "TTL must be between 60 and 86400 seconds, or 1 for Automatic.")
        if old and not {"content", "data"} & set(record):
            return record
        kept = {**record, **_kept(rtype, record)}
        same = [each for each in self.records.values() if each["name"] == name and each["id"] != own]
        types = {each["type"] for each in same}
        addressed = {"A", "AAAA", "CNAME"}
        if (rtype == "CNAME" and types & addressed) or (rtype in addressed and "CNAME" in types):
            raise Refused(400, 81053, "An A, AAAA, or CNAME record with that host already exists.")
        if name != self.zone and (types - {rtype} if rtype == "NS" else "NS" in types):
            raise Refused(400, 81056, "NS records with that host already exist.")
        alike = [each for each in same if each["type"] == rtype]
        if any((each["content"], each.get("priority")) == (kept["content"], kept.get("priority")) for each in alike):
            raise Refused(400, 81058, "An identical record already exists.")
        if sum(len(each["content"]) for each in (*alike, kept)) > 8192:
            raise Refused(400, 9213, "The combined content of records of this name and type is too long.")
        return kept


def _kept(rtype: str, record: Record) -> Record:
    content = record.get("content", "")
    if rtype in _DATA:
        data, wanted = record.get("data"), _DATA[rtype]
        if not isinstance(data, dict) or {part: type(value) for part, value in data.items()} != wanted:
            raise Refused(400, 9101, f"data of {rtype} must be {sorted(wanted)}")
        if rtype == "SRV":
            _host(data["target"])
            content = f"{data['weight']} {data['port']} {data['target']}"
            return {"content": content, "data": data, "priority": data["priority"]}
        data = {
            part: value.upper() if part in ("certificate", "fingerprint") else value for part, value in data.items()
        }
        words = [f'"{value}"' if part == "value" else str(value) for part, value in data.items()]
        return {"content": " ".join(words), "data": data}
    if rtype in ("A", "AAAA"):
        try:
            return {"content": str((ipaddress.IPv4Address if rtype == "A" else ipaddress.IPv6Address)(content))}
        except ValueError:
            raise Refused(400, 9005, f"Content for {rtype} record is invalid.") from None
    if rtype == "TXT":
        return {"content": _txt(content)}
    if rtype not in ("CNAME", "MX", "NS", "PTR"):
        raise Refused(400, 9003, f"Invalid type '{rtype}'.")
    if rtype == "MX" and not isinstance(record.get("priority"), int):
        raise Refused(400, 9100, "Priority is required for MX records.")
    return {"content": _host(content)}


def _host(name: str) -> str:
    if not _HOST.match(name):
        raise Refused(400, 9009, f"Content '{name}' is no valid hostname.")
    return name


def _txt(content: str) -> str:
    """Quoted strings, cut where one has more than 255 bytes; 4,096 bytes on the wire, and one at least."""
    if not _STRINGS.match(content) or not content.isprintable():
        raise Refused(400, 9007, "Content for TXT record must consist of quoted strings.")
    cut: list[str] = []
    for text in _STRING.findall(content):
        units = _UNIT.findall(text)
        cut.extend("".join(units[start : start + 255]) for start in range(0, len(units), 255))
    units_all = len(_UNIT.findall("".join(cut)))
    if not units_all:
        raise Refused(400, 9007, "Content for TXT record must not be empty.")
    if units_all + len(cut) > 4096:
        raise Refused(400, 9212, "Content for TXT record is too long.")
    return " ".join(f'"{text}"' for text in cut)


def _page(found: list[Any], query: Mapping[str, str]) -> client.Response:
    page, size = int(query.get("page", 1)), min(PAGE_SIZE, int(query.get("per_page", PAGE_SIZE)))
    part = found[(page - 1) * size : page * size]
    info = {"page": page, "per_page": size, "count": len(part), "total_count": len(found)}
    info["total_pages"] = -(-len(found) // size)
    return _answer(200, part, info=info)


def _answer(status: int, result: Any, errors: Any = (), info: Any = None) -> client.Response:
    body = {"success": status < 400, "errors": list(errors), "messages": [], "result": result}
    if info:
        body["result_info"] = info
    return client.Response(status, {"content-type": "application/json"}, json.dumps(body).encode())
