# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from a fleet: the slice of each host, the record sets, the keys and what proof must find.

The shapes are those of docs/architecture.md. Nothing in here decides anything that the fleet file does not say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import ED25519_BITS
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.services import EXTERNAL
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.table import engine_of
from ansible_collections.mailops.mta.plugins.module_utils.core.host import firewall
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies as tags
from ansible_collections.mailops.mta.plugins.module_utils.core.model import RSA, Fleet, Stream
from ansible_collections.mailops.mta.plugins.module_utils.core.proof import judge
from ansible_collections.mailops.mta.plugins.module_utils.core.publish.record_sets import record_sets


def host_variables(fleet: Fleet, host: str) -> dict[str, Any]:
    """The variables of one host: its own slice and nothing more."""
    served = {"mta_mta_sts": {"policies": _policies(fleet, host)}} if fleet.policies_on(host) else {}
    if not fleet.hosts[host].is_mta:
        return {"mta_engine": fleet.hosts[host].engine, **served}
    streams = fleet.streams_on(host)
    engine = engine_of(fleet, host)
    return {
        "mta_engine": engine.name,
        "mta_streams": [stream.name for stream in streams],
        "mta_interface": fleet.hosts[host].interface,
        "mta_addresses": [ip for stream in streams for address in stream.addresses_on(host) for ip in address.ips],
        "mta_sasl_users": {login: [stream.name] for stream in _logins(fleet, host) for login in stream.inject_users},
        "mta_dkim": {
            "signer": engine.signer,
            "domains": _grants(fleet, host)["domains"],
            **engine.signing(fleet, host),
        },
        "mta_firewall": firewall.slice_of(fleet, host),
        **engine.variables(fleet, host),
        **served,
    }


def fleet_variables(fleet: Fleet) -> dict[str, Any]:
    """The variables of the host ``fleet``, which stands for the whole."""
    return {
        "mta_fleet": {
            "name": fleet.name,
            "domain": fleet.domain,
            "key_host": fleet.key_host,
            "hosts": [host.name for host in fleet.mta_hosts()],
            "front": None
            if fleet.front is None
            else {"port": fleet.front.port, "header": fleet.front.header, "hosts": list(fleet.front.hosts)},
            "streams": {
                stream.name: {
                    "domain": stream.domain,
                    "port": stream.port,
                    "logins": list(stream.inject_users),
                    "addresses": [ip for address in stream.addresses for ip in address.ips],
                }
                for stream in fleet.streams.values()
            },
        },
        "mta_dns": {
            "owner": fleet.name,
            "zones": [
                {
                    "name": zone.name,
                    "provider": zone.provider,
                    "credentials": zone.credentials,
                    "options": dict(zone.options),
                    "signed": zone.signed,
                }
                for zone in fleet.zones.values()
            ],
            "records": record_sets(fleet),
        },
        "mta_grants": {host.name: _grants(fleet, host.name) for host in fleet.mta_hosts()},
        "mta_dkim_series": [series for stream in fleet.streams.values() for series in _stream_series(fleet, stream)],
        "mta_proof": judge.expectations(fleet),
    }


def _policies(fleet: Fleet, host: str) -> list[dict[str, str]]:
    """The MTA-STS policies that a host serves, with the id that their records announce."""
    policies = []
    for stream in fleet.policies_on(host):
        text = tags.mta_sts_policy(stream.return_path.mx, stream.mta_sts)
        policies.append(
            {
                "host": stream.policy_host,
                "domain": stream.return_path.domain,
                "policy": text,
                "id": tags.parse_mta_sts_record(tags.mta_sts_record(text)).id,
            }
        )
    return policies


def _logins(fleet: Fleet, host: str) -> Iterable[Stream]:
    """The streams whose logins a host must know: all where its front listener may carry any of them."""
    if fleet.front and host in fleet.front.hosts:
        return fleet.streams.values()
    return fleet.streams_on(host)


def _grants(fleet: Fleet, host: str) -> dict[str, list[str]]:
    """The secrets that a host may get: the DKIM keys of its domains and the passwords of its logins.

    Roles read this from the host ``fleet`` and not from the host itself, which can change its own variables by facts.
    """
    return {
        "domains": list(dict.fromkeys(domain for stream in fleet.streams_on(host) for domain in stream.domains)),
        "logins": [login for stream in _logins(fleet, host) for login in stream.inject_users],
    }


def _stream_series(fleet: Fleet, stream: Stream) -> Iterable[dict[str, Any]]:
    """The keys that a stream signs with: for each domain and algorithm how they are made, named and replaced."""
    dkim = stream.dkim
    for domain in dict.fromkeys(stream.domains):
        zone = fleet.zone_of(domain)
        for algorithm in dkim.algorithms:
            yield {
                "domain": domain,
                "algorithm": algorithm,
                "bits": dkim.rsa_bits if algorithm == RSA else ED25519_BITS,
                "ttl_seconds": stream.ttl_seconds,
                "hosts": list(dict.fromkeys(address.host for address in stream.addresses)),
                "selector": dkim.selector,
                "every_days": dkim.every_days,
                "quarters": list(dkim.quarters),
                "slots": list(dkim.slots),
                "delegate": dkim.delegate,
                "external": zone is not None and fleet.zones[zone].provider == EXTERNAL,
                "first_key": dkim.first_key,
                "margin_seconds": dkim.margin_seconds,
                "keep_retired_seconds": dkim.keep_retired_seconds,
                "proof": fleet.verify is not None,
                "streams": [stream.name],
            }
