# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells how long a host has been running, however its clock is set: which boot it is, and seconds since it."""

from __future__ import annotations

import time

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """Another text after each boot of the kernel (random(4)). Raises OSError."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def uptime() -> int:
    """Whole seconds since that boot, sleep included (clock_gettime(2)); setting the clock does not change them."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))
