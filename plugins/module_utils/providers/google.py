# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Google Cloud DNS by its API v1 (docs.cloud.google.com/dns/docs/reference/rest/v1).

A change deletes exactly what was read and adds the new, and happens as a whole: so it is refused where a record set is
no longer as it was read. A service account signs for a token (developers.google.com/identity/protocols/oauth2).
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.providers.oauth import Token
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Permanent,
    Provider,
    ProviderError,
    Throttled,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Rest, members, message
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import jwt

_URL = "https://dns.googleapis.com"
_TOKEN_URL = "https://oauth2.googleapis.com/token"
_SCOPE = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_HOUR = 3600  # seconds; the longest that an assertion may hold
_FEW = 20  # names that are asked one by one rather than with the whole zone
_BUSY = ("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded")
_KEY_REMEDY = "correct service_account in the credentials: the JSON key file of a service account"


class Google(Provider):
    limits = SERVICES["google"].limits

    def __init__(self, access: Access) -> None:
        credentials = access.credentials
        self._zone = access.zone
        self._managed_zone = str(access.options.get("managed_zone") or "")
        self._project = urllib.parse.quote(str(credentials["project"]), safe="")
        self._account = _account(credentials["service_account"])
        token_url = self._account.get("token_uri") or _TOKEN_URL
        self._token = Token(access, token_url, "Google", _KEY_REMEDY, self._assertion)
        self._rest = Rest(
            access.client(str(credentials.get("url") or _URL), {}),
            "Google Cloud DNS",
            access,
            key_remedy=_KEY_REMEDY,
            access_remedy="give the service account the role DNS Administrator on the managed zone",
            refusal=_refusal,
        )
        self._names: dict[Key, str] = {}
        self._raw: dict[Key, dict[str, list[str]]] = {}
        self._special: set[Key] = set()

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        self._names, self._raw, self._special = {}, {}, set()
        state: dict[Key, RecordSet] = {}
        queries = [{}] if names is None or len(names) > _FEW else [{"name": f"{name}."} for name in sorted(set(names))]
        try:
            self._managed_zone = self._managed_zone or self._found()
            for query in queries:
                for rrset in self._pages(f"/{self._managed_zone}/rrsets", "rrsets", query):
                    record_set = self._remember(rrset)
                    state[record_set.key] = record_set
        except (KeyError, TypeError, AttributeError) as error:
            raise self._rest.garbled(f"{type(error).__name__} {error}") from error
        if state.pop((self._zone, "SOA"), None) is None and names is None:
            raise Permanent(
                f"the managed zone {self._managed_zone} is not {self._zone}",
                "it belongs to another domain",
                "correct managed_zone in the options of the zone",
            )
        return state

    def cost(self, change: Change) -> int:
        """Bytes of record data, added and deleted."""
        sets = (self._rrset(change.key, some) for some in (change.before, change.after) if some)
        return sum(len(text) for rrset in sets for text in rrset["rrdatas"])

    def write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.key in self._special:
                raise Permanent(
                    f"record {' '.join(change.key)} has a routing policy",
                    "a plain record set would take its place",
                    "take it out of the fleet file, or remove it in Cloud DNS",
                )
        body = {
            "deletions": [self._rrset(change.key, change.before) for change in changes if change.before],
            "additions": [self._rrset(change.key, change.after) for change in changes if change.after],
        }
        self._request("POST", f"/{self._managed_zone}/changes", body)
        for change in changes:
            after = change.after
            self._raw[change.key] = {value: self._texts(change.key, value) for value in after.values} if after else {}

    def close(self) -> None:
        self._rest.close()
        self._token.close()

    def _assertion(self) -> Mapping[str, str]:
        now = int(time.time())
        claims = {
            "iss": self._account["client_email"],
            "scope": _SCOPE,
            "aud": self._account.get("token_uri") or _TOKEN_URL,
            "iat": now,
            "exp": now + _HOUR,
        }
        header = {"kid": self._account["private_key_id"]} if "private_key_id" in self._account else {}
        try:
            return {"grant_type": _GRANT, "assertion": jwt.rs256(header, claims, self._account["private_key"])}
        except ValueError as error:
            raise Permanent("private_key of the service account cannot be used", str(error), _KEY_REMEDY) from error
        except ImportError as error:
            raise Permanent(
                "the Python package cryptography is missing", str(error), "install it where this task runs"
            ) from error

    def _request(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """``path`` goes on from the managed zones of the project."""
        whole = f"/dns/v1/projects/{self._project}/managedZones{path}"
        answer = self._rest.json(method, whole, body, self._token.header())
        if not isinstance(answer, dict) or not str(answer.get("kind")).startswith("dns#"):
            raise self._rest.garbled("kind is missing")
        return answer

    def _pages(self, path: str, what: str, query: Mapping[str, str]) -> Iterator[Any]:
        page = dict(query)
        for _number in self._rest.pages():
            answer = self._request("GET", f"{path}?{urllib.parse.urlencode(page)}" if page else path)
            yield from answer.get(what) or ()
            if not answer.get("nextPageToken"):
                return
            page["pageToken"] = answer["nextPageToken"]

    def _found(self) -> str:
        query = urllib.parse.urlencode({"dnsName": f"{self._zone}."})
        zones = [
            each
            for each in self._request("GET", f"?{query}").get("managedZones") or ()
            if each.get("dnsName") == f"{self._zone}."
        ]
        public = [str(each.get("name")) for each in zones if each.get("visibility") != "private"]
        if len(public) == 1:
            return public[0]
        if zones:
            listed = ", ".join(sorted(str(each.get("name")) for each in zones))
            raise Permanent(
                f"{'several' if public else 'only private'} managed zones {self._zone} ({listed})",
                "it is not said which one is meant",
                "name one in managed_zone in the options of the zone",
            )
        raise Permanent(
            f"the project {self._project} has no managed zone {self._zone}",
            "zones are made by their operator, not by a run",
            "create the zone there, or correct zones in the fleet file",
        )

    def _remember(self, rrset: Mapping[str, Any]) -> RecordSet:
        key = (records.canonical_name(rrset["name"]), rrset["type"])
        self._names[key] = rrset["name"]
        if rrset.get("routingPolicy"):
            self._special.add(key)
            return RecordSet.of(*key, rrset.get("ttl", 0), ["a routing policy"])
        raw = self._raw[key] = {}
        for text in rrset["rrdatas"]:
            raw.setdefault(records.as_read(key[1], text), []).append(text)
        return RecordSet.of(*key, rrset["ttl"], raw)

    def _rrset(self, key: Key, some: RecordSet) -> dict[str, Any]:
        """A record set as it stands there, or as we would write it."""
        texts = [text for value in some.values for text in self._texts(key, value)]
        return {"name": self._names.get(key, f"{some.name}."), "type": some.type, "ttl": some.ttl, "rrdatas": texts}

    def _texts(self, key: Key, value: str) -> list[str]:
        return self._raw.get(key, {}).get(value) or [records.presentation(key[1], value)]


def _account(given: Any) -> dict[str, str]:
    """The key file of a service account, as text or decoded. Raises Permanent."""
    try:
        account = given if isinstance(given, Mapping) else json.loads(str(given))
        needed = {name: str(account[name]) for name in ("client_email", "private_key")}
    except (ValueError, KeyError, TypeError) as error:
        # The error may quote the key.
        raise Permanent("service_account cannot be used", type(error).__name__, _KEY_REMEDY) from None
    optional = {name: str(account[name]) for name in ("private_key_id", "token_uri") if account.get(name)}
    return {**needed, **optional}


def _refusal(status: int, answer: Any) -> Optional[ProviderError]:
    said = message(answer)
    # A record set that is gone has the status of a zone that is not there.
    if status == 404 and "entity.change." in said:
        return Conflict(f"a record set is not as it was read (HTTP {status}{said})")
    error = answer.get("error") if isinstance(answer, dict) else None
    reasons = [each.get("reason") for each in members(error, "errors")]
    if status == 403 and any(reason in _BUSY for reason in reasons):
        return Throttled(f"too many requests (HTTP {status}{said})", "the API limits them", "run again later")
    return None


def open_zone(access: Access) -> Google:
    return Google(access)
