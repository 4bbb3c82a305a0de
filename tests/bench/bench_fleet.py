# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a large fleet takes to load, and how much memory: 200 hosts, 2,000 addresses, 1,000 domains.

Target: 5 s and 400 MB for a whole ``ansible-inventory`` process.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

HOSTS, ADDRESSES, DOMAINS = 200, 2000, 1000
ROUNDS = 3


def large_fleet(hosts: int, addresses: int, domains: int) -> dict[str, Any]:
    """A legal fleet: each stream has one domain and an even part of the addresses, next to each other on its hosts."""
    each = addresses // domains
    return {
        "plugin": "mailops.mta.fleet",
        "domain": "example.com",
        "bounce_host": "bounces.example.com",
        "key_host": "mta0",
        "hosts": {f"mta{n}": {"ansible_host": f"10.{n // 250}.{n % 250}.1"} for n in range(hosts)},
        "zones": {
            "example.com": {"provider": "powerdns", "credentials": "pdns"},
            "18.198.in-addr.arpa": {"provider": "rfc2136", "credentials": "rdns"},
            **{f"customer{n}.example": {"provider": "powerdns", "credentials": "pdns"} for n in range(domains)},
        },
        "streams": {
            f"customer{n}": {
                "domain": f"mail.customer{n}.example",
                "port": 2000 + n,
                "inject_from": ["10.0.0.0/8"],
                "addresses": [
                    {
                        "ip": f"198.18.{(n * each + k) // 250}.{(n * each + k) % 250}",
                        "host": f"mta{(n * each + k) % hosts}",
                    }
                    for k in range(each)
                ],
            }
            for n in range(domains)
        },
    }


def _load(path: Path) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of one ansible-inventory process."""
    command = shutil.which("ansible-inventory", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if not command:
        raise SystemExit("ansible-inventory is not installed; run this through `make bench`")
    before = time.perf_counter()
    process = subprocess.Popen(  # the command is found above, its arguments are ours
        [command, "-i", str(path), "--host", "mta7"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"},
    )
    _pid, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"ansible-inventory refused {path}")
    return time.perf_counter() - before, usage.ru_maxrss / 1024


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        large = Path(directory, "fleet.yml")
        large.write_text(yaml.safe_dump(large_fleet(HOSTS, ADDRESSES, DOMAINS)), encoding="utf-8")
        runs = [_load(large) for _ in range(ROUNDS)]
    return {
        "fleet_load": f"{HOSTS} hosts, {ADDRESSES} addresses, {DOMAINS} domains",
        "seconds": round(statistics.median(run[0] for run in runs), 2),
        "memory_mb": round(statistics.median(run[1] for run in runs)),
        "target": "5 s, 400 MB",
        "met": all(seconds < 5 and memory < 400 for seconds, memory in runs),
    }


if __name__ == "__main__":
    print(main())
