# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPF evaluated as a receiver does (RFC 7208 4), over answers that are known already.

It says ``unknown`` where an answer is missing; ``temperror`` is what a receiver would call that.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional, Union
from urllib.parse import quote

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, UNKNOWN, Answer, Answers
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies

PASS = "pass"
FAIL = "fail"
SOFTFAIL = "softfail"
NEUTRAL = "neutral"
NONE = "none"
PERMERROR = "permerror"
_RESULT = {"+": PASS, "-": FAIL, "~": SOFTFAIL, "?": NEUTRAL}
_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
_MAX_WAITING = 1000  # bytes of a policy for some days; its answer may come by TCP
# Characters of a record that is evaluated. RFC 7208 3.4 wants some 450; real ones have up to 2,000. Ours keep below:
# they have SPF_MAX_TEXT characters, or _MAX_WAITING for some days.
_MAX_TEXT = 4096
_MAX_DIGITS = 3  # of a macro; a name has 127 labels at most
_MAX_NAMES = 10  # RFC 7208 4.6.4: MX names of one term, PTR names
_MACRO = re.compile(r"%(?:\{([a-z])(\d*)(r?)([.\-+,/_=]*)\}|([%_-]))", re.IGNORECASE)


@dataclass(frozen=True)
class SpfResult:
    result: str
    why: str
    lookups: int
    voids: int


class _Stop(Exception):
    def __init__(self, result: str, why: str) -> None:
        super().__init__(why)
        self.result = result
        self.why = why


class _Check:
    """One check_host() with the counters that its includes share."""

    def __init__(self, ip: str, sender: str, ehlo: str, answers: Answers) -> None:
        self.ip = ipaddress.ip_address(ip)
        self.sender = sender
        self.ehlo = ehlo
        self.answers = answers
        self.lookups = 0
        self.voids = 0

    def ask(self, name: str, rtype: str) -> Answer:
        answer = self.answers.get(name, rtype)
        if answer.status == UNKNOWN:
            raise _Stop(UNKNOWN, f"{name} {rtype}: {answer.detail}")
        return answer

    def count_lookup(self) -> None:
        self.lookups += 1
        if self.lookups > policies.SPF_MAX_LOOKUPS:
            raise _Stop(PERMERROR, f"it costs more than {policies.SPF_MAX_LOOKUPS} DNS lookups")

    def ask_counting_voids(self, name: str, rtype: str) -> Answer:
        answer = self.ask(name, rtype)
        if answer.status == NO:
            self.voids += 1
            if self.voids > policies.SPF_MAX_VOIDS:
                raise _Stop(
                    PERMERROR,
                    f"more than {policies.SPF_MAX_VOIDS} of its lookups find nothing, the last {name} {rtype}",
                )
        return answer

    def host(self, domain: str) -> tuple[str, str]:
        answer = self.ask(domain, "TXT")
        texts = [text for text in answer.values if policies.is_spf(text)]
        if not texts:
            return NONE, f"{domain} has no SPF record"
        if len(texts) > 1:
            raise _Stop(PERMERROR, f"{domain} has {len(texts)} SPF records")
        if len(texts[0]) > _MAX_TEXT:
            raise _Stop(PERMERROR, f"the SPF record of {domain} has {len(texts[0])} characters; {_MAX_TEXT} are read")
        try:
            record = policies.parse_spf(texts[0])
        except ValueError as error:
            raise _Stop(PERMERROR, f"{domain}: {error}") from error
        for mechanism in record.mechanisms:
            if self.matches(mechanism, domain):
                return _RESULT[mechanism.qualifier], f"{domain}: '{mechanism.text}' matches"
        if record.redirect and not any(mechanism.name == "all" for mechanism in record.mechanisms):
            self.count_lookup()
            target = self.expand(record.redirect, domain)
            result, why = self.host(target)
            if result == NONE:
                raise _Stop(PERMERROR, f"{domain} redirects to {target}, which has no SPF record")
            return result, why
        return NEUTRAL, f"{domain}: nothing in its record matches"

    def matches(self, mechanism: policies.Mechanism, domain: str) -> bool:
        if mechanism.name == "all":
            return True
        if mechanism.network:
            network = ipaddress.ip_network(mechanism.network)
            return network.version == self.ip.version and self.ip in network
        self.count_lookup()
        target = self.expand(mechanism.domain, domain) if mechanism.domain else domain
        if mechanism.name == "include":
            result = self.host(target)[0]
            if result == NONE:
                raise _Stop(PERMERROR, f"{domain} includes {target}, which has no SPF record")
            return result == PASS
        if mechanism.name == "exists":
            return bool(self.ask_counting_voids(target, "A").values)
        if mechanism.name == "a":
            return self.name_has_ip(target, mechanism)
        if mechanism.name == "mx":
            return self.mx_has_ip(target, mechanism)
        return any(names.is_within(name, target) for name in self.validated_names())

    def family(self) -> str:
        return "A" if self.ip.version == 4 else "AAAA"

    def name_has_ip(self, name: str, mechanism: policies.Mechanism) -> bool:
        prefix = mechanism.prefix4 if self.ip.version == 4 else mechanism.prefix6
        found = self.ask_counting_voids(name, self.family()).values
        return any(self.ip in ipaddress.ip_network(f"{value}/{prefix}", strict=False) for value in found)

    def mx_has_ip(self, name: str, mechanism: policies.Mechanism) -> bool:
        hosts = [value.partition(" ")[2] for value in self.ask_counting_voids(name, "MX").values]
        if len(hosts) > _MAX_NAMES:
            raise _Stop(PERMERROR, f"{name} has more than {_MAX_NAMES} MX records")
        # RFC 7208 5.4: every host is looked up before any is compared, so that the order of an answer, which servers
        # shuffle, does not decide how many lookups find nothing.
        found = [self.name_has_ip(host, mechanism) for host in hosts if host]
        return any(found)

    def validated_names(self) -> list[str]:
        pointers = self.ask_counting_voids(names.reverse_name(str(self.ip)), "PTR").values[:_MAX_NAMES]
        return [name for name in pointers if str(self.ip) in self.ask(name, self.family()).values]

    def expand(self, text: str, domain: str) -> str:
        def value(match: re.Match[str]) -> str:
            letter, digits, reverse, delimiters, literal = match.groups()
            if literal:
                return {"%": "%", "_": " ", "-": "%20"}[literal]
            local, _at, sender_domain = self.sender.rpartition("@")
            nibbles = ".".join(self.ip.packed.hex())
            known = {
                "s": self.sender,
                "l": local or "postmaster",
                "o": sender_domain,
                "d": domain,
                "i": str(self.ip) if self.ip.version == 4 else nibbles,
                "v": "in-addr" if self.ip.version == 4 else "ip6",
                "h": self.ehlo,
            }
            if letter.lower() == "p":
                known["p"] = next(iter(self.validated_names()), "unknown")
            if letter.lower() not in known:
                raise _Stop(PERMERROR, f"the macro '{match.group(0)}' may not stand in a mechanism")
            if len(digits) > _MAX_DIGITS:
                raise _Stop(PERMERROR, f"a macro of {domain} keeps a number of parts with {len(digits)} digits")
            if digits and not int(digits):
                raise _Stop(PERMERROR, f"the macro '{match.group(0)}' keeps nothing")
            return _transformed(
                known[letter.lower()], int(digits or 0), bool(reverse), delimiters or ".", letter.isupper()
            )

        name = _MACRO.sub(value, text).rstrip(".").lower()
        if len(name) > names.MAX_NAME:  # RFC 7208 7.3: labels go from the left until it fits
            name = name[-names.MAX_NAME - 1 :].partition(".")[2]
        return name


@lru_cache(maxsize=4096)  # a policy of hundreds of macros is evaluated once for each address of a pool
def _transformed(value: str, kept: int, reverse: bool, delimiters: str, escaped: bool) -> str:
    """The last ``kept`` parts of ``value``, all where it is 0 (RFC 7208 7.3)."""
    parts = re.split(f"[{re.escape(delimiters)}]", value)
    text = ".".join((parts[::-1] if reverse else parts)[-kept:])
    return quote(text, safe="") if escaped else text


def evaluate(ip: str, domain: str, answers: Answers, *, sender: str = "", ehlo: str = "") -> SpfResult:
    """What a receiver that gets mail from ``ip`` makes of ``domain``'s record."""
    check = _Check(ip, sender or f"postmaster@{domain}", ehlo or domain, answers)
    try:
        result, why = check.host(domain)
    except _Stop as stop:
        result, why = stop.result, stop.why
    return SpfResult(result, why, check.lookups, check.voids)


def widened(new: str, old: str) -> Optional[str]:
    """``new`` with the networks and includes that ``old`` lets send and ``new`` does not; ``new`` where none are left.

    None where the two together would break a limit: a policy that receivers reject helps nobody.
    """
    try:
        wanted, standing = policies.parse_spf(new), policies.parse_spf(old)
    except ValueError:
        return new
    allowed = [ipaddress.ip_network(each.network) for each in wanted.mechanisms if _allows(each) and each.network]
    networks = [ipaddress.ip_network(each.network) for each in standing.mechanisms if _allows(each) and each.network]
    includes = [each for each in standing.mechanisms if _allows(each) and each.name == "include"]
    more = [net for net in networks if not any(_within(net, has) for has in allowed)]
    added = [each for each in includes if each not in wanted.mechanisms]
    if not more and not added:
        return new
    rest = [each for each in wanted.mechanisms if not (_allows(each) and each.network)]
    networks_text = policies.spf_networks(map(str, (*allowed, *more)))
    united = policies.Spf(
        (
            *(policies.Mechanism("+", "ip6" if names.is_ipv6(each) else "ip4", network=each) for each in networks_text),
            *added,
            *rest,
        ),
        wanted.modifiers,
    )
    fits = united.lookups <= policies.SPF_MAX_LOOKUPS and len(united.text) <= _MAX_WAITING
    return united.text if fits else None


def _within(inner: _Network, outer: _Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _allows(mechanism: policies.Mechanism) -> bool:
    return mechanism.qualifier == "+"
