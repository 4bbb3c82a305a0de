# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleet files on disk: find the fragments of one fleet, and read them with the line of every value.

Who writes a fragment may be a stranger, so YAML is read with bounds, and a text that Ansible, a terminal or a shell
could take for more than text is refused. Runs on the controller only, where PyYAML comes with ansible-core.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding, errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import merge, parse
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import shown
from ansible_collections.mailops.mta.plugins.module_utils.core.tables import unseen

try:
    import yaml
except ImportError:  # on a managed host, where nobody calls this
    yaml = None

PLUGIN = "mailops.mta.fleet"
NAMES = ("fleet.yml", "fleet.yaml")
SUFFIXES = (".fleet.yml", ".fleet.yaml")
YAML = (".yml", ".yaml")
FRAGMENT_KEYS = ("plugin", "streams", "receivers")

# A fleet of 200 hosts with a hundred addresses each has 2 MB and 200,000 values, and is eight levels deep.
MAX_BYTES = 8 << 20  # of one file
MAX_VALUES = 500_000  # of one file
MAX_REPEATED = 10_000  # values that aliases stand for, in one file
MAX_DEPTH = 20
MAX_TEXT = 65_536  # characters of one text
MAX_DIGITS = 18

_TAG = "tag:yaml.org,2002:"
_SCALARS = {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null")}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+\Z")
_PLUGIN = re.compile(r"^plugin:\s*[\"']?mailops\.mta\.fleet\b", re.MULTILINE)
_TEMPLATE = ("{{", "{%", "{#")
_CONNECTION = re.compile(r"hosts\..+\.ansible_")


def is_fleet_file(path: str) -> bool:
    name = os.path.basename(path)
    return name in NAMES or name.endswith(SUFFIXES)


def says_so(path: str) -> bool:
    """Whether a file names this plugin, whatever its own name is."""
    try:
        return bool(_PLUGIN.search(_text(path, None)))
    except (OSError, ValueError):
        return False


def fragments(path: str) -> list[str]:
    """``path`` and every file that belongs to the same fleet: ``fleet.d/*.yml`` beside it, in order of their names."""
    beside = _beside(path)
    names = sorted(os.listdir(beside)) if os.path.isdir(beside) else []
    return [path, *(os.path.join(beside, name) for name in names if name.endswith(YAML) and not name.startswith("."))]


def _beside(path: str) -> str:
    return f"{os.path.splitext(os.path.abspath(path))[0]}.d"


def fleet_of(path: str) -> str | None:
    """The fleet file that ``path`` is a fragment of, or None."""
    stem, suffix = os.path.splitext(os.path.dirname(os.path.abspath(path)))
    beside = [f"{stem}{yml}" for yml in YAML] if suffix == ".d" and path.endswith(YAML) else []
    return next((file for file in beside if is_fleet_file(file) and os.path.isfile(file)), None)


def read(path: str) -> tuple[Fleet | None, list[Finding]]:
    """The fleet of the file ``path`` and its fragments, or None, and all findings, each with its file and line."""
    top = os.path.dirname(os.path.abspath(path))
    texts, findings = [], []
    try:
        places = fragments(path)
    except OSError as error:
        places = [path]
        findings.append(_unreadable(os.path.relpath(_beside(path), top), error))
    for place in places:
        source = os.path.relpath(place, top)
        try:
            texts.append((source, _text(place, None if place is path else os.path.realpath(_beside(path)))))
        except (OSError, ValueError) as error:
            findings.append(_unreadable(source, error))
    return load(texts, findings)


def _text(path: str, inside: str | None) -> str:
    """The text of a regular file, for a fragment one ``inside`` its folder: a link to a secret could show a line of it.

    Raises OSError and ValueError.
    """
    if inside and os.path.commonpath((inside, os.path.realpath(path))) != inside:
        raise ValueError(f"the link leads out of its folder, to {os.path.realpath(path)}")
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for its writer
        raise ValueError("it is no regular file")
    with open(path, "rb") as handle:
        content = handle.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8") from error


def _unreadable(source: str, error: Exception) -> Finding:
    reason = getattr(error, "strerror", None) or str(error)
    return Finding(source, reason, "it cannot be read", "Write a readable UTF-8 file there, or remove it")


class _Refused(Exception):
    """The file cannot be read any further."""


class _Document:
    """Plain data, the line of each place in it, and what was wrong with it as YAML."""

    def __init__(self, source: str, is_fragment: bool) -> None:
        self.source = source
        self.is_fragment = is_fragment
        self.lines: dict[str, int] = {}
        self.findings: list[Finding] = []
        self.refused: set[str] = set()  # places that a finding names already
        self.broken = False  # what was read is not all that stands in the file
        self.data: Any = {}
        self._merged: dict[int, int] = {}

    def parse(self, text: str) -> None:
        maker = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml
        try:
            self._measure(text, maker)
            loader = maker(text)
            try:
                node = loader.get_single_node()
                self.data = {} if node is None else self._value(loader, node, "")
            finally:
                loader.dispose()
        except _Refused:
            self.broken = True
        except (yaml.YAMLError, ValueError) as error:
            self.broken = True
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            self._refuse(mark, "", str(problem), "the file is no valid YAML", "Correct it at this line")
        if self.broken:
            self.data = {}
        elif not isinstance(self.data, dict):
            self.broken = True
        elif self.is_fragment:
            self._keep_to_fragment()

    def _keep_to_fragment(self) -> None:
        """Connection variables are code on the controller and zones open DNS services: not for all who own a stream."""
        for key in [key for key in self.data if key not in FRAGMENT_KEYS]:
            del self.data[key]
            why = f"a fragment holds {' and '.join(FRAGMENT_KEYS[1:])} alone, so that its writer decides no more"
            where = f"{self.source}:{self.lines[key]} {key}"
            self.findings.append(Finding(where, "a key of the fleet file", why, "Move it to the fleet file"))

    def _refuse(self, mark: Any, place: str, found: str, why: str, remedy: str) -> None:
        line = f":{mark.line + 1}" if mark else ""
        where = f"{self.source}{line} {place}" if place else f"{self.source}{line}"
        self.findings.append(Finding(where, found, why, remedy))
        self.refused.add(place)

    def _measure(self, text: str, maker: Any) -> None:
        """Refuse a file that would cost too much, before anything is made of it: one pass, no recursion."""
        opened: list[tuple[str | None, int]] = []  # the anchors above, and how many values stood before each
        sizes: dict[str, int] = {}
        values = repeated = 0
        for event in yaml.parse(text, maker):
            mark = event.start_mark
            anchor = getattr(event, "anchor", None)
            if isinstance(event, yaml.AliasEvent):
                if any(anchor == above for above, _before in opened):
                    self._refuse(mark, "", f"*{anchor}", "the alias contains itself", "Write the values out")
                    raise _Refused
                repeated += sizes.get(anchor, 1)
            elif isinstance(event, yaml.ScalarEvent):
                values += 1
                sizes[anchor] = 1
            elif isinstance(event, yaml.CollectionStartEvent):
                opened.append((anchor, values + repeated))
                values += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                above, before = opened.pop()
                sizes[above] = values + repeated - before
            for count, limit, what in (
                (len(opened), MAX_DEPTH, "levels"),
                (values, MAX_VALUES, "values"),
                (repeated, MAX_REPEATED, "values that aliases repeat"),
            ):
                if count > limit:
                    why = "a fleet file has no use for so many, and each costs time"
                    self._refuse(mark, "", f"more than {limit} {what}", why, "Write less, or split the file")
                    raise _Refused

    def _value(self, loader: Any, node: Any, path: str) -> Any:
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            self._tag(node, path, (f"{_TAG}seq",))
            return [self._value(loader, item, f"{path}[{number}]") for number, item in enumerate(node.value)]
        return self._scalar(loader, node, path)

    def _mapping(self, loader: Any, node: Any, path: str) -> dict[str, Any]:
        self._tag(node, path, (f"{_TAG}map",))
        own = len([key for key, _value in node.value if key.tag != f"{_TAG}merge"])
        loader.flatten_mapping(node)
        merged = self._merged.setdefault(id(node), len(node.value) - own)  # those of << come first, and may be replaced
        mapping: dict[str, Any] = {}
        written: set[str] = set()
        for number, (key_node, value_node) in enumerate(node.value):
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                found = shown(key) if isinstance(key_node, yaml.ScalarNode) else "a list or mapping as a key"
                why = "a key is a text"
                self._refuse(key_node.start_mark, path, found, why, "Write a text, in quotes where YAML reads another")
                continue
            place = f"{path}.{key}" if path else key
            self._judge(key_node, place, key, may_be_template=False)
            if key in written:
                self._refuse(
                    key_node.start_mark,
                    place,
                    f"'{key}' stands there twice",
                    "YAML would silently forget the first one",
                    "Remove one or rename it",
                )
            if number >= merged:
                written.add(key)
            mapping[key] = self._value(loader, value_node, place)
            self.lines[place] = key_node.start_mark.line + 1
        return mapping

    def _tag(self, node: Any, path: str, known: Any) -> bool:
        if node.tag in known:
            return True
        if node.tag == "!vault":
            why = "the fleet file holds no secrets, and this plugin decrypts nothing"
            remedy = "Put the secret into a vaulted variable of group_vars, such as mta_dns_credentials"
            self._refuse(
                node.start_mark, path, "!vault", why, f"{remedy}, whose entries the key credentials of a zone names"
            )
        else:
            tag = node.tag.replace(_TAG, "!!")
            self._refuse(node.start_mark, path, shown(tag), "a fleet file has no values of this kind", "Remove the tag")
        return False

    def _scalar(self, loader: Any, node: Any, path: str) -> Any:
        text = node.value
        if node.tag == f"{_TAG}timestamp" or node.tag in (f"{_TAG}value", f"{_TAG}merge"):
            node.tag = f"{_TAG}str"  # a day is checked where one is expected
        if not self._tag(node, path, _SCALARS):
            return None
        if node.tag == f"{_TAG}str":
            may_be_template = not self.is_fragment and bool(_CONNECTION.match(path))
            self._judge(node, path, text, may_be_template)
            return text
        kind, pattern = ("whole number", _INTEGER) if node.tag == f"{_TAG}int" else ("number", _FLOAT)
        if node.tag in (f"{_TAG}int", f"{_TAG}float") and not (pattern.match(text) and len(text) <= MAX_DIGITS):
            plain = text.replace("_", "").lstrip("+0")
            example = f", such as {plain}," if len(plain) <= MAX_DIGITS and _INTEGER.match(plain) else ""
            self._refuse(
                node.start_mark,
                path,
                shown(text),
                f"YAML 1.1 reads a {kind} in a form of its own here (octal, sexagesimal, grouped or endless)",
                f"Write plain decimal digits{example} or, where a text is meant, quotes",
            )
            return None
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError):
            self._refuse(node.start_mark, path, shown(text), f"it is no {node.tag.replace(_TAG, '')}", "Correct it")
            return None

    def _judge(self, node: Any, place: str, text: str, may_be_template: bool) -> None:
        """The one rule for every text, keys as well."""
        if len(text) > MAX_TEXT:
            why = f"a text has at most {MAX_TEXT} characters"
            self._refuse(node.start_mark, shown(place).strip("'"), shown(text), why, "Shorten it")
        hidden = unseen(text)
        if hidden:
            why = f"it holds {hidden}, a control character, line break or mark that a reader does not see"
            self._refuse(node.start_mark, place, shown(text), why, "Write it without")
        if not may_be_template and any(mark in text for mark in _TEMPLATE):
            self._refuse(
                node.start_mark,
                place,
                shown(text),
                "it has the form of a template, which Ansible or AWX could run on the controller",
                "Write the value itself; templates may stand in ansible_* variables of hosts alone",
            )


def load(texts: list[tuple[str, str]], unreadable: list[Finding] | None = None) -> tuple[Fleet | None, list[Finding]]:
    """The fleet of ``[(file name, content), ...]``, or None, and all findings, each with its file and line.

    The first is the fleet file, the others are its fragments. ``unreadable`` are findings of files without content.
    """
    documents = []
    for source, text in texts:
        document = _Document(source, is_fragment=bool(documents))
        document.parse(text)
        documents.append(document)
    findings = [*(unreadable or ()), *(finding for document in documents for finding in document.findings)]
    merged, more = merge.fragments([(document.source, document.data) for document in documents])
    if documents and not documents[0].broken:
        plugin = documents[0].data.get("plugin")
        if plugin != PLUGIN:
            found = "missing" if plugin is None else shown(plugin)
            more.append(Finding("plugin", found, "it says who reads the file", f"Write plugin: {PLUGIN}"))
    parsed = None
    # Of half a fleet much seems to be missing.
    if documents and not unreadable and not any(document.broken for document in documents):
        parsed, rest = parse.parse(merged)
        more = more + rest
    named = {place for document in documents for place in document.refused if place}
    findings.extend(_located(finding, documents) for finding in more if finding.where not in named)
    return (None if errors(findings) else parsed), findings


def _located(finding: Finding, documents: list[_Document]) -> Finding:
    """The same finding with the file and line of the nearest place that is written there."""
    path = finding.where
    while path:
        for document in documents:
            if path in document.lines:
                return replace(finding, where=f"{document.source}:{document.lines[path]} {finding.where}")
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return replace(finding, where=f"{documents[0].source} {finding.where}") if documents else finding
