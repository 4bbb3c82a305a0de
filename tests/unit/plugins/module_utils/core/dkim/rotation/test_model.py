# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every world that a rotation can get into, with few faults; and walks through larger ones.

A case ends when no world is left that was not visited, so what holds in it holds after any time. In each world:

A. no host signs with a key whose record a server does not show or a cache may remember differently,
B. mail in a queue can be verified until its time in the queue is over,
C. the last active key of a series never goes,
D. what was withdrawn is never signed with again,
E. once faults stop, some runs bring one active key, everywhere, and nothing that moves,
F. the same evidence says nothing new in a second step,
G. no host is left without a key to sign with,
O. no selector is used again, a slot only where DNS shows no key, so nothing is overwritten,
H. a key is active only when every host has shown to hold it, unless there was none to sign with,
R. a key retires only when every host has shown to sign with what follows it,
P. where proof is wanted, it does so only when a receiver has seen that.

What the laws do not cover, because nothing could: a key that somebody revokes in DNS, mail that a compromised key
signed, a host that comes back with a key that was withdrawn after it was seen without it. What they need from others:
hosts refuse older tables, a restored store is reconciled first and no run is under way then, no playbook gives hosts a
table without having asked them; with slots, a run has ended before it could overwrite a slot that is used again. That
evidence counts only for the state that it was gathered for is more than they need: what was seen of a key stays true.

MTA_ROTATION=long visits more and prints (with -s) how many worlds there are; it takes a quarter of an hour.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.dkim.rotation.search import explore, walk
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.dkim.rotation.world import Case

SLOTS = {"slots": ("a", "b")}
LONG = os.environ.get("MTA_ROTATION") == "long"

CASES = [
    Case("a key is replaced"),
    Case("two runs at once", slow=1, policy={"hosts": ("h0",)}),
    Case("a first key", settled=False),
    Case("a first key that waits", settled=False, fault=0, policy={"first_key": "wait"}),
    Case("servers differ in their negative TTL", negative=(1, 3)),
    Case("something else stood at the name", settled=False, fault=0, foreign=("v=spf1 -all", 4)),
    Case("another key stood at the name", settled=False, fault=0, foreign=("v=DKIM1; k=rsa; p=AAAA", 4)),
    Case("proof is wanted", policy={"proof": True}),
    Case("aliases lead to another zone", fault=0, policy={"delegate": "keys.example.org"}),
    Case("somebody else sets the aliases", fault=0, policy={"delegate": "keys.example.org", "external": True}),
    Case("slots are used in turn", demand=2, policy=SLOTS),
    Case("keys are replaced by age", demand=0, fault=0, jump=1, ticks=10, policy={"every_days": 8}),
    Case("the clock jumps", fault=0, jump=1),
    Case("a record is removed", loss=1),
    Case("a host comes back from an image", fault=0, image=1),
    Case("the store is restored", fault=0, restore=1),
    Case("a key is compromised", fault=0, compromise=1),
    Case("a key is revoked in DNS", fault=0, cut=1),
    Case("a slot is revoked in DNS", fault=0, cut=1, policy=SLOTS),
    Case("a stream leaves a host", fault=0, part=1),
    Case("the fleet leaves the domain", fault=0, leave=1),
]

MORE = [
    Case("two faults", fault=2),
    Case("two runs at once, two hosts", slow=1),
    Case("two runs at once, and a fault", slow=1, fault=2, policy={"hosts": ("h0",)}),
    Case("two runs at once, with proof", slow=1, policy={"proof": True}),
    Case("two runs at once, with slots", slow=1, patience=1, demand=2, policy=SLOTS),
    Case("two runs at once, with evidence for other states", slow=1, matched=False, policy={"hosts": ("h0",)}),
    Case("a record is removed, and two faults", fault=2, loss=1),
    Case("store and host come from a backup", fault=0, restore=1, image=1),
    *[
        replace(case, name=f"{case.name}, and a fault", fault=1)
        for case in CASES
        if case.fault == 0 and not case.policy.get("every_days")
    ],
]


@pytest.mark.parametrize("case", CASES + (MORE if LONG else []), ids=lambda case: case.name)
def test_no_world_breaks_a_law(case: Case) -> None:
    found = explore(case)
    print(f"{case.name}: {found}")
    assert found.broken is None, str(found)
    assert found.complete or case.policy.get("every_days")


@pytest.mark.parametrize("policy", [{}, {"proof": True}, {"delegate": "keys.example.org"}, {"first_key": "wait"}])
def test_no_walk_through_a_larger_world_breaks_a_law(policy: dict[str, object]) -> None:
    """Three hosts, two runs under way at a time, and much that goes wrong together."""
    limits = {"fault": 8, **dict.fromkeys(("demand", "compromise", "jump", "restore", "image", "part", "loss"), 2)}
    case = Case("a walk", {"hosts": ("h0", "h1", "h2"), **policy}, negative=(1, 3), slow=2, bound=40, **limits)
    for number in range(300 if LONG else 8):
        found = walk(case, random.Random(f"{policy} {number}"), 60)
        assert found.broken is None, f"walk {number}: {found}"
