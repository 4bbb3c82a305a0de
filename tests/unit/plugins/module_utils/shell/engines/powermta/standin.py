# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PowerMTA stand-in for unit tests: the commands ``pmta`` and ``systemctl`` as scripts, and a configuration.

Its "daemon" is a copy of the fragments that it read last. Like PowerMTA it refuses a key whose file is not there. A
stand-in that delivers mail is used in Molecule.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import dkim
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.slices import keys_file
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration

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

_PMTA = """\
#!/bin/sh
refuse() { echo "Error in line 1 of $root/config: $1"; exit 0; }
check() {
    [ ! -e "$state/refuses" ] || refuse "refused by the test"
    for key in $(sed -n 's/^ *domain-key [^,]*,[^,]*,//p' "$root"/conf.d/*.conf "$root"/conf.d/*.keys 2>/dev/null); do
        [ -e "$key" ] || refuse "$key is not there"
    done
}
check
case "$*" in
"test config") ;;
reload)
    echo reload >>"$state/log"
    rm -rf "$state/read" && cp -rL "$root/conf.d" "$state/read"
    ;;
*) refuse "unknown command $*" ;;
esac
"""

_SYSTEMCTL = """\
#!/bin/sh
case "$1" in
is-active) [ -e "$state/running" ] ;;
*) echo "$*" >>"$state/log" ;;
esac
"""


class PowerMta:
    """``root`` is its /etc/pmta, ``directory`` its /etc/pmta/dkim."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._state = path / "pmta", path / "state"
        self.directory = self.root / "dkim"
        programs = path / "bin"
        for place in (self.root, self._state, programs):
            place.mkdir()
        for name, script in (("pmta", _PMTA), ("systemctl", _SYSTEMCTL)):
            program = programs / name
            head, _end, body = script.partition("\n")
            program.write_text(f"{head}\nroot={self.root} state={self._state}\n{body}", encoding="utf-8")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

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
        self.say("running")
        self.change({})

    def change(self, fragments: dict[str, str]) -> None:
        configuration.apply(fragments, root=str(self.root))

    def say(self, word: str, holds: bool = True) -> None:
        """``running``, or ``refuses``: any configuration."""
        path = self._state / word
        path.touch() if holds else path.unlink(missing_ok=True)

    @property
    def reloads(self) -> int:
        log = self._state / "log"
        return log.read_text(encoding="utf-8").split().count("reload") if log.exists() else 0

    @property
    def read(self) -> str:
        """The lines domain-key that it runs with, those of longer domains first."""
        paths = sorted((self._state / "read").glob("*.keys"), key=lambda path: (-len(path.name), path.name))
        return "".join(path.read_text(encoding="utf-8") for path in paths)
