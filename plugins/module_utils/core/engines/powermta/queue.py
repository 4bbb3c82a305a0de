# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA's queues by name, and what must be done to bring one into a state. A queue is ``domain/virtual-mta``."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

EVERY = "*/*"
DEFAULTS: Mapping[str, Any] = {"paused": False, "mode": "normal"}  # of a queue that PowerMTA does not list

_DOMAIN = re.compile(r"\*|(\*\.)?[^\W_-][\w.-]*(\.rollup)?|\[[0-9a-fA-F:.]+\]")
_VMTA = re.compile(r"\*|\{default\}|[^\W_-][\w.-]*")
_ADDRESS = re.compile(r"[^\s@\"'<>,;*?-][^\s@\"'<>,;*?]*@[^\s@\"'<>,;*?]+")


def problem(queue: str) -> str:
    """Why this is not the name of a queue, or nothing."""
    domain, slash, vmta = queue.partition("/")
    if not slash:
        return f"{queue!r} names no queue: write DOMAIN/VIRTUAL-MTA, as `pmta show queues` has it"
    if not _DOMAIN.fullmatch(domain):
        return f"{domain!r} in {queue!r} is no domain: letters, digits, dots and hyphens, or *"
    if not _VMTA.fullmatch(vmta):
        return f"{vmta!r} in {queue!r} is no virtual MTA: letters, digits, dots, hyphens and underscores, or *"
    return ""


def address_problem(address: str) -> str:
    return "" if _ADDRESS.fullmatch(address) else f"{address!r} is no mail address"


def refusal(queue: str, *, deletes: bool, confirm: Optional[str], every_queue: bool) -> str:
    """Why this must not be done yet, or nothing. Many queues, or mail for good, are touched when it is said twice."""
    found = problem(queue)
    if found:
        return found
    if "*" in queue and not every_queue:
        return f"{queue} is every queue that fits the pattern: set every_queue: true as well, and confirm: {queue!r}"
    if ("*" in queue or deletes) and confirm != queue:
        what = "deletes mail for good" if deletes else "concerns many queues"
        return f"this {what}: set confirm to the same name, {queue!r}"
    return ""


def matches(pattern: str, queue: str) -> bool:
    wanted, name = pattern.lower().split("/", 1), queue.lower().split("/", 1)
    return len(name) == 2 and all(_fits(part, given) for part, given in zip(wanted, name))


def _fits(pattern: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, "".join("*" if letter == "*" else f"[{letter}]" for letter in pattern))


def fitting(records: Iterable[Mapping[str, Any]], pattern: str) -> list[Mapping[str, Any]]:
    return [each for each in records if matches(pattern, str(each["name"]))]


def lacking(records: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> list[str]:
    """Which of ``wanted`` (paused, mode) is not known to hold for every record; of no record, the default holds."""
    return [name for name, value in wanted.items() if any(each != value for each in _values(records, name))]


def resisting(records: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> list[str]:
    """Which of ``wanted`` is known not to hold for some record."""
    listed = [each for each in records if "*" not in str(each["name"])]
    return [name for name, value in wanted.items() if any(each[name] not in (value, None) for each in listed)]


def _values(records: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    # A pattern that something was once set for may be listed as a queue of its own, without a state.
    values = [each[name] for each in records if "*" not in str(each["name"]) or each[name] is not None]
    return values or [DEFAULTS[name]]


def commands(queue: str, wanted: Mapping[str, Any], lack: Iterable[str]) -> list[list[str]]:
    made = []
    for name in lack:
        if name == "paused":
            made.append(["pause" if wanted["paused"] else "resume", "queue", queue])
        else:
            made.append(["set", "queue", f"--mode={wanted['mode']}", queue])
    return made


def selection(queue: str, orig: str, rcpt: str, older_than_seconds: int) -> list[str]:
    """The options with which ``list`` shows and ``delete`` deletes the same mail."""
    made = [f"--queue={queue}"]
    made += [f"--orig={orig}"] if orig else []
    made += [f"--rcpt={rcpt}"] if rcpt else []
    return made + ([f"--older-than={older_than_seconds}s"] if older_than_seconds else [])


def described(records: Iterable[Mapping[str, Any]], wanted: Optional[Mapping[str, Any]] = None) -> str:
    """The states of queues, one a line, for a diff."""
    return "".join(
        f"{each['name']}: {', '.join(_state(name, each[name]) for name in wanted or DEFAULTS)}\n"
        for each in sorted(records, key=lambda each: str(each["name"]))
    )


def _state(name: str, value: Any) -> str:
    if name == "paused":
        return {True: "paused", False: "running"}.get(value, "paused or running")
    return f"mode {value or 'unknown'}"


# ---- sources


def source_problem(ip: str) -> str:
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        return f"{ip!r} is no IP address"
    return ""


def same_ip(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return one == other


def disabling(records: Iterable[Mapping[str, Any]], ip: str, queue: str) -> list[Mapping[str, Any]]:
    """The records that keep ``ip`` from ``queue``: for that queue itself, or for a pattern that holds it."""
    return [each for each in records if same_ip(str(each["ip"]), ip) and _covers(str(each["queue"]), queue)]


def about(records: Iterable[Mapping[str, Any]], queue: str) -> list[Mapping[str, Any]]:
    """The records for a queue that fits ``queue``, or for a pattern that holds it."""
    return [each for each in records if matches(queue, str(each["queue"])) or _covers(str(each["queue"]), queue)]


def _covers(pattern: str, queue: str) -> bool:
    whole = pattern if "/" in pattern else f"{pattern}/*"
    return whole.lower() == queue.lower() or ("*" in whole and matches(whole, queue))


def source_holds(found: Sequence[Mapping[str, Any]], disabled: bool, reenable: bool) -> bool:
    """Whether the source is as wanted. One that comes back by itself is another state than one that does not."""
    if not disabled:
        return not found
    return any(bool(each["reenable_at"]) == reenable for each in found)


def source_command(ip: str, queue: str, disabled: bool, reenable_after_seconds: int) -> list[str]:
    if not disabled:
        return ["enable", "source", ip, queue]
    timed = [f"--reenable-after={reenable_after_seconds}s"] if reenable_after_seconds else []
    return ["disable", "source", *timed, ip, queue]


def described_source(ip: str, queue: str, found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return f"{ip} for {queue}: in use\n"
    return "".join(f"{ip} for {each['queue']}: disabled{_until(each['reenable_at'])}\n" for each in found)


def _until(when: Any) -> str:
    return f" until {when}" if when else ""
