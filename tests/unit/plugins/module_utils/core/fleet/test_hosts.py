# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the fleet file: what is wrong is refused at its place."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, parse
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.fleet.fleets import (
    changed,
    refused,
    refused_at,
)

WRONG = [
    ("a firewall that is no truth", [("hosts/mta1/firewall", "nft")], "hosts.mta1.firewall", "true or false"),
    ("an unknown key of a host", [("hosts/mta1/engin", "postfix")], "hosts.mta1.engin", "did you mean 'engine'"),
    ("an engine that does not exist", [("hosts/mta1/engine", "powermt")], "hosts.mta1.engine", "'powermta'"),
    (
        "bounces at what is no address",
        [("hosts/mta1", {"ansible_host": "10.0.0.11", "engine": "powermta", "bounce_listen": ["mta1"]})],
        "hosts.mta1.bounce_listen[0]",
        "mta1",
    ),
    ("a host nobody can reach", [("hosts/mta1", {"ansible_host": "mta1.example.com"})], "hosts.mta1.listen", "missing"),
]


@pytest.mark.parametrize(("changes", "where", "text"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused_at_its_place(changes, where, text):
    refused_at(changes, where, text)


def test_a_host_without_an_engine_is_no_mta():
    parsed, findings = parse.parse(
        changed(("hosts/keys", {"engine": "none"}), ("key_host", "keys"), ("front", {"port": 2500, "default": "bulk"}))
    )
    assert findings == []
    assert derive.host_variables(parsed, "keys") == {"mta_engine": "none"}
    assert parsed.front.hosts == ("mta1", "mta2")
    assert {entry["host"] for entry in derive.fleet_variables(parsed)["mta_proof"]["listeners"]} == {"mta1", "mta2"}


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (
            "hosts/mta1/interface",
            ["eth0", "enp3s0f1", "eth0.100", "br-12ab", "x" * 15, None, ""],
            ["x" * 16, "a/b", "a b", "-a", "..", "eth0\nlink del eth0", "é", "a:1", 5.5, ["eth0"]],
        ),
        ("zones/example.com/credentials", ["pdns", "pdns_2", "a.b-c"], ["a b", "-a", "a\nb", "x" * 65, "é", {"a": 1}]),
    ],
)
def test_names_of_interfaces_and_credentials_are_strict(path, right, wrong):
    for value in right:
        assert parse.parse(changed((path, value)))[0] is not None
    for value in wrong:
        assert path.replace("/", ".") in [finding.where for finding in refused(changed((path, value)))]
    for value in ("rx 1", "rx1\n", "-rx", "rx/1"):
        sink = {"sink_domain": "sink.example.org", "sink_host": value}
        assert [finding.where for finding in refused(changed(("verify", sink)))] == ["verify.sink_host"]
