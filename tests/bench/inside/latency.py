# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the node: times single messages from their injection to their arrival."""

import asyncio
import json
import smtplib
import statistics
import sys
import threading
import time

job = json.loads(sys.argv[1])
arrived, sent = {}, {}


async def session(reader, writer):
    """A receiver that notes when each subject came."""
    writer.write(b"220 timing ESMTP\r\n")
    data = False
    while line := await reader.readline():
        if data:
            if line.lower().startswith(b"subject:"):
                arrived.setdefault(line.split()[1].decode(), time.perf_counter())
            data = line != b".\r\n"
            if not data:
                writer.write(b"250 ok\r\n")
        elif line[:4].upper() == b"DATA":
            data = True
            writer.write(b"354 go\r\n")
        elif line[:4].upper() == b"QUIT":
            writer.write(b"221 bye\r\n")
            break
        else:
            writer.write(b"250 ok\r\n")
    writer.close()


def serve():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.start_server(session, job["timing"], 25))
    loop.run_forever()


threading.Thread(target=serve, daemon=True).start()
time.sleep(0.5)
for number in range(job["messages"]):
    name = f"n{number}"
    begin = time.perf_counter()
    text = f"From: <{job['sender']}>\r\nSubject: {name}\r\nMessage-ID: <{name}@bench.test>\r\n\r\nhello\r\n"
    with smtplib.SMTP("127.0.0.1", job["port"]) as client:
        sent[name] = time.perf_counter()
        client.sendmail(job["sender"], [f"someone@[{job['timing']}]"], text)
    time.sleep(max(0.0, 0.2 - (time.perf_counter() - begin)))
deadline = time.perf_counter() + 30
while len(arrived) < len(sent) and time.perf_counter() < deadline:
    time.sleep(0.05)
times = sorted(arrived[name] - sent[name] for name in arrived) or [float("inf")]
figures = {"median": statistics.median(times), "p99": times[int(len(times) * 0.99)]}
print(json.dumps({"sent": len(sent), "arrived": len(arrived), **figures}))
