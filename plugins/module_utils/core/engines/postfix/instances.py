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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission, receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.engine import NOTHING, RELOAD, RESTART
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import FRONT, postfix_settings
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.next_hop import next_hops
from ansible_collections.mailops.mta.plugins.module_utils.core.model import (
    Address,
    Fleet,
    Limits,
    ReceiverGroup,
    Stream,
)

SASL_SOCKET = "/run/dovecot/mailops-auth"
CONFIG_ROOT = "/etc"
QUEUE_ROOT = "/var/spool"
DATA_ROOT = "/var/lib"
LOG_DIRECTORY = "/var/log/mail"
GROUP = "mailops"  # multi_instance_group of every instance that is ours
SLOTS = 100
TRANSPORT_PREFIX = "out-"
DRAINED = "retry:4.3.2 every address of this stream is drained"
STRANGER_CONNECTIONS = 20  # at once from one address that no stream names; the listener has 100 processes

# Parameters that master(8) reads when it starts; a change needs a restart. Everything else is read at a reload.
RESTART_PARAMETERS = (
    "data_directory",
    "inet_interfaces",
    "inet_protocols",
    "multi_instance_name",
    "queue_directory",
)

_COMMON: dict[str, str] = {
    "compatibility_level": "3.6",
    "multi_instance_enable": "yes",
    "multi_instance_group": GROUP,
    "inet_interfaces": "loopback-only",  # every listener stands in master.cf with its own address
    "mydestination": "",
    "local_recipient_maps": "",
    "local_transport": "retry:4.3.0 nothing is delivered on this host",
    "default_transport": "retry:4.3.0 no address serves this recipient",
    "alias_maps": "",
    "alias_database": "",
    "relayhost": "",
    "relay_domains": "",
    "append_dot_mydomain": "no",
    "biff": "no",
    "notify_classes": "",
    "authorized_submit_users": "root",
    "recipient_delimiter": "",
    "enable_long_queue_ids": "yes",
    "always_add_missing_headers": "yes",
    "disable_vrfy_command": "yes",
    "smtpd_helo_required": "yes",
    "smtpd_banner": "$myhostname ESMTP",
    "smtpd_peername_lookup": "no",
    "smtpd_etrn_restrictions": "reject",
    # smtpd(8) skips every restriction of a recipient for a bare "postmaster", and all restrictions that it delays until
    # there is one. So a stranger is refused before the recipient, and once more at DATA.
    "smtpd_delay_reject": "no",
    "smtpd_tls_security_level": "may",
    "smtpd_tls_auth_only": "yes",
    "smtpd_tls_received_header": "yes",
    "smtpd_tls_loglevel": "1",
    "smtpd_tls_mandatory_protocols": ">=TLSv1.2",
    "smtpd_tls_protocols": ">=TLSv1.2",
    "smtp_tls_protocols": ">=TLSv1.2",
    "smtp_tls_mandatory_protocols": ">=TLSv1.2",
    "smtp_tls_security_level": "may",
    "smtp_tls_CAfile": "/etc/ssl/certs/ca-certificates.crt",
    "smtp_tls_loglevel": "1",
    "smtp_tls_session_cache_database": "lmdb:${data_directory}/smtp_scache",
    # Injectors are few and trusted: in_flow_delay would hold each of their messages for a second under load.
    "in_flow_delay": "0",
    "max_use": "1000",
    # What changes a message after it was signed breaks the signature. The signer refuses longer lines.
    "smtp_line_length_limit": "0",
    "disable_mime_output_conversion": "yes",
    "nested_header_checks": "",
    "mime_header_checks": "",
}
_IF_KNOWN: dict[str, str] = {
    "smtpd_forbid_bare_newline": "normalize",
    "smtpd_forbid_bare_newline_exclusions": "",
    "smtpd_forbid_unauth_pipelining": "yes",
    "smtp_bind_address_enforce": "yes",
}


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
        found.append(_front_instance(fleet, host))
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


def _slots(group: str) -> list[str]:
    return [f"{group}-{number:02d}" for number in range(SLOTS)]


# ---- the instance of a stream


def _stream_instance(fleet: Fleet, stream: Stream, host: str) -> dict[str, Any]:
    addresses = stream.addresses_on(host)
    groups = tuple(fleet.receivers.values())
    listen = _listen(fleet, host, stream.port)
    # A name of the stream's domain, so that nothing tells of another; no address's, so that none is missed in it.
    myhostname = f"{names.host_label(host)}.{stream.domain}"
    main_cf = {
        **_base(f"postfix-{stream.name}", myhostname, stream.domain, _protocols(listen, addresses)),
        **_injection(
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
        "senders.pcre": _senders(admission.senders(stream), f"stream {stream.name}"),
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
        *(_service(place, "inet", "smtpd", private="n") for place in listen),
        *_DAEMONS,
        *(_sender(stream, address, group) for address in addresses for group in groups),
    ]
    return {
        **_instance(stream.name, listen, main_cf, services, tables, lmdb),
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
    options["inet_protocols"] = _family(bool(address.ipv4), bool(address.ipv6))
    maxproc = str(limits.concurrency) if group.domains else "-"
    return _service(name, "unix", "smtp", maxproc=maxproc, options=options)


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
    return f"# {group.source}\n/@(?:{_alternatives(group.domains)})$/ {group.name}\n"


def _senders(domains: Iterable[str], owner: str) -> str:
    unique = tuple(dict.fromkeys(domains))
    return (
        f"/@(?:{_alternatives(unique)})$/ DUNNO\n"
        "/^<>$/ DUNNO\n"
        f"/./ REJECT 5.7.1 {owner} sends from its own domains only\n"
    )


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
    return f"/^(.+)@(?:{_alternatives(others)})$/ ${{1}}@{path}\n"


def _front_networks(fleet: Fleet) -> list[str]:
    """The hosts that forward what their front listener took."""
    if not fleet.front:
        return []
    return [names.host_network(ip) for name in fleet.front.hosts for ip in fleet.hosts[name].listen]


# ---- the instance of the front listener


def _front_instance(fleet: Fleet, host: str) -> dict[str, Any]:
    front = fleet.front
    if front is None:
        raise ValueError("this fleet has no front listener")
    listen = _listen(fleet, host, front.port)
    routes = {name: f"FILTER {_forward(fleet, host, name)}" for name in fleet.streams}
    default = _forward(fleet, host, front.default)
    # Its own bounces leave through the default stream, which signs for its own domain only.
    myorigin = fleet.streams[front.default].domain
    logins = {login: stream for stream in fleet.streams.values() for login in stream.inject_users}
    main_cf = {
        # Unlike the name of any stream instance, else smtp(8) would see a mail loop.
        **_base("postfix-front", f"{FRONT}-{names.host_label(host)}.{fleet.domain}", myorigin, _protocols(listen, ())),
        **_injection(
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
        stream.name: _alternatives(admission.senders(stream))
        for stream in fleet.streams.values()
        if stream.inject_users
    }
    tables = {
        "header.pcre": "".join(f"/^{header}:\\s*{name}\\s*$/ {action}\n" for name, action in routes.items())
        + f"/^{header}:/ REJECT 5.7.1 no stream has the name that {front.header} gives\n",
        "networks.cidr": _network_routes(fleet, front.default, routes),
        "senders.pcre": _senders(
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
        *(_service(place, "inet", "smtpd", private="n") for place in listen),
        *_DAEMONS,
        _service("forward", "unix", "smtp", options={"syslog_name": "postfix-front/forward"}),
        _service("forward-host", "unix", "smtp", options={"syslog_name": "postfix-front/forward-host", **bind}),
    ]
    return _instance(FRONT, listen, main_cf, services, tables, lmdb)


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
    return f"{'forward' if hop.host == host else 'forward-host'}:[{_literal(hop.ip)}]:{hop.port}"


# ---- what all instances share


def _base(name: str, myhostname: str, myorigin: str, protocols: str) -> dict[str, str]:
    return {
        **_COMMON,
        "multi_instance_name": name,
        "syslog_name": name,
        "maillog_file": f"{LOG_DIRECTORY}/{name}.log",
        "myhostname": myhostname,
        "myorigin": myorigin,
        "inet_protocols": protocols,
    }


def _injection(owner: str, networks: Iterable[str], logins: bool, senders: Iterable[str]) -> dict[str, str]:
    """Who may inject: these networks and, only under TLS, these logins; nobody else. ``senders``: what is asked first.

    Where no login can come, a stranger is refused at the connection. The code 521 closes it (RFC 7504 2), so a stranger
    holds no process. Where logins can come, a stranger may speak until MAIL, on a few connections.
    """
    mine = dict.fromkeys(("127.0.0.1/32", "[::1]/128", *(_network(network) for network in networks)))
    allowed = [
        "permit_mynetworks",
        *(["check_sasl_access lmdb:${config_directory}/logins"] if logins else []),
        "reject",
    ]
    refusal = f"static:{{521 5.7.1 this address may not inject mail into {owner}}}"
    settings = {
        "mynetworks": " ".join(mine),
        "smtpd_client_restrictions": "" if logins else f"permit_mynetworks, check_client_access {refusal}",
        "smtpd_client_connection_count_limit": str(STRANGER_CONNECTIONS) if logins else "0",  # not of mynetworks
        "smtpd_sender_restrictions": ", ".join([*senders, *allowed]),
        "smtpd_relay_restrictions": ", ".join(allowed),
        "smtpd_recipient_restrictions": ", ".join(["reject_non_fqdn_recipient", *allowed]),
        "smtpd_data_restrictions": ", ".join(["reject_unauth_pipelining", *allowed]),
        "smtpd_sasl_auth_enable": "yes" if logins else "no",
    }
    if logins:
        settings["smtpd_sasl_type"] = "dovecot"
        settings["smtpd_sasl_path"] = SASL_SOCKET
        settings["smtpd_sasl_security_options"] = "noanonymous"
    return settings


def _instance(
    stream: str,
    listen: list[str],
    main_cf: Mapping[str, str],
    services: list[dict[str, Any]],
    tables: Mapping[str, str],
    lmdb: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    name = f"postfix-{stream}"
    return {
        "name": name,
        "stream": stream,
        "config_directory": f"{CONFIG_ROOT}/{name}",
        "queue_directory": f"{QUEUE_ROOT}/{name}",
        "data_directory": f"{DATA_ROOT}/{name}",
        "listen": listen,
        "main_cf": dict(main_cf),
        "main_cf_if_known": dict(_IF_KNOWN),
        "services": services,
        "tables": dict(tables),
        "lmdb": {file: dict(content) for file, content in lmdb.items()},
        "shares": {},
    }


def _service(
    service: str,
    kind: str,
    command: str,
    *,
    private: str = "-",
    unprivileged: str = "-",
    wakeup: str = "-",
    maxproc: str = "-",
    options: Optional[Mapping[str, str]] = None,
) -> dict[str, Any]:
    return {
        "service": service,
        "type": kind,
        "private": private,
        "unprivileged": unprivileged,
        "chroot": "n",
        "wakeup": wakeup,
        "maxproc": maxproc,
        "command": command,
        "options": dict(options or {}),
    }


# The daemons of master.cf without smtp(8) itself: nothing may leave but through a transport that binds an address.
_DAEMONS = (
    _service("pickup", "unix", "pickup", private="n", wakeup="60", maxproc="1"),
    _service("cleanup", "unix", "cleanup", private="n", maxproc="0"),
    _service("qmgr", "unix", "qmgr", private="n", wakeup="300", maxproc="1"),
    _service("tlsmgr", "unix", "tlsmgr", wakeup="1000?", maxproc="1"),
    _service("rewrite", "unix", "trivial-rewrite"),
    _service("bounce", "unix", "bounce", maxproc="0"),
    _service("defer", "unix", "bounce", maxproc="0"),
    _service("trace", "unix", "bounce", maxproc="0"),
    _service("verify", "unix", "verify", maxproc="1"),
    _service("flush", "unix", "flush", private="n", wakeup="1000?", maxproc="0"),
    _service("proxymap", "unix", "proxymap"),
    _service("proxywrite", "unix", "proxymap", maxproc="1"),
    _service("showq", "unix", "showq", private="n"),
    _service("error", "unix", "error"),
    _service("retry", "unix", "error"),
    _service("discard", "unix", "discard"),
    _service("anvil", "unix", "anvil", maxproc="1"),
    _service("scache", "unix", "scache", maxproc="1"),
    # postlogd(8) holds its file open until it is idle; a short time lets logs be rotated by a rename, without a reload.
    _service("postlog", "unix-dgram", "postlogd", private="n", maxproc="1", options={"max_idle": "5s"}),
)


def _listen(fleet: Fleet, host: str, port: int) -> list[str]:
    places = dict.fromkeys(("127.0.0.1", *fleet.hosts[host].listen))
    return [names.place(ip, port) for ip in places]


def _protocols(listen: Iterable[str], addresses: Iterable[Address]) -> str:
    return _family(True, any(place.startswith("[") for place in listen) or any(address.ipv6 for address in addresses))


def _family(ipv4: bool, ipv6: bool) -> str:
    return "all" if ipv4 and ipv6 else "ipv6" if ipv6 else "ipv4"


def _literal(ip: str) -> str:
    return f"IPv6:{ip}" if names.is_ipv6(ip) else ip


def _network(network: str) -> str:
    ip, _slash, length = network.partition("/")
    return f"[{ip}]/{length or 128}" if names.is_ipv6(ip) else f"{ip}/{length or 32}"


def _alternatives(domains: Iterable[str]) -> str:
    return "|".join(domain.replace(".", r"\.") for domain in domains)


# ---- the files of an instance

MAIN_CF = "main.cf"
MASTER_CF = "master.cf"
SHARES = "shares"
_BANNER = "# Managed by Ansible (mailops.mta.postfix): change the fleet file instead."
_RETIRED = "# retired since "


@dataclass(frozen=True)
class Block:
    """One service of a master.cf, as text, and since when (seconds of the epoch) nothing is sent to it any more."""

    service: str
    type: str
    text: str
    since: Optional[int] = None


def files(
    instance: Mapping[str, Any], *, settings: Mapping[str, str], known: Iterable[str], retired: Iterable[Block] = ()
) -> dict[str, str]:
    """The text of every file of an instance; main.cf last, because each new process reads it.

    ``settings`` go over the instance's own, ``known`` are the parameters that this Postfix has.
    """
    understood = set(known)
    main_cf = {
        **instance["main_cf"],
        **{name: value for name, value in instance["main_cf_if_known"].items() if name in understood},
        **{f"mailops_slots_{group}": ", ".join(_slots(group)) for group in instance["shares"]},
        "queue_directory": instance["queue_directory"],
        "data_directory": instance["data_directory"],
        **settings,
    }
    texts = dict(instance["tables"])
    texts.update({name: lmdb_text(content) for name, content in instance["lmdb"].items()})
    if instance["shares"]:
        texts[SHARES] = lmdb_text(_holders(instance["shares"]))
    texts[MASTER_CF] = _master_cf(instance["services"], retired)
    texts[MAIN_CF] = "\n".join([_BANNER, *(f"{name} = {value}".rstrip() for name, value in main_cf.items())]) + "\n"
    return texts


def lmdb_names(instance: Mapping[str, Any]) -> list[str]:
    """The files that postmap(1) turns into lmdb tables."""
    return [*instance["lmdb"], *([SHARES] if instance["shares"] else [])]


def lmdb_text(content: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in content.items())


def _holders(groups: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    table: dict[str, str] = {}
    for group, counts in groups.items():
        holders = [holder for holder, count in counts.items() for _slot in range(count)]
        table.update(zip(_slots(group), holders))
    return table


def interim_shares(before: str, after: str, master_cf: str) -> str:
    """The table ``shares`` for the time until a reload has started the services of ``after``.

    ``master_cf`` is the one that runs. A slot whose new holder is not there yet stays with the old one; a slot of a new
    receiver group stays with who holds it for all other domains. Slots of a group that goes stay: until the reload they
    are drawn.
    """
    old, new = _lmdb_content(before), _lmdb_content(after)
    running = {block.service for block in blocks(master_cf)}
    table = dict(old)
    for slot, holder in new.items():
        fallback = old.get(slot) or old.get(f"{receivers.DEFAULT}-{slot[-2:]}")
        table[slot] = holder if fallback is None or holder.partition(":")[0] in running else fallback
    return lmdb_text(table)


def _lmdb_content(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines())


def _master_cf(services: Iterable[Mapping[str, Any]], retired: Iterable[Block]) -> str:
    lines = [_BANNER, "# service type private unprivileged chroot wakeup maxproc command"]
    columns = ("service", "type", "private", "unprivileged", "chroot", "wakeup", "maxproc", "command")
    for service in services:
        lines.append(" ".join(str(service[column]) for column in columns))
        for name, value in service["options"].items():
            lines.append(f"  -o {{ {name} = {value} }}" if " " in value else f"  -o {name}={value}")
    for block in retired:
        lines.append(f"{_RETIRED}{block.since}")
        lines.append(block.text)
    return "\n".join(lines) + "\n"


def blocks(master_cf: str) -> list[Block]:
    """The services of a master.cf that ``files`` wrote."""
    found: list[Block] = []
    since: Optional[int] = None
    for line in master_cf.splitlines():
        if line.startswith(_RETIRED):
            since = int(line[len(_RETIRED) :])
        elif line[:1].isspace() and found:
            found[-1] = replace(found[-1], text=f"{found[-1].text}\n{line}")
        elif line and not line.startswith("#"):
            service, kind = line.split()[:2]
            found.append(Block(service, kind, line, since))
            since = None
    return found


def retire(master_cf: str, instance: Mapping[str, Any], *, now: int, patience_seconds: int) -> list[Block]:
    """The transports that left the fleet but may still hold mail: they stay until ``patience_seconds`` are over.

    Mail that a delivery process holds while the queue manager restarts is tried again 300 seconds later, under the
    transport it had.
    """
    wanted = {service["service"] for service in instance["services"]}
    gone = [block for block in blocks(master_cf) if is_sender(block) and block.service not in wanted]
    aged = [replace(block, since=now if block.since is None else block.since) for block in gone]
    return [block for block in aged if block.since is not None and now - block.since < patience_seconds]


def retired_settings(main_cf: str, retired: Iterable[Block]) -> dict[str, str]:
    """The limits of retired transports, from the main.cf that has them."""
    prefixes = tuple(f"{block.service}_" for block in retired)
    pairs = (line.partition(" = ") for line in main_cf.splitlines() if prefixes and line.startswith(prefixes))
    return {name: value for name, _sign, value in pairs}


def without_listeners(master_cf: str) -> str:
    """The same instance, taking no mail from the network.

    Its bounces leave unsigned: the signer has no key any more for a stream that left the fleet, and would hold them.
    """
    kept = [block for block in blocks(master_cf) if block.type != "inet"]
    lines = [f"{block.text}\n  -o non_smtpd_milters=" if block.service == "cleanup" else block.text for block in kept]
    return "\n".join([_BANNER, *lines]) + "\n"


def setting(main_cf: str, name: str) -> str:
    """The value of a parameter in a main.cf that ``files`` wrote, or nothing."""
    found = [line.partition("=")[2].strip() for line in main_cf.splitlines() if line.partition("=")[0].strip() == name]
    return found[-1] if found else ""


def effort(before: Mapping[str, str], after: Mapping[str, str], lmdb: Iterable[str]) -> str:
    """What a running instance needs to go from one set of files to the other: nothing, a reload or a restart.

    An lmdb table is read as it changes; the order of lines and our remarks mean nothing to Postfix.
    """
    live = set(lmdb)
    meanings = [{name: _meaning(text) for name, text in texts.items() if name not in live} for texts in (before, after)]
    if meanings[0] == meanings[1]:
        return NOTHING
    old, new = before.get(MAIN_CF, ""), after.get(MAIN_CF, "")
    return RESTART if any(setting(old, name) != setting(new, name) for name in RESTART_PARAMETERS) else RELOAD


def _meaning(text: str) -> list[str]:
    entries: list[str] = []
    for line in text.splitlines():
        if line[:1].isspace() and entries:
            entries[-1] += f"\n{line}"
        elif line and not line.startswith("#"):
            entries.append(line)
    return sorted(entries) if "/" not in "".join(entry[:1] for entry in entries) else entries


def bound_addresses(master_cf: str) -> set[str]:
    """The addresses from which the transports of a master.cf send."""
    return set(re.findall(r"smtp_bind_address6?=([0-9A-Fa-f.:]+)", master_cf))


def is_sender(block: Block) -> bool:
    """Whether a service is an address's transport."""
    return block.type == "unix" and block.service.startswith(TRANSPORT_PREFIX)
