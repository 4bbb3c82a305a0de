# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Amazon Route 53 by its REST API of 2013-04-01 (docs.aws.amazon.com/Route53/latest/APIReference).

A change is DELETE of exactly what was read and CREATE of the new, in one batch that happens as a whole: so it is
refused where a record set is no longer as it was read. UPSERT would overwrite. Escapes in names and TXT are octal.
"""

from __future__ import annotations

import json
import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Optional
from xml.sax.saxutils import escape

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.core.foreign import shortened
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Permanent,
    Provider,
    ProviderError,
    Throttled,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import LONG, Rest, Throttle
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import aws, client

_URL = "https://route53.amazonaws.com"
_REGION = "us-east-1"  # of every hosted zone, outside of China and GovCloud
_VERSION = "/2013-04-01"
_NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
_NS = f"{{{_NAMESPACE}}}"
_FEW = 20  # names that are asked one by one rather than with the whole zone
_LEAST = 32  # see cost()

_ESCAPE = re.compile(r"\\(?:([0-9]{3})|(.))", re.DOTALL)
_WRONG_KEY = ("InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "RequestExpired", "IncompleteSignature")
_BUSY = ("Throttling", "ThrottlingException", "PriorRequestNotComplete", "LimitExceeded")
_Step = tuple[
    str, RecordSet, list[str]
]  # action, record set under its name in Route 53, its values as they stand there
_NOT_AS_READ = ("was not found", "already exists", "do not match the current values")


class Route53(Provider):
    limits = SERVICES["route53"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self._zone = access.zone
        self._zone_id = str(access.options.get("hosted_zone_id") or "").rpartition("/")[2]
        url = str(credentials.get("url") or _URL)
        keys = aws.Keys(
            str(credentials["access_key_id"]),
            str(credentials["secret_access_key"]),
            str(credentials.get("session_token") or ""),
            str(credentials.get("region") or _REGION),
            "route53",
        )
        self._rest = _Xml(
            aws.SignedClient(access.client(url, {"Accept": "application/xml"}), url, keys),
            "Route 53",
            access,
            key_remedy="correct the keys in the credentials, and the clock",
            access_remedy="allow the key what the documentation of this collection lists",
            throttle=Throttle.of(f"route53 {keys.access_key_id}", self.limits.requests_per_second),
        )
        self._names: dict[Key, str] = {}
        self._raw: dict[Key, dict[str, list[str]]] = {}
        self._special: dict[Key, str] = {}

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        if not self._zone_id:
            self._zone_id = self._found()
        self._names, self._raw, self._special = {}, {}, {}
        state: dict[Key, RecordSet] = {}
        ttls: dict[Key, int] = {}
        for element in self._listed(names):
            key, ttl = self._remember(element)
            ttls[key] = min(ttl, ttls.get(key, ttl))
        for key, raw in self._raw.items():
            if key[1] != "SOA":
                state[key] = RecordSet.of(*key, ttls[key], raw)
        if names is None and (self._zone, "SOA") not in self._raw:
            raise Permanent(
                f"the hosted zone {self._zone_id} is not {self._zone}",
                "it belongs to another domain",
                "correct hosted_zone_id in the options of the zone",
            )
        return state

    def cost(self, change: Change) -> int:
        """Characters of values, 32,000 in a request; a value counts as 32 or more, for 1,000 values are the most."""
        values = (value for _action, _set, texts in self._steps(change) for value in texts)
        return sum(max(len(value), _LEAST) for value in values)

    def write(self, changes: Sequence[Change]) -> None:
        steps: list[_Step] = []
        for change in changes:
            if change.key in self._special:
                raise Permanent(
                    f"record {' '.join(change.key)} is {self._special[change.key]}",
                    "a plain record set would take its place",
                    "take it out of the fleet file, or remove it in Route 53",
                )
            steps.extend(self._steps(change))
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<ChangeResourceRecordSetsRequest xmlns="{_NAMESPACE}"><ChangeBatch><Changes>'
            f"{''.join(_change(*step) for step in steps)}"
            "</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
        )
        path = f"{_VERSION}/hostedzone/{self._zone_id}/rrset/"
        self._rest.xml("POST", path, body.encode("utf-8"))
        for change in changes:
            after = change.after
            self._raw[change.key] = {value: self._texts(change.key, value) for value in after.values} if after else {}

    def close(self) -> None:
        self._rest.close()

    def _found(self) -> str:
        query = urllib.parse.urlencode({"dnsname": f"{self._zone}."})
        root = self._rest.xml("GET", f"{_VERSION}/hostedzonesbyname?{query}")
        public: list[str] = []
        private: list[str] = []
        for element in root.iterfind(f"{_NS}HostedZones/{_NS}HostedZone"):
            if _name(element.findtext(f"{_NS}Name", "")) == self._zone:
                zone_id = element.findtext(f"{_NS}Id", "").rpartition("/")[2]
                kind = element.findtext(f"{_NS}Config/{_NS}PrivateZone", "")
                (private if kind == "true" else public).append(zone_id)
        if len(public) == 1:
            return public[0]
        ids = ", ".join(sorted(public or private))
        if ids:
            raise Permanent(
                f"{'several' if public else 'only private'} hosted zones {self._zone} ({ids})",
                "it is not said which one is meant",
                "name one in hosted_zone_id in the options of the zone",
            )
        raise Permanent(
            f"the account has no hosted zone {self._zone}",
            "zones are made by their operator, not by a run",
            "create the zone there, or correct zones in the fleet file",
        )

    def _listed(self, names: Optional[Collection[str]]) -> Iterator[ET.Element]:
        if names is None or len(names) > _FEW:
            yield from self._pages({}, lambda name: True)
            return
        for name in sorted(set(names)):
            yield from self._pages({"name": f"{name}.", "maxitems": "20"}, name.__eq__)

    def _pages(self, query: dict[str, str], wanted: Callable[[str], bool]) -> Iterator[ET.Element]:
        """Record sets in the order of the service from where ``query`` starts, while their names are ``wanted``."""
        path = f"{_VERSION}/hostedzone/{self._zone_id}/rrset"
        for _number in self._rest.pages():
            root = self._rest.xml("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path)
            sets = root.find(f"{_NS}ResourceRecordSets")
            if sets is None:
                raise self._rest.garbled("ResourceRecordSets is missing")
            for element in sets:
                if not wanted(_name(element.findtext(f"{_NS}Name", ""))):
                    return
                yield element
            if root.findtext(f"{_NS}IsTruncated") != "true":
                return
            for parameter in ("name", "type", "identifier"):
                query.pop(parameter, None)
                value = root.findtext(f"{_NS}NextRecord{parameter.capitalize()}")
                if value:
                    query[parameter] = value
            if "name" not in query:
                raise self._rest.garbled("NextRecordName is missing")

    def _remember(self, element: ET.Element) -> tuple[Key, int]:
        """Key and TTL of a record set. Several with an identifier may have the same key."""
        parts = {part.tag[len(_NS) :]: part for part in element}
        try:
            raw_name, rtype = parts["Name"].text or "", parts["Type"].text or ""
            ttl = int(parts["TTL"].text or "") if "TTL" in parts else 0
        except (KeyError, ValueError) as error:
            raise self._rest.garbled(f"a record set without {error}") from error
        key = (_name(raw_name), rtype)
        self._names[key] = raw_name
        values = self._raw.setdefault(key, {})
        for value in element.iterfind(f"{_NS}ResourceRecords/{_NS}ResourceRecord/{_NS}Value"):
            text = value.text or ""
            values.setdefault(_canonical(rtype, text), []).append(text)
        if "AliasTarget" in parts:
            target = parts["AliasTarget"].findtext(f"{_NS}DNSName", "")
            self._special[key] = f"an alias of {target}"
            values[f"alias of {target}"] = []
        elif "SetIdentifier" in parts:
            self._special[key] = "one of several with a routing policy (weighted, geolocation or the like)"
        elif "TrafficPolicyInstanceId" in parts:
            self._special[key] = "made by a traffic policy"
        return key, ttl

    def _steps(self, change: Change) -> Iterator[_Step]:
        for action, some in (("DELETE", change.before), ("CREATE", change.after)):
            if some:
                name = self._names.get(change.key, f"{some.name}.")
                texts = [text for value in some.values for text in self._texts(change.key, value)]
                yield action, some._replace(name=name), texts

    def _texts(self, key: Key, value: str) -> list[str]:
        """What stands in the zone for ``value``, in its own layout, or what we would write."""
        return self._raw.get(key, {}).get(value) or [_presentation(key[1], value)]


class _Xml(Rest):
    """The same for an API that speaks XML."""

    def xml(self, method: str, path: str, body: Optional[bytes] = None) -> ET.Element:
        response = self.send(method, path, body, {"Content-Type": "application/xml"} if body else None)
        try:
            root = _parsed(response.body)
        except ValueError as error:
            raise self.garbled(str(error)) from error
        if not root.tag.startswith(_NS):
            raise self.garbled(f"it is a document {root.tag}")
        return root

    def _problem(self, response: client.Response, sent: Mapping[str, str]) -> ProviderError:
        try:
            root = _parsed(response.body)
        except ValueError:
            return super()._problem(response, sent)
        # InvalidChangeBatch came with a root of its own for years, and may still.
        code = root.findtext("{*}Error/{*}Code") or root.tag.rpartition("}")[2]
        said = "; ".join(" ".join((part.text or "").split()) for part in root.iterfind(".//{*}Message"))
        said = shortened(said, 2 * LONG)
        if code in _WRONG_KEY:
            return Permanent(f"the Route 53 API refused the key ({code}: {said})", "it is not valid", self._key_remedy)
        if code in _BUSY:
            return Throttled(
                f"too many requests ({code}: {said})",
                "the API limits them",
                "run again later",
                client.retry_after(response),
            )
        if code == "InvalidChangeBatch" and any(text in said for text in _NOT_AS_READ):
            return Conflict(f"a record set is not as it was read ({said})")
        body = json.dumps({"message": f"{code}: {said}"}).encode("ascii")
        return super()._problem(client.Response(response.status, response.headers, body), sent)


def _parsed(body: bytes) -> ET.Element:
    """The root element. Raises ValueError. No answer of the service declares a document type, and entities need one."""
    text = body.decode("utf-8")
    if "<!DOCTYPE" in text:
        raise ValueError("it declares a document type")
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"it is no XML: {error}") from error


def _change(action: str, some: RecordSet, texts: Sequence[str]) -> str:
    values = "".join(f"<ResourceRecord><Value>{escape(text)}</Value></ResourceRecord>" for text in texts)
    return (
        f"<Change><Action>{action}</Action><ResourceRecordSet><Name>{escape(some.name)}</Name><Type>{some.type}</Type>"
        f"<TTL>{some.ttl}</TTL><ResourceRecords>{values}</ResourceRecords></ResourceRecordSet></Change>"
    )


def _name(text: str) -> str:
    """A name of Route 53, which escapes all but letters, digits, hyphens and underscores, in canonical form."""

    def plain(match: re.Match[str]) -> str:
        code = int(match.group(1), 8) if match.group(1) and match.group(1) < "200" else 0
        character = chr(code)
        return character if 32 < code < 127 and character not in '."\\();@$' else match.group()

    return rrset.canonical_name(_ESCAPE.sub(plain, text))


def _canonical(rtype: str, text: str) -> str:
    try:
        return rrset.canonical(rtype, _recoded(text, 8, "\\{:03d}") if rtype == "TXT" else text)
    except ValueError:
        return text  # foreign data that we would not write


def _presentation(rtype: str, value: str) -> str:
    text = rrset.presentation(rtype, value)
    return _recoded(text, 10, "\\{:03o}") if rtype == "TXT" else text


def _recoded(text: str, base: int, form: str) -> str:
    """Three-digit escapes of ``base`` in another one. Raises ValueError where a code is none."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: form.format(int(found.group(1), base)) if found.group(1) else found.group(), text)


def open_zone(access: Access) -> Route53:
    return Route53(access)
