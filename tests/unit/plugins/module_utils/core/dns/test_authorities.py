# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strangers write a delegation: they name hosts in it, and do not choose whom else the controller asks."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import authorities
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, YES, Answer, Answers, Question

ZONE = "example.com"


def known(addresses: dict[str, list[str]]) -> Answers:
    return Answers(
        {
            Question(host, rtype): Answer(YES, tuple(ips)) if rtype == "A" else Answer(NO)
            for host, ips in addresses.items()
            for rtype in ("A", "AAAA")
        }
    )


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8125", "127.0.0.1", "10.0.0.1", "[::1]:8125", "::1", "ns.example.net:8125", "ns.example.net:53", "."],
)
def test_an_address_or_port_in_a_delegation_is_asked_nothing(host: str) -> None:
    answers = known({"ns.example.net": ["192.0.2.1"]})
    found = authorities.delegated(ZONE, [host, "ns.example.net"], answers)
    assert [server.address for server in found.servers] == ["192.0.2.1"]
    assert [(problem.where, problem.found) for problem in found.problems] == [(f"{ZONE} NS", f"'{host}'")]
    assert not answers.wanted


def test_the_operator_may_name_addresses_and_ports() -> None:
    found = authorities.configured(
        ZONE, ["192.0.2.1:5353", "ns.example.net:54"], known({"ns.example.net": ["192.0.2.2"]})
    )
    assert [server.address for server in found.servers] == ["192.0.2.1:5353", "192.0.2.2:54"]
    assert not found.problems


@pytest.mark.parametrize(("hosts", "each"), [(5000, 1), (1, 4000), (20, 200)])
def test_a_delegation_makes_a_limited_number_of_questions(hosts: int, each: int) -> None:
    named = [f"ns{number}.example.net" for number in range(hosts)]
    asking = Answers({})
    authorities.delegated(ZONE, named, asking)
    assert len(asking.wanted) <= 2 * authorities.MAX_SERVERS
    ips = {host: [f"192.0.{at}.{low}" for at in range(each // 250 + 1) for low in range(250)][:each] for host in named}
    found = authorities.delegated(ZONE, named, known(ips))
    assert 0 < len(found.servers) <= authorities.MAX_ADDRESSES
    assert any("more than" in problem.found for problem in found.problems)


def test_as_many_as_the_root_has_are_all_asked() -> None:
    ips = {f"ns{number}.example.net": [f"192.0.2.{number}"] for number in range(13)}
    found = authorities.delegated(ZONE, ips, known(ips))
    assert (len(found.servers), found.problems) == (13, ())
