# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each host of the example fleets becomes with either engine, for a reader: ``golden/FLEET-ENGINE-HOST.txt``.

``MTA_GOLDEN=write`` writes the golden files anew; read the difference before you keep it. Long lines are cut, and of
Postfix's hundred slots the first and the last are shown.
"""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import files as postfix_files
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import instances
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import (
    checks,
    dkim,
    fragments,
    slices,
    ways_in,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse

GOLDEN = Path(__file__).parents[1] / "golden"
EXAMPLES = sorted((Path(__file__).resolve().parents[6] / "inventories" / "example").glob("*.yml"))
TODAY = datetime.date(2026, 11, 10)
MAIN = "/etc/pmta/config"
ENGINES = ("postfix", "powermta")


def with_engine(path, engine):
    """The fleet of an example with this engine on every host that sends."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for host in document["hosts"].values():
        if host.get("engine", "postfix") != "none":
            host["engine"] = engine
    fleet, findings = parse.parse(document)
    assert fleet is not None, findings
    return fleet


def senders(fleet):
    return [name for name, host in fleet.hosts.items() if host.engine != "none"]


CASES = [
    pytest.param(path, engine, host, id=f"{path.stem}-{engine}-{host}")
    for path in EXAMPLES
    for engine in ENGINES
    for host in senders(with_engine(path, engine))
]


def texts(fleet, engine, host):
    """By path, all that the role of this engine writes."""
    if engine == "powermta":
        data = slices.slice_of(fleet, host)
        passwords = {login: f"password-of-{login}" for login in ways_in.logins(data)}
        options = slices.Options(today=TODAY, passwords=passwords, certificate="/etc/pmta/tls/own.pem")
        keys = dict.fromkeys(slices.keys_files(data), dkim.without_keys())
        return {f"/etc/pmta/conf.d/{name}": text for name, text in {**fragments.files(data, options), **keys}.items()}
    return {
        f"/etc/{instance['name']}/{name}": text
        for instance in instances.instances(fleet, host)
        for name, text in postfix_files.files(instance, settings={}, known=()).items()
    }


def shown(path, text):
    lines = [line for line in text.splitlines() if not line.startswith("mailops_slots_")]
    if path.endswith(f"/{postfix_files.SHARES}"):
        lines = [line for line in lines if re.search(r"-(00|99) ", line)]
    return [f"===== {path}", *(line if len(line) <= 160 else f"{line[:157]}..." for line in lines), ""]


@pytest.mark.parametrize(("path", "engine", "host"), CASES)
def test_an_example_looks_as_it_did(path, engine, host):
    found = texts(with_engine(path, engine), engine, host)
    picture = "\n".join(line for name, text in found.items() for line in shown(name, text))
    golden = GOLDEN / f"{path.stem}-{engine}-{host}.txt"
    if os.environ.get("MTA_GOLDEN") == "write":
        golden.write_text(picture, encoding="utf-8")
    assert picture == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_our_own_checker_has_nothing_against_it(path):
    fleet = with_engine(path, "powermta")
    for host in senders(fleet):
        files = {MAIN: "include /etc/pmta/conf.d/*.conf\n", **texts(fleet, "powermta", host)}
        assert errors(checks.check(files)) == []


def test_no_golden_file_is_left_over():
    wanted = {f"{case.id}.txt" for case in CASES}
    stems = tuple(f"{path.stem}-" for path in EXAMPLES)
    assert {one.name for one in GOLDEN.glob("*.txt") if one.name.startswith(stems)} == wanted
