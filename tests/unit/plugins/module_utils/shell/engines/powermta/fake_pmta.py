# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake ``pmta`` on PATH, a test double of PowerMTA's command line. It is no MTA, and proves nothing about one.

It keeps queues and disabled sources in one JSON file, and writes down each command that it was given.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """\
#!{python} -IS
import fnmatch, json, sys, time
STATE = {state!r}
state = json.load(open(STATE))
arguments = sys.argv[1:]
words = [each for each in arguments if not each.startswith("--")]
options = dict(each[2:].partition("=")[::2] for each in arguments if each.startswith("--"))
command = " ".join(arguments)
state["log"].append(arguments)
data = {{}}
if state["hang"]:
    time.sleep(state["hang"])
said = next((text for begin, text in state["says"].items() if command.startswith("--json " + begin)), None)


def fitting(pattern):
    return [each for each in state["queues"] if fnmatch.fnmatchcase(each["name"], pattern)]


def chosen():
    return [mail for mail in state["mail"] if fnmatch.fnmatchcase(mail["queue"], options["queue"])
            and mail["orig"] == options.get("orig", mail["orig"]) and mail["rcpt"] == options.get("rcpt", mail["rcpt"])]


if said is not None:
    pass
elif words[:2] == ["show", "queues"]:
    data = {{"title": "queues", "queues": fitting(words[2] if len(words) > 2 else "*/*")}}
elif words[0] in ("pause", "resume"):
    for each in fitting(words[2]):
        each["paused"] = "yes" if words[0] == "pause" else "no"
elif words[:2] == ["set", "queue"]:
    for each in fitting(words[2]):
        each["mode"] = options["mode"]
elif words[0] == "list":
    data = {{"messages": chosen()}}
elif words[0] == "delete":
    gone = chosen()
    state["mail"] = [mail for mail in state["mail"] if mail not in gone]
    for each in state["queues"]:
        each["rcp"] = sum(1 for mail in state["mail"] if mail["queue"] == each["name"])
elif words[:2] == ["disable", "source"]:
    state["sources"] = [each for each in state["sources"] if (each["ip"], each["queue"]) != (words[2], words[3])]
    state["sources"].append(
        {{"ip": words[2], "queue": words[3], "reenableTime": "later" if "reenable-after" in options else ""}})
elif words[:2] == ["enable", "source"]:
    state["sources"] = [each for each in state["sources"] if (each["ip"], each["queue"]) != (words[2], words[3])]
elif words[:3] == ["show", "disabled", "sources"]:
    data = {{"sources": state["sources"]}}
json.dump(state, open(STATE, "w"))
if said is not None:
    sys.stdout.write(said)
else:
    print(json.dumps({{"status": "success", "message": "", "data": data}}))
"""


class FakePmta:
    """The double and its state. ``says`` has it answer a command with any text instead; ``hang`` makes it slow."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._state = path / "state.json"
        self.set(queues=[], mail=[], sources=[], says={}, hang=0, log=[])
        script = path / "pmta"
        script.write_text(SCRIPT.format(python=sys.executable, state=str(self._state)), encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(path), prepend=os.pathsep)

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
        return found

    def set(self, **values: Any) -> None:
        before = self.get() if self._state.exists() else {}
        self._state.write_text(json.dumps({**before, **values}), encoding="utf-8")

    def queue(self, name: str, recipients: int, paused: str = "no", mode: str = "normal") -> None:
        state = self.get()
        mail = [{"queue": name, "orig": f"o{n}@a.test", "rcpt": f"r{n}@b.test"} for n in range(recipients)]
        entry = {"name": name, "rcp": recipients, "kb": "1.5", "conn": 0, "paused": paused, "mode": mode}
        self.set(queues=[*state["queues"], entry], mail=[*state["mail"], *mail])

    def commands(self) -> list[list[str]]:
        """What was asked of it besides looking, without the option for JSON, and forget it."""
        log = self.get()["log"]
        self.set(log=[])
        return [each[1:] for each in log if each[1] not in ("show", "list")]
