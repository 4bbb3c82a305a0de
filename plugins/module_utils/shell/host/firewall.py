# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of nftables that is ours: in the kernel now, and again after a reboot. No other table is touched.

The kernel is asked first and the files are written afterwards, so what nft(8) refuses changes nothing, and a run that
was killed in between is finished by the next one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.host import firewall
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner

RULES = "/etc/mailops/firewall.nft"
# How nft(8) lists the table after it was loaded. What differs from it later was changed by somebody else.
LISTING = "/etc/mailops/firewall.listing"
UNIT = "mailops-firewall.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
_AT_BOOT = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
_SYSTEMD = "/run/systemd/system"
_TABLE = (firewall.FAMILY, firewall.TABLE)
# nftables.service flushes every table when it starts, stops or reloads, so ours is loaded after it.
_UNIT_TEXT = f"""\
# Managed by Ansible (mailops.mta.firewall)
[Unit]
Description=Packet filter of the listeners and source addresses for mail
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
Before=network-pre.target postfix.service pmta.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={{nft}} -f {RULES}
ExecReload={{nft}} -f {RULES}
ExecStop=-{{nft}} delete table {" ".join(_TABLE)}

[Install]
WantedBy=multi-user.target
"""


class FirewallError(Exception):
    """Something that a person must look at."""


_host = Runner(FirewallError)


@dataclass(frozen=True)
class Change:
    """What a run did, or in check mode would do."""

    loaded: bool  # the table in the kernel was replaced
    files: tuple[str, ...]
    boot: bool  # the unit was enabled
    diff: list[dict[str, str]]


def converge(text: str, *, check_mode: bool) -> Change:
    nft = _program()
    if nft is None and not check_mode:
        raise FirewallError("nft is not installed on this host: install the package nftables")
    texts = {RULES: text, UNIT_PATH: _UNIT_TEXT.format(nft=nft or "/usr/sbin/nft")}
    before = _read(texts)
    changed = tuple(path for path in texts if before.get(path) != texts[path])
    if nft:
        _host.must([nft, "--check", "--file", "-"], text)
    live = _listing(nft)
    listing = files.read(LISTING)
    strange = live is None or live != listing
    load = RULES in changed or strange
    boot = os.path.isdir(_SYSTEMD) and not os.path.lexists(_AT_BOOT)
    if nft and not check_mode:
        os.makedirs(os.path.dirname(RULES), exist_ok=True)
        if load:
            _host.must([nft, "--file", "-"], text)
        for path in changed:
            files.write(path, texts[path])
        if load:
            files.write(LISTING, _listing(nft) or "")
        if os.path.isdir(_SYSTEMD):
            _bring_unit(UNIT_PATH in changed, boot)
    diff = files.diff("/", before, texts)
    if strange and RULES not in changed:
        diff += files.diff("", {_NAME: live or ""}, {_NAME: listing or ""})
    return Change(load, changed, boot, diff)


def remove(*, check_mode: bool) -> Change:
    nft = _program()
    before = _read((RULES, LISTING, UNIT_PATH))
    live = _listing(nft)
    if not check_mode:
        if UNIT_PATH in before and os.path.isdir(_SYSTEMD):
            _host.systemctl("disable", "--now", UNIT)
        if _listing(nft) is not None:
            _host.must([str(nft), "delete", "table", *_TABLE])
        files.remove("/", before)
        if UNIT_PATH in before and os.path.isdir(_SYSTEMD):
            _host.systemctl("daemon-reload")
    shown = {path: text for path, text in before.items() if path != LISTING}
    return Change(live is not None, tuple(before), False, files.diff("/", shown, {}))


_NAME = f"table {' '.join(_TABLE)} of the kernel"


def _read(paths: Iterable[str]) -> dict[str, str]:
    return {path: text for path, text in ((path, files.read(path)) for path in paths) if text is not None}


def _bring_unit(changed: bool, boot: bool) -> None:
    if changed:
        _host.systemctl("daemon-reload")
    if boot:
        _host.systemctl("enable", UNIT)
    # One that was stopped loads the table a second time, which changes nothing.
    _host.systemctl("start", UNIT)


def _program() -> Optional[str]:
    return shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _listing(nft: Optional[str]) -> Optional[str]:
    """The table as the kernel has it, without counts and without the connections that it counts; None: no table."""
    if nft is None:
        return None
    done = _host.run([nft, "--stateless", "--terse", "list", "table", *_TABLE])
    if done.returncode and "No such file" not in done.stderr:
        raise FirewallError(f"nft cannot list the tables of this host: {done.stderr.strip()}")
    return None if done.returncode else done.stdout
