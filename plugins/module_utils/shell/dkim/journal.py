# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of the key store: one JSON object a line, only ever appended to. It is state and history in one.

What ends without a line feed was being written when a run was killed: it does not count, and the next append cuts it
off.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import store
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.store import JOURNAL, serial
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.files import sync_directory

__all__ = ["JOURNAL", "Journal", "JournalError", "serial"]

_BLOCK = 65536


class JournalError(keys.StoreError):
    """The journal cannot be used. The text names the file and, where there is one, the line."""


_host = Runner(JournalError)


class Journal:
    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All whole lines, oldest first; none where there is no file yet. Raises JournalError."""
        try:
            return store.parse(self.content())
        except ValueError as error:
            raise JournalError(f"{self.path}, {error}") from None

    def content(self) -> bytes:
        """The whole lines as they are in the file. Raises JournalError."""
        try:
            content = keys.read_private(self.path) or b""
        except (OSError, ValueError) as error:
            raise JournalError(f"{self.path}: {keys.reason(error)}") from None
        return content[: content.rfind(b"\n") + 1]

    def identity(self) -> str:
        """By which a copy is told from it: inode and time of birth. It is made where it is missing; under the lock."""
        os.close(self._open())
        return _host.must(["env", "TZ=UTC", "stat", "--format", "%i %w", self.path]).strip()

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """All lines, on disk when this returns, or none where it raises. The caller holds the lock of the store."""
        content = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode("ascii")
        if not content:
            return
        descriptor = self._open()
        try:
            end = _whole(descriptor)
            try:
                os.ftruncate(descriptor, end)
                _write(descriptor, content, end)
                os.fsync(descriptor)
            except BaseException as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, end)
                    os.fsync(descriptor)
                if isinstance(error, OSError):
                    raise JournalError(f"{self.path}: {keys.reason(error)}. Nothing was added to it") from None
                raise
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        created = not os.path.lexists(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags, 0o600)
            if created:
                sync_directory(os.path.dirname(self.path) or ".")
        except OSError as error:
            raise JournalError(f"{self.path}: {keys.reason(error)}") from None
        why = keys.file_problem(os.fstat(descriptor))
        if why:
            os.close(descriptor)
            raise JournalError(f"{self.path}: {why}")
        return descriptor


def _whole(descriptor: int) -> int:
    """Where the last whole line of a file ends."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _BLOCK)
        feed = os.pread(descriptor, end - start, start).rfind(b"\n")
        if feed >= 0:
            return start + feed + 1
        end = start
    return 0


def _write(descriptor: int, content: bytes, offset: int) -> None:
    """In one call, unless the disk takes less; it then says why in the next."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        offset, content = offset + written, content[written:]
