# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of this host: found in sbin too, in English, with a time limit, and with one wording of failures.

Secrets go to a command through its standard input: every user of the host can read a command line, and errors quote it.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import Optional

# A busy host makes a key of 4096 bits, or checks the files of a long queue, in less time. What takes longer hangs.
COMMAND_SECONDS = 120
# A mail server reads its queue as it starts and ends its deliveries as it stops. systemd has limits of its own for
# both and says which one was reached, so this one is longer.
SERVICE_SECONDS = 900
# Answers are compared with words, so they must be English.
_LOCALE = "C.UTF-8"
_SHOWN_CHARACTERS, _SHOWN_LINES = 120, 3


@dataclass(frozen=True)
class Runner:
    """Runs commands. Where one is missing, or does not end in time, ``error`` says which one and why."""

    error: type[Exception]

    def run(
        self, command: list[str], given: str = "", seconds: Optional[float] = None
    ) -> subprocess.CompletedProcess[str]:
        """A command to its end, whatever its exit code; the limit is COMMAND_SECONDS where none is given."""
        done = self.run_bytes(command, given.encode("utf-8"), seconds)
        out, said = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, out, said)

    def run_bytes(
        self, command: list[str], given: bytes = b"", seconds: Optional[float] = None
    ) -> subprocess.CompletedProcess[bytes]:
        """As ``run``, for a command that reads or prints something else than text."""
        limit = COMMAND_SECONDS if seconds is None else seconds
        environment = {**os.environ, "LC_ALL": _LOCALE, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        try:
            return subprocess.run(
                command, input=given, capture_output=True, check=False, timeout=limit, env=environment
            )
        except FileNotFoundError:
            raise self.error(f"there is no command {command[0]} on this host") from None
        except OSError as error:
            raise self.error(f"{_shown(command)} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise self.error(f"{_shown(command)} did not end within {limit:g} seconds") from None

    def must(self, command: list[str], given: str = "", seconds: Optional[float] = None) -> str:
        """What a command prints. Raises ``error`` where its exit code is not 0."""
        done = self.run(command, given, seconds)
        if done.returncode:
            lines = [line.strip() for line in (done.stderr.strip() or done.stdout).splitlines() if line.strip()]
            said = " ".join(lines[-_SHOWN_LINES:]) or f"exit code {done.returncode}"
            raise self.error(f"{_shown(command)} failed: {said}")
        return done.stdout

    def systemctl(self, *arguments: str) -> str:
        """What systemctl prints. Raises ``error`` where it fails."""
        return self.must(["systemctl", *arguments], seconds=SERVICE_SECONDS)

    def holds(self, question: str, unit: str) -> bool:
        """The answer of systemctl to ``is-active`` and its like."""
        return self.run(["systemctl", question, "--quiet", unit]).returncode == 0


def _shown(command: list[str]) -> str:
    text = " ".join(command)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
