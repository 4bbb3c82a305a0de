# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key store as one file, and back: a compressed tar with a manifest in front that holds the hash of every other file.

The same store makes the same bytes. Nothing is unpacked to disk by its name in the tar.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
import zlib
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys as core
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import store as keystore
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.store import JOURNAL, WITHDRAWN, Content, Merge
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.journal import Journal
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import KeyStore
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.files import sync_directory

_MANIFEST = "manifest.json"
_FORMAT = 1


class BackupError(Exception):
    """It is no backup, or a damaged one."""


def read(directory: str) -> tuple[Content, list[Finding]]:
    """All that a store holds, and what is wrong with it. Raises StoreError, OSError."""
    files: dict[str, bytes] = {}
    found: list[Finding] = []
    for folder in ("", WITHDRAWN):
        path = os.path.join(directory, folder)
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
            relative = f"{folder}/{name}" if folder else name
            if keystore.is_key_file(relative):
                try:
                    files[relative] = keys.read_private(os.path.join(directory, relative)) or b""
                except (OSError, ValueError) as error:
                    remedy = "Make it readable for its owner alone, and look who could read it"
                    found.append(Finding(os.path.join(directory, relative), "a key", keys.reason(error), remedy))
    content = Content(Journal(os.path.join(directory, JOURNAL)).content(), files)
    return content, found or keystore.problems(content, directory)


def pack(content: Content) -> bytes:
    files = [(_MANIFEST, _manifest(content)), (JOURNAL, content.journal), *sorted(content.files.items())]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o600
            tar.addfile(member, io.BytesIO(text))
    return gzip.compress(packed.getvalue(), mtime=0)


def unpack(packed: bytes) -> Content:
    """Raises BackupError."""
    try:
        files = _members(gzip.decompress(packed))
        manifest: Any = json.loads(files.pop(_MANIFEST))
        form, told = manifest["format"], dict(manifest["sha256"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, tarfile.TarError, zlib.error) as error:
        raise BackupError(f"it is no whole backup of a key store ({type(error).__name__})") from None
    if form != _FORMAT:
        raise BackupError(f"it has format {form}, this collection reads format {_FORMAT}")
    wrong = [name for name in {*told, *files} if told.get(name) != hashlib.sha256(files.get(name, b"")).hexdigest()]
    wrong += [name for name in files if name != JOURNAL and not keystore.is_key_file(name)]
    if wrong or JOURNAL not in files:
        raise BackupError(f"it is damaged: {', '.join(sorted(set(wrong))) or JOURNAL}")
    return Content(files.pop(JOURNAL), files)


def digest(content: Content) -> str:
    """Names a state of a store; says nothing about its keys."""
    return hashlib.sha256(_manifest(content)).hexdigest()[:16]


def apply(store: KeyStore, merge: Merge) -> None:
    """The journal goes last: a run that is killed before is finished by the next. The caller holds the lock."""
    for name in merge.archive:
        _archive(store, name)
    store.add(merge.add)
    if merge.journal is not None:
        _replace_journal(store.directory, merge.journal)


def _archive(store: KeyStore, name: str) -> None:
    private = keys.read_private(os.path.join(store.directory, f"{name}.pem"))
    if private is None:
        return
    selector, _middle, domain = name.partition("._domainkey.")
    key = core.Key(domain, selector, core.private_key(private.decode("ascii"))[0])
    store.archive(key, store.survey([key]).public[name].fingerprint)


def _replace_journal(directory: str, content: bytes) -> None:
    """A new file, so that a rotation sees by its identity that it was restored."""
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".", suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, os.path.join(directory, JOURNAL))
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(directory)


def _manifest(content: Content) -> bytes:
    files = {JOURNAL: content.journal, **content.files}
    hashes = {name: hashlib.sha256(text).hexdigest() for name, text in sorted(files.items())}
    return json.dumps({"format": _FORMAT, "serial": content.serial, "sha256": hashes}, indent=1).encode("ascii")


def _members(packed: bytes) -> dict[str, bytes]:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            if file is None or member.name in files:
                raise ValueError("it has something else than files")
            files[member.name] = file.read()
    return files
