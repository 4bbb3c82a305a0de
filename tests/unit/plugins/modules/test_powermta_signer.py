# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM keys of a PowerMTA host: what is in force after each run, and what is refused before anything is touched."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import powermta as powermta_evidence
from ansible_collections.mailops.mta.plugins.modules import dkim_signer_key, powermta_signer
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.engines.powermta.double import SigningHost
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.signers.standin import Pair, pair

A1, A2, B1 = (
    pair(domain, selector, "rsa") for domain, selector in (("a.test", "s1"), ("a.test", "s2"), ("b.test", "s1"))
)
CURVE = pair("a.test", "s1-ed25519")


class Host(SigningHost):
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(path, monkeypatch)
        monkeypatch.setattr(install, "OWNER", os.geteuid())
        monkeypatch.setattr(install, "group_id", lambda _name: os.getegid())
        self.set_up()

    def bring(self, *keys: Pair) -> None:
        """As dkim_signer_key does."""
        held = key_files.of("powermta", str(self.directory))
        held.make_directories()
        install.write([dkim_signer_key._file(held, {**key.public, "private_key": key.pem}) for key in keys])

    def sign(
        self, serial: int, held: list[Pair], signing: list[Pair], check: bool = False, **more: Any
    ) -> dict[str, Any]:
        given = {
            "directory": str(self.directory),
            "serial": serial,
            "domains": ["a.test", "b.test", "c.test"],
            "keep_days": 10,
            "version": "5.0",
            "keys": [{"private": True, **key.public} for key in held],
            "signing": [key.public for key in signing],
            **more,
        }
        return dict(powermta_signer.configure(given, check, str(self.root)))

    def evidence(self, *domains: str) -> dict[str, Any]:
        return powermta_evidence.gather(str(self.directory), domains, str(self.root))

    def signs(self) -> list[str]:
        """The names of the key files that the running PowerMTA signs with."""
        return [
            line.partition("  #")[0].rpartition("/")[2]
            for line in self.key_lines.splitlines()
            if line.startswith("domain-key")
        ]

    def keys(self) -> list[str]:
        return sorted(os.listdir(self.directory / "keys"))

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def name(key: Pair) -> str:
    return SigningKey(**key.public).file


def ready(host: Host) -> None:
    host.bring(A1, A2, B1)
    host.sign(7, [A1, A2, B1], [A1, B1])


def refused(host: Host, *arguments: Any, **more: Any) -> str:
    """The message; and that nothing was touched, in check mode either."""
    before, reloads = host.files(), host.reloads
    for check in (True, False):
        with pytest.raises((key_files.SignerError, configuration.PowermtaError)) as error:
            host.sign(*arguments, check=check, **more)
        assert {path: text for path, text in host.files().items() if "lock" not in path} == {
            path: text for path, text in before.items() if "lock" not in path
        }
    assert host.reloads == reloads
    return str(error.value)


def test_another_key_signs_after_one_reload_and_a_second_run_changes_nothing(host: Host) -> None:
    ready(host)
    assert host.signs() == [name(A1), name(B1)]
    for serial, signing in ((8, [A2, B1]), (8, [A1, B1])):
        reloads = host.reloads
        checked = host.sign(serial, [A1, A2, B1], signing, check=True)
        assert host.reloads == reloads
        done = host.sign(serial, [A1, A2, B1], signing)
        before = host.files()
        again = host.sign(serial, [A1, A2, B1], signing)
        assert (checked["changed"], done["changed"], again["changed"]) == (True, True, False)
        assert (checked["files"], checked["diff"]) == (done["files"], done["diff"])
        assert (checked["effort"], done["effort"], again["effort"]) == ("reload", "reload", "nothing")
        assert host.files() == before
        assert host.signs() == [name(key) for key in signing]
        assert host.reloads == reloads + 1


def test_a_new_state_without_other_keys_needs_no_reload_and_is_remembered(host: Host) -> None:
    ready(host)
    reloads = host.reloads
    done = host.sign(9, [A1, A2, B1], [A1, B1])
    assert (done["changed"], done["effort"], host.reloads) == (True, "load", reloads)
    assert host.evidence()["serial"] == 9
    assert "has the state 9" in refused(host, 8, [A1, A2, B1], [A1, B1])


def test_keys_stay_while_powermta_runs_with_another_main_file(host: Host) -> None:
    """It may name them, and it cannot be told to leave them."""
    host.bring(A1, B1)
    host.sign(7, [A1, B1], [A1, B1])
    main = Path(configuration.Paths(str(host.root)).main)
    ours = main.read_text(encoding="utf-8")
    main.write_text(ours + "# a remark of an operator\n", encoding="utf-8")
    host.bring(A2)
    host.sign(8, [A2, B1], [A2, B1])
    assert set(host.signs()) <= set(host.keys())
    assert {name(A1)} <= set(host.keys())
    main.write_text(ours, encoding="utf-8")
    host.sign(8, [A2, B1], [A2, B1])
    assert set(host.keys()) == {name(A2), name(B1)}
    assert host.signs() == [name(A2), name(B1)]


def test_no_diff_shows_a_key(host: Host) -> None:
    host.bring(A1, B1)
    told = str(host.sign(7, [A1, B1], [A1]))
    told += str(host.sign(8, [B1], [B1]))
    assert name(A1) in told
    assert not any(line in told for line in A1.pem.splitlines()[1:-1])


def test_an_older_state_is_refused_and_nothing_is_touched(host: Host) -> None:
    ready(host)
    told = refused(host, 6, [A2], [A2])
    assert all(word in told for word in ("70-dkim.conf", "7", "6", "mailops.mta.rotate_dkim"))


def test_the_key_of_a_domain_that_left_stays_for_the_mail_that_waits(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Day(datetime.date):
        now = datetime.date(2026, 11, 25)

        @classmethod
        def today(cls) -> datetime.date:
            return cls.now

    monkeypatch.setattr(powermta_signer.datetime, "date", Day)
    host.bring(A1, B1)
    host.sign(7, [A1, B1], [A1, B1])
    gone = {"domains": ["a.test"]}
    host.sign(8, [A1], [A1], **gone)
    assert name(B1) in "".join(host.signs())
    assert host.keys() == sorted([name(A1), name(B1)])
    Day.now = datetime.date(2026, 12, 4)
    assert not host.sign(8, [A1], [A1], **gone)["changed"]
    Day.now = datetime.date(2026, 12, 5)
    host.sign(8, [A1], [A1], **gone)
    assert host.signs() == [name(A1)]
    assert host.keys() == [name(A1)]


def test_a_domain_that_comes_back_has_the_key_of_the_store_again(host: Host) -> None:
    host.bring(A1, A2, B1)
    host.sign(7, [A1, B1], [A1, B1])
    host.sign(8, [B1], [B1], domains=["b.test"])
    host.bring(A2)
    host.sign(9, [A2, B1], [A2, B1])
    assert sorted(host.signs()) == sorted([name(A2), name(B1)])


def test_a_key_that_is_withdrawn_from_a_domain_of_the_fleet_goes_at_once(host: Host) -> None:
    host.bring(A1, B1)
    host.sign(7, [A1, B1], [A1, B1])
    host.sign(8, [B1], [B1])
    assert host.signs() == [name(B1)]
    assert host.keys() == [name(B1)]


def test_a_fragment_that_tells_no_state_is_not_taken_for_none(host: Host) -> None:
    ready(host)
    host.change({"70-dkim.conf": "# by hand\n"})
    assert "70-dkim.conf" in refused(host, 8, [A1, A2, B1], [A1])


def test_what_is_not_here_or_not_whole_is_refused_before_anything_is_touched(host: Host) -> None:
    ready(host)
    new = pair("c.test", "s3", "rsa")
    with pytest.raises(key_files.SignerError):
        host.sign(8, [new], [new])
    for keys, signing in (([A1, B1], [A2]), ([A1, A2, B1], [A1, A2])):
        refused(host, 8, keys, signing)
    assert "no private part" in refused(host, 8, [], [new], keys=[{**new.public, "private": False}])
    path = host.directory / "keys" / name(A1)
    whole = path.read_bytes()
    for broken in (whole[:-40], CURVE.pem.encode(), b""):
        path.write_bytes(broken)
        with pytest.raises(key_files.SignerError, match=name(A1)):
            host.sign(8, [A1, A2, B1], [A1])
    path.write_bytes(whole)
    path.chmod(0o644)
    with pytest.raises(key_files.SignerError, match="0640"):
        host.sign(8, [A1, A2, B1], [A1])
    assert host.signs() == [name(A1), name(B1)]


def test_ed25519_is_refused_where_it_is_to_sign_and_left_aside_where_it_is_held(host: Host) -> None:
    host.bring(A1)
    assert "RSA" in refused(host, 7, [A1, CURVE], [CURVE])
    host.sign(7, [A1, CURVE], [A1])
    assert host.signs() == [name(A1)]
    assert host.keys() == [name(A1)]


def test_keys_that_are_not_wanted_go_after_powermta_has_left_them(host: Host) -> None:
    ready(host)
    (host.directory / "keys" / ".new").write_text("of a run that was killed", encoding="utf-8")
    (host.directory / "keys" / "somebody.pem").write_text("else", encoding="utf-8")
    host.refuse()
    with pytest.raises(configuration.PowermtaError, match="refused by the test"):
        host.sign(8, [A2], [A2])
    assert {name(A1), name(A2), name(B1)} < set(host.keys())
    assert host.evidence()["serial"] == 7
    host.refuse(False)
    # The stand-in refuses a configuration whose keys are not there, before and after.
    host.sign(8, [A2], [A2])
    assert host.keys() == sorted([name(A2), "somebody.pem"])
    assert host.signs() == [name(A2)]


@pytest.mark.parametrize(
    ("owner", "function", "signing"),
    [(configuration, "_write_set", "s1"), (configuration, "_follow", ""), (key_files.KeyFiles, "stale", "s2")],
)
def test_a_run_that_is_killed_is_finished_by_the_next(
    host: Host, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, signing: str
) -> None:
    """Before the new set is in place, before PowerMTA reads it, and before the old key goes."""
    ready(host)

    def die(*_arguments: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, function, die)
        with pytest.raises(KeyboardInterrupt):
            host.sign(8, [A2, B1], [A2, B1])
    signs = host.evidence()["signs"]
    assert [one["selector"] for one in signs or () if one["domain"] == "a.test"] == ([signing] if signing else [])
    assert all((host.directory / "keys" / key).exists() for key in host.signs())
    done = host.sign(8, [A2, B1], [A2, B1])
    assert done["changed"]
    assert (host.signs(), host.keys()) == ([name(A2), name(B1)], sorted([name(A2), name(B1)]))
    assert host.evidence("a.test")["signs"] == [A2.public, B1.public]
    assert not host.sign(8, [A2, B1], [A2, B1])["changed"]


def test_a_powermta_that_does_not_run_is_not_started_and_finds_its_keys(host: Host) -> None:
    host.run(False)
    host.bring(A1)
    assert host.sign(7, [A1], [A1])["effort"] == "load"
    assert not host.sign(7, [A1], [A1])["changed"]
    assert (host.reloads, host.evidence()["signs"]) == (0, None)
    assert "does not run" in host.evidence()["problems"][0]


def test_the_first_run_of_a_host_leaves_what_runs_there_alone(host: Host) -> None:
    (host.root / "config").write_text("# of somebody else\n", encoding="utf-8")
    reloads = host.reloads
    host.bring(A1)
    assert host.sign(7, [A1], [A1])["effort"] == "load"
    assert (host.root / "config").read_text(encoding="utf-8") == "# of somebody else\n"
    assert host.reloads == reloads
