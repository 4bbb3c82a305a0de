# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The acceptance run leaves a host as it was, whatever happens. Here our own checker plays ``pmta test config``."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import assumptions, checks
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.assumptions import Said
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import acceptance, configuration
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta.configuration import PowermtaError
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.engines.powermta.fake_pmta import FakePmta

TRIALS = assumptions.TRIALS
STATUS = '{"data": {"status": {"queue": {"smtp": {"rcp": %s}}, "status": "running"}}, "status": "success"}'


def looks(root: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mode, path.read_text(encoding="utf-8") if path.is_file() else "")
        for path in sorted(root.rglob("*"))
        if path.name != ".mailops.lock"
    }


class OpensslOnly(Runner):
    def run(self, command: list[str], *more: Any) -> subprocess.CompletedProcess[str]:
        return super().run(command if command[0] == "openssl" else ["true"], *more)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FakePmta, Path]:
    (tmp_path / "bin").mkdir()
    root = tmp_path / "pmta"
    root.mkdir()
    (root / "config").write_text("postmaster somebody@secret.example\n", encoding="utf-8")
    (root / "config").chmod(0o640)
    pmta = FakePmta(tmp_path / "bin", monkeypatch)
    pmta.set(says={"show status": STATUS % 0})
    monkeypatch.setattr(configuration, "running", lambda: False)
    monkeypatch.setattr(assumptions, "TRIALS", (assumptions.TRIALS[0], TRIALS[-1]))
    monkeypatch.setattr(acceptance, "_test", lambda: checked(root))
    monkeypatch.setattr(acceptance, "host", OpensslOnly(PowermtaError))
    return pmta, root


def checked(root: Path) -> Said:
    main = str(root / "config")
    found = errors(checks.check(configuration.tree(str(root)), main))
    places = [finding.where.split(":") for finding in found]
    return Said(0, tuple(f"Error in line {place[1]} of {place[0]}: wrong" for place in places))


def test_every_trial_is_tried_and_nothing_is_left(host: tuple[FakePmta, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _pmta, root = host
    monkeypatch.setattr(assumptions, "TRIALS", TRIALS)
    before = looks(root)
    found = acceptance.run(force=False, check_mode=False, root=str(root))
    assert looks(root) == before
    wrong = [each for each in found.outcomes if each.name.startswith(("config.", "refuses.", "test-config"))]
    assert [each for each in wrong if each.verdict != assumptions.HELD and each.name != "config.whole"] == []
    held = {each.name: each.verdict for each in found.outcomes}
    assert held["json.status"] == assumptions.HELD
    assert held["json.queues"] == assumptions.UNTRIED, "no queue was there to be listed"
    assert held["reload.adds"] == held["operation.delete"] == assumptions.UNTRIED
    text = "\n".join(found.lines(proven=False))
    assert "secret.example" not in text
    assert len(found.lines(proven=True)) == len(found.lines(proven=False))


def test_a_look_tries_nothing(host: tuple[FakePmta, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pmta, root = host
    monkeypatch.setattr(acceptance, "_replace", lambda *_arguments: pytest.fail("it writes"))
    before = looks(root)
    found = acceptance.run(force=False, check_mode=True, root=str(root))
    assert looks(root) == before
    assert pmta.commands() == []
    assert {each.verdict for each in found.outcomes if each.name.startswith("config.")} == {assumptions.UNTRIED}


def test_what_was_there_comes_back_after_a_failure(
    host: tuple[FakePmta, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _pmta, root = host
    before = looks(root)
    tests = iter(range(1))

    def fails() -> Said:
        if next(tests, None) is None:
            raise PowermtaError("pmta test config: TimeoutExpired")
        return Said(0, ())

    monkeypatch.setattr(acceptance, "_test", fails)
    with pytest.raises(PowermtaError, match="TimeoutExpired"):
        acceptance.run(force=False, check_mode=False, root=str(root))
    assert looks(root) == before


def test_what_was_there_comes_back_after_a_kill(host: tuple[FakePmta, Path]) -> None:
    pmta, root = host
    before = looks(root)
    (root / "config").rename(root / acceptance.KEPT)
    (root / "config").write_text(assumptions.BASE, encoding="utf-8")
    pmta.queue(acceptance._QUEUE, 3)
    killed = looks(root)
    with pytest.raises(PowermtaError, match="killed"):
        acceptance.run(force=False, check_mode=True, root=str(root))
    assert looks(root) == killed
    acceptance.run(force=False, check_mode=False, root=str(root))
    assert looks(root) == before
    assert pmta.get()["mail"] == []


def test_what_the_role_brought_after_a_kill_stays(host: tuple[FakePmta, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pmta, root = host
    (root / "config").rename(root / acceptance.KEPT)
    (root / "config").write_text(configuration.Paths(str(root)).main_text, encoding="utf-8")
    (root / "config").chmod(0o640)
    (root / "conf.d").mkdir()
    after = {name: look for name, look in looks(root).items() if name != acceptance.KEPT}
    pmta.queue("a.test/bulk-1", 3)
    pmta.set(says={"show status": STATUS % 3})
    monkeypatch.setattr(OpensslOnly, "run", lambda _self, command: pytest.fail(f"{command}: mail waits"))
    with pytest.raises(PowermtaError, match="recipients wait"):
        acceptance.run(force=False, check_mode=False, root=str(root))
    assert looks(root) == after


@pytest.mark.parametrize("said", [STATUS % 3, "no daemon", '{"data": {}}'])
def test_mail_that_waits_is_not_put_at_risk(host: tuple[FakePmta, Path], said: str) -> None:
    pmta, root = host
    pmta.set(says={"show status": said})
    before = looks(root)
    with pytest.raises(PowermtaError):
        acceptance.run(force=False, check_mode=False, root=str(root))
    assert looks(root) == before
    assert acceptance.run(force=True, check_mode=False, root=str(root)).outcomes


def live(pmta: FakePmta, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PowerMTA that runs, and opens what stands in its configuration when it is looked at."""

    def inject(_port: int) -> None:
        name = f"acceptance.invalid/{acceptance._VMTA}"
        pmta.queue(name, 3)
        mail = [{"queue": name, "orig": "s@x.test", "rcpt": f"r{n}@acceptance.invalid"} for n in range(3)]
        pmta.set(mail=mail)

    monkeypatch.setattr(configuration, "running", lambda: True)
    monkeypatch.setattr(acceptance, "_LISTEN_SECONDS", 1)
    monkeypatch.setattr(acceptance, "_process", lambda: "1")
    monkeypatch.setattr(acceptance, "_inject", inject)
    monkeypatch.setattr(acceptance, "_send", lambda *_arguments: None)  # it bounces
    monkeypatch.setattr(
        acceptance, "_greets", lambda port: f"127.0.0.1:{port} " in (root / "config").read_text("utf-8")
    )


def test_the_modules_are_tried_on_a_queue_of_its_own(
    host: tuple[FakePmta, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pmta, root = host
    pmta.queue("a.test/bulk-1", 2)
    before = looks(root)
    live(pmta, root, monkeypatch)
    found = acceptance.run(force=False, check_mode=False, root=str(root))
    assert looks(root) == before
    tried = [each for each in found.outcomes if each.name.startswith(("reload.", "refusal", "operation."))]
    assert [each for each in tried if each.verdict != assumptions.HELD] == []
    held = {each.name: each.verdict for each in found.outcomes}
    assert held["json.queues"] == held["json.list"] == held["json.disabled-sources"] == assumptions.HELD
    assert "data.queues[].paused: text" in "\n".join(found.lines(proven=False))
    assert all(command[-1] != "a.test/bulk-1" for command in pmta.commands())
    assert len(pmta.get()["queues"]) == 2


def test_mail_that_a_rule_refuses_and_that_waits_all_the_same_is_told(
    host: tuple[FakePmta, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pmta, root = host
    live(pmta, root, monkeypatch)

    def waits(*_arguments: object) -> None:
        pmta.set(queues=[*pmta.get()["queues"], {"name": "acceptance.invalid/other", "rcp": 1}])

    monkeypatch.setattr(acceptance, "_send", waits)
    found = acceptance.run(force=False, check_mode=False, root=str(root))
    assert [each.verdict for each in found.outcomes if each.name == "refusal"] == [assumptions.FAILED]


@pytest.mark.parametrize("wrong", ["pause", "delete"])
def test_a_command_that_fails_is_told_and_nothing_is_left(
    host: tuple[FakePmta, Path], monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    pmta, root = host
    before = looks(root)
    live(pmta, root, monkeypatch)
    pmta.set(says={**pmta.get()["says"], wrong: '{"status": "error", "message": "no"}'})
    found = acceptance.run(force=False, check_mode=False, root=str(root))
    assert looks(root) == before
    failed = {
        each.name
        for each in found.outcomes
        if each.verdict == assumptions.FAILED and each.name.startswith("operation.")
    }
    assert failed, wrong
    assert "operation.waits" not in failed


def test_a_powermta_that_says_nothing_is_a_report_too(
    host: tuple[FakePmta, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pmta, root = host
    pmta.set(says={"": "somebody@secret.example is not allowed"})
    monkeypatch.setattr(configuration, "running", lambda: True)
    monkeypatch.setattr(acceptance, "_LISTEN_SECONDS", 0.1)
    monkeypatch.setattr(acceptance, "_greets", lambda _port: True)
    monkeypatch.setattr(acceptance, "_inject", lambda _port: None)
    found = acceptance.run(force=True, check_mode=False, root=str(root))
    assert {each.verdict for each in found.outcomes if each.name.startswith("json.")} == {assumptions.FAILED}
    assert "secret.example" not in "\n".join(line for line in found.lines(proven=False))
