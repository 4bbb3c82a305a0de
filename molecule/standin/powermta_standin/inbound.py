# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): makes records of delivery reports (RFC 3464) and abuse reports (RFC 5965)."""

from __future__ import annotations

import email
import re
import time
from collections.abc import Callable, Mapping
from email.message import Message

from . import reader
from .accounting import stamp

Record = dict[str, str]


def size_limit(text: str) -> int:
    """Bytes; 0 is no limit."""
    return 0 if text in ("", "unlimited") else reader.size(text)


def _part(message: Message, kind: str) -> Message | None:
    return next((part for part in message.walk() if part.get_content_type() == kind), None)


def _blocks(part: Message) -> list[Message]:
    """The groups of fields of a message/delivery-status or message/feedback-report part."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return [block for block in payload if isinstance(block, Message)]
    return [email.message_from_string(text) for text in re.split(r"\r?\n\r?\n", str(payload)) if text.strip()]


def _plain(field: object) -> str:
    """The value of a field with a type, as in "rfc822; user@example.com"."""
    return str(field or "").rpartition(";")[2].strip()


def bounce(content: bytes, sender: str, recipient: str, source: str, category: Callable[[str], str]) -> list[Record]:
    """rb records of failures and rs records of anything else that a report says."""
    message = email.message_from_bytes(content)
    status = _part(message, "message/delivery-status")
    if status is None:
        return []
    first, *rest = _blocks(status)
    found = []
    for block in rest:
        action = str(block.get("Action", "")).strip().lower()
        diagnosis = " ".join(str(block.get("Diagnostic-Code", "")).split())
        found.append(
            {
                "type": "rb" if action == "failed" else "rs",
                "timeLogged": stamp(time.time()),
                "orig": recipient,  # our sender, to whom the report came back
                "rcpt": _plain(block.get("Final-Recipient")),
                "orcpt": _plain(block.get("Original-Recipient")),
                "dsnAction": action,
                "dsnStatus": str(block.get("Status", "")).strip(),
                "dsnDiag": diagnosis,
                "dsnMta": _plain(block.get("Remote-MTA")),
                "dsnReportingMta": _plain(first.get("Reporting-MTA")),
                "bounceCat": category(diagnosis),
                "srcType": "smtp",
                "srcMta": source,
                "envId": str(first.get("Original-Envelope-Id", "")),
                "format": "standard",
            }
        )
    return found


def feedback(content: bytes, header_names: list[str]) -> list[Record]:
    """The f record of an abuse report."""
    message = email.message_from_bytes(content)
    report = _part(message, "message/feedback-report")
    if report is None:
        return []
    fields = _blocks(report)[0] if _blocks(report) else Message()
    original = _part(message, "message/rfc822") or _part(message, "text/rfc822-headers")
    inner: Mapping[str, str] | Message = {}
    if original is not None:
        payload = original.get_payload()
        inner = payload[0] if isinstance(payload, list) and payload else email.message_from_string(str(payload))  # type: ignore[assignment]
    record = {
        "type": "f",
        "timeLogged": stamp(time.time()),
        "format": "arf",
        "userAgent": str(fields.get("User-Agent", "")),
        "feedbackType": str(fields.get("Feedback-Type", "")).strip(),
        "repSourceIp": str(fields.get("Source-IP", "")),
        "envid": str(fields.get("Original-Envelope-Id", "")),
        "orig": str(fields.get("Original-Mail-From", "")).strip("<> "),
        "rcpt": str(fields.get("Original-Rcpt-To", "")).strip("<> ") or str(inner.get("To", "")),
        "reportingMTA": _plain(fields.get("Reporting-MTA")),
        "dlvSourceIp": str(fields.get("Source-IP", "")),
        "reportedDomain": str(fields.get("Reported-Domain", "")),
    }
    return [{**record, **{f"header_{name}": str(inner.get(name, "")) for name in header_names}}]
