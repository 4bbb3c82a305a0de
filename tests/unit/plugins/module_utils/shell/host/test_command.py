# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command says comes back; every failure is the caller's own error, short, with the command and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner


class OursError(Exception):
    pass


HOST = Runner(OursError)


def test_it_is_given_text_and_says_text() -> None:
    done = HOST.run(["sh", "-c", "cat; echo late >&2; exit 3"], "ä")
    assert (done.stdout, done.stderr, done.returncode) == ("ä", "late\n", 3)
    assert HOST.run(["printf", r"\377"]).stdout == "\ufffd"
    assert HOST.run_bytes(["cat"], b"\xff\0").stdout == b"\xff\0"
    assert HOST.must(["cat"], "a\n") == "a\n"


def test_it_speaks_english_and_finds_what_only_root_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    locale, path = HOST.must(["sh", "-c", 'echo "$LC_ALL"; echo "$PATH"']).split()
    assert locale == "C.UTF-8"
    assert path == "/usr/bin:/bin:/usr/sbin:/sbin"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["sh", "-c", "echo out; exit 4"], "sh -c echo out; exit 4 failed: out"),
        (["sh", "-c", "echo out; echo why >&2; exit 4"], "sh -c echo out; echo why >&2; exit 4 failed: why"),
        (["false"], "false failed: exit code 1"),
        (["no-such-command", "x"], "there is no command no-such-command on this host"),
        (["/etc", "x"], "/etc x cannot be run: Permission denied"),
    ],
)
def test_a_failure_says_the_command_and_why(command: list[str], told: str) -> None:
    with pytest.raises(OursError) as error:
        HOST.must(command)
    assert str(error.value) == told


def test_what_hangs_is_ended() -> None:
    with pytest.raises(OursError, match=r"sleep 60 did not end within 0\.1 seconds"):
        HOST.run(["sleep", "60"], seconds=0.1)


def test_a_long_command_and_a_long_answer_are_cut() -> None:
    with pytest.raises(OursError) as error:
        HOST.must(["sh", "-c", "seq 1000; exit 1", "x" * 1000])
    assert str(error.value).endswith("xxx... failed: 998 999 1000")
    assert len(str(error.value)) < 160


def test_systemctl_is_asked_and_commanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text('#!/bin/sh\necho "$*"; [ "$1" != is-failed ]\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert HOST.systemctl("enable", "one.service") == "enable one.service\n"
    assert HOST.holds("is-active", "one.service")
    assert not HOST.holds("is-failed", "one.service")
