# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a PowerMTA configuration on a disk: what is read, what is told, and that no secret comes out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.modules import powermta_config_info

GOOD = """\
run-as-root no
postmaster postmaster@example.com
log-file /var/log/pmta/pmta.log
<spool /var/spool/pmta>
</spool>
smtp-listener 10.0.0.5:25
<smtp-user shop>
    password geheimesWort
</smtp-user>
<virtual-mta one>
    smtp-source-host 203.0.113.1 one.example.com
</virtual-mta>
"""
WRONG = "<domain *>\n    max-msg-rate fast\n</domain>\n"


class Ended(Exception):
    """What the module returned."""


class Module:
    def __init__(self, **arguments: Any) -> None:
        validated = ArgumentSpecValidator(powermta_config_info.ARGUMENTS).validate(arguments)
        assert validated.error_messages == []
        self.params = validated.validated_parameters

    def exit_json(self, **result: Any) -> None:
        raise Ended({"failed": False, **result})

    def fail_json(self, **result: Any) -> None:
        raise Ended({"failed": True, **result})


def run(path: Path, **arguments: Any) -> dict[str, Any]:
    with pytest.raises(Ended) as ended:
        powermta_config_info.run(Module(path=str(path), **arguments))
    result = dict(ended.value.args[0])
    assert json.loads(json.dumps(result)) == result
    assert "geheimesWort" not in json.dumps(result)
    assert result.get("changed", False) is False
    return result


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(GOOD, encoding="utf-8")
    return path


def places(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding["severity"], finding["where"]) for finding in result["findings"]]


def test_what_is_right_is_counted_and_nothing_more_is_said(config: Path) -> None:
    result = run(config, fail_on="warning")
    assert not result["failed"]
    assert result["findings"] == []
    assert result["files"] == [str(config)]
    assert result["counts"] == {
        **{"files": 1, "lines": 12, "directives": 6, "virtual_mtas": 1, "pools": 0, "sources": 0, "domains": 0},
        **{"users": 1, "errors": 0, "warnings": 0},
    }
    assert result["lines"][-1] == "1 virtual MTA in 0 pools, 0 errors, 0 warnings"


def test_includes_are_read_by_pattern_and_by_relative_name(config: Path) -> None:
    (config.parent / "conf.d").mkdir()
    for name in ("20-b.conf", "10-a.conf", "30-c.conf~"):
        (config.parent / "conf.d" / name).write_text(f"# {name}\n{WRONG.replace('*', name[3] + '.example')}")
    (config.parent / "more").write_text("include more2\n")
    (config.parent / "more2").write_text("run-as-root no\n")
    config.write_text(f'{GOOD}include "{config.parent}/conf.d/*.conf"\ninclude more\n')
    result = run(config)
    below = [f"{config.parent}/{name}" for name in ("config", "conf.d/10-a.conf", "conf.d/20-b.conf", "more", "more2")]
    assert sorted(result["files"]) == sorted(below)
    assert places(result) == [
        ("error", f"{below[1]}:3: max-msg-rate"),
        ("error", f"{below[2]}:3: max-msg-rate"),
        ("warning", f"{below[4]}:1: run-as-root"),
    ]


def test_a_loop_of_includes_comes_to_an_end(config: Path) -> None:
    (config.parent / "other").write_text("include config\n")
    config.write_text(f"{GOOD}include other\n")
    assert places(run(config)) == [("error", f"{config.parent}/other:1: include")]


def test_nothing_is_fetched(config: Path) -> None:
    """Port 9 of the loopback would refuse at once; a finding says that nobody asked it."""
    config.write_text(f"{GOOD}include http://127.0.0.1:9/config\n")
    result = run(config)
    assert places(result) == [("warning", f"{config}:13: include")]
    assert result["files"] == [str(config)]


def test_no_file_is_a_finding_and_no_fault(tmp_path: Path) -> None:
    result = run(tmp_path / "config")
    assert not result["failed"]
    assert places(result) == [("error", f"{tmp_path}/config")]
    assert result["lines"][0] == "nothing was read"


@pytest.mark.parametrize("kind", ["directory", "pipe", "large", "loop"])
def test_what_cannot_be_read_is_said_once(config: Path, kind: str) -> None:
    other = config.parent / "other"
    if kind == "directory":
        other.mkdir()
    elif kind == "pipe":
        os.mkfifo(other)
    elif kind == "large":
        with other.open("wb") as file:
            file.truncate(17 << 20)
    else:
        other.symlink_to(other)
    config.write_text(f"{GOOD}include other\n")
    assert places(run(config)) == [("error", str(other))]


def test_latin_1_is_read_all_the_same(config: Path) -> None:
    config.write_bytes("# geändert\n".encode("latin-1") + (GOOD + WRONG).encode())
    assert places(run(config)) == [("warning", f"{config}:1"), ("error", f"{config}:15: max-msg-rate")]


def test_texts_go_before_files_and_need_none(config: Path) -> None:
    text = f"{GOOD}include /nowhere/*.conf\n"
    result = run(config.parent / "none", content=text, files={"/nowhere/a.conf": WRONG, "/elsewhere/b.conf": WRONG})
    assert places(result) == [("error", "/nowhere/a.conf:2: max-msg-rate")]
    assert result["files"] == [f"{config.parent}/none", "/nowhere/a.conf"]
    assert places(run(config, content="")) != []
    assert places(run(config)) == []


@pytest.mark.parametrize(
    ("text", "fail_on", "failed"),
    [
        (WRONG, "never", False),
        (WRONG, "error", True),
        (WRONG, "warning", True),
        ("run-as-root no\n", "error", False),
        ("run-as-root no\n", "warning", True),
    ],
)
def test_it_fails_where_it_shall(config: Path, text: str, fail_on: str, failed: bool) -> None:
    config.write_text(GOOD + text)
    result = run(config, fail_on=fail_on)
    assert result["failed"] is failed
    assert len(result["findings"]) == 1
    assert not failed or str(config) in result["msg"]


def test_a_version_that_is_none(config: Path) -> None:
    result = run(config, version="latest")
    assert result["failed"]
    assert "is no version of PowerMTA" in result["msg"]


def test_a_finding_stands_in_the_row_of_its_file(config: Path) -> None:
    config.write_text(GOOD + WRONG + "run-as-root no\n")
    lines = run(config)["lines"]
    assert lines[0].split() == ["file", "lines", "errors", "warnings"]
    assert lines[2].split() == [str(config), "16", "1", "1"]
    assert any(line.startswith("Next: correct the errors") for line in lines)


def test_arguments_that_hold_passwords_are_not_logged() -> None:
    assert all(powermta_config_info.ARGUMENTS[name]["no_log"] for name in ("content", "files"))
