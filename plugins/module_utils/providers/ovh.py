# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OVHcloud by its API (api.ovh.com/console/#/domain/zone): a record for each value, and a refresh that deploys them.

Records are read fifty at once (its batch mode), and made, altered and deleted one by one, which leaves a value that
somebody else added meanwhile alone. What is changed is served only after the refresh; where that was not confirmed, the
next read asks for it again. A read that broke off goes on where it was: it takes many requests in a large zone.
"""

from __future__ import annotations

import hashlib
import json
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Permanent,
    Provider,
    ProviderError,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Rest, message, required

URL = "https://eu.api.ovh.com/1.0"
_JSON = json.JSONEncoder(separators=(",", ":"))
_FEW = 3  # names that are looked at alone: two requests for each
_BATCH = 50
_DEFAULT_TTL = 3600  # of a record whose ttl is 0
_TEXTS = ("DKIM", "DMARC", "SPF")  # forms of its console that are served as TXT
# Types whose data end in a name, which may be relative to the zone.
_NAMES = frozenset(("CNAME", "DNAME", "MX", "NS", "PTR", "SRV"))
_WRONG_KEY = ("INVALID_CREDENTIAL", "INVALID_KEY", "INVALID_SIGNATURE", "NOT_CREDENTIAL")


class _Record(NamedTuple):
    id: int
    kind: str  # the service's word for the type
    value: str
    target: str
    ttl: int


@dataclass
class _Reading:
    """How far a read has come. ``few``: the names that are looked at, None for all."""

    few: Optional[frozenset[str]]
    queries: list[str]
    numbers: list[Any] = field(default_factory=list)
    records: dict[Key, dict[int, _Record]] = field(default_factory=dict)


class Ovh(Provider):
    limits = SERVICES["ovh"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self._zone = access.zone
        self._secrets = (str(credentials["application_secret"]), str(credentials["consumer_key"]))
        self._url = str(credentials.get("url") or URL).rstrip("/")
        self._rest = Rest(
            access.client(self._url, {"X-Ovh-Application": str(credentials["application_key"])}),
            "OVHcloud",
            access,
            key_remedy="correct application_key, application_secret and consumer_key in the credentials",
            access_remedy="let the consumer key GET, POST, PUT and DELETE /domain/zone/<zone>/*",
            refusal=self._refusal,
        )
        self._path = f"/domain/zone/{urllib.parse.quote(access.zone, safe='')}"
        self.clock: Callable[[], float] = time.time
        self._ahead: Optional[int] = None  # seconds by which its clock is ahead of ours
        self._records: dict[Key, dict[int, _Record]] = {}
        self._change: Optional[Change] = None
        # What stood, before writes that are not known to be deployed, where they write.
        self._before: dict[Key, dict[int, _Record]] = {}
        self._reading: Optional[_Reading] = None

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        self._change = None
        few = frozenset(names) if names is not None and len(names) <= _FEW and not self._before else None
        if self._reading is None or self._reading.few != few:
            self._reading = _Reading(few, [""] if few is None else list(map(self._filter, sorted(few))))
        reading = self._reading
        try:
            self._go_on(reading)
            kept = {} if few is None else {key: some for key, some in self._records.items() if key[0] not in few}
            self._records = {**kept, **reading.records}
            if any(self._records.get(key, {}) != some for key, some in self._before.items()):
                self._refresh()
        except (Conflict, Permanent):
            self._reading = None
            raise
        self._before = {}
        self._reading = None
        return {
            key: RecordSet.of(*key, min(each.ttl for each in some.values()), (each.value for each in some.values()))
            for key, some in self._records.items()
            if some and (few is None or key[0] in few)
        }

    def cost(self, change: Change) -> int:
        return 1

    def write(self, changes: Sequence[Change]) -> None:
        self._reading = None
        for change in changes:
            _check(change)
        for change in changes:
            self._before.setdefault(change.key, dict(self._records.get(change.key, {})))
            self._change = change
            self._make(change)
        self._change = None
        self._refresh()

    def close(self) -> None:
        self._rest.close()

    def _go_on(self, reading: _Reading) -> None:
        path = f"{self._path}/record"
        while reading.queries:
            listed = self._call("GET", path + reading.queries[-1])
            reading.numbers.extend(required(listed, list, self._rest, "the list of records"))
            reading.queries.pop()
        while reading.numbers:
            numbers = [str(required(number, int, self._rest, "an id")) for number in reading.numbers[:_BATCH]]
            answer = self._call("GET", f"{path}/{','.join(numbers)}", batch=True)
            for item in required(answer, list, self._rest, "the batch of records"):
                if not isinstance(item, dict) or "value" not in item:
                    raise self._rest.garbled("a batch is not made of values")
                if item["value"] is None:
                    raise Conflict(f"a record went away while the zone was read{message(item)}")
                self._remember(item["value"], reading.records)
            del reading.numbers[:_BATCH]

    def _call(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, batch: bool = False) -> Any:
        if self._ahead is None:
            self._ahead = required(self._rest.json("GET", "/auth/time"), int, self._rest, "the time") - int(
                self.clock()
            )
        text = "" if body is None else _JSON.encode(body)
        now = str(int(self.clock()) + self._ahead)
        signed = "+".join((*self._secrets, method, f"{self._url}{path}", text, now))
        headers = {
            "X-Ovh-Consumer": self._secrets[1],
            "X-Ovh-Timestamp": now,
            "X-Ovh-Signature": f"$1${hashlib.sha1(signed.encode('utf-8')).hexdigest()}",
            **({"X-Ovh-Batch": ","} if batch else {}),
        }
        return self._rest.decoded(self._rest.send(method, path, text.encode("ascii") if text else None, headers))

    def _refresh(self) -> None:
        self._call("POST", f"{self._path}/refresh")
        self._before = {}

    def _make(self, change: Change) -> None:
        """New values before old ones leave; a record takes a new value rather than to be replaced."""
        name, rtype = change.key
        ttl = change.after.ttl if change.after else 0
        standing = list(self._records.get(change.key, {}).values())
        removed = frozenset(change.removed)
        old = [each for each in standing if each.value in removed]
        reused = [each for each in old if each.kind == rtype][: len(change.added)]
        for each, value in zip(reused, change.added):
            self._alter(change.key, each, _target(rtype, value), ttl)
        for value in change.added[len(reused) :]:
            body = {"fieldType": rtype, "subDomain": self._subdomain(name), "target": _target(rtype, value), "ttl": ttl}
            self._remember(self._call("POST", f"{self._path}/record", body), self._records)
        for each in standing:
            if each not in old and change.retimed and each.ttl != ttl:
                self._alter(change.key, each, each.target, ttl)
        for each in old:
            if each not in reused:
                self._call("DELETE", f"{self._path}/record/{each.id}")
                del self._records[change.key][each.id]

    def _alter(self, key: Key, record: _Record, target: str, ttl: int) -> None:
        body = {"subDomain": self._subdomain(key[0]), "target": target, "ttl": ttl}
        self._call("PUT", f"{self._path}/record/{record.id}", body)
        value = self._canonical(key[1], target)
        self._records[key][record.id] = record._replace(value=value, target=target, ttl=ttl)

    def _remember(self, record: Any, found: dict[Key, dict[int, _Record]]) -> None:
        try:
            label, kind, target = (
                str(record["subDomain"] or "").lower(),
                str(record["fieldType"]),
                str(record["target"]),
            )
            made = _Record(int(record["id"]), kind, "", target, int(record["ttl"] or _DEFAULT_TTL))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._rest.garbled(type(error).__name__) from error
        if kind == "SOA":
            return
        key = (f"{label}.{self._zone}" if label else self._zone, "TXT" if kind in _TEXTS else kind)
        found.setdefault(key, {})[made.id] = made._replace(value=self._canonical(key[1], target))

    def _canonical(self, rtype: str, target: str) -> str:
        full = target
        if rtype in _NAMES and not target.endswith("."):
            *numbers, name = target.split(" ")
            full = " ".join([*numbers, f"{name}.{self._zone}."])
        try:
            return records.canonical(rtype, full)
        except ValueError:
            return target  # foreign data that we would not write

    def _filter(self, name: str) -> str:
        return f"?subDomain={urllib.parse.quote(self._subdomain(name), safe='')}"

    def _subdomain(self, name: str) -> str:
        return name[: -len(self._zone)].rstrip(".")

    def _refusal(self, status: int, answer: Any) -> Optional[ProviderError]:
        code = str(answer.get("errorCode") if isinstance(answer, dict) else "")
        said = f"HTTP {status}{f' {code}' if code else ''}{message(answer)}"
        if code in _WRONG_KEY:
            return Permanent(
                f"the OVHcloud API refused the key ({said})",
                "it is not a valid one, or belongs to another of its regions",
                "correct application_key, application_secret and consumer_key, or url, in the credentials",
            )
        if status == 404 and "requested object" in said:
            return Conflict(f"somebody deleted a record meanwhile ({said})")
        if self._change and status in (400, 422):
            return Permanent(
                f"the OVHcloud API refused {' '.join(self._change.key)} ({said})",
                "the service says so",
                "correct the record",
            )
        return None


def _check(change: Change) -> None:
    """Raises Permanent for texts that the service spoils."""
    for value in change.added:
        if change.key[1] == "TXT" and not (value.isascii() and value.isprintable() and not set(value) & {'"', "\\"}):
            raise Permanent(
                f"{change.key[0]} TXT: OVHcloud cannot hold {value[:60]!r}",
                "its API takes no quotes, backslashes and no bytes beyond printable ASCII in a text",
                "use other characters, or serve the zone by another provider",
            )


def _target(rtype: str, value: str) -> str:
    """A text of any length is one quoted string here; the service cuts it itself."""
    return f'"{value}"' if rtype == "TXT" else records.presentation(rtype, value)


def open_zone(access: Access) -> Ovh:
    return Ovh(access)
