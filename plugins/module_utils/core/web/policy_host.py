# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that serves MTA-STS policies (RFC 8461 3.3): the certificate of each name, and the configuration of httpd.

The configuration is whole: nothing runs but what stands in it. Every name has a virtual host for its certificate; all
share one tree of files, in which the name asked for is a directory. So what is not there is 404, whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding

HTTP_01 = "http-01"
TLS_ALPN_01 = "tls-alpn-01"
CHALLENGES = (TLS_ALPN_01, HTTP_01)
POLICY_PATH = "/.well-known/mta-sts.txt"
RUNTIME_DIRECTORY = "/run/mailops-mta-sts"
STATE_DIRECTORY = "/var/lib/mailops-mta-sts"

_MODULES = "/usr/lib/apache2/modules"
_EMAIL = re.compile(r"[A-Za-z0-9.!#%&*+/=?^_{|}~-]+@[A-Za-z0-9.-]+\Z")
_URL = re.compile(r"https://[A-Za-z0-9.\[\]:_~/%+-]+\Z")


@dataclass(frozen=True)
class Acme:
    """Where certificates come from (RFC 8555). ``own_ca``: a ca.pem lies in the directory, for a private directory."""

    directory_url: str
    email: str
    challenge: str = TLS_ALPN_01
    own_ca: bool = False


def policy_file(directory: str, host: str) -> str:
    return f"{directory}/sites/{host}{POLICY_PATH}"


def check(hosts: Sequence[str], listen: Sequence[str], acme: Optional[Acme]) -> list[Finding]:
    """What cannot stand in a configuration. ``hosts`` as given, ``listen`` as addresses."""
    findings = []
    if not hosts:
        findings.append(
            Finding("policies", "there is none", "nothing would be served", "Take the host out of the group mta_sts")
        )
    for host in sorted(set(hosts)):
        problem = names.hostname_problem(host) or ("it is given twice" if hosts.count(host) > 1 else None)
        if problem:
            findings.append(Finding("policies", repr(host), problem, "Write each host name once, in its xn-- form"))
    for address in listen:
        try:
            names.address(address)
        except ValueError:
            findings.append(Finding("listen", repr(address), "it is no IP address", "Write an address of the host"))
    if acme and not _URL.match(acme.directory_url):
        why = "it is no https address"
        findings.append(Finding("acme.directory_url", repr(acme.directory_url), why, "Write the directory of your CA"))
    if acme and not _EMAIL.match(acme.email):
        why = "it is no mail address, and the CA writes to it before a certificate expires"
        findings.append(Finding("acme.email", repr(acme.email), why, "Write an address that is read"))
    return findings


def assign(
    hosts: Iterable[str], patterns: Sequence[str], has_acme: bool
) -> tuple[dict[str, Optional[str]], list[Finding]]:
    """The pattern that serves each host, None where ACME does. A name goes over ``*.domain``, that over ``*``."""
    serving: dict[str, Optional[str]] = {}
    findings = []
    for host in hosts:
        near = ("*." + host.partition(".")[2], "*")
        serving[host] = next((pattern for pattern in (host, *near) if pattern in patterns), None)
        if serving[host] is None and not has_acme:
            findings.append(
                Finding(host, "no certificate", "senders want a valid one (RFC 8461 3.3)", "Give one, or set acme")
            )
    for pattern in sorted(set(patterns)):
        if patterns.count(pattern) > 1:
            findings.append(Finding(f"certificates: {pattern}", "given twice", "one is served", "Leave one entry"))
        if pattern not in serving.values():
            why = "it would not be used"
            remedy = "Remove it, or correct its host"
            findings.append(Finding(f"certificates: {pattern}", "no policy is on such a host", why, remedy, WARNING))
    return serving, findings


def configuration(
    directory: str, files: Mapping[str, Optional[str]], listen: Sequence[str], acme: Optional[Acme]
) -> str:
    """The text of httpd.conf. ``files``: the name of each host's certificate in ``certificates/``, None for ACME."""
    acme = acme if None in files.values() else None
    ports = [443, 80] if acme and acme.challenge == HTTP_01 else [443]
    sockets = [f"{_bracketed(address)}:{port}" for port in ports for address in listen] or map(str, ports)
    modules = ["mpm_event", "authz_core", "vhost_alias", "ssl", *(["md"] if acme else [])]
    lines = [
        "# Managed by Ansible (mailops.mta.mta_sts_host)",
        *(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in modules),
        *(f"Listen {socket}" for socket in sockets),
        _COMMON.format(directory=directory, runtime=RUNTIME_DIRECTORY).strip(),
    ]
    if acme:
        lines += _managed(directory, acme)
    for host, file in sorted(files.items()):
        lines += _virtual_host(directory, host, file)
    if len(ports) > 1:
        lines.append(_PLAIN.format(directory=directory).strip())
    return "\n".join(lines) + "\n"


def _bracketed(address: str) -> str:
    return f"[{address}]" if names.is_ipv6(address) else address


def _managed(directory: str, acme: Acme) -> list[str]:
    lines = [
        f"MDStoreDir {STATE_DIRECTORY}",
        f"MDCertificateAuthority {acme.directory_url}",
        f"MDContactEmail {acme.email}",
        "MDCertificateAgreement accepted",
        f"MDCAChallenges {acme.challenge}",
        "MDPrivateKeys P-256",
        "MDServerStatus off",
        "MDCertificateStatus off",
        f"MDMessageCmd /bin/sh {directory}/event.sh",
    ]
    if acme.own_ca:
        lines.append(f"MDCACertificateFile {directory}/ca.pem")
    if acme.challenge == TLS_ALPN_01:
        lines.append("Protocols http/1.1 acme-tls/1")
    return lines


def _virtual_host(directory: str, host: str, file: Optional[str]) -> list[str]:
    given = f"{directory}/certificates/{file}"
    return [
        *([f"MDomain {host}"] if file is None else []),
        "<VirtualHost *:443>",
        f"    ServerName {host}",
        "    SSLEngine on",
        *([f"    SSLCertificateFile {given}.pem", f"    SSLCertificateKeyFile {given}.key"] if file else []),
        f"    VirtualDocumentRoot {directory}/sites/%0",
        "</VirtualHost>",
    ]


# The server starts as its own user: there is no root process, and none to change to.
# Ciphers: forward secrecy and AEAD only (RFC 9325 4.2); TLS 1.3 has no others.
_COMMON = """
ServerRoot {directory}
ServerName localhost
PidFile {runtime}/pid
DefaultRuntimeDir {runtime}
Mutex file:{runtime}
ErrorLog syslog:daemon
LogLevel warn ssl:error
ServerTokens Prod
TraceEnable off
UseCanonicalName Off
StartServers 1
ServerLimit 4
ThreadsPerChild 25
MinSpareThreads 5
MaxSpareThreads 50
MaxRequestWorkers 100
Timeout 20
SSLProtocol -all +TLSv1.2 +TLSv1.3
SSLCipherSuite ECDHE+AESGCM:ECDHE+CHACHA20
SSLSessionCache none
<Directory />
    Options None
    AllowOverride None
    Require all denied
</Directory>
<Directory {directory}/sites>
    Require all granted
    ForceType text/plain
    FileETag None
</Directory>
"""
# Plain HTTP: mod_md answers the challenges before this is asked; the directory is never made.
_PLAIN = """
<VirtualHost *:80>
    VirtualDocumentRoot {directory}/nothing/%0
    <Location />
        Require all granted
    </Location>
</VirtualHost>
"""
