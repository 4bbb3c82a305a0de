# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time, by a lock on a file (flock(2)), which the kernel releases however a run ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from typing import Optional

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_PAUSE_SECONDS = 0.1


@contextlib.contextmanager
def locked(path: str, patience_seconds: float, directory: Optional[int] = None) -> Iterator[None]:
    """For one run at a time; the file is made where it is missing. Raises TimeoutError, OSError.

    A relative path is below ``directory``, a descriptor, where there is one.
    """
    descriptor = os.open(path, _FLAGS, 0o600, dir_fd=directory)
    try:
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another run has held {path} for {patience_seconds:g} seconds") from None
                time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)
