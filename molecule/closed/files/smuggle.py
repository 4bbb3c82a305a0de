# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail with what careless servers take for the end of a message in its text, and a second message behind that.

usage: smuggle.py send RUN SINK LISTENERS    on a host that the listeners allow: prints what was taken, which listener
                                             answered more than once, and the last message to each
       smuggle.py arrived MESSAGES           at the receiver: waits for those, then prints what should not have come
The last message to each listener has no false end: what came before it has arrived when it has.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import time
from pathlib import Path

# Those of the SMTP smuggling scanner of SEC Consult (inbound and outbound), of smtpsmug and of smtp_smuggling_checker.
ENDS = (
    *(b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r"),
    *(b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n."),
    *(b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n\0.\r", b"\r\n\0.\n"),
)
HEAD = "From: {sender}\r\nTo: {to}\r\nSubject: {to}\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <{to}>\r\n"
SECOND = "MAIL FROM:<{sender}>\r\nRCPT TO:<{to}>\r\nDATA\r\n" + HEAD + "\r\nsmuggled\r\n.\r\n"
STATE = Path("/var/lib/receiver")
PATIENCE_SECONDS = 60


def answers(port: int, sender: str, to: str, header: str, text: bytes) -> list[str]:
    """What is said after DATA, up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        heard = connection.makefile("rb")

        def ask(line: str) -> str:
            connection.sendall(f"{line}\r\n".encode() if line else b"")
            while True:
                reply = heard.readline().decode().rstrip()
                if reply[3:4] != "-":
                    return reply

        for line in ("", "EHLO [127.0.0.1]", f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"):
            reply = ask(line)
        if not reply.startswith("354"):
            sys.exit(f"port {port}: {reply}")
        head = HEAD.format(sender=sender, to=to) + (f"{header}\r\n" if header else "")
        connection.sendall(f"{head}\r\nfirst".encode() + text)
        said = [ask("")]
        with contextlib.suppress(OSError):  # it may refuse and hang up
            said += [ask("QUIT"), *(line.decode().rstrip() for line in heard)]
        return [reply for reply in said if reply and not reply.startswith("221")]


def send(run: str, sink: str, listeners: str) -> dict[str, object]:
    taken, twice, last = 0, [], []
    for listener in json.loads(listeners):
        sender = f"smuggle@{listener['domain']}"
        second = SECOND.format(sender=sender, to=f"smuggled-{run}@{sink}").encode()
        for number, end in enumerate((*ENDS, b"\r\n.\r\n")):
            to = f"smuggle-{run}-{listener['port']}-{number}@{sink}"
            text = end + second if number < len(ENDS) else end
            said = answers(listener["port"], sender, to, listener["header"], text)
            taken += said[0].startswith("250")
            if len(said) != 1:
                twice.append({**listener, "end": repr(end), "said": said})
        last.append(to)
    return {"taken": taken, "twice": twice, "last": last}


def arrived(messages: str) -> dict[str, object]:
    wanted, until = set(json.loads(messages)), time.monotonic() + PATIENCE_SECONDS
    while True:
        lines = [json.loads(line) for line in (STATE / "seen.jsonl").read_text(encoding="utf-8").splitlines()]
        seen = {to for line in lines if line["event"] == "accepted" for to in line["rcpt_to"]}
        if wanted <= seen or time.monotonic() > until:
            break
        time.sleep(0.5)
    # A stray CR or LF that is passed on may end the message at the next server.
    stray = [
        path.name
        for path in sorted((STATE / "raw").glob("*.eml"))
        for content in [path.read_bytes()]
        if b"\nTo: smuggle-" in content and re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    ]
    wrong = sorted(to for to in seen if to.startswith(("smuggled-", "relay-probe")))
    return {"missing": sorted(wanted - seen), "wrong": wrong, "stray": stray}


if __name__ == "__main__":
    print(json.dumps({"send": send, "arrived": arrived}[sys.argv[1]](*sys.argv[2:])))
