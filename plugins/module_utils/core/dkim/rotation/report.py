# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM keys for people and for Prometheus: what happens next to each series, when and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import tables
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation.fleet import Done
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation.life import (
    ACTIVE,
    COMING,
    RETIRING,
    WITHDRAWN,
    KeyState,
    Now,
    Policy,
    Wait,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING
from ansible_collections.mailops.mta.plugins.module_utils.core.foreign import printable

_SHOWN_WAITS = 40
_SHOWN_NAMES = 3  # of keys that wait for the same
NOTHING = "nothing"

GAUGES = {
    "mta_dkim_key_age_seconds": "Age of the key that a domain is signed with.",
    "mta_dkim_key_size": "Size of each key in DNS or on its way there in bits.",
    "mta_dkim_keys": "Keys of a domain by state.",
    "mta_dkim_next_step_seconds": "Time until the next step, where only time is waited for.",
    "mta_dkim_waiting": "1 where a key waits for more than time.",
    "mta_dkim_hosts_behind": "Signing hosts that do not sign with the newest key or do not tell.",
    "mta_dkim_findings": "Findings by severity.",
    "mta_dkim_last_run_timestamp_seconds": "When the keys were last looked after.",
    "mta_dkim_journal_serial": "Serial of the key store's journal.",
}


@dataclass(frozen=True)
class Next:
    """The next thing that happens to a series. ``when`` (wall) is None where it depends on more than time."""

    what: str
    when: Optional[int]
    why: str


def coming(held: Sequence[KeyState], policy: Policy, now: Now, waits: Sequence[Wait]) -> Next:
    """What comes next: a key on its way first, then the end of an old one, then the next due date."""
    if waits and not any(wait.selector for wait in waits):  # the whole series, as after a restore
        return Next("wait", None, "; ".join(wait.what for wait in waits))
    chosen = life.signing(held, policy)
    on_the_way = [key for key in held if key.state in COMING]
    behind = [key for key in held if key.state == ACTIVE and key != chosen]
    for keys, verb in (
        (on_the_way, "sign with"),
        (behind, "retire"),
        ([key for key in held if key.state == RETIRING], "withdraw"),
        ([key for key in held if key.state == WITHDRAWN and not key.cleared], "see gone"),
    ):
        for key in keys:
            own = [wait for wait in waits if wait.selector == key.selector]
            blocked = [wait for wait in own if wait.until is None]
            timed = [wait.until for wait in own if wait.until is not None]
            why = "; ".join(wait.what for wait in blocked or own) or "at the next run"
            when = None if blocked else max(timed, default=now.wall)
            return Next(f"{verb} {key.selector}", when, why)
    if waits:
        return Next("wait", None, "; ".join(wait.what for wait in waits))
    if policy.left:
        return Next(NOTHING, None, "the fleet does not sign with it any more")
    if chosen is None:
        return Next("make a key", now.wall, life.REASONS[life.FIRST])
    reason = life.due(held, policy, now)
    if reason:
        return Next("make a key", now.wall, life.REASONS[reason])
    when = life.next_due(chosen, policy, now)
    if when is None:
        return Next(NOTHING, None, "its keys are replaced on demand only")
    why = "a quarter begins" if policy.quarters else f"it will be {policy.every_days} days old"
    return Next("make a key", when, why)


def table(done: Done, wanted: Iterable[Policy], now: Now) -> list[dict[str, Any]]:
    """A row for each series."""
    waits = _by_series(done)
    rows = []
    for policy in wanted:
        held = done.store.keys_of(policy)
        chosen = life.signing(held, policy)
        following = coming(held, policy, now, waits.get((policy.domain, policy.algorithm), []))
        rows.append(
            {
                "domain": policy.domain,
                "algorithm": policy.algorithm,
                "signs": chosen.selector if chosen else None,
                "age_days": int(life.age_days(chosen, now)) if chosen else None,
                "others": [f"{key.selector} {_life(key)}" for key in held if key != chosen and not key.cleared],
                "next": following.what,
                "when": _day(following.when),
                "why": following.why,
                "streams": list(policy.streams),
            }
        )
    return rows


def _by_series(done: Done) -> dict[tuple[str, str], list[Wait]]:
    waits: dict[tuple[str, str], list[Wait]] = {}
    for policy, wait in done.waits:
        waits.setdefault((policy.domain, policy.algorithm), []).append(wait)
    return waits


def _life(key: KeyState) -> str:
    return "revoked" if key.revoked and key.state != WITHDRAWN else key.state


def _day(wall: Optional[int]) -> Optional[str]:
    if wall is None:
        return None
    return datetime.fromtimestamp(wall, timezone.utc).strftime("%Y-%m-%d %H:%MZ")


def lines(done: Done, rows: Sequence[dict[str, Any]], steps: Sequence[str]) -> list[str]:
    """The report of a run, for a person."""
    cells = [
        (
            row["domain"],
            row["algorithm"],
            row["signs"] or "none",
            "" if row["age_days"] is None else f"{row['age_days']} d",
            ", ".join(row["others"]) or "-",
            row["next"],
            row["when"] or ("-" if row["next"] == NOTHING else "when it can"),
            row["why"],
        )
        for row in rows
    ]
    found = tables.columns(("domain", "algorithm", "signs with", "age", "beside it", "next", "when", "why"), cells)
    if steps:
        found += ["", "Steps:", *(f"  {step}" for step in steps)]
    ended = [line for name, held in done.store.series.items() for key in held for line in _ended(name, key)]
    if ended:
        found += ["", "Compromised:", *ended]
    waits = _waits(done)
    if waits:
        found += ["", "Waits for more than time:", *waits[:_SHOWN_WAITS]]
        if len(waits) > _SHOWN_WAITS:
            found.append(f"  and {len(waits) - _SHOWN_WAITS} more, all in 'waits'")
    if done.findings:
        found += ["", "Findings:", *(f"  {finding}" for finding in done.findings)]
    # What hosts and DNS servers said stands in it.
    return [printable(line, len(line)) for line in (*found, "", _after(done, rows))]


def _ended(name: tuple[str, str], key: KeyState) -> Iterable[str]:
    """What the end of a compromised key costs."""
    subject = f"  {' '.join(name)} {key.selector}: "
    if key.state == WITHDRAWN:
        return
    if key.revoked:
        yield f"{subject}its record says that it is revoked, so mail on its way that it signed fails DKIM"
    elif key.replace == life.COMPROMISED:
        yield (
            f"{subject}signs until another key may be used safely. Its record is revoked as soon as every host has "
            "left it; mail on its way that it signed then fails DKIM. Run rotate_dkim.yml again and again until then"
        )


def _waits(done: Done) -> list[str]:
    """A line for each thing that is waited for, and the keys that wait for it."""
    keys: dict[tuple[str, str], list[str]] = {}
    for policy, wait in done.waits:
        if wait.until is None:
            name = f"{policy.domain} {policy.algorithm} {wait.selector}".rstrip()
            keys.setdefault((wait.what, wait.remedy), []).append(name)
    return [f"  {_some(names)}: {what}. {remedy}".rstrip() for (what, remedy), names in keys.items()]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    return f"{shown} and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else shown


def _after(done: Done, rows: Sequence[dict[str, Any]]) -> str:
    if done.resting:
        return "Next: the key store was restored, and nothing of it is used until its hosts and servers were compared."
    held_up = sum(row["when"] is None and row["next"] != NOTHING for row in rows)
    dates = sorted(row["when"] for row in rows if row["when"])
    when = f"the next step is due {dates[0]}" if dates else "no step has a date"
    if held_up:
        when = f"{held_up} of {len(rows)} wait for what a run of rotate_dkim.yml can see or do; {when}"
    return f"Next: {when}. Run rotate_dkim.yml daily; it does what is due and proven, and nothing else."


def metrics(done: Done, wanted: Iterable[Policy], rows: Sequence[dict[str, Any]], now: Now, hosts_behind: int) -> str:
    return tables.exposition(GAUGES, _samples(done, list(wanted), rows, now, hosts_behind))


def metrics_problem(text: Any) -> Optional[str]:
    """Why ``text`` of a key host is no text of `metrics`, or None."""
    where, remedy = "metrics of the key host", "See who else is on the key host (docs/security.md). Nothing was written"
    if not isinstance(text, str):
        return f"{where}: {type(text).__name__}: a text is expected. {remedy}."
    # Not splitlines(), which knows line breaks that Prometheus does not.
    strange = [line for line in text.split("\n") if line and not tables.is_exposed(GAUGES, line)]
    if strange:
        return f"{where}: '{printable(strange[0], 200)}': no series of DKIM keys. {remedy}."
    return None


def _samples(
    done: Done, wanted: Sequence[Policy], rows: Sequence[dict[str, Any]], now: Now, hosts_behind: int
) -> Iterable[tuple[str, tables.Labels, float]]:
    waits = _by_series(done)
    for policy in wanted:
        own = waits.get((policy.domain, policy.algorithm), [])
        labels = (("domain", policy.domain), ("algorithm", policy.algorithm))
        held = done.store.keys_of(policy)
        chosen = life.signing(held, policy)
        if chosen:
            age = float(max(0, now.wall - chosen.born))
            yield "mta_dkim_key_age_seconds", (*labels, ("selector", chosen.selector)), age
        for state in life.STATES:
            yield "mta_dkim_keys", (*labels, ("state", state)), float(sum(key.state == state for key in held))
        for key in held:
            if key.state != WITHDRAWN:
                yield "mta_dkim_key_size", (*labels, ("selector", key.selector)), float(key.bits)
        following = coming(held, policy, now, own)
        if following.when is not None:
            yield "mta_dkim_next_step_seconds", labels, float(max(0, following.when - now.wall))
        yield "mta_dkim_waiting", labels, float(any(wait.until is None for wait in own))
    for severity in (ERROR, WARNING):
        count = sum(finding.severity == severity for finding in done.findings)
        yield "mta_dkim_findings", (("severity", severity),), float(count)
    yield "mta_dkim_hosts_behind", (), float(hosts_behind)
    yield "mta_dkim_last_run_timestamp_seconds", (), float(now.wall)
    yield "mta_dkim_journal_serial", (), float(done.store.serial)
