# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of keys: each stands where the fleet wants it, and is about the key in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.modules import dkim_key

KEY = {"domain": "tx.example.com", "selector": "s1-ed25519", "algorithm": "ed25519", "bits": 256, "ttl": 60}
ALIAS = "s1-ed25519._domainkey.tx.example.com"
DELEGATED = "s1-ed25519.tx.example.com.dkim.example.net"


class Ended(Exception):
    """What the module returned."""


def run(monkeypatch: pytest.MonkeyPatch, directory: Path, *keys: dict[str, Any], check: bool = False) -> dict[str, Any]:
    class Module(basic.AnsibleModule):  # type: ignore[misc]
        def __init__(self, argument_spec: Any, **_keywords: Any) -> None:
            validated = ArgumentSpecValidator(argument_spec).validate({"directory": str(directory), "keys": list(keys)})
            assert validated.error_messages == []
            self.params = validated.validated_parameters
            self.check_mode = check

        def get_bin_path(self, arg: str, required: bool = False) -> str:
            return arg

        def exit_json(self, **result: Any) -> None:
            raise Ended({"failed": False, **result})

        def fail_json(self, **result: Any) -> None:
            raise Ended({"failed": True, **result})

    monkeypatch.setattr(dkim_key, "AnsibleModule", Module)
    with pytest.raises(Ended) as ended:
        dkim_key.main()
    return dict(ended.value.args[0])


def test_a_record_stands_where_it_is_wanted_and_its_key_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = tmp_path / "store"
    checked = run(monkeypatch, store, KEY, check=True)
    assert (checked["changed"], checked["records"][0]["values"], store.exists()) == (True, None, False)
    usual = run(monkeypatch, store, KEY)
    moved = run(monkeypatch, store, {**KEY, "record": DELEGATED})
    assert (usual["created"], moved["created"], moved["changed"]) == ([ALIAS], [], False)
    assert [record["name"] for record in usual["records"] + moved["records"]] == [ALIAS, DELEGATED]
    assert {**usual["records"][0], "name": DELEGATED} == moved["records"][0]
    assert usual["records"][0]["ttl"] == 60


def test_a_key_that_is_asked_for_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    twice = run(monkeypatch, tmp_path / "store", KEY, {**KEY, "record": DELEGATED})
    assert twice["failed"]
    assert "twice" in twice["findings"][0]["why"]
