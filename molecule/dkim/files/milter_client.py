# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows messages to a milter as Postfix does and prints what it answers, one JSON object a line.

usage: milter_client.py SOCKET STREAM FILE...
       milter_client.py --until STOP SOCKET STREAM FILE   one after the other until STOP is there, five a connection
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
import time

CHUNK = 65535


class Milter:
    def __init__(self, path: str, stream: str) -> None:
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.settimeout(30)
        self.connection.connect(path)
        self.send(b"O", struct.pack("!III", 6, 0x1FF, 0x1FFFFF))
        self.receive()
        self.send(b"D", b"C{daemon_name}\x00" + stream.encode() + b"\x00")
        self.send(b"C", b"client.test\x004" + struct.pack("!H", 40000) + b"127.0.0.1\x00")
        self.send(b"H", b"client.test\x00")

    def send(self, command: bytes, data: bytes = b"") -> None:
        self.connection.sendall(struct.pack("!I", len(data) + 1) + command + data)

    def receive(self) -> tuple[bytes, bytes]:
        size = struct.unpack("!I", self._read(4))[0]
        data = self._read(size)
        return data[:1], data[1:]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.connection.recv(size - len(data))
            if not more:
                raise ConnectionError("the milter closed the connection")
            data += more
        return data

    def show(self, message: bytes) -> dict[str, object]:
        head, _, body = message.replace(b"\r\n", b"\n").partition(b"\n\n")
        fields: list[bytes] = []
        for line in head.split(b"\n"):
            if line[:1] in (b" ", b"\t") and fields:
                fields[-1] += b"\n" + line
            elif line:
                fields.append(line)
        self.send(b"M", b"<bounce@tx.acme.test>\x00")
        self.send(b"R", b"<someone@sink.test>\x00")
        for field in fields:
            name, _, value = field.partition(b":")
            self.send(b"L", name + b"\x00" + value.removeprefix(b" ") + b"\x00")
        self.send(b"N")
        body = body.replace(b"\n", b"\r\n")
        for start in range(0, len(body), CHUNK):
            self.send(b"B", body[start : start + CHUNK])
        self.send(b"E")
        signatures = []
        while True:
            command, data = self.receive()
            if command == b"i":
                name, value = data[4:].rstrip(b"\x00").split(b"\x00", 1)
                signatures.append(f"{name.decode()}: {value.decode()}")
            elif command in b"acdrty":
                return {"action": command.decode(), "text": data.rstrip(b"\x00").decode(), "headers": signatures}


def load(stop: str, path: str, stream: str, message: bytes) -> dict[str, object]:
    """How many messages were signed and refused, and by which selectors."""
    sent, refused, selectors, end = 0, [], set(), time.monotonic() + 600
    while not os.path.exists(stop) and time.monotonic() < end:
        try:
            milter = Milter(path, stream)
            for _number in range(5):
                sent += 1
                answer = milter.show(message)
                found = re.findall(r"\bs=([^;]+)", "".join(map(str, answer["headers"])))
                selectors.update(found)
                if answer["action"] != "a" or len(found) != 2:
                    refused.append(answer["text"])
        except (OSError, struct.error) as error:
            refused.append(str(error))
    return {"sent": sent, "refused": refused, "selectors": sorted(selectors)}


def main() -> None:
    if sys.argv[1] == "--until":
        stop, path, stream, name = sys.argv[2:]
        with open(name, "rb") as file:
            print(json.dumps(load(stop, path, stream, file.read())))
        return
    for path in sys.argv[3:]:
        with open(path, "rb") as file:
            message = file.read()
        try:
            answer = Milter(sys.argv[1], sys.argv[2]).show(message)
        except (OSError, struct.error) as error:
            answer = {"action": "", "text": str(error), "headers": []}
        print(json.dumps({"file": path.rpartition("/")[2], **answer}))


if __name__ == "__main__":
    main()
