# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``pmta --json show ...`` answers, as records that stay the same whatever PowerMTA's version says.

Only the keys of the status are documented. Those of queues and virtual MTAs were seen in public programs that read the
web monitor; those of disabled sources, of the licence's JSON and of lists were seen nowhere. So every reader here takes
several spellings, keeps what it does not know in ``raw``, and tells in a finding when it understood nothing. None of
them raises, whatever it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.tables import columns

Record = dict[str, Any]
Read = Callable[[Any], Any]
Field = tuple[str, Read, tuple[str, ...]]  # name here, how its value is read, the keys that PowerMTA may use
Records = tuple[Optional[list[Record]], tuple[Finding, ...]]  # None where nothing was understood

_DEEPEST = 5
# They name a licence holder, and are of no use to anybody else.
_PRIVATE = frozenset({"lak", "licensee", "serial", "key", "copyright"})


# ---- values


def _text(value: Any) -> Optional[str]:
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "" else None


def _number(value: Any) -> Optional[float]:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            read = float(value)
        except (ValueError, OverflowError):
            return None
        return read if math.isfinite(read) else None
    return None


def _count(value: Any) -> Optional[int]:
    read = _number(value)
    return None if read is None else int(read)


def _flag(value: Any) -> Optional[bool]:
    return {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(str(value).lower())


def _mode(value: Any) -> Optional[str]:
    return value.lower() if isinstance(value, str) and value.lower() in ("normal", "backoff") else None


def _errors(value: Any) -> list[str]:
    """The texts of a queue's last errors, the newest first as PowerMTA has them."""
    entries = value if isinstance(value, list) else []
    texts = [entry.get("text") if isinstance(entry, Mapping) else entry for entry in entries]
    return [text for text in texts if isinstance(text, str)]


_QUEUE: tuple[Field, ...] = (
    ("name", _text, ("name", "queue")),
    ("recipients", _count, ("rcp", "rcpt", "rcpts", "recipients")),
    ("kilobytes", _number, ("kb", "kbytes", "size")),
    ("connections", _count, ("conn", "connections")),
    ("paused", _flag, ("paused",)),
    ("mode", _mode, ("mode",)),
    ("retry_at", _text, ("retrytime", "retry")),
    ("errors", _errors, ("errors", "error", "event", "events")),
)
_VMTA: tuple[Field, ...] = (
    ("name", _text, ("name", "vmta")),
    ("recipients", _count, ("rcp", "rcpt", "rcpts", "recipients")),
    ("kilobytes", _number, ("kb", "kbytes", "size")),
    ("connections", _count, ("conn", "connections")),
    ("domains", _count, ("dom", "domains")),
    ("percent", _number, ("pctoftotal", "percent")),
)
_SOURCE: tuple[Field, ...] = (
    ("ip", _text, ("ip", "sourceip", "source", "address")),
    ("queue", _text, ("queue", "name", "queuename")),
    ("reenable_at", _text, ("reenabletime", "reenableat", "reenableafter", "reenable", "until", "enabletime")),
)


def _key(name: Any) -> str:
    return str(name).lower().replace("-", "").replace("_", "")


def _record(found: Mapping[Any, Any], fields: Sequence[Field]) -> Record:
    by_key: dict[str, Any] = {}
    for name, value in found.items():
        by_key.setdefault(_key(name), value)
    made: Record = {}
    known: set[str] = set()
    for name, read, keys in fields:
        used = next((key for key in keys if key in by_key), None)
        known |= set() if used is None else {used}
        made[name] = read(None if used is None else by_key[used])
    made["raw"] = {str(name): value for name, value in found.items() if _key(name) not in known}
    return made


# ---- the envelope


def answer(parsed: Any, where: str) -> tuple[Any, tuple[Finding, ...]]:
    """The data of an answer, and a finding where PowerMTA says that the command failed.

    Seen in public programs: ``{"status": "success", "message": "...", "data": {...}}``.
    """
    if not isinstance(parsed, Mapping):
        return parsed, ()
    status = parsed.get("status")
    if isinstance(status, str) and status.lower() in ("error", "failure", "failed"):
        message = _text(parsed.get("message")) or "without a word of why"
        return None, (
            Finding(
                where,
                f"PowerMTA refuses the command: {message[:200]}",
                "so nothing can be told of it",
                "Do what the message says, or see pmta.log",
            ),
        )
    return parsed.get("data", parsed), ()


def not_understood(where: str, found: Any) -> Finding:
    seen = ", ".join(shape(found)[:6]) or "nothing"
    return Finding(
        where,
        f"the answer has a shape that is not known here ({seen[:300]})",
        "so nothing is concluded from it",
        "Run the same command by hand, and report the names of the keys (no values) to this collection",
    )


def _records(parsed: Any, where: str, names: frozenset[str], fields: Sequence[Field], needed: str) -> Records:
    data, findings = answer(parsed, where)
    if findings:
        return None, findings
    found = _listing(data, names, _DEEPEST)
    if found is None:
        return None, (not_understood(where, data),)
    made = [_record(each, fields) for each in found]
    understood = [each for each in made if each[needed] is not None]
    if len(understood) < len(made):
        return understood or None, (not_understood(where, data),)
    return made, ()


def _listing(data: Any, names: frozenset[str], deep: int) -> Optional[list[Mapping[Any, Any]]]:
    """The list of things that an answer holds under one of ``names``; empty where it holds nothing but words."""
    if isinstance(data, list):
        return [each for each in data if isinstance(each, Mapping)] if all_mappings(data) else None
    if not isinstance(data, Mapping):
        return None
    for name, value in data.items():
        if _key(name) in names:
            return _things(value, names)
    inner = [value for value in data.values() if isinstance(value, (Mapping, list)) and value]
    if not inner:
        return []
    for value in inner:
        found = _listing(value, names, deep - 1) if deep and isinstance(value, Mapping) else None
        if found:
            return found
    return None


def _things(value: Any, names: frozenset[str]) -> Optional[list[Mapping[Any, Any]]]:
    if not value:
        return []
    if isinstance(value, list):
        return list(value) if all_mappings(value) else None
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if _key(name) in names and isinstance(inner, (list, Mapping)):
                return _things(inner, frozenset())
        if all(isinstance(each, Mapping) for each in value.values()):
            return [{"name": name, **each} for name, each in value.items()]
        return [value]
    return None


def all_mappings(values: Sequence[Any]) -> bool:
    return all(isinstance(each, Mapping) for each in values)


# ---- the answers


def queues(parsed: Any) -> Records:
    """``show queues``: name (domain/vmta), recipients, kilobytes, connections, paused, mode, retry_at, errors."""
    found, findings = _records(parsed, "show queues", frozenset({"queue", "queues", "topqueues"}), _QUEUE, "name")
    for each in found or []:
        # What happened to single recipients is nobody's business here.
        each["raw"] = {name: value for name, value in each["raw"].items() if "event" not in _key(name)}
    return found, findings


def vmtas(parsed: Any) -> Records:
    """``show vmtas``: name, recipients, kilobytes, connections, domains, percent of all that waits."""
    return _records(parsed, "show vmtas", frozenset({"vmta", "vmtas", "virtualmtas"}), _VMTA, "name")


def disabled_sources(parsed: Any) -> Records:
    """``show disabled sources */*``: ip, reenable_at, and the queue (every one where the answer tells none)."""
    names = frozenset({"source", "sources", "disabledsource", "disabledsources"})
    found, findings = _records(parsed, "show disabled sources", names, _SOURCE, "ip")
    for each in found or []:
        each["queue"] = each["queue"] or "*/*"
    return found, findings


def listed(parsed: Any) -> tuple[Optional[int], tuple[Finding, ...]]:
    """How many recipients ``list`` shows."""
    names = frozenset({"message", "messages", "recipient", "recipients", "rcp", "rcpt", "list"})
    data, findings = answer(parsed, "list")
    found = None if findings else _listing(data, names, _DEEPEST)
    if found is None and not findings:
        findings = (not_understood("list", data),)
    return None if found is None else len(found), findings


def status(parsed: Any) -> tuple[Optional[Record], tuple[Finding, ...]]:
    """``show status``: whether it runs, since when, what waits, what came and went, connections."""
    data, findings = answer(parsed, "show status")
    inner = _at(data, "status")
    if findings or not isinstance(inner, Mapping):
        return None, findings or (not_understood("show status", data),)
    kinds = _at(inner, "queue")
    waiting = [_count(_at(kind, "rcp")) for kind in kinds.values()] if isinstance(kinds, Mapping) else []
    return {
        "version": _text(_at(data, "mta", "product", "version")),
        "state": _text(_at(inner, "status")),
        "now": _text(_at(inner, "timeNow")),
        "started": _text(_at(inner, "startupTime")),
        "shutting_down": _flag(_at(inner, "shuttingDown")),
        "recipients": sum(each or 0 for each in waiting) if waiting else None,
        "spooled_recipients": _count(_at(inner, "spool", "totalRcp")),
        "traffic": {
            f"{way}_{when}": _count(_at(inner, "traffic", key, way, "rcp"))
            for when, key in (("total", "total"), ("last_hour", "lastHr"), ("last_minute", "lastMin"))
            for way in ("in", "out")
        },
        "connections": {
            f"{way}_{what}": _count(_at(inner, "conn", key, short))
            for way, key in (("in", "smtpIn"), ("out", "smtpOut"))
            for what, short in (("now", "cur"), ("limit", "max"))
        },
        "raw": without_private(inner),
    }, ()


def version(parsed: Any) -> tuple[Optional[Record], tuple[Finding, ...]]:
    """``show version``, or the part of the status that says the same: product, version, built."""
    data, findings = answer(parsed, "show version")
    found = _product(data, _DEEPEST)
    if found is None:
        return None, findings or (not_understood("show version", data),)
    return {
        "product": _text(found.get("name")) or _text(found.get("product")),
        "version": _text(found.get("version")),
        "built": _text(found.get("buildDate")),
        "raw": without_private(found),
    }, ()


def _product(data: Any, deep: int) -> Optional[Mapping[Any, Any]]:
    if not isinstance(data, Mapping) or not deep:
        return None
    if _text(data.get("version")):
        return data
    found = (_product(data[key], deep - 1) for key in ("mta", "product", "version", "data") if key in data)
    return next((each for each in found if each is not None), None)


def licence(parsed: Any) -> tuple[Optional[Record], tuple[Finding, ...]]:
    """``show license``, without its serial number and its holder."""
    data, findings = answer(parsed, "show license")
    for name in ("license", "lak"):
        inner = _at(data, name)
        data = inner if isinstance(inner, Mapping) else data
    known = ("product", "version", "platform", "units", "instances", "issued", "expires")
    found = {name: _text(_at(data, name)) for name in known}
    if findings or not any(found.values()):
        return None, findings or (not_understood("show license", data),)
    return found, ()


def settings(parsed: Any) -> tuple[Optional[Record], tuple[Finding, ...]]:
    """``show settings D/V`` or ``show vmta-settings V`` as PowerMTA has it, passwords left out."""
    data, findings = answer(parsed, "show settings")
    if findings or not isinstance(data, Mapping) or not data:
        return None, findings or (not_understood("show settings", data),)
    made: Record = _without_passwords(data, _DEEPEST)
    return made, ()


def _without_passwords(data: Any, deep: int) -> Any:
    if isinstance(data, Mapping):
        return {
            str(name): "(secret)" if _is_secret(name) else _without_passwords(value, deep - 1)
            for name, value in data.items()
            if deep or not isinstance(value, (Mapping, list))
        }
    if isinstance(data, list):
        return [
            {**_without_passwords(each, deep), "value": "(secret)"}
            if isinstance(each, Mapping) and _is_secret(each.get("name"))
            else _without_passwords(each, deep - 1)
            for each in data
            if deep or not isinstance(each, (Mapping, list))
        ]
    return "(secret)" if isinstance(data, str) and _is_secret(data.partition(" ")[0]) else data


def _is_secret(name: Any) -> bool:
    return any(word in _key(name) for word in ("password", "apikey", "token", "secret"))


def without_private(found: Mapping[Any, Any]) -> Record:
    return {str(name): value for name, value in found.items() if _key(name) not in _PRIVATE}


def _at(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


# ---- shapes


def shape(parsed: Any) -> list[str]:
    """The keys of an answer with the types of their values, and no value: ``data.queues[].rcp: number``.

    What does not look like the name of a key, but like that of a host, an address or a campaign, is shown as ``*``.
    """
    found: dict[str, None] = {}
    _shape(parsed, "", _DEEPEST + 2, found)
    return list(found)


def _shape(value: Any, path: str, deep: int, found: dict[str, None]) -> None:
    if isinstance(value, Mapping) and value and deep:
        for key, inner in value.items():
            plain = str(key)
            named = plain if plain.isascii() and plain.isalpha() and len(plain) <= 32 else "*"
            _shape(inner, f"{path}.{named}".lstrip("."), deep - 1, found)
    elif isinstance(value, list) and value and deep:
        for inner in value:
            _shape(inner, f"{path}[]", deep - 1, found)
    else:
        found[f"{path or 'all'}: {_type(value)}"] = None


def _type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "object"


# ---- for a person


def lines(
    found: Mapping[str, Any],
    findings: Iterable[Finding] = (),
) -> list[str]:
    """Tables of what was gathered (see the module ``powermta_info``), and the findings below them."""
    made: list[str] = []
    product = found.get("version") or {}
    if product:
        made += [" ".join(filter(None, ("PowerMTA", product.get("version"), product.get("built")))), ""]
    summary = found.get("status")
    if summary:
        made += [*columns(("what", "value"), _summary(summary)), ""]
    tables = (
        ("queues", ("name", "recipients", "connections", "paused", "mode", "retry_at", "errors")),
        ("vmtas", ("name", "recipients", "connections", "domains")),
        ("disabled_sources", ("ip", "queue", "reenable_at")),
    )
    for name, keys in tables:
        if found.get(name) is not None:
            titles = (name.replace("_", " "), *(key.replace("_", " ") for key in keys[1:]))
            made += [*columns(titles, [tuple(_cell(each.get(key)) for key in keys) for each in found[name]]), ""]
    if found.get("licence"):
        made += [*columns(("licence", "value"), [(key, value) for key, value in found["licence"].items() if value]), ""]
    return [*made[:-1], *([""] if made and findings else []), *map(str, findings)]


def _summary(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    traffic, connections = summary["traffic"], summary["connections"]
    return [
        ("state", _cell(summary["state"])),
        ("started", _cell(summary["started"])),
        ("recipients waiting", _cell(summary["recipients"])),
        *((f"recipients {key.replace('_', ' ')}", _cell(value)) for key, value in traffic.items()),
        *(
            (f"connections {way}", f"{_cell(connections[f'{way}_now'])} of {_cell(connections[f'{way}_limit'])}")
            for way in ("in", "out")
        ),
    ]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return str(value[0])[:60] if value else "-"
    return "-" if value is None else str(value)
