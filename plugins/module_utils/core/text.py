# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for people, and metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Labels = tuple[tuple[str, str], ...]


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


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
