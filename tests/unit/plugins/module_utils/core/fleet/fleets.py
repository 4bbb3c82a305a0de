# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet file that is right, changes of it, and what is found in them."""

from __future__ import annotations

import copy

from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive, parse

GOOD = {
    "plugin": "mailops.mta.fleet",
    "domain": "example.com",
    "bounce_host": "bounces.example.com",
    "key_host": "mta1",
    "records": [{"name": "bounces.example.com", "type": "A", "values": ["203.0.113.98"], "reason": "takes bounces"}],
    "hosts": {"mta1": {"ansible_host": "10.0.0.11"}, "mta2": {"ansible_host": "10.0.0.12"}},
    "zones": {
        "example.com": {"provider": "powerdns", "credentials": "pdns"},
        "example.net": {"provider": "powerdns", "credentials": "pdns"},
        "113.0.203.in-addr.arpa": {"provider": "rfc2136", "credentials": "rdns"},
        "8.b.d.0.1.0.0.2.ip6.arpa": {"provider": "rfc2136", "credentials": "rdns"},
    },
    "streams": {
        "transactional": {
            "domain": "tx.example.com",
            "port": 2525,
            "inject_from": ["10.0.0.0/8"],
            "inject_users": ["shop"],
            "addresses": [{"ip": "203.0.113.10", "host": "mta1"}],
        },
        "bulk": {
            "domain": "news.example.com",
            "port": 2527,
            "inject_from": ["10.0.0.0/8"],
            "addresses": [
                {"ip": "203.0.113.20", "ip6": "2001:db8::20", "host": "mta1"},
                {"ip": "203.0.113.21", "host": "mta2", "share": 3},
            ],
        },
        "cold": {
            "domain": "example.net",
            "port": 2528,
            "inject_from": ["10.0.0.0/8"],
            "separate_from": "all",
            "addresses": [{"ip": "203.0.113.30", "host": "mta2"}],
        },
    },
}


REMOVE = object()


def changed(*changes):
    document = copy.deepcopy(GOOD)
    for path, value in changes:
        place = document
        *way, last = path.split("/")
        way, last = [step.replace("~", "/") for step in way], last.replace("~", "/")
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if value is REMOVE:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value
    return document


def refused(document):
    parsed, findings = parse.parse(document)
    assert parsed is None
    return errors(findings)


S = "streams/transactional"


RECORD = {"name": "www.example.com", "type": "A", "values": ["203.0.113.99"], "reason": "the web site"}


def records_of(*changes):
    parsed, findings = parse.parse(changed(*changes))
    assert parsed is not None, [str(finding) for finding in findings]
    return parsed, {(record["name"], record["type"]): record for record in derive.record_sets(parsed)}


def series_of(*changes):
    parsed, _records = records_of(*changes)
    return {(each["domain"], each["algorithm"]): each for each in derive.fleet_variables(parsed)["mta_dkim_series"]}


def refused_at(changes, where, text):
    """The changed file is refused at this place with this text."""
    everything = refused(changed(*changes))
    found = [finding for finding in everything if finding.where == where]
    assert found, f"nothing at {where}: {[str(finding) for finding in everything]}"
    assert any(text in str(finding) for finding in found)
    assert all(finding.why and finding.remedy for finding in found)


def warned_at(changes, where):
    """The changed file is accepted with a warning at this place."""
    parsed, findings = parse.parse(changed(*changes))
    assert parsed is not None
    assert [finding.where for finding in findings if finding.severity == WARNING].count(where) >= 1
    assert not [finding for finding in findings if finding.severity == ERROR]
