# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""5,000 record sets in one PowerDNS zone: what the engine takes, against the bare API calls of the same round.

Half are A records, half RSA-2048 DKIM TXT. Bare means: one connection, bodies made beforehand, no comparison; the zone
is read once (whoever writes without reading destroys what others wrote) and then the PATCH requests are sent, split at
1 MB. The engine reads, compares, writes, keeps its manifest and sees that nobody else wrote. Targets: at most 2x for
the first apply, at most 1.5x of one zone read for a run that changes nothing; ``scope: changes`` reads no whole zone.

Needs root's podman and the image localhost/mta-services:bookworm; or MTA_BENCH_PDNS, a JSON object of url and api_key.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import statistics
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import RecordSet, presentation
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.plan import Wanted
from ansible_collections.mailops.mta.plugins.module_utils.providers import table
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import zones
from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Pace

SETS = 5000
ROUNDS = 5
ZONE = "bench.test"
IMAGE = "localhost/mta-services:bookworm"
CONTAINER = "mta-bench-dns"
KEY = "bench-only-key"
BODY_BYTES = 1_000_000

SETUP = f"""
set -e
cat > /etc/powerdns/pdns.conf <<END
launch=gsqlite3
gsqlite3-database=/var/lib/powerdns/bench.sqlite3
gsqlite3-pragma-synchronous=0
api=yes
api-key={KEY}
webserver=yes
webserver-address=0.0.0.0
webserver-allow-from=0.0.0.0/0
security-poll-suffix=
END
sqlite3 /var/lib/powerdns/bench.sqlite3 < /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql
chown pdns:pdns /var/lib/powerdns/bench.sqlite3
exec pdns_server --daemon=no --guardian=no
"""

results: dict[str, Any] = {}


def record_sets() -> tuple[RecordSet, ...]:
    dice = random.Random(1)
    half = SETS // 2
    addresses = [RecordSet.of(f"h{n}.{ZONE}", "A", 3600, [f"198.18.{n // 250}.{n % 250}"]) for n in range(half)]
    keys = [
        RecordSet.of(
            f"s{n}._domainkey.{ZONE}",
            "TXT",
            3600,
            [f"v=DKIM1; k=rsa; p={base64.b64encode(dice.randbytes(294)).decode()}"],
        )
        for n in range(half)
    ]
    return (*addresses, *keys)


class Bare:
    """The API and nothing else."""

    def __init__(self, access: Access) -> None:
        url = urllib.parse.urlsplit(str(access.credentials["url"]))
        self._connection = http.client.HTTPConnection(url.hostname or "", url.port or 80)
        self._headers = {"X-API-Key": str(access.credentials["api_key"]), "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        self._connection.request(method, f"/api/v1/servers/localhost/zones{path}", body, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 300 and answer.status != 404:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:200]!r}")
        return data

    def new_zone(self) -> None:
        self.call("DELETE", f"/{ZONE}.")
        self.call("POST", "", json.dumps({"name": f"{ZONE}.", "kind": "Native", "nameservers": ["ns.test."]}).encode())

    def read(self) -> None:
        json.loads(self.call("GET", f"/{ZONE}."))

    def patch(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self.call("PATCH", f"/{ZONE}.", body)


def bodies_of(sets: tuple[RecordSet, ...]) -> list[bytes]:
    bodies, rrsets, size = [], [], 0
    for each in sets:
        records = [{"content": presentation(each.type, value), "disabled": False} for value in each.values]
        rrset = {
            "name": f"{each.name}.",
            "type": each.type,
            "ttl": each.ttl,
            "changetype": "REPLACE",
            "records": records,
        }
        length = len(json.dumps(rrset))
        if size + length > BODY_BYTES:
            bodies.append(json.dumps({"rrsets": rrsets}).encode())
            rrsets, size = [], 0
        rrsets.append(rrset)
        size += length
    return [*bodies, json.dumps({"rrsets": rrsets}).encode()]


def seconds(action: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


@contextmanager
def server() -> Iterator[Access]:
    given = os.environ.get("MTA_BENCH_PDNS")
    if given:
        yield Access(ZONE, json.loads(given))
        return
    conf = Path(__file__).resolve().parents[2] / "molecule/containers.conf"
    environment = {"CONTAINERS_CONF": str(conf), **os.environ}

    def podman(*arguments: str) -> str:
        done = subprocess.run(["podman", *arguments], env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    podman("rm", "--force", "--ignore", "--time", "0", CONTAINER)
    podman("run", "--detach", "--name", CONTAINER, "--entrypoint", "sh", IMAGE, "-c", SETUP)
    try:
        ip = podman("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", CONTAINER)
        access = Access(ZONE, {"url": f"http://{ip}:8081", "api_key": KEY})
        for _attempt in range(50):
            try:
                Bare(access).call("GET", "")
                break
            except OSError:
                time.sleep(0.2)
        yield access
    finally:
        podman("rm", "--force", "--time", "0", CONTAINER)


def main() -> dict[str, Any]:
    sets = record_sets()
    bodies = bodies_of(sets)
    times: dict[str, list[float]] = {
        name: [] for name in ("read_empty", "patch", "read", "first", "same", "one_more", "quick")
    }
    with server() as access:
        bare = Bare(access)

        more = (*sets, RecordSet.of(f"more.{ZONE}", "A", 3600, ["198.18.0.1"]))

        quick = (*more, RecordSet.of(f"quick.{ZONE}", "A", 3600, ["198.18.0.2"]))

        def engine(wanted: tuple[RecordSet, ...], changed_only: bool = False) -> zones.Outcome:
            job = zones.Job(ZONE, "powerdns", lambda: table.OPEN["powerdns"](access), Wanted(wanted))
            outcome = zones.run(job, zones.Policy("bench", changed_only=changed_only), Pace())
            if outcome.findings:
                raise RuntimeError(str(outcome.findings[0]))
            return outcome

        for _round in range(ROUNDS):
            bare.new_zone()
            times["read_empty"].append(seconds(bare.read))
            times["patch"].append(seconds(lambda: bare.patch(bodies)))
            bare.new_zone()
            times["first"].append(seconds(lambda: engine(sets)))
            times["read"].append(seconds(bare.read))
            times["same"].append(seconds(lambda: engine(sets)))
            times["one_more"].append(seconds(lambda: engine(more)))
            times["quick"].append(seconds(lambda: engine(quick, changed_only=True)))
    median = {name: round(statistics.median(values), 3) for name, values in times.items()}
    bare_apply = [a + b for a, b in zip(times["read_empty"], times["patch"])]
    apply_ratio = statistics.median([a / b for a, b in zip(times["first"], bare_apply)])
    same_ratio = statistics.median([a / b for a, b in zip(times["same"], times["read"])])
    results.clear()
    results.update(
        record_sets=SETS,
        rounds=ROUNDS,
        seconds=median,
        apply_ratio=round(apply_ratio, 2),
        apply_target=2.0,
        no_change_ratio=round(same_ratio, 2),
        no_change_target=1.5,
        met=apply_ratio <= 2.0 and same_ratio <= 1.5,
    )
    rows = (
        ("bare: read the empty zone and PATCH everything", statistics.median(bare_apply)),
        ("engine: first apply", median["first"]),
        ("bare: read the full zone", median["read"]),
        ("engine: nothing to change", median["same"]),
        ("engine: one record set more", median["one_more"]),
        ("engine: one record set more, scope changes", median["quick"]),
    )
    for label, value in rows:
        print(f"{label:<50} {value:7.3f} s")
    print(f"{'first apply / bare':<50} {apply_ratio:7.2f}x (target 2.0)")
    print(f"{'no change / one read':<50} {same_ratio:7.2f}x (target 1.5)")
    return results


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
