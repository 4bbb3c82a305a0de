# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks authoritative servers whether they show what was written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import UNKNOWN, Answer, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Key, State
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns.resolver import Resolver
from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import Pace

_ANSWER_SECONDS = 3.0
_BETWEEN_SECONDS = 0.5


def unequal(asked: Sequence[str], keys: Iterable[Key], state: State, wait_seconds: float, pace: Pace) -> list[Finding]:
    """A finding for each server that does not show ``state`` at ``keys`` within ``wait_seconds``."""
    left = {server: [Question(*key) for key in keys] for server in asked}
    seen: dict[str, str] = {}
    deadline = pace.clock() + wait_seconds
    while left:
        for server, questions in list(left.items()):
            left[server], seen[server] = _differing(server, questions, state)
            if not left[server]:
                del left[server]
        if not left or pace.clock() + _BETWEEN_SECONDS > deadline:
            break
        pace.sleep(_BETWEEN_SECONDS)
    return [
        Finding(
            f"server {server}",
            f"{len(questions)} record set(s) differ from what was written: {_names(questions)}; {seen[server]}",
            f"after {wait_seconds:g} seconds it still shows something else; receivers may ask it",
            "look at transfers and caches of this server, then verify",
        )
        for server, questions in left.items()
    ]


def _names(questions: Sequence[Question]) -> str:
    return ", ".join(f"{each.name} {each.rtype}" for each in questions[:10])


def _differing(server: str, questions: Sequence[Question], state: State) -> tuple[list[Question], str]:
    """The questions that ``server`` answers otherwise, and what it says to the last of them."""
    left, said = [], ""
    answers = Resolver([server], _ANSWER_SECONDS, recursive=False).ask_each(questions)
    for question in questions:
        answer = answers[server, question]
        wanted = state.get((question.name, question.rtype))
        if answer.status == UNKNOWN:
            left.append(question)
            said = f"{question.name} {question.rtype}: {answer.detail}"
        elif _values(question, answer) != set(wanted.values if wanted else ()):
            left.append(question)
            said = f"{question.name} {question.rtype} shows {sorted(answer.values) or 'nothing'}"
    return left, said


def _values(question: Question, answer: Answer) -> set[str]:
    if question.rtype == "TXT":
        return set(answer.values)
    return {rrset.as_read(question.rtype, value) for value in answer.values}
