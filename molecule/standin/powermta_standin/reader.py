# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): reads a configuration, and refuses it at the first line that is wrong.

A reader of its own: it shares no code with the collection, so that one can be wrong without the other.
What directives there are, where and with what argument, stands in directives.txt.
"""

from __future__ import annotations

import glob
import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
_SIMPLE = (
    *("spool", "source", "smtp-user", "source-group", "acct-file", "virtual-mta", "virtual-mta-pool"),
    *("smtp-pattern-list", "smtp-listener", "rewrite-list", "domain-key-list", "signals-filter", "proxy", "signals"),
    *("transmissions-api-listener", "transmissions-api", "bounce-processor", "feedback-loop-processor", "dns", "vault"),
    *("mx-rollup-list", "bounce-category-patterns"),
)
# Tag: the sections in which it may stand.
SECTIONS = {
    "domain": {"global", "virtual-mta", "virtual-mta-pool"},
    "address-list": {"global", "bounce-processor", "feedback-loop-processor"},
    "email-patterns": {"bounce-processor", "feedback-loop-processor"},
    "pattern-list": {"global", "pattern-list"},
    **{tag: {"global"} for tag in _SIMPLE},
}
NAMELESS = {"dns", "mx-rollup-list", "bounce-category-patterns", "transmissions-api", "signals", "vault"}
NAMELESS |= {"bounce-processor", "feedback-loop-processor", "email-patterns"}
ONCE = {"log-file", "records", "pattern-list", "default-virtual-mta", "run-as-root", "http-mgmt-port", "pickup"}
RECORDS = {
    **{name: name for name in ("d", "b", "t", "tq", "r", "rb", "rs", "f")},
    **{"delivery": "d", "bounce": "b", "transient": "t", "transient-queue": "tq", "receipt": "r"},
    **{"remote-bounce": "rb", "remote-status": "rs", "feedback-loop": "f"},
}
UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
RATE_UNITS = {"d": 86400, "day": 86400, "h": 3600, "hr": 3600, "m": 60, "min": 60, "s": 1, "sec": 1}


class ConfigError(Exception):
    """A configuration that is refused. The text begins with "Error"."""

    def __init__(self, place: tuple[str, int], message: str) -> None:
        super().__init__(f"Error in line {place[1]} of {place[0]}: {message}")


@dataclass
class Node:
    """A directive (body is None) or a section."""

    key: str
    words: list[str]
    value: str
    place: tuple[str, int]
    body: list[Node] | None = None

    def all(self, key: str, section: bool = False) -> Iterator[Node]:
        return (node for node in self.body or () if node.key == key and (node.body is not None) == section)

    def last(self, key: str, default: str = "") -> str:
        found = [node.words[0] if node.words else "" for node in self.all(key)]
        return found[-1] if found else default


# ---- values


def interval(text: str) -> int:
    if not re.fullmatch(r"(\d+[wdhms])+|\d+", text):
        raise ValueError(f"invalid interval '{text}'")
    return sum(int(count) * UNITS.get(unit or "s", 1) for count, unit in re.findall(r"(\d+)([wdhms]?)", text))


def size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([bkmgt]?)", text.lower())
    if not found:
        raise ValueError(f"invalid size '{text}'")
    return int(found[1]) << 10 * "bkmgt".index(found[2] or "b")


def rate(text: str) -> tuple[float, int] | None:
    """Count and seconds; None: unlimited."""
    if text in ("unlimited", "0"):
        return None
    found = re.fullmatch(r"(\d+[kmgtKMGT]?)/(\d*)([a-z]+)", text)
    if not found or found[3] not in RATE_UNITS or found[1] == "0":
        raise ValueError(f"invalid rate '{text}'")
    return float(size(found[1])), int(found[2] or 1) * RATE_UNITS[found[3]]


def boolean(text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false"):
        raise ValueError(f"'{text}' is not yes or no")
    return text.lower() in ("yes", "true")


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Lenient, as in 10/8 or 0/0."""
    address, slash, bits = text.partition("/")
    if ":" not in address and re.fullmatch(r"\d+(\.\d+)*", address):
        address = ".".join((address.split(".") + ["0"] * 3)[:4]) if slash else address
    try:
        return ipaddress.ip_network(f"{address}/{bits}" if slash else address, strict=False)
    except ValueError:
        raise ValueError(f"'{text}' is not an IP address or CIDR") from None


def regex(text: str) -> re.Pattern[str]:
    """PCRE, without regard to case unless (?-i) begins it. What Python's re cannot read is refused."""
    if len(text) < 2 or text[0] != "/" or text[-1] != "/":
        raise ValueError(f"'{text}' is not a /regular expression/")
    body, flags = text[1:-1].replace("\\/", "/"), re.IGNORECASE
    if body.startswith("(?-i)"):
        body, flags = body[5:], re.RegexFlag(0)
    body = body.replace("[[:space:]]", r"\s").replace("[[:digit:]]", r"\d").replace("[[:alpha:]]", "[A-Za-z]")
    try:
        return re.compile(body, flags)
    except re.error as error:
        raise ValueError(f"invalid regular expression {text}: {error}") from None


def listener(text: str) -> tuple[str, int]:
    """1.2.3.4:25 or [2001:db8::1]:25. How PowerMTA writes the latter is not described, so bare colons will do too."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if "/" in host:
        raise ValueError("a listener on a CIDR is beyond this stand-in")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"'{text}' is not ip:port")
    ipaddress.ip_address(host)
    return host, int(port)


def integer(text: str) -> int:
    if text != "unlimited" and not text.isdigit():
        raise ValueError(f"'{text}' is not a number")
    return 0 if text == "unlimited" else int(text)


def _each(check: Callable[[str], object]) -> Callable[[list[str]], None]:
    def kind(words: list[str]) -> None:
        _count(words, 1)
        check(words[0])

    return kind


def _count(words: list[str], least: int, most: int | None = None) -> None:
    if len(words) < least:
        raise ValueError("argument missing")
    if len(words) > (most or least):
        raise ValueError(f"too many arguments: '{words[most or least]}'")


def _text(words: list[str]) -> None:
    _count(words, 1, 1000)


def _commas(words: list[str]) -> list[str]:
    return [part for word in words for part in word.split(",") if part]


def _headers(words: list[str]) -> None:
    _count(words, 1, 1000)
    for name in _commas(words):
        if not re.fullmatch(r"[!-9;-~]+", name):
            raise ValueError(f"'{name}' is not a header name")


def _intervals(words: list[str]) -> None:
    _count(words, 1)
    for part in words[0].split(","):
        interval(part)


def _rates(words: list[str]) -> None:
    _count(words, 1)
    for part in words[0].split(","):
        if not re.fullmatch(r"\d+/(d|day)", part):
            raise ValueError(f"'{part}' is not N/d")


def _source_host(words: list[str]) -> None:
    _count(words, 2)
    network(words[0])
    _host_name(words[1])


def _host_name(text: str) -> None:
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", text):
        raise ValueError(f"'{text}' is not a host name")


def _listener(words: list[str]) -> None:
    _count(words, 1, 2)
    listener(words[0])
    if words[1:] and not words[1].lower().startswith("source="):
        raise ValueError(f"'{words[1]}' is not source=NAME")


def _http_access(words: list[str]) -> None:
    _count(words, 2)
    network(words[0])
    right, *more = words[1].lower().split(",")
    if right not in ("monitor", "operator", "admin", "none") or more not in ([], ["deny-logs"]):
        raise ValueError(f"'{words[1]}' is not monitor[,deny-logs], operator, admin or none")


def _domain_key(words: list[str]) -> None:
    parts = "".join(words).split(",")
    if len(parts) != 3 or not all(parts):
        raise ValueError("argument missing" if len(parts) < 3 else "too many arguments")
    if not parts[2].startswith("{"):
        _file(parts[2:])


def _file(words: list[str]) -> None:
    _count(words, 1, 2)
    try:
        with open(words[0], "rb"):
            return
    except OSError as error:
        raise ValueError(f"cannot read {words[0]}: {error.strerror}") from None


def _macro(words: list[str]) -> None:
    _count(words, 2, 10000)
    if not re.fullmatch(r"\w+", words[0]):
        raise ValueError(f"'{words[0]}' is not a macro name")


def _mx(words: list[str]) -> None:
    _count(words, 2, 3)
    if not words[1].endswith(".rollup"):
        raise ValueError(f"'{words[1]}' does not end with .rollup")
    if words[2:] not in ([], ["rollup-by-ip"]):
        raise ValueError(f"'{words[2]}' is not rollup-by-ip")


def _reply(words: list[str]) -> None:
    _count(words, 2, 3)
    regex(words[0])
    parts = _commas(words[1:])
    names = [part.partition("=")[0] for part in parts]
    if len(set(names)) != len(names):
        raise ValueError("an action stands twice")
    for name, part in zip(names, parts):
        value = part.partition("=")[2]
        if name == "mode" and value not in ("normal", "backoff"):
            raise ValueError(f"'{part}' is not mode=normal or mode=backoff")
        if name in ("backoff-to-normal-after", "reenable-after"):
            interval(value)
        elif name not in ("mode", "skip-mx", "bounce-queue", "bounce-rcpt", "disable-source-ip", "defer-queue"):
            raise ValueError(f"unknown action '{name}'")
    if "backoff-to-normal-after" in names and "mode=backoff" not in parts:
        raise ValueError("backoff-to-normal-after without mode=backoff")
    if "reenable-after" in names and "disable-source-ip" not in names:
        raise ValueError("reenable-after without disable-source-ip")
    if {"skip-mx", "bounce-queue"} <= set(names):
        raise ValueError("skip-mx with bounce-queue")


def _result(words: list[str]) -> None:
    _count(words, 1, 3)
    if words[0].startswith("call-to:"):
        return
    for part in _commas(words):
        name, _, value = part.partition("=")
        if name == "recipient-priority":
            integer(value)
        elif name != "virtual-mta" or not value:
            raise ValueError(f"'{part}' is not virtual-mta=NAME or recipient-priority=N")


def _rule(words: list[str]) -> None:
    _count(words, 2, 4)
    if words[0].startswith("/"):
        regex(words[0])
    elif "@" not in words[0] and words[0] != "<>":  # two addresses: a rewrite-list
        raise ValueError(f"'{words[0]}' is not a /regular expression/")
    else:
        return
    _result(words[1:])


def _header_rule(words: list[str]) -> None:
    _count(words, 3, 5)
    regex(words[1])
    _result(words[2:])


def _records(words: list[str]) -> None:
    _count(words, 1, 10)
    for name in _commas(words):
        if name not in RECORDS:
            raise ValueError(f"unknown record type '{name}'")


def _record_fields(words: list[str]) -> None:
    _count(words, 2, 100)
    _records([words[0]])


def _api_key(words: list[str]) -> None:
    _count(words, 1)
    if not re.fullmatch(r"\w{32,128}", words[0], re.ASCII):
        raise ValueError("a key has 32 to 128 of A-Z, a-z, 0-9 and _")


def _enum(values: list[str]) -> Callable[[list[str]], None]:
    def kind(words: list[str]) -> None:
        _count(words, 1)
        if words[0].lower() not in values:
            raise ValueError(f"'{words[0]}' is not one of {', '.join(values)}")

    return kind


def _pair(first: Callable[[str], object], second: Callable[[str], object]) -> Callable[[list[str]], None]:
    def kind(words: list[str]) -> None:
        _count(words, 2)
        first(words[0])
        second(words[1])

    return kind


KINDS: dict[str, Callable[[list[str]], None]] = {
    "bool": _each(boolean),
    "int": _each(lambda text: text == "auto" or integer(text)),
    "interval": _each(lambda text: text == "never" or interval(text)),
    "bool-interval": _each(lambda text: text == "never" or (interval(text) if text[:1].isdigit() else boolean(text))),
    "intervals": _intervals,
    "rate": _each(rate),
    "datarate": _each(rate),
    "rates": _rates,
    "size": _each(size),
    "size-unlimited": _each(lambda text: text == "unlimited" or size(text)),
    "port": _each(lambda text: None if 0 <= integer(text) < 65536 else boolean(text)),
    "ip": _each(ipaddress.ip_address),
    "cidr": _each(network),
    "cidr-int": _pair(network, integer),
    "cidr-rate": _pair(network, rate),
    "headers": _headers,
    "word": _each(str),
    "text": _text,
    "two": lambda words: _count(words, 2),
    "three": lambda words: _count(words, 3),
    "file": _file,
    "listener": _listener,
    "source-host": _source_host,
    "http-access": _http_access,
    "domain-key": _domain_key,
    "macro": _macro,
    "mx": _mx,
    "reply": _reply,
    "rule": _rule,
    "header-rule": _header_rule,
    "records": _records,
    "record-fields": _record_fields,
    "api-key": _api_key,
}


def _table() -> dict[str, tuple[set[str], str]]:
    with open(os.path.join(HERE, "directives.txt"), encoding="utf-8") as file:
        rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    for _name, _scopes, kind in rows:
        if kind.startswith("enum:"):
            KINDS[kind] = _enum(kind[5:].split(","))
    return {name: (set(scopes.split(",")), kind) for name, scopes, kind in rows}


TABLE = _table()


# ---- lines


def split(text: str) -> list[str]:
    """Words at blanks; "quoted" text and /regular expressions/ stay whole."""
    words, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] == '"':
            found = re.compile(r'"((?:[^"\\]|\\.)*)"').match(text, at)
            if not found:
                raise ValueError("a quote does not end")
            words.append(re.sub(r"\\(.)", r"\1", found[1]))
            at = found.end()
        elif text[at] == "/" and (found := re.compile(r"/(?:[^/\\]|\\.)*/(?=\s|$)").match(text, at)):
            words.append(found[0])
            at = found.end()
        else:
            found = re.compile(r"\S+").match(text, at)
            assert found
            words.append(found[0])
            at = found.end()
    return words


def _lines(path: str, place: tuple[str, int]) -> Iterator[tuple[tuple[str, int], str]]:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(place, f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    held, start = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.partition("#")[0].strip()
        start = start if held else number
        if (held or bare.lower().startswith("domain-macro")) and bare.endswith(","):
            held += bare + " "  # a list of domains may go on in the next line
            continue
        yield (path, start), (held + bare).strip()
        held = ""
    if held:
        yield (path, start), held


def parse(main: str) -> Node:
    """The whole configuration as a tree, with includes in their places. Raises ConfigError."""
    root = Node("global", [], "", (main, 1), [])
    stack = [root]
    _parse_file(main, (main, 1), stack, [], root)
    if len(stack) > 1:
        raise ConfigError(stack[-1].place, f"<{stack[-1].key}> is not closed")
    return root


def _parse_file(path: str, place: tuple[str, int], stack: list[Node], open_files: list[str], root: Node) -> None:
    if path in open_files:
        raise ConfigError(place, f"{path} includes itself")
    for here, line in _lines(path, place):
        if not line:
            continue
        try:
            words = split(line)
            if line.startswith("<"):
                _section(line, here, stack)
            elif words[0].lower() == "include":
                _include(words, here, stack, [*open_files, path], root)
            else:
                _directive(line, words, here, stack)
        except ValueError as error:
            raise ConfigError(here, str(error)) from None


def _section(line: str, place: tuple[str, int], stack: list[Node]) -> None:
    found = re.fullmatch(r"<(/?)([a-zA-Z-]+)(?:\s+([^<>]*?))?\s*>", line)
    if not found:
        raise ValueError(f"'{line}' is not a section")
    closing, tag, argument = bool(found[1]), found[2].lower(), found[3] or ""
    if tag == "sparkpost-analytics":
        tag = "signals"
    if tag not in SECTIONS:
        raise ValueError(f"unknown section <{tag}>")
    if closing:
        if stack[-1].key != tag or len(stack) == 1:
            raise ValueError(f"</{tag}> closes nothing that is open")
        stack.pop()
        return
    if stack[-1].key not in SECTIONS[tag]:
        raise ValueError(f"<{tag}> may not stand in <{stack[-1].key}>")
    if tag not in NAMELESS and not argument and not (tag == "address-list" and stack[-1].key != "global"):
        raise ValueError("argument missing")
    node = Node(tag, split(argument) if tag != "acct-file" else [argument], argument, place, [])
    if tag == "smtp-listener":
        listener(node.words[0])
    assert stack[-1].body is not None
    stack[-1].body.append(node)
    stack.append(node)


def _include(words: list[str], place: tuple[str, int], stack: list[Node], open_files: list[str], root: Node) -> None:
    _count(words[1:], 1)
    if stack[-1].key not in TABLE["include"][0]:
        raise ValueError(f"include may not stand in <{stack[-1].key}>")
    if words[1].startswith(("http://", "https://")):
        raise ValueError("an include over HTTP is beyond this stand-in")
    path = os.path.join(os.path.dirname(open_files[0]), words[1])
    magic = glob.has_magic(path)
    files = sorted(glob.glob(path)) if magic else [path]
    depth = len(stack)
    for file in files:
        _parse_file(file, place, stack, open_files, root)
        if len(stack) != depth:
            raise ConfigError((file, 1), "a section is not closed in its own file")


def _directive(line: str, words: list[str], place: tuple[str, int], stack: list[Node]) -> None:
    section, key = stack[-1], words[0].lower()
    value = line[len(words[0]) :].strip()
    node = Node(key, words[1:], value, place)
    assert section.body is not None
    if section.key == "bounce-category-patterns" and key.startswith("/"):
        regex(words[0])
        _count(words, 2)
        node = Node("pattern", words, line, place)
    elif section.key == "pattern-list" and key == "*":
        _result(words[1:])
    elif key not in TABLE:
        raise ValueError(f"unknown directive '{words[0]}'")
    else:
        scopes, kind = TABLE[key]
        if section.key not in scopes:
            where = "at the top level" if section.key == "global" else f"in <{section.key}>"
            raise ValueError(f"'{words[0]}' may not stand {where}")
        nested = section.key == "pattern-list" and words[-1] == "<pattern-list>"
        if nested:
            words[-1] = "call-to:"
        if not words[1:]:
            raise ValueError("argument missing")
        KINDS["two" if section.key == "rewrite-list" else kind](words[1:])
        node.words = words[1:]
        if nested:
            node = Node("nested", words[:-1], value, place, [])
            section.body.append(node)
            node.key = "pattern-list"
            stack.append(node)
            return
    if key in ONCE and any(section.all(key)):
        raise ValueError(f"'{key}' stands here twice")
    section.body.append(node)
