# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's life in a world of its own: a stream comes by one file and goes again, and a host cannot be reached.

``python tests/faults/fleet.py`` makes the containers, plays it, and removes them. Every step says what it proves.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORLD = int(os.environ.get("MTA_FAULTS_WORLD", "8"))
STREAM = """\
---
streams:
  receipts:
    domain: receipts.acme.test
    port: 2529
    inject_from: [{gateway}/32]
    addresses:
      - {{ip: {one}, host: mta1}}
      - {{ip: {two}, host: mta2}}
"""
ENVIRONMENT = {
    "CONTAINERS_CONF": str(ROOT / "molecule/containers.conf"),
    **os.environ,
    "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build/collections"),
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
}


class Failed(Exception):
    """A step that did not prove what it says."""


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, check=False)
    if check and done.returncode:
        raise Failed(f"{' '.join(command)[:160]}:\n{done.stdout[-5000:]}\n{done.stderr[-2000:]}")
    return done


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


def prove(fact: bool, text: str) -> None:
    if not fact:
        raise Failed(text)


class World:
    def __init__(self) -> None:
        sys.path.insert(0, str(ROOT / "molecule/shared"))
        import world

        self.inventory = world.make(WORLD)
        self.fragment = self.inventory / "fleet.d" / "receipts.yml"
        listen = re.search(r"listen: \[([0-9.]+)\]", (self.inventory / "fleet.yml").read_text(encoding="utf-8"))
        prove(listen is not None, "the fleet of the world has no listener")
        a, b, c, _d = listen.group(1).split(".") if listen else ("", "", "0", "")
        self.third = int(c)
        self.prefix = f"{a}.{b}"

    def remove_fragment(self) -> None:
        shutil.rmtree(self.fragment.parent, ignore_errors=True)

    def ip(self, third: int, last: int) -> str:
        return f"{self.prefix}.{self.third + third}.{last}"

    def play(self, playbook: str, *arguments: str, check: bool = True) -> tuple[int, dict[str, dict[str, int]]]:
        """The exit code and each host's counts."""
        executable = str(Path(sys.executable).parent / "ansible-playbook")
        done = run(executable, "-i", str(self.inventory), playbook, *arguments, check=check)
        recap = re.findall(r"^(\S+)\s+: (ok=.*)$", done.stdout, re.MULTILINE)
        counts = {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", text)} for host, text in recap}
        return done.returncode, counts

    def inside(self, host: str, script: str) -> str:
        return run("podman", "exec", f"mta-mol{WORLD}-{host}", "sh", "-c", script).stdout


def changes(counts: dict[str, dict[str, int]]) -> int:
    return sum(host["changed"] for host in counts.values())


def a_stream_comes_by_one_file(world: World) -> None:
    world.fragment.parent.mkdir(exist_ok=True)
    addresses = {"gateway": world.ip(0, 1), "one": world.ip(1, 50), "two": world.ip(1, 51)}
    world.fragment.write_text(STREAM.format(**addresses), encoding="utf-8")
    world.play("playbooks/site.yml")
    world.play("playbooks/verify.yml")
    _code, again = world.play("playbooks/site.yml")
    prove(changes(again) == 0, f"a second run changed {again}")


def a_stream_with_mail_drains_first(world: World) -> None:
    world.inside("rx1", "systemctl stop receiver-simulator")
    world.inside(
        "mta1",
        "for n in 1 2 3; do printf 'From: <a@receipts.acme.test>\\nSubject: waits-%s\\n\\n.\\n' $n > /tmp/waits;"
        " smtp-source -f a@receipts.acme.test -t someone@default-receiver.test -F /tmp/waits 127.0.0.1:2529;"
        " done; sleep 2",
    )
    world.remove_fragment()
    world.play("playbooks/site.yml")
    world.play("playbooks/site.yml")
    state = world.inside("mta1", "postqueue -c /etc/postfix-receipts -j | wc -l; ss -Hltn sport = :2529 | wc -l")
    prove(state.split() == ["3", "0"], f"the drained stream should hold 3 messages and listen nowhere: {state!r}")
    gone = world.inside("mta2", "ls -d /etc/postfix-receipts 2>/dev/null | wc -l")
    prove(gone.strip() == "0", "the stream is still on the host that held no mail of it")
    prove(world.ip(1, 50) in world.inside("mta1", "ip -o addr"), "the address left before its mail")
    kept = run("podman", "exec", f"mta-mol{WORLD}-dns1", "python3", "-c", LOOKUP).stdout
    prove("v=spf1" in kept, f"the SPF record left before the mail: {kept!r}")


LOOKUP = "import dns.resolver as r; print(*r.resolve('receipts.acme.test', 'TXT'))"


def its_mail_arrives_once_and_then_it_goes(world: World) -> None:
    world.inside("rx1", "systemctl start receiver-simulator; sleep 2")
    world.inside("mta1", "postqueue -c /etc/postfix-receipts -f; sleep 5")
    lines = [json.loads(line) for line in world.inside("rx1", "cat /var/lib/receiver/seen.jsonl").splitlines()]
    arrived = sorted(str(line.get("subject")) for line in lines if str(line.get("subject")).startswith("waits-"))
    prove(arrived == ["waits-1", "waits-2", "waits-3"], f"of three messages these arrived: {arrived}")
    world.play("playbooks/site.yml")
    world.play("playbooks/site.yml")
    left = world.inside("mta1", "ls -d /etc/postfix-receipts 2>/dev/null | wc -l; ip -o addr")
    prove(left.split()[0] == "0", "an empty stream is still there")
    prove(world.ip(1, 50) not in left, "its address is still there")
    world.play("playbooks/verify.yml")


def an_unreachable_host_stops_no_other(world: World) -> None:
    run("podman", "stop", "--time", "1", f"mta-mol{WORLD}-mta2")
    code, counts = world.play("playbooks/site.yml", "--ssh-common-args", "-o ConnectTimeout=3", check=False)
    prove(code != 0, "a run with a host down ended well")
    prove(counts["mta1"]["failed"] == 0 and counts["mta1"]["ok"] > 10, f"the other host was not finished: {counts}")
    prove(counts["mta2"]["unreachable"] == 1, f"the host that is down is not named: {counts}")
    code, _counts = world.play("playbooks/verify.yml", check=False)
    prove(code != 0, "the proof passed with a host down")
    run("podman", "start", f"mta-mol{WORLD}-mta2")
    # It has another MAC address now, and the neighbours remember the old one for some seconds.
    await_port(world.ip(0, 12), 22)
    world.play("playbooks/site.yml")
    world.play("playbooks/verify.yml")


STEPS = (
    a_stream_comes_by_one_file,
    a_stream_with_mail_drains_first,
    its_mail_arrives_once_and_then_it_goes,
    an_unreachable_host_stops_no_other,
)


def main() -> int:
    world = World()
    world.remove_fragment()
    failed = 0
    try:
        world.play("molecule/shared/destroy.yml", check=False)
        for playbook in ("molecule/shared/create.yml", "molecule/shared/prepare.yml", "playbooks/site.yml"):
            begin = time.monotonic()
            world.play(playbook)
            print(f"{playbook}: {time.monotonic() - begin:.0f} s", flush=True)
        for step in STEPS:
            begin = time.monotonic()
            try:
                step(world)
                print(f"ok      {step.__name__.replace('_', ' ')}, {time.monotonic() - begin:.0f} s", flush=True)
            except Failed as error:
                failed += 1
                print(f"FAILED  {step.__name__.replace('_', ' ')}: {error}", flush=True)
    finally:
        if "MTA_FAULTS_KEEP" not in os.environ:
            world.play("molecule/shared/destroy.yml", check=False)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
