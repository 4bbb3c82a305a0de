# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerDNS: what each answer of the API means, and what of others it keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan as zones
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.plan import Wanted
from ansible_collections.mailops.mta.plugins.module_utils.providers import powerdns
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Garbled,
    Permanent,
    Throttled,
    Transient,
    Unreachable,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness

ZONE = "example.com"


class Script:
    """Answers in order; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> client.Response:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        pass


def pdns(script: Script) -> powerdns.PowerDns:
    credentials = {"url": "http://192.0.2.1:8081", "api_key": "k"}
    return powerdns.PowerDns(Access(ZONE, credentials, connect=lambda *_how: script))


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (client.Response(401, {}, b"Unauthorized"), Permanent, "refused the key"),
        (client.Response(403, {}, b""), Permanent, "refused access"),
        (client.Response(404, {}, b"Not Found"), Permanent, "no zone example.com"),
        (client.Response(422, {}, b'{"error": "Could not find domain"}'), Permanent, "no zone"),
        (client.Response(422, {}, b'{"error": "RRset a.example.com. IN A: bad"}'), Permanent, "a.example.com"),
        (client.Response(302, {}, b""), Garbled, "none of the PowerDNS API"),
        (client.Response(409, {}, b""), Conflict, "changed"),
        (client.Response(429, {"retry-after": "9"}, b""), Throttled, "too many"),
        (client.Response(500, {}, b'{"error": "database is locked"}'), Faulty, "locked"),
        (client.Response(502, {}, b"<html>"), Faulty, "502"),
        (client.Response(200, {}, b"<html>hello"), Garbled, "none of the PowerDNS API"),
        (client.Response(200, {}, b'{"rrsets": [{}]}'), Garbled, "none of the PowerDNS API"),
        (client.Response(200, {}, b"[]"), Garbled, "none of the PowerDNS API"),
        (client.Response(200, {}, b'{"kind": "Native", "rrs'), Garbled, "none of the PowerDNS API"),
        (client.Response(200, {}, b'{"kind": "Slave", "rrsets": []}'), Permanent, "kind Slave"),
        (client.NotConnected("refused"), Unreachable, "cannot be reached"),
        (client.AnswerLost("timed out"), Transient, "no answer"),
    ],
)
def test_powerdns_answers(answer: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        pdns(Script(answer)).read()
    assert caught.type is error
    if isinstance(caught.value, (Permanent, Transient)):
        assert caught.value.remedy


def test_powerdns_keeps_the_layout_and_the_disabled_records_of_others() -> None:
    contents = ['"theirs" " in two"', '"\\195\\169"']
    rrset = {
        "name": "example.com.",
        "type": "TXT",
        "ttl": 60,
        "records": [{"content": content, "disabled": False} for content in contents]
        + [{"content": '"off"', "disabled": True}],
    }
    answer = client.Response(200, {}, json.dumps({"kind": "Native", "rrsets": [rrset]}).encode())
    sent = []

    class Keeping(Script):
        def request(
            self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
        ) -> client.Response:
            if body:
                sent.append(json.loads(body))
            return super().request(method, path, body, headers)

    provider = pdns(Keeping(answer, client.Response(204, {}, b"")))
    state = provider.read()
    assert state[ZONE, "TXT"].values == ("theirs in two", "é")
    plan = zones.plan(ZONE, state, Wanted((RecordSet.of(ZONE, "TXT", 300, ["v=spf1 -all"]),)), "us")
    provider.write(plan.changes)
    records = sent[0]["rrsets"][0]["records"]
    assert {record["content"] for record in records if not record["disabled"]} == {*contents, '"v=spf1 -all"'}
    assert [record["content"] for record in records if record["disabled"]] == ['"off"']


def test_few_names_are_asked_alone() -> None:
    opened, line = harness.over_http("powerdns")
    writer = opened()
    sets = [RecordSet.of(f"h{number}.{ZONE}", "A", 60, ["192.0.2.1"]) for number in range(30)]
    writer.read()
    writer.write([Change(None, each) for each in sets])
    line.requests.clear()
    assert set(opened().read(["h1.example.com", "h2.example.com"])) == {sets[1].key, sets[2].key}
    assert ["?rrset_name=h1.example.com." in line.requests[0][1], len(line.requests)] == [True, 2]
    assert len(opened().read([each.name for each in sets])) == 30
    assert len(line.requests) == 3


def test_the_serial_tells_of_another_writer() -> None:
    opened, line = harness.over_http("powerdns")
    first, second = opened(), opened()
    change = Change(None, RecordSet.of(ZONE, "TXT", 60, ["x"]))
    for provider in (first, second):
        provider.read()
    first.write([change])
    assert first.alone()
    with pytest.raises(Conflict, match="serial"):
        second.write([change])
    line.stand_in.soa_edit_api = ""
    second.read()
    second.write([Change(change.after, None)])
    assert not second.alone()
