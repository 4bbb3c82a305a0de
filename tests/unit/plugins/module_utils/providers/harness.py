# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test of a provider shares: a stand-in behind the HTTP seam, and the faults that are put before it."""

from __future__ import annotations

import importlib
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.providers import table
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access, Provider
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import AnswerLost, Response

ZONE = "example.com"
_PACKAGE = "ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins"
STAND_INS = sorted(path.stem for path in (Path(__file__).parent / "standins").glob("[!_]*.py"))


def split(url: str) -> tuple[str, str, dict[str, str]]:
    """Base address, path and query of a URL."""
    parsed = urllib.parse.urlsplit(url)
    return f"{parsed.scheme}://{parsed.netloc}", parsed.path, dict(urllib.parse.parse_qsl(parsed.query, True))


Fault = Callable[[Callable[[], Response]], Response]


def status(code: int, body: bytes = b'{"message": "a fault of the test"}', **headers: str) -> Fault:
    """The service answers ``code`` and has done nothing."""
    listed = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return lambda carry_out: Response(code, listed, body)


def dropped(carry_out: Callable[[], Response]) -> Response:
    """It happened; the connection went before the answer."""
    carry_out()
    raise AnswerLost("ConnectionResetError: connection reset by peer")


def late(carry_out: Callable[[], Response]) -> Response:
    """It happened; the answer took too long."""
    carry_out()
    raise AnswerLost("TimeoutError: timed out")


def truncated(carry_out: Callable[[], Response]) -> Response:
    """It happened; half of the answer came."""
    answer = carry_out()
    if not answer.body:
        raise AnswerLost("IncompleteRead: the answer is cut off")
    return Response(answer.status, answer.headers, answer.body[: len(answer.body) // 2])


def other_type(carry_out: Callable[[], Response]) -> Response:
    """Something else answers, and nothing happened."""
    return Response(200, {"content-type": "text/html"}, b"<html><title>Sign in</title></html>")


FAULTS: dict[str, Fault] = {
    "401": status(401),
    "403": status(403),
    "404": status(404),
    "409": status(409),
    "429": status(429),
    "429 with Retry-After": status(429, retry_after="7"),
    "500": status(500, b"oops"),
    "time-out after the write": late,
    "truncated": truncated,
    "wrong content type": other_type,
    "dropped after commit": dropped,
}


Faults = Callable[[int, str, str], Optional[Fault]]


def no_faults(number: int, method: str, url: str) -> Optional[Fault]:
    return None


class Line:
    """Between adapters and one stand-in. ``faults`` decides over each request: (number from 1, method, URL)."""

    def __init__(self, stand_in: Any) -> None:
        self.stand_in = stand_in
        self.requests: list[tuple[str, str]] = []
        self.faults: Faults = no_faults

    def connect(
        self, url: str, headers: Mapping[str, str], timeout_seconds: float, ca_file: Optional[str]
    ) -> client.Client:
        return _Client(self, url.rstrip("/"), headers)

    def carry(self, method: str, url: str, body: Optional[bytes], headers: Mapping[str, str]) -> Response:
        self.requests.append((method, url))
        fault = self.faults(len(self.requests), method, url)

        def carry_out() -> Response:
            answer: Response = self.stand_in.request(method, url, body, headers)
            return answer

        return fault(carry_out) if fault else carry_out()


class _Client:
    def __init__(self, line: Line, url: str, headers: Mapping[str, str]) -> None:
        self._line = line
        self._url = url
        self._headers = headers

    def request(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> Response:
        sent = {
            **self._headers,
            **({"Content-Type": "application/json"} if body is not None else {}),
            **(headers or {}),
        }
        return self._line.carry(method, self._url + path, body, sent)

    def close(self) -> None:
        pass


def stand_in(name: str) -> Any:
    """The module of a stand-in: CREDENTIALS, OPTIONS and StandIn."""
    return importlib.import_module(f"{_PACKAGE}.{name}")


def is_write(name: str, method: str, url: str) -> bool:
    """Whether a request changes the zone; a stand-in whose token or query requests are no GET says so itself."""
    own = getattr(stand_in(name), "is_write", None)
    return bool(own(method, url)) if own else method != "GET" and "token" not in url


def over_http(name: str, zone: str = ZONE) -> tuple[Callable[[], Provider], Line]:
    """Opens the adapter ``name`` before its stand-in as often as one likes; each opening is another controller."""
    module = stand_in(name)
    line = Line(module.StandIn(zone))
    access = Access(zone, module.CREDENTIALS, module.OPTIONS, connect=line.connect)
    return (lambda: table.OPEN[name](access)), line
