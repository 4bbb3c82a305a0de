# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the DNS part of the Hetzner Cloud API."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import dns.exception
import dns.rdata
import dns.rdataclass
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {"api_token": "jEheVytlAoFl7F8MqUQ7jAo2hOXASztX"}
OPTIONS: dict[str, Any] = {}

BASE = "https://api.hetzner.cloud"
PAGE_SIZE = 20
MAXIMUM_TTL = 2147483647
TYPES = re.compile(r"(?:A|AAAA|CAA|CNAME|DS|HINFO|HTTPS|MX|NS|PTR|RP|SRV|SVCB|TLSA|TXT)\Z")  # SOA is the service's
_LABEL = r"[a-z0-9_*](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:@|{_LABEL}(?:\.{_LABEL})*)\Z")
_PATH = re.compile(r"/rrsets/([^/]+)/([A-Z]+)/actions/([a-z_]+)\Z")
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"(?: "(?:[^"\\]|\\.)*")*\Z')
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_UNIT = re.compile(r"\\[0-9]{3}|\\.|.", re.DOTALL)

Rrset = dict[str, Any]
Key = tuple[str, str]  # relative name, type


class Refused(Exception):
    def __init__(self, status: int, code: str, text: str, **fields: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.details = {"fields": [{"name": name, "messages": [said]} for name, said in fields.items()]}


class StandIn:
    """A stand-in for the Hetzner Cloud API v1, zones and RRSets, as its description of July 2026 gives it (and the
    official clients hcloud-go and hcloud-python); refuses what that refuses. Each change runs as an action, and shows
    when that has been seen to end, or two requests later; until then the zone is locked.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.mode = "primary"
        self.ttl = 3600
        self.rrsets: dict[Key, Rrset] = {}
        self.add("@", "SOA", ["hydrogen.ns.hetzner.com. dns.hetzner.com. 2026080700 86400 10800 3600000 3600"])
        self.add("@", "NS", ["hydrogen.ns.hetzner.com.", "oxygen.ns.hetzner.com.", "helium.ns.hetzner.de."])
        self.actions = 0
        self.running: tuple[int, int, Callable[[], None]] | None = None  # id, requests until its end, what it does
        self.never_ends = False
        self.fails = False

    def add(self, name: str, rtype: str, values: list[str], ttl: int | None = None, **fields: Any) -> Rrset:
        """A record set of somebody else, as it stands there already."""
        self.rrsets[name, rtype] = rrset = {
            "id": f"{name}/{rtype}",
            "name": name,
            "type": rtype,
            "ttl": ttl,
            "labels": {},
            "protection": {"change": False},
            "records": [{"value": value, "comment": ""} for value in values],
            "zone": 42,
            **fields,
        }
        return rrset

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> client.Response:
        base, path, query = split(url)
        try:
            if headers.get("Authorization") != f"Bearer {CREDENTIALS['api_token']}":
                raise Refused(401, "unauthorized", "unable to authenticate")
            if base != BASE or not path.startswith("/v1/"):
                raise Refused(404, "not_found", "not found")
            return self._answer(method, path[3:], query, body, headers)
        except Refused as error:
            shown = {"code": error.code, "message": str(error), "details": error.details}
            return _json(error.status, {"error": shown})

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, headers: Mapping[str, str]
    ) -> client.Response:
        self._time_passes(path)
        if (method, path.rpartition("/")[0]) == ("GET", "/actions"):
            return _json(200, {"action": self._action(int(path.rpartition("/")[2]))})
        path = path.replace("/zones/42", f"/zones/{self.zone}")  # an id or a name
        own = f"/zones/{self.zone}"
        if path != own and not path.startswith(f"{own}/"):
            raise Refused(404, "not_found", f"zone with ID '{path}' not found")
        if (method, path) == ("GET", own):
            zone = {"id": 42, "name": self.zone, "mode": self.mode, "ttl": self.ttl, "status": "ok", "labels": {}}
            return _json(200, {"zone": zone})
        if self.mode != "primary":
            raise Refused(422, "incorrect_zone_mode", "the zone is not in primary mode")
        if (method, path) == ("GET", f"{own}/rrsets"):
            return self._list(query)
        found = _PATH.match(path[len(own) :])
        if method != "POST" or not found:
            raise Refused(404, "not_found", "not found")
        if headers.get("Content-Type") != "application/json":
            raise Refused(415, "unsupported_media_type", "unsupported media type")
        name, rtype, action = urllib.parse.unquote(found[1]), found[2], found[3]
        return _json(201, {"action": self._start((name, rtype), action, json.loads(body or b""))})

    def _time_passes(self, path: str) -> None:
        if not self.running or self.never_ends:
            return
        number, left, act = self.running
        self.running = (number, left - 1, act)
        if path == f"/actions/{number}" or left <= 1:
            self.running = None
            act()

    def _action(self, number: int) -> dict[str, Any]:
        status = "running" if self.running and self.running[0] == number else "error" if self.fails else "success"
        error = {"code": "action_failed", "message": "Action failed"} if status == "error" else None
        return {"id": number, "command": "x", "status": status, "progress": 0, "error": error, "resources": []}

    def _list(self, query: Mapping[str, str]) -> client.Response:
        if set(query) - {"name", "type", "page", "per_page"} or int(query.get("per_page", 25)) > 100:
            raise Refused(400, "invalid_input", "invalid input in fields", per_page="must be less than or equal to 100")
        found = [each for each in self.rrsets.values() if query.get("name", each["name"]) == each["name"]]
        page, size = int(query.get("page", 1)), min(PAGE_SIZE, int(query.get("per_page", 25)))
        last = max(1, -(-len(found) // size))
        pagination = {
            "page": page,
            "per_page": size,
            "previous_page": page - 1 or None,
            "next_page": page + 1 if page < last else None,
            "last_page": last,
            "total_entries": len(found),
        }
        part = found[(page - 1) * size : page * size]
        return _json(200, {"rrsets": part, "meta": {"pagination": pagination}})

    def _start(self, key: Key, action: str, body: Any) -> dict[str, Any]:
        name, rtype = key
        if not _NAME.match(name) or f".{name}".endswith(f".{self.zone}"):
            raise Refused(422, "invalid_input", "invalid input in fields", rr_name="is no relative name in lower case")
        if not TYPES.match(rtype):
            raise Refused(422, "invalid_input", "invalid input in fields", rr_type="cannot be used")
        if self.running:
            raise Refused(423, "locked", "zone is locked by another action")
        old = self.rrsets.get(key)
        if not old and action != "add_records":
            raise Refused(404, "not_found", "RRSet not found")
        if old and old["protection"]["change"]:
            raise Refused(423, "protected", "RRSet is change protected")
        allowed = {"change_ttl": {"ttl"}, "add_records": {"records", "ttl"}}.get(action, {"records"})
        if set(body) - allowed or (body.get("ttl") is None and action == "change_ttl"):
            raise Refused(422, "invalid_input", "invalid input in fields", body="unknown or missing field")
        ttl = body.get("ttl")
        if ttl is not None and not 60 <= ttl <= MAXIMUM_TTL:
            raise Refused(422, "invalid_input", "invalid input in fields", ttl="must be between 60 and 2147483647")
        self.actions += 1
        self.running = (self.actions, 2, self._effect(key, old, action, body))
        return self._action(self.actions)

    def _effect(self, key: Key, old: Rrset | None, action: str, body: Any) -> Callable[[], None]:
        """What the action will do, checked before it starts."""
        ttl = body.get("ttl")
        had = list(old["records"]) if old else []
        if action == "change_ttl":
            kept, ttl_after = had, ttl
        else:
            given = [record["value"] for record in body["records"]]
            if not given or len(set(given)) != len(given):
                raise Refused(422, "invalid_input", "invalid input in fields", records="must be distinct and not empty")
            for value in given:
                _check(key[1], value)
            standing = [record["value"] for record in had]
            ttl_after = old["ttl"] if old else ttl
            if action == "add_records":
                if old and ttl is not None and ttl != (self.ttl if old["ttl"] is None else old["ttl"]):
                    raise Refused(422, "invalid_input", "invalid input in fields", ttl="must be the TTL of the RRSet")
                if set(given) & set(standing):
                    raise Refused(409, "uniqueness_error", "record already exists")
                kept = [*had, *({"comment": "", **record} for record in body["records"])]
            elif action == "remove_records":
                if set(given) - set(standing):
                    raise Refused(404, "not_found", "record not found")
                kept = [record for record in had if record["value"] not in given]
            elif action == "set_records":
                kept = [{"comment": "", **record} for record in body["records"]]
            else:
                raise Refused(404, "not_found", "not found")
            beside = {rtype for name, rtype in self.rrsets if name == key[0]} | {key[1]}
            if "CNAME" in beside and (len(beside) > 1 or len(kept) > 1):
                raise Refused(422, "invalid_input", "invalid input in fields", records="CNAME stands alone")

        def act() -> None:
            self.rrsets.pop(key, None)
            if kept:
                made = self.add(*key, [], ttl_after)
                made.update({**(old or made), "records": kept, "ttl": ttl_after})

        return (lambda: None) if self.fails else act


def _check(rtype: str, value: str) -> None:
    """Presentation form with absolute names; TXT in quoted strings of at most 255 bytes."""
    if rtype == "TXT":
        if not _STRINGS.match(value) or not value.isascii():
            raise Refused(422, "invalid_input", "invalid input in fields", records="TXT must be quoted strings")
        if any(len(_UNIT.findall(text)) > 255 for text in _STRING.findall(value)):
            raise Refused(422, "invalid_input", "invalid input in fields", records="a string has more than 255 bytes")
        return
    try:
        dns.rdata.from_text(dns.rdataclass.IN, rtype, value, relativize=False).to_wire()
    except (ValueError, dns.exception.DNSException) as error:
        raise Refused(422, "invalid_input", "invalid input in fields", records=f"'{value}': {error}") from None


def _json(status: int, body: Any) -> client.Response:
    return client.Response(status, {"content-type": "application/json"}, json.dumps(body).encode())
