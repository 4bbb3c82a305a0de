# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and texts for people, and metrics for Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

Labels = tuple[tuple[str, str], ...]

# Printable by their category, and yet nothing to see: joiners, fillers, variation selectors, the blank of Braille.
_IGNORABLE = frozenset((*"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0", *map(chr, range(0xFE00, 0xFE10))))


def columns(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of equal columns below their titles."""
    listed = [tuple(titles), *map(tuple, rows)]
    width = [max(map(len, column)) for column in zip(*listed)]
    made = ["  ".join(cell.ljust(size) for cell, size in zip(row, width)).rstrip() for row in listed]
    return [made[0], "-" * len(made[0]), *made[1:]]


def exposition(gauges: Mapping[str, str], samples: Iterable[tuple[str, Labels, float]]) -> str:
    """Prometheus text format 0.0.4, for the textfile collector. ``gauges`` names each metric and says what it is."""
    by_name: dict[str, dict[Labels, float]] = {name: {} for name in gauges}
    for name, labels, value in samples:
        by_name[name][labels] = value
    found = []
    for name, values in by_name.items():
        if values:
            found += [f"# HELP {name} {gauges[name]}", f"# TYPE {name} gauge"]
            found += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in values.items()]
    return "".join(f"{line}\n" for line in found)


_LABEL = r'[a-z_]+="(?:[^"\\]|\\["\\n])*"'
_VALUE = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_SAMPLE = re.compile(rf"([a-z_]+)(?:\{{{_LABEL}(?:,{_LABEL})*\}})? {_VALUE}\Z")


def is_exposed(gauges: Mapping[str, str], line: str) -> bool:
    """Whether `exposition` of ``gauges`` could have written ``line``."""
    if line.startswith("#"):
        return any(line in (f"# HELP {name} {what}", f"# TYPE {name} gauge") for name, what in gauges.items())
    sample = _SAMPLE.match(line)
    return sample is not None and sample[1] in gauges and line.isprintable()


def unseen(text: str) -> Optional[str]:
    """The first character of ``text`` that prints as nothing or turns what follows (U+202E), as ``U+202E``, or None."""
    return next((f"U+{ord(each):04X}" for each in text if not _seen(each)), None)


def visible(text: str) -> str:
    """``text`` with each such character written out, a line break as ``\\n``."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(each if _seen(each) else each.encode("unicode_escape").decode() for each in text)


def _seen(character: str) -> bool:
    # Not printable are controls, format characters (bidirectional and zero-width marks among them) and line separators.
    return character.isprintable() and character not in _IGNORABLE


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
