# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS answers as values. There are three: yes with values, no, and unknown; unknown is never taken for either other.

Values are canonical: A and AAAA as ``ipaddress`` prints them, names lower case without the final dot, MX as
``10 mx.example.com``, TXT with its strings joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

YES = "yes"
NO = "no"  # no such name, or no record of that type
UNKNOWN = "unknown"  # time-out, SERVFAIL, REFUSED, a broken answer, or not asked yet


@dataclass(frozen=True)
class Question:
    name: str
    rtype: str


@dataclass(frozen=True)
class Answer:
    status: str
    values: tuple[str, ...] = ()
    detail: str = ""


@dataclass
class Answers:
    """What is known. It notes each question that has no answer yet, so that a caller can ask those and try again."""

    known: Mapping[Question, Answer]
    wanted: set[Question] = field(default_factory=set)

    def get(self, name: str, rtype: str) -> Answer:
        question = Question(name, rtype)
        answer = self.known.get(question)
        if answer is None:
            self.wanted.add(question)
            return Answer(UNKNOWN, detail="it was not asked")
        return answer
