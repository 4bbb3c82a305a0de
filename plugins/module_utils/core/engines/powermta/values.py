# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of a PowerMTA configuration: what each type allows, and what durations, sizes, rates and patterns mean.

A type is a name (``interval``), a name with arguments (``int(0,100)``, ``enum(yes,no)``), alternatives
(``interval|enum(never)``), or one of these for each word of the value (``cidr rate``); ``?`` marks a last word that
may be missing. Reasons never repeat the value: it may be a password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Callable, Optional, Union
from warnings import catch_warnings, simplefilter

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import syntax

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Check = Callable[[str], bool]

_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_RATE_SECONDS = {"d": 86400, "day": 86400, "h": 3600, "hr": 3600, "m": 60, "min": 60, "s": 1, "sec": 1}
_SIZES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_INTERVAL = re.compile(r"(?:[0-9]{1,9}[wdhms])+\Z")
_RATE = re.compile(r"([0-9]{1,12})/([0-9]{1,9})?(day|d|hr|h|min|m|sec|s)\Z", re.IGNORECASE | re.ASCII)
_SIZE = re.compile(r"([0-9]{1,18})([bkmgt]?)\Z", re.IGNORECASE | re.ASCII)
_LABEL = r"[^\W_](?:[\w-]*[^\W_])?|_[\w-]+"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL})(?:\.(?:{_LABEL}))*\.?\Z")
_MACRO = re.compile(r"\$([A-Za-z0-9_]+)")
_MAX_EXPANDED = 50000  # names that are made for one pattern
_MAX_MACRO_DEPTH = 20


# --- What the values mean -------------------------------------------------------------------------------------------


def interval_seconds(text: str) -> int:
    """``1w2d12h`` in seconds; a bare number is refused, but for 0."""
    if text == "0":
        return 0
    if not _INTERVAL.match(text.lower()):
        raise ValueError("an interval such as 90s or 4d12h is expected")
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)(.)", text.lower()))


def size_bytes(text: str) -> int:
    """``10m`` in bytes."""
    match = _SIZE.match(text)
    if not match:
        raise ValueError("a size such as 500000, 10M or 5G is expected")
    return int(match.group(1)) * _SIZES[match.group(2).lower()]


def rate(text: str) -> tuple[int, int]:
    """``83/10m`` as (83, 600): so many in so many seconds."""
    match = _RATE.match(text)
    if not match or int(match.group(1)) == 0 or (match.group(2) and int(match.group(2)) == 0):
        raise ValueError("a rate such as 100/h or 83/10m is expected")
    return int(match.group(1)), int(match.group(2) or 1) * _RATE_SECONDS[match.group(3).lower()]


def network(text: str) -> Network:
    """A network as PowerMTA writes it: octets at the end may be missing (``10/8``, ``0/0``)."""
    address, slash, length = text.partition("/")
    if slash and re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}", address):
        address += ".0" * (3 - address.count("."))
    if slash and not re.fullmatch(r"[0-9]{1,3}", length):
        raise ValueError("a network such as 10.0.0.0/8 or ::1 is expected")
    try:
        return ipaddress.ip_network(f"{address}/{length}" if slash else address, strict=False)
    except ValueError:
        raise ValueError("a network such as 10.0.0.0/8 or ::1 is expected") from None


def expand_macros(macros: Mapping[str, tuple[str, ...]], pattern: str) -> tuple[str, ...]:
    """The patterns that one with ``$name`` in it stands for; ValueError for an unknown macro and for a loop."""
    if "$" not in pattern:
        return (pattern,)
    return tuple(_Expansion({name.lower(): items for name, items in macros.items()}).of(pattern, ()))


class _Expansion:
    def __init__(self, macros: Mapping[str, tuple[str, ...]]) -> None:
        self.macros = macros
        self.known: dict[str, tuple[str, ...]] = {}
        self.steps = 0

    def of(self, pattern: str, within: tuple[str, ...]) -> list[str]:
        made, at = [""], 0
        for match in _MACRO.finditer(pattern):
            names, before = self.names(match.group(1).lower(), within), pattern[at : match.start()]
            self.count(len(made) * len(names))
            made = [begin + before + name for begin in made for name in names]
            at = match.end()
        return list(dict.fromkeys(begin + pattern[at:] for begin in made))

    def names(self, macro: str, within: tuple[str, ...]) -> tuple[str, ...]:
        if macro in within:
            raise ValueError(f"the domain-macro '{macro}' contains itself")
        if macro not in self.macros:
            raise ValueError(f"there is no domain-macro '{macro}'")
        if len(within) > _MAX_MACRO_DEPTH:
            raise ValueError(f"the domain-macro '{macro}' stands in more than {_MAX_MACRO_DEPTH} others")
        if macro not in self.known:
            found: dict[str, None] = {}
            for item in self.macros[macro]:
                made = self.of(item, (*within, macro))
                self.count(len(made))
                found.update(dict.fromkeys(made))
            self.known[macro] = tuple(found)
        return self.known[macro]

    def count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > _MAX_EXPANDED:
            raise ValueError(f"it stands for more than {_MAX_EXPANDED} names")


# --- Regexes --------------------------------------------------------------------------------------------------------

_CERTAIN = (  # what PCRE refuses as well; the rest that Python refuses may be fine there
    "missing ), unterminated subpattern",
    "unbalanced parenthesis",
    "unterminated character set",
    "nothing to repeat",
    "bad character range",
)


def _in_python(pattern: str) -> str:
    """A PCRE pattern with the spellings of Python for what both know."""
    pattern = re.sub(r"\[:\^?[a-z]+:\]", r"\\w", pattern.replace("(?-i)", ""))
    return re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", pattern)


def _certain(message: str, pattern: str, at: int) -> Optional[str]:
    """The reason, where PCRE refuses the pattern as well; it knows more than Python, such as \\Q and ``^*``."""
    if not message.startswith(_CERTAIN) or "\\Q" in pattern or "\\" in message:
        return None
    if message == "nothing to repeat" and at and pattern[at - 1] not in "(|":
        return None
    return message


@lru_cache(maxsize=8192)
def regex_problem(value: str) -> Optional[str]:
    """Why this is no ``/regex/``, or None. PCRE knows more than can be checked here; only certain mistakes are one."""
    if value[:1] != "/":
        return "it does not begin with /"
    match = re.match(r"/((?:[^/\\]|\\.)*)/\Z", value, re.DOTALL)
    if not match:
        return "it does not end with /, or a slash inside it has no backslash"
    pattern = match.group(1)
    if not pattern:
        return "it is empty, and matches everything"
    try:
        with catch_warnings():
            simplefilter("ignore")
            re.compile(_in_python(pattern))
    except re.error as error:
        return _certain(str(error.msg), _in_python(pattern), error.pos or 0)
    except (RecursionError, OverflowError, MemoryError):
        return "it is too deep or too large"
    return None


# --- The types ------------------------------------------------------------------------------------------------------


def _reads(read: Callable[[str], object]) -> Check:
    def check(value: str) -> bool:
        try:
            read(value)
        except ValueError:
            return False
        return True

    return check


def _matches(pattern: str) -> Check:
    compiled = re.compile(rf"(?:{pattern})\Z", re.IGNORECASE | re.ASCII)
    return lambda value: compiled.match(value) is not None


def _list_of(check: Check) -> Check:
    return lambda value: all(check(item.strip()) for item in value.split(","))


def _is_rate(value: str) -> bool:
    return value.lower() in ("0", "unlimited") or _reads(rate)(value)


def _is_data_rate(value: str) -> bool:
    """A rate whose number may have the unit of a size."""
    amount, slash, unit = value.partition("/")
    return _is_rate(value) or (_reads(size_bytes)(amount) and _is_rate(f"{amount.rstrip('bkmgtBKMGT')}{slash}{unit}"))


def _is_domain(value: str) -> bool:
    return bool(_DOMAIN.match(value))


def _is_domain_pattern(value: str) -> bool:
    value = _MACRO.sub("x", value)
    if value in ("*", "{sparkpost}", "{default}"):
        return True
    if value.startswith("[*.]") or value.startswith("*."):
        value = value.partition(".")[2].lstrip("]")
    elif value.startswith("[") and value.endswith("]"):
        return _reads(network)(value[1:-1])
    return _is_domain(value)


def _is_ip(value: str) -> bool:
    return _reads(ipaddress.ip_address)(value)


def _is_host_port(value: str) -> bool:
    host, colon, port = value.rpartition(":")
    return bool(colon) and _is_port(port) and (_is_ip(host.strip("[]")) or _is_domain(host))


def _is_port(value: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,5}", value)) and int(value) < 65536


def _is_listener(value: str) -> bool:
    host, colon, port = value.rpartition(":")
    if not colon or not _is_port(port) or port == "0":
        return False
    bracketed = host.startswith("[") and host.endswith("]")
    return _reads(network)(host[1:-1] if bracketed else host)


def _is_email(value: str) -> bool:
    local, at, domain = value.rpartition("@")
    if not at or not local or re.search(r"[\s<>,@]", local):
        return False
    return _is_domain(domain) or (_is_domain_pattern(domain) and domain.startswith("["))


def _is_domain_key(value: str) -> bool:
    parts = [part.strip() for part in value.split(",", 2)]
    if len(parts) != 3:
        return False
    selector, domain, path = parts
    return _is_domain(selector) and (domain == "*" or _is_domain(domain)) and bool(path)


def _is_smtp_hosts(value: str) -> bool:
    return all(_is_smtp_host(item.strip()) for item in re.split("[,;]", value))


def _is_smtp_host(value: str) -> bool:
    host = value[10:] if value.lower().startswith("lookup-mx:") else value
    if _is_domain(host) or _is_ip(host.strip("[]")) or _is_host_port(host):
        return True
    return _is_domain_pattern(host) and host.startswith("[")


def _is_proxy_client(value: str) -> bool:
    return _is_ip(value) or _is_host_port(value) or _is_ip(value.strip("[]"))


def _is_url(value: str) -> bool:
    return bool(re.match(r"https?://[^\s/]+", value, re.IGNORECASE))


_NAME = r"[^\s<>,]+"
_RECORD = (
    r"d|b|t|tq|r|rb|rs|f|delivery|bounce|transient|transient-queue|receipt|remote-bounce|remote-status|feedback-loop"
)
_HEADER = r"[!-9;-~]+"
_Type = tuple[str, Check]  # what is expected, and the check
_TYPES: dict[str, _Type] = {
    "bool": ("yes or no", _matches("yes|no|true|false")),
    "int": ("a whole number", _matches(r"[0-9]{1,18}")),
    "port": ("a port from 0 to 65535", _is_port),
    "interval": ("an interval such as 90s or 4d12h", _reads(interval_seconds)),
    "interval_list": ("intervals such as 10m,1h,4h", _list_of(_reads(interval_seconds))),
    "access": ("monitor, operator, admin or none", _matches("(?:monitor|operator|admin)(?:,deny-logs)?|none")),
    "days": ("a number of days such as 8d", _matches(r"[0-9]{1,6}d")),
    "rate": ("a rate such as 100/h, or unlimited", _is_rate),
    "day_rate_list": ("rates of days such as 50/d,100/d", _list_of(_matches(r"[0-9]{1,12}/(?:d|day)"))),
    "data_rate": ("a data rate such as 6g/10h, or unlimited", _is_data_rate),
    "size": ("a size such as 500000, 10M or 5G", _reads(size_bytes)),
    "ip": ("an IP address", _is_ip),
    "cidr": ("a network such as 10.0.0.0/8", _reads(network)),
    "host_port": ("host:port", _is_host_port),
    "listener": ("ip:port", _is_listener),
    "proxy_client": ("ip or ip:port", _is_proxy_client),
    "domain": ("a domain name", _is_domain),
    "domain_list": ("domains separated by commas", _list_of(_is_domain_pattern)),
    "domain_pattern": ("a domain, *, *.domain or [*.]domain", _is_domain_pattern),
    "email": ("an e-mail address", _is_email),
    "email_list": ("e-mail addresses separated by commas", _list_of(_is_email)),
    "at_domain": ("@domain", lambda value: value[:1] == "@" and _is_domain(value[1:])),
    "mailbox": ("the part of an address before the @", _matches(r"[^\s@/<>,]+")),
    "regex": ("a regex between / and /", lambda value: regex_problem(value) is None),
    "header": ("the name of a header field", _matches(_HEADER)),
    "header_list": ("names of header fields separated by commas", _list_of(_matches(_HEADER))),
    "record": ("a type of record", _matches(_RECORD)),
    "record_list": ("types of records such as d,b", _list_of(_matches(_RECORD))),
    "field_list": ("fields such as *,!dsnDiag,header_Subject", _list_of(_matches(r"\*|!?[A-Za-z][\w*-]*"))),
    "queue_list": ("queues such as example.com/bulk,!*/test", _list_of(_matches(r"!?[^\s,!]+"))),
    "domain_key": ("selector,domain,file", _is_domain_key),
    "smtp_hosts": ("hosts separated by commas, or by ';' between levels", _is_smtp_hosts),
    "rollup": ("the name of a queue that ends with .rollup", _matches(r"[^\s/]+\.rollup(?:/[^\s/]+)?")),
    "name": ("a name", _matches(_NAME)),
    "name_list": ("names separated by commas", _list_of(_matches(_NAME))),
    "macro": ("a name of letters, digits and _", _matches(r"[A-Za-z0-9_]+")),
    "option": ("option=value", _matches(r"[a-z-]+=\S+")),
    "api_key": ("32 to 128 letters, digits and _", _matches(r"[A-Za-z0-9_]{32,128}")),
    "word": ("one word", lambda value: bool(value) and not re.search(r"\s", value)),
    "file": ("a file", bool),
    "dir": ("a directory", bool),
    "url": ("a URL", _is_url),
    "text": ("a value", lambda value: bool(value.strip())),
    "any": ("anything", lambda value: True),
    "nothing": ("no argument", lambda value: False),
    "empty": ('""', lambda value: value == ""),
}
_WHOLE = frozenset(  # these are for the whole rest of the value: blanks belong to it
    {
        *("interval_list", "domain_list", "email_list", "header_list", "record_list", "field_list", "queue_list"),
        *("domain_key", "smtp_hosts", "name_list", "day_rate_list", "text", "file", "any"),
    }
)
_PART = re.compile(r"([a-z_]+)(?:\(([^)]*)\))?")


@cache
def _word_type(expression: str) -> _Type:
    """What one word may be."""
    known = [
        _with_arguments(name, arguments.split(",")) if arguments else _TYPES[name]
        for name, arguments in _PART.findall(expression)
    ]
    checks = [check for _expected, check in known]
    return ", or ".join(expected for expected, _check in known), lambda value: any(check(value) for check in checks)


def _with_arguments(name: str, arguments: list[str]) -> _Type:
    if name == "enum":
        known = frozenset(arguments)
        listed = f"one of {', '.join(arguments)}" if len(arguments) > 1 else arguments[0]
        return listed, lambda value: value.lower() in known
    if name == "int":
        low, high = map(int, arguments)
        whole = _TYPES["int"][1]
        return f"a number from {low} to {high}", lambda value: whole(value) and low <= int(value) <= high
    if name == "interval":
        most = interval_seconds(arguments[0])
        return f"an interval up to {arguments[0]}", _reads(lambda value: _at_most(interval_seconds(value), most))
    if name == "size":
        least = size_bytes(arguments[0])
        return f"a size of at least {arguments[0]}", _reads(lambda value: _at_most(least, size_bytes(value)))
    raise KeyError(name)


def _at_most(value: int, limit: int) -> None:
    if value > limit:
        raise ValueError


@cache
def _parsed(type: str) -> tuple[tuple[_Type, ...], int, bool]:
    """(type of each word, how many are needed, whether the last one takes the rest)."""
    parts = [part.rstrip("?") for part in type.split(" ")]
    whole = any(name in _WHOLE for name, _arguments in _PART.findall(parts[-1]))
    return tuple(map(_word_type, parts)), len(parts) - type.count("?"), whole


@lru_cache(maxsize=65536)
def problem(type: str, value: str) -> Optional[str]:
    """Why this is no value of the type, or None. KeyError for an unknown type."""
    types, needed, whole = _parsed(type)
    found = list(syntax.words(value))
    if whole and len(found) > len(types):
        found[len(types) - 1 :] = [_rest(value, len(types) - 1)]
    if len(found) < needed:
        return f"{types[len(found)][0]} is missing"
    if len(found) > len(types):
        return f"{len(types)} words are expected, and more are there" if len(types) > 1 else "one word is expected"
    for number, (word, (expected, check)) in enumerate(zip(found, types), 1):
        if not check(syntax.unquoted(word)):
            why = regex_problem(word) if "regex" in type and word[:1] == "/" else None
            place = f" as word {number}" if len(types) > 1 else ""
            return f"the regex cannot be read: {why}" if why else f"{expected} is expected{place}"
    return None


def _rest(value: str, skipped: int) -> str:
    """The value without its first words."""
    for word in syntax.words(value)[:skipped]:
        value = value.lstrip(" \t")[len(word) :]
    return value.strip(" \t")
