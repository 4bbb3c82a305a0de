# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""powermta_info, powermta_queue and powermta_source over a fake ``pmta`` on PATH: commands, refusals, second runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import operation
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import command
from ansible_collections.mailops.mta.plugins.modules import powermta_info, powermta_queue, powermta_source
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.engines.powermta.fake_pmta import FakePmta

QUEUE = "a.test/bulk-1"


class Ended(Exception):
    """What the module returned."""


@pytest.fixture
def pmta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePmta:
    return FakePmta(tmp_path, monkeypatch)


def run(module: Any, check: bool = False, **given: Any) -> dict[str, Any]:
    warnings: list[str] = []

    class Module(basic.AnsibleModule):  # type: ignore[misc]
        def __init__(self, argument_spec: Any, **_keywords: Any) -> None:
            validated = ArgumentSpecValidator(argument_spec).validate(given)
            assert validated.error_messages == []
            self.params, self.check_mode = validated.validated_parameters, check

        def warn(self, warning: str) -> None:
            warnings.append(warning)

        def exit_json(self, **result: Any) -> None:
            raise Ended({"failed": False, "warnings": warnings, **result})

        def fail_json(self, **result: Any) -> None:
            raise Ended({"failed": True, **result})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AnsibleModule", Module)
        with pytest.raises(Ended) as ended:
            module.main()
    return dict(ended.value.args[0])


# ---- queues


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ({"state": "paused"}, ["pause", "queue", QUEUE]),
        ({"mode": "backoff"}, ["set", "queue", "--mode=backoff", QUEUE]),
    ],
)
def test_a_queue_is_brought_into_a_state_once(pmta: FakePmta, given: dict[str, Any], command: list[str]) -> None:
    pmta.queue(QUEUE, 3)
    pmta.queue("a.test/bulk-2", 3)
    checked = run(powermta_queue, check=True, queue=QUEUE, **given)
    assert pmta.commands() == []
    first = run(powermta_queue, queue=QUEUE, **given)
    assert pmta.commands() == [command]
    assert checked == first
    assert first["changed"]
    assert first["commands"] == [["pmta", *command]]
    assert first["diff"]["before"] != first["diff"]["after"]
    second = run(powermta_queue, queue=QUEUE, **given)
    assert not second["changed"]
    assert second["diff"]["before"] == second["diff"]["after"] == first["diff"]["after"]
    assert pmta.commands() == []
    back = {"state": "running"} if "state" in given else {"mode": "normal"}
    assert run(powermta_queue, queue=QUEUE, **back)["changed"]
    assert not run(powermta_queue, queue=QUEUE, **back)["changed"]


def test_state_and_mode_together(pmta: FakePmta) -> None:
    pmta.queue(QUEUE, 1)
    result = run(powermta_queue, queue=QUEUE, state="paused", mode="backoff")
    assert [each[1] for each in result["commands"]] == ["pause", "set"]
    assert result["diff"]["after"] == f"{QUEUE}: paused, mode backoff\n"


def test_many_queues_need_it_said_twice(pmta: FakePmta) -> None:
    pmta.queue(QUEUE, 1)
    for given in ({}, {"every_queue": True}, {"confirm": "*/*"}, {"every_queue": True, "confirm": QUEUE}):
        assert run(powermta_queue, queue="*/*", state="paused", **given)["failed"]
    assert pmta.commands() == []
    assert run(powermta_queue, queue="*/*", state="paused", every_queue=True, confirm="*/*")["changed"]
    assert pmta.get()["queues"][0]["paused"] == "yes"


def test_a_queue_that_is_not_listed_is_told(pmta: FakePmta) -> None:
    result = run(powermta_queue, queue=QUEUE, state="paused")
    assert result["changed"]
    assert "cannot be seen" in result["warnings"][0]
    assert not run(powermta_queue, queue=QUEUE, state="running")["changed"]


def test_a_queue_that_does_not_follow_is_a_failure(pmta: FakePmta) -> None:
    pmta.queue(QUEUE, 1)
    pmta.set(says={"pause": '{"status": "error", "message": "access denied"}'})
    result = run(powermta_queue, queue=QUEUE, state="paused")
    assert result["failed"]
    assert "access denied" in result["msg"]


def test_an_answer_in_words_is_no_failure_when_the_state_is_as_wanted(pmta: FakePmta) -> None:
    pmta.queue(QUEUE, 1, paused="yes")
    pmta.set(says={"set": "Mode set.\n"})
    assert run(powermta_queue, queue=QUEUE, mode="backoff")["failed"]
    state = pmta.get()
    state["queues"][0]["mode"] = "backoff"
    pmta.set(**state)
    assert not run(powermta_queue, queue=QUEUE, mode="backoff")["changed"]


@pytest.mark.parametrize("text", ["", "Traceback", "[1, 2", "null", "[[]]", '{"data": {"rows": [1]}}', "\x00"])
def test_nothing_is_done_on_what_is_not_understood(pmta: FakePmta, text: str) -> None:
    pmta.set(says={"show": text})
    for given in ({"state": "paused"}, {"state": "deleted", "confirm": QUEUE}):
        assert run(powermta_queue, queue=QUEUE, **given)["failed"]
    assert run(powermta_source, ip="192.0.2.1", state="disabled")["failed"]
    assert pmta.commands() == []


# ---- deletion


def test_deleting_needs_the_name_twice_and_counts(pmta: FakePmta) -> None:
    pmta.queue(QUEUE, 3)
    pmta.queue("a.test/bulk-2", 2)
    for confirm in ({}, {"confirm": "a.test/bulk-2"}, {"confirm": "yes"}):
        assert run(powermta_queue, queue=QUEUE, state="deleted", **confirm)["failed"]
    checked = run(powermta_queue, check=True, queue=QUEUE, state="deleted", confirm=QUEUE)
    assert pmta.commands() == []
    result = run(powermta_queue, queue=QUEUE, state="deleted", confirm=QUEUE)
    assert result == checked
    assert (result["changed"], result["deleted"]) == (True, 3)
    assert pmta.commands() == [["delete", f"--queue={QUEUE}"]]
    assert len(pmta.get()["mail"]) == 2
    again = run(powermta_queue, queue=QUEUE, state="deleted", confirm=QUEUE)
    assert (again["changed"], again["deleted"]) == (False, 0)
    assert pmta.commands() == []


def test_some_mail_of_a_queue(pmta: FakePmta) -> None:
    pmta.queue(QUEUE, 3)
    given = {"orig": "o1@a.test", "rcpt": "r1@b.test", "older_than_seconds": 60}
    result = run(powermta_queue, queue=QUEUE, state="deleted", confirm=QUEUE, **given)
    assert result["deleted"] == 1
    chosen = [f"--queue={QUEUE}", "--orig=o1@a.test", "--rcpt=r1@b.test", "--older-than=60s"]
    assert pmta.commands() == [["delete", *chosen]]
    assert "r1@" not in str(pmta.get()["mail"])


def test_an_unknown_count_is_said_to_be_unknown(pmta: FakePmta) -> None:
    pmta.queue(QUEUE, 2)
    pmta.set(says={"list": '{"data": {"rows": [[1]]}}'})
    result = run(powermta_queue, queue=QUEUE, state="deleted", confirm=QUEUE, orig="o1@a.test")
    assert (result["changed"], result["deleted"]) == (True, None)
    assert result["warnings"]


@pytest.mark.parametrize(
    "given",
    [
        {"state": "deleted", "mode": "normal", "confirm": QUEUE},
        {"state": "paused", "orig": "o1@a.test"},
        {"state": "deleted", "confirm": QUEUE, "older_than_seconds": 0},
        {"state": "deleted", "confirm": QUEUE, "rcpt": "--queue=*/*"},
        {"state": "deleted", "confirm": QUEUE, "orig": "*@a.test"},
    ],
)
def test_options_that_do_not_go_together(pmta: FakePmta, given: dict[str, Any]) -> None:
    pmta.queue(QUEUE, 1)
    assert run(powermta_queue, queue=QUEUE, **given)["failed"]
    assert pmta.get()["log"] == []


# ---- sources


def test_a_source_is_disabled_and_enabled_once(pmta: FakePmta) -> None:
    given = {"ip": "192.0.2.1", "queue": QUEUE}
    off = {**given, "state": "disabled", "reenable_after_seconds": 3600}
    checked = run(powermta_source, check=True, **off)
    assert pmta.commands() == []
    assert run(powermta_source, **off) == checked
    assert pmta.commands() == [["disable", "source", "--reenable-after=3600s", "192.0.2.1", QUEUE]]
    assert not run(powermta_source, **off)["changed"]
    assert run(powermta_source, **given, state="disabled")["changed"], "one that comes back by itself is not it"
    assert not run(powermta_source, **given, state="disabled")["changed"]
    pmta.commands()
    assert run(powermta_source, **given, state="enabled")["changed"]
    assert pmta.commands() == [["enable", "source", "192.0.2.1", QUEUE]]
    assert not run(powermta_source, **given, state="enabled")["changed"]


def test_a_source_disabled_everywhere_is_not_enabled_for_one_queue(pmta: FakePmta) -> None:
    run(powermta_source, ip="192.0.2.1", state="disabled")
    assert not run(powermta_source, ip="192.0.2.1", queue=QUEUE, state="disabled")["changed"]
    result = run(powermta_source, ip="192.0.2.1", queue=QUEUE, state="enabled")
    assert result["failed"]
    assert "*/*" in result["msg"]


def test_wrong_sources_are_refused(pmta: FakePmta) -> None:
    for given in (
        {"ip": "*", "state": "disabled"},
        {"ip": "192.0.2.1", "queue": "--x", "state": "disabled"},
        {"ip": "192.0.2.1", "state": "enabled", "reenable_after_seconds": 60},
        {"ip": "192.0.2.1", "state": "disabled", "reenable_after_seconds": 0},
    ):
        assert run(powermta_source, **given)["failed"]
    assert pmta.get()["log"] == []


# ---- looking


def test_looking_asks_and_tells(pmta: FakePmta) -> None:
    pmta.queue(QUEUE, 3, mode="backoff")
    result = run(powermta_info, gather=["queues", "disabled_sources"], queue="a.test/*")
    assert not result["changed"]
    assert [(each["name"], each["mode"]) for each in result["queues"]] == [(QUEUE, "backoff")]
    assert result["findings"] == []
    assert any(QUEUE in line for line in result["lines"])
    assert pmta.get()["log"] == [
        ["--json", "show", "queues", "--no-rcpt-events", "--maxitems=1000000", "--errors", "a.test/*"],
        ["--json", "show", "disabled", "sources", "*/*"],
    ]


@pytest.mark.parametrize("text", ["", "Error: not running\n", "{", "\x80", '{"status": "error", "message": "no"}'])
def test_looking_at_something_broken_tells_so(pmta: FakePmta, text: str) -> None:
    pmta.set(says={"show": text})
    gather = list(operation.GATHER)
    result = run(powermta_info, gather=gather, queue=QUEUE)
    assert not result["failed"]
    assert [result[name] for name in gather] == [None] * len(gather)
    assert len(result["findings"]) == len(gather)
    assert all(isinstance(line, str) for line in result["lines"])


def test_looking_at_something_that_hangs(pmta: FakePmta, monkeypatch: pytest.MonkeyPatch) -> None:
    pmta.set(hang=20)
    monkeypatch.setattr(command, "COMMAND_SECONDS", 0.5)
    result = run(powermta_info, gather=["status"])
    assert result["status"] is None
    assert "did not end within 0.5 seconds" in result["findings"][0]["found"]


def test_looking_without_powermta(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(powermta_info, gather=["version"])
    assert result["version"] is None
    assert "there is no command pmta" in result["findings"][0]["found"]


def test_settings_are_those_of_one_queue(pmta: FakePmta) -> None:
    assert run(powermta_info, gather=["settings"])["failed"]
    assert run(powermta_info, queue="a b/c")["failed"]
