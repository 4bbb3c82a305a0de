# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-doc says of the fleet file is what the parser does: keys, defaults, choices, ranges and examples."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Optional

import pytest
import yaml
from ansible_collections.mailops.mta.plugins.doc_fragments.fleet import ModuleDocFragment
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import inherit
from ansible_collections.mailops.mta.plugins.module_utils.shell import fleet_file

OPTIONS = yaml.safe_load(ModuleDocFragment.KEYS)["options"]
TYPES = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
STREAM = "streams.<stream>."
FREE = {"zones.<zone>.options"}  # each DNS service has its own
# Keys that have the keys of another, and those that they have not.
LIKE = {
    "organisational_dmarc": ("dmarc", {"inherit"}),
    f"{STREAM}receivers.<group>": ("receivers.<group>", {"domains"}),
}
NAMES = {"<host>": "mta1", "<zone>": "0-63.113.0.203.in-addr.arpa", "<stream>": "one", "<group>": "microsoft"}
BASE = yaml.safe_load("""
plugin: mailops.mta.fleet
domain: example.com
bounce_host: mx.example.com
key_host: mta2
hosts:
  mta1: {ansible_host: 10.0.0.11}
  mta2: {ansible_host: 10.0.0.12}
zones:
  example.com: {provider: powerdns, credentials: pdns, signed: true}
  example.org: {provider: external}
  0-63.113.0.203.in-addr.arpa: {provider: powerdns, credentials: pdns}
records:
  - {name: mx.example.com, type: A, values: [203.0.113.61], reason: bounces}
streams:
  one:
    domain: one.example.com
    port: 2525
    inject_from: [10.0.0.0/8]
    addresses: [{ip: 203.0.113.10, host: mta1}]
  two:
    domain: two.example.com
    port: 2535
    inject_from: [10.0.0.0/8]
    addresses: [{ip: 203.0.113.30, host: mta2}]
""")
# What some keys need beside them; a key of a stream needs what the fleet-wide key needs.
BESIDE = yaml.safe_load("""
bimi: {dmarc: {policy: quarantine}}
dkim.slots: {dkim: {delegate: keys.example.com}}
dmarc.inherit: {organisational_dmarc: {policy: reject}}
organisational_dmarc: {organisational_dmarc: {alignment_spf: s, alignment_dkim: s}}
mta_sts.mode: {mta_sts: {host: mta1, addresses: [203.0.113.50]}}
mta_sts.host: {mta_sts: {mode: testing, addresses: [203.0.113.51]}}
mta_sts.addresses: {streams: {one: {mta_sts: {mode: testing, host: mta1}}}}
mta_sts.cname: {mta_sts: {mode: testing}}
hosts.<host>.bounce_listen: {hosts: {mta1: {engine: powermta}}}
separate_from: {zones: {example.net: {provider: external}}, streams: {two: {domain: two.example.net}}}
addresses.warmup_from:
  hosts: {mta1: {engine: powermta}}
  streams: {one: {addresses: [{ip: 203.0.113.10, host: mta1}, {ip: 203.0.113.11, host: mta1}]}}
""")


@dataclass(frozen=True)
class Key:
    path: str  # as the documentation has it: streams.<stream>.addresses.ip
    option: dict[str, Any]
    parent: Optional[Key]
    entry: str = ""  # [0] where this is a list of mappings, whose first one is meant

    @property
    def name(self) -> str:
        last = self.path.rpartition(".")[2]
        return NAMES.get(last, last)

    @property
    def where(self) -> str:
        """The place as a finding names it."""
        above = f"{self.parent.where}{self.parent.entry}." if self.parent else ""
        return f"{above}{self.name}"

    def said(self, label: str) -> str:
        """The rest of the paragraph that begins with the label, or nothing."""
        return next(
            (text[len(label) + 2 :] for text in self.option["description"] if text.startswith(f"{label}: ")), ""
        )

    def example(self) -> Any:
        found = re.fullmatch(r"C\((.*)\)", self.said("Example"))
        assert found, f"{self.path} has no example"
        ((name, value),) = yaml.safe_load(found.group(1)).items()
        assert name == self.name
        return str(value) if isinstance(value, date) else value

    def inside(self, document: dict[str, Any]) -> dict[str, Any]:
        """The mapping of the document that this key is in, with its required keys. It is made where it is missing."""
        if not self.parent:
            return document
        above = self.parent.inside(document)
        held = above.setdefault(self.parent.name, {})
        held = held[0] if self.parent.entry else held
        for name, option in self.parent.option["suboptions"].items():
            if option.get("required"):
                held.setdefault(name, Key(f"{self.parent.path}.{name}", option, self.parent).example())
        return held


def keys(options: dict[str, Any], parent: Optional[Key] = None) -> Iterator[Key]:
    for name, written in options.items():
        path = f"{parent.path}.{name}" if parent else name
        option = OPTIONS[name] if written["description"] == f"As O({name}), for this stream." else written
        if path in LIKE:
            other, without = LIKE[path]
            inner = {key: value for key, value in at(other)["suboptions"].items() if key not in without}
            option = {**option, "suboptions": inner}
        key = Key(path, option, parent, "[0]" if option.get("elements") == "dict" else "")
        yield key
        yield from keys(option.get("suboptions", {}), key)


def at(path: str) -> dict[str, Any]:
    option: dict[str, Any] = {"suboptions": OPTIONS}
    for step in path.split("."):
        option = option["suboptions"][step]
    return option


KEYS = [key for key in keys(OPTIONS) if not key.path.endswith(">")]
MAPPINGS = [key for key in keys(OPTIONS) if any("<" not in name for name in key.option.get("suboptions", {}))]


def ids(key: Key) -> str:
    return key.path


def document(key: Key) -> dict[str, Any]:
    """A fleet without the key, and with all that the key needs."""
    found = copy.deepcopy(BASE)
    path = key.path.removeprefix(STREAM)
    for place, patch in BESIDE.items():
        if f"{path}.".startswith(f"{place}."):
            merge(found, copy.deepcopy(patch))
    held = key.inside(found)
    held.pop(key.name, None)
    if not held and key.parent:  # an empty mapping switches off
        del key.parent.inside(found)[key.parent.name]
    return found


def merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    for name, value in patch.items():
        if isinstance(value, dict):
            merge(into.setdefault(name, {}), value)
        else:
            into[name] = value


def read(found: dict[str, Any]) -> tuple[Optional[dict[str, Any]], list[Finding]]:
    """The fleet as plain values, and the findings with the places alone."""
    fleet, findings = fleet_file.load([("fleet.yml", json.dumps(found))])
    return fleet and {field.name: getattr(fleet, field.name) for field in fields(fleet)}, findings


def wrong(found: dict[str, Any], where: str) -> list[str]:
    """The errors at a place."""
    _fleet, findings = read(found)
    errors = (finding for finding in findings if finding.severity == ERROR)
    return [str(finding) for finding in errors if finding.where.partition(" ")[2] == where]


def put(found: dict[str, Any], key: Key, value: Any) -> dict[str, Any]:
    held = key.inside(found)
    if isinstance(value, dict) and any(name.startswith("<") for name in key.option.get("suboptions", {})):
        held.setdefault(key.name, {}).update(value)
    else:
        held[key.name] = value
    return found


@pytest.mark.parametrize("key", KEYS, ids=ids)
class TestKey:
    def test_example_is_accepted_and_read(self, key: Key) -> None:
        before = document(key)
        if key.name in BASE and not key.parent and key.option["type"] == "dict":
            before = copy.deepcopy(BASE)  # of which the example shows one entry
        after = put(copy.deepcopy(before), key, key.example())
        fleet, findings = read(after)
        assert fleet, "\n".join(map(str, findings))
        kind = TYPES[key.option["type"]]
        assert isinstance(key.example(), kind) or (kind is list and isinstance(key.example(), str))
        assert key.option.get("required") or fleet != read(before)[0], "the example changes nothing"

    def test_required_or_not(self, key: Key) -> None:
        found = document(key)
        if not key.option.get("required"):
            if "need" not in key.said("Default"):
                fleet, findings = read(found)
                assert fleet, "\n".join(map(str, findings))
            return
        held = key.inside(found)
        held.pop(key.name, None)
        for sibling in KEYS if not held else ():
            if sibling.parent is key.parent and not sibling.option.get("required"):
                held[sibling.name] = sibling.example()
        assert wrong(found, key.where)

    def test_default(self, key: Key) -> None:
        if "default" in key.option:
            assert not key.said("Default")
            assert not key.option.get("required")
            fleet, findings = read(put(document(key), key, key.option["default"]))
            assert fleet, "\n".join(map(str, findings))
            assert fleet == read(document(key))[0]

    def test_choices_and_range(self, key: Key) -> None:
        """The parser says what it accepts where it refuses a value."""
        number = "int" in (key.option["type"], key.option.get("elements"))
        expected = key.said("Range") if number else ", ".join(key.option.get("choices", ()))
        if number:
            assert re.fullmatch(r"\d+ to \d+", expected), "an int has a range"
        if expected and key.path != "plugin":
            value = -1 if number else "no-such-value"
            many = key.option["type"] == "list"
            found = put(document(key), key, [value] if many else value)
            errors = wrong(found, f"{key.where}[0]" if many else key.where)
            assert any(expected in error for error in errors), errors

    def test_a_mapping_says_its_keys(self, key: Key) -> None:
        assert key.option["type"] != "dict" or "suboptions" in key.option or key.path in FREE


def test_a_stream_takes_the_fleet_wide_keys_that_are_described_so() -> None:
    own = at("streams.<stream>")["suboptions"].items()
    shared = {name for name, option in own if option["description"] == f"As O({name}), for this stream."}
    assert shared == set(inherit.KEYS)


@pytest.mark.parametrize("key", [None, *MAPPINGS], ids=lambda key: key.path if key else "fleet")
def test_the_parser_knows_these_keys_and_no_others(key: Optional[Key]) -> None:
    options = key.option["suboptions"] if key else OPTIONS
    unknown = Key("unknown_key", {}, key)
    found = copy.deepcopy(BASE)
    unknown.inside(found)[unknown.name] = 1
    (error,) = wrong(found, unknown.where)
    (known,) = re.findall(r"Use one of ([a-z0-9_, ]+?)(?:, or [^,]*)?\.?$", error)
    assert sorted(known.split(", ")) == sorted(options)
