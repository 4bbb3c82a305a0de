# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table against a pretended kernel: loaded once, loaded again when somebody changed it, kept when nft refuses."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import firewall
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner

OURS = "mailops"


class Kernel:
    """Tables by name, changed by the commands that nft(8) and systemctl(1) would get."""

    def __init__(self):
        self.tables = {"other": "not ours"}
        self.refused = ()  # the options at which nft fails
        self.commands = []
        self.enabled = None  # the path that "systemctl enable" makes

    def run(self, command, given="", seconds=None):
        self.commands.append(command)
        code, out, error = self.nft(command[1:], given) if command[0] == "/sbin/nft" else self.systemctl(command[1:])
        return subprocess.CompletedProcess(command, code, out, error)

    def nft(self, words, given):
        if words[0] in self.refused:
            return 1, "", "Error: syntax error"
        if words == ["--file", "-"]:
            self.tables[OURS] = f"listing of {given}"
        elif words[-4:] == ["list", "table", "inet", OURS]:
            return (0, self.tables[OURS], "") if OURS in self.tables else (1, "", "Error: No such file or directory")
        elif words == ["delete", "table", "inet", OURS]:
            del self.tables[OURS]
        else:
            assert words == ["--check", "--file", "-"], words
        return 0, "", ""

    def systemctl(self, words):
        if "enable" in words:
            self.enabled.touch()
        if "disable" in words:
            self.enabled.unlink()
            self.tables.pop(OURS, None)
        return 0, "", ""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    pretended = Kernel()
    pretended.root = tmp_path
    pretended.enabled = tmp_path / "wants"
    for name, value in {
        "RULES": tmp_path / "etc" / "firewall.nft",
        "LISTING": tmp_path / "etc" / "firewall.listing",
        "UNIT_PATH": tmp_path / "unit",
        "_AT_BOOT": pretended.enabled,
        "_SYSTEMD": tmp_path,
    }.items():
        monkeypatch.setattr(firewall, name, str(value))
    monkeypatch.setattr(Runner, "run", pretended.run)
    monkeypatch.setattr(firewall.shutil, "which", lambda name, path: "/sbin/nft")
    return pretended


def state(kernel):
    texts = {path.name: path.read_text() for path in kernel.root.rglob("*") if path.is_file()}
    return dict(kernel.tables), texts


def changed(change):
    return bool(change.loaded or change.files or change.boot)


def test_it_is_loaded_once_and_again_at_boot(kernel):
    assert changed(firewall.converge("one", check_mode=False))
    assert kernel.tables == {"other": "not ours", OURS: "listing of one"}
    assert kernel.enabled.exists()
    assert not changed(firewall.converge("one", check_mode=False))
    change = firewall.converge("two", check_mode=False)
    assert (change.loaded, change.files, kernel.tables[OURS]) == (True, (firewall.RULES,), "listing of two")


@pytest.mark.parametrize("harm", ["flushed", "edited", "not at boot"])
def test_what_somebody_changed_is_put_right(kernel, harm):
    firewall.converge("one", check_mode=False)
    before = state(kernel)
    if harm == "flushed":
        del kernel.tables[OURS]
    elif harm == "edited":
        kernel.tables[OURS] += " and a rule by hand"
    else:
        kernel.enabled.unlink()
    said = firewall.converge("one", check_mode=True)
    assert changed(said)
    assert said.diff or harm == "not at boot"
    assert state(kernel) != before
    assert firewall.converge("one", check_mode=False) == said
    assert state(kernel) == before
    assert not changed(firewall.converge("one", check_mode=False))


@pytest.mark.parametrize("text", ["one", "two"])
def test_check_mode_says_the_same_and_does_nothing(kernel, text):
    if text == "two":
        firewall.converge("one", check_mode=False)
    before = state(kernel)
    said = firewall.converge(text, check_mode=True)
    assert state(kernel) == before
    assert firewall.converge(text, check_mode=False) == said


@pytest.mark.parametrize("option", ["--check", "--file"])
def test_what_nft_refuses_changes_nothing(kernel, option):
    firewall.converge("one", check_mode=False)
    before = state(kernel)
    kernel.refused = (option,)
    with pytest.raises(firewall.FirewallError, match="syntax error"):
        firewall.converge("two", check_mode=False)
    assert state(kernel) == before
    kernel.refused = ()
    assert not changed(firewall.converge("one", check_mode=False))


@pytest.mark.parametrize("after", ["load", "rules", "unit"])
def test_a_run_that_was_killed_is_finished_by_the_next(kernel, monkeypatch, after):
    firewall.converge("one", check_mode=False)
    (kernel.root / "unit").unlink()
    written = []

    def write(path, text):
        if len(written) == {"load": 0, "rules": 1, "unit": 2}[after]:
            raise KeyboardInterrupt
        written.append(path)
        (kernel.root / path).write_text(text)

    with monkeypatch.context() as patched:
        patched.setattr(firewall.files, "write", write)
        with pytest.raises(KeyboardInterrupt):
            firewall.converge("two", check_mode=False)
    assert changed(firewall.converge("two", check_mode=False))
    assert not changed(firewall.converge("two", check_mode=False))
    assert kernel.tables[OURS] == "listing of two"


def test_all_of_it_goes_and_nothing_else(kernel):
    before = state(kernel)
    firewall.converge("one", check_mode=False)
    there = state(kernel)
    said = firewall.remove(check_mode=True)
    assert state(kernel) == there
    assert firewall.remove(check_mode=False) == said
    assert changed(said)
    assert state(kernel) == before
    assert not changed(firewall.remove(check_mode=False))


def test_a_table_without_its_unit_goes_too(kernel):
    kernel.tables[OURS] = "left"
    assert firewall.remove(check_mode=False).loaded
    assert kernel.tables == {"other": "not ours"}


def test_without_nft_check_mode_tells_and_a_run_says_what_to_install(kernel, monkeypatch):
    monkeypatch.setattr(firewall.shutil, "which", lambda name, path: None)
    assert changed(firewall.converge("one", check_mode=True))
    with pytest.raises(firewall.FirewallError, match="package nftables"):
        firewall.converge("one", check_mode=False)
    assert not changed(firewall.remove(check_mode=False))
    assert kernel.commands == []


def test_a_kernel_that_cannot_be_asked_is_no_missing_table(kernel, monkeypatch):
    monkeypatch.setattr(kernel, "nft", lambda words, given: (1, "", "Operation not permitted"))
    with pytest.raises(firewall.FirewallError, match="Operation not permitted"):
        firewall.remove(check_mode=False)
