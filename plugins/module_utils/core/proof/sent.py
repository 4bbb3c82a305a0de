# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts say of the messages that they sent to prove themselves. Each speaks for its own messages alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding

_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,400}>\Z")


def read(expected: Mapping[str, Any], answers: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The messages of ``expected`` (``mta_proof``) that were sent, and a finding for each host that answers oddly.

    ``answers`` is ``sent`` of proof_message by host: an entry for each message of that host, in their order. Only
    ``message_id`` and ``error`` are taken from it. A host that may be hostile says no more than that of a message, and
    nothing of those of others. One that was not asked, or only in check mode, has nothing there.
    """
    own: dict[str, list[Mapping[str, Any]]] = {}
    for probe in (*(expected.get("probes") or ()), *(expected.get("intruders") or ())):
        own.setdefault(probe["host"], []).append(probe)
    probes: list[dict[str, Any]] = []
    findings = []
    for host, answer in answers.items():
        wanted = own.get(host, [])
        if answer is None or answer == []:
            continue
        fits = isinstance(answer, list) and len(answer) == len(wanted)
        said = [_said(entry) for entry in answer] if fits else [None]
        probes += [{**probe, **one} for probe, one in zip(wanted, said) if one]
        if None in said:
            found = "what it says of its messages has another shape"
            why = f"message_id and error of {len(wanted)} messages are expected, and nothing else of it counts"
            remedy = "See what runs on that host (docs/security.md), and verify again"
            findings.append(Finding(f"host {host}", found, why, remedy))
    return probes, findings


def message_ids(expected: Mapping[str, Any], answers: Mapping[str, Any]) -> list[str]:
    """Of the messages that a listener took, so that they may arrive."""
    return [probe["message_id"] for probe in read(expected, answers)[0] if probe["error"] is None]


def _said(entry: Any) -> Optional[dict[str, Optional[str]]]:
    if not isinstance(entry, dict):
        return None
    message_id, error = entry.get("message_id"), entry.get("error")
    if not isinstance(message_id, str) or not _MESSAGE_ID.match(message_id):
        return None
    return {"message_id": message_id, "error": error} if error is None or isinstance(error, str) else None
