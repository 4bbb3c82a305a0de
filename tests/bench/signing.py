# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throughput of one Postfix instance unsigned and signed with RSA-2048 and Ed25519, round by round, in one container.

The signer is set up by the role. Postfix has the settings that matter for throughput, one queue, and two listeners that
differ in the milter alone. Injector, Postfix, signer and sink share the machine.
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

from ansible_collections.mailops.mta.plugins.module_utils.core.signer import MILTER_SOCKET, POSTFIX_SETTINGS

IMAGE = os.environ.get("MTA_MOLECULE_IMAGE", "localhost/mta-molecule:bookworm")
ROUNDS = int(os.environ.get("MTA_BENCH_ROUNDS", "5"))
MESSAGES = int(os.environ.get("MTA_BENCH_MESSAGES", "2000"))
SESSIONS = "8"
LABELS = {"2601": "unsigned", "2602": "signed"}
CONTAINER = f"mta-bench-signing-{os.getpid()}"
DOMAIN = "tx.acme.test"
GOAL = 0.8
KEYS = [
    {"domain": DOMAIN, "selector": "s1", "algorithm": "rsa", "bits": 2048, "ttl": 300},
    {"domain": DOMAIN, "selector": "s1-ed25519", "algorithm": "ed25519", "bits": 256, "ttl": 300},
]
SERVICES = (
    "pickup cleanup qmgr tlsmgr rewrite bounce defer trace verify flush proxymap smtp showq error retry anvil scache"
)
PROGRAMS = {"rewrite": "trivial-rewrite", "defer": "bounce", "trace": "bounce", "retry": "error"}
PUBLIC = ("pickup", "cleanup", "qmgr", "flush", "showq")
ONE = {"pickup": ("60", "1"), "qmgr": ("300", "1"), "tlsmgr": ("1000?", "1"), "anvil": ("-", "1"), "scache": ("-", "1")}
SETTINGS = {
    "compatibility_level": "3.6",
    "queue_directory": "/var/bench/queue",
    "data_directory": "/var/bench/data",
    "maillog_file": "/var/log/bench.log",
    "relayhost": "[127.0.0.1]:2600",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "alias_maps": "",
    "in_flow_delay": "0",
    "max_use": "1000",
    "smtp_dns_support_level": "disabled",
    "smtp_host_lookup": "native",
    "smtpd_peername_lookup": "no",
    "smtpd_tls_security_level": "none",
    "smtp_tls_security_level": "none",
}

INSTALL = """printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postfix; rm /usr/sbin/policy-rc.d"""

INSIDE = r"""
import glob, json, os, subprocess, sys, time

def cpu():
    used = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            text = open(path).read()
        except OSError:
            continue
        name, fields = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
        used[name] = used.get(name, 0) + int(fields[11]) + int(fields[12])
    return used

port, count, sessions = sys.argv[1], int(sys.argv[2]), sys.argv[3]
command = ["smtp-sink", "-c", "-u", "postfix", "127.0.0.1:2600", "100"]
sink = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
time.sleep(0.3)
before, start = cpu(), time.monotonic()
source = subprocess.Popen(["smtp-source", "-s", sessions, "-m", str(count), "-f", "bounce@tx.acme.test",
                           "-t", "someone@sink.test", "-F", "/root/message.eml", "127.0.0.1:" + port])
seen, tail = 0, b""
while seen < count and time.monotonic() - start < 120:
    tail = (tail + os.read(sink.stdout.fileno(), 65536))[-200:]
    lines = tail.replace(b"\r", b"\n").split(b"\n")[:-1]
    numbers = [int(word) for line in lines[-1:] for word in line.split(b"=")[-1].split() if word.isdigit()]
    seen = max([seen, *numbers])
seconds = time.monotonic() - start
source.wait()
after = cpu()
sink.kill()
tick = 1000 / os.sysconf("SC_CLK_TCK")
used = {name: round((after[name] - before.get(name, 0)) * tick / count, 2) for name in after}
print(json.dumps({"rate": count / seconds if seen >= count else 0.0, "cpu": used}))
"""


def message() -> str:
    lines = [f"Paragraph {number}: offers for you at https://shop.acme.test/o/{number}?c=42" for number in range(14)]
    return "\n".join(
        [
            f"From: Acme <news@{DOMAIN}>",
            "To: <someone@sink.test>",
            "Subject: Offers of this week",
            "Date: Tue, 24 Nov 2026 16:00:00 +0000",
            f"Message-ID: <1@{DOMAIN}>",
            "MIME-Version: 1.0",
            f"List-Unsubscribe: <https://{DOMAIN}/u/1>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            'Content-Type: multipart/alternative; boundary="b"',
            "",
            "--b",
            "Content-Type: text/plain; charset=utf-8",
            "",
            *lines,
            "--b",
            "Content-Type: text/html; charset=utf-8",
            "",
            *(f"<p>{line}</p>" for line in lines),
            "--b--",
            "",
        ]
    )


def master() -> str:
    milter = " ".join(f"-o {name}={value}" for name, value in POSTFIX_SETTINGS.items() if "end_of" not in name)
    lines = ["127.0.0.1:2601 inet n - n - - smtpd", f"127.0.0.1:2602 inet n - n - - smtpd {milter}"]
    for service in SERVICES.split():
        wakeup, limit = ONE.get(
            service, ("-", "0" if service in ("cleanup", "bounce", "defer", "trace", "flush") else "-")
        )
        public = "n" if service in PUBLIC else "-"
        lines.append(f"{service} unix {public} - n {wakeup} {limit} {PROGRAMS.get(service, service)}")
    lines.append("postlog unix-dgram n - n - 1 postlogd")
    return "\n".join(lines) + "\n"


def podman(*arguments: str, given: str | None = None, check: bool = True) -> str:
    return subprocess.run(["podman", *arguments], input=given, check=check, capture_output=True, text=True).stdout


def put(path: str, content: str) -> None:
    podman("exec", "-i", CONTAINER, "sh", "-c", f"cat > {path}", given=content)


def set_up() -> None:
    podman("run", "--detach", "--name", CONTAINER, "--systemd", "always", "--network", "none",
           "--volume", "/var/bench", IMAGE)  # fmt: skip
    podman("exec", CONTAINER, "systemctl", "is-system-running", "--wait", check=False)
    podman("exec", CONTAINER, "sh", "-c", "echo nameserver 127.0.0.1 > /etc/resolv.conf")  # rspamadm asks for one
    podman("exec", CONTAINER, "sh", "-c", INSTALL)
    play = [
        {
            "hosts": "bench",
            "gather_facts": False,
            "vars": {
                "ansible_connection": "containers.podman.podman",
                "ansible_host": CONTAINER,
                "ansible_python_interpreter": "/usr/bin/python3",
                "dkim_key_store_host": "bench",
                "mta_dkim": {
                    "socket": MILTER_SOCKET,
                    "keys": [{name: key[name] for name in ("domain", "selector", "algorithm")} for key in KEYS],
                },
            },
            "pre_tasks": [{"mailops.mta.dkim_key": {"keys": KEYS}}],
            "roles": ["mailops.mta.dkim"],
        }
    ]
    with tempfile.TemporaryDirectory() as folder:
        playbook = Path(folder, "play.json.yml")
        playbook.write_text(json.dumps(play), encoding="utf-8")
        subprocess.run(["ansible-playbook", "-i", "bench,", str(playbook)], check=True, stdout=sys.stderr)
    podman("exec", CONTAINER, "sh", "-c", "mkdir -p /var/bench/queue /var/bench/data; chown postfix /var/bench/data")
    put("/etc/postfix/master.cf", master())
    late = {name: value for name, value in POSTFIX_SETTINGS.items() if "end_of" in name}
    put("/etc/postfix/main.cf", "".join(f"{name} = {value}\n" for name, value in {**SETTINGS, **late}.items()))
    put("/root/message.eml", message())
    put("/root/load.py", INSIDE)
    podman("exec", CONTAINER, "postfix", "start", check=False)


def measure(port: str, count: int) -> dict[str, Any]:
    out = podman("exec", CONTAINER, "python3", "/root/load.py", port, str(count), SESSIONS)
    return dict(json.loads(out.strip().splitlines()[-1]))


def main() -> dict[str, object]:
    rates: dict[str, list[float]] = {port: [] for port in LABELS}
    costs: dict[str, list[dict[str, float]]] = {port: [] for port in LABELS}
    try:
        set_up()
        for port in LABELS:
            measure(port, 100)
        for _round in range(ROUNDS):
            for port in LABELS:
                seen = measure(port, MESSAGES)
                rates[port].append(float(seen["rate"]))
                costs[port].append(seen["cpu"])
    finally:
        podman("rm", "--force", "--volumes", "--time", "0", CONTAINER, check=False)
    results: dict[str, object] = {}
    for port, label in LABELS.items():
        results[label] = {
            "messages_per_second": round(statistics.median(rates[port])),
            "rounds": [round(rate) for rate in rates[port]],
            "cpu_ms_per_message": {
                name: round(statistics.median(cost.get(name, 0) for cost in costs[port]), 2)
                for name in ("smtpd", "cleanup", "qmgr", "smtp", "rspamd")
            },
        }
    plain, signed = (rates[port] for port in LABELS)
    results["ratio_of_medians"] = round(statistics.median(signed) / statistics.median(plain), 2)
    results["median_of_ratios"] = round(statistics.median(two / one for one, two in zip(plain, signed)), 2)
    results["goal"] = GOAL
    return results


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
