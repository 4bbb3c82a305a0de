# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one engine cannot do as the other: each case is a finding at its place, and the case beside it is none."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.engines.powermta.fleets import (
    DOCUMENT,
    changed,
)

WARM = {"ip": "203.0.113.40", "host": "mta2"}
ON_MTA1 = {**WARM, "host": "mta1"}
NEW = {"ip": "203.0.113.41", "host": "mta2", "warmup_from": "2026-11-09"}
ALERTS = "streams/alerts/addresses"
NO_FRONT = ("front", None)
ALWAYS = "PowerMTA has no directive that refuses a second From"


def findings(*changes):
    """(severity, where, all its words) of each finding, but the one that every PowerMTA host has."""
    _parsed, found = parse.parse(changed(*changes))
    return [(one.severity, one.where, f"{one.found} {one.why} {one.remedy}") for one in found if ALWAYS not in one.why]


def test_without_a_front_listener_the_fleet_has_no_findings():
    assert findings(NO_FRONT) == []


def test_what_powermta_lets_pass_is_said_once_with_the_streams():
    def said(*changes):
        return [one for one in parse.parse(changed(NO_FRONT, *changes))[1] if ALWAYS in one.why]

    (found,) = said()
    assert (found.severity, found.where) == (WARNING, "hosts.mta1.engine")
    assert "bulk, alerts leaves" in found.why
    (found,) = said(("hosts/mta2/engine", "postfix"))
    assert "of bulk leaves" in found.why
    assert said(("hosts/mta1/engine", "postfix"), ("hosts/mta2/engine", "postfix")) == []


def test_a_front_listener_where_no_stream_has_an_address_is_a_finding():
    changes = (("hosts/mta3", {"ansible_host": "10.0.0.13", "engine": "powermta"}), ("front/hosts", ["mta3"]))
    assert [(one[0], one[1]) for one in findings(*changes) if "leave under a name without SPF" in one[2]] == [
        (WARNING, "front.hosts")
    ]


CASES = [
    (
        "a new address without a warm one beside it",
        [NO_FRONT, (ALERTS, [{"ip": "203.0.113.30", "host": "mta1"}, NEW])],
        (ERROR, "streams.alerts.addresses[1].warmup_from", "no warm address on mta2"),
    ),
    (
        "a drained address is no warm one",
        [NO_FRONT, (ALERTS, [{**WARM, "share": 0}, {"ip": "203.0.113.30", "host": "mta1"}, NEW])],
        (ERROR, "streams.alerts.addresses[2].warmup_from", "no warm address on mta2"),
    ),
    ("a new address beside a warm one", [NO_FRONT, (ALERTS, [WARM, NEW])], None),
    (
        "a schedule on an engine that knows none",
        [NO_FRONT, ("hosts/mta2/engine", "postfix"), (ALERTS, [WARM, NEW])],
        (ERROR, "streams.alerts.addresses[1].warmup_from", "postfix on mta2 knows no schedule"),
    ),
    (
        "shares that a pool cannot have",
        [NO_FRONT, (ALERTS, [WARM, {"ip": "203.0.113.42", "host": "mta2", "share": 3}])],
        (WARNING, "streams.alerts.addresses", "shares 1, 3 on mta2"),
    ),
    (
        "equal shares",
        [NO_FRONT, (ALERTS, [{**WARM, "share": 3}, {"ip": "203.0.113.42", "host": "mta2", "share": 3}])],
        None,
    ),
    (
        "shares that Postfix has",
        [
            NO_FRONT,
            ("hosts/mta2/engine", "postfix"),
            (ALERTS, [WARM, {"ip": "203.0.113.42", "host": "mta2", "share": 3}]),
        ],
        None,
    ),
    (
        "networks that reach another stream's port",
        [
            NO_FRONT,
            ("hosts/mta2", None),
            (ALERTS, [ON_MTA1]),
            ("streams/alerts/inject_from", ["192.0.2.0/24"]),
        ],
        (WARNING, "streams.alerts.inject_from", "without 10.0.0.0/24"),
    ),
    (
        "networks of streams on different hosts",
        [NO_FRONT, ("streams/alerts/inject_from", ["192.0.2.0/24"])],
        None,
    ),
    ("a front listener, whose unknown names bounce", [], None),
    ("a front listener with PowerMTA's own header", [("front/header", "X-Virtual-MTA")], None),
    (
        "a front listener for streams with different sizes",
        [("streams/bulk/max_message_bytes", 65536)],
        (WARNING, "front.hosts", "takes messages of 10240000 bytes for every stream, also for bulk"),
    ),
    (
        "streams with different sizes whose mail the front hands on",
        [("streams/bulk/max_message_bytes", 65536), ("front/hosts", ["mta2"])],
        None,
    ),
    (
        "a header on a Postfix host alone",
        [("hosts/mta2/engine", "postfix"), ("front/hosts", ["mta2"])],
        None,
    ),
    (
        "bounces where nothing processes them",
        [NO_FRONT, ("hosts/mta2/engine", "postfix"), ("hosts/mta2/bounce_listen", ["203.0.113.9"])],
        (ERROR, "hosts.mta2.bounce_listen", "does not process bounces"),
    ),
    ("bounces on PowerMTA", [NO_FRONT, ("hosts/mta2/bounce_listen", ["203.0.113.9"])], None),
    (
        "an Ed25519 key that PowerMTA cannot sign with",
        [NO_FRONT, ("streams/alerts/dkim", {"algorithms": ["rsa", "ed25519"]})],
        (ERROR, "streams.alerts", "ed25519"),
    ),
]


@pytest.mark.parametrize(("changes", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_difference_is_said_and_nothing_else(changes, wanted):
    found = findings(*changes)
    if wanted is None:
        assert found == []
        return
    severity, where, words = wanted
    assert [one for one in found if one[0] == severity and one[1].startswith(where) and words in one[2]]
    assert len({one[1].rpartition(".")[2] for one in found}) == 1


def test_a_stream_on_both_engines_signs_with_what_both_can():
    document = copy.deepcopy(DOCUMENT)
    document["hosts"]["mta2"]["engine"] = "postfix"
    del document["front"]
    document["streams"]["bulk"]["addresses"].append({"ip": "203.0.113.50", "host": "mta2"})
    parsed, found = parse.parse(document)
    assert [one for one in found if ALWAYS not in one.why] == []
    assert parsed.streams["bulk"].dkim.algorithms == ("rsa",)
    assert parsed.streams["alerts"].dkim.algorithms == ("rsa", "ed25519")
