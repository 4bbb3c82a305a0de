# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA's configuration on this host as whole sets, and its command line.

``/etc/pmta/config`` is one line that includes ``conf.d/*.conf``. ``conf.d`` is a symbolic link to a set of fragments in
``sets/``, so one rename(2) brings a set into place and takes it back: whenever a run is killed, the whole old set or
the whole new one stands there. ``sets/loaded`` names the set that the running PowerMTA has read.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import foreign
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import checks, dkim
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import effort as powermta_set
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.effort import (
    LOAD,
    NOTHING,
    RELOAD,
    RESTART,
    START,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.slices import KEYS_END
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding, errors, report
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import sources
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files

ROOT = "/etc/pmta"
GROUP = "pmta"
SERVICE, MONITOR = "pmta", "pmtahttp"
KEPT_SETS = 5
SECRET = "(secret)\n"
_LOCK_SECONDS = 120
_COMMAND_SECONDS = 60
_SERVICE_SECONDS = 900  # it reads its spool as it starts, and ends what it sends as it stops
_BAD_NEWS = re.compile(
    r"\b(?:error|fail|failed|failure|unable|cannot|could not|refused|denied|not running|no such)\b", re.I
)
_LOADED = "loaded"
_ENDS = (".conf", KEYS_END)  # of the names in a set
_NEW, _BACK = ".new", ".back"  # beside what they are to become
_MODE, _DIRECTORY_MODE = 0o640, 0o750


class PowermtaError(Exception):
    """PowerMTA or this host refused. The set that was in place before is in place and in use."""


@dataclass(frozen=True)
class Change:
    """What a run did, or in check mode would do."""

    changed: tuple[str, ...]  # paths
    effort: str  # nothing | load | reload | restart | start
    findings: tuple[Finding, ...]  # warnings; an error is a PowermtaError
    diff: list[dict[str, str]]


@dataclass(frozen=True)
class Paths:
    root: str = ROOT

    @property
    def main(self) -> str:
        return os.path.join(self.root, "config")

    @property
    def conf_d(self) -> str:
        return os.path.join(self.root, "conf.d")

    @property
    def sets(self) -> str:
        return os.path.join(self.root, "sets")

    @property
    def loaded(self) -> str:
        return os.path.join(self.sets, _LOADED)

    @property
    def main_text(self) -> str:
        return (
            "# Managed by Ansible (mailops.mta.powermta): change the fleet file instead.\n"
            f"include {self.conf_d}/*.conf\n"
        )


# ---- what is there


def current(root: str = ROOT) -> dict[str, str]:
    """The fragments of the set in place, by file name. Raises PowermtaError where it should be there and is not."""
    paths = Paths(root)
    if is_ours(root) and not os.path.isdir(paths.conf_d):
        raise PowermtaError(
            f"{paths.conf_d} leads nowhere, and PowerMTA is to read it. What waits in its queues would be forgotten."
            f" Bring {paths.sets} back, and let {paths.conf_d} be a symbolic link to the set that {paths.loaded} names"
        )
    return _fragments(paths.conf_d)


def in_place(root: str = ROOT) -> str:
    """The name of the set in place, or nothing."""
    try:
        return os.path.basename(os.readlink(Paths(root).conf_d))
    except OSError:
        return ""


def is_ours(root: str = ROOT) -> bool:
    """Whether PowerMTA reads our sets."""
    paths = Paths(root)
    return files.read(paths.main) == paths.main_text


def running() -> bool:
    return _systemctl("is-active", "--quiet", SERVICE).returncode == 0


def in_force(root: str = ROOT) -> bool:
    """Whether the running PowerMTA has read the set in place."""
    name = in_place(root)
    return bool(name) and is_ours(root) and (files.read(Paths(root).loaded) or "").strip() == name and running()


def tree(root: str = ROOT) -> dict[str, str]:
    """The text of the configuration and of all files that it includes, by path."""
    return sources.read(Paths(root).main, {})[0]


def _fragments(directory: str) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return files.read_all(directory, sorted(name for name in os.listdir(directory) if name.endswith(_ENDS)))
    return {}


# ---- the command line


def cli(*arguments: str) -> Any:
    """What ``pmta --json`` answers to a command, as data. Raises PowermtaError."""
    done = _run(["pmta", "--json", *arguments])
    try:
        return foreign.parsed(done.stdout)
    except ValueError:
        said = next((line for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()), "nothing")
        raise PowermtaError(f"pmta {' '.join(arguments)} said: {said.strip()[:200]}") from None


def _refusals(secret: frozenset[str]) -> list[str]:
    """The errors that ``pmta test config`` finds in the files in place, as documented: lines that begin with Error."""
    return _errors(["pmta", "test", "config"], secret, lambda line: line.lower().startswith("error"))


def _reload(secret: frozenset[str]) -> list[str]:
    """What ``pmta reload`` has against it. Its words are documented nowhere, so any that sound bad count."""
    return _errors(["pmta", "reload"], secret, lambda line: bool(_BAD_NEWS.search(line)))


def _errors(command: list[str], secret: frozenset[str], bad: Callable[[str], bool]) -> list[str]:
    """The bad lines that a command prints. What its exit code means is not documented."""
    done = _run(command)
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if bad(line)]
    if done.returncode and not told:
        told = lines[:3] or ["it failed"]
    return [_without_secret(line, secret) for line in told]


def _without_secret(line: str, secret: frozenset[str]) -> str:
    """An error in a file of secrets may quote one."""
    for name in secret:
        place, found, _rest = line.partition(name)
        if found:
            return f"{place}{found}: what it says is left out, because this file holds secrets"
    return line


# ---- a change


_held: set[str] = set()  # the roots that this process has to itself


@contextlib.contextmanager
def alone(root: str = ROOT) -> Iterator[None]:
    """For one run at a time, which may ask again while it has it. Raises PowermtaError."""
    if root in _held:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(os.path.join(root, ".mailops.lock"), _LOCK_SECONDS))
        except TimeoutError as error:
            raise PowermtaError(str(error)) from None
        _held.add(root)
        stack.callback(_held.discard, root)
        yield


def apply(
    fragments: Mapping[str, Optional[str]],
    *,
    start: bool = False,
    check_mode: bool = False,
    version: str = checks.VERSION,
    root: str = ROOT,
) -> Change:
    """Bring fragments into the set in place (None takes one out), and have PowerMTA use it.

    With ``start`` PowerMTA's own configuration gives way to ours and the services run afterwards. Without it a PowerMTA
    that does not run, or does not read our sets yet, is left as it is. Raises PowermtaError; then nothing has changed.
    """
    with contextlib.nullcontext() if check_mode else alone(root):
        return _apply(Paths(root), fragments, start, check_mode, version)


def _apply(
    paths: Paths,
    fragments: Mapping[str, Optional[str]],
    start: bool,
    check_mode: bool,
    version: str,
) -> Change:
    if os.path.isdir(paths.conf_d) and not os.path.islink(paths.conf_d):
        raise PowermtaError(
            f"{paths.conf_d} is a directory that this collection did not make. Move it away; give what is in it as "
            "powermta_fragments, so that it stays part of each set"
        )
    if not check_mode:
        _sweep(paths)
    before = current(paths.root)
    after = {name: text for name, text in {**before, **fragments}.items() if text is not None}
    both = (*before.items(), *after.items())
    secret = frozenset(name for name, text in both if powermta_set.holds_secret(text))
    ours = start or is_ours(paths.root)
    findings = _check(paths, after, version) if ours else ()
    if ours and not check_mode:  # in check mode they are still to come
        _refuse_missing_keys(after)
    old_main = files.read(paths.main)
    main = paths.main_text if start else old_main or ""
    changed = [
        *(
            os.path.join(paths.conf_d, name)
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ),
        *([paths.main] if (old_main or "") != main else []),
        *(path for path in _with_wrong_rights(paths) if before == after),
    ]
    effort, monitor = _effort(paths, ({**before, "": old_main or ""}, {**after, "": main}), start, bool(changed))
    change = Change(tuple(changed), effort, findings, _diff(paths, before, after, old_main or "", main, secret))
    if not check_mode and (changed or effort != NOTHING):
        told = _switch(paths, after, main, effort, monitor, secret, ours)
        change = replace(change, findings=(*change.findings, *told))
    return change


def _check(paths: Paths, after: Mapping[str, str], version: str) -> tuple[Finding, ...]:
    wanted = {paths.main: paths.main_text, **{os.path.join(paths.conf_d, name): text for name, text in after.items()}}
    texts, unread = sources.read(paths.main, wanted, whole=paths.conf_d)
    found = [*unread, *checks.check(texts, paths.main, version=version)]
    if errors(found):
        raise PowermtaError(f"PowerMTA's configuration was not changed; the new one is wrong:\n{report(errors(found))}")
    return tuple(found)


def _refuse_missing_keys(after: Mapping[str, str]) -> None:
    """An older set that somebody went back to may name keys that were deleted since."""
    try:
        keys = dkim.installed(after).references
    except ValueError:
        return  # it was written by hand; the role dkim says what to do
    missing = [one.path for one in keys if not os.path.exists(one.path)]
    if missing:
        raise PowermtaError(
            f"lines domain-key name keys that are not on this host: {', '.join(missing)}. Run mailops.mta.site"
            " with --tags dkim,powermta, which brings those that sign now"
        )


def _effort(
    paths: Paths, texts: tuple[Mapping[str, str], Mapping[str, str]], start: bool, changed: bool
) -> tuple[str, bool]:
    """What PowerMTA must do, and whether its monitor must restart as well."""
    if not running():
        return (START, False) if start else (LOAD if changed else NOTHING, False)
    before, after = texts
    if after[""] != paths.main_text:
        return LOAD if changed else NOTHING, False
    loaded = _loaded(paths)
    if not loaded:
        return RESTART, True  # nobody knows what it runs with
    if loaded != in_place(paths.root):  # a run was killed before PowerMTA had read its set
        before = {**_fragments(os.path.join(paths.sets, loaded)), "": before[""]}
    effort, monitor = powermta_set.effort(before, after)
    if effort in (NOTHING, LOAD) and loaded != in_place(paths.root):
        effort = RELOAD
    return (LOAD if effort == NOTHING and changed else effort), monitor


def _loaded(paths: Paths) -> str:
    """The set that PowerMTA has read, or nothing."""
    name = (files.read(paths.loaded) or "").strip()
    return name if name and os.path.isdir(os.path.join(paths.sets, name)) else ""


def _switch(
    paths: Paths, after: Mapping[str, str], main: str, effort: str, monitor: bool, secret: frozenset[str], ours: bool
) -> list[Finding]:
    """Set the new set in place and have it read; on any refusal go back to what a running PowerMTA last read, or to the
    set that was in place. Returns what failed beside it."""
    loaded = _loaded(paths)
    back_to = (loaded if running() else "") or in_place(paths.root)
    old_main = files.read(paths.main)
    name = _write_set(paths, after)
    # The way back needs room on the disk before the way forth has taken it.
    _prepare_way_back(paths, back_to, old_main)
    tried = False
    try:
        _point(paths, name)
        if (old_main or "") != main:
            _keep_first_main(paths, old_main)
            _write(paths.main, main)
        elif main == paths.main_text and _differs(paths.main, _MODE):
            _write(paths.main, main)
        if ours:
            told = _refusals(secret)
            if told:
                raise PowermtaError("pmta test config refuses the new configuration: " + "; ".join(told))
        tried = True
        _follow(effort, secret)
    except (OSError, PowermtaError) as error:
        try:
            _put_back(paths, old_main)
        except OSError as again:
            lost = (
                f"the old configuration could not be put back ({again}). Make {paths.conf_d} a link to sets/{back_to}"
            )
            raise PowermtaError(f"{error}; {lost}") from None
        _sweep(paths)
        resumed = _resume(paths, effort, tried, fresh=old_main != paths.main_text)
        raise PowermtaError(f"{error}. {resumed}") from None
    if effort != LOAD or (ours and running()):
        _write(paths.loaded, name + "\n")
    _forget_old_sets(paths, {name, loaded})
    _sweep(paths)
    return _follow_monitor(paths) if monitor or effort == START else []


def _follow(effort: str, secret: frozenset[str]) -> None:
    if effort == RELOAD:
        told = _reload(secret)
        if told:
            raise PowermtaError(f"pmta reload failed: {'; '.join(told)}")
    elif effort == RESTART:
        _must("restart", SERVICE)
    elif effort == START:
        _must("enable", "--quiet", SERVICE)
        _must("start", SERVICE)
    if effort in (RELOAD, RESTART, START) and not running():
        raise PowermtaError(f"{SERVICE} does not run after its {effort}")


def _follow_monitor(paths: Paths) -> list[Finding]:
    """The web monitor is a service of its own, and no reason to take a mail server down."""
    try:
        _must("enable", "--quiet", MONITOR)
        _must("restart", MONITOR)
    except PowermtaError as error:
        remedy = f"Look at it with systemctl status {MONITOR}, and restart it"
        return [Finding(paths.main, "http-mgmt-port", f"the web monitor does not run: {error}", remedy, WARNING)]
    return []


def _prepare_way_back(paths: Paths, back_to: str, old_main: Optional[str]) -> None:
    if back_to:
        os.symlink(os.path.join(os.path.basename(paths.sets), back_to), paths.conf_d + _BACK)
    if old_main is not None:
        os.link(paths.main, paths.main + _BACK)


def _put_back(paths: Paths, old_main: Optional[str]) -> None:
    """By renames alone, which need no room on the disk."""
    for path, before in ((paths.conf_d, os.path.lexists(paths.conf_d + _BACK)), (paths.main, old_main is not None)):
        if before:
            os.rename(path + _BACK, path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _sweep(paths: Paths) -> None:
    """What a run that was killed has left."""
    for path in (paths.conf_d + _NEW, paths.conf_d + _BACK, paths.main + _BACK):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    with contextlib.suppress(FileNotFoundError):
        for path in _inside(paths.sets):
            if os.path.basename(path).startswith("."):
                shutil.rmtree(path, ignore_errors=True)


def _resume(paths: Paths, effort: str, tried: bool, fresh: bool) -> str:
    """Have PowerMTA run as before with the old set, and say how it runs."""
    try:
        if effort == START and fresh:
            _must("disable", "--now", "--quiet", SERVICE)  # its package's own configuration may listen on every address
        elif effort == START:
            _must("stop", SERVICE)
        elif tried and (effort == RESTART or not running()):
            _must("restart", SERVICE)
        elif tried and effort == RELOAD:
            told = _reload(frozenset())
            if told:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(paths.loaded)  # so that the next run restarts it
                raise PowermtaError(f"pmta reload failed again: {'; '.join(told)}")
        runs = running()
    except PowermtaError as error:
        return f"The old configuration is back, but PowerMTA may not run with it: {error}"
    if effort == START:
        return "The old configuration is back; PowerMTA did not run before and does not run now"
    return f"The old configuration is back, and PowerMTA {'runs with it' if runs else 'does not run'}"


def _write_set(paths: Paths, texts: Mapping[str, str]) -> str:
    """Write a set under a name that its content gives it, and return the name."""
    digest = hashlib.sha256(json.dumps(sorted(texts.items())).encode("utf-8")).hexdigest()[:16]
    os.makedirs(paths.sets, exist_ok=True)
    _own(paths.sets, _DIRECTORY_MODE)
    name, number = digest, 0
    while True:
        directory = os.path.join(paths.sets, name)
        if not os.path.isdir(directory):
            break
        if _fragments(directory) == dict(texts) and not any(map(os.path.islink, _inside(directory))):
            _own_all(directory)
            os.utime(directory)
            return name
        number += 1  # somebody edited that set by hand
        name = f"{digest}-{number}"
    temporary = os.path.join(paths.sets, f".{name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    os.mkdir(temporary, 0o700)
    for fragment, text in texts.items():
        _write(os.path.join(temporary, fragment), text)
    _own(temporary, _DIRECTORY_MODE)
    _sync(temporary)
    os.rename(temporary, directory)
    _sync(paths.sets)
    return name


def _point(paths: Paths, name: str) -> None:
    os.symlink(os.path.join(os.path.basename(paths.sets), name), paths.conf_d + _NEW)
    os.rename(paths.conf_d + _NEW, paths.conf_d)
    _sync(paths.root)


def _keep_first_main(paths: Paths, text: Optional[str]) -> None:
    """What stood there before this collection came is kept beside it."""
    kept = f"{paths.main}.before-mailops"
    if text is not None and not os.path.exists(kept):
        _write(kept, text)


def _forget_old_sets(paths: Paths, needed: set[str]) -> None:
    found = []
    for name in os.listdir(paths.sets):
        directory = os.path.join(paths.sets, name)
        if os.path.isdir(directory):
            found.append((-os.stat(directory).st_mtime, name))
    for number, (_age, name) in enumerate(sorted(found)):
        if name not in needed and number >= KEPT_SETS:
            shutil.rmtree(os.path.join(paths.sets, name), ignore_errors=True)


# ---- files


def _with_wrong_rights(paths: Paths) -> list[str]:
    place = os.path.realpath(paths.conf_d)
    if not os.path.isdir(place):
        return []
    wanted = {paths.sets: _DIRECTORY_MODE, place: _DIRECTORY_MODE, **dict.fromkeys(_inside(paths.conf_d), _MODE)}
    if is_ours(paths.root):
        wanted[paths.main] = _MODE
    return [path for path, mode in wanted.items() if _differs(path, mode)]


def _differs(path: str, mode: int) -> bool:
    status, group = os.lstat(path), _group_id()
    right = stat.S_IMODE(status.st_mode) == mode and status.st_uid == os.geteuid() and group in (None, status.st_gid)
    return not right or stat.S_ISLNK(status.st_mode)


def _own_all(directory: str) -> None:
    for path in _inside(directory):
        _own(path, _MODE)
    _own(directory, _DIRECTORY_MODE)


def _inside(directory: str) -> list[str]:
    return [os.path.join(directory, name) for name in sorted(os.listdir(directory))]


def _write(path: str, text: str) -> None:
    files.write(path, text, 0o600)
    _own(path, _MODE)


def _own(path: str, mode: int) -> None:
    """Root writes, PowerMTA's group reads, nobody else sees it."""
    group = _group_id()
    if group is not None:
        os.chown(path, os.geteuid(), group)
    os.chmod(path, mode)


def _group_id() -> Optional[int]:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _diff(
    paths: Paths, before: Mapping[str, str], after: Mapping[str, str], old_main: str, main: str, secret: frozenset[str]
) -> list[dict[str, str]]:
    def shown(texts: Mapping[str, str], mark: str) -> dict[str, str]:
        return {
            name: f"{mark} {SECRET}" if name in secret and before.get(name) != after.get(name) else text
            for name, text in texts.items()
        }

    found = files.diff(paths.conf_d, shown(before, "old"), shown(after, "new"))
    if old_main != main:
        # What stood there before may hold secrets of somebody else.
        found.append({"before_header": paths.main, "after_header": paths.main, "before": "", "after": main})
    return found


# ---- commands


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(["systemctl", *arguments], _SERVICE_SECONDS)


def _must(*arguments: str) -> None:
    done = _systemctl(*arguments)
    if done.returncode:
        raise PowermtaError(f"systemctl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")


def _run(command: list[str], seconds: Optional[float] = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds or _COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PowermtaError(f"{' '.join(command[:3])}: {error.__class__.__name__}") from None
