# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup, restore and import of a real key store: what comes back is what was there, and nothing is lost on the way."""

from __future__ import annotations

import base64
import gzip
import io
import os
import resource
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.store import JOURNAL
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim import rotation
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.journal import Journal
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import KeyStore
from ansible_collections.mailops.mta.plugins.modules import (
    dkim_key_backup,
    dkim_key_import,
    dkim_key_restore,
    dkim_layout_info,
    dkim_private_key_info,
)

KEY = Key("example.com", "a", "ed25519", 256)
OTHER = Key("example.org", "b", "ed25519", 256)


class Ended(Exception):
    """What the module returned."""


class Runner:
    """Runs a module in this process as Ansible would: options checked, then main()."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(
        self, subject: ModuleType, directory: Path, check: bool = False, no_log: bool = True, **options: Any
    ) -> dict[str, Any]:
        place = {"path": str(directory)} if subject is dkim_layout_info else {"directory": str(directory)}

        class Module(basic.AnsibleModule):  # type: ignore[misc]
            def __init__(self, argument_spec: Any, **_keywords: Any) -> None:
                validated = ArgumentSpecValidator(argument_spec).validate({**place, **options})
                assert validated.error_messages == []
                self.params = validated.validated_parameters
                self.check_mode = check
                self.no_log = no_log

            def get_bin_path(self, arg: str, required: bool = False) -> str:
                return arg

            def warn(self, warning: str) -> None:
                pass

            def exit_json(self, **result: Any) -> None:
                raise Ended({"failed": False, **result})

            def fail_json(self, **result: Any) -> None:
                raise Ended({"failed": True, **result})

        self._monkeypatch.setattr(subject, "AnsibleModule", Module)
        with pytest.raises(Ended) as ended:
            subject.main()  # type: ignore[attr-defined]
        return dict(ended.value.args[0])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(str(tmp_path / "store"), "openssl")


def live(store: KeyStore, serial: int, *keys: Key) -> None:
    """One batch of a rotation."""
    with store.locked(5):
        store.make_all(keys)
        Journal(os.path.join(store.directory, JOURNAL)).append([{"serial": serial, "key": key.name} for key in keys])


def withdraw(store: KeyStore, serial: int, key: Key) -> None:
    with store.locked(5):
        Journal(os.path.join(store.directory, JOURNAL)).append([{"serial": serial, "key": key.name}])
        store.archive(key, store.survey([key]).public[key.name].fingerprint)


def files(directory: Path | str) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(directory)): (path.stat().st_mode & 0o777, path.read_bytes())
        for path in Path(directory).rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_lost_store_comes_back_as_it_was(run: Runner, store: KeyStore, tmp_path: Path) -> None:
    live(store, 1, KEY, OTHER)
    withdraw(store, 2, KEY)
    live(store, 3, KEY)
    backup = run(dkim_key_backup, Path(store.directory))
    assert (backup["serial"], backup["key_count"], backup["changed"]) == (3, 3, False)
    assert run(dkim_key_backup, Path(store.directory)) == backup

    lost = tmp_path / "new" / "store"
    foreseen = run(dkim_key_restore, lost, backup=backup["backup"], check=True)
    assert not lost.exists()
    restored = run(dkim_key_restore, lost, backup=backup["backup"])
    assert restored == foreseen
    assert (restored["changed"], restored["serial"], restored["serial_before"]) == (True, 3, 0)
    assert files(lost) == files(store.directory)
    assert (lost / "withdrawn").stat().st_mode & 0o777 == lost.stat().st_mode & 0o777 == 0o700
    again = run(dkim_key_restore, lost, backup=backup["backup"])
    assert (again["changed"], again["added"]) == (False, [])
    assert KeyStore(str(lost), "openssl").survey([KEY, OTHER]).findings == []
    assert run(dkim_key_backup, lost)["state"] == backup["state"]


def test_what_needs_no_no_log_holds_no_key(run: Runner, store: KeyStore) -> None:
    live(store, 1, KEY)
    whole = run(dkim_key_backup, Path(store.directory))
    told = run(dkim_key_backup, Path(store.directory), content=False, no_log=False)
    assert {**told, "backup": whole["backup"]} == whole
    assert "PRIVATE KEY" not in str(told)
    live(store, 2, OTHER)
    later = run(dkim_key_backup, Path(store.directory), content=False, mark=told["mark"])
    assert (later["goes_on"], later["state"] == told["state"]) == (True, False)
    Journal(os.path.join(store.directory, JOURNAL)).append([{"serial": 3}])
    assert not run(dkim_key_backup, Path(store.directory), content=False, mark=f"{10**6}-0")["goes_on"]


def test_an_old_backup_changes_nothing_in_a_newer_store(run: Runner, store: KeyStore) -> None:
    live(store, 1, KEY)
    old = run(dkim_key_backup, Path(store.directory))["backup"]
    withdraw(store, 2, KEY)
    live(store, 3, KEY, OTHER)
    before = files(store.directory)
    result = run(dkim_key_restore, Path(store.directory), backup=old)
    assert (result["failed"], result["changed"], result["serial"], result["serial_backup"]) == (False, False, 3, 1)
    assert files(store.directory) == before


def test_a_store_that_was_set_back_catches_up(run: Runner, store: KeyStore, tmp_path: Path) -> None:
    live(store, 1, KEY)
    early = run(dkim_key_backup, Path(store.directory))["backup"]
    withdraw(store, 2, KEY)
    live(store, 3, KEY)
    late = run(dkim_key_backup, Path(store.directory))["backup"]
    back = tmp_path / "back"
    run(dkim_key_restore, back, backup=early)
    identity = Journal(str(back / JOURNAL)).identity()
    result = run(dkim_key_restore, back, backup=late)
    assert (result["serial_before"], result["serial"], result["withdrawn"]) == (1, 3, [KEY.name])
    assert files(back) == files(store.directory)
    assert Journal(str(back / JOURNAL)).identity() != identity


def test_different_ways_and_other_keys_are_refused_whole(run: Runner, store: KeyStore, tmp_path: Path) -> None:
    live(store, 1, KEY)
    backup = run(dkim_key_backup, Path(store.directory))["backup"]
    other = KeyStore(str(tmp_path / "other"), "openssl")
    live(other, 5, OTHER, KEY)
    before = files(other.directory)
    result = run(dkim_key_restore, Path(other.directory), backup=backup)
    assert result["failed"]
    assert sorted(finding["where"] for finding in result["findings"]) == [
        f"{other.directory}/{KEY.name}.pem",
        f"{other.directory}/{JOURNAL}, line 1",
    ]
    assert "serial 5 here, serial 1 in the backup" in result["msg"]
    assert files(other.directory) == before


def test_a_damaged_store_is_neither_backed_up_nor_restored_into(run: Runner, store: KeyStore) -> None:
    live(store, 1, KEY, OTHER)
    good = run(dkim_key_backup, Path(store.directory))["backup"]
    pem = Path(store.directory, f"{KEY.name}.pem")
    pem.write_bytes(pem.read_bytes()[:70])
    Path(store.directory, f"{OTHER.name}.pem").chmod(0o644)
    before = files(store.directory)
    for result in (
        run(dkim_key_backup, Path(store.directory)),
        run(dkim_key_restore, Path(store.directory), backup=good),
    ):
        assert result["failed"]
        assert "mode 0644" in result["msg"]
    assert files(store.directory) == before
    Path(store.directory, f"{OTHER.name}.pem").chmod(0o600)
    assert "no whole PKCS#8 key" in run(dkim_key_backup, Path(store.directory))["msg"]


def test_no_backup_without_no_log(run: Runner, store: KeyStore) -> None:
    live(store, 1, KEY)
    assert run(dkim_key_backup, Path(store.directory), no_log=False)["failed"]


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue())


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no gzip",
        gzip.compress(b"no tar"),
        _tar(),
        _tar((tarfile.TarInfo("manifest.json"), b"[]")),
        _tar((tarfile.TarInfo("manifest.json"), b'{"format": 2, "serial": 1, "sha256": {}}')),
        _tar((tarfile.TarInfo("manifest.json"), b'{"format": 1, "serial": 1, "sha256": {"journal.jsonl": "00"}}')),
        _tar(
            (tarfile.TarInfo("manifest.json"), b'{"format": 1, "sha256": {}}'),
            (tarfile.TarInfo("../../etc/passwd"), b"root"),
        ),
    ],
    ids=map(str, range(8)),
)
def test_what_is_no_backup_is_refused(run: Runner, tmp_path: Path, broken: bytes) -> None:
    result = run(dkim_key_restore, tmp_path / "store", backup=base64.b64encode(broken).decode())
    assert result["failed"]
    assert "cannot be read" in result["msg"]
    assert files(tmp_path) == {}


def test_a_backup_cut_or_changed_anywhere_is_refused(run: Runner, store: KeyStore, tmp_path: Path) -> None:
    live(store, 1, KEY)
    whole = gzip.decompress(base64.b64decode(run(dkim_key_backup, Path(store.directory))["backup"]))
    position = whole.index(b"-----BEGIN") + 40
    flipped = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
    for content in (whole[:position], whole[:512], flipped):
        result = run(dkim_key_restore, tmp_path / "new", backup=base64.b64encode(gzip.compress(content)).decode())
        assert result["failed"]
    assert not (tmp_path / "new").exists()


def series(domain: str, algorithm: str, **more: Any) -> dict[str, Any]:
    """What the fleet says of one, as hostvars carry it."""
    bits = 2048 if algorithm == "rsa" else 256
    return {
        "domain": domain,
        "algorithm": algorithm,
        "bits": bits,
        "ttl_seconds": 3600,
        "hosts": ["mta1"],
        "selector": "mail",
        "every_days": 180,
        "quarters": [],
        **more,
    }


FLEET = [series(domain, algorithm) for domain in ("example.com", "example.org") for algorithm in ("rsa", "ed25519")]


# What rspamadm 3.4 wrote with: dkim_keygen -d example.com -s ed -t ed25519, and the p= that it printed.
PAIR = "KoZNvPFio8XPluepANG7H/xxdet9RBphD7lHf3gLp+1D9+0h/uK1i2NONOzeSFIqTN4mwNjBuQkGEyv05UmpbQ=="
PUBLIC = "Q/ftIf7itYtjTjTs3khSKkzeJsDYwbkJBhMr9OVJqW0="


def make(path: Path, *arguments: str) -> None:
    subprocess.run(["openssl", arguments[0], "-out", str(path), *arguments[1:]], check=True, capture_output=True)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An old signer: OpenDKIM with RSA keys in both PEM forms, rspamd's directory with an Ed25519 seed beside them."""
    folder = tmp_path / "old"
    folder.mkdir()
    make(folder / "s1.private", "genrsa", "-traditional", "1024")
    make(folder / "s2.private", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    (folder / "broken.private").write_text((folder / "s1.private").read_text()[:200])
    (folder / "KeyTable").write_text(
        f"one example.com:s1:{folder}/s1.private\ntwo example.org:s2:{folder}/s2.private\n"
        f"three other.example:s1:{folder}/s1.private\n"
    )
    (folder / "example.com.ed.key").write_text(PAIR)
    return folder


def test_keys_of_old_signers_are_taken_over_under_their_selectors(run: Runner, old: Path, store: KeyStore) -> None:
    tables = run(dkim_layout_info, old / "KeyTable", kind="opendkim_key_table")
    seeds = run(dkim_layout_info, old, kind="directory")
    assert tables["findings"] == seeds["findings"] == []
    given = {
        "series": FLEET,
        "dkim_keys": tables["dkim_keys"] + seeds["dkim_keys"],
        "private_keys": {**tables["private_keys"], **seeds["private_keys"]},
    }
    names = ["s1._domainkey.example.com", "s2._domainkey.example.org", "ed._domainkey.example.com"]
    foreseen = run(dkim_key_import, Path(store.directory), **given, check=True)
    assert not Path(store.directory).exists()
    result = run(dkim_key_import, Path(store.directory), **given)
    assert result == foreseen
    assert (result["imported"], result["serial"], result["changed"]) == (names, 1, True)
    assert [(one["severity"], one["where"]) for one in result["findings"]] == [
        ("warning", "s1._domainkey.other.example")
    ]
    again = run(dkim_key_import, Path(store.directory), **given)
    assert (again["imported"], again["present"], again["changed"], again["serial"]) == ([], names, False, 1)

    lines = Journal(os.path.join(store.directory, JOURNAL)).read()
    assert [line["key"]["selector"] for line in lines] == ["s1", "s2", "ed"]
    assert [line["key"]["fingerprint"] for line in lines] == [
        one["fingerprint"] for one in given["dkim_keys"] if one["domain"] != "other.example"
    ]
    assert "PRIVATE" not in str(lines)
    held = [Key("example.com", "s1", "rsa"), Key("example.org", "s2", "rsa"), Key("example.com", "ed", "ed25519")]
    found = store.survey(held)
    assert (found.findings, found.missing, found.unsealed) == ([], [], [])
    assert found.public[held[2].name].record == f"v=DKIM1; k=ed25519; p={PUBLIC}"
    assert [found.public[key.name].record for key in held] == [line["key"]["record"] for line in lines]


def _old(run: Runner, old: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    given = run(dkim_layout_info, old / "KeyTable", kind="opendkim_key_table")
    return given["dkim_keys"], given["private_keys"]


def test_rotation_goes_on_from_an_imported_key(run: Runner, old: Path, store: KeyStore) -> None:
    given, private = _old(run, old)
    wanted = [series("example.org", "rsa"), series("example.com", "rsa")]
    run(dkim_key_import, Path(store.directory), series=wanted, dkim_keys=given, private_keys=private)
    with store.locked(5):
        report = rotation.Run(store, rotation.Order(wanted), False).go()
    for domain, selector in (("example.org", "s2"), ("example.com", "s1")):  # s1 has 1024 bits
        key = report.done.store.series[domain, "rsa"][0]
        assert (key.selector, key.because, key.state) == (selector, "imported", "new")


def test_what_does_not_fit_imports_nothing(run: Runner, old: Path, store: KeyStore) -> None:
    (first, second, _third), private = _old(run, old)
    delegated = [series("example.com", "rsa", delegate="dkim.example.net")]
    live(store, 0, Key("example.com", "taken", "rsa", 2048))
    Path(store.directory, JOURNAL).unlink()
    before = files(store.directory)
    secret = private[first["fingerprint"]]
    broken = {first["fingerprint"]: secret[:90] + "\n"}
    for wanted, keys, held, why in (
        (delegated, [first], private, "below dkim.example.net"),
        (FLEET, [first, {**second, "domain": "example.com"}], private, "two keys of one algorithm"),
        (FLEET, [second, {**first, "selector": "taken"}], private, "another key of this name"),
        (FLEET, [second, first], {**private, **broken}, "no key in PEM or base64"),
        (FLEET, [second, first], {**private, first["fingerprint"]: "nonsense"}, "not that of a key"),
        (FLEET, [second, first], {**private, first["fingerprint"]: private[second["fingerprint"]]}, "another fingerp"),
        (FLEET, [second, first], {second["fingerprint"]: private[second["fingerprint"]]}, "was not given"),
        (FLEET, [second, {**first, "selector": "a.b"}], private, "not one label"),
    ):
        result = run(dkim_key_import, Path(store.directory), series=wanted, dkim_keys=keys, private_keys=held)
        assert result["failed"], why
        assert why in result["msg"]
        assert secret[40:80] not in str(result)
        assert files(store.directory) == before
    assert run(dkim_key_import, Path(store.directory), series=[{}], dkim_keys=[first], private_keys=private)["failed"]
    run(dkim_key_import, Path(store.directory), series=FLEET, dkim_keys=[first], private_keys=private)
    late = {"series": FLEET, "dkim_keys": [{**second, "domain": "example.com"}], "private_keys": private}
    assert "has keys for this domain already (s1)" in run(dkim_key_import, Path(store.directory), **late)["msg"]
    left = run(dkim_key_import, Path(store.directory), **late, without=[second["path"]])
    assert (left["failed"], left["imported"]) == (False, [])
    Path(store.directory).chmod(0o755)
    assert "mode 0755" in run(dkim_key_import, Path(store.directory), **late)["msg"]


def test_an_import_that_was_killed_is_finished(run: Runner, old: Path, store: KeyStore) -> None:
    given, private = _old(run, old)
    with store.locked(5):
        store.place(Key("example.com", "s1", "rsa"), private[given[0]["fingerprint"]].encode())
    Path(store.directory, "s1._domainkey.example.com.pub").unlink()
    result = run(dkim_key_import, Path(store.directory), series=FLEET, dkim_keys=given[:1], private_keys=private)
    assert result["imported"] == ["s1._domainkey.example.com"]
    assert len(Journal(os.path.join(store.directory, JOURNAL)).read()) == 1


def test_what_cannot_be_read_is_a_finding_and_the_rest_is_read(run: Runner, old: Path) -> None:
    table = old / "KeyTable"
    table.write_text(table.read_text() + f"x example.net:s1:{old}/broken.private\ny example.net:s2:{old}/none\nz\n")
    result = run(dkim_layout_info, table, kind="opendkim_key_table", content=False, no_log=False)
    assert len(result["dkim_keys"]) == 3
    assert [one["where"] for one in result["findings"]] == [
        f"{table}:6",
        f"{old}/broken.private",
        f"{table}:5",
    ]
    assert "PRIVATE" not in str(result)
    assert run(dkim_layout_info, table, kind="opendkim_key_table", no_log=False)["failed"]
    table.write_bytes(b"\xff\xfe")
    assert run(dkim_layout_info, table, kind="opendkim_key_table")["findings"]
    assert run(dkim_layout_info, old, kind="powermta")["findings"]


def _asked(key: Key, **more: Any) -> dict[str, Any]:
    return {"domain": key.domain, "selector": key.selector, "algorithm": key.algorithm, **more}


def test_signers_get_the_key_that_they_ask_for_or_none(run: Runner, store: KeyStore) -> None:
    live(store, 1, KEY, OTHER)
    public = store.survey([KEY, OTHER]).public
    right = _asked(KEY, fingerprint=public[KEY.name].fingerprint, private=True)
    result = run(dkim_private_key_info, Path(store.directory), keys=[_asked(OTHER), right])
    assert [one["domain"] for one in result["private_keys"]] == [OTHER.domain, KEY.domain]
    assert result["private_keys"][1].pop("private_key").encode() == files(store.directory)[f"{KEY.name}.pem"][1]
    assert result["private_keys"][1].items() <= right.items()
    lost = _asked(Key("example.com", "lost", "ed25519"), fingerprint="00", private=False)
    assert run(dkim_private_key_info, Path(store.directory), keys=[lost])["private_keys"] == []
    wrong = run(
        dkim_private_key_info, Path(store.directory), keys=[_asked(KEY, fingerprint=public[OTHER.name].fingerprint)]
    )
    assert (wrong["failed"], len(wrong["findings"])) == (True, 1)
    assert "private_keys" not in wrong
    assert run(dkim_private_key_info, Path(store.directory), keys=[right], no_log=False)["failed"]
    gone = Key("example.com", "gone", "ed25519")
    assert run(dkim_private_key_info, Path(store.directory), keys=[_asked(gone)])["failed"]
    checked = run(dkim_private_key_info, Path(store.directory), keys=[_asked(gone)], check=True)
    assert (checked["private_keys"], checked["missing"]) == ([], [gone.name])


def test_a_full_disk_ends_a_restore_that_the_next_one_finishes(run: Runner, store: KeyStore, tmp_path: Path) -> None:
    live(store, 1, KEY, OTHER)
    Journal(os.path.join(store.directory, JOURNAL)).append([{"serial": 2, "why": "x" * 5000}])
    backup = run(dkim_key_backup, Path(store.directory))["backup"]
    lost = tmp_path / "new"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (60, 1000):  # less than a key; all keys and less than the journal
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            result = run(dkim_key_restore, lost, backup=backup)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert result["failed"]
        assert "too large" in result["msg"]
        assert files(lost).items() <= files(store.directory).items()
    assert run(dkim_key_restore, lost, backup=backup)["serial"] == 2
    assert files(lost) == files(store.directory)
