# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): the HTTP monitor pmtahttpd, a process of its own that asks pmtad."""

from __future__ import annotations

import contextlib
import html
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import NAME, ROOT, cli, routing
from .reader import ConfigError
from .routing import first

PAGES = {
    "/status": ["show", "status"],
    "/queues": ["show", "queues"],
    "/vmtas": ["show", "vmtas"],
    "/domains": ["show", "domains"],
    "/jobs": ["show", "jobs"],
}
RIGHTS = ("none", "monitor", "operator", "admin")
CERTIFICATE = "/var/lib/pmta/monitor.pem"


class Monitor(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS and plain HTTP on one port: a client that begins with a handshake gets TLS."""
        request.settimeout(30)
        with contextlib.suppress(OSError):
            if self.context and request.recv(1, socket.MSG_PEEK) == b"\x16":
                request = self.context.wrap_socket(request, server_side=True)
            Handler(request, client_address, self)
            if isinstance(request, ssl.SSLSocket):
                request.unwrap()


class Handler(BaseHTTPRequestHandler):
    server: Monitor
    server_version = "PowerMTA-stand-in"
    sys_version = ""

    def log_message(self, format: str, *args: object) -> None:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.client_address[0]} {format % args}", flush=True)

    def _answer(self, code: int, text: str, kind: str = "text/plain; charset=utf-8", **headers: str) -> None:
        body = text.encode()
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _right(self) -> tuple[str, bool]:
        """What this client may do, and whether it must come over TLS; by the configuration that pmtad has loaded."""
        key = self.headers.get("X-API-Key", "")
        words = ["standin", "monitor", *([f"--key={key}"] if key else []), self.client_address[0].partition("%")[0]]
        answer = cli.ask(words)
        right = str(answer["text"]).partition(",")[0]
        return right if right in RIGHTS else "none", bool((answer["data"] or {}).get("redirect", True))

    def do_GET(self) -> None:
        try:
            right, over_tls = self._right()
            if over_tls and not isinstance(self.connection, ssl.SSLSocket):
                host = self.headers.get("Host", self.server.server_name)
                self._answer(301, "over https only\n", Location=f"https://{host}{self.path}")
                return
            if right == "none":
                self._answer(403, f"{NAME}: no access from {self.client_address[0]}\n")
                return
            asked = urlsplit(self.path)
            words = PAGES.get(asked.path if asked.path != "/" else "/status")
            if words is None:
                self._answer(404, f"{NAME}: no such page\n")
                return
            self._show(words, parse_qs(asked.query).get("format", ["html"])[0])
        except OSError as error:
            self._answer(503, f"{NAME}: pmtad does not answer: {error}\n")

    def _show(self, words: list[str], kind: str) -> None:
        answer = cli.ask(words)
        if kind == "json":
            status = "error" if answer["code"] else "success"
            self._answer(200, json.dumps({"status": status, "data": answer["data"]}), "application/json")
            return
        page = f"<!doctype html><title>{NAME}</title><h1>{NAME}</h1><pre>{html.escape(answer['text'])}</pre>\n"
        self._answer(200, page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """POST /command: command=...&format=json, for operators and admins."""
        try:
            size = min(int(self.headers.get("Content-Length") or 0), 1 << 16)
            form = parse_qs(self.rfile.read(size).decode("utf-8", "replace"))
            if RIGHTS.index(self._right()[0]) < RIGHTS.index("operator"):
                self._answer(403, f"{NAME}: no access from {self.client_address[0]}\n")
            elif urlsplit(self.path).path != "/command" or "command" not in form:
                self._answer(404, f"{NAME}: no such page\n")
            else:
                self._show(form["command"][0].split(), form.get("format", ["json"])[0])
        except OSError as error:
            self._answer(503, f"{NAME}: pmtad does not answer: {error}\n")


def _certificate() -> ssl.SSLContext:
    """A certificate of its own, made once."""
    if not os.path.exists(CERTIFICATE):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj"]
        command += [f"/CN={socket.getfqdn()}"[:64], "-keyout", CERTIFICATE, "-out", CERTIFICATE + ".crt"]
        os.umask(0o077)
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        with open(CERTIFICATE, "a", encoding="ascii") as file, open(CERTIFICATE + ".crt", encoding="ascii") as made:
            file.write(made.read())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


class Monitor6(Monitor):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        print(NAME)
        return
    try:
        settings = routing.load(ROOT).globals
    except ConfigError as error:
        sys.exit(str(error))
    port = first(settings, "http-mgmt-port", "8080").lower()
    if port in ("0", "no", "false"):
        print(f"{NAME}: http-mgmt-port 0, so there is no monitor")
        while True:
            time.sleep(3600)
    kind = Monitor6 if os.path.exists("/proc/net/if_inet6") else Monitor
    server = kind(("::" if kind is Monitor6 else "0.0.0.0", int(port)), Handler)
    server.context = _certificate()
    print(f"{NAME}: monitor on port {port}", flush=True)
    server.serve_forever()
