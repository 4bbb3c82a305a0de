# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA as data: the slice of a host, and from it the text of every fragment of its configuration.

The slice is a plain mapping, because it travels through the inventory to the host::

    {host_name, postmaster, relay_networks: [CIDR], remove_headers: [name], sink_domain, max_message_bytes,
     streams: [{name, domains, return_path, port, listen: [ip], logins, queue_life_seconds, limits: {group: {...}},
                max_message_bytes, remove_received,
                addresses: [{name, label, ehlo, ips, share, warmup_from}], warmup_messages_per_day: [n]}],
     receivers: [{name, domains, mx, slow_down: [pattern]}],
     front: {port, listen: [ip], header, default, max_message_bytes} or null,
     forwards: [{stream, hosts: ["[ip]:port"], logins, domains, return_path, queue_life_seconds, max_message_bytes}],
     bounces: {listen: [ip], domains: [..]} or null}

An address is a virtual MTA, a stream a pool of them. PowerMTA keeps mail in one queue for each recipient domain and
virtual MTA, so a virtual MTA stays as long as mail waits for it: one that is to send nothing new stands in a second
pool that no source names, with the settings of the first. Directives are those of the table in powermta_table.

Every way in ends in the pattern-list of a stream. It lets From addresses of the stream pass; all other mail goes to the
virtual MTA `REFUSED`, which bounces it at once, because PowerMTA cannot refuse a message for its From field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import admission, receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.next_hop import next_hops
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import (
    Directive,
    Node,
    directive,
    quoted,
    remark,
    section,
    text,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Address, Fleet, Stream

BANNER = "Managed by Ansible (mailops.mta.powermta): change the fleet file instead."
HOST, RECEIVERS, FRONT, USERS = "10-host.conf", "20-receivers.conf", "40-front.conf", "45-users.conf"
BOUNCES, ACCOUNTING, DKIM, DRAINING = "50-bounces.conf", "60-accounting.conf", "70-dkim.conf", "80-draining.conf"
KEYS_END = ".keys"  # ends the name of a file with the keys of one domain, which each virtual MTA of its stream includes
APART = "-apart"  # ends the name of a stream's second pool
FORWARD = "forward-"  # begins the name of a virtual MTA that hands on to another host
# Sources of their own; no stream has a hyphen in its name.
_INBOUND, _NOBODY = "inbound-bounces", "takes-nothing"
REFUSED = "foreign-from"  # takes mail that no stream may send
_REFUSING = "127.0.0.2", 2599  # it answers 521 to every connection, so that what is sent there bounces
_SENDERS = "_senders"  # the macro of From domains that are no return path; names of receiver groups begin with a letter
FEEDBACK = "fbl"  # the mailbox of a return-path domain to which operators send complaints

LIVE, DRAINED, WAITING, COLD = "live", "drained", "waiting", "cold"

# Seconds. PowerMTA's own defaults, where the life of a queue leaves room for them.
_RETRY, _BACKOFF_RETRY, _BACKOFF_LASTS, _BACKOFF_DELAY = 600, 3600, 5400, 60

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


@dataclass(frozen=True)
class Options:
    """What a host's configuration takes from somewhere else than the fleet file."""

    today: date
    passwords: Mapping[str, str] = field(default_factory=dict)  # by login
    monitor_from: tuple[str, ...] = ()  # addresses or networks that may read the monitor
    monitor_port: int = 8080
    directory: str = "/etc/pmta/conf.d"  # of the set in place
    spool_directory: str = "/var/spool/pmta"
    log_directory: str = "/var/log/pmta"
    certificate: str = ""  # a PEM file with certificate and key, for logins
    accounting_days: int = 8
    accounting_max_bytes: int = 52428800


# ---- the slice of a host


def slice_of(fleet: Fleet, host: str) -> dict[str, Any]:
    """The variable ``mta_powermta`` of a host."""
    listen = ["127.0.0.1", *fleet.hosts[host].listen]
    streams = fleet.streams_on(host)
    front = fleet.front if fleet.front and host in fleet.front.hosts else None
    networks = [*(network for stream in streams for network in stream.inject_from)]
    networks += front.inject_from if front else []
    fronts = fleet.front.hosts if fleet.front else ()
    networks += [names.host_network(ip) for name in fronts for ip in fleet.hosts[name].listen]
    return {
        "host_name": f"{names.host_label(host)}.{fleet.domain}",
        "postmaster": f"postmaster@{fleet.domain}",
        "relay_networks": list(dict.fromkeys(("127.0.0.1/32", "::1/128", *networks))),
        "remove_headers": [fleet.front.header] if fleet.front else [],
        "sink_domain": fleet.verify.sink_domain if fleet.verify else None,
        "max_message_bytes": admission.largest_message_bytes(fleet) + admission.TRACE_BYTES,
        "streams": [_stream_slice(fleet, stream, host, listen) for stream in streams],
        "receivers": [
            {
                "name": group.name,
                "domains": list(group.domains),
                "mx": list(group.mx),
                "slow_down": [reply.pattern for reply in group.slow_down],
            }
            for group in fleet.receivers.values()
        ],
        "front": front
        and {
            "port": front.port,
            "listen": listen,
            "header": front.header,
            "default": front.default,
            "max_message_bytes": admission.largest_message_bytes(fleet),
        },
        "forwards": list(_forwards(fleet, host)) if front else [],
        "bounces": _bounces_slice(fleet, host),
    }


def _stream_slice(fleet: Fleet, stream: Stream, host: str, listen: Sequence[str]) -> dict[str, Any]:
    return {
        "name": stream.name,
        "domains": list(stream.domains),
        "return_path": stream.return_path.domain,
        "port": stream.port,
        "listen": list(listen),
        "logins": list(stream.inject_users),
        "queue_life_seconds": stream.queue_life_seconds,
        "max_message_bytes": stream.max_message_bytes + (admission.TRACE_BYTES if fleet.front else 0),
        "remove_received": stream.remove_received,
        "limits": {group: asdict(limits) for group, limits in stream.limits.items()},
        "addresses": [
            {
                "name": virtual_mta(address),
                "label": address.label,
                "ehlo": address.ehlo,
                "ips": list(address.ips),
                "share": address.share,
                "warmup_from": address.warmup_from,
            }
            for address in stream.addresses_on(host)
        ],
        "warmup_messages_per_day": list(stream.warmup_messages_per_day),
    }


def _forwards(fleet: Fleet, host: str) -> Iterable[dict[str, Any]]:
    """Streams of the front listener that send from other hosts: their next hop."""
    for stream in fleet.streams.values():
        hops = [f"[{hop.ip}]:{hop.port}" for hop in next_hops(fleet, host, stream) if hop.host != host]
        if hops:
            yield {
                "stream": stream.name,
                "hosts": hops,
                "logins": list(stream.inject_users),
                "domains": list(stream.domains),
                "return_path": stream.return_path.domain,
                "queue_life_seconds": stream.queue_life_seconds,
                "max_message_bytes": stream.max_message_bytes,
            }


def _bounces_slice(fleet: Fleet, host: str) -> Optional[dict[str, Any]]:
    listen = fleet.hosts[host].bounce_listen
    domains = dict.fromkeys(stream.return_path.domain for stream in fleet.streams.values())
    return {"listen": list(listen), "domains": list(domains)} if listen else None


def last_try_seconds(queue_life_seconds: int) -> int:
    """PowerMTA finds a message too old when it would try it again, in backoff at the latest after so long."""
    return queue_life_seconds + min(_BACKOFF_RETRY, queue_life_seconds // 10)


def virtual_mta(address: Address) -> str:
    """Its name in queues, accounting and reports; it says which address sent."""
    return f"{address.stream}-{address.label}"


def keys_file(domain: str) -> str:
    return f"dkim-{domain}{KEYS_END}"


def keys_files(host: Mapping[str, Any]) -> list[str]:
    """The files with keys that the virtual MTAs of a host include; PowerMTA does not start without one of them."""
    return [keys_file(domain) for stream in host["streams"] for domain in stream["domains"]]


# ---- the fragments


def files(host: Mapping[str, Any], options: Options) -> dict[str, str]:
    """The text of every fragment but those of keys and of what drains. Raises ValueError for a password that no
    configuration can hold."""
    moved = _moved(host)
    found: dict[str, Sequence[Node]] = {
        HOST: _host(host, options, moved),
        RECEIVERS: _receivers(host["receivers"] if host["streams"] else []),
        **{f"30-stream-{stream['name']}.conf": _stream(host, stream, options, moved) for stream in host["streams"]},
        USERS: _users(host, options.passwords),
        ACCOUNTING: _accounting(options),
    }
    if host["front"]:
        found[FRONT] = _front(host)
    if host["bounces"]:
        found[BOUNCES] = _bounces(host["bounces"], host["postmaster"])
    return {name: text([remark(BANNER), *nodes]) for name, nodes in found.items() if nodes}


def state(address: Mapping[str, Any], days: int, today: date) -> str:
    """What an address does today, with a warm-up of so many days: live, drained, waiting for its day, or cold."""
    if not address["share"]:
        return DRAINED
    if address["warmup_from"] is None:
        return LIVE
    age = (today - date.fromisoformat(address["warmup_from"])).days
    return WAITING if age < 0 else COLD if age < days else LIVE


def states(stream: Mapping[str, Any], today: date) -> dict[str, str]:
    """By virtual MTA, what it does today."""
    days = len(stream["warmup_messages_per_day"])
    return {address["name"]: state(address, days, today) for address in stream["addresses"]}


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
            *_source_hosts(first),
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
                _largest_message(host["max_message_bytes"]),
                directive("process-x-virtual-mta", "no"),
                directive("reject-invalid-virtual-mta", "yes"),
                directive("allow-starttls", _yes(bool(options.certificate))),
                directive("require-starttls-before-auth", "yes"),
                directive("allow-unencrypted-plain-auth", "no"),
                directive("add-date-header", "yes"),
                directive("add-message-id-header", "yes"),
                *(directive("remove-header", name) for name in host["remove_headers"]),
            ],
        ),
        *(section("source", network, _RELAYS) for network in host["relay_networks"]),
        *_ways_of_bounces(moved, bool(host["streams"])),
    ]
    if host["streams"] or host["front"]:
        nodes += _refusal(host["host_name"])
    if not (host["streams"] or host["front"] or host["bounces"]):
        # Without any listener, PowerMTA takes mail on port 25 of every address.
        nodes.append(section("source", _NOBODY, [directive("always-allow-relaying", "no")]))
        nodes += _listeners(["127.0.0.1"], 2525, _NOBODY)
    return nodes


_RELAYS = (directive("always-allow-relaying", "yes"), directive("suppress-local-dsn", "no"))


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
        *([directive("domain-macro", _SENDERS, ", ".join(moved))] if moved and pools else []),
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
        *_listeners([ip], port, REFUSED),
    ]


def _receivers(groups: Sequence[Mapping[str, Any]]) -> list[Node]:
    rollups = [directive("mx", mx, _rollup(group)) for group in groups for mx in group["mx"]]
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
                [directive("reply", _regex(pattern), "mode=backoff") for pattern in group["slow_down"]],
            )
            for group in groups
            if group["slow_down"]
        ),
        section(
            "bounce-category-patterns",
            "",
            [directive(_regex(pattern), category) for pattern, category in _BOUNCE_CATEGORIES],
        ),
    ]


def _stream(
    host: Mapping[str, Any], stream: Mapping[str, Any], options: Options, moved: Mapping[str, str]
) -> list[Node]:
    name, told = stream["name"], states(stream, options.today)
    live = [member for member, what in told.items() if what == LIVE]
    cold = [member for member, what in told.items() if what == COLD]
    apart = [member for member, what in told.items() if what != LIVE]
    target = _pool_of(stream)
    listen = stream["listen"] if live else stream["listen"][:1]
    nodes: list[Node] = [
        section("rewrite-list", name, [directive("mail-from", "*@*", f"*@{stream['return_path']}")]),
        *(
            section(
                "virtual-mta",
                address["name"],
                [
                    *_source_hosts(address),
                    directive("rewrite-list", name),
                    *(directive("include", f"{options.directory}/{keys_file(one)}") for one in _longest(stream)),
                ],
            )
            for address in stream["addresses"]
        ),
    ]
    for pool, members, colder in ((name, live, cold), (f"{name}{APART}", apart, [])):
        if members:
            nodes.append(
                section(
                    "virtual-mta-pool",
                    pool,
                    [
                        *(directive("virtual-mta", member) for member in members),
                        *(directive("cold-virtual-mta", member) for member in colder),
                        *_domains(host, stream, cold=bool(colder)),
                        *_as_dns_says(moved),
                    ],
                )
            )
    nodes += [
        section("pattern-list", name, [*_probes(stream, host["sink_domain"]), *_own_alone(stream, target)]),
        section("source", name, _policy(stream, target, name)),
    ]
    if stream["logins"] and name not in {forward["stream"] for forward in host["forwards"]}:
        nodes += _login(host, stream, name, target)
    nodes += _listeners(listen, stream["port"], name)
    return nodes


def _longest(stream: Mapping[str, Any]) -> list[str]:
    """Its domains in the order in which PowerMTA must look: a key signs for the domains below its own too."""
    return sorted(stream["domains"], key=lambda domain: (-len(domain), domain))


def _policy(stream: Mapping[str, Any], target: str, rules: str) -> list[Node]:
    return [
        directive("default-virtual-mta", target),
        directive("process-x-virtual-mta", "no"),
        directive("pattern-list", rules),
        _largest_message(stream["max_message_bytes"]),
        directive("hide-message-source", _yes(stream.get("remove_received", False))),
    ]


def _own_alone(stream: Mapping[str, Any], target: str) -> list[Node]:
    """The rules that let From addresses of a stream pass, and nothing else."""
    return [
        directive("header", "From", _regex(_from(stream["domains"])), f"virtual-mta={target}"),
        directive("mail-from", _EVERYTHING, f"virtual-mta={REFUSED}"),
    ]


_EVERYTHING = "/^/"  # of a rule: the empty sender as well


def _from(domains: Iterable[str]) -> str:
    """One mailbox at these domains, as a From field has it: with a name or without, folded, with a comment behind it.

    Quotes and angle brackets are written by their codes: what else a rule may hold is described nowhere.
    """
    own = "|".join(_escaped(spelling) for domain in domains for spelling in names.spellings(domain))
    named = rf"(?:\x22(?:[^\x22\\]|\\.)*\x22|[^\x22\x3c\x3e@])*\x3c\s*[^\x3c\x3e@]+@(?:{own})\s*\x3e"
    return rf"^\s*(?:{named}|[^\s\x22\x3c\x3e@,;:]+@(?:{own}))\s*(?:\([^()]*\)\s*)?$"


def _largest_message(size: int) -> Directive:
    return directive("max-message-size", f"{size}b")


def _pool_of(stream: Mapping[str, Any]) -> str:
    """Where its mail goes. One that is drained as a whole still sends what comes, from its own addresses."""
    return stream["name"] if any(one["share"] for one in stream["addresses"]) else f"{stream['name']}{APART}"


def _source_hosts(address: Mapping[str, Any]) -> list[Node]:
    return [directive("smtp-source-host", ip, address["ehlo"]) for ip in address["ips"]]


def _probes(stream: Mapping[str, Any], sink_domain: Optional[str]) -> list[Node]:
    """Proof mail names in its recipient the address that must send it."""
    if not sink_domain:
        return []
    return [
        directive(
            "rcpt-to",
            _regex(f"^verify-{address['label']}@{_escaped(sink_domain)}$"),
            f"virtual-mta={address['name']}",
        )
        for address in stream["addresses"]
    ]


def _domains(host: Mapping[str, Any], stream: Mapping[str, Any], *, cold: bool) -> list[Node]:
    """The settings of a stream for each receiver group; a more special section adds to the one for all domains."""
    life, groups = stream["queue_life_seconds"], host["receivers"]
    gone = ",".join([*host["remove_headers"], "Received"])
    default = next(group for group in groups if group["name"] == receivers.DEFAULT)
    general = [
        directive("dkim-sign", "yes"),
        *_life(life),
        directive("backoff-retry-after", _interval(min(_BACKOFF_RETRY, life // 10))),
        directive("backoff-max-smtp-out", "1"),
        directive("backoff-to-normal-after", _interval(min(_BACKOFF_LASTS, life // 2))),
        *([directive("max-cold-virtual-mta-msg", _schedule(stream))] if cold else []),
        # As it leaves, so that PowerMTA's own field goes as well, whichever listener took the message.
        *([directive("remove-header", gone)] if stream["remove_received"] else []),
    ]
    found: list[Node] = [section("domain", "*", [*general, *_limits(stream, default)])]
    for group in groups:
        patterns = [*([f"${group['name']}"] if group["domains"] else []), *([_rollup(group)] if group["mx"] else [])]
        found += [section("domain", pattern, _limits(stream, group)) for pattern in patterns]
    return found


def _life(seconds: int) -> list[Node]:
    return [
        directive("bounce-after", _interval(seconds)),
        directive("retry-after", _interval(min(_RETRY, seconds // 10))),
    ]


def _as_dns_says(moved: Mapping[str, str]) -> list[Node]:
    """Bounces alone go to the return path; what a stream sends to these domains goes where their own MX says."""
    return [section("domain", f"${_SENDERS}", [directive("smtp-hosts", '""')])] if moved else []


def _limits(stream: Mapping[str, Any], group: Mapping[str, Any]) -> list[Node]:
    limits = stream["limits"][group["name"]]
    return [
        directive("max-smtp-out", str(limits["concurrency"])),
        directive("max-msg-per-connection", str(limits["messages_per_connection"])),
        directive("max-msg-rate", _rate(limits["rate_delay_seconds"])),
        directive("backoff-max-msg-rate", _rate(max(_BACKOFF_DELAY, limits["rate_delay_seconds"]))),
        directive("use-starttls", "yes"),
        directive("require-starttls", _yes(limits["tls"] == "encrypt")),
        *([directive("smtp-pattern-list", group["name"])] if group["slow_down"] else []),
    ]


def _schedule(stream: Mapping[str, Any]) -> str:
    return ",".join(f"{count}/d" for count in stream["warmup_messages_per_day"])


def _front(host: Mapping[str, Any]) -> list[Node]:
    front = host["front"]
    targets = {stream["name"]: _pool_of(stream) for stream in host["streams"]}
    lists = {name: name for name in targets}
    nodes: list[Node] = []
    for forward in host["forwards"]:
        stream, name = forward["stream"], f"{FORWARD}{forward['stream']}"
        targets[stream] = lists[stream] = name
        own = {names.is_ipv6(ip): ip for ip in reversed(front["listen"][1:])}  # the first one of each family
        hops = ",".join(forward["hosts"])
        settings = [
            directive("smtp-hosts", hops),
            directive("dkim-sign", "no"),
            directive("use-starttls", "yes"),
            *_life(forward["queue_life_seconds"]),
        ]
        nodes += [
            section(
                "virtual-mta",
                name,
                [
                    *(directive("smtp-source-host", ip, host["host_name"]) for ip in own.values()),
                    section("domain", "*", settings),
                ],
            ),
            section("pattern-list", name, _own_alone(forward, name)),
        ]
        if forward["logins"]:
            nodes += _login(host, {**forward, "name": stream}, name, name)
    rules = [
        *(
            directive("header", front["header"], _regex(rf"^\s*{name}\s*$"), "call-to:", its_rules)
            for name, its_rules in lists.items()
        ),
        directive("header", front["header"], _EVERYTHING, f"virtual-mta={REFUSED}"),
        directive("mail-from", _EVERYTHING, "call-to:", lists[front["default"]]),
    ]
    return [
        *nodes,
        section("pattern-list", "front", rules),
        section("source", "front", _policy(front, targets[front["default"]], "front")),
        *_listeners(front["listen"], front["port"], "front"),
    ]


def _users(host: Mapping[str, Any], passwords: Mapping[str, str]) -> list[Node]:
    sources = {
        **{login: _login_source(stream["name"]) for stream in host["streams"] for login in stream["logins"]},
        **{
            login: _login_source(f"{FORWARD}{forward['stream']}")
            for forward in host["forwards"]
            for login in forward["logins"]
        },
    }
    return [
        section(
            "smtp-user",
            login,
            [directive("password", quoted(passwords[login])), directive("source", source)],
        )
        for login, source in sources.items()
    ]


def logins(host: Mapping[str, Any]) -> list[str]:
    """The logins that a host must have a password for."""
    found = [login for stream in (*host["streams"], *host["forwards"]) for login in stream["logins"]]
    return list(dict.fromkeys(found))


def _login_source(name: str) -> str:
    return f"{name}-login"


def _login(host: Mapping[str, Any], stream: Mapping[str, Any], name: str, target: str) -> list[Node]:
    """The source of a stream's logins. It says all that a listener's source may say, so that the login decides: a
    header that names another stream is refused."""
    source, other = _login_source(name), rf"^(?!\s*{stream['name']}\s*$)"
    return [
        section(
            "pattern-list",
            source,
            [
                *(
                    directive("header", header, _regex(other), f"virtual-mta={REFUSED}")
                    for header in host["remove_headers"]
                ),
                directive("mail-from", _EVERYTHING, "call-to:", name),
            ],
        ),
        section("source", source, [*_RELAYS, directive("require-auth", "yes"), *_policy(stream, target, source)]),
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
                    [directive("address", _regex(f"^(?!{FEEDBACK}@).*@{_escaped(domain)}$")) for domain in domains],
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
        *_listeners(bounces["listen"], 25, _INBOUND),
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


def _listeners(listen: Iterable[str], port: int, source: str) -> list[Node]:
    return [directive("smtp-listener", names.place(ip, port), f"source={source}") for ip in listen]


# ---- values


def _rollup(group: Mapping[str, Any]) -> str:
    return f"{group['name']}.rollup"


def _regex(pattern: str) -> str:
    """Between slashes; '#' would begin a comment even here."""
    return "/" + re.sub(r"(?<!\\)/", r"\\/", pattern).replace("\\#", "#").replace("#", r"\x23") + "/"


def _escaped(domain: str) -> str:
    return domain.replace(".", r"\.")


def _interval(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _rate(delay_seconds: int) -> str:
    """One message each so many seconds, in the units that every version reads; rounded to the slower side."""
    if not delay_seconds:
        return "unlimited"
    for unit, length in (("s", 1), ("m", 60)):
        if delay_seconds <= length and length % delay_seconds == 0:
            return f"{length // delay_seconds}/{unit}"
    return f"{max(1, 3600 // delay_seconds)}/h"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
