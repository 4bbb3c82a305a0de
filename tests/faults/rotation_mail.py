# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered messages from every sending domain through every host that signs for it, without pause."""

from __future__ import annotations

import itertools
import smtplib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage

EVERY_SECONDS = 2.0
GREYLISTED = 6  # every so many of a sender's messages waits in the queue for a second attempt


@dataclass(frozen=True)
class Way:
    domain: str
    host: str
    address: str
    port: int


@dataclass(frozen=True)
class Sent:
    way: Way
    begin: float
    end: float  # when the host took it; the signature was made between the two


class Mail:
    """``sent`` holds what a host took; what it may have taken before a connection broke is in ``unsure``."""

    def __init__(self, ways: Sequence[Way]) -> None:
        self.ways = tuple(ways)
        self.sent: dict[int, Sent] = {}
        self.unsure: dict[int, Sent] = {}
        self.refused: list[str] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._hosts = {way.host: threading.Lock() for way in ways}
        self._paused: set[str] = set()
        self._threads = [threading.Thread(target=self._send, args=(way,), daemon=True) for way in ways]

    def start(self) -> None:
        for number, thread in enumerate(self._threads):
            threading.Timer(number * EVERY_SECONDS / len(self._threads), thread.start).start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def pause(self, host: str) -> None:
        with self._hosts[host]:  # nothing is on its way to the host then
            self._paused.add(host)

    def resume(self, host: str) -> None:
        self._paused.discard(host)

    def _send(self, way: Way) -> None:
        for turn in itertools.count(1):
            if self._stop.wait(EVERY_SECONDS):
                return
            with self._hosts[way.host]:
                if way.host not in self._paused:
                    self._inject(way, turn)

    def _inject(self, way: Way, turn: int) -> None:
        with self._lock:
            number = next(self._numbers)
        begin = time.time()
        try:
            with smtplib.SMTP(way.address, way.port, local_hostname="app.lab.test", timeout=30) as client:
                client.send_message(self._compose(way, number, begin, turn))
        except smtplib.SMTPResponseException as error:
            self.refused.append(f"{number} {way.domain} at {way.host}: {error.smtp_code} {error.smtp_error!r}")
        except (smtplib.SMTPException, OSError):
            self.unsure[number] = Sent(way, begin, time.time())
        else:
            self.sent[number] = Sent(way, begin, time.time())

    @staticmethod
    def _compose(way: Way, number: int, begin: float, turn: int) -> EmailMessage:
        message = EmailMessage()
        message["From"] = f"numbers@{way.domain}"
        recipient = f"greylist+{number}" if turn % GREYLISTED == 0 else "numbers"
        message["To"] = f"{recipient}@default-receiver.test"
        message["Subject"] = f"Number {number}"
        message["Message-ID"] = f"<{number}@{way.domain}>"
        message["X-Number"] = str(number)
        message["X-Injected"] = f"{begin:.3f}"
        message.set_content(f"This is number {number}.\n")
        return message
