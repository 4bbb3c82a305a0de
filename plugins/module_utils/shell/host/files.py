# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of text files in one directory: read them, replace them one by one without a torn file, put them back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional


def read(path: str) -> Optional[str]:
    """The text of a file, or None where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def read_all(directory: str, names: Iterable[str]) -> dict[str, str]:
    texts = {name: read(os.path.join(directory, name)) for name in names}
    return {name: text for name, text in texts.items() if text is not None}


def write(path: str, text: str, mode: int = 0o644) -> None:
    """Replace a file as a whole; whoever opens it sees the old text or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_changed(directory: str, texts: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Write what differs, in the order given, and return the names."""
    changed = [name for name, text in texts.items() if before.get(name) != text]
    for name in changed:
        write(os.path.join(directory, name), texts[name])
    return changed


def remove(directory: str, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))


def diff(directory: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, str]]:
    """What Ansible's --diff prints, one entry for each file that differs."""
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [
        {
            "before_header": os.path.join(directory, name),
            "after_header": os.path.join(directory, name),
            "before": before.get(name, ""),
            "after": after.get(name, ""),
        }
        for name in names
    ]


@contextlib.contextmanager
def locked(path: str, patience_seconds: float) -> Iterator[None]:
    """For one run at a time. Raises TimeoutError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another run holds {path} since {patience_seconds:g} seconds") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)
