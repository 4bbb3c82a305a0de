# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS messages on the wire: questions written, replies read (RFC 1035 4, RFC 2181, RFC 3597, RFC 6891).

A reply comes from strangers. Reading one raises Malformed or nothing, and takes time in proportion to its size: a
compression pointer leads back only, and a name has as many as labels at most. Names and values come out canonical, see
answers.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
import struct
from collections.abc import Callable
from typing import NamedTuple, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt

TYPES = {
    "A": 1,
    "NS": 2,
    "CNAME": 5,
    "SOA": 6,
    "PTR": 12,
    "MX": 15,
    "TXT": 16,
    "AAAA": 28,
    "SRV": 33,
    "DNAME": 39,
    "OPT": 41,
    "DS": 43,
    "SSHFP": 44,
    "DNSKEY": 48,
    "TLSA": 52,
    "CAA": 257,
}
RCODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    9: "NOTAUTH",
    16: "BADVERS",
}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
PAYLOAD = 1232  # bytes that pass any path without fragments
MAX_WIRE_NAME = 255
MAX_POINTERS = 127  # in one name: the labels that it can have, each of which may be compressed on its own
ASKED = 12  # where the question stands

QR, AA, TC, RD, RA, AD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020
HEADER = struct.Struct(">HHHHHH")  # id, flags with RCODE, how many records each section has

_IN = 1
_FIXED = struct.Struct(">HHIH")  # type, class, TTL, length of the data
_SOA_NUMBERS = struct.Struct(">IIIII")
_LABEL = re.compile(r"((?:[^.\\]|\\[0-9]{3}|\\[^0-9])+)(?:\.|\Z)")
_ESCAPE = re.compile(rb"\\(?:([0-9]{3})|(.))", re.DOTALL)
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
_DOTTED = bytes.maketrans(bytes(range(1, 45)), b"." * 44).lower()
_PLAIN = re.compile(rb"[a-z0-9_.*/-]*\Z")
_SPECIAL = re.compile(rb'["().;\\@$]|[^!-~]')
_QUOTED = re.compile(rb'["\\]|[^ -~]')


Decoder = Callable[[bytes, int, int], str]  # a message, where data of a record begin and end: their canonical text


class Malformed(ValueError):
    """The bytes are no DNS message, or not the data that their type says."""


def type_number(rtype: str) -> int:
    """Raises ValueError for a type that has no number here; ``TYPE65`` is number 65 (RFC 3597)."""
    number = TYPES.get(rtype)
    if number is None:
        if not re.match(r"TYPE[0-9]{1,5}\Z", rtype) or int(rtype[4:]) > 65535:
            raise ValueError(f"'{rtype}' is no record type")
        number = int(rtype[4:])
    return number


def question(name: str, rtype: str) -> bytes:
    """The question section that asks for ``name``, in lower case. Raises ValueError where it is no name or type."""
    first, _dot, rest = name.partition(".")
    if not first or not first.isascii() or "\\" in first or len(first) > 63:
        return _in_full(name, rtype)
    wire = b"%c%b%b" % (len(first), first.lower().encode(), _in_full(rest, rtype))
    if len(wire) > MAX_WIRE_NAME + 4:
        raise ValueError("it is longer than 255 bytes")
    return wire


@functools.lru_cache(maxsize=4096)  # most names of a bulk share what follows their first label
def _in_full(name: str, rtype: str) -> bytes:
    labels, at = [], 0
    name = "" if name == "." else name if name.isascii() else names.to_ascii(name)
    while at < len(name):
        match = _LABEL.match(name, at)
        if not match:
            raise ValueError("a label is empty or ends within an escape")
        label = _ESCAPE.sub(_unescaped, match.group(1).lower().encode("ascii"))
        if len(label) > 63:
            raise ValueError("a label is longer than 63 bytes")
        labels.append(b"%c%b" % (len(label), label))
        at = match.end()
    wire = b"".join(labels) + struct.pack(">BHH", 0, type_number(rtype), _IN)
    if len(wire) > MAX_WIRE_NAME + 4:
        raise ValueError("it is longer than 255 bytes")
    return wire


def _unescaped(match: re.Match[bytes]) -> bytes:
    number, character = match.groups()
    if number is None:
        return bytes(character)
    if int(number) > 255:
        raise ValueError(f"\\{number.decode()} is no byte")
    return bytes([int(number)])


def frame(*, recursive: bool, authentic: bool, edns: bool) -> tuple[bytes, bytes]:
    """What stands between id and question of a query, and what follows the question.

    ``authentic`` sets AD, so that a validating resolver says whether it validated (RFC 6840 5.7).
    """
    flags = (RD if recursive else 0) | (AD if authentic else 0)
    opt = b"\0" + _FIXED.pack(TYPES["OPT"], PAYLOAD, 0, 0) if edns else b""
    return struct.pack(">HHHHH", flags, 1, 0, 0, 1 if edns else 0), opt


class Record(NamedTuple):
    """One record, not yet decoded."""

    owner: int  # where the name stands in the message
    rtype: int
    rclass: int
    ttl: int  # seconds
    start: int  # the data, from here
    end: int  # to here


class Message(NamedTuple):
    wire: bytes
    flags: int
    rcode: int  # with the upper bits of EDNS
    question: bytes  # empty where the message has none
    answer: list[Record]
    authority: list[Record]
    additional: list[Record]

    @property
    def authoritative(self) -> bool:
        return bool(self.flags & AA)

    @property
    def recursion_available(self) -> bool:
        return bool(self.flags & RA)

    @property
    def authenticated(self) -> bool:
        return bool(self.flags & AD)

    def asked(self) -> str:
        """The name that the question is about."""
        return _name(self.wire, ASKED)[0]

    def name(self, record: Record) -> str:
        return _name(self.wire, record.owner)[0]

    def target(self, record: Record) -> str:
        """The name that a CNAME or DNAME leads to."""
        return _whole_name(self.wire, record.start, record.end)

    def value(self, record: Record) -> str:
        """The data in canonical form."""
        decode = DECODERS.get(record.rtype, _generic)
        try:
            return decode(self.wire, record.start, record.end)
        except (struct.error, IndexError) as error:
            raise Malformed("data of a record are too short") from error

    def negative_ttl(self) -> Optional[int]:
        """How long "no" may be remembered, in seconds (RFC 2308 5); None where the reply does not say."""
        for record in self.authority:
            if record.rtype == TYPES["SOA"]:
                if record.end - record.start < _SOA_NUMBERS.size:
                    raise Malformed("a SOA record is too short")
                minimum = int.from_bytes(self.wire[record.end - 4 : record.end], "big")
                return min(minimum, record.ttl)
        return None

    def repeats(self, asked: bytes) -> bool:
        """Whether it answers the question ``asked``; an error may come without the question."""
        if self.question == asked:
            return True
        if not self.question:
            return self.rcode in (FORMERR, SERVFAIL, NOTIMP, REFUSED)
        return self.question[:-4].lower() == asked[:-4] and self.question[-4:] == asked[-4:]


def is_reply(wire: bytes) -> bool:
    return len(wire) > 2 and wire[2] > 127


def is_truncated(wire: bytes) -> bool:
    """Whether the sender says that the message does not hold all (TC)."""
    return len(wire) > 2 and bool(wire[2] & 2)


def parse(wire: bytes) -> Message:
    """A reply. Bytes after its end are ignored. Raises Malformed."""
    try:
        _ident, flags, questions, answers, authorities, additionals = HEADER.unpack_from(wire)
        if not flags & QR:
            raise Malformed("it is a query")
        if questions > 1:
            raise Malformed("it has more than one question")
        at = ASKED
        if questions:
            at = _skip_name(wire, at) + 4
            if at > len(wire):
                raise Malformed("it ends within the question")
        asked = wire[ASKED:at]
        answer, at = _records(wire, at, answers)
        authority, at = _records(wire, at, authorities)
        additional, at = _records(wire, at, additionals)
    except (struct.error, IndexError) as error:
        raise Malformed("it ends too early") from error
    rcode = flags & 15
    for record in additional:
        if record.rtype == 41:
            rcode |= record.ttl >> 24 << 4
    return Message(wire, flags, rcode, asked, answer, authority, additional)


def _records(wire: bytes, at: int, count: int) -> tuple[list[Record], int]:
    found = []
    size = len(wire)
    for _record in range(count):
        owner = at
        if wire[at] >= 192:
            owner = (wire[at] & 63) << 8 | wire[at + 1]
            if owner >= at:
                raise Malformed("a compression pointer does not lead back")
            at += 2
        else:
            at = _skip_name(wire, at)
        rtype, rclass, ttl, length = _FIXED.unpack_from(wire, at)
        start = at + 10
        at = start + length
        if at > size:
            raise Malformed("data of a record reach over the end")
        if ttl >> 31 and rtype != 41:
            ttl = 0  # RFC 2181 8
        found.append(Record(owner, rtype, rclass, ttl, start, at))
    return found, at


def _skip_name(wire: bytes, at: int) -> int:
    while True:
        length = wire[at]
        if not length:
            return at + 1
        if length >= 192:
            return at + 2
        if length >= 64:
            raise Malformed("a label has an unknown type")
        at += length + 1


def _name(wire: bytes, at: int) -> tuple[str, int]:
    """The name at ``at``, and where what follows it begins. The root is the empty text."""
    labels: list[bytes] = []
    after, start, size, pointers = 0, at, 1, 0
    try:
        while True:
            length = wire[at]
            if length < 64:
                at += 1
                if not length:
                    break
                labels.append(wire[at : at + length])
                at += length
                size += length + 1
                if size > MAX_WIRE_NAME:
                    raise Malformed("a name is longer than 255 bytes")
            elif length >= 192:
                target = (length & 63) << 8 | wire[at + 1]
                after = after or at + 2
                if target >= start:
                    raise Malformed("a compression pointer does not lead back")
                at = start = target
                pointers += 1
                if pointers > MAX_POINTERS:
                    raise Malformed("a name has too many compression pointers")
            else:
                raise Malformed("a label has an unknown type")
    except IndexError as error:
        raise Malformed("it ends within a name") from error
    return _name_text(labels), after or at


def _name_text(labels: list[bytes]) -> str:
    joined = b".".join(labels).lower()
    if _PLAIN.match(joined) and joined.count(b".") == len(labels) - 1:
        return joined.decode("ascii")
    return ".".join(_SPECIAL.sub(_escaped, label.lower()).decode("ascii") for label in labels)


def _escaped(match: re.Match[bytes]) -> bytes:
    byte = match.group()
    return b"\\" + byte if b" " < byte <= b"~" else b"\\%03d" % ord(byte)


def _whole_name(wire: bytes, start: int, end: int) -> str:
    # Without a loop, an uncompressed name of common letters: where the other bytes are the lengths of what stands
    # between them, they are nothing else.
    if 1 < end - start <= MAX_WIRE_NAME and not wire[end - 1]:
        text = wire[start + 1 : end - 1].translate(_DOTTED)
        if [*map(len, text.split(b"."))] == [*wire[start : end - 1].translate(None, _LETTERS)]:
            return text.decode("ascii")
    name, after = _name(wire, start)
    if after != end:
        raise Malformed("a name does not fill its data")
    return name


def _ipv4(wire: bytes, start: int, end: int) -> str:
    if end - start != 4:
        raise Malformed("an A record does not have four bytes")
    first, second, third, fourth = wire[start:end]
    return f"{first}.{second}.{third}.{fourth}"


def _ipv6(wire: bytes, start: int, end: int) -> str:
    if end - start != 16:
        raise Malformed("an AAAA record does not have sixteen bytes")
    return str(ipaddress.IPv6Address(wire[start:end]))


def _only_name(wire: bytes, start: int, end: int) -> str:
    return _whole_name(wire, start, end) or "."


def _numbers_and_name(count: int) -> Decoder:
    numbers = struct.Struct(f">{count}H")

    def decode(wire: bytes, start: int, end: int) -> str:
        target = _whole_name(wire, start + numbers.size, end)
        return " ".join([*map(str, numbers.unpack_from(wire, start)), target]).rstrip(" ")

    return decode


def _soa(wire: bytes, start: int, end: int) -> str:
    server, at = _name(wire, start)
    mailbox, at = _name(wire, at)
    if end - at != _SOA_NUMBERS.size:
        raise Malformed("a SOA record has a wrong length")
    return " ".join([server or ".", mailbox or ".", *map(str, _SOA_NUMBERS.unpack_from(wire, at))])


def _txt(wire: bytes, start: int, end: int) -> str:
    first = start + 1 + wire[start] if start < end else end
    if first == end:
        return txt.decode(wire[start + 1 : end])
    parts = []
    while start < end:
        after = start + 1 + wire[start]
        if after > end:
            raise Malformed("a string reaches over its TXT record")
        parts.append(wire[start + 1 : after])
        start = after
    return txt.decode(b"".join(parts))


def _caa(wire: bytes, start: int, end: int) -> str:
    tag = start + 2 + wire[start + 1]
    if tag > end or tag == start + 2:
        raise Malformed("a CAA record has no tag")
    words = [b"%d" % wire[start], _QUOTED.sub(_escaped_in_quotes, wire[start + 2 : tag]).lower()]
    text = b'"%b"' % _QUOTED.sub(_escaped_in_quotes, wire[tag:end])
    return " ".join(b" ".join([*words, text]).decode("ascii").split())


def _escaped_in_quotes(match: re.Match[bytes]) -> bytes:
    byte = match.group()
    return b"\\" + byte if byte in b'"\\' else b"\\%03d" % ord(byte)


def _numbers_and_bytes(layout: str, show: Callable[[bytes], str]) -> Decoder:
    numbers = struct.Struct(layout)

    def decode(wire: bytes, start: int, end: int) -> str:
        if end - start < numbers.size:
            raise Malformed("data of a record are too short")
        return " ".join([*map(str, numbers.unpack_from(wire, start)), show(wire[start + numbers.size : end])])

    return decode


def _generic(wire: bytes, start: int, end: int) -> str:
    return f"\\# {end - start} {wire[start:end].hex()}".rstrip(" ")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


DECODERS: dict[int, Decoder] = {
    TYPES["A"]: _ipv4,
    TYPES["AAAA"]: _ipv6,
    TYPES["NS"]: _only_name,
    TYPES["CNAME"]: _only_name,
    TYPES["PTR"]: _only_name,
    TYPES["DNAME"]: _only_name,
    TYPES["MX"]: _numbers_and_name(1),
    TYPES["SRV"]: _numbers_and_name(3),
    TYPES["SOA"]: _soa,
    TYPES["TXT"]: _txt,
    TYPES["CAA"]: _caa,
    TYPES["DS"]: _numbers_and_bytes(">HBB", bytes.hex),
    TYPES["SSHFP"]: _numbers_and_bytes(">BB", bytes.hex),
    TYPES["DNSKEY"]: _numbers_and_bytes(">HBB", _base64),
    TYPES["TLSA"]: _numbers_and_bytes(">BBB", bytes.hex),
}
