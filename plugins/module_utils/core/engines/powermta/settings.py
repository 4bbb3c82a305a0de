# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a PowerMTA configuration that say something against each other, or nothing without another one: what
every host needs, DKIM, rollups, accounting, macros."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import values
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import Directive, words
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.table import RECORDS
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.tree import (
    TRUE,
    Scope,
    Tree,
    head,
    macros_in,
    on,
    parents,
    plain,
    wider,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import shown

STANDARD_OUT, ADVISED_OUT = 200, 7500
MOST_SUPPRESSED = 500
_UNSIGNED = frozenset({"bcc", "received", "return-path", "dkim-signature", "comments", "keywords"})
_SIGNS = TRUE | {"if-x-dkim-options-present"}
_NEEDS = {"pipe": "command", "file": "file-destination", "http-delivery": "http-delivery-url"}


# ---- what every host needs


def _the_host_is_complete(tree: Tree) -> Iterable[Finding]:
    top = tree.top
    if not top.all("run-as-root"):
        yield _missing(tree, "run-as-root", "PowerMTA runs as root unless it is told not to", "Write run-as-root no")
    elif top.is_true("run-as-root"):
        yield on(
            top.all("run-as-root")[-1],
            "a fault in PowerMTA would be a fault of root; nothing that it does needs it",
            "Write run-as-root no",
            severity=WARNING,
        )
    if not top.all("postmaster"):
        yield _missing(
            tree, "postmaster", "bounces and warnings have no address to come from and go to", "Write postmaster EMAIL"
        )
    if not top.all("log-file"):
        yield _missing(
            tree,
            "log-file",
            "PowerMTA does not start without one",
            "Write log-file /var/log/pmta/pmta.log",
            tree.absent,
        )
    if not tree.of("spool") and not top.all("spool"):
        yield _missing(
            tree,
            "<spool>",
            "queued mail needs a directory to lie in",
            "Write <spool /var/spool/pmta> and </spool>",
            tree.absent,
        )
    if not top.all("smtp-listener") and not tree.of("smtp-listener") and not top.all("smtp-port"):
        yield _missing(
            tree,
            "smtp-listener",
            "PowerMTA listens on port 25 of every address then",
            "Write smtp-listener IP:PORT for each address that it shall listen on",
        )


def _missing(tree: Tree, name: str, why: str, remedy: str, severity: str = WARNING) -> Finding:
    return Finding(f"{tree.main}: {name}", "missing", why, remedy, severity)


def _limits_are_kept(tree: Tree) -> Iterable[Finding]:
    line = tree.top.last("total-max-smtp-out")
    if line is not None and line.value.isdigit() and int(line.value) > STANDARD_OUT:
        high = int(line.value) > ADVISED_OUT
        yield on(
            line,
            f"more than {ADVISED_OUT} is advised against"
            if high
            else f"with a Standard licence PowerMTA ignores what is above {STANDARD_OUT}",
            f"Write {ADVISED_OUT} or less" if high else "Look at pmta show license; an Enterprise licence allows it",
            severity=WARNING,
        )
    suppressing = {each for _scope, line in tree.lines("suppression-lists") for each in _listed(line.value)}
    for scope in tree.of("address-list"):
        if scope.argument in suppressing:
            count = sum(line.value.startswith("/") for line in scope.all("address"))
            if count > MOST_SUPPRESSED:
                yield on(
                    scope,
                    f"it has {count} regexes, and a suppression list may have {MOST_SUPPRESSED}",
                    "Write addresses and domains instead, which are found without trying them one by one",
                )


def _listed(value: str) -> list[str]:
    return [each for each in re.split(r"[\s,;]+", plain(value)) if each]


def _the_monitor_is_guarded(tree: Tree) -> Iterable[Finding]:
    line = tree.top.last("http-csrf-protection")
    if line is not None and tree.top.is_false("http-csrf-protection"):
        yield on(
            line,
            "any page that an administrator opens could then command PowerMTA",
            "Remove the line, and let tools send an X-API-Key",
            severity=WARNING,
        )


def _users_can_log_in(tree: Tree) -> Iterable[Finding]:
    for user in tree.of("smtp-user"):
        method = user.value("authentication-method").lower() or "password"
        if method == "password" and not user.all("password"):
            yield on(user, "it has no password, so nobody can log in as it", "Write password SECRET into it")


def _backing_off_is_slower(tree: Tree) -> Iterable[Finding]:
    for section, line in tree.lines("backoff-max-msg-rate"):
        usual = section.last("max-msg-rate")
        if usual is None:
            continue
        try:
            (count, seconds), (most, period) = (values.rate(plain(each.value)) for each in (line, usual))
        except ValueError:
            continue  # no rate, or no limit
        if count * period > most * seconds:
            yield on(
                line,
                f"{usual.place} allows {shown(usual.value)} outside of backoff mode, so backing off makes it faster",
                "Write a rate that is no higher than max-msg-rate",
                severity=WARNING,
            )


def _deliveries_are_complete(tree: Tree) -> Iterable[Finding]:
    for section in tree.of("domain"):
        kind = section.last("type")
        if kind is not None:
            need = _NEEDS.get(plain(kind.value).lower())
            if need and tree.effective(section, need) is None:
                yield on(kind, f"mail of this type needs {need}, and nothing says it", f"Write {need} beside it")
        if "require-starttls" in section.directives and section.is_true("require-starttls"):
            line = tree.effective(section, "use-starttls")
            if line is not None and plain(line.value).lower() in ("no", "false"):
                yield on(
                    section.all("require-starttls")[-1],
                    f"{line.place} turns STARTTLS off, so no mail could be delivered",
                    "Write use-starttls yes, or remove one of them",
                )
    for listener in tree.of("smtp-listener"):
        certified = listener.all("tls-certificate") or tree.top.all("smtp-server-tls-certificate")
        line = listener.last("immediate-tls")
        if line is not None and listener.is_true("immediate-tls") and not certified:
            yield on(line, "it needs a certificate, and nothing names one", "Write tls-certificate FILE beside it")


# ---- DKIM


def key_parts(line: Directive) -> Optional[tuple[str, str, str]]:
    """(selector, domain, file) of a domain-key line, or None."""
    parts = [each.strip() for each in plain(line.value).split(",", 2)]
    return (parts[0].lower(), parts[1].lower(), parts[2]) if len(parts) == 3 else None


def _keys_are_reached(tree: Tree) -> Iterable[Finding]:
    """The first key whose domain is the sender's or above it signs."""
    for scope in (tree.top, *tree.of("virtual-mta"), *tree.of("virtual-mta-pool"), *tree.of("domain-key-list")):
        seen: dict[str, tuple[str, Directive]] = {}
        for line in scope.all("domain-key"):
            parts = key_parts(line)
            if parts is None:
                continue
            selector, domain, path = parts
            if path.startswith("{vault}") and not tree.of("vault"):
                yield on(line, "there is no <vault> to get it from", "Write a <vault> section, or name a file")
            above = [each for each in (*parents(domain), "*") if each in seen]
            if above and above[0] != domain:
                yield on(
                    line,
                    f"{seen[above[0]][1].place} has a key for {'all domains' if above[0] == '*' else above[0]}, "
                    "and the first that fits signs",
                    "Move it up: longer domains first, * last",
                    severity=WARNING,
                    found=f"a key for {domain} that is never used",
                )
            elif above and seen[domain][0] == selector:
                yield on(line, f"{seen[domain][1].place} says it already", "Remove one of them", severity=WARNING)
            seen.setdefault(domain, (selector, line))


def _keys_sign(tree: Tree) -> Iterable[Finding]:
    """A key signs for recipients whose domain section says dkim-sign; and dkim-sign needs a key."""
    signing = {
        section.parent or tree.top
        for name in ("dkim-sign", "second-dkim-sign")
        for section, line in tree.lines(name)
        if plain(line.value).lower() in _SIGNS
    }
    keyed = {scope for scope, _line in tree.lines("domain-key") if scope.tag != "domain-key-list"}
    given = bool(tree.of("domain-key-list")) or any(  # a message may bring its key, or choose one
        plain(line.value).lower() in TRUE for _scope, line in tree.lines("process-x-dkim-key")
    )
    for scope in sorted(keyed, key=lambda each: each.number):
        if not _meet(tree, scope, signing):
            yield on(
                scope.all("domain-key")[0],
                "no <domain> that counts for it says dkim-sign yes, so nothing is signed with it",
                "Write dkim-sign yes into <domain *>",
                severity=WARNING,
            )
    for section, line in tree.lines("dkim-sign"):
        own = section.parent or tree.top
        if plain(line.value).lower() in TRUE and not given and not _meet(tree, own, keyed):
            yield on(
                line,
                "there is no domain-key that counts for it, so nothing is signed",
                "Write domain-key selector,domain,file",
                severity=WARNING,
            )


def _meet(tree: Tree, scope: Scope, others: set[Scope]) -> bool:
    """Whether one of the others may count for the same mail as this scope."""
    return bool(others) and (scope is tree.top or not others.isdisjoint(_related(tree, scope)))


def _related(tree: Tree, scope: Scope) -> set[Scope]:
    """The scopes whose keys and domain sections may meet those of this one."""
    found = {scope, tree.top}
    if scope.tag == "virtual-mta":
        found.update(tree.pools_of.get(scope.argument, []))
    for name in ("virtual-mta", "cold-virtual-mta"):
        found.update(tree.vmtas[plain(line.value)] for line in scope.all(name) if plain(line.value) in tree.vmtas)
    return found


def _signatures_can_be_made(tree: Tree) -> Iterable[Finding]:
    domains = {parts[1] for _scope, line in tree.lines("domain-key") if (parts := key_parts(line))}
    for prefix in ("", "second-"):
        for _scope, line in tree.lines(f"{prefix}dkim-algorithm"):
            chosen = plain(line.value).lower()
            if "ed25519" in chosen:
                yield on(line, "PowerMTA signs with RSA only", "Write rsa-sha256, and use an RSA key")
            elif chosen == "rsa-sha1":
                yield on(
                    line,
                    "receivers take no signature with SHA-1 (RFC 8301)",
                    "Write rsa-sha256, or remove the line",
                    severity=WARNING,
                )
            elif chosen != "rsa-sha256":
                yield on(line, "it is no algorithm of PowerMTA", "Write rsa-sha256, or remove the line")
        for _scope, line in tree.lines(f"{prefix}dkim-headers"):
            for name in sorted(_UNSIGNED.intersection(each.lower() for each in _listed(line.value))):
                yield on(line, f"PowerMTA refuses to sign the field {name}", "Remove it from the list")
        for name in ("dkim-identity", "dkim-identity-fallback"):
            for _scope, line in tree.lines(prefix + name):
                domain = plain(line.value).rpartition("@")[2].lower()
                if domain in ("", "sender-or-from", "strict-from") or "*" in domains or not domains:
                    continue
                if not domains.intersection(parents(domain)):
                    yield on(
                        line,
                        f"no domain-key is for {domain} or a domain above it, so such mail is not signed"
                        f"{tree.hint(domain, domains)}",
                        "Write a domain-key for it, or correct the identity",
                        severity=WARNING,
                    )


# ---- rollups


def _rollups_have_a_way(tree: Tree) -> Iterable[Finding]:
    held = tree.domains(tree.top)
    for section in tree.of("mx-rollup-list"):
        seen: dict[str, Directive] = {}
        for line in section.all("mx"):
            pattern, queue, *more = (*words(line.value), "", "")
            if not queue:
                continue
            first = seen.setdefault(pattern.lower(), line)
            if first is not line:
                yield on(line, f"{first.place} is for the same MX", "Remove one of them", severity=WARNING)
            if "*" not in pattern or "rollup-by-ip" in more:
                continue
            if not any(
                each.value("smtp-hosts") or each.value("route")
                for name in wider(queue.lower())
                for each in held.get(name, [])
            ):
                yield on(
                    line,
                    f"a pattern does not say where to connect to, and no <domain {queue}> has smtp-hosts",
                    f"Write <domain {queue}> with smtp-hosts lookup-mx:DOMAIN, or rollup-by-ip behind the queue",
                )


# ---- accounting


def record_types(scope: Scope) -> set[str]:
    """The types of record that an accounting file holds, in their short form."""
    return {RECORDS.get(each.lower(), each) for each in _listed(scope.value("records") or "d,b")}


def _accounting_is_kept(tree: Tree) -> Iterable[Finding]:
    for scope in tree.of("acct-file"):
        moved = scope.all("move-to")
        for name, needed, why in (
            ("move-interval", not moved, "without move-to nothing is moved, so it has no effect"),
            ("delete-after", bool(moved), "files that are moved are not deleted, so it has no effect"),
        ):
            for line in scope.all(name):
                if needed and plain(line.value).lower() != "never":
                    yield on(line, why, f"Remove it, or {'remove' if moved else 'write'} move-to", severity=WARNING)
        held = record_types(scope)
        for name in ("record-fields", "map-header-to-field"):
            for line in scope.all(name):
                kind = (words(line.value) or ("",))[0].lower()
                if kind in RECORDS and RECORDS[kind] not in held:
                    yield on(
                        line,
                        f"the file holds no records of this type, only {','.join(sorted(held))}",
                        f"Add {RECORDS[kind]} to records, or remove the line",
                        severity=WARNING,
                    )


# ---- bounces and complaints that come in


def _processors_get_mail(tree: Tree) -> Iterable[Finding]:
    taken = {plain(line.value).lower() for name in ("relay-domain", "host-name") for _s, line in tree.lines(name)}
    taken = {name for each in taken for name in tree.expanded(each)}
    for tag in ("bounce-processor", "feedback-loop-processor"):
        for processor in tree.of(tag):
            lists = processor.sections.get("address-list", [])
            if not any(each.directives for each in lists):
                yield on(
                    processor,
                    "it has no address-list, so no mail reaches it",
                    "Write <address-list> with domain NAME into it",
                    severity=WARNING,
                )
            for each in lists:
                for line in each.all("domain"):
                    name = plain(line.value).lower()
                    if taken and not taken.intersection(wider(name)) and "$" not in name:
                        yield on(
                            line,
                            "no relay-domain has it, so mail for it is refused before the processor sees it",
                            f"Write relay-domain {name}",
                            severity=WARNING,
                        )


# ---- macros


def _macros_resolve(tree: Tree) -> Iterable[Finding]:
    lines = tree.top.all("domain-macro")
    known = {head(line.value)[0].lower() for line in lines}
    seen: dict[str, Directive] = {}
    for line in lines:
        name = head(line.value)[0].lower()
        first = seen.setdefault(name, line)
        if first is not line:
            yield on(line, f"{first.place} defines {name} already", "Give it another name", found=shown(name))
    for name in _looping({name: macros_in(line.value.lower()) for name, line in seen.items()}):
        yield on(seen[name], "it contains itself", "Write the domains out", found=shown(name))
    for place, text in _patterns(tree):
        for name in macros_in(text):
            if name.lower() not in known:
                yield on(
                    place,
                    f"no domain-macro defines ${name}{tree.hint(name, known)}",
                    f"Write domain-macro {name} with its domains, or correct the name",
                    severity=tree.absent,
                )


def _looping(inside: Mapping[str, list[str]]) -> list[str]:
    """The macros that contain themselves, by way of others or not: what is left when those that end are taken away."""
    left = {name: {each for each in names if each in inside} for name, names in inside.items()}
    users: dict[str, list[str]] = {}
    for name, names in left.items():
        for each in names:
            users.setdefault(each, []).append(name)
    ended = [name for name, names in left.items() if not names]
    while ended:
        done = ended.pop()
        left.pop(done)
        for user in users.get(done, []):
            left[user].discard(done)
            if not left[user]:
                ended.append(user)
    return list(left)


def _patterns(tree: Tree) -> Iterator[tuple[Directive | Scope, str]]:
    for section in tree.of("domain"):
        if "$" in section.argument:
            yield section, section.argument
    for name in ("domain-macro", "relay-domain", "domain", "from-domain", "mx", "mx-connection-limit", "queue-filter"):
        for _scope, line in tree.lines(name):
            if "$" in line.value:
                yield line, line.value


# Judged here or in powermta_routing, with better words than those of their types.
OWN_VALUES = frozenset({"smtp-source-host", "virtual-mta", "dkim-algorithm", "second-dkim-algorithm"})

RULES = (
    _the_host_is_complete,
    _limits_are_kept,
    _the_monitor_is_guarded,
    _users_can_log_in,
    _backing_off_is_slower,
    _deliveries_are_complete,
    _keys_are_reached,
    _keys_sign,
    _signatures_can_be_made,
    _rollups_have_a_way,
    _accounting_is_kept,
    _processors_get_mail,
    _macros_resolve,
)
