# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests signed as AWS wants them: Signature Version 4 (docs.aws.amazon.com/IAM, "AWS Signature Version 4")."""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client as httpclient

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-_.~"


@dataclass(frozen=True)
class Keys:
    """Who signs, and for which service."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)  # empty: the keys are not temporary
    region: str
    service: str


def signature(keys: Keys, method: str, url: str, body: bytes, now: datetime) -> dict[str, str]:
    """The headers, Host included, that a request to ``url`` needs besides its own. ``now`` is UTC."""
    parsed = urllib.parse.urlsplit(url)
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/{keys.region}/{keys.service}/aws4_request"
    headers = {"Host": parsed.netloc, "X-Amz-Date": moment}
    if keys.session_token:
        headers["X-Amz-Security-Token"] = keys.session_token
    names = ";".join(name.lower() for name in headers)
    query = sorted(_quoted(pair) for pair in urllib.parse.parse_qsl(parsed.query, keep_blank_values=True))
    request = "\n".join(
        [
            method,
            urllib.parse.quote(parsed.path or "/", safe=f"/{_UNRESERVED}"),
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name.lower()}:{value}" for name, value in headers.items()),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    text = "\n".join([_ALGORITHM, moment, scope, hashlib.sha256(request.encode("utf-8")).hexdigest()])
    key = f"AWS4{keys.secret_access_key}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode("utf-8"), hashlib.sha256).digest()
    signed = f"Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**headers, "Authorization": f"{_ALGORITHM} {signed}"}


def _quoted(pair: tuple[str, str]) -> tuple[str, str]:
    name, value = (urllib.parse.quote(part, safe=_UNRESERVED) for part in pair)
    return name, value


def _utc() -> datetime:
    return datetime.now(timezone.utc)


class SignedClient:
    """Signs what it hands to ``client``, which carries to ``url``."""

    def __init__(self, client: httpclient.Client, url: str, keys: Keys, clock: Callable[[], datetime] = _utc) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._keys = keys
        self._clock = clock

    def request(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> httpclient.Response:
        signed = signature(self._keys, method, self._url + path, body or b"", self._clock())
        return self._client.request(method, path, body, {**(headers or {}), **signed})

    def close(self) -> None:
        self._client.close()
