# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns import wire as dnswire
from hypothesis import given, settings
from hypothesis import strategies as st

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"


def serve(answer: Callable[[bytes], list[bytes]], **keywords: str) -> dnswire.Peer:
    """A server on the loopback that takes one message by TCP and gives what ``answer`` makes of it, then closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _address = listener.accept()
        with connection, listener, suppress(OSError):  # whoever has heard enough hangs up
            (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
            for wire in answer(connection.recv(length, socket.MSG_WAITALL)):
                connection.sendall(struct.pack("!H", len(wire)) + wire)

    threading.Thread(target=run, daemon=True).start()
    return dnswire.Peer("127.0.0.1", listener.getsockname()[1], timeout_seconds=600.0, **keywords)  # type: ignore[arg-type]


def reply(wire: bytes, code: int = 0) -> dns.message.Message:
    answer = dns.message.make_response(dns.message.from_wire(wire, ignore_trailing=True, keyring=False))
    answer.set_rcode(dns.rcode.Rcode(code))
    return answer


SOA = dns.rrset.from_text("example.com.", 60, "IN", "SOA", "ns. host. 1 2 3 4 5")


def test_a_transfer_in_parts() -> None:
    def answer(wire: bytes) -> list[bytes]:
        parts = []
        for sets in (
            [SOA, dns.rrset.from_text("A.example.com.", 60, "IN", "A", "192.0.2.1")],
            [dns.rrset.from_text("a.example.com.", 60, "IN", "A", "192.0.2.2"), SOA],
        ):
            message = reply(wire)
            message.answer = sets
            parts.append(message.to_wire())
        return parts

    (found,) = dnswire.transfer(serve(answer), "example.com")
    assert (found.name, found.type, found.ttl) == ("a.example.com", "A", 60)
    assert {dnswire.text_of(data) for data in found.data} == {"192.0.2.1", "192.0.2.2"}


def test_an_empty_zone_is_two_soa_records() -> None:
    def answer(wire: bytes) -> list[bytes]:
        message = reply(wire)
        message.answer = [SOA, SOA]
        return [message.to_wire()]

    assert dnswire.transfer(serve(answer), "example.com") == []


def test_a_transfer_that_is_cut_is_no_zone() -> None:
    def answer(wire: bytes) -> list[bytes]:
        message = reply(wire)
        message.answer = [SOA, dns.rrset.from_text("a.example.com.", 60, "IN", "A", "192.0.2.1")]
        return [message.to_wire()]

    with pytest.raises(dnswire.AnswerLost, match="closed"):
        dnswire.transfer(serve(answer), "example.com")


@pytest.mark.parametrize("code", ["REFUSED", "NOTAUTH", "SERVFAIL", "NXRRSET", "YXRRSET"])
def test_refusals_have_their_name(code: str) -> None:
    peer = serve(lambda wire: [reply(wire, dns.rcode.from_text(code)).to_wire()])
    with pytest.raises(dnswire.Refused, match=code):
        dnswire.update(peer, "example.com", [])


def test_an_unsigned_yes_is_not_believed() -> None:
    peer = serve(lambda wire: [wire_without_key(wire)], key_name="k", key_secret=SECRET)
    with pytest.raises(dnswire.AnswerLost, match=r"TSIG|not signed"):
        dnswire.update(peer, "example.com", [])


def wire_without_key(wire: bytes) -> bytes:
    answer = dns.message.Message(id=struct.unpack("!H", wire[:2])[0])
    answer.flags = dns.flags.QR
    answer.set_opcode(dns.opcode.UPDATE)
    return answer.to_wire()


@pytest.mark.parametrize("answer", [b"", b"x", b"\0" * 12, b"\xff" * 40])
def test_garbage_is_a_lost_answer(answer: bytes) -> None:
    with pytest.raises(dnswire.AnswerLost):
        dnswire.update(serve(lambda _wire: [answer]), "example.com", [])


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(dnswire.NotConnected):
        dnswire.update(dnswire.Peer("127.0.0.1", port), "example.com", [])


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = dnswire.Peer("127.0.0.1", listener.getsockname()[1], timeout_seconds=0.1)
        with pytest.raises(dnswire.AnswerLost):
            dnswire.update(peer, "example.com", [])


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=700))
def test_txt_of_any_bytes_goes_over_the_wire(data: bytes) -> None:
    strings = [data[start : start + 255] for start in range(0, len(data), 255)] or [b""]
    assert dnswire.joined(dnswire.txt_data(strings)) == data


@given(st.integers(1, 40), st.integers(0, 40))
def test_the_size_of_an_edit_is_never_too_small(old: int, new: int) -> None:
    def data(count: int) -> tuple[object, ...]:
        return tuple(dnswire.txt_data([b"x" * 200, bytes([n])]) for n in range(count))

    edit = dnswire.Edit("name.example.com", "TXT", 60, data(old), data(old), data(new))
    message = dns.update.UpdateMessage("example.com")
    name = dns.name.from_text(edit.name)
    message.prerequisite.append(dns.rrset.from_rdata_list(name, 0, edit.expected))
    message.delete(name, *edit.removed)
    if edit.added:
        message.update.append(dns.rrset.from_rdata_list(name, 60, edit.added))
    assert len(message.to_wire()) - 12 - len("example.com") - 6 <= dnswire.size_of(edit)


KEYED = {"key_name": "k", "key_secret": SECRET}
KEY = dns.tsig.Key("k", SECRET, "hmac-sha256")


def stream(wire: bytes, signed: str) -> list[bytes]:
    """A transfer of one record a message, SOA first and last; those are signed whose letter is ``s``.

    A message ``f`` is forged: whoever sends it has no key, and the server knows nothing of it.
    """
    query = dns.message.from_wire(wire, keyring={KEY.name: KEY})
    context = None
    sent = []
    for number, kind in enumerate(signed):
        message = dns.message.make_response(query)
        record = dns.rrset.from_text(f"{kind}{number}.example.com.", 60, "IN", "A", "192.0.2.1")
        message.answer = [record] if kind == "f" else [SOA] if number in (0, len(signed) - 1) else [record]
        if number == 1 and signed[0] == "f":
            message.answer = [SOA, record]
        if kind == "s":
            sent.append(message.to_wire(multi=True, tsig_ctx=context))
            context = message.tsig_ctx
            continue
        message.tsig = None
        sent.append(message.to_wire())
        if kind == "u" and context:
            context.update(sent[-1])
    return sent


def keyed(signed: str) -> list[str]:
    return [each.name for each in dnswire.transfer(serve(lambda wire: stream(wire, signed), **KEYED), "example.com")]


@pytest.mark.parametrize("signed", ["sss", "sus", "s" + "u" * 99 + "s", "s" + "u" * 99 + "s" + "u" * 99 + "s"])
def test_a_transfer_may_leave_99_messages_unsigned(signed: str) -> None:
    assert len(keyed(signed)) == len(signed) - 2


@pytest.mark.parametrize(
    ("signed", "why"),
    [
        ("fss", "is not signed"),  # before the first one
        ("ffs", "is not signed"),
        ("uss", "is not signed"),
        ("uuu", "is not signed"),
        ("sfs", "cannot be read: BadSignature"),  # between two
        ("ssfs", "cannot be read: BadSignature"),
        ("su", "does not end with a signature"),
        ("ssu", "does not end with a signature"),
        ("s" + "u" * 100 + "s", "is not signed"),
    ],
)
def test_who_has_no_key_adds_nothing_to_a_transfer(signed: str, why: str) -> None:
    with pytest.raises(dnswire.AnswerLost, match=why):
        keyed(signed)


@pytest.mark.parametrize("code", ["NOERROR", "REFUSED", "NXRRSET"])
def test_an_unsigned_no_is_believed_no_more_than_a_yes(code: str) -> None:
    def answer(wire: bytes) -> list[bytes]:
        message = reply(wire, dns.rcode.from_text(code))
        message.tsig = None
        return [message.to_wire()]

    with pytest.raises(dnswire.AnswerLost, match=code):
        dnswire.update(serve(answer, **KEYED), "example.com", [])
    with pytest.raises(dnswire.AnswerLost, match=code):
        dnswire.transfer(serve(answer, **KEYED), "example.com")


@pytest.mark.parametrize("code", ["REFUSED", "NXRRSET"])
def test_a_signed_no_is_believed(code: str) -> None:
    def answer(wire: bytes) -> list[bytes]:
        message = dns.message.make_response(dns.message.from_wire(wire, keyring={KEY.name: KEY}))
        message.set_rcode(dns.rcode.from_text(code))
        return [message.to_wire()]

    with pytest.raises(dnswire.Refused, match=code):
        dnswire.update(serve(answer, **KEYED), "example.com", [])
    with pytest.raises(dnswire.Refused, match=code):
        dnswire.transfer(serve(answer, **KEYED), "example.com")


class Endless:
    """A connection on which records of a transfer come for ever, each message after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.limits: list[float] = []
        self.messages = 0
        self.waiting = b""

    def __enter__(self) -> Endless:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def monotonic(self) -> float:
        return self.now

    def settimeout(self, seconds: float) -> None:
        self.limits.append(seconds)

    def sendall(self, data: bytes) -> None:
        self.query = data[2:]

    def recv(self, count: int) -> bytes:
        if not self.waiting:
            if self.messages > 1000:
                pytest.fail("it goes on and on")
            message = reply(self.query)
            message.answer = [dns.rrset.from_text(f"a{self.messages}.example.com.", 60, "IN", "A", "192.0.2.1")]
            wire = message.to_wire()
            self.waiting = struct.pack("!H", len(wire)) + wire
            self.messages += 1
            self.now += self.seconds
        part, self.waiting = self.waiting[:count], self.waiting[count:]
        return part


def test_a_transfer_without_an_end_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Endless(1.0)
    monkeypatch.setattr(dnswire, "_connected", lambda _peer: server)
    monkeypatch.setattr(dnswire, "time", server)
    with pytest.raises(dnswire.AnswerLost, match="not all of it came in 60 seconds"):
        dnswire.transfer(dnswire.Peer("192.0.2.1", timeout_seconds=10.0), "example.com")
    assert server.messages == 60
    assert max(server.limits) == 10.0  # a wait is not shorter after a long one
    assert min(server.limits) == 1.0  # and none goes beyond the deadline


def test_a_transfer_without_an_end_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Endless(0.0)
    monkeypatch.setattr(dnswire, "_connected", lambda _peer: server)
    monkeypatch.setattr(dnswire, "_MAX_ANSWERS", 1000)
    with pytest.raises(dnswire.AnswerLost, match="more than 1000 bytes"):
        dnswire.transfer(dnswire.Peer("192.0.2.1"), "example.com")
    assert 10 < server.messages < 1000 / 20
