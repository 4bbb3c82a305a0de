# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The milter protocol, version 6, as a mail server speaks it: shows messages to a milter and hears what it would do.

Nothing is delivered: a milter only answers. One connection takes any number of messages, as one SMTP session does.
Source: libmilter's mfdef.h as documented by Sendmail, and Postfix's MILTER_README.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.mailops.mta.plugins.module_utils.core.mail.dkim_header import Field

_VERSION = 6
_ALL_ACTIONS = 0x1FF
_ALL_STEPS = 0x1FFFFF  # every step may be left out or stay without an answer
_SILENT = (
    0x80 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x40000 | 0x80000
)  # no answer until the end of the message
_MORE = {
    b"h",
    b"i",
    b"m",
    b"b",
    b"e",
    b"q",
    b"p",
    b"+",
    b"-",
    b"2",
}  # changes and progress; the answer is still to come
_MAX_PACKET = 16 << 20


class MilterError(Exception):
    """There is no milter, or none that speaks as expected."""


@dataclass(frozen=True)
class Answer:
    action: str  # a, c: goes on; r, t, y: refused
    text: str  # the refusal's own words
    fields: tuple[Field, ...]  # header fields that the milter puts in


class Milter:
    def __init__(self, path: str, patience_seconds: float, daemon_name: str = "") -> None:
        """Connects to a UNIX socket. Raises MilterError, also where the milter takes longer than this for one step.

        ``daemon_name`` is the macro ``{daemon_name}``, by which an instance of the mail server says which one it is.
        """
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(patience_seconds)
        self._held = b""
        try:
            self._connection.connect(path)
            self._connection.sendall(_packet(b"O", struct.pack("!III", _VERSION, _ALL_ACTIONS, _ALL_STEPS)))
            command, data = self._receive()
            if command != b"O" or len(data) < 12:
                raise MilterError(f"{path} is no milter")
            if struct.unpack("!III", data[:12])[2] & _SILENT != _SILENT:
                raise MilterError(f"the milter at {path} answers to each step; the signer does not")
            macro = _packet(b"D", b"C{daemon_name}\0" + daemon_name.encode() + b"\0") if daemon_name else b""
            self._connection.sendall(
                macro
                + _packet(b"C", b"localhost\x004" + struct.pack("!H", 25) + b"127.0.0.1\x00")
                + _packet(b"H", b"localhost\x00")
            )
        except BaseException as error:
            self.close()
            raise _as_milter_error(error, path) from None

    def show(self, sender: str, recipient: str, fields: Sequence[Field], body: bytes) -> Answer:
        """What it says to a message. Values stand as after the colon, ``body`` has CRLF. Raises MilterError."""
        packets = [_packet(b"M", f"<{sender}>\0".encode()), _packet(b"R", f"<{recipient}>\0".encode())]
        packets += [_packet(b"L", f"{name}\0{value.lstrip(' ')}\0".encode()) for name, value in fields]
        packets += [_packet(b"N"), _packet(b"B", body), _packet(b"E")]
        added: list[Field] = []
        try:
            self._connection.sendall(b"".join(packets))
            while True:
                command, data = self._receive()
                if command in (b"h", b"i"):
                    name, value = (data if command == b"h" else data[4:]).rstrip(b"\0").split(b"\0", 1)
                    added.append((name.decode("utf-8", "replace"), " " + value.decode("utf-8", "replace")))
                elif command not in _MORE:
                    return Answer(
                        command.decode("latin-1"), data.rstrip(b"\0").decode("utf-8", "replace"), tuple(added)
                    )
        except (OSError, ValueError) as error:
            raise _as_milter_error(error, "the milter") from None

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Milter:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _receive(self) -> tuple[bytes, bytes]:
        size = struct.unpack("!I", self._read(4))[0]
        if not 0 < size <= _MAX_PACKET:
            raise MilterError("what the milter sends is not its protocol")
        packet = self._read(size)
        return packet[:1], packet[1:]

    def _read(self, size: int) -> bytes:
        while len(self._held) < size:
            more = self._connection.recv(65536)
            if not more:
                raise MilterError("the milter closed the connection")
            self._held += more
        data, self._held = self._held[:size], self._held[size:]
        return data


def _packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


def _as_milter_error(error: BaseException, path: str) -> BaseException:
    if isinstance(error, OSError):
        words = "it does not answer in time" if isinstance(error, socket.timeout) else error.strerror
        return MilterError(f"{path}: {words or error.__class__.__name__}")
    return MilterError(f"{path}: {error}") if isinstance(error, ValueError) else error
