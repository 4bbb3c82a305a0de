# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): messages on disk, and small state that outlives the daemon.

A message is one file, a line of JSON and then the message as it goes out; it is on disk before its sender hears 250.
What became of its recipients is appended to a second file, without fsync: SIGKILL loses none of it, and a power cut
costs a message sent twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

Headers = list[tuple[str, bytes]]  # name, the whole field with its line ends


@dataclass
class Recipient:
    address: str
    domain: str  # of the queue: the recipient's own, or a rollup's
    vmta: str
    pool: str = ""
    orcpt: str = ""
    notify: str = ""
    attempts: int = 0
    next_try: float = 0.0
    done: bool = False


@dataclass
class Message:
    id: str
    sender: str
    time_queued: float
    recipients: list[Recipient]
    size: int = 0
    src_type: str = "smtp"
    src_mta: str = ""
    job: str = ""
    envid: str = ""
    user: str = ""
    verp: bool = False
    quiet: bool = False  # no DSN to the sender
    full: bool = False  # a DSN has the whole message
    headers: dict[str, str] = field(default_factory=dict)  # what accounting asks for


class Spool:
    def __init__(self, directory: str) -> None:
        self.directory = os.path.join(directory, "messages")
        self.state_file = os.path.join(directory, "state.json")
        os.makedirs(self.directory, exist_ok=True)
        self._lock = threading.Lock()

    def _path(self, name: str, ending: str) -> str:
        return os.path.join(self.directory, f"{name}.{ending}")

    def store(self, message: Message, content: bytes) -> None:
        """Returns when the message is on disk."""
        path = self._path(message.id, "msg")
        with open(f"{path}.new", "wb") as file:
            file.write(json.dumps(asdict(message)).encode() + b"\n" + content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.new", path)
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def content(self, message: Message) -> bytes:
        with open(self._path(message.id, "msg"), "rb") as file:
            file.readline()
            return file.read()

    def note(self, message: Message, number: int) -> None:
        """Keep what became of a recipient; the last one takes the message off the disk."""
        recipient = message.recipients[number]
        with self._lock:
            if all(other.done for other in message.recipients):
                for ending in ("msg", "log"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self._path(message.id, ending))
                return
            with open(self._path(message.id, "log"), "a", encoding="utf-8") as file:
                file.write(json.dumps([number, recipient.done, recipient.attempts, recipient.next_try]) + "\n")

    def load(self) -> Iterator[Message]:
        for name in sorted(os.listdir(self.directory)):
            path = os.path.join(self.directory, name)
            if name.endswith(".new"):
                os.unlink(path)  # its sender never heard 250
            if not name.endswith(".msg"):
                continue
            try:
                with open(path, "rb") as file:
                    values = json.loads(file.readline())
                message = Message(**{**values, "recipients": [Recipient(**item) for item in values["recipients"]]})
            except (ValueError, TypeError, KeyError):
                os.rename(path, f"{path}.bad")  # damaged; the rest of the queue goes on
                continue
            with contextlib.suppress(FileNotFoundError), open(self._path(message.id, "log"), encoding="utf-8") as log:
                for line in log:
                    with contextlib.suppress(ValueError):  # the last line may be half written
                        number, done, attempts, next_try = json.loads(line)
                        recipient = message.recipients[number]
                        recipient.done, recipient.attempts, recipient.next_try = done, attempts, next_try
            yield message

    def read_state(self) -> dict[str, Any]:
        try:
            with open(self.state_file, encoding="utf-8") as file:
                state = json.load(file)
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def write_state(self, state: dict[str, Any]) -> None:
        with self._lock:
            with open(f"{self.state_file}.new", "w", encoding="utf-8") as file:
                json.dump(state, file)
            os.rename(f"{self.state_file}.new", self.state_file)


def split_message(content: bytes) -> tuple[Headers, bytes]:
    """Header fields as they stand, and the body. A first line that is no header field begins the body."""
    fields: Headers = []
    at = 0
    while at < len(content):
        end = content.find(b"\r\n", at) + 2
        line = content[at : end or len(content)]
        if line == b"\r\n":
            return fields, content[end:]
        if line[:1] in b" \t" and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + line)
        elif found := re.match(rb"([!-9;-~]+)[ \t]*:", line):
            fields.append((found[1].decode(), line))
        else:
            return fields, content[at:]
        at = end or len(content)
    return fields, b""
