# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new set is in place and in use, or the old one is, with its rights; a copy for a check is gone afterwards."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.install import File, Service


class OursError(Exception):
    pass


class Systemd(Runner):
    """Says yes to everything, and keeps what was commanded."""

    def __init__(self) -> None:
        super().__init__(OursError)
        object.__setattr__(self, "commands", [])

    def run(
        self, command: list[str], given: str = "", seconds: Optional[float] = None
    ) -> subprocess.CompletedProcess[str]:
        self.commands.append(" ".join(command))  # type: ignore[attr-defined]
        return subprocess.CompletedProcess(command, 0, "", "")


class Host:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.systemd = Systemd()
        self.service = Service("one.service", str(path / "unit"), str(path / "one.conf"), self.systemd)

    def file(self, name: str, text: str, group: Optional[str] = None) -> File:
        return File(str(self.path / name), text.encode(), group)

    def tree(self) -> dict[str, tuple[str, int]]:
        return {
            str(path.relative_to(self.path)): (
                path.read_text(encoding="utf-8") if path.is_file() else "",
                stat.S_IMODE(path.stat().st_mode),
            )
            for path in self.path.rglob("*")
        }


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(install, "OWNER", os.geteuid())
    monkeypatch.setattr(install, "group_id", lambda name: os.getegid() if name == "ours" else None)
    return Host(tmp_path)


def refuse() -> None:
    raise OursError("it does not answer")


def test_a_new_set_is_in_place_with_its_rights(host: Host) -> None:
    wanted = [host.file("one.conf", "new"), host.file("key", "secret", "ours"), host.file("a/b/c", "deep")]
    followed: list[bool] = []
    host.service.install(wanted, lambda: followed.append(install.differing(wanted) == []))
    assert followed == [True]  # the service is asked when everything is in place
    assert host.tree() == {
        "one.conf": ("new", 0o644),
        "key": ("secret", 0o640),
        "a": ("", 0o755),
        "a/b": ("", 0o755),
        "a/b/c": ("deep", 0o644),
    }


@pytest.mark.parametrize("fault", [OursError("it does not answer"), OSError("the disk is full")])
def test_what_does_not_work_is_put_back(host: Host, fault: Exception) -> None:
    install.write([host.file("one.conf", "old"), host.file("key", "old secret", "ours")])
    before = host.tree()
    asked: list[str] = []

    def follow() -> None:
        raise fault

    wanted = [host.file("one.conf", "new"), host.file("key", "new", "ours"), host.file("a/b/c", "deep")]
    with pytest.raises(OursError) as error:
        host.service.install(wanted, follow, lambda: asked.append((host.path / "one.conf").read_text("utf-8")))
    assert str(error.value) == f"{fault}; the old files are back, and the service runs on them"
    assert host.tree() == before
    assert asked == ["old"]


def test_a_service_that_runs_on_neither_set_is_told(host: Host) -> None:
    install.write([host.file("one.conf", "old")])
    with pytest.raises(OursError, match="does not run on them either: it does not answer"):
        host.service.install([host.file("one.conf", "new")], refuse)
    assert host.tree() == {"one.conf": ("old", 0o644)}


def test_a_service_that_had_no_configuration_is_stopped(host: Host) -> None:
    with pytest.raises(OursError, match="there was no older configuration, so it is stopped"):
        host.service.install([host.file("one.conf", "new"), host.file("unit", "new")], refuse)
    assert host.tree() == {}
    assert host.systemd.commands == [  # type: ignore[attr-defined]
        "systemctl disable --now one.service",
        "systemctl daemon-reload",
    ]


def test_a_missing_group_changes_nothing(host: Host) -> None:
    install.write([host.file("one.conf", "old")])
    before = host.tree()
    with pytest.raises(OursError, match="there is no group theirs"):
        host.service.install([host.file("one.conf", "new"), host.file("key", "x", "theirs")], lambda: None)
    assert host.tree() == before


def test_systemd_reads_a_unit_that_has_changed(host: Host) -> None:
    host.service.know([host.service.main])
    assert host.systemd.commands == ["systemctl enable one.service"]  # type: ignore[attr-defined]
    host.service.know([host.service.unit_path])
    assert host.systemd.commands[1:] == [  # type: ignore[attr-defined]
        "systemctl daemon-reload",
        "systemctl enable one.service",
    ]


def test_another_content_and_other_rights_differ(host: Host) -> None:
    file, secret = host.file("one.conf", "x"), host.file("key", "x", "ours")
    assert install.differing([file, secret]) == [file, secret]
    install.write([file, secret])
    assert install.differing([file, secret]) == []
    os.chmod(secret.path, 0o644)
    assert install.differing([file, secret]) == [secret]
    assert install.differing([host.file("one.conf", "y")]) == [host.file("one.conf", "y")]
    assert install.others(str(host.path), {file.path}) == [secret.path]


def test_a_staged_copy_names_itself_and_is_gone_afterwards(host: Host) -> None:
    contents = {"one.conf": b"include /etc/one/more/x", "more/x": b"y"}
    with install.staged(contents, "/etc/one", str(host.path)) as copy:
        assert stat.S_IMODE(os.stat(copy).st_mode) == 0o700
        assert Path(copy, "one.conf").read_text(encoding="utf-8") == f"include {copy}/more/x"
        assert Path(copy, "more", "x").read_bytes() == b"y"
    assert host.tree() == {}
