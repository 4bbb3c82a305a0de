# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DigitalOcean by its API v2 (docs.digitalocean.com/reference/api, Domain Records). One record in each request.

Only records that a change is about are written, by their ids, so what somebody else added meanwhile survives. A TXT
value stands as it is, without quotes or escapes.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset, txt
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Permanent,
    Provider,
    ProviderError,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Rest, Throttle, message, required

_URL = "https://api.digitalocean.com"
_PAGE = 200  # the most that a list allows
_FEW = 3  # names that are asked one by one rather than with the whole zone
_NAMED = frozenset(("CNAME", "MX", "NS", "SRV"))  # types whose data are a name
_ISSUE = frozenset(("issue", "issuewild"))  # tags of CAA whose data are a name too
_QUOTED = re.compile(r'"[^"\\]*"(?: +"[^"\\]*")+\Z')
_PLAIN = re.compile(r"[ -\[\]-~]+\Z")  # printable ASCII without the backslash


class _Record(NamedTuple):
    id: int
    value: str  # canonical
    ttl: int


class DigitalOcean(Provider):
    limits = SERVICES["digitalocean"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self._zone = access.zone
        token = str(credentials["api_token"])
        self._rest = Rest(
            access.client(str(credentials.get("url") or _URL), {"Authorization": f"Bearer {token}"}),
            "DigitalOcean",
            access,
            key_remedy="correct api_token in the credentials",
            access_remedy="give the token the scopes domain:read, domain:create, domain:update and domain:delete",
            refusal=self._refusal,
            throttle=Throttle.of(f"digitalocean {token}", self.limits.requests_per_second),
        )
        self._path = f"/v2/domains/{urllib.parse.quote(access.zone, safe='')}/records"
        self._records: dict[Key, dict[int, _Record]] = {}
        self._id: Optional[int] = None  # of the record that is being changed

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        self._id = None
        few = frozenset(names) if names is not None and len(names) <= _FEW else None
        self._records = {key: some for key, some in self._records.items() if few is not None and key[0] not in few}
        for query in [{}] if few is None else [{"name": name} for name in sorted(few)]:
            for record in self._pages(query):
                self._remember(record)
        return {
            key: RecordSet.of(*key, min(each.ttl for each in some.values()), (each.value for each in some.values()))
            for key, some in self._records.items()
            if few is None or key[0] in few
        }

    def cost(self, change: Change) -> int:
        return len(list(self._edits(change)))

    def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            for method, number, body in list(self._edits(change)):
                self._id = number
                answer = self._rest.json(method, self._path if number is None else f"{self._path}/{number}", body)
                if method == "DELETE" and number is not None:
                    del self._records[change.key][number]
                else:
                    self._remember(required(answer, dict, self._rest, "the record").get("domain_record"))
            if not self._records.get(change.key, True):
                del self._records[change.key]

    def close(self) -> None:
        self._rest.close()

    def _pages(self, query: dict[str, str]) -> Iterator[Any]:
        for page in self._rest.pages():
            asked = urllib.parse.urlencode({**query, "per_page": str(_PAGE), "page": str(page)})
            answer = required(self._rest.json("GET", f"{self._path}?{asked}"), dict, self._rest, "the list")
            yield from required(answer.get("domain_records"), list, self._rest, "domain_records")
            links = required(answer.get("links"), dict, self._rest, "links")
            if "next" not in (links.get("pages") or {}):
                break

    def _remember(self, record: Any) -> None:
        try:
            name = rrset.canonical_name(record["name"])
            key = (self._zone if name == "@" else f"{name}.{self._zone}", str(record["type"]))
            if key[1] != "SOA":
                self._records.setdefault(key, {})[record["id"]] = _Record(
                    record["id"], self._value(record), int(record["ttl"])
                )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._rest.garbled(type(error).__name__) from error

    def _edits(self, change: Change) -> Iterator[tuple[str, Optional[int], Optional[dict[str, Any]]]]:
        """Method, id and body of each request. New values take the place of old ones; the rest comes before they go."""
        name, rtype = change.key
        relative = name[: -len(self._zone) - 1] or "@"
        ttl = change.after.ttl if change.after else 0
        standing = self._records.get(change.key, {}).values()
        removed = frozenset(change.removed)
        old = [each for each in standing if each.value in removed]
        new = [{"type": rtype, "name": relative, "ttl": ttl, **_data(change.key, value)} for value in change.added]
        for body in new[len(old) :]:
            yield "POST", None, body
        for each, body in zip(old, new):
            yield "PATCH", each.id, body
        for each in old[len(new) :]:
            yield "DELETE", each.id, None
        for each in standing:
            if change.retimed and each.value not in removed and each.ttl != ttl:
                yield "PATCH", each.id, {"type": rtype, "ttl": ttl}

    def _refusal(self, status: int, answer: Any) -> Optional[ProviderError]:
        if status == 404 and self._id is not None:
            return Conflict(f"a record is gone (HTTP {status}{message(answer)})")
        return None

    def _value(self, record: dict[str, Any]) -> str:
        rtype, text = str(record["type"]), str(record["data"])
        if rtype in _NAMED:
            text = f"{self._zone}." if text == "@" else f"{text.rstrip('.')}."
        if rtype == "TXT":
            # Long values that were pasted in as strings of a zone file.
            return txt.parse(text) if _QUOTED.match(text) else text
        if rtype == "MX":
            text = f"{record['priority']} {text}"
        elif rtype == "SRV":
            text = f"{record['priority']} {record['weight']} {record['port']} {text}"
        elif rtype == "CAA":
            text = f"{record['flags']} {record['tag']} {txt.quote(text.rstrip('.'))}"
        try:
            return rrset.canonical(rtype, text)
        except ValueError:
            return text  # foreign data that we would not write


def _data(key: Key, value: str) -> dict[str, Any]:
    """The fields of a value, all of them: the description wants those that a type has not as null."""
    fields: dict[str, Any] = dict.fromkeys(("priority", "weight", "port", "flags", "tag"))
    text = rrset.presentation(key[1], value)
    if key[1] == "TXT":
        if not _PLAIN.match(value):
            raise Permanent(
                f"record {' '.join(key)}: DigitalOcean cannot hold the value {text}",
                "it takes printable ASCII without backslashes, and no empty text",
                "write another value, or have another service run the zone",
            )
        return {**fields, "data": value}
    if key[1] == "CAA":
        flags, tag, word = text.split(None, 2)
        word = txt.parse(word)
        return {**fields, "flags": int(flags), "tag": tag, "data": f"{word}." if tag in _ISSUE else word}
    *numbers, data = text.split()
    names = {"MX": ("priority",), "SRV": ("priority", "weight", "port")}.get(key[1], ())
    return {**fields, **dict(zip(names, map(int, numbers))), "data": data}


def open_zone(access: Access) -> DigitalOcean:
    return DigitalOcean(access)
