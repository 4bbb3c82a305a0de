# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP for the APIs of DNS services: one kept connection, hard time limits, and no request sent twice.

Also how long to wait before the next try, with the clock and the dice as arguments.
"""

from __future__ import annotations

import email.utils
import http.client
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Optional, Protocol

from ansible_collections.mailops.mta.plugins.module_utils.core import names

CLEAR_TEXT_REMEDY = "write https, or, where the service has no TLS, the address that it has in an inner network"
MAX_BODY = 256 * 1024 * 1024
_WHOLE = 6  # one request may take this many times the time limit of a single wait
_HEADER = re.compile(r"[\x20-\x7e]*\Z")


class NotConnected(Exception):
    """Nothing was sent."""


class AnswerLost(Exception):
    """The request may have been carried out; its answer did not come."""


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


MakeTimer = Callable[[float, Callable[[], None]], threading.Timer]


@contextmanager
def watched(sock: socket.socket, seconds: float, make_timer: MakeTimer = threading.Timer) -> Iterator[None]:
    """Cuts ``sock`` off after ``seconds``, whatever trickles in. Raises TimeoutError then.

    It is not asked of its HTTPConnection, which forgets it once an answer says ``Connection: close``.
    """
    overdue = threading.Event()

    def cut() -> None:
        overdue.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = make_timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        if overdue.is_set():
            raise TimeoutError(f"not all of the answer came in {seconds:g} seconds") from error
        raise
    finally:
        timer.cancel()
    if overdue.is_set():
        raise TimeoutError(f"not all of the answer came in {seconds:g} seconds")


class Client(Protocol):
    """Whoever carries requests to one base address."""

    def request(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> Response:
        """Sends once. Raises NotConnected or AnswerLost; any status is an answer."""

    def close(self) -> None:
        """Gives the connection back."""


@dataclass(frozen=True)
class Pace:
    """Full-jitter backoff: a random part of a limit that doubles with each try."""

    base_seconds: float = 0.5
    cap_seconds: float = 10.0
    sleep: Callable[[float], None] = field(default=time.sleep)
    dice: Callable[[], float] = field(default=random.random)
    clock: Callable[[], float] = field(default=time.monotonic)

    def seconds(self, attempt: int, after: Optional[float] = None) -> float:
        """How long to wait before try ``attempt`` (from 1), or as long as the service asked."""
        if after is not None:
            return max(0.0, after)
        return self.dice() * min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt, 30))


class HttpClient:
    """One service at one base address. Not for several threads at once."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout_seconds: float = 20.0,
        ca_file: Optional[str] = None,
        make_timer: MakeTimer = threading.Timer,
    ) -> None:
        parsed = urllib.parse.urlsplit(url)
        if parsed.scheme not in ("http", "https") or not parsed.hostname:
            raise ValueError(f"'{url}' is no http or https address")
        if parsed.scheme == "http" and names.reach(parsed.hostname) == "world":
            raise ValueError(f"the key would go to {parsed.hostname} in clear text; {CLEAR_TEXT_REMEDY}")
        if not all(_HEADER.match(value) for value in headers.values()):
            # http.client would name the value in its error.
            raise ValueError("a key holds a line break or a character beyond ASCII")
        self._timeout_seconds = timeout_seconds
        self._make_timer = make_timer
        self._host = f"{parsed.hostname} port {parsed.port or (443 if parsed.scheme == 'https' else 80)}"
        self._path = parsed.path.rstrip("/")
        self._headers = {"Accept": "application/json", "User-Agent": "mailops.mta", **headers}
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        self._connection: http.client.HTTPConnection
        if parsed.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            self._connection = http.client.HTTPSConnection(
                parsed.hostname, port, timeout=timeout_seconds, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(parsed.hostname, port, timeout=timeout_seconds)

    def request(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> Response:
        connection = self._connection
        if connection.sock is None:
            try:
                connection.connect()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise NotConnected(f"{self._host}: {error}") from error
        sent = dict(self._headers)
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        try:
            with watched(connection.sock, _WHOLE * self._timeout_seconds, self._make_timer):
                connection.request(method, self._path + path, body=body, headers=sent)
                answer = connection.getresponse()
                data = answer.read(MAX_BODY + 1)
        except ValueError as error:  # a header that cannot be sent; the text would name a secret
            self.close()
            raise AnswerLost("the request cannot be sent: a key holds a line break") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise AnswerLost(f"{type(error).__name__}: {error}") from error
        if answer.length or len(data) > MAX_BODY:  # read() with a limit says nothing about a body that ends early
            self.close()
            raise AnswerLost("the answer is cut off or far too long")
        if answer.will_close:
            self.close()
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)

    def close(self) -> None:
        self._connection.close()


def retry_after(response: Response, now: Callable[[], float] = time.time) -> Optional[float]:
    """The seconds that a Retry-After header asks for (RFC 9110 10.2.3), or None."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
