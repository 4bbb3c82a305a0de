# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates, one session each. `make test` runs them all side by side; `nox -s NAME` runs one, `nox -l` lists them.

Tools come from .venv (`make lint`); the ansible-core versions of the matrix have their own in the cache.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).resolve().parent / "tests" / "tools"))
import workspace

os.environ["PATH"] = workspace.environ()["PATH"]  # where nox looks for programs

CORES = {"2.19": "3.11", "2.21": "3.12"}
SCENARIOS = sorted(path.parent.name for path in (workspace.ROOT / "molecule").glob("*/molecule.yml"))
TYPED = [f"ansible_collections/mailops/mta/plugins/module_utils/{layer}" for layer in ("core", "providers")]

nox.options.default_venv_backend = "none"


def run(session: nox.Session, *command: str, **env: str) -> None:
    session.run(*command, external=True, env=workspace.environ(**env))


def tool(session: nox.Session, name: str, *arguments: str) -> None:
    run(session, sys.executable, f"tests/tools/{name}.py", *arguments)


@nox.session(tags=["quick"])
def ruff(session: nox.Session) -> None:
    run(session, "ruff", "check", "--output-format", "concise", ".")
    run(session, "ruff", "format", "--check", ".")


@nox.session(tags=["quick"])
def mypy(session: nox.Session) -> None:
    # From the tree of collections, so that every file has one name only.
    with session.chdir(workspace.BUILD / "collections"):
        run(session, "mypy", "--config-file", str(workspace.ROOT / "pyproject.toml"), *TYPED)


@nox.session(tags=["quick"])
def yamllint(session: nox.Session) -> None:
    run(session, "yamllint", "--strict", ".")


@nox.session(name="ansible-lint", tags=["quick"])
def ansible_lint(session: nox.Session) -> None:
    run(session, "ansible-lint", ANSIBLE_COLLECTIONS_PATH=str(workspace.BUILD / "collections"))


@nox.session
@nox.parametrize("core", [nox.param("2.19", id="2.19")])
def sanity(session: nox.Session, core: str) -> None:
    tool(session, "ansible_test", core, CORES[core], "sanity")


@nox.session
@nox.parametrize("core", [nox.param(core, id=core) for core in CORES])
def units(session: nox.Session, core: str) -> None:
    if workspace.interpreter(CORES[core]) is None:
        session.skip(f"there is no Python {CORES[core]} here, which ansible-core {core} needs")
    tool(session, "ansible_test", core, CORES[core], "units", "--num-workers", "2")


@nox.session(tags=["quick"])
def standin(session: nox.Session) -> None:
    run(session, sys.executable, "molecule/standin/selftest.py")


@nox.session(tags=["quick"])
def docs(session: nox.Session) -> None:
    tool(session, "docs")


@nox.session
def build(session: nox.Session) -> None:
    tool(session, "artifact", "build")


@nox.session(name="galaxy-import")
def galaxy_import(session: nox.Session) -> None:
    tool(session, "artifact", "import")


@nox.session
@nox.parametrize("scenario", [nox.param(name, id=name) for name in SCENARIOS])
def molecule(session: nox.Session, scenario: str) -> None:
    run(session, "sh", "tests/tools/bootstrap.sh", "system")
    # Molecule remembers that it created containers, and never looks whether they are there still.
    run(session, "molecule", "destroy", "--scenario-name", scenario)
    run(session, "molecule", "test", "--scenario-name", scenario)


@nox.session
@nox.parametrize(
    "what", [nox.param(name, id=name) for name in ("containers", "fleet", "foretold", "mail", "postfix", "powermta")]
)
def faults(session: nox.Session, what: str) -> None:
    run(session, "sh", "tests/tools/bootstrap.sh", "system")
    run(session, "sh", "molecule/image/build.sh")
    run(session, sys.executable, f"tests/faults/{what}.py")


@nox.session
def trust(session: nox.Session) -> None:
    run(session, sys.executable, "tests/faults/trust.py")


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    run(session, sys.executable, "tests/fuzz/powermta.py", *(session.posargs or ["3600"]))


@nox.session(default=False)
def search(session: nox.Session) -> None:
    tool(session, "search", *session.posargs)


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Make the locks from the ranges: what is new in them, or with `-- --upgrade` the newest releases."""
    # A release that was tampered with is mostly found within a week.
    options = ["--no-config", "--universal", "--generate-hashes", "--exclude-newer", "7 days", "--quiet"]
    with session.chdir(workspace.LOCKS):
        for source in sorted(workspace.LOCKS.glob("*.in")):
            oldest = CORES.get(source.stem.removeprefix("core-"), min(CORES.values()))
            command = ["uv", "pip", "compile", *options, "--python-version", oldest, *session.posargs]
            again = f"nox -s lock ({source.name}, Python {oldest} and newer)"
            run(session, *command, "--output-file", f"{source.stem}.txt", source.name, UV_CUSTOM_COMPILE_COMMAND=again)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    run(session, "sh", "tests/tools/bootstrap.sh", "system")
    run(session, sys.executable, "tests/bench/run.py", *session.posargs)
