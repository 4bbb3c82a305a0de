# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hetzner by the Cloud API v1 (docs.hetzner.cloud/reference/cloud#zone-rrsets), not by the older DNS Console API.

A record set is changed by actions that add and remove single values, so what somebody else added meanwhile survives;
there is no compare-and-swap beyond that. Actions end some time after their request was answered.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, Optional

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
    Transient,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import LONG, Rest, Throttle, message, required

_URL = "https://api.hetzner.cloud/v1"
_PAGE = 100  # the most that this list allows
_FEW = 5  # names that are asked one by one rather than with the whole zone
_LOOKS = 20  # at an action that runs
_LOOKS_PER_SECOND = 2.0
_RELATIVE = frozenset(("CNAME", "MX", "NS", "PTR", "SRV"))  # types whose value ends with a name


class _Standing(NamedTuple):
    ttl: Optional[int]  # None: the zone's
    texts: dict[str, list[str]]  # by canonical value, as they stand
    protected: bool


class Hetzner(Provider):
    limits = SERVICES["hetzner"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self._zone = access.zone
        token = str(credentials["api_token"])
        self._rest = Rest(
            access.client(str(credentials.get("url") or _URL), {"Authorization": f"Bearer {token}"}),
            "Hetzner",
            access,
            key_remedy="correct api_token in the credentials; it is one of the Cloud Console, of the zone's project",
            access_remedy="give the token the permission to read and write",
            refusal=self._refusal,
        )
        self._path = f"/zones/{urllib.parse.quote(access.zone, safe='')}"
        self._ttl: Optional[int] = None
        self._standing: dict[Key, _Standing] = {}
        self._creates = True

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        ttl = self._ttl = self._zone_ttl() if self._ttl is None else self._ttl
        self._creates = True
        few = frozenset(names) if names is not None and len(names) <= _FEW else None
        self._standing = {key: some for key, some in self._standing.items() if few is not None and key[0] not in few}
        for query in [{}] if few is None else [{"name": self._relative(name)} for name in sorted(few)]:
            for rrset in self._pages(query):
                self._remember(rrset)
        return {
            key: RecordSet.of(*key, ttl if some.ttl is None else some.ttl, some.texts)
            for key, some in self._standing.items()
            if few is None or key[0] in few
        }

    def cost(self, change: Change) -> int:
        self._check(change)
        return 1

    def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._check(change)
            self._creates = change.before is None
            for action, body in self._actions(change):
                self._act(change.key, action, body)
            self._settle(change)

    def close(self) -> None:
        self._rest.close()

    def _zone_ttl(self) -> int:
        """What record sets have that name none."""
        answer = required(self._rest.json("GET", self._path), dict, self._rest, "the zone")
        zone = required(answer.get("zone"), dict, self._rest, "the zone")
        if zone.get("mode") != "primary":
            raise Permanent(
                f"the zone {self._zone} is in mode {zone.get('mode')} here",
                "its records come from another server, which would overwrite every change",
                "name that server as its provider",
            )
        ttl: int = required(zone.get("ttl"), int, self._rest, "the TTL of the zone")
        return ttl

    def _pages(self, query: dict[str, str]) -> Iterator[Any]:
        page = 1
        for _number in self._rest.pages():
            asked = urllib.parse.urlencode({**query, "page": str(page), "per_page": str(_PAGE)})
            answer = required(self._rest.json("GET", f"{self._path}/rrsets?{asked}"), dict, self._rest, "the list")
            yield from required(answer.get("rrsets"), list, self._rest, "rrsets")
            try:
                following = answer["meta"]["pagination"]["next_page"]
            except (KeyError, TypeError) as error:
                raise self._rest.garbled("next_page is missing") from error
            if not following:
                break
            page = required(following, int, self._rest, "next_page")

    def _remember(self, rrset: Any) -> None:
        try:
            key = (self._absolute(rrset["name"]), str(rrset["type"]))
            if key[1] == "SOA":
                return
            texts: dict[str, list[str]] = {}
            for record in rrset["records"]:
                texts.setdefault(self._canonical(key[1], record["value"]), []).append(record["value"])
            ttl = rrset["ttl"] if rrset["ttl"] is None else int(rrset["ttl"])
            self._standing[key] = _Standing(ttl, texts, bool((rrset.get("protection") or {}).get("change")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._rest.garbled(type(error).__name__) from error

    def _check(self, change: Change) -> None:
        standing = self._standing.get(change.key)
        if standing and standing.protected:
            raise Permanent(
                f"record {' '.join(change.key)} is protected",
                "somebody protected it from changes",
                "take the protection off in the Cloud Console, or take the record out of the fleet file",
            )

    def _actions(self, change: Change) -> Iterator[tuple[str, dict[str, Any]]]:
        """Actions and their bodies, new values before old ones leave."""
        rtype, after = change.key[1], change.after
        standing = self._standing.get(change.key)
        added = [{"value": records.presentation(rtype, value)} for value in change.added]
        removed = [{"value": text} for value in change.removed if standing for text in standing.texts.get(value, ())]
        if rtype == "CNAME" and added and removed:
            yield "set_records", {"records": added}  # of an alias there is one
            added, removed = [], []
        if added and after:
            ttl = standing.ttl if standing else after.ttl  # has to be the one that it has
            yield "add_records", {"records": added} if ttl is None else {"records": added, "ttl": ttl}
        if removed:
            yield "remove_records", {"records": removed}
        if change.retimed and after:
            yield "change_ttl", {"ttl": after.ttl}

    def _act(self, key: Key, action: str, body: dict[str, Any]) -> None:
        """Starts an action and waits for its end: what was written shows only then."""
        name = urllib.parse.quote(self._relative(key[0]), safe="@")
        answer = self._rest.json("POST", f"{self._path}/rrsets/{name}/{key[1]}/actions/{action}", body)
        pace = Throttle(_LOOKS_PER_SECOND)
        for _look in range(_LOOKS):
            running = required(answer, dict, self._rest, "the action").get("action")
            status = required(running, dict, self._rest, "the action").get("status")
            if status == "success":
                return
            if status != "running":
                raise Conflict(f"the action {action} of {' '.join(key)} failed{message(running)}")
            pace.wait()
            answer = self._rest.json("GET", f"/actions/{required(running.get('id'), int, self._rest, 'its id')}")
        raise Transient(
            f"the action {action} of {' '.join(key)} has not ended",
            "the service takes its time, or has a problem",
            "look at its status and run again",
        )

    def _settle(self, change: Change) -> None:
        """What stands after ``change``, for the next one that is about it before anybody reads again."""
        standing = self._standing.pop(change.key, None)
        if change.after:
            had = standing.texts if standing else {}
            texts = {
                value: had.get(value) or [records.presentation(change.key[1], value)] for value in change.after.values
            }
            kept = standing and not change.retimed
            self._standing[change.key] = _Standing(
                standing.ttl if standing and kept else change.after.ttl, texts, False
            )

    def _refusal(self, status: int, answer: Any) -> Optional[ProviderError]:
        error = answer.get("error") if isinstance(answer, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        said = f"HTTP {status}{message(answer)}{_details(error)}"
        if code == "locked" or (status == 404 and not self._creates):
            return Conflict(f"the record set is being changed or gone ({said})")
        if status == 422 and self._creates and "ttl" in said.lower():
            return Conflict(f"the record set exists by now, with another TTL ({said})")
        if status in (400, 422, 423):
            return Permanent(f"the Hetzner API refused the request ({said})", "it says so", "correct what it names")
        return None

    def _canonical(self, rtype: str, text: str) -> str:
        if rtype in _RELATIVE and not text.endswith("."):
            text = f"{text}.{self._zone}"
        return records.as_read(rtype, text)

    def _relative(self, name: str) -> str:
        return name[: -len(self._zone) - 1] or "@"

    def _absolute(self, name: str) -> str:
        return self._zone if name == "@" else f"{records.canonical_name(name)}.{self._zone}"


def _details(error: Any) -> str:
    """Which field is wrong, as answers of code ``invalid_input`` have it."""
    try:
        fields = error["details"]["fields"]
        texts = [f"{field['name']}: {' '.join(map(str, field['messages']))}" for field in fields]
    except (KeyError, TypeError):
        return ""
    return f" ({shortened('; '.join(texts), LONG)})"


def open_zone(access: Access) -> Hetzner:
    return Hetzner(access)
