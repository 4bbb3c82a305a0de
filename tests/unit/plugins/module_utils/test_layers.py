# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The law of imports (docs/architecture.md): they go down only, between layers and between rooms, and core is pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[4] / "plugins"
PACKAGE = "ansible_collections.mailops.mta.plugins."

# layer: the layers it may import. What stands on top may import everything below it.
BELOW = {
    "core": {"core"},
    "arguments": {"core", "arguments"},
    "shell": {"core", "shell"},
    "providers": {"core", "shell", "providers"},
    "top": {"core", "arguments", "shell", "providers"},
}
# The rooms of each layer, floor by floor from the ground. A room is a package, or a file that is one by itself; a file
# belongs to the longest name that fits. A room imports itself and the rooms of lower floors, never its neighbours.
FLOORS = [
    "core.tables core.names",
    "core.foreign",
    "core.finding",
    "core.model core.reader core.dns core.web",
    "core.host core.mail",
    "core.zones core.publish core.dkim",
    "core.dkim.rotation",
    "core.audit core.engines",
    "core.engines.postfix core.engines.powermta",
    "core.engines.table",
    "core.proof core.fleet.checks",
    "core.fleet",
    "arguments.dkim arguments.dns",
    "shell.garbage shell.fleet_file shell.host shell.http shell.proof",
    "shell.dns shell.dkim shell.engines.postfix shell.engines.powermta shell.web",
    "shell.signers",
    "providers.provider",
    "providers.rest providers.sync",
    "providers.oauth",
    "providers",
    "providers.table",
]
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor.split()}
# The standard library's ways to the outside: core gets time, randomness, keys and answers as arguments.
_OUTSIDE = """
    asyncio concurrent contextvars ctypes datetime fcntl fileinput ftplib getpass glob http imaplib io locale logging
    mmap multiprocessing os pathlib platform poplib pty queue random sched secrets select selectors shelve shutil signal
    smtplib socket socketserver sqlite3 ssl subprocess sys syslog tempfile termios threading time tkinter urllib uuid
    warnings webbrowser xmlrpc zipfile
"""
IMPURE = frozenset(_OUTSIDE.split())
# What may be taken from them all the same.
PURE_PARTS = frozenset(
    {
        "datetime.date",
        "datetime.datetime",
        "datetime.timedelta",
        "datetime.timezone",
        "io.StringIO",
        "io.BytesIO",
        "urllib.parse",
        "warnings.catch_warnings",  # silence is no way out
        "warnings.simplefilter",
    }
)
# Where a pure part still offers a way out: calls that ask the clock, the console or a file.
IMPURE_CALLS = frozenset(
    {"open", "input", "print", "exec", "eval", "__import__", "now", "today", "utcnow", "import_module"}
)


def layer_of(path: Path) -> str:
    parts = path.relative_to(PLUGINS).parts
    return parts[1] if parts[0] == "module_utils" and len(parts) > 2 else "top"


def room_of(module: str) -> str:
    """The room of a dotted name below module_utils, or "" where the name is in none."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOOR), "")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PLUGINS / "module_utils").with_suffix("").parts)


def imports(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, module, name taken from it or ""); relative imports come out as ``.``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, "." if node.level else node.module or "", alias.name


def violations(source: str, layer: str) -> list[str]:
    tree = ast.parse(source)
    found = []
    for line, module, name in imports(tree):
        problem = _import_problem(module, name, layer)
        if problem:
            found.append(f"line {line}: {problem}")
    if layer == "core":
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in IMPURE_CALLS:
                    found.append(f"line {node.lineno}: core calls {called}()")
    return found


def stairs(source: str, room: str) -> list[str]:
    """Imports that leave a room otherwise than downwards."""
    found = []
    for line, module, name in imports(ast.parse(source)):
        base = f"{PACKAGE}module_utils."
        full = f"{module}.{name}"
        if full.startswith(base):
            target = room_of(full[len(base) :])
            if not target:
                found.append(f"line {line}: {full} is in no room")
            elif target != room and FLOOR[target] >= FLOOR[room]:
                found.append(f"line {line}: {room} imports {target}, which is not below it")
    return found


def _import_problem(module: str, name: str, layer: str) -> str:
    if module == ".":
        return "a relative import, which AnsiballZ does not follow everywhere"
    top = module.split(".")[0]
    if top == "ansible_collections":
        return _collection_problem(f"{module}.{name}", layer)
    if top == "dns" and layer != "shell":
        return "dnspython is for shell only"
    if top == "ansible" and layer in ("core", "providers"):
        return f"{layer} imports ansible"
    if top == "importlib":
        return "imports are static, else AnsiballZ does not ship them"
    if layer == "core":
        if top not in sys.stdlib_module_names and top != "__future__":
            return f"core imports {top}, which is not in the standard library"
        if top in IMPURE and not {module, f"{module}.{name}"} & PURE_PARTS:
            return f"core imports {module}, a way to the outside"
    return ""


def _collection_problem(full: str, layer: str) -> str:
    if not full.startswith(PACKAGE):
        return f"it imports {full}; only this collection's module_utils may be"
    kind, target = [*full[len(PACKAGE) :].split("."), ""][:2]
    if kind != "module_utils" or target not in BELOW:
        return f"it imports {full}, which is no layer below"
    return "" if target in BELOW[layer] else f"{layer} imports {target}: imports go down only"


def sources() -> list[Path]:
    return sorted(path for path in PLUGINS.rglob("*.py") if "__pycache__" not in path.parts)


def test_there_is_something_to_judge() -> None:
    assert {"core", "shell", "top"} <= {layer_of(path) for path in sources()}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_imports_go_down_only(path: Path) -> None:
    layer = layer_of(path)
    assert layer in BELOW, f"{path} lies in no layer"
    assert violations(path.read_text(encoding="utf-8"), layer) == []


SHARED = [path for path in sources() if layer_of(path) != "top"]


@pytest.mark.parametrize("path", SHARED, ids=lambda path: module_of(path))
def test_rooms_import_lower_floors_only(path: Path) -> None:
    room = room_of(module_of(path))
    assert room, f"{path} is in no room: name its room in FLOORS"
    assert stairs(path.read_text(encoding="utf-8"), room) == []


def test_every_room_is_there() -> None:
    assert {room_of(module_of(path)) for path in SHARED} == set(FLOOR)


def test_no_file_repeats_the_name_of_its_package() -> None:
    assert [str(path) for path in SHARED if path.stem == path.parent.name] == []


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next, and the last the first; none where there is no such circle."""
    done: set[str] = set()
    trail: list[str] = []

    def walk(module: str) -> list[str]:
        if module in trail:
            return trail[trail.index(module) :]
        if module in done:
            return []
        trail.append(module)
        for target in sorted(graph.get(module, ())):
            if found := walk(target):
                return found
        done.add(trail.pop())
        return []

    return next((found for module in sorted(graph) if (found := walk(module))), [])


def test_no_circle_of_imports() -> None:
    modules = {module_of(path): path for path in SHARED}
    base = f"{PACKAGE}module_utils."
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        named = {
            name[len(base) :]
            for _line, source, taken in imports(ast.parse(path.read_text(encoding="utf-8")))
            for name in (source, f"{source}.{taken}")
            if name.startswith(base)
        }
        graph[module] = named & set(modules)
    assert sum(map(len, graph.values())) > len(modules)
    assert circle(graph) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "d": {"b"}}) == ["b", "d"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def engines_by_name(source: str) -> list[int]:
    """The lines that compare an engine with anything but "none"."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        for side in [[node.left, *node.comparators]]
        if any(isinstance(one, ast.Attribute) and one.attr == "engine" for one in side)
        and not any(isinstance(one, ast.Name) and one.id == "NO_ENGINE" for one in side)
        and any(isinstance(operator, (ast.Eq, ast.NotEq)) for operator in node.ops)
    ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_no_engine_is_asked_by_name(path: Path) -> None:
    if "engines" not in path.relative_to(PLUGINS).parts[:-1]:
        assert engines_by_name(path.read_text(encoding="utf-8")) == []


def test_an_engine_asked_by_name_is_seen() -> None:
    assert engines_by_name('if host.engine == "postfix":\n    pass\nx = POWERMTA != fleet.hosts[a].engine') == [1, 3]
    assert engines_by_name("x = self.engine != NO_ENGINE\ny = host.engine in ENGINES") == []


ROOT = "ansible_collections.mailops.mta.plugins"


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("core", f"from {ROOT}.module_utils.shell.http import client"),
        ("core", f"from {ROOT}.module_utils.providers import table"),
        ("core", f"from {ROOT}.module_utils import shell"),
        ("core", f"def late():\n    from {ROOT}.module_utils.shell.http import client"),
        ("core", "import os.path"),
        ("core", "from time import time"),
        ("core", "import logging"),
        ("core", "import yaml"),
        ("core", "from ansible.module_utils.basic import AnsibleModule"),
        ("core", "import dns.name"),
        ("core", "from urllib.request import urlopen"),
        ("core", "from urllib import request"),
        ("core", "import datetime"),
        ("core", "from datetime import date\nx = date.today()"),
        ("core", "x = open('/etc/passwd')"),
        ("core", "from . import names"),
        ("shell", f"from {ROOT}.module_utils.providers import table"),
        ("shell", f"from {ROOT}.modules import dkim_rotation"),
        ("shell", "import importlib"),
        ("providers", "import dns.query"),
        ("providers", "from ansible.module_utils.urls import open_url"),
        ("top", "import dns.resolver"),
        ("top", "from ansible_collections.community.dns.plugins.module_utils import zone"),
        ("top", f"from {ROOT}.modules import dkim_rotation"),
    ],
)
def test_a_seeded_violation_is_seen(layer: str, source: str) -> None:
    assert violations(source, layer)


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("core", f"from {ROOT}.module_utils.core import names\nimport re\nfrom dataclasses import dataclass"),
        ("core", "from datetime import date, timedelta"),
        ("core", "from urllib.parse import urlsplit"),
        ("shell", f"from {ROOT}.module_utils.core import names\nimport os\nimport dns.query\nimport yaml"),
        (
            "providers",
            f"from {ROOT}.module_utils.shell.http import client\nfrom {ROOT}.module_utils.core.dns.rrset import Plan",
        ),
        (
            "top",
            f"from ansible.module_utils.basic import AnsibleModule\nfrom {ROOT}.module_utils.providers import table",
        ),
    ],
)
def test_a_lawful_import_is_not(layer: str, source: str) -> None:
    assert violations(source, layer) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("core.dns", "core.mail import spf"),
        ("core.dns", "core.model import Fleet"),  # a neighbour on the same floor
        ("core.zones", "core.publish import record_sets"),
        ("core.publish", "core.zones import ownership"),
        ("core.dkim", "core.dkim.rotation import life"),
        ("core.engines", "core.engines.postfix import instances"),
        ("core.engines.postfix", "core.engines.powermta import fragments"),
        ("core.audit", "core.proof import judge"),
        ("core.fleet", "core.new import thing"),  # no such room
        ("shell.engines.postfix", "shell.engines.powermta import configuration"),
        ("shell.host", "shell.dns import resolver"),
        ("providers.provider", "providers import azure"),
        ("providers.sync", "providers import table"),
    ],
)
def test_a_seeded_import_of_a_neighbour_or_upwards_is_seen(room: str, source: str) -> None:
    assert stairs(f"from {ROOT}.module_utils.{source}", room)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("core.dns", "core import names"),
        ("core.dns", "core.dns import txt"),
        ("core.engines.postfix", "core.engines import receivers"),
        ("core.fleet", "core.dkim.rotation import life"),
        ("shell.host", "core.fleet import derive"),
        ("providers", "providers.provider import Provider"),
    ],
)
def test_an_import_of_a_lower_floor_is_not(room: str, source: str) -> None:
    assert stairs(f"from {ROOT}.module_utils.{source}", room) == []
