# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Azure DNS and for the token endpoint of Microsoft Entra ID."""

from __future__ import annotations

import ipaddress
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Response
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {
    "tenant_id": "a-tenant",
    "client_id": "an-application",
    "client_secret": "a/secret+",
    "subscription_id": "a-subscription",
    "resource_group": "a-group",
}
OPTIONS: dict[str, Any] = {}
# The API takes text, and no bytes that are none.
LACKS = ("bytes",)

PAGE = 20
ROOT = "https://management.azure.com"
GROUP = "/subscriptions/a-subscription/resourceGroups/a-group/providers/Microsoft.Network/dnsZones"
_TOKEN_URL = "https://login.microsoftonline.com/a-tenant/oauth2/v2.0/token"
_TOKEN = "ey.a-token"
_FORM = {
    "grant_type": "client_credentials",
    "client_id": "an-application",
    "client_secret": "a/secret+",
    "scope": "https://management.azure.com/.default",
}
# Schema of a record, by type: where it stands and the types of its fields (definitions of the OpenAPI document).
SCHEMA: dict[str, tuple[str, dict[str, type]]] = {
    "A": ("ARecords", {"ipv4Address": str}),
    "AAAA": ("AAAARecords", {"ipv6Address": str}),
    "CAA": ("caaRecords", {"flags": int, "tag": str, "value": str}),
    "CNAME": ("CNAMERecord", {"cname": str}),
    "MX": ("MXRecords", {"preference": int, "exchange": str}),
    "NS": ("NSRecords", {"nsdname": str}),
    "PTR": ("PTRRecords", {"ptrdname": str}),
    "SRV": ("SRVRecords", {"priority": int, "weight": int, "port": int, "target": str}),
    "TXT": ("TXTRecords", {"value": list}),
}


class Refused(Exception):
    """Status, code and message of an answer that refuses."""


class StandIn:
    """Azure DNS as its OpenAPI document (2018-05-01) and its overview give it; refuses what they refuse."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.sets: dict[tuple[str, str], dict[str, Any]] = {}  # by relative name and type: etag and properties
        self._etags = 0
        servers = [{"nsdname": f"ns{n}-01.azure-dns.com."} for n in range(1, 5)]
        self.store("@", "NS", {"TTL": 172800, "NSRecords": servers})
        soa = {"email": "azuredns-hostmaster.microsoft.com", "host": "ns1-01.azure-dns.com.", "serialNumber": 1}
        self.store("@", "SOA", {"TTL": 3600, "SOARecord": soa})

    def store(self, name: str, rtype: str, properties: dict[str, Any]) -> dict[str, Any]:
        """Also what others do in their own ways."""
        self._etags += 1
        element = self.sets[name, rtype] = {"etag": f"00000000-{self._etags:012}", "properties": properties}
        return element

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        if url == _TOKEN_URL:
            return _token(method, body, headers)
        try:
            if headers.get("Authorization") != f"Bearer {_TOKEN}":
                raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.")
            return self._answer(method, url, body, headers)
        except Refused as refused:
            status, code, said = refused.args
            return _response(status, {"error": {"code": code, "message": said}})

    def _answer(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        base, path, query = split(url)
        if query.get("api-version") != "2018-05-01":
            raise Refused(400, "InvalidApiVersionParameter", "The api-version is invalid.")
        zone = f"{GROUP}/{self.zone}"
        if base != ROOT or not path.startswith(f"{zone}/"):
            raise Refused(
                404, "ResourceNotFound", f"The Resource '{path}' under resource group 'a-group' was not found."
            )
        what = path[len(zone) + 1 :].split("/")
        if (method, what) == ("GET", ["recordsets"]):
            return self._page(int(query.get("$skipToken", "0")))
        rtype, name = what[0], urllib.parse.unquote(what[1])
        if rtype not in SCHEMA or len(what) != 2 or name != name.lower() or name.endswith((".", self.zone)):
            raise Refused(400, "BadRequest", f"The resource name '{'/'.join(what)}' is invalid.")
        there = self.sets.get((name, rtype))
        match = headers.get("If-Match")
        if not match and headers.get("If-None-Match") != "*":
            raise AssertionError("a request without a condition overwrites what somebody else wrote meanwhile")
        if bool(match) != bool(there) or (there and there["etag"] != match):
            raise Refused(412, "PreconditionFailed", f"The condition '{match or '*'}' was not satisfied.")
        if method == "DELETE" and there:
            del self.sets[name, rtype]
            return Response(200, {}, b"")
        if method != "PUT" or headers.get("Content-Type") != "application/json":
            raise Refused(405, "MethodNotAllowed", method)
        (only,) = json.loads(body or b"").items()
        if only[0] != "properties":
            raise Refused(400, "InvalidRequestContent", f"Could not find member '{only[0]}'")
        for problem in self._problems(name, rtype, only[1]):
            raise Refused(400, "BadRequest", problem)
        stored = self.store(name, rtype, only[1])
        return _response(200 if there else 201, self._element(name, rtype, stored))

    def _page(self, start: int) -> Response:
        listed = sorted(self.sets.items())
        page: dict[str, Any] = {"value": [self._element(*key, each) for key, each in listed[start : start + PAGE]]}
        if len(listed) > start + PAGE:
            following = f"{GROUP}/{self.zone}/recordsets?api-version=2018-05-01&$skipToken={start + PAGE}"
            page["nextLink"] = f"{ROOT}{following}"
        return _response(200, page)

    def _element(self, name: str, rtype: str, stored: dict[str, Any]) -> dict[str, Any]:
        fqdn = f"{self.zone}." if name == "@" else f"{name}.{self.zone}."
        properties = {**stored["properties"], "fqdn": fqdn, "provisioningState": "Succeeded"}
        return {
            "id": f"{GROUP}/{self.zone}/{rtype}/{name}",
            "name": name,
            "type": f"Microsoft.Network/dnszones/{rtype}",
            "etag": stored["etag"],
            "properties": {"targetResource": {}, **properties},
        }

    def _problems(self, name: str, rtype: str, properties: dict[str, Any]) -> Iterator[str]:
        field, fields = SCHEMA[rtype]
        if set(properties) - {"metadata"} != {"TTL", field}:
            yield f"The members {sorted(properties)} are not those of a {rtype} record set."
        if (
            isinstance(properties["TTL"], bool)
            or not isinstance(properties["TTL"], int)
            or not 1 <= properties["TTL"] <= 2**31 - 1
        ):
            yield "The TTL must be between 1 and 2147483647."
        listed = [properties[field]] if rtype == "CNAME" else properties[field]
        if not listed or len(listed) > 20 or any(each in listed[:n] for n, each in enumerate(listed)):
            yield "The record set has no records, more than 20, or one of them twice."
        for record in listed:
            if {key: type(value) for key, value in record.items()} != fields:
                yield f"The record {record} is not of the type {rtype}."
        if rtype == "A":
            listed = [ipaddress.IPv4Address(record["ipv4Address"]) for record in listed]
        elif rtype == "AAAA":
            listed = [ipaddress.IPv6Address(record["ipv6Address"]) for record in listed]
        elif rtype == "TXT":
            strings = [string for record in listed for string in record["value"]]
            if any(len(string.encode("utf-8")) > 255 for string in strings) or sum(map(len, strings)) > 4096:
                yield "A string of the TXT record set is longer than 255 characters, or all are longer than 4096."
            if any('"' == string[:1] == string[-1:] for string in strings):
                yield "A string in quotation marks is stored with them."
        aliases = {each for each, kind in self.sets if kind == "CNAME"}
        others = {each for each, kind in self.sets if kind != "CNAME"}
        if name in (others if rtype == "CNAME" else aliases):
            yield "The CNAME record set conflicts with other record sets of its name."


def _response(status: int, answer: dict[str, Any]) -> Response:
    return Response(status, {"content-type": "application/json; charset=utf-8"}, json.dumps(answer).encode("utf-8"))


def _token(method: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
    form = dict(urllib.parse.parse_qsl((body or b"").decode("ascii"), strict_parsing=True))
    if method != "POST" or headers.get("Content-Type") != "application/x-www-form-urlencoded":
        return _response(400, {"error": "invalid_request", "error_description": "AADSTS900144"})
    if form != _FORM:
        said = "AADSTS7000215: Invalid client secret provided."
        return _response(401, {"error": "invalid_client", "error_description": said, "error_codes": [7000215]})
    return _response(200, {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": _TOKEN})
