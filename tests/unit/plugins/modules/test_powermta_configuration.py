# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on a directory tree: what it brings, what it keeps for queued mail, what it refuses and never tells."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import signal
from unittest import mock

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import dkim, fragments, slices
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.plugins.modules import powermta_configuration
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.engines.powermta.fleets import (
    DOCUMENT,
    TODAY,
    changed,
    fleet_of,
    picture,
)
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.engines.powermta.double import Host

GONE = "bulk-203-0-113-21"
PASSWORDS = {"shop": "word-of-shop", "bell": "word-of-bell"}
DEFAULTS = {
    "passwords": PASSWORDS,
    "fragments": {},
    "monitor_from": [],
    "monitor_port": 8080,
    "spool_directory": "/var/spool/pmta",
    "log_directory": "/var/log/pmta",
    "certificate": "",
    "accounting_days": 8,
    "accounting_max_bytes": 52428800,
    "version": "5.0",
}


def of(document):
    return slices.slice_of(fleet_of(document), "mta1")


WHOLE = of(DOCUMENT)
LESS = of(changed(("streams/bulk/addresses/1", None)))


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def queues(host, **recipients):
    found = [{"name": f"a.example/{name}", "rcp": count} for name, count in recipients.items()]
    host.say("answer", json.dumps({"status": "success", "data": {"queues": found}}))


def run(host, data=None, check_mode=False, today=TODAY, **more):
    return powermta_configuration.configure(
        {**DEFAULTS, "host": data or WHOLE, **more}, check_mode, today, str(host.root)
    )


def test_it_brings_the_whole_fleet_slice_and_changes_nothing_the_second_time(host):
    told = run(host, check_mode=True)
    assert not (host.root / "conf.d").exists()
    done = run(host)
    assert (told["changed"], told["effort"], told["files"], told["diff"]) == (
        *(True, "start"),
        *(done["files"], done["diff"]),
    )
    conf_d = str(host.root / "conf.d")
    assert host.read == {
        **fragments.files(WHOLE, slices.Options(today=TODAY, passwords=PASSWORDS, directory=conf_d)),
        **dict.fromkeys(slices.keys_files(WHOLE), dkim.without_keys()),
    }
    again = run(host)
    assert (again["changed"], again["effort"], again["files"], again["diff"]) == (False, "nothing", [], [])


def test_what_each_address_does_is_told_and_moves_on_by_itself(host):
    assert run(host)["addresses"] == {
        "bulk-203-0-113-20": "live",
        "bulk-203-0-113-21": "live",
        "bulk-203-0-113-22": "drained",
        "bulk-203-0-113-23": "cold",
        "bulk-203-0-113-24": "waiting",
    }
    queues(host)
    tomorrow = run(host, today=TODAY + datetime.timedelta(days=1))
    assert tomorrow["addresses"]["bulk-203-0-113-24"] == "cold"
    assert tomorrow["effort"] == "reload"
    assert run(host, today=TODAY + datetime.timedelta(days=1))["changed"] is False


def test_removal_takes_two_runs_and_as_long_as_mail_waits(host):
    run(host)
    queues(host)
    first = run(host, LESS)
    assert first["draining"] == [{"virtual_mta": GONE, "recipients": 0}]
    assert GONE in picture(host.read).source_hosts
    queues(host, **{GONE: 2, "other": 5})
    second = run(host, LESS)
    assert (second["changed"], second["draining"]) == (False, [{"virtual_mta": GONE, "recipients": 2}])
    host.say("answer", "not an answer\n")
    assert run(host, LESS)["changed"] is False
    queues(host, **{GONE: 0})
    assert run(host, LESS)["draining"] == []
    assert GONE not in str(host.read)
    assert run(host, LESS)["changed"] is False


def test_a_takeover_that_would_strand_mail_is_refused(host):
    host.say("running")
    queues(host, **{"old-1": 500, "old-2": 0, GONE: 3})
    before = host.tree()
    with pytest.raises(configuration.PowermtaError, match="old-1") as error:
        run(host)
    assert not [name for name in ("old-2", GONE) if name in str(error.value)]
    host.say("answer", "not an answer\n")
    with pytest.raises(configuration.PowermtaError, match="does not tell what waits"):
        run(host)
    assert {path: seen for path, seen in host.tree().items() if "lock" not in path} == before
    queues(host, **{GONE: 3})
    assert run(host)["changed"] is True


def test_what_drains_when_a_run_is_killed_before_the_reload_stays_for_the_mail_until_then(host):
    """The running PowerMTA still leads mail to it, so an empty queue means nothing yet."""
    run(host)
    queues(host)

    def work():
        configuration._follow = lambda *_arguments: os.kill(os.getpid(), signal.SIGKILL)
        run(host, LESS)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not configuration.in_force(str(host.root))
    assert [each["virtual_mta"] for each in run(host, LESS)["draining"]] == [GONE]
    assert GONE in picture(host.read).source_hosts


def test_an_address_that_comes_back_stands_there_once(host):
    run(host)
    before = host.read
    run(host, LESS)
    queues(host, **{GONE: 2})
    run(host)
    assert host.read == before


def test_the_fragment_of_the_keys_belongs_to_the_role_dkim(host):
    run(host)
    (host.root / "key").touch()
    line = f"domain-key s1,news.example.com,{host.root}/key\n"
    keys = {fragments.DKIM: "# state 7 of the key store\n", slices.keys_file("news.example.com"): line}
    host.apply({**keys, slices.keys_file("gone.example.com"): "# of a stream that left\n"})
    queues(host)
    assert run(host)["files"] == [str(host.root / "conf.d" / slices.keys_file("gone.example.com"))]
    assert run(host)["changed"] is False
    assert run(host, LESS)["changed"] is True
    assert {name: host.read[name] for name in keys} == keys


def test_what_drains_keeps_its_keys_as_long_as_it_is_there(host):
    run(host)
    (host.root / "key").touch()
    name = slices.keys_file("news.example.com")
    host.apply({name: f"domain-key s1,news.example.com,{host.root}/key\n"})
    gone = {**WHOLE, "streams": [], "front": None, "forwards": []}
    queues(host, **{GONE: 2})
    run(host, gone)
    assert name in host.read
    assert f"include {host.root}/conf.d/{name}" in host.read[fragments.DRAINING]
    queues(host)
    run(host, gone)
    run(host, gone)
    assert name not in host.read


def test_fragments_of_ones_own_are_checked_and_taken_out_again(host):
    mine = {"mine": "<domain a.example>\n    max-smtp-out 3\n</domain>"}
    run(host, fragments=mine)
    queues(host)
    assert host.read["90-local-mine.conf"] == mine["mine"] + "\n"
    with pytest.raises(configuration.PowermtaError, match=r"90-local-mine\.conf:1: ehlo-hostname"):
        run(host, fragments={"mine": "ehlo-hostname a.example"})
    run(host)
    assert "90-local-mine.conf" not in host.read


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"passwords": {"shop": "x"}}, "no entry for bell"),
        ({"passwords": {**PASSWORDS, "shop": "a b"}}, "passwords of shop"),
        ({"passwords": {**PASSWORDS, "shop": "a#secret"}}, "passwords of shop"),
        ({"passwords": {**PASSWORDS, "shop": 'a"secret'}}, "passwords of shop"),
        ({"passwords": {**PASSWORDS, "shop": "a\\secret"}}, "passwords of shop"),
        ({"passwords": {**PASSWORDS, "shop": ""}}, "passwords of shop"),
        ({"fragments": {"../evil": "x"}}, "'../evil' is no name"),
        ({"fragments": {"Up": "x"}}, "'Up' is no name"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_touched(host, more, words):
    before = host.tree()
    with pytest.raises(ValueError, match=words) as error:
        run(host, **more)
    assert "secret" not in str(error.value)
    assert host.tree() == before
    assert host.log() == []


class Ended(Exception):
    pass


def as_ansible_runs_it(host, monkeypatch, **given):
    """The module as it is started, and what it prints."""
    configure = powermta_configuration.configure
    told = {}

    def end(_self, **result):
        told.update(result)
        raise Ended

    with (
        patch_module_args({"host": WHOLE, "passwords": PASSWORDS, **given}),
        mock.patch.multiple(basic.AnsibleModule, exit_json=end, fail_json=end),
        mock.patch.object(
            powermta_configuration,
            "configure",
            lambda params, check_mode, today: configure(params, check_mode, today, str(host.root)),
        ),
        pytest.raises(Ended),
    ):
        powermta_configuration.main()
    return told


def test_the_module_tells_what_it_did_and_no_password(host, monkeypatch):
    told = as_ansible_runs_it(host, monkeypatch)
    assert (told["changed"], told["effort"]) == (True, "start")
    assert not [word for word in PASSWORDS.values() if word in json.dumps(told)]


def test_a_refusal_of_pmta_is_the_message(host, monkeypatch):
    host.say("refuses", "run-as-root")
    host.say("said", f"Error in line 9 of {host.root}/conf.d/10-host.conf: argument missing\n")
    told = as_ansible_runs_it(host, monkeypatch)
    assert "Error in line 9 of" in told["msg"]
    assert "The old configuration is back" in told["msg"]
    assert not (host.root / "conf.d").exists()
