# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many DNS questions at once over given servers. Each gets one of three answers; no fault becomes a no.

One loop without threads. Every server has a window of questions in flight, which grows with its answers and shrinks
with its silence, and a pace that it is never asked beyond. A reply counts where it comes from the server that was
asked, to the port that asked, with the same id and the same question. What does not fit into a datagram comes by TCP.
"""

from __future__ import annotations

import contextlib
import errno
import math
import operator
import os
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import wire as message
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import (
    UNKNOWN,
    Answer,
    Question,
    judge,
    plain,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell import garbage

_RESOLV_CONF = "/etc/resolv.conf"
_SOCKETS = 4  # for each server; each has a port of its own
_WINDOW, _MIN_WINDOW, _MAX_WINDOW = 100, 4, 256  # in flight; more overflow the buffers of common servers
_NEAR = 0.01  # seconds; a server that answers faster gains nothing from a larger window
_SHORTEST_WAIT = 0.4  # seconds; whoever recurses needs some time
_BURST_SECONDS = 0.02  # of the pace, so that a loop that wakes late still reaches it
_TICK = 0.05  # seconds between two looks for what is overdue
_AT_ONCE = 32  # questions to one server, before another is looked at
_TAKEN_AT_ONCE = 1024  # datagrams of one server, wanted or not, before another is looked at
_UDP_SEGMENT = 103  # Linux 4.18, udp(7)
_NO_SEGMENTS = (errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP)  # an interface that cannot
_DATAGRAM = 4096
_RECEIVE_BUFFER = 1 << 20
_STREAMS = 16  # TCP connections at the same time
_BACKLOG = 64  # questions of a lane that wait for room, before more are begun
_LOST_IN_A_ROW = 8  # and a full wait without any answer: the server is not asked for the rest

_WITHOUT_EDNS = (message.FORMERR, message.NOTIMP, message.BADVERS)  # what one says that does not know it
_BROKEN = Answer(UNKNOWN, detail="a broken answer")
_ON_ITS_WAY = Answer(UNKNOWN, detail="on its way")


class Resolver:
    """``servers`` are addresses or names, with ``:port`` (IPv6: ``[address]:port``) where it is not 53; none: the
    system's. Each is tried ``tries`` times for a question. Raises ValueError where one cannot be read.

    ``recursive``: the servers find out what they do not hold; without it, only an authoritative answer counts.
    ``queries_per_second`` is the most that one server gets (0: no limit). ``dnssec`` asks a validating resolver to say
    what it validated.
    """

    def __init__(
        self,
        servers: Sequence[str] = (),
        timeout_seconds: float = 5.0,
        *,
        recursive: bool = True,
        queries_per_second: float = 0,
        tries: int = 2,
        dnssec: bool = False,
        clock: Callable[[], float] = time.monotonic,
        make_selector: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector,
    ) -> None:
        self.servers = list(dict.fromkeys(servers)) or _system_servers()
        self.timeout_seconds = timeout_seconds
        self.recursive = recursive
        self.queries_per_second = queries_per_second
        self.tries = tries
        self.dnssec = dnssec
        self.clock = clock
        self.make_selector = make_selector
        for server in self.servers:
            names.endpoint(server)

    def ask(self, questions: Iterable[Question]) -> dict[Question, Answer]:
        """Any server may answer; where one fails, the next is asked."""
        with garbage.kept(), _Run(self) as run:
            run.lanes = [_Lane(iter(questions), tuple(run.servers), self.tries - 1)]
            run.all()
            return run.lanes[0].answers

    def ask_each(self, questions: Iterable[Question]) -> dict[tuple[str, Question], Answer]:
        """Every server is asked every question; the key names it as ``servers`` does."""
        wanted = list(dict.fromkeys(questions))
        with garbage.kept(), _Run(self) as run:
            run.lanes = [_Lane(iter(wanted), (server,), self.tries - 1) for server in run.servers]
            run.all()
            return {
                (server.text, question): answer
                for server, lane in zip(run.servers, run.lanes)
                for question, answer in lane.answers.items()
            }


def _system_servers() -> list[str]:
    try:
        with open(_RESOLV_CONF, encoding="utf-8", errors="replace") as lines:
            words = [line.split() for line in lines]
    except OSError:
        words = []
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"] or ["127.0.0.1"]


class _Lane:
    """Questions for the same servers, and their answers."""

    def __init__(self, questions: Iterator[Question], servers: tuple[_Server, ...], early_rounds: int) -> None:
        self.questions = questions
        self.servers = servers
        self.answers: dict[Question, Answer] = {}
        self.waiting: deque[_Job] = deque()  # those that no server has room for, or that need another try
        self.early_tries = early_rounds * len(servers)  # these wait less than the full time
        self.open = 0  # begun and not answered
        self.ended = False  # no question is left to begin


class _Job:
    """A question on its way. What few of them need is no attribute before it is needed: there are many."""

    tries = 0  # that failed
    faults: tuple[str, ...] = ()
    left: tuple[_Server, ...] = ()  # servers not tried in this round; none: a new round
    deadline = 0.0  # for another try, once one failed
    sent = 0.0

    def __init__(self, lane: _Lane, question: Question, asked: bytes) -> None:
        self.lane = lane
        self.question = question
        self.asked = asked  # its section of the query


class _Server:
    """One server: where it is, how it is asked, what it bears."""

    def __init__(self, run: _Run, text: str, resolver: Resolver) -> None:
        self.text = text
        self.recursive, self.authentic = resolver.recursive, resolver.dnssec
        self.before, self.after = message.frame(recursive=self.recursive, authentic=self.authentic, edns=True)
        self.edns_until = math.inf  # since then it is asked without
        self.window = float(_WINDOW)
        self.busy = 0  # questions in flight
        self.cut = 0.0  # when the window was last halved
        self.round_trip, self.deviation = 0.0, 0.0  # seconds, RFC 6298 2
        self.patience = min(_SHORTEST_WAIT, resolver.timeout_seconds)  # seconds until another try, except for the last
        self.between = 1 / resolver.queries_per_second if resolver.queries_per_second else 0.0
        self.free_at = 0.0  # when the pace allows the next query
        self.lost = 0  # time-outs since the last reply
        self.lost_since = 0.0  # when the first of them was asked
        self.gone = ""  # why it is not asked any more
        self.stalled = 0  # time-outs by TCP since the last reply by it
        self.ports: list[_Port] = []
        self.family = socket.AF_INET
        self.address: tuple[Any, ...] = ()
        try:
            found = socket.getaddrinfo(*names.endpoint(text), type=socket.SOCK_DGRAM)
            self.family, self.address = found[0][0], found[0][4]
            self.ports = [_Port(run, self) for _port in range(_SOCKETS)]
        except (OSError, UnicodeError) as error:
            self.gone = _reason(error)

    def room(self, now: float) -> int:
        """How many more questions it may get now."""
        if self.gone:
            return 0
        room = int(self.window) - self.busy
        if self.between:
            room = min(room, math.floor((now + _BURST_SECONDS - self.free_at) / self.between) + 1)
        return room

    def spend(self, queries: int, now: float) -> None:
        if self.between:
            self.free_at = max(self.free_at, now) + queries * self.between

    def without_edns(self, now: float) -> None:
        """It does not know EDNS (RFC 6891 7)."""
        self.edns_until = min(self.edns_until, now)
        self.before, self.after = message.frame(recursive=self.recursive, authentic=self.authentic, edns=False)

    def answered(self, count: int, seconds: float) -> None:
        """``count`` replies came at once, the last after ``seconds``."""
        self.busy -= count
        self.lost = 0
        if self.window < _WINDOW or self.round_trip > _NEAR:
            self.window = min(_MAX_WINDOW, self.window + count / self.window)
        error = seconds - self.round_trip
        self.round_trip += error / 8
        self.deviation += (abs(error) - self.deviation) / 4

    def timed_out(self, asked_at: float, now: float, enough_seconds: float) -> None:
        self.busy -= 1
        if not self.lost:
            self.lost_since = asked_at
        self.lost += 1
        if now - self.cut > self.patience:  # what is lost together counts once
            self.cut = now
            self.window = max(_MIN_WINDOW, self.window / 2)
        if self.lost >= _LOST_IN_A_ROW and now - self.lost_since >= enough_seconds:
            self.gone = f"time-out of {self.lost} questions in a row"


class _Port:
    """A connected datagram socket: the kernel drops what another peer sends."""

    def __init__(self, run: _Run, server: _Server) -> None:
        self.run = run
        self.server = server
        self.pending: dict[bytes, _Job] = {}  # by id
        self.socket = socket.socket(server.family, socket.SOCK_DGRAM)
        try:
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self.socket.connect(server.address)
        except OSError:
            self.socket.close()
            raise
        try:
            self.socket.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
            self.segments = sys.platform == "linux"
        except OSError:
            self.segments = False

    def send(self, queries: list[bytes]) -> None:
        """Queries of the same length. One call has the kernel cut them apart, which halves what sending costs."""
        if len(queries) > 1 and self.segments:
            cut = struct.pack("=H", len(queries[0]))
            try:
                self.socket.sendmsg([b"".join(queries)], [(socket.IPPROTO_UDP, _UDP_SEGMENT, cut)])
                return
            except OSError as error:
                if error.errno not in _NO_SEGMENTS:
                    raise
                self.segments = False
        for query in queries:
            self.socket.send(query)

    def ready(self, now: float) -> None:
        """Take what came. This loop and plain are where the time goes."""
        run, pending, receive = self.run, self.pending, self.socket.recv
        count, sent = 0, now
        try:
            for _turn in range(_TAKEN_AT_ONCE):
                wire = receive(_DATAGRAM)
                ident = wire[:2]
                job = pending.pop(ident, None)
                if job is None:
                    continue
                answer = plain(wire, job.asked, run.recursive)
                if answer is not None:
                    lane = job.lane
                    lane.answers[job.question] = answer
                    lane.open -= 1
                elif not run.came(self, job, wire, now):
                    pending[ident] = job
                    continue
                sent = job.sent
                count += 1
                if not pending:
                    break
        except BlockingIOError:
            pass
        except OSError as error:  # an ICMP message made it
            run.refused(self, _reason(error), now)
        if count:
            self.server.answered(count, now - sent)


class _Run:
    """The loop. It ends when every question of every lane has its answer."""

    def __init__(self, resolver: Resolver) -> None:
        self.wait = resolver.timeout_seconds
        self.tries = resolver.tries
        self.longest = resolver.timeout_seconds * resolver.tries  # for a question at one server
        self.recursive = resolver.recursive
        self.clock = resolver.clock
        self.selector = resolver.make_selector()
        self.servers = [_Server(self, text, resolver) for text in resolver.servers]
        for server in self.servers:
            for port in server.ports:
                self.selector.register(port.socket, selectors.EVENT_READ, port)
        self.lanes: list[_Lane] = []
        self.streams: set[_Stream] = set()
        self.for_stream: deque[tuple[_Job, _Server]] = deque()
        self.hasty = False  # something can be sent at once

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_exception: object) -> None:
        for stream in list(self.streams):
            stream.close()
        for server in self.servers:
            for port in server.ports:
                port.socket.close()
        self.selector.close()

    def all(self) -> None:
        now = swept = self.clock()
        while True:
            for lane in self.lanes:
                self._fill(lane, now)
            if all(lane.ended and not lane.open for lane in self.lanes):
                return
            ready = self.selector.select(self._nap(now))
            now = self.clock()
            for key, _events in ready:
                key.data.ready(now)
            if now - swept >= _TICK:
                swept = now
                self._sweep(now)

    def _nap(self, now: float) -> float:
        """How long nothing happens unless a reply comes, in seconds."""
        if self.hasty:
            self.hasty = False
            return 0
        paced = [server.free_at - _BURST_SECONDS - now for server in self.servers if server.between]
        return min([_TICK, *[max(0.001, seconds) for seconds in paced if seconds > 0]])

    def _fill(self, lane: _Lane, now: float) -> None:
        """Send what the lane's servers have room for."""
        waiting = lane.waiting
        for _turn in range(len(waiting)):
            job = waiting.popleft()
            server = _roomiest(job.left or lane.servers, now)
            if server:
                self._send([job], server, now)
            else:
                waiting.append(job)
                if all(each.gone for each in job.left):
                    job.left = ()
        while not lane.ended and len(waiting) < _BACKLOG:
            server = _roomiest(lane.servers, now)
            if server is None:
                break
            by_length: dict[int, list[_Job]] = {}
            for job in self._begin(lane, min(_AT_ONCE, server.room(now))):
                by_length.setdefault(len(job.asked), []).append(job)
            for jobs in by_length.values():
                self._send(jobs, server, now)
        if (waiting or not lane.ended) and all(server.gone for server in lane.servers):
            self._give_up(lane)

    def _begin(self, lane: _Lane, most: int) -> list[_Job]:
        """The next questions, ``most`` at most."""
        answers = lane.answers
        begun: list[_Job] = []
        for question in lane.questions:
            if question in answers:
                continue
            try:
                asked = message.question(*question)
            except ValueError as error:
                answers[question] = Answer(UNKNOWN, detail=f"it is no DNS name ({error})")
                continue
            answers[question] = _ON_ITS_WAY
            begun.append(_Job(lane, question, asked))
            if len(begun) == most:
                break
        else:
            lane.ended = True
        lane.open += len(begun)
        return begun

    def _give_up(self, lane: _Lane) -> None:
        """No server is left to ask."""
        answer = Answer(UNKNOWN, detail="; ".join([f"{server.gone} from {server.text}" for server in lane.servers]))
        for job in lane.waiting:
            self.finish(job, answer)
        lane.waiting.clear()
        lane.answers.update((question, answer) for question in lane.questions if question not in lane.answers)
        lane.ended = True

    def _send(self, jobs: list[_Job], server: _Server, now: float) -> None:
        """Ask ``server`` what is equally long, from one of its ports."""
        noise = os.urandom(2 * len(jobs) + 1)
        port = server.ports[noise[-1] % _SOCKETS]
        pending, before, after = port.pending, server.before, server.after
        queries = []
        for number, job in enumerate(jobs):
            ident = noise[2 * number : 2 * number + 2]
            while ident in pending:
                ident = os.urandom(2)
            pending[ident] = job
            job.sent = now
            queries.append(ident + before + job.asked + after)
        server.busy += len(jobs)
        server.spend(len(jobs), now)
        try:
            port.send(queries)
        except BlockingIOError:  # the buffer is full; it drains by itself
            for query in queries:
                jobs[0].lane.waiting.append(pending.pop(query[:2]))
            server.busy -= len(jobs)
        except OSError as error:  # of these or of queries before them
            self.refused(port, _reason(error), now)

    def _failed(self, job: _Job, server: _Server, why: str, now: float) -> None:
        """Try the next server, or answer that nobody could."""
        fault = f"{why} from {server.text}"
        if fault not in job.faults:
            job.faults = (*job.faults, fault)
        servers = job.lane.servers
        if not job.tries:
            job.deadline = job.sent + self.longest * len(servers)
        job.left = tuple([each for each in job.left or servers if each is not server])
        job.tries += 1
        if job.tries >= self.tries * len(servers) or now >= job.deadline:
            self.finish(job, Answer(UNKNOWN, detail="; ".join(job.faults)))
        else:
            job.lane.waiting.append(job)
            self.hasty = True

    def finish(self, job: _Job, answer: Answer) -> None:
        lane = job.lane
        lane.answers[job.question] = answer
        lane.open -= 1

    def _sweep(self, now: float) -> None:
        """End the waiting for what is overdue."""
        for server in self.servers:
            server.patience = min(self.wait, max(_SHORTEST_WAIT, server.round_trip + 4 * server.deviation))
            for port in server.ports:
                for ident, job in list(port.pending.items()):
                    if now - job.sent >= (server.patience if job.tries < job.lane.early_tries else self.wait):
                        del port.pending[ident]
                        server.timed_out(job.sent, now, self.longest)
                        self._failed(job, server, "time-out", now)
        for stream in [stream for stream in self.streams if stream.until <= now]:
            stream.server.stalled += 1
            stream.end("time-out by TCP", now)

    def refused(self, port: _Port, why: str, now: float) -> None:
        """The network says that nobody listens there."""
        jobs = list(port.pending.values())
        port.pending.clear()
        for job in jobs:
            port.server.busy -= 1
            self._failed(job, port.server, why, now)

    def came(self, port: _Port, job: _Job, wire: bytes, now: float) -> bool:
        """A datagram with the id of ``job``. False: it does not repeat the question, so anybody can have sent it."""
        if not message.is_reply(wire):
            return False
        reply = None
        cut = message.is_truncated(wire)
        if not cut:
            with contextlib.suppress(message.Malformed):
                reply = message.parse(wire)
        if not (reply.repeats(job.asked) if reply else wire.startswith(job.asked, message.ASKED)):
            return False
        server = port.server
        if cut:
            self.for_stream.append((job, server))
            self._open_streams(now)
        elif reply and reply.rcode in _WITHOUT_EDNS and job.sent <= server.edns_until:
            server.without_edns(now)
            job.lane.waiting.append(job)
            self.hasty = True
        else:
            self._judge(job, server, reply, now)
        return True

    def _judge(self, job: _Job, server: _Server, reply: Optional[message.Message], now: float) -> None:
        try:
            answer = judge(reply, job.question.rtype, self.recursive) if reply else _BROKEN
        except message.Malformed:
            answer = _BROKEN
        if answer.status == UNKNOWN:
            self._failed(job, server, answer.detail, now)
        else:
            self.finish(job, answer)

    def _open_streams(self, now: float) -> None:
        while self.for_stream and len(self.streams) < _STREAMS:
            job, server = self.for_stream.popleft()
            if server.stalled >= _LOST_IN_A_ROW:  # the others need the room
                self._failed(job, server, f"time-out of {server.stalled} questions in a row by TCP", now)
                continue
            server.spend(1, now)
            _Stream(self, job, server, now)

    def streamed(self, stream: _Stream, why: str, now: float) -> None:
        """A TCP exchange is over: with a reply, or with the reason why there is none."""
        self.streams.discard(stream)
        job, server = stream.job, stream.server
        wire = bytes(stream.received[2:])
        if why:
            self._failed(job, server, why, now)
        else:
            reply = None
            with contextlib.suppress(message.Malformed):
                reply = message.parse(wire)
            server.stalled = 0
            fits = reply and wire[:2] == stream.ident and reply.repeats(job.asked)
            self._judge(job, server, reply if fits else None, now)
        self._open_streams(now)


class _Stream:
    """One question over TCP (RFC 7766), without waiting anywhere."""

    def __init__(self, run: _Run, job: _Job, server: _Server, now: float) -> None:
        self.run, self.job, self.server = run, job, server
        self.until = now + run.wait
        self.ident = os.urandom(2)
        query = self.ident + server.before + job.asked + server.after
        self.to_send = len(query).to_bytes(2, "big") + query
        self.received = bytearray()
        self.socket = socket.socket(server.family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        run.streams.add(self)
        run.selector.register(self.socket, selectors.EVENT_WRITE, self)
        error = self.socket.connect_ex(server.address)
        if error not in (0, errno.EINPROGRESS):
            self.end(f"{os.strerror(error)} by TCP", now)

    def ready(self, now: float) -> None:
        try:
            if self.to_send:
                self.to_send = self.to_send[self.socket.send(self.to_send) :]
                if not self.to_send:
                    self.run.selector.modify(self.socket, selectors.EVENT_READ, self)
                return
            data = self.socket.recv(65537)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(f"{_reason(error)} by TCP", now)
            return
        self.received += data
        if len(self.received) >= 2 and len(self.received) - 2 >= int.from_bytes(self.received[:2], "big"):
            self.end("", now)
        elif not data:
            self.end("end of the connection by TCP", now)

    def end(self, why: str, now: float) -> None:
        self.close()
        self.run.streamed(self, why, now)

    def close(self) -> None:
        self.run.selector.unregister(self.socket)
        self.socket.close()


def _roomiest(servers: tuple[_Server, ...], now: float) -> Optional[_Server]:
    """The one with the fewest questions in flight that may get another."""
    ready = [server for server in servers if server.room(now) > 0]
    return min(ready, key=_busy) if ready else None


_busy = operator.attrgetter("busy")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
