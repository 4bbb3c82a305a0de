# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every DKIM signer on a host has in common: its key files, who may read them, and what is refused to it.

A key file's name tells its content (see core/dkim/installed), so no file is ever written again.
"""

from __future__ import annotations

import contextlib
import grp
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import installed
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import milter
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import POWERMTA, RSPAMD
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import private_key

OWNER = 0  # root; the signer may read its keys and change nothing
_LOCK_SECONDS = 120
_UNFINISHED = ".new"  # a file that is being written


class SignerError(Exception):
    """The signer was not changed: what it has is in place."""


@dataclass(frozen=True)
class File:
    path: str
    content: bytes
    group: Optional[str] = None  # not None: a secret, which this group alone may read

    @property
    def mode(self) -> int:
        return 0o640 if self.group else 0o644


@dataclass(frozen=True)
class HeldKey:
    """A file among the keys. What is wrong with it never quotes it."""

    name: str
    key: Optional[private_key.SignersKey] = None
    why: str = ""  # not empty: the signer cannot be trusted to sign with it, or its name does not tell its content

    @property
    def is_whole(self) -> bool:
        return not self.why

    @property
    def signing_key(self) -> Optional[SigningKey]:
        """The key that the signer could sign with, if it can."""
        told = installed.parse_file(self.name)
        if told is None or self.key is None or not self.is_whole:
            return None
        return SigningKey(told[1], told[0], self.key.public.algorithm, self.key.public.fingerprint)


@dataclass(frozen=True)
class KeyFiles:
    """The private keys of a signer, in the directory ``keys`` of its own."""

    program: str  # as persons call it
    directory: str
    group: str
    algorithms: tuple[str, ...]  # that it signs with

    @property
    def place(self) -> str:
        return os.path.join(self.directory, "keys")

    def path(self, key: SigningKey) -> str:
        return os.path.join(self.place, key.file)

    def file(self, key: SigningKey, content: bytes) -> File:
        return File(self.path(key), content, self.group)

    def make_directories(self) -> None:
        make_directory(self.directory)
        make_directory(self.place, self.group)

    def held(self) -> list[HeldKey]:
        """What lies among the keys. Raises OSError where they cannot be listed; no keys are an empty list."""
        try:
            return [self.one(name) for name in sorted(os.listdir(self.place))]
        except FileNotFoundError:
            return []

    def one(self, name: str) -> HeldKey:
        """One that is whole has the owner and mode that the signer needs, and the content that its name tells."""
        path = os.path.join(self.place, name)
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                status = os.fstat(file.fileno())
                content = file.read() if stat.S_ISREG(status.st_mode) else b""
            key = private_key.SignersKey(content)
        except OSError as error:
            return HeldKey(name, why=error.strerror or "it cannot be read")
        except ValueError as error:
            return HeldKey(name, why=str(error))
        told = installed.parse_file(name)
        if told is None or not key.public.fingerprint.startswith(told[2]):
            return HeldKey(name, key, "it holds another key than its name tells")
        if key.public.algorithm not in self.algorithms:
            return HeldKey(name, key, f"{self.program} does not sign with {key.public.algorithm}")
        if _status_differs(status, File(path, content, self.group)):
            return HeldKey(name, key, f"it must belong to root and the group {self.group} with mode 0640")
        return HeldKey(name, key)

    def stale(self, keys: Iterable[SigningKey], strangers: bool = True) -> list[str]:
        """Files that are none of these keys; without ``strangers`` only those that an earlier run has left."""
        found = others(self.place, {self.path(key) for key in keys})
        return [path for path in found if strangers or _is_our_name(os.path.basename(path))]


SIGNERS: Mapping[str, KeyFiles] = {
    RSPAMD: KeyFiles("rspamd", "/etc/rspamd/mailops", "_rspamd", milter.SIGNERS[RSPAMD]),
    POWERMTA: KeyFiles("PowerMTA", "/etc/pmta/dkim", "pmta", milter.SIGNERS[POWERMTA]),
}


def of(signer: str, directory: Optional[str]) -> KeyFiles:
    """The key files of a signer of this name, where it has a directory of its own there."""
    usual = SIGNERS[signer]
    return KeyFiles(usual.program, directory or usual.directory, usual.group, usual.algorithms)


# ---- what is refused before anything is touched


def key_of(given: Mapping[str, Any]) -> SigningKey:
    """Raises SignerError."""
    key = SigningKey(given["domain"], given["selector"], given["algorithm"], given["fingerprint"])
    if key.problem:
        raise SignerError(f"{key.file}: {key.problem}")
    return key


def refuse_older(directory: str, before: Optional[int], serial: int) -> None:
    """Raises SignerError."""
    if before is not None and serial < before:
        raise SignerError(
            f"{directory} has the state {before} of the key store, {serial} is older: of a run that was "
            "overtaken, or of a store that came back from a backup. Its keys may be gone from DNS. Run "
            "mailops.mta.rotate_dkim, which begins with the newest state; for a store from a backup, run "
            "mailops.mta.restore_dkim first"
        )


def refuse_missing(
    held: KeyFiles, keys: Sequence[tuple[SigningKey, bool]], signs: Collection[SigningKey], check_mode: bool
) -> None:
    """Nothing may sign with a key that is not here; what signs must be held. In check mode keys are still to come.

    ``keys`` tells of each whether the key store has its private part. Raises SignerError.
    """
    known = {key for key, _private in keys}
    unknown = [key.file for key in sorted(signs) if key not in known]
    if unknown:
        raise SignerError(f"these sign, but are not among the keys that the host holds: {', '.join(unknown)}")
    problems = []
    for key, private in keys:
        found = held.one(key.file)
        if found.key is not None and found.key.public.fingerprint != key.fingerprint:
            problems.append(f"{key.file}: it holds another key than is asked for")
        elif not found.is_whole and not private:
            if key not in signs:  # another one signs, and nobody can bring this one
                continue
            problems.append(
                f"{key.file}: {found.why}. The key store has no private part of this key, so it cannot be brought: "
                "restore it to the store from a backup, or have the key replaced with mailops.mta.rotate_dkim"
            )
        elif not found.is_whole and not check_mode:
            problems.append(f"{key.file}: {found.why}. The role dkim brings it")
    if problems:
        raise SignerError("keys are missing on this host:\n" + "\n".join(problems))


# ---- files


@contextlib.contextmanager
def alone(directory: str) -> Iterator[None]:
    """A signer's files for this run alone. Raises SignerError."""
    try:
        with files.locked(os.path.join(directory, ".lock"), _LOCK_SECONDS):
            yield
    except TimeoutError as error:
        raise SignerError(str(error)) from None


def _is_our_name(name: str) -> bool:
    return name == _UNFINISHED or installed.parse_file(name) is not None


def content_of(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def differing(wanted: Iterable[File]) -> list[File]:
    return [file for file in wanted if content_of(file.path) != file.content or _rights_differ(file)]


def others(place: str, wanted: Collection[str]) -> list[str]:
    """The paths in a directory that are none of those wanted."""
    try:
        return sorted({os.path.join(place, name) for name in os.listdir(place)} - set(wanted))
    except FileNotFoundError:
        return []


def write(wanted: Iterable[File]) -> None:
    places = set()
    for file in wanted:
        place(file)
        places.add(os.path.dirname(file.path))
    for directory in places:
        _sync(directory)


def place(file: File) -> None:
    # One name for all, since key files have names that leave no room for more; see alone.
    temporary = os.path.join(os.path.dirname(file.path), _UNFINISHED)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a run that was killed
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        if file.group:
            os.fchown(descriptor, OWNER, _required_group(file.group))
        os.fchmod(descriptor, file.mode)
        handle.write(file.content)
        handle.flush()
        os.fsync(descriptor)
    os.replace(temporary, file.path)


def make_directory(path: str, group: Optional[str] = None) -> None:
    """With a group it is for root and that group alone, as soon as there is one."""
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o750 if group else 0o755)
    number = group_id(group) if group else None
    if number is not None:
        os.chown(path, OWNER, number)


def group_id(name: str) -> Optional[int]:
    """None before the signer's package is there."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _required_group(name: str) -> int:
    number = group_id(name)
    if number is None:
        raise SignerError(f"there is no group {name}: the package of the signer makes it, and is not installed")
    return number


def _rights_differ(file: File) -> bool:
    return _status_differs(os.stat(file.path), file)


def _status_differs(status: os.stat_result, file: File) -> bool:
    wanted_group = group_id(file.group) if file.group else status.st_gid
    return stat.S_IMODE(status.st_mode) != file.mode or status.st_uid != OWNER or status.st_gid != wanted_group


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
