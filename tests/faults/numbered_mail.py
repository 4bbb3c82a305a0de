# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered messages for fault tests, on the host of the MTA: senders, a sink, and the count of what is lost or doubled.

Standard library only; it is copied to the host beside the test's own part.
"""

from __future__ import annotations

import collections
import smtplib
import socketserver
import threading
import time
from collections.abc import Callable, Sequence

BATCH = 20  # messages in one connection
arrived: collections.Counter = collections.Counter()
sources: list[tuple[float, str]] = []  # when a message came, and from which address
arrived_at: dict[str, float] = {}  # when a number came first
lock = threading.Lock()
deferring = threading.Event()  # while it is set, the sink takes nothing


class Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.say("220 sink")
        while line := self.rfile.readline():
            verb = line[:4].upper().decode("ascii", "replace")
            if verb == "QUIT":
                self.say("221 bye")
                return
            if verb == "RCPT" and deferring.is_set():
                self.say("450 4.2.0 later")
            elif verb == "DATA":
                self.say("354 go")
                number = ""
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    if line.startswith(b"X-Number:"):
                        number = line.split()[1].decode()
                if line:
                    with lock:
                        arrived[number] += 1
                        sources.append((time.time(), self.client_address[0]))
                        arrived_at.setdefault(number, time.time())
                    self.say("250 taken")
            else:
                self.say("250 ok")

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 500

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that a fault broke is no fault of the sink."""


class Load:
    """Senders side by side; what the MTA answered with 250 is counted as accepted, nothing else.

    ``senders``: for each the ports that it takes in turn, and the address that it sends from. ``domains``: where the
    recipients are, in turn; by default at the sink's address.
    """

    def __init__(
        self,
        name: str,
        sink: str,
        senders: Sequence[tuple[Sequence[int], str]],
        pace: float,
        domains: Sequence[str] = (),
    ) -> None:
        self.name, self.pace = name, pace
        self.domains = domains or [f"[{sink}]"]
        self.accepted: set[str] = set()
        self.accepted_at: dict[str, float] = {}
        self.going = True
        self.threads = [
            threading.Thread(target=self._send, args=(index, ports, sender), daemon=True)
            for index, (ports, sender) in enumerate(senders)
        ]
        for thread in self.threads:
            thread.start()

    def _send(self, index: int, ports: Sequence[int], sender: str) -> None:
        count = 0
        while self.going:
            port = ports[count % len(ports)]
            try:
                with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
                    for _message in range(BATCH):
                        if not self.going:
                            break
                        count += 1
                        number = f"{self.name}-{index}-{count}"
                        text = f"From: {sender}\r\nX-Number: {number}\r\nSubject: {number}\r\n\r\nx\r\n"
                        domain = self.domains[count % len(self.domains)]
                        smtp.sendmail(sender, [f"r{number}@{domain}"], text)
                        with lock:
                            self.accepted.add(number)
                            self.accepted_at[number] = time.time()
                        time.sleep(self.pace)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.1)

    def stop(self) -> None:
        self.going = False
        for thread in self.threads:
            thread.join()

    def lost(self, patience_seconds: float, hurry: Callable[[], object] = bool) -> set[str]:
        """What has not arrived in time; ``hurry`` has the MTA try again."""
        end = time.monotonic() + patience_seconds
        while True:
            with lock:
                missing = {number for number in self.accepted if not arrived[number]}
            if not missing or time.monotonic() > end:
                return missing
            hurry()
            time.sleep(0.5)

    def doubled(self) -> int:
        return sum(1 for number in self.accepted if arrived[number] > 1)

    def delays(self) -> list[float]:
        """How many seconds each message took that has arrived, the longest first."""
        with lock:
            return sorted(
                (arrived_at[number] - self.accepted_at[number] for number in self.accepted_at if number in arrived_at),
                reverse=True,
            )
