# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every benchmark, one after the other: `make bench`, or `run.py NAME ...` for some. Figures also go to a JSON file."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

BENCHES = ("fleet", "dns", "dns_peers", "resolver", "mta", "powermta", "dkim", "site", "hostile", "rotation")
HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"
RESULTS = BUILD / "bench.json"


def main() -> int:
    sys.path[:0] = [str(HERE), str(BUILD / "collections")]
    names = sys.argv[1:] or BENCHES
    unknown = set(names) - set(BENCHES)
    if unknown:
        print(f"No benchmark is called {', '.join(sorted(unknown))}. Choose from {', '.join(BENCHES)}.")
        return 2
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    failed = []
    for name in names:
        print(f"== {name} ==", flush=True)
        begin = time.perf_counter()
        try:
            results[name] = importlib.import_module(f"bench_{name}").main()
        except (Exception, SystemExit) as error:
            print(f"{name} did not finish: {error}")
            failed.append(name)
            continue
        print(json.dumps(results[name], indent=2))
        print(f"-- {time.perf_counter() - begin:.0f} s", flush=True)
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(names) - len(failed)} of {len(names)} benchmarks finished; figures in {RESULTS}.")
    print("Next: compare them with docs/performance.md.")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
