# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit says of what is published: DKIM keys, mail exchangers, SPF, MTA-STS, and reverse names of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.audit.notes import (
    AGAIN,
    DNS,
    OK,
    UNPROVEN,
    Fetched,
    Notes,
    World,
    listed,
    short,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.audit.subject import Row, Subject
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import UNKNOWN, YES, Answers, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies, spf
from ansible_collections.mailops.mta.plugins.module_utils.core.model import RSA
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan

SPF_LOOKUPS_NEAR = 8  # of 10: whoever we include may add one any day
RSA_BITS_MIN = 1024  # RFC 8301 3.2: verifiers must not accept less
RSA_BITS_GOOD = 2048
RSA_BITS_MAX = 4096  # verifiers must manage that much
CERTIFICATE_DAYS = 14
POLICY_SECONDS_MIN = 86400  # a receiver that forgets the policy within a day is open to a downgrade
DAY = 86400.0
_DOMAIN_KEY = "._domainkey."
_ONE_KEY = "receivers verify a signature with exactly one, and which they take is open (RFC 6376 3.6.2.2)"
NOBODY = "0.0.0.0"  # no pool has it, so an SPF record is followed to its end


# ---- DKIM


def judge_keys(row: Row, shown: Iterable[Sequence[str]], notes: Notes) -> Iterator[Finding]:
    """``shown``: all the values there, by server."""
    if row.record.type != "TXT":
        return
    found = [
        value
        for value in row.record.values
        if _is_selector(row.record.name) or plan.claim(row.record.name, value) == ("version", "dkim1")
    ]
    for value in found:
        yield from _judge_key(row, value, notes, "Give the stream a new selector with a good key")
    most = max(map(len, shown)) if found else 0
    if most > 1:
        yield Finding(row.where, f"{most} records", _ONE_KEY, "Take away all but the key", row.zone.severity)


def _is_selector(name: str) -> bool:
    return _DOMAIN_KEY in name and not name.startswith("_")  # such as _adsp (RFC 5617 4.1)


def judge_alias(row: Row, world: World, notes: Notes) -> Iterator[Finding]:
    """A selector that is delegated by CNAME must lead to exactly one key, which receivers take."""
    if row.record.type != "CNAME" or not _is_selector(row.record.name) or notes.states[row.record.key] != OK:
        return
    target = row.record.values[0]
    # What we declare at its end is judged there.
    if notes.states.get((target, "TXT"), OK) != OK:
        return
    own = notes.stands.get(Question(target, "TXT"))
    answer = own or world.resolver.get(row.record.name, "TXT")
    where = f"{row.record.name} TXT"
    remedy = f"Have the key published at {target}"
    if answer.status == UNKNOWN:
        yield Finding(where, f"unknown ({answer.detail})", UNPROVEN, AGAIN)
    elif not answer.values:
        yield Finding(where, "no key", "the alias leads to a name without one, so signatures fail", remedy)
    else:
        if len(answer.values) > 1 and not own:
            remedy = f"Have one key alone published at {target}"
            yield Finding(where, f"{len(answer.values)} records", _ONE_KEY, remedy)
        for value in answer.values:
            findings = list(_judge_key(row, value, notes, f"Have a good key published at {target}", revoked=bool(own)))
            yield from () if own else findings


def _judge_key(row: Row, value: str, notes: Notes, remedy: str, *, revoked: bool = True) -> Iterator[Finding]:
    """``revoked``: an empty key is what the fleet wants there."""
    selector, _separator, domain = row.record.name.partition(_DOMAIN_KEY)
    try:
        record = policies.parse_dkim(value)
        if not record.public_key:
            if not revoked:
                yield Finding(row.where, "an empty key", "that revokes the selector, so signatures fail", remedy)
            return
        for found, why in policies.dkim_problems(record):
            yield Finding(row.where, found, why, remedy)
        key = keys.key_of_record(record)
    except ValueError as error:
        yield Finding(row.where, f"'{short(value)}'", f"it is no key that a receiver can read: {error}", remedy)
        return
    if domain:  # a key that aliases lead to belongs to the selectors that they are
        notes.sample("mta_dns_dkim_key_size", key.bits, domain=domain, selector=selector)
    if key.algorithm == RSA and key.bits < RSA_BITS_GOOD:
        hard = key.bits < RSA_BITS_MIN
        why = "receivers must not accept less than 1024" if hard else "receivers expect 2048 (RFC 8301 3.2)"
        yield Finding(row.where, f"an RSA key of {key.bits} bits", why, remedy, ERROR if hard else WARNING)
    elif key.algorithm == RSA and key.bits > RSA_BITS_MAX:
        why = f"receivers need not verify more than {RSA_BITS_MAX} (RFC 8301 3.2)"
        yield Finding(row.where, f"an RSA key of {key.bits} bits", why, remedy, WARNING)


# ---- mail exchangers


def judge_mail_exchangers(given: Subject, world: World, notes: Notes) -> Iterator[Finding]:
    """The names that declared MX records lead to have an address, or bounces have nowhere to go."""
    answers = _as_declared(world, notes)
    users: dict[str, list[str]] = {}
    for row in given.rows:
        for value in row.record.values if row.record.type == "MX" and not row.gone else ():
            users.setdefault(value.partition(" ")[2], []).append(row.record.name)
    users.pop("", None)  # "no mail here" (RFC 7505)
    for host, domains in users.items():
        silent = ""
        for rtype in ("A", "AAAA"):
            answer = answers.get(host, rtype)
            if answer.status == YES:
                break
            if answer.status == UNKNOWN:
                silent = silent or answer.detail
        else:
            where = f"{host} A"
            if silent:
                yield Finding(where, f"unknown ({silent})", UNPROVEN, AGAIN)
                continue
            some = ", ".join(domains[:5]) + (f" and {len(domains) - 5} more" if len(domains) > 5 else "")
            why = f"the MX of {some} leads there, so no bounce can be delivered"
            remedy = f"Publish an A or AAAA record of {host} (records of the fleet file), or name another host"
            yield Finding(where, "no address (neither A nor AAAA)", why, remedy)


def _as_declared(world: World, notes: Notes) -> Answers:
    # What a cache still has does not count, and what the servers show otherwise has its finding already.
    return Answers({**world.resolver.known, **notes.stands}, world.resolver.wanted)


# ---- SPF


def judge_spf(given: Subject, world: World, notes: Notes) -> None:
    """Each record passes for the pool's addresses, and costs what a receiver allows even where nothing matches."""
    answers = _as_declared(world, notes)
    senders: dict[str, list[tuple[str, str]]] = {}
    for address in given.addresses:
        stream = given.streams[address["stream"]]
        for name in (stream["return_path"]["domain"], *stream["domains"], address["ehlo"]):
            senders.setdefault(name, []).extend((ip, address["ehlo"]) for ip in address["ips"])
    for name, pool in senders.items():
        notes.findings.extend(_judge_spf_of(name, list(dict.fromkeys(pool)), answers, notes))


def _judge_spf_of(name: str, pool: Sequence[tuple[str, str]], answers: Answers, notes: Notes) -> Iterator[Finding]:
    where = f"{name} TXT (SPF)"
    worst = spf.evaluate(NOBODY, name, answers)
    notes.sample("mta_dns_spf_lookups", worst.lookups, domain=name)
    if worst.result == UNKNOWN:
        yield Finding(where, f"unknown ({worst.why})", UNPROVEN, AGAIN)
        return
    if worst.result == spf.PERMERROR:
        why = "a receiver that follows it to the end calls it broken"
        yield Finding(where, worst.why, why, "Use fewer includes, and only such that work")
        return
    if worst.lookups >= SPF_LOOKUPS_NEAR:
        found = f"{worst.lookups} of {policies.SPF_MAX_LOOKUPS} DNS lookups"
        why = "one more in a record that it includes breaks it"
        yield Finding(where, found, why, "Use fewer includes", WARNING)
    failing: dict[tuple[str, str], list[str]] = {}
    for ip, ehlo in pool:
        result = spf.evaluate(ip, name, answers, sender=f"postmaster@{name}", ehlo=ehlo)
        if result.result != spf.PASS:
            failing.setdefault((result.result, result.why), []).append(ip)
    for (verdict, reason), ips in failing.items():
        some = ", ".join(ips[:5]) + (f" and {len(ips) - 5} more" if len(ips) > 5 else "")
        yield Finding(f"{where} for {some}", verdict, f"a receiver's SPF check says so: {reason}", DNS)


# ---- MTA-STS


def announces_policy(row: Row) -> bool:
    return row.record.type == "TXT" and row.record.name.startswith("_mta-sts.") and not row.held


def judge_policy(row: Row, world: World, notes: Notes) -> None:
    domain = row.record.name.partition(".")[2]
    if not announces_policy(row) or domain not in world.policies:
        return
    fetched = world.policies[domain]
    if fetched.expires is not None:
        notes.sample("mta_mta_sts_certificate_expires_timestamp_seconds", fetched.expires, domain=domain)
    notes.findings.extend(_policy_problems(row, domain, fetched, world.now))


def _policy_problems(row: Row, domain: str, fetched: Fetched, now: float) -> Iterator[Finding]:
    url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
    serve = "Serve the derived policy there"
    if fetched.expires is not None and fetched.expires - now < CERTIFICATE_DAYS * DAY:
        days = int((fetched.expires - now) // DAY)
        why = "senders refuse the policy once it is over (RFC 8461 3.3)"
        yield Finding(url, f"a certificate for {days} more days", why, "Renew it", WARNING)
    if fetched.problem:
        why = "senders that cannot fetch the policy do without it"
        yield Finding(url, fetched.problem, why, serve)
        return
    try:
        policy = policies.parse_mta_sts_policy(fetched.body)
    except ValueError as error:
        yield Finding(url, f"'{short(fetched.body)}'", f"it is no policy: {error}", serve)
        return
    announced = next((value for value in row.record.values if value.startswith("v=STSv1")), "")
    if _policy_id(policy.text) != _record_id(announced):
        why = f"it is not the policy whose id {row.record.name} announces, so senders keep the wrong one"
        yield Finding(url, f"mode {policy.mode}, mx {', '.join(policy.mx) or 'none'}", why, serve)
        return
    if policy.mode == "none":
        why = "it protects nothing, but is announced"
        yield Finding(url, "mode none", why, "Choose testing or enforce, or announce it no more", WARNING)
    elif policy.max_age_seconds < POLICY_SECONDS_MIN:
        why = "senders forget it within a day, and an attacker only has to wait"
        yield Finding(url, f"max_age {policy.max_age_seconds}", why, "Choose a week or more", WARNING)


def _policy_id(policy: str) -> str:
    return policies.parse_mta_sts_record(policies.mta_sts_record(policy)).id


def _record_id(text: str) -> str:
    try:
        return policies.parse_mta_sts_record(text).id
    except ValueError:
        return ""


# ---- reverse names that somebody else publishes


def judge_foreign_reverse(given: Subject, world: World, notes: Notes) -> Iterator[Finding]:
    declared = {row.record.name for row in given.rows if row.record.type == "PTR"}
    reported = {
        value
        for row in given.rows
        if row.record.type == "PTR" and notes.states[row.record.key] != OK
        for value in row.record.values
    }
    for address in given.addresses:
        for ip in address["ips"]:
            name = names.reverse_name(ip)
            # A declared PTR elsewhere is what a classless delegation leads to (RFC 2317).
            if name in declared or address["ehlo"] in reported:
                continue
            answer = world.resolver.get(name, "PTR")
            if answer.values == (address["ehlo"],):
                continue
            found = f"unknown ({answer.detail})" if answer.status == UNKNOWN else listed(answer.values)
            why = f"{ip} says EHLO {address['ehlo']}, and receivers refuse mail whose reverse name is another"
            remedy = f"Have whoever runs the address set it to {address['ehlo']} (docs/ptr.md)"
            yield Finding(f"{name} PTR", found, why, remedy)
