# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long PowerMTA configurations take: to check one of 70 KB grown by hand, to render and check 1,000 virtual MTAs.

Targets: 0.5 s and 3 s, up to the findings, in a process that has checked nothing before.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

COLLECTIONS = Path(__file__).resolve().parents[2] / "build" / "collections"
BY_HAND_BYTES = 70_000
VMTAS, EACH = 1000, 4  # virtual MTAs in all, and in one pool
RECEIVERS = (
    "gmail.com",
    "$microsoft",
    "yahoo.$tld",
    "[*.]orange.example",
    "icloud.com",
    "gmx.example",
    "mail.example",
    "corp.rollup",
    "*",
)
BEGIN = """\
# {what}
run-as-root no
postmaster postmaster@example.com
log-file /var/log/pmta/pmta.log
http-access 127.0.0.1 admin
http-access 10.0.0.9 monitor
domain-macro tld com, co.uk, fr, de
domain-macro microsoft outlook.$tld, hotmail.$tld, live.com
<spool /var/spool/pmta>
</spool>
<acct-file /var/log/pmta/acct.csv>
    records d,b,t
    max-size 50M
    delete-after 8d
</acct-file>
<domain corp.rollup>
    smtp-hosts lookup-mx:corp.example
</domain>
"""
REPLIES = ("421 4.7.0", "too many connections", "rate limit", "try again later", "temporarily deferred", "listed at")
MISTAKES = (
    "max-msg-per-conection 10",
    "retry-after 10 m",
    "ehlo-hostname mta.example.com",
    "max-msg-rate fast",
    "smtp-service yes",
    "queue-to nowhere",
    "max-cold-virtual-mta-msg 50/d,100/d",
)


def by_hand(size: int, seed: int = 5) -> str:
    """A configuration as it grows over years: repeats itself, comments, odd indents, and a mistake here and there."""
    dice = random.Random(seed)
    text = [BEGIN.format(what="do not touch without asking")]
    text.append("<source 127.0.0.1>\n  always-allow-relaying yes\n  process-x-virtual-mta yes\n</source>\n")
    number, length = 0, 0
    while length < size:
        number += 1
        part = "".join(_grown(dice, number))
        text.append(part)
        length += len(part)
    return "".join(text)[:size].rpartition("\n")[0] + "\n"


def _grown(dice: random.Random, number: int) -> Iterator[str]:
    indent = dice.choice(("", "\t", "  ", "    "))
    octets = f"203.0.{number // 250}.{number % 250}"
    yield f"#### {octets} ####\n<virtual-mta mta{number}>\n"
    yield f"{indent}smtp-source-host {octets} mta{number}.example.com\n"
    for domain in dice.sample(RECEIVERS, 2):
        yield f"{indent}<domain {domain}>\n"
        yield f"{indent * 2}max-smtp-out {dice.randint(1, 90)} # was {dice.randint(1, 90)}\n"
        yield f"{indent * 2}max-msg-rate {dice.randint(1, 900)}/h\n"
        if dice.random() < 0.1:
            yield f"{indent * 2}{dice.choice(MISTAKES)}\n"
        yield f"{indent}</domain>\n"
    yield "</virtual-mta>\n\n"
    if number % 5 == 0:
        yield f"<domain isp{number}.example>\n{indent}smtp-pattern-list replies{number}\n</domain>\n"
        yield f"<smtp-pattern-list replies{number}>\n"
        for reply in dice.sample(REPLIES, 4):
            yield f"{indent}reply /{reply}/ mode=backoff,backoff-to-normal-after={dice.randint(1, 9)}h\n"
        yield "</smtp-pattern-list>\n"


def fleet_document(vmtas: int, each: int) -> dict[str, Any]:
    """A fleet file whose one host has so many addresses, so many of them in each stream."""
    streams = {
        f"s{number}": {
            "domain": f"s{number}.example.com",
            "port": 3000 + number,
            "inject_from": ["10.0.0.0/8"],
            "addresses": [
                {
                    "ip": f"10.{100 + number // 60}.{number % 60}.{last}",
                    "host": "mta1",
                    "ehlo": f"m{last}.s{number}.example.com",
                }
                for last in range(1, each + 1)
            ],
        }
        for number in range(vmtas // each)
    }
    return {
        "plugin": "mailops.mta.fleet",
        "domain": "example.com",
        "bounce_host": "mx.example.com",
        "hosts": {"mta1": {"engine": "powermta", "listen": ["10.0.0.1"]}},
        "zones": {"example.com": {"provider": "external"}},
        "streams": streams,
    }


def measure(which: str) -> None:
    """In a process of its own: seconds, findings, bytes and lines."""
    sys.path.insert(0, str(COLLECTIONS))
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import checks, dkim, slices
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import fragments as powermta
    from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse as fleet

    if which == "by_hand":
        texts = {"/etc/pmta/config": by_hand(BY_HAND_BYTES)}
        begin = time.perf_counter()
    else:
        whole, _findings = fleet.parse(fleet_document(VMTAS, EACH))
        if whole is None:
            raise SystemExit("the fleet is refused")
        begin = time.perf_counter()
        data = slices.slice_of(whole, "mta1")
        fragments = powermta.files(data, slices.Options(today=date(2026, 11, 25)))
        fragments.update(dict.fromkeys(slices.keys_files(data), dkim.without_keys()))
        texts = {f"/etc/pmta/conf.d/{name}": text for name, text in fragments.items()}
        texts["/etc/pmta/config"] = "include /etc/pmta/conf.d/*.conf\n"
    findings = checks.check(texts)
    text = "".join(texts.values())
    print(time.perf_counter() - begin, len(findings), len(text), text.count("\n"))


def _measured(which: str) -> tuple[float, int, int, int]:
    """The middle one of three."""
    runs = []
    for _round in range(3):
        told = subprocess.run([sys.executable, __file__, which], check=True, capture_output=True, text=True).stdout
        seconds, findings, size, lines = told.split()
        runs.append((float(seconds), int(findings), int(size), int(lines)))
    return sorted(runs)[1]


def main() -> dict[str, Any]:
    hand, fleet = _measured("by_hand"), _measured("fleet")
    return {
        "by_hand": f"{hand[2]} bytes, {hand[3]} lines, {hand[1]} findings",
        "by_hand_seconds": round(hand[0], 3),
        "fleet": f"{VMTAS} virtual MTAs in {VMTAS // EACH} pools, {fleet[2]} bytes, {fleet[3]} lines",
        "fleet_seconds": round(fleet[0], 2),
        "fleet_findings": fleet[1],
        "target": "0.5 s, 3 s",
        "met": hand[0] < 0.5 and fleet[0] < 3,
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        print(main())
