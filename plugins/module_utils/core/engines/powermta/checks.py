# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a PowerMTA configuration, found without PowerMTA. Each rule yields findings; none stops another.

This file asks of each line and section whether PowerMTA has it, where it may stand and whether its value is one; what
lines say against each other is in powermta_routing, powermta_rules, powermta_access and powermta_settings.

An error is what PowerMTA would refuse, or what lets strangers in, loses mail or sends it from a wrong address. A
warning is what has no effect, what the manual does not know, or what it advises against.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import (
    access,
    includes,
    routing,
    rules,
    settings,
    syntax,
    values,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import Directive
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.table import (
    DIRECTIVES,
    GLOBAL,
    SECRETS,
    SECTIONS,
    Spec,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.table import spec as spec_of
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.tree import (
    Scope,
    Tree,
    build,
    on,
    plain,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding

VERSION = "5.0"
_LAST_KNOWN = (5, 0)  # of what came later there is no reference
_LATE = "5.0-late"
_TEMPLATE = "of a template"  # the syntax says so of a line that holds a part of one

# What people write from memory of other mail servers, or from pages that a machine wrote.
_EHLO = (
    "PowerMTA has no such line, it greets with the name behind the address of smtp-source-host",
    "",  # see _source_host
)
_BINDING = (
    "PowerMTA knows no bindings; a header chooses a virtual MTA where a pattern-list says so",
    "Write 'header X-Binding /^name$/ virtual-mta=name' into a pattern-list that the source names",
)
_TABLES = (
    "it belongs to OpenDKIM; PowerMTA finds its key by the domain of the sender",
    "Write domain-key selector,domain,file for each key, and dkim-sign yes in <domain *>",
)
MISTAKES: Mapping[str, tuple[str, str]] = {
    **{f"{verb}-{what}": _EHLO for verb in ("ehlo", "helo") for what in ("hostname", "host", "domain", "name")},
    **dict.fromkeys(("x-binding", "binding", "binding-group"), _BINDING),
    **dict.fromkeys(("keytable", "signingtable", "key-table", "signing-table"), _TABLES),
    "weight": (
        "a pool has no weights, its members take turns",
        "Warm an address up with cold-virtual-mta, or give the domains of its virtual MTA a max-msg-rate",
    ),
    "dkim-key": ("PowerMTA calls it domain-key", "Write domain-key selector,domain,file"),
    "dkim-selector": ("the selector is the first word of domain-key", "Write domain-key selector,domain,file"),
    "dkim-domain": ("the domain is the second word of domain-key", "Write domain-key selector,domain,file"),
}
_TWICE = "the manual does not say whether their lines are put together or the last one counts"
# Lines that PowerMTA takes once only.
_ONCE = frozenset({"records", "pattern-list", "pickup"})
_RATE = re.compile(r"\d/\d")
_RATES = frozenset({"rate", "data_rate"})


def check(
    files: Mapping[str, str],
    main: str = "/etc/pmta/config",
    *,
    version: str = VERSION,
    names: Optional[frozenset[str]] = None,
) -> list[Finding]:
    """All findings about the configuration that begins at ``main``, by file and line.

    ``files`` holds each text by its path, those that are included among them. ``version`` is of the PowerMTA that shall
    read it, such as ``4.5`` or ``5.0r8``. ``names`` are virtual MTAs and pools that exist though they stand nowhere
    here.
    Raises ValueError for a version that is none.
    """
    document = includes.load(files, main)
    return judge(document, main, version=version, names=names)


def judge(
    document: syntax.Document, main: str, *, version: str = VERSION, names: Optional[frozenset[str]] = None
) -> list[Finding]:
    """What ``check`` finds, of a document that is loaded already."""
    if not document.nodes and document.findings:
        return list(document.findings)  # there is nothing to judge
    # A pattern that matches no file hides nothing.
    whole = not any(
        finding.where.endswith(": include") and "matches" not in finding.found for finding in document.findings
    )
    tree = build(document.nodes, main, release(version), names or frozenset(), whole)
    found: list[Finding] = []
    for rule in (
        _sections_are_known,
        _sections_stand_once,
        _lines_are_known,
        _lines_stand_once,
        _values_fit,
        *routing.RULES,
        *rules.RULES,
        *access.RULES,
        *settings.RULES,
    ):
        found.extend(rule(tree))
    # What a template would have made of its line is not known.
    unrendered = {_position(finding.where, main) for finding in document.findings if _TEMPLATE in finding.found}
    judged = [finding for finding in found if _position(finding.where, main) not in unrendered]
    return sorted(dict.fromkeys((*document.findings, *judged)), key=lambda finding: _position(finding.where, main))


def release(version: str) -> tuple[int, int]:
    """``5.0r8`` as (5, 0). Raises ValueError."""
    version = version.strip()
    match = re.match(r"v?(\d+)(?:\.(\d+))?", version)
    if not match or re.fullmatch(r"v?[\d.]*\.", version):
        raise ValueError(f"'{version}' is no version of PowerMTA; write one such as 5.0 or 5.0r8")
    return int(match[1]), int(match[2] or 0)


def _position(where: str, main: str) -> tuple[bool, str, int]:
    """The order of findings: the main file first, then the others by name; what has no line before what has one."""
    match = re.match(r"(.*?):(\d+)(?::|$)", where)
    name = match[1] if match else where.partition(":")[0]
    return name != main, name, int(match[2]) if match else 0


# ---- sections


def _sections_are_known(tree: Tree) -> Iterable[Finding]:
    for tag, scopes in tree.scopes.items():
        spec = SECTIONS.get(tag)
        for scope in scopes:
            if spec is None:
                if scope.parent is not None and scope.parent.tag not in SECTIONS and scope.parent is not tree.top:
                    continue  # its parent is unknown already
                yield on(
                    scope,
                    f"PowerMTA has no section <{tag}>{tree.hint(tag, SECTIONS)}",
                    "Correct the name, or remove the section",
                    severity=_severity(tree),
                )
                continue
            parent = scope.parent.tag if scope.parent else GLOBAL
            if parent not in spec.parents and (parent == GLOBAL or parent in SECTIONS):
                yield on(
                    scope,
                    f"it stands in {_inside(scope.parent)}, and it may stand {_places(spec.parents)}",
                    "Move it there",
                )
            yield from _argument(scope, spec.argument)


def _argument(scope: Scope, kind: str) -> Iterable[Finding]:
    if not scope.argument:
        top = scope.parent is not None and scope.parent.tag == GLOBAL
        if not kind.endswith("?") or (scope.tag == "address-list" and top):
            yield on(scope, "it needs an argument", f"Write <{scope.tag} NAME>")
        return
    problem = values.problem(kind, scope.argument)
    if problem:
        yield on(scope, problem, "Correct the argument of the section")


def _sections_stand_once(tree: Tree) -> Iterable[Finding]:
    for tag, scopes in tree.scopes.items():
        spec = SECTIONS.get(tag)
        if spec is None:
            continue
        seen: dict[tuple[int, str], Scope] = {}
        for scope in scopes:
            if not scope.argument and spec.repeatable:
                continue
            key = (scope.parent.number if scope.parent else 0, scope.argument.lower())
            first = seen.setdefault(key, scope)
            if first is not scope:
                yield on(
                    scope,
                    f"{first.place} opens it already; {_TWICE}",
                    "Write all of it into one section",
                    severity=WARNING,
                )


# ---- lines


def _lines_are_known(tree: Tree) -> Iterable[Finding]:
    for scope in tree.everywhere():
        if scope is not tree.top and scope.tag not in SECTIONS:
            continue
        for name, lines in scope.directives.items():
            if rules.is_rule(scope.tag, name):
                continue
            spec = spec_of(name)
            for line in lines:
                yield from _unknown(tree, scope, line) if spec is None else _known(tree, scope, line, spec)


def _unknown(tree: Tree, scope: Scope, line: Directive) -> Iterable[Finding]:
    if line.key in MISTAKES:
        why, remedy = MISTAKES[line.key]
        remedy = f"Write {_source_host(scope)}" if MISTAKES[line.key] is _EHLO else remedy
        yield on(line, why, remedy, severity=_severity(tree), found="unknown directive")
        return
    if line.key in SECTIONS:
        yield on(
            line,
            f"it is a section, which begins with <{line.key}>",
            f"Write <{line.key} ...>, its lines and </{line.key}>",
            severity=_severity(tree),
            found="unknown directive",
        )
        return
    yield on(
        line,
        f"PowerMTA has no such directive{tree.hint(line.key, DIRECTIVES)}",
        "Correct the name, or remove the line",
        severity=_severity(tree),
        found="unknown directive",
    )


def _known(tree: Tree, scope: Scope, line: Directive, spec: Spec) -> Iterable[Finding]:
    if scope.tag not in spec.scopes:
        yield on(
            line,
            f"it stands in {_inside(scope)}, and it may stand {_places(spec.scopes)}",
            "Move it there, or remove it",
        )
    if (spec.since and spec.since != _LATE and release(spec.since) > tree.release) or _too_late(tree, spec):
        yield on(
            line,
            f"PowerMTA has it since {spec.since.replace('5.0-late', 'a later 5.0')}",
            "Remove it, or install that version",
            found=f"a line for {'.'.join(map(str, tree.release))}",
        )
    if line.key == "smtp-source-ip":
        yield _source_ip(scope, line)
    elif spec.deprecated:
        yield on(line, "the manuals advise against it or no longer have it", spec.deprecated, severity=WARNING)
    elif spec.legacy:
        yield on(
            line,
            "the manuals of 5.0 do not have it; whether PowerMTA still reads it is not known",
            "Remove it, or try it with pmta test config first",
            severity=WARNING,
        )


def _too_late(tree: Tree, spec: Spec) -> bool:
    return spec.since == _LATE and tree.release < (5, 0)


def _source_ip(scope: Scope, line: Directive) -> Finding:
    return on(
        line,
        "it is the form of old versions, and the manuals of 5.0 do not have it; if PowerMTA does not read it, mail "
        "leaves from the address of the whole server",
        f"Write {_source_host(scope, plain(line.value))}",
        severity=WARNING,
    )


def _source_host(scope: Scope, ip: str = "") -> str:
    """The line that a virtual MTA needs, from what it says in other words."""
    said = ("host-name", *(name for name, mistake in MISTAKES.items() if mistake is _EHLO))
    name = next(filter(None, map(scope.value, said)), "FQDN")
    return f"smtp-source-host {ip or scope.value('smtp-source-ip') or 'IP'} {name}"


def _lines_stand_once(tree: Tree) -> Iterable[Finding]:
    for scope in tree.everywhere():
        for name, lines in scope.directives.items():
            spec = spec_of(name)
            if rules.is_rule(scope.tag, name):
                continue
            if len(lines) < 2 or spec is None or spec.repeatable:
                continue
            for line in lines[1:]:
                yield on(
                    line,
                    f"{lines[0].place} says it already"
                    + ("" if name in _ONCE else ", and the manual does not say which of them counts"),
                    "Remove one of them" if name != "records" else "Write all types into one line",
                    severity=ERROR if name in _ONCE else WARNING,
                )


# ---- values


def _values_fit(tree: Tree) -> Iterable[Finding]:
    for scope in tree.everywhere():
        if scope is not tree.top and scope.tag not in SECTIONS:
            continue
        for name, lines in scope.directives.items():
            spec = spec_of(name)
            if spec is None or rules.is_rule(scope.tag, name):
                continue
            for line in lines:
                yield from _value(tree, line, spec)


def _value(tree: Tree, line: Directive, spec: Spec) -> Iterable[Finding]:
    if not line.value:
        yield on(line, "it needs a value", "Write one", found="argument missing")
        return
    if line.key in SECRETS and line.comment and not (line.source or " #").partition("#")[0][-1:].isspace():
        yield on(
            line,
            "'#' begins a comment, also in a secret and in quotes",
            "Choose a secret without '#'",
            found="a value that a '#' cuts off",
        )
    if line.key in settings.OWN_VALUES:
        return
    problem = values.problem(spec.type, line.value)
    if problem:
        yield on(line, problem, _correct(spec))
    elif tree.release < (5, 0) and spec.type in _RATES and _RATE.search(line.value):
        yield on(
            line, "a rate for several units of time needs PowerMTA 5.0", "Write a rate for one unit, such as 100/h"
        )


def _correct(spec: Spec) -> str:
    return "Correct the value" + (f"; {spec.default} is what holds without the line" if spec.default else "")


# ---- words


def _severity(tree: Tree) -> str:
    """Of what no reference has: PowerMTA refuses it, except where it may be newer than the references."""
    return ERROR if tree.release <= _LAST_KNOWN else WARNING


def _inside(scope: Optional[Scope]) -> str:
    return "no section" if scope is None or scope.tag == GLOBAL else f"<{scope.tag}>"


def _places(tags: Iterable[str]) -> str:
    listed = sorted(tags, key=lambda tag: (tag != GLOBAL, tag))
    inside = [f"<{tag}>" for tag in listed if tag != GLOBAL]
    parts = (["outside of all sections"] if GLOBAL in listed else []) + (
        [f"in {' or '.join(inside)}"] if inside else []
    )
    return " or ".join(parts) or "nowhere"
