# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host really signs with: signatures of the running signer, verified with the key files that lie there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import installed
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import dkim_header
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files, rspamd
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers.milter import Answer, Milter, MilterError

_PATIENCE_SECONDS = 10
_BODY = b"Which keys sign for this domain?\r\n"
_GOES_ON = ("a", "c")

Files = Mapping[tuple[str, str], Sequence[key_files.HeldKey]]  # (selector, domain): the files that may hold its key


@dataclass
class Found:
    """Of some domains: what signed, and for which of them that is not known."""

    answers: int = 0
    signs: list[SigningKey] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def gather(directory: str, milter_socket: str, domains: Iterable[str]) -> dict[str, Any]:
    """``signer`` of the module dkim_signer_info without its clock. A broken signer is something to tell, no error."""
    if not os.path.lexists(directory) and not os.path.lexists(milter_socket):
        none = f"No signer was set up: there is neither {directory} nor {milter_socket}"
        return {"serial": None, "signs": [], "unknown": [], "holds": [], "problems": [none]}
    problems: list[str] = []
    serial = None
    try:
        state = rspamd.installed(directory)
        serial = state.serial
        if state.serial is not None and not state.digest:
            problems.append(f"The run that brought the state {state.serial} did not come to its end. Run the role dkim")
    except (key_files.SignerError, OSError) as error:
        problems.append(str(error))
    held: list[key_files.HeldKey] = []
    try:
        held = rspamd.key_files(directory).held()
    except OSError as error:
        problems.append(f"{directory}: the keys cannot be listed: {error.strerror}")
    problems += [f"{directory}/keys/{one.name}: {one.why}" for one in held if not one.is_whole]
    # A domain that left the fleet is signed for until its table is gone.
    wanted = sorted({*domains, *rspamd.signing_domains(directory)})
    found = _ask_all(milter_socket, wanted, rspamd.stream_by_domain(directory), _by_selector(held))
    silent = found.unknown and not found.answers
    return {
        "serial": serial,
        "signs": None if silent else [asdict(key) for key in sorted(found.signs)],
        "unknown": sorted(found.unknown),
        "holds": [asdict(one.signing_key) for one in held if one.signing_key],
        "problems": problems + found.problems,
    }


def _ask_all(milter_socket: str, domains: Sequence[str], streams: Mapping[str, str], files: Files) -> Found:
    """A connection for each stream, at most one for each CPU at a time; the messages of its domains go over it."""
    lanes: dict[str, list[str]] = {}
    for domain in domains:
        lanes.setdefault(streams.get(domain, ""), []).append(domain)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        parts = list(pool.map(lambda lane: _ask(milter_socket, lane[0], lane[1], files), lanes.items()))
    return Found(
        answers=sum(part.answers for part in parts),
        signs=[key for part in parts for key in part.signs],
        unknown=[domain for part in parts for domain in part.unknown],
        problems=sorted({problem for part in parts for problem in part.problems}),
    )


def _ask(milter_socket: str, stream: str, domains: Sequence[str], files: Files) -> Found:
    """A signer that stops to answer leaves the rest of its domains unknown."""
    found = Found()
    try:
        with Milter(milter_socket, _PATIENCE_SECONDS, stream) as milter:
            for domain in domains:
                fields = _message(domain)
                answer = milter.show(f"nobody@{domain}", f"nobody@{domain}", fields, _BODY)
                found.answers += 1
                try:
                    found.signs += _makers(domain, fields, answer, files)
                except ValueError as error:
                    found.unknown.append(domain)
                    found.problems.append(f"{domain}: {error}")
    except MilterError as error:
        found.unknown += domains[found.answers :]
        found.problems.append(str(error))
    return found


def _message(domain: str) -> list[dkim_header.Field]:
    return [
        ("From", f"nobody@{domain}"),
        ("To", f"nobody@{domain}"),
        ("Subject", "a question to the signer, which is never delivered"),
        ("Date", "Thu, 1 Jan 1970 00:00:00 +0000"),
        ("Message-ID", f"<question@{domain}>"),
    ]


def _makers(domain: str, fields: Sequence[dkim_header.Field], answer: Answer, files: Files) -> list[SigningKey]:
    """The keys that made the signatures of an answer. Raises ValueError where that is not known of every one."""
    if answer.action not in _GOES_ON:
        raise ValueError(f"its mail is refused: {answer.text or answer.action}")
    signatures = [value for name, value in answer.fields if name.lower() == dkim_header.FIELD.lower()]
    if not signatures:
        raise ValueError("its mail is not signed")
    return [_maker(domain, dkim_header.parse(value), fields, files) for value in signatures]


def _maker(domain: str, given: dkim_header.Signature, fields: Sequence[dkim_header.Field], files: Files) -> SigningKey:
    if given.domain != domain:
        raise ValueError(f"its mail is signed for {given.domain}")
    if given.body_hash != dkim_header.body_hash(_BODY):
        raise ValueError(f"the signature of {given.selector} is about another body")
    signed = dkim_header.signed_bytes(given, fields)
    for held in files.get((given.selector, given.domain), ()):
        if held.key and held.key.public.algorithm == given.algorithm and held.key.made(given.value, signed):
            return SigningKey(domain, given.selector, given.algorithm, held.key.public.fingerprint)
    raise ValueError(f"it is signed with {given.selector} ({given.algorithm}), by a key that lies in no file here")


def _by_selector(held: Iterable[key_files.HeldKey]) -> dict[tuple[str, str], list[key_files.HeldKey]]:
    files: dict[tuple[str, str], list[key_files.HeldKey]] = {}
    for one in held:
        selector_and_domain = installed.may_be_of(one.name)
        if selector_and_domain:
            files.setdefault(selector_and_domain, []).append(one)
    return files
