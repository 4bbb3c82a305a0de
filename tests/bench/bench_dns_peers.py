# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine beside what else a user might take, on the same server in the same run.

5,000 record sets in one BIND zone: ours and octoDNS, in turn (octodns-bind with batches of 80: its own 1,000 do not fit
a message with DKIM keys). Target: at most its wall time. 100 records: one dns_records task and a loop over
community.general.nsupdate (BIND) and amazon.aws.route53 (moto, a third party's emulator). Target: a hundredth.

Needs root's podman, the image localhost/mta-services:bookworm, octodns-bind and moto in .venv.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.plan import Retire, Wanted
from ansible_collections.mailops.mta.plugins.module_utils.providers import table
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import zones
from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Pace
from bench_dns import IMAGE, ZONE, record_sets, seconds

ROUNDS = 5
LOOPED = 100
CONTAINER = "mta-bench-bind"
ROOT = Path(__file__).resolve().parents[2]
KEY = {"key_name": "bench", "key_algorithm": "hmac-sha256", "key_secret": "YmVuY2gtb25seS1zZWNyZXQtMDAwMDAwMDA="}
SETUP = f"""
set -e
cat > /etc/bind/named.conf <<END
key "{KEY["key_name"]}" {{ algorithm {KEY["key_algorithm"]}; secret "{KEY["key_secret"]}"; }};
options {{ directory "/var/cache/bind"; recursion no; dnssec-validation no; notify no; empty-zones-enable no; }};
zone "{ZONE}" {{
    type primary; file "/var/lib/bind/bench.zone";
    allow-update {{ key "{KEY["key_name"]}"; }}; allow-transfer {{ key "{KEY["key_name"]}"; }};
}};
END
printf '$TTL 60\\n@ IN SOA ns.test. h.test. 1 3600 600 86400 5\\n@ IN NS ns.test.\\n' > /var/lib/bind/bench.zone
chown bind:bind /var/lib/bind/bench.zone
exec named -g -u bind
"""


@contextmanager
def bind() -> Iterator[Access]:
    environment = {"CONTAINERS_CONF": str(ROOT / "molecule/containers.conf"), **os.environ}

    def podman(*arguments: str) -> str:
        done = subprocess.run(["podman", *arguments], env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    podman("rm", "--force", "--ignore", "--time", "0", CONTAINER)
    podman("run", "--detach", "--name", CONTAINER, "--entrypoint", "sh", IMAGE, "-c", SETUP)
    try:
        ip = podman("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", CONTAINER)
        await_port(ip, 53)
        yield Access(ZONE, {"server": ip, **KEY})
    finally:
        podman("rm", "--force", "--time", "0", CONTAINER)


def await_port(host: str, port: int) -> None:
    for _attempt in range(100):
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"nothing listens on {host} port {port}")


def ours(access: Access, wanted: tuple[RecordSet, ...]) -> None:
    job = zones.Job(ZONE, "rfc2136", lambda: table.OPEN["rfc2136"](access), Wanted(wanted))
    outcome = zones.run(job, zones.Policy("bench", retire=Retire("now"), force=True), Pace())
    if outcome.findings:
        raise RuntimeError(str(outcome.findings[0]))


def octodns(access: Access, wanted: tuple[RecordSet, ...]) -> None:
    from octodns.record import Record
    from octodns.zone import Zone
    from octodns_bind import Rfc2136Provider

    logging.disable(logging.WARNING)
    keys = {name: access.credentials[name] for name in KEY}
    server = Rfc2136Provider("bench", access.credentials["server"], update_batch_size=80, strict_supports=False, **keys)
    server.update_pcent_threshold = server.delete_pcent_threshold = 1.0
    desired = Zone(f"{ZONE}.", [])
    for each in wanted:
        data = {"type": each.type, "ttl": each.ttl, "values": [value.replace(";", "\\;") for value in each.values]}
        desired.add_record(Record.new(desired, each.name.removesuffix(f".{ZONE}"), data), lenient=True)
    plan = server.plan(desired)
    if plan:
        server.apply(plan)


def against_octodns() -> dict[str, Any]:
    sets = record_sets()
    times: dict[str, list[float]] = {name: [] for name in ("ours", "ours_same", "octodns", "octodns_same")}
    sides: list[tuple[str, Callable[[Access, tuple[RecordSet, ...]], None]]] = [("ours", ours), ("octodns", octodns)]
    for number in range(ROUNDS):
        for name, side in sides if number % 2 else sides[::-1]:
            with bind() as access:
                times[name].append(seconds(lambda: side(access, sets)))  # noqa: B023 - called before the next round
                times[f"{name}_same"].append(seconds(lambda: side(access, sets)))  # noqa: B023
    median = {name: round(statistics.median(values), 3) for name, values in times.items()}
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["octodns"]))
    same = statistics.median(a / b for a, b in zip(times["ours_same"], times["octodns_same"]))
    print(
        f"{'BIND, 5,000 record sets':<40} ours {median['ours']:.2f} s  octoDNS {median['octodns']:.2f} s  {ratio:.2f}x"
    )
    print(f"{'same again':<40} ours {median['ours_same']:.2f} s  octoDNS {median['octodns_same']:.2f} s  {same:.2f}x")
    return {"seconds": median, "first_ratio": round(ratio, 2), "same_ratio": round(same, 2), "met": ratio <= 1.0}


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks: [%s]
"""


def play(task: dict[str, Any], variables: dict[str, Any]) -> float:
    """The wall time of a whole ansible-playbook with one task."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "play.yml")
        path.write_text(PLAYBOOK % json.dumps(task), encoding="utf-8")
        Path(folder, "vars.json").write_text(json.dumps(variables), encoding="utf-8")
        command = [Path(sys.executable).parent / "ansible-playbook", path, "-i", "localhost,", "-c", "local"]
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, "-e", f"@{folder}/vars.json"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        )
        elapsed = time.perf_counter() - begin
    if done.returncode:
        print(done.stdout[-1500:])
    return elapsed


def looped_records() -> list[dict[str, Any]]:
    return [
        {"name": each.name, "type": each.type, "ttl": each.ttl, "values": list(each.values)}
        for each in [*record_sets()[:50], *record_sets()[-50:]]
    ][:LOOPED]


@contextmanager
def moto() -> Iterator[dict[str, str]]:
    port = 15990
    command = [sys.executable, ROOT / "tests/tools/moto_route53.py", "--zone", ZONE, "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port("127.0.0.1", port)
        yield {"access_key_id": "test", "secret_access_key": "test", "url": f"http://127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait()


def one_task(provider: str) -> dict[str, Any]:
    return {
        "mailops.mta.dns_records": {
            "owner": "bench",
            "zones": [{"name": ZONE, "provider": provider, "credentials": "bench"}],
            "records": "{{ records }}",
            "credentials": {"bench": "{{ access }}"},
        }
    }


def nsupdate(access: Access) -> dict[str, Any]:
    return {
        "community.general.nsupdate": {
            "server": access.credentials["server"],
            "zone": ZONE,
            "record": "{{ item.name }}.",
            "type": "{{ item.type }}",
            "ttl": "{{ item.ttl }}",
            # Longer text must be cut by the user.
            "value": "{{ ['\"' ~ item['values'][0][:250] ~ '\"' ~ (' \"' ~ item['values'][0][250:] ~ '\"'"
            " if item['values'][0] | length > 250 else '')] if item.type == 'TXT' else item['values'] }}",
            "key_name": KEY["key_name"],
            "key_algorithm": KEY["key_algorithm"],
            "key_secret": KEY["key_secret"],
        },
        "loop": "{{ records }}",
    }


def route53() -> dict[str, Any]:
    return {
        "amazon.aws.route53": {
            "state": "present",
            "overwrite": True,
            "zone": ZONE,
            "record": "{{ item.name }}",
            "type": "{{ item.type }}",
            "ttl": "{{ item.ttl }}",
            "value": "{{ ['\"' ~ item['values'][0][:250] ~ '\" \"' ~ item['values'][0][250:] ~ '\"']"
            " if item.type == 'TXT' else item['values'] }}",
            "access_key": "test",
            "secret_key": "test",
            "endpoint_url": "{{ access.url }}",
        },
        "loop": "{{ records }}",
    }


def against_loops() -> dict[str, Any]:
    records = looped_records()
    sets = tuple(RecordSet.of(each["name"], each["type"], each["ttl"], each["values"]) for each in records)
    figures: dict[str, Any] = {}

    def measure(name: str, access: Access, provider: str, loop: dict[str, Any]) -> None:
        given = {"records": records, "access": dict(access.credentials)}
        engine = seconds(lambda: run_engine(provider, access, sets))
        run_engine(provider, access, ())
        empty = play({"ansible.builtin.meta": "noop"}, {})
        task = play(one_task(provider), given)
        looped = play(loop, given)
        net_task, net_loop = max(task - empty, 0.01), looped - empty
        figures[name] = {
            "engine_seconds": round(engine, 3),
            "empty_playbook_seconds": round(empty, 2),
            "one_task_seconds": round(task, 2),
            "looped_seconds": round(looped, 2),
            "loop_over_engine": round(net_loop / engine),
            "loop_over_task": round(net_loop / net_task),
        }
        print(f"{name:<40} {figures[name]}")

    with bind() as access:
        measure("community.general.nsupdate", access, "rfc2136", nsupdate(access))
    with moto() as credentials:
        measure("amazon.aws.route53", Access(ZONE, credentials), "route53", route53())
    return figures


def run_engine(provider: str, access: Access, sets: tuple[RecordSet, ...]) -> None:
    job = zones.Job(ZONE, provider, lambda: table.OPEN[provider](access), Wanted(sets))
    outcome = zones.run(job, zones.Policy("bench", retire=Retire("now"), force=True), Pace())
    if outcome.findings:
        raise RuntimeError(str(outcome.findings[0]))


def main() -> dict[str, Any]:
    return {"octodns": against_octodns(), "looped_modules": against_loops()}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    print(json.dumps(main(), indent=2))
