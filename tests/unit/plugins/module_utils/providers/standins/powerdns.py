# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the PowerDNS HTTP API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Key
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {"url": "http://192.0.2.1:8081", "api_key": "a-key"}
OPTIONS: dict[str, Any] = {}


class StandIn:
    """The zone part of the API as its OpenAPI description and documentation give it; refuses what they refuse."""

    def __init__(self, zone: str) -> None:
        self.rrsets: dict[Key, dict[str, Any]] = {}
        self.zone = zone
        self.kind = "Native"
        self.soa_edit_api = "DEFAULT"
        self.serial = 2026112401

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> client.Response:
        if headers.get("X-API-Key") != CREDENTIALS["api_key"]:
            return client.Response(401, {}, b'{"error": "Unauthorized"}')
        base, path, query = split(url)
        if (base, path) != (CREDENTIALS["url"], f"/api/v1/servers/localhost/zones/{self.zone}."):
            return client.Response(404, {}, b'{"error": "Not Found"}')
        if method == "GET":
            return self._zone(query)
        return self._patch(body)

    def _zone(self, query: Mapping[str, str]) -> client.Response:
        rrsets = [
            rrset
            for rrset in self.rrsets.values()
            if query.get("rrset_name", rrset["name"]) == rrset["name"]
            and query.get("rrset_type", rrset["type"]) == rrset["type"]
        ]
        answer = {"name": f"{self.zone}.", "kind": self.kind, "serial": self.serial, "soa_edit_api": self.soa_edit_api}
        if query.get("rrsets") != "false":
            answer["rrsets"] = rrsets
        return client.Response(200, {}, json.dumps(answer).encode())

    def _patch(self, body: bytes | None) -> client.Response:
        if len(body or b"") > 2 * 1024 * 1024:
            return client.Response(400, {}, b"")
        new = dict(self.rrsets)
        seen = set()
        for rrset in json.loads(body or b"")["rrsets"]:
            key = (rrset["name"], rrset["type"])
            refusal = self._refusal(rrset) or ("Duplicate RRset" if key in seen else None)
            if refusal:
                return client.Response(422, {}, json.dumps({"error": refusal}).encode())
            seen.add(key)
            new.pop(key, None)
            if rrset["changetype"] == "REPLACE" and rrset["records"]:
                new[key] = {field: rrset[field] for field in ("name", "type", "ttl", "records")}
        self.rrsets = new
        self.serial += bool(self.soa_edit_api)
        return client.Response(204, {}, b"")

    def _refusal(self, rrset: dict[str, Any]) -> str | None:
        if not rrset["name"].endswith("."):
            return f"RRset {rrset['name']}: not absolute"
        if not f".{rrset['name']}".endswith(f".{self.zone}."):
            return f"RRset {rrset['name']}: Name is out of zone"
        contents = [record["content"] for record in rrset.get("records", ())]
        if len(set(contents)) != len(contents):
            return f"RRset {rrset['name']} has duplicate records"
        if rrset["type"] == "TXT" and not all(content.startswith('"') for content in contents):
            return "Data field in DNS should start with quote"
        if rrset["type"] in ("MX", "CNAME", "PTR", "NS") and not all(content.endswith(".") for content in contents):
            return "content is not absolute"
        return None
