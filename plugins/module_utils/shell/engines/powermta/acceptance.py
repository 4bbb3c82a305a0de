# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try on this host's PowerMTA what ``core/engines/powermta/assumptions.py`` takes for granted.

``pmta test config`` reads one place only, so each trial stands in /etc/pmta/config while it is tried. The configuration
that stood there is kept beside it first, comes back whatever happens, and comes back at the next run after a kill. The
running PowerMTA reads nothing of a trial, but for a short while a listener on the loopback interface and a virtual MTA
that reaches nobody. Three messages wait there, and are paused, listed and deleted by the functions of the modules.
"""

from __future__ import annotations

import contextlib
import glob
import grp
import os
import pwd
import shutil
import smtplib
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import assumptions
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import queue as names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import status as answers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.assumptions import (
    Outcome,
    Said,
    outcome,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration, operation
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta.configuration import (
    PowermtaError,
    host,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files

KEPT = "config.mailops-acceptance"
_SMTP_SECONDS = 60
_LISTEN_SECONDS = 15.0
_DOMAIN, _VMTA = "acceptance.invalid", "mailops-acceptance"
_QUEUE = f"{_DOMAIN}/{_VMTA}"  # no mail can leave it: nothing answers on port 1
_SOURCE_IP = "127.0.0.1"
_LIVE = """
<virtual-mta {vmta}>
    smtp-source-host {ip} {domain}
    <domain *>
        smtp-hosts [127.0.0.1]:1
        bounce-after 1h
    </domain>
</virtual-mta>
<virtual-mta {vmta}-refused>
    smtp-source-host {ip} {domain}
    <domain *>
        smtp-hosts [127.0.0.2]:{port}
        bounce-upon-5xx-greeting yes
        use-starttls no
    </domain>
</virtual-mta>
<pattern-list {vmta}>
    header From /^\\s*elsewhere@/ virtual-mta={vmta}-refused
</pattern-list>
<source {vmta}>
    default-virtual-mta {vmta}
    always-allow-relaying yes
    pattern-list {vmta}
</source>
<source {vmta}-refused>
    smtp-service no
</source>
smtp-listener 127.0.0.1:{port} source={vmta}
smtp-listener 127.0.0.2:{port} source={vmta}-refused
"""
_MESSAGES = 3
_READERS: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("json.version", ("show", "version"), answers.version),
    ("json.status", ("show", "status"), answers.status),
    ("json.queues", ("show", "queues", "--no-rcpt-events", "--errors"), answers.queues),
    ("json.vmtas", ("show", "vmtas"), answers.vmtas),
    ("json.disabled-sources", ("show", "disabled", "sources", "*/*"), answers.disabled_sources),
    ("json.license", ("show", "license"), answers.licence),
    ("json.settings", ("show", "settings", _QUEUE), answers.settings),
    ("json.list", ("list", "--queue=*/*", "--maxitems=9"), answers.listed),
)
_LIVE_SAYS = {
    "reload.adds": "a reload opens a listener that is new",
    "reload.removes": "a reload closes a listener that is gone",
    "reload.keeps": "a reload keeps the process",
    "refusal": "mail with a From field that a rule refuses bounces at once, by a listener that serves nobody",
    "operation.waits": "mail that cannot leave waits in the queue domain/virtual-mta, listed with its recipients",
    "operation.list": "list counts the mail of one recipient",
    "operation.pause": "a queue is paused, listed as paused, and runs again",
    "operation.backoff": "a queue is set to backoff, listed so, and set to normal again",
    "operation.source": "a disabled source is listed with its IP, and no more once it is enabled",
    "operation.source-time": "one that comes back by itself is listed with the time",
    "operation.delete-some": "delete takes the mail of one recipient and no other",
    "operation.delete": "delete takes all mail of one queue",
}


Answers = tuple[list[Outcome], dict[str, list[str]]]  # judged, and the keys of each


@dataclass
class Result:
    """What a run found."""

    facts: dict[str, str]
    outcomes: list[Outcome]
    shapes: dict[str, list[str]]

    def lines(self, *, proven: bool) -> list[str]:
        return assumptions.report(self.facts, [*self.outcomes, *assumptions.by_mail(proven)], self.shapes)


def run(*, force: bool, check_mode: bool, root: str = configuration.ROOT) -> Result:
    """Raises PowermtaError where nothing may or can be tried; then nothing was changed."""
    with configuration.alone(root):
        if os.path.exists(os.path.join(root, KEPT)):
            _recover(root, check_mode)
        if not force:
            _refuse_with_mail()
        why_not = "this was a run with --check" if check_mode else ""
        tested = {} if check_mode else _try_all(root)
        outcomes = assumptions.judged(assumptions.TRIALS, tested, why_not)
        if not why_not and not configuration.running():
            why_not = "PowerMTA does not run"
        live = _Live() if why_not else _try_live(root)
        told, shapes = live.answers or _answers()
        outcomes += [_whole(root), *live.outcomes(why_not), *told, *_host(root)]
    return Result(_facts(), outcomes, shapes)


def _recover(root: str, check_mode: bool) -> None:
    """A run was killed: its mail, its listener and its configuration go. What the role has put in place since stays."""
    if check_mode:
        raise PowermtaError(f"a run was killed, so {KEPT} is still beside the configuration: run it without --check")
    if configuration.is_ours(root):
        os.unlink(os.path.join(root, KEPT))
        return
    _say("delete", f"--queue={_QUEUE}")
    _put_back(root)
    if configuration.running():
        host.run(["pmta", "reload"])


def _refuse_with_mail() -> None:
    found, findings = answers.status(configuration.cli("show", "status"))
    if found is None or found["recipients"] is None:
        raise PowermtaError(f"it cannot be told whether mail waits on this host: {'; '.join(map(str, findings))}")
    waiting = max(found["recipients"], found["spooled_recipients"] or 0)
    if waiting:
        raise PowermtaError(
            f"{waiting} recipients wait on this host. Use one without mail, or set powermta_acceptance_force: true if "
            "a restart of PowerMTA in the next minutes may as well find a configuration of a trial"
        )


# ---- trials


def _try_all(root: str) -> dict[str, Said]:
    extra = os.path.join(root, os.path.basename(assumptions.EXTRA))
    with _kept(root):
        try:
            return {
                trial.name: tested for trial in assumptions.TRIALS if (tested := _try(trial, root, extra)) is not None
            }
        finally:
            shutil.rmtree(extra, ignore_errors=True)


def _try(trial: assumptions.Trial, root: str, extra: str) -> Optional[Said]:
    shutil.rmtree(extra, ignore_errors=True)
    os.mkdir(extra, 0o750)
    if assumptions.KEY in f"{trial.text}{trial.files}" and not _make_key(
        os.path.join(extra, os.path.basename(assumptions.KEY))
    ):
        return None
    for name, text in trial.files:
        path = os.path.join(extra, name)
        if "/" not in name:
            os.symlink(text, path)
            continue
        os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
        files.write(path, text.replace(assumptions.EXTRA, extra), 0o640)
    _readable(extra)
    _replace(os.path.join(root, "config"), (assumptions.BASE + trial.text).replace(assumptions.EXTRA, extra))
    return _test()


def _test() -> Said:
    done = host.run(["pmta", "test", "config"])
    return Said(done.returncode, tuple(done.stdout.splitlines()), tuple(done.stderr.splitlines()))


def _make_key(path: str) -> bool:
    with contextlib.suppress(PowermtaError):
        return host.run(["openssl", "genrsa", "-out", path, "2048"]).returncode == 0
    return False


@contextlib.contextmanager
def _kept(root: str) -> Iterator[None]:
    """What stands in the configuration's place, beside it, until it is back."""
    main, kept = os.path.join(root, "config"), os.path.join(root, KEPT)
    if not os.path.isfile(main):
        raise PowermtaError(f"there is no {main}: install PowerMTA first")
    shutil.copy2(main, f"{kept}.new")
    shutil.chown(f"{kept}.new", os.stat(main).st_uid, os.stat(main).st_gid)
    os.rename(f"{kept}.new", kept)
    try:
        yield
    finally:
        _put_back(root)


def _put_back(root: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(os.path.join(root, KEPT), os.path.join(root, "config"))


def _replace(path: str, text: str) -> None:
    """With the owner and the mode of what stands there."""
    before = os.stat(path)
    files.write(path, text, stat.S_IMODE(before.st_mode))
    os.chown(path, before.st_uid, before.st_gid)


def _readable(directory: str) -> None:
    with contextlib.suppress(KeyError, PermissionError):
        group = grp.getgrnam(configuration.GROUP).gr_gid
        for parent, _directories, held in os.walk(directory):
            for path in (parent, *(os.path.join(parent, name) for name in held)):
                os.chown(path, -1, group, follow_symlinks=False)


# ---- what stands and runs here


def _whole(root: str) -> Outcome:
    name, says = "config.whole", "the configuration in place, conf.d as a symbolic link, is accepted"
    if not configuration.is_ours(root):
        return outcome(name, says, None, "this collection's role has not set PowerMTA up here")
    done = _test()
    # The rest of an error may quote what stands there.
    return outcome(name, says, not done.errors, "; ".join(error.partition(": ")[0] for error in done.errors[:2]))


@dataclass
class _Live:
    """What was seen while the running PowerMTA had a listener and a queue for the trial."""

    held: dict[str, Optional[bool]] = field(default_factory=dict)
    answers: Optional[Answers] = None

    def outcomes(self, why_not: str) -> list[Outcome]:
        return [
            outcome(
                name, says, self.held.get(name), "" if name in self.held else why_not or "an earlier one did not hold"
            )
            for name, says in _LIVE_SAYS.items()
        ]


def _try_live(root: str) -> _Live:
    live, main, port, process = _Live(), os.path.join(root, "config"), _free_port(), _process()
    try:
        with _kept(root):
            wanted = _LIVE.format(vmta=_VMTA, ip=_SOURCE_IP, domain=_DOMAIN, port=port)
            _replace(main, f"{files.read(main) or ''}{wanted}")
            host.run(["pmta", "reload"])
            live.held["reload.adds"] = _until(lambda: _greets(port))
            if live.held["reload.adds"]:
                _operate(live, port)
    finally:
        host.run(["pmta", "reload"])
    if live.held["reload.adds"]:
        live.held["reload.removes"] = _until(lambda: not _greets(port))
    live.held["reload.keeps"] = None if process is None else _process() == process
    return live


def _operate(live: _Live, port: int) -> None:
    """The modules' functions on a queue of the trial's own, whose mail is deleted in the end."""
    held, rcpt = live.held, f"r0@{_DOMAIN}"
    try:
        _inject(port)
        held["operation.waits"] = _until(lambda: _waiting() == _MESSAGES)
        if held["operation.waits"]:
            _send(port, "", f"elsewhere@{_DOMAIN}", 0)
            held["refusal"] = _until(lambda: _waiting(f"{_DOMAIN}/*") == _MESSAGES)
            held["operation.source"], held["operation.source-time"] = _source(live)
            held["operation.list"] = _deletes(rcpt, check_mode=True)
            held["operation.pause"] = _sets({"paused": True}) and _sets({"paused": False})
            held["operation.backoff"] = _sets({"mode": "backoff"}) and _sets({"mode": "normal"})
            held["operation.delete-some"] = _deletes(rcpt) and _until(lambda: _waiting() == _MESSAGES - 1)
            held["operation.delete"] = _deletes("") and _until(lambda: not _waiting())
    except (OSError, smtplib.SMTPException):
        held["operation.waits"] = False
    finally:
        _say("delete", f"--queue={_QUEUE}")


def _inject(port: int) -> None:
    for number in range(_MESSAGES):
        _send(port, f"sender@{_DOMAIN}", f"sender@{_DOMAIN}", number)


def _send(port: int, sender: str, author: str, number: int) -> None:
    """Without a ``sender`` nobody gets a report."""
    rcpt = f"r{number}@{_DOMAIN}"
    with smtplib.SMTP("127.0.0.1", port, local_hostname=_DOMAIN, timeout=_SMTP_SECONDS) as smtp:
        text = f"From: {author}\r\nTo: {rcpt}\r\nSubject: acceptance\r\n\r\nThis waits and is deleted.\r\n"
        smtp.sendmail(sender, [rcpt], text)


def _waiting(queue: str = _QUEUE) -> Optional[int]:
    with contextlib.suppress(PowermtaError):
        found, _findings = answers.queues(configuration.cli(*operation.QUEUES, queue))
        return sum(each["recipients"] or 0 for each in names.fitting(found or [], queue))
    return None


def _sets(wanted: Mapping[str, Any]) -> bool:
    """Whether it was changed, and whether a second time there is nothing to change."""
    with contextlib.suppress(PowermtaError):
        first = operation.set_queue(_QUEUE, wanted, check_mode=False)
        return (
            first.changed and not first.warnings and not operation.set_queue(_QUEUE, wanted, check_mode=False).changed
        )
    return False


def _deletes(rcpt: str, *, check_mode: bool = False) -> bool:
    with contextlib.suppress(PowermtaError):
        done = operation.delete(_QUEUE, "", rcpt, 0, check_mode=check_mode)
        return not done.warnings and done.deleted == (1 if rcpt else _MESSAGES - 1)
    return False


def _source(live: _Live) -> tuple[bool, Optional[bool]]:
    """While a source is disabled there is something in every list, so the answers are looked at as well."""
    _say("disable", "source", "--reenable-after=90s", _SOURCE_IP, _QUEUE)
    listed = _disabled()
    live.answers = _answers()
    _say("enable", "source", _SOURCE_IP, _QUEUE)
    return bool(listed) and not _disabled(), bool(listed[0]["reenable_at"]) if listed else None


def _say(*command: str) -> None:
    with contextlib.suppress(PowermtaError):  # it need not answer in JSON
        configuration.cli(*command)


def _disabled() -> list[Mapping[str, Any]]:
    with contextlib.suppress(PowermtaError):
        found, _findings = answers.disabled_sources(configuration.cli("show", "disabled", "sources", names.EVERY))
        return names.disabling(found or [], _SOURCE_IP, _QUEUE)
    return []


def _process() -> Optional[str]:
    """Of the daemon, which may be a child of what systemd watches."""
    for command in (
        ("pgrep", "-x", "-o", "pmtad"),
        ("systemctl", "show", "--value", "--property=MainPID", configuration.SERVICE),
    ):
        with contextlib.suppress(PowermtaError):
            found = host.run(list(command)).stdout.strip()
            if found:
                return found
    return None


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def _greets(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as asked:
        return asked.recv(4).startswith(b"220")
    return False


def _until(holds: Any) -> bool:
    give_up = time.monotonic() + _LISTEN_SECONDS
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.3)
    return True


def _answers() -> Answers:
    outcomes, shapes = [], {}
    for name, command, read in _READERS:
        text = " ".join(command)
        try:
            parsed = configuration.cli(*command)
            found, findings = read(parsed)
            shapes[text] = answers.shape(parsed)
        except PowermtaError:
            found, findings, shapes[text] = None, (), []  # its text may quote what identifies somebody
        held = None if not findings and found in ([], 0) else found is not None and not findings
        seen = {None: "nothing was there to be listed", False: "see the keys below"}.get(held, "")
        outcomes.append(outcome(name, f"`pmta --json {text}` is understood", held, seen))
    return outcomes, shapes


def _host(root: str) -> list[Outcome]:
    units = host.run(["systemctl", "list-unit-files", "--no-legend", "pmta*"]).stdout.split()
    services = sorted(unit for unit in units if unit.endswith(".service"))
    owners = {
        path: _owner(path) for path in (root, f"{root}/config", f"{root}/license", "/var/log/pmta", "/var/spool/pmta")
    }
    return [
        outcome(
            "host.units",
            "the services are pmta.service and pmtahttp.service",
            {f"{configuration.SERVICE}.service", f"{configuration.MONITOR}.service"} <= set(services),
            ", ".join(services),
        ),
        outcome(
            "host.user",
            "the package makes the user and the group pmta",
            _exists(pwd.getpwnam) and _exists(grp.getgrnam),
        ),
        outcome(
            "host.files",
            "configuration, licence, log and spool are where they are expected",
            all(owners.values()),
            ", ".join(f"{path} {owner or 'absent'}" for path, owner in owners.items()),
        ),
        _header(),
    ]


def _exists(ask: Any) -> bool:
    with contextlib.suppress(KeyError):
        return bool(ask("pmta"))
    return False


def _owner(path: str) -> str:
    try:
        found = os.stat(path)
        return f"{pwd.getpwuid(found.st_uid).pw_name}:{grp.getgrgid(found.st_gid).gr_name} {found.st_mode & 0o7777:04o}"
    except (OSError, KeyError):
        return ""


def _header() -> Outcome:
    name, says = "accounting.header", "an accounting file begins with a line of column names, the first of them is type"
    paths = sorted(glob.glob("/var/log/pmta/acct*.csv"), key=os.path.getmtime)
    if not paths:
        return outcome(name, says, None, "there is no accounting file yet; send a message and run this again")
    with open(paths[-1], encoding="utf-8", errors="replace") as file:
        columns = file.readline(4000).strip().split(",")
    held = columns[0] == "type" and "timeLogged" in columns and "vmta" in columns
    # A line that is no header is a record, and a record names people.
    return outcome(name, says, held, f"{len(columns)} columns" if held else "the first line is something else")


def _facts() -> dict[str, str]:
    said = ""
    with contextlib.suppress(PowermtaError):
        found, _findings = answers.version(configuration.cli("show", "version"))
        said = " ".join(str(found[key]) for key in ("product", "version", "built") if found[key]) if found else ""
    return {
        "product": said or "it does not tell",
        "packages": ", ".join(_packages()) or "none is known to dpkg or rpm",
        "platform": f"{_os()} {os.uname().machine}",
    }


def _packages() -> list[str]:
    found = []
    for command in (("dpkg-query", "-W", "-f", "${Package} ${Version}\n"), ("rpm", "-qa")):
        with contextlib.suppress(PowermtaError):
            lines = host.run(list(command)).stdout.splitlines()
            found += [line.strip() for line in lines if line.lower().startswith(("powermta", "pmta"))]
    return sorted(found)


def _os() -> str:
    for line in (files.read("/etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return os.uname().sysname
