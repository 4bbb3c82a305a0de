# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a look asks: every server of the right zone at every address, or it says that it does not know them all."""

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import shown
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import (
    NO,
    UNKNOWN,
    YES,
    Answer,
    Answers,
    Question,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.authorities import ServerAnswers

A, SIX, B, C = "192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"
NAME = "k._domainkey.mail.example.com"
KEY = "v=DKIM1; p=AA"


def yes(*values: str, alias: str = "") -> Answer:
    return Answer(YES, values, ttl=300, authoritative=True, alias=alias)


def unknown(detail: str) -> Answer:
    return Answer(UNKNOWN, detail=detail)


class Net:
    """The zone example.com at three addresses of two servers; what nobody answers does not exist."""

    def __init__(self) -> None:
        self.resolver = {
            ("com", "NS"): yes("a.gtld.test"),
            ("example.com", "NS"): yes("ns1.example.com", "ns2.example.com"),
            ("ns1.example.com", "A"): yes(A),
            ("ns1.example.com", "AAAA"): yes(SIX),
            ("ns2.example.com", "A"): yes(B),
            ("ns3.example.com", "A"): yes(C),
        }
        self.servers: dict[tuple[str, str, str], Answer] = {}
        for server in (A, SIX, B, C):
            self.servers[server, "example.com", "NS"] = self.resolver["example.com", "NS"]
            self.servers[server, NAME, "TXT"] = yes(KEY)
        self.asked: set[tuple[str, str, str]] = set()

    def look(self, *zones: shown.Zone, name: str = NAME) -> shown.Look:
        resolver: dict[Question, Answer] = {}
        servers: dict[tuple[str, Question], Answer] = {}
        for _round in range(40):
            first, second = Answers(resolver), ServerAnswers(servers)
            (found,) = shown.look([Question(name, "TXT")], zones, first, second)
            if not first.wanted and not second.wanted:
                return found
            for question in first.wanted:
                resolver[question] = self.resolver.get(tuple(question), Answer(NO, ttl=60))  # type: ignore[arg-type]
            for server, question in second.wanted:
                self.asked.add((server, *question))
                servers[server, question] = self.servers.get((server, *question), Answer(NO, ttl=60))
        return pytest.fail("it never stops asking")


OURS = shown.Zone("example.com")
THEIRS = shown.Zone("mail.example.com", external=True)


def statuses(look: shown.Look) -> dict[str, str]:
    return {each.server: each.status for each in look.shown}


EVERY = {f"ns1.example.com ({A})": YES, f"ns1.example.com ({SIX})": YES, f"ns2.example.com ({B})": YES}


@pytest.mark.parametrize("zone", [None, OURS, THEIRS])
def test_every_address_of_every_server_is_asked(zone: Optional[shown.Zone]) -> None:
    """Be the zone ours, not listed at all, or listed as somebody else's and begun further up."""
    net = Net()
    look = net.look(*([zone] if zone else []))
    assert (statuses(look), look.why) == (EVERY, "")


def test_servers_that_are_given_are_asked_instead() -> None:
    net = Net()
    look = net.look(shown.Zone("example.com", servers=(f"{C}:5353", "ns2.example.com")))
    assert (statuses(look), look.why) == ({f"{C}:5353": NO, f"ns2.example.com ({B})": YES}, "")


def test_the_nearest_zone_holds_the_name() -> None:
    net = Net()
    net.resolver["_domainkey.mail.example.com", "NS"] = yes("ns3.example.com")
    assert statuses(net.look()) == {f"ns3.example.com ({C})": YES}


@pytest.mark.parametrize(
    ("rtype", "answer"),
    [("NS", yes("ns.partner.test", alias="partner.test")), ("NS", unknown("SERVFAIL"))],
)
def test_where_an_alias_leads_to_is_not_where_it_stands(rtype: str, answer: Answer) -> None:
    net = Net()
    net.resolver[NAME, "CNAME"] = yes("partner.test")
    net.resolver[NAME, rtype] = answer
    assert statuses(net.look()) == EVERY


FAULTS = {
    "a name without address": ("ns2.example.com", "A", Answer(NO), "server ns2.example.com"),
    "an address that nobody tells": ("ns2.example.com", "A", unknown("time-out"), "time-out"),
    "half of the addresses that nobody tells": ("ns1.example.com", "AAAA", unknown("SERVFAIL"), "SERVFAIL"),
    "a delegation that nobody tells": ("example.com", "NS", unknown("time-out"), "example.com NS"),
    "a parent that does not answer": (NAME, "NS", unknown("SERVFAIL"), "SERVFAIL"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_where_a_server_cannot_be_found_the_look_is_not_whole(fault: str) -> None:
    name, rtype, answer, says = FAULTS[fault]
    net = Net()
    net.resolver[name, rtype] = answer
    look = net.look()
    assert says in look.why
    assert not look.as_dict()["whole"]
    assert set(statuses(look)) < set(EVERY) or fault.startswith("half")


def test_a_zone_of_ours_that_is_not_delegated_is_not_whole() -> None:
    net = Net()
    del net.resolver["example.com", "NS"]
    look = net.look(OURS)
    assert (look.shown, "no NS records" in look.why) == ((), True)


def test_a_name_in_no_zone_is_not_whole() -> None:
    look = Net().look(name="k._domainkey.example.invalid")
    assert (look.shown, "no resolver finds a zone" in look.why) == ((), True)


def test_a_server_that_the_others_name_is_asked_as_well() -> None:
    """A resolver may have the parent's list, another one the zone's own."""
    net = Net()
    net.servers[B, "example.com", "NS"] = yes("ns1.example.com", "ns2.example.com", "ns3.example.com")
    look = net.look()
    assert (statuses(look), look.why) == ({**EVERY, f"ns3.example.com ({C})": YES}, "")
    net.resolver["ns3.example.com", "A"] = Answer(NO)
    assert "ns3.example.com" in net.look().why


def test_a_server_that_does_not_answer_for_the_zone_is_unknown_and_one_of_them() -> None:
    net = Net()
    net.servers[B, "example.com", "NS"] = unknown("REFUSED")
    look = net.look()
    assert (statuses(look), look.why) == ({**EVERY, f"ns2.example.com ({B})": UNKNOWN}, "")
    assert (B, NAME, "TXT") not in net.asked
