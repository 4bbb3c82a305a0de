# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal loses no line that was written, and keeps none that was not written whole."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.journal import Journal, JournalError, serial
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import clock
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
BATCHES = st.lists(st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), max_size=3), max_size=4)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal.jsonl"))


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """For the process itself what a full disk is: the kernel takes what fits of a write and then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@given(BATCHES)
def test_what_is_appended_is_read_back(batches: list[list[dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(os.path.join(directory, "journal.jsonl"))
        for batch in batches:
            journal.append(batch)
        assert journal.read() == [line for batch in batches for line in batch]


@given(BATCHES, st.lists(st.dictionaries(st.text(max_size=3), JSON), min_size=1, max_size=2), st.data())
def test_a_journal_cut_anywhere_holds_its_whole_lines_and_goes_on(
    batches: list[list[dict[str, Any]]], later: list[dict[str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(os.path.join(directory, "journal.jsonl"))
        for batch in batches:
            journal.append(batch)
        whole = journal.content()
        cut = data.draw(st.integers(0, len(whole)))
        Path(journal.path).write_bytes(whole[:cut])
        Path(journal.path).chmod(0o600)
        lines = [line for batch in batches for line in batch]
        kept = lines[: whole[:cut].count(b"\n")]
        assert journal.read() == kept
        journal.append(later)
        assert journal.read() == kept + later


def test_a_torn_tail_longer_than_a_block_is_cut(journal: Journal) -> None:
    journal.append([{"serial": 1}])
    with open(journal.path, "ab") as file:
        file.write(b"x" * 200_000)
    assert journal.read() == [{"serial": 1}]
    journal.append([{"serial": 2}])
    assert journal.read() == [{"serial": 1}, {"serial": 2}]


@pytest.mark.parametrize("broken", [b"{", b"[]", b"7", b"", b"\0\0", b"\xff"])
def test_a_broken_line_is_named_by_its_number(journal: Journal, broken: bytes) -> None:
    journal.append([{"serial": 1}])
    with open(journal.path, "ab") as file:
        file.write(broken + b'\n{"serial": 2}\n')
    with pytest.raises(JournalError, match=r"journal\.jsonl, line 2 is no JSON object"):
        journal.read()


def test_a_file_that_others_may_read_is_refused(journal: Journal) -> None:
    journal.append([{"serial": 1}])
    assert os.stat(journal.path).st_mode & 0o777 == 0o600
    before = Path(journal.path).read_bytes()
    os.chmod(journal.path, 0o640)
    for use in (journal.read, lambda: journal.append([{"serial": 2}])):
        with pytest.raises(JournalError, match="mode 0640"):
            use()
    assert Path(journal.path).read_bytes() == before


def test_no_link_is_followed_and_no_directory_read(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    os.symlink(tmp_path / "other", journal.path)
    with pytest.raises(JournalError):
        journal.append([{"serial": 1}])
    assert (tmp_path / "other").read_text() == ""
    os.unlink(journal.path)
    os.mkdir(journal.path, 0o700)
    with pytest.raises(JournalError):
        journal.read()


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_full_disk_leaves_nothing_half(journal: Journal, room: int) -> None:
    journal.append([{"serial": 1}])
    before = Path(journal.path).read_bytes()
    with no_file_over(len(before) + room), pytest.raises(JournalError, match="Nothing was added"):
        journal.append([{"serial": 2, "why": "x" * 30}, {"serial": 2, "why": "y" * 30}])
    assert Path(journal.path).read_bytes() == before
    journal.append([{"serial": 2}])
    assert serial(journal.read()) == 2


def test_a_full_disk_does_not_bring_a_torn_tail_back(journal: Journal) -> None:
    journal.append([{"serial": 1}])
    before = Path(journal.path).read_bytes()
    with open(journal.path, "ab") as file:
        file.write(b'{"serial": 2')
    with no_file_over(len(before) + 20), pytest.raises(JournalError):
        journal.append([{"serial": 3, "why": "x" * 100}])
    assert Path(journal.path).read_bytes() == before


def test_a_run_killed_while_it_writes_leaves_whole_lines(journal: Journal) -> None:
    program = (
        "import sys\n"
        "from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.journal import Journal\n"
        "for n in range(1, 100000): Journal(sys.argv[1]).append([{'serial': n, 'why': 'x' * 3000}] * 3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _again in range(3):
        before = journal.read()
        run = subprocess.Popen([sys.executable, "-c", program, journal.path], env=environment)
        while len(journal.read()) < len(before) + 30:
            assert run.poll() is None, "it ended by itself"
            time.sleep(0.01)
        run.kill()
        run.wait()
        after = journal.read()
        assert after[: len(before)] == before
        assert len(after) >= len(before) + 30
        assert all(len(line["why"]) == 3000 for line in after)


def test_a_copy_has_another_identity_and_a_longer_journal_the_same(journal: Journal, tmp_path: Path) -> None:
    identity = journal.identity()
    assert journal.read() == []
    journal.append([{"serial": 1}])
    assert journal.identity() == identity
    copy = Journal(str(tmp_path / "copy.jsonl"))
    copy.append(journal.read())
    assert copy.identity() != identity


def test_the_clock_of_the_boot_runs_and_has_a_name() -> None:
    assert clock.boot_id() == clock.boot_id() != ""
    first = clock.uptime()
    assert first > 0
    assert clock.uptime() >= first
