# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a Postfix instance: the text of each, what existing ones say, and what a change of them needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines import receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import NOTHING, RELOAD, RESTART
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix.instances import SLOTS, TRANSPORT_PREFIX

# Parameters that master(8) reads when it starts; a change needs a restart. Everything else is read at a reload.
RESTART_PARAMETERS = (
    "data_directory",
    "inet_interfaces",
    "inet_protocols",
    "multi_instance_name",
    "queue_directory",
)


def _slots(group: str) -> list[str]:
    return [f"{group}-{number:02d}" for number in range(SLOTS)]


# ---- the files of an instance

MAIN_CF = "main.cf"
MASTER_CF = "master.cf"
SHARES = "shares"
_BANNER = "# Managed by Ansible (mailops.mta.postfix): change the fleet file instead."
_RETIRED = "# retired since "


@dataclass(frozen=True)
class Block:
    """One service of a master.cf, as text, and since when (seconds of the epoch) nothing is sent to it any more."""

    service: str
    type: str
    text: str
    since: Optional[int] = None


def files(
    instance: Mapping[str, Any], *, settings: Mapping[str, str], known: Iterable[str], retired: Iterable[Block] = ()
) -> dict[str, str]:
    """The text of every file of an instance; main.cf last, because each new process reads it.

    ``settings`` go over the instance's own, ``known`` are the parameters that this Postfix has.
    """
    understood = set(known)
    main_cf = {
        **instance["main_cf"],
        **{name: value for name, value in instance["main_cf_if_known"].items() if name in understood},
        **{f"mailops_slots_{group}": ", ".join(_slots(group)) for group in instance["shares"]},
        "queue_directory": instance["queue_directory"],
        "data_directory": instance["data_directory"],
        **settings,
    }
    texts = dict(instance["tables"])
    texts.update({name: lmdb_text(content) for name, content in instance["lmdb"].items()})
    if instance["shares"]:
        texts[SHARES] = lmdb_text(_holders(instance["shares"]))
    texts[MASTER_CF] = _master_cf(instance["services"], retired)
    texts[MAIN_CF] = "\n".join([_BANNER, *(f"{name} = {value}".rstrip() for name, value in main_cf.items())]) + "\n"
    return texts


def lmdb_names(instance: Mapping[str, Any]) -> list[str]:
    """The files that postmap(1) turns into lmdb tables."""
    return [*instance["lmdb"], *([SHARES] if instance["shares"] else [])]


def lmdb_text(content: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in content.items())


def _holders(groups: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    table: dict[str, str] = {}
    for group, counts in groups.items():
        holders = [holder for holder, count in counts.items() for _slot in range(count)]
        table.update(zip(_slots(group), holders))
    return table


def interim_shares(before: str, after: str, master_cf: str) -> str:
    """The table ``shares`` for the time until a reload has started the services of ``after``.

    ``master_cf`` is the one that runs. A slot whose new holder is not there yet stays with the old one; a slot of a new
    receiver group stays with who holds it for all other domains. Slots of a group that goes stay: until the reload they
    are drawn.
    """
    old, new = _lmdb_content(before), _lmdb_content(after)
    running = {block.service for block in blocks(master_cf)}
    table = dict(old)
    for slot, holder in new.items():
        fallback = old.get(slot) or old.get(f"{receivers.DEFAULT}-{slot[-2:]}")
        table[slot] = holder if fallback is None or holder.partition(":")[0] in running else fallback
    return lmdb_text(table)


def _lmdb_content(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines())


def _master_cf(services: Iterable[Mapping[str, Any]], retired: Iterable[Block]) -> str:
    lines = [_BANNER, "# service type private unprivileged chroot wakeup maxproc command"]
    columns = ("service", "type", "private", "unprivileged", "chroot", "wakeup", "maxproc", "command")
    for service in services:
        lines.append(" ".join(str(service[column]) for column in columns))
        for name, value in service["options"].items():
            lines.append(f"  -o {{ {name} = {value} }}" if " " in value else f"  -o {name}={value}")
    for block in retired:
        lines.append(f"{_RETIRED}{block.since}")
        lines.append(block.text)
    return "\n".join(lines) + "\n"


def blocks(master_cf: str) -> list[Block]:
    """The services of a master.cf that ``files`` wrote."""
    found: list[Block] = []
    since: Optional[int] = None
    for line in master_cf.splitlines():
        if line.startswith(_RETIRED):
            since = int(line[len(_RETIRED) :])
        elif line[:1].isspace() and found:
            found[-1] = replace(found[-1], text=f"{found[-1].text}\n{line}")
        elif line and not line.startswith("#"):
            service, kind = line.split()[:2]
            found.append(Block(service, kind, line, since))
            since = None
    return found


def retire(master_cf: str, instance: Mapping[str, Any], *, now: int, patience_seconds: int) -> list[Block]:
    """The transports that left the fleet but may still hold mail: they stay until ``patience_seconds`` are over.

    Mail that a delivery process holds while the queue manager restarts is tried again 300 seconds later, under the
    transport it had.
    """
    wanted = {service["service"] for service in instance["services"]}
    gone = [block for block in blocks(master_cf) if is_sender(block) and block.service not in wanted]
    aged = [replace(block, since=now if block.since is None else block.since) for block in gone]
    return [block for block in aged if block.since is not None and now - block.since < patience_seconds]


def retired_settings(main_cf: str, retired: Iterable[Block]) -> dict[str, str]:
    """The limits of retired transports, from the main.cf that has them."""
    prefixes = tuple(f"{block.service}_" for block in retired)
    pairs = (line.partition(" = ") for line in main_cf.splitlines() if prefixes and line.startswith(prefixes))
    return {name: value for name, _sign, value in pairs}


def without_listeners(master_cf: str) -> str:
    """The same instance, taking no mail from the network.

    Its bounces leave unsigned: the signer has no key any more for a stream that left the fleet, and would hold them.
    """
    kept = [block for block in blocks(master_cf) if block.type != "inet"]
    lines = [f"{block.text}\n  -o non_smtpd_milters=" if block.service == "cleanup" else block.text for block in kept]
    return "\n".join([_BANNER, *lines]) + "\n"


def setting(main_cf: str, name: str) -> str:
    """The value of a parameter in a main.cf that ``files`` wrote, or nothing."""
    found = [line.partition("=")[2].strip() for line in main_cf.splitlines() if line.partition("=")[0].strip() == name]
    return found[-1] if found else ""


def effort(before: Mapping[str, str], after: Mapping[str, str], lmdb: Iterable[str]) -> str:
    """What a running instance needs to go from one set of files to the other: nothing, a reload or a restart.

    An lmdb table is read as it changes; the order of lines and our remarks mean nothing to Postfix.
    """
    live = set(lmdb)
    meanings = [{name: _meaning(text) for name, text in texts.items() if name not in live} for texts in (before, after)]
    if meanings[0] == meanings[1]:
        return NOTHING
    old, new = before.get(MAIN_CF, ""), after.get(MAIN_CF, "")
    return RESTART if any(setting(old, name) != setting(new, name) for name in RESTART_PARAMETERS) else RELOAD


def _meaning(text: str) -> list[str]:
    entries: list[str] = []
    for line in text.splitlines():
        if line[:1].isspace() and entries:
            entries[-1] += f"\n{line}"
        elif line and not line.startswith("#"):
            entries.append(line)
    return sorted(entries) if "/" not in "".join(entry[:1] for entry in entries) else entries


def bound_addresses(master_cf: str) -> set[str]:
    """The addresses from which the transports of a master.cf send."""
    return set(re.findall(r"smtp_bind_address6?=([0-9A-Fa-f.:]+)", master_cf))


def is_sender(block: Block) -> bool:
    """Whether a service is an address's transport."""
    return block.type == "unix" and block.service.startswith(TRANSPORT_PREFIX)
