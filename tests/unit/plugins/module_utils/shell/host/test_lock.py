# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock is for one run, is given back however the run ends, and is never taken through a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.lock import locked


def test_a_lock_is_for_one(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with locked(path, 0.1), pytest.raises(TimeoutError, match=path), locked(path, 0.2):
        pass
    with pytest.raises(ValueError, match="a fault"), locked(path, 0):
        raise ValueError("a fault")
    with locked(path, 0):
        pass


def test_a_directory_of_ones_own_holds_the_same_lock(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with locked("lock", 0, directory), pytest.raises(TimeoutError), locked(str(tmp_path / "lock"), 0):
        pass
    os.close(directory)


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), locked(str(tmp_path / "lock"), 0):
        pass
    assert not (tmp_path / "elsewhere").exists()
