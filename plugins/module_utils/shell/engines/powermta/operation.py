# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA in operation, over its command line: look, pause, back off, delete, keep a source IP from queues.

What a command answers is documented nowhere, so the state is read before and after it, and that decides what is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import queue as names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import status
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta.configuration import PowermtaError

GATHER = ("version", "status", "queues", "vmtas", "disabled_sources", "licence", "settings")
MOST = 1000000  # of what PowerMTA lists; it stops at 20 queues and at 100 recipients by itself
_SOURCES = ("show", "disabled", "sources")
QUEUES = ("show", "queues", "--no-rcpt-events", f"--maxitems={MOST}")


@dataclass
class Done:
    """What was done, or in check mode would be."""

    changed: bool = False
    before: str = ""
    after: str = ""
    commands: list[list[str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    deleted: Optional[int] = None

    def run(self, command: list[str], check_mode: bool) -> str:
        """What PowerMTA had against the command, as far as it can be told; it may also just not speak JSON here."""
        self.changed = True
        self.commands.append(["pmta", *command])
        if check_mode:
            return ""
        try:
            _data, findings = status.answer(configuration.cli(*command), " ".join(command[:2]))
        except PowermtaError as error:
            return str(error)
        return "; ".join(finding.found for finding in findings)


def gather(what: Iterable[str], queue: str) -> tuple[dict[str, Any], list[Finding]]:
    """Each thing asked for, None where it could not be told, and why."""
    commands: dict[str, tuple[tuple[str, ...], Any]] = {
        "version": (("show", "version"), status.version),
        "status": (("show", "status"), status.status),
        "queues": ((*QUEUES, "--errors", queue), status.queues),
        "vmtas": (("show", "vmtas"), status.vmtas),
        "disabled_sources": ((*_SOURCES, names.EVERY), status.disabled_sources),
        "licence": (("show", "license"), status.licence),
        "settings": (("show", "settings", queue), status.settings),
    }
    found: dict[str, Any] = {}
    findings: list[Finding] = []
    for name in what:
        command, read = commands[name]
        try:
            found[name], told = read(configuration.cli(*command))
        except PowermtaError as error:
            found[name], told = None, (_silent(command, error),)
        findings += told
    if found.get("disabled_sources"):
        found["disabled_sources"] = names.about(found["disabled_sources"], queue)
    return found, findings


def _silent(command: Iterable[str], error: PowermtaError) -> Finding:
    return Finding(
        " ".join(command),
        str(error),
        "this is not an answer in JSON",
        "See whether PowerMTA runs (systemctl status pmta), whether this user may ask it (root, or the group pmta), "
        "and whether this version knows the command",
    )


def set_queue(queue: str, wanted: Mapping[str, Any], *, check_mode: bool) -> Done:
    """Pause or resume a queue, set its mode. Raises PowermtaError where the state cannot be read or does not follow."""
    done = Done()
    before = _queues(queue)
    lack = names.lacking(before, wanted)
    done.before = names.described(before, wanted)
    done.after = (
        names.described([{**each, **wanted} for each in before or [{"name": queue}]], wanted) if lack else done.before
    )
    told = [done.run(command, check_mode) for command in names.commands(queue, wanted, lack)]
    if not lack or check_mode:
        return done
    after = _queues(queue)
    said = "; ".join(filter(None, told))
    if names.resisting(after, wanted) or (said and names.lacking(after, wanted)):
        raise PowermtaError(f"{queue} does not follow. {said or names.described(after, wanted)}".strip())
    if names.lacking(after, wanted):
        done.warnings.append(
            f"PowerMTA does not show the state of {queue}, so it cannot be seen whether it is as wanted"
        )
    return done


def _queues(queue: str) -> list[Mapping[str, Any]]:
    found, findings = status.queues(configuration.cli(*QUEUES, queue))
    if found is None or findings:
        raise PowermtaError("; ".join(map(str, findings)) or "no answer")
    return names.fitting(found, queue)


def waiting() -> Optional[dict[str, int]]:
    """How many recipients wait, by virtual MTA (casefolded); None where PowerMTA does not tell it of every queue."""
    try:
        found, findings = status.queues(configuration.cli(*QUEUES))
    except PowermtaError:
        return None
    if found is None or findings:
        return None
    counts: dict[str, int] = {}
    for queue in found:
        if queue["recipients"] is None:
            return None
        name = queue["name"].rpartition("/")[2].casefold()
        counts[name] = counts.get(name, 0) + queue["recipients"]
    return counts


def delete(queue: str, orig: str, rcpt: str, older_than_seconds: int, *, check_mode: bool) -> Done:
    """Delete what waits in a queue. ``deleted`` counts recipients, asked before; None where PowerMTA did not tell."""
    done = Done()
    chosen = names.selection(queue, orig, rcpt, older_than_seconds)
    done.deleted = _waiting(queue, chosen, done)
    if done.deleted == 0:
        return done
    unknown = "an unknown number of" if done.deleted is None else str(done.deleted)
    done.before, done.after = (
        f"{queue}: {unknown} recipients, chosen by {' '.join(chosen)}\n",
        f"{queue}: none of them\n",
    )
    told = done.run(["delete", *chosen], check_mode)
    if not check_mode:
        left = _waiting(queue, chosen, done)
        if told and left != 0:
            raise PowermtaError(
                f"{told}; {'an unknown number of' if left is None else left} recipients are still there"
            )
        if left:
            done.warnings.append(f"{left} recipients came, or were in delivery, while these were deleted; they wait")
    return done


def _waiting(queue: str, chosen: list[str], done: Done) -> Optional[int]:
    if len(chosen) == 1:
        counts = [each["recipients"] for each in _queues(queue) if "*" not in str(each["name"])]
        return None if any(count is None for count in counts) else sum(counts)
    count, findings = status.listed(configuration.cli("list", *chosen, f"--maxitems={MOST}"))
    done.warnings += [str(finding) for finding in findings]
    return count


def set_source(ip: str, queue: str, *, disabled: bool, reenable_after_seconds: int, check_mode: bool) -> Done:
    """Keep a source IP from a queue, or let it. Raises PowermtaError where the state cannot be read or stays."""
    done = Done()
    found = _disabled(ip, queue)
    done.before = done.after = names.described_source(ip, queue, found)
    if names.source_holds(found, disabled, bool(reenable_after_seconds)):
        return done
    when = f"{reenable_after_seconds} s from now" if reenable_after_seconds else ""
    done.after = names.described_source(ip, queue, [{"queue": queue, "reenable_at": when}] if disabled else [])
    told = done.run(names.source_command(ip, queue, disabled, reenable_after_seconds), check_mode)
    if check_mode:
        return done
    now = _disabled(ip, queue)
    if bool(now) == disabled:
        return done
    if now:
        others = ", ".join(sorted({str(each["queue"]) for each in now}))
        raise PowermtaError(f"{ip} is still disabled for {others}: {told or 'enable it for that as well'}")
    if told:
        raise PowermtaError(told)
    done.warnings.append(f"PowerMTA does not list {ip} as disabled for {queue}, so it cannot be seen whether it is")
    return done


def _disabled(ip: str, queue: str) -> list[Mapping[str, Any]]:
    # All of them: what is disabled for a pattern counts for the queues in it.
    found, findings = status.disabled_sources(configuration.cli(*_SOURCES, names.EVERY))
    if found is None or findings:
        raise PowermtaError("; ".join(map(str, findings)) or "no answer")
    return names.disabling(found, ip, queue)
