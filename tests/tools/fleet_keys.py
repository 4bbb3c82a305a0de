# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the tables of keys in docs/fleet.md from the documentation of the inventory plugin.

A table is between ``<!-- keys: PLACE -->`` and ``<!-- end of keys -->``. PLACE is a key with keys of its own, ``fleet``
(the top level without what a stream may say as well) or ``fleet or stream`` (the rest of the top level). Keys deeper
down are in the table of the nearest PLACE above them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import workspace
import yaml

PAGE = workspace.ROOT / "docs" / "fleet.md"
SOURCE = workspace.ROOT / "plugins" / "doc_fragments" / "fleet.py"
FLEET, SHARED = "fleet", "fleet or stream"
_TABLE = re.compile(r"(<!-- keys: ([^\n]+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
_HEAD = "| key | type | meaning | default | example |\n|---|---|---|---|---|\n"
Options = dict[str, dict[str, Any]]


def described() -> Options:
    """The options of the documentation fragment, read without importing it."""
    for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "KEYS":
            return dict(yaml.safe_load(ast.literal_eval(node.value))["options"])
    raise ValueError(f"{SOURCE} has no KEYS")


def places(options: Options) -> dict[str, Options]:
    """Every mapping of the file with the keys in it. A key whose name the user chooses is a place only."""

    def inner(path: str, option: dict[str, Any]) -> Iterator[tuple[str, Options]]:
        keys = option.get("suboptions", {})
        if keys and not any(key.startswith("<") for key in keys):
            yield path, keys
        for key, one in keys.items():
            yield from inner(f"{path}.{key}", one)

    shared = {key for key, option in options["streams"]["suboptions"]["<stream>"]["suboptions"].items() if same(option)}
    found = {
        FLEET: {key: option for key, option in options.items() if key not in shared},
        SHARED: {key: option for key, option in options.items() if key in shared},
    }
    for key, option in options.items():
        found.update(inner(key, option))
    return found


def same(option: dict[str, Any]) -> bool:
    """Whether a key of a stream refers to the fleet-wide key of this name."""
    return isinstance(option["description"], str) and option["description"].startswith("As O(")


def rows(place: str, options: Options, tables: set[str]) -> Iterator[tuple[str, str]]:
    """The path and the row of each key that the table of ``place`` shows."""
    within = "" if place in (FLEET, SHARED) else f"{place}."
    yield from _rows(within, "", options, tables)


def _rows(within: str, prefix: str, options: Options, tables: set[str]) -> Iterator[tuple[str, str]]:
    for key, option in options.items():
        if key.startswith("<") or same(option):
            continue
        name = f"{prefix}{key}"
        yield f"{within}{name}", _row(name, option)
        if f"{within}{name}" not in tables:
            yield from _rows(within, f"{name}.", option.get("suboptions", {}), tables)


def _row(name: str, option: dict[str, Any]) -> str:
    text = option["description"]
    labelled = {"Range": "", "Default": "", "Example": ""}
    meaning = []
    for paragraph in [text] if isinstance(text, str) else text:
        label, _, rest = paragraph.partition(": ")
        if label in labelled:
            labelled[label] = rest
        else:
            meaning.append(paragraph)
    if labelled["Range"]:
        meaning.append(f"From {labelled['Range']}.")
    if "choices" in option:
        meaning.append(f"{'Of' if option['type'] == 'list' else 'One of'} {', '.join(map(_code, option['choices']))}.")
    default = "needed" if option.get("required") else labelled["Default"] or ("" if "suboptions" in option else "none")
    if "default" in option:
        default = _code(option["default"])
    kind = f"list of {option['elements']}" if option["type"] == "list" else option["type"]
    cells = (f"`{name}`", kind, " ".join(meaning), default, labelled["Example"])
    return f"| {' | '.join(_markdown(cell) for cell in cells)} |"


def _code(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, list) else f"`{value}`"


def _markdown(text: str) -> str:
    text = re.sub(r"C\(docs/([a-z_]+\.md)\)", r"[\1](\1)", text)
    return re.sub(r"\b[COV]\(([^)]*)\)", r"`\1`", text).replace("|", "\\|")


def written(page: str) -> str:
    """The page with its tables as documented. Raises ValueError where a key is in none of them or in two."""
    options = described()
    known = places(options)
    tables = [place for _start, place, _end in _TABLE.findall(page)]
    unknown = [place for place in tables if place not in known]
    if unknown:
        raise ValueError(f"docs/fleet.md: no keys are described at '{unknown[0]}'. Use one of {', '.join(known)}")
    found = {place: list(rows(place, known[place], set(tables))) for place in tables}
    shown = [path for lines in found.values() for path, _row_ in lines]
    every = {path for place in known for path, _row_ in rows(place, known[place], set(known))}
    wrong = [path for path in sorted(every) if shown.count(path) != 1]
    if wrong:
        raise ValueError(f"docs/fleet.md: not in exactly one table: {', '.join(wrong)}")

    def table(match: re.Match[str]) -> str:
        lines = "\n".join(row for _path, row in found[match.group(2)])
        return f"{match.group(1)}{_HEAD}{lines}\n{match.group(3)}"

    return _TABLE.sub(table, page)


def problem() -> str:
    """What is wrong with the tables of the page, or nothing."""
    page = PAGE.read_text(encoding="utf-8")
    try:
        if written(page) == page:
            return ""
    except ValueError as error:
        return str(error)
    return "docs/fleet.md: its tables differ from plugins/doc_fragments/fleet.py. Run python tests/tools/fleet_keys.py"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
