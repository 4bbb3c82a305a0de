# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of private keys on the key host. Its own process is the only one that may read it.

Two files for each key, both 0600 in a directory of 0700: NAME.pem (PKCS#8) and NAME.pub (its public part, bound to it).
A file is linked into place once it is complete and on disk, and nothing here ever overwrites or removes a key.
Withdrawn keys move into the directory withdrawn, so that their names are free for slots that are used in turn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys as core
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.store import WITHDRAWN, archived
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import RSA
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import lock
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.files import sync_directory

DIRECTORY = "/var/lib/mailops/dkim"


NO_BACKUP = "where there is none, have the key replaced (mta_dkim_requests with reason: compromised)"


class AccessError(ValueError):
    """Somebody else owns a file of the store or may use it."""


class StoreError(Exception):
    """The store cannot be used at all."""


_host = Runner(StoreError)


@dataclass
class Survey:
    """What the store holds of the keys that were asked for."""

    public: dict[str, core.PublicKey] = field(default_factory=dict)
    private: dict[str, str] = field(default_factory=dict)
    missing: list[core.Key] = field(default_factory=list)
    unsealed: list[core.Key] = field(default_factory=list)  # whole, but a run ended before its public part was written
    findings: list[Finding] = field(default_factory=list)


class KeyStore:
    def __init__(self, directory: str, openssl: str) -> None:
        # With a slash at its end, a link would count as what it leads to.
        self.directory = os.path.normpath(directory) if directory else ""
        self.openssl = openssl

    @contextlib.contextmanager
    def locked(self, patience_seconds: float) -> Iterator[None]:
        """The store for this run alone; it is made where it is missing.

        Raises StoreError, before anything in it is touched, where the directory is not this user's alone.
        """
        if not os.path.lexists(self.directory):
            os.makedirs(os.path.dirname(self.directory) or ".", exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
            sync_directory(os.path.dirname(self.directory) or ".")
        with contextlib.ExitStack() as stack:
            directory = self._opened()
            stack.callback(os.close, directory)
            try:
                stack.enter_context(lock.locked(".lock", patience_seconds, directory))
            except TimeoutError:
                raise StoreError(f"another run has held it for {patience_seconds:g} seconds") from None
            for name in os.listdir(directory):
                if name.endswith(".new"):  # of a run that was killed
                    os.unlink(name, dir_fd=directory)
            yield

    def _opened(self) -> int:
        """The directory itself, never one that a link leads to. Raises StoreError where it cannot be trusted."""
        finding = self._directory_finding()
        if finding:
            raise StoreError(str(finding))
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        why = _access_problem(os.fstat(descriptor))  # it may be another one by now
        if why:
            os.close(descriptor)
            raise StoreError(why)
        return descriptor

    def survey(self, wanted: Iterable[core.Key]) -> Survey:
        """Reads only. What is wrong becomes a finding; where there are findings, nothing should be made."""
        found = Survey()
        seen: dict[str, core.Key] = {}
        for key in wanted:
            # A key of any size may be there, an imported one; which sizes are made is for make().
            problem = dataclasses.replace(key, bits=None).problem if key.name not in seen else "it is asked for twice"
            if problem:
                found.findings.append(_finding(f"keys[{key.name}]", key.name, problem, "Correct the list of keys"))
            else:
                seen[key.name] = key
        directory_finding = self._directory_finding()
        if directory_finding:
            found.findings.append(directory_finding)
        elif os.path.isdir(self.directory):
            for key in seen.values():
                self._look(key, found)
        else:
            found.missing.extend(seen.values())
        return found

    def make(self, key: core.Key) -> core.PublicKey:
        """A new key, or the one that a killed run left there. Raises StoreError, OSError."""
        found = self.survey([key])
        if found.findings or key.problem:
            raise StoreError(str(found.findings[0]) if found.findings else f"{key.name}: {key.problem}")
        if key.name in found.public:
            if found.unsealed:
                self.seal(key, found)
            return found.public[key.name]
        algorithm = (
            ["-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{key.bits}"]
            if key.algorithm == RSA
            else ["-algorithm", "ED25519"]
        )
        return self.place(key, self._run(["genpkey", *algorithm]))

    def make_all(self, wanted: Iterable[core.Key]) -> dict[str, core.PublicKey]:
        keys = list(wanted)
        try:
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                made = list(pool.map(self.make, keys))
        finally:
            if keys:
                sync_directory(self.directory)
        return {key.name: public for key, public in zip(keys, made)}

    def place(self, key: core.Key, private: bytes) -> core.PublicKey:
        """A private key (PKCS#8) under its name. Raises FileExistsError where there is one, StoreError."""
        public = self.public_of(private)
        if core.private_key(private.decode("ascii"))[0] != key.algorithm or key.bits not in (None, public.bits):
            raise StoreError(f"{key.name} is another key than {key.algorithm} with {key.bits} bits")
        self._place(f"{key.name}.pem", private)
        self._place(f"{key.name}.pub", core.seal(public, private).encode("ascii"))
        return public

    def archive(self, key: core.Key, fingerprint: str) -> bool:
        """Move a withdrawn key out of the way. False where no key of this fingerprint has the name (any more).

        The private file goes last: wherever a run is killed, the next one still sees by it what is to be moved.
        Raises StoreError, OSError.
        """
        found = self.survey([key])
        if found.findings:
            raise StoreError(str(found.findings[0]))
        if key.name not in found.public or found.public[key.name].fingerprint != fingerprint:
            return False
        if found.unsealed:
            self.seal(key, found)
        self._make_withdrawn()
        for end in ("pem", "pub"):
            self._link(f"{key.name}.{end}", archived(key.name, fingerprint, end))
        sync_directory(self._path(WITHDRAWN))
        for end in ("pub", "pem"):
            os.unlink(self._path(f"{key.name}.{end}"))
        sync_directory(self.directory)
        return True

    def add(self, files: Mapping[str, bytes]) -> None:
        """Files of keys by their path in the store. Raises FileExistsError where there is one, OSError."""
        if any(path.startswith(f"{WITHDRAWN}/") for path in files):
            self._make_withdrawn()
        for path, content in sorted(files.items(), key=lambda file: (not file[0].startswith(WITHDRAWN), file[0])):
            self._place(path, content)
        if os.path.isdir(self._path(WITHDRAWN)):
            sync_directory(self._path(WITHDRAWN))
        sync_directory(self.directory)

    def seal(self, key: core.Key, found: Survey) -> None:
        private = found.private[key.name].encode("ascii")
        self._place(f"{key.name}.pub", core.seal(found.public[key.name], private).encode("ascii"))
        sync_directory(self.directory)

    def _look(self, key: core.Key, found: Survey) -> None:
        path = self._path(f"{key.name}.pem")
        try:
            private = self._read(f"{key.name}.pem")
            sealed = self._read(f"{key.name}.pub")
            if private is None:
                if sealed is None:
                    found.missing.append(key)
                    return
                raise ValueError("its public part is there, the private key is not")
            algorithm, _inner = core.private_key(private.decode("ascii", "replace"))
            public = core.unseal(sealed.decode("ascii", "replace"), private) if sealed else self.public_of(private)
            if key.algorithm != algorithm:
                raise ValueError(f"the algorithm {key.algorithm} is wanted, it is {algorithm}")
            if key.bits not in (None, public.bits):
                raise ValueError(f"{key.bits} bits are wanted, it has {public.bits}")
        except (ValueError, OSError, StoreError) as error:
            remedy = f"Restore the file from a backup, or {NO_BACKUP}"
            if isinstance(error, AccessError):
                remedy = (
                    "Give it to the store's user with mode 0600, and have the key replaced if others may have read it"
                )
            found.findings.append(_finding(path, key.name, reason(error), remedy))
            return
        if sealed is None:
            found.unsealed.append(key)
        found.private[key.name] = private.decode("ascii")
        found.public[key.name] = public

    def _directory_finding(self) -> Optional[Finding]:
        remedy = f"Make it a directory of user id {os.geteuid()} with mode 0700 and look who could read the keys"
        try:
            status = os.lstat(self.directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _finding(self.directory, "the key store", error.strerror or "it cannot be read", remedy)
        why = _access_problem(status)
        if not stat.S_ISDIR(status.st_mode):
            why = "it is no directory"
        return _finding(self.directory, f"mode {stat.S_IMODE(status.st_mode):04o}", why, remedy) if why else None

    def _read(self, name: str) -> Optional[bytes]:
        try:
            return read_private(self._path(name))
        except ValueError as error:
            raise type(error)(f"{name}: {error}") from None

    def _make_withdrawn(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._path(WITHDRAWN), 0o700)

    def _place(self, name: str, content: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self.directory, prefix=".", suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.link(temporary, self._path(name))  # unlike a rename, a link never replaces what is there
        finally:
            os.unlink(temporary)

    def _link(self, name: str, other: str) -> None:
        """A second name for a file. It may be there already, with the same content."""
        try:
            os.link(self._path(name), self._path(other), follow_symlinks=False)
        except FileExistsError:
            if self._read(other) != self._read(name):
                raise StoreError(f"{self._path(other)} is another key; nothing was moved") from None

    def public_of(self, private: bytes) -> core.PublicKey:
        """Raises StoreError where openssl cannot read it, ValueError where it is of another algorithm."""
        return core.public_key(self._run(["pkey", "-pubout", "-outform", "DER"], private))

    def _run(self, arguments: list[str], given: bytes = b"") -> bytes:
        done = _host.run_bytes([self.openssl, *arguments], given)
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise StoreError(f"openssl {arguments[0]} failed: {lines[-1] if lines else 'without a word'}")
        return done.stdout

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)


def read_private(path: str) -> Optional[bytes]:
    """A file that nobody else may read, or None where there is none. Raises AccessError where others may, OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        why = file_problem(os.fstat(descriptor))
        if why:
            raise AccessError(why)
        return file.read()


def file_problem(status: os.stat_result) -> str:
    return _access_problem(status) or ("" if stat.S_ISREG(status.st_mode) else "it is no regular file")


def reason(error: Exception) -> str:
    """An error in words that name no path and quote no file."""
    return error.strerror or "it cannot be read" if isinstance(error, OSError) else str(error)


def _access_problem(status: os.stat_result) -> str:
    if status.st_uid != os.geteuid():
        return f"it belongs to user id {status.st_uid}, not {os.geteuid()}"
    if stat.S_IMODE(status.st_mode) & 0o077:
        return f"others may use it (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def _finding(where: str, found: str, why: str, remedy: str) -> Finding:
    return Finding(where=where, found=found, why=why, remedy=remedy)
