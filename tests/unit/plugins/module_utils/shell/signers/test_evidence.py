# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence is what signatures prove: which key made them, and nothing where that cannot be said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import Installed, SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import for_rspamd
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import evidence, milter, rspamd
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.signers.standin import Pair, Signer, pair


@pytest.fixture(autouse=True)
def _rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "OWNER", os.geteuid())
    monkeypatch.setattr(install, "group_id", lambda _name: os.getegid())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    return tmp_path


def place(directory: Path, *pairs: Pair) -> list[Path]:
    keys = rspamd.key_files(str(directory))
    files = [keys.file(SigningKey(**one.public), for_rspamd(one.pem).encode("ascii")) for one in pairs]
    install.write(files)
    return [Path(file.path) for file in files]


def gather(directory: Path, *domains: str) -> dict[str, Any]:
    return evidence.gather(str(directory), str(directory / "sock"), domains)


def test_the_keys_that_signed_are_told_and_the_others_are_held(directory: Path) -> None:
    new = [pair("a.test", "s2"), pair("a.test", "s2-rsa", "rsa"), pair("b.test", "s2")]
    old = [pair("a.test", "s1"), pair("b.test", "s1")]
    place(directory, *new, *old)
    rspamd.mark(str(directory), Installed(7, "digest"))
    with Signer(directory / "sock", [*new[:2], old[1]]) as signer:
        found = gather(directory, "b.test", "a.test", "a.test")
    key = SigningKey
    assert [key(**one) for one in found["signs"]] == sorted(key(**one.public) for one in [*new[:2], old[1]])
    assert {key(**one) for one in found["holds"]} == {key(**one.public) for one in [*new, *old]}
    assert (found["serial"], found["unknown"], found["problems"]) == (7, [], [])
    assert sorted(signer.shown) == ["a.test", "b.test"]
    assert signer.connections <= (os.cpu_count() or 1)


def test_each_stream_is_asked_for_its_own_domains(directory: Path) -> None:
    pairs = [pair("a.test", "s1"), pair("b.test", "s1"), pair("c.test", "s1")]
    place(directory, *pairs)
    streams = {"one": {"from": {"a.test": "a.test", "c.test": "c.test"}}, "two": {"from": {"b.test": "b.test"}}}
    install.write([rspamd.admission_file(str(directory), {"streams": streams, "front": None})])
    with Signer(directory / "sock", pairs) as signer:
        found = gather(directory, "a.test", "b.test", "c.test", "new.test")
    assert found["unknown"] == ["new.test"]
    assert sorted(signer.named) == [("a.test", "one"), ("b.test", "two"), ("c.test", "one"), ("new.test", "")]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"streams": []}', b'{"streams": {"a": {}}}'])
def test_a_file_of_streams_that_is_broken_names_none(directory: Path, content: bytes) -> None:
    (directory / "streams.json").write_bytes(content)
    assert rspamd.stream_by_domain(str(directory)) == {}


def test_a_domain_that_left_the_fleet_is_asked_about_while_it_is_signed_for(directory: Path) -> None:
    left = pair("left.test", "s1")
    place(directory, left)
    (directory / "signing").mkdir()
    install.write(rspamd.table_files(str(directory), [SigningKey(**left.public)]))
    with Signer(directory / "sock", [left]):
        assert gather(directory)["signs"] == [left.public]


def test_a_signer_that_works_with_an_older_file_is_seen_as_that(directory: Path) -> None:
    new, old = pair("a.test", "s1"), pair("a.test", "s1")
    place(directory, new, old)
    with Signer(directory / "sock", [old]):
        assert [one["fingerprint"] for one in gather(directory, "a.test")["signs"]] == [old.fingerprint]


def test_a_signature_by_a_key_that_is_in_no_file_is_unknown(directory: Path) -> None:
    held, gone, other = pair("a.test", "s1"), pair("a.test", "s1"), pair("b.test", "s1")
    place(directory, held, other)
    with Signer(directory / "sock", [gone, other]):
        found = gather(directory, "a.test", "b.test")
    assert found["unknown"] == ["a.test"]
    assert [one["domain"] for one in found["signs"]] == ["b.test"]
    assert "a.test" in found["problems"][0]


def test_one_signature_that_is_unknown_makes_the_domain_unknown(directory: Path) -> None:
    known, gone = pair("a.test", "s1"), pair("a.test", "s1-rsa", "rsa")
    place(directory, known)
    with Signer(directory / "sock", [known, gone]):
        found = gather(directory, "a.test")
    assert (found["signs"], found["unknown"]) == ([], ["a.test"])


def test_a_refusal_is_told_in_the_signers_words(directory: Path) -> None:
    with Signer(directory / "sock", []):
        found = gather(directory, "a.test")
    assert (found["signs"], found["unknown"]) == ([], ["a.test"])
    assert "451 4.7.1 this server has no DKIM key" in found["problems"][0]


def test_a_signer_that_breaks_off_leaves_the_rest_unknown(directory: Path) -> None:
    pairs = [pair(f"d{n}.test", "s1") for n in range(20)]
    place(directory, *pairs)
    with Signer(directory / "sock", pairs, patience=5):
        found = gather(directory, *(one.domain for one in pairs))
    signed = {one["domain"] for one in found["signs"]}
    assert 0 < len(signed) < 20
    assert signed | set(found["unknown"]) == {one.domain for one in pairs}
    assert not signed & set(found["unknown"])


def test_no_signer_is_no_evidence_of_anything(directory: Path) -> None:
    held = pair("a.test", "s1")
    place(directory, held)
    found = gather(directory, "a.test")
    assert (found["signs"], found["unknown"], found["serial"]) == (None, ["a.test"], None)
    assert found["holds"] == [held.public]
    assert str(directory / "sock") in found["problems"][0]


def test_a_host_without_directory_and_socket_is_known_to_sign_with_nothing(directory: Path) -> None:
    found = evidence.gather(str(directory / "none"), str(directory / "sock"), ["a.test"])
    assert (found["signs"], found["unknown"], found["holds"], found["serial"]) == ([], [], [], None)
    (directory / "sock").touch()
    assert evidence.gather(str(directory / "none"), str(directory / "sock"), ["a.test"])["signs"] is None


def test_nothing_but_whole_keys_with_the_right_rights_are_held(directory: Path) -> None:
    pairs = [pair("a.test", f"s{n}") for n in range(4)] + [pair("a.test", "cut", "rsa")]
    open_to_all, renamed, cut, fine, cut_rsa = place(directory, *pairs)
    open_to_all.chmod(0o644)
    renamed.rename(renamed.with_name(f"s1._domainkey.a.test.{pairs[3].fingerprint[:8]}.key"))
    cut.write_bytes(cut.read_bytes()[:-8])
    cut_rsa.write_bytes(cut_rsa.read_bytes()[:-200])
    (directory / "keys" / "link._domainkey.a.test.01234567.key").symlink_to(fine)
    (directory / "keys" / "readme").write_text("x", encoding="utf-8")
    found = gather(directory)
    assert found["holds"] == [pairs[3].public]
    assert len(found["problems"]) == 6
    assert not any(line in str(found) for one in pairs for line in one.pem.splitlines()[1:-1])


def test_a_run_that_did_not_end_is_told(directory: Path) -> None:
    rspamd.mark(str(directory), Installed(7))
    found = gather(directory)
    assert found["serial"] == 7
    assert "did not come to its end" in found["problems"][0]
    Path(directory, "installed.json").write_text("{", encoding="utf-8")
    assert "broken" in gather(directory)["problems"][0]


def test_a_milter_that_is_none_of_ours_is_refused(directory: Path) -> None:
    with Signer(directory / "sock", [], steps=0), pytest.raises(milter.MilterError, match="answers to each step"):
        milter.Milter(str(directory / "sock"), 2)
    assert not rspamd.answers(str(directory / "sock"))
