# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail through a PowerMTA host, and what must become of it. Which messages there are comes from the host's slice.

usage: mail.py send         on the way that is given: prints the answer to each message that goes that way
       mail.py arrived      at the receiver: prints what it wrote down and kept, once everything is there
       mail.py accounting   at the host: prints the records of its accounting
       mail.py check        prints what is wrong
Standard input is one JSON object: slice, run (a text that no other run has), and what a command needs besides.
"""

from __future__ import annotations

import csv
import ipaddress
import json
import smtplib
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from pathlib import Path

STATE = Path("/var/lib/receiver")
LOG = Path("/var/log/pmta")
NEAR, FAR = "near", "far"  # from an address that may relay, and from one that may not
PATIENCE_SECONDS = 60
TRACE = "from secret.app.test (10.9.8.7) by relay.app.test; Mon, 2 Nov 2026 10:00:00 +0000"
REFUSING = "foreign-from"  # the virtual MTA of what no stream may send


@dataclass(frozen=True)
class Case:
    name: str
    way: str  # near, far, or the source address that is disabled meanwhile
    stream: dict
    port: int
    domain: str  # of From
    recipient: str
    ips: tuple[str, ...] = ()  # the only ones it may leave from; none: those of the stream
    headers: dict[str, str] = field(default_factory=dict)
    sender: str | None = None  # of the envelope; none: that of From
    bounces: bool = False  # it is taken, never arrives, and its sender gets a report
    size: int = 0  # of its body
    helo: bool = False  # without ESMTP, so that no size is told beforehand
    login: str = ""
    password: str = ""  # another than the right one
    tls: bool = True
    answer: int = 250


def cases(given: dict) -> Iterator[Case]:
    host, run = given["slice"], given["run"]
    front, sink = host["front"], host["sink_domain"]
    for stream in host["streams"]:
        others = [one for one in host["streams"] if one is not stream]
        foreign = others[0]["addresses"][0]["name"]
        elsewhere = others[0]["domains"][0]
        injector = f"injector+{run}-{stream['name']}-{{}}@default-receiver.test"
        name_of_other = {front["header"]: others[0]["name"]}

        def case(name: str, way: str, stream: dict = stream, **more: object) -> Case:
            domain = more.pop("domain", stream["domains"][0])
            to = more.pop("recipient", f"someone+{run}-{stream['name']}-{name}@{sink}")
            port = more.pop("port", stream["port"])
            return Case(f"{stream['name']}-{name}", way, stream, port, domain, to, **more)

        for address in stream["addresses"]:
            for ip in address["ips"]:
                rest = [other for other in address["ips"] if other != ip]
                probe = f"verify-{address['label']}@{sink}"
                name = f"address-{ip.replace(':', '-')}"
                yield case(name, rest[0] if rest else NEAR, recipient=probe, ips=(ip,))
        for domain in stream["domains"]:
            yield case(f"domain-{domain}", NEAR, domain=domain)
        yield case("front", NEAR, port=front["port"], headers={front["header"]: f" {stream['name'].upper()} "})
        yield case("no-jump", NEAR, headers={"X-virtual-MTA": foreign})
        both = {"X-virtual-MTA": foreign, front["header"]: stream["name"]}
        yield case("no-jump-at-the-front", NEAR, port=front["port"], headers=both)
        yield case("trace", NEAR, headers={"Received": TRACE})
        yield case("foreign-sender", NEAR, sender=injector.format("envelope"))
        yield case("null-sender", NEAR, sender="")
        yield case("foreign-from", NEAR, domain=elsewhere, sender=injector.format("from"), bounces=True)
        yield case("unknown-from", NEAR, domain="elsewhere.test", sender=injector.format("unknown"), bounces=True)
        yield case("foreign-null-sender", NEAR, domain=elsewhere, sender="", bounces=True)
        yield case(
            "front-foreign-from",
            NEAR,
            port=front["port"],
            domain=elsewhere,
            headers={front["header"]: stream["name"]},
            sender=injector.format("front"),
            bounces=True,
        )
        yield case(
            "front-unknown-name",
            NEAR,
            port=front["port"],
            headers={front["header"]: "nobody"},
            sender=injector.format("name"),
            bounces=True,
        )
        if stream["max_message_bytes"] < 100_000:
            yield case("large-enough", NEAR, size=stream["max_message_bytes"] - 4096)
            yield case("too-large", NEAR, size=stream["max_message_bytes"] + 4096, answer=552)
            yield case("too-large-as-it-comes", NEAR, size=stream["max_message_bytes"] + 4096, helo=True, answer=552)
        yield case("stranger", FAR, answer=550)
        for name, recipient in (
            ("bare", "postmaster"),
            ("bare-quoted", '"Postmaster"'),
            ("dotless", "postmaster@host"),
        ):
            yield case(f"stranger-{name}", FAR, recipient=recipient, answer=501)
        yield case("stranger-route", FAR, recipient=f"@{sink},@relay.test:someone@{sink}", answer=550)
        yield case("stranger-percent", FAR, recipient=f"someone%{sink}@{sink}", answer=550)
        yield case("stranger-null-sender", FAR, sender="", answer=550)
        for login in stream["logins"]:
            yield case("login", FAR, login=login)
            yield case("login-elsewhere", FAR, login=login, port=others[0]["port"])
            yield case("login-at-the-front", FAR, login=login, port=front["port"])
            at_front = {"login": login, "port": front["port"]}
            yield case("login-null-sender", FAR, sender="", headers={front["header"]: stream["name"]}, **at_front)
            yield case(
                "login-other-stream", FAR, sender="", headers=name_of_other, domain=elsewhere, bounces=True, **at_front
            )
            yield case(
                "login-other-name",
                FAR,
                sender=injector.format("login"),
                headers=name_of_other,
                bounces=True,
                **at_front,
            )
            yield case("wrong-password", FAR, login=login, password="wrong", answer=535)
            yield case("login-in-clear", FAR, login=login, tls=False, answer=0)


def identity(given: dict, case: Case) -> str:
    return f"<{given['run']}.{case.name}@lab.test>"


def send(given: dict) -> object:
    return {case.name: inject(given, case) for case in cases(given) if case.way == given["way"]}


def inject(given: dict, case: Case) -> list[object]:
    """The code of the answer, 0 where there is no login at all, and the text."""
    message = EmailMessage()
    message["From"] = f"molecule@{case.domain}"
    message["To"] = case.recipient
    message["Subject"] = case.name
    message["Message-ID"] = identity(given, case)
    for name, value in case.headers.items():
        message[name] = value
    message.set_content(f"{case.name}\n" + ("x" * 63 + "\n") * (case.size // 64))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with smtplib.SMTP(given["host"], case.port, local_hostname="app.lab.test", timeout=30) as client:
            if case.login:
                if case.tls:
                    client.starttls(context=context)
                client.login(case.login, case.password or given["password"])
            if case.helo:
                client.helo()
            client.ehlo_or_helo_if_needed()
            content = message.as_bytes(policy=SMTP)
            code, text = client.mail(
                message["From"] if case.sender is None else case.sender,
                [f"SIZE={len(content)}"] if client.has_extn("size") else [],
            )
            if code == 250:
                code, text = client.docmd("RCPT", f"TO:<{case.recipient}>")  # as it is: smtplib would mend it
            if code == 250:
                code, text = client.data(content)
            return [code, str(text)]
    except smtplib.SMTPNotSupportedError as error:
        return [0, str(error)]
    except smtplib.SMTPResponseException as error:
        return [error.smtp_code, str(error.smtp_error)]


def arrived(given: dict) -> object:
    taken = [case for case in cases(given) if case.way in given["ways"] and case.answer == 250]
    wanted = {identity(given, case) for case in taken if not case.bounces}
    reports = {case.sender for case in taken if case.bounces and case.sender}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        lines = [json.loads(line) for line in (STATE / "seen.jsonl").open(encoding="utf-8")]
        seen = [line for line in lines if line["event"] == "accepted" and given["run"] in str(line)]
        rcpts = {rcpt for line in seen for rcpt in line["rcpt_to"]}
        all_came = wanted <= {line["message_id"] for line in seen} and reports <= rcpts
        if all_came or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    raw = [path.read_text(encoding="latin-1") for path in sorted((STATE / "raw").glob("*.eml"))]
    return {"seen": seen, "raw": [text for text in raw if given["run"] in text]}


def accounting(given: dict) -> object:
    rows = []
    for path in sorted(LOG.glob("acct-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not reader.fieldnames or reader.fieldnames[0] != "type":
                sys.exit(f"{path} has no header line: {reader.fieldnames}")
            rows += list(reader)
    return rows


def check(given: dict) -> object:
    found = []
    for case in cases(given):
        code, text = given["answers"].get(case.name, (None, "it was not sent"))
        if code != case.answer:
            found.append(f"{case.name}: the answer should be {case.answer} and is {code} {text}")
            continue
        seen = [line for line in given["seen"] if line["message_id"] == identity(given, case)]
        if len(seen) != (1 if case.answer == 250 and not case.bounces else 0):
            found.append(f"{case.name} arrived {len(seen)} times")
        elif case.bounces:
            found += [f"{case.name}: {what}" for what in unreported(given, case)]
        elif seen:
            raw = next(text for text in given["raw"] if identity(given, case) in text).encode("latin-1")
            found += [f"{case.name}: {what}" for what in wrong(given, case, seen[0], raw)]
    return found


def wrong(given: dict, case: Case, seen: dict, raw: bytes) -> Iterator[str]:
    ip = str(ipaddress.ip_address(seen["source_ip"]))
    fitting = [address for address in case.stream["addresses"] if ip in (case.ips or address["ips"])]
    if not fitting:
        yield f"it came from {ip}"
        return
    address = next(one for one in fitting if ip in one["ips"])
    if seen["ehlo"] != address["ehlo"]:
        yield f"it came from {ip} as {seen['ehlo']}"
    path = "" if case.sender == "" else case.stream["return_path"]
    if seen["mail_from"].strip("<>").rpartition("@")[2] != path:
        yield f"its envelope sender is {seen['mail_from']}"
    hidden = case.stream["remove_received"]
    if hidden and ("received" in map(str.lower, seen["headers"]) or b"app.test" in raw or b"app.lab.test" in raw):
        yield f"it tells where it came from: {seen['headers']}"
    if not hidden and (
        b"app.lab.test" not in raw or (TRACE in case.headers.values() and b"secret.app.test" not in raw)
    ):
        yield "it does not tell where it came from"
    header = given["slice"]["front"]["header"]
    if header.lower() in (name.lower() for name in seen["headers"]):
        yield f"it still has {header}"
    yield from unsigned(given["records"], raw)
    records = [row for row in given["accounting"] if row["type"] == "d" and row["rcpt"] == case.recipient]
    # A probe's recipient leads to the virtual MTA itself, past the pool.
    place = (address["name"], "" if case.ips else case.stream["name"])
    if place not in {(row["vmta"], row["vmtaPool"]) for row in records if row["dlvSourceIp"] == ip}:
        yield f"there is no record of it by {' in '.join(place)}: {records}"


def unreported(given: dict, case: Case) -> Iterator[str]:
    """What is wrong with the bounce of a message that no stream may send."""
    rows = [row for row in given["accounting"] if row["type"] == "b" and row["rcpt"] == case.recipient]
    if [row["vmta"] for row in rows] != [REFUSING]:
        yield f"it has the records {rows}"
    if not case.sender:
        return
    reports = [line for line in given["seen"] if case.sender in line["rcpt_to"]]
    if len(reports) != 1:
        yield f"{len(reports)} reports of it came"
        return
    (report,), address = reports, given["slice"]["streams"][0]["addresses"][0]
    if report["mail_from"].strip("<>"):
        yield f"its report is from {report['mail_from']}"
    if (report["source_ip"], report["ehlo"]) not in [(ip, address["ehlo"]) for ip in address["ips"]]:
        yield f"its report comes from {report['source_ip']} as {report['ehlo']}"
    if parseaddr(report["from"])[1] != f"MAILER-DAEMON@{address['ehlo']}":
        yield f"its report is From {report['from']}"


def unsigned(records: list[dict], raw: bytes) -> Iterator[str]:
    import dkim

    texts = {f"{record['name']}.".encode(): record["values"][0].encode() for record in records}
    author = parseaddr(message_from_bytes(raw)["From"])[1].rpartition("@")[2].encode("ascii", "replace").decode()
    verifier = dkim.DKIM(raw)
    try:
        valid = verifier.verify(dnsfunc=lambda name, timeout=5: texts.get(name))
    except dkim.DKIMException as error:
        yield f"its signature cannot be read: {error}"
        return
    if not valid:
        yield "it has no valid signature"
        return
    fields = {name: verifier.signature_fields[name.encode()].decode() for name in "ad"}
    if fields != {"a": "rsa-sha256", "d": author}:
        yield f"{author} is signed with {fields}"


if __name__ == "__main__":
    told = {"send": send, "arrived": arrived, "accounting": accounting, "check": check}[sys.argv[1]](
        json.load(sys.stdin)
    )
    if sys.argv[1] == "check":
        sys.exit("\n".join(told) or 0)
    print(json.dumps(told))
