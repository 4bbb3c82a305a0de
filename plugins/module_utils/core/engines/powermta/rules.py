# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a PowerMTA configuration that are tried one after the other: pattern-lists, which choose a virtual MTA,
smtp-pattern-lists, which answer the replies of receivers, and the categories of bounces."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import values
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import Directive
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.table import BOUNCE_CATEGORIES
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.tree import (
    TRUE,
    Scope,
    Tree,
    head,
    on,
    plain,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import shown

_PATTERN_RULES = ("mail-from", "rcpt-to", "header")
EVERYTHING = re.compile(r"/(\^?(\.[*+]?)?\$?|\^?\(\.\*\)\$?)/\Z")
_ONE_MAILBOX = re.compile(r"/\^<?[\w\\+=-][\w\\.+=-]*@")
_REGEX_FIRST = re.compile(r"(/(?:[^/\\]|\\.)*/)[ \t]*(.*)\Z", re.DOTALL)
_MODES = ("mode", "backoff-to-normal-after", "skip-mx", "bounce-queue", "bounce-rcpt")
_ACTIONS = (*_MODES, "disable-source-ip", "reenable-after", "defer-queue")
_FLAGS = frozenset({"skip-mx", "bounce-queue", "bounce-rcpt", "disable-source-ip"})


def is_rule(tag: str, name: str) -> bool:
    """Whether a line is a rule, which is judged by its section's own rules rather than as a directive with a value."""
    return (
        tag == "pattern-list"
        or (tag == "bounce-category-patterns" and name[:1] == "/")
        or (tag == "smtp-pattern-list" and name == "reply")
    )


# ---- pattern-lists


def pattern_rules(tree: Tree) -> Iterator[tuple[Scope, Directive, str, str]]:
    """Each rule of the pattern-lists: its list, its line, what it looks at (with its regex) and its result."""
    for scope in tree.of("pattern-list"):
        for node in scope.body:
            if isinstance(node, Directive):
                yield scope, node, *_split_rule(node.key, node.value)


def results(tree: Tree) -> Iterator[tuple[Scope, Directive, str, str]]:
    """What the rules of the pattern-lists lead to: list, line, kind of result, name."""
    for scope, line, _pattern, result in pattern_rules(tree):
        kind, _mark, target = _result(result)
        if target:
            yield scope, line, kind, plain(target)


def _split_rule(key: str, value: str) -> tuple[str, str]:
    header = ""
    if key == "header":
        header, value = head(value)
        header = f" {header.lower()}"
    if key == "*":
        return "*", value
    match = _REGEX_FIRST.match(value)
    return (f"{key}{header} {match[1]}", match[2]) if match else (f"{key}{header} ", value)


def _pattern_lists_work(tree: Tree) -> Iterable[Finding]:
    shared = {
        plain(line.value) for scope, line in tree.lines("pattern-list") if scope.value("max-rcpt-per-message") != "1"
    }
    for scope in tree.of("pattern-list"):
        lines = [node for node in scope.body if isinstance(node, Directive)]
        if not scope.body:
            yield on(scope, "it has no rules", "Write rules into it, or remove it", severity=WARNING)
        for line in lines:
            yield from _pattern_rule(tree, line)
        rules = [(node, *_rule_of(node)) for node in scope.body]
        yield from dead_rules([(node, pattern) for node, pattern, _result in rules])
        loose = [line for line in scope.all("rcpt-to") if not _ONE_MAILBOX.match(line.value)]
        if loose and scope.argument in shared:
            yield on(
                loose[0],
                "a match decides for the whole message, also for its other recipients",
                "Inject messages with one recipient each, and write max-rcpt-per-message 1 into the source",
                severity=WARNING,
            )


def _rule_of(node: Directive | Scope) -> tuple[str, str]:
    if isinstance(node, Directive):
        return _split_rule(node.key, node.value)
    key, value = head(node.argument)
    return _split_rule(key.lower(), value)


def _pattern_rule(tree: Tree, line: Directive) -> Iterable[Finding]:
    known = (*_PATTERN_RULES, "*")
    if line.key not in known:
        yield on(
            line,
            f"a rule of a pattern-list begins with one of {', '.join(known)}{tree.hint(line.key, known)}",
            "Write such as 'mail-from /@news\\./ virtual-mta=NAME'",
            found="unknown rule",
        )
        return
    pattern, result = _split_rule(line.key, line.value)
    if line.key != "*":
        regex = pattern[pattern.index("/") :] if "/" in pattern else ""
        problem = regex_problem(regex) or joined_problem(line.value, regex)
        if problem:
            yield on(line, problem, "Write the regex between / and /")
            return
    if not result:
        yield on(line, "it has no result", "Write virtual-mta=NAME behind the regex", found="argument missing")
        return
    key, mark, value = _result(result)
    if key == "recipient-priority":
        if not value.isdigit() or not 0 <= int(value) <= 100:
            yield on(line, "a priority is a number from 0 to 100", "Write such as recipient-priority=70")
    elif key not in ("virtual-mta", "call-to") or not value:
        yield on(
            line,
            f"the result of a rule is virtual-mta=NAME, recipient-priority=N or call-to: LIST"
            f"{tree.hint(key, ('virtual-mta', 'recipient-priority', 'call-to'))}",
            "Write one of these",
        )
    elif (key == "call-to") != (mark == ":"):
        yield on(line, f"{key} has another mark behind it", f"Write {key}{'=' if mark == ':' else ': '}{value}")
    elif key == "virtual-mta" and " " in value and not value.startswith('"'):
        yield on(line, "a rule names one virtual MTA or pool", "Name a pool for several")


def _result(result: str) -> tuple[str, str, str]:
    match = re.match(r"([\w-]+)\s*([=:]?)\s*(.*)\Z", result)
    return (match[1].lower(), match[2], match[3].strip()) if match else (result, "", "")


def regex_problem(regex: str) -> Optional[str]:
    return values.regex_problem(regex) if regex else "a regex between / and / is expected"


def joined_problem(value: str, regex: str) -> Optional[str]:
    """A slash that ends the regex too early shows in what stands right behind it."""
    behind = value.partition(regex)[2][:1] if regex else ""
    return None if behind in ("", " ", "\t") else "it ends at a slash; one inside it is written \\/"


def split_regex(value: str) -> tuple[str, str]:
    """The regex that a value begins with, and what stands behind it."""
    match = _REGEX_FIRST.match(value)
    return (match[1], match[2]) if match else ("", value)


def dead_rules(rules: list[tuple[Directive | Scope, str]]) -> Iterable[Finding]:
    """Rules behind one that takes everything, or behind the same pattern: the first match counts."""
    seen: dict[str, Directive | Scope] = {}
    catch_all: Optional[Directive | Scope] = None
    for node, pattern in rules:
        if catch_all is not None:
            yield on(
                node,
                f"the first match counts, and the rule at {catch_all.place} matches everything",
                "Move it up, or remove it",
                severity=WARNING,
                found="a rule that is never reached",
            )
        elif pattern in seen:
            yield on(
                node,
                f"the first match counts, and {seen[pattern].place} has the same pattern",
                "Remove one of them",
                severity=WARNING,
                found="a rule that is never reached",
            )
        seen.setdefault(pattern, node)
        kind, _blank, regex = pattern.partition(" ")
        if catch_all is None and (kind == "*" or (kind != "header" and EVERYTHING.match(regex))):
            catch_all = node


def _lists_precede_their_sources(tree: Tree) -> Iterable[Finding]:
    lists = tree.named("pattern-list")
    for scope, line in tree.lines("pattern-list"):
        target = lists.get(plain(line.value))
        if target is not None and scope.tag == "source" and target.number > scope.number:
            yield on(
                line,
                f"PowerMTA reads from top to bottom, and {target} stands only at {target.place}",
                "Move the pattern-list before the source",
            )


# ---- replies and backoff


def actions(text: str) -> list[tuple[str, str]]:
    """The actions of a rule of an smtp-pattern-list, such as mode=backoff,skip-mx."""
    found = []
    for each in re.split(r"[,\s]+", text.strip()):
        name, _equals, value = each.partition("=")
        if name:
            found.append((name.lower(), value.lower()))
    return found


def _replies_are_handled(tree: Tree) -> Iterable[Finding]:
    for scope in tree.of("smtp-pattern-list"):
        rules: list[tuple[Directive | Scope, str]] = []
        for line in scope.all("reply"):
            regex, rest = split_regex(line.value)
            problem = regex_problem(regex) or joined_problem(line.value, regex)
            if problem:
                yield on(line, problem, "Write reply /regex/ action")
                continue
            rules.append((line, f"reply {regex}"))
            yield from _reply(tree, line, actions(rest))
        if not scope.all("reply"):
            yield on(scope, "no reply stands in it", "Write reply /regex/ action, or remove it", severity=WARNING)
        yield from dead_rules(rules)


def _reply(tree: Tree, line: Directive, done: list[tuple[str, str]]) -> Iterable[Finding]:
    named = [name for name, _value in done]
    if not done:
        yield on(
            line, "it has no action, so it does nothing", "Write an action behind the regex", found="argument missing"
        )
    for name, value in done:
        if name not in _ACTIONS:
            yield on(
                line,
                f"there is no action {shown(name)}{tree.hint(name, _ACTIONS)}",
                f"Write one of {', '.join(_ACTIONS)}",
            )
        elif name == "mode" and value not in ("normal", "backoff"):
            yield on(line, f"there is no mode {shown(value)}", "Write mode=backoff or mode=normal")
        elif name in ("backoff-to-normal-after", "reenable-after", "defer-queue") and value != "never":
            problem = values.problem("interval", value) if value or name != "defer-queue" else None
            if problem:
                yield on(line, f"{name}: {problem}", f"Write such as {name}=1h")
        elif name in _FLAGS and value:
            yield on(line, f"{name} takes no value", f"Write {name}")
    if "defer-queue" in named and tree.release < (4, 5):
        yield on(line, "PowerMTA has defer-queue since 4.5", "Remove it, or install that version")
    modes = {value for name, value in done if name == "mode"}
    for name in sorted({each for each in named if named.count(each) > 1}):
        both = name == "mode" and len(modes) > 1
        yield on(line, "it asks for both modes" if both else f"it says {name} twice", "Leave one of them")
    if "backoff-to-normal-after" in named and "backoff" not in modes:
        yield on(line, "backoff-to-normal-after needs mode=backoff in the same rule", "Write mode=backoff beside it")
    if "reenable-after" in named and "disable-source-ip" not in named:
        yield on(line, "reenable-after needs disable-source-ip in the same rule", "Write disable-source-ip beside it")
    if "skip-mx" in named and "bounce-queue" in named:
        yield on(line, "skip-mx and bounce-queue exclude each other", "Leave one of them")


def _modes_come_to_an_end(tree: Tree) -> Iterable[Finding]:
    """Backoff mode and disabled addresses last for ever unless something ends them."""
    enters: dict[str, Directive] = {}
    disables: dict[str, Directive] = {}
    for scope in tree.of("smtp-pattern-list"):
        for line in scope.all("reply"):
            done = actions(split_regex(line.value)[1])
            named = {name for name, _value in done}
            if ("mode", "backoff") in done and "backoff-to-normal-after" not in named:
                enters.setdefault(scope.argument, line)
            if "disable-source-ip" in named and "reenable-after" not in named:
                disables.setdefault(scope.argument, line)
    told: set[tuple[str, str]] = set()
    for section, line in tree.lines("smtp-pattern-list"):
        name = plain(line.value)
        if name in enters and (name, "mode") not in told and not _leaves_backoff(tree, section):
            told.add((name, "mode"))
            yield on(
                line,
                f"{enters[name].place} puts its queues into backoff mode, and nothing ever ends that",
                "Write backoff-to-normal-after 1h or backoff-to-normal-after-delivery yes beside it",
                severity=WARNING,
            )
        if name in disables and (name, "ip") not in told and not _ends(tree, section, "reenable-source-ip-after"):
            told.add((name, "ip"))
            yield on(
                line,
                f"{disables[name].place} disables the address for its queues, and nothing ever enables it again",
                "Write reenable-source-ip-after 1h beside it, or reenable-after=1h into the rule",
                severity=WARNING,
            )
    if not any(("mode", "backoff") in actions(split_regex(line.value)[1]) for _scope, line in tree.lines("reply")):
        yield from _nothing_backs_off(tree)


def _nothing_backs_off(tree: Tree) -> Iterable[Finding]:
    if any(plain(line.value).lower() in TRUE for _scope, line in tree.lines("backoff-upon-all-sources-disabled")):
        return
    for name in ("backoff-to-normal-after", "backoff-to-normal-after-delivery"):
        for _section, line in tree.lines(name)[:1]:
            yield on(
                line,
                "no rule of any smtp-pattern-list says mode=backoff, so queues enter that mode by hand only",
                "Write reply /regex/ mode=backoff into an smtp-pattern-list, or remove the line",
                severity=WARNING,
            )


def _leaves_backoff(tree: Tree, section: Scope) -> bool:
    line = tree.effective(section, "backoff-to-normal-after-delivery")
    return _ends(tree, section, "backoff-to-normal-after") or (line is not None and plain(line.value).lower() in TRUE)


def _ends(tree: Tree, section: Scope, name: str) -> bool:
    line = tree.effective(section, name)
    return line is not None and plain(line.value).lower() != "never"


# ---- categories of bounces


def _bounces_are_sorted(tree: Tree) -> Iterable[Finding]:
    for section in tree.of("bounce-category-patterns"):
        rules: list[tuple[Directive | Scope, str]] = []
        for node in section.body:
            if not isinstance(node, Directive) or not node.name.startswith("/"):
                continue
            problem = regex_problem(node.name)
            if problem:
                yield on(node, problem, "Write /regex/ category", found="a regex that is wrong")
            rules.append((node, f"reply {node.name}"))
            category = plain(node.value).lower()
            if not category:
                yield on(node, "it has no category", "Write a category behind the regex", found="argument missing")
            elif category not in BOUNCE_CATEGORIES:
                hint = _close(category)
                if hint:
                    yield on(
                        node,
                        f"it makes a category of its own{hint}",
                        "Correct it, if it is a slip",
                        severity=WARNING,
                    )
        yield from dead_rules(rules)


def _close(category: str) -> str:
    """A hint where a category is a known one but for a letter or two: others may be meant as they are."""
    close = difflib.get_close_matches(category[:80], BOUNCE_CATEGORIES, n=1, cutoff=0.9)
    return f", did you mean '{close[0]}'" if close else ""


RULES = (
    _pattern_lists_work,
    _lists_precede_their_sources,
    _replies_are_handled,
    _modes_come_to_an_end,
    _bounces_are_sorted,
)
