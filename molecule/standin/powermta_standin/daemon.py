# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): the daemon pmtad, from its start to its end."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from . import LOGS, NAME, ROOT, RUN, SOCKET, VERSION, routing
from .control import Control
from .reader import ConfigError
from .routing import Configuration, flag
from .server import Server, ServerError
from .session import Session

USER = "pmta"
SERIES = VERSION.partition("r")[0]
SIGNS_OF_LICENCE = re.compile(rf"PowerMTA stand-in.*version {re.escape(SERIES)}(?![0-9.])", re.DOTALL)


def converse(server: Server, sock: socket.socket, peer: str, local: tuple[str, int], source: str) -> None:
    Session(server, sock, peer, local, source).run()


def run(server: Server) -> None:
    server.listen(set(server.configuration.listeners))
    control = Control(server)
    control.listen(SOCKET)
    stop = threading.Event()
    for number_ in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number_, lambda *_arguments: stop.set())
    server.log(f"{NAME} started")
    _notify("READY=1")
    worker = threading.Thread(target=server.delivery.run, daemon=True)
    worker.start()
    control.stop = stop
    stop.wait()
    _notify("STOPPING=1")
    server.listen(set())
    server.delivery.stopping.set()
    end = time.monotonic() + 10
    while time.monotonic() < end and (server.delivery.total() or worker.is_alive()):
        time.sleep(0.05)
    server.queues.save()
    server.accounting.close()
    server.log(f"{NAME} stopped")


def _notify(text: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.sendall(text.encode())


def licence_problem() -> str:
    try:
        with open(f"{ROOT}/license", encoding="utf-8") as file:
            return "" if SIGNS_OF_LICENCE.search(file.read()) else f"Error: {ROOT}/license is for another version"
    except OSError as error:
        return f"Error: {ROOT}/license: {error.strerror}"


def _become_pmta() -> None:
    """As "run-as-root no" says. The right to open ports below 1024 stays. Does not return."""
    os.execvp(
        "setpriv",
        [
            *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"),
            *("--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service"),
            *("--bounding-set=-all,+net_bind_service", "--", sys.executable, *sys.argv),
        ],
    )


def _own(configuration: Configuration) -> None:
    """What a run as root left behind must be writable."""
    user, group = pwd.getpwnam(USER).pw_uid, grp.getgrnam(USER).gr_gid
    os.makedirs(configuration.spool, exist_ok=True)
    for top in (LOGS, configuration.spool, RUN):
        for directory, _names, files in os.walk(top):
            for path in (directory, *(os.path.join(directory, name) for name in files)):
                os.chown(path, user, group, follow_symlinks=False)


def main() -> None:
    """pmtad [--debug]: runs in the foreground either way."""
    if sys.argv[1:] in (["--version"], ["-v"]):
        print(NAME)
        return
    os.umask(0o027)
    try:
        problem = licence_problem()
        if problem:
            raise ServerError(problem)
        configuration = routing.load(ROOT)
        if os.geteuid() == 0 and not flag(configuration.globals, "run-as-root", True):
            os.makedirs(RUN, exist_ok=True)
            _own(configuration)
            _become_pmta()
        run(Server(configuration, converse))
    except (ConfigError, ServerError, OSError, subprocess.SubprocessError) as error:
        text = str(error) if str(error).startswith("Error") else f"Error: {error}"
        print(text, file=sys.stderr)
        with contextlib.suppress(OSError), open(f"{LOGS}/pmta-startuperr.log", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {NAME}: {text}\n")
        sys.exit(1)
