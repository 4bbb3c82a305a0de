# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP API with JSON as providers see it: one call, and every way in which it fails in the words of the port."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import foreign
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Garbled,
    Permanent,
    ProviderError,
    Throttled,
    Transient,
    Unreachable,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client as httpclient

_MAX_PAGES = 5000  # of one list
LONG = 300  # characters of what a service says
_MAX_READING = httpclient.MAX_BODY  # bytes of a list in pages: no more than of one in a single answer
_SECRET = 8  # characters; shorter words of a header are such as "Bearer"
_JSON = json.JSONEncoder(separators=(",", ":"))


class Throttle:
    """Spaces the requests of one account, whatever zone they are for."""

    _known: ClassVar[dict[str, Throttle]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, per_second: float) -> None:
        self._gap_seconds = 1.0 / per_second if per_second else 0.0
        self._next = 0.0
        self._mine = threading.Lock()
        self.clock: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], None] = time.sleep

    @classmethod
    def of(cls, account: str, per_second: float) -> Throttle:
        with cls._lock:
            return cls._known.setdefault(account, cls(per_second))

    def wait(self) -> None:
        if not self._gap_seconds:
            return
        with self._mine:
            now = self.clock()
            begin = max(now, self._next)
            self._next = begin + self._gap_seconds
        if begin > now:
            self.sleep(begin - now)


class Rest:
    """One service at one base address. Not for several threads at once."""

    def __init__(
        self,
        client: httpclient.Client,
        title: str,
        access: Access,
        *,
        key_remedy: str = "correct the credentials",
        access_remedy: str = "allow this key to edit the zone",
        refusal: Optional[Callable[[int, Any], Optional[ProviderError]]] = None,
        throttle: Optional[Throttle] = None,
    ) -> None:
        """``refusal`` may turn a status of 400 or more, with the decoded body, into an error of its own words."""
        self._client = client
        self._title = title
        self._zone = access.zone
        self._reading_seconds = access.reading_seconds
        self._reading_since: Optional[float] = None
        self._reading_bytes = 0
        self.clock: Callable[[], float] = time.monotonic
        self._key_remedy = key_remedy
        self._access_remedy = access_remedy
        self._refusal = refusal
        self._throttle = throttle

    def json(self, method: str, path: str, body: Any = None, headers: Optional[Mapping[str, str]] = None) -> Any:
        """The decoded answer; ``body`` is sent as JSON. Raises the errors of the port."""
        response = self.send(method, path, None if body is None else _JSON.encode(body).encode("utf-8"), headers)
        return self.decoded(response)

    def decoded(self, response: httpclient.Response) -> Any:
        """None for an empty body. Raises Garbled."""
        if not response.body.strip():
            return None
        try:
            return foreign.parsed(response.body)
        except ValueError as error:
            raise self.garbled("it is no JSON") from error

    def pages(self) -> Iterator[int]:
        """1, 2 and so on, for the pages of a list. Raises Garbled where these have no end."""
        yield from range(1, _MAX_PAGES + 1)
        raise self.garbled(f"it has more than {_MAX_PAGES} pages")

    def garbled(self, why: str) -> Garbled:
        """For an answer that has not the shape that the service documents."""
        return Garbled(
            f"the answer is none of the {self._title} API",
            f"it cannot be read: {why}",
            "check that url names the API and nothing else answers there",
        )

    def send(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> httpclient.Response:
        """The answer where its status is below 400. Raises the errors of the port.

        All GET in a row are one reading, and what is no GET ends it: a service can name one more page for ever, each
        of them in time.
        """
        if self._throttle:
            self._throttle.wait()
        if method != "GET":
            self._reading_since, self._reading_bytes = None, 0
        elif self._reading_since is None:
            self._reading_since = self.clock()
        elif self.clock() - self._reading_since > self._reading_seconds:
            raise Transient(
                f"the {self._title} API did not give the whole zone",
                f"reading it takes more than {self._reading_seconds:g} seconds",
                "look at the service, or raise timeout_seconds",
            )
        try:
            response = self._client.request(method, path, body, headers)
        except httpclient.NotConnected as error:
            raise Unreachable(
                f"the {self._title} API cannot be reached",
                str(error),
                "start the server, or correct url in the credentials",
            ) from error
        except httpclient.AnswerLost as error:
            raise Transient(
                f"the {self._title} API gave no answer", str(error), "look at the service and run again"
            ) from error
        self._reading_bytes += len(response.body)
        if self._reading_bytes > _MAX_READING:
            raise self.garbled(f"it has more than {_MAX_READING} bytes in all")
        if 300 <= response.status < 400:
            raise self.garbled(f"HTTP {response.status} leads elsewhere")
        if response.status >= 400:
            raise self._problem(response, headers or {})
        if response.body and "html" in response.headers.get("content-type", ""):
            raise self.garbled("it is a page for people")
        return response

    def close(self) -> None:
        self._client.close()

    def _problem(self, response: httpclient.Response, sent: Mapping[str, str]) -> ProviderError:
        """``sent`` are headers of the request, whose values a service may repeat and nobody is to see."""
        status, title = response.status, self._title
        try:
            answer = foreign.parsed(response.body)
        except ValueError:
            answer = None
        special = self._refusal(status, answer) if self._refusal else None
        if special:
            return special
        said = f"HTTP {status}{message(answer, sent.values())}"
        after = httpclient.retry_after(response)
        if status == 401:
            return Permanent(f"the {title} API refused the key ({said})", "it is not a valid one", self._key_remedy)
        if status == 403:
            return Permanent(
                f"the {title} API refused access ({said})", "this key or client is not allowed", self._access_remedy
            )
        if status == 404:
            return Permanent(
                f"the {title} API has no zone {self._zone} ({said})",
                "zones are made by their operator, not by a run",
                "create the zone there, or correct zones in the fleet file",
            )
        if status in (409, 412):
            return Conflict(f"the zone changed meanwhile ({said})")
        if status == 429:
            return Throttled(f"too many requests ({said})", "the API limits them", "run again later", after)
        if status >= 500:
            return Faulty(f"the {title} API failed ({said})", "the service has a problem", "look at its status", after)
        return Permanent(
            f"the {title} API refused the request ({said})", "the service says so", "correct the record it names"
        )


def message(answer: Any, hidden: Iterable[str] = ()) -> str:
    """What an error body says, where it says it as most APIs do; without the words of ``hidden``."""
    texts: list[str] = []

    def look(part: Any, depth: int) -> None:
        if isinstance(part, dict) and depth < 4:
            for name in ("error", "errors", "message", "detail", "cause", "error_description", "non_field_errors"):
                if name in part:
                    look(part[name], depth + 1)
        elif isinstance(part, list) and depth < 4:
            for each in part[:5]:
                look(each, depth + 1)
        elif isinstance(part, (str, int)) and not isinstance(part, bool):
            texts.append(" ".join(str(part).split()))

    look(answer, 0)
    text = "; ".join(dict.fromkeys(texts))
    for word in {word for value in hidden for word in value.split() if len(word) >= _SECRET}:
        text = text.replace(word, "********")
    return f": {foreign.shortened(text, LONG)}" if texts else ""


def members(answer: Any, name: str) -> list[dict[str, Any]]:
    """The objects in the list ``name`` of ``answer``; none where an error body has another shape."""
    listed = answer.get(name) if isinstance(answer, dict) else None
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def required(value: Any, kind: type, rest: Rest, what: str) -> Any:
    """``value`` where it is of ``kind``. Raises Garbled."""
    if not isinstance(value, kind):
        raise rest.garbled(f"{what} is missing or no {kind.__name__}")
    return value
