# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gates install is known by its hash: the locks fit their ranges, and nothing else gets in."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "requirements"
RANGES = sorted(FOLDER.glob("*.in"))
LOCKS = sorted(FOLDER.glob("*.txt"))
ENTRY = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;]+)( ; [^\\]+)?(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)


def statements(path: Path) -> list[str]:
    """The file as pip reads it: lines joined, comments left out."""
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def wanted(path: Path) -> Iterator[Requirement]:
    for line in statements(path):
        if line.startswith("-r "):
            yield from wanted(path.parent / line.removeprefix("-r "))
        else:
            yield Requirement(line)


def locked(path: Path) -> dict[str, list[Version]]:
    found: dict[str, list[Version]] = {}
    for line in statements(path):
        entry = ENTRY.fullmatch(line)
        assert entry, f"{path.name}: '{line[:80]}' is no release with its hashes"
        found.setdefault(canonicalize_name(entry["name"]), []).append(Version(entry["version"]))
    return found


def test_each_list_of_ranges_has_its_lock() -> None:
    assert RANGES
    assert [path.stem for path in RANGES] == [path.stem for path in LOCKS]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_releases_by_their_hashes_alone(lock: Path) -> None:
    assert locked(lock)
    assert "://" not in lock.read_text(encoding="utf-8"), "an address of an index is a matter of the machine"


@pytest.mark.parametrize("source", RANGES, ids=lambda path: path.stem)
def test_a_lock_fits_its_ranges(source: Path) -> None:
    releases = locked(source.with_suffix(".txt"))
    for requirement in wanted(source):
        found = releases.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement} is not in the lock. Run: nox -s lock"
        assert all(version in requirement.specifier for version in found), (
            f"{requirement}, but {found}. Run: nox -s lock"
        )


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tests/tools/workspace.py, whose locks, packages and installed files lie in ``tmp_path``."""
    spec = importlib.util.spec_from_file_location("workspace", ROOT / "tests" / "tools" / "workspace.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LOCKS", tmp_path)
    settings = {
        "NO_INDEX": "1",
        "FIND_LINKS": str(tmp_path),
        "TARGET": str(tmp_path / "target"),
        "CONFIG_FILE": "/dev/null",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    (tmp_path / "install.txt").write_text("")
    return module


def wheel(folder: Path, name: str) -> str:
    """Makes a wheel of version 1 and returns its hash."""
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_the_lock_has_is_installed(workspace: ModuleType, tmp_path: Path) -> None:
    digest = wheel(tmp_path, "harmless")
    (tmp_path / "venv.txt").write_text(f"harmless==1 --hash=sha256:{digest}\n")
    workspace.install("venv", Path(sys.executable))
    assert (tmp_path / "target" / "harmless.py").exists()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("harmless==1 --hash=sha256:" + "0" * 64, id="another file"),
        pytest.param("harmless==1", id="no hash"),
        pytest.param("harmless", id="no version"),
    ],
)
def test_nothing_else_is_installed(workspace: ModuleType, tmp_path: Path, text: str) -> None:
    wheel(tmp_path, "harmless")
    (tmp_path / "venv.txt").write_text(f"{text}\n")
    with pytest.raises(subprocess.CalledProcessError):
        workspace.install("venv", Path(sys.executable))
    assert not (tmp_path / "target" / "harmless.py").exists()


def test_nothing_is_installed_but_by_the_locks() -> None:
    """One place in the tools of the gates calls pip for installing."""
    places = [ROOT / "noxfile.py", ROOT / "Makefile", *(ROOT / "tests").rglob("*"), *(ROOT / "molecule").rglob("*")]
    calls = re.compile(r"\bpip3?\b[\"',\s-]+install\b|\bsession\.install\b|builtin\.pip:")
    found = {
        str(path.relative_to(ROOT))
        for path in places
        if path.suffix in {".py", ".sh", ".yml", ""} and path.is_file() and "unit" not in path.parts
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if calls.search(line) and "reason=" not in line
    }
    assert found == {"tests/tools/workspace.py"}
