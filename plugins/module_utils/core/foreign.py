# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes from outside: texts made fit for a terminal, and JSON that cannot end the run."""

from __future__ import annotations

import json
import math
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.tables import visible

LONGEST = 4000  # characters of one text that a person is shown


def printable(text: str, longest: int = LONGEST) -> str:
    """``text`` without what steers a terminal or turns the direction of writing: such characters stand as escapes.

    It is cut after ``longest`` characters.
    """
    if len(text) > longest:
        text = f"{text[:longest]} ... ({len(text)} characters)"
    return visible(text)


def shortened(text: str, longest: int) -> str:
    """At most ``longest`` characters of ``text``, cut between words: half a secret would not be known for one."""
    return text if len(text) <= longest else f"{text[:longest].rpartition(' ')[0]} ...".lstrip()


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also where it is nested too deep or holds a number without end."""
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _finite(text: str) -> float:
    """``1e999`` and ``Infinity`` are no numbers of JSON that an ``int`` could hold."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shortened(text, 20)} is no number")
    return number
