# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that the fleet file takes at the top level, for every stream, and in each stream: ``KEYS`` and receivers.

One rule for all of them: the value of the stream replaces the value of the fleet, and that replaces the default.
Mappings are merged key by key, every other value is replaced as a whole. An empty value (null, '', [], {}) switches a
key off: the stream has nothing there, or the default where a stream cannot do without a value.

Each mapping of the file is read once, into ``Settings``. ``merge`` puts those of a stream over those of the fleet, and
the functions below "values of the model" make the values of a stream from the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, TypeVar

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import (
    ED25519,
    RSA,
    Bimi,
    Caa,
    Dkim,
    Dmarc,
    MtaSts,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import EMPTY, Reader, shown
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan

_T = TypeVar("_T")
# What one mapping of the file says: the value of each key that is written there and right. None: the default.
Settings = Mapping[str, Any]

NO_VALUE = ("missing", "every share is 0")  # what findings say of a place without a value
TTL_SECONDS = 3600
_KEEP_BEYOND_QUEUE = 172800  # seconds: queues of others on the way hold the mail as well
_SELECTOR = re.compile(r"(?!-)[a-z0-9-]{1,40}(?<!-)\Z")  # a date and the algorithm may follow in the same label
_ISSUER = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]+(?: *; *[a-z0-9]+=[!#-:<-~]*)*\Z")


# ---- the rule


@dataclass(frozen=True)
class Key:
    """One key: how its value is read, and what a stream has that switches it off (None: the default).

    ``read`` returns None or () after it noted a finding.
    """

    read: Callable[[Reader, str], Any]
    off: Any = None


def read_settings(reader: Reader, keys: Mapping[str, Key]) -> dict[str, Any]:
    """What a mapping says of ``keys``. A wrong value is a finding and counts as not written."""
    found: dict[str, Any] = {}
    for name, key in keys.items():
        if name in reader.data and not reader.has(name):
            found[name] = key.off
        elif name in reader.data:
            value = key.read(reader, name)
            if value is not None and value != ():
                found[name] = value
    return found


def merge(fleet: Settings, own: Settings) -> Settings:
    """What a stream says over what the fleet says."""
    merged = {**fleet, **own}
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(fleet.get(key), Mapping):
            merged[key] = merge(fleet[key], value)
    return merged


def applied(default: _T, settings: Optional[Settings]) -> _T:
    """A value of the model, with what the settings say in the place of its defaults."""
    value: Any = default
    result: _T = replace(value, **{key: said for key, said in (settings or {}).items() if said is not None})
    return result


def one_of(*allowed: str) -> Key:
    return Key(lambda reader, key: reader.choice(key, allowed))


def number(low: int, high: int) -> Key:
    return Key(lambda reader, key: reader.integer(key, low, high))


def mapping(keys: Mapping[str, Key], hints: Optional[Mapping[str, str]] = None) -> Key:
    def read(reader: Reader, key: str) -> Settings:
        inner = reader.mapping(key)
        inner.known(tuple(keys), hints)
        return read_settings(inner, keys)

    return Key(read)


# ---- the keys


def _rsa_bits(reader: Reader, key: str) -> Optional[int]:
    bits: Optional[int] = reader.integer(key, 2048, 4096)
    if bits is None or bits % 1024 == 0:
        return bits
    reader.refuse(key, shown(bits), "it is no usual key size", "Write 2048, 3072 or 4096")
    return None


def _selector(reader: Reader, key: str) -> Optional[str]:
    selector: Optional[str] = reader.text(key)
    if selector is None or _SELECTOR.match(selector):
        return selector
    reader.refuse(
        key,
        shown(selector),
        "no selector of 63 characters can begin with it, for a date and the algorithm follow",
        "Write 1 to 40 small letters, digits and inner hyphens",
    )
    return None


def _slots(reader: Reader, key: str) -> tuple[str, ...]:
    slots = reader.words(key, _SELECTOR, "selector")
    if len(slots) < 2:
        why = "a key and the one that replaces it are published at the same time"
        reader.refuse(key, shown(reader.data[key]), why, "Write two or more, such as [a, b]")
    for position, slot in enumerate(slots):
        if slot.endswith(f"-{ED25519}"):
            place = f"{key}[{position}]"
            reader.refuse(place, shown(slot), "the Ed25519 key of another slot would have this name", "Rename it")
    return slots


_ROTATION = {
    "every_days": number(0, 3650),
    "quarters": Key(lambda reader, key: tuple(sorted(reader.integers(key, 1, 4)))),
}


def _rotation(reader: Reader, key: str) -> Settings:
    """At which age, or at the beginning of which quarters, a key is replaced. ``every_days: 0`` is neither."""
    inner = reader.mapping(key)
    inner.known(tuple(_ROTATION))
    if inner.has("every_days") and inner.has("quarters"):
        inner.refuse(
            "quarters",
            shown(inner.data["quarters"]),
            "a key is replaced by its age or by the calendar, and every_days says its age",
            "Remove one of the two",
        )
    return _instead(read_settings(inner, _ROTATION), ("every_days",), ("quarters",))


def _instead(settings: Settings, *alternatives: Sequence[str]) -> Settings:
    """Of keys that exclude each other, those that are written switch off the others, which the fleet may have."""
    off: dict[str, Any] = {}
    for keys in alternatives:
        if any(settings.get(key) is not None for key in keys):
            off.update({key: None for others in alternatives if others is not keys for key in others})
    return {**off, **settings}


_MTA_STS = {
    "mode": one_of("none", "testing", "enforce"),
    "max_age_seconds": number(86400, 31557600),
    "host": Key(Reader.text),
    "addresses": Key(Reader.ips),
    "cname": Key(Reader.domain),
}


def _mta_sts(reader: Reader, key: str) -> Settings:
    inner = reader.mapping(key)
    inner.known(tuple(_MTA_STS))
    if inner.has("cname") and (inner.has("host") or inner.has("addresses")):
        inner.refuse(
            "cname",
            shown(inner.data["cname"]),
            "the policy host is either an alias or has addresses",
            "Remove cname, or remove host and addresses",
        )
        return read_settings(inner, {key: _MTA_STS[key] for key in ("mode", "max_age_seconds")})
    return _instead(read_settings(inner, _MTA_STS), ("cname",), ("host", "addresses"))


def _logo(reader: Reader, key: str) -> Optional[str]:
    logo = reader.url(key, ("https",))
    if logo and not logo.lower().endswith(".svg"):
        reader.refuse(key, shown(logo), "mailbox operators show SVG files only", "Write the URL of the .svg file")
    return logo


def _verifications(reader: Reader, key: str) -> tuple[str, ...]:
    def problem(text: str) -> Optional[str]:
        kind, what = plan.claim("", text)
        return f"it would stand beside the fleet's own {what} record" if kind == "version" else None

    return reader.texts(key, problem)


def _issuers(reader: Reader, key: str) -> tuple[str, ...]:
    return reader.words(key, _ISSUER, "name of a certificate authority")


_policy = one_of("none", "quarantine", "reject")
_DMARC_TAGS = {
    "policy": _policy,
    "subdomain_policy": _policy,
    "missing_policy": _policy,
    "testing": Key(Reader.boolean),
    "rua": Key(Reader.mailboxes, off=()),
    "alignment_dkim": one_of("r", "s"),
    "alignment_spf": one_of("r", "s"),
    "rua_authorised": Key(Reader.domains),
}
_DMARC_HINTS = {
    "pct": "RFC 9989 dropped pct; receivers ignore it",
    "rf": "RFC 9989 dropped rf",
    "ri": "RFC 9989 dropped ri",
}
KEYS: Mapping[str, Key] = {
    "dkim": mapping(
        {
            "algorithms": Key(lambda reader, key: reader.choices(key, (RSA, ED25519), ())),
            "rsa_bits": Key(_rsa_bits),
            "selector": Key(_selector),
            "delegate": Key(Reader.domain),
            "slots": Key(_slots),
            "rotation": Key(_rotation),
            "first_key": one_of("now", "wait"),
            "margin_seconds": number(0, 604800),
            # Two months at most, so that a key which quarters replace is gone before the next is due.
            "keep_retired_seconds": number(60, 5184000),
        }
    ),
    "dmarc": mapping({**_DMARC_TAGS, "inherit": Key(Reader.boolean)}, _DMARC_HINTS),
    "mta_sts": Key(_mta_sts),
    "tls_rpt": Key(Reader.mailboxes, off=()),
    "bimi": mapping({"logo": Key(_logo), "evidence": Key(lambda reader, key: reader.url(key, ("https",)))}),
    "caa": mapping(
        {
            "issue": Key(_issuers),
            "issuewild": Key(_issuers),
            "iodef": Key(lambda reader, key: reader.url(key, ("mailto", "https"))),
        }
    ),
    "verifications": Key(_verifications),
    "ttl_seconds": number(30, 86400),
    "queue_life_seconds": number(60, 2592000),
    "warmup": mapping(
        {"messages_per_day": Key(lambda reader, key: reader.integers(key, 1, 100_000_000, distinct=False))}
    ),
    # At most what the signer reads (dkim_max_message_bytes of the role dkim) without trace fields.
    "max_message_bytes": number(65536, 104857600),
    "remove_received": Key(Reader.boolean),
}


# ---- values of the model


def dkim(settings: Optional[Settings], queue_life_seconds: int, algorithms: tuple[str, ...]) -> Dkim:
    """``algorithms`` are those that every engine of the stream signs with; a file that asks for others is told so."""
    rotation = dict((settings or {}).get("rotation") or {})
    if rotation.get("every_days") is None and rotation.get("quarters") is None:
        rotation["quarters"] = (1, 3)
    rotation["every_days"] = rotation.get("every_days") or None  # 0: on demand only
    default = Dkim(
        algorithms=algorithms,
        rsa_bits=2048,
        selector="s1",
        keep_retired_seconds=queue_life_seconds + _KEEP_BEYOND_QUEUE,
    )
    return applied(default, {**(settings or {}), **rotation, "rotation": None})


def dmarc(settings: Optional[Settings], domain: str) -> Dmarc:
    return applied(Dmarc("none", None, (f"dmarc@{domain}",), "r", "r", ()), settings)


def refuse_own_policy(reader: Reader, settings: Settings, remedy: str) -> None:
    """A stream that inherits its policy publishes none, so the tags of one at ``reader`` have no effect."""
    inner = reader.mapping("dmarc")
    tags = [tag for tag in _DMARC_TAGS if inner.has(tag)]
    if tags and (settings.get("dmarc") or {}).get("inherit"):
        inner.refuse(
            tags[0],
            shown(inner.data[tags[0]]),
            "the stream inherits its policy and publishes none of its own",
            remedy,
        )


def organisational_dmarc(root: Reader, domain: str) -> Optional[Dmarc]:
    key = "organisational_dmarc"
    settings = read_settings(root, {key: mapping(_DMARC_TAGS, _DMARC_HINTS)}).get(key)
    return None if settings is None else dmarc(settings, domain)


def mta_sts(settings: Optional[Settings]) -> MtaSts:
    return applied(MtaSts(mode="none", max_age_seconds=604800), settings)


def bimi(reader: Reader, settings: Optional[Settings]) -> Optional[Bimi]:
    """``reader`` is at the mapping in which a missing logo has to be written."""
    logo = (settings or {}).get("logo")
    if reader.data and not logo:
        reader.require("logo", "the URL of the logo")
    return applied(Bimi(logo, ""), settings) if logo else None


def caa(settings: Optional[Settings]) -> Optional[Caa]:
    return None if settings is None else applied(Caa((), (), None), settings)


# ---- findings


def at_their_place(findings: Sequence[Finding], document: Mapping[str, Any]) -> list[Finding]:
    """What the fleet says is judged in each stream: one finding, at the place where the file says it."""
    streams: dict[Finding, list[str]] = {}
    firsts: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        section, *steps = _steps(finding.where)
        if section == "streams" and _is_of_the_fleet(document, steps):
            general = replace(finding, where=finding.where.split(".", 2)[2])
            key = (general.where, general.found, general.severity)
            first = firsts.setdefault(key, general)
            streams.setdefault(first, []).append(steps[0])
        else:
            streams.setdefault(finding, [])
    # What is wrong beneath a place is no part of the value there: the place seems to be empty, and is not.
    wrong = {
        finding.where[: part.start()]
        for finding in streams
        if finding.found not in NO_VALUE
        for part in re.finditer(r"[.\[]|\Z", finding.where)
    }
    return [
        replace(finding, why=f"{finding.why} (stream{'s' if len(names) > 1 else ''} {', '.join(names)})")
        if names
        else finding
        for finding, names in ((finding, list(dict.fromkeys(names))) for finding, names in streams.items())
        if finding.found not in NO_VALUE or finding.where not in wrong
    ]


def _steps(where: str) -> list[str]:
    return re.sub(r"\[(\d+)\]", r".\1", where).split(".")


def _is_of_the_fleet(document: Mapping[str, Any], steps: Sequence[str]) -> bool:
    """Whether the place ``stream, key, ...`` has its value from the fleet."""
    if len(steps) < 2 or steps[1] not in (*KEYS, "receivers"):
        return False
    return _says(document, steps[1:]) and not _says(document["streams"], steps)


def _says(document: Any, steps: Sequence[str]) -> bool:
    """Whether the file says what the value at this place is. Lists and empty values decide about all beneath them."""
    for step in steps:
        if isinstance(document, list) or document in EMPTY:
            return True
        if not isinstance(document, Mapping) or step not in document:
            return False
        document = document[step]
    return True
