# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of an old signer: read from its files, and taken over into the key store as the first of their series."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import old_signers
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key, PublicKey, private_key
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import fleet, life
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation.life import Action, KeyState, Now, Policy
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding, errors
from ansible_collections.mailops.mta.plugins.module_utils.core.model import RSA
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.journal import JOURNAL, Journal
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import KeyStore, StoreError
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.rotation import tick_of
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.files import sync_directory

READERS = {
    "opendkim": old_signers.opendkim,
    "opendkim_key_table": old_signers.key_table,
    "powermta": old_signers.powermta,
    "rspamd": old_signers.rspamd,
    "directory": old_signers.directory,
}
_MIN_RSA_BITS = 1024  # RFC 8301 3.2: shorter ones verify nowhere
_MAX_BYTES = 16 * 1024 * 1024


class Disk:
    """`layouts.Files` of this host."""

    def read(self, path: str) -> Optional[str]:
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), encoding="utf-8") as file:
                return file.read(_MAX_BYTES)
        except FileNotFoundError:
            return None

    def matching(self, pattern: str) -> Sequence[str]:
        return sorted(glob.glob(pattern))


@dataclass(frozen=True)
class Held:
    """A key of an old signer. ``private`` is PKCS#8."""

    key: Key
    public: PublicKey
    private: str = field(repr=False)
    path: str = ""


def read(kind: str, path: str, openssl: str) -> tuple[list[Held], list[Finding]]:
    """All keys that a configuration names, and what is wrong with it or them."""
    files = Disk()
    layout = READERS[kind](path, files)
    held = []
    for one in layout.references:
        text = one.text if one.text is not None else layout.text(files, one.path, one.where)
        if text:
            try:
                held.append(_held(one.domain, one.selector, text, one.path, openssl))
            except (ValueError, StoreError) as error:
                remedy = "Find the key that the signer really uses"
                layout.find(one.path, f"{one.selector}._domainkey.{one.domain}", str(error), remedy)
    return held, layout.findings


def _held(domain: str, selector: str, text: str, path: str, openssl: str) -> Held:
    private = old_signers.pkcs8(text)
    private_key(private)  # what is cut or no key at all is refused in plainer words than openssl's
    public = KeyStore("", openssl).public_of(private.encode("ascii"))
    return Held(Key(domain, selector, public.algorithm), public, private, path)


@dataclass(frozen=True)
class Result:
    imported: Sequence[str]  # names of keys
    present: Sequence[str]  # that the store had as keys of their series
    findings: Sequence[Finding]
    serial: int


class Import:
    def __init__(self, store: KeyStore, series: Iterable[Mapping[str, Any]], check_mode: bool) -> None:
        self.store = store
        self.policies = {(one["domain"], one["algorithm"]): Policy.of(one) for one in series}
        self.check_mode = check_mode
        self.journal = Journal(os.path.join(store.directory, JOURNAL))
        self.findings: list[Finding] = []

    def go(self, given: Iterable[Mapping[str, Any]], private: Mapping[str, str]) -> Result:
        """``private`` has the private keys by their fingerprints.

        The caller holds the lock of the store. With errors among the findings nothing is done.
        Raises StoreError, OSError.
        """
        try:
            before = fleet.fold(self.journal.read())
        except ValueError as error:
            raise StoreError(f"{self.journal.path}: {error}. Restore the journal from a backup") from None
        self.findings += self.store.survey([]).findings
        wanted: dict[tuple[str, str], Held] = {}
        present = []
        for held in self._read(given, private):
            policy = self.policies.get((held.key.domain, held.key.algorithm))
            if policy is None:
                remedy = "Let a stream send with it and import again, or leave it out"
                self._find(held.key, "the fleet does not sign for this domain with this algorithm", remedy, WARNING)
            elif self._is_known(held, before.keys_of(policy)):
                present.append(held.key.name)
            elif self._fits(held, policy, before.keys_of(policy), wanted):
                wanted[policy.domain, policy.algorithm] = held
        if errors(self.findings) or not wanted or self.check_mode:
            imported = [] if errors(self.findings) else [held.key.name for held in wanted.values()]
            return Result(imported, present, self.findings, before.serial + bool(imported))
        return Result(self._place(wanted, before), present, self.findings, before.serial + 1)

    def _read(self, given: Iterable[Mapping[str, Any]], private: Mapping[str, str]) -> list[Held]:
        found = []
        for one in given:
            domain, selector = str(one["domain"]).lower().rstrip("."), str(one["selector"]).lower()
            try:
                if one["fingerprint"] not in private:
                    raise ValueError("its private key was not given")
                held = _held(domain, selector, private[one["fingerprint"]], "", self.store.openssl)
                why = held.key.problem
                if held.public.fingerprint != one["fingerprint"]:
                    why = f"its private key has another fingerprint ({held.public.fingerprint})"
                elif held.public.algorithm == RSA and held.public.bits < _MIN_RSA_BITS:
                    why = f"it has {held.public.bits} bits, and receivers ignore keys under {_MIN_RSA_BITS}"
            except (ValueError, StoreError) as error:
                why = str(error)
            if why:
                remedy = "Leave it out, and let the fleet make a key of its own"
                self._find(Key(domain, selector, RSA), why, remedy)
            elif held not in found:
                found.append(held)
        return found

    def _is_known(self, held: Held, series: Sequence[KeyState]) -> bool:
        return any((held.key.selector, held.public.fingerprint) == key.mark for key in series)

    def _fits(
        self, held: Held, policy: Policy, series: Sequence[KeyState], wanted: Mapping[tuple[str, str], Held]
    ) -> bool:
        others = [one.key.name for one in wanted.values() if one.key.domain == policy.domain]
        other = wanted.get((policy.domain, policy.algorithm))
        before = self.store.survey([held.key])
        self.findings += [one for one in before.findings if one not in self.findings]
        if policy.delegate:
            why = f"the fleet keeps the records of this domain below {policy.delegate}, and this one stands in it"
            self._find(held.key, why, "Import without delegate in the fleet file, and delegate when it is replaced")
        elif series:
            names = ", ".join(key.selector for key in series)
            why = f"the fleet has keys for this domain already ({names})"
            self._find(held.key, why, "Leave it out; keep its record until no mail that it signed is under way")
        elif held.key.name in others:
            self._find(
                held.key, "keys of two algorithms are given under one name", "Leave out the one that is not in DNS"
            )
        elif other:
            why = f"two keys of one algorithm are given for this domain; the other is {other.key.name}"
            self._find(held.key, why, "Leave out the one that no host signs with (mta_dkim_import_without: [its path])")
        elif before.public and before.public[held.key.name] != held.public:
            self._find(held.key, "the key store has another key of this name", "Find out which one is in DNS")
        else:
            return not before.findings
        return False

    def _place(self, wanted: Mapping[tuple[str, str], Held], before: fleet.Store) -> list[str]:
        tick = tick_of(before)
        actions = []
        for series, held in wanted.items():
            with contextlib.suppress(FileExistsError):  # a killed run had come so far
                self.store.place(held.key, held.private.encode("ascii"))
            key = dataclasses.replace(
                life.fresh((), self.policies[series], Now(tick.wall, tick.steady), held.key.selector, life.IMPORTED),
                record=held.public.record,
                fingerprint=held.public.fingerprint,
                bits=held.public.bits,
            )
            actions.append((self.policies[series], Action("make", key, life.REASONS[life.IMPORTED])))
        sync_directory(self.store.directory)
        file = self.journal.identity()
        self.journal.append(fleet.lines(actions, before.serial + 1, tick, file))
        return [held.key.name for held in wanted.values()]

    def _find(self, key: Key, why: str, remedy: str, severity: str = "error") -> None:
        self.findings.append(Finding(key.name, "a key to import", why, remedy, severity))
