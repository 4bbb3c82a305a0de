# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of DMARC: reports, inheritance, alignment of the return path, and BIMI, which needs it."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet
from ansible_collections.mailops.mta.plugins.module_utils.core.publish import record_sets


def reports_are_authorised(fleet: Fleet) -> Iterable[Finding]:
    for policy in record_sets.dmarc_policies(fleet):
        where = f"streams.{policy.stream}.dmarc.rua" if policy.stream else "organisational_dmarc.rua"
        for target in record_sets.foreign_reports(fleet, policy):
            if fleet.zone_of(target) is None and target not in policy.dmarc.rua_authorised:
                mailboxes = [mailbox for mailbox in policy.dmarc.rua if mailbox.endswith(f"@{target}")]
                yield Finding(
                    where,
                    f"'{', '.join(mailboxes)}'",
                    f"{target} must allow reports about {policy.domain} (RFC 9990), and no zone of this file holds it",
                    f"Have {policy.domain}._report._dmarc.{target} published, then add {target} to rua_authorised",
                )


def policy_is_inherited(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        where = f"streams.{stream.name}.dmarc.inherit"
        if not stream.dmarc.inherit:
            continue
        if fleet.organisational_dmarc is None:
            yield Finding(
                where,
                "true",
                f"nothing of this file publishes a policy at _dmarc.{fleet.domain}",
                "Write organisational_dmarc, or give the stream a policy of its own",
            )
        for domain in stream.domains:
            if not names.is_within(domain, fleet.domain):
                yield Finding(
                    where,
                    "true",
                    f"{domain} is not below {fleet.domain}, so receivers would find no policy for it (RFC 9989 4.10.1)",
                    "Write inherit: false and a policy for this stream",
                )


def subdomain_policies_count(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        if not fleet.organisational_dmarc or stream.dmarc.inherit or fleet.domain in stream.domains:
            continue
        for key in ("subdomain_policy", "missing_policy"):
            if getattr(stream.dmarc, key) and names.is_within(stream.domain, fleet.domain):
                yield Finding(
                    f"streams.{stream.name}.dmarc.{key}",
                    f"'{getattr(stream.dmarc, key)}'",
                    f"receivers take it from _dmarc.{fleet.domain} only (RFC 9989 4.7)",
                    "Write it in organisational_dmarc",
                    WARNING,
                )


def bimi_is_enforced(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        if not stream.bimi:
            continue
        policies = {f"streams.{stream.name}.dmarc": stream.dmarc}
        if fleet.organisational_dmarc and names.is_within(stream.domain, fleet.domain):
            policies["organisational_dmarc"] = fleet.organisational_dmarc
        for place, dmarc in policies.items():
            weak = [
                *(["policy none"] if dmarc.policy == "none" else []),
                *(["subdomain_policy none"] if dmarc.subdomain_policy == "none" else []),
                *(["testing"] if dmarc.testing else []),
            ]
            if weak:
                yield Finding(
                    f"streams.{stream.name}.bimi",
                    ", ".join(weak),
                    "mailbox operators show a logo only where DMARC is enforced, for subdomains as well",
                    f"Write quarantine or reject in {place}, or remove bimi",
                )


def return_paths_align(fleet: Fleet) -> Iterable[Finding]:
    for stream in fleet.streams.values():
        path = stream.return_path.domain
        strict = stream.dmarc.alignment_spf == "s"
        aligned = (
            path == stream.domain
            if strict
            else fleet.organisational_domain(path) == fleet.organisational_domain(stream.domain)
        )
        if not aligned:
            yield Finding(
                f"streams.{stream.name}.return_path.domain",
                f"'{path}'",
                f"SPF for it does not align with {stream.domain} under DMARC, so DKIM alone would have to pass",
                f"Use a name under {stream.domain}" + (", or relaxed alignment" if strict else ""),
                WARNING,
            )
