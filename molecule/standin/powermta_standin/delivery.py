# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): carries mail from its queues to mail hosts, from the right source address."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import dkim
import dns.exception
import dns.resolver

from . import reader
from .queues import BACKOFF, NORMAL, Attempt, Item, Queue, Queues, status_of
from .routing import Configuration, Key, Settings, ascii_domain, first, flag, number, seconds
from .spool import split_message

MX_SECONDS = 60
LINGER_SECONDS = 0.3  # a connection waits for more mail
_ADDRESS = re.compile(r"([^\s<>,\"]+@[^\s<>,;\"]+)>?\s*$")
TRANSIENT, PERMANENT = "4.4.1 (no answer from host)", "5.1.2 (bad destination system)"
Log = Callable[[str], None]


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    port: int


class NoHost(Exception):
    """Where a domain's mail goes is not known: for good (permanent) or for now."""

    def __init__(self, text: str, permanent: bool) -> None:
        super().__init__(text)
        self.permanent = permanent


class Resolver:
    """DNS, with a memory of a minute."""

    def __init__(self, servers: Sequence[str]) -> None:
        self.dns = dns.resolver.Resolver(configure=not servers)
        if servers:
            self.dns.nameservers = list(servers)
        self.dns.lifetime = 5.0
        self._mail_hosts: dict[str, tuple[float, list[str]]] = {}

    def ask(self, name: str, kind: str) -> list[object]:
        """Nothing where there is no such record; NoHost where there is no such name or no answer."""
        try:
            return list(self.dns.resolve(ascii_domain(name), kind))
        except dns.resolver.NoAnswer:
            return []
        except dns.resolver.NXDOMAIN:
            raise NoHost(f"{name} does not exist", True) from None
        except (dns.exception.DNSException, UnicodeError) as error:
            raise NoHost(f"{name}: {error}", False) from None

    def mail_hosts(self, domain: str) -> list[str]:
        """Names by preference; those of one preference in random order, as RFC 5321 section 5.1 says."""
        kept = self._mail_hosts.get(domain)
        if kept and kept[0] > time.monotonic():
            return kept[1]
        if domain.startswith("["):
            return [domain.strip("[]")]
        records = sorted(self.ask(domain, "MX"), key=lambda record: (record.preference, random.random()))  # type: ignore[attr-defined]
        names = [str(record.exchange).rstrip(".") for record in records]  # type: ignore[attr-defined]
        if names == [""]:
            raise NoHost(f"{domain} takes no mail (null MX)", True)
        self._mail_hosts[domain] = (time.monotonic() + MX_SECONDS, names or [domain])
        return names or [domain]

    def lowest(self, domain: str) -> list[str]:
        """The mail hosts of the lowest preference, for rollups. Never fails."""
        try:
            records = self.ask(domain, "MX")
        except NoHost:
            return []
        least = min((record.preference for record in records), default=0)  # type: ignore[attr-defined]
        return [str(record.exchange).rstrip(".") for record in records if record.preference == least]  # type: ignore[attr-defined]

    def addresses(self, name: str) -> list[str]:
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(name.strip("[]")))]
        found = [str(record) for record in self.ask(name, "AAAA")]
        return found + [str(record) for record in self.ask(name, "A")]


class Delivery:
    """Starts connections for whatever is due, and carries one queue's mail over each."""

    def __init__(self, queues: Queues, log: Log) -> None:
        self.queues, self.log = queues, log
        self.stopping = threading.Event()
        self.top = 0
        self.resolver = self._resolver()

    def _resolver(self) -> Resolver:
        servers = [node.words[0] for node in self.queues.configuration.tree.all("name-server")]
        return Resolver(servers)

    def configured(self) -> None:
        """After a reload."""
        self.resolver = self._resolver()

    def total(self) -> int:
        return sum(queue.connections for queue in self.queues.queues.values())

    def run(self) -> None:
        tended = 0.0
        while not self.stopping.is_set():
            if time.monotonic() - tended >= 1:
                tended = time.monotonic()
                self.queues.expire()
                self.queues.accounting.tend()
            with self.queues.changed:
                room = number(self.queues.configuration.globals, "total-max-smtp-out", 200) - self.total()
                now, started = time.time(), 0
                for queue in list(self.queues.queues.values()):
                    for _turn in range(min(self.queues.ready(queue, now), room - started)):
                        queue.connections += 1
                        started += 1
                        threading.Thread(target=self._connection, args=(queue,), daemon=True).start()
                self.top = max(self.top, self.total())
                if not started:
                    self.queues.changed.wait(0.2)
            if started:
                time.sleep(0.02)

    def _connection(self, queue: Queue) -> None:
        items: list[Item] = []
        try:
            self._serve(queue, items)
        except Exception as error:  # a bug of the stand-in must not eat mail or stop the daemon
            self.queues.give_back(queue, items)
            self.log(f"{queue.name}: {error.__class__.__name__}: {error}")
            self.queues.failed(queue, Attempt(), "4.3.0", f"smtp;451 4.3.0 the stand-in failed: {error}", 30)
        finally:
            with self.queues.changed:
                queue.connections -= 1
                self.queues.changed.notify_all()

    def _serve(self, queue: Queue, items: list[Item]) -> None:
        most = number(self.queues.settings(queue), "max-rcpt-per-transaction", 1000) or 1000
        items += self.queues.take(queue, most)
        if not items:
            return
        settings = self.queues.settings(queue)
        try:
            if first(settings, "type", "smtp") == "discard":
                while items:
                    for item in items:
                        self.queues.delivered(queue, item, Attempt("discard"), "2.0.0", "discarded", False)
                    items[:] = self.queues.take(queue, most)
                return
            hosts = self._hosts(queue, items[0], settings)
        except NoHost as error:
            self._no_host(queue, items, settings, error)
            return
        self._try_hosts(queue, items, settings, hosts, most)

    def _no_host(self, queue: Queue, items: list[Item], settings: Settings, error: NoHost) -> None:
        if error.permanent:
            for item in items:
                self.queues.bounced(queue, item, Attempt(), PERMANENT, f"smtp;550 5.1.2 {error}", "bad-domain")
            return
        self.queues.give_back(queue, items)
        wait = seconds(settings, "retry-after-dns-error", 60)
        self.queues.failed(queue, Attempt(), "4.4.3 (DNS)", f"smtp;451 4.4.3 {error}", wait)

    def _hosts(self, queue: Queue, item: Item, settings: Settings) -> list[Host]:
        """Where to, in the order to try. A host's addresses are those for which there is a source address."""
        port = int(first(settings, "default-smtp-port", "25"))
        given = first(settings, "smtp-hosts") or first(settings, "route")
        names: list[tuple[str, int]] = []
        if given:
            for level in given.split(";"):
                same = [part.strip() for part in level.split(",") if part.strip()]
                random.shuffle(same)
                for part in same:
                    if part.startswith("lookup-mx:"):
                        names += [(name, port) for name in self.resolver.mail_hosts(part[10:])]
                    else:
                        names.append(_host_and_port(part, port))
        else:
            domain = item.recipient.address.rpartition("@")[2].lower()
            if queue.domain != domain and not queue.domain.endswith(".rollup"):
                domain = queue.domain  # queue-to
            names = [(name, port) for name in self.resolver.mail_hosts(domain)]
        versions = {
            ipaddress.ip_network(ip, False).version for ip, _name in self.queues.configuration.hosts(queue.vmta)
        }
        found, problem = [], NoHost(f"no host of {queue.domain} has an address", False)
        for name, its_port in names:
            try:
                for address in self.resolver.addresses(name):
                    if not versions or ipaddress.ip_address(address).version in versions:
                        found.append(Host(name, address, its_port))
            except NoHost as error:
                problem = NoHost(str(error), False)
        if not found:
            raise problem
        return found

    def _source(self, queue: Queue, host: Host) -> tuple[str, str] | None:
        """A source address of the host's family and its EHLO name; ("", name) where none is configured."""
        configuration = self.queues.configuration
        if not configuration.hosts(queue.vmta):
            own = first(configuration.vmta_settings(queue.vmta), "host-name") or first(
                configuration.globals, "host-name"
            )
            return "", own or socket.getfqdn()
        version = ipaddress.ip_address(host.address).version
        fitting = [
            (str(network[random.randrange(network.num_addresses)]), name)
            for network, name in ((ipaddress.ip_network(ip, False), name) for ip, name in self.queues.sources(queue))
            if network.version == version
        ]
        return random.choice(fitting) if fitting else None

    def _try_hosts(self, queue: Queue, items: list[Item], settings: Settings, hosts: list[Host], most: int) -> None:
        attempt, text, status = Attempt(), "smtp;451 4.4.1 no host answers", TRANSIENT
        for host in hosts:
            source = self._source(queue, host)
            if source is None:
                continue
            attempt = Attempt("smtp", f"{host.name} ({host.address})", source[0], host.address)
            client = None
            try:
                client, attempt = self._open(queue, settings, host, source, attempt)
                self._carry(queue, items, settings, client, attempt, most)
                return
            except smtplib.SMTPResponseException as error:
                text = f"smtp;{error.smtp_code} {_text(error.smtp_error)}"
                status = status_of(error.smtp_code, text, "")
                if self._react(queue, settings, text, source[0], items, attempt):
                    return
            except (OSError, smtplib.SMTPException) as error:
                text, status = f"smtp;451 4.4.1 {error or error.__class__.__name__} ({host.address})", TRANSIENT
            finally:
                if client is not None:
                    with contextlib.suppress(OSError, smtplib.SMTPException):
                        client.quit()
            items[:] = [item for item in items if not item.recipient.done and not item.settled]
            if not items:
                return
        self.queues.give_back(queue, items)
        self.queues.failed(queue, attempt, status, text)

    def _open(
        self, queue: Queue, settings: Settings, host: Host, source: tuple[str, str], attempt: Attempt
    ) -> tuple[smtplib.SMTP, Attempt]:
        client = smtplib.SMTP(
            timeout=seconds(settings, "connect-timeout", 120),
            local_hostname=source[1],
            source_address=(source[0], 0) if source[0] else None,
        )
        client._host = host.name  # type: ignore[attr-defined]  # the name in TLS
        try:
            code, reply = client.connect(host.address, host.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, reply)
            client.ehlo_or_helo_if_needed()
            if flag(settings, "use-starttls", True) or flag(settings, "require-starttls"):
                if client.has_extn("starttls"):
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    client.starttls(context=context)
                    client.ehlo()
                    cipher = client.sock.cipher() if isinstance(client.sock, ssl.SSLSocket) else None
                    protocol = client.sock.version() if isinstance(client.sock, ssl.SSLSocket) else None
                    attempt = replace(attempt, protocol=protocol or "", cipher=cipher[0] if cipher else "")
                elif flag(settings, "require-starttls"):
                    raise smtplib.SMTPConnectError(451, b"4.7.4 the host offers no STARTTLS")
        except BaseException:
            client.close()
            raise
        return client, replace(attempt, extensions=",".join(name.upper() for name in client.esmtp_features))

    def _carry(
        self, queue: Queue, items: list[Item], settings: Settings, client: smtplib.SMTP, attempt: Attempt, most: int
    ) -> None:
        """Messages over one connection. Raises when it is of no more use; items may be left then."""
        limit, count = number(settings, "max-msg-per-connection", 0), 0
        while items:
            if items[0].message.verp or len({self._sender(queue, item) for item in items}) > 1:
                self.queues.give_back(queue, items[1:])  # one sender a transaction
                del items[1:]
            self._transaction(queue, items, settings, client, attempt)
            count += 1
            if self.stopping.is_set() or (limit and count >= limit):
                return
            items[:] = self.queues.take(queue, most)
            if not items:
                with self.queues.changed:
                    self.queues.changed.wait(LINGER_SECONDS)
                items[:] = self.queues.take(queue, most)

    def _sender(self, queue: Queue, item: Item) -> str:
        sender = self.queues.configuration.rewritten(queue.vmta, item.message.sender)
        local, at, domain = sender.rpartition("@")
        if item.message.verp and at:
            return f"{local}-{item.recipient.address.replace('@', '=')}@{domain}"
        return sender

    def _transaction(
        self, queue: Queue, items: list[Item], settings: Settings, client: smtplib.SMTP, attempt: Attempt
    ) -> None:
        message = items[0].message
        content = self._signed(queue, settings, self._changed(queue, settings, self.queues.spool.content(message)))
        options = ["BODY=8BITMIME"] if client.has_extn("8bitmime") else []
        options += [f"SIZE={len(content)}"] if client.has_extn("size") else []
        if not all(item.recipient.address.rpartition("@")[0].isascii() for item in items) and client.has_extn(
            "smtputf8"
        ):
            options.append("SMTPUTF8")
        code, reply = client.mail(_wire(self._sender(queue, items[0])), options)
        if code != 250:
            self._all(queue, items, settings, attempt, code, reply)
            _reset(client)
            return
        taken = []
        for item in items:
            code, reply = client.rcpt(_wire(item.recipient.address))
            if code in (250, 251):
                taken.append(item)
            else:
                self._refused(queue, item, settings, attempt, code, reply)
        if not taken:
            _reset(client)
            return
        try:
            code, reply = client.data(content)
        except smtplib.SMTPDataError as error:
            code, reply = error.smtp_code, error.smtp_error  # type: ignore[assignment]
        if code == 250:
            for item in taken:
                text = f"smtp;250 {_text(reply)}"
                sent = replace(attempt, size=len(content))
                self.queues.delivered(queue, item, sent, f"{status_of(250, text, '2.0.0')} (success)", text, True)
        else:
            self._all(queue, taken, settings, attempt, code, reply)

    def _all(
        self, queue: Queue, items: list[Item], settings: Settings, attempt: Attempt, code: int, reply: bytes | str
    ) -> None:
        for item in items:
            self._refused(queue, item, settings, attempt, code, reply)

    def _refused(
        self, queue: Queue, item: Item, settings: Settings, attempt: Attempt, code: int, reply: bytes | str
    ) -> None:
        text = f"smtp;{code} {_text(reply)}"
        actions = self._actions(settings, text)
        if code >= 500 or "bounce-rcpt" in actions:
            self.queues.bounced(queue, item, attempt, status_of(code, text, "5.0.0"), text)
        self._act(queue, settings, actions, attempt.source)
        if "bounce-queue" in actions:
            self._bounce_queue(queue, [item], attempt, text)
        if not item.recipient.done:
            self.queues.deferred(queue, item, attempt, status_of(code, text, "4.0.0"), text)
        if code == 421:
            raise smtplib.SMTPServerDisconnected("421")

    # ---- smtp-pattern-list

    def _actions(self, settings: Settings, text: str) -> dict[str, str]:
        rules = self.queues.configuration.smtp_lists.get(first(settings, "smtp-pattern-list").lower())
        said = text.removeprefix("smtp;")
        for node in rules.body or () if rules else ():
            if node.key == "reply" and reader.regex(node.words[0]).search(said):
                parts = [part for word in node.words[1:] for part in word.split(",") if part]
                return {name: value for name, _, value in (part.partition("=") for part in parts)}
        return {}

    def _act(self, queue: Queue, settings: Settings, actions: dict[str, str], source: str) -> None:
        mode = actions.get("mode")
        if mode == "backoff":
            after = actions.get("backoff-to-normal-after")
            self.queues.set_mode(queue, BACKOFF, time.time() + reader.interval(after) if after else 0.0)
        elif mode == "normal":
            self.queues.set_mode(queue, NORMAL)
        if "disable-source-ip" in actions and source:
            after = actions.get("reenable-after") or first(settings, "reenable-source-ip-after", "never")
            until = 1e11 if after == "never" else time.time() + reader.interval(after)
            with self.queues.lock:
                self.queues.disabled[source, queue.name] = until
                self.queues.save()
        if "defer-queue" in actions:
            with self.queues.lock:
                queue.retry_at = time.time() + (reader.interval(actions["defer-queue"] or "10m"))

    def _react(
        self, queue: Queue, settings: Settings, text: str, source: str, items: list[Item], attempt: Attempt
    ) -> bool:
        """After a refusal of the connection itself. True: this queue is done for now."""
        actions = self._actions(settings, text)
        self._act(queue, settings, actions, source)
        permanent = re.match(r"smtp;5", text) and flag(settings, "bounce-upon-5xx-greeting", True)
        if "bounce-queue" in actions or permanent:
            for item in items:
                self.queues.bounced(queue, item, attempt, status_of(500, text, "5.0.0"), text)
            if "bounce-queue" in actions:
                self._bounce_queue(queue, [], attempt, text)
            return True
        if "mode" in actions and actions["mode"] == "backoff":
            self.queues.give_back(queue, items)
            return True
        return False

    def _bounce_queue(self, queue: Queue, items: list[Item], attempt: Attempt, text: str) -> None:
        with self.queues.lock:
            everything = [*items, *queue.items]
        for item in everything:
            self.queues.bounced(queue, item, attempt, status_of(500, text, "5.0.0"), text)

    # ---- what changes on the way out

    def _changed(self, queue: Queue, settings: Settings, content: bytes) -> bytes:
        """Without the headers that the domain's section removes, and with the From domains of a rewrite-list."""
        fields, body = split_message(content)
        gone = {name.lower() for word in settings.get("remove-header", ()) for name in word.split(",") if name}
        kept = [
            raw if name.lower() != "from" else self._from(queue, raw)
            for name, raw in fields
            if name.lower() not in gone
        ]
        return b"".join(kept) + b"\r\n" + body

    def _from(self, queue: Queue, raw: bytes) -> bytes:
        def other(found: re.Match[bytes]) -> bytes:
            domain = self.queues.configuration.from_domain(queue.vmta, found[1].decode("utf-8", "replace"))
            return b"@" + domain.encode()

        return re.sub(rb"@([^\s<>,;()\"]+)", other, raw)

    # ---- DKIM

    def _signed(self, queue: Queue, settings: Settings, content: bytes) -> bytes:
        configuration = self.queues.configuration
        for prefix in ("second-dkim-", "dkim-"):
            if flag(settings, f"{prefix}sign"):
                content = sign(configuration, queue.vmta, settings, prefix, content) or content
        return content


def sign(configuration: Configuration, vmta: str, settings: Settings, prefix: str, content: bytes) -> bytes | None:
    """The message with a signature by the first key that fits its signing identity, or None where none fits."""
    identity = first(settings, f"{prefix}identity", "sender-or-from")
    names = ("from",) if identity == "strict-from" else ("sender", "from")
    if identity in ("sender-or-from", "strict-from"):
        head = content.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
        unfolded = re.sub(r"\r\n[ \t]+", " ", head)
        identity = next(
            (
                found[1]
                for name in names
                for line in unfolded.split("\r\n")
                if line.lower().startswith(f"{name}:")
                and (found := re.search(r"([^\s<>,\"]+@[^\s<>,;\"]+)>?\s*$", line))
            ),
            first(settings, f"{prefix}identity-fallback"),
        )
    domain = identity.rpartition("@")[2].lower()
    key = fitting_key(configuration.keys_for(vmta), domain)
    if key is None:
        return None
    with open(key.file, "rb") as file:
        pem = file.read()
    canonical = [first(settings, f"{prefix}{part}-canon", "relaxed").encode() for part in ("headers", "body")]
    own = ascii_domain(domain if key.domain == "*" else key.domain)
    signature = dkim.sign(
        content,
        key.selector.encode(),
        own.encode(),
        pem,
        canonicalize=(canonical[0], canonical[1]),
        signature_algorithm=first(settings, f"{prefix}algorithm", "rsa-sha256").encode(),
    )
    return bytes(signature) + content


def fitting_key(keys: Sequence[Key], domain: str) -> Key | None:
    """First match: a key of the domain or of a parent of it."""
    domain = ascii_domain(domain)
    for key in keys:
        own = ascii_domain(key.domain)
        if own in ("*", domain) or domain.endswith("." + own):
            return key
    return None


def _reset(client: smtplib.SMTP) -> None:
    with contextlib.suppress(OSError, smtplib.SMTPException):
        client.rset()


def _text(reply: bytes | str) -> str:
    return " ".join((reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply).split())


def _wire(address: str) -> str:
    """Domains in ASCII, as every receiver takes them."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{ascii_domain(domain)}"


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, given = text[1:].partition("]")
        return host, int(given[1:] or port) if given.startswith(":") else port
    if text.count(":") == 1:
        host, _, given = text.partition(":")
        return host, int(given)
    return text, port
