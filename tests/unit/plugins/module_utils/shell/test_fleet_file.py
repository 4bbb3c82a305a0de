# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of fleet files on disk: whatever stands in one ends in a fleet or in findings, at a cost that has a bound."""

from __future__ import annotations

import json
import os

import pytest
import yaml
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding, errors
from ansible_collections.mailops.mta.plugins.module_utils.shell import fleet_file
from hypothesis import given
from hypothesis import strategies as st

TOP = """\
plugin: mailops.mta.fleet
domain: example.com
bounce_host: bounces.example.org
key_host: mta1
hosts:
  mta1: {ansible_host: 10.0.0.11}
zones:
  example.com: {provider: powerdns, credentials: pdns}
  113.0.203.in-addr.arpa: {provider: rfc2136, credentials: rdns}
"""
STREAM = """\
streams:
  tx:
    domain: tx.example.com
    port: 2525
    inject_from: [10.0.0.0/8]
    addresses:
      - {ip: 203.0.113.10, host: mta1}
"""
GOOD = TOP + STREAM


def refused(*texts):
    parsed, findings = fleet_file.load(list(zip(("fleet.yml", "fleet.d/a.yml"), texts)))
    assert parsed is None
    assert errors(findings)
    return findings


def test_the_good_file_is_one():
    parsed, findings = fleet_file.load([("fleet.yml", GOOD)])
    assert findings == []
    assert parsed.streams["tx"].port == 2525


# ---- templates


@pytest.mark.parametrize("mark", ["{{ x }}", "{% raw %}", "{# x #}", "a{{b"])
@pytest.mark.parametrize(
    "place",
    [
        "name",
        "verifications[0]",
        "zones.example.com.options.servers[0]",
        "streams.tx.inject_users[0]",
        "hosts.mta1.interface",
        "nothing.knows.this",
    ],
)
def test_no_text_is_a_template(place, mark):
    document = yaml.safe_load(GOOD)
    at = document
    *way, last = place.replace("[0]", "").replace("example.com", "example/com").split(".")
    for step in way:
        at = at.setdefault(step.replace("/", "."), {})
    at[last] = [mark] if place.endswith("]") else mark
    found = [finding for finding in refused(yaml.safe_dump(document)) if "template" in finding.why]
    assert [finding.where.partition(" ")[2] for finding in found] == [place]


@pytest.mark.parametrize("key", ["{{ x }}", "a{%b", "ansible_{{ x }}"])
def test_no_key_is_a_template(key):
    for text in (f'{GOOD}"{key}": 1\n', GOOD.replace("ansible_host", f'"{key}": 1, ansible_host')):
        assert any("template" in finding.why and key in finding.where for finding in refused(text))


def test_connection_variables_of_hosts_may_be_templates_in_the_fleet_file_alone():
    host = "hosts:\n  {}: {{listen: [10.0.0.12], ansible_user: '{{{{ user }}}}', ansible_x: {{a: ['{{{{ b }}}}']}}}}\n"
    for name in ("mta2", "mta2.example.com"):
        parsed, _findings = fleet_file.load([("fleet.yml", GOOD.replace("hosts:\n", host.format(name)))])
        assert parsed.hosts[name].variables["ansible_user"] == "{{ user }}"
        found = refused(GOOD, host.format(name))
        assert any("template" in finding.why for finding in found)


# ---- what a fragment may say


@pytest.mark.parametrize(
    "text",
    [
        "hosts:\n  mta2: {listen: [10.0.0.12], ansible_connection: local}\n",
        "hosts: {}\n",
        "zones:\n  example.net: {provider: external}\n",
        "ansible_connection: local\n",
        "key_host: mta1\n",
        "records: []\n",
    ],
)
def test_a_fragment_holds_streams_and_receivers_alone(text):
    key = text.partition(":")[0]
    found = refused(TOP, f"{text}{STREAM}")
    assert [finding.where for finding in found] == [f"fleet.d/a.yml:1 {key}"]
    allowed = f"plugin: mailops.mta.fleet\nreceivers: {{default: {{concurrency: 3}}}}\n{STREAM}"
    parsed, findings = fleet_file.load([("fleet.yml", TOP), ("fleet.d/a.yml", allowed)])
    assert findings == []
    assert parsed.streams["tx"].limits["default"].concurrency == 3


# ---- YAML


def aliases(levels, width):
    rows = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]" for level in range(1, levels)]
    return "\n".join(["a0: &a0 [x]", *rows])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (aliases(9, 9), "aliases repeat"),
        (aliases(300, 2), "aliases repeat"),
        (
            "a: &a {x: 1}\n" + "\n".join(f"k{n}: &k{n} {{<<: [*{'a' if not n else f'k{n - 1}'}]}}" for n in range(999)),
            "",
        ),
        ("streams: &a\n  x: *a\n", "contains itself"),
        ("streams: &a [[*a]]\n", "contains itself"),
        ("streams: &a\n  <<: *a\n", "contains itself"),
        ("x: " + "[" * 3000 + "]" * 3000, ""),
        ("x: " + "[" * 25 + "]" * 25, "levels"),
        ("\n".join(f"{'  ' * depth}a:" for depth in range(40)), "levels"),
        ("x: [" + "1," * 500_001 + "]", "values"),
        ("? [a, b]\n: c\n", "a key is a text"),
        ("? {a: b}\n: c\n", "a key is a text"),
        ("1: 2\n", "a key is a text"),
        ("yes: 2\n", "a key is a text"),
        ("? \n: 2\n", "a key is a text"),
        ("2026-01-01: 2\n", "a key is a text"),
        ("name: !!python/object/apply:os.system ['id']\n", "no values of this kind"),
        ("name: !unsafe x\n", "no values of this kind"),
        ("name: !!binary aGk=\n", "no values of this kind"),
        ("name: !!set {a, b}\n", "no values of this kind"),
        ("zones: !!omap [a: b]\n", "no values of this kind"),
        ("name: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n", "group_vars"),
        ("ttl_seconds: !!int abc\n", "whole number"),
        ("<<: 5\n", "valid YAML"),
        ("a: &a {x: 1}\n<<: [*a, 5]\n", "valid YAML"),
        ("name: a\0b\n", "valid YAML"),
        ("name: *nothing\n", "valid YAML"),
        ("name: [1\n", "valid YAML"),
        ("--- {}\n--- {}\n", "valid YAML"),
        ("name: '" + "x" * 70_000 + "'\n", "characters"),
        ("? " + "\u00e9" * 70_000 + "\n: 1\n", "characters"),
        ("- a\n", "mapping"),
        ("just text\n", "mapping"),
        ("plugin: mailops.mta.flete\n", "plugin: mailops.mta.fleet"),
        ("", "plugin: mailops.mta.fleet"),
    ],
    ids=range(35),
)
def test_hostile_yaml_ends_in_findings(monkeypatch, text, says):
    visits = []
    visit = fleet_file._Document._value
    monkeypatch.setattr(fleet_file._Document, "_value", lambda *given: (visits.append(1), visit(*given))[1])
    findings = refused(text)
    assert any(says in str(finding) for finding in findings)
    assert all(finding.where.startswith("fleet.yml") for finding in findings)
    assert len(visits) <= fleet_file.MAX_REPEATED + len(text)


@given(st.text(st.sampled_from(":-?[]{},&*!|>'\"%@`#<= \n\tab1"), max_size=60))
def test_any_text_ends_in_findings(text):
    refused(text)
    refused(GOOD, text + "\nx: 1")


def test_each_thing_wrong_is_found_and_not_the_first_only():
    text = GOOD.replace("port: 2525", "port: 02525").replace("tx.example.com", "!vault x").replace("mta1}", '"a\\nb"}')
    places = {finding.where.partition(" ")[2] for finding in refused(text)}
    assert places == {"streams.tx.port", "streams.tx.domain", "streams.tx.addresses[0].host"}


@pytest.mark.parametrize("written", ["02525", "2_525", "42:5", "0x9dd", "0b1001", ".inf", ".nan", "1:2.5", "9" * 400])
def test_a_number_is_the_one_that_is_written(written):
    found = [finding for finding in refused(GOOD.replace("2525", written)) if "port" in finding.where]
    assert len(found) == 1
    assert written[:70] in found[0].found


def test_a_day_is_no_text_of_another_kind():
    for written in ("2026-11-09", "'2026-11-09'"):
        parsed, _findings = fleet_file.load(
            [("fleet.yml", GOOD.replace("host: mta1}", f"host: mta1, warmup_from: {written}}}"))]
        )
        assert parsed is None or parsed.streams["tx"].addresses[0].warmup_from == "2026-11-09"
    assert any("2026-99-99" in str(finding) for finding in refused(GOOD + "name: x\nttl_seconds: 2026-99-99\n"))


def test_aliases_and_merges_of_a_person_are_welcome():
    text = GOOD.replace("    port: 2525", "    <<: &all {port: 1, ttl_seconds: 60}\n    port: 2525") + (
        "  bulk:\n    <<: *all\n    port: 2526\n    domain: news.example.com\n    inject_from: [10.0.0.0/8]\n"
        "    addresses: [{ip: 203.0.113.11, host: mta1}]\n"
    )
    parsed, findings = fleet_file.load([("fleet.yml", text)])
    assert findings == []
    assert [(stream.port, stream.ttl_seconds) for stream in parsed.streams.values()] == [(2525, 60), (2526, 60)]


# ---- what a reader does not see

HIDDEN = [
    "\n",
    "\r",
    "\t",
    "\x1b[2J",
    "\x00",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u00ad",
    "\u3164",
]
TEXTS = [
    "hosts.mta1.interface",
    "name",
    "zones.example.com.credentials",
    "verify.sink_host",
    "caa.iodef",
    "records[0].reason",
]


@pytest.mark.parametrize("place", TEXTS)
def test_no_text_holds_what_a_reader_does_not_see(place):
    for hidden in HIDDEN:
        document = yaml.safe_load(GOOD)
        document.update(verify={"sink_domain": "sink.example", "sink_host": "rx1"}, caa={})
        document["records"] = [{"name": "w.example.com", "type": "A", "values": ["203.0.113.1"], "reason": "r"}]
        at = {
            "hosts": document["hosts"]["mta1"],
            "zones": document["zones"]["example.com"],
            "records[0]": document["records"][0],
            "name": document,
            **{key: document[key] for key in ("verify", "caa")},
        }
        at[place.partition(".")[0]][place.rpartition(".")[2]] = f"a{hidden}b"
        findings = refused(json.dumps(document))
        assert [finding.where.partition(" ")[2] for finding in findings] == [place]
        assert f"U+{ord(hidden[0]):04X}" in findings[0].why
        assert str(findings[0]).isprintable()
    assert any("does not see" in finding.why for finding in refused(f'{GOOD}"na\\u200bme": x\n'))


@given(st.text(), st.text())
def test_a_finding_is_one_line_that_a_reader_sees(one, other):
    finding = Finding(one, other, one, other)
    assert str(finding).isprintable()
    assert all(str(value).isprintable() for value in finding.as_dict().values())


# ---- files


def make(folder, **fragments):
    (folder / "fleet.d").mkdir()
    (folder / "fleet.yml").write_text(GOOD, encoding="utf-8")
    return folder / "fleet.yml", folder / "fleet.d" / "a.yml"


def secret(place):
    (place.parents[2] / "secret").write_text("root:hash\n", encoding="utf-8")
    place.symlink_to(place.parents[2] / "secret")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda place: place.mkdir(), "no regular file"),
        (os.mkfifo, "no regular file"),
        (lambda place: place.symlink_to("nowhere"), "No such file"),
        (secret, "out of its folder"),
        (lambda place: place.write_bytes(b"streams: {}\n# \xff\n"), "line 2"),
        (lambda place: place.write_bytes(b"# x\n" * 3_000_000), "bytes"),
    ],
    ids=["folder", "pipe", "dangling", "outside", "latin1", "large"],
)
def test_a_fragment_that_cannot_be_read_is_an_error(tmp_path, spoil, says):
    folder = tmp_path / "fleet"
    folder.mkdir()
    file, fragment = make(folder)
    spoil(fragment)
    parsed, findings = fleet_file.read(str(file))
    assert parsed is None
    assert [finding.where for finding in findings] == ["fleet.d/a.yml"]
    assert says in findings[0].found
    assert "hash" not in str(findings[0])


def test_links_inside_the_folder_are_followed(tmp_path):
    file, fragment = make(tmp_path)
    (tmp_path / "fleet.d" / "data").write_text("receivers: {default: {concurrency: 3}}\n", encoding="utf-8")
    fragment.symlink_to("data")
    parsed, findings = fleet_file.read(str(file))
    assert (findings, parsed.receivers["default"].limits.concurrency) == ([], 3)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "fleet.yml").symlink_to(file)
    assert fleet_file.read(str(tmp_path / "other" / "fleet.yml"))[0] is not None
