# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet file, parsed into the model. All findings, never the first only.

Each section has a file beside this one; what one part says against another is checked in checks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.table import algorithms
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, Finding, errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import inherit
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.checks import table
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.hosts import HOST_NAME, read_hosts
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.merge import SECTIONS
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.receivers import read_receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.records import read_records
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.streams import FleetWide, read_streams
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.zones import read_zones
from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, Fleet, Front, Host, Stream, Verify
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, nearest, shown

_OWN_KEYS = (
    "plugin",
    "name",
    "domain",
    "bounce_host",
    "key_host",
    "front",
    "verify",
    "organisational_dmarc",
    "records",
)
_NO_DOMAIN = "invalid.invalid"  # stands in for a domain that is wrong
_HEADER = re.compile(r"[A-Za-z0-9-]{2,60}\Z")


def parse(document: Mapping[str, Any]) -> tuple[Optional[Fleet], list[Finding]]:
    """The fleet that a (merged) document describes, or None, and every finding."""
    findings: list[Finding] = []
    root = Reader(document, "", findings)
    root.known((*_OWN_KEYS, *inherit.KEYS, *SECTIONS))
    root.require("domain", "the organisational domain")
    domain = root.domain("domain") or _NO_DOMAIN
    for section, what in (("hosts", "a mail server"), ("zones", "a DNS zone"), ("streams", "a stream of mail")):
        if not root.mapping(section).data:
            root.refuse(section, "nothing", f"a fleet has at least {what}", f"Write {section}")

    hosts = read_hosts(root)
    unable = {host.name for host in hosts.values() if host.is_mta and ED25519 not in algorithms(host.engine)}
    served = read_zones(root)
    groups = read_receivers(root)
    organisational = inherit.organisational_dmarc(root, domain)
    settings = inherit.read_settings(root, inherit.KEYS)
    inherit.refuse_own_policy(root, settings, "Write it in organisational_dmarc, or inherit: false")
    bounce_host = root.domain("bounce_host")
    streams = read_streams(FleetWide(root, domain, bounce_host, settings, groups, organisational, unable))
    ttl_seconds = settings.get("ttl_seconds") or inherit.TTL_SECONDS
    fleet = Fleet(
        name=root.text("name", domain),
        domain=domain,
        hosts=hosts,
        zones=served,
        streams=streams,
        receivers=groups.groups,
        key_host=_key_host(root, hosts),
        front=_front(root, hosts, streams),
        verify=_verify(root),
        organisational_dmarc=organisational,
        records=read_records(root, served, ttl_seconds),
        ttl_seconds=ttl_seconds,
        bounce_host=bounce_host,
    )
    wrong = bool(errors(findings))
    for finding in table.check(fleet):
        # Stand-ins took the place of what is wrong above, and warnings about them would be false.
        if not wrong or (finding.severity == ERROR and _NO_DOMAIN not in f"{finding.found} {finding.why}"):
            findings.append(finding)
    findings = inherit.at_their_place(findings, document)
    return (None if errors(findings) else fleet), findings


def _key_host(root: Reader, hosts: Mapping[str, Host]) -> str:
    written: str = root.text("key_host", "")
    if not written and len(hosts) == 1:
        return next(iter(hosts))
    if not written:
        root.refuse(
            "key_host",
            "missing",
            "the DKIM keys live on one host, and a changed guess would lose them",
            f"Write the name of one of your hosts{nearest('mta1', hosts)}",
        )
    elif written not in hosts:
        root.refuse("key_host", shown(written), f"no such host{nearest(written, hosts)}", "Write one of hosts")
    return written


def _front(root: Reader, hosts: Mapping[str, Host], streams: Mapping[str, Stream]) -> Optional[Front]:
    if not root.has("front"):
        return None
    reader = root.mapping("front")
    reader.known(("port", "header", "default", "inject_from", "hosts"))
    reader.require("port", "the port of the front listener")
    reader.require("default", "a stream for messages that choose none")
    header = reader.text("header", "X-Binding")
    if not _HEADER.match(header):
        reader.refuse("header", shown(header), "it is no header name", "Write letters, digits and hyphens")
    senders = tuple(name for name, host in hosts.items() if host.is_mta)
    default = reader.text("default", "")
    if default and default not in root.mapping("streams").data:
        reader.refuse("default", shown(default), f"no such stream{nearest(default, streams)}", "Write one of streams")
    return Front(
        port=reader.integer("port", 1, 65535, 0),
        header=header,
        default=default,
        inject_from=reader.networks("inject_from"),
        hosts=reader.choices("hosts", senders, senders),
    )


def _verify(root: Reader) -> Optional[Verify]:
    if not root.has("verify"):
        return None
    reader = root.mapping("verify")
    reader.known(("sink_domain", "sink_host"))
    reader.require("sink_domain", "the mail domain of the sink")
    reader.require("sink_host", "the inventory host that runs the sink")
    return Verify(
        sink_domain=reader.domain("sink_domain") or "",
        sink_host=reader.word("sink_host", HOST_NAME, "host name") or "",
    )
