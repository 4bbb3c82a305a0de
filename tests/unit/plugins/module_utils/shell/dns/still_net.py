# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name servers on loopback, and a time of their own: however busy the machine is, no reply is ever late by chance.

Everything happens in one thread. Where the resolver would wait, the servers work, and the time moves on by as much as
the resolver would wait once none of them has anything left to do.
"""

from __future__ import annotations

import selectors
from typing import Any, Optional, Protocol

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns import asker
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns.resolver import Resolver

UNDER_WAY_SECONDS = 0.05  # of the wall: loopback delivers at once, or as soon as the kernel gets to it


class Worker(Protocol):
    def work(self) -> bool:
        """Take and answer all that came, without waiting. Whether there was any."""

    def close(self) -> None: ...


class StillNet:
    def __init__(self) -> None:
        self.now = 1000.0
        self.servers: list[Worker] = []

    def resolver(self, *arguments: Any, **named: Any) -> Resolver:
        return Resolver(*arguments, clock=lambda: self.now, make_selector=lambda: _Selector(self), **named)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every Asker is in this net."""
        monkeypatch.setattr(asker, "Resolver", self.resolver)

    def work(self) -> bool:
        return any(server.work() for server in self.servers)

    def close(self) -> None:
        for server in self.servers:
            server.close()


class _Selector(selectors.DefaultSelector):
    def __init__(self, net: StillNet) -> None:
        super().__init__()
        self.net = net
        self.still = False

    def select(self, timeout: Optional[float] = None) -> list[Any]:
        while not (ready := super().select(0)):
            if self.net.work():
                self.still = False
            elif not self.still:
                super().select(UNDER_WAY_SECONDS)
                self.still = True
            else:
                self.net.now += timeout or 0.0
                return []
        self.still = False
        return ready
