# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy host that never ends its answer does not hold the audit."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.plugins.module_utils.shell.web import policies


class Alarm:
    """A timer that ends when the test says so."""

    last: Alarm

    def __init__(self, _seconds, ring):
        self.ring = ring
        Alarm.last = self

    def start(self):
        pass

    def cancel(self):
        pass


class Tls:
    """A TLS connection without TLS, to an answer that stands ready."""

    def __init__(self, sock):
        self._sock = sock

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._sock.close()

    def getpeercert(self):
        return {"notAfter": "Jan  1 00:00:00 2030 GMT"}


@pytest.mark.parametrize("header", ["", "Connection: close\r\n"])
def test_the_time_limit_cuts_every_answer(header, monkeypatch):
    ours, theirs = socket.socketpair()
    theirs.sendall(f"HTTP/1.1 200 OK\r\n{header}Content-Length: 2\r\n\r\nok".encode())
    theirs.setblocking(False)
    whole = http.client.HTTPResponse.read
    ends = []

    def read(answer, amount):
        Alarm.last.ring()
        theirs.recv(65536)  # the request
        with contextlib.suppress(BlockingIOError):
            ends.append(theirs.recv(1))
        return whole(answer, amount)

    monkeypatch.setattr(http.client.HTTPResponse, "read", read)
    monkeypatch.setattr(policies, "watched", lambda sock, seconds: client.watched(sock, seconds, Alarm))
    monkeypatch.setattr(policies.socket, "create_connection", lambda *_address, **_limit: ours)
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", lambda _context, sock, **_name: Tls(sock))
    found = policies.fetch("mta-sts.example.com", ["192.0.2.1"], 1.0)
    theirs.close()
    assert found.problem == "192.0.2.1: not all of the answer came in 3 seconds"
    assert ends == [b""]
