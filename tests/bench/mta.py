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
            }
            for n in range(1, 6)
        },
    }


PLAYBOOK = """\
- hosts: mta
  gather_facts: false
  tasks:
    - mailops.mta.dkim_key:
        keys: "{{ hostvars['fleet'].mta_dkim_keys }}"
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
    """Run a Python script in the node and return what it prints."""
    return podman("exec", "-i", NODE, "python3", "-", *arguments, text=script)


def start() -> None:
    podman("rm", "--force", "--ignore", "--time", "0", NODE)
    podman("run", "-d", "--name", NODE, "--network", "none", "--systemd", "always", IMAGE, "/lib/systemd/systemd")
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
    inside(SETUP, SINK, DEFERRING)


# Debian's own configuration as a further instance on port 2600; stream s5 loses its milter and so is the unsigned one.
SETUP = """
import shutil, subprocess, sys
sink, deferring = sys.argv[1:]
run = lambda *command: subprocess.run(command, check=True, capture_output=True)
run("postmulti", "-e", "init")
run("postmulti", "-e", "create", "-I", "postfix-stock")
shutil.copy("/usr/share/postfix/main.cf.debian", "/etc/postfix-stock/main.cf")
with open("/usr/share/postfix/master.cf.dist") as source, open("/etc/postfix-stock/master.cf", "w") as target:
    target.write(source.read().replace("\\nsmtp      inet", "\\n127.0.0.1:2600 inet"))
for setting in (
    "queue_directory=/var/spool/postfix-stock", "data_directory=/var/lib/postfix-stock", "multi_instance_enable=yes",
    "multi_instance_name=postfix-stock", "inet_interfaces=loopback-only", "myhostname=stock.bench.test",
    "mynetworks=127.0.0.0/8", "mydestination=", "smtp_tls_security_level=may", "smtp_bind_address=198.18.9.1",
    "maillog_file=/var/log/stock.log",
):
    run("postconf", "-c", "/etc/postfix-stock", "-e", setting)
run("postconf", "-c", "/etc/postfix-stock", "-Me", "postlog/unix-dgram=postlog unix-dgram n - n - 1 postlogd")
run("postmulti", "-i", "postfix-stock", "-p", "start")
run("postmulti", "-i", "postfix-s5", "-x", "postconf", "-e", "smtpd_milters=", "non_smtpd_milters=")
run("postmulti", "-i", "postfix-s5", "-p", "reload")
for ip, extra in ((sink, []), (deferring, ["-r", "RCPT"])):
    run("systemd-run", "--unit", "sink-" + ip.replace(".", "-"), "smtp-sink", "-u", "postfix", *extra, ip + ":25", "500")
"""

# Prints the seconds from the first message until the last queue is empty.
THROUGHPUT = """
import json, os, subprocess, sys, time
job = json.loads(sys.argv[1])
procs = []
def queued(instance):
    for part in ("maildrop", "incoming", "active", "deferred"):
        for _place, _folders, files in os.walk("/var/spool/" + instance + "/" + part):
            if files:
                return True
    return False
for stream in job["streams"]:
    name = "/tmp/message-" + stream["sender"]
    with open(name, "w") as message:
        message.write("From: <%s>\\nTo: <someone@example.com>\\nSubject: figures of today\\nMessage-ID: <1@bench.test>\\n"
            "Date: Tue, 24 Nov 2026 12:00:00 +0000\\nMIME-Version: 1.0\\nContent-Type: text/plain\\n\\n" % stream["sender"]
            + "All is well, and here is a line of text.\\n" * 40)
    stream["file"] = name
begin = time.perf_counter()
for stream in job["streams"]:
    procs.append(subprocess.Popen(["smtp-source", "-s", str(stream["sessions"]), "-m", str(stream["messages"]),
        "-f", stream["sender"], "-t", "someone@[" + job["sink"] + "]", "-F", stream["file"], "127.0.0.1:%d" % stream["port"]]))
if any(proc.wait() for proc in procs):
    sys.exit("smtp-source failed")
while any(queued(stream["instance"]) for stream in job["streams"]):
    if time.perf_counter() - begin > 300:
        sys.exit("the queue does not empty")
    time.sleep(0.02)
print(time.perf_counter() - begin)
"""

LATENCY = """
import asyncio, json, smtplib, statistics, sys, threading, time
job = json.loads(sys.argv[1])
arrived, sent = {}, {}
async def session(reader, writer):
    writer.write(b"220 timing ESMTP\\r\\n")
    data = False
    while line := await reader.readline():
        if data:
            if line.lower().startswith(b"subject:"):
                arrived.setdefault(line.split()[1].decode(), time.perf_counter())
            data = line != b".\\r\\n"
            if data:
                continue
            writer.write(b"250 ok\\r\\n")
        elif line[:4].upper() == b"DATA":
            data = True
            writer.write(b"354 go\\r\\n")
        elif line[:4].upper() == b"QUIT":
            writer.write(b"221 bye\\r\\n")
            break
        else:
            writer.write(b"250 ok\\r\\n")
    writer.close()
def serve():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.start_server(session, job["timing"], 25))
    loop.run_forever()
threading.Thread(target=serve, daemon=True).start()
time.sleep(0.5)
for number in range(job["messages"]):
    name = "n%d" % number
    begin = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", job["port"]) as client:
        sent[name] = time.perf_counter()
        client.sendmail(job["sender"], ["someone@[" + job["timing"] + "]"],
            "From: <%s>\\r\\nSubject: %s\\r\\nMessage-ID: <%s@bench.test>\\r\\n\\r\\nhello\\r\\n" % (job["sender"], name, name))
    time.sleep(max(0, 0.2 - (time.perf_counter() - begin)))
deadline = time.perf_counter() + 30
while len(arrived) < len(sent) and time.perf_counter() < deadline:
    time.sleep(0.05)
times = sorted(arrived[name] - sent[name] for name in arrived)
print(json.dumps({"sent": len(sent), "arrived": len(arrived), "median": statistics.median(times), "p99": times[int(len(times) * 0.99)]}))
"""


def throughput(*ports: int, messages: int = MESSAGES) -> float:
    """Messages a second over the streams on these ports together; 2600 is the stock instance."""
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
    return messages / float(inside(THROUGHPUT, json.dumps({"sink": SINK, "streams": streams})))


def latency(messages: int = 60) -> dict[str, float]:
    job = {"timing": TIMING, "port": 2601, "sender": "a@s1.bench.test", "messages": messages}
    return json.loads(inside(LATENCY, json.dumps(job)))


def defer(count: int) -> int:
    """Fill stream s4 with messages for a receiver that answers 450; the number that waits in its deferred queue."""
    script = """
import os, subprocess, sys, time
count, deferring = int(sys.argv[1]), sys.argv[2]
subprocess.run(["smtp-source", "-s", "20", "-m", str(count), "-f", "a@s4.bench.test",
    "-t", "someone@[" + deferring + "]", "127.0.0.1:2604"], check=True)
def waiting():
    return sum(len(files) for _p, _d, files in os.walk("/var/spool/postfix-s4/deferred"))
end = time.time() + 240
while time.time() < end and waiting() < count * 0.98:
    time.sleep(1)
print(waiting())
"""
    return int(inside(script, str(count), DEFERRING))


def _ratio(over: list[float], under: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(over, under)), 2)


def main() -> dict[str, Any]:
    try:
        start()
        kinds: dict[str, tuple[int, ...]] = {
            "stock": (2600,),
            "unsigned": (2605,),
            "signed": (2601,),
            "four": (2601, 2602, 2603, 2604),
        }
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for kind, ports in kinds.items():
            throughput(*ports, messages=200)  # warm caches and processes
        for _round in range(ROUNDS):
            for kind, ports in kinds.items():
                rates[kind].append(throughput(*ports))
        idle = latency()
        waiting = defer(DEFERRED)
        busy = latency()
    finally:
        if "MTA_BENCH_KEEP" not in os.environ:
            podman("rm", "--force", "--ignore", "--time", "0", NODE)
    return {
        "messages_per_second": {kind: round(statistics.median(values)) for kind, values in rates.items()},
        "unsigned_over_stock": _ratio(rates["unsigned"], rates["stock"]),
        "signed_twice_over_unsigned": _ratio(rates["signed"], rates["unsigned"]),
        "four_streams_over_one": _ratio(rates["four"], rates["signed"]),
        "deferred_elsewhere": waiting,
        "latency_idle": idle,
        "latency_with_deferred": busy,
        "latency_ratio": round(busy["median"] / idle["median"], 2),
        "target": "unsigned/stock 1.0, signed/unsigned 0.8, four/one 0.9, latency at most 1.5",
    }


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
