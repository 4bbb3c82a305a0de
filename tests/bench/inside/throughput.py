# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the node: prints the seconds from the first message to the last empty queue, and its own CPU seconds."""

import json
import os
import subprocess
import sys
import time

MESSAGE = """\
From: <{sender}>
To: <someone@example.com>
Subject: figures of today
Message-ID: <1@bench.test>
Date: Tue, 24 Nov 2026 12:00:00 +0000
MIME-Version: 1.0
Content-Type: text/plain

"""
LINES = "All is well, and here is a line of text.\n" * 40

job = json.loads(sys.argv[1])


def queued(instance):
    for part in ("maildrop", "incoming", "active", "deferred"):
        for _place, _folders, files in os.walk(f"/var/spool/{instance}/{part}"):
            if files:
                return True
    return False


commands = []
for stream in job["streams"]:
    name = f"/tmp/message-{stream['sender']}"
    with open(name, "w", encoding="utf-8") as message:
        message.write(MESSAGE.format(**stream) + LINES)
    options = ["-s", str(stream["sessions"]), "-m", str(stream["messages"]), "-f", stream["sender"], "-F", name]
    commands.append(["smtp-source", *options, "-t", f"someone@[{job['sink']}]", f"127.0.0.1:{stream['port']}"])
begin = time.perf_counter()
processes = [subprocess.Popen(command) for command in commands]
if any(process.wait() for process in processes):
    sys.exit("smtp-source failed")
while any(queued(stream["instance"]) for stream in job["streams"]):
    if time.perf_counter() - begin > 300:
        sys.exit("the queue does not empty")
    time.sleep(0.02)
print(time.perf_counter() - begin, time.process_time())
