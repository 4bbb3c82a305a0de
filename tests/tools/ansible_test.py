# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test of one ansible-core on a copy of this checkout.

usage: ansible_test.py CORE PYTHON sanity|units [ARGUMENT ...]
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import workspace

# ansible-test fetches get-pip.py from a host of its own. With this file in its cache it needs PyPI only.
GET_PIP = """\
import runpy
import sys

sys.path.insert(0, {wheel!r})
sys.argv = [sys.argv[0], "install"] + [a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel")]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
# Sanity's rules are for what Galaxy gets and for its unit tests. These are programs, which ruff judges.
PROGRAMS = ("molecule/", "tests/bench/", "tests/faults/", "tests/proof/", "tests/tools/", "noxfile.py")
NOTHING_TESTED = ("No tests applicable", "All targets skipped", "no tests ran", "Required program")


def provide_pip(venv: Path, home: Path) -> None:
    folder = home / ".ansible" / "test" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    sources = (venv / "lib").glob("python3*/site-packages/ansible_test/_internal/python_requirements.py")
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    for version in sorted(set(re.findall(r"\bpip='([0-9.]+)'", text))):
        wheel = folder / f"pip-{version}-py3-none-any.whl"
        if not wheel.exists():
            workspace.call(venv / "bin/pip", "download", "-qq", "--no-deps", "-d", folder, f"pip=={version}")
        script = folder / f"get_pip_{version.replace('.', '_')}.py"
        script.write_text(GET_PIP.format(wheel=str(wheel)), encoding="utf-8")


def main(core: str, version: str, command: str, arguments: list[str]) -> int:
    python = workspace.interpreter(version)
    if python is None:
        print(f"Python {version} with its venv module is needed for ansible-core {core}.")
        return 1
    venv = workspace.environment(f"core-{core}", python)
    home = workspace.cache() / f"home-{core}"
    provide_pip(venv, home)
    name = f"{command}-{core}"
    target = workspace.copy(name, without=PROGRAMS if command == "sanity" else ())
    if not list((target / "plugins").rglob("*.py")):
        print("The copy holds no Python file below plugins/: nothing would be tested.")
        return 1
    # Shims of pyenv make ansible-test fail: it probes every pythonX.Y on PATH.
    path = [str(venv / "bin"), str(Path(python).parent), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    pip_cache = os.environ.get("PIP_CACHE_DIR") or str(Path("~/.cache/pip").expanduser())
    env |= {
        "PATH": os.pathsep.join(path),
        "HOME": str(home),
        "PIP_CACHE_DIR": pip_cache,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    process = subprocess.Popen(
        ["ansible-test", command, "--local", "--python", version, "--color", "no", *arguments],
        cwd=target,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    nothing = False
    for line in process.stdout or ():
        print(line, end="", flush=True)
        nothing = nothing or any(words in line for words in NOTHING_TESTED)
    code = process.wait()
    reports = sorted((target / "tests/output/junit").glob("*.xml"))
    workspace.RESULTS.mkdir(parents=True, exist_ok=True)
    if command == "units":
        for number, report in enumerate(reports):
            shutil.copy(report, workspace.RESULTS / f"{name}.{number}.xml")
        nothing = nothing or not reports
    if nothing:
        print("ansible-test tested nothing, or skipped what it was to test.")
    return code or int(nothing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
