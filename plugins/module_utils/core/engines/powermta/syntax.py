# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a PowerMTA configuration as a tree, and back: ``text(parse(t).nodes) == t`` for every text.

A line is blank, a comment, ``name value`` or the tag of a section. What no reader could take as any of these is kept
as a Blank and is a finding, so that the rest of the file can still be checked. A finding quotes no value: it may be a
password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Optional, Union

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding

REGEX_NAMES = frozenset({"reply", "mail-from", "rcpt-to", "header", "address", "relay-address"})
INCLUDE_PARENTS = frozenset({"global", "source", "domain", "virtual-mta", "smtp-pattern-list"})
_MAX_DEPTH = 16  # sections within sections; PowerMTA itself knows three
_MAX_REGEX_LINES = 8  # how far the end of a regex is looked for

_DIRECTIVE = re.compile(r"([A-Za-z][A-Za-z0-9.-]*|\*)(?:[ \t]+(.*))?\Z", re.DOTALL)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.-]*")
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)(?=[ \t>])([^<>]*)>\Z")
_BROKEN_TAG = re.compile(r"<[ \t]*(?:(/)[ \t]*)?([A-Za-z][A-Za-z0-9-]*)([^<>]*)(>?)")
_TAG_IN_VALUE = re.compile(r"<(/?)([A-Za-z][A-Za-z-]*)(?=[ \t>])[^<>\"]*>\Z")
_REGEX = re.compile(r"/(?:[^/\\]|\\.)*/", re.DOTALL)
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_LIST_ITEMS = re.compile(r'[^\s,<>"]+(?:[ \t]*,[ \t]*[^\s,<>"]+)*[ \t]*,?\Z')
ODD = re.compile(
    r"\{\{|\{%|<%|\$\{[A-Za-z_]|\r(?!\n)"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xa0\u2000-\u200f\u2028-\u202f\ufeff\ud800-\udfff]"
)
PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")
NOT_PLAIN = re.compile(r"[^!\x24-\x3b=?-z|}~ ]|\$\{|,\Z")
_TEMPLATES = {"{{": "}}", "{%": "%}", "<%": "%>", "${": "}"}


def _character(char: str) -> str:
    code = ord(char)
    return (
        f"the byte 0x{code - 0xDC00:02X}, which is no UTF-8"
        if 0xDC80 <= code <= 0xDCFF
        else f"the character U+{code:04X}"
    )


class Place(NamedTuple):  # there is one for each line, and a tuple is made in half the time
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Place("", 0)


@dataclass(frozen=True)
class Blank:
    """A line that says nothing: blank, a comment, or broken (which is a finding). ``text`` is without its indent."""

    text: str
    place: Place = field(default=NOWHERE, compare=False)
    source: Optional[str] = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Directive:
    """``name value``, as written; ``comment`` begins with '#' or is empty. ``source``: its lines with their ends."""

    name: str
    value: str
    place: Place = field(default=NOWHERE, compare=False)
    comment: str = ""
    source: Optional[str] = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Section:
    """A section with what stands in it. ``argument`` of a pattern-list within a pattern-list is the rule before it."""

    tag: str
    argument: str
    body: tuple[Node, ...]
    place: Place = field(default=NOWHERE, compare=False)
    comment: str = ""
    source: Optional[str] = field(default=None, compare=False, repr=False)
    closing: Optional[str] = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        return self.tag.lower()


Node = Union[Blank, Directive, Section]


@dataclass(frozen=True)
class Document:
    nodes: tuple[Node, ...]
    findings: tuple[Finding, ...]


# --- Reading --------------------------------------------------------------------------------------------------------


class _Open:
    """A section whose end is still to come."""

    def __init__(self, tag: str, argument: str, place: Place, comment: str, source: str) -> None:
        self.tag = tag
        self.key = tag.lower()
        self.argument = argument
        self.place = place
        self.comment = comment
        self.source = source
        self.body: list[Node] = []

    def closed(self, closing: Optional[str]) -> Section:
        return Section(self.tag, self.argument, tuple(self.body), self.place, self.comment, self.source, closing)


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.lines = text.split("\n")
        self.ended = self.lines[-1] == ""  # the last line has its end
        if self.ended:
            self.lines.pop()
        self.next = 0
        self.top: list[Node] = []
        self.stack: list[_Open] = []
        self.body = self.top

    def note(self, place: Place, what: str, found: str, why: str, remedy: str, severity: str = ERROR) -> None:
        where = f"{place}: {what}" if what else str(place)
        self.findings.append(Finding(where, found, why, remedy, severity))

    def source(self, first: int, end: int) -> str:
        joined = "\n".join(self.lines[first:end])
        return joined if end == len(self.lines) and not self.ended else joined + "\n"

    def parse(self) -> tuple[Node, ...]:
        lines, file = self.lines, self.file
        while self.next < len(lines):
            number = self.next
            raw = lines[number]
            self.next = number + 1
            place = Place(file, number + 1)
            source = raw + "\n" if self.ended or number + 1 < len(lines) else raw
            code, mark, comment = raw.partition("#")
            code = code.strip(" \t\r\ufeff") if number == 0 else code.strip(" \t\r")
            if mark:
                comment = "#" + comment.rstrip(" \t\r")
            if not code:
                self.body.append(Blank(comment, place, source))
                continue
            if code[0] == "<" and code[1:2] != "%":
                self.tag(code, comment, place, source)
                continue
            match = _DIRECTIVE.match(code)
            if match is None:
                self.odd(code, comment, place, source)
                continue
            name, value = match.groups()
            value = value or ""
            if '"' in value or ">" in value or value[-1:] == "," or name.lower() in REGEX_NAMES:
                self.special(name, value, comment, place, source)
            else:
                self.body.append(Directive(name, value, place, comment, source))
        while self.stack:
            self.unclosed(self.stack[-1])
        return tuple(self.top)

    def broken(self, place: Place, source: str) -> None:
        self.body.append(Blank(source.strip(" \t\r\n"), place, source))

    # -- lines that are more than a plain directive --

    def odd(self, code: str, comment: str, place: Place, source: str) -> None:
        if code[0] == "/" and code[1:2] != "/":
            self.pattern(code, comment, place, source)
        else:
            self.nameless(code, place)
            self.broken(place, source)

    def nameless(self, code: str, place: Place) -> None:
        if _TEMPLATES.get(code[:2], "\n") in code[2:]:
            return  # a finding already, as a template
        known = _NAME.match(code)
        after = code[known.end()] if known else ""
        odd = f"'{after}'" if after.isprintable() else _character(after)
        self.note(
            place,
            known.group() if known else "",
            f"{odd} right after the name" if known else "no name of a directive",
            "a line is 'name value', with a blank between them",
            "Write the name, a blank and the value, or put '#' before the line",
        )

    def pattern(self, code: str, comment: str, place: Place, source: str) -> None:
        """A line that begins with its regex, as those of a bounce-category-patterns section do."""
        match = _REGEX.match(code)
        if match is None:
            self.open_regex("/regex/", comment, place, source)
            return
        self.body.append(Directive(match.group(), code[match.end() :].strip(" \t"), place, comment, source))

    def special(self, name: str, value: str, comment: str, place: Place, source: str) -> None:
        key = name.lower()
        rest = _without_regex(key, value)
        if rest is None:
            self.open_regex(name, comment, place, source)
        elif '"' in rest and _ESCAPED.sub("", rest).count('"') % 2:
            self.open_quote(name, comment, place, source)
        elif key == "domain-macro" and value[-1:] == ",":
            self.list_of_domains(name, value, comment, place)
        elif value[-1:] == ">" and (tag := _TAG_IN_VALUE.search(value)):
            self.tag_after_text(name, value, tag, comment, place, source)
        else:
            self.body.append(Directive(name, value, place, comment, source))

    def open_quote(self, name: str, comment: str, place: Place, source: str) -> None:
        if comment.count('"'):
            self.swallowed(name, "a quoted value", place)
        else:
            self.note(
                place,
                name,
                "a quoted value that does not end",
                "a value ends with its line, and its quotes with it",
                'Close the quotes; write \\" for a quote inside them',
            )
        self.broken(place, source)

    def open_regex(self, name: str, comment: str, place: Place, source: str) -> None:
        if comment:
            self.swallowed(name, "a regex", place)
            self.broken(place, source)
            return
        end = self.end_of_regex()
        self.note(
            place,
            name,
            f"a regex that ends on line {end}" if end else "a regex that does not end",
            "a regex ends on the line where it begins; what follows is read as lines of its own",
            "Write it on one line, between / and /, with \\/ for a slash inside it",
        )
        first = place.line - 1
        self.next = end or self.next
        self.broken(place, self.source(first, self.next))

    def end_of_regex(self) -> int:
        """The number of the line on which a regex that goes over lines seems to end, or 0."""
        for number in range(self.next, min(self.next + _MAX_REGEX_LINES, len(self.lines))):
            code = self.lines[number].partition("#")[0].strip(" \t\r")
            match = _DIRECTIVE.match(code)
            if not code or code[0] in "</" or (match and match.group(1).lower() in REGEX_NAMES | {"include"}):
                return 0
            if re.search(r"(?<!\\)/(?=[ \t]|\Z)", code):
                return number + 1
        return 0

    def swallowed(self, name: str, what: str, place: Place) -> None:
        self.note(
            place,
            name,
            f"a comment that begins inside {what}",
            "'#' begins a comment wherever it stands, so the rest of the line is lost",
            "Write \\x23 for '#' in a regex; no other value can hold one",
        )

    def list_of_domains(self, name: str, value: str, comment: str, place: Place) -> None:
        """The list of a domain-macro goes on while its lines end with a comma; seen in use, never described."""
        parts, comments = [value], [comment]
        while parts[-1][-1:] == "," and self.next < len(self.lines):
            code, mark, rest = self.lines[self.next].partition("#")
            code = code.strip(" \t\r")
            if not _LIST_ITEMS.match(code) and not (mark and not code):
                break
            self.next += 1
            if code:
                parts.append(code)
            if mark:
                comments.append("#" + rest.rstrip(" \t\r"))
        value = " ".join(parts)
        if value[-1] == ",":
            self.note(
                place,
                name,
                "a list that ends with a comma",
                "the next line is no more of the list",
                "Remove the last comma, or write the domain that is missing",
            )
        comment = " ".join(each for each in comments if each)
        self.body.append(Directive(name, value, place, comment, self.source(place.line - 1, self.next)))

    # -- tags --

    def tag(self, code: str, comment: str, place: Place, source: str) -> None:
        match = _TAG.match(code)
        if match:
            closes, tag, argument = match.groups()
        elif "%>" in code.partition("<%")[2] and (match := _BROKEN_TAG.match(code)):
            closes, tag, argument = match[1], match[2], code[match.end(2) : -1]  # a template: that is a finding already
        else:
            self.broken_tag(code, comment, place, source)
            return
        if closes:
            self.close(tag, place, source)
        else:
            self.begin(tag, argument.strip(" \t"), comment, place, source)

    def tag_after_text(
        self, name: str, value: str, tag: re.Match[str], comment: str, place: Place, source: str
    ) -> None:
        before = value[: tag.start()].rstrip(" \t")
        rules = tag[2].lower() == "pattern-list" and not tag[1]
        if rules and self.stack and self.stack[-1].key == "pattern-list":
            self.begin("pattern-list", f"{name} {before}".rstrip(" "), comment, place, source, nested=True)
            return
        self.second_tag(name, place)
        if rules:
            self.begin("pattern-list", f"{name} {before}".rstrip(" "), comment, place, source, nested=True)
        else:
            self.broken(place, source)
            if tag[1] and self.stack and self.stack[-1].key == tag[2].lower():
                self.leave(None)

    def second_tag(self, what: str, place: Place) -> None:
        self.note(
            place,
            what,
            "a tag that shares its line",
            "each tag of a section stands on a line of its own",
            "Write what stands before and after the tag on lines of their own",
        )

    def broken_tag(self, code: str, comment: str, place: Place, source: str) -> None:
        match = _BROKEN_TAG.match(code)
        if match is None:
            self.note(
                place,
                "",
                "'<' without the name of a section",
                "a line that begins with '<' is a tag",
                "Write <name argument> or </name>",
            )
            self.broken(place, source)
            return
        closes, tag, argument, end = match.groups("")
        rest = code[match.end() :]
        what = f"<{closes}{tag}>"
        if rest:
            self.second_tag(what, place)
        else:
            self.note(
                place,
                what,
                "a tag that is not written <name argument>" if end else "a tag without its '>'",
                "PowerMTA does not read it as a tag",
                f"Write <{closes}{tag}{'' if closes else ' ...'}>",
            )
        if f"</{tag.lower()}" in rest.lower():
            self.broken(place, source)  # opened and closed on one line
        elif closes:
            self.close(tag, place, source)
        else:
            self.begin(tag, argument.strip(" \t"), comment, place, source)

    def begin(self, tag: str, argument: str, comment: str, place: Place, source: str, nested: bool = False) -> None:
        if not nested and self.stack and self.stack[-1].key == tag.lower():
            self.unclosed(self.stack[-1])  # no section stands in one of its own kind
        if len(self.stack) == _MAX_DEPTH:
            self.note(
                place,
                f"<{tag}>",
                f"more than {_MAX_DEPTH} sections within each other",
                "no section of PowerMTA goes so deep",
                "Close the sections before it",
            )
            self.broken(place, source)
            return
        section = _Open(tag, argument, place, comment, source)
        self.stack.append(section)
        self.body = section.body

    def leave(self, closing: Optional[str]) -> None:
        section = self.stack.pop()
        self.body = self.stack[-1].body if self.stack else self.top
        self.body.append(section.closed(closing))

    def unclosed(self, section: _Open) -> None:
        self.note(
            section.place,
            f"<{section.tag}>",
            "a section that is not closed",
            "all that follows is read as a part of it",
            f"Write </{section.tag}> where it ends",
        )
        self.leave(None)

    def close(self, tag: str, place: Place, source: str) -> None:
        key = tag.lower()
        if not self.stack:
            self.stray(tag, place, source)
            return
        if self.stack[-1].key == key or any(section.key == key for section in self.stack):
            while self.stack[-1].key != key:
                self.unclosed(self.stack[-1])
            self.leave(source)
            return
        top = self.stack[-1]
        if _resemble(key, top.key):
            self.note(
                place,
                f"</{tag}>",
                f"it closes <{top.tag}> of line {top.place.line}",
                "a section ends with the tag that it began with",
                f"Write </{top.tag}>",
            )
            self.leave(source)
            return
        self.stray(tag, place, source)

    def stray(self, tag: str, place: Place, source: str) -> None:
        self.note(
            place,
            f"</{tag}>",
            "it closes a section that is not open",
            "no tag before it opened one, or another one closed it",
            f"Remove it, or write <{tag} ...> where the section begins",
        )
        self.broken(place, source)


def _without_regex(key: str, value: str) -> Optional[str]:
    """The value without the regex that a directive of this name has, or None where the regex does not end."""
    if key not in REGEX_NAMES:
        return value
    if key == "header":
        value = value.replace("\t", " ").partition(" ")[2].lstrip(" ")
    if value[:1] != "/":
        return value
    match = _REGEX.match(value)
    return value[match.end() :] if match else None


@lru_cache(maxsize=1024)
def _resemble(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, one[:40], other[:40]).ratio() > 0.6


def _of_the_file(text: str, file: str) -> Iterator[Finding]:
    if text[:1] == "\ufeff":
        yield Finding(
            str(Place(file, 1)),
            "a byte order mark",
            "it would be part of the first name",
            "Save the file as UTF-8 without one",
        )
    if "\r\n" in text:
        yield Finding(
            str(Place(file, text.count("\n", 0, text.index("\r\n")) + 1)),
            "line ends of Windows (CR LF)",
            "the CR may be read as a part of the value",
            "Save the file with the line ends of Unix",
            WARNING,
        )


def _oddities(text: str, file: str) -> Iterator[Finding]:
    """Characters and templates that have no place in a configuration, wherever they stand; one a line."""
    line, seen, noted = 1, 0, 0
    passed: set[tuple[int, str]] = set()  # looked at already: the search goes to the end of the line
    for match in ODD.finditer(text, 1 if text[:1] == "\ufeff" else 0):
        line += text.count("\n", seen, match.start())
        seen = match.start()
        token = match[0][:2]
        if line == noted or (line, token) in passed:
            continue
        before = text[text.rfind("\n", 0, seen) + 1 : seen]
        if "#" in before and token not in "\x00\r":
            passed.add((line, token))
        elif token not in _TEMPLATES:
            noted = line
            yield _unseen(token, Place(file, line))
        elif _TEMPLATES[token] in _line_from(text, match.end()):
            noted = line
            yield _template(token, before, Place(file, line))
        else:
            passed.add((line, token))


def _line_from(text: str, at: int) -> str:
    end = text.find("\n", at)
    return text[at : end if end >= 0 else len(text)]


def _unseen(char: str, place: Place) -> Finding:
    return Finding(
        str(place),
        _character(char),
        "it cannot be seen, and is not the blank or the line end that it looks like",
        "Remove it, or write a blank",
    )


def _template(token: str, before: str, place: Place) -> Finding:
    name = _DIRECTIVE.match(before.strip(" \t"))
    return Finding(
        f"{place}: {name[1]}" if name else str(place),
        f"'{token}' of a template that was not rendered",
        "PowerMTA knows no templates and reads it as it stands",
        "Render the template, and install what it gives",
    )


def parse(text: str, file: str = "config") -> Document:
    """The tree of one file, with a finding for each line that cannot be right; it raises for no text."""
    parser = _Parser(text, file)
    nodes = parser.parse()
    return Document(nodes, (*parser.findings, *_of_the_file(text, file), *_oddities(text, file)))


def unquoted(value: str) -> str:
    """What stands between the quotes, or the value as it is."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return re.sub(r"\\([\"\\])", r"\1", value[1:-1])


_PIECE = re.compile(r"""[ \t]+|"|\\.|[^ \t"\\]+|\\""", re.DOTALL)
_REGEX_WORD = re.compile(r"/(?:[^/\\]|\\.)*/(?=[ \t]|\Z)", re.DOTALL)


def words(value: str) -> tuple[str, ...]:
    """The words of a value; blanks inside quotes and inside a /regex/ belong to their word."""
    if '"' not in value and value[:1] != "/" and " /" not in value and "\t" not in value:
        return tuple(filter(None, value.split(" ")))
    found, at, begin, inside = [], 0, 0, False
    while at < len(value):
        regex = _REGEX_WORD.match(value, at) if at == begin and value[at] == "/" else None
        piece = regex or _PIECE.match(value, at)
        if piece is None:
            raise ValueError("no piece fits")  # never: each character is one at least
        if piece[0] == '"':
            inside = not inside
        if piece[0][0] in " \t" and not inside:
            found.append(value[begin:at])
            begin = piece.end()
        at = piece.end()
    return tuple(filter(None, (*found, value[begin:])))


# --- Looking --------------------------------------------------------------------------------------------------------


def sections(nodes: Iterable[Node], tag: str) -> Iterator[Section]:
    """The sections of this kind at this level."""
    return (node for node in nodes if isinstance(node, Section) and node.key == tag)


def values(nodes: Iterable[Node], name: str) -> list[Directive]:
    """The directives of this name at this level."""
    return [node for node in nodes if isinstance(node, Directive) and node.key == name]
