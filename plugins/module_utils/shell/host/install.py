# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a service of this host runs on: staged for a check, put in place with their rights, and put back.

Each file is replaced as a whole. One run at a time writes into a directory; the caller holds the lock (see lock.py).
"""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner

OWNER = 0  # root; a service may read its files and change nothing
UNFINISHED = ".new"  # the name of a file that is being written
_LOG_LINES = 8


@dataclass(frozen=True)
class File:
    path: str
    content: bytes
    group: Optional[str] = None  # not None: a secret, which this group alone may read

    @property
    def mode(self) -> int:
        return 0o640 if self.group else 0o644

    @property
    def difference(self) -> dict[str, str]:
        """What Ansible's --diff prints of it. No file with a group may be shown."""
        before = (content_of(self.path) or b"").decode("utf-8", "replace")
        after = self.content.decode("utf-8", "replace")
        return {"before_header": self.path, "after_header": self.path, "before": before, "after": after}


# ---- what is there


def content_of(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def differing(wanted: Iterable[File]) -> list[File]:
    """Those whose content or rights are not as wanted."""
    return [file for file in wanted if content_of(file.path) != file.content or rights_differ(os.stat(file.path), file)]


def rights_differ(status: os.stat_result, file: File) -> bool:
    wanted_group = group_id(file.group) if file.group else status.st_gid
    return stat.S_IMODE(status.st_mode) != file.mode or status.st_uid != OWNER or status.st_gid != wanted_group


def others(place: str, wanted: Collection[str]) -> list[str]:
    """The paths in a directory that are none of those wanted."""
    try:
        return sorted({os.path.join(place, name) for name in os.listdir(place)} - set(wanted))
    except FileNotFoundError:
        return []


def group_id(name: str) -> Optional[int]:
    """None where there is no such group: the package that makes it is not installed yet."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


# ---- a change


def make_directory(path: str, group: Optional[str] = None) -> None:
    """With a group it is for root and that group alone, as soon as there is one."""
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o750 if group else 0o755)
    number = group_id(group) if group else None
    if number is not None:
        os.chown(path, OWNER, number)


def write(wanted: Iterable[File]) -> None:
    """Puts files in place, on disk when this returns. Raises OSError, also where there is no such group."""
    places = set()
    for file in wanted:
        place(file)
        places.add(os.path.dirname(file.path))
    for directory in places:
        files.sync_directory(directory)


def place(file: File) -> None:
    # One name for all, since key files have names that leave no room for more.
    temporary = os.path.join(os.path.dirname(file.path), UNFINISHED)
    group = _required_group(file.group) if file.group else None
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a run that was killed
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        if group is not None:
            os.fchown(descriptor, OWNER, group)
        os.fchmod(descriptor, file.mode)
        handle.write(file.content)
        handle.flush()
        os.fsync(descriptor)
    os.replace(temporary, file.path)


@contextlib.contextmanager
def staged(contents: Mapping[str, bytes], directory: str, parent: str) -> Iterator[str]:
    """A copy of files, for a check; for root alone, and gone afterwards.

    ``contents`` are by their paths below ``directory``; where they name that directory, the copy names itself.
    """
    copy = tempfile.mkdtemp(prefix=".mailops-", dir=parent)
    try:
        for name, content in contents.items():
            path = os.path.join(copy, name)
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            with open(path, "wb") as file:
                file.write(content.replace(directory.encode(), copy.encode()))
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _required_group(name: str) -> int:
    number = group_id(name)
    if number is None:
        raise OSError(f"there is no group {name}: the package that makes it is not installed")
    return number


def _make_parents(path: str) -> None:
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for each in reversed(missing):
        os.mkdir(each)
        os.chmod(each, 0o755)


# ---- the service


@dataclass(frozen=True)
class Service:
    """A service of systemd that runs on one configuration file and those that this one names."""

    unit: str
    unit_path: str  # of the unit or its drop-in
    main: str  # path of the configuration file
    host: Runner

    def running(self) -> bool:
        """Whether the service runs, and will after a boot."""
        return all(self.host.holds(question, self.unit) for question in ("is-active", "is-enabled"))

    def active(self) -> bool:
        return self.host.holds("is-active", self.unit)

    def know(self, changed: Collection[str]) -> None:
        """Has systemd read the unit, where it is among the files that have changed, and start the service at boot."""
        if self.unit_path in changed:
            self.host.systemctl("daemon-reload")
        self.host.systemctl("enable", self.unit)

    def children(self) -> set[str]:
        """Process numbers. A reload of rspamd or httpd makes new children."""
        shown = self.host.run(["systemctl", "show", "--property", "MainPID", "--value", self.unit]).stdout.strip()
        with contextlib.suppress(OSError), open(f"/proc/{shown}/task/{shown}/children", encoding="ascii") as file:
            return set(file.read().split())
        return set()

    def last_words(self) -> str:
        self.host.run(["journalctl", "--sync"])
        options = ["--unit", self.unit, "--lines", str(_LOG_LINES), "--no-pager", "--output", "cat"]
        return f"Its last words: {self.host.run(['journalctl', *options]).stdout.strip()}"

    def install(
        self, changed: Iterable[File], follow: Callable[[], None], resume: Optional[Callable[[], None]] = None
    ) -> None:
        """Puts files in place, and ``follow`` has the service run on them.

        Where either fails, the old files are put back and ``resume`` (else ``follow``) has the service run on them; a
        service that had no configuration is stopped. Then ``host.error`` is raised, which says all of this.
        """
        wanted = list(changed)
        old = {file.path: content_of(file.path) for file in wanted}
        new = {os.path.dirname(path) for path in old if not os.path.isdir(os.path.dirname(path))}
        try:
            for directory in new:
                _make_parents(directory)
            write(wanted)
            follow()
        except (OSError, self.host.error) as error:
            for file in wanted:
                content = old[file.path]
                if content is not None:
                    place(replace(file, content=content))
                elif os.path.exists(file.path):
                    os.unlink(file.path)
            for directory in new:
                with contextlib.suppress(OSError):
                    os.removedirs(directory)
            raise self.host.error(f"{error}; {self._resume(old, resume or follow)}") from None

    def _resume(self, old: Mapping[str, Optional[bytes]], resume: Callable[[], None]) -> str:
        try:
            if old.get(self.main, b"") is None:
                self.host.run(["systemctl", "disable", "--now", self.unit])
                self.host.systemctl("daemon-reload")
                return "there was no older configuration, so it is stopped"
            resume()
        except self.host.error as second:
            return f"the old files are back, but the service does not run on them either: {second}"
        return "the old files are back, and the service runs on them"
