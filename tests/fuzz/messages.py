# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Odd messages through every stream of a lab that is up: each is refused at once, or arrives with valid signatures.

usage: messages.py [--count N] [--seed S] [--inventory DIRECTORY]

A refusal is a 5xx code before or at the end of the data. The law is broken by a 4xx code, by a message that was taken
and does not arrive, by one that was refused and arrives, and by a signature of the stream that dkimpy does not verify.
Only Postfix hosts are asked. The same seed makes the same messages; what breaks the law is printed with its number and
stays in build/fuzz-messages.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "molecule"))
import lab

BROKEN = ROOT / "build" / "fuzz-messages"
LANES = 4
PATIENCE_SECONDS = 120
CRLF = b"\r\n"
MIME = (b"MIME-Version", b"1.0")


@dataclass
class Case:
    """One message: what is said before the data, the data, and what became of it."""

    number: int
    stream: lab.Stream
    domains: Sequence[str]  # all that the stream sends from
    host: str
    port: int
    sender: str
    parameters: list[str]
    content: bytes
    chunked: bool
    notes: list[str] = field(default_factory=list)
    code: int = 0
    reply: str = ""

    @property
    def recipient(self) -> str:
        return f"fuzz-{self.number}@sink.test"


# ---- what odd messages are made of


def pick(chance: random.Random, *values: bytes) -> bytes:
    return chance.choice(values)


def words(chance: random.Random, count: int) -> bytes:
    return b" ".join(bytes(chance.choices(b"abcdefghijklmnop", k=chance.randint(1, 9))) for _number in range(count))


def odd_author(chance: random.Random, domain: str, others: Sequence[str]) -> bytes:
    plain = f"a@{domain}".encode()
    other = f"a@{chance.choice(others)}".encode()
    unicode_form = f"a@{domain.encode().decode('idna')}".encode()
    decomposed = unicodedata.normalize("NFD", unicode_form.decode()).encode()
    return pick(
        chance,
        plain,
        b"<" + plain + b">",
        b'"Shop, The" <' + plain + b">",
        b"=?utf-8?q?B=C3=BCcher?= <" + plain + b">",
        "Bücher <".encode() + plain + b">",
        plain + b" (a comment)",
        b"(a comment) " + plain,
        b'"quoted local"@' + domain.encode(),
        f"A@{domain.upper()}".encode(),
        plain + b".",
        b" \t" + plain + b"  \t ",
        b"A very long name" + CRLF + b" that is folded" + CRLF + b"\t<" + plain + b">",
        b"shop: " + plain + b";",
        plain + b", " + other,
        other,
        b"<" + other + b">, " + plain,
        b'"' + plain + b'" <' + other + b">",
        b"a@sub." + domain.encode(),
        b"a",
        b"",
        b"<>",
        b"a@",
        b"@" + domain.encode(),
        b"a@" + domain.encode() + b" <" + plain + b">",
        b"a@[198.18.0.1]",
        unicode_form,
        b"x <" + unicode_form.decode().upper().encode() + b">",
        decomposed,
        b"\xff\xfe <" + plain + b">",
    )


def fields(chance: random.Random, case: Case, others: Sequence[str]) -> list[tuple[bytes, bytes]]:
    foreign = chance.random() < 0.1
    domain = chance.choice(others if foreign else case.domains)
    plain = not foreign and chance.random() < 0.6
    author = f"a@{domain}".encode() if plain else odd_author(chance, domain, others)
    found = [(b"From", author)]
    found += [
        (
            b"To",
            pick(
                chance, b"x@sink.test", b'"X" <x@sink.test>', b"undisclosed-recipients:;", b"", "ü@sink.test".encode()
            ),
        ),
        (
            b"Subject",
            pick(chance, words(chance, 5), b"", "Grüße".encode(), b"=?utf-8?b?R3LDvMOfZQ==?=", b" lead and trail  "),
        ),
        (b"Date", pick(chance, b"Sun, 29 Nov 2026 10:00:00 +0000", b"yesterday", b"")),
        (b"Message-ID", pick(chance, f"<{case.number}@{domain}>".encode(), b"none", b"<a b@c>")),
    ]
    if chance.random() < 0.2:
        found.pop(chance.randrange(len(found)))
    if chance.random() < 0.1:
        found.append(chance.choice(found or [(b"To", b"x@sink.test")]))
        case.notes.append("double field")
    if chance.random() < 0.4:
        found.append(odd_field(chance, case))
    if chance.random() < 0.3:
        found.append(
            (b"List-Unsubscribe", b"<https://shop.test/" + b"u" * chance.choice([10, 900, 976, 979, 980, 1300]) + b">")
        )
    if chance.random() < 0.3:
        chance.shuffle(found)
    return found


def odd_field(chance: random.Random, case: Case) -> tuple[bytes, bytes]:
    return chance.choice(
        [
            (b"X-Tab", b"\ta\tb"),
            (b"X-Empty", b""),
            (b"X-Folded", b"a" + CRLF + b" " + CRLF + b" b"),
            (b"X-Latin", b"\xe9\xe8\xff"),
            (b"X-" + b"n" * 70, b"long name"),
            (b"X-Long", b"w " * 2000),
            (b"X-Long-Folded", (CRLF + b" ").join([b"w" * 70] * 200)),
            (b"X-Huge", (CRLF + b" ").join([b"w" * 70] * 2000)),
            (b"Sender", f"b@{case.stream.domain}".encode()),
            (b"Reply-To", b"answers@elsewhere.test"),
            (b"Cc", b", ".join(b"c%d@sink.test" % number for number in range(60))),
            (b"Bcc", b"secret@sink.test"),
            (b"References", b" ".join(b"<%d@sink.test>" % number for number in range(chance.choice([3, 80])))),
            (b"Return-Path", b"<a@elsewhere.test>"),
            (b"Received", b"from a by b; Sun, 29 Nov 2026 10:00:00 +0000"),
            (b"Resent-From", b"r@elsewhere.test"),
            (b"DKIM-Signature", b"v=1; a=rsa-sha256; d=elsewhere.test; s=x; h=from; bh=; b="),
            (b"Content-Length", b"17"),
            (b"X-Binding", pick(chance, b"bulk", b"nothing")),
            (b"From ", b"space before the colon"),
            (b"Subject ", b"space before the colon"),
            (b"no colon here", b""),
            (b"X-Ctl", b"a\x01\x02\x7fb"),
            (b"X-Utf8", "☃ \u00a0 \u2028".encode()),
        ]
    )


def body(chance: random.Random, case: Case) -> tuple[list[tuple[bytes, bytes]], bytes]:
    text = CRLF.join(words(chance, chance.randint(0, 12)) for _line in range(chance.randint(0, 30)))
    kinds: list[Callable[[], tuple[list[tuple[bytes, bytes]], bytes]]] = [
        lambda: ([], text + CRLF),
        lambda: ([], text),
        lambda: ([], b""),
        lambda: ([], CRLF * chance.randint(1, 40)),
        lambda: ([], text + b"  \t" + CRLF + b"\t \t" + CRLF * 5),
        lambda: ([], CRLF.join([b".", b"..", b". a", b".a", text]) + CRLF),
        lambda: ([], b"From the beginning" + CRLF + b">From" + CRLF),
        lambda: ([], b"y" * chance.choice([990, 997, 998, 999, 1000, 1500, 2048, 5000, 70000]) + CRLF),
        lambda: ([], (b"z" * chance.choice([998, 999]) + CRLF) * 20),
        lambda: ([], text.replace(CRLF, b"\n") + b"\n"),
        lambda: ([], b"a\rb" + CRLF),
        lambda: ([], b"a\r" + CRLF + b"b" + CRLF),
        lambda: ([], b"a" + CRLF + b"\r"),
        lambda: ([], b"nul\x00nul" + CRLF),
        lambda: ([], b"\x0c\x0b\x1b[0m" + CRLF),
        lambda: ([], b"Latin \xe9\xe8" + CRLF),
        lambda: ([MIME, (b"Content-Type", b"text/plain; charset=utf-8")], "Grüße ☃".encode() + CRLF),
        lambda: ([(b"Content-Transfer-Encoding", b"8bit")], "Grüße".encode() + CRLF),
        lambda: ([(b"Content-Transfer-Encoding", b"7bit")], "Grüße".encode() + CRLF),
        lambda: (
            [MIME, (b"Content-Transfer-Encoding", b"quoted-printable"), (b"Content-Type", b"text/html")],
            b"=3Cp=3E=\r\nsoft =\r\n=C3=BC" + CRLF,
        ),
        lambda: (
            [MIME, (b"Content-Type", b"multipart/mixed; boundary=b")],
            b"preamble\r\n--b\r\nContent-Type: text/plain\r\n\r\n"
            + text
            + b"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: x@elsewhere.test\r\nSubject: inner\r\n\r\n"
            + "ü\r\n--b--\r\nepilogue".encode(),
        ),
        lambda: ([MIME, (b"Content-Type", b"multipart/alternative; boundary=missing")], text),
        lambda: ([MIME, (b"Content-Type", b"multipart/mixed")], b"--" + CRLF + text + b"--"),
        lambda: ([(b"Content-Type", b"application/octet-stream")], chance.randbytes(chance.randint(1, 3000))),
        lambda: ([], chance.randbytes(200).replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")),
        lambda: ([], (words(chance, 10) + CRLF) * chance.choice([100, 1000, 5000])),
    ]  # fmt: skip
    return chance.choice(kinds)()


def message(chance: random.Random, case: Case, others: Sequence[str]) -> bytes:
    more, content = body(chance, case)
    head = fields(chance, case, others) + more
    separator = chance.choice([b": ", b": ", b": ", b":", b":  "])
    lines = [name if name == b"no colon here" else name + separator + value for name, value in head]
    end = chance.choice([CRLF + CRLF] * 8 + [CRLF, b"\n\n"])
    return CRLF.join(lines) + end + content


def cases(
    world: lab.Lab, hosts: dict[str, Sequence[str]], domains: dict[str, Sequence[str]], seed: int, count: int
) -> Iterator[Case]:
    for index, stream in enumerate(world.streams):
        others = ["elsewhere.test", *(other.domain for other in world.streams if other is not stream)]
        for number in range(count):
            chance = random.Random(f"{seed} {stream.name} {number}")
            if not hosts[stream.name]:
                continue
            sender = chance.choice(
                [f"a@{stream.domain}"] * 16
                + ["", f'"a b"@{stream.domain}', f"A.B+c@{stream.domain.upper()}", f"a@{chance.choice(others)}", "a"]
            )
            parameters = [one for one in ("BODY=8BITMIME", "RET=HDRS", "ENVID=q") if chance.random() < 0.3]
            case = Case(
                number=index * 1_000_000 + number,
                stream=stream,
                domains=domains[stream.name],
                host=world.host_ips[chance.choice(list(hosts[stream.name]))],
                port=stream.port,
                sender=sender,
                parameters=parameters,
                content=b"",
                chunked=chance.random() < 0.2,
            )
            case.content = message(chance, case, others)
            if chance.random() < 0.3:
                case.parameters.append("SMTPUTF8")
            yield case


# ---- the conversation


class Refused(Exception):
    pass


class Session:
    """One connection for many messages; opened anew where the server closes it."""

    def __init__(self, host: str, port: int) -> None:
        self.closed = False
        self.socket = socket.create_connection((host, port), 60)
        self.file = self.socket.makefile("rb")
        self.answer(220)
        self.say(b"EHLO fuzz.test", 250)

    def answer(self, wanted: int = 0) -> tuple[int, str]:
        lines = []
        while True:
            line = self.file.readline()
            if len(line) < 4:
                raise ConnectionError("the server closed the connection")
            lines.append(line.decode("utf-8", "replace").rstrip())
            if line[3:4] != b"-":
                break
        code = int(lines[-1][:3])
        if wanted and code != wanted:
            raise Refused(code, " / ".join(lines))
        return code, " / ".join(lines)

    def say(self, line: bytes, wanted: int) -> tuple[int, str]:
        self.socket.sendall(line + CRLF)
        return self.answer(wanted)

    def hand_in(self, case: Case) -> tuple[int, str]:
        try:
            self.say(" ".join([f"MAIL FROM:<{case.sender}>", *case.parameters]).encode(), 250)
            self.say(f"RCPT TO:<{case.recipient}>".encode(), 250)
            if case.chunked:
                half = len(case.content) // 2
                for part, last in ((case.content[:half], b""), (case.content[half:], b" LAST")):
                    self.socket.sendall(b"BDAT %d%s\r\n" % (len(part), last) + part)
                    found = self.answer(250)
                return found
            self.say(b"DATA", 354)
            stuffed = case.content.replace(CRLF + b".", CRLF + b"..")
            stuffed = b"." + stuffed if stuffed.startswith(b".") else stuffed
            end = b"" if stuffed.endswith(CRLF) else CRLF
            return self.say(stuffed + end + b".", 250)
        except Refused as refusal:
            try:
                self.say(b"RSET", 250)
            except (OSError, Refused):  # after some refusals the server closes the connection
                self.closed = True
            return refusal.args


def lane(work: Sequence[Case]) -> None:
    sessions: dict[tuple[str, int], Session] = {}
    for number, case in enumerate(work, 1):
        place = (case.host, case.port)
        try:
            if place not in sessions:
                sessions[place] = Session(*place)
            case.code, case.reply = sessions[place].hand_in(case)
            if sessions[place].closed:
                del sessions[place]
        except (OSError, Refused) as fault:
            case.code, case.reply = 0, str(fault)
            sessions.pop(place, None)
        if number % 500 == 0:
            print(f"  {number} of {len(work)} of one lane handed in", flush=True)


# ---- the law


def seen_by(world: lab.Lab, start: int) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for line in lab.read_seen(world)[start:]:
        for recipient in line.get("rcpt_to") or ():
            found.setdefault(recipient, []).append(line)
    return found


def wrong(case: Case, seen: Sequence[dict]) -> str | None:
    if case.code == 250:
        accepted = [line for line in seen if line["event"] == "accepted"]
        if not accepted:
            return f"taken, but {seen[0]['event'] + ': ' + seen[0]['answer'] if seen else 'it did not arrive'}"
        own = [entry for entry in accepted[0]["dkim"] if entry.get("domain") not in ("elsewhere.test", "", None)]
        failed = [entry for entry in own if entry["result"] != "pass"]
        if failed or len(own) < len(case.stream.algorithms):
            return f"signatures: {accepted[0]['dkim']}"
        return None
    if 500 <= case.code < 600:
        return "refused, and yet it arrived" if seen else None
    return "neither taken nor refused for good"


def run(
    world: lab.Lab, hosts: dict[str, Sequence[str]], domains: dict[str, Sequence[str]], seed: int, count: int
) -> int:
    work = list(cases(world, hosts, domains, seed, count))
    start = len(lab.read_seen(world))
    begin = time.monotonic()
    print(f"seed {seed}: {len(work)} messages through {', '.join(stream.name for stream in world.streams)}", flush=True)
    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(lane, [work[number::LANES] for number in range(LANES)]))
    taken = [case for case in work if case.code == 250]
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        seen = seen_by(world, start)
        if all(case.recipient in seen for case in taken) or time.monotonic() > end:
            break
        time.sleep(2)
    broken = [(case, why) for case in work for why in [wrong(case, seen.get(case.recipient, []))] if why]
    BROKEN.mkdir(parents=True, exist_ok=True)
    for case, why in broken:
        (BROKEN / f"{case.number}.eml").write_bytes(case.content)
        print(
            f"{case.number} {case.stream.name} MAIL FROM:<{case.sender}> {case.parameters}: {case.reply[:200]}: {why}"
        )
    reasons = Counter(case.reply.partition("5.")[2][:60] for case in work if case.code != 250)
    for reason, number in reasons.most_common(25):
        print(f"  {number:6} refused: 5.{reason}")
    print(
        f"{len(work)} messages, {len(taken)} taken, {len(work) - len(taken)} refused, {len(broken)} break the law,"
        f" {time.monotonic() - begin:.0f} s"
    )
    print("Next: read build/fuzz-messages." if broken else "Next: another --seed.")
    return 1 if broken else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="messages through each stream (10000)")
    parser.add_argument("--seed", type=int, default=1, help="which messages (1)")
    parser.add_argument("--inventory", type=Path, default=lab.INVENTORY)
    options = parser.parse_args()
    lab.INVENTORY = options.inventory
    world = lab.read_lab()
    listing = subprocess.run(
        [lab.tool("ansible-inventory"), "-i", options.inventory, "--list"],
        env=lab.ENVIRONMENT,
        capture_output=True,
        check=True,
    )
    inventory = json.loads(listing.stdout)
    postfix = set(inventory["engine_postfix"]["hosts"])
    hosts = {stream.name: [host for host in stream.hosts if host in postfix] for stream in world.streams}
    proof = lab.plain(inventory["_meta"]["hostvars"]["fleet"]["mta_proof"])
    domains = {stream["name"]: stream["domains"] for stream in proof["streams"]}
    return run(world, hosts, domains, options.seed, options.count)


if __name__ == "__main__":
    sys.exit(main())
