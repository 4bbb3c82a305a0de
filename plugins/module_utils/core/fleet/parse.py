# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet file: merge its fragments and parse it into the model. All findings, never the first only.

What one part says against another is checked in checks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.engines import receivers
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.table import DEFAULT, ENGINES, algorithms
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding, errors
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.checks import rules
from ansible_collections.mailops.mta.plugins.module_utils.core.model import (
    ED25519,
    NO_ENGINE,
    RSA,
    Address,
    Bimi,
    Caa,
    Dkim,
    Dmarc,
    Fleet,
    Front,
    Host,
    Limits,
    MtaSts,
    ReceiverGroup,
    Record,
    ReturnPath,
    Spf,
    Stream,
    Verify,
    Zone,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.reader import Reader, nearest, shown
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan

SECTIONS = ("hosts", "zones", "streams", "receivers")
SINGLE = (
    "plugin",
    "name",
    "domain",
    "bounce_host",
    "key_host",
    "front",
    "verify",
    "ttl_seconds",
    "queue_life_seconds",
    "dkim",
    "dmarc",
    "organisational_dmarc",
    "mta_sts",
    "tls_rpt",
    "bimi",
    "caa",
    "verifications",
    "records",
    "warmup",
    "max_message_bytes",
    "remove_received",
)
STREAM_KEYS = (
    "domain",
    "extra_domains",
    "port",
    "inject_from",
    "inject_users",
    "addresses",
    "separate_from",
    "dkim",
    "dmarc",
    "mta_sts",
    "tls_rpt",
    "spf",
    "return_path",
    "bimi",
    "caa",
    "verifications",
    "receivers",
    "ttl_seconds",
    "queue_life_seconds",
    "warmup",
    "max_message_bytes",
    "remove_received",
)
HOST_KEYS = ("engine", "listen", "families", "interface", "bounce_listen", "firewall")
LIMIT_KEYS = tuple(field.name for field in fields(Limits))
PROVIDERS = tuple(name for name in services.NAMES if name != services.MEMORY)
# Groups and hosts of this plugin, and what other inventory plugins take for a part of a group.
RESERVED_NAMES = ("front", "fleet", "control", "all", "ungrouped", "mta", "mta_sts", "hosts", "children", "vars")

_EMPTY = ("missing", "every share is 0")  # what findings say of a place without a value
_NO_DOMAIN = "invalid.invalid"  # stands in for a domain that is wrong
_STREAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}\Z")  # IFNAMSIZ of Linux, without what its tools split at
_CREDENTIALS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z")
_SELECTOR = re.compile(r"(?!-)[a-z0-9-]{1,40}(?<!-)\Z")  # a date and the algorithm may follow in the same label
_HEADER = re.compile(r"[A-Za-z0-9-]{2,60}\Z")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
_TLSA = re.compile(r"([0-3]) ([01]) ([012]) ([0-9a-fA-F]+)\Z")
_TLSA_DIGITS = {"1": 64, "2": 128}  # of SHA-256 and SHA-512 (RFC 6698 2.1.3)
_ISSUER = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]+(?: *; *[a-z0-9]+=[!#-:<-~]*)*\Z")

_STREAM_HINTS = {
    "warmup_from": "it stands beside the address that is new",
    "ip": "addresses stand in a list",
}
_DMARC_HINTS = {
    "pct": "RFC 9989 dropped pct; receivers ignore it",
    "rf": "RFC 9989 dropped rf",
    "ri": "RFC 9989 dropped ri",
}


def merge(documents: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Any], list[Finding]]:
    """One document from the fragments of a fleet, ``[(file name, content), ...]``.

    The mappings ``hosts``, ``zones``, ``streams`` and ``receivers`` are united; everything else stands in one file.
    """
    merged: dict[str, Any] = {}
    findings: list[Finding] = []
    origin: dict[tuple[str, str], str] = {}
    for source, document in documents:
        if not isinstance(document, Mapping):
            findings.append(Finding(source, shown(document), "a mapping is expected", "Write 'key: value' lines"))
            continue
        for key, value in document.items():
            inner = isinstance(value, Mapping) and key in SECTIONS
            target = merged.setdefault(key, {}) if inner else merged
            if not isinstance(target, dict):
                continue
            for name, item in value.items() if inner else [(key, value)]:
                place = (str(key), str(name) if inner else "")
                if place in origin and not (key == "plugin" and merged[key] == value):
                    findings.append(
                        Finding(
                            f"{key}.{name}" if inner else str(key),
                            f"it stands in {origin[place]} and in {source}",
                            "each thing is said in one place",
                            "Remove one of the two",
                        )
                    )
                    continue
                origin[place] = source
                target[name] = item
    return merged, findings


def parse(document: Mapping[str, Any]) -> tuple[Optional[Fleet], list[Finding]]:
    """The fleet that a (merged) document describes, or None, and every finding."""
    findings: list[Finding] = []
    root = Reader(document, "", findings)
    root.known((*SINGLE, *SECTIONS))
    root.require("domain", "the organisational domain")
    domain = root.domain("domain") or _NO_DOMAIN
    for section, what in (("hosts", "a mail server"), ("zones", "a DNS zone"), ("streams", "a stream of mail")):
        if not root.mapping(section).data:
            root.refuse(section, "nothing", f"a fleet has at least {what}", f"Write {section}")

    hosts = {name: _host(name, reader) for name, reader in root.entries("hosts")}
    unable = {host.name for host in hosts.values() if host.is_mta and ED25519 not in algorithms(host.engine)}
    served = _zones(root)
    groups = _receivers(root)
    organisational = _organisational_dmarc(root, domain)
    streams = {
        name: stream
        for name, stream in (
            (name, _stream(name, reader, root, domain, groups, organisational, unable))
            for name, reader in root.entries("streams")
        )
        if stream
    }
    ttl_seconds = root.integer("ttl_seconds", 30, 86400, 3600)
    fleet = Fleet(
        name=root.text("name", domain),
        domain=domain,
        hosts=hosts,
        zones=served,
        streams=streams,
        receivers=groups,
        key_host=_key_host(root, hosts),
        front=_front(root, hosts, streams),
        verify=_verify(root),
        organisational_dmarc=organisational,
        records=_records(root, served, ttl_seconds),
        ttl_seconds=ttl_seconds,
        bounce_host=root.domain("bounce_host"),
    )
    wrong = bool(errors(findings))
    for finding in rules.check(fleet):
        # Stand-ins took the place of what is wrong above, and warnings about them would be false.
        if not wrong or (finding.severity == ERROR and _NO_DOMAIN not in f"{finding.found} {finding.why}"):
            findings.append(finding)
    findings = _once(findings, document)
    return (None if errors(findings) else fleet), findings


def _once(findings: Sequence[Finding], document: Mapping[str, Any]) -> list[Finding]:
    """What the fleet sets for all streams is judged in each: one finding, at the place where the file says it."""
    streams: dict[Finding, list[str]] = {}
    firsts: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        steps = _steps(finding.where)
        fleets = steps[2:]
        if steps[:1] == ["streams"] and _stands(document, fleets) and not _stands(document, steps):
            general = replace(finding, where=finding.where.split(".", 2)[2])
            key = (general.where, general.found, general.severity)
            first = firsts.setdefault(key, general)
            streams.setdefault(first, []).append(steps[1])
        else:
            streams.setdefault(finding, [])
    # What is wrong beneath a place is no part of the value there: the place seems to be empty, and is not.
    wrong = {
        finding.where[: part.start()]
        for finding in streams
        if finding.found not in _EMPTY
        for part in re.finditer(r"[.\[]|\Z", finding.where)
    }
    streams = {
        finding: names
        for finding, names in streams.items()
        if finding.found not in _EMPTY or finding.where not in wrong
    }
    return [
        replace(finding, why=f"{finding.why} (stream{'s' if len(names) > 1 else ''} {', '.join(names)})")
        if names
        else finding
        for finding, names in ((finding, list(dict.fromkeys(names))) for finding, names in streams.items())
    ]


def _steps(where: str) -> list[str]:
    return re.sub(r"\[(\d+)\]", r".\1", where).split(".")


def _stands(document: Any, steps: Sequence[str]) -> bool:
    """Whether the file has a value at this place. A list counts as a whole, for streams replace it as a whole."""
    for step in steps:
        if isinstance(document, list):
            break
        if not isinstance(document, Mapping) or step not in document:
            return False
        document = document[step]
    return bool(steps)


# ---- parse: one function for each part of the file


def _host(name: str, reader: Reader) -> Host:
    if not _HOST_NAME.match(name) or name in RESERVED_NAMES:
        reader.refuse(None, shown(name), "it is no host name or has a meaning of its own", "Choose another name")
    engine = reader.choice("engine", (*ENGINES, NO_ENGINE), DEFAULT)
    listen = reader.ips("listen")
    if not reader.has("listen") and _is_address(reader.data.get("ansible_host")):
        listen = tuple(filter(None, (reader.ip("ansible_host"),)))
    elif not reader.has("listen") and engine != NO_ENGINE:
        reader.refuse(
            "listen",
            "missing",
            "nothing says on which address applications reach this host",
            "Write listen: [the address of its inner interface]",
        )
    for key in reader.data:
        if key not in HOST_KEYS and not str(key).startswith("ansible_"):
            reader.refuse(
                str(key),
                "unknown key",
                f"nothing reads it{nearest(str(key), HOST_KEYS)}",
                f"Use one of {', '.join(HOST_KEYS)}, or a connection variable that begins with ansible_",
            )
    return Host(
        name=name,
        engine=engine,
        listen=listen,
        families=reader.choices("families", ("ipv4", "ipv6"), ("ipv4", "ipv6")),
        interface=reader.word("interface", _INTERFACE, "name of a network interface"),
        bounce_listen=reader.ips("bounce_listen"),
        firewall=reader.boolean("firewall", True),
        variables={key: value for key, value in reader.data.items() if str(key).startswith("ansible_")},
    )


def _is_address(text: Any) -> bool:
    try:
        names.address(text)
    except ValueError:
        return False
    return True


def _zones(root: Reader) -> dict[str, Zone]:
    found: dict[str, Zone] = {}
    for written, reader in root.entries("zones"):
        try:
            name = names.to_ascii(written)
            problem = names.owner_problem(name)
        except ValueError as error:
            name, problem = written, str(error)
        if problem:
            reader.refuse(None, shown(written), f"it is no zone name: {problem}", "Write a legal domain name")
            continue
        if name in found:
            reader.refuse(None, shown(written), "the zone stands there twice", "Remove one")
        reader.known(("provider", "credentials", "options", "signed", "network"))
        reader.require("provider", "the DNS service")
        if reader.data.get("provider") == services.MEMORY:
            provider = services.MEMORY
            why = "it stands in for a DNS service in tests, and publishes nothing"
            reader.refuse("provider", shown(provider), why, f"Write one of {', '.join(PROVIDERS)}", severity=WARNING)
        else:
            provider = reader.choice("provider", PROVIDERS, services.EXTERNAL)
        if provider == services.EXTERNAL and reader.data.get("provider") == provider and reader.has("credentials"):
            reader.refuse("credentials", shown(reader.data["credentials"]), "nobody writes this zone", "Remove it")
        service = services.SERVICES.get(provider)
        if service and service.required and not reader.has("credentials"):
            why = f"{service.title} needs {', '.join(service.required)}"
            reader.refuse("credentials", "missing", why, "Name an entry of the variable mta_dns_credentials")
        if service:
            reader.mapping("options").known((*services.COMMON_OPTIONS, *service.options))
            _servers(reader.mapping("options"))
        found[name] = Zone(
            name=name,
            provider=provider,
            credentials=reader.word("credentials", _CREDENTIALS, "name of an entry of mta_dns_credentials"),
            options=dict(reader.mapping("options").data),
            signed=reader.boolean("signed", False),
            network=_zone_network(name, reader),
        )
    return found


def _servers(options: Reader) -> None:
    for number, server in enumerate(options.items("servers")):
        try:
            names.endpoint(str(server))
        except ValueError as error:
            place = f"servers[{number}]"
            options.refuse(place, shown(server), str(error), "Write 192.0.2.53, ns1.example.com or [2001:db8::53]:53")


def _zone_network(name: str, reader: Reader) -> Optional[str]:
    """The network of a classless reverse zone (RFC 2317), from its key or its name."""
    named = names.classless_network(name)
    if not reader.has("network"):
        if "/" in name and named is None:
            reader.refuse(
                None,
                shown(name),
                "the label with the slash is not the first address and the prefix length of a network in that /24",
                "Write the zone's name as your provider delegates it, such as 0/26.113.0.203.in-addr.arpa",
            )
        return named
    try:
        network = ipaddress.IPv4Network(reader.text("network", ""))
    except ValueError as error:
        reader.refuse(
            "network", shown(reader.data["network"]), f"it is no IPv4 network: {error}", "Write 203.0.113.0/26"
        )
        return named
    if network.prefixlen < 25:
        reader.refuse(
            "network", shown(str(network)), "a network of /24 or wider has reverse zones of its own", "Remove network"
        )
        return named
    text = str(network)
    if named not in (None, text) or not name.endswith(f".{names.reverse_parent(text)}"):
        expected = named or f"below {names.reverse_parent(text)}"
        reader.refuse("network", shown(text), f"the zone's name says {expected}", "Correct the name or the network")
    return text


def _limits(reader: Reader, default: Limits) -> Limits:
    return Limits(
        concurrency=reader.integer("concurrency", 1, 1000, default.concurrency),
        messages_per_connection=reader.integer("messages_per_connection", 1, 10000, default.messages_per_connection),
        rate_delay_seconds=reader.integer("rate_delay_seconds", 0, 3600, default.rate_delay_seconds),
        tls=reader.choice("tls", ("may", "encrypt"), default.tls),
    )


def _receivers(root: Reader) -> dict[str, ReceiverGroup]:
    groups = {group.name: group for group in receivers.DEFAULTS}
    fallback = groups.pop(receivers.DEFAULT)
    replaced = {name for name, reader in root.entries("receivers") if reader.has("domains")}
    owner = {domain: name for name, group in groups.items() if name not in replaced for domain in group.domains}
    for name, reader in root.entries("receivers"):
        reader.known((*LIMIT_KEYS, "domains"))
        if not _STREAM_NAME.match(name):
            reader.refuse(None, shown(name), "it is no name of a receiver group", "Write small letters and digits")
        known = fallback if name == receivers.DEFAULT else groups.get(name)
        domains = reader.domains("domains")
        if known is None:
            reader.require("domains", "the recipient domains of a new receiver group")
        if name == receivers.DEFAULT and domains:
            reader.refuse("domains", shown(domains), "the default group has every other domain", "Remove it")
        for domain in domains:
            if owner.setdefault(domain, name) != name:
                reader.refuse("domains", shown(domain), f"it belongs to {owner[domain]} already", "Remove it here")
        base = known or fallback
        group = replace(
            base,
            name=name,
            domains=domains or (known.domains if known else ()),
            # Whoever shares a host shares its queue, so a group that gave a domain away cannot be told by its hosts.
            mx=base.mx if not domains or set(base.domains) <= set(domains) else (),
            limits=_limits(reader, base.limits),
            source="the fleet file",
        )
        if name == receivers.DEFAULT:
            fallback = group
        else:
            groups[name] = group
    groups[receivers.DEFAULT] = fallback
    return groups


_DKIM_KEYS = (
    "algorithms",
    "rsa_bits",
    "selector",
    "delegate",
    "slots",
    "rotation",
    "first_key",
    "margin_seconds",
    "keep_retired_seconds",
)
_KEEP_BEYOND_QUEUE = 172800  # seconds: queues of others on the way hold the mail as well


def _dkim(root: Reader, stream: Reader, queue_life_seconds: int, algorithms: tuple[str, ...]) -> Dkim:
    """``algorithms`` are those that every engine of the stream signs with; a file that asks for others is told so."""
    value = Dkim(algorithms=algorithms, rsa_bits=2048, selector="s1", quarters=(1, 3))
    keep = queue_life_seconds + _KEEP_BEYOND_QUEUE
    for reader in (root.mapping("dkim"), stream.mapping("dkim")):
        reader.known(_DKIM_KEYS)
        selector = reader.text("selector", value.selector)
        if reader.has("selector") and not _SELECTOR.match(selector):
            reader.refuse(
                "selector",
                shown(selector),
                "no selector of 63 characters can begin with it, for a date and the algorithm follow",
                "Write 1 to 40 small letters, digits and inner hyphens",
            )
            selector = value.selector
        every_days, quarters = _rotation(reader.mapping("rotation"), value)
        # Two months at most, so that a key which quarters replace is gone before the next is due.
        keep = reader.integer("keep_retired_seconds", 60, 5184000, keep)
        rsa_bits = reader.integer("rsa_bits", 2048, 4096, value.rsa_bits)
        if rsa_bits % 1024:
            reader.refuse("rsa_bits", shown(rsa_bits), "it is no usual key size", "Write 2048, 3072 or 4096")
            rsa_bits = value.rsa_bits
        value = Dkim(
            algorithms=reader.choices("algorithms", (RSA, ED25519), value.algorithms),
            rsa_bits=rsa_bits,
            selector=selector,
            delegate=reader.domain("delegate", value.delegate),
            slots=_slots(reader) or value.slots,
            every_days=every_days,
            quarters=quarters,
            first_key=reader.choice("first_key", ("now", "wait"), value.first_key),
            margin_seconds=reader.integer("margin_seconds", 0, 604800, value.margin_seconds),
            keep_retired_seconds=keep,
        )
    return value


def _rotation(reader: Reader, value: Dkim) -> tuple[Optional[int], tuple[int, ...]]:
    """At which age, and at the beginning of which quarters, a key is replaced. ``every_days: 0`` is neither."""
    reader.known(("every_days", "quarters"))
    if reader.has("every_days") and reader.has("quarters"):
        reader.refuse(
            "quarters",
            shown(reader.data["quarters"]),
            "a key is replaced by its age or by the calendar, and every_days says its age",
            "Remove one of the two",
        )
    if reader.has("every_days"):
        return reader.integer("every_days", 0, 3650) or None, ()
    if reader.has("quarters"):
        return None, tuple(sorted(reader.integers("quarters", 1, 4)))
    return value.every_days, value.quarters


def _slots(reader: Reader) -> tuple[str, ...]:
    slots = reader.words("slots", _SELECTOR, "selector")
    if reader.has("slots") and len(slots) < 2:
        why = "a key and the one that replaces it are published at the same time"
        reader.refuse("slots", shown(reader.data["slots"]), why, "Write two or more, such as [a, b]")
    for number, slot in enumerate(slots):
        if slot.endswith(f"-{ED25519}"):
            place = f"slots[{number}]"
            reader.refuse(place, shown(slot), "the Ed25519 key of another slot would have this name", "Rename it")
    return slots


_POLICIES = ("none", "quarantine", "reject")
_DMARC_KEYS = (
    "policy",
    "subdomain_policy",
    "missing_policy",
    "testing",
    "rua",
    "alignment_dkim",
    "alignment_spf",
    "rua_authorised",
)


def _dmarc_tags(reader: Reader, value: Dmarc) -> Dmarc:
    return Dmarc(
        policy=reader.choice("policy", _POLICIES, value.policy),
        subdomain_policy=reader.choice("subdomain_policy", _POLICIES, value.subdomain_policy),
        rua=reader.mailboxes("rua") or value.rua,
        alignment_dkim=reader.choice("alignment_dkim", ("r", "s"), value.alignment_dkim),
        alignment_spf=reader.choice("alignment_spf", ("r", "s"), value.alignment_spf),
        rua_authorised=reader.domains("rua_authorised") or value.rua_authorised,
        missing_policy=reader.choice("missing_policy", _POLICIES, value.missing_policy),
        testing=reader.boolean("testing", value.testing),
        inherit=reader.boolean("inherit", value.inherit),
    )


def _default_dmarc(domain: str) -> Dmarc:
    return Dmarc("none", None, (f"dmarc@{domain}",), "r", "r", ())


def _dmarc(root: Reader, stream: Reader, domain: str, organisational: Optional[Dmarc]) -> Dmarc:
    value = _default_dmarc(domain)
    for reader in (root.mapping("dmarc"), stream.mapping("dmarc")):
        reader.known((*_DMARC_KEYS, "inherit"), _DMARC_HINTS)
        value = _dmarc_tags(reader, value)
        own = [key for key in _DMARC_KEYS if reader.has(key)] if value.inherit else []
        if own:
            reader.refuse(
                own[0],
                shown(reader.data[own[0]]),
                "the stream inherits its policy and publishes none of its own",
                f"Write it in organisational_dmarc, or inherit: false{'' if reader is root else ' here'}",
            )
    return replace(organisational or value, inherit=True) if value.inherit else value


def _organisational_dmarc(root: Reader, domain: str) -> Optional[Dmarc]:
    if "organisational_dmarc" not in root.data:
        return None
    reader = root.mapping("organisational_dmarc")
    reader.known(_DMARC_KEYS, _DMARC_HINTS)
    return _dmarc_tags(reader, _default_dmarc(domain))


def _mta_sts(root: Reader, stream: Reader) -> MtaSts:
    value = MtaSts(mode="none", max_age_seconds=604800)
    for reader in (root.mapping("mta_sts"), stream.mapping("mta_sts")):
        reader.known(("mode", "max_age_seconds", "host", "addresses", "cname"))
        value = replace(
            value,
            mode=reader.choice("mode", ("none", "testing", "enforce"), value.mode),
            max_age_seconds=reader.integer("max_age_seconds", 86400, 31557600, value.max_age_seconds),
        )
        served = reader.has("host") or reader.has("addresses")
        if served and reader.has("cname"):
            reader.refuse(
                "cname",
                shown(reader.data["cname"]),
                "the policy host is either an alias or has addresses",
                "Remove cname, or remove host and addresses",
            )
        elif reader.has("cname"):
            value = replace(value, host=None, addresses=(), cname=reader.domain("cname"))
        elif served:
            value = replace(
                value,
                host=reader.text("host", value.host),
                addresses=reader.ips("addresses") or value.addresses,
                cname=None,
            )
    return value


def _bimi(root: Reader, stream: Reader) -> Optional[Bimi]:
    reader = stream.mapping("bimi") if "bimi" in stream.data else root.mapping("bimi")
    if not reader.data:
        return None
    reader.known(("logo", "evidence"))
    reader.require("logo", "the URL of the logo")
    logo = reader.url("logo", ("https",))
    if logo and not logo.lower().endswith(".svg"):
        reader.refuse("logo", shown(logo), "mailbox operators show SVG files only", "Write the URL of the .svg file")
    return Bimi(logo, reader.url("evidence", ("https",)) or "") if logo else None


def _caa(root: Reader, stream: Reader) -> Optional[Caa]:
    if "caa" in stream.data and not stream.data["caa"]:  # the stream switches it off
        return None
    value = None
    for reader in (root.mapping("caa"), stream.mapping("caa")):
        reader.known(("issue", "issuewild", "iodef"))
        if not reader.data:
            continue
        value = value or Caa((), (), None)
        issue = reader.words("issue", _ISSUER, "name of a certificate authority")
        issuewild = reader.words("issuewild", _ISSUER, "name of a certificate authority")
        iodef = reader.url("iodef", ("mailto", "https"))
        value = Caa(
            issue=issue if "issue" in reader.data else value.issue,
            issuewild=issuewild if "issuewild" in reader.data else value.issuewild,
            iodef=iodef if "iodef" in reader.data else value.iodef,
        )
    return value


def _verifications(root: Reader, stream: Reader) -> tuple[str, ...]:
    def problem(text: str) -> Optional[str]:
        kind, what = plan.claim("", text)
        return f"it would stand beside the fleet's own {what} record" if kind == "version" else None

    return (stream if "verifications" in stream.data else root).texts("verifications", problem)


def _records(root: Reader, served: Mapping[str, Zone], ttl_seconds: int) -> tuple[Record, ...]:
    """Record sets that the file writes out, each judged as dns_records does."""
    found: list[Record] = []
    for number, item in enumerate(root.items("records")):
        place = f"records[{number}]"
        if not isinstance(item, Mapping):
            root.refuse(place, shown(item), "a mapping is expected", "Write {name: ..., type: ..., values: [...]}")
            continue
        entry = Reader(item, place, root.findings)
        entry.known(("name", "type", "ttl_seconds", "values", "reason"))
        for key, what in (("name", "the full name"), ("type", "its type"), ("values", "at least one value")):
            entry.require(key, what)
        entry.require("reason", "what it is for, and who uses it")
        record = Record(
            name=entry.text("name", ""),
            type=entry.text("type", "").upper(),
            ttl_seconds=entry.integer("ttl_seconds", 30, 86400, ttl_seconds),
            values=entry.texts("values", lambda _text: None),
            reason=entry.text("reason", ""),
        )
        if not (record.name and record.type and record.values):
            continue
        for value in record.values if record.type == "AAAA" else ():
            plain = names.mapped(ipaddress.ip_address(value)) if _is_address(value) else None
            if plain:
                why = "it is an IPv4 address in IPv6 form (RFC 4291 2.5.5.2)"
                entry.refuse("values", shown(value), why, f"Write {plain} in a record of type A")
        sets, findings = plan.assign(served, [{"name": record.name, "type": record.type, "values": record.values}])
        root.findings.extend(replace(finding, where=place) for finding in findings)
        found.extend(
            replace(record, name=one.name, values=one.values) for wanted in sets.values() for one in wanted.sets
        )
    return tuple(found)


def _spf(stream: Reader) -> Spf:
    reader = stream.mapping("spf")
    reader.known(("include", "all"))
    return Spf(
        include=reader.domains("include"),
        all=reader.choice("all", ("-all", "~all"), "-all"),
    )


def _return_path(root: Reader, stream: Reader, domain: str) -> ReturnPath:
    def tlsa_problem(text: str) -> Optional[str]:
        found = _TLSA.match(text)
        if not found:
            return "it is not usage, selector and matching type, and the data in hexadecimal"
        if found.group(1) in "01":
            return "mail servers ignore the usages 0 and 1 (RFC 7672 3.1.3)"
        digits = _TLSA_DIGITS.get(found.group(3), len(found.group(4)) + len(found.group(4)) % 2)
        if len(found.group(4)) != digits:
            return f"its data have {len(found.group(4))} hexadecimal digits, {digits} are needed"
        return None

    reader = stream.mapping("return_path")
    reader.known(("domain", "mx", "tlsa"))
    mx = reader.domains("mx")
    if not mx:
        bounce_host = root.domain("bounce_host")
        if bounce_host is None and not root.has("bounce_host"):
            reader.refuse(
                "mx",
                "missing",
                "bounces of this stream would have nowhere to go",
                "Write the fleet's bounce_host, or return_path.mx here",
            )
        mx = (bounce_host,) if bounce_host else ()
    return ReturnPath(
        domain=reader.domain("domain", domain) or domain,
        mx=mx,
        tlsa=tuple(text.lower() for text in reader.texts("tlsa", tlsa_problem)),
    )


def _addresses(stream: str, domain: str, reader: Reader) -> tuple[Address, ...]:
    addresses = []
    if not reader.require("addresses", "at least one source address"):
        return ()
    for number, item in enumerate(reader.items("addresses")):
        place = f"addresses[{number}]"
        if not isinstance(item, Mapping):
            reader.refuse(place, shown(item), "a mapping is expected", "Write {ip: ..., host: ...}")
            continue
        entry = Reader(item, reader.at(place), reader.findings)
        entry.known(("ip", "ip6", "host", "ehlo", "share", "warmup_from"))
        if not entry.has("ip") and not entry.has("ip6"):
            entry.require("ip", "an IP address")
        entry.require("host", "the host that has this address")
        first, second = entry.ip("ip"), entry.ip("ip6")
        if second and not names.is_ipv6(second):
            entry.refuse("ip6", shown(second), "it is no IPv6 address", "Write an IPv6 address, or leave ip6 out")
            second = None
        if first and names.is_ipv6(first):
            if second:
                entry.refuse("ip", shown(first), "both addresses are IPv6", "Write an entry for each")
            first, second = None, first
        if not first and not second:
            continue
        addresses.append(
            Address(
                stream=stream,
                host=entry.text("host", ""),
                ehlo=entry.domain("ehlo") or _ehlo_name(first or second or "", domain),
                ipv4=first,
                ipv6=second,
                share=entry.integer("share", 0, 100, 1),
                warmup_from=entry.day("warmup_from"),
            )
        )
    return tuple(addresses)


def _ehlo_name(ip: str, domain: str) -> str:
    """``mta10.tx.example.com`` for 203.0.113.10: it says nothing of its neighbours and stays when they change.

    Receivers distrust names that spell the whole address (generic PTR), so only the last part of it is used.
    """
    parsed = ipaddress.ip_address(ip)
    last = int(parsed) & (0xFF if parsed.version == 4 else 0xFFFF)
    return f"mta{last}.{domain}" if parsed.version == 4 else f"mta{last:x}-6.{domain}"


def _stream(
    name: str,
    reader: Reader,
    root: Reader,
    fleet_domain: str,
    groups: Mapping[str, ReceiverGroup],
    organisational: Optional[Dmarc],
    without_ed25519: set[str],
) -> Optional[Stream]:
    reader.known(STREAM_KEYS, _STREAM_HINTS)
    if not _STREAM_NAME.match(name) or name in RESERVED_NAMES:
        reader.refuse(
            None,
            shown(name),
            "it is no name of a stream",
            "Write small letters, digits and underscores, not a group's name",
        )
    reader.require("domain", "the domain that the stream sends from")
    reader.require("port", "the port on which applications hand in this stream's mail")
    domain = reader.domain("domain")
    if domain is None:
        return None
    if not reader.has("inject_from") and not reader.has("inject_users"):
        reader.refuse(
            "inject_from",
            "missing",
            "nobody could hand in mail",
            "Write inject_from (networks) or inject_users (logins)",
        )
    queue_life_seconds = reader.integer(
        "queue_life_seconds", 60, 2592000, root.integer("queue_life_seconds", 60, 2592000, 432000)
    )
    limits = {group.name: group.limits for group in groups.values()}
    overrides = reader.mapping("receivers")
    overrides.known(tuple(groups))
    for group, override in reader.entries("receivers"):
        if group in limits:
            override.known(LIMIT_KEYS)
            limits[group] = _limits(override, limits[group])
    addresses = _addresses(name, domain, reader)
    rsa_only = any(address.host in without_ed25519 for address in addresses)
    extra_domains = reader.domains("extra_domains")
    if domain in extra_domains:
        place = f"extra_domains[{extra_domains.index(domain)}]"
        reader.refuse(place, shown(domain), "it stands there twice, for it is the stream's domain", "Remove it here")
    return Stream(
        name=name,
        domain=domain,
        extra_domains=extra_domains,
        port=reader.integer("port", 1, 65535, 0),
        inject_from=reader.networks("inject_from"),
        inject_users=reader.words("inject_users", _LOGIN, "login"),
        addresses=addresses,
        dkim=_dkim(root, reader, queue_life_seconds, (RSA,) if rsa_only else (RSA, ED25519)),
        dmarc=_dmarc(root, reader, fleet_domain, organisational),
        mta_sts=_mta_sts(root, reader),
        tls_rpt=reader.mailboxes("tls_rpt") or root.mailboxes("tls_rpt") or (f"tls@{fleet_domain}",),
        spf=_spf(reader),
        return_path=_return_path(root, reader, domain),
        limits=limits,
        ttl_seconds=reader.integer("ttl_seconds", 30, 86400, root.integer("ttl_seconds", 30, 86400, 3600)),
        separate_from=_separate_from(name, reader, root),
        queue_life_seconds=queue_life_seconds,
        warmup_messages_per_day=_warmup(root, reader),
        bimi=_bimi(root, reader),
        verifications=_verifications(root, reader),
        caa=_caa(root, reader),
        max_message_bytes=_max_message_bytes(reader, _max_message_bytes(root, 10240000)),
        remove_received=reader.boolean("remove_received", root.boolean("remove_received", False)),
    )


def _max_message_bytes(reader: Reader, default: int) -> int:
    """At most what the signer reads (dkim_max_message_bytes of the role dkim) without trace fields."""
    return int(reader.integer("max_message_bytes", 65536, 104857600, default))


def _warmup(root: Reader, stream: Reader) -> tuple[int, ...]:
    value: tuple[int, ...] = receivers.WARMUP_MESSAGES_PER_DAY
    for reader in (root.mapping("warmup"), stream.mapping("warmup")):
        reader.known(("messages_per_day",))
        if reader.has("messages_per_day"):
            value = reader.integers("messages_per_day", 1, 100_000_000, distinct=False) or value
    return value


def _separate_from(name: str, reader: Reader, root: Reader) -> tuple[str, ...]:
    if not reader.has("separate_from"):
        return ()
    others = [other for other in root.mapping("streams").data if other != name]
    if reader.data.get("separate_from") == "all":
        return tuple(others)
    return reader.choices("separate_from", others, ())


def _key_host(root: Reader, hosts: Mapping[str, Host]) -> str:
    written: str = root.text("key_host", "")
    if not written and len(hosts) == 1:
        return next(iter(hosts))
    if not written:
        root.refuse(
            "key_host",
            "missing",
            "the DKIM keys live on one host, and a changed guess would lose them",
            f"Write the name of one of your hosts{nearest('mta1', hosts)}",
        )
    elif written not in hosts:
        root.refuse("key_host", shown(written), f"no such host{nearest(written, hosts)}", "Write one of hosts")
    return written


def _front(root: Reader, hosts: Mapping[str, Host], streams: Mapping[str, Stream]) -> Optional[Front]:
    if not root.has("front"):
        return None
    reader = root.mapping("front")
    reader.known(("port", "header", "default", "inject_from", "hosts"))
    reader.require("port", "the port of the front listener")
    reader.require("default", "a stream for messages that choose none")
    header = reader.text("header", "X-Binding")
    if not _HEADER.match(header):
        reader.refuse("header", shown(header), "it is no header name", "Write letters, digits and hyphens")
    senders = tuple(name for name, host in hosts.items() if host.is_mta)
    default = reader.text("default", "")
    if default and default not in root.mapping("streams").data:
        reader.refuse("default", shown(default), f"no such stream{nearest(default, streams)}", "Write one of streams")
    return Front(
        port=reader.integer("port", 1, 65535, 0),
        header=header,
        default=default,
        inject_from=reader.networks("inject_from"),
        hosts=reader.choices("hosts", senders, senders),
    )


def _verify(root: Reader) -> Optional[Verify]:
    if not root.has("verify"):
        return None
    reader = root.mapping("verify")
    reader.known(("sink_domain", "sink_host"))
    reader.require("sink_domain", "the mail domain of the sink")
    reader.require("sink_host", "the inventory host that runs the sink")
    return Verify(
        sink_domain=reader.domain("sink_domain") or "",
        sink_host=reader.word("sink_host", _HOST_NAME, "host name") or "",
    )
