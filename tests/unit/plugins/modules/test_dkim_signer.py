# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signing host's modules: what they leave on disk, and what they refuse before anything is touched.

The service itself is not here (see Molecule): whether it runs is a variable, and a reload is a note.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files, rspamd
from ansible_collections.mailops.mta.plugins.modules import dkim_signer, dkim_signer_key
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.signers.standin import Pair, pair

A1, A2, B1 = pair("a.test", "s1"), pair("a.test", "s2"), pair("b.test", "s1", "rsa")


class Ended(Exception):
    """What the module returned."""


class Host:
    """A signing host's directory, and how often its signer was reloaded."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = path / "mailops"
        self.reloads = 0
        self.faults: list[Exception] = []
        self._patch = monkeypatch
        monkeypatch.setattr(install, "OWNER", os.geteuid())
        monkeypatch.setattr(install, "group_id", lambda _name: os.getegid())
        monkeypatch.setattr(rspamd, "UNIT", str(path / "unit" / "mailops.conf"))
        monkeypatch.setattr(rspamd, "running", lambda _directory: self.reloads > 0)
        monkeypatch.setattr(rspamd, "test", lambda *_arguments: None)
        monkeypatch.setattr(rspamd, "_follow", self._follow)

    def _follow(self, _service: install.Service, _changed: set[str], _socket: str) -> None:
        self.reloads += 1
        for fault in self.faults:
            raise fault

    def run(self, module: Any, arguments: dict[str, Any], check: bool, no_log: bool = False) -> dict[str, Any]:
        class Module(basic.AnsibleModule):  # type: ignore[misc]
            def __init__(self, argument_spec: Any, **_keywords: Any) -> None:
                validated = ArgumentSpecValidator(argument_spec).validate(arguments)
                assert validated.error_messages == []
                self.params, self.check_mode, self.no_log = validated.validated_parameters, check, no_log

            def exit_json(self, **result: Any) -> None:
                raise Ended({"failed": False, **result})

            def fail_json(self, **result: Any) -> None:
                raise Ended({"failed": True, **result})

        self._patch.setattr(module, "AnsibleModule", Module)
        with pytest.raises(Ended) as ended:
            module.main()
        return dict(ended.value.args[0])

    def bring(
        self,
        *keys: dict[str, Any],
        check: bool = False,
        no_log: bool = True,
        signer: str = "rspamd",
        to_be_made: tuple[dict[str, Any], ...] = (),
    ) -> dict[str, Any]:
        given = {
            "directory": str(self.directory),
            "keys": list(keys),
            "signer": signer,
            "to_be_made": list(to_be_made),
        }
        return self.run(dkim_signer_key, given, check, no_log)

    def sign(
        self, serial: int, held: list[Pair], signing: list[Pair], check: bool = False, **more: Any
    ) -> dict[str, Any]:
        given = {
            "directory": str(self.directory),
            "socket": "/nowhere",
            "admission": {"streams": {"a": {"from": {"a.test": "a.test"}}}, "front": None},
            "configuration": "x",
            "rules": "y",
            "unit": "z",
            "serial": serial,
            "keys": [key.public for key in held],
            "signing": [key.public for key in signing],
            **more,
        }
        return self.run(dkim_signer, given, check)

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}

    def signs(self, domain: str) -> list[str]:
        return (self.directory / "signing" / domain).read_text(encoding="utf-8").splitlines()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def private(key: Pair, **more: Any) -> dict[str, Any]:
    return {**key.public, "private_key": key.pem, **more}


def ready(host: Host) -> None:
    host.bring(private(A1), private(A2), private(B1))
    assert not host.sign(7, [A1, A2, B1], [A1, B1])["failed"]


def test_keys_are_brought_once_and_their_files_never_change(host: Host) -> None:
    assert host.bring(private(A1), check=True)["written"] == 1
    assert not host.directory.exists()
    assert host.bring(private(A1))["written"] == 1
    before = host.files()
    assert host.bring(private(A1)) == {"failed": False, "changed": False, "written": 0}
    assert host.bring(private(A2))["changed"]
    assert before.items() <= host.files().items()


def test_a_key_with_another_fingerprint_is_refused_and_none_is_written(host: Host) -> None:
    for wrong in (
        private(A1, fingerprint=A2.fingerprint),
        private(B1, algorithm="ed25519"),
        private(A1, selector="a/b"),
    ):
        result = host.bring(private(A2), wrong)
        assert result["failed"]
        assert not any(line in str(result) for line in (A1.pem + B1.pem).splitlines()[1:-1] if len(line) > 20)
    assert not host.directory.exists()


def test_powermta_gets_its_rsa_keys_as_pem_and_no_other(host: Host) -> None:
    for check in (True, False):
        assert host.bring(private(A1), private(B1), signer="powermta", check=check)["written"] == 1
    (path,) = (host.directory / "keys").iterdir()
    assert path.read_text(encoding="ascii") == B1.pem
    assert path.stat().st_mode & 0o777 == 0o640
    assert not host.bring(private(A1), private(B1), signer="powermta")["changed"]
    assert not host.directory.joinpath("signing").exists()


def test_check_mode_counts_the_keys_that_a_run_would_make_first(host: Host) -> None:
    coming = tuple({"domain": "a.test", "selector": "n", "algorithm": algorithm} for algorithm in ("rsa", "ed25519"))
    host.bring(private(A1))
    assert host.bring(private(A1), to_be_made=coming, check=True)["written"] == 2
    assert (
        host.bring(private(B1), to_be_made=coming, check=True, signer="powermta")["written"] == 2
    )  # Ed25519 left aside
    assert host.bring(private(A1), to_be_made=coming) == {"failed": False, "changed": False, "written": 0}


def test_keys_travel_in_silence_only(host: Host) -> None:
    assert "no_log" in host.bring(private(A1), no_log=False)["msg"]
    assert not host.directory.exists()


def test_another_key_signs_without_a_reload_and_a_second_run_changes_nothing(host: Host) -> None:
    ready(host)
    assert (host.signs("a.test"), host.reloads) == ([dkim_file(A1)], 1)
    for serial, signing in ((8, [A2, B1]), (8, [A1, B1]), (9, [A1, B1])):
        checked = host.sign(serial, [A1, A2, B1], signing, check=True)
        done = host.sign(serial, [A1, A2, B1], signing)
        before = host.files()
        again = host.sign(serial, [A1, A2, B1], signing)
        assert (checked["changed"], done["changed"], again["changed"]) == (True, True, False)
        assert checked["files"] == done["files"]
        assert host.files() == before
        assert host.signs("a.test") == [dkim_file(signing[0])]
        assert rspamd.installed(str(host.directory)).serial == serial
    assert host.reloads == 1


def test_check_mode_leaves_every_byte(host: Host) -> None:
    ready(host)
    before = host.files()
    assert host.sign(9, [A2, B1], [A2], check=True, rules="other")["changed"]
    assert host.files() == before


def test_keys_that_are_not_wanted_go_and_so_do_domains(host: Host) -> None:
    ready(host)
    (host.directory / "keys" / ".new").write_text("of a run that was killed", encoding="utf-8")
    host.sign(8, [A2], [A2])
    assert sorted(os.listdir(host.directory / "keys")) == [dkim_file(A2)]
    assert os.listdir(host.directory / "signing") == ["a.test"]


def test_an_older_state_is_refused_and_nothing_is_touched(host: Host) -> None:
    ready(host)
    before = host.files()
    for check in (True, False):
        refused = host.sign(6, [A2], [A2], check=check)
        assert refused["failed"]
        assert all(word in refused["msg"] for word in (str(host.directory), "7", "6", "mailops.mta.rotate_dkim"))
    assert host.files() == before


def test_what_is_not_here_or_not_whole_is_refused_before_anything_is_touched(host: Host) -> None:
    ready(host)
    new = pair("a.test", "s3")
    for keys, signing in (([new], [new]), ([A1, B1], [A2]), ([A1, A2, B1, new], [A1])):
        before = host.files()
        assert host.sign(8, keys, signing)["failed"]
        assert host.files() == before
    lost = {**new.public, "private": False}
    assert "no private part" in host.sign(8, [], [new], keys=[lost])["msg"]
    path = host.directory / "keys" / dkim_file(A1)
    path.write_bytes(path.read_bytes()[:-4])
    before = host.files()
    assert dkim_file(A1) in host.sign(8, [A1, A2, B1], [A1])["msg"]
    assert host.files() == before
    assert host.bring(private(A1))["written"] == 1
    assert not host.sign(8, [A1, A2, B1], [A1])["failed"]


def test_a_host_without_a_key_that_nobody_can_bring_follows_to_the_next(host: Host) -> None:
    ready(host)
    lost = {**pair("a.test", "lost").public, "private": False}
    assert not host.sign(8, [], [A2, B1], keys=[lost, A1.public, A2.public, B1.public])["failed"]
    assert host.signs("a.test") == [dkim_file(A2)]


@pytest.mark.parametrize("fault", [key_files.SignerError("killed"), KeyboardInterrupt()])
def test_a_run_that_ends_early_is_finished_by_the_next(host: Host, fault: Exception) -> None:
    ready(host)
    host.faults = [fault]
    if isinstance(fault, key_files.SignerError):
        assert host.sign(8, [A1, A2, B1], [A2, B1], rules="new")["failed"]
    else:
        with pytest.raises(KeyboardInterrupt):
            host.sign(8, [A1, A2, B1], [A2, B1], rules="new")
    assert rspamd.installed(str(host.directory)).serial == 8
    assert host.sign(7, [A1, A2, B1], [A1, B1])["failed"]
    host.faults = []
    reloads = host.reloads
    finished = host.sign(8, [A1, A2, B1], [A2, B1], rules="new")
    assert (finished["changed"], finished["reloaded"], host.reloads) == (True, True, reloads + 1)
    assert host.signs("a.test") == [dkim_file(A2)]
    assert not host.sign(8, [A1, A2, B1], [A2, B1], rules="new")["changed"]


def dkim_file(key: Pair) -> str:
    return f"{key.selector}._domainkey.{key.domain}.{key.fingerprint[:8]}.key"
