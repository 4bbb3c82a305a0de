# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Molecule world of a test's own: its containers, its inventory, and playbooks on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "CONTAINERS_CONF": str(ROOT / "molecule/containers.conf"),
    **os.environ,
    "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
}
Subject = TypeVar("Subject")
Counts = dict[str, dict[str, int]]  # of each host: ok, changed, failed, unreachable, ...


class Failed(Exception):
    """A step that did not prove what it says."""


def run(
    *command: str, check: bool = True, environment: dict[str, str] = ENVIRONMENT
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if check and done.returncode:
        raise Failed(f"{' '.join(command)[:160]}:\n{done.stdout[-5000:]}\n{done.stderr[-2000:]}")
    return done


def prove(fact: bool, text: str) -> None:
    if not fact:
        raise Failed(text)


def await_port(host: str, port: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), 2).close()
        except OSError:
            time.sleep(1)
        else:
            return
    raise Failed(f"{host} port {port} does not answer within {seconds:g} seconds")


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """Without a word, with all that it started."""
    for pid in descendants(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def recap(output: str) -> Counts:
    lines = re.findall(r"^(\S+)\s+: (ok=.*)$", output, re.MULTILINE)
    return {host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", text)} for host, text in lines}


def changes(counts: Counts) -> int:
    return sum(host["changed"] for host in counts.values())


class World:
    def __init__(self, number: int, *hosts: str) -> None:
        """``hosts``: those that are needed, where the others are not."""
        sys.path.insert(0, str(ROOT / "molecule/shared"))
        import world

        self.limit = ("--limit", ",".join(hosts)) if hosts else ()
        self.number = int(os.environ.get("MTA_FAULTS_WORLD", number))
        self.inventory = world.make(self.number)
        self.fleet_file = self.inventory / "fleet.yml"
        self.fragments = self.inventory / "fleet.d"
        listen = re.search(r"listen: \[([0-9.]+)\]", self.fleet_file.read_text(encoding="utf-8"))
        prove(listen is not None, "the fleet of the world has no listener")
        a, b, c, _d = listen.group(1).split(".") if listen else ("", "", "0", "")
        self.third = int(c)
        self.prefix = f"{a}.{b}"

    def ip(self, third: int, last: int) -> str:
        return f"{self.prefix}.{self.third + third}.{last}"

    def command(self, playbook: str, *arguments: str) -> list[str]:
        executable = str(Path(sys.executable).parent / "ansible-playbook")
        return [executable, "-i", str(self.inventory), playbook, *self.limit, *arguments]

    def play(self, playbook: str, *arguments: str, check: bool = True) -> tuple[int, Counts]:
        """The exit code and each host's counts."""
        done = run(*self.command(playbook, *arguments), check=check)
        return done.returncode, recap(done.stdout)

    def container(self, host: str) -> str:
        return f"mta-mol{self.number}-{host}"

    def inside(self, host: str, script: str) -> str:
        return run("podman", "exec", self.container(host), "sh", "-c", script).stdout

    def remove_fragments(self) -> None:
        shutil.rmtree(self.fragments, ignore_errors=True)

    @contextmanager
    def up(self, *playbooks: str) -> Iterator[None]:
        """Fresh containers with these playbooks played, and removed at the end unless MTA_FAULTS_KEEP is set."""
        self.remove_fragments()
        try:
            self.play("molecule/shared/destroy.yml", check=False)
            for playbook in ("molecule/shared/create.yml", "molecule/shared/prepare.yml", *playbooks):
                begin = time.monotonic()
                self.play(playbook)
                print(f"{playbook}: {time.monotonic() - begin:.0f} s", flush=True)
            yield
        finally:
            if "MTA_FAULTS_KEEP" not in os.environ:
                self.play("molecule/shared/destroy.yml", check=False)


def take(steps: Iterable[Callable[[Subject], None]], subject: Subject) -> int:
    """Each step says by its name what it proves. Returns how many did not."""
    failed = 0
    for step in steps:
        begin = time.monotonic()
        name = step.__name__.replace("_", " ")
        try:
            step(subject)
            print(f"ok      {name}, {time.monotonic() - begin:.0f} s", flush=True)
        except Failed as error:
            failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
    return failed
