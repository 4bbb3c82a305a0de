# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS answers as values. There are three: yes with values, no, and unknown; unknown is never taken for either other.

Values are canonical: A and AAAA as ``ipaddress`` prints them, names lower case without the final dot, MX as
``10 mx.example.com``, TXT with its strings joined (see txt), other types as zone files show them with single spaces.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import wire as message
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.wire import Decoder, Malformed, Message, Record

YES = "yes"
NO = "no"  # no such name, or no record of that type
UNKNOWN = "unknown"  # time-out, SERVFAIL, REFUSED, a broken answer, or not asked yet

_CNAME, _DNAME, _NS, _SOA = (message.TYPES[rtype] for rtype in ("CNAME", "DNAME", "NS", "SOA"))
_TO_ASKED = struct.pack(">H", 0xC000 | message.ASKED)
_TTL_AND_LENGTH = struct.Struct(">IH")
_OWNED = struct.Struct(">HHHIH")  # a pointer to the owner; type, class, TTL, length of the data
_MAX_TTL = 0x7FFFFFFF  # RFC 2181 8
_REFERRAL = "a referral instead of an answer"
_MAX_ALIASES = 16  # in a row, inside one reply


class Question(NamedTuple):
    """``name`` may end in a dot and be of any case; the answer is known by the question as it was put."""

    name: str
    rtype: str


class Answer(NamedTuple):
    """Two answers are equal where they say the same; how long, and by whom, is no part of it.

    A tuple, as Question is, because a bulk makes tens of thousands; see records.RecordSet.
    """

    status: str
    values: tuple[str, ...] = ()
    detail: str = ""
    ttl: Optional[int] = None  # seconds; of "no": how long that may be remembered
    authoritative: bool = False  # the server holds the zone (AA)
    authenticated: bool = False  # the resolver validated it (AD)
    alias: str = ""  # where the name leads that was asked for, if it is an alias

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and self[:3] == other[:3]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:3])


@dataclass
class Answers:
    """What is known. It notes each question that has no answer yet, so that a caller can ask those and try again."""

    known: Mapping[Question, Answer]
    wanted: set[Question] = field(default_factory=set)

    def get(self, name: str, rtype: str) -> Answer:
        question = Question(name, rtype)
        answer = self.known.get(question)
        if answer is None:
            self.wanted.add(question)
            return Answer(UNKNOWN, detail="it was not asked")
        return answer


_new = tuple.__new__  # half of what Answer() costs


def plain(wire: bytes, asked: bytes, recursive: bool) -> Optional[Answer]:
    """What judge says to a reply of the common shape, for a quarter of its time; None: it needs a closer look.

    The common shape is the question ``asked`` as it was sent, then records of that name and type or one SOA, and no
    more than an OPT after them.
    """
    head = _plain_head(wire[2 : message.ASKED], recursive)
    if head is None or not wire.startswith(asked, message.ASKED):
        return None
    count, opt, authoritative, authenticated = head
    at = message.ASKED + len(asked)
    try:
        if not count:
            return _plain_no(wire[at:], at, opt, authoritative, authenticated)
        start, decode = _plain_record(asked[-4:])
        values, least = [], _MAX_TTL
        for _record in range(count):
            ttl, length = _TTL_AND_LENGTH.unpack_from(wire, at + 6)
            end = at + 12 + length
            if not wire.startswith(start, at) or ttl > _MAX_TTL or end > len(wire):
                return None
            values.append(decode(wire, at + 12, end))
            at = end
            if ttl < least:
                least = ttl
        if opt and not _is_plain_opt(wire[at:]):
            return None
    except (struct.error, IndexError, KeyError, Malformed):
        return None
    if count > 1:
        values = sorted(set(values))
    return _new(Answer, (YES, tuple(values), "", least, authoritative, authenticated, ""))


@functools.lru_cache(maxsize=64)
def _plain_record(typed: bytes) -> tuple[bytes, Decoder]:
    """What a record of the question's name, type and class begins with, and how its data are read."""
    return _TO_ASKED + typed, message.DECODERS[typed[0] << 8 | typed[1]]


@functools.lru_cache(maxsize=256)
def _plain_head(head: bytes, recursive: bool) -> Optional[tuple[int, int, bool, bool]]:
    """How many answers and OPT, AA, AD; from the bytes between id and question, which are the same in most replies."""
    if len(head) < 10:
        return None
    flags, questions, answers, authorities, additionals = struct.unpack(">HHHHH", head)
    usable = flags & (message.QR | message.TC) == message.QR and flags & 15 in (message.NOERROR, message.NXDOMAIN)
    knows = flags & message.AA or (recursive and flags & message.RA)
    if not usable or not knows or questions != 1 or additionals > 1 or authorities != (0 if answers else 1):
        return None
    return answers, additionals, flags & message.AA != 0, flags & message.AD != 0


@functools.lru_cache(maxsize=1024)
def _plain_no(rest: bytes, offset: int, opt: int, authoritative: bool, authenticated: bool) -> Optional[Answer]:
    """From what follows the question, at ``offset``: it is often the same, and then one Answer serves all."""
    at = 0
    while 0 < rest[at] < 64:
        at += rest[at] + 1
    owner, rtype, _class, ttl, length = _OWNED.unpack_from(rest, at)
    end = at + 12 + length
    if owner < 0xC000 or owner & 0x3FFF >= offset + at or rtype != _SOA or ttl > _MAX_TTL:
        return None
    if length < 20 or end > len(rest) or (opt and not _is_plain_opt(rest[end:])):
        return None
    ttl = min(ttl, int.from_bytes(rest[end - 4 : end], "big"))
    return Answer(NO, (), "", ttl, authoritative, authenticated)


@functools.lru_cache(maxsize=256)
def _is_plain_opt(wire: bytes) -> bool:
    """Whether ``wire`` is an OPT that adds nothing to the RCODE."""
    end = 11 + int.from_bytes(wire[9:11], "big")
    return wire[:3] == b"\0\0\x29" and end <= len(wire) and wire[5] == 0


def judge(reply: Message, rtype: str, recursive: bool) -> Answer:
    """What ``reply`` says to its question for ``rtype``. ``recursive``: the server was asked to find out, not just
    what it holds itself. Raises Malformed where the data are none.
    """
    if reply.rcode not in (message.NOERROR, message.NXDOMAIN):
        return Answer(UNKNOWN, detail=message.RCODES.get(reply.rcode, f"RCODE {reply.rcode}"))
    if not recursive and not reply.authoritative:
        return Answer(UNKNOWN, detail=_REFERRAL if _refers(reply) else "not authoritative")
    wanted = message.type_number(rtype)
    found = reply.answer
    aliases: list[Record] = []
    for record in found:
        if record.owner != message.ASKED or record.rtype != wanted or record.rclass != 1:
            found, aliases = _follow(reply, wanted)
            break
    if found:
        ttl = min([record.ttl for record in (*found, *aliases)])
        values = tuple([reply.value(record) for record in found])
        if len(values) > 1:
            values = tuple(sorted(set(values)))
        return Answer(YES, values, "", ttl, reply.authoritative, reply.authenticated, _end(reply, aliases))
    return _none(reply, aliases)


def _none(reply: Message, aliases: list[Record]) -> Answer:
    if not reply.authoritative and not reply.recursion_available:
        return Answer(UNKNOWN, detail=_REFERRAL if _refers(reply) else "it does not resolve for us")
    ttl = reply.negative_ttl()
    if ttl is None and reply.rcode == message.NOERROR:
        if _refers(reply):
            return Answer(UNKNOWN, detail=_REFERRAL)
        if aliases:
            return Answer(
                UNKNOWN, detail=f"an alias of {reply.target(aliases[-1])}, about which the reply says nothing"
            )
    if ttl is not None and aliases:
        ttl = min(ttl, *(record.ttl for record in aliases))
    return Answer(NO, (), "", ttl, reply.authoritative, reply.authenticated, _end(reply, aliases))


def _end(reply: Message, aliases: list[Record]) -> str:
    return reply.target(aliases[-1]) if aliases else ""


def _refers(reply: Message) -> bool:
    kinds = {record.rtype for record in reply.authority}
    return not reply.answer and _NS in kinds and _SOA not in kinds


def _follow(reply: Message, wanted: int) -> tuple[list[Record], list[Record]]:
    """The records of the type ``wanted`` at the end of the reply's chain of aliases, and the aliases."""
    named = [(reply.name(record), record) for record in reply.answer if record.rclass == 1]
    name = reply.asked()
    aliases: list[Record] = []
    for _step in range(_MAX_ALIASES):
        found = [record for owner, record in named if owner == name and record.rtype == wanted]
        if found:
            return found, aliases
        alias = _alias(reply, named, name)
        if alias is None:
            return [], aliases
        name, record = alias
        aliases.append(record)
    raise Malformed("its aliases go round in a circle")


def _alias(reply: Message, named: list[tuple[str, Record]], name: str) -> Optional[tuple[str, Record]]:
    for owner, record in named:
        if record.rtype == _CNAME and owner == name:
            return reply.target(record), record
    for owner, record in named:
        # Servers add the CNAME that a DNAME stands for (RFC 6672 3.1); one that did not still said it.
        if record.rtype == _DNAME and name.endswith("." + owner):
            return name[: -len(owner)] + reply.target(record), record
    return None
