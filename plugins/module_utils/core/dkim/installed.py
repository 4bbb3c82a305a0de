# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies on a signing host: key files named by their content, what signs, and the state that is in force."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key

_FINGERPRINT = re.compile(r"[0-9a-f]{32}\Z")
_FILE = re.compile(r"([^.]+)\._domainkey\.(.+)\.([0-9a-f]{8})\.key\Z")


@dataclass(frozen=True, order=True)
class SigningKey:
    """A key that a signing host has. Its file's name tells its content, so a file never changes."""

    domain: str
    selector: str
    algorithm: str
    fingerprint: str  # core.keys.PublicKey.fingerprint

    @property
    def file(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}.{self.fingerprint[:8]}.key"

    @property
    def problem(self) -> Optional[str]:
        """Why no such key can be, or None."""
        if not _FINGERPRINT.match(self.fingerprint):
            return "its fingerprint is not 32 hexadecimal digits"
        return Key(self.domain, self.selector, self.algorithm).problem


def parse_file(name: str) -> Optional[tuple[str, str, str]]:
    """Selector, domain and the first digits of the fingerprint that a key file's name tells, or None."""
    found = _FILE.match(name)
    return (found.group(1), found.group(2), found.group(3)) if found else None


def may_be_of(name: str) -> Optional[tuple[str, str]]:
    """Selector and domain of the key that a file may hold: also under the bare name that older versions gave it."""
    selector, separator, rest = name.partition("._domainkey.")
    if not separator or not rest.endswith(".key"):
        return None
    told = parse_file(name)
    return (selector, told[1] if told else rest[: -len(".key")])


def tables(keys: Iterable[SigningKey]) -> dict[str, str]:
    """By domain, the file from which signing.lua learns for each message which key files sign: one name a line."""
    files: dict[str, str] = {}
    for key in sorted(keys):
        files[key.domain] = f"{files.get(key.domain, '')}{key.file}\n"
    return files


@dataclass(frozen=True)
class Installed:
    """Which state of the key store was brought here, and which configuration runs.

    The serial grows with every step of any domain, so it stands in no file that the signer reads.
    """

    serial: Optional[int] = None  # None: nothing was installed, or by a version without serials
    digest: str = ""  # of the configuration that runs; empty: a run ended before everything was in force

    @property
    def text(self) -> str:
        return json.dumps({"serial": self.serial, "digest": self.digest}) + "\n"


def parse_installed(text: Optional[str]) -> Installed:
    """Raises ValueError. No text: nothing is installed."""
    if text is None:
        return Installed()
    try:
        found: Any = json.loads(text)
        serial, digest = found["serial"], found["digest"]
    except (ValueError, TypeError, KeyError):
        raise ValueError("it is broken") from None
    if not isinstance(serial, int) or isinstance(serial, bool) or not isinstance(digest, str):
        raise ValueError("it is broken")
    return Installed(serial, digest)
