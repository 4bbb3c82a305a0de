# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): the answer to a command, which the command line gives without the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import NAME, VERSION


@dataclass
class Answer:
    text: str
    data: dict[str, Any] | None = None
    code: int = 0


def version() -> Answer:
    product = {"name": "PowerMTA stand-in", "version": VERSION, "variant": "lab only, it is not PowerMTA"}
    return Answer(NAME, {"mta": {"product": product}})
