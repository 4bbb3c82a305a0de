# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""deSEC by its REST API (desec.readthedocs.io/en/latest/dns/rrsets.html). One bulk PATCH is one transaction.

The API has no compare-and-swap, so the caller reads again after each write. An update names only what it changes:
a record set that somebody deleted meanwhile is then refused rather than made anew.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.core.foreign import shortened
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Permanent,
    Provider,
    ProviderError,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import LONG, Rest, Throttle, required

URL = "https://desec.io/api/v1"
_JSON = json.JSONEncoder(separators=(",", ":"))
_FEW = 3  # names that are asked one by one: reads are limited by the minute, and 500 record sets come in one
_GONE = "This field is required."


class Desec(Provider):
    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self.limits = SERVICES["desec"].limits
        self._zone = access.zone
        token = str(credentials["api_token"])
        self._rest = Rest(
            access.client(str(credentials.get("url") or URL), {"Authorization": f"Token {token}"}),
            "deSEC",
            access,
            key_remedy="correct api_token in the credentials",
            access_remedy="give the token a policy that may write these names and types of the domain",
            refusal=self._refusal,
            throttle=Throttle.of(f"desec {token}", self.limits.requests_per_second),
        )
        self._domain = f"/domains/{urllib.parse.quote(access.zone, safe='')}/"
        self._asked = False
        self._contents: dict[Key, dict[str, str]] = {}
        self._batch: Sequence[Change] = ()

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        if not self._asked:
            self._ask()
        self._contents = {}
        state: dict[Key, RecordSet] = {}
        few = names is not None and len(names) <= _FEW
        for query in [f"subname={self._subname(name)}&" for name in sorted(set(names or ()))] if few else [""]:
            for rrset in self._pages(query):
                try:
                    record_set = self._record_set(rrset)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise self._rest.garbled(type(error).__name__) from error
                state[record_set.key] = record_set
        return state

    def cost(self, change: Change) -> int:
        return len(_JSON.encode(self._rrset(change))) + 1

    def write(self, changes: Sequence[Change]) -> None:
        self._batch = changes
        self._rest.json("PATCH", f"{self._domain}rrsets/", [self._rrset(change) for change in changes])

    def close(self) -> None:
        self._rest.close()

    def _ask(self) -> None:
        """The smallest TTL differs from domain to domain."""
        domain = required(self._rest.json("GET", self._domain), dict, self._rest, "the domain")
        ttl_min = required(domain.get("minimum_ttl"), int, self._rest, "minimum_ttl")
        self.limits = dataclasses.replace(self.limits, ttl_min=ttl_min)
        self._asked = True

    def _pages(self, query: str) -> Iterator[Any]:
        query += "cursor="
        seen = set()
        for _number in self._rest.pages():
            seen.add(query)
            response = self._rest.send("GET", f"{self._domain}rrsets/?{query}")
            yield from required(self._rest.decoded(response), list, self._rest, "the list of record sets")
            query = _next(response.headers.get("link", ""))
            if not query or query in seen:
                break

    def _record_set(self, rrset: dict[str, Any]) -> RecordSet:
        key = (records.canonical_name(rrset["name"]), str(rrset["type"]))
        contents = {records.as_read(key[1], content): content for content in rrset["records"]}
        self._contents[key] = contents
        return RecordSet.of(*key, int(rrset["ttl"]), contents)

    def _subname(self, name: str) -> str:
        return name[: -len(self._zone)].rstrip(".")

    def _rrset(self, change: Change) -> dict[str, Any]:
        name, rtype = change.key
        rrset: dict[str, Any] = {"subname": self._subname(name), "type": rtype}
        if change.after is None:
            return {**rrset, "records": []}
        if change.before is None or change.retimed:
            rrset["ttl"] = change.after.ttl
        if change.before is None or change.before.values != change.after.values:
            had = self._contents.get(change.key, {})
            rrset["records"] = [had.get(value) or records.presentation(rtype, value) for value in change.after.values]
        return rrset

    def _refusal(self, status: int, answer: Any) -> Optional[ProviderError]:
        """The errors of a bulk request stand in the order of its record sets; those without have an empty one."""
        if status != 400 or not isinstance(answer, list):
            return None
        wrong = [(change, " ".join(_texts(errors))) for change, errors in zip(self._batch, answer) if errors]
        found = "; ".join(f"{change.key[0]} {change.key[1]}: {text}" for change, text in wrong[:5])
        if wrong and all(change.before and text == _GONE for change, text in wrong):
            return Conflict(f"somebody deleted what was to be updated ({found})")
        return Permanent(
            f"the deSEC API refused the request (HTTP {status}: {shortened(found, 2 * LONG)})",
            "nothing of this write was done",
            "correct the record it names",
        )


def _next(links: str) -> str:
    """The query of the page that follows (RFC 8288 3), or nothing; whatever host a link names, it is asked of ours."""
    for link in links.split(","):
        address, _semicolon, parameters = link.partition(";")
        if parameters.strip() == 'rel="next"':
            return address.strip().strip("<>").partition("?")[2]
    return ""


def _texts(errors: Any) -> Iterator[str]:
    if isinstance(errors, str):
        yield errors
    elif isinstance(errors, (list, dict)):
        for each in errors.values() if isinstance(errors, dict) else errors:
            yield from _texts(each)


def open_zone(access: Access) -> Desec:
    return Desec(access)
