# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access tokens of services that want OAuth 2.0 (RFC 6749): asked for when one is needed, kept while it is good."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access, Permanent
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import Rest, message, required

_EARLY_SECONDS = 60  # a token is replaced before it ends, so that no request carries one that just did
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Token:
    def __init__(
        self,
        access: Access,
        url: str,
        title: str,
        key_remedy: str,
        form: Callable[[], Mapping[str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``form`` makes what is sent to the token endpoint ``url``; it may raise ProviderError."""
        parsed = urllib.parse.urlsplit(url)
        self._path = parsed.path
        self._title = title
        self._key_remedy = key_remedy
        self._rest = Rest(
            access.client(f"{parsed.scheme}://{parsed.netloc}", {}),
            title,
            access,
            key_remedy=key_remedy,
            refusal=self._refusal,
        )
        self._form = form
        self._clock = clock
        self._header: dict[str, str] = {}
        self._until = 0.0

    def header(self) -> dict[str, str]:
        """What authorises a request. Raises the errors of the port."""
        now = self._clock()
        if not self._header or now >= self._until:
            body = urllib.parse.urlencode(self._form()).encode("ascii")
            answer = required(
                self._rest.decoded(self._rest.send("POST", self._path, body, _FORM)), dict, self._rest, "it"
            )
            token = required(answer.get("access_token"), str, self._rest, "access_token")
            seconds = required(answer.get("expires_in"), int, self._rest, "expires_in")
            self._header = {"Authorization": f"Bearer {token}"}
            self._until = now + seconds - _EARLY_SECONDS
        return self._header

    def close(self) -> None:
        self._rest.close()

    def _refusal(self, status: int, answer: Any) -> Optional[Permanent]:
        if status not in (400, 401):
            return None
        return Permanent(
            f"{self._title} refused the key (HTTP {status}{message(answer)})", "it is not a valid one", self._key_remedy
        )
