# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM keys of 1,000 domains in two algorithms: made, published and verified, and then a day on which nothing is due.

A real signer and the key store in one container, 1,000 zones on two PowerDNS processes in another one; every key is
looked at on both. Modules are started as Ansible starts them on a host, one process each. Targets for the day without
steps: 5 s for the modules that decide and look, 15 s for the whole playbook `rotate_dkim.yml`. What signing costs a
message is measured by `bench_mta.py`.

Needs root's podman and the images localhost/mta-molecule:bookworm and localhost/mta-services:bookworm.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible
import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "build/collections"
CONTAINERS = {"CONTAINERS_CONF": str(ROOT / "molecule/containers.conf"), **os.environ}
HOST_IMAGE = os.environ.get("MTA_MOLECULE_IMAGE", "localhost/mta-molecule:bookworm")
DNS_IMAGE = "localhost/mta-services:bookworm"
NODE, DNS = "mta-bench-dkim", "mta-bench-dkim-dns"
DOMAINS = int(os.environ.get("MTA_BENCH_DOMAINS", "1000"))
ROUNDS = int(os.environ.get("MTA_BENCH_ROUNDS", "3"))
API_KEY = "bench-only-key"
STORE, SOCKET = "/var/lib/mailops/dkim", "/run/rspamd/dkim.sock"

# Two servers over one database. Neither caches, or the second would show for minutes what was there before.
DNS_SETUP = f"""
set -e
cd /etc/powerdns
cat > pdns.conf <<END
launch=gsqlite3
gsqlite3-database=/var/lib/powerdns/bench.sqlite3
gsqlite3-pragma-synchronous=0
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
security-poll-suffix=
END
cp pdns.conf pdns-second.conf
echo local-port=5300 >> pdns-second.conf
cat >> pdns.conf <<END
api=yes
api-key={API_KEY}
webserver=yes
webserver-address=0.0.0.0
webserver-allow-from=0.0.0.0/0
END
sqlite3 /var/lib/powerdns/bench.sqlite3 < /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql
chown pdns:pdns /var/lib/powerdns/bench.sqlite3
pdns_server --daemon=no --guardian=no --config-name=second &
exec pdns_server --daemon=no --guardian=no
"""


def podman(*arguments: str, text: str | None = None, check: bool = True) -> str:
    done = subprocess.run(
        ["podman", *arguments], input=text, capture_output=True, text=True, check=False, env=CONTAINERS
    )
    if check and done.returncode:
        raise SystemExit(f"podman {' '.join(arguments)[:200]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


def fleet(dns_ip: str) -> dict[str, Any]:
    domains = [f"d{number}.test" for number in range(DOMAINS)]
    zone = {
        "provider": "powerdns",
        "credentials": "pdns",
        "options": {"servers": [f"{dns_ip}:53", f"{dns_ip}:5300"], "servers_wait_seconds": 30},
    }
    return {
        "plugin": "mailops.mta.fleet",
        "domain": "bench.test",
        "bounce_host": "bounces.bench.test",
        "hosts": {"bench": {"listen": ["198.18.9.1"], "interface": "lo"}},
        "zones": dict.fromkeys(("bench.test", "18.198.in-addr.arpa", *domains), zone),
        "streams": {
            "news": {
                "domain": domains[0],
                "extra_domains": domains[1:],
                "port": 2601,
                "inject_from": ["127.0.0.0/8"],
                "return_path": {"domain": "rp.bench.test"},
                "addresses": [{"ip": "198.18.1.1", "host": "bench"}],
            }
        },
    }


def start_dns() -> str:
    podman("rm", "--force", "--ignore", "--time", "0", DNS)
    podman("run", "--detach", "--name", DNS, "--entrypoint", "sh", DNS_IMAGE, "-c", DNS_SETUP)
    ip = _address(DNS)
    for name in fleet(ip)["zones"]:
        body = json.dumps({"name": f"{name}.", "kind": "Native", "nameservers": ["ns1.test.", "ns2.test."]})
        _post(ip, body)
    return ip


def _post(ip: str, body: str) -> None:
    headers = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
    for _attempt in range(100):
        connection = http.client.HTTPConnection(ip, 8081)
        try:
            connection.request("POST", "/api/v1/servers/localhost/zones", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 201:
                return
            raise SystemExit(f"PowerDNS: {answer.status} for {body}")
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise SystemExit("PowerDNS does not start")


def start_node(key: Path) -> dict[str, str]:
    """A host; how Ansible reaches it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    podman("rm", "--force", "--ignore", "--time", "0", NODE)
    volumes = ("--volume", f"{ROOT}:{ROOT}:ro", "--volume", f"{key}.pub:/root/.ssh/authorized_keys:ro")
    options = ("--systemd", "always", "--cap-add", "NET_ADMIN", *volumes)
    podman("run", "-d", "--name", NODE, *options, HOST_IMAGE, "/lib/systemd/systemd")
    podman("exec", NODE, "systemctl", "is-system-running", "--wait", check=False)
    podman("exec", NODE, "sh", "-c", "echo nameserver 127.0.0.1 > /etc/resolv.conf")
    return {
        "ansible_host": _address(NODE),
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
    }


def _address(container: str) -> str:
    return podman("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)


class Fleet:
    """The inventory of the run, and its modules and playbooks."""

    def __init__(self, directory: Path, dns_ip: str, connection: dict[str, str]) -> None:
        self.directory = directory
        self.credentials = {"pdns": {"url": f"http://{dns_ip}:8081", "api_key": API_KEY}}
        variables = {
            "all": {"vars": {"mta_dns_credentials": self.credentials}},
            "mta": {"hosts": {"bench": connection}},
        }
        (directory / "fleet.yml").write_text(yaml.safe_dump(fleet(dns_ip)), encoding="utf-8")
        (directory / "more.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
        printed = self._ansible("ansible-inventory", "--list")
        # What an inventory says is printed as {"__ansible_unsafe": text}.
        listed = json.loads(printed, object_hook=lambda each: each.get("__ansible_unsafe", each))["_meta"]["hostvars"]
        self.control, self.host = listed["fleet"], listed["bench"]

    def _ansible(self, program: str, *arguments: str) -> str:
        command = [str(Path(sys.executable).parent / program), "-i", str(self.directory), *arguments]
        environment = {
            **CONTAINERS,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        }
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"{program} failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    def play(self, playbook: str) -> str:
        return self._ansible("ansible-playbook", f"playbooks/{playbook}")

    def module(self, name: str, on_host: bool, **arguments: Any) -> dict[str, Any]:
        paths = f"{COLLECTIONS}:{Path(ansible.__file__).parents[1]}"
        command = ["-m", f"ansible_collections.mailops.mta.plugins.modules.{name}"]
        if on_host:
            command = ["podman", "exec", "-i", "-e", f"PYTHONPATH={paths}", NODE, "python3", *command]
        else:
            command = [sys.executable, *command]
        given = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
        environment = {**CONTAINERS, "PYTHONPATH": paths}
        done = subprocess.run(command, input=given, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
        return json.loads(done.stdout)

    def rotation(self, **arguments: Any) -> dict[str, Any]:
        return self.module(
            "dkim_rotation",
            on_host=True,
            directory=STORE,
            series=self.control["mta_dkim_series"],
            hosts=self.control["mta_fleet"]["hosts"],
            zones=[zone["name"] for zone in self.control["mta_dns"]["zones"]],
            **arguments,
        )

    def looks(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        zones = self.control["mta_dns"]["zones"]
        return self.module("dkim_dns_info", on_host=False, names=state["ask"], zones=zones)["looks"]

    def publish(self, state: dict[str, Any]) -> dict[str, Any]:
        return self.module(
            "dns_records",
            on_host=False,
            owner=self.control["mta_dns"]["owner"],
            zones=self.control["mta_dns"]["zones"],
            records=self.control["mta_dns"]["records"] + state["records"],
            credentials=self.credentials,
        )

    def signer(self) -> dict[str, Any]:
        domains = self.host["mta_dkim"]["domains"]
        return self.module("dkim_signer_info", on_host=True, socket=SOCKET, domains=domains)["signer"]


class Watch:
    """Seconds of each named action, and CPU seconds: of what it starts here, and of all in the host's container."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def __call__(self, name: str, action: Callable[[], Any]) -> Any:
        cpu, begin = _cpu_seconds(), time.perf_counter()
        result = action()
        self.wall.setdefault(name, []).append(time.perf_counter() - begin)
        self.cpu.setdefault(name, []).append(_cpu_seconds() - cpu)
        print(f"{name:<50} {self.wall[name][-1]:8.2f} s, CPU {self.cpu[name][-1]:7.2f} s", flush=True)
        return result

    def medians(self, of: dict[str, list[float]]) -> dict[str, float]:
        return {name: round(statistics.median(values), 2) for name, values in of.items()}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + int(podman("stats", "--no-stream", "--format", "{{.CPUNano}}", NODE)) / 1e9


def first_keys(run: Fleet, watch: Watch) -> None:
    """The way of every key from nothing to the one that is signed with."""
    state = watch("make", run.rotation)
    looks = watch("look that nothing is there", lambda: run.looks(state))
    state = watch("decide to publish", lambda: run.rotation(evidence={"looks": looks}, serial=state["serial"]))
    watch("publish", lambda: run.publish(state))
    looks = watch("look that every server shows them", lambda: run.looks(state))
    state = watch("decide to sign", lambda: run.rotation(evidence={"looks": looks}, serial=state["serial"]))
    expect(len(state["signing"]) == 2 * DOMAINS, f"{len(state['signing'])} of {2 * DOMAINS} keys are signed with")


def quiet_day(run: Fleet, watch: Watch) -> None:
    signer = watch("dkim_signer_info", run.signer)
    expect(len(signer["signs"] or ()) == 2 * DOMAINS, f"the signer: {str(signer)[:500]}")
    state = watch("dkim_rotation, to see what to ask", run.rotation)
    looks = watch("dkim_dns_info", lambda: run.looks(state))
    evidence = {"looks": looks, "hosts": {"bench": signer}}
    state = watch("dkim_rotation, to decide", lambda: run.rotation(evidence=evidence, serial=state["serial"]))
    expect(not state["steps"], f"steps on a day without any: {state['steps'][:3]}")
    expect(not state["findings"], f"findings: {state['findings'][:3]}")
    expect(not watch("dns_records", lambda: run.publish(state))["changed"], "dns_records has changed something")


def expect(truth: bool, otherwise: str) -> None:
    if not truth:
        raise SystemExit(otherwise)


def main() -> dict[str, Any]:
    first, day = Watch(), Watch()
    try:
        with tempfile.TemporaryDirectory() as keys, tempfile.TemporaryDirectory() as directory:
            connection = start_node(Path(keys, "key"))
            run = Fleet(Path(directory), start_dns(), connection)
            first_keys(run, first)
            first("bring them to the host and sign (rotate_dkim.yml)", lambda: run.play("rotate_dkim.yml"))
            for _round in range(ROUNDS):
                quiet_day(run, day)
                out = day("rotate_dkim.yml", lambda: run.play("rotate_dkim.yml"))
                expect("changed=0" in out and "changed=1" not in out, f"a run without steps has changed: {out[-600:]}")
    finally:
        if "MTA_BENCH_KEEP" not in os.environ:
            podman("rm", "--force", "--ignore", "--time", "0", NODE, DNS)
    seconds, cpu = day.medians(day.wall), day.medians(day.cpu)
    modules = [name for name in seconds if name.startswith("dkim_")]
    total = round(sum(seconds[name] for name in modules), 2)
    return {
        "domains": DOMAINS,
        "keys": 2 * DOMAINS,
        "load": round(os.getloadavg()[1], 1),
        "first_keys_seconds": first.medians(first.wall),
        "first_keys_cpu_seconds": first.medians(first.cpu),
        "quiet_day_seconds": seconds,
        "quiet_day_cpu_seconds": cpu,
        "quiet_day_dkim_modules": {"seconds": total, "cpu_seconds": round(sum(cpu[name] for name in modules), 2)},
        "target": "on a quiet day the dkim modules 5 s, rotate_dkim.yml 15 s",
        "met": total <= 5 and seconds["rotate_dkim.yml"] <= 15,
    }


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
