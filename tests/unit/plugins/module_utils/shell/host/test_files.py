# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of files: what is written is read again, only what differs is written, a failure leaves the old file."""

from __future__ import annotations

import os

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files


def test_only_what_differs_is_written_and_reads_back(tmp_path):
    place = str(tmp_path)
    assert files.write_changed(place, {"a": "1\n", "b": "ü\n"}, {}) == ["a", "b"]
    before = files.read_all(place, ["a", "b", "missing"])
    assert before == {"a": "1\n", "b": "ü\n"}
    assert files.write_changed(place, {"a": "1\n", "b": "2\n"}, before) == ["b"]
    assert files.read(str(tmp_path / "b")) == "2\n"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "main.cf"
    files.write(str(path), "old\n")

    def full(_descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        files.write(str(path), "new\n")
    assert os.listdir(tmp_path) == ["main.cf"]
    assert path.read_text() == "old\n"


def test_diff_names_what_differs():
    shown = files.diff("/etc/x", {"a": "1", "b": "2"}, {"b": "3", "c": "4"})
    assert [entry["after_header"] for entry in shown] == ["/etc/x/a", "/etc/x/b", "/etc/x/c"]
    assert files.diff("/etc/x", {"a": "1"}, {"a": "1"}) == []
