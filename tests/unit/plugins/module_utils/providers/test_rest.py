# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.providers import rest
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Garbled,
    ProviderError,
    Transient,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Response


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


class Answering:
    """A service that gives one answer to everything."""

    def __init__(self, status: int, body: bytes) -> None:
        self.answer = Response(status, {}, body)

    def request(self, *_request: Any) -> Response:
        return self.answer

    def close(self) -> None:
        pass


@pytest.mark.parametrize("body", [b"[" * 200000, b'{"a":' * 200000, b"\xff", b"{"])
@pytest.mark.parametrize("status", [200, 400, 422, 500])
def test_no_body_ends_the_run(status: int, body: bytes) -> None:
    with pytest.raises(ProviderError):
        rest.Rest(Answering(status, body), "Odd", Access("example.com")).json("GET", "/")


@pytest.mark.parametrize("said", ["\x1b]0;x\x07", "\u202egnp", "\x9b2J"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500])
def test_what_a_service_says_does_not_steer_a_terminal(status: int, said: str) -> None:
    service = Answering(status, json.dumps({"message": f"see {said} here"}).encode())
    with pytest.raises(ProviderError, match=r"see .* here") as caught:
        rest.Rest(service, "Odd", Access("example.com")).json("GET", "/")
    assert f"{caught.value}{caught.value.why}".isprintable()


def test_a_list_without_an_end_is_no_list() -> None:
    with pytest.raises(Garbled):
        list(rest.Rest(Answering(200, b""), "Odd", Access("example.com")).pages())


def test_what_a_request_carried_is_hidden() -> None:
    answer = {"message": "the token 'abcdefgh12345' of Bearer abcdefgh12345 is none"}
    assert rest.message(answer, ["Bearer abcdefgh12345"]) == ": the token '********' of Bearer ******** is none"


def all_pages(service: rest.Rest, asked: list[int]) -> None:
    """Reads a list whose every page names one more."""
    for page in service.pages():
        service.json("GET", "/")
        asked.append(page)


def test_one_more_page_for_ever_ends_with_the_time_for_the_zone() -> None:
    service = rest.Rest(Answering(200, b"[]"), "Odd", Access("example.com", reading_seconds=60.0))
    asked: list[int] = []
    service.clock = lambda: 25.0 * len(asked)
    with pytest.raises(Transient, match="did not give the whole zone") as caught:
        all_pages(service, asked)
    assert asked == [1, 2, 3]
    assert "timeout_seconds" in caught.value.remedy
    service.json("PATCH", "/")  # ends that reading
    service.json("GET", "/")


def test_one_more_page_for_ever_ends_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_MAX_READING", 100)
    service = rest.Rest(Answering(200, b"[1,2,3,4]"), "Odd", Access("example.com"))
    asked: list[int] = []
    with pytest.raises(Garbled, match="the answer is none") as caught:
        all_pages(service, asked)
    assert (len(asked), caught.value.why) == (11, "it cannot be read: it has more than 100 bytes in all")
    service.json("PATCH", "/")
    service.json("GET", "/")
