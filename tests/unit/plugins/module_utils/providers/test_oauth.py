# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens: asked for once while they are good, again before they end, and every way in which they are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.providers.oauth import Token
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Faulty,
    Garbled,
    Permanent,
    ProviderError,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Response
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness


class Endpoint:
    """Gives out numbered tokens."""

    def __init__(self) -> None:
        self.given = 0
        self.asked: list[tuple[str, bytes | None, str]] = []

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        self.given += 1
        self.asked.append((f"{method} {url}", body, headers["Content-Type"]))
        return Response(200, {}, json.dumps({"access_token": f"t{self.given}", "expires_in": 3600}).encode())


def token(line: harness.Line, clock: Any = lambda: 0.0) -> Token:
    access = Access(harness.ZONE, {}, {}, connect=line.connect)
    form = {"client_secret": "a b&c=ü"}
    return Token(access, "https://login.example/a/token", "Login", "correct it", lambda: form, clock)


def test_a_token_is_kept_while_it_is_good() -> None:
    line = harness.Line(Endpoint())
    now = [100.0]
    one = token(line, lambda: now[0])
    for moment, expected in ((100.0, "t1"), (3639.0, "t1"), (3640.0, "t2"), (3641.0, "t2"), (9999.0, "t3")):
        now[0] = moment
        assert one.header() == {"Authorization": f"Bearer {expected}"}
    asked = (
        "POST https://login.example/a/token",
        b"client_secret=a+b%26c%3D%C3%BC",
        "application/x-www-form-urlencoded",
    )
    assert set(line.stand_in.asked) == {asked}


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (
            harness.status(400, b'{"error": "invalid_grant", "error_description": "why"}'),
            Permanent,
            "refused the key.*why",
        ),
        (harness.status(401, b'{"error": "invalid_client"}'), Permanent, "refused the key.*invalid_client"),
        (harness.status(503), Faulty, "Login"),
        (harness.status(200, b"[]"), Garbled, "Login"),
        (harness.status(200, b"{}"), Garbled, "Login"),
        (harness.status(200, b'{"access_token": "t"}'), Garbled, "Login"),
    ],
)
def test_what_is_no_token_is_told(fault: harness.Fault, kind: type[ProviderError], text: str) -> None:
    line = harness.Line(Endpoint())
    line.faults = lambda number, method, url: fault
    one = token(line)
    with pytest.raises(kind, match=text) as caught:
        one.header()
    assert caught.type is kind
    assert "a b&c" not in str(vars(caught.value))
    line.faults = harness.no_faults
    assert one.header() == {"Authorization": "Bearer t1"}
