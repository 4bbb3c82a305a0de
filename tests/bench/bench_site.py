# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second run of site.yml on a converged fleet of two and of ten hosts: zero changes, and how long it takes.

Target: at most 12 s for two hosts.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORLD = 14  # of Molecule's worlds, so that neither the lab nor a scenario is touched
HOSTS = (2, 10)
ROUNDS = 3


def grow(directory: Path, hosts: int) -> None:
    """Give the lab's Postfix hosts more of their kind: each sends for three streams from an address of its own."""
    fleet_file, lab_file = directory / "fleet.yml", directory / "lab.yml"
    fleet = yaml.safe_load(fleet_file.read_text(encoding="utf-8"))
    lab = yaml.safe_load(lab_file.read_text(encoding="utf-8"))
    network = fleet["hosts"]["mta1"]["listen"][0].rsplit(".", 2)[0]
    third = int(fleet["hosts"]["mta1"]["listen"][0].split(".")[2])
    nodes = lab["lab"]["children"]["mta"]["hosts"]
    for name in [name for name, host in fleet["hosts"].items() if host["engine"] != "postfix"]:
        del fleet["hosts"][name], nodes[name]
        for stream in fleet["streams"].values():
            stream["addresses"] = [address for address in stream["addresses"] if address["host"] != name]
    for number in range(3, hosts + 1):
        ip = f"{network}.{third}.{100 + number}"
        fleet["hosts"][f"mta{number}"] = {"engine": "postfix", "listen": [ip]}
        nodes[f"mta{number}"] = {"lab_ip": ip, "lab_ip6": nodes["mta1"]["lab_ip6"].replace("::11", f"::{100 + number}")}
        for offset, stream in enumerate(("transactional", "marketing", "bulk")):
            address = {"ip": f"{network}.{third + 2}.{100 + 10 * (number - 3) + offset}", "host": f"mta{number}"}
            fleet["streams"][stream]["addresses"].append(address)
    fleet_file.write_text(yaml.safe_dump(fleet, allow_unicode=True), encoding="utf-8")
    lab_file.write_text(yaml.safe_dump(lab), encoding="utf-8")


def play(directory: Path, playbook: str, *options: str) -> tuple[float, int]:
    """Wall seconds of one run and the number of changed tasks."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(directory), playbook, *options]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "CONTAINERS_CONF": os.environ.get("CONTAINERS_CONF", str(ROOT / "molecule/containers.conf")),
    }
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{playbook} failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
    return seconds, sum(int(count) for count in re.findall(r"changed=(\d+)", done.stdout))


def measure(hosts: int) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "molecule/shared"))
    import world

    directory = world.make(WORLD)
    grow(directory, hosts)
    try:
        for playbook in ("molecule/shared/create.yml", "molecule/shared/prepare.yml"):
            play(directory, playbook)
        first = play(directory, "playbooks/site.yml")
        again = [play(directory, "playbooks/site.yml") for _ in range(ROUNDS)]
    finally:
        if "MTA_BENCH_KEEP" not in os.environ:
            play(directory, "molecule/shared/destroy.yml")
    seconds = statistics.median(run[0] for run in again)
    return {
        "first_run_seconds": round(first[0], 1),
        "second_run_seconds": round(seconds, 1),
        "second_run_seconds_per_host": round(seconds / hosts, 2),
        "second_run_changes": max(run[1] for run in again),
    }


def main() -> dict[str, Any]:
    return {**{f"{hosts}_hosts": measure(hosts) for hosts in HOSTS}, "target": "2 hosts: 0 changes, 12 s"}


if __name__ == "__main__":
    print(main())
