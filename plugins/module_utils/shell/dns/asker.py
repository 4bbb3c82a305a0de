# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks what a judge in core lacks, resolvers and single servers, until it lacks nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import Answer, Answers, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.authorities import ServerAnswers
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns.resolver import Resolver

# A zone, its servers, their addresses, whether they are alive, what they show, and SPF includes ten deep (RFC 7208).
MAX_ROUNDS = 60
Result = TypeVar("Result")


class Asker:
    """``resolvers`` as a Resolver takes them. Raises ValueError where one cannot be read."""

    def __init__(self, resolvers: Sequence[str], timeout_seconds: float) -> None:
        self._resolver = Resolver(resolvers, timeout_seconds, dnssec=True)
        self.timeout_seconds = timeout_seconds

    def resolve(self, questions: Iterable[Question]) -> dict[Question, Answer]:
        return self._resolver.ask(questions)

    def servers(self, questions: Iterable[tuple[str, Question]]) -> dict[tuple[str, Question], Answer]:
        """Each question to its server; servers that get the same questions are asked at once."""
        by_question: dict[Question, set[str]] = {}
        for server, question in questions:
            by_question.setdefault(question, set()).add(server)
        together: dict[frozenset[str], list[Question]] = {}
        for question, servers in by_question.items():
            together.setdefault(frozenset(servers), []).append(question)
        found: dict[tuple[str, Question], Answer] = {}
        for servers, wanted in together.items():
            found.update(Resolver(sorted(servers), self.timeout_seconds, recursive=False).ask_each(wanted))
        return found

    def settle(self, judge: Callable[[Answers, ServerAnswers], Result]) -> tuple[Result, int]:
        """What ``judge`` says once it wants no answer any more, and how many questions that took."""
        known: dict[Question, Answer] = {}
        at_servers: dict[tuple[str, Question], Answer] = {}
        for _round in range(MAX_ROUNDS):
            resolver, servers = Answers(known), ServerAnswers(at_servers)
            result = judge(resolver, servers)
            if not resolver.wanted and not servers.wanted:
                break
            if resolver.wanted:
                known.update(self.resolve(resolver.wanted))
            at_servers.update(self.servers(servers.wanted))
        return result, len(known) + len(at_servers)
