# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signer on a host: its configuration as one set, its service and whether it answers, its keys and what they sign.

The configuration is tested before a byte of the old one is touched, and the old one comes back when the new one does
not answer. What signs is no part of it: signing.lua reads that for each message, so a change of it needs no reload.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import installed as signing
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import Installed, SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.command import Runner
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.install import File, Service
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files as signer_files
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers.key_files import KeyFiles, SignerError
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers.milter import Milter, MilterError

DIRECTORY = signer_files.SIGNERS[signer_files.RSPAMD].directory
SERVICE = "rspamd"
UNIT = "/etc/systemd/system/rspamd.service.d/mailops.conf"
_INSTALLED = "installed.json"
_STREAMS = "streams.json"
_MAIN = "rspamd.conf"
_ANSWER_SECONDS = 20
_host = Runner(SignerError)


def service(directory: str) -> Service:
    return Service(SERVICE, UNIT, os.path.join(directory, _MAIN), _host)


def key_files(directory: str) -> KeyFiles:
    return signer_files.of(signer_files.RSPAMD, directory)


@contextlib.contextmanager
def alone(directory: str) -> Iterator[None]:
    """The signer's files for this run alone; the directories are made where they are missing. Raises SignerError."""
    key_files(directory).make_directories()
    for path in (_tables(directory), os.path.dirname(UNIT)):
        install.make_directory(path)
    with signer_files.alone(directory):
        yield


def installed(directory: str) -> Installed:
    """Raises SignerError."""
    path = os.path.join(directory, _INSTALLED)
    content = install.content_of(path)
    try:
        return signing.parse_installed(None if content is None else content.decode("utf-8"))
    except ValueError:
        remedy = "Delete it and run mailops.mta.rotate_dkim, which brings the newest state"
        raise SignerError(f"{path} is broken, so it is not known which keys may sign. {remedy}") from None


def mark(directory: str, state: Installed) -> None:
    install.write([_state_file(directory, state)])


def marks(directory: str, state: Installed) -> list[str]:
    """The file that ``mark`` would change."""
    return [file.path for file in install.differing([_state_file(directory, state)])]


def _state_file(directory: str, state: Installed) -> File:
    return File(os.path.join(directory, _INSTALLED), state.text.encode("utf-8"))


def digest(files: Iterable[File]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.path} {len(file.content)}\n".encode() + file.content)
    return whole.hexdigest()


def table_files(directory: str, keys: Iterable[SigningKey]) -> list[File]:
    place = _tables(directory)
    return [File(os.path.join(place, name), text.encode("ascii")) for name, text in signing.tables(keys).items()]


def signing_domains(directory: str) -> list[str]:
    """Domains for which there is a table."""
    try:
        return [name for name in os.listdir(_tables(directory)) if not name.startswith(".")]
    except OSError:
        return []


def stale(directory: str, keys: Iterable[SigningKey], tables: Iterable[File]) -> list[str]:
    """Tables that are not wanted, then files that are none of these keys."""
    return [
        *install.others(_tables(directory), {file.path for file in tables}),
        *key_files(directory).stale(keys),
    ]


def _tables(directory: str) -> str:
    return os.path.join(directory, "signing")


def admission_file(directory: str, admission: Mapping[str, Any]) -> File:
    """What signing.lua reads when it is loaded (core.admission)."""
    return File(os.path.join(directory, _STREAMS), (json.dumps(admission, indent=1) + "\n").encode("utf-8"))


def stream_by_domain(directory: str) -> dict[str, str]:
    """The stream whose mail the signer signs for each domain, as its files say; nothing where they do not."""
    content = install.content_of(os.path.join(directory, _STREAMS))
    try:
        streams = json.loads(content or b"{}")["streams"]
        return {domain: name for name, stream in streams.items() for domain in stream["from"].values()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def test(texts: Mapping[str, bytes], directory: str) -> None:
    """Asks rspamd itself about the new configuration, in a copy beside the live one. Raises SignerError."""
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    with install.staged(texts, directory, parent) as copy:
        done = _host.run(["rspamadm", "configtest", "--strict", "--config", os.path.join(copy, _MAIN)])
        if done.returncode:
            lines = (done.stdout + done.stderr).replace(copy, directory)
            raise SignerError(f"rspamadm configtest refuses the new configuration: {lines.strip()}")


def replace(changed: Iterable[File], directory: str, milter_socket: str) -> None:
    """Puts the files in place and makes the service use them. Raises SignerError after putting the old ones back."""
    files = list(changed)
    paths = {file.path for file in files}
    service(directory).install(files, lambda: _follow(service(directory), paths, milter_socket))


def running(directory: str) -> bool:
    return service(directory).running()


def answers(milter_socket: str) -> bool:
    """True where a milter greets back."""
    try:
        Milter(milter_socket, patience_seconds=2).close()
    except MilterError:
        return False
    return True


def _follow(held: Service, changed: Collection[str], milter_socket: str) -> None:
    """Has the service run on the files as they are now: a reload keeps the socket, so no message is refused for it."""
    held.know(changed)
    before = held.children()
    verb = "start" if not held.active() else "restart" if held.unit_path in changed else "reload"
    _host.systemctl(verb, held.unit)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        if held.children() - before and answers(milter_socket):
            return
        if _host.holds("is-failed", held.unit):
            break
        time.sleep(0.1)
    raise SignerError(f"rspamd does not answer on {milter_socket} after its {verb}. {held.last_words()}")
