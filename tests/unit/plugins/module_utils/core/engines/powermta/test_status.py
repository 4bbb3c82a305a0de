# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what PowerMTA's command line says: known shapes, unknown shapes, garbage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import queue as names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import status
from hypothesis import given
from hypothesis import strategies as st

READERS: list[Callable[[Any], Any]] = [
    status.queues,
    status.vmtas,
    status.disabled_sources,
    status.listed,
    status.status,
    status.version,
    status.licence,
    status.settings,
]
KEYS = st.sampled_from(
    ["data", "status", "message", "queue", "queues", "vmta", "sources", "name", "rcp", "paused", "mode", "mta", "ip"]
) | st.sampled_from(["product", "version", "traffic", "conn", "messages", "errors", "license", "password"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("1e999"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5),
    max_leaves=25,
)
STATUS = {
    "data": {
        "mta": {"product": {"name": "PowerMTA", "version": "5.0r8", "bits": 64}, "lak": {"serial": "123456"}},
        "status": {
            "timeNow": "2026-11-25 03:00:00",
            "startupTime": "2026-11-25 01:00:00",
            "shuttingDown": False,
            "traffic": {"total": {"out": {"rcp": 7, "msg": 7, "kb": 1.5}, "in": {"rcp": 9, "msg": 3, "kb": 1.5}}},
            "conn": {"smtpIn": {"cur": 1, "max": 5, "top": 1}, "smtpOut": {"cur": 0, "max": 1200, "top": 157}},
            "queue": {"smtp": {"rcp": 805, "dom": 226, "kb": 5.5}, "pipe": {"rcp": 2, "dom": 0, "kb": 0}},
            "spool": {"totalRcp": 807},
            "status": "running",
        },
    },
    "status": "success",
}


@given(JSON)
def test_nothing_raises_and_what_is_not_understood_is_said(parsed: Any) -> None:
    for read in READERS:
        found, findings = read(parsed)
        assert found is not None or findings, read.__name__
    assert all(": " in line for line in status.shape(parsed))


@given(JSON)
def test_a_table_can_be_made_of_all_that_was_read(parsed: Any) -> None:
    found = {
        "version": status.version(parsed)[0],
        "status": status.status(parsed)[0],
        "queues": status.queues(parsed)[0],
        "vmtas": status.vmtas(parsed)[0],
        "disabled_sources": status.disabled_sources(parsed)[0],
        "licence": status.licence(parsed)[0],
    }
    assert all(isinstance(line, str) for line in status.lines(found, status.queues(parsed)[1]))


@pytest.mark.parametrize(
    "parsed",
    [
        {"status": "success", "data": {"title": "t", "queues": [{"name": "a.test/v", "rcp": "77", "kb": "1.5"}]}},
        {"data": {"queue": {"name": "a.test/v", "rcp": 77, "kb": 1.5}}},
        {"data": {"queues": {"a.test/v": {"rcp": 77, "kb": 1.5}}}},
        {"rsp": {"data": {"queues": {"queue": [{"name": "a.test/v", "rcpt": 77, "kb": 1.5}]}}}},
        [{"Name": "a.test/v", "rcp": 77.0, "kb": 1.5}],
    ],
)
def test_one_queue_however_it_is_wrapped(parsed: Any) -> None:
    found, findings = status.queues(parsed)
    assert findings == ()
    assert found is not None
    assert [(each["name"], each["recipients"], each["kilobytes"]) for each in found] == [("a.test/v", 77, 1.5)]
    assert found[0]["paused"] is None


def test_a_whole_queue() -> None:
    entry = {
        "name": "a.test/v",
        "rcp": "77",
        "kb": "769.4",
        "conn": "0",
        "paused": "no",
        "mode": "backoff",
        "retryTime": "2026-11-25 18:25:32",
        "errors": [{"time": "2026-11-25 18:24:33", "text": "connect rate limit reached"}],
        "priority": 50,
        "rcptEvents": [{"rcpt": "someone@a.test"}],
    }
    found, findings = status.queues({"data": {"queues": [entry]}})
    assert findings == ()
    assert found == [
        {
            "name": "a.test/v",
            "recipients": 77,
            "kilobytes": 769.4,
            "connections": 0,
            "paused": False,
            "mode": "backoff",
            "retry_at": "2026-11-25 18:25:32",
            "errors": ["connect rate limit reached"],
            "raw": {"priority": 50},
        }
    ]


@pytest.mark.parametrize("parsed", [{"data": {"queues": []}}, {"data": {"title": "none"}}, {"data": {}}, []])
def test_no_queue_is_no_finding(parsed: Any) -> None:
    assert status.queues(parsed) == ([], ())


@pytest.mark.parametrize("parsed", [None, "Queue(s) paused.", 7, {"data": {"rows": [[1, 2]]}}, [1], {"data": None}])
def test_another_shape_is_a_finding_and_no_empty_list(parsed: Any) -> None:
    found, findings = status.queues(parsed)
    assert found is None
    assert "not known here" in findings[0].found


def test_an_error_is_told_as_powermta_tells_it() -> None:
    for read in READERS:
        found, findings = read({"status": "error", "message": "no such queue"})
        assert found is None
        assert "no such queue" in findings[0].found


def test_the_documented_status() -> None:
    found, findings = status.status(STATUS)
    assert findings == ()
    assert found is not None
    assert (found["state"], found["recipients"], found["spooled_recipients"]) == ("running", 807, 807)
    assert found["traffic"]["out_total"] == 7
    assert found["traffic"]["in_last_hour"] is None
    assert found["connections"] == {"in_now": 1, "in_limit": 5, "out_now": 0, "out_limit": 1200}
    assert status.version(STATUS)[0] == {
        "product": "PowerMTA",
        "version": "5.0r8",
        "built": None,
        "raw": {"name": "PowerMTA", "version": "5.0r8", "bits": 64},
    }
    assert "recipients waiting  807" in " ".join(status.lines({"status": found})).replace("   ", " ").replace(
        "   ", " "
    )


def test_the_holder_of_the_licence_stays_unknown() -> None:
    parsed = {"data": {"product": "PowerMTA", "version": "5.0", "licensee": "Foo Corp", "serial": "238478"}}
    for read in (status.licence, status.version):
        assert "Foo" not in str(read(parsed))
        assert "238478" not in str(read(parsed))
    assert "123456" not in str(status.status(STATUS))


def test_passwords_are_no_settings() -> None:
    for parsed in (
        {"data": {"queue": {"auth-password": "hunter2"}}},
        {"data": {"settings": [{"name": "auth-password", "value": "hunter2"}]}},
        {"data": {"settings": ["auth-password hunter2"]}},
    ):
        found, _findings = status.settings(parsed)
        assert "hunter2" not in str(found)
        assert "(secret)" in str(found)


def test_a_shape_names_keys_and_no_value() -> None:
    parsed = {"data": {"queues": [{"name": "a.test/v", "rcp": 7}], "a.test": {"x": None}}, "status": "success"}
    assert status.shape(parsed) == [
        "data.queues[].name: text",
        "data.queues[].rcp: number",
        "data.*.x: null",
        "status: text",
    ]


# ---- names


@pytest.mark.parametrize(
    "name", ["a.test/v", "*/*", "*.a.test/bulk-203-0-113-20", "x.rollup/v", "[192.0.2.1]/v", "öbb.de/{default}", "*/v"]
)
def test_names_of_queues(name: str) -> None:
    assert names.problem(name) == ""


@pytest.mark.parametrize(
    "name", ["", "a.test", "a.test/", "/v", "--queue=*/*", "-x/v", "a.test/v;id", "a.test/v w", "a/b/c", "a.test/v\n"]
)
def test_no_names_of_queues(name: str) -> None:
    assert names.problem(name)


@given(st.text(max_size=30))
def test_what_is_a_name_is_one_word_and_no_option(name: str) -> None:
    if not names.problem(name):
        assert not name.startswith("-")
        assert not any(letter.isspace() or letter in "'\"$`;|&<>\\" for letter in name)


def test_many_queues_and_deletion_are_said_twice() -> None:
    def refused(queue: str, deletes: bool, confirm: Any = None, every: bool = False) -> bool:
        return bool(names.refusal(queue, deletes=deletes, confirm=confirm, every_queue=every))

    assert not refused("a.test/v", False)
    assert refused("a.test/v", True)
    assert refused("a.test/v", True, "a.test/w")
    assert not refused("a.test/v", True, "a.test/v")
    assert refused("*/*", False)
    assert refused("*/*", False, "*/*")
    assert refused("*/*", False, None, True)
    assert not refused("*/*", True, "*/*", True)


def test_patterns_match_queues_and_nothing_else() -> None:
    assert names.matches("*/v", "a.test/v")
    assert names.matches("*.a.test/*", "x.A.test/v")
    assert not names.matches("a.test/*", "xa.test/v")
    assert not names.matches("a.test/v", "axtest/v")
    assert names.matches("[192.0.2.1]/v", "[192.0.2.1]/v")
    assert not names.matches("[192.0.2.1]/v", "1/v")


@given(st.sampled_from([True, False]), st.sampled_from(["normal", "backoff"]))
def test_what_is_as_wanted_lacks_nothing(paused: bool, mode: str) -> None:
    wanted = {"paused": paused, "mode": mode}
    record = {"name": "a.test/v", "paused": paused, "mode": mode}
    pattern = {"name": "*/*", "paused": None, "mode": None}
    assert names.lacking([record], wanted) == []
    assert names.lacking([record, pattern], wanted) == []
    assert names.lacking([{**record, "paused": not paused}], wanted) == ["paused"]
    assert names.lacking([{**record, "paused": None}], {"paused": paused}) == ["paused"]
    assert names.resisting([{**record, "paused": None}, pattern], wanted) == []


def test_a_source_that_comes_back_is_not_one_that_stays_away() -> None:
    for_ever, for_a_while = {"queue": "*/*", "reenable_at": None}, {"queue": "*/*", "reenable_at": "later"}
    assert names.source_holds([for_ever], True, False)
    assert not names.source_holds([for_ever], True, True)
    assert names.source_holds([for_a_while], True, True)
    assert not names.source_holds([for_a_while], True, False)
    assert names.source_holds([], False, False)
    record = {"ip": "2001:DB8::1", "queue": "a.test/*", "reenable_at": None}
    assert names.disabling([record], "2001:db8:0::1", "a.test/v") == [record]
    assert names.disabling([record], "2001:db8::1", "b.test/v") == []
