# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pool addresses against a pretended ip(8): added once, removed when ours and free, untouched in check mode."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix.port import Postfix
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import addresses


class Kernel:
    """The addresses of one interface, changed by the commands that ip(8) would get."""

    def __init__(self):
        self.held = {"10.0.0.1"}
        self.commands = []

    def run(self, command):
        words = command[1:]
        if words[:3] == ["-j", "address", "show"]:
            return json.dumps([{"ifname": "eth0", "addr_info": [{"local": ip} for ip in sorted(self.held)]}])
        if "route" in words:
            return json.dumps([{"dev": "eth0"}])
        self.commands.append(" ".join(words))
        ip = words[2].partition("/")[0]
        if words[:2] == ["address", "replace"]:
            self.held.add(ip)
        elif words[:2] == ["address", "del"]:
            self.held.discard(ip)
        return ""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    pretended = Kernel()
    monkeypatch.setattr(addresses, "_must", pretended.run)
    monkeypatch.setattr(addresses, "BATCH", str(tmp_path / "etc/addresses"))
    monkeypatch.setattr(addresses, "UNIT_PATH", str(tmp_path / "unit"))
    monkeypatch.setattr(addresses, "DROP_IN", str(tmp_path / "drop-in"))
    monkeypatch.setattr(Postfix, "configuration", (str(tmp_path / "postfix*/master.cf"),))
    monkeypatch.setattr(addresses, "_SYSTEMD", str(tmp_path / "nowhere"))
    monkeypatch.setattr(addresses.shutil, "which", lambda name, path: "/sbin/ip")
    pretended.root = tmp_path
    return pretended


def test_missing_addresses_are_added_once(kernel):
    wanted = ["203.0.113.10", "2001:db8::10"]
    first = addresses.converge(wanted, "", check_mode=False)
    assert first.added == tuple(wanted)
    assert kernel.held == {"10.0.0.1", *wanted}
    assert any("2001:db8::10/128 dev eth0 nodad preferred_lft 0" in command for command in kernel.commands)
    again = addresses.converge(wanted, "", check_mode=False)
    assert (again.added, again.removed, again.files) == ((), (), ())


def test_check_mode_says_the_same_and_does_nothing(kernel):
    said = addresses.converge(["203.0.113.10"], "eth0", check_mode=True)
    assert said.added == ("203.0.113.10",)
    assert kernel.commands == []
    assert list(kernel.root.iterdir()) == []


def test_only_free_addresses_of_ours_are_removed(kernel):
    addresses.converge(["203.0.113.10", "203.0.113.11"], "eth0", check_mode=False)
    (kernel.root / "postfix-bulk").mkdir()
    master = kernel.root / "postfix-bulk" / "master.cf"
    master.write_text("out-x unix - - n - - smtp\n  -o smtp_bind_address=203.0.113.11\n")
    change = addresses.converge(["203.0.113.12"], "eth0", check_mode=False)
    assert (change.removed, change.kept) == (("203.0.113.10",), ("203.0.113.11",))
    assert kernel.held == {"10.0.0.1", "203.0.113.11", "203.0.113.12"}
    master.write_text("")
    assert addresses.converge(["203.0.113.12"], "eth0", check_mode=False).removed == ("203.0.113.11",)
    assert kernel.held == {"10.0.0.1", "203.0.113.12"}
