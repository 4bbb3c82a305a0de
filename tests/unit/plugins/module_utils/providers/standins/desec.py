# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the deSEC REST API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import dns.exception
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {"api_token": "i-T3b1h_OI-H9ab8tRS98stGtURe"}
OPTIONS: dict[str, Any] = {}

BASE = "https://desec.io"
PAGE_SIZE = 20
MAXIMUM_TTL = 86400
_SUBNAME = re.compile(r"([*]|(([*][.])?([a-z0-9_-]{1,63}[.])*[a-z0-9_-]{1,63}))\Z")
_AUTOMATIC = ("KEY", "NSEC", "NSEC3", "NSEC3PARAM", "OPT", "RRSIG", "SOA")
_QUOTED = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"\s*)+\Z')

Rrset = dict[str, Any]


class StandIn:
    """A stand-in for the deSEC API, v1, as its documentation of August 2026 gives it (dns/domains, dns/rrsets,
    rate-limits, auth/tokens); refuses what that refuses. Record contents are checked and made canonical by dnspython,
    as there. ``forbidden`` are types that the token's policies do not allow.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.minimum_ttl = 3600
        self.forbidden: tuple[str, ...] = ()
        ns = self._made({"subname": "", "type": "NS", "ttl": 3600, "records": ["ns1.desec.io.", "ns2.desec.org."]})
        self.rrsets: dict[tuple[str, str], Rrset] = {("", "NS"): ns}

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> client.Response:
        base, path, query = split(url)
        if headers.get("Authorization") != f"Token {CREDENTIALS['api_token']}":
            return _answer(401, {"detail": "Invalid token."})
        if base == BASE and (method, path) == ("GET", f"/api/v1/domains/{self.zone}/"):
            return _answer(200, {"name": self.zone, "minimum_ttl": self.minimum_ttl, "keys": []})
        if (base, path) != (BASE, f"/api/v1/domains/{self.zone}/rrsets/"):
            return _answer(404, {"detail": "Not found."})
        if method == "GET":
            return self._list(query)
        if method != "PATCH":
            return _answer(405, {"detail": f'Method "{method}" not allowed.'})
        if headers.get("Content-Type") != "application/json":
            return _answer(415, {"detail": "Unsupported media type in request."})
        if len(body or b"") > 1024 * 1024:
            return client.Response(413, {"content-type": "text/html"}, b"<html>413 Request Entity Too Large</html>")
        return self._patch(json.loads(body or b""))

    def _list(self, query: Mapping[str, str]) -> client.Response:
        found = [
            rrset
            for rrset in reversed(self.rrsets.values())
            if all(query.get(field, rrset[field]) == rrset[field] for field in ("subname", "type"))
        ]
        if len(found) <= PAGE_SIZE:
            return _answer(200, found)
        own = f"{BASE}/api/v1/domains/{self.zone}/rrsets/?" + "".join(
            f"{field}={query[field]}&" for field in ("subname", "type") if field in query
        )
        links = {"first": f"{own}cursor="}
        if "cursor" not in query:
            detail = f"Pagination required. You can query up to {PAGE_SIZE} items at a time ({len(found)} total)."
            return _answer(400, {"detail": detail}, links)
        start = int(query["cursor"].removeprefix("c") or 0)
        if start:
            links["prev"] = f"{own}cursor=c{max(0, start - PAGE_SIZE)}"
        if start + PAGE_SIZE < len(found):
            links["next"] = f"{own}cursor=c{start + PAGE_SIZE}"
        return _answer(200, found[start : start + PAGE_SIZE], links)

    def _patch(self, items: Any) -> client.Response:
        if not isinstance(items, list):
            return _answer(400, {"non_field_errors": ["Expected a list of items but got dict."]})
        if any(item.get("type") in self.forbidden for item in items):
            return _answer(403, {"detail": "Insufficient token permissions."})
        errors = [self._errors(number, item, items) for number, item in enumerate(items)]
        if any(errors):
            return _answer(400, errors)
        new = dict(self.rrsets)
        for item in items:
            if item.get("records") == []:
                new.pop((item["subname"], item["type"]), None)
        for item in items:
            if item.get("records") != []:
                key = (item["subname"], item["type"])
                new[key] = self._made({**new.get(key, {}), **item})
        self.rrsets = new
        return _answer(200, [new[item["subname"], item["type"]] for item in items if item.get("records") != []])

    def _made(self, item: Rrset) -> Rrset:
        name = f"{item['subname']}.{self.zone}." if item["subname"] else f"{self.zone}."
        contents = [_canonical(item["type"], content) for content in item["records"]]
        return {
            "created": "2026-09-18T16:32:16.510368Z",
            "domain": self.zone,
            "subname": item["subname"],
            "name": name,
            "records": contents,
            "ttl": item["ttl"],
            "type": item["type"],
            "touched": "2026-09-18T16:32:16.510368Z",
        }

    def _errors(self, number: int, item: Rrset, items: list[Rrset]) -> dict[str, list[str]]:
        missing = [field for field in ("subname", "type") if field not in item]
        if missing:
            return {field: ["This field is required."] for field in missing}
        if set(item) - {"subname", "type", "ttl", "records"}:
            return {"non_field_errors": ["fields that this stand-in does not take"]}
        key = (item["subname"], item["type"])
        same = [n for n, other in enumerate(items) if (other.get("subname"), other.get("type")) == key and n != number]
        if same:
            where = ", ".join(map(str, same))
            return {"non_field_errors": [f"Same subname and type as in position(s) {where}, but must be unique."]}
        if item.get("records") == []:
            return {}
        beside = self._beside(item, items)
        if beside:
            return {
                "non_field_errors": [
                    f"RRset with conflicting type present at same subname: database ({', '.join(beside)})."
                    " (No other RRsets are allowed alongside CNAME.)"
                ]
            }
        if key not in self.rrsets:
            missing = [field for field in ("ttl", "records") if field not in item]
            if missing:
                return {field: ["This field is required."] for field in missing}
        return self._wrong(item)

    def _beside(self, item: Rrset, items: list[Rrset]) -> list[str]:
        """What would stand beside a CNAME."""
        types = {rtype for subname, rtype in self.rrsets if subname == item["subname"]}
        for other in items:
            if other.get("subname") == item["subname"]:
                (types.discard if other.get("records") == [] else types.add)(str(other.get("type")))
        types.discard(item["type"])
        return sorted(types) if item["type"] == "CNAME" else sorted(types & {"CNAME"})

    def _wrong(self, item: Rrset) -> dict[str, list[str]]:
        rtype, contents = item["type"], item.get("records", [])
        if rtype in _AUTOMATIC:
            return {"type": [f"You cannot tinker with the {rtype} RR set. It is managed automatically."]}
        if rtype in ("ALIAS", "IPSECKEY", "WKS"):
            return {"type": [f"The {rtype} RR set type is currently unsupported."]}
        if item["subname"] and (not _SUBNAME.match(item["subname"]) or len(item["subname"]) > 178):
            return {"subname": ["Subname can only use (lowercase) a-z, 0-9, ., -, and _, may start with a '*.'."]}
        if not isinstance(item.get("ttl", 0), int):
            return {"ttl": ["A valid integer is required."]}
        if item.get("ttl", self.minimum_ttl) < self.minimum_ttl:
            return {"ttl": [f"Ensure this value is greater than or equal to {self.minimum_ttl}."]}
        if item.get("ttl", 0) > MAXIMUM_TTL:
            return {"ttl": [f"Ensure this value is less than or equal to {MAXIMUM_TTL}."]}
        if rtype == "CNAME" and (len(contents) > 1 or not item["subname"]):
            return {"non_field_errors": ["CNAME RRset cannot have multiple records or an empty subname."]}
        try:
            canonical = [_canonical(rtype, content) for content in contents]
        except (ValueError, dns.exception.DNSException) as error:
            return {"non_field_errors": [f"Record content for type {rtype} malformed: {error}"]}
        if len(set(canonical)) != len(canonical):
            return {"non_field_errors": ["Duplicate: records must be semantically unique"]}
        if "records" in item and len(json.dumps(contents)) > 64000:
            return {"non_field_errors": ["Total length of RRset exceeds limit."]}
        return {}


def _canonical(rtype: str, content: str) -> str:
    """Presentation form as dnspython writes it; TXT has to be quoted, and its strings are cut at 255 bytes."""
    if rtype != "TXT":
        rdata = dns.rdata.from_text(dns.rdataclass.IN, rtype, content, relativize=False)
        rdata.to_wire()  # refuses names without their final dot
        return rdata.to_text(chunksize=0)
    if not _QUOTED.match(content) or not content.isascii() or not content.isprintable():
        raise ValueError("Data for TXT records must be given using quotation marks.")
    parts = []
    for part in re.findall(r'"((?:[^"\\]|\\.)*)"', content):
        data = re.sub(
            rb"\\([0-9]{3})|\\(.)", lambda match: bytes([int(match[1])]) if match[1] else match[2], part.encode()
        )
        parts.extend(data[start : start + 255] for start in range(0, len(data) or 1, 255))
    return " ".join('"' + "".join(map(_escaped, part)) + '"' for part in parts)


def _escaped(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{byte:c}"
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03d}"


def _answer(status: int, body: Any, links: Mapping[str, str] | None = None) -> client.Response:
    headers = {"content-type": "application/json"}
    if links:
        headers["link"] = ", ".join(f'<{url}>; rel="{label}"' for label, url in links.items())
    return client.Response(status, headers, json.dumps(body).encode())
