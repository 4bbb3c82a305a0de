# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin as Ansible sees it: hosts, groups, slices, and a refusal with every finding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible_collections.mailops.mta.plugins.inventory import fleet as plugin
from ansible_collections.mailops.mta.plugins.inventory.fleet import InventoryModule, Refused

FLEET = """\
plugin: mailops.mta.fleet
domain: example.com
bounce_host: bounces.example.org
key_host: mta1
hosts:
  mta1: {ansible_host: 10.0.0.11, ansible_port: 2222}
  mta2: {ansible_host: 10.0.0.12}
zones:
  example.com: {provider: powerdns, credentials: pdns}
  113.0.203.in-addr.arpa: {provider: rfc2136, credentials: rdns}
"""
TRANSACTIONAL = """\
streams:
  transactional:
    domain: tx.example.com
    port: 2525
    inject_from: [10.0.0.0/8]
    addresses:
      - {ip: 203.0.113.10, host: mta1}
"""
BULK = """\
streams:
  bulk:
    domain: news.example.com
    port: 2526
    inject_from: [10.0.0.0/8]
    addresses:
      - {ip: 203.0.113.20, host: mta1}
      - {ip: 203.0.113.21, host: mta2}
"""


def load(directory, files):
    for name, text in files.items():
        place = directory / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8")
    inventory = InventoryData()
    InventoryModule().parse(inventory, DataLoader(), str(directory / "fleet.yml"))
    return inventory


@pytest.mark.parametrize(
    ("name", "ours"),
    [("fleet.yml", True), ("a.fleet.yml", True), ("fleet.yaml", True), ("hosts.yml", False), ("fleet.ini", False)],
)
def test_it_reads_fleet_files_only(tmp_path, name, ours):
    place = tmp_path / name
    place.write_text(FLEET.replace("plugin:", "# plugin:"), encoding="utf-8")
    assert InventoryModule().verify_file(str(place)) is ours


def test_fragments_make_one_fleet(tmp_path):
    inventory = load(
        tmp_path,
        {"fleet.yml": FLEET, "fleet.d/tx.yml": TRANSACTIONAL, "fleet.d/bulk.yml": BULK, "fleet.d/notes.txt": "-"},
    )
    assert set(inventory.hosts) == {"fleet", "mta1", "mta2"}
    groups = {name: {host.name for host in group.hosts} for name, group in inventory.groups.items()}
    assert groups["mta"] == groups["engine_postfix"] == {"mta1", "mta2"}
    assert groups["stream_transactional"] == {"mta1"}
    assert groups["stream_bulk"] == {"mta1", "mta2"}
    assert groups["control"] == {"fleet"}


def test_a_host_has_its_slice_and_its_connection(tmp_path):
    inventory = load(tmp_path, {"fleet.yml": FLEET + BULK})
    one = inventory.hosts["mta1"].vars
    assert (one["ansible_host"], one["ansible_port"]) == ("10.0.0.11", 2222)
    assert one["mta_addresses"] == ["203.0.113.20"]
    assert "mta_dns" not in one
    fleet = inventory.hosts["fleet"].vars
    assert fleet["ansible_connection"] == "local"
    assert {record["name"] for record in fleet["mta_dns"]["records"]} >= {"mta20.news.example.com", "news.example.com"}


POLICY_HOST = """\
mta_sts: {mode: testing, host: web1, addresses: [203.0.113.80]}
"""


def test_a_policy_host_is_no_mta(tmp_path):
    hosts = FLEET.replace("hosts:\n", "hosts:\n  web1: {engine: none, ansible_host: 10.0.0.80}\n")
    inventory = load(tmp_path, {"fleet.yml": hosts + BULK + POLICY_HOST})
    groups = {name: {host.name for host in group.hosts} for name, group in inventory.groups.items()}
    assert (groups["mta"], groups["mta_sts"]) == ({"mta1", "mta2"}, {"web1"})
    assert "engine_none" not in groups
    variables = inventory.hosts["web1"].vars
    assert variables["mta_mta_sts"]["policies"][0]["host"] == "mta-sts.news.example.com"
    assert variables["ansible_host"] == "10.0.0.80"
    assert inventory.hosts["fleet"].vars["mta_fleet"]["hosts"] == ["mta1", "mta2"]
    served = load(tmp_path, {"fleet.yml": FLEET + BULK + POLICY_HOST.replace("web1", "mta2")})
    assert {host.name for host in served.groups["mta_sts"].hosts} == {"mta2"}
    assert "mta2" in {host.name for host in served.groups["mta"].hosts}


def test_findings_of_records_and_of_zones_with_a_slash_have_their_lines(tmp_path):
    wrong = FLEET.replace("zones:\n", "zones:\n  3/26.113.0.203.in-addr.arpa: {provider: rfc2136}\n")
    records = "records:\n  - {name: a.example.com, type: A, values: [x], reason: r}\n  - {name: b.example.com}\n"
    with pytest.raises(Refused) as refusal:
        load(tmp_path, {"fleet.yml": wrong + records, "fleet.d/bulk.yml": BULK})
    text = str(refusal.value)
    assert "fleet.yml:9 zones.3/26.113.0.203.in-addr.arpa: " in text
    assert "fleet.yml:13 records[0]: " in text
    assert "fleet.yml:14 records[1].type: missing" in text


def test_a_wrong_fleet_is_refused_with_file_line_and_all_findings(tmp_path):
    wrong = BULK.replace("port: 2526", "port: 99999").replace("host: mta2", "host: mta7")
    with pytest.raises(Refused) as refusal:
        load(tmp_path, {"fleet.yml": FLEET, "fleet.d/bulk.yml": wrong})
    text = str(refusal.value)
    assert "fleet.d/bulk.yml:4 streams.bulk.port" in text
    assert "fleet.d/bulk.yml:8 streams.bulk.addresses[1].host" in text
    assert "2 error(s)" in text


def test_a_directory_is_one_inventory_and_fragments_are_no_hosts(tmp_path):
    load(tmp_path, {"fleet.yml": FLEET + TRANSACTIONAL, "fleet.d/bulk.yml": BULK, "other.d/x.yml": BULK})
    fragment = str(tmp_path / "fleet.d" / "bulk.yml")
    assert InventoryModule().verify_file(fragment)
    assert not InventoryModule().verify_file(str(tmp_path / "other.d" / "x.yml"))
    inventory = InventoryData()
    InventoryModule().parse(inventory, DataLoader(), fragment)
    assert inventory.hosts == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "fleet.yml:"),
        (FLEET + BULK + "    port: 2527\n", "twice"),
        ("- just\n- a list\n", "mapping"),
        ("", "streams"),
    ],
)
def test_bad_yaml_is_refused_with_its_place(tmp_path, text, says):
    with pytest.raises(Refused, match=says):
        load(tmp_path, {"fleet.yml": text})


def test_the_examples_of_the_plugin_and_of_the_collection_load(tmp_path):
    (tmp_path / "fleet.yml").write_text(plugin.EXAMPLES, encoding="utf-8")
    inventory = InventoryData()
    InventoryModule().parse(inventory, DataLoader(), str(tmp_path / "fleet.yml"))
    assert "stream_transactional" in inventory.groups
    assert yaml.safe_load(plugin.DOCUMENTATION)["name"] == "fleet"


# ---- as the commands of Ansible see it, on its plain defaults

COLLECTIONS = Path(plugin.__file__).parents[5]
GOOD = FLEET + BULK
PING = """\
- hosts: all
  gather_facts: false
  tasks: [{ansible.builtin.debug: {msg: "ran on {{ inventory_hostname }}"}}]
"""


def run(directory, *arguments, **environment):
    """The exit code and the output of an Ansible command without any configuration of the user."""
    (directory / "plain.cfg").write_text("", encoding="utf-8")
    (directory / "play.yml").write_text(PING, encoding="utf-8")
    settings = {
        "ANSIBLE_CONFIG": str(directory / "plain.cfg"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **environment,
    }
    known = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    # Not "python -m ansible", which finds no programs where ansible-test puts ansible on the path.
    command = [sys.executable, str(Path(sys.executable).with_name(f"ansible-{arguments[0]}")), *arguments[1:]]
    ended = subprocess.run(
        command, cwd=directory, env={**known, **settings}, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


def put(directory, **files):
    for name, text in files.items():
        place = directory / name.replace("__", "/").replace("_", ".")
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8")


GRAPH = ("inventory", "--graph", "-i")
PLAY = ("playbook", "play.yml", "-i")
OURS_FIRST = {"ANSIBLE_INVENTORY_ENABLED": "mailops.mta.fleet,host_list,yaml,ini"}


@pytest.mark.parametrize("command", [GRAPH, PLAY], ids=["inventory", "playbook"])
def test_a_refused_fleet_ends_the_command_and_says_each_finding_once(tmp_path, command):
    put(tmp_path, one__fleet_yml=GOOD.replace("port: 2526", "port: 02526").replace("host: mta2", "host: mta9"))
    for source in ("one/fleet.yml", "one"):
        code, text = run(tmp_path, *command, source)
        assert code == plugin.PARSER_ERROR
        for finding in ("streams.bulk.port", "streams.bulk.addresses[1].host"):
            assert text.count(finding) == 1
        for noise in ("'yaml' plugin", "'ini' plugin", "'auto' plugin", "Traceback", "ran on"):
            assert noise not in text


def test_a_good_fleet_needs_no_configuration(tmp_path):
    put(tmp_path, one__fleet_yml=FLEET, one__fleet_d__bulk_yml="plugin: mailops.mta.fleet\n" + BULK)
    for source in ("one/fleet.yml", "one"):
        code, text = run(tmp_path, *GRAPH, source)
        assert (code, "WARNING" in text) == (0, False)
        assert "@stream_bulk:" in text


@pytest.mark.parametrize(
    ("files", "sources", "environment", "says"),
    [
        ({"mail_yml": GOOD}, ["mail.yml"], {}, ["mail.yml", ".fleet.yml"]),
        ({"one__fleet_yml": GOOD, "two__fleet_yml": GOOD}, ["one", "two"], {}, ["one/fleet.yml", "two/fleet.yml"]),
        ({"one__fleet_yml": GOOD, "one__x_fleet_yml": GOOD}, ["one"], {}, ["one/fleet.yml", "one/x.fleet.yml"]),
        ({"fleet_yml": GOOD, "hosts_ini": "fleet\n"}, ["hosts.ini", "fleet.yml"], {}, ["hosts.ini", "'fleet'"]),
        ({"fleet_yml": ""}, ["fleet.yml"], OURS_FIRST, ["plugin: missing", "streams: nothing"]),
        ({"fleet_yml": GOOD.replace("mta.fleet", "mta.flet")}, ["fleet.yml"], OURS_FIRST, ["mailops.mta.flet'"]),
        ({"fleet_yml": "a: [1"}, ["fleet.yml"], OURS_FIRST, ["no valid YAML"]),
        ({}, ["fleet.yml"], OURS_FIRST, ["cannot be read"]),
    ],
    ids=[
        "misnamed",
        "two sources",
        "one folder",
        "a host named fleet",
        "empty",
        "wrong plugin",
        "no YAML",
        "unreadable",
    ],
)
def test_what_is_no_single_fleet_ends_the_command(tmp_path, files, sources, environment, says):
    put(tmp_path, **files)
    if not files:
        (tmp_path / "fleet.yml").symlink_to("nowhere")
    arguments = [each for source in sources for each in ("-i", source)]
    code, text = run(tmp_path, "inventory", "--graph", *arguments, **environment)
    assert code == plugin.PARSER_ERROR
    assert all(each in text for each in says), text
    assert "@all" not in text


def test_one_fleet_named_twice_and_a_refreshed_one_are_one_fleet(tmp_path):
    put(tmp_path, one__fleet_yml=GOOD)
    refresh = "- hosts: fleet\n  gather_facts: false\n  tasks: [{ansible.builtin.meta: refresh_inventory}]\n"
    put(tmp_path, refresh_yml=refresh + PING)
    code, text = run(tmp_path, "playbook", "refresh.yml", "-i", "one", "-i", "one/fleet.yml")
    assert code == 0
    assert "ran on mta2" in text


def test_an_older_core_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "trust_as_template", None)
    with pytest.raises(Refused, match=r"ansible-core 2\.19 or newer"):
        load(tmp_path, {"fleet.yml": GOOD})
