# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloudflare by its API v4 (developers.cloudflare.com/api/resources/dns/subresources/records). One batch is one
transaction.

The service keeps single records, each with an id, a TTL, a comment and tags. Only records that a change is about are
written, so what somebody else added meanwhile survives; there is no compare-and-swap beyond that.
"""

from __future__ import annotations

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
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Rest, members, message

_URL = "https://api.cloudflare.com/client/v4"
_PAGE = 1000
_FEW = 3  # names that are asked one by one: a request for each, where a thousand records come in one
_AUTOMATIC = 1  # as a TTL, which then is 300 seconds
# Types whose data are written in parts; the texts among these parts.
_PARTS = {
    "CAA": ("flags", "tag", "value"),
    "DS": ("key_tag", "algorithm", "digest_type", "digest"),
    "SMIMEA": ("usage", "selector", "matching_type", "certificate"),
    "SRV": ("priority", "weight", "port", "target"),
    "SSHFP": ("algorithm", "type", "fingerprint"),
    "TLSA": ("usage", "selector", "matching_type", "certificate"),
}
_TEXTS = frozenset(("tag", "value", "digest", "certificate", "target", "fingerprint"))
_NOT_AS_READ = frozenset(("81044", "81057", "81058"))  # the record is gone, or is there already
_WRONG_KEY = frozenset(("1000", "6003", "6111", "9109"))
_NOT_SERVED = {
    "secondary": "its primary would overwrite every change",
    "partial": "another service answers for this zone (CNAME setup)",
}


class _Record(NamedTuple):
    id: str
    value: str  # canonical
    ttl: int
    proxied: bool
    locked: bool


class Cloudflare(Provider):
    limits = SERVICES["cloudflare"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self._zone = access.zone
        token = str(credentials["api_token"])
        self._rest = Rest(
            access.client(str(credentials.get("url") or _URL), {"Authorization": f"Bearer {token}"}),
            "Cloudflare",
            access,
            key_remedy="correct api_token in the credentials",
            access_remedy="give the token the permissions Zone Read and DNS Write for this zone",
            refusal=self._refusal,
        )
        self._path = ""
        self._records: dict[Key, dict[str, _Record]] = {}

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        self._path = self._path or f"/zones/{self._zone_id()}/dns_records"
        few = frozenset(names) if names is not None and len(names) <= _FEW else None
        self._records = {key: some for key, some in self._records.items() if few is not None and key[0] not in few}
        for query in [{}] if few is None else [{"name.exact": name} for name in sorted(few)]:
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
        body: dict[str, list[dict[str, Any]]] = {}
        for change in changes:
            for operation, edit in self._edits(change):
                body.setdefault(operation, []).append(edit)
        answer = self._result(self._rest.json("POST", f"{self._path}/batch", body), dict)
        # The ids of new records: the next batch may be about them before anybody reads again.
        for change in changes:
            for operation, edit in self._edits(change):
                if operation == "deletes":
                    del self._records[change.key][edit["id"]]
            if not self._records.get(change.key, True):
                del self._records[change.key]
        for operation in ("patches", "posts"):
            for record in answer.get(operation) or ():
                self._remember(record)

    def close(self) -> None:
        self._rest.close()

    def _zone_id(self) -> str:
        query = urllib.parse.urlencode({"name": self._zone})
        found = self._result(self._rest.json("GET", f"/zones?{query}"), list)
        if len(found) != 1:
            raise Permanent(
                f"the token sees {'several zones' if found else 'no zone'} {self._zone} in Cloudflare",
                "zones are made by their operator, not by a run",
                "create the zone, or give the token Zone Read and DNS Write for exactly one zone of this name",
            )
        try:
            zone_id, kind = str(found[0]["id"]), str(found[0].get("type"))
        except (KeyError, TypeError, AttributeError) as error:
            raise self._rest.garbled(type(error).__name__) from error
        if kind in _NOT_SERVED:
            raise Permanent(
                f"the zone {self._zone} is of type {kind} here",
                _NOT_SERVED[kind],
                "name the service that answers for it as its provider",
            )
        return zone_id

    def _pages(self, query: dict[str, str]) -> Iterator[Any]:
        for page in self._rest.pages():
            asked = urllib.parse.urlencode({**query, "per_page": str(_PAGE), "page": str(page)})
            answer = self._rest.json("GET", f"{self._path}?{asked}")
            yield from self._result(answer, list)
            try:
                pages = int(answer["result_info"]["total_pages"])
            except (KeyError, TypeError, ValueError) as error:
                raise self._rest.garbled("total_pages is missing") from error
            if page >= pages:
                break

    def _result(self, answer: Any, kind: type) -> Any:
        if not isinstance(answer, dict) or not isinstance(answer.get("result"), kind):
            raise self._rest.garbled("its result is missing")
        return answer["result"]

    def _remember(self, record: Any) -> None:
        try:
            key = (rrset.canonical_name(record["name"]), str(record["type"]))
            if key[1] == "SOA":
                return
            self._records.setdefault(key, {})[record["id"]] = _Record(
                record["id"],
                _value(record),
                300 if record["ttl"] == _AUTOMATIC else int(record["ttl"]),
                bool(record.get("proxied")),
                bool((record.get("meta") or {}).get("read_only")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._rest.garbled(type(error).__name__) from error

    def _edits(self, change: Change) -> Iterator[tuple[str, dict[str, Any]]]:
        """Operations of a batch. A record gets a new value rather than to be replaced: it keeps comment and tags, and
        no resolver sees neither, for the service spreads each record on its own.
        """
        name, rtype = change.key
        ttl = change.after.ttl if change.after else 0
        bare = {"name": name, "type": rtype, "ttl": ttl}
        standing = self._records.get(change.key, {}).values()
        removed = frozenset(change.removed)
        old = [each for each in standing if each.value in removed]
        late = [each for each in standing if each.value not in removed and change.retimed and each.ttl != ttl]
        for each in standing:
            if each.proxied or (each.locked and (each in old or each in late)):
                raise _untouchable(change.key, each)
        new = [{**bare, **_content(rtype, value)} for value in change.added]
        for each, content in zip(old, new):
            yield "patches", {"id": each.id, **content}
        for each in old[len(new) :]:
            yield "deletes", {"id": each.id}
        for content in new[len(old) :]:
            yield "posts", content
        for each in late:
            yield "patches", {"id": each.id, **bare}

    def _refusal(self, status: int, answer: Any) -> Optional[ProviderError]:
        codes = {str(each.get("code")) for each in members(answer, "errors")}
        said = f"HTTP {status}{message(answer)}"
        if codes & _NOT_AS_READ:
            return Conflict(f"a record is not as it was read ({said})")
        if codes & _WRONG_KEY:
            return Permanent(
                f"the Cloudflare API refused the key ({said})",
                "it is not valid",
                "correct api_token in the credentials",
            )
        return None


def _untouchable(key: Key, record: _Record) -> Permanent:
    if record.proxied:
        return Permanent(
            f"record {' '.join(key)} {record.value} is proxied",
            "Cloudflare answers with addresses of its own instead, so it is no record that mail can use",
            "set it to DNS only in Cloudflare, or take the name out of the fleet file",
        )
    return Permanent(
        f"record {' '.join(key)} {record.value} is locked",
        "a feature of Cloudflare, such as Email Routing, keeps it and refuses changes",
        "turn that feature off there, or take the record out of the fleet file",
    )


def _value(record: dict[str, Any]) -> str:
    rtype, data = record["type"], record.get("data")
    if rtype == "MX":
        text = f"{record['priority']} {record['content']}"
    elif rtype in _PARTS and data:
        text = " ".join(txt.quote(data[part]) if part == "value" else str(data[part]) for part in _PARTS[rtype])
    else:
        text = record["content"]
    try:
        return rrset.canonical(rtype, text)
    except ValueError:
        return str(text)  # foreign data that we would not write


def _content(rtype: str, value: str) -> dict[str, Any]:
    text = rrset.presentation(rtype, value)
    if rtype == "TXT":
        return {"content": text}
    if rtype == "MX":
        priority, target = text.split()
        return {"priority": int(priority), "content": _relative(target)}
    if rtype not in _PARTS:
        return {"content": _relative(text)}
    parts = _PARTS[rtype]
    data: dict[str, Any] = dict(zip(parts, text.split(None, len(parts) - 1)))
    for part, word in data.items():
        data[part] = word if part in _TEXTS else int(word)
    if "value" in data:
        data["value"] = txt.parse(data["value"])
    if "target" in data:
        data["target"] = _relative(data["target"])
    return {"data": data}


def _relative(name: str) -> str:
    """A name as the service keeps it, without the final dot; the root is a dot."""
    return name.rstrip(".") or "."


def open_zone(access: Access) -> Cloudflare:
    return Cloudflare(access)
