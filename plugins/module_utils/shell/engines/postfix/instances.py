# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Postfix instances of this host: compare, stage, check, swap, start or reload, and put back what does not work.

Everything that is known about an instance stands in its own files; there is no further state. Mail is never deleted:
a queue directory goes only when nothing is in it.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import NOTHING, RELOAD, RESTART
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import files as postfix_files
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import parts
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files

PRIMARY = "/etc/postfix"
LOCK = "/run/mailops-postfix.lock"
_ENTRANCES = ("maildrop", "incoming")
QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt", "saved")
LISTEN_SECONDS = 20.0
_DROP_IN = "/etc/systemd/system/postfix@.service.d/mailops.conf"
_DROP_IN_TEXT = """\
# Managed by Ansible (mailops.mta.postfix)
[Unit]
StartLimitIntervalSec=0

[Service]
# An instance cannot bind an address that comes late at boot, and nothing else starts a master(8) that was killed.
Restart=on-failure
RestartSec=5
# "postfix stop" ends within some seconds, by force where it must. After a kill, systemd waits as long for the children.
TimeoutStopSec=20
# The primary instance of Debian 12 and the others have different queue directories, so no PIDFile= fits them all.
GuessMainPID=yes
# smtp(8) before Postfix 3.8 sends from another address of the host where its own is missing.
ExecStartPre=/bin/sh -c 'sed -nE "s/^ *-o smtp_bind_address6?=//p" {directory}/master.cf 2>/dev/null | sort -u | \\
    while read -r ip; do ip -o address | grep -qF " $$ip/" || {{ echo "$$ip is not on this host yet"; exit 1; }}; done'
"""
_KILL_TEXT = """\
# Debian 13 takes CAP_KILL from master(8), which then cannot end the processes of a service that left master.cf, and
# hangs at the reload.
CapabilityBoundingSet=CAP_KILL
"""
_CHANGING = ".changing"  # in a configuration directory while its files may be newer than what runs
_UNIT_FILES = ("/lib/systemd/system/postfix@.service", "/usr/lib/systemd/system/postfix@.service")


class PostfixError(Exception):
    """Something that a person must look at; the text says what and what was done about it."""


@dataclass
class Outcome:
    """What a run did, or in check mode would do."""

    actions: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    draining: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def did(self, name: str, what: str) -> None:
        self.actions.append(f"{name}: {what}")


@dataclass(frozen=True)
class Plan:
    """One instance: its files now and as they should be."""

    instance: Mapping[str, Any]
    before: Mapping[str, str]
    after: Mapping[str, str]
    stale: tuple[str, ...]  # lmdb tables older than their source
    unfinished: bool = False  # an earlier run ended between its files and the reload

    @property
    def name(self) -> str:
        return str(self.instance["name"])

    @property
    def directory(self) -> str:
        return str(self.instance["config_directory"])

    @property
    def lmdb(self) -> list[str]:
        return postfix_files.lmdb_names(self.instance)

    @property
    def differs(self) -> bool:
        return bool(self.stale) or dict(self.before) != dict(self.after)


class Host:
    """This host's Postfix. ``check_mode`` plans and prints, and leaves every byte as it was."""

    def __init__(self, *, check_mode: bool, settings: Mapping[str, str], retire_seconds: int) -> None:
        self.check_mode = check_mode
        self.settings = settings
        self.retire_seconds = retire_seconds
        self.installed = shutil.which("postconf") is not None
        self.units = _Units()
        self.outcome = Outcome()
        # The unit of the instances has changed. systemd knows their main processes from the next start on.
        self.renewed = False

    def apply(self, instances: Iterable[Mapping[str, Any]]) -> Outcome:
        """Bring every instance to its wanted state; one that fails stops none of the others."""
        wanted = list(instances)
        if not self.installed and not self.check_mode:
            raise PostfixError("Postfix is not installed on this host (there is no postconf)")
        self._primary()
        if not self.units.come_back():
            self.renewed = True
            self.outcome.did("postfix", "instances come back after a failure")
            if not self.check_mode:
                self.units.let_come_back()
        known = self._known(wanted)
        plans = [plan for plan in (self._plan_or_report(instance, known) for instance in wanted) if plan]
        running = self.units.running([plan.name for plan in plans])
        for plan in plans:
            self._report_retired(plan)
            try:
                self._bring(plan, plan.name in running)
            except PostfixError as error:
                self.outcome.errors.append(f"{plan.name}: {error}")
        for name in self._left_over({str(instance["name"]) for instance in wanted}):
            try:
                self._drain(name)
            except PostfixError as error:
                self.outcome.errors.append(f"{name}: {error}")
        if self.installed and not self.units.at_boot():
            self.outcome.did("postfix", "starts at boot")
            if not self.check_mode:
                self.units.start_at_boot()
        return self.outcome

    # ---- one instance

    def _known(self, instances: Iterable[Mapping[str, Any]]) -> set[str]:
        asked = sorted({name for instance in instances for name in instance["main_cf_if_known"]})
        if not self.installed or not asked:
            return set(asked)
        done = _run(["postconf", "-d", *asked], check=False)
        return {line.partition("=")[0].strip() for line in done.stdout.splitlines() if "=" in line}

    def _plan_or_report(self, instance: Mapping[str, Any], known: set[str]) -> Optional[Plan]:
        try:
            return self._plan(instance, known)
        except PostfixError as error:
            self.outcome.errors.append(f"{instance['name']}: {error}")
            return None

    def _plan(self, instance: Mapping[str, Any], known: set[str]) -> Plan:
        directory = instance["config_directory"]
        tables = [*instance["tables"], *postfix_files.lmdb_names(instance)]
        leftovers = [name for name in _texts(directory) if name not in tables]
        before = files.read_all(directory, [*tables, *leftovers, postfix_files.MASTER_CF, postfix_files.MAIN_CF])
        main_cf, master_cf = before.get(postfix_files.MAIN_CF, ""), before.get(postfix_files.MASTER_CF, "")
        if main_cf and postfix_files.setting(main_cf, "multi_instance_group") != parts.GROUP:
            raise PostfixError(
                f"{directory} exists and is not ours (its multi_instance_group is not {parts.GROUP}). "
                "Nothing was changed. Move it away, or give the stream another name"
            )
        queue = postfix_files.setting(main_cf, "queue_directory")
        if queue and queue != instance["queue_directory"] and sum(queue_counts(queue).values()):
            raise PostfixError(f"{queue} holds mail, so its queue stays there. Nothing was changed. Let it drain first")
        retired = postfix_files.retire(master_cf, instance, now=int(time.time()), patience_seconds=self.retire_seconds)
        after = postfix_files.files(
            instance,
            settings={**postfix_files.retired_settings(main_cf, retired), **self.settings},
            known=known,
            retired=retired,
        )
        stale = tuple(name for name in postfix_files.lmdb_names(instance) if _stale(os.path.join(directory, name)))
        unfinished = os.path.exists(os.path.join(directory, _CHANGING))
        return Plan(instance=instance, before=before, after=after, stale=stale, unfinished=unfinished)

    def _report_retired(self, plan: Plan) -> None:
        for block in postfix_files.blocks(plan.after[postfix_files.MASTER_CF]):
            if block.since is not None:
                left = max(0, block.since + self.retire_seconds - int(time.time()))
                self.outcome.draining.append({"instance": plan.name, "transport": block.service, "seconds_left": left})

    def _bring(self, plan: Plan, running: bool) -> None:
        if not (plan.differs or plan.unfinished or self.renewed) and running:
            return
        self.outcome.diff.extend(files.diff(plan.directory, plan.before, plan.after))
        effort = postfix_files.effort(plan.before, plan.after, plan.lmdb) if running else "start"
        if running and self.renewed:
            effort = RESTART
        elif plan.unfinished and effort == NOTHING:
            effort = RELOAD
        tables = [name for name in plan.lmdb if name in plan.stale or plan.before.get(name) != plan.after[name]]
        if self.installed:
            self._lint(plan)
        if not self.check_mode:
            self._swap(plan, tables, effort)
        if tables and effort in (NOTHING, RELOAD):
            self.outcome.did(plan.name, f"tables changed ({', '.join(tables)})")
        if effort != NOTHING:
            self.outcome.did(plan.name, effort)
        elif not tables:
            self.outcome.did(plan.name, "files changed")

    def _lint(self, plan: Plan) -> None:
        """Ask Postfix about the new files where nothing uses them. A warning is an error for us."""
        with tempfile.TemporaryDirectory(prefix="mailops-postfix-") as stage:
            os.chmod(stage, 0o755)
            files.write_changed(stage, plan.after, {})
            problems = _complaints(["postconf", "-c", stage, "-n"]) + _complaints(["postconf", "-c", stage, "-M"])
            for name in plan.instance["tables"]:
                kind = name.rpartition(".")[2]
                problems += _complaints(["postmap", "-c", stage, "-q", "nobody@invalid", f"{kind}:{stage}/{name}"])
            if not problems and not self.check_mode:
                self._directories(plan)
                problems = _complaints(["postfix", "-c", stage, "check"], by_code=True)
        if problems:
            text = "; ".join(dict.fromkeys(problems)).replace(stage, plan.directory)
            raise PostfixError(f"Postfix refuses the new configuration, the old one stays: {text}")

    def _directories(self, plan: Plan) -> None:
        owner = _owner()
        for path, mode, user in (
            (parts.LOG_DIRECTORY, 0o755, None),
            (plan.instance["queue_directory"], 0o755, None),
            (plan.instance["data_directory"], 0o700, owner),
        ):
            if not os.path.isdir(path):
                os.makedirs(path, exist_ok=True)
                os.chmod(path, mode)
                if user:
                    shutil.chown(path, user)
        log = postfix_files.setting(plan.after[postfix_files.MAIN_CF], "maillog_file")
        if log:
            # Until postlogd(8) runs, tools that have dropped root write to the file themselves: where postsuper(1)
            # cannot, the instance does not start.
            os.close(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o640))
            shutil.chown(log, owner)

    def _swap(self, plan: Plan, tables: list[str], effort: str) -> None:
        os.makedirs(plan.directory, exist_ok=True)
        fresh = not plan.before
        interim = self._interim(plan) if effort in (RELOAD, RESTART) else plan.after
        try:
            if effort != NOTHING:
                files.write(os.path.join(plan.directory, _CHANGING), "")
            self._install(plan.directory, interim, plan.before, tables)
            self._register(plan.name, plan.directory)
            self._act(plan.name, effort)
            if effort != NOTHING:
                self._listening(plan)
            if interim != plan.after:
                self._install(plan.directory, plan.after, interim, [postfix_files.SHARES])
        except PostfixError as error:
            self._restore(plan, tables, effort, fresh)
            raise PostfixError(f"{error}. The old configuration was put back") from None
        files.remove(plan.directory, [_CHANGING])
        gone = [name for name in plan.before if name not in plan.after]
        files.remove(plan.directory, [*gone, *(f"{name}.lmdb" for name in gone)])

    def _interim(self, plan: Plan) -> Mapping[str, str]:
        """The new files with shares that name no service before it runs: its mail would wait 300 seconds."""
        if not plan.before.get(postfix_files.SHARES) or postfix_files.SHARES not in plan.after:
            return plan.after
        shares = postfix_files.interim_shares(
            plan.before[postfix_files.SHARES],
            plan.after[postfix_files.SHARES],
            plan.before.get(postfix_files.MASTER_CF, ""),
        )
        return {**plan.after, postfix_files.SHARES: shares}

    def _install(
        self, directory: str, texts: Mapping[str, str], before: Mapping[str, str], tables: Iterable[str]
    ) -> None:
        settled = (postfix_files.MASTER_CF, postfix_files.MAIN_CF)
        files.write_changed(directory, {name: text for name, text in texts.items() if name not in settled}, before)
        for name in tables:
            _must(["postmap", "-c", PRIMARY, f"lmdb:{directory}/{name}"])
        files.write_changed(directory, {name: texts[name] for name in settled}, before)

    def _restore(self, plan: Plan, tables: list[str], effort: str, fresh: bool) -> None:
        if fresh:
            self.units.stop(plan.name)
            self.units.forget(plan.name)
            self._unregister(plan.directory)
            shutil.rmtree(plan.directory)
            return
        self._install(plan.directory, plan.before, plan.after, [name for name in tables if name in plan.before])
        files.remove(plan.directory, [_CHANGING, *(name for name in plan.after if name not in plan.before)])
        if effort != NOTHING:
            self.units.reload(plan.name)
            if not self._healthy(plan.before, 3.0):
                self.units.restart(plan.name)

    def _act(self, name: str, effort: str) -> None:
        if effort == RELOAD:
            self.units.reload(name)
        elif effort == RESTART:
            self.units.restart(name)
        elif effort == "start":
            self.units.start(name)

    def _listening(self, plan: Plan) -> None:
        if not (self._healthy(plan.after, LISTEN_SECONDS) and self._serving(plan)):
            silent = [place for place in _places(plan.after) if not _answers(place)]
            log = postfix_files.setting(plan.after[postfix_files.MAIN_CF], "maillog_file")
            missing = ", ".join(silent) or f"the services {', '.join(_missing(plan))}"
            raise PostfixError(f"it does not answer on {missing}: {_last_complaint(log)}")

    def _healthy(self, texts: Mapping[str, str], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        waiting = _places(texts)
        while waiting and time.monotonic() < deadline:
            waiting = [place for place in waiting if not _answers(place)]
            if waiting:
                time.sleep(0.1)
        return not waiting

    def _serving(self, plan: Plan) -> bool:
        """Whether master(8) has opened the socket of every service, which takes some time after a reload."""
        deadline = time.monotonic() + LISTEN_SECONDS
        while _missing(plan) and time.monotonic() < deadline:
            time.sleep(0.1)
        return not _missing(plan)

    # ---- instances that left the fleet

    def _left_over(self, wanted: set[str]) -> list[str]:
        found = []
        for entry in sorted(os.listdir(parts.CONFIG_ROOT)):
            ours = entry.startswith("postfix-") and entry not in wanted
            main_cf = files.read(os.path.join(parts.CONFIG_ROOT, entry, postfix_files.MAIN_CF)) if ours else None
            if main_cf and postfix_files.setting(main_cf, "multi_instance_group") == parts.GROUP:
                found.append(entry)
        return found

    def _drain(self, name: str) -> None:
        directory = os.path.join(parts.CONFIG_ROOT, name)
        texts = files.read_all(directory, [postfix_files.MAIN_CF, postfix_files.MASTER_CF])
        queue = postfix_files.setting(texts[postfix_files.MAIN_CF], "queue_directory")
        quiet = postfix_files.without_listeners(texts.get(postfix_files.MASTER_CF, ""))
        if any(block.type == "inet" for block in postfix_files.blocks(texts.get(postfix_files.MASTER_CF, ""))):
            self.outcome.did(name, "takes no more mail, delivers what it holds")
            self.outcome.diff.extend(files.diff(directory, texts, {**texts, postfix_files.MASTER_CF: quiet}))
            if not self.check_mode:
                files.write(os.path.join(directory, postfix_files.MASTER_CF), quiet)
                if self.units.running([name]):
                    self.units.reload(name)
                else:
                    self.units.start(name)
                _run(["postqueue", "-c", directory, "-f"], check=False)
            self.outcome.draining.append({"instance": name, "messages": sum(queue_counts(queue).values())})
            return
        waiting = sum(queue_counts(queue).values())
        if waiting:
            if not self.check_mode and not self.units.running([name]):
                self.units.start(name)
                self.outcome.did(name, "started, it holds mail")
            self.outcome.draining.append({"instance": name, "messages": waiting})
            return
        self.outcome.did(name, "removed, its queue is empty")
        if not self.check_mode:
            self._remove(name, directory, queue, postfix_files.setting(texts[postfix_files.MAIN_CF], "data_directory"))

    def _remove(self, name: str, directory: str, queue: str, data: str) -> None:
        self.units.stop(name)
        if sum(queue_counts(queue).values()):
            self.units.start(name)
            raise PostfixError("mail came into its queue while it was stopped; it runs again and was not removed")
        self.units.forget(name)
        self._unregister(directory)
        shutil.rmtree(directory)
        for path in (queue, data):
            if os.path.basename(path) == name and os.path.isdir(path):
                shutil.rmtree(path)

    # ---- the primary instance and the list of instances

    def _primary(self) -> None:
        main_cf = files.read(os.path.join(PRIMARY, postfix_files.MAIN_CF)) or ""
        settings = {
            "multi_instance_wrapper": "${command_directory}/postmulti -p --",
            "multi_instance_enable": "yes",
            "inet_interfaces": "loopback-only",
        }
        differing = {name: value for name, value in settings.items() if postfix_files.setting(main_cf, name) != value}
        if not differing:
            return
        self.outcome.did("postfix", f"primary instance set ({', '.join(differing)})")
        after = main_cf + "".join(f"{name} = {value}\n" for name, value in differing.items())
        self.outcome.diff.extend(files.diff(PRIMARY, {postfix_files.MAIN_CF: main_cf}, {postfix_files.MAIN_CF: after}))
        if not self.check_mode:
            _must(["postconf", "-c", PRIMARY, "-e", *(f"{name}={value}" for name, value in differing.items())])
            if "inet_interfaces" in differing:
                self.units.restart_primary()

    def _registered(self) -> list[str]:
        main_cf = files.read(os.path.join(PRIMARY, postfix_files.MAIN_CF)) or ""
        return postfix_files.setting(main_cf, "multi_instance_directories").replace(",", " ").split()

    def _register(self, name: str, directory: str) -> None:
        registered = self._registered()
        if directory not in registered:
            value = " ".join([*registered, directory])
            _must(["postconf", "-c", PRIMARY, "-e", f"multi_instance_directories={value}"])
        self.units.remember(name)

    def _unregister(self, directory: str) -> None:
        rest = [entry for entry in self._registered() if entry != directory]
        _must(["postconf", "-c", PRIMARY, "-e", f"multi_instance_directories={' '.join(rest)}"])


class _Units:
    """How this distribution starts an instance: by a unit for each, or all by the primary's wrapper.

    Debian 12 names the unit after the instance, and a generator wants it at boot; Debian 13 names it after the
    directory without ``postfix-``, and it is enabled.
    """

    def __init__(self) -> None:
        text = next((text for text in map(files.read, _UNIT_FILES) if text), None)
        self.systemd = text is not None and os.path.isdir("/run/systemd/system")
        self.by_directory = bool(text) and "/etc/postfix-%I" in str(text)

    def unit(self, name: str) -> str:
        return f"postfix@{name[len('postfix-') :] if self.by_directory else name}.service"

    def running(self, names: list[str]) -> set[str]:
        if not names or shutil.which("postmulti") is None:
            return set()
        if self.systemd:
            done = _run(["systemctl", "is-active", *(self.unit(name) for name in names)], check=False)
            return {name for name, state in zip(names, done.stdout.split()) if state in ("active", "reloading")}
        return {name for name in names if _run(["postmulti", "-i", name, "-p", "status"], check=False).returncode == 0}

    def start(self, name: str) -> None:
        self._do("start", name)

    def stop(self, name: str) -> None:
        self._do("stop", name)

    def reload(self, name: str) -> None:
        self._do("reload", name)

    def restart(self, name: str) -> None:
        if self.systemd:
            self._do("restart", name)
        else:
            self._do("stop", name)
            self._do("start", name)

    def restart_primary(self) -> None:
        if self.systemd:
            # The units of the instances are part of it, and would be restarted with it.
            unit = "postfix.service" if self.by_directory else "postfix@-.service"
            _must(["systemctl", "restart", "--job-mode=ignore-dependencies", unit])
        else:
            _must(["postmulti", "-i", "-", "-p", "stop"])
            _must(["postmulti", "-i", "-", "-p", "start"])

    def come_back(self) -> bool:
        """Whether systemd starts an instance anew that could not start or was killed."""
        return not self.systemd or files.read(_DROP_IN) == self._drop_in

    def let_come_back(self) -> None:
        os.makedirs(os.path.dirname(_DROP_IN), exist_ok=True)
        files.write(_DROP_IN, self._drop_in)
        _must(["systemctl", "daemon-reload"])

    @property
    def _drop_in(self) -> str:
        directory = "/etc/postfix-%I" if self.by_directory else "/etc/%i"
        return _DROP_IN_TEXT.format(directory=directory) + (_KILL_TEXT if self.by_directory else "")

    def at_boot(self) -> bool:
        return not self.systemd or all(
            _run(["systemctl", "--quiet", verb, "postfix.service"], check=False).returncode == 0
            for verb in ("is-enabled", "is-active")
        )

    def start_at_boot(self) -> None:
        _must(["systemctl", "--quiet", "enable", "--now", "postfix.service"])

    def remember(self, name: str) -> None:
        if self.systemd and self.by_directory:
            _must(["systemctl", "--quiet", "enable", self.unit(name)])

    def forget(self, name: str) -> None:
        if self.systemd and self.by_directory:
            _must(["systemctl", "--quiet", "disable", self.unit(name)])

    def _do(self, verb: str, name: str) -> None:
        if self.systemd:
            if verb in ("start", "restart"):
                _run(["systemctl", "reset-failed", self.unit(name)], check=False)
            _must(["systemctl", verb, self.unit(name)])
        else:
            _must(["postmulti", "-i", name, "-p", verb])


# ---- small questions


def queue_counts(directory: str) -> dict[str, int]:
    """How many messages are in each part of a queue.

    Postfix sets a file's execute bit once it has the whole message (and answers 250 after that), so a file without it
    in the parts that it writes first is one that nobody was promised: of a client that went, or of a killed process.
    """
    return {
        part: sum(
            _is_message(os.path.join(path, name), part in _ENTRANCES)
            for path, _folders, names in os.walk(os.path.join(directory, part))
            for name in names
        )
        for part in QUEUES
    }


def _is_message(path: str, entering: bool) -> bool:
    if "." in os.path.basename(path):  # it has no queue id yet
        return False
    try:
        return not entering or bool(os.stat(path).st_mode & stat.S_IXUSR)
    except FileNotFoundError:  # it has moved on, and is counted where it is
        return False


def _texts(directory: str) -> list[str]:
    """The tables that an earlier run left in a configuration directory."""
    if not os.path.isdir(directory):
        return []
    present = sorted(os.listdir(directory))
    return [name for name in present if name.endswith((".pcre", ".cidr")) or f"{name}.lmdb" in present]


def _stale(path: str) -> bool:
    try:
        return os.stat(f"{path}.lmdb").st_mtime_ns < os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return True


def _places(texts: Mapping[str, str]) -> list[str]:
    return [
        block.service for block in postfix_files.blocks(texts.get(postfix_files.MASTER_CF, "")) if block.type == "inet"
    ]


def _missing(plan: Plan) -> list[str]:
    """Services of a new master.cf that have no socket yet."""
    private = os.path.join(str(plan.instance["queue_directory"]), "private")
    return [
        block.service
        for block in postfix_files.blocks(plan.after[postfix_files.MASTER_CF])
        if postfix_files.is_sender(block) and not os.path.exists(os.path.join(private, block.service))
    ]


def _answers(place: str) -> bool:
    host, _colon, port = place.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=3) as connection:
            return connection.recv(3).isdigit()
    except OSError:
        return False


def _owner() -> str:
    return _must(["postconf", "-c", PRIMARY, "-hx", "mail_owner"]).strip()


def _last_complaint(log: str) -> str:
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if "fatal:" in line or "panic:" in line]
    except OSError:
        lines = []
    return lines[-1][-300:] if lines else f"see {log}"


def _complaints(command: list[str], *, by_code: bool = False) -> list[str]:
    """What a tool of Postfix says on its standard error; ``by_code`` where it also says harmless things there."""
    done = _run(command, check=False)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if by_code and done.returncode == 0:
        # postsuper(1) speaks of what lies in the queue, such as the unfinished message of a killed process.
        return [line for line in lines if ("warning:" in line or "fatal:" in line) and "postsuper" not in line]
    return lines


def _must(command: list[str]) -> str:
    return _run(command, check=True).stdout


def _run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise PostfixError(f"{' '.join(command[:3])} failed: {' '.join(said[-3:])}")
    return done
