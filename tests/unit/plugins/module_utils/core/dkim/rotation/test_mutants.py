# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model notices mistakes: rotations with one wrong line each, and surroundings that do not do their part."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.dkim.rotation.search import changed, explore
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.dkim.rotation.world import Case

PLAIN = Case("a key is replaced")
SLOTS = {"slots": ("a", "b")}


@dataclass(frozen=True)
class Mutant:
    name: str
    laws: str  # by which it is caught
    case: Case
    changes: tuple[tuple[str, str], ...] = field(default=(), repr=False)


MUTANTS = [
    Mutant(
        "caches are not waited for",
        "A",
        PLAIN,
        (("left = since + self._cache_seconds(key) - self.now.steady", "left = 0"),),
    ),
    Mutant(
        "the negative TTL is ignored",
        "A",
        PLAIN,
        (
            (
                "max((one.ttl or 0 for one in self.shown), default=0)",
                "max((one.ttl or 0 for one in self.shown if one.status == YES), default=0)",
            ),
        ),
    ),
    Mutant(
        "the record's own TTL is waited for, not the largest seen",
        "A",
        PLAIN,
        (
            (
                "return max(key.wait_seconds, self.policy.ttl_seconds) + self.policy.margin_seconds",
                "return self.policy.ttl_seconds + self.policy.margin_seconds",
            ),
        ),
    ),
    Mutant(
        "the least negative TTL is waited for",
        "A",
        replace(PLAIN, negative=(1, 3)),
        (
            (
                "max((one.ttl or 0 for one in self.shown), default=0)",
                "min((one.ttl or 0 for one in self.shown), default=0)",
            ),
        ),
    ),
    Mutant(
        "only the last look's TTL is waited for",
        "A",
        PLAIN,
        (
            (
                "longest = max(key.wait_seconds, *(look.remembered_seconds for look in self._looks(key)))",
                "longest = max(look.remembered_seconds for look in self._looks(key))",
            ),
        ),
    ),
    Mutant(
        "one server's evidence is enough",
        "A",
        PLAIN,
        (
            (
                "return self.complete and all(one.status == YES and one.values == values for one in self.shown)",
                "return self.complete and any(one.status == YES and one.values == values for one in self.shown)",
            ),
        ),
    ),
    Mutant(
        "a server that does not answer counts as one that shows it",
        "A",
        replace(PLAIN, fault=2),
        (
            (
                "return self.complete and all(one.status == YES and one.values == values for one in self.shown)",
                "return all(one.status == UNKNOWN or one.values == values for one in self.shown)",
            ),
        ),
    ),
    Mutant(
        "the alias is not looked at",
        "A",
        replace(PLAIN, policy={"delegate": "keys.example.org"}),
        (
            (
                'alias = self._look(key.alias, "CNAME") if key.alias else None\n        if key.text',
                "alias = None\n        if key.text",
            ),
        ),
    ),
    Mutant(
        "a no does not end the time for which it was seen",
        "A",
        replace(PLAIN, loss=1),
        (
            (
                'self._note(key, "a server does not show it", seen_since=None,',
                'self._note(key, "a server does not show it",',
            ),
        ),
    ),
    Mutant(
        "a no beside a server that does not answer counts as unknown",
        "A",
        replace(PLAIN, loss=1),
        (
            (
                "if txt.denies(key.text) or (alias is not None and alias.denies(key.name)):",
                "if txt.complete and (alias is None or alias.complete):",
            ),
        ),
    ),
    Mutant(
        "waits are measured by the clock on the wall",
        "AB",
        replace(PLAIN, fault=0, jump=1),
        (
            (
                'more to say."""\n    run = _Run(tuple(held), policy, now, evidence)',
                'more to say."""\n    run = _Run(tuple(held), policy, Now(now.wall, now.wall), evidence)',
            ),
        ),
    ),
    Mutant(
        "every key may be used as soon as it is seen",
        "A",
        PLAIN,
        (
            (
                'self.policy.first_key == "now" and self._signing is None and unused',
                'self.policy.first_key == "now" and unused',
            ),
        ),
    ),
    Mutant(
        "a slot that is used again may be used as soon as it is seen",
        "A",
        Case("a slot is revoked in DNS", fault=0, cut=1, policy=SLOTS),
        (("and self._signing is None and unused", "and self._signing is None"),),
    ),
    Mutant(
        "hosts need not hold the key",
        "H",
        PLAIN,
        (("if lacking:", "if not known:"),),
    ),
    Mutant(
        "a host that is away counts as one that follows",
        "R",
        replace(PLAIN, fault=2),
        (
            ("return not (missing or behind)", "return not behind"),
            ("quiet_since=None if on_it or missing else since", "quiet_since=None if on_it else since"),
            (
                "            if missing:\n                self._wait_for_hosts(key, missing",
                "            if not key:\n                self._wait_for_hosts(key, missing",
            ),
        ),
    ),
    Mutant(
        "one host that follows is enough",
        "R",
        PLAIN,
        (("return not (missing or behind)", "return not missing and len(behind) < len(self.policy.hosts)"),),
    ),
    Mutant(
        "keys retire by the clock alone",
        "R",
        PLAIN,
        (
            ("if self._hosts_left(key, chosen) and self._is_proven(key, chosen, urgent):", "if True:"),
            ("on_it, missing = self._sign_with(key), self._missing(key)", "on_it, missing = (), ()"),
        ),
    ),
    Mutant(
        "the last key is not guarded",
        "C",
        replace(PLAIN, fault=0, cut=1),
        (("if key == chosen or (chosen is None and not self.policy.left):", "if key == chosen:"),),
    ),
    Mutant(
        "a retired key goes at once",
        "B",
        PLAIN,
        (("left = since + self.policy.keep_retired_seconds - self.now.steady", "left = 0"),),
    ),
    Mutant(
        "time counts in which a host was not seen",
        "B",
        replace(PLAIN, image=1),
        (("quiet_since=None if on_it or missing else since", "quiet_since=since"),),
    ),
    Mutant(
        "a host that a stream has left is forgotten",
        "R",
        replace(PLAIN, part=1),
        (("former = set(key.hosts if key else ()) & set(self.policy.fleet)", "former = set()"),),
    ),
    Mutant(
        "a retired key goes while a host signs with it",
        "ABD",
        replace(PLAIN, image=1, fault=0),
        (("on_it, missing = self._sign_with(key), self._missing(key)", "on_it, missing = (), self._missing(key)"),),
    ),
    Mutant(
        "a compromised key is revoked before hosts have left it",
        "A",
        replace(PLAIN, fault=0, compromise=1),
        (
            (
                'run._note(key, "it is compromised", replace=COMPROMISED)',
                'run._note(key, "it is compromised", replace=COMPROMISED, revoked=True)',
            ),
        ),
    ),
    Mutant(
        "proof is not asked for",
        "P",
        replace(PLAIN, policy={"proof": True}),
        (("if self.policy.proof and not urgent", "if False and not urgent"),),
    ),
    Mutant(
        "a withdrawn key is looked at again",
        "D",
        PLAIN,
        (("for key in self._in(VERIFIED):", "for key in self._in(VERIFIED, WITHDRAWN):"),),
    ),
    Mutant(
        "the selector of a withdrawn key is used again",
        "O",
        replace(PLAIN, fault=0, demand=2),
        (("used = {key.selector for key in held}", "used = {key.selector for key in held if key.state != WITHDRAWN}"),),
    ),
    Mutant(
        "a slot is used again while a server still shows the key before",
        "O",
        replace(PLAIN, demand=2, policy=SLOTS),
        (
            (
                "for key in held if not key.cleared or key.entered == now.steady}",
                "for key in held if key.state != WITHDRAWN}",
            ),
            ("if others and (self.policy.slots or key.because == IMPORTED):", "if False:"),
            ("            elif others:\n", "            elif False:\n"),
        ),
    ),
    Mutant(
        "a restored store believes what it remembers of retired keys",
        "B",
        replace(PLAIN, fault=0, restore=1, image=1),
        (
            (
                "if key.state == ACTIVE and not signed:",
                "if key.state == RETIRING or (key.state == ACTIVE and not signed):",
            ),
        ),
    ),
    Mutant(
        "a restored store does not take over what hosts sign with",
        "ABDEG",
        replace(PLAIN, fault=0, restore=1),
        (
            (
                "for selector, fingerprint in strangers(self.held, self.policy, self.evidence)[:_MOST_STRANGERS]:",
                "for selector, fingerprint in ():",
            ),
        ),
    ),
    Mutant(
        "a lost key is not replaced while hosts are on their way to it",
        "E",
        replace(PLAIN, fault=0, restore=1, image=1),
        (
            ("return (ours or usable)[-1]", "return usable[-1]"),
            ("    if not key.private:\n        return LOST\n", ""),
            (
                "    if key.replace:\n        return key.replace\n",
                "    if not key.private:\n        return LOST\n    if key.replace:\n        return key.replace\n",
            ),
        ),
    ),
    Mutant(
        "keys are made before others retire",
        "F",
        replace(PLAIN, fault=1, demand=2, compromise=1),
        (
            ("    run.make_what_is_due()\n    run.judge()", "    run.judge()"),
            ("    run.publish()\n", "    run.make_what_is_due()\n    run.publish()\n"),
        ),
    ),
    Mutant("a restored store is used as it is", "ABDEG", replace(PLAIN, fault=0, restore=1, careful=False)),
    Mutant("hosts take older tables", "ABD", replace(PLAIN, slow=1, guarded=False)),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_model_catches(mutant: Mutant) -> None:
    found = explore(mutant.case, changed(inspect.getsource(life), *mutant.changes))
    assert found.broken is not None, f"{mutant.name} survives: {found}"
    print(f"{mutant.name}: law {found.broken.law}, {len(found.trace)} events, {found}")
    assert found.broken.law in mutant.laws, str(found)
