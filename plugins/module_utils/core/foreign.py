# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes from outside: texts made fit for a terminal, and JSON that cannot end the run."""

from __future__ import annotations

import json
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


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also where it is nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
