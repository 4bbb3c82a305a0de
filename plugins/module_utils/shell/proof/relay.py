# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says the probes of core/proof/relay to one listener, over few connections."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterable
from typing import Callable, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.proof import relay
from ansible_collections.mailops.mta.plugins.module_utils.core.proof.relay import (
    CLOSED,
    FILTERED,
    OPEN,
    REFUSED,
    UNKNOWN,
    Probe,
)

IMPLICIT_TLS_PORT = 465
PATIENCE = 10  # refusals in one connection: after more of them Postfix holds each answer back for a second
SILENCE = "it took the connection and then said nothing in time"
HANGS_UP = "it hangs up"
Outcome = tuple[str, str]  # state and what was said
Reply = tuple[int, bytes]


class Ended(Exception):
    """No further probe can be asked."""

    def __init__(self, state: str, detail: str) -> None:
        super().__init__(detail)
        self.outcome: Outcome = (state, detail)


class HungUp(Exception):
    """The server ended the connection instead of answering the last command of ``path``."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(HANGS_UP)
        self.path = path


def outcomes(
    ip: str, port: int, probes: Iterable[Probe], timeout_seconds: float
) -> tuple[dict[str, str], list[Outcome]]:
    """What each family was open by, and every state with what was said. One open probe of a family is enough."""
    caller = Caller(ip, port, timeout_seconds)
    found: list[Outcome] = []
    opened: dict[str, str] = {}
    try:
        for probe in probes:
            if probe.family in opened or (probe.plain and caller.begins_with_tls):
                continue
            if probe.home and caller.ask(relay.takes_mail_for(probe.home))[0] == OPEN:
                continue
            found.append(caller.ask(probe))
            if found[-1][0] == OPEN:
                opened[probe.family] = found[-1][1]
    except Ended as end:
        found.append(end.outcome)
    finally:
        caller.leave()
    return opened, found


class Link:
    """One connection: how it was opened, what was accepted since, and how often the server refused."""

    def __init__(self, smtp: smtplib.SMTP) -> None:
        self.smtp = smtp
        self.greeting: Reply = (0, b"")
        self.opening: tuple[str, ...] = ()
        self.done: tuple[str, ...] = ()  # begins with the opening
        self.offers: set[str] = set()
        self.refusals = 0
        self.asked = 0

    def ask(self, line: str) -> Reply:
        self.smtp.send(f"{line}\r\n".encode())
        reply = self.smtp.getreply()
        self.refusals += reply[0] >= 400
        return reply

    def drop(self) -> None:
        """Without a word: behind DATA a QUIT would be text."""
        self.smtp.close()


class Caller:
    """Asks one listener. The commands that probes begin with in common are asked once, and so is what is refused."""

    def __init__(self, ip: str, port: int, timeout_seconds: float) -> None:
        self.ip, self.port, self.timeout_seconds = ip, port, timeout_seconds
        self.begins_with_tls = port == IMPLICIT_TLS_PORT
        self.here = self.name = ""
        self.connections = 0
        self.known: dict[tuple[str, ...], Outcome] = {}
        self._link: Optional[Link] = None

    def ask(self, probe: Probe) -> Outcome:
        while True:
            for end in range(1, len(probe.path) + 1):
                if probe.path[:end] in self.known:
                    return self.known[probe.path[:end]]
            link = self._ready(probe)
            try:
                outcome = self._walk(link, probe)
            except HungUp as fault:
                self._drop()
                # Behind other commands it may have had enough of those, and a new connection tells.
                if link.asked == 1:
                    self._note(link, fault.path, (REFUSED, HANGS_UP))
                continue
            if outcome[0] == OPEN:
                self.known[probe.path] = outcome
                self._drop()
            return outcome

    def leave(self) -> None:
        if self._link:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._link.smtp.send(b"QUIT\r\n")
        self._drop()

    def _drop(self) -> None:
        if self._link:
            self._link.drop()
        self._link = None

    # ---- the connection

    def _ready(self, probe: Probe) -> Link:
        """A connection where this probe can go on: the one there is, set back if need be, or a new one."""
        link = self._link
        if link and link.refusals >= PATIENCE:
            self.leave()
        elif link and link.done != probe.path[: len(link.done)]:
            if link.opening != probe.opening:
                self.leave()
            elif not self._set_back(link):
                self._drop()
        self._link = self._link or self._connect()
        self._link.asked += 1
        return self._link

    def _set_back(self, link: Link) -> bool:
        link.asked += 1
        try:
            answered = self._answer(link, ("RSET",))[0] == 250
        except HungUp:
            return False
        link.done = link.opening
        return answered

    def _connect(self) -> Link:
        try:
            link = Link(self._dial())
            link.greeting = self._reply(link, (), link.smtp.getreply)
        except ConnectionRefusedError as fault:
            raise self._ended(CLOSED, str(fault)) from fault
        except (socket.timeout, TimeoutError) as fault:
            raise self._ended(FILTERED, "no answer") from fault
        except HungUp as fault:
            raise self._ended(REFUSED, HANGS_UP) from fault
        except OSError as fault:
            raise self._ended(UNKNOWN, f"{type(fault).__name__}: {fault}") from fault
        code, text = link.greeting
        if not (200 <= code < 300 or (code >= 500 and not self.connections)):
            link.drop()
            raise self._ended(UNKNOWN, spoken(link.greeting))
        self.connections += 1
        self.here = str(link.smtp.sock.getsockname()[0]).partition("%")[0]
        named = re.match(rb"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(?=\s|$)", text)
        self.name = named[0].decode() if named else ""
        return link

    def _ended(self, state: str, detail: str) -> Ended:
        """What the first connection says is the listener's state. Later ones leave probes unasked."""
        return (
            Ended(UNKNOWN, f"after {self.connections} connections: {detail}")
            if self.connections
            else Ended(state, detail)
        )

    def _dial(self) -> smtplib.SMTP:
        try:
            raw = socket.create_connection((self.ip, self.port), self.timeout_seconds)
        except (socket.timeout, TimeoutError):
            # A lost packet or a stale neighbour entry is no firewall.
            raw = socket.create_connection((self.ip, self.port), self.timeout_seconds)
        connection = smtplib.SMTP(timeout=self.timeout_seconds, local_hostname="probe.invalid")
        connection.sock = _tls(raw) if self.begins_with_tls else raw
        return connection

    # ---- the conversation

    def _walk(self, link: Link, probe: Probe) -> Outcome:
        path = probe.path
        for end in range(len(link.done) + 1, len(path) + 1):
            reply = self._answer(link, path[:end])
            if end == len(path) and probe.commands:
                return self._last(link, probe, reply)
            if not 200 <= reply[0] < 300:
                return self._note(link, path[:end], (relay.refusal(reply[0]), spoken(reply)))
            link.done = path[:end]
            if end <= len(probe.opening):
                link.opening = link.done
        if probe.offers in link.offers:
            return OPEN, f"{probe.told}: {' '.join(sorted(link.offers))}"
        return REFUSED, f"it does not offer {probe.offers}"

    def _last(self, link: Link, probe: Probe, reply: Reply) -> Outcome:
        state = probe.state(reply[0])
        if state == OPEN:
            return OPEN, f"{self._filled(probe.told)}: {spoken(reply)}"
        if probe.commands[-1].startswith("BDAT") and "CHUNKING" not in link.offers:
            self._drop()  # the chunk may have been read as a command
        return self._note(link, probe.path, (state, spoken(reply)))

    def _note(self, link: Link, path: tuple[str, ...], outcome: Outcome) -> Outcome:
        if not link.done and link.greeting[0] >= 500 and outcome[0] == REFUSED:
            self._drop()
            raise Ended(REFUSED, spoken(link.greeting))  # it says so twice
        self.known[path] = outcome
        return outcome

    def _answer(self, link: Link, path: tuple[str, ...]) -> Reply:
        line = path[-1]
        starts_tls = line.startswith(relay.START_TLS)
        if starts_tls and relay.START_TLS not in link.offers:
            return 502, b"no STARTTLS"
        reply = self._reply(link, path, lambda: link.ask(self._filled(line)))
        if reply[0] == 421 and link.asked > 1:
            raise HungUp(path)
        if line.startswith("EHLO") and reply[0] == 250:
            _name, *offers = reply[1].decode("utf-8", "replace").split("\n")
            link.offers = {re.split("[ =]", offer)[0].upper() for offer in offers}
        if starts_tls and reply[0] == 220:
            try:
                link.smtp.sock = _tls(link.smtp.sock)
                link.smtp.file = None  # what smtplib has read so far came in plain text
            except OSError as fault:
                self._drop()
                text = f"no TLS handshake: {fault}".encode()
                # Where a command came along, an end of the connection is the right answer.
                return (454 if line == relay.START_TLS else 554), text
        return reply

    def _reply(self, link: Link, path: tuple[str, ...], ask: Callable[[], Reply]) -> Reply:
        try:
            return ask()
        except smtplib.SMTPServerDisconnected as fault:
            # smtplib makes a hang-up of a time-out.
            if isinstance(fault.__context__, (socket.timeout, TimeoutError)):
                self._drop()
                raise Ended(UNKNOWN, f"no answer in time to {self._filled(path[-1])}" if path else SILENCE) from fault
            raise HungUp(path) from fault
        except (OSError, smtplib.SMTPException) as fault:
            self._drop()
            raise Ended(UNKNOWN, f"{type(fault).__name__}: {fault}") from fault

    def _filled(self, text: str) -> str:
        return relay.filled(text, self.ip, self.here, self.name)


def _tls(raw: socket.socket) -> ssl.SSLSocket:
    # A relay is open whoever signed its certificate.
    return ssl._create_unverified_context().wrap_socket(raw)


def spoken(reply: Reply) -> str:
    return f"{reply[0]} {reply[1].decode('utf-8', 'replace')}"[:300].replace("\n", " ")
