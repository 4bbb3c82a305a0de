# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signer on a host: its files as one set, its service, and whether it answers.

The set is tested before a byte of the old one is touched, and the old one comes back when the new one does not answer.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.keys import Key

SERVICE = "rspamd"
USER = "_rspamd"
UNIT = "/etc/systemd/system/rspamd.service.d/mailops.conf"
_COMMAND_SECONDS = 60
_ANSWER_SECONDS = 20


class SignerError(Exception):
    """The new set was refused. The old one is in place."""


@dataclass(frozen=True)
class File:
    path: str
    content: bytes
    mode: int = 0o644
    secret: bool = False


def held(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def group_id() -> Optional[int]:
    """The group of the signer's user, None before the package is there."""
    try:
        return pwd.getpwnam(USER).pw_gid
    except KeyError:
        return None


def differing(files: Iterable[File]) -> list[File]:
    return [file for file in files if held(file.path) != file.content or _rights_differ(file)]


def key_path(directory: str, key: Key) -> str:
    return os.path.join(directory, "keys", f"{key.name}.key")


def stale(directory: str, wanted: Iterable[str]) -> list[str]:
    """Files among the keys that are none of ``wanted``."""
    place = os.path.join(directory, "keys")
    try:
        return sorted({os.path.join(place, name) for name in os.listdir(place)} - set(wanted))
    except FileNotFoundError:
        return []


def write(files: Iterable[File], directory: str) -> None:
    _make_directories(directory)
    for file in files:
        _place(file, file.content)


def test(configuration: str, rules: str, directory: str) -> None:
    """Asks rspamd itself about the new configuration, in a copy beside the live one. Raises SignerError."""
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    copy = tempfile.mkdtemp(prefix=".mailops-", dir=parent)
    try:
        for name, text in (("rspamd.conf", configuration), ("signing.lua", rules)):
            with open(os.path.join(copy, name), "w", encoding="utf-8") as file:
                file.write(text.replace(directory, copy))
        done = _run(["rspamadm", "configtest", "--strict", "--config", os.path.join(copy, "rspamd.conf")])
        if done.returncode:
            lines = (done.stdout + done.stderr).replace(copy, directory)
            raise SignerError(f"rspamadm configtest refuses the new configuration: {lines.strip()}")
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def install(changed: Iterable[File], directory: str, milter_socket: str) -> None:
    """Puts the files in place and makes the service use them. Raises SignerError after putting the old ones back."""
    files = list(changed)
    old = {file.path: (held(file.path), file) for file in files}
    try:
        write(files, directory)
        _follow(UNIT in old, milter_socket)
    except (OSError, SignerError) as error:
        for content, file in old.values():
            if content is None:
                if os.path.exists(file.path):
                    os.unlink(file.path)
            else:
                _place(file, content)
        raise SignerError(f"{error}; {_resume(old, milter_socket)}") from None


def _resume(old: Mapping[str, tuple[Optional[bytes], File]], milter_socket: str) -> str:
    """Has the service run on the old files, or stops it where there were none."""
    try:
        if all(content is None for content, _file in old.values()):
            _systemctl("disable", "--now", "--quiet", SERVICE)
            _require(_systemctl("daemon-reload"))
            return "there was no older configuration, so it is stopped"
        _follow(UNIT in old, milter_socket)
    except SignerError as second:
        return f"the old configuration is back but does not answer either: {second}"
    return "the old configuration is back and answers"


def running() -> bool:
    return all(_systemctl(verb, "--quiet", SERVICE).returncode == 0 for verb in ("is-active", "is-enabled"))


def start(milter_socket: str) -> None:
    _follow(False, milter_socket)


def answers(milter_socket: str) -> bool:
    """True where a milter greets back (option negotiation of the milter protocol, version 6)."""
    request = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            connection.connect(milter_socket)
            connection.sendall(request)
            reply = connection.recv(64)
    except OSError:
        return False
    return reply[4:5] == b"O"


def _follow(unit_changed: bool, milter_socket: str) -> None:
    """Has the service run on the files as they are now: a reload keeps the socket, so no message is refused for it."""
    if unit_changed:
        _require(_systemctl("daemon-reload"))
    _require(_systemctl("enable", "--quiet", SERVICE))
    active = _systemctl("is-active", "--quiet", SERVICE).returncode == 0
    before = _children()
    verb = "start" if not active else "restart" if unit_changed else "reload"
    _require(_systemctl(verb, SERVICE))
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        if _children() - before and answers(milter_socket):
            return
        if _systemctl("is-failed", "--quiet", SERVICE).returncode == 0:
            break
        time.sleep(0.1)
    log = _run(["journalctl", "--unit", SERVICE, "--lines", "5", "--no-pager", "--output", "cat"]).stdout
    raise SignerError(f"rspamd does not answer on {milter_socket} after its {verb}. Its last words: {log.strip()}")


def _children() -> set[str]:
    main = _systemctl("show", "--property", "MainPID", "--value", SERVICE).stdout.strip()
    try:
        with open(f"/proc/{main}/task/{main}/children", encoding="ascii") as file:
            return set(file.read().split())
    except OSError:
        return set()


def _make_directories(directory: str) -> None:
    group = group_id()
    for path, mode in ((directory, 0o755), (os.path.join(directory, "keys"), 0o750), (os.path.dirname(UNIT), 0o755)):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        if mode == 0o750 and group is not None:
            os.chown(path, 0, group)


def _place(file: File, content: bytes) -> None:
    temporary = os.path.join(os.path.dirname(file.path), f".{os.path.basename(file.path)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        if file.secret:
            os.fchown(descriptor, 0, _required_group())
        os.fchmod(descriptor, file.mode)
        handle.write(content)
        handle.flush()
        os.fsync(descriptor)
    os.replace(temporary, file.path)


def _required_group() -> int:
    group = group_id()
    if group is None:
        raise SignerError(f"there is no user {USER}: rspamd is not installed")
    return group


def _rights_differ(file: File) -> bool:
    status = os.stat(file.path)
    wanted_group = group_id() if file.secret else status.st_gid
    return stat.S_IMODE(status.st_mode) != file.mode or status.st_uid != 0 or status.st_gid != wanted_group


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(["systemctl", *arguments])


def _require(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise SignerError(f"{' '.join(done.args)}: {(done.stderr or done.stdout).strip()}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SignerError(f"{command[0]}: {error.__class__.__name__}") from None
