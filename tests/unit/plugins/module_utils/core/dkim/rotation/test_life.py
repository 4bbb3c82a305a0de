# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step at a time, to read: what a key in this state does on that evidence. The laws are in test_rotation_model."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any, Optional

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation.life import (
    ACTIVE,
    NEW,
    PUBLISHED,
    RETIRING,
    VERIFIED,
    WITHDRAWN,
    Evidence,
    KeyState,
    Look,
    Now,
    Policy,
    Shown,
    Signer,
)

HOUR, DAY = 3600, 86400
START = 1_767_225_600  # 2026-01-01
NOW = Now(START, 50 * DAY)
POLICY = Policy("tx.example.com", "rsa", 2048, HOUR, ("mta1", "mta2"), "mail", margin_seconds=0)


def key(number: int, state: str, **changes: Any) -> KeyState:
    text = "v=DKIM1; k=rsa; p=" + base64.b64encode(bytes([number]) * 32).decode()
    selector = f"s{number}"
    made = KeyState(
        id=number,
        selector=selector,
        name=f"{selector}._domainkey.tx.example.com",
        alias=None,
        state=state,
        because=life.AGE,
        record=text,
        fingerprint=keys.fingerprint_of_record(text) or "",
        bits=2048,
        born=START,
        entered=NOW.steady,
    )
    return replace(made, **changes)


def shows(one: KeyState, *texts: Optional[str], ttl: int = HOUR, whole: bool = True) -> dict[tuple[str, str], Look]:
    """A look at its record: a text of each server, "" where it shows nothing, None where it does not answer."""
    shown = [
        Shown(f"ns{at}", "unknown")
        if text is None
        else Shown(f"ns{at}", "yes" if text else "no", (text,) if text else (), ttl)
        for at, text in enumerate(texts)
    ]
    return {(one.name, "TXT"): Look(tuple(shown), whole)}


def seen(*held: KeyState) -> dict[tuple[str, str], Look]:
    """Every server shows these keys as they are."""
    looks: dict[tuple[str, str], Look] = {}
    for one in held:
        looks.update(shows(one, one.text, one.text))
    return looks


def signs(one: KeyState, *more: KeyState) -> Signer:
    """A host that signs with the first and holds all."""
    return Signer(frozenset([one.mark]), frozenset(each.mark for each in (one, *more)))


def went(
    held: list[KeyState], evidence: Evidence, *, at: int = 0, policy: Policy = POLICY, wall: int = 0
) -> list[tuple[str, str]]:
    """Selector and state of what moved in a step, ``at`` seconds from now, with the wall's clock ``wall`` ahead."""
    step = life.step(held, policy, Now(NOW.wall + at + wall, NOW.steady + at), evidence)
    return [(action.key.selector, action.key.state) for action in step.actions if action.kind != "note"]


def waits(held: list[KeyState], evidence: Evidence, policy: Policy = POLICY) -> str:
    return "; ".join(
        f"{wait.selector}: {wait.what} {wait.remedy}" for wait in life.step(held, policy, NOW, evidence).waits
    )


OLD, COMING, NEXT = key(1, ACTIVE), key(2, PUBLISHED, seen_since=NOW.steady), key(2, VERIFIED)
TEXT = COMING.record or ""


def test_a_series_without_a_key_gets_one() -> None:
    step = life.step([], POLICY, NOW, Evidence())
    assert [(action.kind, action.key.selector, action.key.state) for action in step.actions] == [
        ("make", "mail-20260101", NEW)
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("", ""), [("s1", PUBLISHED)]),
        (("", None), []),
        (("v=spf1 -all", ""), [("s1", PUBLISHED)]),
    ],
    ids=["nothing stands there", "a server does not answer", "something that is no key"],
)
def test_a_new_key_is_published_where_nothing_else_stands(texts: tuple[str, ...], expected: list[Any]) -> None:
    new = key(1, NEW)
    assert went([new], Evidence(shows(new, *texts))) == expected


def test_a_selector_that_holds_another_key_is_given_up_and_nothing_is_overwritten() -> None:
    new = key(1, NEW)
    step = life.step([new], POLICY, NOW, Evidence(shows(new, TEXT, "")))
    assert (step.actions[0].key.selector, step.actions[0].key.state) == ("s1", WITHDRAWN)
    assert not life.records(life.after([new], step.actions[:1]), POLICY)


def test_a_first_key_is_used_as_soon_as_every_server_shows_it() -> None:
    first = key(1, PUBLISHED)
    assert went([first], Evidence(seen(first))) == [("s1", VERIFIED), ("s1", ACTIVE)]
    assert went([first], Evidence(shows(first, first.text, ""))) == []
    assert went([first], Evidence(seen(first)), policy=replace(POLICY, first_key="wait")) == []


@pytest.mark.parametrize(
    ("texts", "ttl", "after", "moves"),
    [
        ((TEXT, TEXT), HOUR, HOUR - 1, False),
        ((TEXT, TEXT), HOUR, HOUR, True),
        ((TEXT, TEXT), 2 * HOUR, HOUR, False),
        ((TEXT, TEXT), 2 * HOUR, 2 * HOUR, True),
        ((TEXT, ""), HOUR, DAY, False),
        ((TEXT, None), HOUR, DAY, False),
        ((TEXT, "v=DKIM1; p=AAAA"), HOUR, DAY, False),
    ],
)
def test_caches_are_waited_out_for_the_longest_ttl_that_was_seen(
    texts: tuple[Optional[str], ...], ttl: int, after: int, moves: bool
) -> None:
    evidence = Evidence(shows(COMING, *texts, ttl=ttl))
    assert went([OLD, COMING], evidence, at=after) == ([("s2", VERIFIED)] if moves else [])


def test_a_negative_ttl_that_was_seen_before_it_was_published_is_waited_out() -> None:
    waiting = replace(COMING, wait_seconds=3 * HOUR)
    assert went([OLD, waiting], Evidence(seen(waiting)), at=3 * HOUR - 1) == []
    assert went([OLD, waiting], Evidence(seen(waiting)), at=3 * HOUR) == [("s2", VERIFIED)]


def test_a_server_that_nobody_knows_of_is_a_server_that_does_not_answer() -> None:
    assert went([OLD, COMING], Evidence(shows(COMING, TEXT, TEXT, whole=False)), at=DAY) == []


def test_a_clock_that_is_set_ahead_shortens_no_wait() -> None:
    assert went([OLD, COMING], Evidence(seen(COMING)), wall=DAY) == []


@pytest.mark.parametrize("texts", [(TEXT, ""), ("", None)])
def test_the_time_for_which_it_was_seen_begins_anew_after_a_no(texts: tuple[Optional[str], ...]) -> None:
    held = [OLD, COMING]
    held = list(life.after(held, life.step(held, POLICY, NOW, Evidence(shows(COMING, *texts))).actions))
    assert held[1].seen_since is None


@pytest.mark.parametrize(
    ("signers", "moves"),
    [
        ({"mta1": signs(OLD, NEXT), "mta2": signs(OLD, NEXT)}, True),
        ({"mta1": signs(OLD, NEXT), "mta2": signs(OLD)}, False),
        ({"mta1": signs(OLD, NEXT)}, False),
    ],
    ids=["every host holds it", "one does not", "one is away"],
)
def test_a_key_is_used_when_every_host_holds_it(signers: dict[str, Signer], moves: bool) -> None:
    assert went([OLD, NEXT], Evidence(seen(OLD, NEXT), signers)) == ([("s2", ACTIVE)] if moves else [])


def test_a_host_that_is_away_is_named_with_what_to_do() -> None:
    assert "mta2 must show that the key is there" in waits(
        [OLD, NEXT], Evidence(seen(NEXT), {"mta1": signs(OLD, NEXT)})
    )
    evidence = Evidence(seen(NEXT), {"mta1": signs(OLD, NEXT)}, without=frozenset(["mta2"]))
    assert went([OLD, NEXT], evidence) == [("s2", ACTIVE)]


USED = key(2, ACTIVE)


@pytest.mark.parametrize(
    ("signers", "moves"),
    [
        ({"mta1": signs(USED), "mta2": signs(USED)}, True),
        ({"mta1": signs(USED), "mta2": signs(OLD)}, False),
        ({"mta1": signs(USED), "mta2": Signer(None)}, False),
        ({"mta1": signs(USED)}, False),
    ],
    ids=["every host follows", "one does not", "one cannot say", "one is away"],
)
def test_a_key_retires_when_every_host_signs_with_the_next(signers: dict[str, Signer], moves: bool) -> None:
    assert went([OLD, USED], Evidence(seen(OLD, USED), signers)) == ([("s1", RETIRING)] if moves else [])


def test_where_proof_is_wanted_a_key_retires_after_a_receiver_has_seen_the_next() -> None:
    policy, signers = replace(POLICY, proof=True), {"mta1": signs(USED), "mta2": signs(USED)}
    assert went([OLD, USED], Evidence(seen(USED), signers), policy=policy) == []
    passed = Evidence(seen(USED), signers, passed=frozenset(["s2"]))
    assert went([OLD, USED], passed, policy=policy) == [("s1", RETIRING)]


def test_a_compromised_key_is_revoked_when_hosts_have_left_it_and_not_before() -> None:
    asked = life.after([OLD], life.ask([OLD], POLICY, NOW, life.COMPROMISED).actions)
    assert life.signing(asked, POLICY) == asked[0]
    held = [asked[0], USED]
    step = life.step(held, POLICY, NOW, Evidence(seen(*held), {"mta1": signs(USED), "mta2": signs(USED)}))
    held = list(life.after(held, step.actions))
    assert (held[0].state, held[0].text) == (RETIRING, life.names.REVOKED_KEY)


GONE = key(1, RETIRING, quiet_since=NOW.steady)
KEEP = POLICY.keep_retired_seconds


@pytest.mark.parametrize(
    ("signers", "after", "moves"),
    [
        ({"mta1": signs(USED), "mta2": signs(USED)}, KEEP - 1, False),
        ({"mta1": signs(USED), "mta2": signs(USED)}, KEEP, True),
        ({"mta1": signs(USED), "mta2": signs(GONE)}, KEEP, False),
        ({"mta1": signs(USED)}, KEEP, False),
    ],
    ids=["too early", "in time", "a host is on it again", "a host is away"],
)
def test_a_retired_key_stays_while_mail_may_need_it(signers: dict[str, Signer], after: int, moves: bool) -> None:
    evidence = Evidence(seen(GONE, USED), signers)
    assert went([GONE, USED], evidence, at=after) == ([("s1", WITHDRAWN)] if moves else [])


def test_the_time_to_keep_it_begins_anew_after_a_host_was_away() -> None:
    held: list[KeyState] = [GONE, USED]
    away = Evidence(seen(GONE, USED), {"mta1": signs(USED)})
    held = list(life.after(held, life.step(held, POLICY, NOW, away).actions))
    back = Evidence(seen(GONE, USED), {"mta1": signs(USED), "mta2": signs(USED)})
    assert went(held, back, at=KEEP) == []


@pytest.mark.parametrize(
    ("changes", "days", "selector"),
    [
        ({"every_days": 180}, 179, None),
        ({"every_days": 180}, 180, "mail-20260630"),
        ({"quarters": (1, 3)}, 180, None),
        ({"quarters": (1, 3)}, 181, "mail2026q3"),
        ({"slots": ("a", "b"), "every_days": 180}, 180, "a"),
        ({"bits": 3072}, 0, "mail-20260101"),
    ],
)
def test_a_key_is_made_when_the_policy_says_so(changes: dict[str, Any], days: int, selector: Optional[str]) -> None:
    expected = [(selector, NEW)] if selector else []
    assert went([OLD], Evidence(), at=days * DAY, policy=replace(POLICY, **changes)) == expected


def test_slots_are_used_in_turn_and_not_before_dns_is_clear_of_them() -> None:
    policy = replace(POLICY, slots=("s1", "s2"), every_days=1)
    withdrawn = key(1, WITHDRAWN)
    assert went([withdrawn, USED], Evidence(), at=DAY, policy=policy) == []
    assert went([replace(withdrawn, cleared=True), USED], Evidence(), at=DAY, policy=policy) == [("s1", NEW)]


def test_steady_time_is_that_of_the_uptime_within_a_boot_and_never_goes_back() -> None:
    last = life.Tick(wall=1000, boot="a", uptime=50, steady=7)
    assert life.steady_seconds(None, last) == 0
    assert life.steady_seconds(last, life.Tick(wall=99_999, boot="a", uptime=60)) == 17
    assert life.steady_seconds(last, life.Tick(wall=900, boot="b", uptime=3)) >= 7
