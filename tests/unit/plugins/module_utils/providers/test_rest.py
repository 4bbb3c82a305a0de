# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.providers import rest


def test_requests_of_one_account_are_spaced_whatever_their_zone() -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    throttle = rest.Throttle.of("account of this test", 4.0)
    assert rest.Throttle.of("account of this test", 4.0) is throttle
    throttle.clock, throttle.sleep = lambda: now[0], sleep
    for _request in range(3):
        throttle.wait()
    assert slept == [0.25, 0.25]
    now[0] += 10.0
    throttle.wait()
    assert len(slept) == 2


def test_where_no_rate_is_known_nobody_waits() -> None:
    throttle = rest.Throttle(0.0)
    throttle.sleep = lambda seconds: pytest.fail("it waited")
    throttle.wait()
    throttle.wait()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"error": "no"}, ": no"),
        ({"errors": [{"code": 9, "message": "bad  name"}, {"message": "bad  name"}]}, ": bad name"),
        ({"error": {"message": "quota", "status": "X"}}, ": quota"),
        ({"rrsets": ["odd"]}, ""),
        ([{"non_field_errors": ["twice"]}], ": twice"),
        (None, ""),
        ("text", ": text"),
        ({"error": {"error": {"error": {"error": {"error": "deep"}}}}}, ""),
        ({"message": "x" * 1000}, ": ..."),
        ({"message": "word " * 100}, ": " + "word " * 59 + "word ..."),
    ],
)
def test_what_services_say_is_found_where_they_say_it(answer: Any, text: str) -> None:
    assert rest.message(answer) == text


def test_what_a_request_carried_is_hidden() -> None:
    answer = {"message": "the token 'abcdefgh12345' of Bearer abcdefgh12345 is none"}
    assert rest.message(answer, ["Bearer abcdefgh12345"]) == ": the token '********' of Bearer ******** is none"
