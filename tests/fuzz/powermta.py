# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Broken PowerMTA configurations, made from those in the corpus, for the laws that hold for every text.

``python tests/fuzz/powermta.py SECONDS [SEED]`` prints what it did; an input that breaks a law goes into the corpus, so
that the unit tests replay it, and the exit code is 1. A corpus file ``x.conf`` is the text itself, ``x.repr`` is a
Python literal of it: for characters that no file of a repository should hold.
"""

from __future__ import annotations

import ast
import hashlib
import random
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).resolve().parent / "corpus" / "powermta"
try:
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import checks as powermta_checks
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import syntax as powermta_syntax
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import writing
except ImportError:
    sys.path.insert(0, str(ROOT / "build" / "collections"))
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import checks as powermta_checks
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import syntax as powermta_syntax

MAIN = "/etc/pmta/config"
SLOW = 2.0  # seconds of processor time for one input of at most some tens of kilobytes
MAX_TEXT = 40_000
TOKENS = (
    *("#", '"', '""', "/", "\\", "<", ">", "</", "<domain *>", "</domain>", "<pattern-list>", "</pattern-list>"),
    *("\n", "\r\n", "\t", " ", ",", ";", ":", "$tld", "$all", "*", "[*.]", "{{ x }}", "<%= x %>", "${X}", "{%", "%}"),
    *(
        "\x00",
        "\ufeff",
        "\u00a0",
        "\u2028",
        "\udcff",
        "/\u017f",
        "9\u212a",
        "\u0663",
        "0",
        "-1",
        "9" * 40,
        "0/0",
        "::1",
        "203.0.113.1",
        "unlimited",
    ),
    *(
        "include conf.d/*.conf\n",
        "include config\n",
        "reply /",
        "domain-macro a $a,",
        "virtual-mta ",
        "source=",
        "x" * 3000,
    ),
)


def corpus() -> dict[str, str]:
    """The texts by the names of their files."""
    found = {}
    for path in sorted(CORPUS.iterdir()):
        text = path.read_text(encoding="utf-8")
        found[path.name] = ast.literal_eval(text) if path.suffix == ".repr" else text
    return found


def bare(nodes: Iterable[powermta_syntax.Node]) -> tuple[powermta_syntax.Node, ...]:
    """The nodes as if they had been built: without what was read."""
    made: list[powermta_syntax.Node] = []
    for node in nodes:
        if isinstance(node, powermta_syntax.Section):
            node = replace(node, body=bare(node.body), closing=None)
        made.append(replace(node, source=None))
    return tuple(made)


def prove(text: str, other: str = "") -> None:
    """The laws; AssertionError or any other exception where one does not hold."""
    document = powermta_syntax.parse(text, MAIN)
    assert writing.text(document.nodes) == text, "the text is not the same after it was read"
    if not document.findings:
        canonical = writing.text(bare(document.nodes))
        again = powermta_syntax.parse(canonical, MAIN)
        assert again.nodes == document.nodes, "the canonical text means something else"
        assert not again.findings, "the canonical text has findings"
    findings = powermta_checks.check({MAIN: text, "/etc/pmta/conf.d/a.conf": other}, MAIN)
    assert all(finding.where and finding.found and finding.why and finding.remedy for finding in findings)


def mutated(text: str, texts: list[str], chance: random.Random) -> str:
    lines = text.split("\n")
    for _step in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(lines))
        kind = chance.randrange(10)
        if kind == 0:
            del lines[at : at + chance.choice((1, 1, 3))]
        elif kind == 1:
            lines.insert(at, chance.choice(lines))
        elif kind == 2:
            other = chance.choice(texts).split("\n")
            begin = chance.randrange(len(other))
            lines[at:at] = other[begin : begin + chance.choice((1, 2, 6))]
        elif kind == 3:
            lines[at : at + 2] = [" ".join(lines[at : at + 2])]
        elif kind == 4:
            lines[at:at] = lines[at : at + 5] * chance.choice((2, 2, 40))
        elif kind == 5:
            words = lines[at].split(" ")
            chance.shuffle(words)
            lines[at] = " ".join(words)
        else:
            line = lines[at]
            cut = chance.randrange(len(line) + 1)
            end = chance.choice((cut, cut, cut + 1, len(line)))
            lines[at] = line[:cut] + chance.choice((*TOKENS, chr(chance.randrange(1, 0x300)), "")) + line[end:]
        lines = lines or [""]
    return "\n".join(lines)[:MAX_TEXT]


def keep(text: str) -> Path:
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    path = CORPUS / f"found_{name}.repr"
    path.write_text(ascii(text) + "\n", encoding="utf-8")
    return path


def broken_by(text: str, other: str) -> str:
    """What is wrong, as one line, or nothing."""
    begin = time.process_time()
    try:
        prove(text, other)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
    took = time.process_time() - begin
    return f"it took {took:.1f} s" if took > SLOW else ""


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    chance = random.Random(seed)
    pool = list(corpus().values())
    seen: dict[str, str] = {}
    count, clean, begin = 0, 0, time.monotonic()
    shown = begin
    print(f"seed {seed}, {len(pool)} texts", flush=True)
    while (now := time.monotonic()) - begin < seconds:
        text = mutated(chance.choice(pool), pool, chance)
        other = "\n".join(chance.choice(pool).split("\n")[:10])  # short: it may be included a thousand times
        count += 1
        wrong = broken_by(text, other)
        if wrong and wrong not in seen:
            seen[wrong] = str(keep(text))
            print(f"{seen[wrong]}: {wrong}", flush=True)
        elif not wrong and chance.random() < 0.02:
            clean += 1
            pool.append(text)  # so that mistakes pile up
            if len(pool) > 500:
                del pool[chance.randrange(20, 500)]
        if now - shown > 60:
            shown = now
            print(f"{count} inputs, {count / (now - begin):.0f}/s, {len(seen)} laws broken", flush=True)
    print(f"{count} inputs in {seconds:.0f} s, {count / seconds:.0f}/s, {len(seen)} laws broken", flush=True)
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main())
