# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that the fleet file takes for all streams and in each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines import receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA, Bimi, Caa, Dkim, Dmarc, MtaSts
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, shown
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan

_EMPTY = ("missing", "every share is 0")  # what findings say of a place without a value
_SELECTOR = re.compile(r"(?!-)[a-z0-9-]{1,40}(?<!-)\Z")  # a date and the algorithm may follow in the same label
_ISSUER = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]+(?: *; *[a-z0-9]+=[!#-:<-~]*)*\Z")
_DMARC_HINTS = {
    "pct": "RFC 9989 dropped pct; receivers ignore it",
    "rf": "RFC 9989 dropped rf",
    "ri": "RFC 9989 dropped ri",
}


_DKIM_KEYS = (
    "algorithms",
    "rsa_bits",
    "selector",
    "delegate",
    "slots",
    "rotation",
    "first_key",
    "margin_seconds",
    "keep_retired_seconds",
)
_KEEP_BEYOND_QUEUE = 172800  # seconds: queues of others on the way hold the mail as well


def dkim(root: Reader, stream: Reader, queue_life_seconds: int, algorithms: tuple[str, ...]) -> Dkim:
    """``algorithms`` are those that every engine of the stream signs with; a file that asks for others is told so."""
    value = Dkim(algorithms=algorithms, rsa_bits=2048, selector="s1", quarters=(1, 3))
    keep = queue_life_seconds + _KEEP_BEYOND_QUEUE
    for reader in (root.mapping("dkim"), stream.mapping("dkim")):
        reader.known(_DKIM_KEYS)
        selector = reader.text("selector", value.selector)
        if reader.has("selector") and not _SELECTOR.match(selector):
            reader.refuse(
                "selector",
                shown(selector),
                "no selector of 63 characters can begin with it, for a date and the algorithm follow",
                "Write 1 to 40 small letters, digits and inner hyphens",
            )
            selector = value.selector
        every_days, quarters = _rotation(reader.mapping("rotation"), value)
        # Two months at most, so that a key which quarters replace is gone before the next is due.
        keep = reader.integer("keep_retired_seconds", 60, 5184000, keep)
        rsa_bits = reader.integer("rsa_bits", 2048, 4096, value.rsa_bits)
        if rsa_bits % 1024:
            reader.refuse("rsa_bits", shown(rsa_bits), "it is no usual key size", "Write 2048, 3072 or 4096")
            rsa_bits = value.rsa_bits
        value = Dkim(
            algorithms=reader.choices("algorithms", (RSA, ED25519), value.algorithms),
            rsa_bits=rsa_bits,
            selector=selector,
            delegate=reader.domain("delegate", value.delegate),
            slots=_slots(reader) or value.slots,
            every_days=every_days,
            quarters=quarters,
            first_key=reader.choice("first_key", ("now", "wait"), value.first_key),
            margin_seconds=reader.integer("margin_seconds", 0, 604800, value.margin_seconds),
            keep_retired_seconds=keep,
        )
    return value


def _rotation(reader: Reader, value: Dkim) -> tuple[Optional[int], tuple[int, ...]]:
    """At which age, and at the beginning of which quarters, a key is replaced. ``every_days: 0`` is neither."""
    reader.known(("every_days", "quarters"))
    if reader.has("every_days") and reader.has("quarters"):
        reader.refuse(
            "quarters",
            shown(reader.data["quarters"]),
            "a key is replaced by its age or by the calendar, and every_days says its age",
            "Remove one of the two",
        )
    if reader.has("every_days"):
        return reader.integer("every_days", 0, 3650) or None, ()
    if reader.has("quarters"):
        return None, tuple(sorted(reader.integers("quarters", 1, 4)))
    return value.every_days, value.quarters


def _slots(reader: Reader) -> tuple[str, ...]:
    slots = reader.words("slots", _SELECTOR, "selector")
    if reader.has("slots") and len(slots) < 2:
        why = "a key and the one that replaces it are published at the same time"
        reader.refuse("slots", shown(reader.data["slots"]), why, "Write two or more, such as [a, b]")
    for number, slot in enumerate(slots):
        if slot.endswith(f"-{ED25519}"):
            place = f"slots[{number}]"
            reader.refuse(place, shown(slot), "the Ed25519 key of another slot would have this name", "Rename it")
    return slots


_POLICIES = ("none", "quarantine", "reject")
_DMARC_KEYS = (
    "policy",
    "subdomain_policy",
    "missing_policy",
    "testing",
    "rua",
    "alignment_dkim",
    "alignment_spf",
    "rua_authorised",
)


def _dmarc_tags(reader: Reader, value: Dmarc) -> Dmarc:
    return Dmarc(
        policy=reader.choice("policy", _POLICIES, value.policy),
        subdomain_policy=reader.choice("subdomain_policy", _POLICIES, value.subdomain_policy),
        rua=reader.mailboxes("rua") or value.rua,
        alignment_dkim=reader.choice("alignment_dkim", ("r", "s"), value.alignment_dkim),
        alignment_spf=reader.choice("alignment_spf", ("r", "s"), value.alignment_spf),
        rua_authorised=reader.domains("rua_authorised") or value.rua_authorised,
        missing_policy=reader.choice("missing_policy", _POLICIES, value.missing_policy),
        testing=reader.boolean("testing", value.testing),
        inherit=reader.boolean("inherit", value.inherit),
    )


def _default_dmarc(domain: str) -> Dmarc:
    return Dmarc("none", None, (f"dmarc@{domain}",), "r", "r", ())


def dmarc(root: Reader, stream: Reader, domain: str, organisational: Optional[Dmarc]) -> Dmarc:
    value = _default_dmarc(domain)
    for reader in (root.mapping("dmarc"), stream.mapping("dmarc")):
        reader.known((*_DMARC_KEYS, "inherit"), _DMARC_HINTS)
        value = _dmarc_tags(reader, value)
        own = [key for key in _DMARC_KEYS if reader.has(key)] if value.inherit else []
        if own:
            reader.refuse(
                own[0],
                shown(reader.data[own[0]]),
                "the stream inherits its policy and publishes none of its own",
                f"Write it in organisational_dmarc, or inherit: false{'' if reader is root else ' here'}",
            )
    return replace(organisational or value, inherit=True) if value.inherit else value


def organisational_dmarc(root: Reader, domain: str) -> Optional[Dmarc]:
    if "organisational_dmarc" not in root.data:
        return None
    reader = root.mapping("organisational_dmarc")
    reader.known(_DMARC_KEYS, _DMARC_HINTS)
    return _dmarc_tags(reader, _default_dmarc(domain))


def mta_sts(root: Reader, stream: Reader) -> MtaSts:
    value = MtaSts(mode="none", max_age_seconds=604800)
    for reader in (root.mapping("mta_sts"), stream.mapping("mta_sts")):
        reader.known(("mode", "max_age_seconds", "host", "addresses", "cname"))
        value = replace(
            value,
            mode=reader.choice("mode", ("none", "testing", "enforce"), value.mode),
            max_age_seconds=reader.integer("max_age_seconds", 86400, 31557600, value.max_age_seconds),
        )
        served = reader.has("host") or reader.has("addresses")
        if served and reader.has("cname"):
            reader.refuse(
                "cname",
                shown(reader.data["cname"]),
                "the policy host is either an alias or has addresses",
                "Remove cname, or remove host and addresses",
            )
        elif reader.has("cname"):
            value = replace(value, host=None, addresses=(), cname=reader.domain("cname"))
        elif served:
            value = replace(
                value,
                host=reader.text("host", value.host),
                addresses=reader.ips("addresses") or value.addresses,
                cname=None,
            )
    return value


def bimi(root: Reader, stream: Reader) -> Optional[Bimi]:
    reader = stream.mapping("bimi") if "bimi" in stream.data else root.mapping("bimi")
    if not reader.data:
        return None
    reader.known(("logo", "evidence"))
    reader.require("logo", "the URL of the logo")
    logo = reader.url("logo", ("https",))
    if logo and not logo.lower().endswith(".svg"):
        reader.refuse("logo", shown(logo), "mailbox operators show SVG files only", "Write the URL of the .svg file")
    return Bimi(logo, reader.url("evidence", ("https",)) or "") if logo else None


def caa(root: Reader, stream: Reader) -> Optional[Caa]:
    if "caa" in stream.data and not stream.data["caa"]:  # the stream switches it off
        return None
    value = None
    for reader in (root.mapping("caa"), stream.mapping("caa")):
        reader.known(("issue", "issuewild", "iodef"))
        if not reader.data:
            continue
        value = value or Caa((), (), None)
        issue = reader.words("issue", _ISSUER, "name of a certificate authority")
        issuewild = reader.words("issuewild", _ISSUER, "name of a certificate authority")
        iodef = reader.url("iodef", ("mailto", "https"))
        value = Caa(
            issue=issue if "issue" in reader.data else value.issue,
            issuewild=issuewild if "issuewild" in reader.data else value.issuewild,
            iodef=iodef if "iodef" in reader.data else value.iodef,
        )
    return value


def verifications(root: Reader, stream: Reader) -> tuple[str, ...]:
    def problem(text: str) -> Optional[str]:
        kind, what = plan.claim("", text)
        return f"it would stand beside the fleet's own {what} record" if kind == "version" else None

    return (stream if "verifications" in stream.data else root).texts("verifications", problem)


def max_message_bytes(reader: Reader, default: int) -> int:
    """At most what the signer reads (dkim_max_message_bytes of the role dkim) without trace fields."""
    return int(reader.integer("max_message_bytes", 65536, 104857600, default))


def warmup(root: Reader, stream: Reader) -> tuple[int, ...]:
    value: tuple[int, ...] = receivers.WARMUP_MESSAGES_PER_DAY
    for reader in (root.mapping("warmup"), stream.mapping("warmup")):
        reader.known(("messages_per_day",))
        if reader.has("messages_per_day"):
            value = reader.integers("messages_per_day", 1, 100_000_000, distinct=False) or value
    return value


def once(findings: Sequence[Finding], document: Mapping[str, Any]) -> list[Finding]:
    """What the fleet sets for all streams is judged in each: one finding, at the place where the file says it."""
    streams: dict[Finding, list[str]] = {}
    firsts: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        steps = _steps(finding.where)
        fleets = steps[2:]
        if steps[:1] == ["streams"] and _stands(document, fleets) and not _stands(document, steps):
            general = replace(finding, where=finding.where.split(".", 2)[2])
            key = (general.where, general.found, general.severity)
            first = firsts.setdefault(key, general)
            streams.setdefault(first, []).append(steps[1])
        else:
            streams.setdefault(finding, [])
    # What is wrong beneath a place is no part of the value there: the place seems to be empty, and is not.
    wrong = {
        finding.where[: part.start()]
        for finding in streams
        if finding.found not in _EMPTY
        for part in re.finditer(r"[.\[]|\Z", finding.where)
    }
    streams = {
        finding: names
        for finding, names in streams.items()
        if finding.found not in _EMPTY or finding.where not in wrong
    }
    return [
        replace(finding, why=f"{finding.why} (stream{'s' if len(names) > 1 else ''} {', '.join(names)})")
        if names
        else finding
        for finding, names in ((finding, list(dict.fromkeys(names))) for finding, names in streams.items())
    ]


def _steps(where: str) -> list[str]:
    return re.sub(r"\[(\d+)\]", r".\1", where).split(".")


def _stands(document: Any, steps: Sequence[str]) -> bool:
    """Whether the file has a value at this place. A list counts as a whole, for streams replace it as a whole."""
    for step in steps:
        if isinstance(document, list):
            break
        if not isinstance(document, Mapping) or step not in document:
            return False
        document = document[step]
    return bool(steps)
