# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/faults/rotation.py three times over: nine rotations of every key with mail without pause, under its faults."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> dict[str, int]:
    sys.path.insert(0, str(ROOT / "tests/faults"))
    import rotation

    proven, figures = rotation.play(int(os.environ.get("MTA_ROTATION_ROUNDS", "3")))
    if not proven:
        raise SystemExit("a message was lost or could not be verified, or a rotation did not end; see above")
    return figures
