# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of fragments on a real directory tree: the old one or the new one, whole, whatever refuses or kills a run."""

from __future__ import annotations

import errno
import math
import multiprocessing
import os
import shutil
import signal
import stat

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.engines.powermta.double import Host

FORK = multiprocessing.get_context("fork")
GOOD = """\
postmaster postmaster@example.com
log-file /var/log/pmta/log
run-as-root no
http-mgmt-port 8080
smtp-listener 127.0.0.1:2525
<spool /var/spool/pmta>
</spool>
"""
USERS = "45-users.conf"
SECRET = frozenset({USERS})
PASSWORD = "word-of-shop"
LOGIN = f"""\
<source s>
    require-auth yes
</source>
<smtp-user shop>
    password {PASSWORD}
    source s
</smtp-user>
"""
ONE = {"10-host.conf": GOOD}
TWO = {"10-host.conf": GOOD + "total-max-smtp-out 7\n"}


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def running(host):
    """One that runs with ONE."""
    host.apply(ONE)
    host.log()
    return host


def test_the_first_run_starts_it_with_our_configuration_alone(host):
    change = host.apply(ONE)
    assert (change.effort, list(map(os.path.basename, change.changed))) == ("start", ["10-host.conf", "config"])
    host.whole(ONE)
    commands = host.log()
    assert commands.index("pmta test config") < commands.index("systemctl start pmta")
    assert "systemctl enable pmta" in commands
    assert "systemctl restart pmtahttp" in commands
    assert "package's own" in (host.root / "config.before-mailops").read_text(encoding="utf-8")


def test_a_second_run_changes_nothing_and_commands_nothing(running):
    before = running.tree()
    change = running.apply(ONE)
    assert (change.changed, change.effort, change.diff) == ((), "nothing", [])
    assert running.tree() == before
    assert running.log() == []


def test_a_change_is_one_test_and_one_reload(running):
    change = running.apply(TWO)
    assert (change.effort, list(map(os.path.basename, change.changed))) == ("reload", ["10-host.conf"])
    assert running.log() == ["pmta test config", "pmta reload"]
    running.whole(TWO)


def test_the_rest_of_the_set_stays_and_none_takes_a_fragment_out(running):
    running.apply({"20.conf": "total-max-smtp-out 9\n"})
    running.whole({**ONE, "20.conf": "total-max-smtp-out 9\n"})
    running.apply({"20.conf": None, "no-such.conf": None})
    running.whole(ONE)


@pytest.mark.parametrize(
    ("text", "effort", "commands"),
    [
        (f"# a word\n{GOOD}", "load", ["pmta test config"]),
        (GOOD.replace("run-as-root no", "run-as-root yes"), "restart", ["pmta test config", "systemctl restart pmta"]),
        (
            GOOD.replace("8080", "8081"),
            "reload",
            ["pmta test config", "pmta reload", "systemctl enable pmtahttp", "systemctl restart pmtahttp"],
        ),
    ],
)
def test_powermta_does_no_more_than_it_must(running, text, effort, commands):
    change = running.apply({"10-host.conf": text})
    assert change.effort == effort
    assert running.log() == commands
    assert configuration.in_force(str(running.root))
    assert running.apply({"10-host.conf": text}).effort == "nothing"


def test_modes_let_root_write_and_the_group_read(running):
    running.apply({USERS: LOGIN})
    for path in (running.root / "sets").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path
    assert stat.S_IMODE((running.root / "config").stat().st_mode) == 0o640
    os.chmod(running.root / "conf.d" / USERS, 0o644)
    assert running.apply({}).changed == (str(running.root / "conf.d" / USERS),)
    assert stat.S_IMODE((running.root / "conf.d" / USERS).stat().st_mode) == 0o640
    assert running.apply({}).effort == "nothing"


# ---- what is refused


def test_our_checker_refuses_before_anything_is_touched(running):
    before = running.tree()
    told = running.refused({"10-host.conf": GOOD + "ehlo-hostname x.example\n", USERS: LOGIN})
    assert "10-host.conf:8: ehlo-hostname" in told
    assert PASSWORD not in told
    assert running.tree() == before
    assert running.log() == []


def test_what_pmta_refuses_goes_back_and_powermta_is_not_touched(running):
    running.say("refuses", "total-max-smtp-out 7")
    running.say("said", "x\nError in line 8 of /etc/pmta/conf.d/10-host.conf: argument missing\n")
    before = running.tree()
    told = running.refused(TWO)
    assert "Error in line 8 of /etc/pmta/conf.d/10-host.conf: argument missing" in told
    assert "The old configuration is back, and PowerMTA runs with it" in told
    assert running.log() == ["pmta test config"]
    assert {path for path in running.tree() if "/sets/" not in path} == {
        path for path in before if "/sets/" not in path
    }
    running.whole(ONE)
    (running.state / "refuses").unlink()
    running.apply(TWO)
    running.whole(TWO)


@pytest.mark.parametrize("command", ["refuses", "no-reload"])
def test_a_refusal_that_quotes_a_password_is_not_repeated(running, command):
    running.say(command, PASSWORD)
    running.say("said", f"Error in line 6 of /etc/pmta/conf.d/{USERS}: password {PASSWORD} is bad\n")
    told = running.refused({USERS: LOGIN})
    assert f"Error in line 6 of /etc/pmta/conf.d/{USERS}" in told
    assert PASSWORD not in told
    running.whole(ONE)


def test_a_reload_that_fails_goes_back(running):
    running.say("no-reload", "total-max-smtp-out 7")
    running.say("said", "Error: cannot reload\n")
    told = running.refused(TWO)
    assert "pmta reload failed: Error: cannot reload" in told
    assert running.log() == ["pmta test config", "pmta reload", "pmta reload"]
    running.whole(ONE)


def test_a_first_start_that_fails_leaves_what_was_there(host):
    before = host.main
    host.say("dies", "run-as-root no")
    told = host.refused(ONE)
    assert "Job for pmta.service failed" in told
    assert "did not run before and does not run now" in told
    assert host.main == before
    assert configuration.current(str(host.root)) == {}
    assert host.log()[-1] == "systemctl disable --now pmta"


def test_a_restart_that_fails_brings_the_old_set_back_and_starts_it(running):
    running.say("dies", "run-as-root yes")
    told = running.refused({"10-host.conf": GOOD.replace("run-as-root no", "run-as-root yes")})
    assert "The old configuration is back, and PowerMTA runs with it" in told
    assert running.log() == ["pmta test config", "systemctl restart pmta", "systemctl restart pmta"]
    running.whole(ONE)


def test_a_conf_d_that_is_a_directory_is_not_touched(host):
    (host.root / "conf.d").mkdir()
    (host.root / "conf.d" / "mine.conf").write_text("total-max-smtp-out 5\n", encoding="utf-8")
    before = host.tree()
    for check_mode in (True, False):
        told = host.refused(ONE, check_mode=check_mode)
        assert "powermta_fragments" in told
    assert {path: seen for path, seen in host.tree().items() if "lock" not in path} == before


def test_a_powermta_that_does_not_read_our_sets_is_left_as_it_is(host):
    host.say("running")
    before = host.main
    change = host.apply({"70-dkim.conf": "# state 1 of the key store\n"}, start=False)
    assert change.effort == "load"
    assert host.main == before
    assert host.log() == []
    assert host.apply({}, start=False).effort == "nothing"


def test_a_link_that_leads_nowhere_is_refused(running):
    """Else its queues' virtual MTAs would be forgotten, or PowerMTA read keys alone."""
    shutil.rmtree(os.path.realpath(running.root / "conf.d"))
    before = running.tree()
    for start in (True, False):
        assert "leads nowhere" in running.refused({"70-dkim.conf": "# state 8 of the key store\n"}, start=start)
        assert "leads nowhere" in running.refused(ONE, start=start)
    assert running.tree() == before
    assert running.log() == []


def test_a_refusal_while_powermta_is_stopped_goes_back_to_the_set_that_was_in_place(running):
    """Not to the one that it read last: what that names may be deleted since."""
    (running.state / "running").unlink()
    brought = {"70-dkim.conf": "# state 8 of the key store\n"}
    assert running.apply(brought, start=False).effort == "load"
    running.say("refuses", "total-max-smtp-out 7")
    running.say("said", "Error in line 8\n")
    assert "Error in line 8" in running.refused(TWO)
    assert configuration.current(str(running.root)) == {**ONE, **brought}
    assert not (running.state / "running").exists()


def test_a_first_start_that_fails_after_the_keys_came_disables_the_service_too(host):
    before = host.main
    host.apply({"70-dkim.conf": "# state 8 of the key store\n"}, start=False)
    host.say("dies", "run-as-root no")
    host.refused(ONE)
    assert host.main == before
    assert host.log()[-1] == "systemctl disable --now pmta"
    assert not (host.state / "running").exists()


def test_a_monitor_that_fails_is_a_warning_and_powermta_runs_on(host):
    program = host.state.parent / "bin" / "systemctl"
    fails = '"restart pmtahttp") echo address in use >&2; exit 1 ;;'
    text = program.read_text(encoding="utf-8")
    program.write_text(text.replace('case "$*" in', f'case "$*" in\n{fails}', 1), encoding="utf-8")
    told = host.apply(ONE).findings[-1]
    assert (told.severity, "address in use" in str(told)) == ("warning", True)
    host.whole(ONE)


def test_a_reload_that_reaches_nobody_goes_back(running):
    running.say("no-reload", "total-max-smtp-out 7")
    running.say("said", "pmta: unable to connect to PowerMTA: connection refused\n")
    assert "unable to connect" in running.refused(TWO)
    running.whole(ONE)


@pytest.mark.parametrize("asked", [{}, {"70-dkim.conf": "# state 8 of the key store\n"}])
def test_a_password_in_a_fragment_of_ones_own_is_secret(running, asked):
    local = "90-local-api.conf"
    shown = str(running.apply({local: LOGIN}).diff)
    running.say("refuses", "state 8" if asked else "total-max-smtp-out 7")
    running.say("said", f"Error in line 5 of /etc/pmta/conf.d/{local}: password {PASSWORD} is bad\n")
    shown += running.refused(asked or TWO, start=not asked)
    assert local in shown
    assert "Error in line 5" in shown
    assert PASSWORD not in shown


def test_a_full_disk_does_not_block_the_way_back(running, monkeypatch):
    """What makes an entry or a file fails from the refusal on; renames work."""
    running.say("refuses", "total-max-smtp-out 7")
    running.say("said", "Error in line 8\n")
    refusals = configuration._refusals

    def full(*_arguments, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*arguments):
        for module, name in ((os, "symlink"), (os, "link"), (os, "mkdir"), (configuration.files, "write")):
            monkeypatch.setattr(module, name, full)
        return refusals(*arguments)

    monkeypatch.setattr(configuration, "_refusals", refuse)
    assert "Error in line 8" in running.refused(TWO)
    running.whole(ONE)


@pytest.mark.parametrize("place", ["config", "sets", "conf.d"])
def test_rights_that_drifted_are_put_right_and_told(running, place):
    path = os.path.realpath(running.root / place)
    wanted = stat.S_IMODE(os.stat(path).st_mode)
    os.chmod(path, 0o777)
    assert running.apply(ONE).changed == (path,)
    assert stat.S_IMODE(os.stat(path).st_mode) == wanted
    assert (running.apply(ONE).changed, running.apply(ONE).effort) == ((), "nothing")


# ---- check mode


@pytest.mark.parametrize("fragments", [ONE, TWO, {USERS: LOGIN}, {"10-host.conf": GOOD.replace("8080", "8081")}])
def test_check_mode_tells_the_same_and_leaves_every_byte(running, fragments):
    before = running.tree()
    told = running.apply(fragments, check_mode=True)
    assert running.tree() == before
    assert running.log() == []
    done = running.apply(fragments)
    assert (told.changed, told.effort, told.diff) == (done.changed, done.effort, done.diff)


def test_check_mode_on_a_bare_host(host, tmp_path):
    told = host.apply(ONE, check_mode=True, root=str(tmp_path / "nothing"))
    assert told.effort == "start"
    assert not (tmp_path / "nothing").exists()


def test_no_diff_shows_a_password(running):
    shown = str(running.apply({USERS: LOGIN}).diff)
    shown += str(running.apply({USERS: LOGIN.replace(PASSWORD, "another-word")}).diff)
    shown += str(running.apply({USERS: None}).diff)
    assert USERS in shown
    assert PASSWORD not in shown
    assert "another-word" not in shown


# ---- runs that are killed, and two at once


def in_a_child(work):
    """Run it in a process of its own, which may be killed, and return how it ended."""
    child = FORK.Process(target=work)
    child.start()
    child.join()
    return child.exitcode


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "moment", ["_write_set", "_point", "_refusals", "_follow", "_forget_old_sets", "pmta test", "pmta reload"]
)
def test_a_run_that_is_killed_is_finished_by_the_next(host, moment, first):
    if not first:
        host.apply(ONE)
    before = configuration.current(str(host.root))
    if moment.startswith("pmta"):
        host.say("kill-config" if moment == "pmta test" else "kill-")
    original = getattr(configuration, moment, None)

    def killed(*arguments, **named):
        original(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        if original:
            setattr(configuration, moment, killed)
        host.apply(TWO)

    ended = in_a_child(work)
    if not (first and moment == "pmta reload"):  # the first run starts, it does not reload
        assert ended == -signal.SIGKILL
        assert configuration.current(str(host.root)) in (before, TWO)
    host.apply(TWO)
    host.whole(TWO)
    assert host.apply(TWO).effort == "nothing"


def test_a_killed_run_may_be_followed_by_one_that_wants_the_old_set(running):
    def killed(*_arguments):
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        configuration._follow = killed
        running.apply({"10-host.conf": GOOD.replace("run-as-root no", "run-as-root yes")})

    assert in_a_child(work) == -signal.SIGKILL
    assert not configuration.in_force(str(running.root))
    running.apply(ONE)
    running.whole(ONE)
    assert "systemctl restart pmta" not in running.log()  # it never ran as root


def test_what_a_killed_run_did_not_restart_is_restarted(running):
    wanted = {"10-host.conf": GOOD.replace("run-as-root no", "run-as-root yes")}

    def work():
        configuration._follow = lambda *_arguments: os.kill(os.getpid(), signal.SIGKILL)
        running.apply(wanted)

    assert in_a_child(work) == -signal.SIGKILL
    running.log()
    assert running.apply(wanted).effort == "restart"
    running.whole(wanted)


def test_two_runs_at_once_lose_nothing(running, monkeypatch):
    monkeypatch.setattr(configuration, "_LOCK_SECONDS", math.inf)
    running.say("slow")
    texts = {f"2{number}.conf": f"<domain d{number}.example>\n    max-smtp-out 1\n</domain>\n" for number in range(4)}
    children = [FORK.Process(target=running.apply, args=({name: text},)) for name, text in texts.items()]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    running.whole({**ONE, **texts})


def test_who_waits_too_long_is_told(running, monkeypatch):
    monkeypatch.setattr(configuration, "_LOCK_SECONDS", 0.2)
    ours, theirs = FORK.Pipe()

    def work():
        with configuration.alone(str(running.root)):
            theirs.send("held")
            theirs.recv()

    child = FORK.Process(target=work, daemon=True)
    child.start()
    theirs.close()  # so that its end, whatever the reason, ends the waiting
    assert ours.recv() == "held"
    assert "another run has held" in running.refused(TWO)
    ours.send("done")
    child.join()
    running.apply(TWO)


def test_whoever_has_it_alone_may_apply(running):
    with configuration.alone(str(running.root)):
        running.apply(TWO)
    running.whole(TWO)


# ---- sets


def test_a_set_that_was_edited_by_hand_is_noticed_and_repaired(running):
    path = running.root / "conf.d" / "10-host.conf"
    path.write_text(GOOD + "total-max-smtp-out 99\n", encoding="utf-8")
    (running.root / "conf.d" / "99-mine.conf").write_text("total-max-smtp-out 3\n", encoding="utf-8")
    change = running.apply({**ONE, "99-mine.conf": None})
    assert change.effort == "reload"
    assert sorted(map(os.path.basename, change.changed)) == ["10-host.conf", "99-mine.conf"]
    running.whole(ONE)


def test_a_main_file_that_was_edited_by_hand_is_repaired(running):
    (running.root / "config").write_text("total-max-smtp-out 5\n", encoding="utf-8")
    change = running.apply(ONE)
    assert change.changed == (str(running.root / "config"),)
    running.whole(ONE)
    assert "package's own" in (running.root / "config.before-mailops").read_text(encoding="utf-8")


def test_five_sets_are_kept_and_any_of_them_can_come_back(running):
    for number in range(1, 9):
        running.apply({"10-host.conf": f"{GOOD}total-max-smtp-out {number}\n"})
        now = 1_000_000_000 + number
        os.utime(os.path.realpath(running.root / "conf.d"), (now, now))
    assert len(running.sets()) == 5
    running.apply({"10-host.conf": f"{GOOD}total-max-smtp-out 5\n"})
    assert len(running.sets()) == 5
    running.whole({"10-host.conf": f"{GOOD}total-max-smtp-out 5\n"})


def test_a_set_that_was_pointed_to_by_hand_is_put_right(running):
    first = os.readlink(running.root / "conf.d")
    running.apply(TWO)
    os.unlink(running.root / "conf.d")
    os.symlink(first, running.root / "conf.d")
    running.apply(TWO)
    running.whole(TWO)


# ---- the command line


def test_an_answer_is_data_or_an_error_that_quotes_it(host):
    host.say("answer", '{"status": "success"}')
    assert configuration.cli("show", "queues") == {"status": "success"}
    host.say("answer", "\npmta: cannot connect\n")
    with pytest.raises(configuration.PowermtaError, match="pmta show queues said: pmta: cannot connect"):
        configuration.cli("show", "queues")


def test_a_host_without_powermta_is_told_so(host, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(configuration.PowermtaError, match="pmta"):
        configuration.cli("show", "queues")


def test_what_leaves_a_set_is_not_checked_beside_what_comes(running):
    """Both name one address, and one set may not."""
    section = "<virtual-mta {}>\n    smtp-source-host 203.0.113.9 a.example\n</virtual-mta>\n"
    running.apply({"30-old.conf": section.format("same")})
    after = {"30-old.conf": None, "31-new.conf": section.format("same")}
    running.apply(after)
    running.whole({**ONE, "31-new.conf": after["31-new.conf"]})


def test_files_that_a_fragment_includes_are_checked_too(running):
    other = running.root / "other.conf"
    other.write_text("ehlo-hostname a.example\n", encoding="utf-8")
    assert "other.conf:1: ehlo-hostname" in running.refused({"20.conf": f"include {other}\n"})
    other.write_text("# nothing\n", encoding="utf-8")
    running.apply({"20.conf": f"include {other}\n"})
    other.unlink()
    assert "other.conf" in running.refused({"21.conf": "# nothing\n"})


def test_a_set_whose_keys_are_gone_is_refused_before_anything_is_touched(host):
    host.apply(ONE)
    place = host.root / "dkim" / "keys"
    place.mkdir(parents=True)
    key = place / "s1._domainkey.a.test.0123abcd.key"
    keys = {"70-dkim.conf": "# state 7 of the key store\n", "dkim-a.test.keys": f"domain-key s1,a.test,{key}\n"}
    before = host.tree()
    said = host.refused({**ONE, **keys})
    assert str(key) in said
    assert "--tags dkim,powermta" in said
    assert host.tree() == before
    assert host.apply({**ONE, **keys}, check_mode=True).changed
    key.touch()
    host.apply({**ONE, **keys})
    assert {name: host.read[name] for name in keys} == keys
