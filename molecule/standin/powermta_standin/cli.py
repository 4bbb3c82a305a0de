# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): the command pmta."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

from . import NAME, ROOT, SOCKET, routing
from .answer import version
from .reader import ConfigError

USAGE = f"""{NAME}
usage: pmta [--json] COMMAND
show status|version|license|queues|topqueues|domains|vmtas|jobs|settings D[/V]|vmta-settings V|disabled sources
list|delete [--queue= --orig= --rcpt= --jobId= --older-than=], pause|resume queue D/V, pause|resume job J, schedule D/V
set queue --mode=normal|backoff D/V, disable|enable source IP D/V, reload, rotate acct|log, reset counters|status
test config"""


def ask(words: list[str]) -> dict[str, Any]:
    """The daemon's answer: code, text, data."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(60)
        sock.connect(SOCKET)
        with sock.makefile("rwb") as file:
            file.write(json.dumps(words).encode() + b"\n")
            file.flush()
            answer: dict[str, Any] = json.loads(file.readline())
            return answer


def test_config() -> str:
    """What is wrong with the files on disk, if anything. PowerMTA's exit code is not described; ours is always 0."""
    try:
        routing.load(ROOT)
    except ConfigError as error:
        return str(error)
    return f"{os.path.join(ROOT, 'config')}: the configuration is fine."


def main() -> None:
    as_json = "--json" in sys.argv
    words = [word for word in sys.argv[1:] if word not in ("--json", "--xml", "--dom")]
    if not words or words == ["help"]:
        print(USAGE)
        sys.exit(0 if words else 1)
    if words[:2] == ["test", "config"]:
        text = test_config()
        wrong = text.startswith("Error")
        print(json.dumps({"status": "error" if wrong else "success", "message": text, "data": {}}) if as_json else text)
        return
    if words[:2] == ["show", "version"]:
        answer: dict[str, Any] = {"code": 0, "text": version().text, "data": version().data}
    else:
        try:
            answer = ask(words)
        except PermissionError:
            answer = {"code": 1, "text": "Error: only root and the group pmta may do that", "data": None}
        except (OSError, ValueError) as error:
            answer = {"code": 1, "text": f"Error: pmtad does not answer: {error}", "data": None}
    if as_json:
        status = "error" if answer["code"] else "success"
        print(
            json.dumps({"status": status, "message": answer["text"] if answer["code"] else "", "data": answer["data"]})
        )
    elif answer["text"]:
        print(answer["text"], file=sys.stderr if answer["code"] else sys.stdout)
    sys.exit(answer["code"])
