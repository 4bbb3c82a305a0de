# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): accounting files.

CSV with a header line; the first column is always the type of the record, and a column that a type lacks is empty.
"""

from __future__ import annotations

import csv
import glob
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import IO, ClassVar

from . import LOGS
from .reader import RECORDS, Node, boolean, interval, size

_REMOTE = ("timeLogged", "orig", "rcpt", "orcpt")
_DIAGNOSIS = ("dsnStatus", "dsnDiag", "dsnMta")
_DELIVERY = (
    *("timeLogged", "timeQueued", "orig", "rcpt", "orcpt", "dsnAction", *_DIAGNOSIS, "bounceCat", "srcType", "srcMta"),
    *("dlvType", "dlvSourceIp", "dlvDestinationIp", "dlvEsmtpAvailable", "dlvSize"),
    *("vmta", "jobId", "envId", "queue", "vmtaPool"),
)
FIELDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("d", "b", "t"), _DELIVERY),
    "tq": ("timeLogged", *_DIAGNOSIS, "dlvType", "dlvSourceIp", "dlvDestinationIp", "vmta", "queue"),
    "r": (*_REMOTE, "srcType", "srcMta", "rcvSourceIp", "rcvDestinationIp", "vmta", "jobId", "envId", "vmtaPool"),
    "rb": (*_REMOTE, *_DIAGNOSIS, "dsnReportingMta", "bounceCat", "srcType", "srcMta", "envId", "format"),
    "rs": (*_REMOTE, "dsnAction", *_DIAGNOSIS, "bounceCat", "srcType", "srcMta", "envId", "format"),
    "f": (
        *("timeLogged", "format", "userAgent", "feedbackType", "repSourceIp", "envid", "orig", "rcpt"),
        *("reportingMTA", "dlvSourceIp", "reportedDomain"),
    ),
}


def stamp(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(when))


class AccountFile:
    """One <acct-file>: a path whose name gets a day and a number, or a command."""

    fresh: ClassVar[set[str]] = set()  # targets that "pmta rotate" was for: their next file is a new one

    def __init__(self, node: Node) -> None:
        self.target = node.value
        self.iso = boolean(node.last("iso-times", "yes"))
        self.records = [
            RECORDS[name] for line in node.all("records") for word in line.words for name in word.split(",")
        ]
        self.records = self.records or ["d", "b"]
        self.fields = {kind: list(FIELDS[kind]) for kind in self.records}
        for line in node.all("record-fields"):
            for kind in line.words[0].split(","):
                if RECORDS[kind] in self.fields:
                    self.fields[RECORDS[kind]] = _chosen(RECORDS[kind], line.words[1:])
        self.user_string = node.last("user-string")
        self.header = ["type"]
        for kind in self.records:
            self.header += [name for name in self.fields[kind] if name not in self.header]
        if self.user_string and "userString" not in self.header:
            self.header.append("userString")
        self.max_size = size(node.last("max-size", "0"))
        self.move_to = node.last("move-to")
        self.move_interval = interval(node.last("move-interval", "1d"))
        kept = node.last("delete-after", "8d")
        self.keep_seconds = 0 if kept == "never" or self.move_to else interval(kept)
        self.mode = 0o644 if boolean(node.last("world-readable", "no")) else 0o640
        self.sync = boolean(node.last("sync", "no"))
        self.handle: IO[str] | None = None
        self.path, self.day, self.opened = "", "", 0.0
        self.command: subprocess.Popen[str] | None = None

    def write(self, record: Mapping[str, str], now: float) -> None:
        kind = record["type"]
        if kind not in self.records:
            return
        self._ready(now)
        assert self.handle is not None
        values = {name: record.get(name, "") for name in self.fields[kind]}
        if not self.iso:
            for name in ("timeLogged", "timeQueued"):
                if values.get(name):
                    values[name] = str(int(time.mktime(time.strptime(values[name][:19], "%Y-%m-%d %H:%M:%S"))))
        row = {**values, "type": kind, "userString": self.user_string}
        csv.writer(self.handle, lineterminator="\n").writerow([row.get(name, "") for name in self.header])
        self.handle.flush()
        if self.sync and not self.command:
            os.fsync(self.handle.fileno())

    def rotate(self) -> None:
        """Close; the next record opens the next file."""
        if self.handle is None:
            return
        self.handle.close()
        self.handle = None
        if self.command:
            self.command.wait(5)
            self.command = None
        elif self.move_to:
            shutil.move(self.path, os.path.join(self.move_to, os.path.basename(self.path)))

    def tend(self, now: float) -> None:
        """What time asks for: rotation by interval, and old files away."""
        if self.handle is not None and self.move_to and now - self.opened >= self.move_interval:
            self.rotate()
        if self.keep_seconds and not self.target.startswith("|"):
            for path in glob.glob(self._pattern("*")):
                if path != self.path and now - os.path.getmtime(path) > self.keep_seconds:
                    os.unlink(path)

    def _pattern(self, middle: str) -> str:
        stem, ending = os.path.splitext(os.path.join(LOGS, self.target))
        return f"{stem}-{middle}{ending}"

    def _ready(self, now: float) -> None:
        if self.target.startswith("|"):
            if self.command is None or self.command.poll() is not None:
                self.command = subprocess.Popen(self.target[1:], shell=True, stdin=subprocess.PIPE, text=True)
                assert self.command.stdin is not None
                self.handle = self.command.stdin
                csv.writer(self.handle, lineterminator="\n").writerow(self.header)
            return
        day = time.strftime("%Y-%m-%d", time.localtime(now))
        full = self.handle is not None and self.max_size and os.path.getsize(self.path) >= self.max_size
        if self.handle is not None and (full or day != self.day):
            self.rotate()
        if self.handle is None:
            self._open(day, now)

    def _open(self, day: str, now: float) -> None:
        taken = sorted(glob.glob(self._pattern(f"{day}-*")) + self._moved(day))
        number = 0
        if taken:
            found = re.search(r"-(\d{4,})\.[^.]*$", os.path.basename(taken[-1]) + ("" if "." in taken[-1] else "."))
            number = int(found[1]) + 1 if found else len(taken)
        path = self._pattern(f"{day}-{number:04d}")
        rotated = self.target in self.fresh
        self.fresh.discard(self.target)
        if taken and not rotated and os.path.dirname(taken[-1]) == os.path.dirname(path) and self._may_go_on(taken[-1]):
            path = taken[-1]
        self.path, self.day, self.opened = path, day, now
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, self.mode)
        os.fchmod(descriptor, self.mode)
        self.handle = os.fdopen(descriptor, "a", encoding="utf-8", newline="")
        if os.path.getsize(path) == 0:
            csv.writer(self.handle, lineterminator="\n").writerow(self.header)

    def _moved(self, day: str) -> list[str]:
        if not self.move_to:
            return []
        return glob.glob(os.path.join(self.move_to, os.path.basename(self._pattern(f"{day}-*"))))

    def _may_go_on(self, path: str) -> bool:
        """After a restart the file of before goes on, unless it is full, rotated away or has other columns."""
        if self.max_size and os.path.getsize(path) >= self.max_size:
            return False
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return next(csv.reader(file), []) == self.header
        except OSError:
            return False


def _chosen(kind: str, words: list[str]) -> list[str]:
    found: list[str] = []
    for name in (name for word in words for name in word.split(",") if name):
        if name == "*":
            found += [other for other in FIELDS[kind] if other not in found]
        elif name.startswith("!"):
            found = [other for other in found or list(FIELDS[kind]) if other != name[1:]]
        elif name not in found:
            found.append(name)
    return found


class Accounting:
    """All accounting files of a configuration; a reload makes a new one."""

    def __init__(self, tree: Node) -> None:
        self.files = [AccountFile(node) for node in tree.all("acct-file", section=True)]
        self.lock = threading.Lock()

    def write(self, record: Mapping[str, str]) -> None:
        with self.lock:
            for file in self.files:
                try:
                    file.write(record, time.time())
                except OSError as error:  # mail goes on without its record
                    print(f"acct-file {file.target}: {error}", flush=True)

    def wants_header(self, kind: str) -> list[str]:
        """The message headers that records of this type carry."""
        names = [name for file in self.files for name in file.fields.get(kind, ()) if name.startswith("header_")]
        return [name[7:] for name in dict.fromkeys(names)]

    def tend(self) -> None:
        with self.lock:
            for file in self.files:
                file.tend(time.time())

    def rotate(self) -> None:
        with self.lock:
            for file in self.files:
                file.fresh.add(file.target)
                file.rotate()

    def close(self) -> None:
        with self.lock:
            for file in self.files:
                if file.handle is not None:
                    file.handle.close()
                    file.handle = None
