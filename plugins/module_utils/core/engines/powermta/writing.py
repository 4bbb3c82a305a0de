# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of a PowerMTA configuration as text, and directives and sections that read back as they were meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import syntax
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import (
    REGEX_NAMES,
    Blank,
    Directive,
    Node,
    Section,
    parse,
)

INDENT = "    "


# --- Building and printing ------------------------------------------------------------------------------------------


def text(nodes: Iterable[Node]) -> str:
    """What was read as it was written, what was built with four blanks of indent a level."""
    made: list[str] = []
    _print(nodes, "", False, made)
    return "".join(made)


def _print(nodes: Iterable[Node], indent: str, nested: bool, made: list[str]) -> None:
    for node in nodes:
        if made and made[-1][-1:] != "\n":
            made.append("\n")  # something was added after a last line that had no end
        if node.source is not None:
            if node.source:
                made.append(node.source)
        elif isinstance(node, Section):
            tag = f"{node.argument} <{node.tag}>" if nested and node.key == "pattern-list" else _tag(node)
            made.append(f"{indent}{tag}{_after(node.comment)}\n")
        elif isinstance(node, Directive):
            value = f" {node.value}" if node.value else ""
            made.append(f"{indent}{node.name}{value}{_after(node.comment)}\n")
        else:
            made.append(f"{indent}{node.text}\n" if node.text else "\n")
        if isinstance(node, Section):
            _print(node.body, indent + INDENT, node.key == "pattern-list", made)
            if node.closing:
                made.append(node.closing)
            elif node.source is None:
                made.append(f"{indent}</{node.tag}>\n")


def _tag(section: Section) -> str:
    return f"<{section.tag} {section.argument}>" if section.argument else f"<{section.tag}>"


def _after(comment: str) -> str:
    return f" {comment}" if comment else ""


def directive(name: str, *values: object) -> Directive:
    """``name value value``; True and False are yes and no. ValueError where no line can carry it."""
    words_ = ("yes" if value is True else "no" if value is False else str(value).strip(" \t") for value in values)
    made = Directive(name, " ".join(word for word in words_ if word))
    if not _is_plain(name, made.value) or name.lower() in REGEX_NAMES:
        _must_read_back(made)
    return made


def section(tag: str, argument: str, body: Iterable[Node]) -> Section:
    """A section; in a pattern-list, one with the tag pattern-list is what its rule ``argument`` leads to."""
    made = Section(tag, argument.strip(" \t"), tuple(body))
    probe = Section(made.tag, made.argument, ())
    if made.key == "pattern-list" and (" " in made.argument or "/" in made.argument):
        _must_read_back(Section("pattern-list", "x", (probe,)))
    elif not _is_plain(tag, made.argument):
        _must_read_back(probe)
    return made


def remark(text: str) -> Blank:
    """A comment of one line, or an empty line."""
    text = text.strip(" \t")
    made = Blank(f"# {text}" if text else "")
    _must_read_back(made)
    return made


def _is_plain(name: str, value: str) -> bool:
    """Whether it is read back for sure; most lines are, and reading takes its time."""
    return syntax.PLAIN_NAME.match(name) is not None and not syntax.NOT_PLAIN.search(value)


@lru_cache(maxsize=4096)
def _must_read_back(node: Node) -> None:
    document = parse(text((node,)))
    if document.nodes != (node,) or document.findings:
        name = node.text if isinstance(node, Blank) else node.tag if isinstance(node, Section) else node.name
        raise ValueError(f"no line can carry this value of '{name}'")


def quoted(value: str) -> str:
    """The value as one word: in double quotes where it needs them."""
    if "#" in value or "\n" in value or "\r" in value or syntax.ODD.search(value):
        raise ValueError("a quoted value can hold neither '#' nor a line end, a control character or a template")
    if value and not re.search(r"[ \t\"\\<>]", value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
