# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Postfix as data: one instance for each stream on a host, and one for the front listener.

An instance is a plain mapping, because it travels through the inventory to the host::

    {name, stream, config_directory, queue_directory, data_directory, listen: ["ip:port"],
     main_cf: {parameter: value}, main_cf_if_known: {parameter: value},
     services: [{service, type, private, unprivileged, chroot, wakeup, maxproc, command, options: {}}],
     tables: {file name: text}, lmdb: {file name: {key: value}}, shares: {receiver group: {transport: slots}}}

``main_cf_if_known`` is used only where that host's Postfix knows the parameter. Parameter names are those of
postconf(5). ``files`` makes the text of every file from it.

The address of a message is chosen at each delivery attempt: a pcre table finds the receiver group, randmap draws one of
100 slots, and an lmdb table says which address holds that slot. That table is read without a reload, so moving shares
parks no mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission, receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import postfix_settings
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import front, parts
from ansible_collections.mailops.mta.plugins.module_utils.core.model import (
    Address,
    Fleet,
    Limits,
    ReceiverGroup,
    Stream,
)

SLOTS = 100
TRANSPORT_PREFIX = "out-"
DRAINED = "retry:4.3.2 every address of this stream is drained"


# Seconds, as postconf(5) has them where nothing is written.
_MINIMAL_BACKOFF, _MAXIMAL_BACKOFF, _QUEUE_RUN = 300, 4000, 300


def last_try_seconds(queue_life_seconds: int) -> int:
    """How old a message can be when it is tried for the last time: what outlives the queue's limit is tried once more.

    A key must stay published for as long.
    """
    return queue_life_seconds + _retry(queue_life_seconds, _MAXIMAL_BACKOFF) + _retry(queue_life_seconds, _QUEUE_RUN)


def _retry(queue_life_seconds: int, usual: int) -> int:
    return min(usual, queue_life_seconds // 10)


def _queue_life(seconds: int) -> dict[str, str]:
    """How long mail and bounces wait; where that is short, they are tried the more often."""
    settings = {"maximal_queue_lifetime": seconds, "bounce_queue_lifetime": seconds}
    for name, usual in (
        ("minimal_backoff_time", _MINIMAL_BACKOFF),
        ("maximal_backoff_time", _MAXIMAL_BACKOFF),
        ("queue_run_delay", _QUEUE_RUN),
    ):
        if _retry(seconds, usual) < usual:
            settings[name] = _retry(seconds, usual)
    return {name: f"{value}s" for name, value in settings.items()}


def instances(fleet: Fleet, host: str) -> list[dict[str, Any]]:
    """The instances of one host: its streams in the order of the file, then the front listener if it has one."""
    found = [_stream_instance(fleet, stream, host) for stream in fleet.streams_on(host)]
    if fleet.front and host in fleet.front.hosts:
        found.append(front.front_instance(fleet, host))
    return found


def transport(address: Address, group: str) -> str:
    """The service that sends from ``address`` to ``group``; its name is what logs and metrics tell addresses by."""
    return f"{TRANSPORT_PREFIX}{address.label}-{group}"


def shares(group: str, addresses: Iterable[Address]) -> dict[str, int]:
    """How many of a group's slots each transport holds, in proportion to the shares (largest remainders)."""
    live = [address for address in addresses if address.share > 0]
    total = sum(address.share for address in live)
    if not total:
        return {DRAINED: SLOTS}
    counts = [address.share * SLOTS // total for address in live]
    remainders = sorted(range(len(live)), key=lambda i: (-(live[i].share * SLOTS % total), i))
    for i in remainders[: SLOTS - sum(counts)]:
        counts[i] += 1
    return {f"{transport(address, group)}:": count for address, count in zip(live, counts) if count}


# ---- the instance of a stream


def _stream_instance(fleet: Fleet, stream: Stream, host: str) -> dict[str, Any]:
    addresses = stream.addresses_on(host)
    groups = tuple(fleet.receivers.values())
    listen = parts.listen(fleet, host, stream.port)
    # A name of the stream's domain, so that nothing tells of another; no address's, so that none is missed in it.
    myhostname = f"{names.host_label(host)}.{stream.domain}"
    main_cf = {
        **parts.base(f"postfix-{stream.name}", myhostname, stream.domain, parts.protocols(listen, addresses)),
        **parts.injection(
            f"stream {stream.name}",
            (*stream.inject_from, *_front_networks(fleet)),
            bool(stream.inject_users),
            ("check_sender_access pcre:${config_directory}/senders.pcre",),
        ),
        "message_size_limit": str(stream.max_message_bytes + (admission.TRACE_BYTES if fleet.front else 0)),
        "sender_canonical_maps": "pcre:${config_directory}/return-path.pcre",
        "sender_canonical_classes": "envelope_sender",
        "default_destination_concurrency_limit": str(stream.limits[receivers.DEFAULT].concurrency),
        **_destination_limits(stream, addresses, groups),
        "transport_maps": ", ".join(_route(group) for group in groups),
        "internal_mail_filter_classes": "bounce, notify",
        **_queue_life(stream.queue_life_seconds),
        **postfix_settings(stream.name),
        "non_smtpd_milters": "$smtpd_milters",
    }
    tables = {
        "senders.pcre": parts.senders(admission.senders(stream), f"stream {stream.name}"),
        "return-path.pcre": _return_path(stream),
        **{f"receivers-{group.name}.pcre": _group_table(group) for group in groups if group.domains},
    }
    lmdb = {
        "logins": dict.fromkeys(stream.inject_users, "OK"),
    }
    header_checks = _header_checks(fleet, stream, myhostname)
    if header_checks:
        main_cf["header_checks"] = "pcre:${config_directory}/header.pcre"
        tables["header.pcre"] = header_checks
    if fleet.verify:
        main_cf["transport_maps"] = "lmdb:${config_directory}/probes, " + main_cf["transport_maps"]
        lmdb["probes"] = {
            f"verify-{address.label}@{fleet.verify.sink_domain}": f"{transport(address, receivers.DEFAULT)}:"
            for address in addresses
        }
    services = [
        *(parts.service(place, "inet", "smtpd", private="n") for place in listen),
        *parts.DAEMONS,
        *(_sender(stream, address, group) for address in addresses for group in groups),
    ]
    return {
        **parts.instance(stream.name, listen, main_cf, services, tables, lmdb),
        "shares": {group.name: shares(group.name, addresses) for group in groups},
    }


def _route(group: ReceiverGroup) -> str:
    draw = f"randmap:{{$mailops_slots_{group.name}}}, lmdb:${{config_directory}}/shares"
    if not group.domains:
        return f"pipemap:{{{draw}}}"
    return f"pipemap:{{pcre:${{config_directory}}/receivers-{group.name}.pcre, {draw}}}"


def _sender(stream: Stream, address: Address, group: ReceiverGroup) -> dict[str, Any]:
    limits = stream.limits[group.name]
    name = transport(address, group.name)
    options = {
        "syslog_name": f"postfix-{stream.name}/{name}",
        "smtp_helo_name": address.ehlo,
        "smtp_tls_security_level": limits.tls,
        "smtp_connection_reuse_count_limit": str(limits.messages_per_connection),
    }
    if address.ipv4:
        options["smtp_bind_address"] = address.ipv4
    if address.ipv6:
        options["smtp_bind_address6"] = address.ipv6
    # A transport that binds one family only would use the other from any address of the host.
    options["inet_protocols"] = parts.family(bool(address.ipv4), bool(address.ipv6))
    maxproc = str(limits.concurrency) if group.domains else "-"
    return parts.service(name, "unix", "smtp", maxproc=maxproc, options=options)


def _destination_limits(
    stream: Stream, addresses: Iterable[Address], groups: Iterable[ReceiverGroup]
) -> dict[str, str]:
    default = stream.limits[receivers.DEFAULT]
    found: dict[str, str] = {}
    for address in addresses:
        for group in groups:
            limits: Limits = stream.limits[group.name]
            name = transport(address, group.name)
            if limits.concurrency != default.concurrency:
                found[f"{name}_destination_concurrency_limit"] = str(limits.concurrency)
            if limits.rate_delay_seconds:
                # An operator is one site for us, whichever of its domains a message goes to.
                scope = "transport" if group.domains else "destination"
                found[f"{name}_{scope}_rate_delay"] = f"{limits.rate_delay_seconds}s"
    return found


def _group_table(group: ReceiverGroup) -> str:
    return f"# {group.source}\n/@(?:{parts.alternatives(group.domains)})$/ {group.name}\n"


def _header_checks(fleet: Fleet, stream: Stream, myhostname: str) -> str:
    """What receivers do not see (header_checks(5)): the header of the front listener, and where an application is."""
    lines = [f"/^{re.escape(fleet.front.header)}:/ IGNORE"] if fleet.front else []
    if stream.remove_received:
        own = re.escape(myhostname)
        lines += [
            f"/^Received: from .*\\bby ({own}) (\\(\\S+\\)) with (\\w+) id (\\w+)(?:\\s+for <[^>]*>)?;\\s*(.*)$/"
            " REPLACE Received: by $1 $2 with $3 id $4; $5",
            "/^Received:/ IGNORE",
        ]
    return "".join(f"{line}\n" for line in lines)


def _return_path(stream: Stream) -> str:
    path = stream.return_path.domain
    others = [spelling for spelling in admission.senders(stream) if spelling != path]
    if not others:
        return f"# {path} is the domain of the stream and of its return path.\n"
    return f"/^(.+)@(?:{parts.alternatives(others)})$/ ${{1}}@{path}\n"


def _front_networks(fleet: Fleet) -> list[str]:
    """The hosts that forward what their front listener took."""
    if not fleet.front:
        return []
    return [names.host_network(ip) for name in fleet.front.hosts for ip in fleet.hosts[name].listen]
