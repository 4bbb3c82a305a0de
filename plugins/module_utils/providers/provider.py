# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port behind which a DNS service stands: two verbs, what it can do, and the four ways in which it can fail.

A provider is bound to one zone. It never repeats a write: after any failure the caller reads again and plans anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol

from ansible_collections.mailops.mta.plugins.module_utils.core.records import Change, Key, RecordSet


class ProviderError(Exception):
    """Something that the service did or did not do. The text is a sentence's middle: ``it refused the key``."""

    def __init__(self, found: str, why: str = "", remedy: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.why = why
        self.remedy = remedy


class Transient(ProviderError):
    """It may work later. Where ``unsure``, a write may have happened."""

    tries = 20
    unsure = True

    def __init__(self, found: str, why: str = "", remedy: str = "", after: Optional[float] = None) -> None:
        super().__init__(found, why, remedy)
        self.after = after  # seconds, as the service asked


class Unreachable(Transient):
    """Nothing was sent, because nobody listens."""

    tries = 4
    unsure = False


class Throttled(Transient):
    """Too many requests; nothing was done."""

    unsure = False


class Faulty(Transient):
    """It answers that it is broken."""

    tries = 12


class Garbled(Transient):
    """It answers, but not as this service does."""

    tries = 3


class Conflict(ProviderError):
    """The zone was not as planned; nothing was written."""


class Permanent(ProviderError):
    """It will not work until somebody changes something; nothing was written."""


@dataclass(frozen=True)
class Limits:
    """What one write may carry. A write is always all or nothing."""

    max_cost: int  # in the unit of ``cost``
    max_changes: int = 1_000_000


class Provider(Protocol):
    limits: Limits

    def read(self) -> dict[Key, RecordSet]:
        """The whole zone, SOA left out."""

    def cost(self, change: Change) -> int:
        """What ``change`` takes of ``limits.max_cost``."""

    def write(self, changes: Sequence[Change]) -> None:
        """Makes all of ``changes`` or none. No two of them have the same key."""

    def close(self) -> None:
        """Gives back connections."""


@dataclass(frozen=True)
class Access:
    """What a provider needs to open a zone. Option and credential names are checked before."""

    zone: str
    credentials: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 20.0
