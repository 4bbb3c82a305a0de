# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The law of imports (docs/architecture.md): imports go down only, and core is pure."""

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
    "shell": {"core", "shell"},
    "providers": {"core", "shell", "providers"},
    "top": {"core", "shell", "providers"},
}
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


ROOT = "ansible_collections.mailops.mta.plugins"


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("core", f"from {ROOT}.module_utils.shell import httpclient"),
        ("core", f"from {ROOT}.module_utils.providers import table"),
        ("core", f"from {ROOT}.module_utils import shell"),
        ("core", f"def late():\n    from {ROOT}.module_utils.shell import httpclient"),
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
            f"from {ROOT}.module_utils.shell import httpclient\nfrom {ROOT}.module_utils.core.records import Plan",
        ),
        (
            "top",
            f"from ansible.module_utils.basic import AnsibleModule\nfrom {ROOT}.module_utils.providers import table",
        ),
    ],
)
def test_a_lawful_import_is_not(layer: str, source: str) -> None:
    assert violations(source, layer) == []
