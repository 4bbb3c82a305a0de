# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test doubles of ``pmta`` and ``systemctl`` on PATH, and a directory tree for them. They are no MTA.

The "daemon" is a copy of the fragments that it read last. Like PowerMTA it refuses a key whose file is not there. Files
in ``state`` have the doubles refuse or kill. A stand-in that delivers mail is used in Molecule.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import dkim
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.slices import KEYS_END, keys_file
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install

DOMAINS = ("sub.a.test", "a.test", "b.test", "c.test")  # of the one virtual MTA, in the order that PowerMTA needs
HOST = """\
postmaster postmaster@example.com
log-file /var/log/pmta/log
run-as-root no
smtp-listener 127.0.0.1:2525
<spool /var/spool/pmta>
</spool>
<domain *>
    dkim-sign yes
</domain>
"""

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
for key in $(sed -n 's/^ *domain-key [^,]*,[^,]*,//p' "$root"/conf.d/*.conf "$root"/conf.d/*.keys 2>/dev/null); do
    [ -e "$key" ] || { echo "Error in line 1 of $root/config: $key is not there"; exit; }
done
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


class SigningHost(Host):
    """``directory`` is its /etc/pmta/dkim."""

    @property
    def directory(self) -> Path:
        return self.root / "dkim"

    def set_up(self, **fragments: str) -> None:
        """As the role powermta leaves it: it runs with our configuration. ``local`` is the fragment 90-local.conf."""
        includes = "".join(f"    include {self.root}/conf.d/{keys_file(domain)}\n" for domain in DOMAINS)
        stream = f"<virtual-mta one>\n    smtp-source-host 192.0.2.9 one.test\n{includes}</virtual-mta>\n"
        self.change(
            {
                "10-host.conf": HOST,
                "30-stream-one.conf": stream,
                **dict.fromkeys(map(keys_file, DOMAINS), dkim.without_keys()),
                **{f"90-{name}.conf": text for name, text in fragments.items()},
            }
        )
        (self.root / "config").write_text(configuration.Paths(str(self.root)).main_text, encoding="utf-8")
        (self.root / "config").chmod(0o640)
        self.run()
        self.change({})

    def change(self, fragments: dict[str, str]) -> None:
        self.apply(fragments, start=False)

    def refuse(self, refuses: bool = True) -> None:
        """Any configuration."""
        self.say("said", f"Error in line 1 of {self.root}/config: refused by the test\n")
        self.say("refuses", "^") if refuses else (self.state / "refuses").unlink()

    def run(self, runs: bool = True) -> None:
        self.say("running") if runs else (self.state / "running").unlink()

    @property
    def reloads(self) -> int:
        path = self.state / "log"
        return path.read_text(encoding="utf-8").split("\n").count("pmta reload") if path.exists() else 0

    @property
    def key_lines(self) -> str:
        """The lines domain-key that it runs with, those of longer domains first."""
        keys = sorted(name for name in self.read if name.endswith(KEYS_END))
        return "".join(self.read[name] for name in sorted(keys, key=lambda name: -len(name)))
