# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signer on a host: its configuration as one set, its service and whether it answers, its keys and what they sign.

The configuration is tested before a byte of the old one is touched, and the old one comes back when the new one does
not answer. What signs is no part of it: signing.lua reads that for each message, so a change of it needs no reload.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import signing
from ansible_collections.mailops.mta.plugins.module_utils.core.signing import Installed, SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.shell import signers_key
from ansible_collections.mailops.mta.plugins.module_utils.shell.milter import Milter, MilterError

DIRECTORY = "/etc/rspamd/mailops"
SERVICE = "rspamd"
USER = "_rspamd"
OWNER = 0  # root; the signer may read its keys and change nothing
UNIT = "/etc/systemd/system/rspamd.service.d/mailops.conf"
_INSTALLED = "installed.json"
_LOCK_SECONDS = 120
_COMMAND_SECONDS = 60
_ANSWER_SECONDS = 20


class SignerError(Exception):
    """The new set was refused. The old one is in place."""


@dataclass(frozen=True)
class File:
    path: str
    content: bytes
    secret: bool = False

    @property
    def mode(self) -> int:
        return 0o640 if self.secret else 0o644


@dataclass(frozen=True)
class HeldKey:
    """A file among the keys. What is wrong with it never quotes it."""

    name: str
    key: Optional[signers_key.SignersKey] = None
    why: str = ""  # not empty: the signer cannot be trusted to sign with it, or its name does not tell its content

    @property
    def is_whole(self) -> bool:
        return not self.why


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


@contextlib.contextmanager
def alone(directory: str) -> Iterator[None]:
    """The signer's files for this run alone; the directories are made where they are missing. Raises SignerError."""
    _make_directories(directory)
    lock = os.open(os.path.join(directory, ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SignerError(f"another run holds {directory} for over {_LOCK_SECONDS} seconds") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(lock)


def installed(directory: str) -> Installed:
    """Raises SignerError."""
    path = os.path.join(directory, _INSTALLED)
    content = held(path)
    try:
        return signing.parse_installed(None if content is None else content.decode("utf-8"))
    except ValueError:
        remedy = "Delete it and run mailops.mta.rotate_dkim, which brings the newest state"
        raise SignerError(f"{path} is broken, so it is not known which keys may sign. {remedy}") from None


def mark(directory: str, state: Installed) -> None:
    write([_state_file(directory, state)])


def marks(directory: str, state: Installed) -> list[str]:
    """The file that ``mark`` would change."""
    return [file.path for file in differing([_state_file(directory, state)])]


def _state_file(directory: str, state: Installed) -> File:
    return File(os.path.join(directory, _INSTALLED), state.text.encode("utf-8"))


def digest(files: Iterable[File]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.path} {len(file.content)}\n".encode() + file.content)
    return whole.hexdigest()


def key_file(directory: str, key: SigningKey, content: bytes) -> File:
    return File(os.path.join(_keys(directory), key.file), content, secret=True)


def table_files(directory: str, keys: Iterable[SigningKey]) -> list[File]:
    place = _tables(directory)
    return [File(os.path.join(place, name), text.encode("ascii")) for name, text in signing.tables(keys).items()]


def signing_domains(directory: str) -> list[str]:
    """Domains for which there is a table."""
    try:
        return [name for name in os.listdir(_tables(directory)) if not name.startswith(".")]
    except OSError:
        return []


def stale(directory: str, keys: Iterable[SigningKey], tables: Iterable[File]) -> list[str]:
    """Tables that are not wanted, then files that are none of these keys."""
    wanted = {file.path for file in tables} | {os.path.join(_keys(directory), key.file) for key in keys}
    found = []
    for place in (_tables(directory), _keys(directory)):
        with contextlib.suppress(FileNotFoundError):
            found += sorted({os.path.join(place, name) for name in os.listdir(place)} - wanted)
    return found


def held_keys(directory: str) -> list[HeldKey]:
    """What lies among the keys. Raises OSError where they cannot be listed; no keys are an empty list."""
    try:
        return [held_key(directory, name) for name in sorted(os.listdir(_keys(directory)))]
    except FileNotFoundError:
        return []


def held_key(directory: str, name: str) -> HeldKey:
    """A key file that is whole has the owner and mode that the signer needs, and the content that its name tells."""
    path = os.path.join(_keys(directory), name)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read() if stat.S_ISREG(status.st_mode) else b""
        key = signers_key.SignersKey(content)
    except OSError as error:
        return HeldKey(name, why=error.strerror or "it cannot be read")
    except ValueError as error:
        return HeldKey(name, why=str(error))
    told = signing.parse_file(name)
    if told is None or not key.public.fingerprint.startswith(told[2]):
        return HeldKey(name, key, "it holds another key than its name tells")
    if _status_differs(status, File(path, content, secret=True)):
        return HeldKey(name, key, f"it must belong to root and the group {USER} with mode 0640")
    return HeldKey(name, key)


def _keys(directory: str) -> str:
    return os.path.join(directory, "keys")


def _tables(directory: str) -> str:
    return os.path.join(directory, "signing")


def write(files: Iterable[File]) -> None:
    places = set()
    for file in files:
        _place(file)
        places.add(os.path.dirname(file.path))
    for place in places:
        _sync(place)


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def install(changed: Iterable[File], milter_socket: str) -> None:
    """Puts the files in place and makes the service use them. Raises SignerError after putting the old ones back."""
    files = list(changed)
    old = {file.path: (held(file.path), file) for file in files}
    try:
        write(files)
        _follow(UNIT in old, milter_socket)
    except (OSError, SignerError) as error:
        for content, file in old.values():
            if content is None:
                if os.path.exists(file.path):
                    os.unlink(file.path)
            else:
                _place(File(file.path, content))
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
    """True where a milter greets back."""
    try:
        Milter(milter_socket, patience_seconds=2).close()
    except MilterError:
        return False
    return True


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
    places = {directory: 0o755, _tables(directory): 0o755, _keys(directory): 0o750, os.path.dirname(UNIT): 0o755}
    for path, mode in places.items():
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        if mode == 0o750 and group is not None:
            os.chown(path, OWNER, group)


def _place(file: File) -> None:
    # One name for all, since key files have names that leave no room for more; see alone.
    temporary = os.path.join(os.path.dirname(file.path), ".new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a run that was killed
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        if file.secret:
            os.fchown(descriptor, OWNER, _required_group())
        os.fchmod(descriptor, file.mode)
        handle.write(file.content)
        handle.flush()
        os.fsync(descriptor)
    os.replace(temporary, file.path)


def _required_group() -> int:
    group = group_id()
    if group is None:
        raise SignerError(f"there is no user {USER}: rspamd is not installed")
    return group


def _rights_differ(file: File) -> bool:
    return _status_differs(os.stat(file.path), file)


def _status_differs(status: os.stat_result, file: File) -> bool:
    wanted_group = group_id() if file.secret else status.st_gid
    return stat.S_IMODE(status.st_mode) != file.mode or status.st_uid != OWNER or status.st_gid != wanted_group


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
