# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Google Cloud DNS and for the token endpoint of Google's OAuth 2.0."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Response
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_KEY = rsa.generate_private_key(65537, 2048)
_PEM = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode("ascii")
ACCOUNT = {
    "type": "service_account",
    "private_key_id": "a-key-id",
    "private_key": _PEM,
    "client_email": "dns@a-project.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}
CREDENTIALS: dict[str, Any] = {"project": "a-project", "service_account": json.dumps(ACCOUNT)}
OPTIONS: dict[str, Any] = {}

PAGE = 20
_OLD = ("A", "AAAA", "CAA", "CNAME", "DS", "IPSECKEY", "MX", "NAPTR", "NS", "PTR", "SOA", "SPF", "SRV", "SSHFP", "TXT")
TYPES = frozenset((*_OLD, "HTTPS", "SVCB", "TLSA"))
_TXT = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]|\\[0-2][0-9]{2})*)"(?:\s+|\Z)')
_ESCAPE = re.compile(r"\\(?:[0-9]{3}|.)")
_TOKEN = "ya29.a-token"
_ROOT = "https://dns.googleapis.com/dns/v1/projects/a-project/managedZones"

Rrset = dict[str, Any]


class Refused(Exception):
    """Status, reason and message of an answer that refuses."""


class StandIn:
    """Cloud DNS v1 as its discovery document (2026-10-09), reference and quotas give it; refuses what they refuse."""

    def __init__(self, zone: str) -> None:
        self.zone = f"{zone}."
        self.managed = [{"kind": "dns#managedZone", "name": "a-zone", "dnsName": self.zone, "visibility": "public"}]
        soa = "ns-cloud-a1.googledomains.com. cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300"
        self.rrsets = [
            _rrset(self.zone, "NS", 21600, ["ns-cloud-a1.googledomains.com.", "ns-cloud-a2.googledomains.com."]),
            _rrset(self.zone, "SOA", 21600, [soa]),
        ]

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        if url == ACCOUNT["token_uri"]:
            return _token(method, body, headers)
        try:
            if headers.get("Authorization") != f"Bearer {_TOKEN}":
                raise Refused(401, "authError", "Request had invalid authentication credentials.")
            answer = self._answer(method, url, body, headers)
        except Refused as refused:
            status, reason, said = refused.args
            error = {"message": said, "domain": "global", "reason": reason}
            return _response(status, {"error": {"code": status, "message": said, "errors": [error]}})
        return _response(200, answer)

    def _answer(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        base, path, query = split(url)
        whole = base + path
        if (method, whole) == ("GET", _ROOT):
            listed = [each for each in self.managed if each["dnsName"] == query.get("dnsName", each["dnsName"])]
            return {"kind": "dns#managedZonesListResponse", "managedZones": listed}
        name, _slash, what = whole[len(_ROOT) + 1 :].partition("/")
        if not whole.startswith(f"{_ROOT}/") or name not in [each["name"] for each in self.managed]:
            raise Refused(404, "notFound", f"The 'parameters.managedZone' resource named '{name}' does not exist.")
        if (method, what) == ("GET", "rrsets"):
            return self._page(query)
        if (method, what) != ("POST", "changes") or headers.get("Content-Type") != "application/json":
            raise Refused(404, "notFound", "Not Found")
        change = json.loads(body or b"")
        self.rrsets = self._changed(**change)
        return {"kind": "dns#change", "id": "1", "status": "pending", "startTime": "2026-01-01T00:00:00.000Z", **change}

    def _page(self, query: Mapping[str, str]) -> dict[str, Any]:
        if set(query) - {"name", "type", "maxResults", "pageToken", "filter"}:
            raise Refused(400, "invalid", "Invalid query parameter")
        left = sorted(self.rrsets, key=lambda each: (each["name"], each["type"]))
        left = [each for each in left if query.get("name", each["name"]) == each["name"]]
        start = int(query.get("pageToken", "0"))
        answer: dict[str, Any] = {
            "kind": "dns#resourceRecordSetsListResponse",
            "rrsets": [{"kind": "dns#resourceRecordSet", **each} for each in left[start : start + PAGE]],
        }
        return {**answer, "nextPageToken": str(start + PAGE)} if len(left) > start + PAGE else answer

    def _changed(self, deletions: list[Rrset], additions: list[Rrset]) -> list[Rrset]:
        """The record sets after the change, which happens as a whole or not at all."""
        size = sum(len(text) for each in (*deletions, *additions) for text in each["rrdatas"])
        if len(deletions) > 1000 or len(additions) > 1000 or size > 100_000:
            raise Refused(413, "quotaExceeded", "A quota of the change is exceeded")
        rrsets = list(self.rrsets)
        for number, each in enumerate(deletions):
            where = f"'entity.change.deletions[{number}]'"
            there = [one for one in rrsets if _key(one) == _key(each)]
            if not there:
                what = f"{each['name']} ({each['type']})"
                raise Refused(404, "notFound", f"The {where} resource named '{what}' does not exist.")
            same = ("routingPolicy" not in there[0]) and there[0]["ttl"] == each["ttl"]
            if not same or sorted(there[0]["rrdatas"]) != sorted(each["rrdatas"]):
                raise Refused(412, "conditionNotMet", f"Precondition not met for {where}")
            rrsets.remove(there[0])
        for number, each in enumerate(additions):
            where = f"'entity.change.additions[{number}]'"
            for problem in self._problems(each):
                raise Refused(400, "invalid", f"Invalid value for {where}: {problem}")
            if any(_key(one) == _key(each) for one in rrsets):
                what = f"{each['name']} ({each['type']})"
                raise Refused(409, "alreadyExists", f"The resource {where} named '{what}' already exists")
            rrsets.append(each)
        aliases = {each["name"] for each in rrsets if each["type"] == "CNAME"}
        if any(each["name"] in aliases and each["type"] != "CNAME" for each in rrsets):
            raise Refused(400, "cnameResourceRecordSetConflict", "A CNAME stands beside other records")
        if {(self.zone, "SOA"), (self.zone, "NS")} - {_key(each) for each in rrsets}:
            raise Refused(400, "invalidZoneApex", "The apex needs SOA and NS")
        return rrsets

    def _problems(self, each: Rrset) -> Iterator[str]:
        if set(each) != {"name", "type", "ttl", "rrdatas"}:
            yield "fields"
        if each["name"] != each["name"].lower() or not f".{each['name']}".endswith(f".{self.zone}"):
            yield f"name {each['name']}"
        if (
            each["type"] not in TYPES
            or isinstance(each["ttl"], bool)
            or not isinstance(each["ttl"], int)
            or not 0 <= each["ttl"] < 2**31
        ):
            yield "type or ttl"
        if not each["rrdatas"] or len(set(each["rrdatas"])) != len(each["rrdatas"]) or len(each["rrdatas"]) > 100:
            yield "rrdatas are missing, too many or twice the same"
        for text in each["rrdatas"]:
            try:
                _check(each["type"], text)
            except ValueError as error:
                yield f"{text}: {error}"


def _rrset(name: str, rtype: str, ttl: int, rrdatas: list[str]) -> Rrset:
    return {"name": name, "type": rtype, "ttl": ttl, "rrdatas": rrdatas}


def _key(each: Rrset) -> tuple[str, str]:
    return each["name"], each["type"]


def _response(status: int, answer: dict[str, Any]) -> Response:
    return Response(status, {"content-type": "application/json; charset=UTF-8"}, json.dumps(answer).encode("utf-8"))


def _check(rtype: str, text: str) -> None:
    """Raises ValueError where ``text`` is not in the presentation format of RFC 1035, names absolute."""
    if rtype == "A":
        ipaddress.IPv4Address(text)
    elif rtype == "AAAA":
        ipaddress.IPv6Address(text)
    elif rtype == "TXT":
        place = 0
        while place < len(text):
            found = _TXT.match(text, place)
            if not found or len(_ESCAPE.sub(".", found.group(1))) > 255:
                raise ValueError("it is not made of quoted strings of 255 characters at most")
            place = found.end()
    elif rtype in ("CNAME", "MX", "NS", "PTR", "SRV"):
        words = text.split(" ")
        if len(words) != {"MX": 2, "SRV": 4}.get(rtype, 1) or not words[-1].endswith("."):
            raise ValueError("it is none, or the name is not absolute")


def _token(method: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
    """Verifies the assertion (RFC 7523) as the service does, from what came over the wire."""
    form = dict(urllib.parse.parse_qsl((body or b"").decode("ascii"), strict_parsing=True))
    if method != "POST" or headers.get("Content-Type") != "application/x-www-form-urlencoded" or len(form) != 2:
        return _response(400, {"error": "invalid_request", "error_description": "Bad Request"})
    if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
        return _response(400, {"error": "unsupported_grant_type", "error_description": f"Invalid {form['grant_type']}"})
    header, claims, signature = form["assertion"].split(".")
    known, told = (json.loads(_decoded(part)) for part in (header, claims))
    try:
        signed = f"{header}.{claims}".encode("ascii")
        _KEY.public_key().verify(_decoded(signature), signed, padding.PKCS1v15(), hashes.SHA256())
    except Exception:
        return _response(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
    now = time.time()
    if (
        known != {"alg": "RS256", "typ": "JWT", "kid": ACCOUNT["private_key_id"]}
        or (told["iss"], told["aud"]) != (ACCOUNT["client_email"], ACCOUNT["token_uri"])
        or told["scope"] != "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
        or not now - 300 < told["iat"] <= now < told["exp"] <= told["iat"] + 3600
    ):
        return _response(400, {"error": "invalid_grant", "error_description": "Invalid JWT."})
    return _response(200, {"access_token": _TOKEN, "expires_in": 3599, "token_type": "Bearer"})


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
