# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Amazon Route 53."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Response
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.harness import split

CREDENTIALS: dict[str, Any] = {
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "session_token": "AQoDYXdzEPT//wEXAMPLE==",
}
OPTIONS: dict[str, Any] = {}

ZONE_ID = "Z3M3LMPEXAMPLE"
PAGE = 20
_OLD = ("A", "AAAA", "CAA", "CNAME", "DS", "MX", "NAPTR", "NS", "PTR", "SOA", "SPF", "SRV", "SSHFP", "TXT")
TYPES = frozenset((*_OLD, "HTTPS", "SVCB", "TLSA"))
_XMLNS = "https://route53.amazonaws.com/doc/2013-04-01/"
_NS = f"{{{_XMLNS}}}"
_TXT = re.compile(r'"((?:[^"\\\x00-\x1f\x7f-\uffff]|\\["\\]|\\[0-3][0-7]{2})*)"(?:\s+|\Z)')
_ESCAPE = re.compile(r"\\(?:([0-7]{3})|.)")


class Refused(Exception):
    """Status, code and message of an answer that refuses."""


@dataclass(frozen=True)
class Set:
    """A record set as the service stores it: names absolute, lower case, without escapes."""

    name: str
    type: str
    ttl: int | None
    values: tuple[str, ...]
    extra: str = ""  # more elements, as XML: alias, routing policy
    identifier: str = ""

    @property
    def rank(self) -> tuple[list[str], str, str]:
        return [*reversed(self.name.split("."))], self.type, self.identifier

    def xml(self) -> str:
        name = re.sub("[^a-z0-9._-]", lambda found: f"\\{ord(found.group()):03o}", self.name)
        values = "".join(f"<ResourceRecord><Value>{escape(value)}</Value></ResourceRecord>" for value in self.values)
        identifier = f"<SetIdentifier>{self.identifier}</SetIdentifier>" if self.identifier else ""
        ttl = "" if self.ttl is None else f"<TTL>{self.ttl}</TTL><ResourceRecords>{values}</ResourceRecords>"
        return f"<Name>{name}</Name><Type>{self.type}</Type>{identifier}{ttl}{self.extra}"


class StandIn:
    """Route 53 as its API reference (2013-04-01) and Developer Guide give it; refuses what they refuse."""

    def __init__(self, zone: str) -> None:
        self.zone = f"{zone}."
        self.hosted = [(ZONE_ID, self.zone, False)]  # identifier, name, private
        soa = "ns-1.awsdns-1.net. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
        self.sets = [
            Set(self.zone, "NS", 172800, ("ns-1.awsdns-1.net.", "ns-2.awsdns-2.org.")),
            Set(self.zone, "SOA", 900, (soa,)),
        ]

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        try:
            _check_signature(method, url, body or b"", headers)
            return Response(200, {"content-type": "text/xml"}, self._answer(method, url, body, headers).encode())
        except Refused as refused:
            status, code, said = refused.args
            error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(said)}</Message></Error>"
            text = _document("ErrorResponse", f"{error}<RequestId>1</RequestId>")
            return Response(status, {"content-type": "text/xml"}, text.encode())

    def _answer(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> str:
        _base, path, query = split(url)
        if (method, path) == ("GET", "/2013-04-01/hostedzonesbyname"):
            return self._hosted(query)
        found = re.fullmatch(r"/2013-04-01/hostedzone/([A-Z0-9]+)/rrset(/?)", path)
        if not found:
            raise Refused(404, "UnknownOperationException", "")
        if found.group(1) not in [zone_id for zone_id, _name, _private in self.hosted]:
            raise Refused(404, "NoSuchHostedZone", f"No hosted zone found with ID: {found.group(1)}")
        if method == "GET":
            return self._page(query)
        if method != "POST" or headers.get("Content-Type") != "application/xml":
            raise Refused(405, "InvalidInput", "POST takes XML")
        self.sets = self._changed(ET.fromstring(body or b""))
        info = "<Id>/change/C1</Id><Status>PENDING</Status><SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt>"
        return _document("ChangeResourceRecordSetsResponse", f"<ChangeInfo>{info}</ChangeInfo>")

    def _hosted(self, query: Mapping[str, str]) -> str:
        start = [*reversed(query["dnsname"].split("."))]
        zones = sorted(
            (each for each in self.hosted if [*reversed(each[1].split("."))] >= start), key=lambda each: each[1]
        )
        listed = "".join(
            f"<HostedZone><Id>/hostedzone/{zone_id}</Id><Name>{name}</Name><CallerReference>1</CallerReference>"
            f"<Config><PrivateZone>{str(private).lower()}</PrivateZone></Config></HostedZone>"
            for zone_id, name, private in zones
        )
        rest = "<IsTruncated>false</IsTruncated><MaxItems>100</MaxItems>"
        return _document("ListHostedZonesByNameResponse", f"<HostedZones>{listed}</HostedZones>{rest}")

    def _page(self, query: Mapping[str, str]) -> str:
        if set(query) - {"name", "type", "identifier", "maxitems"} or ("type" in query and "name" not in query):
            raise Refused(400, "InvalidInput", "The request is not valid")
        size = min(int(query.get("maxitems", "300")), PAGE)
        start = Set(
            _plain(query.get("name", "")), query.get("type", ""), None, (), "", query.get("identifier", "")
        ).rank
        left = [each for each in sorted(self.sets, key=lambda each: each.rank) if not query or each.rank >= start]
        listed = "".join(f"<ResourceRecordSet>{each.xml()}</ResourceRecordSet>" for each in left[:size])
        rest = "<IsTruncated>false</IsTruncated>"
        if len(left) > size:
            following = left[size].xml()
            names = {"Name": "NextRecordName", "Type": "NextRecordType", "SetIdentifier": "NextRecordIdentifier"}
            parts = {part.tag: part.text for part in ET.fromstring(f"<x>{following}</x>")}
            rest = "<IsTruncated>true</IsTruncated>" + "".join(
                f"<{names[tag]}>{parts[tag]}</{names[tag]}>" for tag in names if tag in parts
            )
        return _document(
            "ListResourceRecordSetsResponse",
            f"<ResourceRecordSets>{listed}</ResourceRecordSets>{rest}<MaxItems>{size}</MaxItems>",
        )

    def _changed(self, root: ET.Element) -> list[Set]:
        """The record sets after the batch, which happens as a whole or not at all."""
        changes = [_change(element) for element in _only(root, "ChangeBatch/Changes")]
        texts = [value for _action, each in changes for value in each.values]
        if len(texts) > 1000 or sum(map(len, texts)) > 32000:
            raise Refused(400, "InvalidChangeBatch", "Number of records or characters limit exceeded")
        problems = [problem for _action, each in changes for problem in self._problems(each)]
        sets = list(self.sets)
        for action, each in changes:
            what = f"resource record set [name='{each.name}', type='{each.type}']"
            there = [one for one in sets if (one.name, one.type) == (each.name, each.type)]
            if action == "CREATE" and there:
                problems.append(f"Tried to create {what} but it already exists")
            elif action == "CREATE":
                sets.append(each)
            elif not there:
                problems.append(f"Tried to delete {what} but it was not found")
            elif [(one.ttl, sorted(one.values)) for one in there] != [(each.ttl, sorted(each.values))]:
                problems.append(f"Tried to delete {what} but the values provided do not match the current values")
            else:
                sets.remove(there[0])
        aliases = {each.name for each in sets if each.type == "CNAME"}
        problems.extend(
            f"RRSet of type {each.type} with DNS name {each.name} is not permitted because a conflicting RRSet of type"
            f" CNAME with the same DNS name already exists in zone {self.zone}"
            for each in sets
            if each.name in aliases and each.type != "CNAME"
        )
        if {(self.zone, "SOA"), (self.zone, "NS")} - {(each.name, each.type) for each in sets}:
            problems.append("A HostedZone must contain at least one NS record and exactly one SOA record")
        if problems:
            raise Refused(400, "InvalidChangeBatch", f"[{', '.join(problems)}]")
        return sets

    def _problems(self, each: Set) -> Iterator[str]:
        if not f".{each.name}".endswith(f".{self.zone}"):
            yield f"RRSet with DNS name {each.name} is not permitted in zone {self.zone}"
        if (each.name, each.type) == (self.zone, "CNAME"):
            yield f"RRSet of type CNAME with DNS name {each.name} is not permitted at apex in zone {self.zone}"
        if len(set(each.values)) != len(each.values) or len(each.values) > 400:
            yield f"Duplicate or too many resource records in {each.name} {each.type}"
        for value in each.values:
            try:
                _check(each.type, value)
            except ValueError as error:
                yield f"Invalid Resource Record: FATAL problem: {error} encountered with '{value}'"


def _document(name: str, inner: str) -> str:
    return f'<?xml version="1.0"?>\n<{name} xmlns="{_XMLNS}">{inner}</{name}>'


def _only(element: ET.Element, path: str) -> ET.Element:
    for tag in path.split("/"):
        (element,) = element
        if element.tag != _NS + tag:
            raise Refused(400, "InvalidInput", f"Invalid XML: {element.tag} where {tag} belongs")
    return element


def _change(element: ET.Element) -> tuple[str, Set]:
    tags = [part.tag[len(_NS) :] for part in (element, *element)]
    if tags != ["Change", "Action", "ResourceRecordSet"] or element[0].text not in ("CREATE", "DELETE", "UPSERT"):
        raise Refused(400, "InvalidInput", f"Invalid XML: {tags}")
    if element[0].text == "UPSERT":
        raise AssertionError("UPSERT overwrites what somebody else wrote meanwhile")
    name, rtype, ttl, listed = element[1]
    if [part.tag[len(_NS) :] for part in element[1]] != ["Name", "Type", "TTL", "ResourceRecords"]:
        raise Refused(400, "InvalidInput", "Invalid XML: elements are missing or in another order")
    if rtype.text not in TYPES or not 0 <= int(ttl.text or "") < 2**31:
        raise Refused(400, "InvalidInput", f"1 validation error detected: {rtype.text} {ttl.text}")
    values = tuple(_only(record, "Value").text or "" for record in listed)
    if not values or any(len(value) > 4000 for value in values):
        raise Refused(400, "InvalidInput", "a value has 1 to 4000 characters")
    return str(element[0].text), Set(
        _plain(f"{(name.text or '').rstrip('.')}."), str(rtype.text), int(ttl.text or ""), values
    )


def _plain(name: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found.group(1), 8)) if found.group(1) else found.group(), name).lower()


def _check(rtype: str, value: str) -> None:
    """Raises ValueError where the Developer Guide does not allow ``value``."""
    if rtype == "A":
        ipaddress.IPv4Address(value)
    elif rtype == "AAAA":
        ipaddress.IPv6Address(value)
    elif rtype == "TXT":
        place = 0
        while place < len(value):
            found = _TXT.match(value, place)
            if not found:
                raise ValueError("InvalidCharacterString (Value should be enclosed in quotation marks)")
            if len(_ESCAPE.sub(".", found.group(1))) > 255:
                raise ValueError("CharacterStringTooLong (Value is too long)")
            place = found.end()
    elif rtype in ("CNAME", "MX", "NS", "PTR", "SRV"):
        words = value.split(" ")
        if len(words) != {"MX": 2, "SRV": 4}.get(rtype, 1) or not all(word.isdigit() for word in words[:-1]):
            raise ValueError("ARRDATAIllegal")
    elif rtype == "CAA" and not re.fullmatch(r'[0-9]+ [a-z0-9]+ "[^"]*"', value):
        raise ValueError("CAARRDATAIllegal")


def _check_signature(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Recomputes the signature as the service does, from what came over the wire."""
    given = headers.get("Authorization", "")
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/([0-9]{8})/us-east-1/route53/aws4_request,"
        r" SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        given,
    )
    if not found:
        raise Refused(403, "MissingAuthenticationToken", "Missing Authentication Token")
    key_id, day, names, signature = found.groups()
    if key_id != CREDENTIALS["access_key_id"]:
        raise Refused(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    low = {name.lower(): value for name, value in headers.items()}
    if not {"host", "x-amz-date", "x-amz-security-token"} <= set(names.split(";")):
        raise Refused(403, "SignatureDoesNotMatch", "headers are not signed")
    parsed = urllib.parse.urlsplit(url)
    if low["host"] != parsed.netloc or low["x-amz-security-token"] != CREDENTIALS["session_token"]:
        raise Refused(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    canonical = f"{method}\n{parsed.path}\n{'&'.join(sorted(parsed.query.split('&')))}\n"
    canonical += "".join(f"{name}:{low[name].strip()}\n" for name in names.split(";"))
    canonical += f"\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/us-east-1/route53/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{low['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + CREDENTIALS["secret_access_key"]).encode()
    for part in (day, "us-east-1", "route53", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    if hmac.digest(key, text.encode(), "sha256").hex() != signature:
        raise Refused(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature.")
