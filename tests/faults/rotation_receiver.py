# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs at the receiver: verifies each numbered message as it arrives, and once more at the end of its queue life.

``rotation_receiver.py SECONDS_OF_LIFE``, with names to ask for on its standard input, one a line. Keys come from the
host's caching resolver, as at any receiver. The names are asked for every two seconds, so that the resolver remembers
for as long as it may that there was nothing, and what was there. One JSON line for each verification goes to
verified.jsonl.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.parser import BytesHeaderParser
from pathlib import Path

import dkim
import dns.exception
import dns.resolver

STATE = Path("/var/lib/receiver")
PATIENCE_SECONDS = 25.0  # a receiver that cannot ask tells the sender to come again

resolver = dns.resolver.Resolver()
resolver.lifetime = 6.0


class Asked:
    """The answers by which one signature was judged."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.again = 0

    def __call__(self, name: bytes, timeout: int = 5) -> bytes | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = resolver.resolve(name.decode(), "TXT")
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer) as error:
                self.shown.append(type(error).__name__)
                return None
            except dns.exception.DNSException as error:
                if time.monotonic() > deadline:
                    self.shown.append(type(error).__name__)
                    raise
                self.again += 1
                time.sleep(0.5)
            else:
                texts = [b"".join(each.strings) for each in answer]
                self.shown += [f"{answer.rrset.ttl} {text.decode()}" for text in texts]
                return texts[0]


def judge(message: bytes, index: int, value: str) -> dict[str, object]:
    tags = dict(part.partition("=")[::2] for part in re.sub(r"\s+", "", value).split(";") if part)
    asked, reason = Asked(), ""
    try:
        passed = dkim.DKIM(message).verify(idx=index, dnsfunc=asked)
    except Exception as error:  # dkimpy raises what it meets
        passed, reason = False, f"{type(error).__name__}: {error}"
    return {
        "domain": tags.get("d", ""),
        "selector": tags.get("s", ""),
        "algorithm": tags.get("a", "").partition("-")[0],
        "passed": bool(passed),
        "reason": reason,
        "shown": [] if passed else asked.shown,
        "again": asked.again,
    }


class Verifier:
    def __init__(self, life_seconds: float) -> None:
        self.life_seconds = life_seconds
        self.out = (STATE / "verified.jsonl").open("a", encoding="utf-8")
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(max_workers=16)
        self.seen: set[str] = set()
        self.waiting: list[tuple[float, Path]] = []

    def verify(self, path: Path, when: str) -> None:
        message = path.read_bytes()
        headers = BytesHeaderParser().parsebytes(message)
        begin = time.time()
        signatures = [judge(message, n, str(value)) for n, value in enumerate(headers.get_all("DKIM-Signature", []))]
        line = {
            "number": int(headers["X-Number"]),
            "when": when,
            "wall": begin,
            "age": round(begin - float(headers["X-Injected"]), 1),
            "signatures": signatures,
        }
        with self.lock:
            self.out.write(json.dumps(line) + "\n")
            self.out.flush()

    def look(self) -> None:
        now = time.time()
        for path in sorted((STATE / "raw").glob("*.eml")):
            if path.name in self.seen:
                continue
            self.seen.add(path.name)
            headers = BytesHeaderParser().parsebytes(path.read_bytes())
            if headers["X-Number"] is None:  # mail of the proof
                continue
            self.pool.submit(self.verify, path, "arrival")
            self.waiting.append((float(headers["X-Injected"]) + self.life_seconds, path))
        due = [path for end, path in self.waiting if end <= now]
        self.waiting = [(end, path) for end, path in self.waiting if end > now]
        for path in due:
            self.pool.submit(self.verify, path, "end")


def ask(names: list[str]) -> None:
    """Fills the resolver's cache with what is there and what is not."""
    curious = dns.resolver.Resolver()
    curious.lifetime = 0.5
    while True:
        begin = time.monotonic()
        for name in names:
            try:
                curious.resolve(name, "TXT")
            except dns.exception.DNSException:
                continue
        time.sleep(max(0.1, begin + 2 - time.monotonic()))


def main() -> None:
    (STATE / "raw").mkdir(exist_ok=True)
    verifier = Verifier(float(sys.argv[1]))
    threading.Thread(target=ask, args=(sys.stdin.read().split(),), daemon=True).start()
    while True:
        verifier.look()
        time.sleep(0.2)


if __name__ == "__main__":
    main()
