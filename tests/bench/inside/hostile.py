# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs beside the node: keeps many idle connections to one port, each opened again when it ends; prints what it got."""

import asyncio
import json
import sys
import time

job = json.loads(sys.argv[1])
begin = time.monotonic()
end = begin + job["seconds"]
counts = {"tried": 0, "opened": 0, "open": 0, "most_open": 0}


async def one():
    while time.monotonic() < end:
        counts["tried"] += 1
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(job["address"], job["port"]), 10)
        except (OSError, asyncio.TimeoutError):
            await asyncio.sleep(1)
            continue
        counts["opened"] += 1
        counts["open"] += 1
        counts["most_open"] = max(counts["most_open"], counts["open"])
        try:
            while await asyncio.wait_for(reader.read(1024), max(0.1, end - time.monotonic())):
                pass
        except (OSError, asyncio.TimeoutError):
            pass
        counts["open"] -= 1
        writer.close()
        await asyncio.sleep(0.1)


async def main():
    await asyncio.gather(*(one() for _number in range(job["connections"])))


asyncio.run(main())
del counts["open"]
print(json.dumps(counts))
