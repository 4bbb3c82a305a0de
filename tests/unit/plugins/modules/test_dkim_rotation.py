# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs over a real key store: what is made, remembered, refused, and what a killed, late or restored run does."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import report
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim import journal, rotation
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import clock
from ansible_collections.mailops.mta.plugins.modules import dkim_rotation

DAY = 86400
SERIES = {
    "domain": "tx.example.com",
    "algorithm": "ed25519",
    "bits": 256,
    "ttl_seconds": 60,
    "hosts": ["mta1", "mta2"],
    "selector": "mail",
    "every_days": 90,
    "margin_seconds": 600,
    "keep_retired_seconds": 7 * DAY,
}


class Ended(Exception):
    """What the module returned."""


class World:
    """A store, a clock, DNS that shows what is published, and hosts that follow when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.monkeypatch = monkeypatch
        self.directory = directory
        self.wall = 1_800_000_000
        self.up = 1000
        self.boot = "first"
        self.dns: dict[str, list[str]] = {}
        self.signs: dict[str, list[dict[str, Any]]] = {"mta1": [], "mta2": []}
        self.holds: dict[str, list[dict[str, Any]]] = {"mta1": [], "mta2": []}
        self.serials = {"mta1": 0, "mta2": 0}
        monkeypatch.setattr(rotation.time, "time", lambda: self.wall)
        monkeypatch.setattr(clock, "uptime", lambda: self.up)
        monkeypatch.setattr(clock, "boot_id", lambda: self.boot)

    def wait(self, seconds: int) -> None:
        self.wall += seconds
        self.up += seconds

    def run(self, *series: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"directory": str(self.directory), "series": list(series or (SERIES,)), **options}

        class Module(basic.AnsibleModule):  # type: ignore[misc]
            def __init__(self, argument_spec: Any, **_keywords: Any) -> None:
                validated = ArgumentSpecValidator(argument_spec).validate(given)
                assert validated.error_messages == []
                self.params = validated.validated_parameters
                self.check_mode = check

            def get_bin_path(self, arg: str, required: bool = False) -> str:
                return arg

            def exit_json(self, **result: Any) -> None:
                raise Ended({"failed": False, **result})

            def fail_json(self, **result: Any) -> None:
                raise Ended({"failed": True, **result})

        self.monkeypatch.setattr(dkim_rotation, "AnsibleModule", Module)
        with pytest.raises(Ended) as ended:
            dkim_rotation.main()
        return dict(ended.value.args[0])

    def look(self, asked: list[dict[str, str]]) -> list[dict[str, Any]]:
        def server(address: str, name: str) -> dict[str, Any]:
            values = self.dns.get(name, [])
            return {"server": address, "status": "yes" if values else "no", "values": values, "ttl": 60}

        return [
            {**one, "whole": True, "servers": [server(a, one["name"]) for a in ("192.0.2.1", "::1")]} for one in asked
        ]

    def evidence(self, asked: list[dict[str, str]], *hosts: str) -> dict[str, Any]:
        told = {
            host: {
                "serial": self.serials[host],
                "clock": self.wall,
                "signs": self.signs[host],
                "holds": self.holds[host],
            }
            for host in hosts
        }
        return {"looks": self.look(asked), "hosts": told, "passed": []}

    def publish(self, result: dict[str, Any]) -> None:
        for record in result["records"]:
            if record["state"] == "absent":
                self.dns.pop(record["name"], None)
            elif record["values"] is not None:
                self.dns[record["name"]] = record["values"]

    def follow(self, result: dict[str, Any], *hosts: str) -> None:
        for host in hosts:
            assert result["serial"] >= self.serials[host]
            self.signs[host], self.holds[host] = result["signing"], result["holding"]
            self.serials[host] = result["serial"]

    def round(self, *hosts: str, **options: Any) -> dict[str, Any]:
        """What rotate_dkim.yml does."""
        first = self.run(evidence=self.evidence([], *hosts), **options)
        seen = self.run(evidence=self.evidence(first["ask"], *hosts), serial=first["serial"])
        assert not seen["failed"], seen
        self.publish(seen)
        self.follow(seen, *hosts)
        last = self.run(evidence=self.evidence(seen["ask"], *hosts), serial=seen["serial"])
        self.publish(last)
        self.follow(last, *hosts)
        return last


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path / "store")


def lives(result: dict[str, Any]) -> dict[str, str]:
    return {record["selector"]: record["life"] for record in result["records"]}


BOTH = ("mta1", "mta2")


def test_the_first_key_signs_in_one_round_and_the_next_says_nothing(world: World) -> None:
    checked = world.run(check=True)
    assert (checked["changed"], world.directory.exists(), checked["records"]) == (True, False, [])
    assert [one["selector"] for one in checked["to_be_made"]] == ["mail-20270115-ed25519"]
    assert (checked["serial"], checked["serial_after"]) == (0, 1)
    first = world.round(*BOTH)
    assert [one["selector"] for one in first["signing"]] == ["mail-20270115-ed25519"]
    assert (first["to_be_made"], first["serial_after"]) == ([], first["serial"])
    quiet = world.run(check=True, evidence=world.evidence([], *BOTH))
    assert (quiet["to_be_made"], quiet["serial_after"]) == ([], quiet["serial"])
    assert stat.S_IMODE(os.stat(world.directory).st_mode) == 0o700
    before = (world.directory / journal.JOURNAL).read_bytes()
    again = world.round(*BOTH)
    assert (again["changed"], again["steps"], again["moving"]) == (False, [], False)
    assert (world.directory / journal.JOURNAL).read_bytes() == before
    assert "private" not in before.decode().replace('"private":true', "")
    assert "mail-20270115-ed25519" in "\n".join(again["lines"])
    assert 'mta_dkim_key_age_seconds{domain="tx.example.com"' in again["metrics"]


@pytest.mark.parametrize(
    "line",
    [
        'node_filesystem_avail_bytes{device="x"} 1e15',
        "mta_dns_audit_ok 1",
        "anything",
        "mta_dkim_keys",
        "mta_dkim_keys 1 2 3",
        "mta_dkim_keys 1.2.3",
        'mta_dkim_keys{state="a" 1',
        'mta_dkim_keys{state="a",} 1',
        'mta_dkim_keys{state="a"} 1\rmta_dns_audit_ok 1',
        'mta_dkim_keys{state="\x1b[2J"} 1',
        "# HELP mta_dkim_keys Another text",
        "# TYPE mta_dkim_keys counter",
        "# a note",
    ],
)
def test_metrics_of_keys_pass_and_nothing_else(world: World, line: str) -> None:
    for done in (world.round(*BOTH), world.run(steps=False)):
        assert not report.metrics_problem(done["metrics"])
        assert "no series of DKIM keys" in report.metrics_problem(f"{done['metrics']}{line}\n")
    assert "a text is expected" in report.metrics_problem({"metrics": line})


def test_a_key_is_replaced_by_age_step_by_step_and_its_end_waits_for_queues(world: World) -> None:
    world.round(*BOTH)
    world.wait(91 * DAY)
    made = world.round(*BOTH)
    old, new = lives(made)
    assert lives(made) == {old: "active", new: "published"}
    assert made["signing"][0]["selector"] == old
    world.wait(700)
    lagging = world.round("mta1")
    assert lives(lagging) == {old: "active", new: "verified"}
    assert any("mta2" in wait["what"] for wait in lagging["waits"])
    switched = world.round(*BOTH)
    assert lives(switched) == {old: "retiring", new: "active"}
    assert switched["signing"][0]["selector"] == new
    world.wait(7 * DAY - 10)
    assert lives(world.round(*BOTH))[old] == "retiring"
    world.wait(20)
    assert world.round(*BOTH)["signing"][0]["selector"] == new
    assert sorted(world.dns) == [f"{new}._domainkey.tx.example.com"]
    assert not (world.directory / f"{old}._domainkey.tx.example.com.pem").exists()
    assert [path.name.startswith(old) for path in (world.directory / "withdrawn").iterdir()] == [True, True]


def test_a_clock_that_jumps_shortens_no_wait(world: World) -> None:
    world.round(*BOTH)
    made = world.round(*BOTH, requests=[{"domain": "tx.example.com"}])
    assert "published" in lives(made).values()
    world.wall += 30 * DAY  # and the host has not been up for longer
    assert "published" in lives(world.round(*BOTH)).values()
    world.wall -= 60 * DAY
    refused = world.run(evidence=world.evidence([], *BOTH))
    assert refused["failed"]
    assert "behind its own journal" in refused["msg"]


def test_a_clock_that_no_host_shares_is_refused_before_anything_is_made(world: World) -> None:
    evidence = world.evidence([], *BOTH)
    world.wall += DAY
    refused = world.run(evidence=evidence)
    assert refused["failed"]
    assert "mta1 -86400 s, mta2 -86400 s" in refused["msg"]
    assert not (world.directory / journal.JOURNAL).exists()


def test_a_compromised_key_is_revoked_as_soon_as_nobody_signs_with_it(world: World) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    asked = world.round(*BOTH, requests=[{"domain": "tx.example.com", "reason": "compromised"}])
    assert lives(asked)[old] == "active"
    assert world.dns[f"{old}._domainkey.tx.example.com"] != ["v=DKIM1; p="]
    world.wait(700)
    done = world.round(*BOTH)
    assert lives(done)[old] == "revoked"
    assert world.dns[f"{old}._domainkey.tx.example.com"] == ["v=DKIM1; p="]
    world.wait(8 * DAY)
    world.round(*BOTH)
    assert f"{old}._domainkey.tx.example.com" not in world.dns


def test_evidence_of_before_another_run_does_not_count(world: World) -> None:
    first = world.run()
    evidence = world.evidence(first["ask"], *BOTH)
    world.round(*BOTH)
    late = world.run(evidence=evidence, serial=first["serial"])
    assert (late["changed"], late["steps"]) == (False, [])
    assert any("another run" in finding["why"] for finding in late["findings"])


def test_a_restored_old_backup_brings_no_old_key_back(world: World, tmp_path: Path) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    backup = tmp_path / "backup"
    shutil.copytree(world.directory, backup)
    world.round(*BOTH, requests=[{"domain": "tx.example.com", "reason": "compromised"}])
    world.wait(700)
    new = world.round(*BOTH)["signing"][0]["selector"]
    shutil.rmtree(world.directory)
    shutil.copytree(backup, world.directory)
    blind = world.run()  # as site.yml does, which asks no host
    assert [record["values"] for record in blind["records"]] == [None]
    assert blind["steps"] == []
    back = world.round(*BOTH)
    assert lives(back)[old] == "revoked"
    assert lives(back)[new] == "active"
    assert world.dns[f"{old}._domainkey.tx.example.com"] == ["v=DKIM1; p="]
    assert back["signing"][0]["selector"] == new
    assert not any(one["selector"] == old for one in back["holding"])
    world.round(*BOTH)
    world.wait(700)
    third = world.round(*BOTH)
    assert third["signing"][0]["selector"] not in (old, new)
    assert lives(third)[new] == "retiring"


def test_keys_of_older_versions_are_taken_over(world: World) -> None:
    made = world.run()
    selector = made["ask"][0]["name"].partition(".")[0]
    for end in ("pem", "pub"):
        found = world.directory / f"{selector}._domainkey.tx.example.com.{end}"
        found.rename(world.directory / f"mail-ed25519._domainkey.tx.example.com.{end}")
    (world.directory / journal.JOURNAL).unlink()
    taken = world.round(*BOTH)
    assert taken["signing"][0]["selector"] == "mail-ed25519"


def test_a_run_killed_between_key_and_journal_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(_journal: journal.Journal, _lines: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "append", killed)
        with pytest.raises(Killed):
            world.run()
    made = [path.name for path in world.directory.iterdir() if path.suffix == ".pem"]
    content = (world.directory / made[0]).read_bytes()
    world.run()
    assert [path.name for path in world.directory.iterdir() if path.suffix == ".pem"] == made
    assert (world.directory / made[0]).read_bytes() == content


def _edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda store, pem: pem.chmod(0o644), "others may use it"),
        (lambda store, pem: pem.write_text(pem.read_text()[:60]), "whole PKCS#8"),
        (lambda store, pem: pem.unlink(), "private key is not"),
        (lambda store, pem: store.chmod(0o755), "others may use it"),
        (lambda store, pem: (store / journal.JOURNAL).chmod(0o644), "others may use it"),
        (lambda store, pem: (store / journal.JOURNAL).write_text("{}\n"), "line 1"),
        (lambda store, pem: (store / journal.JOURNAL).write_text("nonsense\n"), "line 1"),
        (lambda store, pem: _edit(store / journal.JOURNAL, '"born":', '"born":"x","old":'), "no step of a key"),
    ],
)
def test_a_spoilt_store_is_refused_and_stays_as_it_is(world: World, spoil: Any, told: str) -> None:
    world.round(*BOTH)
    pem = next(path for path in world.directory.iterdir() if path.suffix == ".pem")
    spoil(world.directory, pem)
    before = {path.name: path.read_bytes() for path in world.directory.iterdir() if path.is_file()}
    refused = world.run(requests=[{"domain": "tx.example.com"}])
    assert refused["failed"]
    assert told in refused["msg"]
    assert {path.name: path.read_bytes() for path in world.directory.iterdir() if path.is_file()} == before


def test_wrong_requests_and_doubled_series_are_refused(world: World) -> None:
    world.round(*BOTH)
    for options, told in (
        ({"requests": [{"domain": "other.example.com"}]}, "no such keys"),
        ({"requests": [{"domain": "tx.example.com", "selector": "nowhere"}]}, "Name one of these"),
    ):
        refused = world.run(**options)
        assert refused["failed"]
        assert told in refused["msg"]
    assert "one series" in world.run(SERIES, SERIES)["msg"]


def test_a_domain_that_leaves_the_fleet_ends_as_mail_needs_it(world: World) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    other = {**SERIES, "domain": "new.example.com"}
    options = {"hosts": list(BOTH), "zones": ["example.com"]}
    first = world.run(other, evidence=world.evidence([], *BOTH), **options)
    assert lives(first)[old] == "active"
    world.signs = {host: [] for host in BOTH}
    done = world.run(other, evidence=world.evidence(first["ask"], *BOTH), **options)
    assert lives(done)[old] == "retiring"
    world.wait(8 * DAY)
    ended = world.run(other, evidence=world.evidence(done["ask"], *BOTH), **options)
    gone = [record for record in ended["records"] if record["domain"] == SERIES["domain"]]
    assert [record["state"] for record in gone] == ["absent"]
    assert gone[0]["values"] == world.dns[gone[0]["name"]]


def test_a_slot_whose_key_ends_gets_no_second_key_from_the_same_file(world: World) -> None:
    series = {**{name: value for name, value in SERIES.items() if name != "every_days"}, "slots": ["a", "b"]}

    def turn(**options: Any) -> dict[str, Any]:
        first = world.run(series, evidence=world.evidence([], *BOTH), **options)
        done = world.run(series, evidence=world.evidence(first["ask"], *BOTH), serial=first["serial"])
        world.publish(done)
        last = world.run(series, evidence=world.evidence(done["ask"], *BOTH), serial=done["serial"])
        world.publish(last)
        world.follow(last, *BOTH)
        return last

    demand, compromised = ({"domain": "tx.example.com", "reason": reason} for reason in ("demand", "compromised"))
    turn()
    turn(requests=[demand])
    for seconds in (700, 1, 8 * DAY, 1, 1):
        world.wait(seconds)
        turn()
    assert set(lives(turn()).values()) == {"active"}
    held = {"evidence": world.evidence([], *BOTH)}  # DNS is silent
    assert any("new" in step for step in world.run(series, requests=[demand], **held)["steps"])
    asked = [{**compromised, "selector": "a-ed25519"}, compromised]
    assert any("withdrawn" in step for step in world.run(series, requests=asked, **held)["steps"])
    world.wait(1)
    assert not turn()["failed"]
    lines = [json.loads(line)["key"] for line in (world.directory / journal.JOURNAL).read_text().splitlines()]
    ids = {(key["id"], key["fingerprint"]) for key in lines}
    assert len(ids) == len({number for number, _print in ids}) == len({print_ for _number, print_ in ids})


def test_a_check_of_two_calls_is_a_check_of_one_state(world: World) -> None:
    world.round(*BOTH)
    world.wait(91 * DAY)
    first = world.run(check=True, evidence=world.evidence([], *BOTH))
    second = world.run(check=True, evidence=world.evidence(first["ask"], *BOTH), serial=first["serial"])
    assert second["steps"]
    assert not any("another run" in finding["why"] for finding in second["findings"])


def test_a_domain_that_leaves_with_its_zone_leaves_no_record_outside_of_the_fleet(world: World) -> None:
    delegated = {**SERIES, "domain": "customer.example.net", "delegate": "dkim.example.com"}
    selector = world.run(delegated)["ask"][0]["name"].partition(".")[0]
    looks = [
        {
            "name": name,
            "type": rtype,
            "whole": True,
            "servers": [{"server": "a", "status": "no", "values": [], "ttl": 60}],
        }
        for name, rtype in (
            (f"{selector}.customer.example.net.dkim.example.com", "TXT"),
            (f"{selector}._domainkey.customer.example.net", "CNAME"),
        )
    ]
    served = world.run(delegated, evidence={"looks": looks}, zones=["example.com", "example.net"])
    assert [record["type"] for record in served["records"]] == ["TXT", "CNAME"]
    left = world.run(zones=["example.com"])
    assert [record["type"] for record in left["records"] if record["domain"] == delegated["domain"]] == ["TXT"]


def test_no_secret_is_in_what_it_returns(world: World) -> None:
    result = world.round(*BOTH)
    for path in world.directory.iterdir():
        if path.suffix == ".pem":
            secret = path.read_text().splitlines()[1]
            assert secret not in json.dumps(result)


def test_what_there_is_can_be_told_without_a_step(world: World) -> None:
    world.round(*BOTH)
    world.wait(91 * DAY)
    before = (world.directory / journal.JOURNAL).read_bytes()
    told = world.run(steps=False)
    assert (told["changed"], told["steps"], told["serial"]) == (False, [], world.serials["mta1"])
    would = world.run(check=True)
    assert (would["changed"], would["serial"]) == (True, told["serial"])
    assert would["steps"] != []
    assert (world.directory / journal.JOURNAL).read_bytes() == before
    assert world.run(steps=False)["signing"] == told["signing"]


def test_a_request_that_is_repeated_is_the_same_request(world: World) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    request = {"requests": [{"domain": "tx.example.com", "reason": "compromised"}]}
    for _again in range(3):
        made = lives(world.round(*BOTH, **request))
        assert sorted(made.values()) == ["active", "published"]
    world.wait(700)
    assert lives(world.round(*BOTH, **request))[old] == "revoked"


def test_a_host_that_a_stream_has_left_is_asked_until_its_mail_is_gone(world: World) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    moved = {**SERIES, "hosts": ["mta2"]}
    options = {"hosts": list(BOTH)}

    def round_of(*hosts: str, **more: Any) -> dict[str, Any]:
        first = world.run(moved, evidence=world.evidence([], *hosts), **options, **more)
        seen = world.run(moved, evidence=world.evidence(first["ask"], *hosts), serial=first["serial"], **options)
        world.publish(seen)
        world.follow(seen, "mta2")
        last = world.run(moved, evidence=world.evidence(seen["ask"], *hosts), serial=seen["serial"], **options)
        world.publish(last)
        return last

    round_of(*BOTH, requests=[{"domain": "tx.example.com"}])
    world.wait(700)
    for hosts in (("mta2",), BOTH):  # away, and there but still on it
        held = round_of(*hosts)
        assert lives(held)[old] == "active"
        assert any("mta1" in wait["what"] for wait in held["waits"])
    world.signs["mta1"] = []
    assert lives(round_of(*BOTH))[old] == "retiring"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"serial": "x"},
        {"serial": 10**400},
        {"clock": float("nan")},
        {"clock": "soon"},
        {"signs": "abc"},
        {"signs": [{}]},
        {"signs": [{"domain": "tx.example.com", "algorithm": "rsa", "selector": "a\nb", "fingerprint": "0" * 32}]},
        {"unknown": 5},
        {"holds": [1]},
    ],
    ids=str,
)
def test_a_host_with_evidence_of_another_shape_was_not_seen(world: World, spoilt: dict[str, Any]) -> None:
    world.round(*BOTH)
    evidence = world.evidence([], *BOTH)
    evidence["hosts"]["mta2"] = {**evidence["hosts"]["mta2"], **spoilt}
    told = world.run(evidence=evidence)
    assert not told["failed"]
    assert any(one["where"] == "host mta2" and "another shape" in one["found"] for one in told["findings"])


def test_one_host_that_lies_moves_nobody(world: World) -> None:
    world.round(*BOTH)
    before = world.run(steps=False)
    evidence = world.evidence([], *BOTH)
    stranger = {"domain": "tx.example.com", "algorithm": "ed25519", "selector": "vendor", "fingerprint": "0" * 32}
    evidence["hosts"]["mta2"] = {**evidence["hosts"]["mta2"], "serial": 500, "signs": [stranger]}
    told = world.run(evidence=evidence)
    assert (told["changed"], told["serial"], told["resting"]) == (False, before["serial"], True)
    assert any("later state" in one["found"] for one in told["findings"])
    evidence["hosts"]["mta2"]["serial"] = 0
    told = world.run(evidence=evidence)
    assert (told["signing"], told["changed"], told["resting"]) == (before["signing"], False, False)
    assert any("does not know" in one["why"] for one in told["findings"])


MOST = 2**53 - 1
FAR = "where at most"


def liar(world: World, evidence: dict[str, Any], serial: int) -> dict[str, Any]:
    """What mta2 may say: a late state, no key that it signs with."""
    nothing: dict[str, Any] = {"serial": serial, "clock": world.wall, "signs": [], "holds": []}
    return {**evidence, "hosts": {**evidence["hosts"], "mta2": nothing}}


def test_a_host_that_claims_more_than_can_be_is_not_heard_and_the_others_go_on(world: World) -> None:
    series = {**SERIES, "hosts": ["mta1"]}, {**SERIES, "domain": "liar.example.com", "hosts": ["mta2"]}
    world.run(*series)
    for _again in range(3):  # a first rollout: no host has a table yet
        asked = world.run(*series, steps=False)["ask"]
        done = world.run(*series, evidence=liar(world, world.evidence(asked, "mta1"), MOST))
        assert (done["failed"], done["resting"]) == (False, False)
        assert any(one["where"] == "host mta2" and FAR in one["found"] for one in done["findings"])
        assert any(one["severity"] == "error" for one in done["findings"])
        assert "mta_dkim_without" in next(one["remedy"] for one in done["findings"] if FAR in one["found"])
        world.publish(done)
    assert {one["domain"] for one in done["signing"]} == {"tx.example.com", "liar.example.com"}
    assert done["serial"] < 10
    world.follow(done, "mta1")
    world.wait(91 * DAY)
    started = world.run(*series, evidence=liar(world, world.evidence([], "mta1"), MOST))
    assert any("tx.example.com" in step for step in started["steps"])
    # Its own keys end when a person has left it out.
    world.publish(started)
    world.wait(8 * DAY)
    evidence = liar(world, world.evidence(started["ask"], "mta1"), MOST)
    assert not world.run(*series, evidence=evidence, without=["mta2"])["resting"]


@pytest.mark.parametrize("claim", [900, MOST])
@pytest.mark.parametrize("others", ["without", "new"])
def test_a_lone_claim_ends_no_key_of_another_host(world: World, claim: int, others: str) -> None:
    """Where nobody else has a table to show: mta1 is left out, or was installed anew."""
    series = {**SERIES, "hosts": ["mta1"]}, {**SERIES, "domain": "liar.example.com", "hosts": ["mta2"]}
    world.run(*series)
    first = world.run(*series, steps=False)
    evidence = liar(world, world.evidence(first["ask"], "mta1"), claim)
    before = (world.directory / journal.JOURNAL).read_bytes()
    if others == "without":
        evidence["hosts"]["mta1"] = None
    told = world.run(*series, evidence=evidence, without=["mta1"] if others == "without" else [])
    assert not told["failed"]
    assert not any("withdrawn" in step or "retiring" in step for step in told["steps"])
    assert told["serial"] < 10
    assert told["resting"] is (claim == 900)
    assert any(one["severity"] == "error" and one["where"] == "host mta2" for one in told["findings"])
    assert (world.directory / journal.JOURNAL).read_bytes().startswith(before)


@pytest.mark.parametrize("claim", [900, MOST])
def test_a_lone_claim_over_a_copied_store_ends_no_key_of_another_host(world: World, claim: int, tmp_path: Path) -> None:
    hosts = ("mta1", "mta2", "mta3")
    for each in (world.signs, world.holds):
        each["mta3"] = []
    world.serials["mta3"] = 0
    series = {**SERIES, "hosts": ["mta1", "mta3"]}, {**SERIES, "domain": "liar.example.com", "hosts": ["mta2"]}
    world.run(*series)
    for _again in range(3):
        done = world.run(*series, evidence=world.evidence(world.run(*series, steps=False)["ask"], *hosts))
        world.publish(done)
        world.follow(done, *hosts)
    world.wait(91 * DAY)
    for _again in range(2):
        moving = world.run(*series, evidence=world.evidence(done["ask"], *hosts))
        done = moving
    on_its_way = [record["domain"] for record in moving["records"] if record["life"] == "published"]
    assert "tx.example.com" in on_its_way, moving["records"]
    world.publish(moving)
    world.follow(moving, *hosts)
    shutil.copytree(world.directory, tmp_path / "copy")
    shutil.rmtree(world.directory)
    shutil.copytree(tmp_path / "copy", world.directory)
    asked = world.run(*series, steps=False)["ask"]
    told = world.run(*series, evidence=liar(world, world.evidence(asked, *hosts), claim))
    assert {record["life"] for record in told["records"] if record["domain"] == "tx.example.com"} == {
        "active",
        "published",
    }
    assert told["resting"] is (claim == MOST)
    assert told["serial"] < 1000
    done = world.run(*series, evidence=world.evidence(asked, "mta1", "mta3"), without=["mta2"])
    assert not done["resting"]
    assert {one["domain"] for one in done["signing"]} >= {"tx.example.com"}


def test_a_fleet_of_one_liar_does_not_spoil_the_numbers(world: World) -> None:
    series = {**SERIES, "hosts": ["mta2"]}
    world.run(series)
    told = world.run(series, evidence=liar(world, world.evidence([]), MOST))
    assert any(FAR in one["found"] for one in told["findings"])
    assert world.run(series, steps=False)["serial"] < 10


def test_an_empty_store_is_filled_whatever_one_host_claims(world: World) -> None:
    told = world.run(evidence=liar(world, world.evidence([], "mta1"), 900))
    assert (told["resting"], [one["domain"] for one in told["to_be_made"]]) == (False, [])
    assert any("new" in step for step in told["steps"])
    assert told["serial"] == 901


def test_an_old_backup_is_restored_also_where_a_killed_run_reached_one_host_only(world: World, tmp_path: Path) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    backup = tmp_path / "backup"
    shutil.copytree(world.directory, backup)
    world.round(*BOTH, requests=[{"domain": "tx.example.com", "reason": "compromised"}])
    world.wait(700)
    last = world.round(*BOTH)
    world.serials = {"mta1": last["serial"] + 5000, "mta2": last["serial"] + 5003}  # long after, and a killed run
    shutil.rmtree(world.directory)
    shutil.copytree(backup, world.directory)
    asked = world.run(steps=False)["ask"]
    rests = world.run(evidence=world.evidence(asked, *BOTH))
    back = rests if not rests["resting"] else world.run(evidence=world.evidence(rests["ask"], *BOTH))
    assert (back["failed"], back["resting"]) == (False, False)
    assert lives(back)[old] == "revoked"
    assert back["serial"] == world.serials["mta2"] + 1
    world.follow(back, *BOTH)
    assert not world.run(evidence=world.evidence(back["ask"], *BOTH))["resting"]


def test_a_backup_of_before_a_killed_run_is_compared_for_the_host_that_the_run_reached(
    world: World, tmp_path: Path
) -> None:
    last = world.round(*BOTH)
    world.serials["mta2"] = last["serial"] + 1
    shutil.copytree(world.directory, tmp_path / "backup")
    shutil.rmtree(world.directory)
    shutil.copytree(tmp_path / "backup", world.directory)
    back = world.run(evidence=world.evidence(last["ask"], *BOTH))
    assert (back["resting"], back["serial"], back["signing"]) == (False, last["serial"] + 2, last["signing"])


def test_a_store_that_was_set_back_rests_and_hears_no_request(world: World) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    path = world.directory / journal.JOURNAL
    before = path.read_bytes()
    world.round(*BOTH, requests=[{"domain": "tx.example.com", "reason": "compromised"}])
    world.wait(700)
    assert lives(world.round(*BOTH))[old] == "revoked"
    world.serials["mta2"] = 3  # it was away meanwhile
    with path.open("r+b") as same_file:
        same_file.truncate(len(before))
    set_back = world.run(evidence=world.evidence([], *BOTH))
    assert (set_back["resting"], set_back["signing"], set_back["changed"]) == (True, [], False)
    assert {str(record["values"]) for record in set_back["records"]} == {"None"}
    request = [{"domain": "tx.example.com", "reason": "compromised"}]
    refused = world.run(evidence=world.evidence([], *BOTH), requests=request)
    assert (refused["failed"], "until it does not rest" in refused["msg"]) == (True, True)


def test_a_new_host_does_not_keep_a_lost_store_from_being_rebuilt(world: World) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    shutil.rmtree(world.directory)
    world.serials["mta2"], world.signs["mta2"], world.holds["mta2"] = 0, [], []
    asked = world.run(evidence=world.evidence([], *BOTH))
    found = world.run(evidence=world.evidence(asked["ask"], *BOTH), serial=asked["serial"])
    assert (found["resting"], lives(found)) == (False, {old: "active"})
    made = world.run(evidence=world.evidence(found["ask"], *BOTH), serial=found["serial"])
    assert any("no private part" in step for step in made["steps"])


def test_a_lost_private_key_without_a_backup_is_replaced_on_request(world: World) -> None:
    old = world.round(*BOTH)["signing"][0]["selector"]
    (world.directory / f"{old}._domainkey.tx.example.com.pem").write_text("nonsense")
    refused = world.run()
    assert refused["failed"]
    assert "reason: compromised" in refused["msg"]
    request = {"requests": [{"domain": "TX.Example.com.", "reason": "compromised"}]}
    asked = world.round(*BOTH, **request)
    assert [(one["selector"], one["private"]) for one in asked["holding"] if one["selector"] == old] == [(old, False)]
    world.wait(700)
    assert lives(world.round(*BOTH))[old] == "revoked"
