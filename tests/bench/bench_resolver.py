# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bulk resolver against dnsperf, a C program that judges no answer, on the same servers in adjacent runs.

Three servers with one thread each, on the last core: Knot (authoritative), Unbound (recursive, everything cached),
rbldnsd (blocklists). The client, dnsperf with one socket and one thread or our resolver in a process of its own, has
the first core. Targets: at least 0.8 of dnsperf's questions a second (median of ten); 10,000 addresses aligned in 10 s
and 30,000 blocklist questions in 60 s, with every planted fault found and nothing else; 100 MB.

Needs dnsperf, knot, unbound and rbldnsd (apt-get install --no-install-recommends dnsperf knot unbound rbldnsd).
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build" / "collections"))

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, UNKNOWN, YES, Question
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns.resolver import Resolver

ROUNDS = 10
ADDRESSES = 10_000
LISTS, CHECKED = 30, 1_000
REPEAT = 2  # how often a measured run asks everything
PORTS = {"knot": 5351, "unbound": 5352, "rbldnsd": 5353}
PROGRAMS = ("dnsperf", "knotd", "unbound", "rbldnsd", "taskset")

KNOT = """
server:
  listen: 127.0.0.1@{port}
  rundir: {here}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: {here}
log:
  - target: stderr
    any: error
zone:
  - domain: bench.test
    file: {here}/forward
  - domain: 18.198.in-addr.arpa
    file: {here}/reverse
"""
UNBOUND = """
server:
  interface: 127.0.0.1
  port: {port}
  num-threads: 1
  username: ""
  chroot: ""
  directory: "{here}"
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  module-config: "iterator"
  msg-cache-size: 64m
  rrset-cache-size: 128m
  local-zone: "18.198.in-addr.arpa" nodefault
  local-zone: "test" nodefault
stub-zone:
  name: "bench.test"
  stub-addr: 127.0.0.1@{knot}
stub-zone:
  name: "18.198.in-addr.arpa"
  stub-addr: 127.0.0.1@{knot}
"""


def ip_of(number: int) -> str:
    return f"198.18.{number // 250}.{number % 250}"


def faults() -> dict[str, set[int]]:
    """Which addresses have which fault: 100 of each."""
    some = random.Random(1).sample(range(ADDRESSES), 300)
    return {"no PTR": set(some[:100]), "no A": set(some[100:200]), "wrong A": set(some[200:])}


def listings() -> set[Question]:
    dice = random.Random(2)
    return set(dice.sample(blocklist_questions(), 300))


def blocklist_questions() -> list[Question]:
    reverse = [".".join(reversed(ip_of(number).split("."))) for number in range(CHECKED)]
    return [Question(f"{name}.list{n}.bench.test", "A") for name in reverse for n in range(LISTS)]


def forward_questions() -> list[Question]:
    planted = faults()["no PTR"]
    return [Question(f"mta{n}.bench.test", "A") for n in range(ADDRESSES) if n not in planted]


def reverse_questions() -> list[Question]:
    return [Question(names.reverse_name(ip_of(n)), "PTR") for n in range(ADDRESSES)]


def write_data(here: Path) -> None:
    planted = faults()
    head = "$TTL 3600\n@ SOA ns.bench.test. root.bench.test. 1 60 60 60 3600\n@ NS ns.bench.test.\n"
    forward, reverse = [head, "ns A 127.0.0.1\n"], [head]
    for n in range(ADDRESSES):
        if n not in planted["no A"]:
            forward.append(f"mta{n} A {'203.0.113.1' if n in planted['wrong A'] else ip_of(n)}\n")
        if n not in planted["no PTR"]:
            reverse.append(f"{n % 250}.{n // 250} PTR mta{n}.bench.test.\n")
    (here / "forward").write_text("".join(forward), encoding="utf-8")
    (here / "reverse").write_text("".join(reverse), encoding="utf-8")
    for n in range(LISTS):
        lines = ["$SOA 3600 ns.bench.test root.bench.test 0 600 300 86400 300", ":127.0.0.2:listed"]
        lines += [ip_listed(question.name) for question in listings() if f".list{n}." in question.name]
        (here / f"list{n}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, questions in (
        ("knot", [*reverse_questions(), *forward_questions()]),
        ("unbound", [*reverse_questions(), *forward_questions()]),
        ("rbldnsd", blocklist_questions()),
    ):
        text = "".join(f"{question.name} {question.rtype}\n" for question in questions)
        (here / f"{name}.questions").write_text(text, encoding="utf-8")
    (here / "knot.conf").write_text(KNOT.format(port=PORTS["knot"], here=here), encoding="utf-8")
    unbound = UNBOUND.format(port=PORTS["unbound"], knot=PORTS["knot"], here=here)
    (here / "unbound.conf").write_text(unbound, encoding="utf-8")


def ip_listed(name: str) -> str:
    return ".".join(reversed(name.split(".")[:4]))


@contextmanager
def served(here: Path) -> Iterator[None]:
    # fmt: off
    commands = (
        ["knotd", "--config", str(here / "knot.conf")],
        ["unbound", "-d", "-c", str(here / "unbound.conf")],
        ["rbldnsd", "-n", "-q", "-b", f"127.0.0.1/{PORTS['rbldnsd']}", "-w", str(here),
         *[f"list{n}.bench.test:ip4set:list{n}" for n in range(LISTS)]],
    )
    # fmt: on
    core = str((os.cpu_count() or 1) - 1)
    with ExitStack() as stack:
        for command in commands:
            log = stack.enter_context((here / f"{command[0]}.log").open("w", encoding="utf-8"))
            process = subprocess.Popen(["taskset", "-c", core, *command], stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for name, port in PORTS.items():
            wait_for(name, f"127.0.0.1:{port}", here)
        yield


def wait_for(name: str, server: str, here: Path) -> None:
    question = Question(*(here / f"{name}.questions").read_text(encoding="utf-8").split("\n", 1)[0].split())
    for _attempt in range(50):
        if Resolver([server], 0.5).ask([question])[question].status != UNKNOWN:
            return
        time.sleep(0.2)
    logs = "".join(path.read_text(encoding="utf-8", errors="replace") for path in here.glob("*.log"))
    raise SystemExit(f"{name} does not answer: {logs[-500:]}")


# What runs in a process of its own


def speed(server: str, path: str) -> dict[str, Any]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    questions = [Question(*line.split()) for line in lines]
    asker = Resolver([server])
    begin, cpu = time.perf_counter(), time.process_time()
    unknown = 0
    for _turn in range(REPEAT):
        unknown += sum(answer.status == UNKNOWN for answer in asker.ask(questions).values())
    seconds, asked = time.perf_counter() - begin, REPEAT * len(questions)
    return {"rate": asked / seconds, "cpu_us": 1e6 * (time.process_time() - cpu) / asked, "unknown": unknown}


def align(server: str) -> dict[str, Any]:
    """FCrDNS of every address: PTR, then the addresses of those names."""
    begin = time.perf_counter()
    asker = Resolver([server])
    reverse = asker.ask(reverse_questions())
    forward = asker.ask(Question(name, "A") for answer in reverse.values() for name in answer.values)
    seconds = time.perf_counter() - begin
    found: dict[str, set[int]] = {"no PTR": set(), "no A": set(), "wrong A": set()}
    for n, question in enumerate(reverse_questions()):
        if reverse[question].status == NO:
            found["no PTR"].add(n)
            continue
        addresses = forward[Question(reverse[question].values[0], "A")]
        if addresses.status == NO:
            found["no A"].add(n)
        elif addresses.values != (ip_of(n),):
            found["wrong A"].add(n)
    return {"seconds": seconds, "questions": len(reverse) + len(forward), "right": found == faults(), "mb": peak_mb()}


def blocklists(server: str) -> dict[str, Any]:
    begin = time.perf_counter()
    answers = Resolver([server]).ask(blocklist_questions())
    seconds = time.perf_counter() - begin
    listed = {question for question, answer in answers.items() if answer.status == YES}
    clean = sum(answer.status == NO for answer in answers.values())
    right = listed == listings() and clean == len(answers) - len(listed)
    return {"seconds": seconds, "questions": len(answers), "right": right, "mb": peak_mb()}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WORK = {"speed": speed, "align": align, "blocklists": blocklists}


def ours(*arguments: str) -> dict[str, Any]:
    command = ["taskset", "-c", "0", sys.executable, __file__, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def dnsperf(port: int, path: Path) -> dict[str, Any]:
    # fmt: off
    command = ["taskset", "-c", "0", "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(path),
               "-c", "1", "-T", "1", "-n", str(REPEAT), "-e"]
    # fmt: on
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rate, sent, lost = (
        float(re.search(rf"{what}:\s+([0-9.]+)", text)[1])
        for what in ("Queries per second", "Queries sent", "Queries lost")
    )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"rate": rate, "cpu_us": 1e6 * cpu / sent, "unknown": int(lost)}


def compared(name: str, here: Path) -> dict[str, Any]:
    port, path = PORTS[name], here / f"{name}.questions"
    theirs, own = [], []
    dnsperf(port, path)  # what Unbound has cached then
    for turn in range(ROUNDS):
        for side in (0, 1) if turn % 2 else (1, 0):
            if side:
                own.append(ours("speed", f"127.0.0.1:{port}", str(path)))
            else:
                theirs.append(dnsperf(port, path))
    ratios = [mine["rate"] / other["rate"] for mine, other in zip(own, theirs)]
    result = {
        "ratio": round(statistics.median(ratios), 2),
        "ratio_least": round(min(ratios), 2),
        "ratio_most": round(max(ratios), 2),
        "resolver_per_second": round(statistics.median(each["rate"] for each in own)),
        "dnsperf_per_second": round(statistics.median(each["rate"] for each in theirs)),
        "resolver_cpu_us": round(statistics.median(each["cpu_us"] for each in own), 1),
        "dnsperf_cpu_us": round(statistics.median(each["cpu_us"] for each in theirs), 1),
        "unknown": sum(each["unknown"] for each in own),
        "dnsperf_lost": sum(each["unknown"] for each in theirs),
    }
    print(
        f"{name:<8} {result['resolver_per_second']:>7}/s, dnsperf {result['dnsperf_per_second']:>7}/s:"
        f" {result['ratio']:.2f}x ({result['ratio_least']:.2f} to {result['ratio_most']:.2f}; target 0.8);"
        f" CPU {result['resolver_cpu_us']} and {result['dnsperf_cpu_us']} us a question"
    )
    return result


def main() -> dict[str, Any]:
    missing = [program for program in PROGRAMS if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")]
    if missing:
        raise SystemExit(
            f"{', '.join(missing)} missing: apt-get install --no-install-recommends dnsperf knot unbound rbldnsd"
        )
    with tempfile.TemporaryDirectory(prefix="bench-resolver-") as directory:
        here = Path(directory)
        here.chmod(0o755)  # rbldnsd gives up root
        write_data(here)
        with served(here):
            ratios = {name: compared(name, here) for name in PORTS}
            aligned = ours("align", f"127.0.0.1:{PORTS['knot']}")
            checked = ours("blocklists", f"127.0.0.1:{PORTS['rbldnsd']}")
    for label, done, target in (("alignment", aligned, 10), ("blocklists", checked, 60)):
        print(
            f"{label:<10} {done['questions']} questions in {done['seconds']:.2f} s (target {target}),"
            f" {done['mb']:.0f} MB (target 100), {'all faults found, no other' if done['right'] else 'WRONG'}"
        )
    met = (
        all(each["ratio"] >= 0.8 for each in ratios.values())
        and (aligned["seconds"] < 10 and checked["seconds"] < 60)
        and (aligned["right"] and checked["right"] and max(aligned["mb"], checked["mb"]) < 100)
    )
    return {"rounds": ROUNDS, "servers": ratios, "alignment": aligned, "blocklists": checked, "met": met}


if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](*sys.argv[2:]) if sys.argv[1:] else main(), indent=2))
