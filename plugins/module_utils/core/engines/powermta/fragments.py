# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of every fragment of a PowerMTA configuration, from the slice of a host (see slices.py).

An address is a virtual MTA, a stream a pool of them. PowerMTA keeps mail in one queue for each recipient domain and
virtual MTA, so a virtual MTA stays as long as mail waits for it: one that is to send nothing new stands in a second
pool that no source names, with the settings of the first. Directives are those of the table in table.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import spelling, ways_in
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.slices import (
    LIVE,
    Options,
    states,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import Node
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.ways_in import REFUSED
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.writing import (
    directive,
    quoted,
    remark,
    section,
    text,
)

BANNER = "Managed by Ansible (mailops.mta.powermta): change the fleet file instead."
HOST, RECEIVERS, FRONT, USERS = "10-host.conf", "20-receivers.conf", "40-front.conf", "45-users.conf"
BOUNCES, ACCOUNTING, DKIM, DRAINING = "50-bounces.conf", "60-accounting.conf", "70-dkim.conf", "80-draining.conf"
# Sources of their own; no stream has a hyphen in its name.
_INBOUND, _NOBODY = "inbound-bounces", "takes-nothing"
_REFUSING = "127.0.0.2", 2599  # it answers 521 to every connection, so that what is sent there bounces
FEEDBACK = "fbl"  # the mailbox of a return-path domain to which operators send complaints

# What the collectors of this collection read, by type of record; each column is found by its name.
_DELIVERY = (
    "timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,dlvType,"
    "dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool"
)
_RECORDS = {
    "d": _DELIVERY,
    "b": _DELIVERY,
    "t": _DELIVERY,
    "tq": "timeLogged,dsnStatus,dsnDiag,dsnMta,dlvType,dlvSourceIp,dlvDestinationIp,vmta,queue",
    "r": "timeLogged,orig,rcpt,orcpt,srcType,srcMta,rcvSourceIp,rcvDestinationIp,vmta,jobId,envId",
    "rb": "timeLogged,orig,rcpt,orcpt,dsnStatus,dsnDiag,dsnMta,dsnReportingMta,bounceCat,srcType,srcMta,envId,format",
    "rs": "timeLogged,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,envId,format",
    "f": "timeLogged,repSourceIp,feedbackType,format,userAgent,envid,orig,rcpt,reportingMTA,dlvSourceIp,reportedDomain",
}

# What an answer says about the recipient or about us (RFC 3463, and the words of large operators); the first fits.
_BOUNCE_CATEGORIES = (
    (r"5\.1\.[016]|user unknown|unknown (?:user|recipient)|no such (?:user|mailbox|recipient)", "bad-mailbox"),
    (r"5\.1\.2|host (?:or domain )?(?:name )?not found|bad destination", "bad-domain"),
    (r"5\.2\.1|(?:mailbox|account) (?:is )?(?:disabled|inactive|suspended)", "inactive-mailbox"),
    (r"[45]\.2\.2|over.?quota|mailbox (?:is )?full|quota exceeded", "quota-issues"),
    (r"5\.7\.(?:1|26|509|515)\b.*(?:spf|dkim|dmarc|authenticat)|unauthenticated", "policy-related"),
    (r"block.?list|blacklist|dnsbl|spamhaus|\bspam\b|unsolicited", "spam-related"),
    (r"virus|malware|infected", "virus-related"),
    (r"relay(?:ing)? (?:access )?denied|not permitted to relay", "relaying-issues"),
    (r"5\.1\.[78]|sender (?:address )?(?:rejected|denied|unknown)", "invalid-sender"),
    (r"content|attachment|5\.6\.\d", "content-related"),
    (r"5\.4\.[46]|routing|loop", "routing-errors"),
    (r"4\.4\.7|expired", "message-expired"),
    (r"5\.5\.\d|syntax|protocol", "protocol-errors"),
    (r"policy|5\.7\.\d", "policy-related"),
    (r".", "other"),
)


# ---- the fragments


def files(host: Mapping[str, Any], options: Options) -> dict[str, str]:
    """The text of every fragment but those of keys and of what drains. Raises ValueError for a password that no
    configuration can hold."""
    moved = _moved(host)
    found: dict[str, Sequence[Node]] = {
        HOST: _host(host, options, moved),
        RECEIVERS: _receivers(host["receivers"] if host["streams"] else []),
        **{
            f"30-stream-{stream['name']}.conf": ways_in.stream(host, stream, options, moved)
            for stream in host["streams"]
        },
        USERS: ways_in.users(host, options.passwords),
        ACCOUNTING: _accounting(options),
    }
    if host["front"]:
        found[FRONT] = ways_in.front(host)
    if host["bounces"]:
        found[BOUNCES] = _bounces(host["bounces"], host["postmaster"])
    return {name: text([remark(BANNER), *nodes]) for name, nodes in found.items() if nodes}


def _host(host: Mapping[str, Any], options: Options, moved: Mapping[str, str]) -> list[Node]:
    told = {name: what for stream in host["streams"] for name, what in states(stream, options.today).items()}
    addresses = [address for stream in host["streams"] for address in stream["addresses"]]
    first = min(addresses, key=lambda address: told[address["name"]] != LIVE, default=None)  # a live one, if there is
    log = options.log_directory
    sends_as = first["ehlo"] if first else host["host_name"]
    nodes: list[Node] = [
        directive("run-as-root", "no"),
        directive("host-name", host["host_name"]),
        directive("postmaster", host["postmaster"]),
        # Bounces have no sender, so receivers check SPF for the EHLO name (RFC 7208 2.4), and DMARC passes by that.
        directive("custom-dsn-from-header", quoted(f"Mail Delivery System <MAILER-DAEMON@{sends_as}>")),
        directive("log-file", f"{log}/log"),
        directive("http-mgmt-port", str(options.monitor_port)),
        directive("http-redirect-to-https", "no"),
        directive("http-access", "127.0.0.1", "monitor"),
        *(directive("http-access", network, "monitor,deny-logs") for network in options.monitor_from),
    ]
    if first:
        nodes += [
            remark("Bounces that PowerMTA itself writes leave from here; all other mail has an address of its stream."),
            *ways_in.source_hosts(first),
        ]
    if options.certificate:
        nodes.append(directive("smtp-server-tls-certificate", options.certificate))
    nodes += [
        section("spool", options.spool_directory, [directive("deliver-only", "no")]),
        section(
            "source",
            "0/0",
            [
                directive("always-allow-relaying", "no"),
                # Nothing that a stranger says reaches others in a report, and no name of his becomes one of ours.
                directive("suppress-local-dsn", "yes"),
                directive("auto-qualify-domain", "no"),
                directive("accept-invalid-recipients", "no"),
                ways_in.largest_message(host["max_message_bytes"]),
                directive("process-x-virtual-mta", "no"),
                directive("reject-invalid-virtual-mta", "yes"),
                directive("allow-starttls", spelling.yes(bool(options.certificate))),
                directive("require-starttls-before-auth", "yes"),
                directive("allow-unencrypted-plain-auth", "no"),
                directive("add-date-header", "yes"),
                directive("add-message-id-header", "yes"),
                *(directive("remove-header", name) for name in host["remove_headers"]),
            ],
        ),
        *(section("source", network, ways_in.RELAYS) for network in host["relay_networks"]),
        *_ways_of_bounces(moved, bool(host["streams"])),
    ]
    if host["streams"] or host["front"]:
        nodes += _refusal(host["host_name"])
    if not (host["streams"] or host["front"] or host["bounces"]):
        # Without any listener, PowerMTA takes mail on port 25 of every address.
        nodes.append(section("source", _NOBODY, [directive("always-allow-relaying", "no")]))
        nodes += ways_in.listeners(["127.0.0.1"], 2525, _NOBODY)
    return nodes


def _moved(host: Mapping[str, Any]) -> dict[str, str]:
    """The From domains that are no return path, and the return path of each."""
    return {
        domain: one["return_path"]
        for one in (*host["streams"], *host["forwards"])
        for domain in one["domains"]
        if domain != one["return_path"]
    }


def _ways_of_bounces(moved: Mapping[str, str], pools: bool) -> list[Node]:
    """Only a return-path domain has an MX, and PowerMTA's own bounces go to the sender that the application gave."""
    return [
        *([directive("domain-macro", ways_in.SENDERS, ", ".join(moved))] if moved and pools else []),
        *(section("domain", domain, [directive("smtp-hosts", f"lookup-mx:{path}")]) for domain, path in moved.items()),
    ]


def _refusal(host_name: str) -> list[Node]:
    """A virtual MTA whose mail bounces at once: it sends to a listener that greets everybody with 521."""
    ip, port = _REFUSING
    return [
        section(
            "virtual-mta",
            REFUSED,
            [
                directive("smtp-source-host", "127.0.0.1", host_name),
                section(
                    "domain",
                    "*",
                    [
                        directive("smtp-hosts", f"[{ip}]:{port}"),
                        directive("bounce-upon-5xx-greeting", "yes"),
                        directive("retry-after", "1m"),
                        directive("bounce-after", "1h"),
                        directive("dkim-sign", "no"),
                        directive("use-starttls", "no"),
                    ],
                ),
            ],
        ),
        section("source", REFUSED, [directive("smtp-service", "no"), directive("always-allow-relaying", "no")]),
        *ways_in.listeners([ip], port, REFUSED),
    ]


def _receivers(groups: Sequence[Mapping[str, Any]]) -> list[Node]:
    rollups = [directive("mx", mx, spelling.rollup(group)) for group in groups for mx in group["mx"]]
    return [
        *(
            directive("domain-macro", group["name"], ", ".join(group["domains"]))
            for group in groups
            if group["domains"]
        ),
        *([section("mx-rollup-list", "", rollups)] if rollups else []),
        *(
            section(
                "smtp-pattern-list",
                group["name"],
                [directive("reply", spelling.regex(pattern), "mode=backoff") for pattern in group["slow_down"]],
            )
            for group in groups
            if group["slow_down"]
        ),
        section(
            "bounce-category-patterns",
            "",
            [directive(spelling.regex(pattern), category) for pattern, category in _BOUNCE_CATEGORIES],
        ),
    ]


def _bounces(bounces: Mapping[str, Any], postmaster: str) -> list[Node]:
    domains = bounces["domains"]
    return [
        *(directive("relay-domain", domain) for domain in domains),
        section(
            "bounce-processor",
            "",
            [
                directive("forward-unmatched-to", postmaster),
                section(
                    "address-list",
                    "",
                    [
                        directive("address", spelling.regex(f"^(?!{FEEDBACK}@).*@{spelling.escaped(domain)}$"))
                        for domain in domains
                    ],
                ),
            ],
        ),
        section(
            "feedback-loop-processor",
            "",
            [
                directive("forward-unmatched-to", postmaster),
                section("address-list", "", [directive("address", f"{FEEDBACK}@{domain}") for domain in domains]),
            ],
        ),
        section(
            "source",
            _INBOUND,
            [
                directive("always-allow-relaying", "no"),
                directive("suppress-local-dsn", "yes"),
                directive("process-x-virtual-mta", "no"),
            ],
        ),
        *ways_in.listeners(bounces["listen"], 25, _INBOUND),
    ]


def _accounting(options: Options) -> list[Node]:
    common = [
        directive("max-size", str(options.accounting_max_bytes)),
        directive("delete-after", f"{options.accounting_days}d"),
        directive("iso-times", "yes"),
        directive("world-readable", "no"),
    ]
    return [
        section(
            "acct-file",
            f"{options.log_directory}/{name}.csv",
            [
                directive("records", ",".join(records)),
                *(directive("record-fields", record, _RECORDS[record]) for record in records),
                *common,
            ],
        )
        for name, records in (("acct", ("d", "b", "t", "tq", "r")), ("inbound", ("rb", "rs", "f")))
    ]
