# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.store import WITHDRAWN, archived
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import KeyStore, StoreError

KEY = Key("example.com", "s1-ed25519", "ed25519", 256)
OTHER = Key("example.org", "s1-ed25519", "ed25519", 256)


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(str(tmp_path / "deep" / "store"), "openssl")


def _made(store: KeyStore, *keys: Key) -> dict[str, bytes]:
    with store.locked(5):
        store.make_all(store.survey(keys).missing)
    return _files(store)


def _files(store: KeyStore) -> dict[str, bytes]:
    paths = Path(store.directory).iterdir()
    return {path.name: path.read_bytes() for path in paths if path.name not in (".lock", WITHDRAWN)}


def _why(store: KeyStore, *keys: Key) -> str:
    return " ".join(finding.why for finding in store.survey(keys).findings)


def test_what_is_made_is_found_again(store: KeyStore) -> None:
    files = _made(store, KEY, OTHER)
    assert sorted(files) == sorted(f"{key.name}.{end}" for key in (KEY, OTHER) for end in ("pem", "pub"))
    found = store.survey([KEY, OTHER])
    assert not found.missing
    assert not found.findings
    assert found.public[KEY.name].record != found.public[OTHER.name].record
    assert _made(store, KEY, OTHER) == files


def test_only_the_owner_may_read(store: KeyStore) -> None:
    _made(store, KEY)
    assert Path(store.directory).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in Path(store.directory).iterdir()} == {0o600}


def test_a_survey_of_nothing_makes_nothing(store: KeyStore) -> None:
    assert store.survey([KEY]).missing == [KEY]
    assert not Path(store.directory).exists()


def test_a_key_is_never_overwritten(store: KeyStore) -> None:
    files = _made(store, KEY)
    with store.locked(5):
        assert store.make(KEY) == store.survey([KEY]).public[KEY.name]
        with pytest.raises(StoreError, match="rsa is wanted"):
            store.make(Key(KEY.domain, KEY.selector, "rsa", 2048))
        with pytest.raises(FileExistsError):
            store.place(KEY, files[f"{KEY.name}.pem"])
    assert _files(store) == files


def test_a_key_that_a_killed_run_made_is_used(store: KeyStore) -> None:
    files = _made(store, KEY)
    Path(store.directory, f"{KEY.name}.pub").unlink()
    with store.locked(5):
        made = store.make_all([KEY, OTHER])
    assert {name: content for name, content in _files(store).items() if name.startswith(KEY.name)} == files
    assert made == store.survey([KEY, OTHER]).public


def test_a_run_killed_between_the_two_files_is_finished(store: KeyStore) -> None:
    files = _made(store, KEY)
    Path(store.directory, f"{KEY.name}.pub").unlink()
    with store.locked(5):
        found = store.survey([KEY])
        assert found.unsealed == [KEY]
        store.seal(KEY, found)
    assert _files(store) == files


def test_what_a_killed_run_left_is_cleared(store: KeyStore) -> None:
    _made(store, KEY)
    Path(store.directory, f".{OTHER.name}.pem.new").write_text("half")
    assert f"{OTHER.name}.pem" in _made(store, KEY, OTHER)
    assert not [name for name in _files(store) if name.endswith(".new")]


def test_faults_are_findings_and_change_nothing(store: KeyStore) -> None:
    files = _made(store, KEY, OTHER)
    pem, pub = Path(store.directory, f"{KEY.name}.pem"), Path(store.directory, f"{KEY.name}.pub")
    pem.write_bytes(files[f"{KEY.name}.pem"][:60])
    assert "no whole PKCS#8 key" in _why(store, KEY)
    pem.write_bytes(files[f"{OTHER.name}.pem"])
    assert "do not belong together" in _why(store, KEY)
    pem.write_bytes(files[f"{KEY.name}.pem"])
    pem.chmod(0o640)
    assert "mode 0640" in _why(store, KEY)
    pem.chmod(0o600)
    pub.write_text("{}")
    assert "broken" in _why(store, KEY)
    pub.write_bytes(files[f"{KEY.name}.pub"])
    pem.rename(pem.with_suffix(".away"))
    assert "the private key is not" in _why(store, KEY)
    pem.symlink_to(pem.with_suffix(".away"))
    assert _why(store, KEY)
    pem.unlink()
    pem.with_suffix(".away").rename(pem)
    assert not _why(store, KEY)
    assert _files(store) == files


def test_another_algorithm_or_size_is_a_finding(store: KeyStore) -> None:
    _made(store, KEY)
    assert "rsa is wanted" in _why(store, Key(KEY.domain, KEY.selector, "rsa", 2048))
    assert "asked for twice" in _why(store, KEY, KEY)


def test_an_open_directory_is_a_finding(store: KeyStore) -> None:
    _made(store, KEY)
    Path(store.directory).chmod(0o755)
    assert "others may use it" in _why(store, KEY)


@pytest.mark.parametrize("slash", ["", "/", "/.", "//"])
def test_what_a_link_leads_to_is_not_touched(store: KeyStore, slash: str) -> None:
    away = Path(store.directory).parent.parent / "away"
    away.mkdir(mode=0o700)
    (away / "letter.new").write_text("not ours")
    link = Path(store.directory)
    link.parent.mkdir()
    link.symlink_to(away)
    with pytest.raises(StoreError, match="no directory"), KeyStore(f"{link}{slash}", "openssl").locked(5):
        pass
    assert [path.name for path in away.iterdir()] == ["letter.new"]


def test_a_directory_that_others_may_use_is_not_touched(store: KeyStore) -> None:
    directory = Path(store.directory)
    directory.mkdir(parents=True)
    (directory / "letter.new").write_text("not ours")
    directory.chmod(0o777)
    with pytest.raises(StoreError, match="others may use it"), store.locked(5):
        pass
    assert [path.name for path in directory.iterdir()] == ["letter.new"]


def _hold(directory: str, end: multiprocessing.connection.Connection) -> None:
    with KeyStore(directory, "openssl").locked(5):
        end.send("held")
        end.recv()


def test_two_runs_wait_for_each_other(store: KeyStore) -> None:
    _made(store, KEY)
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.Process(target=_hold, args=(store.directory, theirs), daemon=True)
    other.start()
    theirs.close()  # so that its end, whatever the reason, ends the waiting
    assert ours.recv() == "held"
    with pytest.raises(StoreError, match="another run"), store.locked(0.2):
        pass
    ours.send("done")
    other.join()
    with store.locked(1):
        assert os.path.exists(store.directory)


def test_a_failing_openssl_leaves_nothing(store: KeyStore) -> None:
    broken = KeyStore(store.directory, "/bin/false")
    with broken.locked(5), pytest.raises(StoreError, match="genpkey failed"):
        broken.make_all([KEY])
    assert not _files(store)


def test_a_full_disk_leaves_no_half_key(store: KeyStore) -> None:
    files = _made(store, KEY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 50, 119, 150):  # an Ed25519 key has 119 bytes, its public part 151
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            with store.locked(5), pytest.raises(OSError, match="too large"):
                store.make_all([OTHER])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not [name for name in _files(store) if name.endswith(".new")]
        found = store.survey([KEY, OTHER])
        assert (found.findings, found.missing + found.unsealed) == ([], [OTHER])
    assert _made(store, KEY, OTHER).items() >= files.items()


def _withdrawn(store: KeyStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(store.directory, WITHDRAWN).glob("*")}


def test_a_withdrawn_key_moves_and_its_name_is_free(store: KeyStore) -> None:
    files = _made(store, KEY)
    first = store.survey([KEY]).public[KEY.name]
    with store.locked(5):
        assert store.archive(KEY, first.fingerprint)
        assert not store.archive(KEY, first.fingerprint)
        second = store.make(KEY)
        assert second != first
        assert not store.archive(KEY, first.fingerprint)
    assert Path(store.directory, WITHDRAWN).stat().st_mode & 0o777 == 0o700
    assert _withdrawn(store) == {
        f"{KEY.name}.{first.fingerprint[:8]}.{end}": files[f"{KEY.name}.{end}"] for end in ("pem", "pub")
    }
    assert store.survey([KEY]).public[KEY.name] == second


class Killed(BaseException):
    """The run ends here."""


@pytest.mark.parametrize("moment", range(8))
def test_an_archiving_run_killed_anywhere_is_finished(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    files = _made(store, KEY)
    print_of = store.survey([KEY]).public[KEY.name].fingerprint
    calls = 0

    def dying(call: Any) -> Any:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > moment:
                raise Killed
            return call(*arguments, **keywords)

        return counted

    with monkeypatch.context() as patch:
        for name in ("mkdir", "link", "unlink", "fsync"):
            patch.setattr(os, name, dying(getattr(os, name)))
        with contextlib.suppress(Killed), store.locked(5):
            store.archive(KEY, print_of)
    assert (calls > moment) == (moment < 7)  # the last of the moments is after the end
    with store.locked(5):
        store.archive(KEY, print_of)
    assert sorted(_withdrawn(store).values()) == sorted(files.values())
    assert store.survey([KEY]).missing == [KEY]


def test_archiving_overwrites_nothing(store: KeyStore) -> None:
    files = _made(store, KEY)
    print_of = store.survey([KEY]).public[KEY.name].fingerprint
    there = Path(store.directory, archived(KEY.name, print_of, "pem"))
    there.parent.mkdir(0o700)
    there.write_text("another")
    there.chmod(0o600)
    with store.locked(5), pytest.raises(StoreError, match="another key"):
        store.archive(KEY, print_of)
    assert there.read_text() == "another"
    assert {name: content for name, content in _files(store).items() if name in files} == files


def test_a_small_key_may_be_there_but_none_is_made(store: KeyStore) -> None:
    small = Key("example.com", "old", "rsa", 1024)
    private = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], check=True, capture_output=True
    ).stdout
    with store.locked(5):
        with pytest.raises(StoreError, match="not 1024"):
            store.make(small)
        store.place(small, private)
    assert (store.survey([small]).findings, store.survey([small]).public[small.name].bits) == ([], 1024)
