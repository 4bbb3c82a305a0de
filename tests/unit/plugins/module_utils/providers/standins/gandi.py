# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the Gandi LiveDNS API."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {"api_token": "pat_abc-123"}
OPTIONS: dict[str, Any] = {}

BASE = "https://api.gandi.net"
MOST_A_PAGE = 20
TTL_MIN, TTL_MAX = 300, 2592000
TYPES = (
    "A AAAA ALIAS CAA CDS CNAME DNAME DS HTTPS KEY LOC MX NAPTR NS OPENPGPKEY PTR RP SPF SRV SSHFP SVCB TLSA TXT WKS"
)
_LABEL = re.compile(r"(@|\*|(\*\.)?([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63})\Z")
_QUOTED = re.compile(r'("(?:[^"\\]|\\[0-9]{3}|\\.){0,255}"(?: |\Z))+\Z')

Rrset = dict[str, Any]


class StandIn:
    """A stand-in for the LiveDNS part of the Gandi API, v5, as its reference (api.gandi.net/docs) and clients that
    follow it give it; refuses what they say it refuses. It hands out at most ``MOST_A_PAGE`` record sets at once.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.allowed = True
        ns = [f"ns-{number}-a.gandi.net." for number in (1, 2, 3)]
        self.rrsets: dict[tuple[str, str], Rrset] = {("@", "NS"): self._made("@", "NS", 10800, ns)}

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> client.Response:
        if headers.get("Authorization") != f"Bearer {CREDENTIALS['api_token']}":
            return _problem(401, "Unauthorized", "The server could not verify that you authorized to access")
        if not self.allowed:
            return _problem(403, "Forbidden", "Access was denied to this resource.")
        base, path, query = split(url)
        head, _records, tail = path.partition(f"/v5/livedns/domains/{self.zone}/records")
        if base != BASE or head or not _records:
            return _problem(404, "Not Found", "The resource could not be found.")
        if method in ("POST", "PUT") and headers.get("Content-Type") != "application/json":
            return _problem(415, "Unsupported Media Type", "Unsupported media type")
        if not tail and method == "GET":
            return self._list(query)
        label, rtype = (urllib.parse.unquote(part) for part in tail.removeprefix("/").split("/"))
        if method == "DELETE":
            return self._delete((label, rtype))
        return self._put(method, (label, rtype), json.loads(body or b""))

    def _list(self, query: Mapping[str, str]) -> client.Response:
        found = [
            rrset
            for rrset in self.rrsets.values()
            if all(query.get(field, rrset[field]) == rrset[field] for field in ("rrset_name", "rrset_type"))
        ]
        page, size = int(query.get("page", 1)), min(int(query.get("per_page", 100)), MOST_A_PAGE)
        return _answer(200, found[(page - 1) * size : page * size], {"total-count": str(len(found))})

    def _delete(self, key: tuple[str, str]) -> client.Response:
        if key not in self.rrsets:
            return _problem(404, "Not Found", "Can't find the DNS record")
        del self.rrsets[key]
        return client.Response(204, {}, b"")

    def _put(self, method: str, key: tuple[str, str], body: Rrset) -> client.Response:
        errors = self._errors(key, body)
        if errors:
            listed = [{"location": "body", "name": name, "description": text} for name, text in errors]
            return _answer(400, {"status": "error", "errors": listed})
        new = self._made(*key, body.get("rrset_ttl", 10800), body["rrset_values"])
        old = self.rrsets.get(key)
        if method == "POST" and old:
            if old == new:
                return _answer(200, {"message": "A DNS Record already exists with same value"})
            return _problem(409, "Conflict", "A DNS Record already exists")
        self.rrsets[key] = new
        return _answer(201, {"message": "DNS Record Created"})

    def _made(self, label: str, rtype: str, ttl: int, values: list[str]) -> Rrset:
        return {
            "rrset_name": label,
            "rrset_type": rtype,
            "rrset_ttl": ttl,
            "rrset_values": values,
            "rrset_href": f"{BASE}/v5/livedns/domains/{self.zone}/records/{label}/{rtype}",
        }

    def _errors(self, key: tuple[str, str], body: Rrset) -> list[tuple[str, str]]:
        (label, rtype), values = key, body.get("rrset_values")
        errors = [(name, "Unknown field") for name in set(body) - {"rrset_ttl", "rrset_values"}]
        if not _LABEL.match(label):
            errors.append(("rrset_name", f"{label} is not a valid name"))
        if rtype not in TYPES.split() or key == ("@", "NS"):
            errors.append(("rrset_type", f"{rtype} cannot be set here"))
        ttl = body.get("rrset_ttl", TTL_MIN)
        if not isinstance(ttl, int) or not TTL_MIN <= ttl <= TTL_MAX:
            errors.append(("rrset_ttl", f"{ttl} is not between {TTL_MIN} and {TTL_MAX}"))
        if not isinstance(values, list) or not values or len(set(values)) != len(values):
            return [*errors, ("rrset_values", "a list of different values is required")]
        alone = {other for name, other in self.rrsets if name == label} - {rtype}
        if (rtype == "CNAME" and (alone or len(values) > 1)) or "CNAME" in alone:
            errors.append(("rrset_values", "a CNAME record cannot coexist with others"))
        return [*errors, *(("rrset_values", text) for value in values if (text := self._wrong(rtype, value)))]

    def _wrong(self, rtype: str, value: str) -> str:
        if rtype == "TXT" and not (_QUOTED.match(value) and value.isascii() and value.isprintable()):
            return f"{value[:40]} is not made of quoted strings of up to 255 characters"
        if rtype == "ALIAS":
            return ""
        try:
            dns.rdata.from_text(dns.rdataclass.IN, rtype, value, origin=dns.name.from_text(self.zone), relativize=False)
        except (ValueError, dns.exception.DNSException) as error:
            return f"{value[:40]} is not valid: {error}"
        return ""


def _problem(code: int, cause: str, text: str) -> client.Response:
    return _answer(code, {"code": code, "message": text, "object": f"HTTP{cause.replace(' ', '')}", "cause": cause})


def _answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> client.Response:
    return client.Response(status, {"content-type": "application/json", **(headers or {})}, json.dumps(body).encode())
