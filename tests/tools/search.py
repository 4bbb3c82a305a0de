# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the unit tests on examples, in orders and with orders of sets that the gate does not try.

usage: search.py [SECONDS [SEED]]    one round for each seed from SEED on; it stops after SECONDS, or where a test fails

A failure is no reason to repeat the gate: write what was found into the test as a fixed example.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import time

import workspace


def round_of(seed: int) -> int:
    print(f"seed {seed}; this round again: nox -s search -- 0 {seed}", flush=True)
    options = ("--hypothesis-profile=search", f"--hypothesis-seed={seed}", f"--randomly-seed={seed}")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n", "2", *options, "tests/unit"],
        cwd=workspace.ROOT,
        env=workspace.environ(PYTHONHASHSEED=str(seed)),
        check=False,
    ).returncode


def main(seconds: str = "3600", first: str = "") -> int:
    seed = int(first or secrets.randbits(32))
    end = time.monotonic() + float(seconds)
    while (code := round_of(seed)) == 0 and time.monotonic() < end:
        seed = (seed + 1) % 2**32
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
