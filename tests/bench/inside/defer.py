# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the node: fills a stream with messages for a receiver that defers them all; prints how many wait."""

import os
import subprocess
import sys
import time

count, deferring = int(sys.argv[1]), sys.argv[2]
subprocess.run(
    [
        "smtp-source",
        "-s",
        "20",
        "-m",
        str(count),
        "-f",
        "a@s4.bench.test",
        "-t",
        "someone@[" + deferring + "]",
        "127.0.0.1:2604",
    ],
    check=True,
)


def waiting():
    return sum(len(files) for _p, _d, files in os.walk("/var/spool/postfix-s4/deferred"))


end = time.time() + 240
while time.time() < end and waiting() < count * 0.98:
    time.sleep(1)
print(waiting())
