# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A merge brings a store to the later of two of its states, whichever of them is the backup, and loses nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.store import (
    JOURNAL,
    Content,
    Merge,
    archived,
    is_key_file,
    merge,
    parse,
    problems,
    serial,
)
from hypothesis import given
from hypothesis import strategies as st

NAMES = [f"{slot}._domainkey.example.com" for slot in "abc"]


@dataclass
class History:
    """A store as it lives: keys are made and withdrawn, lines are added. The contents are stand-ins for keys."""

    journal: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    states: list[Content] = field(default_factory=lambda: [Content()])

    def go(self, step: str) -> None:
        number = len(self.states)
        if step == "line":
            self.journal += json.dumps({"serial": number}).encode() + b"\n"
        elif f"{step}.pem" in self.files:
            private, public = self.files.pop(f"{step}.pem"), self.files.pop(f"{step}.pub")
            print_of = private.decode()
            self.files.update({archived(step, print_of, "pem"): private, archived(step, print_of, "pub"): public})
        else:
            self.files.update({f"{step}.pem": f"{number:08x}".encode(), f"{step}.pub": f"public {number}".encode()})
        self.states.append(Content(self.journal, dict(self.files)))


def applied(store: Content, done: Merge) -> Content:
    files = dict(store.files)
    for name in done.archive:
        private = files.pop(f"{name}.pem")
        files[archived(name, private.decode(), "pem")] = private
        files[archived(name, private.decode(), "pub")] = files.pop(f"{name}.pub")
    assert not files.keys() & done.add.keys()
    return Content(store.journal if done.journal is None else done.journal, {**files, **done.add})


@given(st.lists(st.sampled_from([*NAMES, "line"]), max_size=14), st.data())
def test_of_two_states_the_later_one_comes_out(steps: list[str], data: st.DataObject) -> None:
    history = History()
    for step in steps:
        history.go(step)
    last = len(history.states) - 1
    early, late = sorted((data.draw(st.integers(0, last)), data.draw(st.integers(0, last))))
    forward = merge(history.states[early], history.states[late], "store")
    assert forward.findings == ()
    assert applied(history.states[early], forward) == history.states[late]
    assert merge(history.states[late], history.states[early], "store") == Merge()


@given(st.lists(st.sampled_from([*NAMES, "line"]), max_size=8), st.data())
def test_a_merge_that_broke_off_is_finished_by_the_next(steps: list[str], data: st.DataObject) -> None:
    history = History()
    for step in steps:
        history.go(step)
    early, late = history.states[data.draw(st.integers(0, len(steps)))], history.states[-1]
    done = merge(early, late, "store")
    some = dict(list(done.add.items())[: data.draw(st.integers(0, len(done.add)))])
    broken = applied(early, Merge(done.archive, some, None))
    assert applied(broken, merge(broken, late, "store")) == late


def _content(*serials: int, **files: bytes) -> Content:
    journal = b"".join(json.dumps({"serial": number}).encode() + b"\n" for number in serials)
    return Content(journal, {path.replace("__", "._domainkey.example.com."): text for path, text in files.items()})


def test_journals_that_went_different_ways_are_refused_with_both_serials() -> None:
    done = merge(_content(1, 2, 3), _content(1, 4), "/store")
    assert not done.changes
    assert [finding.where for finding in done.findings] == [f"/store/{JOURNAL}, line 2"]
    assert done.findings[0].found == "serial 3 here, serial 4 in the backup"
    assert "move /store away" in done.findings[0].remedy


def test_a_differing_key_is_never_overwritten() -> None:
    store = _content(1, a__pem=b"one", a__pub=b"public one", b__pem=b"two")
    other = _content(1, 2, a__pem=b"other", a__pub=b"public other", c__pem=b"new", b__pem=b"two")
    done = merge(store, other, "/store")
    assert not done.changes
    assert [finding.where for finding in done.findings] == ["/store/a._domainkey.example.com.pem"]
    changed = merge(store, _content(1, a__pem=b"one", a__pub=b"forged"), "/store")
    assert [finding.where for finding in changed.findings] == ["/store/a._domainkey.example.com.pub"]


def test_a_backup_that_is_older_brings_no_withdrawn_key_back() -> None:
    name = NAMES[0]
    old = Content(b"", {f"{name}.pem": b"12345678", f"{name}.pub": b"p"})
    gone = {archived(name, "12345678", "pem"): b"12345678", archived(name, "12345678", "pub"): b"p"}
    for files in (gone, {**gone, f"{name}.pem": b"next", f"{name}.pub": b"q"}):
        assert merge(Content(b'{"serial": 1}\n', files), old, "store") == Merge()


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("s1._domainkey.example.com.pem", True),
        ("withdrawn/s1._domainkey.example.com.0123abcd.pub", True),
        ("withdrawn/s1._domainkey.example.com.pem", False),
        ("../s1._domainkey.example.com.pem", False),
        ("withdrawn/../../etc.0123abcd.pem", False),
        ("/etc/s1.pem", False),
        (".lock", False),
        ("s1.pem\n", False),
    ],
)
def test_only_key_files_are_key_files(path: str, known: bool) -> None:
    assert is_key_file(path) == known


def test_what_is_damaged_is_found() -> None:
    assert problems(Content(b'{"serial": 1}\n'), "/store") == []
    found = problems(
        Content(
            b"{}\n{\n",
            {
                "a._domainkey.example.com.pem": b"-----BEGIN PRIVATE KEY-----\n",
                "b._domainkey.example.com.pub": b"{}",
                "elsewhere": b"",
            },
        ),
        "/store",
    )
    assert [(finding.where, finding.why) for finding in found] == [
        (f"/store/{JOURNAL}", "line 2 is no JSON object"),
        ("/store/a._domainkey.example.com.pem", "it is no whole PKCS#8 key in PEM form"),
        ("/store/b._domainkey.example.com.pub", "its public part is there, the private key is not"),
        ("/store/elsewhere", "it is no file of a key"),
    ]


@given(st.lists(st.integers(1, 9), max_size=6), st.lists(st.integers(1, 9), max_size=6))
def test_a_journal_knows_where_it_has_gone_on_from(first: list[int], second: list[int]) -> None:
    mark = _content(*first).mark
    assert _content(*first, *second).goes_on_from(mark)
    assert _content(*second).goes_on_from(mark) == (second[: len(first)] == first)
    for broken in ("", "x-y", "-1-", "99999999999-0"):
        assert not _content(*first).goes_on_from(broken)


def test_the_serial_is_that_of_the_last_state() -> None:
    assert serial(parse(b"")) == 0
    assert serial(parse(b'{"serial": 3}\n{"serial": 7}\n{"serial": 9')) == 7
