# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port behind which a DNS service stands: two verbs, what it can do, and the four ways in which it can fail.

A provider is bound to one zone. It never repeats a write: after any failure the caller reads again and plans anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol

from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import Limits
from ansible_collections.mailops.mta.plugins.module_utils.core.foreign import printable
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client as httpclient


class ProviderError(Exception):
    """Something that the service did or did not do. The text is a sentence's middle: ``it refused the key``.

    It may quote the service, so it is made fit for a terminal here.
    """

    def __init__(self, found: str, why: str = "", remedy: str = "") -> None:
        self.found = printable(found)
        self.why = printable(why)
        self.remedy = remedy
        super().__init__(self.found)


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


class Garbled(Transient):
    """It answers, but not as this service does."""

    tries = 3


class Conflict(ProviderError):
    """The zone was not as planned; nothing was written (of a write that is not atomic: perhaps a part)."""


class Permanent(ProviderError):
    """It will not work until somebody changes something; nothing was written (or a part, as above)."""


class Provider(Protocol):
    """What each adapter is. Adapters name it as their base for the one method that most need not write."""

    limits: Limits  # of core/dns/services.py; may be narrowed by what ``read`` finds out about the zone

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        """The zone, SOA left out. With ``names``, at least every record set that stands at these; more does no harm."""

    def cost(self, change: Change) -> int:
        """What ``change`` takes of ``limits.max_cost``."""

    def write(self, changes: Sequence[Change]) -> None:
        """Makes ``changes``. No two of them have the same key; ``before`` is what the last ``read`` showed."""

    def alone(self) -> bool:
        """After writes that were confirmed: whether the service vouches that nobody else wrote since the last read.

        A compare-and-swap does; without one the zone is looked at again.
        """
        return self.limits.exact

    def close(self) -> None:
        """Gives back connections."""


def _connect(url: str, headers: Mapping[str, str], timeout_seconds: float, ca_file: Optional[str]) -> httpclient.Client:
    return httpclient.HttpClient(url, headers, timeout_seconds, ca_file)


@dataclass(frozen=True)
class Access:
    """What a provider needs to open a zone. Option and credential names are checked before."""

    zone: str
    credentials: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 20.0  # of a single wait
    reading_seconds: float = 120.0  # of all requests that read the zone once
    # How HTTP connections are made: base address, headers of every request, time limit, CA file.
    connect: Callable[[str, Mapping[str, str], float, Optional[str]], httpclient.Client] = _connect

    def client(self, url: str, headers: Mapping[str, str]) -> httpclient.Client:
        """A connection to ``url``. Raises Permanent where address, CA file or a key in ``headers`` cannot be used."""
        try:
            return self.connect(url, headers, self.timeout_seconds, self.credentials.get("ca_file"))
        except (ValueError, OSError) as error:
            what = f"ca_file {self.credentials.get('ca_file')}" if isinstance(error, OSError) else "url or key"
            raise Permanent(f"{what} cannot be used", str(error), "correct it in the credentials") from error
