# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resolver against servers on loopback that do what real ones and attackers do."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Optional

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, UNKNOWN, YES, Answer, Question
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns import resolver
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns.resolver import Resolver
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.dns.still_net import StillNet

Reply = Any  # a message, bytes, a list of them, or None for silence
Handler = Callable[[dns.message.Message], Reply]


class Server:
    """A stand-in name server on real sockets, which looks at them in ``work``. ``by_udp``, ``by_tcp``: its replies."""

    def __init__(
        self, net: StillNet, by_udp: Handler, by_tcp: Optional[Handler] = None, host: str = "127.0.0.1"
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.net, self.by_udp, self.by_tcp = net, by_udp, by_tcp
        self.seen: list[tuple[float, dns.message.Message, Any]] = []
        self.tcp = socket.socket(family, socket.SOCK_STREAM)
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        for _attempt in range(50):
            self.udp.bind((host, 0))
            try:
                self.tcp.bind((host, self.udp.getsockname()[1]))
                break
            except OSError:
                self.udp.close()
                self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.tcp.listen(64)
        self.udp.setblocking(False)
        self.tcp.setblocking(False)
        self.port = self.udp.getsockname()[1]
        self.text = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.streams: dict[socket.socket, bytes] = {}  # what came so far

    def work(self) -> bool:
        """Whether there was anything to do."""
        found = False
        with suppress(BlockingIOError):
            while True:
                wire, peer = self.udp.recvfrom(4096)
                found = True
                query = dns.message.from_wire(wire)
                self.seen.append((self.net.now, query, peer))
                for reply in listed(self.by_udp(query)):
                    self.udp.sendto(reply, peer)
        with suppress(BlockingIOError):
            while True:
                stream, _peer = self.tcp.accept()
                found = True
                stream.setblocking(False)
                self.streams[stream] = b""
        return any([found, *[self._read(stream) for stream in list(self.streams)]])

    def _read(self, stream: socket.socket) -> bool:
        try:
            data = stream.recv(65537)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        came = self.streams[stream] = self.streams[stream] + data
        if data and (len(came) < 2 or len(came) - 2 < int.from_bytes(came[:2], "big") or self.by_tcp is None):
            return True
        del self.streams[stream]
        with stream, suppress(OSError):
            stream.setblocking(True)
            for reply in listed(self.by_tcp(dns.message.from_wire(came[2:]))) if data and self.by_tcp else ():
                stream.sendall(len(reply).to_bytes(2, "big") + reply)
        return True

    def close(self) -> None:
        for sock in (self.udp, self.tcp, *self.streams):
            sock.close()


def listed(reply: Reply) -> list[bytes]:
    if reply is None:
        return []
    several = reply if isinstance(reply, list) else [reply]
    return [each if isinstance(each, bytes) else each.to_wire(max_size=65535) for each in several]


def respond(query: dns.message.Message, *texts: str, rcode: str = "NOERROR", aa: bool = True) -> dns.message.Message:
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.AA if aa else 0
    reply.set_rcode(dns.rcode.from_text(rcode))
    question = query.question[0]
    if texts:
        reply.answer.append(dns.rrset.from_text(question.name, 300, "IN", question.rdtype, *texts))
    return reply


def number_of(query: dns.message.Message) -> int:
    return int(query.question[0].name.labels[0][1:])


def address_of(number: int) -> str:
    return f"192.0.{number // 250}.{number % 250}"


def honest(query: dns.message.Message) -> dns.message.Message:
    """n<number>.test has the address of its number; every third does not exist."""
    number = number_of(query)
    return respond(query, rcode="NXDOMAIN") if number % 3 == 0 else respond(query, address_of(number))


def questions(count: int) -> list[Question]:
    return [Question(f"n{number}.test", "A") for number in range(count)]


def truth(question: Question) -> Answer:
    number = int(question.name[1:].partition(".")[0])
    return Answer(NO) if number % 3 == 0 else Answer(YES, (address_of(number),))


def faithful(count: int) -> dict[Question, Answer]:
    return {question: truth(question) for question in questions(count)}


class Net(StillNet):
    def serve(self, *arguments: Any, **named: Any) -> Server:
        server = Server(self, *arguments, **named)
        self.servers.append(server)
        return server


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    yield made
    made.close()


def test_every_question_gets_its_own_answer(net: Net) -> None:
    server = net.serve(honest)
    assert net.resolver([server.text]).ask([*questions(400), *questions(5)]) == faithful(400)
    assert len({query.id for _time, query, _peer in server.seen}) > 300
    assert len({peer for _time, _query, peer in server.seen}) > 1


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "silence", "broken", "referral"])
def test_the_next_server_is_asked(net: Net, fault: str) -> None:
    def faulty(query: dns.message.Message) -> Reply:
        if fault == "silence":
            return None
        if fault == "broken":
            return respond(query, "192.0.2.1").to_wire()[:-2]
        if fault == "referral":
            reply = respond(query, aa=False)
            reply.authority.append(dns.rrset.from_text("test.", 300, "IN", "NS", "ns.test."))
            return reply
        return respond(query, rcode=fault)

    bad, good = net.serve(faulty), net.serve(honest)
    assert net.resolver([bad.text, good.text], 2.0).ask(questions(20)) == faithful(20)
    assert bad.seen
    alone = net.resolver([bad.text], 0.2).ask(questions(3))
    for answer in alone.values():
        assert answer.status == UNKNOWN
        assert answer.detail.endswith(f"from {bad.text}")
        assert {"silence": "time-out"}.get(fault, fault) in answer.detail


def test_lost_packets_are_sent_again(net: Net) -> None:
    dice = random.Random(3)
    server = net.serve(lambda query: honest(query) if dice.random() < 0.7 else None)
    answers = net.resolver([server.text], 2.0, tries=9).ask(questions(150))
    assert answers == faithful(150)


def test_a_forged_reply_is_ignored(net: Net) -> None:
    def beset(query: dns.message.Message) -> Reply:
        wrong_id, wrong_name, wrong_type = (respond(query, "203.0.113.66").to_wire() for _each in range(3))
        wrong_name = wrong_name.replace(b"\4test", b"\4tess")
        question_end = len(query.question[0].name.to_wire()) + 12
        wrong_type = wrong_type[: question_end + 1] + b"\x1c" + wrong_type[question_end + 2 :]
        return [
            bytes([wrong_id[0] ^ 1]) + wrong_id[1:],
            wrong_name,
            wrong_type,
            wrong_id[:2] + b"\x84",
            b"",
            query.to_wire(),
            honest(query),
        ]

    server = net.serve(beset)
    assert net.resolver([server.text], 2.0).ask(questions(40)) == faithful(40)


def test_only_the_server_that_was_asked_may_answer(net: Net) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:

        def beset(query: dns.message.Message) -> Reply:
            stranger.sendto(respond(query, "203.0.113.66").to_wire(), server.seen[-1][2])
            return honest(query)

        server = net.serve(beset)
        assert net.resolver([server.text], 2.0).ask(questions(20)) == faithful(20)


def truncated(query: dns.message.Message) -> dns.message.Message:
    reply = respond(query)
    reply.flags |= dns.flags.TC
    return reply


def test_what_is_cut_comes_by_tcp(net: Net) -> None:
    long = "x" * 3000
    strings = " ".join(f'"{long[at : at + 250]}"' for at in range(0, 3000, 250))
    server = net.serve(truncated, lambda query: respond(query, strings))
    wanted = [Question(f"n{number}.test", "TXT") for number in range(40)]
    assert net.resolver([server.text], 5.0).ask(wanted) == dict.fromkeys(wanted, Answer(YES, (long,)))


def test_a_stalled_stream_keeps_nobody_waiting(net: Net) -> None:
    done: list[float] = []

    def mixed(query: dns.message.Message) -> Reply:
        done.append(net.now)
        return truncated(query) if number_of(query) < 5 else honest(query)

    server = net.serve(mixed)
    begin = net.now
    answers = net.resolver([server.text], 0.5, tries=1).ask(questions(200))
    assert {question: answers[question] for question in questions(200)[5:]} == {
        question: truth(question) for question in questions(200)[5:]
    }
    assert {answers[question].detail for question in questions(5)} == {f"time-out by TCP from {server.text}"}
    assert done[199] - begin < 0.5


def test_a_server_whose_streams_all_stall_is_asked_few(net: Net) -> None:
    server = net.serve(truncated)
    begin = net.now
    answers = net.resolver([server.text], 0.5, tries=1).ask(questions(400))
    assert {answer.status for answer in answers.values()} == {UNKNOWN}
    assert net.now - begin < 5.0  # one after the other they would take 400 / 16 * 0.5 seconds


@pytest.mark.parametrize(
    "by_tcp", [lambda query: b"\0", lambda query: None, lambda query: respond(query).to_wire()[1:]]
)
def test_a_broken_stream_is_unknown(net: Net, by_tcp: Handler) -> None:
    answers = net.resolver([net.serve(truncated, by_tcp).text], 1.0).ask(questions(2))
    assert {answer.status for answer in answers.values()} == {UNKNOWN}


def test_a_server_without_edns_is_asked_without(net: Net) -> None:
    def old(query: dns.message.Message) -> Reply:
        if query.edns < 0:
            return honest(query)
        reply = respond(query, rcode="FORMERR").to_wire()
        return reply[:4] + bytes(8) if number_of(query) % 2 else reply

    server = net.serve(old)
    assert net.resolver([server.text], 2.0).ask(questions(300)) == faithful(300)
    assert sum(query.edns >= 0 for _time, query, _peer in server.seen) < 300


def test_a_server_is_not_asked_faster_than_its_limit(net: Net) -> None:
    one, other = net.serve(honest), net.serve(honest)
    begin = net.now
    assert net.resolver([one.text, other.text], queries_per_second=200).ask(questions(120)) == faithful(120)
    took = net.now - begin
    for server in (one, other):
        assert len(server.seen) <= 200 * (took + 0.02) + 1
    assert took > 0.2


def test_every_server_is_asked_everything(net: Net) -> None:
    right = net.serve(honest)
    wrong = net.serve(lambda query: respond(query, "203.0.113.1"))
    cache = net.serve(lambda query: respond(query, "203.0.113.1", aa=False))
    servers = [server.text for server in (right, wrong, cache)]
    asker = net.resolver(servers, 20.0, recursive=False)  # they share a process that may be busy
    assert asker.servers == servers
    answers = asker.ask_each(questions(100))
    for question in questions(100):
        assert answers.pop((right.text, question)) == truth(question)
        assert answers.pop((wrong.text, question)) == Answer(YES, ("203.0.113.1",))
        assert answers.pop((cache.text, question)) == Answer(UNKNOWN, detail=f"not authoritative from {cache.text}")
    assert not answers
    assert not any(query.flags & dns.flags.RD for _time, query, _peer in right.seen)


def test_a_dead_server_is_given_up(net: Net) -> None:
    dead, good = net.serve(lambda query: None), net.serve(honest)
    begin = net.now
    answers = net.resolver([dead.text, good.text], 1.5).ask_each(questions(2000))  # the good one shares a busy process
    assert net.now - begin < 10
    assert {answer.status for (server, _question), answer in answers.items() if server == dead.text} == {UNKNOWN}
    assert all(answers[(good.text, question)] == truth(question) for question in questions(2000))
    assert len(dead.seen) < 500


def test_nobody_at_home_is_unknown(net: Net) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{sock.getsockname()[1]}"
    begin = net.now
    answers = net.resolver([closed], 5.0).ask(questions(50))
    assert {answer.status for answer in answers.values()} == {UNKNOWN}
    assert "refused" in answers[questions(1)[0]].detail
    assert net.now - begin < 4


def test_ipv6(net: Net) -> None:
    try:
        server = net.serve(honest, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert net.resolver([server.text]).ask(questions(10)) == faithful(10)


def test_questions_are_taken_as_they_can_be_asked(net: Net) -> None:
    taken = 0
    most = 0

    def counted() -> Iterator[Question]:
        nonlocal taken
        for question in questions(3000):
            taken += 1
            yield question

    def slow(query: dns.message.Message) -> Reply:
        nonlocal most
        most = max(most, taken - len(server.seen))
        return honest(query)

    server = net.serve(slow)
    assert net.resolver([server.text]).ask(counted()) == faithful(3000)
    assert most < 700


def test_validation_is_asked_for_and_told(net: Net) -> None:
    def validating(query: dns.message.Message) -> Reply:
        reply = respond(query, "192.0.2.1")
        reply.flags |= query.flags & dns.flags.AD
        return reply

    server = net.serve(validating)
    for asked in (True, False):
        (answer,) = net.resolver([server.text], dnssec=asked).ask(questions(1)).values()
        assert answer.authenticated == asked
        assert (answer.ttl, answer.authoritative) == (300, True)


def test_what_is_no_name_is_unknown_and_the_rest_is_asked(net: Net) -> None:
    bad = [Question("a..b", "A"), Question("x" * 64, "A"), Question("n1.test", "NOPE")]
    answers = net.resolver([net.serve(honest).text]).ask([*bad, *questions(3)])
    for question in bad:
        assert answers.pop(question).detail.startswith("it is no DNS name")
    assert answers == faithful(3)


def test_nothing_asked_is_nothing_answered() -> None:
    assert Resolver(["127.0.0.1"]).ask([]) == {}
    assert Resolver(["127.0.0.1"]).ask_each([]) == {}


@pytest.mark.parametrize("text", ["", "192.0.2.1:x", "192.0.2.1:0", "[::1]:99999", "[]:53", ":53"])
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no server"):
        Resolver([text])


def test_the_system_says_whom_to_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("# x\nsearch test\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\noptions edns0\n")
    monkeypatch.setattr(resolver, "_RESOLV_CONF", str(conf))
    assert Resolver().servers == ["192.0.2.1", "fe80::1%eth0"]
    conf.unlink()
    assert Resolver().servers == ["127.0.0.1"]
