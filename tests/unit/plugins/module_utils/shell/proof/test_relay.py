# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the relay probes, against SMTP servers on loopback that are open in one way each: every way is found and
named, what is closed is called closed, and no message is ever finished.
"""

from __future__ import annotations

import datetime
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Callable, NamedTuple

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.proof import relay as relay_probes
from ansible_collections.mailops.mta.plugins.module_utils.core.proof.relay import Probe
from ansible_collections.mailops.mta.plugins.module_utils.shell.proof import relay
from ansible_collections.mailops.mta.plugins.modules import relay_info
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RECIPIENT, SENDER = "x@sink.test", "probe@news.example.com"
PROBES = relay_probes.probes(RECIPIENT, [SENDER])
OFFERS = ("PIPELINING", "DSN")
CHUNKING = (*OFFERS, "CHUNKING")
HANG_UP = ""


class Rule(NamedTuple):
    """What is answered to a line, and what the same connection must have heard before."""

    line: str
    reply: str
    after: str = ""


# What Postfix says to a stranger whose refusal waits for RCPT.
CLOSED = (
    Rule("EHLO|HELO|MAIL|RSET|NOOP", "250 2.0.0 Ok"),
    Rule("RCPT", "554 5.7.1 Relay access denied"),
    Rule("DATA|BDAT", "554 5.5.1 Error: no valid recipients"),
    Rule("VRFY", "252 2.0.0 Try it"),
    Rule("ETRN", "459 4.7.1 service unavailable"),
    Rule("XCLIENT|XFORWARD", "550 5.7.0 Error: insufficient authorization"),
    Rule("AUTH", "530 5.7.0 Must issue a STARTTLS command first"),
    Rule("QUIT", "221 2.0.0 Bye"),
    Rule("", "502 5.5.2 Error: command not recognized"),
)


class Server:
    """Answers each line by the first rule that fits, notes what it heard, and finishes messages as a server does."""

    def __init__(self, *rules: Rule, **ways: Any) -> None:
        self.rules = (*rules, *CLOSED)
        self.greeting: str = ways.get("greeting", "220 mx.example.com ESMTP")
        self.offers: tuple[str, ...] = ways.get("offers", OFFERS)
        self.tls: ssl.SSLContext | None = ways.get("tls")
        self.at_once: bool = ways.get("at_once", False)
        self.keeps: bool = ways.get("keeps", False)  # what came in plain text, over the handshake: CVE-2011-0411
        self.most_errors: int = ways.get("most_errors", 1000)
        self.most_connections: int = ways.get("most_connections", 1000)
        self.connections = self.refusals = self.messages = 0
        self.lines: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _address = self.listener.accept()
                self.connections += 1
                if self.connections > self.most_connections:
                    connection.close()
                    continue
                with suppress(OSError):
                    self._serve(Stream(connection))

    def _serve(self, stream: Stream) -> None:
        before, errors = "", 0
        if self.tls and self.at_once:
            stream.encrypt(self.tls, keeps=False)
        stream.say(self.greeting)
        while True:
            line = stream.line()
            self.lines.append(line)
            reply = next(r.reply for r in self.rules if re.match(r.line, line) and re.search(r.after, before))
            if self.tls and line == "STARTTLS":
                stream.say("220 2.0.0 Ready to start TLS")
                stream.encrypt(self.tls, self.keeps)
            elif line.startswith("EHLO") and reply.startswith("2"):
                stream.say(*(f"250-{name}" for name in ("mx.example.com", *self.offers)), "250 STARTTLS")
            elif line.startswith("BDAT") and "CHUNKING" in self.offers:
                stream.take(int(line.split()[1]))
                self.messages += line.endswith("LAST")
                stream.say(reply)
            elif reply == HANG_UP or errors > self.most_errors:
                stream.socket.close()
            else:
                stream.say(reply)
            errors += reply.startswith(("4", "5"))
            before += f"{line}\n"
            if line == "DATA" and reply.startswith("3"):
                while stream.line() != ".":
                    pass
                self.messages += 1


class Stream:
    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.heard = connection, b""

    def take(self, size: int) -> bytes:
        while len(self.heard) < size:
            got = self.socket.recv(65536)
            if not got:
                self.socket.close()
                raise OSError
            self.heard += got
        taken, self.heard = self.heard[:size], self.heard[size:]
        return taken

    def line(self) -> str:
        got = b""
        while not got.endswith(b"\r\n"):
            got += self.take(1)
        return got.decode().rstrip("\r\n")

    def say(self, *lines: str) -> None:
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def encrypt(self, context: ssl.SSLContext, keeps: bool) -> None:
        self.heard = self.heard if keeps else b""
        self.socket = context.wrap_socket(self.socket, server_side=True)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.com")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, *(datetime.datetime(y, 1, 1) for y in (2020, 2120)))
    certificate = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form) + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


Serve = Callable[..., Server]


@pytest.fixture
def serve(tls: ssl.SSLContext) -> Iterator[Serve]:
    """Starts servers, and sees that none was given a whole message."""
    started: list[Server] = []

    def start(*rules: Rule, **ways: Any) -> Server:
        started.append(Server(*rules, **{"tls": tls, **ways}))
        return started[-1]

    yield start
    for server in started:
        server.listener.close()
        assert server.messages == 0


def found(server: Server) -> tuple[str, str]:
    result = relay_info.probe("mta1", "127.0.0.1", server.port, RECIPIENT, [SENDER, ""], 20)
    assert {**result, "state": "", "detail": ""} == {
        **{"host": "mta1", "ip": "127.0.0.1", "port": server.port},
        **{"state": "", "detail": ""},
    }
    return result["state"], result["detail"]


def filled(command: str) -> str:
    return relay_probes.filled(command.partition("\r\n")[0], "127.0.0.1", "127.0.0.1", "mx.example.com")


def only(probe: Probe) -> list[Rule]:
    """What opens a server by this probe alone, as far as the words of its conversation tell it from others."""
    after = {relay_probes.HELO: "HELO", relay_probes.TLS: "STARTTLS"}.get(probe.opening, "")
    rules = [Rule(f"{re.escape(filled(command))}$", "250 2.1.0 Ok") for command in probe.commands]
    if rules:
        rules[-1] = Rule(rules[-1].line, f"{probe.opens[0]:0<3} open", after)
    return [*rules, Rule("MAIL", "554 5.7.1 Sender address rejected")]


WAYS = {(probe.family, (probe.commands or ("EHLO",))[-1].split()[0]): probe for probe in PROBES}


@pytest.mark.parametrize("probe", WAYS.values(), ids=["-".join(way) for way in WAYS])
def test_each_way_in_is_found_and_named(serve: Serve, probe: Probe) -> None:
    keeps = probe.opening == relay_probes.INJECTED
    offers = (*CHUNKING, *([probe.offers] if probe.offers else []))
    state, detail = found(serve(*([] if keeps else only(probe)), keeps=keeps, offers=offers))
    assert (state, detail.startswith(f"{probe.family} (")) == ("open", True), detail
    assert [command for command in map(filled, probe.commands) if command not in detail] == []


def test_a_closed_server_is_asked_everything_and_refuses_in_its_own_words(serve: Serve) -> None:
    server = serve(offers=CHUNKING)
    assert found(server) == ("refused", "554 5.7.1 Relay access denied")
    asked = {filled(c) for probe in PROBES for c in probe.commands if not c.startswith(("DATA", "BDAT"))}
    assert asked - set(server.lines) == set()
    assert server.connections < 30


def test_recipients_that_are_taken_are_no_open_relay_where_text_is_refused(serve: Serve) -> None:
    server = serve(Rule("RCPT", "250 2.1.5 Ok"), Rule("DATA|BDAT", "554 5.7.1 Access denied"), offers=CHUNKING)
    assert found(server) == ("refused", "554 5.7.1 Access denied")
    assert {line.split()[0] for line in server.lines} >= {"DATA", "BDAT"}


def test_all_that_is_open_is_named_at_once(serve: Serve) -> None:
    state, detail = found(serve(Rule("RCPT", "250 2.1.5 Ok"), Rule("DATA", "354 go ahead"), Rule("VRFY", "250 root")))
    assert state == "open"
    assert detail.startswith(
        f"foreign recipient (MAIL FROM:<{SENDER}>, RCPT TO:<{RECIPIENT}>, DATA): 354 go ahead; open as"
    )
    assert {"percent hack", "bare postmaster with DSN options", "after HELO", "under TLS", "VRFY"} <= set(
        detail.partition("open as well: ")[2].split(", ")
    )


@pytest.mark.parametrize(
    ("rules", "ways"),
    [
        ([Rule("EHLO|HELO", HANG_UP)], {"greeting": "554 5.7.1 Client host rejected"}),
        ([Rule("(?!QUIT)", "503 5.7.0 Error: access denied")], {"greeting": "554 5.7.1 Client host rejected"}),
        ([Rule("EHLO|HELO", HANG_UP)], {"greeting": "521 5.7.1 Client host rejected"}),
    ],
    ids=["554", "554-until-QUIT", "521"],
)
def test_a_server_that_refuses_at_connect_is_asked_once(serve: Serve, rules: list[Rule], ways: dict[str, str]) -> None:
    server = serve(*rules, **ways)
    assert found(server) == ("refused", ways["greeting"])
    assert server.connections == 1


def test_a_greeting_that_refuses_hides_no_server_that_takes_mail_all_the_same(serve: Serve) -> None:
    rules = Rule("RCPT", "250 2.1.5 Ok"), Rule("DATA", "354 go ahead")
    assert found(serve(*rules, greeting="554 5.7.1 No service"))[0] == "open"


@pytest.mark.parametrize("reply", ["554 5.7.1 Access denied", HANG_UP], ids=["554", "hangs-up"])
def test_a_sender_that_is_refused_is_not_tried_with_each_recipient(serve: Serve, reply: str) -> None:
    server = serve(Rule("MAIL", reply))
    assert found(server) == ("refused", reply or "it hangs up")
    mails = {(*probe.opening, probe.commands[0]) for probe in PROBES if len(probe.commands) == 3}
    assert server.connections <= (8 if reply else 2 * len(mails) + 3)
    assert not [line for line in server.lines if line.startswith("RCPT")]


def test_a_server_that_hangs_up_after_errors_is_called_again(serve: Serve) -> None:
    state, detail = found(serve(Rule("ETRN", "250 2.0.0 Queuing started"), most_errors=4))
    assert (state, detail[:5]) == ("open", "ETRN ")


@pytest.mark.parametrize(
    ("rules", "ways", "says"),
    [
        ([Rule("RCPT", "450 4.2.0 later")], {}, "450 4.2.0 later"),
        ([Rule("RCPT TO:<postmaster>", "250 Ok"), Rule("DATA", "451 4.3.0 later")], {}, "451 4.3.0 later"),
        ([], {"greeting": "421 4.3.2 too many connections"}, "421 4.3.2 too many connections"),
        ([], {"most_connections": 3}, "after 3 connections: it hangs up"),
    ],
    ids=["RCPT", "DATA", "greeting", "banned"],
)
def test_what_was_not_refused_for_good_is_unknown(
    serve: Serve, rules: list[Rule], ways: dict[str, Any], says: str
) -> None:
    assert found(serve(*rules, **ways)) == ("unknown", says)


def test_mail_for_domains_of_its_own_is_no_relay_but_an_exemption_for_postmaster_is(serve: Serve) -> None:
    # As a host does that reads bounces: all mail for the domain is taken, percent signs and all.
    takes = Rule(r"RCPT TO:<[^:]*@news\.example\.com>", "250 2.1.5 Ok"), Rule("DATA", "354 go ahead")
    assert found(serve(*takes))[0] == "refused"
    exempt = Rule(r"RCPT TO:<postmaster@news\.example\.com>", "250 2.1.5 Ok"), Rule("DATA", "354 go ahead")
    assert found(serve(*exempt))[1].startswith("bare postmaster (")


def test_auth_is_no_fault_where_the_connection_begins_with_tls(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    login = Rule("AUTH (PLAIN|LOGIN)", "334 ")
    state, detail = found(serve(login, offers=(*OFFERS, "AUTH")))
    assert (state, detail[:15]) == ("open", "AUTH before TLS")
    for more, verdict in (([], "refused"), ([Rule("VRFY", "250 root")], "open")):
        server = serve(login, *more, offers=(*OFFERS, "AUTH"), at_once=True)
        monkeypatch.setattr(relay, "IMPLICIT_TLS_PORT", server.port)
        assert found(server)[0] == verdict
