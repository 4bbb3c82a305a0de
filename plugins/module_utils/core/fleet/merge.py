# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One document from the files of a fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import shown

SECTIONS = ("hosts", "zones", "streams", "receivers")


def fragments(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Any], list[Finding]]:
    """One document from the fragments of a fleet, ``[(file name, content), ...]``.

    The mappings ``hosts``, ``zones``, ``streams`` and ``receivers`` are united; everything else stands in one file.
    """
    merged: dict[str, Any] = {}
    findings: list[Finding] = []
    origin: dict[tuple[str, str], str] = {}
    for source, document in documents:
        if not isinstance(document, Mapping):
            findings.append(Finding(source, shown(document), "a mapping is expected", "Write 'key: value' lines"))
            continue
        for key, value in document.items():
            inner = isinstance(value, Mapping) and key in SECTIONS
            target = merged.setdefault(key, {}) if inner else merged
            if not isinstance(target, dict):
                continue
            for name, item in value.items() if inner else [(key, value)]:
                place = (str(key), str(name) if inner else "")
                if place in origin and not (key == "plugin" and merged[key] == value):
                    findings.append(
                        Finding(
                            f"{key}.{name}" if inner else str(key),
                            f"it stands in {origin[place]} and in {source}",
                            "each thing is said in one place",
                            "Remove one of the two",
                        )
                    )
                    continue
                origin[place] = source
                target[name] = item
    return merged, findings
