# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection's artifact, look into it, use it where it is installed, and have galaxy-importer judge it.

usage: artifact.py build|import
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import workspace

REQUIRED = (
    "COPYING",
    "README.md",
    "CHANGELOG.md",
    "meta/runtime.yml",
    "meta/execution-environment.yml",
    "MANIFEST.json",
    "FILES.json",
)
FORBIDDEN = re.compile(r"(^|/)(tests|molecule|build|dist|\.[^/]+|__pycache__)(/|$)|\.(pyc|retry|key|pem)$")


def build() -> Path:
    output = workspace.BUILD / "artifact"
    shutil.rmtree(output, ignore_errors=True)
    copy = workspace.copy("artifact")
    if list((copy / "changelogs" / "fragments").glob("*.yml")):
        # What waits for the next release is shown in the artifact; the checkout keeps its fragments.
        workspace.call("antsibull-changelog", "release", cwd=copy)
    workspace.call("ansible-galaxy", "collection", "build", "--output-path", output, cwd=copy)
    return next(output.glob("*.tar.gz"))


def problems(artifact: Path) -> list[str]:
    with tarfile.open(artifact) as archive:
        names = archive.getnames()
    top = workspace.ROOT
    wanted = [*REQUIRED, *(str(path.relative_to(top)) for path in _shipped(top))]
    found = [f"{name} is missing in the artifact" for name in wanted if name not in names]
    return found + [f"{name} does not belong into the artifact" for name in names if FORBIDDEN.search(name)]


def _shipped(top: Path) -> list[Path]:
    return sorted(
        path
        for folder in ("plugins", "roles", "playbooks")
        for path in (top / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "molecule" not in path.parts
    )


def use(artifact: Path) -> list[str]:
    """Install the artifact into an empty folder; everything in it must be found and read from there."""
    home = workspace.BUILD / "installed"
    shutil.rmtree(home, ignore_errors=True)
    galaxy = ["collection", "install", "--offline", "--no-deps", "-p", str(home), str(artifact)]
    env = workspace.environ(
        ANSIBLE_COLLECTIONS_PATH=str(home),
        ANSIBLE_INVENTORY_UNPARSED_FAILED="true",
        ANSIBLE_INVENTORY_ENABLED="mailops.mta.fleet",
    )
    workspace.call("ansible-galaxy", *galaxy, cwd=workspace.BUILD, env=env)
    top = home / "ansible_collections" / "mailops" / "mta"
    commands = [
        ["ansible-doc", "-t", kind, "--json", f"mailops.mta.{path.stem}"]
        for kind, folder in (("module", "modules"), ("inventory", "inventory"), ("filter", "filter"))
        for path in sorted((top / "plugins" / folder).glob("[!_]*.py"))
    ]
    commands += [
        ["ansible-doc", "-t", "role", "--json", f"mailops.mta.{path.name}"]
        for path in sorted((top / "roles").iterdir())
    ]
    example = str(workspace.ROOT / "inventories" / "example" / "fleet.yml")
    commands.append(["ansible-inventory", "-i", example, "--list"])
    commands += [
        ["ansible-playbook", "--syntax-check", "-i", example, f"mailops.mta.{path.stem}"]
        for path in sorted((top / "playbooks").glob("*.yml"))
    ]
    found = []
    for command in commands:
        run = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
        if run.returncode or run.stdout.strip() == "{}":
            found.append(f"{' '.join(command)}: {(run.stderr or run.stdout).strip()[-600:]}")
    print(f"{len(commands)} commands run on the installed collection, {len(found)} failed")
    return found


def judge(artifact: Path) -> int:
    python = workspace.interpreter("3.11") or sys.executable
    venv = workspace.environment("galaxy-importer", python)
    config = workspace.BUILD / "galaxy-importer.cfg"
    config.write_text(
        "[galaxy-importer]\nCHECK_REQUIRED_TAGS = True\nRUN_FLAKE8 = False\nRUN_ANSIBLE_TEST = False\n",
        encoding="utf-8",
    )
    path = os.pathsep.join([str(venv / "bin"), os.environ["PATH"]])
    env = workspace.environ(PATH=path, GALAXY_IMPORTER_CONFIG=str(config))
    run = subprocess.run(
        [venv / "bin/python", "-m", "galaxy_importer.main", artifact],
        cwd=artifact.parent,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    print(run.stdout)
    return run.returncode


def main(what: str) -> int:
    if what == "import":
        return judge(next((workspace.BUILD / "artifact").glob("*.tar.gz"), None) or build())
    artifact = build()
    found = problems(artifact) + use(artifact)
    print(json.dumps(found, indent=2) if found else f"{artifact.name} is complete and works where it is installed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
