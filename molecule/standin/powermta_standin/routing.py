# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): what a configuration means.

Checks what one line alone does not show (names that exist, orders that matter), merges settings by specificity, and
chooses the virtual MTA of a message. Without I/O, but for the read of DKIM keys by its callers.
"""

from __future__ import annotations

import contextlib
import fnmatch
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from . import reader
from .reader import ConfigError, Node

DEFAULT = "{default}"
Settings = Mapping[str, list[str]]
FORBIDDEN_TO_SIGN = {"bcc", "received", "return-path", "dkim-signature", "comments", "keywords"}


class Refused(Exception):
    """A message that is not taken; the text is an SMTP reply."""


@dataclass(frozen=True)
class Key:
    selector: str
    domain: str
    file: str


@dataclass
class Group:
    """A virtual MTA or a pool."""

    name: str
    place: tuple[str, int]
    hosts: list[tuple[str, str]] = field(default_factory=list)  # address, EHLO name
    members: list[str] = field(default_factory=list)
    cold: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    domains: list[Node] = field(default_factory=list)
    settings: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Access:
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    right: str


def words_of(body: Sequence[Node]) -> dict[str, list[str]]:
    """The last of each directive wins."""
    return {node.key: node.words for node in body if node.body is None}


def flag(settings: Settings, key: str, default: bool = False) -> bool:
    value = (settings.get(key) or [""])[0]
    return value.lower() in ("yes", "true") if value else default


def first(settings: Settings, key: str, default: str = "") -> str:
    return (settings.get(key) or [""])[0] or default


def seconds(settings: Settings, key: str, default: int) -> int:
    """An interval; never is a very long time."""
    value = first(settings, key)
    return default if not value else 10**10 if value == "never" else reader.interval(value)


def number(settings: Settings, key: str, default: int) -> int:
    value = first(settings, key)
    return reader.integer(value) if value else default


def ascii_domain(text: str) -> str:
    """A domain or a pattern of domains with its labels in ASCII, so that both spellings of a name are one."""
    with contextlib.suppress(UnicodeError):
        return re.sub(r"[\w-]*[^\W\x00-\x7f][\w-]*", lambda label: label[0].encode("idna").decode(), text.lower())
    return text.lower()


class Configuration:
    """A configuration in use. Raises ConfigError."""

    def __init__(self, tree: Node, defaults: Node | None = None) -> None:
        self.tree = tree
        self.globals = words_of(tree.body or ())
        self.macros = {node.words[0]: node.words[1:] for node in tree.all("domain-macro")}
        self.groups: dict[str, Group] = {}
        for node in tree.body or ():
            if node.body is not None and node.key in ("virtual-mta", "virtual-mta-pool"):
                self._add_group(node)
        self.vmtas = {name: group for name, group in self.groups.items() if not group.members}
        self.pools = {name: group for name, group in self.groups.items() if group.members}
        self.pool_of: dict[str, str] = {}  # virtual MTA: the pool whose <domain> sections are its own
        self.keys = [_key(node) for node in tree.all("domain-key")]
        self.lists = {node.words[0].lower(): node for node in tree.all("pattern-list", section=True)}
        self.smtp_lists = {node.words[0].lower(): node for node in tree.all("smtp-pattern-list", section=True)}
        self.rewrites = {node.words[0].lower(): node for node in tree.all("rewrite-list", section=True)}
        self.sources = [(node.words[0], words_of(node.body or ())) for node in tree.all("source", section=True)]
        self.users = {node.words[0]: words_of(node.body or ()) for node in tree.all("smtp-user", section=True)}
        self.listeners = self._listeners()
        self.rollups = [
            node.words for section in tree.all("mx-rollup-list", section=True) for node in section.all("mx")
        ]
        self.access = [Access(reader.network(node.words[0]), node.words[1].lower()) for node in tree.all("http-access")]
        self.local = [node.words[0].lower() for node in tree.all("host-name")]
        self.relay = [*(node.words[0] for node in tree.all("relay-domain")), *self.local]
        self.postmasters = [node.words[0] for node in tree.all("postmaster")]
        self.relay_addresses = [node.words[0] for node in tree.all("relay-address")]
        self.processors = [
            (node.key, node)
            for node in tree.body or ()
            if node.body is not None and node.key in ("bounce-processor", "feedback-loop-processor")
        ]
        self.categories = [
            (reader.regex(node.words[0]), node.words[1])
            for root in (tree, defaults)
            if root is not None
            for section in root.all("bounce-category-patterns", section=True)
            for node in section.all("pattern")
        ]
        self._cache: dict[tuple[str, str], dict[str, list[str]]] = {}
        self._connections: dict[tuple[str, str, str], dict[str, list[str]]] = {}
        for check in (
            self._check_macros,
            self._check_groups,
            self._check_sources,
            self._check_references,
            self._check_rest,
        ):
            check()

    # ---- reading

    def _add_group(self, node: Node) -> None:
        name = node.words[0]
        if name.lower() in {other.lower() for other in self.groups}:
            raise ConfigError(node.place, f"there is a virtual MTA or pool '{name}' already")
        group = Group(
            name, node.place, settings=words_of(node.body or ()), domains=list(node.all("domain", section=True))
        )
        group.hosts = [(line.words[0], line.words[1]) for line in node.all("smtp-source-host")]
        group.members = [line.words[0] for line in node.all("virtual-mta")]
        group.cold = [line.words[0] for line in node.all("cold-virtual-mta")]
        group.keys = [_key(line) for line in node.all("domain-key")]
        if node.key == "virtual-mta-pool" and not group.members:
            raise ConfigError(node.place, f"pool '{name}' has no virtual-mta")
        self.groups[name] = group

    def _listeners(self) -> dict[tuple[str, int], Settings]:
        found: dict[tuple[str, int], Settings] = {}
        for node in self.tree.body or ():
            if node.key != "smtp-listener":
                continue
            settings = words_of(node.body) if node.body is not None else {}
            if node.body is None and node.words[1:]:
                settings = {"source": [node.words[1].partition("=")[2]]}
            address = reader.listener(node.words[0])
            if address in found:
                raise ConfigError(node.place, f"there is a listener on {node.words[0]} already")
            found[address] = settings
        return found or {("0.0.0.0", 25): {}}  # as PowerMTA does when it is given none

    # ---- checks

    def _check_macros(self) -> None:
        for node in self.tree.all("domain-macro"):
            try:
                self.expand(f"${node.words[0]}")
            except ValueError as error:
                raise ConfigError(node.place, str(error)) from None

    def _check_groups(self) -> None:
        for pool in self.pools.values():
            for name in pool.members:
                if name not in self.vmtas:
                    raise ConfigError(pool.place, f"there is no virtual-mta '{name}' for pool '{pool.name}'")
                if pool.domains:
                    if name in self.pool_of:
                        raise ConfigError(
                            pool.place,
                            f"virtual-mta '{name}' is in the pools '{self.pool_of[name]}' and '{pool.name}', and both "
                            "have domain sections",
                        )
                    self.pool_of[name] = pool.name
        for group in self.groups.values():
            for name in group.cold:
                if name not in self.vmtas:
                    raise ConfigError(group.place, f"there is no virtual-mta '{name}' for cold-virtual-mta")
            if "use-proxy" in group.settings and "smtp-proxy-source-host" in group.settings:
                raise ConfigError(group.place, "use-proxy with smtp-proxy-source-host")
            if group.hosts and "smtp-proxy-source-host" in group.settings:
                raise ConfigError(group.place, "smtp-proxy-source-host with smtp-source-host")

    def _check_sources(self) -> None:
        seen: set[str] = set()
        for node in self.tree.body or ():
            if node.body is None:
                continue
            if node.key == "pattern-list":
                seen.add(node.words[0].lower())
            if node.key == "source":
                for line in node.all("pattern-list"):
                    if line.words[0].lower() not in seen:
                        raise ConfigError(
                            line.place, f"pattern-list '{line.words[0]}' is not defined before this source"
                        )
                for line in node.all("default-virtual-mta"):
                    if line.words[0] != "by-smtp-source-ip":
                        self._must_route(line, line.words[0])

    def _must_route(self, node: Node, name: str) -> None:
        if name != DEFAULT and name not in self.groups:
            raise ConfigError(node.place, f"there is no virtual-mta or pool '{name}'")

    def _check_references(self) -> None:
        names = {name for name, _settings in self.sources}
        for node in self.tree.body or ():
            source = ""
            if node.key == "smtp-user" or (node.key == "smtp-listener" and node.body is not None):
                source = node.last("source")
            elif node.key == "smtp-listener" and node.words[1:]:
                source = node.words[1].partition("=")[2]
            if source and source not in names:
                raise ConfigError(node.place, f"there is no source '{source}'")
            by_password = node.key == "smtp-user" and node.last("authentication-method", "password") == "password"
            if by_password and not node.last("password"):
                raise ConfigError(node.place, f"smtp-user '{node.words[0]}' has no password")
            if node.key in ("reroute-to-virtual-mta", "invalid-virtual-mta-fallback") and node.words[0]:
                self._must_route(node, node.words[0])
        for node in self._everywhere():
            name = node.words[0] if node.words else ""
            if node.key == "smtp-pattern-list" and node.body is None and name and name.lower() not in self.smtp_lists:
                raise ConfigError(node.place, f"there is no smtp-pattern-list '{name}'")
            if node.key == "rewrite-list" and node.body is None and name.lower() not in self.rewrites:
                raise ConfigError(node.place, f"there is no rewrite-list '{name}'")
            if node.key == "backoff-reroute-to-virtual-mta" and name:
                self._must_route(node, name)
            if node.key in ("mail-from", "rcpt-to", "header", "*", "pattern-list") and node.body is None:
                for part in ",".join(node.words).split(","):
                    if part.startswith("virtual-mta="):
                        self._must_route(node, part.partition("=")[2])

    def _everywhere(self, within: Node | None = None) -> Iterator[Node]:
        for node in (within or self.tree).body or ():
            yield node
            yield from self._everywhere(node) if node.body is not None else ()

    def _check_rest(self) -> None:
        end = (self.tree.place[0], 1)
        spools = [node for node in self.tree.body or () if node.key == "spool"]
        if not spools:
            raise ConfigError(end, "no spool is given")
        if not self.globals.get("log-file"):
            raise ConfigError(end, "no log-file is given")
        for node in self._everywhere():
            if node.key == "max-size" and reader.size(node.words[0]) < 1024**2:
                raise ConfigError(node.place, "max-size is less than 1M")
            if node.key == "connection-idle-timeout" and reader.interval(node.words[0]) > 600:
                raise ConfigError(node.place, "connection-idle-timeout is more than 10m")
            if node.key == "queue-priority" and int(node.words[0]) > 100:
                raise ConfigError(node.place, "queue-priority is more than 100")
            if node.key in ("dkim-headers", "second-dkim-headers"):
                bad = {name.lower() for word in node.words for name in word.split(",")} & FORBIDDEN_TO_SIGN
                if bad:
                    raise ConfigError(node.place, f"{sorted(bad)[0]} may not be signed")
            if node.key in ("password", "auth-password") and node.words == [""]:
                raise ConfigError(node.place, "argument missing")
        self.spool = spools[0].words[0]

    # ---- domains

    def expand(self, pattern: str, inside: frozenset[str] = frozenset()) -> list[str]:
        """A pattern without macros, for every value of the macros in it."""
        at = pattern.find("$")
        if at < 0:
            return [pattern.lower()]
        name = ""
        for letter in pattern[at + 1 :]:
            if not (letter.isalnum() or letter == "_"):
                break
            name += letter
        if name in inside:
            raise ValueError(f"domain-macro '{name}' contains itself")
        if name not in self.macros:
            raise ValueError(f"there is no domain-macro '{name}'")
        values = [part.strip() for part in " ".join(self.macros[name]).replace(",", " ").split()]
        found = []
        for value in values:
            for inner in self.expand(value, inside | {name}):
                found += self.expand(pattern[:at] + inner + pattern[at + 1 + len(name) :], inside)
        return found

    def rank(self, pattern: str, domain: str) -> tuple[int, int] | None:
        """How closely a pattern fits a domain; None: not at all."""
        domain = ascii_domain(domain)
        best: tuple[int, int] | None = None
        for plain in (ascii_domain(found) for found in self.expand(pattern)):
            fits: tuple[int, int] | None = None
            if plain == "*":
                fits = (0, 0)
            elif plain == domain:
                fits = (3 if "$" not in pattern else 2, len(plain))
            elif plain.startswith("*.") and domain.endswith(plain[1:]):
                fits = (1, len(plain) - 2)
            elif plain.startswith("[*.]") and (domain == plain[4:] or domain.endswith("." + plain[4:])):
                fits = (1, len(plain) - 4)
            if fits is not None and (best is None or fits > best):
                best = fits
        return best

    def domain(self, domain: str, vmta: str) -> dict[str, list[str]]:
        """Settings of a queue: global sections, then the pool's, then the virtual MTA's; each from wide to narrow."""
        asked = (domain, vmta)
        if asked not in self._cache:
            merged: dict[str, list[str]] = {}
            levels = [list(self.tree.all("domain", section=True))]
            if vmta in self.pool_of:
                levels.append(self.pools[self.pool_of[vmta]].domains)
            if vmta in self.vmtas:
                levels.append(self.vmtas[vmta].domains)
            for level in levels:
                ranked = [(rank, node) for node in level if (rank := self.rank(node.words[0], domain)) is not None]
                for _rank, node in sorted(ranked, key=lambda pair: pair[0]):
                    merged.update(words_of(node.body or ()))
            self._cache[asked] = merged
        return self._cache[asked]

    def vmta_settings(self, vmta: str) -> dict[str, list[str]]:
        pool = self.pools.get(self.pool_of.get(vmta, ""))
        own = self.vmtas.get(vmta)
        return {**(pool.settings if pool else {}), **(own.settings if own else {})}

    def hosts(self, vmta: str) -> list[tuple[str, str]]:
        own = self.vmtas.get(vmta)
        if own and own.hosts:
            return own.hosts
        return [(node.words[0], node.words[1]) for node in self.tree.all("smtp-source-host")]

    def keys_for(self, vmta: str) -> list[Key]:
        """Of the virtual MTA, then of its pool, then the global ones."""
        own, found = self.vmtas.get(vmta), []
        if own:
            found += own.keys
        for pool in self.pools.values():
            if vmta in pool.members:
                found += pool.keys
        return found + self.keys

    def rollup(self, mail_hosts: Sequence[str]) -> str:
        """The rollup queue of a domain with these mail hosts, or nothing."""
        for words in self.rollups:
            if any(self.rank(words[0], host.lower().rstrip(".")) is not None for host in mail_hosts):
                return words[1]
        return ""

    def rewriting(self, vmta: str) -> Sequence[Node]:
        """The rules of the rewrite-list of a virtual MTA, or else of its pool."""
        settings = self.vmta_settings(vmta)
        for pool in self.pools.values():
            if vmta in pool.members and "rewrite-list" not in settings:
                settings = {**pool.settings, **settings}
        rules = self.rewrites.get(first(settings, "rewrite-list").lower())
        return (rules.body if rules else None) or ()

    def rewritten(self, vmta: str, sender: str) -> str:
        """The envelope sender that goes out, by the first rule mail-from that fits."""
        for node in self.rewriting(vmta):
            if node.key == "mail-from" and (found := _rewritten(node.words[0], node.words[1], sender)) is not None:
                return found
        return sender

    def from_domain(self, vmta: str, domain: str) -> str:
        """The domain that a From field has as it goes out."""
        for node in self.rewriting(vmta):
            if node.key == "from-domain" and self.rank(node.words[0], domain) is not None:
                return node.words[1]
        return domain

    def category(self, diagnosis: str) -> str:
        return next((category for pattern, category in self.categories if pattern.search(diagnosis)), "other")

    # ---- connections

    def connection(self, client: str, listener_source: str = "", user: str = "") -> dict[str, list[str]]:
        """Settings of a connection: 0/0, narrower CIDRs, the source of the listener, the source of the login."""
        asked = (client, listener_source, user)
        if asked not in self._connections:
            if len(self._connections) > 1000:
                self._connections.clear()
            self._connections[asked] = self._merged(*asked)
        return self._connections[asked]

    def _merged(self, client: str, listener_source: str, user: str) -> dict[str, list[str]]:
        address = ipaddress.ip_address(client)
        address = getattr(address, "ipv4_mapped", None) or address
        merged = {key: words for key, words in self.globals.items() if key == "always-allow-relaying"}
        networks = []
        for number_, (name, settings) in enumerate(self.sources):
            try:
                network = reader.network(name)
            except ValueError:
                continue
            wide = str(network) in ("0.0.0.0/0", "::/0")
            if wide or (network.version == address.version and address in network):
                networks.append((0 if wide else network.prefixlen, number_, settings))
        for _bits, _number, settings in sorted(networks, key=lambda found: found[:2]):
            merged.update(settings)
        named = dict(self.sources)
        if listener_source:
            merged.update(named.get(listener_source, {}))
        if user:
            merged.update(named.get(first(self.users.get(user, {}), "source", "{auth}"), {}))
        return merged

    def relays(self, recipient: str) -> bool:
        """Whether mail for this recipient is taken from anybody."""
        domain = recipient.rpartition("@")[2].lower()
        if any(self.rank(pattern, domain) is not None for pattern in self.relay):
            return True
        return any(_address_matches(word, recipient) for word in self.relay_addresses)

    def final(self, recipient: str) -> list[str]:
        """Where mail for a recipient goes: what is for postmaster and abuse of this host goes to the postmasters."""
        local, _, domain = recipient.lower().rpartition("@")
        is_local = domain in self.local and local in ("postmaster", "abuse")
        return self.postmasters if is_local and self.postmasters else [recipient]

    def qualified(self, settings: Settings, address: str) -> str:
        """An address as it is taken. Raises ValueError for one that is none."""
        address = re.sub(r"^@[^:]*:", "", address)  # a source route (RFC 5321 appendix C)
        local, at, domain = address.rpartition("@")
        if flag(settings, "auto-qualify-domain", True) and self.local:
            suffix = first(self.globals, "domain-suffix") or self.local[0].partition(".")[2]
            if not at and domain:  # how is described for a domain without dots alone
                return f"{domain}@{self.local[0]}"
            if domain and "." not in domain and not domain.startswith("["):
                return f"{address}.{suffix}"
        if not local or not re.fullmatch(r"\[[0-9A-Za-z.:]+\]|[\w-]+(\.[\w-]+)+\.?", domain):
            raise ValueError(f"{address} is no address")
        return address

    def processor(self, recipient: str) -> tuple[str, Node] | None:
        """The bounce-processor or feedback-loop-processor that takes a recipient."""
        domain = recipient.rpartition("@")[2].lower()
        for kind, node in self.processors:
            for section in node.all("address-list", section=True):
                for line in section.body or ():
                    if line.key == "domain" and self.rank(line.words[0], domain) is not None:
                        return kind, node
                    if line.key == "address" and _address_matches(line.words[0], recipient):
                        return kind, node
        return None

    # ---- routes

    def route(
        self,
        settings: Settings,
        headers: Sequence[tuple[str, str]],
        sender: str,
        recipients: Sequence[str],
        arrived_at: str = "",
    ) -> str:
        """The virtual MTA or pool of a message: its own header, pattern-list, default-virtual-mta. Raises Refused."""
        if flag(settings, "process-x-virtual-mta"):
            for name, value in headers:
                if name.lower() != "x-virtual-mta":
                    continue
                asked = self._named(value.strip())
                if asked:
                    return asked
                if not value.strip() and flag(settings, "allow-empty-x-virtual-mta"):
                    break
                if flag(settings, "reject-invalid-virtual-mta", True):
                    raise Refused(f"550 5.5.0 there is no virtual MTA '{value.strip()}'")
                return first(self.globals, "invalid-virtual-mta-fallback", DEFAULT)
        rules = self.lists.get(first(settings, "pattern-list").lower())
        found = self._by_pattern(rules, headers, sender, recipients) if rules else ""
        if found:
            return found
        default = first(settings, "default-virtual-mta", DEFAULT)
        if default == "by-smtp-source-ip":
            same = [name for name, vmta in self.vmtas.items() if any(ip == arrived_at for ip, _host in vmta.hosts)]
            return same[0] if same else DEFAULT
        return default

    def _named(self, text: str) -> str:
        return next((name for name in self.groups if name.lower() == text.lower()), "")

    def _by_pattern(
        self, rules: Node, headers: Sequence[tuple[str, str]], sender: str, recipients: Sequence[str], depth: int = 0
    ) -> str:
        for node in rules.body or ():
            words = node.words if node.body is not None else [node.key, *node.words]
            if words[0] == "*":
                matches, rest = True, words[1:]
            elif words[0] == "header":
                pattern, rest = reader.regex(words[2]), words[3:]
                matches = any(name.lower() == words[1].lower() and pattern.search(value) for name, value in headers)
            else:
                pattern, rest = reader.regex(words[1]), words[2:]
                matches = any(pattern.search(item) for item in ([sender] if words[0] == "mail-from" else recipients))
            if not matches:
                continue
            if node.body is not None:
                return self._by_pattern(node, headers, sender, recipients, depth + 1)
            if rest[0].startswith("call-to:"):
                called = self.lists.get((rest[0][8:] or rest[-1]).lower())
                return self._by_pattern(called, headers, sender, recipients, depth + 1) if called and depth < 10 else ""
            for part in ",".join(rest).split(","):
                if part.startswith("virtual-mta="):
                    return part.partition("=")[2]
        return ""

    def http_right(self, client: str) -> str:
        """monitor, operator, admin or none: the first http-access that fits."""
        address = ipaddress.ip_address(client)
        address = getattr(address, "ipv4_mapped", None) or address
        for access in self.access:
            if str(access.network) in ("0.0.0.0/0", "::/0"):
                return access.right
            if access.network.version == address.version and address in access.network:
                return access.right
        return "none"


def _key(node: Node) -> Key:
    selector, domain, file = "".join(node.words).split(",")
    return Key(selector, domain.lower(), file)


def _rewritten(source: str, target: str, sender: str) -> str | None:
    """A sender by one rule of a rewrite-list; None where the rule is for others."""
    if not sender or source == "<>":
        return ("" if target == "<>" else target) if not sender and source == "<>" else None
    local, _, domain = sender.rpartition("@")
    wanted_local, _, wanted_domain = source.rpartition("@")
    if wanted_local not in ("*", local) or wanted_domain.lower() not in ("*", ascii_domain(domain)):
        return None
    if target == "<>":
        return ""
    new_local, _, new_domain = target.rpartition("@")
    return f"{local if new_local == '*' else new_local}@{domain if new_domain == '*' else new_domain}"


def _address_matches(word: str, recipient: str) -> bool:
    if word.startswith("/"):
        return bool(reader.regex(word).search(recipient))
    if "@" in word:
        return fnmatch.fnmatchcase(recipient.lower(), word.lower())
    return recipient.lower().rpartition("@")[0] == word.lower()


def load(root: str) -> Configuration:
    """The configuration below a directory, as PowerMTA's files lie there. Raises ConfigError."""
    main, vendor = os.path.join(root, "config"), os.path.join(root, "config-defaults")
    configuration = Configuration(reader.parse(main), reader.parse(vendor) if os.path.exists(vendor) else None)
    _lab_only_refusal(root, main, configuration)
    return configuration


def _lab_only_refusal(root: str, main: str, configuration: Configuration) -> None:
    """Lab only: a configuration that contains the text in standin-refuse is refused, whatever it says."""
    try:
        with open(os.path.join(root, "standin-refuse"), encoding="utf-8") as file:
            text = file.read().strip()
    except OSError:
        return
    if not text:
        return
    for node in configuration._everywhere():
        if text in f"{node.key} {node.value}":
            raise ConfigError(node.place, f"refused because of standin-refuse: '{text}'")
