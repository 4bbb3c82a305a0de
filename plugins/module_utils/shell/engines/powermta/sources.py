# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PowerMTA configuration somebody wrote, with the files that it includes, from this host's disk."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import syntax
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding

_MOST_BYTES = 16 << 20
_MOST_FILES = 20000


def read(main: str, given: Mapping[str, str], whole: str = "") -> tuple[dict[str, str], list[Finding]]:
    """The texts by their paths, ``main`` first, and what could not be read. ``given`` texts are not looked for on disk.

    What an include names and nobody has is left out, which the check reports; nothing is fetched over the network.
    All files of the directory ``whole`` are given, whatever lies there now.
    """
    held = {os.path.normpath(path): text for path, text in given.items()}
    main = os.path.normpath(main)
    found: dict[str, str] = {}
    findings: list[Finding] = []
    waiting = [main]
    while waiting and len(found) < _MOST_FILES:
        path = waiting.pop(0)
        if path in found:
            continue
        text = held[path] if path in held else None if _is_in(path, whole) else _read(path, findings)
        if text is None:
            continue
        found[path] = text
        for named in _included(syntax.parse(text, path).nodes):
            pattern = os.path.normpath(os.path.join(os.path.dirname(main), named))
            matching = {
                *(each for each in glob.glob(pattern) if not _is_in(each, whole)),
                *(each for each in held if fnmatch.fnmatchcase(each, pattern)),
            }
            waiting += sorted(matching) or [pattern]
    return found, findings


def _is_in(path: str, directory: str) -> bool:
    return bool(directory) and os.path.dirname(path) == directory


def _included(nodes: Iterable[syntax.Node]) -> Iterator[str]:
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, syntax.Section):
            waiting += node.body
        elif isinstance(node, syntax.Directive) and node.key == "include" and "://" not in node.value:
            yield syntax.unquoted(node.value)


def _read(path: str, findings: list[Finding]) -> Optional[str]:
    """The text of a regular file; an empty one where it cannot be read; None where there is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return _refused(path, "it is no file", findings)
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return _refused(path, getattr(error, "strerror", None) or str(error), findings)
    if len(content) > _MOST_BYTES:
        return _refused(path, f"it has more than {_MOST_BYTES >> 20} MB", findings)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        findings.append(
            Finding(
                f"{path}:{line}",
                f"the byte 0x{content[error.start]:02x}",
                "a configuration is UTF-8, and this is none; it was read as Latin-1",
                "Save the file as UTF-8",
                WARNING,
            )
        )
        return content.decode("latin-1")


def _refused(path: str, why: str, findings: list[Finding]) -> str:
    findings.append(Finding(path, "not read", why, "Run as root, and name a text file"))
    return ""
