# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every gate, two at a time, and tell the sum: a failing gate hides no other.

usage: gates.py [WORD ...]   only gates whose name holds one of the words
Logs and reports lie in build/gates. The last line is "N passed, N failed": test cases of ansible-test units, one for
each other gate.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import workspace

LANES = 2
LIMIT_SECONDS = 1500
TAIL_LINES = 40
# The long ones first; Molecule's scenarios share a network, so one at a time.
ORDER = ("molecule", "faults", "sanity", "units", "trust", "galaxy-import", "build", "ansible-lint")
# galaxy-import judges the artifact that build makes.
AFTER = {"galaxy-import": "build"}


@dataclass(frozen=True)
class Result:
    gate: str
    outcome: str
    passed: int
    failed: int
    seconds: float


def session_names() -> list[str]:
    listing = subprocess.run(
        [sys.executable, "-m", "nox", "--list", "--json"],
        cwd=workspace.ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=workspace.environ(),
    )
    return [entry["session"] for entry in json.loads(listing.stdout)]


def rank(gate: str) -> tuple[int, str]:
    return next((place for place, word in enumerate(ORDER) if gate.startswith(word)), len(ORDER)), gate


def file_name(gate: str) -> str:
    return gate.replace("(", "-").replace(")", "").replace(" ", "")


def counts(gate: str, code: int) -> tuple[int, int]:
    """(passed, failed): the cases of the JUnit reports where there are any, else the gate itself."""
    passed = failed = 0
    for report in workspace.RESULTS.glob(f"{file_name(gate)}.*.xml"):
        for suite in ET.parse(report).getroot().iter("testsuite"):
            number = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
            failed += number["failures"] + number["errors"]
            passed += number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    if not passed + failed:
        return (1, 0) if code == 0 else (0, 1)
    return passed, max(failed, int(code != 0))


class Run:
    def __init__(self, gates: list[str]) -> None:
        self.waiting = gates
        self.names = set(gates)
        self.done: dict[str, Result] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.changed = threading.Condition()

    def take(self) -> str | None:
        """The next gate that may start now, or None when none is left."""
        with self.changed:
            while self.waiting:
                for gate in self.waiting:
                    before = AFTER.get(gate)
                    held = before in self.names and before not in self.done
                    shared = gate.startswith("molecule") and any(name.startswith("molecule") for name in self.running)
                    if not held and not shared:
                        self.waiting.remove(gate)
                        self.running[gate] = self.start(gate)
                        return gate
                self.changed.wait()
            return None

    def start(self, gate: str) -> subprocess.Popen[bytes]:
        print(f"  ....    {gate}", flush=True)
        with (workspace.RESULTS / f"{file_name(gate)}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "nox", "--no-color", "--error-on-missing-interpreters", "--session", gate],
                cwd=workspace.ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=workspace.environ(),
            )

    def lane(self) -> None:
        while gate := self.take():
            begin = time.monotonic()
            process = self.running[gate]
            try:
                code = process.wait(LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                code = 124
                with (workspace.RESULTS / f"{file_name(gate)}.log").open("a", encoding="utf-8") as log:
                    log.write(f"\nstopped: it took longer than {LIMIT_SECONDS} s\n")
            self.finish(gate, code, time.monotonic() - begin)

    def finish(self, gate: str, code: int, seconds: float) -> None:
        log = (workspace.RESULTS / f"{file_name(gate)}.log").read_text(encoding="utf-8", errors="replace")
        skipped = code == 0 and f"Session {gate} skipped" in log
        passed, failed = (0, 0) if skipped else counts(gate, code)
        result = Result(gate, "skipped" if skipped else "FAILED" if failed else "ok", passed, failed, seconds)
        print(f"  {result.outcome:8}{gate}, {seconds:.0f} s", flush=True)
        with self.changed:
            del self.running[gate]
            self.done[gate] = result
            self.changed.notify_all()

    def stop(self) -> None:
        for process in list(self.running.values()):
            os.killpg(process.pid, signal.SIGTERM)


def table(results: list[Result]) -> str:
    width = max(len(result.gate) for result in results)
    lines = [f"{'gate':{width}}  {'result':8}{'passed':>8}{'failed':>8}{'seconds':>9}"]
    lines += [
        f"{result.gate:{width}}  {result.outcome:8}{result.passed:8}{result.failed:8}{result.seconds:9.1f}"
        for result in sorted(results, key=lambda result: rank(result.gate))
    ]
    return "\n".join(lines)


def main(words: list[str]) -> int:
    workspace.RESULTS.mkdir(parents=True, exist_ok=True)
    for old in (*workspace.RESULTS.glob("*.log"), *workspace.RESULTS.glob("*.xml")):
        old.unlink()
    gates = sorted((name for name in session_names() if not words or any(word in name for word in words)), key=rank)
    if not gates:
        print(f"No gate is called {' or '.join(words)}.")
        return 2
    begin = time.monotonic()
    run = Run(gates)
    lanes = [threading.Thread(target=run.lane, name=f"lane {number}", daemon=True) for number in range(LANES)]
    print(f"{len(gates)} gates, {LANES} at a time; logs in {workspace.RESULTS}", flush=True)
    for lane in lanes:
        lane.start()
    try:
        for lane in lanes:
            lane.join()
    except KeyboardInterrupt:
        run.stop()
        raise
    results = list(run.done.values())
    for result in results:
        if result.failed:
            log = workspace.RESULTS / f"{file_name(result.gate)}.log"
            text = log.read_text(encoding="utf-8", errors="replace").splitlines()
            print(f"\n--- {result.gate}: the end of {log}", *text[-TAIL_LINES:], sep="\n")
    passed, failed = sum(result.passed for result in results), sum(result.failed for result in results)
    print(f"\n{table(results)}\n\n{time.monotonic() - begin:.0f} s in all")
    summary = f"{passed} passed, {failed} failed"
    (workspace.RESULTS / "summary").write_text(summary + "\n", encoding="utf-8")
    print(summary)
    return 1 if failed or len(results) < len(gates) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
