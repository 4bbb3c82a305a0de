# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/architecture.md says of an addition is enough: a DNS service here, an engine in test_contract.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, parse, zones
from ansible_collections.mailops.mta.plugins.module_utils.providers import memory, table
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DOCUMENT: dict[str, Any] = {
    "plugin": "mailops.mta.fleet",
    "domain": "example.com",
    "key_host": "mta1",
    "bounce_host": "bounce.example.com",
    "hosts": {"mta1": {"ansible_host": "10.0.0.11"}},
    "zones": {
        "example.com": {"provider": "added", "credentials": "mine", "options": {"region": "north"}},
        "113.0.203.in-addr.arpa": {"provider": "external"},
    },
    "streams": {
        "tx": {
            "domain": "tx.example.com",
            "port": 2525,
            "inject_from": ["10.0.0.0/8"],
            "addresses": [{"ip": "203.0.113.10", "host": "mta1"}],
        }
    },
}


def test_a_dns_service_is_its_data_a_file_and_a_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    refused, findings = parse.parse(DOCUMENT)
    assert refused is None
    assert any("added" in finding.found for finding in findings)

    held = RecordSet.of("www.example.com", "A", 60, ["192.0.2.1"])
    data = services.Service("Added", required=("token",), options=("region",))
    monkeypatch.setitem(services.SERVICES, "added", data)
    monkeypatch.setattr(zones, "PROVIDERS", (services.EXTERNAL, *services.SERVICES))
    monkeypatch.setitem(table.OPEN, "added", lambda access: memory.MemoryZone([held]))

    fleet, findings = parse.parse(DOCUMENT)
    assert fleet is not None, findings
    listed = derive.fleet_variables(fleet)["mta_dns"]["zones"]
    (zone,) = (one for one in listed if one["name"] == "example.com")
    assert (zone["provider"], zone["credentials"], zone["options"]) == ("added", "mine", {"region": "north"})
    access = Access(zone["name"], {"token": "t"}, zone["options"])
    assert table.OPEN[zone["provider"]](access).read() == {held.key: held}


def test_the_architecture_names_only_what_is_there() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    named = re.findall(r"`((?:core|shell|providers|arguments|tests|plugins|roles|playbooks)/[\w/.-]*)`", text)
    places = [ROOT, ROOT / "plugins" / "module_utils", ROOT / "tests" / "unit" / "plugins" / "module_utils"]
    assert len(named) > 20
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_the_architecture_names_every_room() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    rooms = [path for path in (ROOT / "plugins" / "module_utils" / "core").rglob("*") if path.is_dir()]
    core = ROOT / "plugins" / "module_utils" / "core"
    names = [f"`{path.relative_to(core)}/`" for path in rooms if path.name != "__pycache__"]
    assert len(names) > 10
    assert [name for name in names if name not in text] == []
