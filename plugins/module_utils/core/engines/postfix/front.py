# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Postfix instance of the front listener, which hands each message on to the instance of its stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import FRONT, postfix_settings
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.next_hop import next_hops
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import parts
from ansible_collections.mailops.mta.plugins.module_utils.core.model import (
    Fleet,
)

# ---- the instance of the front listener


def front_instance(fleet: Fleet, host: str) -> dict[str, Any]:
    front = fleet.front
    if front is None:
        raise ValueError("this fleet has no front listener")
    listen = parts.listen(fleet, host, front.port)
    routes = {name: f"FILTER {_forward(fleet, host, name)}" for name in fleet.streams}
    default = _forward(fleet, host, front.default)
    # Its own bounces leave through the default stream, which signs for its own domain only.
    myorigin = fleet.streams[front.default].domain
    logins = {login: stream for stream in fleet.streams.values() for login in stream.inject_users}
    main_cf = {
        # Unlike the name of any stream instance, else smtp(8) would see a mail loop.
        **parts.base(
            "postfix-front", f"{FRONT}-{names.host_label(host)}.{fleet.domain}", myorigin, parts.protocols(listen, ())
        ),
        **parts.injection(
            "this fleet",
            front.inject_from,
            bool(logins),
            (
                "check_client_access cidr:${config_directory}/networks.cidr",
                "check_sasl_access lmdb:${config_directory}/routes",
                "reject_authenticated_sender_login_mismatch",
                "check_sender_access pcre:${config_directory}/senders.pcre",
            ),
        ),
        "message_size_limit": str(admission.largest_message_bytes(fleet)),
        # A message without header and login, and what smtpd(8) asks before it knows either.
        "content_filter": default,
        "default_transport": default,
        "header_checks": "pcre:${config_directory}/header.pcre",
        "minimal_backoff_time": "10s",
        "queue_run_delay": "10s",
        "maximal_backoff_time": "60s",
        "transport_retry_time": "10s",
        "smtpd_sender_login_maps": "pcre:${config_directory}/owners.pcre",
        # The signer signs nothing here. It refuses what the stream would refuse, and a header that names another stream
        # than the login or the network has, while the application still waits for the answer.
        **postfix_settings(FRONT),
    }
    header = re.escape(front.header)
    owned = {
        stream.name: parts.alternatives(admission.senders(stream))
        for stream in fleet.streams.values()
        if stream.inject_users
    }
    tables = {
        "header.pcre": "".join(f"/^{header}:\\s*{name}\\s*$/ {action}\n" for name, action in routes.items())
        + f"/^{header}:/ REJECT 5.7.1 no stream has the name that {front.header} gives\n",
        "networks.cidr": _network_routes(fleet, front.default, routes),
        "senders.pcre": parts.senders(
            (spelling for stream in fleet.streams.values() for spelling in admission.senders(stream)), "this fleet"
        ),
        "owners.pcre": "".join(
            f"/@(?:{domains})$/ {','.join(fleet.streams[name].inject_users)}\n" for name, domains in owned.items()
        ),
    }
    lmdb = {
        "logins": dict.fromkeys(logins, "OK"),
        "routes": {login: routes[stream.name] for login, stream in logins.items()},
    }
    # Where it forwards to another host it leaves from the address that the host's streams know.
    own = reversed(fleet.hosts[host].listen)
    bind = {"smtp_bind_address6" if names.is_ipv6(ip) else "smtp_bind_address": ip for ip in own}
    services = [
        *(parts.service(place, "inet", "smtpd", private="n") for place in listen),
        *parts.DAEMONS,
        parts.service("forward", "unix", "smtp", options={"syslog_name": "postfix-front/forward"}),
        parts.service("forward-host", "unix", "smtp", options={"syslog_name": "postfix-front/forward-host", **bind}),
    ]
    return parts.instance(FRONT, listen, main_cf, services, tables, lmdb)


def _network_routes(fleet: Fleet, default: str, routes: Mapping[str, str]) -> str:
    """The stream of a client's network (cidr_table(5), the first line that fits); the signer says when it has none."""
    lines = []
    for network, streams in admission.networks(fleet).items():
        stream = admission.stream_of_network(streams, default)
        route = routes.get(stream or "") if stream != default else None
        lines.append(f"{network} {route or 'DUNNO'}")
    return "".join(f"{line}\n" for line in lines)


def _forward(fleet: Fleet, host: str, stream_name: str) -> str:
    """The service and next hop to a stream."""
    hop = next_hops(fleet, host, fleet.streams[stream_name])[0]
    return f"{'forward' if hop.host == host else 'forward-host'}:[{parts.literal(hop.ip)}]:{hop.port}"
