# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The law of time: what reads text takes time in proportion to its length, whatever stands in it.

Every pattern of the collection is pumped: for each of its unbounded repetitions, the shortest text that leads there,
then many of each character that the pattern names, then an end that fails. The parsers get the like by hand.
"""

from __future__ import annotations

import ast
import re
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import foreign, names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import answers, txt
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import wire as message
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies, spf
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.ownership import Manifest
from ansible_collections.mailops.mta.plugins.module_utils.providers import desec
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client

try:
    from re import _constants as sre_constants
    from re import _parser as sre_parse
except ImportError:  # before Python 3.11
    import sre_constants  # type: ignore[no-redef]
    import sre_parse  # type: ignore[no-redef]

PLUGINS = Path(__file__).resolve().parents[4] / "plugins"
SIZES = (24, 800, 8000)
ENOUGH_SECONDS = 0.06  # of this thread, at the largest size: a linear reader takes a tenth, a square one the double
OURS = r"([a-z_]+)(?:\(([^)]*)\))?"  # reads the tables of the collection, which no stranger writes
METHODS = ("match", "search", "fullmatch", "sub", "split", "findall", "finditer")


def seconds(work: Callable[[], object]) -> float:
    """Processor time, which other work on the machine does not lengthen; the better of two."""
    taken = []
    for _try in range(2):
        begin = time.thread_time()
        with suppress(ValueError, IndexError):
            work()
        taken.append(time.thread_time() - begin)
        if taken[-1] < ENOUGH_SECONDS:
            break
    return min(taken)


def is_slow(work: Callable[[int], object]) -> bool:
    """From small to large, so that what grows without measure ends early."""
    return any(seconds(partial(work, size)) >= ENOUGH_SECONDS for size in SIZES)


# ---- patterns


def patterns() -> Iterator[tuple[str, str, int, str]]:
    """Where, pattern, flags, and how it is used, of every literal pattern in the collection."""
    for path in sorted(PLUGINS.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        uses: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Name):
                uses.setdefault(node.value.id, set()).add(node.attr)
        named = {
            node.value: target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            if not isinstance(node.func.value, ast.Name) or node.func.value.id != "re":
                continue
            if not isinstance(node.args[0], ast.Constant):
                continue
            pattern = node.args[0].value
            flags = 0
            for argument in [*node.args[1:], *[keyword.value for keyword in node.keywords]]:
                for name in ast.walk(argument):
                    if isinstance(name, ast.Attribute) and name.attr.isupper():
                        flags |= getattr(re, name.attr)
            methods = {node.func.attr} if node.func.attr != "compile" else uses.get(named.get(node, ""), {"match"})
            text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
            for method in sorted(methods):
                yield f"{path.name}:{node.lineno} {method}", text, flags, method


def shortest(parsed: Any, least: int = 0) -> str:
    """A text that ``parsed`` matches, look-arounds aside, with each repetition ``least`` times at least."""
    made = ""
    for code, value in parsed:
        if code is sre_constants.LITERAL:
            made += chr(value)
        elif code is sre_constants.NOT_LITERAL:
            made += "x" if value != ord("x") else "y"
        elif code is sre_constants.ANY:
            made += "x"
        elif code is sre_constants.IN:
            made += next(each for each in map(chr, (*range(97, 123), *range(33, 97), 32, 9)) if within(each, value))
        elif code is sre_constants.BRANCH:
            made += shortest(value[1][0], least)
        elif code is sre_constants.SUBPATTERN:
            made += shortest(value[3], least)
        elif code in (sre_constants.MAX_REPEAT, sre_constants.MIN_REPEAT):
            made += shortest(value[2], least) * max(value[0], least and min(1, int(value[1])))
    return made


def within(character: str, choices: Any) -> bool:
    state = sre_parse.State()
    return bool(sre_compile(sre_parse.SubPattern(state, [(sre_constants.IN, choices)])).match(character))


def sre_compile(parsed: Any) -> re.Pattern[str]:
    compiler = getattr(re, "_compiler", None)
    if compiler is None:
        import sre_compile as compiler  # type: ignore[no-redef]
    return compiler.compile(parsed)  # type: ignore[no-any-return]


def pumps(parsed: Any, least: int, before: str = "") -> Iterator[tuple[str, str]]:
    """What leads to each unbounded repetition, and what is repeated there."""
    for at, (code, value) in enumerate(parsed):
        lead = before + shortest(parsed[:at], least)
        if code in (sre_constants.MAX_REPEAT, sre_constants.MIN_REPEAT):
            if value[1] is sre_constants.MAXREPEAT:
                yield lead, shortest(value[2])
            yield from pumps(value[2], least, lead)
        elif code is sre_constants.BRANCH:
            for branch in value[1]:
                yield from pumps(branch, least, lead)
        elif code is sre_constants.SUBPATTERN:
            yield from pumps(value[3], least, lead)


def named_by(parsed: Any) -> set[str]:
    """The characters that a pattern knows."""
    found = set()
    for code, value in parsed:
        if code is sre_constants.LITERAL or code is sre_constants.NOT_LITERAL:
            found.add(chr(value))
        elif code is sre_constants.IN:
            found |= {shortest([(code, value)])} | named_by(
                [each for each in value if each[0] is sre_constants.LITERAL]
            )
        elif code is sre_constants.CATEGORY or code is sre_constants.ANY:
            found |= {" "}
        elif code is sre_constants.BRANCH:
            found = found.union(*map(named_by, value[1]))
        elif code is sre_constants.SUBPATTERN:
            found |= named_by(value[3])
        elif code in (sre_constants.MAX_REPEAT, sre_constants.MIN_REPEAT):
            found |= named_by(value[2])
    return found


def slow_text(pattern: str, flags: int, method: str) -> str:
    compiled = re.compile(pattern, flags)
    parsed = sre_parse.parse(pattern, flags)
    use: Callable[[str], object] = {
        "sub": lambda text: compiled.sub("", text),
        "findall": compiled.findall,
        "finditer": lambda text: list(compiled.finditer(text)),
        "split": compiled.split,
    }.get(method) or getattr(compiled, method)
    known = [" ", "a", "1", *sorted(named_by(parsed) - {" ", "a", "1"})][:10]
    ends = dict.fromkeys(("", "\0", " b!", ".", *[each for each in known[3:] if not each.isalnum()][:2]))
    for lead, unit in dict.fromkeys((*pumps(parsed, 0), *pumps(parsed, 1))):
        for pump in dict.fromkeys((unit, (lead + unit)[-8:], *known)):
            for end in ends:
                if pump and is_slow(partial(lambda lead, pump, end, n: use(lead + pump * n + end), lead, pump, end)):
                    return f"{lead!r} + {pump!r} * n + {end!r}"
    return ""


def test_every_pattern_is_linear() -> None:
    every = list(patterns())
    assert len(every) > 80
    slow = {
        where: found
        for where, pattern, flags, method in every
        if pattern != OURS and (found := slow_text(pattern, flags, method))
    }
    assert not slow


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"\s*(\w+)\s*=\s*(.*?)\s*\Z", "match"),
        (r"[^\s,;]*@", "sub"),
        (r'<([^>]*)>\s*;\s*rel="next"', "search"),
        (r"v?(\d+)(?:\.(\d+))?(?![\d.]*\.$)", "match"),
    ],
)
def test_a_pattern_that_is_not_is_found(pattern: str, method: str) -> None:
    assert slow_text(pattern, 0, method)


# ---- parsers

UNITS = (
    " ",
    "a",
    "b ",
    ";",
    "; ",
    "=",
    "a=b;",
    "\\",
    '"',
    '" "',
    '\\"',
    ",",
    ":",
    "/",
    "1/",
    "%{",
    "\t",
    "\xa0",
    "<",
    ">",
)
READERS: dict[str, tuple[Callable[[str], object], str]] = {  # each with what makes it read on
    "SPF": (policies.parse_spf.__wrapped__, "v=spf1 "),
    "SPF network": (policies.parse_spf.__wrapped__, "v=spf1 ip4:"),
    "SPF macro": (policies.parse_spf.__wrapped__, "v=spf1 exists:%{i"),
    "DMARC": (policies.parse_dmarc, "v=DMARC1; p=none; rua=a"),
    "is DMARC": (policies.is_dmarc, "v"),
    "DKIM": (policies.parse_dkim, "v=DKIM1; p=a"),
    "fingerprint": (keys.fingerprint_of_record, "v=DKIM1; p=a"),
    "MTA-STS": (policies.parse_mta_sts_policy, "version: STSv1\nmx:"),
    "MTA-STS id": (policies.parse_mta_sts_record, "v=STSv1; id="),
    "TLS-RPT": (policies.parse_tls_rpt, "v=TLSRPTv1; rua=a"),
    "TXT": (txt.parse, '"a"'),
    "claim": (lambda text: plan.claim("_domainkey.example.com", text), "v"),
    "manifest": (
        lambda text: Manifest.read(
            {("_mailops.a.b", "TXT"): RecordSet("_mailops.a.b", "TXT", 60, (text,))}, "a.b", "us"
        ),
        "v=mailops1; f=a; h=",
    ),
    "name": (names.to_ascii, "\xfc"),
    "question": (lambda text: message.question(text, "A"), "a."),
    "endpoint": (names.endpoint, "["),
    "printable": (foreign.printable, ""),
    "JSON": (foreign.parsed, "["),
    "links": (desec._next, "<"),
    "Retry-After": (
        lambda text: client.retry_after(client.Response(429, {"retry-after": text}, b"")),
        "Mon, ",
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_foreign_text_is_linear(reader: str) -> None:
    read, lead = READERS[reader]
    slow = [
        start + unit + " * n" + end
        for start in dict.fromkeys(("", lead))
        for unit in UNITS
        for end in ("", "b\\")
        if is_slow(partial(lambda start, unit, end, n: read(start + unit * (n // len(unit)) + end), start, unit, end))
    ]
    assert not slow


def test_a_name_has_no_more_pointers_than_labels() -> None:
    """A ladder: each pointer leads to the one before, and each record to the last. Work is bytes that are looked at."""

    class Counting(bytes):
        looks = 0

        def __getitem__(self, key: Any) -> Any:
            Counting.looks += 1
            return super().__getitem__(key)

    def looks(hops: int, count: int) -> int:
        asked = message.question("a.example.com", "TXT")
        wire = bytearray(struct.pack(">HHHHHH", 1, 0x8400, 1, 1 + count, 0, 0) + asked)
        wire += b"\xc0\x0c" + struct.pack(">HHIH", 65280, 1, 0, 2 * hops)
        last = message.ASKED
        for _hop in range(hops):
            wire += struct.pack(">H", 0xC000 | last)
            last = len(wire) - 2
        wire += (struct.pack(">H", 0xC000 | last) + struct.pack(">HHIH", 5, 1, 0, 0)) * count
        assert len(wire) <= 65535
        Counting.looks = 0
        with suppress(message.Malformed):
            answers.judge(message.parse(Counting(wire)), "TXT", False)
        return Counting.looks

    few, many = looks(10, 1000), looks(8000, 4000)
    assert many < 4 * few + 4000 * 2 * message.MAX_POINTERS
    assert looks(8000, 4000) < 10 * 65535


def test_a_name_of_many_labels_that_are_all_compressed_is_read() -> None:
    """As a server may compress it: each label, and a pointer to the name above."""
    wire = bytearray(message.question("example.com", "A"))
    wire[:0] = bytes(message.ASKED)
    at = message.ASKED
    for _label in range(100):
        wire += b"\x01a" + struct.pack(">H", 0xC000 | at)
        at = len(wire) - 4
    record = message.Record(at, 1, 1, 0, 0, 0)
    assert message.Message(bytes(wire), 0, 0, b"", [], [], []).name(record) == "a." * 100 + "example.com"


def test_spf_of_many_terms_and_macros_ends() -> None:
    def work(size: int) -> object:
        text = "v=spf1 exists:" + "%{l}" * (size // 4) + " -all"
        question = answers.Question("example.com", "TXT")
        known = answers.Answers({question: answers.Answer(answers.YES, (text,))})
        return spf.evaluate("192.0.2.1", "example.com", known, sender="a" * 60 + "@example.com", ehlo="example.com")

    assert not is_slow(work)
