# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifies with dkimpy what the signer answered. Reads records, messages and the client's lines from standard input.

A message named good* must be signed by every key of its domain, any other must be refused.
"""

from __future__ import annotations

import json
import sys

import dkim


def problems(given: dict) -> list[str]:
    records = {f"{record['name']}.".encode(): record["values"][0].encode() for record in given["records"]}
    found = []
    for answer in map(json.loads, given["answers"]):
        name, wanted = answer["file"], answer["file"].startswith("good")
        if not wanted:
            if answer["action"] != "y" or answer["headers"]:
                found.append(f"{name} was not refused")
            continue
        if answer["action"] != "a":
            found.append(f"{name} was refused: {answer['text']}")
            continue
        signed = "".join(f"{header}\n" for header in answer["headers"]) + given["messages"][name]
        message = signed.replace("\r\n", "\n").replace("\n", "\r\n").encode()
        algorithms = set()
        for number in range(len(answer["headers"])):
            verifier = dkim.DKIM(message)
            if not verifier.verify(idx=number, dnsfunc=lambda name, timeout=5: records.get(name)):
                found.append(f"{name}: signature {number} is not valid")
            algorithms.add(verifier.signature_fields[b"a"].decode())
        if algorithms != {"rsa-sha256", "ed25519-sha256"}:
            found.append(f"{name} is signed with {sorted(algorithms)}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems(json.load(sys.stdin))) or 0)
