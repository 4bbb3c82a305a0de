# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every unit test: no network but the loopback interface, and the same number of examples everywhere."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Two cores shared with containers: no deadline says anything about the code.
settings.register_profile("mta", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("mta")

LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(method: str) -> Any:
        original = getattr(socket.socket, method)

        def call(self: socket.socket, *arguments: Any) -> Any:
            target = arguments[-1] if method == "sendto" else arguments[0]
            if isinstance(target, tuple) and not str(target[0]).startswith(LOOPBACK):
                raise RuntimeError(f"a unit test wants to talk to {target[0]}")
            return original(self, *arguments)

        return call

    for method in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, method, guarded(method))
