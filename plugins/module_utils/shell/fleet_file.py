# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleet files on disk: read them with the line of every value, and find the fragments of one fleet.

Runs on the controller only, where PyYAML comes with ansible-core.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core import fleet
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet

try:
    import yaml
except ImportError:  # on a managed host, where nobody calls this
    yaml = None

NAMES = ("fleet.yml", "fleet.yaml")
SUFFIXES = (".fleet.yml", ".fleet.yaml")
YAML = (".yml", ".yaml")


def is_fleet_file(path: str) -> bool:
    name = os.path.basename(path)
    return name in NAMES or name.endswith(SUFFIXES)


def fragments(path: str) -> list[str]:
    """``path`` and every file that belongs to the same fleet: ``fleet.d/*.yml`` beside it, in order of their names."""
    beside = f"{os.path.splitext(os.path.abspath(path))[0]}.d"
    names = sorted(os.listdir(beside)) if os.path.isdir(beside) else []
    return [path, *(os.path.join(beside, name) for name in names if name.endswith(YAML) and not name.startswith("."))]


def fleet_of(path: str) -> str | None:
    """The fleet file that ``path`` is a fragment of, or None."""
    stem, suffix = os.path.splitext(os.path.dirname(os.path.abspath(path)))
    beside = [f"{stem}{yml}" for yml in YAML] if suffix == ".d" and path.endswith(YAML) else []
    return next((file for file in beside if is_fleet_file(file) and os.path.isfile(file)), None)


class _Document:
    """Plain data, the line of each place in it, and what was wrong with it as YAML."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[str, int] = {}
        self.findings: list[Finding] = []
        self.data: Any = None

    def parse(self, text: str) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # PyYAML may be built without libyaml
        try:
            node = loader.get_single_node()
            self.data = {} if node is None else self._value(loader, node, "")
        except (yaml.YAMLError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            self.findings.append(
                Finding(f"{self.source}{line}", str(problem), "the file is no valid YAML", "Correct it at this line")
            )
            self.data = {}
        finally:
            loader.dispose()

    def _value(self, loader: Any, node: Any, path: str) -> Any:
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            loader.flatten_mapping(node)
            mapping: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = loader.construct_object(key_node, deep=True)
                place = f"{path}.{key}" if path else str(key)
                if key in mapping:
                    self.findings.append(
                        Finding(
                            f"{self.source}:{key_node.start_mark.line + 1} {place}",
                            f"'{key}' stands there twice",
                            "YAML would silently forget the first one",
                            "Remove one or rename it",
                        )
                    )
                mapping[key] = self._value(loader, value_node, place)
                self.lines[place] = key_node.start_mark.line + 1
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, f"{path}[{number}]") for number, item in enumerate(node.value)]
        return loader.construct_object(node, deep=True)


def load(texts: list[tuple[str, str]]) -> tuple[Fleet | None, list[Finding]]:
    """The fleet of ``[(file name, content), ...]``, or None, and all findings, each with its file and line."""
    documents = []
    for source, text in texts:
        document = _Document(source)
        document.parse(text)
        documents.append(document)
    findings = [finding for document in documents for finding in document.findings]
    merged, more = fleet.merge([(document.source, document.data) for document in documents])
    parsed = None
    if not findings:
        parsed, rest = fleet.parse(merged)
        more = more + rest
    findings.extend(_located(finding, documents) for finding in more)
    return (None if any(finding.severity == "error" for finding in findings) else parsed), findings


def _located(finding: Finding, documents: list[_Document]) -> Finding:
    """The same finding with the file and line of the nearest place that is written there."""
    path = finding.where
    while path:
        for document in documents:
            if path in document.lines:
                return replace(finding, where=f"{document.source}:{document.lines[path]} {finding.where}")
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return replace(finding, where=f"{documents[0].source} {finding.where}") if documents else finding
