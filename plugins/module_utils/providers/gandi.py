# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gandi LiveDNS by its REST API v5 (api.gandi.net/docs/livedns). One request makes one record set.

A record set is created only where none stands; for updates the API has no compare-and-swap, so the caller reads again.
"""

from __future__ import annotations

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
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import (
    LONG,
    Rest,
    Throttle,
    members,
    message,
    required,
)

URL = "https://api.gandi.net/v5"
_PAGE = 500
_FEW = 3  # names that are asked one by one: a request for each, where 500 record sets come in one
# Types whose data end in a name, which may be relative to the zone.
_NAMES = frozenset(("ALIAS", "CNAME", "DNAME", "MX", "NS", "PTR", "SRV"))


class Gandi(Provider):
    limits = SERVICES["gandi"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        token = str(credentials["api_token"])
        self._zone = access.zone
        self._rest = Rest(
            access.client(str(credentials.get("url") or URL), {"Authorization": f"Bearer {token}"}),
            "Gandi",
            access,
            key_remedy="correct api_token in the credentials, or renew the token",
            access_remedy="let the token manage the domain's technical configurations",
            refusal=self._refusal,
            throttle=Throttle.of(f"gandi {token}", self.limits.requests_per_second),
        )
        self._path = f"/livedns/domains/{urllib.parse.quote(access.zone, safe='')}/records"
        self._contents: dict[Key, dict[str, str]] = {}
        self._change: Optional[Change] = None

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        self._change = None
        self._contents = {}
        state: dict[Key, RecordSet] = {}
        few = names is not None and len(names) <= _FEW
        for name in sorted(set(names or ())) if few else [None]:
            for rrset in self._pages("" if name is None else f"&rrset_name={urllib.parse.quote(self._label(name))}"):
                try:
                    record_set = self._record_set(rrset)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise self._rest.garbled(type(error).__name__) from error
                if record_set.type != "SOA":
                    state[record_set.key] = record_set
        return state

    def cost(self, change: Change) -> int:
        return 1

    def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._change = change
            self._make(change)

    def close(self) -> None:
        self._rest.close()

    def _pages(self, query: str) -> Iterator[Any]:
        seen = 0
        for page in self._rest.pages():
            response = self._rest.send("GET", f"{self._path}?page={page}&per_page={_PAGE}{query}")
            listed = required(self._rest.decoded(response), list, self._rest, "the list of record sets")
            yield from listed
            seen += len(listed)
            told = response.headers.get("total-count", "")
            if not listed or not (told.isascii() and told.isdigit()) or seen >= int(told):
                break

    def _record_set(self, rrset: dict[str, Any]) -> RecordSet:
        label, rtype = str(rrset["rrset_name"]).lower(), str(rrset["rrset_type"])
        name = self._zone if label == "@" else f"{label}.{self._zone}"
        contents = {self._canonical(rtype, content): content for content in rrset["rrset_values"]}
        self._contents[name, rtype] = contents
        return RecordSet.of(name, rtype, int(rrset["rrset_ttl"]), contents)

    def _canonical(self, rtype: str, content: str) -> str:
        full = content
        if rtype in _NAMES and not content.endswith("."):
            *numbers, target = content.split(" ")
            full = " ".join([*numbers, f"{self._zone}." if target == "@" else f"{target}.{self._zone}."])
        try:
            return records.canonical(rtype, full)
        except ValueError:
            return content  # foreign data that we would not write

    def _label(self, name: str) -> str:
        return name[: -len(self._zone)].rstrip(".") or "@"

    def _make(self, change: Change) -> None:
        name, rtype = change.key
        path = f"{self._path}/{urllib.parse.quote(self._label(name), safe='@*')}/{rtype}"
        if change.after is None:
            self._rest.send("DELETE", path)
            return
        had = self._contents.get(change.key, {})
        values = [had.get(value) or records.presentation(rtype, value) for value in change.after.values]
        body = {"rrset_ttl": change.after.ttl, "rrset_values": values}
        self._rest.json("PUT" if change.before else "POST", path, body)

    def _refusal(self, status: int, answer: Any) -> Optional[ProviderError]:
        if self._change is None:
            return None
        where = " ".join(self._change.key)
        if status == 404 and self._change.after is None:
            return Conflict(f"{where} was deleted by somebody else")
        if status != 400:
            return None
        said = "; ".join(f"{error.get('name')}: {error.get('description')}" for error in members(answer, "errors"))
        return Permanent(
            f"the Gandi API refused {where} (HTTP {status}{f': {shortened(said, LONG)}' if said else message(answer)})",
            "the service says so",
            "correct the record",
        )


def open_zone(access: Access) -> Gandi:
    return Gandi(access)
