# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether each address is aligned: what must be found (``expectations``) and what the findings are (``judge``).

``judge`` asks nothing itself. It notes the DNS questions that it lacks in its ``Answers``; a caller answers them and
judges again until none is left. What could not be found out is unknown, and unknown is an error, never a pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, TypeVar

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import UNKNOWN as UNANSWERED
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import YES, Answers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.table import engine_of
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies, spf
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet, Stream
from ansible_collections.mailops.mta.plugins.module_utils.core.proof.relay import CLOSED, FILTERED, OPEN, REFUSED
from ansible_collections.mailops.mta.plugins.module_utils.core.publish import record_sets

OK = "ok"
WARN = "warn"
FAIL = "FAIL"
UNKNOWN = "unknown"
NOT_ASKED = "-"
_WORST_FIRST = (FAIL, UNKNOWN, WARN, OK, NOT_ASKED)

FCRDNS, SPF, DKIM, DMARC, MX, REPORTS = "fcrdns", "spf", "dkim", "dmarc", "mx", "reports"
RECORDS = "records"  # everything else that is to stand in DNS
SOURCE, TLS, APART, RELAY = "source", "tls", "apart", "relay"
CHECKS = (FCRDNS, SPF, DKIM, DMARC, MX, REPORTS, RECORDS, SOURCE, TLS, APART, RELAY)
ACTIVE, RETIRING = "active", "retiring"  # lives of keys that mail under way may be signed with
WELL_KNOWN_PORTS = (25, 465, 587)  # a relay that nobody meant to open stands on one of these

_REFUSED = re.compile(r"\(5\d\d, ")  # an SMTP reply for good, as exceptions of smtplib show it

Record = Mapping[str, Any]
_Parsed = TypeVar("_Parsed")


def expectations(fleet: Fleet) -> dict[str, Any]:
    """What proof must find, as plain data: the variable ``mta_proof``."""
    pool_of: dict[str, list[str]] = {}
    for address in fleet.addresses():
        pool_of.setdefault(address.host, []).extend(address.ips)
    return {
        "addresses": [
            {
                "stream": address.stream,
                "host": address.host,
                "label": address.label,
                "ips": list(address.ips),
                "ehlo": address.ehlo,
            }
            for address in fleet.addresses()
        ],
        "streams": [_expected_stream(fleet, stream) for stream in fleet.streams.values()],
        "records": [
            {key: entry[key] for key in ("name", "type", "values", "streams")}
            for entry in record_sets.further_record_sets(fleet)
        ],
        "listeners": [
            {
                "host": host.name,
                "ips": list(dict.fromkeys((*host.listen, *pool_of.get(host.name, ())))),
                "ports": sorted(
                    {
                        *WELL_KNOWN_PORTS,
                        *(stream.port for stream in fleet.streams_on(host.name)),
                        *([fleet.front.port] if fleet.front and host.name in fleet.front.hosts else []),
                    }
                ),
            }
            for host in fleet.mta_hosts()
        ],
        "front_header": fleet.front.header if fleet.front else None,
        "sink": {"domain": fleet.verify.sink_domain, "host": fleet.verify.sink_host} if fleet.verify else None,
        "probes": list(_probes(fleet)) if fleet.verify else [],
        "intruders": list(_intruders(fleet)) if fleet.verify else [],
    }


def _expected_stream(fleet: Fleet, stream: Stream) -> dict[str, Any]:
    (_domain, spf_text), *spf_parts = record_sets.spf_records(stream).items()
    dmarc = record_sets.dmarc_policies_of(fleet, stream)
    policy = policies.mta_sts_policy(stream.return_path.mx, stream.mta_sts)
    return {
        "name": stream.name,
        "port": stream.port,
        "domains": list(stream.domains),
        "return_path": {"domain": stream.return_path.domain, "mx": list(stream.return_path.mx)},
        "spf": spf_text,
        "spf_parts": dict(spf_parts),
        "dkim": [
            {"domain": domain, "algorithm": algorithm}
            for domain in stream.domains
            for algorithm in stream.dkim.algorithms
        ],
        "dmarc": policies.dmarc(stream.dmarc),
        "dmarc_at": [found.domain for found in dmarc],
        "report_authorisations": [
            f"{found.domain}._report._dmarc.{target}"
            for found in dmarc
            for target in record_sets.foreign_reports(fleet, found)
        ],
        "tls_rpt": policies.tls_rpt(stream.tls_rpt) if stream.tls_rpt else None,
        "mta_sts": policies.mta_sts_record(policy) if stream.mta_sts.mode != "none" else None,
    }


def _probes(fleet: Fleet) -> Iterable[dict[str, Any]]:
    """One message for each address, and one for each further domain of a stream from its first address on each host."""
    sink = fleet.verify.sink_domain if fleet.verify else ""
    for stream in fleet.streams.values():
        first = {address.host: address for address in reversed(stream.addresses)}
        for address in stream.addresses:
            for domain in stream.domains if address is first[address.host] else (stream.domain,):
                yield {
                    "stream": stream.name,
                    "host": address.host,
                    "label": address.label,
                    "domain": domain,
                    "port": stream.port,
                    "recipient": f"verify-{address.label}@{sink}",
                }


def _intruders(fleet: Fleet) -> Iterable[dict[str, Any]]:
    """For each stream and host a message From the domain of another stream, which must be refused at injection.

    An engine that takes such a message and bounces it, as PowerMTA does (docs/powermta.md), is sent none.
    """
    sink = fleet.verify.sink_domain if fleet.verify else ""
    streams = list(fleet.streams.values())
    for number, stream in enumerate(streams):
        other = streams[number - 1]
        hosts = dict.fromkeys(address.host for address in stream.addresses)
        for host in hosts if other is not stream else ():
            if engine_of(fleet, host).can.message_check:
                yield {
                    "stream": stream.name,
                    "host": host,
                    "label": f"{APART}-{stream.name}",
                    "domain": other.domain,
                    "sender": stream.domain,
                    "port": stream.port,
                    "recipient": f"{APART}-{stream.name}@{sink}",
                }


# ---- judge


@dataclass(frozen=True)
class Verdict:
    """The state of one check, and why where it is not ok."""

    check: str
    state: str
    finding: Finding | None = None


@dataclass(frozen=True)
class Seen:
    """What came back from outside; None where nobody was asked."""

    observations: Sequence[Record] | None = None  # the sink's lines
    probes: Sequence[Record] = ()  # what was sent, with its message_id
    relay: Sequence[Record] | None = None
    keys: Sequence[Record] | None = None  # DKIM record sets of the key host, as records of core/dkim/rotation/life


@dataclass(frozen=True)
class Series:
    """The keys of one domain and algorithm as the key host has them, and aliases that lead to them."""

    domain: str
    algorithm: str
    records: tuple[Record, ...] = ()

    @property
    def where(self) -> str:
        return f"DKIM key ({self.algorithm}) of {self.domain}"

    def selectors(self, chosen: Callable[[Record], Any]) -> tuple[str, ...]:
        """Those of keys, not of aliases alone."""
        found = (key["selector"] for key in self.records if key["type"] == "TXT" and chosen(key))
        return tuple(dict.fromkeys(found))

    @property
    def signing(self) -> tuple[str, ...]:
        return self.selectors(lambda key: key.get("signs"))


Held = Mapping[tuple[Any, Any], Series]  # by domain and algorithm


def _held(keys: Iterable[Record]) -> Held:
    """What stands or should. A record set whose values are null is not made yet, and what is absent is gone."""
    found: dict[tuple[Any, Any], list[Record]] = {}
    for key in keys:
        if key.get("state", "present") == "present" and key.get("values"):
            found.setdefault((key.get("domain"), key.get("algorithm")), []).append(key)
    return {name: Series(*name, tuple(records)) for name, records in found.items()}


def _series(wanted: Record, held: Held) -> Series:
    name = wanted["domain"], wanted["algorithm"]
    return held.get(name, Series(*name))


@dataclass(frozen=True)
class Proof:
    rows: tuple[dict[str, str], ...]
    findings: tuple[Finding, ...]


def judge(
    expected: Record, answers: Answers, seen: Seen, *, hosts: Iterable[str] = (), streams: Iterable[str] = ()
) -> Proof:
    """One row for each address (of ``hosts`` and ``streams``, where given), and every finding once."""
    only_hosts, only_streams = set(hosts), set(streams)
    addresses = [
        address
        for address in expected["addresses"]
        if (not only_hosts or address["host"] in only_hosts) and (not only_streams or address["stream"] in only_streams)
    ]
    shown_streams = {address["stream"] for address in addresses}
    by_stream = {stream["name"]: stream for stream in expected["streams"]}
    held = None if seen.keys is None else _held(seen.keys)
    of_stream = {
        name: [
            *_judge_stream(by_stream[name], answers, held),
            *_judge_records(expected["records"], name, answers),
        ]
        for name in by_stream
        if name in shown_streams
    }
    sent: dict[str, list[Record]] = {}
    for probe in seen.probes:
        sent.setdefault(probe["label"], []).append(probe)
    arrived = {line.get("message_id"): line for line in seen.observations or ()}
    reached = {probe["host"] for probe in seen.probes if probe["message_id"] in arrived}
    of_host = {
        host: list(_judge_relay(host, seen.relay, host in reached))
        for host in dict.fromkeys(address["host"] for address in addresses)
    }
    rows: list[dict[str, str]] = []
    findings: list[Finding] = []
    for verdicts in (*of_stream.values(), *of_host.values()):
        findings.extend(verdict.finding for verdict in verdicts if verdict.finding)
    for address in addresses:
        stream = by_stream[address["stream"]]
        own = [*_judge_address(address, stream, answers)]
        own.extend(_judge_apart(address, sent.get(f"{APART}-{address['stream']}", ())))
        if seen.observations is not None:
            header = expected["front_header"]
            own.extend(_judge_arrivals(address, stream, sent.get(address["label"], ()), arrived, header, held))
        findings.extend(verdict.finding for verdict in own if verdict.finding)
        rows.append(_row(address, [*own, *of_stream[address["stream"]], *of_host[address["host"]]]))
    return Proof(tuple(rows), tuple(dict.fromkeys(findings)))


def _row(address: Record, verdicts: Sequence[Verdict]) -> dict[str, str]:
    row = {
        "stream": address["stream"],
        "host": address["host"],
        "address": " ".join(address["ips"]),
        "ehlo": address["ehlo"],
    }
    for check in CHECKS:
        states = {verdict.state for verdict in verdicts if verdict.check == check}
        row[check] = next((state for state in _WORST_FIRST if state in states), NOT_ASKED)
    return row


def _bad(check: str, where: str, found: str, why: str, remedy: str) -> Verdict:
    return Verdict(check, FAIL, Finding(where, found, why, remedy))


def _doubt(check: str, where: str, found: str, why: str, remedy: str) -> Verdict:
    return Verdict(check, WARN, Finding(where, found, why, remedy, WARNING))


def _unknown(check: str, where: str, detail: str, remedy: str = "Make it answer, then verify again") -> Verdict:
    return Verdict(
        check, UNKNOWN, Finding(where, f"unknown ({detail})", "what cannot be found out is not proven", remedy, ERROR)
    )


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in values) or "nothing"


# ---- judge: DNS of one address


def _judge_address(address: Record, stream: Record, answers: Answers) -> Iterable[Verdict]:
    ehlo = address["ehlo"]
    for ip in address["ips"]:
        yield _reverse(ip, ehlo, answers)
        for name in dict.fromkeys((stream["return_path"]["domain"], *stream["domains"], ehlo)):
            yield _spf_passes(ip, name, ehlo, answers)
    yield from _forward(address, answers)


def _reverse(ip: str, ehlo: str, answers: Answers) -> Verdict:
    where = f"{names.reverse_name(ip)} PTR"
    remedy = f"Publish exactly one PTR record, {ehlo}"
    answer = answers.get(names.reverse_name(ip), "PTR")
    if answer.status == UNANSWERED:
        return _unknown(FCRDNS, where, answer.detail)
    if not answer.values:
        return _bad(FCRDNS, where, "no record", f"receivers refuse mail from {ip} without a reverse name", remedy)
    if len(answer.values) > 1:
        why = "a receiver picks any of them, and only one is the EHLO name"
        return _bad(FCRDNS, where, _listed(answer.values), why, remedy)
    if answer.values[0] != ehlo:
        return _bad(FCRDNS, where, _listed(answer.values), f"{ip} says EHLO {ehlo}", remedy)
    return Verdict(FCRDNS, OK)


def _forward(address: Record, answers: Answers) -> Iterable[Verdict]:
    """Exactly the address's own IPs: another one there would not say EHLO with this name."""
    for rtype, ips in (
        ("A", [ip for ip in address["ips"] if not names.is_ipv6(ip)]),
        ("AAAA", [ip for ip in address["ips"] if names.is_ipv6(ip)]),
    ):
        where = f"{address['ehlo']} {rtype}"
        answer = answers.get(address["ehlo"], rtype)
        missing = [ip for ip in ips if ip not in answer.values]
        foreign = [value for value in answer.values if value not in ips]
        if answer.status == UNANSWERED:
            yield _unknown(FCRDNS, where, answer.detail)
        elif missing:
            why = f"the name does not lead back to {missing[0]}"
            yield _bad(FCRDNS, where, _listed(answer.values), why, f"Publish {' and '.join(ips)} there, nothing else")
        elif foreign:
            why = f"{foreign[0]} is not an address with this EHLO name"
            yield _bad(FCRDNS, where, _listed(answer.values), why, f"Remove {_listed(foreign)}")
        elif ips:
            yield Verdict(FCRDNS, OK)


def _spf_passes(ip: str, name: str, ehlo: str, answers: Answers) -> Verdict:
    where = f"{name} TXT (SPF) for {ip}"
    record = answers.get(name, "TXT")
    if record.status == UNANSWERED:
        return _unknown(SPF, f"{name} TXT (SPF)", record.detail)
    result = spf.evaluate(ip, name, answers, sender=f"postmaster@{name}", ehlo=ehlo)
    if result.result == UNANSWERED:
        return _unknown(SPF, where, result.why)
    if result.result == spf.NONE and name != ehlo:
        return Verdict(SPF, FAIL)  # the stream's finding says that the record is missing
    if result.result != spf.PASS:
        why = f"a receiver's SPF check says {result.result}: {result.why}"
        return _bad(SPF, where, result.result, why, "Publish the derived record (playbook mailops.mta.dns)")
    return Verdict(SPF, OK)


# ---- judge: DNS of one stream


def _judge_stream(stream: Record, answers: Answers, held: Held | None) -> Iterable[Verdict]:
    path = stream["return_path"]
    for name in dict.fromkeys((path["domain"], *stream["domains"])):
        yield from _text(SPF, name, "SPF", policies.is_spf, policies.parse_spf, stream["spf"], answers)
        yield from _spf_limits(name, answers)
    for name, text in stream["spf_parts"].items():
        yield from _text(SPF, name, "SPF", policies.is_spf, policies.parse_spf, text, answers)
    for wanted in stream["dkim"] if held is not None else ():
        yield from _dkim(_series(wanted, held or {}), answers)
    for domain in stream["dmarc_at"]:
        name = f"_dmarc.{domain}"
        yield from _text(DMARC, name, "DMARC", policies.is_dmarc, policies.parse_dmarc, stream["dmarc"], answers)
    for domain in stream["domains"]:
        if domain not in stream["dmarc_at"]:
            yield _inherits(domain, answers)
    for name in stream["report_authorisations"]:
        yield _report_authorised(name, answers)
    yield from _mail_exchangers(path, answers)
    for owner, what, start, parse, wanted in (
        (f"_smtp._tls.{path['domain']}", "TLS-RPT", "v=TLSRPTv1", policies.parse_tls_rpt, stream["tls_rpt"]),
        (f"_mta-sts.{path['domain']}", "MTA-STS", "v=STSv1", policies.parse_mta_sts_record, stream["mta_sts"]),
    ):
        if wanted:
            yield from _text(REPORTS, owner, what, _starts_with(start), parse, wanted, answers)


def _starts_with(start: str) -> Callable[[str], bool]:
    return lambda text: text.startswith(start)


def _text(
    check: str,
    name: str,
    what: str,
    belongs: Callable[[str], bool],
    parse: Callable[[str], _Parsed],
    wanted: str,
    answers: Answers,
) -> Iterable[Verdict]:
    """Exactly one record of its kind, valid, and the same as ``wanted`` whatever its spelling."""
    where = f"{name} TXT ({what})"
    remedy = f"Publish '{wanted}' (playbook mailops.mta.dns)"
    answer = answers.get(name, "TXT")
    if answer.status == UNANSWERED:
        yield _unknown(check, where, answer.detail)
        return
    texts = [text for text in answer.values if belongs(text)]
    if not texts:
        yield _bad(check, where, "no record", f"the stream's {what} record is missing", remedy)
        return
    if len(texts) > 1:
        yield _bad(check, where, f"{len(texts)} records", "receivers ignore all where there is more than one", remedy)
        return
    try:
        found = parse(texts[0])
    except ValueError as error:
        yield _bad(check, where, f"'{texts[0]}'", str(error), remedy)
        return
    if check == SPF and texts[0] != wanted and spf.widened(wanted, texts[0]) == texts[0]:
        why = "it still lets addresses send that left the pool; it narrows when their mail is through"
        yield _doubt(check, where, f"'{texts[0]}'", why, "Run mailops.mta.dns after the day that its report names")
        return
    if found != parse(wanted):
        yield _bad(check, where, f"'{texts[0]}'", "it is not the record that the fleet file asks for", remedy)
        return
    yield Verdict(check, OK)


def _spf_limits(name: str, answers: Answers) -> Iterable[Verdict]:
    where = f"{name} TXT (SPF)"
    for text in answers.get(name, "TXT").values:
        if policies.is_spf(text):
            for problem in policies.spf_problems(text):
                remedy = "Use fewer includes and addresses that lie side by side"
                hard = "DNS lookups" in problem or len(text) <= policies.SPF_MAX_TEXT
                yield (_bad if hard else _doubt)(SPF, where, f"{len(text)} characters", problem, remedy)


def _dkim(series: Series, answers: Answers) -> Iterable[Verdict]:
    """Exactly one key signs, and DNS shows each as the key host has it."""
    if len(series.signing) != 1:
        keys = series.selectors(lambda _key: True)
        found = f"{_listed(series.signing)} sign" if series.signing else f"{_listed(keys)}, none of which signs"
        why = "mail is signed with exactly one" if keys else "its mail cannot be signed"
        remedy = "Run the playbook mailops.mta.site, and see what its report on keys waits for"
        yield _bad(DKIM, series.where, found if keys else "no key that may be used", why, remedy)
    aliases = {key["selector"]: _alias_leads(key, answers) for key in series.records if key["type"] == "CNAME"}
    yield from aliases.values()
    for key in series.records:
        # Behind an alias that leads elsewhere stands whatever stands there.
        if key["type"] == "TXT" and aliases.get(key["selector"], Verdict(DKIM, OK)).state == OK:
            yield from _key_stands(key, answers)


def _alias_leads(key: Record, answers: Answers) -> Verdict:
    where, target = f"{key['name']} CNAME", key["values"][0]
    answer = answers.get(key["name"], "CNAME")
    if answer.status == UNANSWERED:
        return _unknown(DKIM, where, answer.detail)
    if [_comparable("CNAME", value) for value in answer.values] == [_comparable("CNAME", target)]:
        return Verdict(DKIM, OK)
    remedy = f"Publish '{target}' (playbook mailops.mta.dns; where somebody else runs the zone, have them do it)"
    return _missing_or_bad(key, bool(answer.values))(
        DKIM, where, _listed(answer.values), f"it is to lead to the key at {target}", remedy
    )


def _key_stands(key: Record, answers: Answers) -> Iterable[Verdict]:
    """What a receiver finds for the selector is the key that the key host has, and nothing forbids to use it."""
    name = names.alias_name(key["domain"], key["selector"])
    where = f"{name} TXT (DKIM)"
    remedy = "Publish the key of the key host (playbook mailops.mta.dns)"
    answer = answers.get(name, "TXT")
    if answer.status == UNANSWERED:
        yield _unknown(DKIM, where, answer.detail)
        return
    if len(answer.values) != 1:
        count = f"{len(answer.values)} records" if answer.values else "no record"
        judged = _missing_or_bad(key, bool(answer.values))
        yield judged(DKIM, where, count, "a signature is verified with exactly one", remedy)
        return
    try:
        found, wanted = policies.parse_dkim(answer.values[0]), policies.parse_dkim(key["values"][0])
    except ValueError as error:
        yield _bad(DKIM, where, f"'{answer.values[0]}'", str(error), remedy)
        return
    problems = [*_not_the_key(found, wanted)]
    if found.public_key:
        problems += policies.dkim_problems(found)
    for shown, why in problems:
        yield _bad(DKIM, where, shown, why, remedy)
    if not problems:
        yield Verdict(DKIM, OK)


def _not_the_key(found: policies.DkimRecord, wanted: policies.DkimRecord) -> Iterable[tuple[str, str]]:
    if found.public_key != wanted.public_key:
        if not found.public_key:
            yield "an empty key", "that revokes the selector"
        elif not wanted.public_key:
            yield "a key", "it is revoked, and whoever has it can still sign with it"
        else:
            yield "another public key", "it is not the one on the key host, so signatures fail"
    elif found.public_key and found.key_type != wanted.key_type:
        yield f"k={found.key_type}", f"the key is for {wanted.key_type}"


def _missing_or_bad(key: Record, shown: bool) -> Callable[[str, str, str, str, str], Verdict]:
    """A key that no mail was signed with may be missing: whoever waits to sign with it goes on waiting."""
    return _bad if shown or key.get("signs") or key.get("life") in (ACTIVE, RETIRING) else _doubt


def _inherits(domain: str, answers: Answers) -> Verdict:
    """A domain that inherits has no DMARC record of its own: that one would be applied instead (RFC 9989 4.10.1)."""
    where = f"_dmarc.{domain} TXT (DMARC)"
    answer = answers.get(f"_dmarc.{domain}", "TXT")
    if answer.status == UNANSWERED:
        return _unknown(DMARC, where, answer.detail)
    own = [text for text in answer.values if policies.is_dmarc(text)]
    if own:
        why = f"{domain} is to inherit the policy above it, and this one is applied instead"
        return _bad(DMARC, where, _listed(own), why, "Remove it, or write inherit: false")
    return Verdict(DMARC, OK)


def _judge_records(expected: Sequence[Record], stream: str, answers: Answers) -> Iterable[Verdict]:
    """What else the stream needs (or the fleet, whatever the stream) has all of its values; others may stand beside."""
    yield Verdict(RECORDS, OK)
    for entry in expected:
        if entry["streams"] and stream not in entry["streams"]:
            continue
        where = f"{entry['name']} {entry['type']}"
        answer = answers.get(entry["name"], entry["type"])
        if answer.status == UNANSWERED:
            yield _unknown(RECORDS, where, answer.detail)
            continue
        found = {_comparable(entry["type"], value) for value in answer.values}
        missing = [value for value in entry["values"] if _comparable(entry["type"], value) not in found]
        if missing:
            why = f"{_listed(missing)} is to stand there"
            yield _bad(RECORDS, where, _listed(answer.values), why, "Publish it (playbook mailops.mta.dns)")


def _comparable(rtype: str, value: str) -> str:
    try:
        return value if rtype == "TXT" else records.canonical(rtype, value)
    except ValueError:
        return value


def _report_authorised(name: str, answers: Answers) -> Verdict:
    where = f"{name} TXT"
    answer = answers.get(name, "TXT")
    if answer.status == UNANSWERED:
        return _unknown(REPORTS, where, answer.detail)
    if policies.authorises_reports(answer.values):
        return Verdict(REPORTS, OK)
    why = "without it receivers send no DMARC reports to that domain (RFC 9990 4)"
    return _bad(REPORTS, where, _listed(answer.values), why, "Have 'v=DMARC1' published there, or use another rua")


def _mail_exchangers(path: Record, answers: Answers) -> Iterable[Verdict]:
    where = f"{path['domain']} MX"
    answer = answers.get(path["domain"], "MX")
    if answer.status == UNANSWERED:
        yield _unknown(MX, where, answer.detail)
        return
    hosts = [value.partition(" ")[2] for value in answer.values]
    if sorted(hosts) != sorted(path["mx"]):
        why = f"bounces are to go to {', '.join(path['mx'])}"
        yield _bad(MX, where, _listed(answer.values), why, "Publish the derived record (playbook mailops.mta.dns)")
        return
    for host in hosts:
        found = [answers.get(host, rtype) for rtype in ("A", "AAAA")]
        if any(entry.status == YES for entry in found):
            yield Verdict(MX, OK)
        elif any(entry.status == UNANSWERED for entry in found):
            yield _unknown(MX, f"{host} A", found[0].detail or found[1].detail)
        else:
            yield _bad(
                MX, f"{host} A", "no address", f"bounces for {path['domain']} cannot be delivered", "Give it one"
            )


# ---- judge: what the sink and the relay probe saw


def _judge_arrivals(
    address: Record,
    stream: Record,
    sent: Sequence[Record],
    arrived: Mapping[Any, Record],
    front_header: str | None,
    held: Held | None,
) -> Iterable[Verdict]:
    if not sent:
        yield _unknown(
            SOURCE, f"address {address['label']}", "no message was sent from it", "See the sending host's log"
        )
    for probe in sent:
        line = arrived.get(probe["message_id"])
        if line is not None:
            yield from _judge_arrival(address, stream, probe, line, front_header)
            yield from _judge_signatures(stream, probe, line, held, _of(address, probe))
        elif probe.get("error"):
            why = f"the listener on {probe['host']} did not take it"
            yield _bad(SOURCE, _of(address, probe), str(probe["error"]), why, f"See the log on {probe['host']}")
        else:
            remedy = f"See the queue and the log on {probe['host']}"
            yield _unknown(SOURCE, _of(address, probe), "the sink has not seen it", remedy)


def _judge_apart(address: Record, sent: Iterable[Record]) -> Iterable[Verdict]:
    for probe in sent:
        if probe["host"] != address["host"]:
            continue
        where = f"port {probe['port']} on {probe['host']}"
        answer = str(probe.get("error") or "")
        if not answer:
            found = f"it took a message From {probe['domain']}"
            why = f"stream {probe['stream']} may send From its own domains only"
            yield _bad(APART, where, found, why, f"Run site.yml on {probe['host']}")
        elif _REFUSED.search(answer):
            yield Verdict(APART, OK)
        else:
            yield _unknown(APART, where, answer)


def _of(address: Record, probe: Record) -> str:
    return f"mail of {probe['domain']} from address {address['label']}"


def _judge_arrival(
    address: Record, stream: Record, probe: Record, line: Record, front_header: str | None
) -> Iterable[Verdict]:
    where = _of(address, probe)
    path = stream["return_path"]["domain"]

    def check(column: str, good: bool, found: Any, why: str, remedy: str) -> Verdict:
        return Verdict(column, OK) if good else _bad(column, where, str(found), why, remedy)

    engine = f"Run site.yml on {address['host']}"
    answer = f"the sink answered {line.get('answer')}"
    yield check(
        SOURCE, line.get("event") != "rejected", answer, "a receiver would refuse it too", "See the DNS findings"
    )
    source = line.get("source_ip")
    yield check(SOURCE, source in address["ips"], f"source {source}", "it left from another address", engine)
    ehlo = str(line.get("ehlo") or "").rstrip(".").lower()
    yield check(SOURCE, ehlo == address["ehlo"], f"EHLO '{ehlo}'", f"the address's name is {address['ehlo']}", engine)
    sender = str(line.get("mail_from") or "").rpartition("@")[2].lower()
    yield check(SOURCE, sender == path, f"envelope sender at '{sender}'", f"bounces are to go to {path}", engine)
    if front_header:
        absent = front_header.lower() not in {str(header).lower() for header in line.get("headers") or ()}
        yield check(SOURCE, absent, f"header {front_header}", "it is for inner use and tells outsiders streams", engine)
    yield check(TLS, bool(line.get("tls")), "no TLS", "large receivers require it (Gmail since 2023)", engine)
    yield _result(SPF, where, line.get("spf"), "SPF")
    if "fcrdns" in line:
        yield _result(FCRDNS, where, line["fcrdns"], "FCrDNS")
    yield _result(DMARC, where, line.get("dmarc"), "DMARC")


def _judge_signatures(stream: Record, probe: Record, line: Record, held: Held | None, where: str) -> Iterable[Verdict]:
    """One by the key that signs, of each algorithm. A host that has not followed a rotation yet signs with another."""
    domain, results = probe["domain"], {}
    for signature in line.get("dkim") or ():
        if signature.get("domain") == domain:
            results[signature.get("selector")] = signature.get("result")
    if held is None:  # nobody knows the selectors
        bad = [result for result in results.values() if result != "pass"]
        result = bad[0] if bad else "pass" if results else "no signature"
        yield _result(DKIM, where, {"result": result}, "DKIM")
        return
    of_domain = [_series(wanted, held) for wanted in stream["dkim"] if wanted["domain"] == domain]
    for series in of_domain:
        if len(series.signing) != 1:
            continue  # the key host's finding stands for all mail
        (selector,) = series.signing
        result = results.get(selector)
        active = series.selectors(lambda key: key.get("life") == ACTIVE)
        former = [other for other in active if other != selector and results.get(other) == "pass"]
        if result is None and former:
            why = f"{probe['host']} has not followed the rotation yet, and {former[0]} stays until it has"
            remedy = f"Run mailops.mta.rotate_dkim, or site.yml on {probe['host']}"
            yield _doubt(DKIM, where, f"signed with {former[0]}, not with {selector}", why, remedy)
            continue
        elsewhere = {key["selector"] for other in of_domain if other is not series for key in other.records}
        others = sorted(str(other) for other in results if other not in (None, selector, *elsewhere))
        absent = f"no signature{f', but by {_listed(others)}' if others else ''}"
        yield _result(DKIM, f"{where}, selector {selector}", {"result": result or absent}, "DKIM")


def _result(column: str, where: str, evaluated: Any, what: str) -> Verdict:
    result = str((evaluated or {}).get("result") or "not evaluated")
    if result == "pass":
        return Verdict(column, OK)
    if result in ("temperror", "not evaluated"):
        return _unknown(column, where, f"{what} {result} at the sink")
    return _bad(
        column, where, f"{what} {result}", "the sink's own check did not pass", "See the DNS findings and the signer"
    )


def _judge_relay(host: str, relay: Sequence[Record] | None, reached: bool) -> Iterable[Verdict]:
    if relay is None:
        return
    results = [result for result in relay if result["host"] == host]
    if not results:
        yield _unknown(RELAY, f"host {host}", "no port of it was tried")
    answering = reached or any(result["state"] in (CLOSED, REFUSED) for result in results)
    same: dict[tuple[str, str, str], list[int]] = {}
    for result in results:
        key = (result["ip"], result["state"], str(result.get("detail") or result["state"]))
        same.setdefault(key, []).append(result["port"])
    for (ip, state, reply), ports in same.items():
        where = f"{host} {ip} port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports))}"
        if state == OPEN:
            why = "whoever finds it sends or learns through it what only your applications may"
            remedy = f"Narrow inject_from, or run site.yml on {host}; docs/proof.md explains each probe"
            yield _bad(RELAY, where, f"open to strangers: {reply}", why, remedy)
        elif state in (CLOSED, REFUSED) or (state == FILTERED and answering):
            yield Verdict(RELAY, OK)
        else:
            yield _unknown(RELAY, where, reply)


# ---- the table


_TITLES = {
    "ehlo": "EHLO name",
    FCRDNS: "FCrDNS",
    SPF: "SPF",
    DKIM: "DKIM",
    DMARC: "DMARC",
    MX: "MX",
    TLS: "TLS",
}


def lines(proof: Proof, note: str = "") -> list[str]:
    """The proof as a person reads it: one table, the findings under it, and a verdict."""
    columns = ("stream", "host", "address", "ehlo", *CHECKS)
    titles = {column: _TITLES.get(column, column) for column in columns}
    width = {column: max(len(row[column]) for row in (titles, *proof.rows)) for column in columns}
    table = [
        "  ".join(row[column].ljust(width[column]) for column in columns).rstrip() for row in (titles, *proof.rows)
    ]
    ordered = sorted(proof.findings, key=lambda finding: finding.severity != ERROR)
    count = sum(finding.severity == ERROR for finding in ordered)
    verdict = f"{len(proof.rows)} addresses, {count} errors, {len(ordered) - count} warnings"
    return [
        table[0],
        "-" * len(table[0]),
        *table[1:],
        "",
        *(f"{number}. {finding}" for number, finding in enumerate(ordered, 1)),
        *([note] if note else []),
        verdict,
    ]
