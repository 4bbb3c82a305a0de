# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a PowerMTA host signs with is told only where its configuration in force leaves no doubt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import dkim
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files, powermta
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.engines.powermta.double import (
    HOST,
    SigningHost,
)
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.signers.standin import Pair, pair

A, OLD, SUB, B = (
    pair(domain, selector, "rsa")
    for domain, selector in (("a.test", "s2"), ("a.test", "s1"), ("sub.a.test", "s2"), ("b.test", "s2"))
)


class Host(SigningHost):
    def place(self, *keys: Pair) -> list[Path]:
        held = key_files.of("powermta", str(self.directory))
        held.make_directories()
        install.write([held.file(SigningKey(**key.public), key.pem.encode("ascii")) for key in keys])
        return [Path(held.path(SigningKey(**key.public))) for key in keys]

    def sign(self, *keys: Pair, serial: int = 7) -> None:
        signing = [SigningKey(**key.public) for key in keys]
        self.change(dkim.domain_keys(signing, serial, str(self.directory / "keys")))

    def evidence(self, *domains: str) -> dict[str, Any]:
        return powermta.gather(str(self.directory), domains, str(self.root))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(install, "OWNER", os.geteuid())
    monkeypatch.setattr(install, "group_id", lambda _name: os.getegid())
    return Host(tmp_path, monkeypatch)


def test_the_keys_that_are_selected_are_told_and_the_others_are_held(host: Host) -> None:
    host.set_up()
    host.place(A, OLD, SUB, B)
    host.sign(A, SUB, B)
    found = host.evidence("b.test", "a.test")  # sub.a.test left the fleet and is signed for yet
    assert [SigningKey(**one) for one in found["signs"]] == sorted(SigningKey(**key.public) for key in (A, SUB, B))
    assert {SigningKey(**one) for one in found["holds"]} == {SigningKey(**key.public) for key in (A, OLD, SUB, B)}
    assert (found["serial"], found["unknown"], found["problems"]) == (7, [], [])


def test_a_host_on_which_nothing_was_set_up_is_known_to_sign_with_nothing(host: Host) -> None:
    found = host.evidence("a.test")
    assert (found["signs"], found["unknown"], found["holds"], found["serial"]) == ([], [], [], None)
    host.run()  # with a configuration that nobody knows
    assert host.evidence("a.test")["signs"] is None


@pytest.mark.parametrize("state", ["stopped", "not read", "another main file"])
def test_what_is_not_in_force_is_no_evidence_of_what_signs(host: Host, state: str) -> None:
    host.set_up()
    host.place(A)
    host.sign(A)
    assert host.evidence("a.test")["signs"] == [A.public]
    if state == "stopped":
        host.run(False)
    elif state == "not read":
        (host.root / "sets" / "loaded").write_text("of before\n", encoding="utf-8")
    else:
        (host.root / "config").write_text("include /somewhere\n", encoding="utf-8")
    found = host.evidence("a.test")
    assert (found["signs"], found["unknown"], found["holds"]) == (None, ["a.test"], [A.public])
    assert "Run the role" in found["problems"][0] or "run the role" in found["problems"][0]


def test_a_set_that_is_gone_is_something_to_tell_and_no_error(host: Host) -> None:
    host.set_up()
    host.place(A)
    host.sign(A)
    (host.root / "conf.d").unlink()
    found = host.evidence("a.test")
    assert (found["signs"], found["unknown"], found["holds"]) == (None, ["a.test"], [A.public])
    assert "conf.d" in found["problems"][0]


def test_a_domain_that_somebody_else_has_a_key_for_is_unknown_and_the_others_are_not(host: Host) -> None:
    host.place(A, B)
    other = f"domain-key s1,a.test,{host.place(OLD)[0]}"
    host.set_up(local=f"<virtual-mta v>\n    smtp-source-host 192.0.2.1 v.test\n    {other}\n</virtual-mta>\n")
    host.sign(A, B)
    found = host.evidence("a.test", "b.test")
    assert (found["signs"], found["unknown"]) == ([B.public], ["a.test"])
    assert "90-local.conf" in found["problems"][0]


def test_a_domain_whose_mail_another_domain_would_sign_for_is_unknown(host: Host) -> None:
    host.set_up()
    host.place(A)
    host.sign(A)
    found = host.evidence("sub.a.test", "c.test")
    assert (found["signs"], found["unknown"]) == ([A.public], ["c.test", "sub.a.test"])
    assert "unsigned" in found["problems"][0]
    assert "signed for a.test" in found["problems"][1]


def test_nothing_but_whole_keys_with_the_right_rights_sign_and_are_held(host: Host) -> None:
    host.set_up()
    curve = pair("c.test", "s1")
    (file, fine, cut) = host.place(A, B, SUB)
    host.sign(A, B, SUB)
    file.chmod(0o644)
    cut.write_bytes(cut.read_bytes()[:-40])
    held = key_files.of("rspamd", str(host.directory))
    install.write([held.file(SigningKey(**curve.public), curve.pem.encode("ascii"))])
    found = host.evidence()
    assert (found["signs"], found["holds"]) == ([B.public], [B.public])
    assert found["unknown"] == ["a.test", "sub.a.test"]
    assert len(found["problems"]) == 5
    assert not any(line in str(found) for line in fine.read_text(encoding="utf-8").splitlines()[1:-1])


def test_a_configuration_that_signs_nothing_or_cannot_be_read_tells_nothing(host: Host) -> None:
    host.place(A)
    main, conf_d = str(host.root / "config"), str(host.root / "conf.d")
    keys = {str(path): key_files.of("powermta", str(host.directory)).one(path.name) for path in host.place(A)}
    (path,) = keys
    texts = {main: f"include {conf_d}/*.conf\n", f"{conf_d}/90-local-x.conf": f"domain-key s2,a.test,{path}\n"}
    judge = powermta.judge
    assert judge({**texts, f"{conf_d}/10-host.conf": HOST}, main, ["a.test"], keys)[0] == [SigningKey(**A.public)]
    for text in (
        "# nothing\n",
        HOST.replace("dkim-sign yes", "dkim-sign no"),
        HOST + "<domain x>\n",
        HOST + "include /none\n",
    ):
        signs, unknown, problems = judge({**texts, f"{conf_d}/10-host.conf": text}, main, ["a.test"], keys)
        assert (signs, unknown, len(problems) > 0) == (None, ["a.test"], True)


def test_a_fragment_that_tells_no_state_is_told(host: Host) -> None:
    host.set_up()
    host.change({dkim.FRAGMENT: "# by hand\n"})
    found = host.evidence("a.test")
    assert found["serial"] is None
    assert "70-dkim.conf" in found["problems"][0]
