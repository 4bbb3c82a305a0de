# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets with PowerMTA hosts, for tests: a document that is accepted, documents drawn at random, and what a set of
fragments makes of a message."""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import checks, slices, ways_in
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import fragments as powermta
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.includes import load
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import (
    Directive,
    Section,
    parse,
    sections,
    values,
    words,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse as fleet_file
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet
from hypothesis import strategies as st

MAIN = "/etc/pmta/config"
TODAY = datetime.date(2026, 11, 10)
DOCUMENT: dict[str, Any] = {
    "plugin": "mailops.mta.fleet",
    "domain": "example.com",
    "bounce_host": "bounces.example.com",
    "key_host": "mta1",
    "records": [{"name": "bounces.example.com", "type": "A", "values": ["203.0.113.98"], "reason": "takes bounces"}],
    "hosts": {
        "mta1": {"ansible_host": "10.0.0.11", "engine": "powermta"},
        "mta2": {"ansible_host": "10.0.0.12", "engine": "powermta"},
    },
    "zones": {
        "example.com": {"provider": "powerdns", "credentials": "pdns"},
        "113.0.203.in-addr.arpa": {"provider": "rfc2136", "credentials": "rdns"},
        "8.b.d.0.1.0.0.2.ip6.arpa": {"provider": "rfc2136", "credentials": "rdns"},
    },
    "front": {"port": 2500, "header": "X-Binding", "default": "bulk", "inject_from": ["10.0.0.0/24"]},
    "verify": {"sink_domain": "sink.example.com", "sink_host": "rx1"},
    "streams": {
        "bulk": {
            "domain": "news.example.com",
            "extra_domains": ["letters.example.com"],
            "return_path": {"domain": "bounce.news.example.com"},
            "port": 2527,
            "inject_from": ["10.0.0.0/24"],
            "inject_users": ["shop"],
            "addresses": [
                {"ip": "203.0.113.20", "ip6": "2001:db8::20", "host": "mta1"},
                {"ip": "203.0.113.21", "host": "mta1"},
                {"ip": "203.0.113.22", "host": "mta1", "share": 0},
                {"ip": "203.0.113.23", "host": "mta1", "warmup_from": "2026-11-09"},
                {"ip": "203.0.113.24", "host": "mta1", "warmup_from": "2026-11-11"},
            ],
        },
        "alerts": {
            "domain": "alerts.example.com",
            "port": 2528,
            "inject_from": ["10.0.0.0/24"],
            "inject_users": ["bell"],
            "addresses": [{"ip": "203.0.113.30", "host": "mta2"}],
        },
    },
}


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """DOCUMENT with other values at these paths; None takes one away."""
    document = copy.deepcopy(DOCUMENT)
    for path, value in changes:
        place: Any = document
        *way, last = (int(step) if step.isdigit() else step for step in path.split("/"))
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return document


def fleet_of(document: Mapping[str, Any]) -> Fleet:
    parsed, findings = fleet_file.parse(document)
    assert parsed is not None, findings
    return parsed


def password(login: str) -> str:
    return f"word-of-{login}"


def fragments(fleet: Fleet, host: str, **more: Any) -> dict[str, str]:
    """What a host runs with, its keys as well, which the role dkim brings."""
    data = slices.slice_of(fleet, host)
    given = {"today": TODAY, "passwords": {login: password(login) for login in ways_in.logins(data)}, **more}
    keys = {
        slices.keys_file(domain): f"domain-key s1,{domain},/etc/pmta/dkim/keys/s1._domainkey.{domain}.00000000.key\n"
        for stream in data["streams"]
        for domain in stream["domains"]
    }
    texts = powermta.files(data, slices.Options(**given))
    return {**texts, powermta.DKIM: "# state 1 of the key store\n", **keys}


def configuration(texts: Mapping[str, str]) -> dict[str, str]:
    return {
        MAIN: "include /etc/pmta/conf.d/*.conf\n",
        **{f"/etc/pmta/conf.d/{name}": one for name, one in texts.items()},
    }


def judged(texts: Mapping[str, str]) -> list[Finding]:
    return checks.check(configuration(texts))


@dataclass
class Picture:
    """A configuration as PowerMTA routes by it, read without our checker's rules."""

    source_hosts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # by virtual MTA: (ip, name)
    pools: dict[str, list[str]] = field(default_factory=dict)
    cold: dict[str, list[str]] = field(default_factory=dict)  # by pool
    sources: dict[str, list[Directive]] = field(default_factory=dict)
    rules: dict[str, list[Directive]] = field(default_factory=dict)  # by pattern list
    listeners: dict[str, str] = field(default_factory=dict)  # by ip:port
    users: dict[str, str] = field(default_factory=dict)  # their source
    hops: dict[str, list[str]] = field(default_factory=dict)  # by virtual MTA

    def leads_to(self, target: str) -> set[str]:
        """The addresses from which mail for a virtual MTA or pool leaves."""
        members = [*self.pools.get(target, [target]), *self.cold.get(target, [])]
        return {ip for member in members for ip, _name in self.source_hosts[member]}

    def targets(self, source: str) -> Iterator[str]:
        """All that a source can lead to, but what is refused."""
        for one in self.sources[source]:
            if one.key == "default-virtual-mta":
                yield one.value
            elif one.key == "pattern-list":
                yield from self.of_list(one.value)

    def routed(self, source: str, headers: Mapping[str, str], sender: str = "a@b.test") -> str:
        """Where a message from a client that may relay goes, by a source alone; its recipient is nobody's probe."""
        lists = [line.value for line in self.sources[source] if line.key == "pattern-list"]
        found = self._by_list(lists[-1], headers, sender) if lists else ""
        return found or self.says(source, "default-virtual-mta") or ""

    def _by_list(self, name: str, headers: Mapping[str, str], sender: str) -> str:
        for rule in self.rules[name]:
            *pattern, last = words(rule.value)
            seen = {"header": headers.get(pattern[0]), "mail-from": sender, "rcpt-to": "nobody@elsewhere.test"}[
                rule.key
            ]
            regex = next(word for word in pattern if word.startswith("/"))[1:-1]
            if seen is not None and re.search(regex, seen, re.IGNORECASE):
                called = pattern[-1] == "call-to:"
                return self._by_list(last, headers, sender) if called else last.partition("virtual-mta=")[2]
        return ""

    def of_list(self, name: str) -> Iterator[str]:
        """What a pattern-list can lead to, but what is refused."""
        for rule in self.rules[name]:
            *_more, way, target = words(rule.value)
            if way == "call-to:":
                yield from self.of_list(target)
            elif target != f"virtual-mta={ways_in.REFUSED}":
                yield target.partition("virtual-mta=")[2]

    def says(self, source: str, name: str) -> Optional[str]:
        return next((one.value for one in self.sources[source] if one.key == name), None)


def picture(texts: Mapping[str, str]) -> Picture:
    found = Picture()
    nodes = load(configuration(texts)).nodes
    for one in sections(nodes, "virtual-mta"):
        pairs = [words(line.value) for line in values(one.body, "smtp-source-host")]
        assert one.argument not in found.source_hosts
        found.source_hosts[one.argument] = list(pairs)
        for domain in sections(one.body, "domain"):
            found.hops[one.argument] = values(domain.body, "smtp-hosts")[0].value.split(",")
    for one in sections(nodes, "virtual-mta-pool"):
        assert one.argument not in found.pools
        found.pools[one.argument] = [line.value for line in values(one.body, "virtual-mta")]
        found.cold[one.argument] = [line.value for line in values(one.body, "cold-virtual-mta")]
    for one in sections(nodes, "source"):
        found.sources[one.argument] = [line for line in one.body if isinstance(line, Directive)]
    for one in sections(nodes, "pattern-list"):
        found.rules[one.argument] = [line for line in one.body if isinstance(line, Directive)]
    for line in values(nodes, "smtp-listener"):
        place, source = words(line.value)
        assert place not in found.listeners
        found.listeners[place] = source.partition("source=")[2]
    for one in sections(nodes, "smtp-user"):
        found.users[one.argument] = values(one.body, "source")[0].value
    return found


def sections_of(texts: Mapping[str, str], tag: str) -> list[Section]:
    return list(sections(load(configuration(texts)).nodes, tag))


def written(texts: Mapping[str, str], tag: str) -> list[Section]:
    """The sections as they stand in their files, with their includes."""
    return [one for name, text in texts.items() for one in sections(parse(text, name).nodes, tag)]


# ---- drawn at random

_DAYS = st.sampled_from(["2026-11-01", "2026-11-10", "2026-11-20", "2026-09-01"])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Fleets of one to three hosts, most of them PowerMTA, that the fleet file accepts."""
    hosts = draw(st.integers(1, 3))
    engines = [draw(st.sampled_from(["powermta", "powermta", "postfix"])) for _host in range(hosts - 1)]
    document: dict[str, Any] = copy.deepcopy({**DOCUMENT, "streams": {}, "hosts": {}})
    for number, engine in enumerate(["powermta", *engines], 1):
        document["hosts"][f"mta{number}"] = {
            "engine": engine,
            "listen": [f"10.0.0.{number}", *([f"fd00::{number}"] if draw(st.integers(0, 9)) == 0 else [])],
            **(
                {"bounce_listen": [f"203.0.113.{200 + number}"]} if engine == "powermta" and draw(st.booleans()) else {}
            ),
        }
    names = draw(
        st.lists(
            st.sampled_from(["bulk", "bounces", "apart", "draining", "s_1", "default"]),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    last = iter(range(1, 200))
    for number, name in enumerate(names):
        addresses = []
        for first in (True, *(False for _address in range(draw(st.integers(0, 4))))):
            host = draw(st.sampled_from(list(document["hosts"])))
            part, share = next(last), 1 if first else draw(st.integers(0, 2))
            address: dict[str, Any] = {"ip": f"203.0.113.{part}", "host": host, "share": share}
            if draw(st.booleans()):
                address["ip6"] = f"2001:db8::{part:x}"
            warm = [one for one in addresses if one["host"] == host and one["share"] and "warmup_from" not in one]
            if warm and document["hosts"][host]["engine"] == "powermta" and draw(st.booleans()):
                address["warmup_from"] = draw(_DAYS)
            addresses.append(address)
        document["streams"][name] = {
            "domain": f"m{number}.example.com",
            "port": 2525 + number,
            "inject_from": draw(st.sampled_from([["10.0.0.0/8"], ["10.0.0.0/8", "2001:db8:1::/64"], ["192.0.2.7"]])),
            "addresses": addresses,
            "queue_life_seconds": draw(st.sampled_from([60, 3599, 86400, 432000])),
            "receivers": {"google": {"rate_delay_seconds": draw(st.integers(0, 3600)), "tls": "may"}},
        }
        if draw(st.booleans()):
            document["streams"][name]["inject_users"] = [f"{name}.login", f"{name}+2@example.com"]
        if draw(st.booleans()):
            document["streams"][name]["extra_domains"] = [f"x{number}.example.com"]
        if draw(st.booleans()):
            document["streams"][name]["return_path"] = {"domain": f"bounce.m{number}.example.com"}
    if draw(st.booleans()):
        del document["verify"]
    if draw(st.booleans()):
        document["front"] = {**document["front"], "default": names[0], "hosts": list(document["hosts"])}
    else:
        del document["front"]
    return document
