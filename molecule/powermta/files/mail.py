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
from email.utils import parseaddr
from pathlib import Path

STATE = Path("/var/lib/receiver")
LOG = Path("/var/log/pmta")
NEAR, FAR = "near", "far"  # from an address that may relay, and from one that may not
PATIENCE_SECONDS = 60


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
        yield case("stranger", FAR, answer=550)
        for login in stream["logins"]:
            yield case("login", FAR, login=login)
            yield case("login-elsewhere", FAR, login=login, port=others[0]["port"])
            yield case("login-at-the-front", FAR, login=login, port=front["port"])
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
    message.set_content(f"{case.name}\n")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with smtplib.SMTP(given["host"], case.port, local_hostname="app.lab.test", timeout=30) as client:
            if case.login:
                if case.tls:
                    client.starttls(context=context)
                client.login(case.login, case.password or given["password"])
            client.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        code, text = next(iter(error.recipients.values()))
        return [code, str(text)]
    except smtplib.SMTPNotSupportedError as error:
        return [0, str(error)]
    except smtplib.SMTPResponseException as error:
        return [error.smtp_code, str(error.smtp_error)]
    return [250, ""]


def arrived(given: dict) -> object:
    wanted = {identity(given, case) for case in cases(given) if case.way in given["ways"] and case.answer == 250}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        lines = [json.loads(line) for line in (STATE / "seen.jsonl").open(encoding="utf-8")]
        seen = [line for line in lines if line["event"] == "accepted" and given["run"] in line["message_id"]]
        if wanted <= {line["message_id"] for line in seen} or time.monotonic() > deadline:
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
        if len(seen) != (1 if case.answer == 250 else 0):
            found.append(f"{case.name} arrived {len(seen)} times")
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
    if seen["mail_from"].rpartition("@")[2] != case.stream["return_path"]:
        yield f"its envelope sender is {seen['mail_from']}"
    header = given["slice"]["front"]["header"]
    if header.lower() in (name.lower() for name in seen["headers"]):
        yield f"it still has {header}"
    yield from unsigned(given["records"], raw)
    records = [row for row in given["accounting"] if row["type"] == "d" and row["rcpt"] == case.recipient]
    # A probe's recipient leads to the virtual MTA itself, past the pool.
    place = (address["name"], "" if case.ips else case.stream["name"])
    if place not in {(row["vmta"], row["vmtaPool"]) for row in records if row["dlvSourceIp"] == ip}:
        yield f"there is no record of it by {' in '.join(place)}: {records}"


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
