# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of text files in one directory: read them, replace them one by one without a torn file, put them back."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
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


def sync_directory(path: str) -> None:
    """Makes the names in a directory survive a crash of the host."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
