# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a running PowerMTA must do for a change, and which addresses a text binds."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.effort import (
    LOAD,
    NOTHING,
    RELOAD,
    RESTART,
    bound_addresses,
    effort,
)
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.engines.powermta.fleets import (
    DOCUMENT,
    documents,
    fleet_of,
    fragments,
)
from hypothesis import given, settings
from hypothesis import strategies as st

BASE = {
    "10-host.conf": "# Managed\nrun-as-root no\nhttp-mgmt-port 8080\n",
    "30-stream-bulk.conf": (
        "<virtual-mta-pool bulk>\n    virtual-mta one\n    <domain *>\n        max-smtp-out 5\n    </domain>\n"
        "</virtual-mta-pool>\n<domain a.example>\n    type smtp\n</domain>\n"
    ),
}


def edited(old, new, name="30-stream-bulk.conf"):
    assert old in BASE[name]
    return {**BASE, name: BASE[name].replace(old, new)}


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        (BASE, (NOTHING, False)),
        (edited("# Managed", "# Kept by somebody", "10-host.conf"), (LOAD, False)),
        (edited("run-as-root no", "run-as-root yes", "10-host.conf"), (RESTART, False)),
        (edited("run-as-root no\n", "", "10-host.conf"), (RESTART, False)),
        (edited("run-as-root no", "Run-As-Root   yes", "10-host.conf"), (RESTART, False)),
        (edited("http-mgmt-port 8080", "http-mgmt-port 8081", "10-host.conf"), (RELOAD, True)),
        (edited("run-as-root no\nhttp-mgmt-port 8080", "http-mgmt-port 1", "10-host.conf"), (RESTART, True)),
        (edited("max-smtp-out 5", "max-smtp-out 6"), (RELOAD, False)),
        (edited("max-smtp-out 5", "max-smtp-out   5   # five"), (LOAD, False)),
        (edited("max-smtp-out 5\n", "max-smtp-out 5\n\n\n"), (LOAD, False)),
        ({**BASE, "99.conf": "# nothing but words\n"}, (LOAD, False)),
        ({**BASE, "99.conf": "x-job yes\n"}, (RELOAD, False)),
        ({"10-host.conf": BASE["10-host.conf"]}, (RELOAD, False)),
        (edited("type smtp", "type pipe"), (RESTART, False)),
        (edited("    type smtp\n", ""), (RELOAD, False)),
        (edited("<domain a.example>\n    type smtp", "<domain b.example>\n    type pipe"), (RELOAD, False)),
    ],
)
def test_effort(after, wanted):
    assert effort(BASE, after) == wanted


def test_a_line_that_moves_to_another_file_is_read_at_another_time():
    moved = {"10-host.conf": "run-as-root no\n", "11.conf": "http-mgmt-port 8080\n", **BASE}
    moved["10-host.conf"] = "run-as-root no\n"
    assert effort(BASE, moved) == (RELOAD, False)


@settings(max_examples=20)
@given(documents())
def test_nothing_that_a_fleet_can_become_needs_a_restart(document):
    fleet = fleet_of(document)
    hosts = [name for name, host in fleet.hosts.items() if host.engine == "powermta"]
    usual = fragments(fleet_of(DOCUMENT), "mta1")
    for name in hosts:
        other = fragments(fleet, name)
        assert effort(usual, other) == (RELOAD, False)
        assert effort(other, other) == (NOTHING, False)


def test_bound_addresses_are_those_that_mail_leaves_from():
    texts = fragments(fleet_of(DOCUMENT), "mta1")
    found = set().union(*map(bound_addresses, texts.values()))
    bulk = {f"203.0.113.{last}" for last in range(20, 25)} | {"2001:db8::20"}
    # One hands on to other hosts, and one to the listener that refuses.
    assert found == bulk | {"10.0.0.11", "127.0.0.1"}
    assert bound_addresses("# smtp-source-host 192.0.2.1 a\nsmtp-source-host 192.0.2.0/24 a\n") == set()


@given(st.text())
def test_any_text_can_be_compared(text):
    assert effort({"a": text}, {"a": text}) == (NOTHING, False)
    assert effort({"a": text}, {"a": f"{text}\nmax-smtp-out 1\n"})[0] in (RELOAD, RESTART)
