# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether DNS is what the fleet file says: every authoritative server by itself, and what is published there.

``judge`` asks nothing itself. It notes in its ``World`` the questions that it lacks; a caller answers them and judges
again until none is left. What could not be found out is unknown, and unknown is never ok.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.audit.notes import (
    AGAIN,
    DNS,
    DRIFT,
    EXTERNAL,
    MISSING,
    OK,
    RESOLVER,
    UNEQUAL,
    UNKNOWN,
    UNPROVEN,
    Audit,
    Notes,
    World,
    joined,
    listed,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.audit.policies import (
    announces_policy,
    judge_alias,
    judge_foreign_reverse,
    judge_keys,
    judge_mail_exchangers,
    judge_policy,
    judge_spf,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.audit.subject import Row, Subject, Zone
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import authorities, rrset
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, YES, Answer, Answers, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import UNKNOWN as UNANSWERED
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.authorities import Server
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies, spf
from ansible_collections.mailops.mta.plugins.module_utils.core.publish import record_sets
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan


def judge(given: Subject, world: World) -> Audit:
    """The state of each declared record set, and every finding once."""
    notes = Notes(findings=list(given.findings))
    rows: dict[str, list[Row]] = {zone.name: [] for zone in given.zones}
    for row in given.rows:
        rows[row.zone.name].append(row)
    for zone in given.zones:
        _judge_zone(zone, rows[zone.name], world, notes)
    notes.findings.extend(_silent_servers(notes))
    notes.findings.extend(_without_value(given.rows))
    notes.findings.extend(judge_mail_exchangers(given, world, notes))
    judge_spf(given, world, notes)
    for row in given.rows:
        if not row.gone:
            notes.findings.extend(judge_alias(row, world, notes))
            judge_policy(row, world, notes)
    notes.findings.extend(judge_foreign_reverse(given, world, notes))
    notes.sample("mta_dns_audit_timestamp_seconds", world.now)
    return Audit(notes.states, tuple(dict.fromkeys(notes.findings)), tuple(notes.samples))


def policy_domains(given: Subject) -> list[str]:
    """The domains whose MTA-STS policy is announced and should be fetched."""
    return [row.record.name.partition(".")[2] for row in given.rows if announces_policy(row)]


# ---- the servers of one zone


def _judge_zone(zone: Zone, rows: Sequence[Row], world: World, notes: Notes) -> None:
    delegated = world.resolver.get(zone.name, "NS")
    if zone.external and not zone.servers and delegated.status == NO:
        alive = [RESOLVER]  # somebody else's zone may begin further up, where we need not know
    else:
        alive = _authorities(zone, delegated, world, notes)
    notes.findings.extend(_authentic(zone, rows, world.resolver))
    unknown: dict[Server, list[tuple[str, str]]] = {}
    for row in rows:
        _judge_row(row, alive, world, notes, unknown)
    for server, cases in unknown.items():
        some = ", ".join(where for where, _detail in cases[:5]) + (", ..." if len(cases) > 5 else "")
        found = f"unknown ({cases[0][1]}) for {len(cases)} record set(s): {some}"
        notes.findings.append(Finding(f"server {server.label}", found, UNPROVEN, AGAIN, zone.severity))


def _authorities(zone: Zone, delegated: Answer, world: World, notes: Notes) -> list[Server]:
    """The zone's servers that are an authority for it, all seen to agree on it."""
    notes.findings.extend(authorities.delegation_problems(zone.name, delegated, zone.severity))
    if zone.servers:
        named = authorities.configured(zone.name, zone.servers, world.resolver, zone.severity)
    else:
        named = authorities.delegated(zone.name, delegated.values, world.resolver, zone.severity)
    notes.findings.extend(named.problems)
    alive, serials = [], {}
    for server in named.servers:
        answer = world.servers.get(server.address, zone.name, "SOA")
        serial = _serial(answer)
        notes.sample("mta_dns_server_ok", float(serial is not None), zone=zone.name, server=server.label)
        if serial is None:
            notes.silent.append((zone, server, answer.detail or "it has no SOA record"))
            continue
        notes.sample("mta_dns_soa_serial", serial, zone=zone.name, server=server.label)
        alive.append(server)
        serials[server.label] = serial
    notes.answering.update(server.address for server in alive)
    if len(set(serials.values())) > 1:
        found = ", ".join(f"{serial} at {label}" for label, serial in serials.items())
        why = "the servers hold different versions of the zone, so receivers see one or the other"
        remedy = "Look at the transfers between them; right after a change, audit again"
        notes.findings.append(Finding(f"{zone.name} SOA", f"serial {found}", why, remedy, WARNING))
    notes.findings.extend(_name_servers(zone, alive, delegated, world))
    return alive


def _serial(answer: Answer) -> Optional[int]:
    for value in answer.values:
        words = value.split()
        if len(words) == 7 and words[2].isdecimal():
            return int(words[2])
    return None


def _silent_servers(notes: Notes) -> Iterator[Finding]:
    """Lame servers. Where no IPv6 address answers at all, it is the way there that is missing."""
    no_six = bool(notes.answering) and not any(_six(address) for address in notes.answering)
    passed = {server.label for _zone, server, _why in notes.silent if no_six and _six(server.address)}
    if passed:
        found = f"no server answered at {joined(sorted(passed))}"
        why = "they are unknown, not wrong: none answers by IPv6, so this controller seems to have none"
        yield Finding("IPv6", found, why, "Audit from a host that has it", WARNING)
    lame: dict[tuple[str, str, str], list[str]] = {}
    for zone, server, detail in notes.silent:
        if server.label not in passed:
            lame.setdefault((server.label, detail, zone.severity), []).append(zone.name)
    for (label, detail, severity), of in lame.items():
        some = ", ".join(of[:5]) + (f" and {len(of) - 5} more" if len(of) > 5 else "")
        why = "it is no authority there, so receivers that ask it get nothing (lame)"
        remedy = "Have it serve what is delegated to it, or take it out of the NS records and servers"
        yield Finding(f"server {label} of zone{'s' if len(of) > 1 else ''} {some}", detail, why, remedy, severity)


def _six(address: str) -> bool:
    return address.count(":") > 1


def _name_servers(zone: Zone, alive: Sequence[Server], delegated: Answer, world: World) -> Iterator[Finding]:
    """The zone names the same servers everywhere, and a resolver follows the same ones."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for server in alive:
        answer = world.servers.get(server.address, zone.name, "NS")
        if answer.status != UNANSWERED:
            sets.setdefault(tuple(sorted(answer.values)), []).append(server.label)
    where = f"{zone.name} NS"
    if len(sets) > 1:
        found = "; ".join(f"{listed(values)} at {joined(at)}" for values, at in sets.items())
        why = "the servers do not agree on who serves the zone"
        yield Finding(where, found, why, "Look at the transfers between them", zone.severity)
    elif sets and delegated.status == YES and tuple(sorted(delegated.values)) not in sets:
        values = sorted(sets)[0]  # the only one
        found = f"a resolver has {listed(delegated.values)}, the zone's servers say {listed(values)}"
        why = "receivers follow what resolvers have, perhaps to servers that show something else"
        remedy = "Have the delegation and the zone name the same servers"
        yield Finding(where, found, why, remedy, zone.severity)


def _authentic(zone: Zone, rows: Sequence[Row], answers: Answers) -> Iterator[Finding]:
    pinned = [row.where for row in rows if row.record.type == "TLSA"]
    if not pinned and not zone.signed:
        return
    answer = answers.get(zone.name, "SOA")
    if answer.status == YES and not answer.authenticated:
        why = (
            "senders ignore TLSA records outside DNSSEC (RFC 7672 2.1)" if pinned else "the fleet file calls it signed"
        )
        remedy = "Sign it and have its DS record set; if it is, name a validating resolver in mta_resolvers"
        found = f"not authenticated by the resolver; {listed(pinned)} depend on it" if pinned else "not authenticated"
        yield Finding(f"zone {zone.name}", found, why, remedy, WARNING)


# ---- one record set


def _judge_row(
    row: Row,
    alive: Sequence[Server],
    world: World,
    notes: Notes,
    unknown: dict[Server, list[tuple[str, str]]],
) -> None:
    name, rtype = row.record.key
    shown: dict[Server, tuple[str, ...]] = {}
    answers = {server: world.ask(server, name, rtype) for server in alive}
    for server, answer in answers.items():
        if answer.status == UNANSWERED:
            unknown.setdefault(server, []).append((row.where, answer.detail))
        else:
            shown[server] = _canonical(rtype, answer.values)
    state, findings = _compare(row, shown)
    if state == OK and len(shown) < len(alive):
        state = UNKNOWN
    if state == OK and not row.gone:
        findings += [*_wrong_ttl(row, answers, shown), *_too_large(row, shown), *judge_keys(row, shown.values(), notes)]
    if not row.held and not row.gone:
        values = next(iter(shown.values())) if state == OK else row.record.values
        notes.stands[Question(name, rtype)] = Answer(YES, values)
    notes.findings.extend(findings)
    notes.states[row.record.key] = state
    notes.sample("mta_dns_record_ok", float(state == OK), zone=row.zone.name, name=name, type=rtype)


def _without_value(rows: Iterable[Row]) -> Iterator[Finding]:
    held = [row.where for row in rows if row.held]
    if held:
        where = held[0] if len(held) == 1 else f"{held[0]} and {len(held) - 1} more"
        why = "without it nobody can tell whether what stands there is right"
        remedy = "Make the keys that are missing (playbook mailops.mta.dns), and let the audit reach the key host"
        yield Finding(where, "no value is known, such as a public key", why, remedy, WARNING)


def _canonical(rtype: str, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(value if rtype == "TXT" else rrset.as_read(rtype, value) for value in values))


def _compare(row: Row, shown: Mapping[Server, tuple[str, ...]]) -> tuple[str, list[Finding]]:
    """The state of one record set over all servers that answered."""
    if row.held or not shown:
        return UNKNOWN, []
    if row.gone:
        return _still_there(row, shown)
    verdicts = {server: _verdict(row, values) for server, values in shown.items()}
    states = {state for state, _found, _why in verdicts.values()}
    if states == {OK}:
        waiting = dict.fromkeys((found, why) for _state, found, why in verdicts.values() if found)
        kept = [Finding(row.where, found, why, f"{DNS} when that is over", WARNING) for found, why in waiting]
        state, findings = _equal(row, shown)
        return state, [*findings, *kept]
    bad: dict[tuple[str, str], list[str]] = {}
    for server, (state, found, why) in verdicts.items():
        if state != OK:
            bad.setdefault((found, why), []).append(server.label)
    findings = []
    for (found, why), at in bad.items():
        place = row.where if len(at) == len(shown) else f"{row.where} at {joined(at)}"
        findings.append(Finding(place, found, why, _remedy(row), row.zone.severity))
    if row.zone.external:
        return EXTERNAL, findings
    return (UNEQUAL if len(states) > 1 else states.pop()), findings


def _still_there(row: Row, shown: Mapping[Server, tuple[str, ...]]) -> tuple[str, list[Finding]]:
    values = set(row.record.values)
    at = [server.label for server, found in shown.items() if values & set(found)]
    if not at:
        return OK, []
    place = row.where if len(at) == len(shown) else f"{row.where} at {joined(at)}"
    why = "it is withdrawn and must not stand there any more" + (f" ({row.reason})" if row.reason else "")
    remedy = f"Have the owner of the zone remove: {'; '.join(row.record.lines())}" if row.zone.external else DNS
    left = sorted(values & {value for found in shown.values() for value in found})
    return (EXTERNAL if row.zone.external else DRIFT), [Finding(place, listed(left), why, remedy, WARNING)]


def _remedy(row: Row) -> str:
    if not row.zone.external:
        return DNS
    remedy = f"Have the owner of the zone set: {'; '.join(row.record.lines())}"
    return remedy + " (docs/ptr.md)" if row.record.type == "PTR" else remedy


def _equal(row: Row, shown: Mapping[Server, tuple[str, ...]]) -> tuple[str, list[Finding]]:
    """Ours is everywhere; values of others beside it may still differ."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for server, values in shown.items():
        sets.setdefault(values, []).append(server.label)
    if len(sets) == 1 or row.zone.external:
        return OK, []
    found = "; ".join(f"{len(values)} value(s) at {joined(at)}" for values, at in sets.items())
    why = "the servers show different values beside ours"
    return UNEQUAL, [Finding(row.where, found, why, "Look at the transfers between them", WARNING)]


def _verdict(row: Row, values: Sequence[str]) -> tuple[str, str, str]:
    """State, what was found, and why that is wrong, at one server. OK with something found is a hint."""
    name, rtype = row.record.key
    same = _spelling if row.zone.external and rtype == "TXT" else _as_it_is
    wanted = {same(name, value): value for value in row.record.values}
    found = {same(name, value): value for value in values}
    declared = f"{listed(row.record.values)} is declared" + (f" ({row.reason})" if row.reason else "")
    lacking = [value for key, value in wanted.items() if key not in found]
    beside = [value for key, value in found.items() if key not in wanted]
    if rtype == "TXT":
        claims = {plan.claim(name, value) for value in row.record.values}
        rivals = [value for value in beside if plan.claim(name, value) in claims]
    else:
        rivals = beside
    if not lacking and not rivals:
        return OK, "", ""
    if not rivals:
        return MISSING, ("nothing" if not values else f"{len(values)} value(s), but not {listed(lacking)}"), declared
    if (
        len(lacking) == len(rivals) == 1
        and policies.is_spf(lacking[0])
        and spf.widened(lacking[0], rivals[0]) == rivals[0]
    ):
        return (
            OK,
            listed(rivals),
            "it lets more send than the pool; addresses that left keep it for the mail under way",
        )
    if not lacking:
        return DRIFT, f"{listed(rivals)} beside ours", _why_single(name, rtype, rivals[0])
    return DRIFT, listed(rivals), _why_revoked(name, rivals) or declared


def _why_single(name: str, rtype: str, rival: str) -> str:
    kind = plan.claim(name, rival)[1]
    if rtype == "TXT" and kind in _KINDS:
        return f"receivers ignore all {_KINDS[kind]} records where there is more than one"
    return "ours is the only one that is declared"


def _why_revoked(name: str, rivals: Iterable[str]) -> str:
    revoked = any(plan.claim(name, rival)[1] == "dkim1" and not _public_key(rival) for rival in rivals)
    return "an empty key revokes the selector, and every signature with it fails" if revoked else ""


_KINDS = {"spf1": "SPF", "dmarc1": "DMARC", "dkim1": "DKIM", "stsv1": "MTA-STS", "tlsrptv1": "TLS-RPT", "bimi1": "BIMI"}
_PARSERS: dict[str, Any] = {
    "spf1": policies.parse_spf,
    "dmarc1": policies.parse_dmarc,
    "dkim1": policies.parse_dkim,
    "stsv1": policies.parse_mta_sts_record,
    "tlsrptv1": policies.parse_tls_rpt,
}


def _spelling(name: str, text: str) -> str:
    """A policy whatever its spelling: what somebody else publishes for us need not be equal letter by letter."""
    kind, version = plan.claim(name, text)
    if kind != "version" or version not in _PARSERS:
        return text
    try:
        return str(_PARSERS[version](text).text)
    except ValueError:
        return text


def _as_it_is(_name: str, text: str) -> str:
    return text


def _public_key(text: str) -> str:
    try:
        return policies.parse_dkim(text).public_key
    except ValueError:
        return "?"


def _wrong_ttl(
    row: Row, answers: Mapping[Server, Answer], shown: Mapping[Server, tuple[str, ...]]
) -> Iterator[Finding]:
    wrong: dict[int, list[str]] = {}
    for server, values in shown.items():
        ttl = answers[server].ttl
        # A record set has one TTL; beside values of others it is not ours to choose.
        if ttl is not None and ttl != row.record.ttl and len(values) == len(row.record.values):
            wrong.setdefault(ttl, []).append(server.label)
    if wrong and not row.zone.external:
        found = ", ".join(f"TTL {ttl} at {joined(at)}" for ttl, at in wrong.items())
        why = f"{row.record.ttl} seconds are declared, and changes count on them"
        yield Finding(row.where, found, why, DNS, WARNING)


def _too_large(row: Row, shown: Mapping[Server, tuple[str, ...]]) -> Iterator[Finding]:
    if row.record.type != "TXT":
        return
    size, values = max((record_sets.answer_size(row.record.name, values), values) for values in shown.values())
    holds_spf = any(policies.is_spf(value) for value in values)
    remedy = "Shorten it, or take away what nobody needs at this name"
    if size > record_sets.ANSWER_SAFE:
        why = f"over {record_sets.ANSWER_SAFE} it comes by TCP only, which some firewalls do not let through"
    elif size > record_sets.ANSWER_SMALL and holds_spf:
        why = f"SPF answers should fit {record_sets.ANSWER_SMALL} (RFC 7208 3.4)"
    else:
        return
    yield Finding(row.where, f"an answer of {size} bytes", why, remedy, WARNING)
