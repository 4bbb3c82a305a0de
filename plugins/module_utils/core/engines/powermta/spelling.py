# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How values are spelt in a PowerMTA configuration: patterns, durations, rates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# ---- values


def rollup(group: Mapping[str, Any]) -> str:
    return f"{group['name']}.rollup"


def regex(pattern: str) -> str:
    """Between slashes; '#' would begin a comment even here."""
    return "/" + re.sub(r"(?<!\\)/", r"\\/", pattern).replace("\\#", "#").replace("#", r"\x23") + "/"


def escaped(domain: str) -> str:
    return domain.replace(".", r"\.")


def interval(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def rate(delay_seconds: int) -> str:
    """One message each so many seconds, in the units that every version reads; rounded to the slower side."""
    if not delay_seconds:
        return "unlimited"
    for unit, length in (("s", 1), ("m", 60)):
        if delay_seconds <= length and length % delay_seconds == 0:
            return f"{length // delay_seconds}/{unit}"
    return f"{max(1, 3600 // delay_seconds)}/h"


def yes(value: bool) -> str:
    return "yes" if value else "no"
