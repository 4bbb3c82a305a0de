# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the OVHcloud API."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from collections.abc import Mapping
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {
    "application_key": "7kbG7Bk7S9Nt7ZSV",
    "application_secret": "EXEgWIz07P0HYwtQDs7cNIqCiQaWSuHF",
    "consumer_key": "MtSwSrPpNjqfVSmJhLbPyr2i45lSwPU1",
}
OPTIONS: dict[str, Any] = {}
# What dnscontrol found out by testing in July 2026: no quotes and no backslashes in a TXT record.
LACKS = ("odd", "bytes")

BASE = "https://eu.api.ovh.com"
AHEAD = 4000  # seconds by which this service's clock is ahead of the machine's
BATCH = 50
TYPES = frozenset(
    "A AAAA CAA CNAME DKIM DMARC DNAME HTTPS LOC MX NAPTR NS PTR SPF SRV SSHFP SVCB TLSA TXT".split()  # noqa: SIM905
)
TEXTS = ("DKIM", "DMARC", "SPF", "TXT")
_LABEL = re.compile(r"(|\*|(\*\.)?([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63})\Z")

Record = dict[str, Any]


class StandIn:
    """A stand-in for ``/auth/time`` and ``/domain/zone/{zone}`` of the OVHcloud API 1.0 as its own description
    (domain.json of the console) and OVH's Python client give them; refuses what they say it refuses. ``served`` is what
    its DNS servers answer: the records as they were at the last refresh.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.numbers = itertools.count(5000000001)
        self.records: dict[int, Record] = {}
        self.refreshes = 0
        self.granted = True
        for number in (1, 2):
            self.add("NS", "", f"dns{number}.ovh.net.", 0)
        self.served = self._shown()

    def add(self, kind: str, subdomain: str, target: str, ttl: int) -> int:
        """As somebody else would by the console."""
        number = next(self.numbers)
        self.records[number] = {
            "id": number,
            "zone": self.zone,
            "subDomain": subdomain,
            "fieldType": kind,
            "target": target,
            "ttl": ttl,
        }
        return number

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> client.Response:
        base, path, query = split(url)
        if headers.get("X-Ovh-Application") != CREDENTIALS["application_key"]:
            return _problem(403, "INVALID_KEY", "This application key is invalid")
        if (method, base, path) == ("GET", BASE, "/1.0/auth/time"):
            return _answer(200, int(time.time()) + AHEAD)
        refusal = self._unsigned(method, url, body, headers)
        if refusal:
            return refusal
        head, found, tail = path.partition(f"/1.0/domain/zone/{self.zone}")
        if base != BASE or head or not found:
            return _problem(404, "NOT_FOUND", "This service does not exist")
        if (method, tail) == ("POST", "/refresh") and not body:
            self.refreshes += 1
            self.served = self._shown()
            return _answer(200, None)
        if (method, tail) == ("GET", "/record"):
            return _answer(200, self._listed(query))
        if (method, tail) == ("POST", "/record"):
            return self._post(json.loads(body or b""))
        if method == "GET" and headers.get("X-Ovh-Batch") == ",":
            return _answer(200, [self._item(key) for key in tail.removeprefix("/record/").split(",")[:BATCH]])
        number = int(tail.removeprefix("/record/"))
        if number not in self.records:
            return _problem(404, "NOT_FOUND", f"The requested object (id = {number}) does not exist")
        if method == "GET":
            return _answer(200, self.records[number])
        if method == "DELETE":
            del self.records[number]
            return _answer(200, None)
        return self._put(number, json.loads(body or b""))

    def _unsigned(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> client.Response | None:
        if headers.get("X-Ovh-Consumer") != CREDENTIALS["consumer_key"]:
            return _problem(403, "INVALID_CREDENTIAL", "This credential is not valid")
        stamp = headers.get("X-Ovh-Timestamp", "")
        if not stamp.isdigit() or abs(int(stamp) - time.time() - AHEAD) > 600:
            return _problem(400, "QUERY_TIME_OUT", "Query out of time")
        parts = [CREDENTIALS["application_secret"], CREDENTIALS["consumer_key"], method, url]
        text = "+".join([*parts, (body or b"").decode(), stamp])
        if headers.get("X-Ovh-Signature") != "$1$" + hashlib.sha1(text.encode()).hexdigest():
            return _problem(400, "INVALID_SIGNATURE", "Invalid signature")
        if not self.granted:
            return _problem(403, "NOT_GRANTED_CALL", "This call has not been granted")
        if body and headers.get("Content-Type") != "application/json":
            return _problem(400, "CLIENT_ERROR", "Received not well formatted body")
        return None

    def _item(self, key: str) -> dict[str, Any]:
        found = self.records.get(int(key))
        error = None if found else {"message": f"The requested object (id = {key}) does not exist"}
        return {"key": key, "value": found, "error": error}

    def _listed(self, query: Mapping[str, str]) -> list[int]:
        fields = {"subDomain", "fieldType"} & set(query)
        return [number for number, each in self.records.items() if all(each[field] == query[field] for field in fields)]

    def _post(self, body: Record) -> client.Response:
        wrong = self._wrong(None, body, {"fieldType", "subDomain", "target", "ttl"})
        if wrong:
            return _problem(400, "INVALID_ARGUMENT", wrong)
        number = self.add(body["fieldType"], body.get("subDomain", ""), body["target"], body.get("ttl", 0))
        return _answer(200, self.records[number])

    def _put(self, number: int, body: Record) -> client.Response:
        wrong = self._wrong(number, {"fieldType": self.records[number]["fieldType"], **body}, {"fieldType", *body})
        if wrong or set(body) - {"subDomain", "target", "ttl"}:
            return _problem(400, "INVALID_ARGUMENT", wrong or "a record takes subDomain, target and ttl")
        self.records[number].update(body)
        return _answer(200, None)

    def _wrong(self, number: int | None, body: Record, fields: set[str]) -> str:
        kind, label, target, ttl = (body.get(field) for field in ("fieldType", "subDomain", "target", "ttl"))
        if set(body) - fields or kind not in TYPES:
            return f"Invalid field, or unknown fieldType {kind}"
        if not isinstance(label, str) or not _LABEL.match(label):
            return f"Invalid subDomain {label}"
        if not isinstance(ttl, int) or (ttl and not 60 <= ttl <= 2**31 - 1):
            return f"Invalid ttl {ttl}"
        others = [each for each in self.records.values() if each["id"] != number and each["subDomain"] == label]
        if any("CNAME" in (kind, each["fieldType"]) for each in others):
            return "A CNAME record cannot stand beside others"
        if any((each["fieldType"], each["target"]) == (kind, target) for each in others):
            return "This record already exists"
        if kind in TEXTS:
            inner = target[1:-1] if len(target) > 1 and target[0] == target[-1] == '"' else target
            bad = set(inner) & {'"', "\\"} or not inner.isascii() or not inner.isprintable()
            return f"Invalid text {target[:40]}" if bad else ""
        try:
            dns.rdata.from_text(dns.rdataclass.IN, kind, target, origin=dns.name.from_text(self.zone), relativize=False)
        except (ValueError, dns.exception.DNSException) as error:
            return f"Invalid target {target[:40]}: {error}"
        return ""

    def _shown(self) -> set[tuple[str, str, str, int]]:
        """Names, types as they are on the wire, targets, TTLs."""
        return {
            (
                each["subDomain"],
                "TXT" if each["fieldType"] in TEXTS else each["fieldType"],
                each["target"],
                each["ttl"] or 3600,
            )
            for each in self.records.values()
        }


def _problem(status: int, code: str, text: str) -> client.Response:
    return _answer(status, {"errorCode": code, "httpCode": str(status), "message": text})


def _answer(status: int, body: Any) -> client.Response:
    return client.Response(status, {"content-type": "application/json"}, json.dumps(body).encode())
