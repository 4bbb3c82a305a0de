# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``--check`` says of each task and host is what the run does then, and a limited run has nothing left to do.

``python tests/faults/foretold.py [STEP ...]`` makes the containers, plays it, and removes them. Each step changes the
fleet file, plays site.yml with ``--check`` and then for real, and compares both task by task.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import yaml
from world_of_faults import ENVIRONMENT, World, prove, run, take

WORLD = 6
NEEDED = ("dns1", "rx1", "fleet", "localhost")
SITE = "playbooks/site.yml"
Fleet = dict[str, Any]
Changes = Counter[tuple[str, str]]  # how often a task, by host and name, changed or would change something


class Life:
    """A world and its fleet file, which begins with one host and one stream."""

    def __init__(self) -> None:
        self.world = World(WORLD, "mta1", "mta2", *NEEDED)
        lab = yaml.safe_load(self.world.fleet_file.read_text(encoding="utf-8"))
        transactional = lab["streams"]["transactional"]
        del transactional["bimi"]
        transactional["addresses"] = [each for each in transactional["addresses"] if each["host"] == "mta1"]
        lab["hosts"] = {"mta1": lab["hosts"]["mta1"]}
        lab["streams"] = {"transactional": transactional}
        self.fleet: Fleet = lab
        self.write()

    def play_on(self, *hosts: str) -> None:
        """The world has more hosts of group mta than the fleet."""
        self.world.limit = ("--limit", ",".join((*hosts, *NEEDED)))

    def write(self) -> None:
        text = yaml.safe_dump(self.fleet, allow_unicode=True, sort_keys=False)
        self.world.fleet_file.write_text(text, encoding="utf-8")

    def ip(self, last: int) -> str:
        return self.world.ip(1, last)

    def change(self, how: Callable[[Fleet], object]) -> None:
        how(self.fleet)
        self.write()
        foretold = changed(self.world, "--check")
        done = changed(self.world)
        prove(bool(done), "the run changed nothing, so nothing was compared")
        prove(not done - foretold, f"changed, and --check did not say so: {listed(done - foretold)}")
        prove(not foretold - done, f"--check said so, and nothing changed: {listed(foretold - done)}")


def changed(world: World, *arguments: str) -> Changes:
    environment = {**ENVIRONMENT, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = run(*world.command(SITE, *arguments), environment=environment)
    return Counter(
        (host, task["task"]["name"])
        for play in json.loads(done.stdout)["plays"]
        for task in play["tasks"]
        for host, result in task["hosts"].items()
        if result.get("changed")
    )


def listed(changes: Changes) -> str:
    return "; ".join(f"{host}: {name}" for host, name in sorted(changes))


def stream(life: Life, domain: str, port: int, *addresses: tuple[int, str]) -> dict[str, Any]:
    return {
        "domain": domain,
        "port": port,
        "inject_from": [f"{life.world.ip(0, 1)}/32"],
        "addresses": [{"ip": life.ip(last), "host": host} for last, host in addresses],
    }


def the_first_run(life: Life) -> None:
    """Nothing is installed yet, so a plan cannot look into what packages bring; the run that follows must be quiet."""
    life.world.play(SITE)
    again = changed(life.world)
    prove(not again, f"a second run changes: {listed(again)}")


def a_new_stream(life: Life) -> None:
    life.change(lambda fleet: fleet["streams"].update(receipts=stream(life, "receipts.acme.test", 2529, (50, "mta1"))))


def another_port(life: Life) -> None:
    life.change(lambda fleet: fleet["streams"]["receipts"].update(port=2530))


def a_new_address(life: Life) -> None:
    life.change(lambda fleet: fleet["streams"]["receipts"]["addresses"].append({"ip": life.ip(51), "host": "mta1"}))


def an_address_less(life: Life) -> None:
    life.change(lambda fleet: fleet["streams"]["receipts"]["addresses"].pop())


def a_new_host(life: Life) -> None:
    def add(fleet: Fleet) -> None:
        fleet["hosts"]["mta2"] = {"engine": "postfix", "listen": [life.world.ip(0, 12)]}
        fleet["streams"]["receipts"]["addresses"].append({"ip": life.ip(52), "host": "mta2"})

    life.play_on("mta1", "mta2")
    life.change(add)


def a_limited_run_has_nothing_left_to_do(life: Life) -> None:
    for limit in ("stream_receipts", "mta2", "engine_postfix"):
        life.play_on(limit)
        left = changed(life.world, "--check")
        prove(not left, f"--limit {limit} --check says after a full run: {listed(left)}")


def a_stream_less(life: Life) -> None:
    life.play_on("mta1", "mta2")
    life.change(lambda fleet: fleet["streams"].pop("receipts"))


STEPS = (
    the_first_run,
    a_new_stream,
    another_port,
    a_new_address,
    an_address_less,
    a_new_host,
    a_limited_run_has_nothing_left_to_do,
    a_stream_less,
)


def main() -> int:
    life = Life()
    chosen = [step for step in STEPS if not sys.argv[1:] or any(word in step.__name__ for word in sys.argv[1:])]
    with life.world.up():
        life.play_on("mta1")
        return 1 if take(chosen, life) else 0


if __name__ == "__main__":
    raise SystemExit(main())
