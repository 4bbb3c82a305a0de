# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the table: it holds together, and it knows what configurations in use are made of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import syntax, table, values

SPECS = table.DIRECTIVES.values()

EXAMPLE = r"""
domain-macro tld com, co.uk
domain-macro yahoo yahoo.$tld, ymail.com
postmaster postmaster@example.test
host-name mta.example.test
run-as-root no
log-file /var/log/pmta/log
http-mgmt-port 8080
http-access 127.0.0.1 admin
http-access 203.0.113.0/24 monitor,deny-logs
http-redirect-to-https false
total-max-smtp-in 100
smtp-listener 10.0.0.5:2526 source=bulk
relay-domain [*.]bounce.example.test
domain-key s1,example.test,/etc/pmta/dkim/s1.pem
domain-key s1, *, /etc/pmta/dkim/any.pem
<pattern-list bulk>
    header X-Binding /^\s*bulk\s*$/ virtual-mta=bulk
    rcpt-to /@probe\.test$/ virtual-mta=bulk-1
    mail-from /./ <pattern-list>
        * virtual-mta=bulk
    </pattern-list>
</pattern-list>
<smtp-pattern-list common>
    reply /user unknown/ bounce-queue
    reply /try later/ mode=backoff,backoff-to-normal-after=2h
</smtp-pattern-list>
<bounce-category-patterns>
    /mailbox full/ quota-issues
    /./ other
</bounce-category-patterns>
<mx-rollup-list>
    mx *.google.com gmail.rollup
</mx-rollup-list>
<virtual-mta bulk-1>
    smtp-source-host 203.0.113.11 mta1.example.test
    max-smtp-out 20
    cold-virtual-mta bulk-2
    <domain gmail.rollup>
        max-cold-virtual-mta-msg 50/d,100/d,200/d
        max-msg-rate 83/10m
    </domain>
</virtual-mta>
<virtual-mta-pool bulk>
    virtual-mta bulk-1
    <domain *>
        dkim-sign yes
        retry-after 10m,1h
        bounce-after 4d12h
        backoff-notify ""
        smtp-pattern-list common
        source-ip-max-msg-rate 0/0 100/h
        smtp-hosts [10.0.0.9]:25
    </domain>
</virtual-mta-pool>
<source bulk>
    default-virtual-mta bulk
    process-x-virtual-mta no
    pattern-list bulk
</source>
<source {pickup}>
    verp-default yes
    jobid-header Feedback-ID
</source>
<smtp-user bulk>
    password x0Kd83jd
    source {pmta-auth}
</smtp-user>
<acct-file /var/log/pmta/acct.csv>
    records d,b
    record-fields d *,!dsnDiag,header_Subject
    move-interval 5m
    max-size 50M
    delete-after 8d
</acct-file>
<acct-file |/usr/bin/collect --all>
    records feedback-loop
    map-header-to-field f header_X-HmXmrOriginalRecipient rcpt
</acct-file>
<bounce-processor>
    deliver-unmatched-email no
    <address-list>
        domain bounce.example.test
        address /^bounce-/
    </address-list>
</bounce-processor>
<spool /var/spool/pmta>
    min-free-space 1G
</spool>
"""


def visit(nodes, parent):
    for node in nodes:
        if isinstance(node, syntax.Section):
            yield node, parent
            yield from visit(node.body, node.key)
        elif isinstance(node, syntax.Directive):
            yield node, parent


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_directive_has_scopes_that_exist_and_a_type_that_its_default_satisfies(spec):
    assert spec.scopes
    assert spec.scopes <= {table.GLOBAL, *table.SECTIONS}
    values.problem(spec.type, "")  # the type exists
    if spec.default is not None:
        assert values.problem(spec.type, spec.default) is None
    assert spec.since in ("", "4.5", "5.0", "5.0-late")
    assert not (spec.legacy and spec.since)
    assert table.spec(spec.name.upper()) is spec


@pytest.mark.parametrize("section", table.SECTIONS.values(), ids=lambda section: section.tag)
def test_a_section_can_be_reached_and_holds_something(section):
    assert section.parents <= {table.GLOBAL, *table.SECTIONS}
    values.problem(section.argument, "")
    reached = {section.tag}
    while table.GLOBAL not in reached:
        further = reached.union(*(table.SECTIONS[tag].parents for tag in reached))
        assert further != reached
        reached = further
    within = any(section.tag in each.parents for each in table.SECTIONS.values())
    assert within or any(section.tag in spec.scopes for spec in SPECS)


def test_what_is_deprecated_names_only_directives_that_are_not():
    for spec in SPECS:
        for word in re.findall(r"[a-z]+(?:-[a-z]+)+", spec.deprecated):
            known = table.spec(word)
            assert known is None or not (known.deprecated or known.legacy), spec.name
            assert known or word in table.SECTIONS, spec.name


def test_secrets_and_includes_are_directives():
    assert all(table.spec(name) for name in table.SECRETS)
    assert table.spec("include").scopes == syntax.INCLUDE_PARENTS
    assert set(table.RENAMED.values()) | set(table.RENAMED) <= set(table.SECTIONS)


def test_both_spellings_of_a_record_are_values():
    for long, short in table.RECORDS.items():
        assert values.problem("record", long) is values.problem("record", short) is None


def test_what_configurations_in_use_are_made_of_is_known():
    document = syntax.parse(EXAMPLE)
    assert document.findings == ()
    for node, parent in visit(document.nodes, table.GLOBAL):
        if isinstance(node, syntax.Section):
            section = table.SECTIONS[node.key]
            assert parent in section.parents
            assert values.problem(section.argument, node.argument) is None, node.place
        else:
            spec = table.spec(node.key)
            assert spec is not None, node
            assert parent in spec.scopes, node
            assert values.problem(spec.type, node.value) is None, node


def test_a_line_that_begins_with_a_regex_is_a_directive():
    assert table.spec("/Busy/").name == "/regex/"
    assert table.spec("ehlo-hostname") is None


def test_the_table_is_there_at_once():
    """Whatever imports it waits for it on a host: some 3,000 calls are 5 ms, and a pattern to compile is 1,000 more."""
    code = (
        "import importlib.util, sys, typing\n"
        f"spec = importlib.util.spec_from_file_location('powermta_table', {table.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['powermta_table'] = module\n"
        "calls = []\n"
        "sys.setprofile(lambda _frame, event, _argument: calls.append(event))\n"
        "spec.loader.exec_module(module)\n"
        "sys.setprofile(None)\n"
        "print(calls.count('call') + calls.count('c_call'))\n"
    )
    assert Path(table.__file__).exists()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env={})
    assert 500 < int(done.stdout) < 4000
