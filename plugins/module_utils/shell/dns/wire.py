# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS on the wire: transfer and update, signed by TSIG, on dnspython. Nothing is sent twice."""

from __future__ import annotations

import base64
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.rcode
    import dns.rdata
    import dns.rdataclass
    import dns.rdatatype
    import dns.rrset
    import dns.tsig
    import dns.update
    from dns.rdtypes.ANY.TXT import TXT

    IMPORT_PROBLEM: Optional[str] = None
except ImportError as error:
    IMPORT_PROBLEM = str(error)


_WHOLE = 6  # all answers to one query may take this many times the limit of a single wait, as of an HTTP request
# Bytes of all answers to one query: more than 100,000 DKIM keys. What an API may send (client.MAX_BODY) would be too
# much: the smallest records take 16 bytes here, and some hundred as objects.
_MAX_ANSWERS = 64 * 1024 * 1024
_MOST_UNSIGNED = 99  # messages between two that are signed (RFC 8945 5.3.1)


class NotConnected(Exception):
    """Nothing was sent."""


class AnswerLost(Exception):
    """The message may have been carried out; its answer did not come or cannot be understood."""


class Refused(Exception):
    """The server said no. ``code`` is the name of the RCODE, or BADKEY, BADSIG, BADTIME (RFC 8945 5.3)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Peer:
    """A server, and the key that signs what is said to it."""

    host: str
    port: int = 53
    key_name: Optional[str] = None
    key_secret: Optional[str] = None
    key_algorithm: str = "hmac-sha256"
    timeout_seconds: float = 20.0

    def key(self) -> Any:
        """The TSIG key, or None. Raises ValueError where it cannot be one."""
        if not self.key_name:
            return None
        try:
            secret = base64.b64decode(self.key_secret or "", validate=True)
            key = dns.tsig.Key(dns.name.from_text(self.key_name), secret, self.key_algorithm)
            dns.tsig.HMACTSig(key.secret, key.algorithm)  # type: ignore[no-untyped-call]
        except Exception as error:  # binascii and dnspython raise many kinds for one reason
            raise ValueError("the secret is not base64, or name or algorithm are unknown") from error
        if not secret:
            raise ValueError("the secret is empty")
        return key


@dataclass(frozen=True)
class Rrset:
    name: str
    type: str
    ttl: int
    data: tuple[Any, ...]  # as dnspython has it


@dataclass(frozen=True)
class Edit:
    """One record set in an update: what must stand there exactly, what goes, what comes."""

    name: str
    type: str
    ttl: int
    expected: tuple[Any, ...]  # empty: the record set must not exist
    removed: tuple[Any, ...]
    added: tuple[Any, ...]


def text_of(data: Any) -> str:
    """Zone-file text, names absolute; TXT without regard to its strings is ``joined``."""
    return str(data.to_text())


def joined(data: Any) -> bytes:
    """A TXT value's strings as one."""
    return b"".join(data.strings)


def txt_data(strings: Iterable[bytes]) -> Any:
    return TXT(dns.rdataclass.IN, dns.rdatatype.TXT, tuple(strings))


def data_of(rtype: str, text: str) -> Any:
    """Data from zone-file text. Raises ValueError."""
    try:
        return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(rtype), text, relativize=False)
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"'{text}' is no {rtype} data: {error}") from error


def size_of(edit: Edit) -> int:
    """At most what ``edit`` takes in an update message, in bytes."""
    fixed = len(edit.name) + 2 + 10
    return (
        sum(fixed + len(data.to_wire()) for some in (edit.expected, edit.removed, edit.added) for data in some) + fixed
    )


def transfer(peer: Peer, zone: str) -> list[Rrset]:
    """Every record set of ``zone`` by AXFR (RFC 5936), SOA left out."""
    origin = dns.name.from_text(zone)
    query = dns.message.make_query(origin, dns.rdatatype.AXFR, flags=0)
    key = peer.key()
    found: dict[tuple[Any, Any], tuple[int, dict[Any, None]]] = {}
    seen = 0
    with _connected(peer) as sock:
        exchange = _Exchange(sock, query, key, peer.timeout_seconds)
        while seen < 2:
            message = exchange.receive()
            if not message.answer:
                raise AnswerLost("the transfer has an empty message")
            for rrset in message.answer:
                if rrset.rdtype == dns.rdatatype.SOA:
                    seen += rrset.name == origin
                    continue
                # A large set may come in parts.
                _ttl, data = found.setdefault((rrset.name, rrset.rdtype), (rrset.ttl, {}))
                data.update(dict.fromkeys(rrset))
    if key and not message.had_tsig:
        raise AnswerLost("the transfer does not end with a signature")
    return [
        Rrset(_name_text(name), dns.rdatatype.to_text(rdtype), ttl, tuple(data))
        for (name, rdtype), (ttl, data) in found.items()
    ]


def update(peer: Peer, zone: str, edits: Iterable[Edit]) -> None:
    """All of ``edits`` or none (RFC 2136). Raises Refused where a record set is not as expected (NXRRSET, YXRRSET)."""
    message = dns.update.UpdateMessage(dns.name.from_text(zone))
    for edit in edits:
        name, rtype = dns.name.from_text(edit.name), dns.rdatatype.from_text(edit.type)
        if edit.expected:
            # The TTL of a prerequisite must be zero (RFC 2136 2.4.2).
            message.prerequisite.append(dns.rrset.from_rdata_list(name, 0, edit.expected))
        else:
            message.absent(name, rtype)
        if edit.removed:
            message.delete(name, *edit.removed)
        if edit.added:
            message.update.append(dns.rrset.from_rdata_list(name, edit.ttl, edit.added))
    key = peer.key()
    with _connected(peer) as sock:
        _Exchange(sock, message, key, peer.timeout_seconds).receive()


def _name_text(name: Any) -> str:
    return str(name.to_text(omit_final_dot=True)).lower()


def _connected(peer: Peer) -> socket.socket:
    try:
        sock = socket.create_connection((peer.host, peer.port), timeout=peer.timeout_seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise NotConnected(f"{peer.host} port {peer.port}: {error}") from error
    return sock


def _send(sock: socket.socket, message: Any, key: Any) -> None:
    if key:
        message.use_tsig(key)
    try:
        wire = message.to_wire(max_size=65535)
    except dns.exception.TooBig as error:
        raise Refused("too much for one message") from error
    try:
        sock.sendall(struct.pack("!H", len(wire)) + wire)
    except OSError as error:
        raise AnswerLost(str(error)) from error


class _Exchange:
    """One query and its answers: in time, not too many, and signed where the query is.

    Whoever sits in between needs no key to send first, so an unsigned message counts for nothing before one that is
    signed has vouched for it, and the first has nobody to vouch for it.
    """

    def __init__(self, sock: socket.socket, query: Any, key: Any, timeout_seconds: float) -> None:
        """Sends ``query``."""
        self._sock = sock
        self._query = query
        self._key = key
        self._wait_seconds = timeout_seconds
        self._deadline = time.monotonic() + _WHOLE * timeout_seconds
        self._room = _MAX_ANSWERS
        self._context: Any = None
        self._unsigned = _MOST_UNSIGNED
        _send(sock, query, key)

    def receive(self) -> Any:
        """The next answer. Whether the last one is signed is for the caller to see, who knows which it is."""
        (length,) = struct.unpack("!H", self._exactly(2))
        self._room -= length
        if self._room < 0:
            raise AnswerLost(f"the answer has more than {_MAX_ANSWERS} bytes")
        message = self._read(self._exactly(length))
        self._context = message.tsig_ctx
        if message.id != self._query.id or not message.flags & dns.flags.QR:
            raise AnswerLost("the answer belongs to another question")
        code = dns.rcode.to_text(message.rcode())
        self._unsigned = 0 if message.had_tsig else self._unsigned + 1
        if self._key and self._unsigned and (self._unsigned > _MOST_UNSIGNED or code != "NOERROR"):
            raise AnswerLost(f"the answer ({code}) is not signed, so anybody may have sent it")
        if code != "NOERROR":
            raise Refused(code)
        return message

    def _read(self, wire: bytes) -> Any:
        try:
            return dns.message.from_wire(
                wire,
                keyring={self._key.name: self._key} if self._key else None,
                request_mac=self._query.mac,
                xfr=True,
                tsig_ctx=self._context,
                multi=True,
            )
        except dns.tsig.PeerBadKey as error:
            raise Refused("BADKEY") from error
        except dns.tsig.PeerBadSignature as error:
            raise Refused("BADSIG") from error
        except dns.tsig.PeerBadTime as error:
            raise Refused("BADTIME") from error
        except (dns.exception.DNSException, ValueError, struct.error) as error:
            raise AnswerLost(f"the answer cannot be read: {type(error).__name__}: {error}") from error

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            left = self._deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError(f"not all of it came in {_WHOLE * self._wait_seconds:g} seconds")
                self._sock.settimeout(min(left, self._wait_seconds))
                part = self._sock.recv(count)
            except OSError as error:
                raise AnswerLost(f"no answer: {error}") from error
            if not part:
                raise AnswerLost("the server closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
