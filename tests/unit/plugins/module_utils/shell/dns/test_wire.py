# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
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
        with connection, listener:
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
