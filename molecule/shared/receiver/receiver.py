#!/usr/bin/python3
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receiver simulator: answers like large mailbox operators and writes down what it saw. It plays in the lab only.

Each operator listens on addresses of its own. SPF, DKIM and DMARC are judged by pyspf, dkimpy and authheaders, none of
which shares code with the collection. One JSON line for each message, refusal and deferral goes to
/var/lib/receiver/seen.jsonl.

Recipients that ask for trouble, at every operator: reject@ (550), full@ (452), defer@ (450), rate@ (the operator's own
words), greylist@ (the first attempt is deferred), slow@ (accepted after five seconds).
A file /var/lib/receiver/no-verify.<operator> switches the judging off, for load tests. Where there is a directory
/var/lib/receiver/raw, each accepted message lies in it as it came.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from pathlib import Path

import authheaders
import authheaders.dmarc_lookup
import authres
import dkim
import dns.exception
import dns.resolver
import dns.reversename
import spf
from aiosmtpd.smtp import SMTP

STATE = Path("/var/lib/receiver")
RAW = STATE / "raw"
CERTIFICATE = ("/etc/receiver-simulator.crt", "/etc/receiver-simulator.key")
SLOW_SECONDS = 5

listed_domain = authheaders.get_org_domain


@functools.lru_cache(maxsize=4096)
def organisational_domain(domain: str) -> str:
    """By the public suffix list, whose rule for a top-level domain that it does not have (test) is "*"."""
    found = listed_domain(domain)
    return found if "." in found else ".".join(domain.split(".")[-2:])


# authheaders 0.15.2 cuts a domain at its first hyphen, reads the list anew for every question, and takes a top-level
# domain that is not in it for one of an organisation, so that all below it would be aligned with each other.
authheaders.get_domain_part = lambda address: address.rpartition("@")[2].lower()
authheaders.get_org_domain = organisational_domain
authheaders.dmarc_lookup.get_org_domain = organisational_domain


@dataclass(frozen=True)
class Operator:
    """How one kind of receiver behaves. None: it does not do that."""

    rate: str = "451 4.7.1 Too many messages from {ip}, try again later"
    connections: int | None = None  # at once, from one address
    too_many: str = "421 4.7.0 Too many concurrent connections from {ip}"
    per_connection: int | None = None
    tls: str | None = None  # the answer to MAIL without TLS
    fcrdns: str | None = None  # the answer to data from an address without matching names
    unauthenticated: str | None = None  # the answer to data when neither SPF nor DKIM passes
    unaligned: str | None = None  # the answer to data when DMARC does not pass


OPERATORS = {
    "google": Operator(
        rate="421-4.7.28 Gmail has detected an unusual rate of email originating from [{ip}].\n"
        "421 4.7.28 To protect users, mail from this address has been temporarily rate limited.",
        connections=20,
        too_many="421 4.7.0 Too many connections from [{ip}], closing connection",
        per_connection=100,
        tls="421 4.7.29 Mail from [{ip}] was not sent over a TLS connection, try again with STARTTLS",
        fcrdns="550 5.7.25 The address [{ip}] does not have a PTR record whose name leads back to it",
        unauthenticated="550-5.7.26 The sender is unauthenticated: neither SPF nor DKIM passed for [{ip}].\n"
        "550 5.7.26 SPF {spf}, DKIM {dkim}",
    ),
    "microsoft": Operator(
        rate="451 4.7.650 The mail server [{ip}] has been temporarily rate limited due to IP reputation",
        connections=20,
        too_many="421 4.7.652 The mail server [{ip}] has exceeded the maximum number of connections",
        unaligned="550 5.7.515 Access denied, sending domain {domain} doesn't meet the required authentication level: "
        "SPF {spf}, DKIM {dkim}, DMARC {dmarc}",
    ),
    "yahoo": Operator(
        rate="421 4.7.0 [TSS04] Messages from {ip} temporarily deferred due to unexpected volume or user complaints",
        connections=20,
        too_many="421 4.7.0 [TSS05] Too many connections from {ip}",
        per_connection=20,
        unauthenticated="554 5.7.9 Message not accepted for policy reasons: SPF {spf}, DKIM {dkim}",
    ),
    "apple": Operator(
        rate="450 4.7.1 [CS01] Message rate of {ip} is too high, try again later",
        connections=10,
        per_connection=50,
        unauthenticated="554 5.7.1 [HM08] Message rejected due to local policy: not authenticated",
    ),
}

TROUBLE = {
    "reject": "550 5.1.1 No such mailbox here",
    "full": "452 4.2.2 The mailbox is full",
    "defer": "450 4.2.0 The mailbox is busy, try again later",
}
GREYLISTED = "451 4.7.1 Greylisted, try again in a minute"


class Journal:
    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8")

    def write(self, event: str, **fields: object) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        self.file.write(json.dumps({"time": stamp, "event": event, **fields}, ensure_ascii=False) + "\n")
        self.file.flush()


def addresses_of(name: str) -> list[str]:
    found = []
    for kind in ("A", "AAAA"):
        try:
            found += [answer.address for answer in dns.resolver.resolve(name, kind)]
        except dns.exception.DNSException:
            continue
    return found


def judge_names(ip: str) -> dict[str, object]:
    try:
        names = [
            str(answer.target).rstrip(".") for answer in dns.resolver.resolve(dns.reversename.from_address(ip), "PTR")
        ]
    except dns.exception.DNSException:
        names = []
    return {
        "names": names,
        "result": "pass" if any(ip in addresses_of(name) for name in names) else "fail",
    }


def judge_signature(message: bytes, index: int, value: str) -> dict[str, str]:
    tags = dict(part.strip().partition("=")[::2] for part in re.sub(r"\s+", "", value).split(";") if part)
    try:
        verdict, reason = (
            ("pass", "") if dkim.DKIM(message).verify(idx=index) else ("fail", "the signature does not match")
        )
    except dkim.DnsTimeoutError as error:
        verdict, reason = "temperror", str(error)
    except dkim.ValidationError as error:
        verdict, reason = "fail", str(error)
    except (
        dkim.DKIMException,
        dns.exception.DNSException,
        ValueError,
        TypeError,
        LookupError,
    ) as error:
        verdict, reason = "permerror", f"{type(error).__name__}: {error}"
    found = {
        "domain": tags.get("d", ""),
        "selector": tags.get("s", ""),
        "algorithm": tags.get("a", ""),
        "result": verdict,
    }
    return {**found, "reason": reason} if reason else found


def judge_dmarc(domain: str, mail_from: str, verdict: str, signatures: list[dict[str, str]]) -> dict[str, str]:
    sender = authres.SPFAuthenticationResult(result=verdict, smtp_mailfrom=mail_from)
    answers = []
    for signature in signatures or [{"result": "none", "domain": ""}]:
        signed = authres.DKIMAuthenticationResult(result=signature["result"], header_d=signature["domain"])
        answers.append(authheaders.dmarc_per_from(domain, sender, signed))
    best = next((answer for answer in answers if answer[0] == "pass"), answers[0])
    return {"result": best[0], "domain": domain, "policy": best[3]}


def author_domain(headers) -> str:
    """The domain of the From field as DNS has it; the field may hold UTF-8 (RFC 6532, RFC 8616 5)."""
    raw = next((value for name, value in headers.raw_items() if name.lower() == "from"), "")
    text = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    domain = email.utils.parseaddr(text)[1].rpartition("@")[2].lower()
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def judge(message: bytes, headers, ip: str, ehlo: str, mail_from: str) -> dict[str, object]:
    mail_from = "" if mail_from == "<>" else mail_from  # so aiosmtpd names the null sender
    sender = mail_from or f"postmaster@{ehlo}"
    verdict, _ = spf.check2(i=ip, s=mail_from, h=ehlo, timeout=10)
    signatures = [
        judge_signature(message, index, str(value)) for index, value in enumerate(headers.get_all("DKIM-Signature", []))
    ]
    author = author_domain(headers)
    return {
        "spf": {"result": verdict, "domain": sender.rpartition("@")[2]},
        "dkim": signatures,
        "dmarc": judge_dmarc(author, sender, verdict, signatures) if author else {"result": "none", "domain": ""},
        "fcrdns": judge_names(ip),
    }


class Receiver(SMTP):
    """One connection to one operator; the connection limit is counted before the banner, as operators do."""

    def __init__(self, desk: Desk, **options) -> None:
        super().__init__(desk, **options)
        self.desk = desk
        self.counted: str | None = None

    def connection_made(self, transport) -> None:
        peer = transport.get_extra_info("peername")
        if peer and self.counted is None:
            refusal = self.desk.arrive(peer[0])
            if refusal:
                transport.write(f"{refusal}\r\n".encode())
                transport.close()
                return
            self.counted = peer[0]
        super().connection_made(transport)

    def connection_lost(self, error) -> None:
        if self.counted is not None:
            self.desk.leave(self.counted)
            self.counted = None
            super().connection_lost(error)


class Desk:
    """What one operator does with what it is told: the handler of its SMTP sessions."""

    def __init__(self, entry: dict, journal: Journal, pool: ThreadPoolExecutor) -> None:
        self.name = entry["name"]
        self.operator = OPERATORS.get(self.name, Operator())
        self.verify = entry.get("verify", True)
        self.journal = journal
        self.pool = pool
        self.open: dict[str, int] = {}
        self.known: set[tuple[str, str]] = set()

    def arrive(self, ip: str) -> str | None:
        limit = self.operator.connections
        if limit is not None and self.open.get(ip, 0) >= limit:
            answer = self.operator.too_many.format(ip=ip)
            self.journal.write("refused", personality=self.name, source_ip=ip, answer=answer)
            return answer
        self.open[ip] = self.open.get(ip, 0) + 1
        return None

    def leave(self, ip: str) -> None:
        self.open[ip] -= 1

    def context(self, session, envelope) -> dict[str, object]:
        tls = None
        if session.ssl is not None:
            cipher = session.ssl.get("cipher") or (None, None, None)
            tls = {"version": cipher[1], "cipher": cipher[0]}
            if session.ssl.get("ssl_object") is not None:
                tls["version"] = session.ssl["ssl_object"].version()
        return {
            "personality": self.name,
            "source_ip": session.peer[0],
            "ehlo": session.host_name,
            "tls": tls,
            "mail_from": envelope.mail_from,
            "rcpt_to": list(envelope.rcpt_tos),
        }

    def say(self, answer: str, session, envelope, **more: object) -> str:
        event = "rejected" if answer.startswith("5") else "deferred"
        self.journal.write(event, **{**self.context(session, envelope), **more}, answer=answer)
        return answer.replace("\n", "\r\n")

    async def handle_MAIL(self, server, session, envelope, address, options):
        if self.operator.tls and session.ssl is None:
            return self.say(
                self.operator.tls.format(ip=session.peer[0]),
                session,
                envelope,
                mail_from=address,
            )
        limit = self.operator.per_connection
        session.messages = getattr(session, "messages", 0) + 1
        if limit is not None and session.messages > limit:
            return self.say(
                f"421 4.7.0 More than {limit} messages in one connection",
                session,
                envelope,
                mail_from=address,
            )
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.rpartition("@")[0].partition("+")[0].lower()
        answer = TROUBLE.get(local)
        if local == "rate":
            answer = self.operator.rate.format(ip=session.peer[0])
        if local == "greylist" and (envelope.mail_from, address) not in self.known:
            self.known.add((envelope.mail_from, address))
            answer = GREYLISTED
        if answer:
            return self.say(answer, session, envelope, rcpt_to=[address])
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        headers = BytesHeaderParser().parsebytes(envelope.content)
        seen = {
            **self.context(session, envelope),
            "message_id": str(headers.get("Message-ID", "")).strip(),
            "from": str(headers.get("From", "")),
            "subject": readable(headers.get("Subject", "")),
            "headers": [name for name, _ in headers.items()],
            "size": len(envelope.content),
        }
        if self.verify and not (STATE / f"no-verify.{self.name}").exists():
            verdicts = await asyncio.get_running_loop().run_in_executor(
                self.pool,
                judge,
                envelope.content,
                headers,
                session.peer[0],
                session.host_name,
                envelope.mail_from or "",
            )
            seen.update(verdicts)
            answer = self.verdict(session.peer[0], verdicts)
            if answer:
                return self.say(answer, session, envelope, **seen)
        if any(address.lower().startswith("slow@") for address in envelope.rcpt_tos):
            await asyncio.sleep(SLOW_SECONDS)
        if RAW.is_dir():
            keep(envelope.content)
        self.journal.write("accepted", **seen)
        return "250 2.0.0 OK"

    def verdict(self, ip: str, verdicts: dict) -> str | None:
        """The operator's refusal, or None."""
        signed = "pass" if any(signature["result"] == "pass" for signature in verdicts["dkim"]) else "fail"
        words = {
            "ip": ip,
            "spf": verdicts["spf"]["result"],
            "dkim": signed,
            "dmarc": verdicts["dmarc"]["result"],
            "domain": verdicts["dmarc"]["domain"],
        }
        operator = self.operator
        if operator.fcrdns and verdicts["fcrdns"]["result"] != "pass":
            return operator.fcrdns.format(**words)
        if operator.unauthenticated and words["spf"] != "pass" and signed != "pass":
            return operator.unauthenticated.format(**words)
        if operator.unaligned and words["dmarc"] != "pass":
            return operator.unaligned.format(**words)
        return None


def keep(message: bytes) -> None:
    name = f"{time.time_ns()}"
    (RAW / name).write_bytes(message)
    (RAW / name).rename(RAW / f"{name}.eml")


def readable(value: object) -> str:
    try:
        return str(make_header(decode_header(str(value))))
    except (LookupError, UnicodeError, ValueError):
        return str(value)


def tell_systemd(state: str) -> None:
    if os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(state.encode(), os.environ["NOTIFY_SOCKET"])


async def main(path: str) -> None:
    STATE.mkdir(exist_ok=True)
    journal = Journal(STATE / "seen.jsonl")
    pool = ThreadPoolExecutor(max_workers=8)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*CERTIFICATE)
    loop = asyncio.get_running_loop()
    for entry in json.loads(Path(path).read_text(encoding="utf-8")):
        desk = Desk(entry, journal, pool)
        options = {
            "desk": desk,
            "hostname": entry["mx"][0],
            "ident": "ESMTP receiver simulator",
            "tls_context": context,
            "enable_SMTPUTF8": True,
            "data_size_limit": entry.get("size_bytes", 33554432),
            "timeout": 300,
            "loop": loop,
        }
        await loop.create_server(
            functools.partial(Receiver, **options),
            host=[entry["ip"], entry["ip6"]],
            port=25,
            backlog=1024,
        )
    tell_systemd("READY=1")
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
