# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for a DNS server with transfers and updates."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Key
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns import wire

CREDENTIALS: dict[str, Any] = {"server": "192.0.2.1", "key_name": "k", "key_secret": "c2VjcmV0"}
OPTIONS: dict[str, Any] = {}


class StandIn:
    """A zone that answers transfers and updates as RFC 2136 3.2 says: prerequisites first, then all or nothing."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.rrsets: dict[Key, tuple[int, tuple[Any, ...]]] = {}
        self.lose_next = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stands between the adapter and the wire."""
        monkeypatch.setattr(wire, "transfer", self.transfer)
        monkeypatch.setattr(wire, "update", self.update)

    def transfer(self, peer: wire.Peer, zone: str) -> list[wire.Rrset]:
        return [wire.Rrset(*key, ttl, data) for key, (ttl, data) in self.rrsets.items()]

    def update(self, peer: wire.Peer, zone: str, edits: list[wire.Edit]) -> None:
        edits = list(edits)
        assert sum(wire.size_of(edit) for edit in edits) < 65000
        for edit in edits:
            _ttl, data = self.rrsets.get((edit.name, edit.type), (0, ()))
            if set(data) != set(edit.expected):
                raise wire.Refused("NXRRSET" if edit.expected else "YXRRSET")
        for edit in edits:
            _ttl, data = self.rrsets.pop((edit.name, edit.type), (0, ()))
            left = tuple(each for each in data if each not in edit.removed)
            if left or edit.added:
                self.rrsets[edit.name, edit.type] = (edit.ttl, tuple(dict.fromkeys((*left, *edit.added))))
        if self.lose_next:
            self.lose_next = False
            raise wire.AnswerLost("timed out")
