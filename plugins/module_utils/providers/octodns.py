# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any octoDNS provider (octodns.readthedocs.io) as a carrier: our engine decides, octoDNS reads and writes record sets.

octoDNS leaves out what a provider cannot hold, and its plans replace whole record sets; so it does not plan here. A
provider gets exactly our changes, made of merged record sets, after it has agreed to each of them unaltered.

TXT is where providers differ: octoDNS writes ``;`` as ``\\;``, and whether quotes, backslashes and bytes beyond ASCII
are escaped is left to each provider. Such values are carried as they were read, and never made anew.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable, Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import SERVICES
from ansible_collections.mailops.mta.plugins.module_utils.core.foreign import shortened
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Permanent,
    Provider,
    ProviderError,
    Throttled,
    Transient,
    Unreachable,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.rest import LONG
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client

_NEVER_SENT = {"NewConnectionError", "NameResolutionError", "ConnectTimeout", "ConnectTimeoutError"}
_RECORD = ("Record", "Rrset", "Create", "Update", "Delete")
_REFUSED = {"ProviderException", "RecordException"}  # octoDNS itself, before or instead of a request


class OctoDns(Provider):
    def __init__(self, zone: str, path: str, make: Callable[[], Any], octodns: SimpleNamespace) -> None:
        self.limits = SERVICES["octodns"].limits
        self._zone = zone
        self._title = f"octoDNS provider {path}"
        self._octodns = octodns
        self._make = make
        self._provider: Any = None
        self._now: Any = None
        self._records: dict[Key, Any] = {}

    def read(self, names: Optional[Collection[str]] = None) -> dict[Key, RecordSet]:
        now = self._octodns.Zone(f"{self._zone}.", [])
        try:
            self._provider = provider = self._made_anew()
            exists = provider.populate(now, target=True, lenient=True)
            self.limits = dataclasses.replace(self.limits, types=frozenset(provider.SUPPORTS))
        except ProviderError:
            raise
        except Exception as error:
            raise problem(error, self._title, self._zone) from error
        if exists is False:
            raise _missing(self._title, self._zone, "")
        self._keep(now)
        return {key: RecordSet.of(*key, record.ttl, _values(record)) for key, record in self._records.items()}

    def cost(self, change: Change) -> int:
        sets = [each for each in (change.before, change.after) if each]
        return sum(len(each.name) + len(value) + 50 for each in sets for value in each.values)

    def write(self, changes: Sequence[Change]) -> None:
        """One plan. Raises Permanent, before anything is sent, for what the provider would not carry as it is."""
        octodns, now = self._octodns, self._now
        desired = now.copy()
        plan = []
        trial = octodns.Zone(f"{self._zone}.", [])
        for change in changes:
            old, new = self._old(change), None
            if old is not None:
                desired.remove_record(old)
            if change.after:
                new = self._new(change, change.after, old)
                trial.add_record(new, lenient=True)
                plan.append(octodns.Update(old, new) if old is not None else octodns.Create(new))
            elif old is not None:
                plan.append(octodns.Delete(old))
        for each in plan:
            if each.new is not None:  # once all old ones are gone: an alias and its successor cannot stand together
                desired.add_record(each.new, lenient=True)
        self._agree(trial)
        try:
            self._provider.apply(octodns.Plan(now, desired, plan, True))
        except Exception as error:
            raise problem(error, self._title, self._zone) from error
        self._keep(desired)

    def close(self) -> None:
        """octoDNS has no word for it."""

    def _made_anew(self) -> Any:
        """A provider for each read: many keep what they read, also past a write that failed."""
        try:
            provider = self._make()
        except (TypeError, ValueError, KeyError) as error:
            raise Permanent(
                f"the {self._title} does not take these settings", _said(error), "correct settings"
            ) from error
        provider.strict_supports = True  # what it cannot hold is an error, not left out
        provider.root_ns_warnings = False
        return provider

    def _keep(self, zone: Any) -> None:
        self._now = zone
        self._records = {(records.canonical_name(each.fqdn), str(each._type)): each for each in zone.records}

    def _old(self, change: Change) -> Any:
        """The record as octoDNS has it. Raises Permanent for what is more than a record set."""
        record = self._records.get(change.key)
        if getattr(record, "dynamic", None) or getattr(record, "geo", None):
            raise Permanent(
                f"{change.key[0]} {change.key[1]} is a dynamic record",
                "its answers depend on who asks, which a record set cannot say",
                "choose another name, or make it a simple record first",
            )
        return record

    def _new(self, change: Change, after: RecordSet, old: Any) -> Any:
        had = _values(old) if old is not None else {}
        added = [value for value in after.values if value not in had]
        new = self._made(after, added) if added else old.copy()
        if hasattr(new, "values"):
            kept = [each for value in after.values for each in had.get(value, ())]
            new.values = sorted([*kept, *(new.values if added else ())])
        if old is not None:
            new.octodns = old.octodns
        new.ttl = after.ttl
        return new

    def _made(self, after: RecordSet, added: Sequence[str]) -> Any:
        where = f"{after.name} {after.type}"
        if after.type not in self._provider.SUPPORTS:
            raise Permanent(
                f"{where}: the {self._title} carries no {after.type}",
                "octoDNS would leave it out without a word",
                "declare this record elsewhere, or serve the zone by another provider",
            )
        for value in added:
            if after.type == "TXT" and not (value.isascii() and value.isprintable() and not set(value) & {'"', "\\"}):
                raise Permanent(
                    f"{where}: octoDNS providers do not agree on how {value[:60]!r} is written",
                    "quotes, backslashes and what is not printable ASCII may arrive as something else",
                    "use other characters, or serve the zone by another provider",
                )
        rrset = self._octodns.Rrset(
            f"{after.name}.", after.type, after.ttl, [records.presentation(after.type, value) for value in added]
        )
        try:
            return self._octodns.Record.from_rrset(self._now, rrset, source=self._provider)
        except Exception as error:
            raise Permanent(f"{where}: octoDNS refuses it: {_said(error)}", remedy="correct the record") from error

    def _agree(self, trial: Any) -> None:
        """What a provider cannot hold, it takes out or alters before a plan is made; here that is an error."""
        try:
            kept = {
                (each.name, each._type): each for each in self._provider._process_desired_zone(trial.copy()).records
            }
        except Exception as error:
            raise problem(error, self._title, self._zone) from error
        for record in trial.records:
            other = kept.get((record.name, record._type))
            if other is None or record.changes(other, self._provider):
                raise Permanent(
                    f"{record.fqdn} {record._type}: the {self._title} would not keep it as it is",
                    f"it would write {other!r}" if other is not None else "it would leave it out",
                    "declare what the service can hold",
                )


def _values(record: Any) -> dict[str, list[Any]]:
    """octoDNS's values by ours; two of theirs can be the same data written in two ways."""
    found: dict[str, list[Any]] = {}
    for value in record.values if hasattr(record, "values") else [record.value]:
        found.setdefault(_value(record._type, value), []).append(value)
    return found


def _value(rtype: str, value: Any) -> str:
    if rtype == "TXT":
        return str(value).replace("\\;", ";")
    text = str(value.to_rdata_text() if hasattr(value, "to_rdata_text") else value)
    try:
        return records.canonical(rtype, text)
    except ValueError:
        return text  # foreign data that we would not write


def problem(error: Exception, title: str, zone: str) -> ProviderError:
    """What a provider raised, in the words of the port: by the HTTP answer behind it, else by its class."""
    chain = list(_chain(error))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    answer = next((found for found in map(_answer, chain) if found), None)
    status, body, headers = answer or (0, "", {})
    said = f"HTTP {status}: {shortened(body, LONG)}" if status else _said(error)
    after = client.retry_after(client.Response(status, headers, b""))
    if status == 401 or any(name.endswith("Unauthorized") for name in names):
        return Permanent(f"the {title} refused the key ({said})", "it is not a valid one", "correct settings")
    if status == 403 or any(name.endswith("Forbidden") for name in names):
        return Permanent(f"the {title} refused access ({said})", "this key is not allowed", "allow it to edit the zone")
    if status == 404 or any(name.endswith(("NotFound", "UnknownDomainName")) for name in names):
        return _missing(title, zone, f" ({said})")
    if status in (409, 412):
        return Conflict(f"the zone changed meanwhile ({said})")
    if status == 429 or any("RateLimit" in name for name in names):
        return Throttled(f"too many requests ({said})", "the service limits them", "run again later", after)
    if status >= 500:
        return Faulty(
            f"the service behind the {title} failed ({said})", "it has a problem", "look at its status", after
        )
    if status >= 400 or names & _REFUSED:
        return Permanent(f"the {title} refused the request ({said})", remedy="correct what it names")
    if names & _NEVER_SENT:
        return Unreachable(f"the {title} cannot reach its service", _said(error), "start it, or correct settings")
    return Transient(
        f"the {title} failed ({_said(error)})", "it does not say more", "look at the service and run again"
    )


def _missing(title: str, zone: str, said: str) -> Permanent:
    return Permanent(
        f"the {title} has no zone {zone}{said}",
        "zones are made by their operator, not by a run",
        "create the zone there, or correct zones in the fleet file",
    )


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _answer(error: BaseException) -> Optional[tuple[int, str, dict[str, str]]]:
    """Status, body and headers of the HTTP answer that an exception of requests carries, and others like it."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if not isinstance(status, int):
        return None
    headers = {str(name).lower(): str(value) for name, value in dict(getattr(response, "headers", None) or {}).items()}
    return status, " ".join(str(getattr(response, "text", "")).split()), headers


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {shortened(' '.join(str(error).split()), LONG)}"


def _library() -> SimpleNamespace:
    """The parts of octoDNS that are used. Raises ImportError or AttributeError where it is missing or too old."""
    names = ("octodns.zone:Zone", "octodns.provider.plan:Plan", *(f"octodns.record:{name}" for name in _RECORD))
    return SimpleNamespace(**{name.split(":")[1]: pkgutil.resolve_name(name) for name in names})


def open_zone(access: Access) -> OctoDns:
    path = str(access.credentials["class"])
    try:
        octodns, found = _library(), pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise Permanent(
            f"the octoDNS provider {path} cannot be loaded",
            _said(error),
            "install octodns (1.22 or newer) and the provider's package for the Python of this task, or correct class",
        ) from error
    settings = access.credentials.get("settings") or {}
    if not isinstance(settings, dict):
        raise Permanent(
            "settings are no names and values", "they are the provider's keyword arguments", "correct settings"
        )
    return OctoDns(access.zone, path, lambda: found(f"mailops {access.zone}", **settings), octodns)
