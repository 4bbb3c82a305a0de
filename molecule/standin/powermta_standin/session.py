# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): takes mail by SMTP and queues it, or has its reports read."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import re
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate, make_msgid

from . import NAME, VERSION, inbound
from .accounting import stamp
from .queues import new_id
from .routing import Refused, Settings, first, flag, number
from .server import Server
from .spool import Headers, Message, Recipient, split_message

MOST_LINE = 8192


class Goodbye(Exception):
    """The session ends here."""


class Session:
    """One connection, in a thread of its own."""

    def __init__(self, server: Server, sock: socket.socket, peer: str, local: tuple[str, int], source: str) -> None:
        self.server, self.socket, self.peer, self.local, self.source = server, sock, peer, local, source
        self.file = sock.makefile("rb")
        self.tls = False
        self.user = ""
        self.helo = ""
        self._forget()

    def _forget(self) -> None:
        self.sender: str | None = None
        self.parameters: dict[str, str] = {}
        self.recipients: list[tuple[str, dict[str, str]]] = []

    @property
    def settings(self) -> Settings:
        """By the configuration of now: a reload counts for connections that are open."""
        return self.server.configuration.connection(self.peer, self.source, self.user)

    # ---- the dialogue

    def say(self, *lines: str) -> None:
        code = lines[0][:3]
        text = [f"{code}-{line[4:]}" for line in lines[:-1]] + [f"{code} {lines[-1][4:]}"]
        self.socket.sendall("".join(f"{line}\r\n" for line in text).encode())

    def run(self) -> None:
        try:
            self.socket.settimeout(600)
            if not flag(self.settings, "smtp-service", True):
                self.say(f"521 {self.server.host_name(self.settings)} does not accept mail from you")
                return
            self.say(f"220 {self.server.host_name(self.settings)} {NAME} ESMTP")
            while True:
                line = self._line()
                verb, _, rest = line.partition(" ")
                handler: Callable[[str], None] | None = getattr(self, f"do_{verb.lower()}", None)
                if handler is None or not re.fullmatch(r"[A-Za-z]+", verb):
                    self.say("500 5.5.1 unknown command")
                    continue
                handler(rest.strip())
        except (Goodbye, OSError, ssl.SSLError, UnicodeError):
            pass
        finally:
            with contextlib.suppress(OSError):
                self.file.close()
                self.socket.close()

    def _line(self) -> str:
        line = self.file.readline(MOST_LINE)
        if not line.endswith(b"\n"):
            raise Goodbye
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n")

    def do_ehlo(self, rest: str) -> None:
        self.helo = rest
        self._forget()
        settings = self.settings
        offers = [f"250 {self.server.host_name(settings)}", "250 PIPELINING", "250 8BITMIME", "250 SMTPUTF8", "250 DSN"]
        offers += [f"250 SIZE {self._most_bytes() or 0}", "250 ENHANCEDSTATUSCODES"]
        if self._offers_tls():
            offers.append("250 STARTTLS")
        if self._offers_auth():
            offers.append("250 AUTH LOGIN PLAIN")
        self.say(*offers)

    def do_helo(self, rest: str) -> None:
        self.helo = rest
        self._forget()
        self.say(f"250 {self.server.host_name(self.settings)}")

    def do_noop(self, rest: str) -> None:
        self.say("250 2.0.0 OK")

    def do_rset(self, rest: str) -> None:
        self._forget()
        self.say("250 2.0.0 OK")

    def do_vrfy(self, rest: str) -> None:
        self.say("252 2.5.1 cannot verify")

    def do_quit(self, rest: str) -> None:
        self.say("221 2.0.0 goodbye")
        raise Goodbye

    # ---- TLS and logins

    def _offers_tls(self) -> bool:
        certificate = self.server.configuration.globals.get("smtp-server-tls-certificate")
        return not self.tls and bool(certificate) and flag(self.settings, "allow-starttls")

    def do_starttls(self, rest: str) -> None:
        if not self._offers_tls():
            self.say("502 5.5.1 no STARTTLS here")
            return
        words = self.server.configuration.globals["smtp-server-tls-certificate"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(words[0], password=words[1] if words[1:] else None)
        except (OSError, ssl.SSLError):
            self.say("454 4.7.0 the certificate cannot be used")
            return
        self.say("220 2.0.0 go ahead")
        self.file.close()
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.file = self.socket.makefile("rb")
        self.tls, self.user, self.helo = True, "", ""
        self._forget()

    def _offers_auth(self) -> bool:
        settings = self.settings
        if not self.server.configuration.users or not flag(settings, "allow-auth", True) or self.user:
            return False
        if flag(settings, "require-starttls-before-auth") and not self.tls:
            return False
        return self.tls or flag(settings, "allow-unencrypted-plain-auth")

    def do_auth(self, rest: str) -> None:
        method, _, initial = rest.partition(" ")
        if not self._offers_auth():
            self.say("538 5.7.11 encryption is needed, or there is no AUTH here")
            return
        try:
            if method.upper() == "PLAIN":
                parts = self._secret(initial, "").split("\0")
                name, password = parts[1:3] if len(parts) == 3 else ("", "")
            elif method.upper() == "LOGIN":
                name = self._secret(initial, "VXNlcm5hbWU6")
                password = self._secret("", "UGFzc3dvcmQ6")
            else:
                self.say("504 5.5.4 PLAIN or LOGIN")
                return
        except (binascii.Error, ValueError):
            self.say("501 5.5.2 not base64")
            return
        wanted = first(self.server.configuration.users.get(name, {}), "password")
        if not wanted or not hmac.compare_digest(wanted.encode(), password.encode()):
            time.sleep(0.5)
            self.say("535 5.7.8 authentication failed")
            return
        self.user = name
        self.say("235 2.7.0 authenticated")

    def _secret(self, initial: str, prompt: str) -> str:
        if not initial:
            self.say(f"334 {prompt}")
            initial = self._line()
        return base64.b64decode(initial if initial != "=" else "", validate=True).decode()

    # ---- mail

    def _most_bytes(self) -> int:
        return inbound.size_limit(first(self.settings, "max-message-size"))

    def do_mail(self, rest: str) -> None:
        found = re.fullmatch(r"(?i)FROM:\s*<([^>]*)>(.*)", rest)
        settings = self.settings
        if not found:
            self.say("501 5.5.4 MAIL FROM:<address>")
        elif not self.helo:
            self.say("503 5.5.1 EHLO first")
        elif flag(settings, "require-auth") and not self.user:
            self.say("530 5.7.0 authentication required")
        elif self.sender is not None:
            self.say("503 5.5.1 there is a sender already")
        else:
            self.parameters = _parameters(found[2])
            declared = self.parameters.get("SIZE", "0")
            if self._most_bytes() and declared.isdigit() and int(declared) > self._most_bytes():
                self.say("552 5.3.4 the message is too large")
                return
            self.sender = found[1]
            self.say("250 2.1.0 OK")

    def do_rcpt(self, rest: str) -> None:
        found = re.fullmatch(r"(?i)TO:\s*<([^>]+)>(.*)", rest)
        settings, configuration = self.settings, self.server.configuration
        most = number(settings, "max-rcpt-per-message", 0)
        try:
            address = configuration.qualified(settings, found[1] if found else "")
        except ValueError:
            self.say("501 5.1.3 RCPT TO:<local@domain>")
            return
        assert found
        if self.sender is None:
            self.say("503 5.5.1 MAIL first")
        elif most and len(self.recipients) >= most:
            self.say("452 4.5.3 too many recipients")
        elif not flag(settings, "always-allow-relaying") and not configuration.relays(address):
            self.say("550 5.7.1 relaying denied")
        else:
            self.recipients += [(one, _parameters(found[2])) for one in configuration.final(address)]
            self.say("250 2.1.5 OK")

    def do_data(self, rest: str) -> None:
        if not self.recipients:
            self.say("503 5.5.1 RCPT first")
            return
        self.say("354 end with a line of one dot")
        lines: list[bytes] = []
        size, limit = 0, self._most_bytes()
        whole = True  # the line before ended with CRLF: behind any other end a dot is text, else mail is smuggled in
        while True:
            line = self.file.readline(1 << 20)
            if not line:
                raise Goodbye
            if line == b".\r\n" and whole:
                break
            whole = line.endswith(b"\r\n")
            line = line[1:] if line.startswith(b".") else line
            size += len(line)
            if not limit or size <= limit:
                lines.append(line.removesuffix(b"\n").removesuffix(b"\r").replace(b"\r", b" ") + b"\r\n")
        if limit and size > limit:
            self.say("552 5.3.4 the message is too large")
        else:
            try:
                self.say(self._take(b"".join(lines)))
            except Refused as error:
                self.say(str(error))
            except OSError as error:
                self.server.log(f"spool: {error}")
                self.say("452 4.3.1 the spool cannot be written")
        self._forget()

    def _take(self, content: bytes) -> str:
        settings, configuration = self.settings, self.server.configuration
        fields, body = split_message(content)
        plain = [(name, unfold(raw)) for name, raw in fields]
        # A pattern sees the whole field, blanks and line ends too.
        whole = [(name, raw.decode("utf-8", "replace").partition(":")[2]) for name, raw in fields]
        assert self.sender is not None
        addresses = [address for address, _parameters in self.recipients]
        target = configuration.route(settings, whole, self.sender, addresses, self.local[0])
        message = Message(new_id(), self.sender, time.time(), [], src_mta=f"{self.helo} ({self.peer})", user=self.user)
        message.job = self._job(settings, plain)
        message.envid = self.parameters.get("ENVID", "") or (
            _value(plain, "x-envid") if flag(settings, "process-x-envid") else ""
        )
        message.quiet = flag(settings, "suppress-local-dsn")
        given = self.parameters.get("RET", "").lower() or first(settings, "dsn-return-default")
        message.full = given == "full"
        message.verp = flag(settings, "verp-default")
        wanted = {name for kind in ("d", "b", "t") for name in self.server.accounting.wants_header(kind)}
        message.headers = {name: _value(plain, name.lower()) for name in wanted}
        vmta, pool = self.server.queues.member(target)
        for address, parameters in self.recipients:
            processor = configuration.processor(address) if configuration.relays(address) else None
            if processor:
                self.server.process(processor, self.sender, address, content, message.src_mta)
                continue
            recipient = Recipient(address, "", vmta, pool, parameters.get("ORCPT", ""), parameters.get("NOTIFY", ""))
            self.server.queues.place(recipient, self.server.delivery.resolver.lowest, True)
            message.recipients.append(recipient)
        if message.recipients:
            self.server.queues.add(message, self._prepared(settings, fields, body, message, target))
            self._receipts(message)
        return f"250 2.6.0 message {message.id} taken by the PowerMTA stand-in"

    def _job(self, settings: Settings, headers: list[tuple[str, str]]) -> str:
        name = first(settings, "jobid-header")
        if name and (found := _value(headers, name.lower())):
            return first(settings, "jobid-prefix") + found
        return _value(headers, "x-job") if flag(settings, "process-x-job") else ""

    def _prepared(self, settings: Settings, fields: Headers, body: bytes, message: Message, target: str) -> bytes:
        """The message as it goes out, but for its signature."""
        gone = {name.lower() for word in settings.get("remove-header", ()) for name in word.split(",")}
        for name in ("x-virtual-mta", "x-job"):
            if flag(settings, f"process-{name}") and not flag(settings, f"retain-{name}"):
                gone.add(name)
        if flag(settings, "process-x-envid"):
            gone.add("x-envid")
        date = first(settings, "add-date-header", "no").lower()
        if date == "override":
            gone.add("date")
        kept = [(name, raw) for name, raw in fields if name.lower() not in gone]
        names = {name.lower() for name, _raw in kept}
        host = self.server.host_name(settings)
        added = b""
        if flag(settings, "add-received-header", True):
            origin = "" if flag(settings, "hide-message-source") else f"from {self.helo} ({self.peer}) "
            added += (
                f"Received: {origin}by {host} (PowerMTA stand-in {VERSION}) id {message.id}"
                f"\r\n\tfor <{message.recipients[0].address}>; {formatdate(message.time_queued, True)}\r\n"
            ).encode()
        if date in ("yes", "true", "override") and "date" not in names:
            added += f"Date: {formatdate(message.time_queued, True)}\r\n".encode()
        if flag(settings, "add-message-id-header") and "message-id" not in names:
            added += f"Message-ID: {make_msgid(domain=host)}\r\n".encode()
        if flag(settings, "add-x-virtual-mta-header"):
            added += f"X-virtual-MTA: {target}\r\n".encode()
        return added + b"".join(raw for _name, raw in kept) + b"\r\n" + body

    def _receipts(self, message: Message) -> None:
        for recipient in message.recipients:
            self.server.accounting.write(
                {
                    **{"type": "r", "timeLogged": stamp(message.time_queued), "orig": message.sender},
                    **{
                        "rcpt": recipient.address,
                        "orcpt": recipient.orcpt,
                        "srcType": "smtp",
                        "srcMta": message.src_mta,
                    },
                    **{"rcvSourceIp": self.peer, "rcvDestinationIp": self.local[0], "vmta": recipient.vmta},
                    **{"jobId": message.job, "envId": message.envid, "vmtaPool": recipient.pool},
                    **{"rcvSmtpUser": message.user},
                }
            )


def unfold(raw: bytes) -> str:
    return re.sub(r"\r\n([ \t])", r"\1", raw.decode("utf-8", "replace")).partition(":")[2].strip()


def _value(headers: list[tuple[str, str]], name: str) -> str:
    return next((value for other, value in headers if other.lower() == name), "")


def _parameters(text: str) -> dict[str, str]:
    return {name.upper(): value for name, _, value in (part.partition("=") for part in text.split())}
