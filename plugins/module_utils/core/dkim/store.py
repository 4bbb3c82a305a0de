# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a key store holds, as names and bytes: whether it is whole, and how a backup is merged into it.

A store only grows: keys are added and moved into ``withdrawn/``, lines are added to the journal. So of two states of
one store one is always the beginning of the other, and a merge needs no choice. Where it would, the stores have gone
different ways, and nothing is merged.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding

JOURNAL = "journal.jsonl"
WITHDRAWN = "withdrawn"
_RESTORE = "Restore the file from a backup"
_NAME = r"(?P<name>[a-z0-9_.-]{1,240})"
_LIVE = re.compile(_NAME + r"\.(?P<end>pem|pub)")
_GONE = re.compile(WITHDRAWN + "/" + _NAME + r"\.(?P<print>[0-9a-f]{8})\.(?P<end>pem|pub)")


@dataclass(frozen=True)
class Content:
    """A store: the whole lines of its journal, and its key files by their path in it."""

    journal: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def serial(self) -> int:
        return serial(parse(self.journal))

    @property
    def mark(self) -> str:
        """Names the journal as it is now, so that a longer one can be asked whether it goes on from there."""
        return f"{len(self.journal)}-{hashlib.sha256(self.journal).hexdigest()[:16]}"

    def goes_on_from(self, mark: str) -> bool:
        length = mark.partition("-")[0]
        return length.isdecimal() and Content(self.journal[: int(length)]).mark == mark


@dataclass(frozen=True)
class Merge:
    """What makes a store whole by a backup. With findings nothing is to be done."""

    archive: tuple[str, ...] = ()  # names of keys of the store that are withdrawn by now
    add: Mapping[str, bytes] = field(default_factory=dict)
    journal: Optional[bytes] = None  # the new one, None where the store's stays
    findings: tuple[Finding, ...] = ()

    @property
    def changes(self) -> bool:
        return bool(self.archive or self.add or self.journal is not None)


def archived(name: str, fingerprint: str, end: str) -> str:
    """Where a file of a withdrawn key lies in the store."""
    return f"{WITHDRAWN}/{name}.{fingerprint[:8]}.{end}"


def is_key_file(path: str) -> bool:
    return bool(_LIVE.fullmatch(path) or _GONE.fullmatch(path))


def parse(journal: bytes) -> list[dict[str, Any]]:
    """The lines of a journal; what ends without a line feed does not count. A ValueError names the broken line."""
    lines = []
    read = json.JSONDecoder().decode  # faster than json.loads, which looks for the encoding of each line
    for number, text in enumerate(journal.split(b"\n")[:-1], 1):
        try:
            line = read(text.decode("ascii"))
        except ValueError:
            line = None
        if not isinstance(line, dict):
            raise ValueError(f"line {number} is no JSON object. {_RESTORE}")
        lines.append(line)
    return lines


def serial(lines: Iterable[Mapping[str, Any]]) -> int:
    """The serial of the state that the lines add up to, 0 before the first."""
    return max((line["serial"] for line in lines if isinstance(line.get("serial"), int)), default=0)


def problems(content: Content, where: str) -> list[Finding]:
    """What is not whole in it: a cut or swapped key, a public part alone, a journal that cannot be read."""
    found = []
    try:
        parse(content.journal)
    except ValueError as error:
        found.append(Finding(f"{where}/{JOURNAL}", "the journal", str(error).partition(". ")[0], _RESTORE))
    for path, text in content.files.items():
        try:
            _judge(path, text, content.files)
        except ValueError as error:
            found.append(Finding(f"{where}/{path}", "a key", str(error), _RESTORE))
    return found


def _judge(path: str, text: bytes, files: Mapping[str, bytes]) -> None:
    gone, live = _GONE.fullmatch(path), _LIVE.fullmatch(path)
    match = gone or live
    if not match:
        raise ValueError("it is no file of a key")
    if match["end"] == "pem":
        keys.private_key(text.decode("ascii", "replace"))
        return
    private = files.get(_partner(path))
    if private is None:
        raise ValueError("its public part is there, the private key is not")
    public = keys.unseal(text.decode("ascii", "replace"), private)
    if gone and public.fingerprint[:8] != gone["print"]:
        raise ValueError("its name belongs to another key")


def merge(store: Content, backup: Content, where: str) -> Merge:
    """How the store at ``where`` gets what the backup has and it has not. Both are without problems."""
    findings: list[Finding] = []
    journal = _merge_journals(store, backup, where, findings)
    withdrawn = {**_withdrawn(backup.files), **_withdrawn(store.files)}
    present = dict(store.files)
    archive = []
    for (name, private), path in withdrawn.items():
        if store.files.get(f"{name}.pem") == private:
            archive.append(name)
            del present[f"{name}.pem"]
            public = present.pop(f"{name}.pub", None) or backup.files.get(_partner(path), b"")
            present.update({path: private, _partner(path): public})
    add = {}
    for path, text in backup.files.items():
        private = backup.files.get(path[:-3] + "pem", b"")
        if (path[:-4], private) in withdrawn or present.get(path) == text:
            continue
        if path.endswith("pub") and present.get(_partner(path), private) != private:
            continue  # the finding is about the private key
        if path in present:
            why = "the backup has another key of this name, and no key is ever overwritten"
            remedy = "Find out which of the two the record in DNS belongs to; move the other file away and run again"
            findings.append(Finding(f"{where}/{path}", "another key", why, remedy))
        else:
            add[path] = text
    return Merge(findings=tuple(findings)) if findings else Merge(tuple(archive), add, journal)


def _withdrawn(files: Mapping[str, bytes]) -> dict[tuple[str, bytes], str]:
    """Where each withdrawn private key lies, by its name and content."""
    found = {}
    for path, text in files.items():
        match = _GONE.fullmatch(path)
        if match and match["end"] == "pem":
            found[match["name"], text] = path
    return found


def _partner(path: str) -> str:
    return path[:-3] + ("pub" if path.endswith("pem") else "pem")


def _merge_journals(store: Content, backup: Content, where: str, findings: list[Finding]) -> Optional[bytes]:
    if store.journal.startswith(backup.journal):
        return None
    if backup.journal.startswith(store.journal):
        return backup.journal
    ours, theirs = store.journal.split(b"\n"), backup.journal.split(b"\n")
    same = next(number for number, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1])
    findings.append(
        Finding(
            f"{where}/{JOURNAL}, line {same + 1}",
            f"serial {store.serial} here, serial {backup.serial} in the backup",
            "the store and the backup have gone different ways, and nothing tells which keys are in use",
            "Compare with the serial that the signing hosts run (dkim_signer_info). Where it is the backup's, "
            f"move {where} away and restore again; else leave the store as it is",
        )
    )
    return None
