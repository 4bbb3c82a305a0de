# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool addresses of this host: on the interface now, and again after a reboot whoever configures the network.

What is ours stands in one file of ip(8) commands, which a systemd unit runs before Postfix starts. No other address is
touched.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.table import ENGINES
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files

BATCH = "/etc/mailops/addresses"
UNIT = "mailops-addresses.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
DROP_IN = "/etc/systemd/system/postfix@.service.d/mailops-addresses.conf"
_SYSTEMD = "/run/systemd/system"
_NETWORKS = "networking.service systemd-networkd.service NetworkManager.service"
_UNIT_TEXT = f"""\
# Managed by Ansible (mailops.mta.addresses)
[Unit]
Description=Addresses from which the streams of mail are sent
Wants=network-online.target
After=network-online.target {_NETWORKS}
PartOf={_NETWORKS}
Before=postfix.service pmta.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
# An interface that comes late makes it fail.
Restart=on-failure
RestartSec=5
ExecStart={{ip}} -force -batch {BATCH}

[Install]
WantedBy=multi-user.target
"""
_DROP_IN_TEXT = f"""\
# Managed by Ansible (mailops.mta.addresses): without its addresses an instance has nothing to send from.
[Unit]
After={UNIT}
"""


class AddressError(Exception):
    """Something that a person must look at."""


@dataclass(frozen=True)
class Change:
    """What a run did, or in check mode would do."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]  # no longer wanted, but an MTA still sends from them
    files: tuple[str, ...]
    diff: list[dict[str, str]]


def converge(wanted: Iterable[str], interface: str, *, check_mode: bool) -> Change:
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if ip is None:
        raise AddressError("there is no ip(8) on this host (package iproute2)")
    link = interface or _default_interface(ip)
    addresses = list(dict.fromkeys(names.address(text) for text in wanted))
    present = _present(ip)
    managed = _managed()
    kept = still_sending(addresses)
    removed = tuple(text for text in managed if text not in (*addresses, *kept))
    added = tuple(text for text in addresses if text not in present)
    lines = [*(_command(text, link) for text in addresses), *(_command(text, managed[text]) for text in kept)]
    texts = {
        BATCH: "# Managed by Ansible (mailops.mta.addresses)\n" + "".join(f"{line}\n" for line in lines),
        UNIT_PATH: _UNIT_TEXT.format(ip=ip),
        DROP_IN: _DROP_IN_TEXT,
    }
    before = {path: text for path, text in ((path, files.read(path)) for path in texts) if text is not None}
    changed = tuple(path for path, text in texts.items() if before.get(path) != text)
    if not check_mode:
        _write(texts, changed)
        for text in added:
            _must([ip, *_command(text, link).split()])
        for text in removed:
            if text in present:
                _must([ip, "address", "del", f"{text}/{_length(text)}", "dev", managed[text]])
    return Change(added, removed, kept, changed, files.diff("/", before, texts))


def still_sending(wanted: Iterable[str]) -> tuple[str, ...]:
    """The addresses of ours that are no longer wanted, but that an MTA of this host still sends from.

    The answer is the same before ``converge`` and after it.
    """
    addresses = [names.address(text) for text in wanted]
    gone = [text for text in _managed() if text not in addresses]
    bound = _bound() if gone else set()
    return tuple(text for text in gone if text in bound)


def _managed() -> dict[str, str]:
    """The interface of each address that a run before this one added."""
    batch = files.read(BATCH) or ""
    return dict(reversed(_entry(line)) for line in batch.splitlines() if line.startswith("address replace "))


def _write(texts: dict[str, str], changed: Iterable[str]) -> None:
    paths = list(changed)
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.write(path, texts[path])
    if os.path.isdir(_SYSTEMD):
        if any(path != BATCH for path in paths):
            _must(["systemctl", "daemon-reload"])
        if UNIT_PATH in paths:
            _must(["systemctl", "--quiet", "enable", UNIT])


def _command(address: str, link: str) -> str:
    # The kernel must not choose a pool address for other traffic (RFC 6724 rule 3 avoids deprecated ones), and
    # duplicate address detection would delay the first delivery.
    extra = " nodad preferred_lft 0" if names.is_ipv6(address) else ""
    return f"address replace {address}/{_length(address)} dev {link}{extra}"


def _entry(line: str) -> tuple[str, str]:
    """(interface, address) of a line that ``_command`` wrote."""
    words = line.split()
    return words[4], words[2].partition("/")[0]


def _length(address: str) -> int:
    return 128 if names.is_ipv6(address) else 32


def _present(ip: str) -> set[str]:
    links = json.loads(_must([ip, "-j", "address", "show"]) or "[]")
    return {names.address(entry["local"]) for link in links for entry in link.get("addr_info", []) if "local" in entry}


def _default_interface(ip: str) -> str:
    for family in ("-4", "-6"):
        routes = json.loads(_must([ip, family, "-j", "route", "show", "default"]) or "[]")
        for route in routes:
            if route.get("dev"):
                return str(route["dev"])
    raise AddressError("this host has no default route: write interface: NAME for it in the fleet file")


def _bound() -> set[str]:
    """The addresses that an MTA of this host still sends from."""
    return {
        names.address(text)
        for engine in ENGINES.values()
        for pattern in engine.configuration
        for path in glob.glob(pattern)
        for text in engine.bound_addresses(files.read(path) or "")
    }


def _must(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise AddressError(f"{' '.join(command)} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
