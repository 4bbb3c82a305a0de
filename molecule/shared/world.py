#!/usr/bin/env python3
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory script without hosts: copies inventories/lab to build/world-<n>, with addresses and names of its own.

So Molecule's scenarios use the lab's own fleet and never touch a lab that is up. MTA_WORLD=1..15 makes further worlds.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def translate(text: str, world: int) -> str:
    """The same inventory in 198.19.0.0/16: each world has a /20 and a /64."""
    text = re.sub(r"\b198\.18\.(\d+)\.", lambda found: f"198.19.{16 * world + int(found[1])}.", text)
    text = re.sub(r"\b(\d+)\.18\.198\.in-addr", lambda found: f"{16 * world + int(found[1])}.19.198.in-addr", text)
    text = text.replace("18.198.in-addr.arpa", "19.198.in-addr.arpa")
    text = text.replace("fd00:198:18::", f"fd00:198:19:{world:x}::" if world else "fd00:198:19::")
    text = text.replace("8.1.0.0.8.9.1.0.0.0.d.f.ip6.arpa", "9.1.0.0.8.9.1.0.0.0.d.f.ip6.arpa")
    return text.replace("mta-lab", f"mta-mol{world}")


def make(world: int) -> Path:
    source, target = TOP / "inventories/lab", TOP / f"build/world-{world}"
    wanted = {target / path.relative_to(source): path for path in sorted(source.rglob("*.yml"))}
    for stale in set(target.rglob("*.yml")) - set(wanted):
        stale.unlink()
    for place, path in wanted.items():
        text = translate(path.read_text(encoding="utf-8"), world)
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
    return target


if __name__ == "__main__":
    number = int(os.environ.get("MTA_WORLD", "0"))
    if not 0 <= number <= 15:
        sys.exit("MTA_WORLD is a number from 0 to 15")
    make(number)
    print('{"_meta": {"hostvars": {}}}')
