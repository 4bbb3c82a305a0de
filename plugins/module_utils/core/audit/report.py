# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit, and the DNS registry that it is of, as tables for people, as data, and as metrics for Prometheus."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core import tables
from ansible_collections.mailops.mta.plugins.module_utils.core.audit.notes import (
    DRIFT,
    EXTERNAL,
    MISSING,
    OK,
    UNEQUAL,
    UNKNOWN,
    Audit,
    Sample,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.audit.subject import Row, Subject
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING

_WIDE = 72  # characters of a value in one line: a TLSA record and an Ed25519 key fit

HELP = {
    "mta_dns_record_ok": "Whether every authoritative server shows the declared record set.",
    "mta_dns_findings": "How many findings the audit had.",
    "mta_dns_server_ok": "Whether the server is an authority for the zone.",
    "mta_dns_soa_serial": "Serial number of the zone at the server.",
    "mta_dns_spf_lookups": "DNS lookups that the SPF record costs where nothing matches; 10 are allowed.",
    "mta_dns_dkim_key_size": "Size of the published DKIM key in bits.",
    "mta_mta_sts_certificate_expires_timestamp_seconds": "When the certificate of the MTA-STS policy host ends.",
    "mta_dns_audit_timestamp_seconds": "When the audit ran.",
}


def _rows(given: Subject, states: Mapping[rrset.Key, str]) -> list[Row]:
    """Without the withdrawn ones that are gone indeed."""
    return [row for row in given.rows if not row.gone or states.get(row.record.key, OK) != OK]


def table(given: Subject, states: Mapping[rrset.Key, str]) -> list[dict[str, Any]]:
    """One row for each declared record set, as data. ``states`` of an audit, or empty: nobody was asked."""
    return [
        {
            "domain": row.domain,
            "zone": row.zone.name,
            "provider": row.zone.provider,
            "name": row.record.name,
            "type": row.record.type,
            "ttl": row.record.ttl,
            "values": list(row.record.values),
            "state": states.get(row.record.key, UNKNOWN),
            "reason": row.reason,
            "streams": list(row.streams),
        }
        for row in _rows(given, states)
    ]


def lines(given: Subject, result: Audit) -> list[str]:
    """The audit as a person reads it: what is not ok first, the findings, what to do next, and a verdict."""
    rows = _rows(given, result.states)
    ordered = sorted(rows, key=lambda row: result.states[row.record.key] == OK)
    cells = [
        (
            result.states[row.record.key],
            row.record.name,
            row.record.type,
            _ttl(row),
            row.zone.name,
            " ".join(row.streams),
        )
        for row in ordered
    ]
    findings = sorted(result.findings, key=lambda finding: finding.severity != ERROR)
    count = sum(finding.severity == ERROR for finding in findings)
    return [
        *tables.columns(("state", "name", "type", "ttl", "zone", "streams"), cells),
        "",
        *(f"{number}. {finding}" for number, finding in enumerate(findings, 1)),
        *(f"Next: {step}" for step in _next(result)),
        f"{_count(len(rows), 'record set')} in {_count(len(given.zones), 'zone')}, "
        f"{_count(count, 'error')}, {_count(len(findings) - count, 'warning')}",
    ]


def _next(result: Audit) -> list[str]:
    states = set(result.states.values())
    steps = []
    if states & {DRIFT, MISSING, UNEQUAL}:
        steps.append(
            "ansible-playbook -i <fleet> mailops.mta.dns --check --diff shows what it would repair; "
            "then run it without --check."
        )
    if EXTERNAL in states:
        steps.append("send the owner of each external zone the lines above that begin with 'Have the owner'.")
    if result.findings:
        return [*steps, "do what the findings say, then audit again."]
    return ["nothing is to be done. Audit again after the next change, and once a day."]


def registry(given: Subject, states: Mapping[rrset.Key, str], asked: bool) -> list[str]:
    """Every record set by domain: what it is, why it is there and who uses it; with its state where DNS was asked."""
    by_domain: dict[str, list[Row]] = {}
    for row in _rows(given, states):
        by_domain.setdefault(row.domain, []).append(row)
    titles = ("name", "type", "ttl", "value", *(["state"] if asked else []), "zone", "why")
    found: list[str] = []
    for domain, rows in by_domain.items():
        users = sorted({stream for row in rows for stream in row.streams})
        found.append(f"{domain}" + (f" (used by {', '.join(users)})" if users else ""))
        cells = []
        for row in rows:
            state = [states.get(row.record.key, UNKNOWN)] if asked else []
            zone = f"{row.zone.name} ({row.zone.provider})"
            value, *more = _values(row)
            cells.append((row.record.name, row.record.type, _ttl(row), value, *state, zone, _why(row)))
            cells += [("", "", "", rest, *("" for _each in state), "", "") for rest in more]
        found += [*(f"  {line}" for line in tables.columns(titles, cells)), ""]
    return [*found, *map(str, given.findings), _after(given, states, asked)]


def _why(row: Row) -> str:
    """The reason, and the streams that it does not name."""
    missing = [stream for stream in row.streams if f"stream {stream}" not in row.reason]
    return row.reason + (f" (used by {', '.join(missing)})" if missing else "")


def _ttl(row: Row) -> str:
    return "-" if row.held else str(row.record.ttl)


def _values(row: Row) -> list[str]:
    """Each value in lines of its own; of a public key only the beginning, for nobody compares keys by eye."""
    if row.held:
        return ["(only the key host has it)"]
    found = []
    for value in row.record.values:
        cut = value.startswith("v=DKIM1") and len(value) > _WIDE
        found += [f"{value[: _WIDE - 3]}..."] if cut else textwrap.wrap(value, _WIDE, subsequent_indent="  ")
    return found or [""]


def _after(given: Subject, states: Mapping[rrset.Key, str], asked: bool) -> str:
    rows = _rows(given, states)
    count = _count(len(rows), "record set")
    if not rows:
        return f"{count}. Next: name a domain that the fleet file has, or none for all."
    if not asked:
        return f"{count}. Next: ansible-playbook -i <fleet> mailops.mta.dns_audit asks whether DNS shows them."
    bad = sum(states.get(row.record.key) != OK for row in rows)
    if not bad:
        return f"{count}, all as declared. Next: nothing is to be done."
    return f"{count}, {bad} not ok. Next: ansible-playbook -i <fleet> mailops.mta.dns_audit says why, and what to do."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def metrics(result: Audit) -> str:
    """Prometheus text format 0.0.4, for the textfile collector."""
    counts = [
        Sample(
            "mta_dns_findings", (("severity", severity),), sum(each.severity == severity for each in result.findings)
        )
        for severity in (ERROR, WARNING)
    ]
    samples = ((sample.metric, sample.labels, sample.value) for sample in (*result.samples, *counts))
    return tables.exposition(HELP, samples)
