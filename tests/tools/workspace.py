# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the gates work: this checkout, copies of it, interpreters of this machine, environments in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
RESULTS = BUILD / "gates"
BIN = Path(sys.executable).parent
LOCKS = ROOT / "tests" / "requirements"


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "mailops-mta"


def interpreter(version: str) -> str | None:
    """The newest Python ``version`` (3.11) that can make an environment. Shims of pyenv are no interpreters."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser()) / "versions"
    found = sorted(pyenv.glob(f"{version}.*/bin/python{version}"), key=_release, reverse=True)
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if "shims" not in folder]
    found += [Path(folder) / f"python{version}" for folder in folders]
    for candidate in found:
        if os.access(candidate, os.X_OK) and _runs(candidate, "import ensurepip, venv"):
            return str(candidate)
    return None


def _release(python: Path) -> list[int]:
    return [int(part) for part in python.parts[-3].split(".") if part.isdigit()]


def _runs(python: Path, code: str) -> bool:
    return subprocess.run([str(python), "-c", code], capture_output=True, check=False).returncode == 0


def environment(name: str, python: str) -> Path:
    """An environment in the cache with what the lock ``name`` holds, made once. Two gates that want it wait for each
    other.
    """
    wanted = "\n".join([python, *(path.read_text(encoding="utf-8") for path in _locks(name))])
    stamp = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    venv = cache() / f"{name}-{stamp}"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with (venv.parent / f"{venv.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "complete").exists():
            print(f"making {venv}", flush=True)
            subprocess.run([python, "-m", "venv", "--clear", str(venv)], check=True)
            install(name, venv / "bin/python")
            (venv / "complete").touch()
    return venv


def install(name: str, python: Path) -> None:
    """What the lock ``name`` holds, and nothing whose hash no lock has: what builds a package comes from a lock too."""
    for path in _locks(name):
        options = ["-qq", "--disable-pip-version-check", "--no-build-isolation", "--require-hashes"]
        subprocess.run([python, "-m", "pip", "install", *options, "-r", path], check=True)


def _locks(name: str) -> list[Path]:
    return [LOCKS / f"{part}.txt" for part in ("install", name)]


def copy(name: str, without: tuple[str, ...] = ()) -> Path:
    """A real copy of what git knows and does not ignore, as ansible_collections/mailops/mta, ``without`` some folders.

    ansible-test finds no files through a link, and asks git for the list of files: in a folder that the outer
    repository ignores, the copy needs an empty repository of its own.
    """
    top = BUILD / "trees" / name / "ansible_collections"
    shutil.rmtree(top, ignore_errors=True)
    target = top / "mailops" / "mta"
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for relative in sorted(set(os.fsdecode(listing.stdout).split("\0")) - {""}):
        source = ROOT / relative
        if (source.is_symlink() or source.is_file()) and not relative.startswith(without):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / relative, follow_symlinks=False)
    subprocess.run(["git", "init", "-q", str(target)], check=True)
    return target


def environ(**more: str) -> dict[str, str]:
    """This process's environment with the tools of .venv on PATH and without settings of Ansible that the user made."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return clean | {
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_COLLECTIONS_PATH": str(BUILD / "collections"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "CONTAINERS_CONF": os.environ.get("CONTAINERS_CONF", str(ROOT / "molecule/containers.conf")),
        **more,
    }


def call(*command: str | os.PathLike[str], cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run ``command`` or end with its exit code."""
    code = subprocess.run(command, cwd=cwd, env=env or environ(), check=False).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":  # bootstrap.sh, with the Python of .venv
    install("venv", Path(sys.executable))
