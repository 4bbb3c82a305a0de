# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fragments of a PowerMTA configuration through which mail comes in: streams, the front listener and logins.

Every way in ends in the pattern-list of a stream. It lets From addresses of the stream pass; all other mail goes to the
virtual MTA `REFUSED`, which bounces it at once, because PowerMTA cannot refuse a message for its From field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import spelling
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.slices import (
    COLD,
    LIVE,
    Options,
    keys_file,
    states,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import Directive, Node
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.writing import (
    directive,
    quoted,
    section,
)

APART = "-apart"  # ends the name of a stream's second pool
FORWARD = "forward-"  # begins the name of a virtual MTA that hands on to another host
REFUSED = "foreign-from"  # takes mail that no stream may send
SENDERS = "_senders"  # the macro of From domains that are no return path; names of receiver groups begin with a letter

# Seconds. PowerMTA's own defaults, where the life of a queue leaves room for them.
_RETRY, _BACKOFF_RETRY, _BACKOFF_LASTS, _BACKOFF_DELAY = 600, 3600, 5400, 60


RELAYS = (directive("always-allow-relaying", "yes"), directive("suppress-local-dsn", "no"))


def stream(
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
                    *source_hosts(address),
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
    nodes += listeners(listen, stream["port"], name)
    return nodes


def _longest(stream: Mapping[str, Any]) -> list[str]:
    """Its domains in the order in which PowerMTA must look: a key signs for the domains below its own too."""
    return sorted(stream["domains"], key=lambda domain: (-len(domain), domain))


def _policy(stream: Mapping[str, Any], target: str, rules: str) -> list[Node]:
    return [
        directive("default-virtual-mta", target),
        directive("process-x-virtual-mta", "no"),
        directive("pattern-list", rules),
        largest_message(stream["max_message_bytes"]),
        directive("hide-message-source", spelling.yes(stream.get("remove_received", False))),
    ]


def _own_alone(stream: Mapping[str, Any], target: str) -> list[Node]:
    """The rules that let From addresses of a stream pass, and nothing else."""
    return [
        directive("header", "From", spelling.regex(_from(stream["domains"])), f"virtual-mta={target}"),
        directive("mail-from", _EVERYTHING, f"virtual-mta={REFUSED}"),
    ]


_EVERYTHING = "/^/"  # of a rule: the empty sender as well


def _from(domains: Iterable[str]) -> str:
    """One mailbox at these domains, as a From field has it: with a name or without, folded, with a comment behind it.

    Quotes and angle brackets are written by their codes: what else a rule may hold is described nowhere.
    """
    own = "|".join(spelling.escaped(spelt) for domain in domains for spelt in names.spellings(domain))
    named = rf"(?:\x22(?:[^\x22\\]|\\.)*\x22|[^\x22\x3c\x3e@])*\x3c\s*[^\x3c\x3e@]+@(?:{own})\s*\x3e"
    return rf"^\s*(?:{named}|[^\s\x22\x3c\x3e@,;:]+@(?:{own}))\s*(?:\([^()]*\)\s*)?$"


def largest_message(size: int) -> Directive:
    return directive("max-message-size", f"{size}b")


def _pool_of(stream: Mapping[str, Any]) -> str:
    """Where its mail goes. One that is drained as a whole still sends what comes, from its own addresses."""
    return stream["name"] if any(one["share"] for one in stream["addresses"]) else f"{stream['name']}{APART}"


def source_hosts(address: Mapping[str, Any]) -> list[Node]:
    return [directive("smtp-source-host", ip, address["ehlo"]) for ip in address["ips"]]


def _probes(stream: Mapping[str, Any], sink_domain: Optional[str]) -> list[Node]:
    """Proof mail names in its recipient the address that must send it."""
    if not sink_domain:
        return []
    return [
        directive(
            "rcpt-to",
            spelling.regex(f"^verify-{address['label']}@{spelling.escaped(sink_domain)}$"),
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
        directive("backoff-retry-after", spelling.interval(min(_BACKOFF_RETRY, life // 10))),
        directive("backoff-max-smtp-out", "1"),
        directive("backoff-to-normal-after", spelling.interval(min(_BACKOFF_LASTS, life // 2))),
        *([directive("max-cold-virtual-mta-msg", _schedule(stream))] if cold else []),
        # As it leaves, so that PowerMTA's own field goes as well, whichever listener took the message.
        *([directive("remove-header", gone)] if stream["remove_received"] else []),
    ]
    found: list[Node] = [section("domain", "*", [*general, *_limits(stream, default)])]
    for group in groups:
        patterns = [
            *([f"${group['name']}"] if group["domains"] else []),
            *([spelling.rollup(group)] if group["mx"] else []),
        ]
        found += [section("domain", pattern, _limits(stream, group)) for pattern in patterns]
    return found


def _life(seconds: int) -> list[Node]:
    return [
        directive("bounce-after", spelling.interval(seconds)),
        directive("retry-after", spelling.interval(min(_RETRY, seconds // 10))),
    ]


def _as_dns_says(moved: Mapping[str, str]) -> list[Node]:
    """Bounces alone go to the return path; what a stream sends to these domains goes where their own MX says."""
    return [section("domain", f"${SENDERS}", [directive("smtp-hosts", '""')])] if moved else []


def _limits(stream: Mapping[str, Any], group: Mapping[str, Any]) -> list[Node]:
    limits = stream["limits"][group["name"]]
    return [
        directive("max-smtp-out", str(limits["concurrency"])),
        directive("max-msg-per-connection", str(limits["messages_per_connection"])),
        directive("max-msg-rate", spelling.rate(limits["rate_delay_seconds"])),
        directive("backoff-max-msg-rate", spelling.rate(max(_BACKOFF_DELAY, limits["rate_delay_seconds"]))),
        directive("use-starttls", "yes"),
        directive("require-starttls", spelling.yes(limits["tls"] == "encrypt")),
        *([directive("smtp-pattern-list", group["name"])] if group["slow_down"] else []),
    ]


def _schedule(stream: Mapping[str, Any]) -> str:
    return ",".join(f"{count}/d" for count in stream["warmup_messages_per_day"])


def front(host: Mapping[str, Any]) -> list[Node]:
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
            directive("header", front["header"], spelling.regex(rf"^\s*{name}\s*$"), "call-to:", its_rules)
            for name, its_rules in lists.items()
        ),
        directive("header", front["header"], _EVERYTHING, f"virtual-mta={REFUSED}"),
        directive("mail-from", _EVERYTHING, "call-to:", lists[front["default"]]),
    ]
    return [
        *nodes,
        section("pattern-list", "front", rules),
        section("source", "front", _policy(front, targets[front["default"]], "front")),
        *listeners(front["listen"], front["port"], "front"),
    ]


def users(host: Mapping[str, Any], passwords: Mapping[str, str]) -> list[Node]:
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
                    directive("header", header, spelling.regex(other), f"virtual-mta={REFUSED}")
                    for header in host["remove_headers"]
                ),
                directive("mail-from", _EVERYTHING, "call-to:", name),
            ],
        ),
        section("source", source, [*RELAYS, directive("require-auth", "yes"), *_policy(stream, target, source)]),
    ]


def listeners(listen: Iterable[str], port: int, source: str) -> list[Node]:
    return [directive("smtp-listener", names.place(ip, port), f"source={source}") for ip in listen]


def last_try_seconds(queue_life_seconds: int) -> int:
    """PowerMTA finds a message too old when it would try it again, in backoff at the latest after so long."""
    return queue_life_seconds + min(_BACKOFF_RETRY, queue_life_seconds // 10)
