# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client as httpclient
from hypothesis import given
from hypothesis import strategies as st


def serve(*answers: bytes) -> tuple[str, list[bytes]]:
    """A server on the loopback that gives one answer to each request, on one connection; then it closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def run() -> None:
        connection, _address = listener.accept()
        with connection, listener:
            for answer in answers:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                head, _blank, body = request.partition(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                while len(body) < length:
                    body += connection.recv(65536)
                seen.append(head + b"\r\n\r\n" + body)
                connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/base/", seen


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-One: 1\r\n\r\nok"


def test_one_connection_serves_many_requests() -> None:
    url, seen = serve(OK, OK)
    client = httpclient.HttpClient(url, {"X-Key": "k"})
    for body in (None, b"{}"):
        response = client.request("PATCH" if body else "GET", "/x", body)
        assert (response.status, response.body, response.headers["x-one"]) == (200, b"ok", "1")
    assert seen[0].startswith(b"GET /base/x HTTP/1.1\r\n")
    assert b"X-Key: k" in seen[1]
    assert seen[1].endswith(b"{}")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_an_answer_that_is_cut_or_garbled_is_lost(answer: bytes) -> None:
    url, _seen = serve(answer)
    with pytest.raises(httpclient.AnswerLost):
        httpclient.HttpClient(url, {}).request("PATCH", "/", b"{}")


def test_a_request_is_sent_once() -> None:
    url, seen = serve(b"")
    with pytest.raises(httpclient.AnswerLost):
        httpclient.HttpClient(url, {}).request("PATCH", "/", b"{}")
    assert len(seen) == 1


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpclient.NotConnected):
        httpclient.HttpClient(f"http://127.0.0.1:{port}", {}).request("GET", "/")


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = httpclient.HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}", {}, timeout_seconds=0.1)
        with pytest.raises(httpclient.AnswerLost):
            client.request("GET", "/")


@pytest.mark.parametrize("url", ["ftp://example.com", "example.com", "http://", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no http"):
        httpclient.HttpClient(url, {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("\u00b2", None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert httpclient.retry_after(httpclient.Response(429, {"retry-after": text}, b""), now=lambda: 60.0) == seconds


@pytest.mark.parametrize("host", ["api.example.com", "pdns", "8.8.8.8", "[2606:4700::1111]", "[::ffff:8.8.8.8]"])
def test_no_key_goes_out_in_clear_text(host: str) -> None:
    with pytest.raises(ValueError, match="clear text; write https"):
        httpclient.HttpClient(f"http://{host}", {"X-API-Key": "k"})
    httpclient.HttpClient(f"https://{host}", {"X-API-Key": "k"})


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "10.1.2.3", "192.168.0.9", "[fd00::1]"])
def test_a_service_without_tls_is_reached_in_an_inner_network(host: str) -> None:
    httpclient.HttpClient(f"http://{host}:8081", {"X-API-Key": "k"})


@given(st.integers(1, 1000), st.floats(0, 1))
def test_waits_are_bounded(attempt: int, roll: float) -> None:
    dice: Callable[[], float] = lambda: roll  # noqa: E731
    seconds = httpclient.Pace(dice=dice).seconds(attempt)
    assert 0 <= seconds <= min(10.0, 0.5 * 2.0 ** min(attempt, 30))


@pytest.mark.parametrize("key", ["secret\n", "secret\r\nX: y", "gehe\u00efm"])
def test_a_key_that_no_header_can_carry_is_refused_without_its_name(key: str) -> None:
    with pytest.raises(ValueError, match="a key holds") as caught:
        httpclient.HttpClient("http://127.0.0.1:1", {"Authorization": f"Bearer {key}"})
    assert key.strip() not in str(caught.value)
    client = httpclient.HttpClient("http://127.0.0.1:1", {})
    client._connection.sock = socket.socketpair()[0]
    with pytest.raises(httpclient.AnswerLost) as lost:
        client.request("GET", "/", headers={"X-Key": key})
    assert "secret" not in str(lost.value)


class Alarm:
    """A timer that ends when the test says so."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self.seconds, self.ring = seconds, ring
        self.state = "made"

    def start(self) -> None:
        self.state = "started"

    def cancel(self) -> None:
        self.state = "cancelled"


def test_an_answer_that_trickles_ends() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    alarms: list[Alarm] = []

    def make(seconds: float, ring: Callable[[], None]) -> Any:
        alarms.append(Alarm(seconds, ring))
        return alarms[-1]

    def run() -> None:
        connection, _address = listener.accept()
        with connection, listener, suppress(OSError):
            connection.recv(65536)  # the request, which the alarm is older than
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n")
            for number in range(200):  # without the alarm, the answer would come whole
                if number == 100:
                    assert alarms[0].state == "started"
                    alarms[0].ring()
                connection.sendall(b"x")

    threading.Thread(target=run, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(httpclient.AnswerLost, match="not all of the answer came in 360 seconds"):
        httpclient.HttpClient(url, {}, timeout_seconds=60.0, make_timer=make).request("GET", "/")
    assert [(alarm.seconds, alarm.state) for alarm in alarms] == [(360.0, "cancelled")]


@pytest.mark.parametrize("header", ["", "Connection: close\r\n"])
def test_the_time_limit_cuts_an_answer_that_is_the_last_one_too(header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``http.client`` forgets the socket of a connection that is to be closed, before the body has come."""
    alarms: list[Alarm] = []
    seen: list[bytes] = []
    ours, theirs = socket.socketpair()
    theirs.sendall(f"HTTP/1.1 200 OK\r\n{header}Content-Length: 2\r\n\r\nok".encode())
    theirs.setblocking(False)

    def make(seconds: float, ring: Callable[[], None]) -> Any:
        alarms.append(Alarm(seconds, ring))
        return alarms[-1]

    def read(answer: http.client.HTTPResponse, amount: int) -> bytes:
        alarms[0].ring()
        seen.extend((theirs.recv(65536), theirs.recv(1)))  # the request, and then its end
        return whole(answer, amount)

    whole = http.client.HTTPResponse.read
    monkeypatch.setattr(http.client.HTTPResponse, "read", read)
    client = httpclient.HttpClient("http://127.0.0.1:1", {}, make_timer=make)
    client._connection.sock = ours
    with theirs, pytest.raises(httpclient.AnswerLost, match="not all of the answer came"):
        client.request("GET", "/")
    assert seen[0].startswith(b"GET / ")
    assert seen[1] == b""
