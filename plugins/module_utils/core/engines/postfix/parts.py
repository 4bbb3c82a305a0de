# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all Postfix instances have in common: settings, who may inject, daemons and the spelling of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.model import (
    Address,
    Fleet,
)

SASL_SOCKET = "/run/dovecot/mailops-auth"
CONFIG_ROOT = "/etc"
QUEUE_ROOT = "/var/spool"
DATA_ROOT = "/var/lib"
LOG_DIRECTORY = "/var/log/mail"
GROUP = "mailops"  # multi_instance_group of every instance that is ours
STRANGER_CONNECTIONS = 20  # at once from one address that no stream names; the listener has 100 processes

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


def senders(domains: Iterable[str], owner: str) -> str:
    unique = tuple(dict.fromkeys(domains))
    return (
        f"/@(?:{alternatives(unique)})$/ DUNNO\n"
        "/^<>$/ DUNNO\n"
        f"/./ REJECT 5.7.1 {owner} sends from its own domains only\n"
    )


# ---- what all instances share


def base(name: str, myhostname: str, myorigin: str, protocols: str) -> dict[str, str]:
    return {
        **_COMMON,
        "multi_instance_name": name,
        "syslog_name": name,
        "maillog_file": f"{LOG_DIRECTORY}/{name}.log",
        "myhostname": myhostname,
        "myorigin": myorigin,
        "inet_protocols": protocols,
    }


def injection(owner: str, networks: Iterable[str], logins: bool, senders: Iterable[str]) -> dict[str, str]:
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


def instance(
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


def service(
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
DAEMONS = (
    service("pickup", "unix", "pickup", private="n", wakeup="60", maxproc="1"),
    service("cleanup", "unix", "cleanup", private="n", maxproc="0"),
    service("qmgr", "unix", "qmgr", private="n", wakeup="300", maxproc="1"),
    service("tlsmgr", "unix", "tlsmgr", wakeup="1000?", maxproc="1"),
    service("rewrite", "unix", "trivial-rewrite"),
    service("bounce", "unix", "bounce", maxproc="0"),
    service("defer", "unix", "bounce", maxproc="0"),
    service("trace", "unix", "bounce", maxproc="0"),
    service("verify", "unix", "verify", maxproc="1"),
    service("flush", "unix", "flush", private="n", wakeup="1000?", maxproc="0"),
    service("proxymap", "unix", "proxymap"),
    service("proxywrite", "unix", "proxymap", maxproc="1"),
    service("showq", "unix", "showq", private="n"),
    service("error", "unix", "error"),
    service("retry", "unix", "error"),
    service("discard", "unix", "discard"),
    service("anvil", "unix", "anvil", maxproc="1"),
    service("scache", "unix", "scache", maxproc="1"),
    # postlogd(8) holds its file open until it is idle; a short time lets logs be rotated by a rename, without a reload.
    service("postlog", "unix-dgram", "postlogd", private="n", maxproc="1", options={"max_idle": "5s"}),
)


def listen(fleet: Fleet, host: str, port: int) -> list[str]:
    places = dict.fromkeys(("127.0.0.1", *fleet.hosts[host].listen))
    return [names.place(ip, port) for ip in places]


def protocols(listen: Iterable[str], addresses: Iterable[Address]) -> str:
    return family(True, any(place.startswith("[") for place in listen) or any(address.ipv6 for address in addresses))


def family(ipv4: bool, ipv6: bool) -> str:
    return "all" if ipv4 and ipv6 else "ipv6" if ipv6 else "ipv4"


def literal(ip: str) -> str:
    return f"IPv6:{ip}" if names.is_ipv6(ip) else ip


def _network(network: str) -> str:
    ip, _slash, length = network.partition("/")
    return f"[{ip}]/{length or 128}" if names.is_ipv6(ip) else f"{ip}/{length or 32}"


def alternatives(domains: Iterable[str]) -> str:
    return "|".join(domain.replace(".", r"\.") for domain in domains)
