# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PowerMTA configuration with the files that it includes, as one tree."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import (
    INCLUDE_PARENTS,
    Directive,
    Document,
    Node,
    Section,
    parse,
    unquoted,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding

_MAX_INCLUDES = 50000  # each virtual MTA includes the keys of its domains
_MAX_INCLUDE_DEPTH = 20


# --- Includes -------------------------------------------------------------------------------------------------------


class _Loader:
    def __init__(self, files: Mapping[str, str], main: str) -> None:
        self.files = {posixpath.normpath(path): text for path, text in files.items()}
        self.base = posixpath.dirname(main)
        self.findings: list[Finding] = []
        self.refused: dict[Finding, None] = {}  # each once, though a file may be included often
        self.parsed: dict[str, tuple[Node, ...]] = {}
        self.count = 0

    def read(self, path: str) -> tuple[Node, ...]:
        if path not in self.parsed:
            document = parse(self.files[path], path)
            self.parsed[path] = document.nodes
            self.findings += document.findings
        return self.parsed[path]

    def refuse(self, node: Directive, found: str, why: str, remedy: str, severity: str = ERROR) -> None:
        self.refused.setdefault(Finding(f"{node.place}: include", found, why, remedy, severity))

    def splice(self, nodes: Sequence[Node], parent: str, trail: tuple[str, ...]) -> tuple[Node, ...]:
        made: list[Node] = []
        changed = False
        for node in nodes:
            if isinstance(node, Directive) and node.key == "include":
                changed = True
                for path in self.included(node, parent, trail):
                    made += self.splice(self.read(path), parent, (*trail, path))
            elif isinstance(node, Section):
                body = self.splice(node.body, node.key, trail)
                if body is not node.body:
                    node = Section(node.tag, node.argument, body, node.place, node.comment, node.source, node.closing)
                    changed = True
                made.append(node)
            else:
                made.append(node)
        return tuple(made) if changed or not isinstance(nodes, tuple) else nodes

    def included(self, node: Directive, parent: str, trail: tuple[str, ...]) -> list[str]:
        target = unquoted(node.value)
        if parent not in INCLUDE_PARENTS:
            self.refuse(
                node,
                f"an include in <{parent}>",
                f"only these may hold one: {', '.join(sorted(INCLUDE_PARENTS))}",
                "Include it at the top level, or write its lines here",
            )
            return []
        if not target:
            self.refuse(node, "no file", "an include names what it reads", "Write the path of a file, or remove it")
            return []
        if re.match(r"https?://", target, re.IGNORECASE):
            self.refuse(
                node,
                "a file that a web server holds",
                "it was not read here, and what it says can change without a trace on this host",
                "Install it as a file and include that",
                WARNING,
            )
            return []
        path = posixpath.normpath(posixpath.join(self.base, target))
        found = self.matching(path)
        if not found:
            pattern = bool(re.search(r"[*?\[]", path))
            self.refuse(
                node,
                f"no file is at {path}" if not pattern else f"no file matches {path}",
                "PowerMTA does not start without a file that it includes"
                if not pattern
                else "the include adds nothing",
                "Install the file, or remove the include",
                WARNING if pattern else ERROR,
            )
        looping = [each for each in found if each in trail]
        if looping:
            self.refuse(
                node,
                f"it includes {looping[0]}, which led here",
                "the files include each other without an end",
                "Remove one of the includes",
            )
        found = [each for each in found if each not in trail]
        self.count += len(found)
        if found and (self.count > _MAX_INCLUDES or len(trail) > _MAX_INCLUDE_DEPTH):
            self.refuse(
                node,
                f"more than {_MAX_INCLUDES} includes, or more than {_MAX_INCLUDE_DEPTH} within each other",
                "nobody can follow them; the rest was not read",
                "Include fewer files",
            )
            return []
        return found

    def matching(self, path: str) -> list[str]:
        if path in self.files:
            return [path]
        depth = path.count("/")
        return sorted(each for each in self.files if each.count("/") == depth and fnmatchcase(each, path))


def load(files: Mapping[str, str], main: str = "/etc/pmta/config") -> Document:
    """The main file with the files that it includes in their place; each node keeps the place of its own file."""
    main = posixpath.normpath(main)
    loader = _Loader(files, main)
    if main not in loader.files:
        missing = Finding(main, "no such file", "PowerMTA reads its configuration there", "Write it")
        return Document((), (missing,))
    nodes = loader.splice(loader.read(main), "global", (main,))
    return Document(nodes, (*loader.findings, *loader.refused))
