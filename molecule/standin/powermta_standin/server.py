# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): what the daemon holds: listeners, queues, accounting, its configuration."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate, make_msgid

from . import LOGS, NAME, ROOT, inbound, routing
from .accounting import Accounting
from .delivery import Delivery
from .queues import Attempt, Item, Queues, new_id
from .reader import ConfigError, Node
from .routing import Configuration, Settings, first, number
from .spool import Message, Recipient, Spool

FAIL_RELOAD = f"{ROOT}/standin-fail-reload"  # lab only: while it is there, a reload fails


class ServerError(Exception):
    """The daemon cannot do that; the text begins with "Error"."""


# The dialogue on one connection: the server, the connection, its other end, its own, and the source of the listener.
Converse = Callable[["Server", socket.socket, str, tuple[str, int], str], None]


class Server:
    def __init__(self, configuration: Configuration, converse: Converse) -> None:
        self.configuration = configuration
        self._converse = converse
        self.started = time.time()
        self._log_lock = threading.Lock()
        self.accounting = Accounting(configuration.tree)
        self.queues = Queues(Spool(configuration.spool), configuration, self.accounting)
        self.queues.report = self._tell_sender  # type: ignore[method-assign]
        self.delivery = Delivery(self.queues, self.log)
        self.listeners: dict[tuple[str, int], socket.socket] = {}
        self.sessions: set[socket.socket] = set()
        self.top_in = 0
        self._reload_lock = threading.Lock()

    # ---- small things

    def log(self, text: str) -> None:
        path = os.path.join(LOGS, first(self.configuration.globals, "log-file", "log"))
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
        with self._log_lock, contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        with contextlib.suppress(OSError):
            print(line, flush=True)

    def host_name(self, settings: Settings | None = None) -> str:
        """As it greets: by the first source host of the default virtual MTA, else host-name, else the system's name."""
        target = first(settings or {}, "default-virtual-mta")
        pool = self.configuration.pools.get(target)
        vmta = self.configuration.vmtas.get(pool.members[0] if pool else target)
        if vmta and vmta.hosts:
            return vmta.hosts[0][1]
        return first(self.configuration.globals, "host-name") or socket.getfqdn()

    # ---- listeners

    def listen(self, wanted: set[tuple[str, int]]) -> None:
        """Open the new ones, then close those that left. Raises ServerError; then nothing has changed."""
        opened: dict[tuple[str, int], socket.socket] = {}
        try:
            for address in sorted(wanted - set(self.listeners)):
                family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM)
                opened[address] = sock
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                sock.listen(128)
        except OSError as error:
            for sock in opened.values():
                sock.close()
            raise ServerError(f"Error: cannot listen on {address[0]}:{address[1]}: {error.strerror}") from None
        for address in set(self.listeners) - wanted:
            sock = self.listeners.pop(address)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes its thread up
            sock.close()
            self.log(f"no longer listening on {address[0]}:{address[1]}")
        for address, sock in opened.items():
            self.listeners[address] = sock
            threading.Thread(target=self._accept, args=(address, sock), daemon=True).start()
            self.log(f"listening on {address[0]}:{address[1]}")

    def _accept(self, address: tuple[str, int], listener: socket.socket) -> None:
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                if self.listeners.get(address) is not listener:
                    return
                time.sleep(0.1)
                continue
            threading.Thread(target=self._session, args=(sock, peer[0], address), daemon=True).start()

    def _session(self, sock: socket.socket, peer: str, address: tuple[str, int]) -> None:
        if len(self.sessions) >= (number(self.configuration.globals, "total-max-smtp-in", 100) or 10**6):
            with contextlib.suppress(OSError), sock:
                sock.sendall(b"421 4.3.2 too many connections\r\n")
            return
        source = first(self.configuration.listeners.get(address, {}), "source")
        local = sock.getsockname()[:2]
        self.sessions.add(sock)
        self.top_in = max(self.top_in, len(self.sessions))
        try:
            self._converse(self, sock, peer, (local[0], local[1]), source)
        except Exception as error:
            self.log(f"session of {peer}: {error.__class__.__name__}: {error}")
            sock.close()
        finally:
            self.sessions.discard(sock)

    # ---- reload

    def reload(self) -> None:
        """Take the configuration on disk. Raises ServerError; then the old one goes on."""
        with self._reload_lock:
            if os.path.exists(FAIL_RELOAD):
                raise ServerError("Error: reload fails because of standin-fail-reload")
            try:
                new = routing.load(ROOT)
            except ConfigError as error:
                raise ServerError(str(error)) from None
            self.listen(set(new.listeners))
            with self.queues.changed:
                old = self.accounting
                self.configuration = self.queues.configuration = new
                self.accounting = self.queues.accounting = Accounting(new.tree)
                self.delivery.configured()
                self.queues.changed.notify_all()
            old.close()
            self.log("configuration reloaded")

    # ---- reports

    def process(self, processor: tuple[str, Node], sender: str, recipient: str, content: bytes, source: str) -> None:
        """Mail for a bounce-processor or a feedback-loop-processor."""
        kind, node = processor
        if kind == "bounce-processor":
            records = inbound.bounce(content, sender, recipient, source, self.configuration.category)
        else:
            records = inbound.feedback(content, self.accounting.wants_header("f"))
        for record in records:
            self.accounting.write(record)
        self.queues.processed[kind] += 1
        self.log(f"{kind}: {len(records)} records from a message to {recipient}")
        forward = node.last("forward-errors-to") or node.last("forward-unmatched-to")
        if not records and forward:
            self._send("", forward, content)

    def _send(self, sender: str, recipient: str, content: bytes) -> None:
        """Mail of the daemon's own. No source chose a virtual MTA for it, so it has the default one."""
        item = Recipient(recipient, "", routing.DEFAULT)
        self.queues.place(item, self.delivery.resolver.lowest, False)
        message = Message(new_id(), sender, time.time(), [item], src_type="local", src_mta="", quiet=True)
        self.queues.add(message, content)

    def _tell_sender(
        self, item: Item, action: str, status: str, diagnosis: str, attempt: Attempt, content: bytes
    ) -> None:
        """A delivery report to the sender that the application gave (RFC 3464); none for our own bounce-processor,
        because the b record says it."""
        message, recipient = item.message, item.recipient
        if self.configuration.processor(message.sender):
            return
        host, boundary = self.host_name(), f"=_{message.id}"
        sender = " ".join(self.configuration.globals.get("custom-dsn-from-header", ())) or (
            f"Mail Delivery System <MAILER-DAEMON@{host}>"
        )
        done = "could not deliver a message to" if action == "failed" else "has handed on a message to"
        lines = [
            f"From: {sender}",
            f"To: {message.sender}",
            f"Subject: {'Undelivered mail' if action == 'failed' else 'Delivery report'}",
            f"Date: {formatdate(time.time(), True)}",
            f"Message-ID: {make_msgid(domain=host)}",
            "Auto-Submitted: auto-replied",
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"',
            "",
            f"--{boundary}",
            "Content-Type: text/plain; charset=utf-8",
            "",
            f"{NAME} {done} {recipient.address}:",
            diagnosis,
            "",
            f"--{boundary}",
            "Content-Type: message/delivery-status",
            "",
            f"Reporting-MTA: dns;{host}",
            *([f"Original-Envelope-Id: {message.envid}"] if message.envid else []),
            f"Arrival-Date: {formatdate(message.time_queued, True)}",
            "",
            *([f"Original-Recipient: {recipient.orcpt}"] if recipient.orcpt else []),
            f"Final-Recipient: rfc822;{recipient.address}",
            f"Action: {action}",
            f"Status: {status.split(' ')[0]}",
            *([f"Remote-MTA: dns;{attempt.mta}"] if attempt.mta else []),
            f"Diagnostic-Code: {diagnosis}",
            "",
            f"--{boundary}",
            f"Content-Type: {'message/rfc822' if message.full else 'text/rfc822-headers'}",
            "",
        ]
        original = content if message.full else content.partition(b"\r\n\r\n")[0] + b"\r\n"
        report = "\r\n".join(lines).encode() + b"\r\n" + original + f"\r\n--{boundary}--\r\n".encode()
        self._send("", message.sender, report)
