# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every unit test: no network but the loopback interface, and the same tries on every machine.

A gate that draws lots says nothing about the change before it. Hypothesis draws the same examples each time, tests run
in one shuffled order, and sets of text have one order in the processes that pytest-xdist starts. Lots are for
`nox -s search`, which prints its seed; what it finds becomes a fixed example in a test.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Two cores shared with containers: no deadline says anything about the code.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("gate", settings.get_profile("search"), derandomize=True)
settings.load_profile("gate")

ORDER_SEED = 1
os.environ.setdefault("PYTHONHASHSEED", "0")

LOOPBACK = ("127.", "::1", "localhost")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "randomly_seed", None) == "default":
        config.option.randomly_seed = ORDER_SEED


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
