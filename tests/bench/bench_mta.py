# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix as the roles set it up, against Debian's stock Postfix, in one container without a network.

Throughput: messages a second from the injector's start until the queue is empty, interleaved rounds, medians of ratios.
Isolation: the latency of one stream while another has 30,000 messages deferred, against the same stream idle.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
IMAGE = os.environ.get("MTA_MOLECULE_IMAGE", "localhost/mta-molecule:bookworm")
NODE = "mta-bench"
SINK = "198.18.9.9"  # takes everything
DEFERRING = "198.18.9.8"  # answers 450 to every recipient
TIMING = "198.18.9.7"  # notes when a message arrives
ROUNDS = int(os.environ.get("MTA_BENCH_ROUNDS", "5"))
MESSAGES = int(os.environ.get("MTA_BENCH_MESSAGES", "3000"))
DEFERRED = 30_000
ALGORITHMS = {6: ["rsa"], 7: ["ed25519"]}  # by stream; the others have both, and what stream 5 sends is not signed


def bench_fleet() -> dict[str, Any]:
    return {
        "plugin": "mailops.mta.fleet",
        "domain": "bench.test",
        "bounce_host": "bounces.bench.test",
        "hosts": {"bench": {"listen": ["198.18.9.1"], "interface": "lo"}},
        "zones": {"bench.test": {"provider": "memory"}, "18.198.in-addr.arpa": {"provider": "memory"}},
        "streams": {
            f"s{n}": {
                "domain": f"s{n}.bench.test",
                "port": 2600 + n,
                "inject_from": ["127.0.0.0/8"],
                "addresses": [{"ip": f"198.18.1.{n}", "host": "bench"}],
                "dkim": {"algorithms": ALGORITHMS.get(n, ["rsa", "ed25519"])},
            }
            for n in range(1, 8)
        },
    }


PLAYBOOK = """\
- hosts: mta
  gather_facts: false
  tasks:
    - mailops.mta.dkim_rotation:
        series: "{{ hostvars['fleet'].mta_dkim_series }}"
      register: made
    # There is no DNS here, so what its servers would show is told: first nothing, then the keys.
    - mailops.mta.dkim_rotation:
        series: "{{ hostvars['fleet'].mta_dkim_series }}"
        evidence:
          looks: "{{ made.ask | map('combine', {'whole': true, 'servers': [{'server': 'none', 'status': 'no'}]}) }}"
      register: published
    - mailops.mta.dkim_rotation:
        series: "{{ hostvars['fleet'].mta_dkim_series }}"
        evidence:
          looks: "{% set looks = [] %}{% for one in published.records %}{% set _ = looks.append({'name': one.name,
            'type': one.type, 'whole': true, 'servers': [{'server': 'none', 'status': 'yes', 'values': one['values'],
            'ttl': 60}]}) %}{% endfor %}{{ looks }}"
- hosts: mta
  gather_facts: false
  roles: [mailops.mta.addresses, mailops.mta.dkim, mailops.mta.postfix]
"""


def podman(*arguments: str, text: str | None = None, check: bool = True) -> str:
    done = subprocess.run(["podman", *arguments], input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"podman {' '.join(arguments)[:200]}: {done.stderr or done.stdout}")
    return done.stdout


def inside(script: str, *arguments: str) -> str:
    """Run one of the scripts in ``inside/`` in the node and return what it prints."""
    text = (Path(__file__).resolve().parent / "inside" / f"{script}.py").read_text(encoding="utf-8")
    return podman("exec", "-i", NODE, "python3", "-", *arguments, text=text)


def start() -> None:
    podman("rm", "--force", "--ignore", "--time", "0", NODE)
    options = ("--network", "none", "--cap-add", "NET_ADMIN", "--systemd", "always")
    podman("run", "-d", "--name", NODE, *options, IMAGE, "/lib/systemd/systemd")
    podman("exec", NODE, "systemctl", "is-system-running", "--wait", check=False)
    podman("exec", NODE, "sh", "-c", "echo nameserver 127.0.0.1 > /etc/resolv.conf")
    for ip in ("198.18.9.1", SINK, DEFERRING, TIMING):
        podman("exec", NODE, "ip", "addr", "add", f"{ip}/32", "dev", "lo")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "fleet.yml").write_text(yaml.safe_dump(bench_fleet()), encoding="utf-8")
        variables = {"all": {"vars": {"ansible_connection": "containers.podman.podman", "ansible_host": NODE}}}
        Path(directory, "connection.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
        Path(directory, "bench.yml").write_text(PLAYBOOK, encoding="utf-8")
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            str(Path(directory, "fleet.yml")),
            "-i",
            str(Path(directory, "connection.yml")),
            str(Path(directory, "bench.yml")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise SystemExit(done.stdout[-4000:] + done.stderr[-2000:])
    inside("setup", SINK, DEFERRING)


def throughput(*ports: int, messages: int = MESSAGES) -> tuple[float, float]:
    """Messages a second over the streams on these ports together, 2600 being the stock instance, and CPU ms a message.

    The CPU time is that of everything in the container, injector and sink included, the script that watches excepted.
    """
    streams = [
        {
            "instance": "postfix-stock" if port == 2600 else f"postfix-s{port - 2600}",
            "sender": f"a@s{max(port - 2600, 1)}.bench.test",
            "port": port,
            "messages": messages // len(ports),
            "sessions": max(2, 12 // len(ports)),
        }
        for port in ports
    ]
    cpu = cpu_ms()
    seconds, own = map(float, inside("throughput", json.dumps({"sink": SINK, "streams": streams})).split())
    return messages / seconds, (cpu_ms() - cpu - own * 1000) / messages


def cpu_ms() -> float:
    return int(podman("stats", "--no-stream", "--format", "{{.CPUNano}}", NODE)) / 1e6


def latency(messages: int = 60) -> dict[str, float]:
    job = {"timing": TIMING, "port": 2601, "sender": "a@s1.bench.test", "messages": messages}
    return json.loads(inside("latency", json.dumps(job)))


def defer(count: int) -> int:
    """Fill stream s4 with messages for a receiver that answers 450; the number that waits in its deferred queue."""
    return int(inside("defer", str(count), DEFERRING))


def _ratio(over: list[float], under: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(over, under)), 2)


def main() -> dict[str, Any]:
    try:
        start()
        kinds: dict[str, tuple[int, ...]] = {
            "stock": (2600,),
            "unsigned": (2605,),
            "signed": (2601,),
            "signed_rsa": (2606,),
            "signed_ed25519": (2607,),
            "four": (2601, 2602, 2603, 2604),
        }
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
        for ports in kinds.values():
            throughput(*ports, messages=200)  # warm caches and processes
        for _round in range(ROUNDS):
            for kind, ports in kinds.items():
                rate, used = throughput(*ports)
                rates[kind].append(rate)
                cpu[kind].append(used)
        idle = latency()
        waiting = defer(DEFERRED)
        busy = latency()
    finally:
        if "MTA_BENCH_KEEP" not in os.environ:
            podman("rm", "--force", "--ignore", "--time", "0", NODE)
    return {
        "messages_per_second": {kind: round(statistics.median(values)) for kind, values in rates.items()},
        "cpu_ms_a_message": {kind: round(statistics.median(values), 2) for kind, values in cpu.items()},
        "load": round(os.getloadavg()[1], 1),
        "unsigned_over_stock": _ratio(rates["unsigned"], rates["stock"]),
        "signed_twice_over_unsigned": _ratio(rates["signed"], rates["unsigned"]),
        "signed_rsa_over_unsigned": _ratio(rates["signed_rsa"], rates["unsigned"]),
        "signed_ed25519_over_unsigned": _ratio(rates["signed_ed25519"], rates["unsigned"]),
        "by_cpu": {kind: _ratio(cpu["unsigned"], cpu[kind]) for kind in ("signed", "signed_rsa", "signed_ed25519")},
        "four_streams_over_one": _ratio(rates["four"], rates["signed"]),
        "deferred_elsewhere": waiting,
        "latency_idle": idle,
        "latency_with_deferred": busy,
        "latency_ratio": round(busy["median"] / idle["median"], 2),
        "target": "unsigned/stock 1.0, signed/unsigned 0.8, four/one 0.9, latency at most 1.5",
    }


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
