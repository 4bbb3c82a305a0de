# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application waits while a stranger keeps 1,000 connections to its port, with the firewall and without.

The application is this machine, which the stream allows; the stranger is a container that no stream allows. Two ports
of a Postfix host are tried: one that networks alone may use, and one with logins, where strangers may connect too.
"""

from __future__ import annotations

import json
import math
import os
import smtplib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from bench_site import ROOT, play

HERE = Path(__file__).resolve().parent
WORLD = 13  # of Molecule's worlds
HOST, STRANGER = "mta1", "rx1"
STREAMS = {"networks_only": "bulk", "logins": "transactional"}
CONNECTIONS, MESSAGES = 1000, 200
LIMIT_SECONDS = 60  # for the messages of one figure
TIMEOUT_SECONDS = 20  # of the application
PLAYBOOK = """\
- hosts: mta1
  gather_facts: false
  vars:
    postfix_settings: {smtpd_milters: "", non_smtpd_milters: ""}
  roles: [mailops.mta.addresses, mailops.mta.firewall, mailops.mta.postfix]
"""


def inside(host: str, *command: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["podman", "exec", "-i", f"mta-mol{WORLD}-{host}", *command],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}: {done.stderr or done.stdout}")
    return done.stdout


def send(address: str, port: int, sender: str, recipient: str, messages: int) -> dict[str, Any]:
    """Seconds from the application's connection to the end of its session, each message in a session of its own."""
    times: list[float] = []
    failed = 0
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(times) < messages and time.monotonic() < deadline:
        begin = time.monotonic()
        try:
            with smtplib.SMTP(address, port, local_hostname="app.bench.test", timeout=TIMEOUT_SECONDS) as client:
                client.sendmail(sender, [recipient], f"From: <{sender}>\r\nSubject: bench\r\n\r\nhello\r\n")
        except (OSError, smtplib.SMTPException):
            failed += 1
        times.append(time.monotonic() - begin)
        time.sleep(0.02)
    times.sort()
    return {
        "messages": len(times),
        "failed": failed,
        "median": round(times[len(times) // 2], 3),
        "p99": round(times[math.ceil(len(times) * 0.99) - 1], 3),
    }


def under_attack(address: str, port: int, *mail: str) -> dict[str, Any]:
    job = {"address": address, "port": port, "connections": CONNECTIONS, "seconds": LIMIT_SECONDS + 15}
    command = ["podman", "exec", "-i", f"mta-mol{WORLD}-{STRANGER}", "python3", "-", json.dumps(job)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdin
        assert stranger.stdout
        stranger.stdin.write((HERE / "inside/hostile.py").read_text(encoding="utf-8"))
        stranger.stdin.close()
        time.sleep(8)
        figures = send(address, port, *mail, messages=MESSAGES)
        return {**figures, "stranger": json.loads(stranger.stdout.read())}


def main() -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "molecule/shared"))
    import world

    directory = world.make(WORLD)
    fleet = yaml.safe_load((directory / "fleet.yml").read_text(encoding="utf-8"))
    address = fleet["hosts"][HOST]["listen"][0]
    sink = f"{address.rpartition('.')[0]}.200"
    results: dict[str, Any] = {}
    try:
        play(directory, "molecule/shared/create.yml", "--limit", f"{HOST},{STRANGER}")
        with tempfile.TemporaryDirectory() as elsewhere:
            playbook = Path(elsewhere, "bench.yml")
            playbook.write_text(PLAYBOOK, encoding="utf-8")
            play(directory, str(playbook))
        # A receiver on the host itself, so that nothing but the injection is measured.
        inside(HOST, "ip", "address", "add", f"{sink}/32", "dev", "lo")
        inside(HOST, "systemd-run", "--unit", "sink", "smtp-sink", "-u", "postfix", f"{sink}:25", "500")
        for table in ("with", "without"):
            if table == "without":
                inside(HOST, "systemctl", "stop", "mailops-firewall")
            for kind, name in STREAMS.items():
                stream = fleet["streams"][name]
                mail = (f"a@{stream['domain']}", f"someone@[{sink}]")
                calm = send(address, stream["port"], *mail, messages=MESSAGES)
                results[f"{kind}_{table}_firewall"] = {
                    "calm": calm,
                    "attacked": under_attack(address, stream["port"], *mail),
                }
    finally:
        if "MTA_BENCH_KEEP" not in os.environ:
            play(directory, "molecule/shared/destroy.yml")
    return {**results, "target": "p99 of an allowed application under 0.5 s, with the firewall and without"}


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
