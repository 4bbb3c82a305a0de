# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test doubles of ``pmta`` and ``systemctl`` on PATH, and a directory tree for them. They are no MTA.

The "daemon" is a copy of the fragments that it read last. Files in ``state`` have the doubles refuse or kill.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install

PMTA = """\
#!/bin/sh
echo "pmta $*" >>"$state/log"
[ ! -e "$state/kill-$2" ] || { rm "$state/kill-$2"; kill -9 $PPID; exit; }
[ ! -e "$state/slow" ] || sleep 0.2
case "$*" in
"test config") file=refuses ;;
reload) file=no-reload ;;
"--json"*) cat "$state/answer"; exit ;;
esac
if [ -e "$state/$file" ] && grep -q -f "$state/$file" "$root"/conf.d/*.conf; then
    cat "$state/said"
    exit 0
fi
[ "$*" != reload ] || { rm -rf "$state/read" && cp -rL "$root/conf.d" "$state/read"; }
"""
SYSTEMCTL = """\
#!/bin/sh
[ "$1" = is-active ] || echo "systemctl $*" >>"$state/log"
case "$*" in
"is-active --quiet pmta") [ -e "$state/running" ] ;;
"start pmta"|"restart pmta")
    rm -f "$state/running"
    if [ -e "$state/dies" ] && grep -q -f "$state/dies" "$root"/conf.d/*.conf; then
        echo "Job for pmta.service failed" >&2
        exit 1
    fi
    rm -rf "$state/read" && cp -rL "$root/conf.d" "$state/read" && touch "$state/running" ;;
"stop pmta"|"disable --now pmta") rm -f "$state/running" ;;
esac
"""


class Host:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.state = path / "pmta", path / "state"
        programs = path / "bin"
        for place in (self.root, self.state, programs):
            place.mkdir()
        for name, script in (("pmta", PMTA), ("systemctl", SYSTEMCTL)):
            program = programs / name
            head, _end, body = script.partition("\n")
            program.write_text(f"{head}\nroot={self.root} state={self.state}\n{body}", encoding="utf-8")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        monkeypatch.setattr(install, "group_id", lambda _name: os.getegid())
        (self.root / "config").write_text("# the package's own\nsmtp-listener 127.0.0.1:25\n", encoding="utf-8")

    def apply(self, fragments: Mapping[str, Optional[str]], **more: Any) -> configuration.Change:
        return configuration.apply(fragments, **{"start": True, "root": str(self.root), **more})

    def refused(self, fragments: Mapping[str, Optional[str]], **more: Any) -> str:
        with pytest.raises(configuration.PowermtaError) as error:
            self.apply(fragments, **more)
        return str(error.value)

    def say(self, file: str, text: str = "") -> None:
        (self.state / file).write_text(text, encoding="utf-8")

    def log(self) -> list[str]:
        """What was commanded since the last look."""
        path = self.state / "log"
        found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    @property
    def main(self) -> str:
        return (self.root / "config").read_text(encoding="utf-8")

    @property
    def read(self) -> dict[str, str]:
        """What the daemon runs with."""
        place = self.state / "read"
        return (
            {path.name: path.read_text(encoding="utf-8") for path in sorted(place.glob("*"))} if place.is_dir() else {}
        )

    def tree(self) -> dict[str, tuple[str, int, str]]:
        found = {}
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            link = os.readlink(path) if path.is_symlink() else ""
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            found[str(path)] = (link, stat.S_IMODE(status.st_mode), text)
        return found

    def sets(self) -> list[str]:
        return sorted(path.name for path in (self.root / "sets").iterdir() if path.is_dir())

    def whole(self, fragments: Mapping[str, str]) -> None:
        """This set is in place, read, and nothing of another is half there."""
        root = str(self.root)
        assert configuration.current(root) == fragments == self.read
        assert configuration.in_force(root)
        assert self.main == configuration.Paths(root).main_text
        assert not [name for name in self.sets() if name.startswith(".")]
        assert sorted(path.name for path in self.root.iterdir()) == [
            ".mailops.lock",
            "conf.d",
            "config",
            "config.before-mailops",
            "sets",
        ]
