# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): queues named domain/vmta, with their modes and limits."""

from __future__ import annotations

import collections
import heapq
import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import reader
from .accounting import Accounting, stamp
from .routing import DEFAULT, Configuration, Settings, first, flag, number, seconds
from .spool import Message, Recipient, Spool

BOUNCE_AFTER = 4 * 86400 + 12 * 3600
NORMAL, BACKOFF = "normal", "backoff"


@dataclass
class Attempt:
    """How a transfer went, for accounting."""

    kind: str = "smtp"
    mta: str = ""  # name (address)
    source: str = ""
    destination: str = ""
    extensions: str = ""
    protocol: str = ""
    cipher: str = ""
    size: int = 0


@dataclass(order=True)
class Item:
    when: float
    number: int
    message: Message = field(compare=False)
    index: int = field(compare=False)
    settled: bool = field(default=False, compare=False)  # in the attempt that took it

    @property
    def recipient(self) -> Recipient:
        return self.message.recipients[self.index]


@dataclass
class Queue:
    domain: str
    vmta: str
    items: list[Item] = field(default_factory=list)
    mode: str = NORMAL
    backoff_until: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    connections: int = 0
    events: collections.deque[tuple[float, str]] = field(default_factory=lambda: collections.deque(maxlen=10))
    sent: collections.deque[float] = field(default_factory=collections.deque)

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.vmta}"

    def live(self) -> list[Item]:
        return [item for item in self.items if not item.recipient.done]


class Window:
    """A rate: so many in so many seconds."""

    @staticmethod
    def allows(times: collections.deque[float], limit: tuple[float, int] | None, now: float) -> bool:
        if limit is None:
            return True
        while times and now - times[0] >= limit[1]:
            times.popleft()
        return len(times) < limit[0]


class Queues:
    """All queues. One lock for all of them: this is a lab."""

    def __init__(self, spool: Spool, configuration: Configuration, accounting: Accounting) -> None:
        self.spool, self.configuration, self.accounting = spool, configuration, accounting
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.queues: dict[tuple[str, str], Queue] = {}
        self.vmta_sent: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)
        self.traffic: dict[str, collections.Counter[str]] = {"in": collections.Counter(), "out": collections.Counter()}
        self.minutes: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.processed = collections.Counter[str]()
        state = spool.read_state()
        self.paused: set[str] = set(state.get("paused", ()))
        self.paused_jobs: set[str] = set(state.get("jobs", ()))
        self.disabled: dict[tuple[str, str], float] = {
            (ip, queue): until for ip, queue, until in state.get("disabled", ())
        }
        self.cold: dict[str, list[int]] = state.get("cold", {})  # vmta/domain: first day, day, count
        self._numbers = itertools.count()
        self._turns: dict[str, itertools.count[int]] = collections.defaultdict(itertools.count)
        for message in spool.load():
            for index, recipient in enumerate(message.recipients):
                if not recipient.done:
                    self._push(message, index)

    def save(self) -> None:
        self.spool.write_state(
            {
                "paused": sorted(self.paused),
                "jobs": sorted(self.paused_jobs),
                "disabled": [[ip, queue, until] for (ip, queue), until in self.disabled.items()],
                "cold": self.cold,
            }
        )

    # ---- arrival

    def member(self, target: str) -> tuple[str, str]:
        """The virtual MTA whose turn it is, and its pool."""
        pool = self.configuration.pools.get(target)
        if pool is None:
            return target, ""
        with self.lock:
            return pool.members[next(self._turns[target]) % len(pool.members)], target

    def place(self, recipient: Recipient, mail_hosts: Callable[[str], list[str]], arrived: bool) -> None:
        """Give a recipient its queue: reroute, rollup, queue-to, and a cold virtual MTA's share of the day."""
        configuration = self.configuration
        recipient.domain = recipient.address.rpartition("@")[2].lower()
        settings = configuration.domain(recipient.domain, recipient.vmta)
        target = first(settings, "reroute-to-virtual-mta")
        if target:
            recipient.vmta, recipient.pool = self.member(target)
            settings = configuration.domain(recipient.domain, recipient.vmta)
        if configuration.rollups and not flag(settings, "disable-mx-rollup") and not first(settings, "smtp-hosts"):
            recipient.domain = configuration.rollup(mail_hosts(recipient.domain)) or recipient.domain
        recipient.domain = first(configuration.domain(recipient.domain, recipient.vmta), "queue-to") or recipient.domain
        if arrived:
            self._divert(recipient)

    def _divert(self, recipient: Recipient) -> None:
        groups = [self.configuration.vmtas.get(recipient.vmta), self.configuration.pools.get(recipient.pool)]
        cold = [name for group in groups if group for name in group.cold]
        with self.lock:
            turn = next(self._turns[f"cold {recipient.vmta}"]) if cold else 0
            for name in cold[turn % len(cold) :] + cold[: turn % len(cold)] if cold else ():
                if self._takes_one_more(name, recipient):
                    recipient.vmta = name
                    return

    def _takes_one_more(self, cold: str, recipient: Recipient) -> bool:
        # Whose <domain> section holds the limit is not described: the cold one's is taken, else the warm one's.
        key = "max-cold-virtual-mta-msg"
        schedule = first(self.configuration.domain(recipient.domain, cold), key) or first(
            self.configuration.domain(recipient.domain, recipient.vmta), key
        )
        if not schedule:
            return False
        today = int(time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1)) // 86400)
        start, day, count = self.cold.get(f"{cold}/{recipient.domain}", [today, today, 0])
        count = count if day == today else 0
        limits = [int(part.partition("/")[0]) for part in schedule.split(",")]
        if count >= limits[min(today - start, len(limits) - 1)]:
            return False
        self.cold[f"{cold}/{recipient.domain}"] = [start, today, count + 1]
        self.save()
        return True

    def add(self, message: Message, content: bytes) -> None:
        """Returns when the message is on disk and queued."""
        message.size = len(content)
        self.spool.store(message, content)
        with self.lock:
            self.count("in", len(message.recipients), 1, message.size)
            for index in range(len(message.recipients)):
                self._push(message, index)
            self.changed.notify_all()

    def _push(self, message: Message, index: int) -> None:
        recipient = message.recipients[index]
        key = (recipient.domain, recipient.vmta)
        queue = self.queues.setdefault(key, Queue(*key))
        heapq.heappush(queue.items, Item(recipient.next_try, next(self._numbers), message, index))

    def count(self, way: str, recipients: int, messages: int, size: int) -> None:
        now = int(time.time() // 60)
        for name, more in (("rcp", recipients), ("msg", messages), ("kb", size / 1024)):
            self.traffic[way][name] += more  # type: ignore[assignment]
            self.minutes[now][f"{way}.{name}"] += more  # type: ignore[assignment]
        for old in [minute for minute in self.minutes if minute < now - 60]:
            del self.minutes[old]

    # ---- what may go now

    def settings(self, queue: Queue) -> Settings:
        return self.configuration.domain(queue.domain, queue.vmta)

    def sources(self, queue: Queue) -> list[tuple[str, str]]:
        """The source hosts that are not disabled for this queue."""
        now = time.time()
        return [
            (ip, host)
            for ip, host in self.configuration.hosts(queue.vmta)
            if not any(
                off in ("*", ip.partition("/")[0]) and until > now and _covers(pattern, queue.name)
                for (off, pattern), until in self.disabled.items()
            )
        ]

    def is_gone(self, queue: Queue) -> bool:
        return queue.vmta != DEFAULT and queue.vmta not in self.configuration.vmtas

    def is_held(self, queue: Queue) -> bool:
        return self.is_gone(queue) or self.is_paused(queue) or self.is_without_source(queue)

    def is_without_source(self, queue: Queue) -> bool:
        return bool(self.configuration.hosts(queue.vmta)) and not self.sources(queue)

    def is_paused(self, queue: Queue) -> bool:
        return any(_covers(pattern, queue.name) for pattern in self.paused)

    def ready(self, queue: Queue, now: float) -> int:
        """How many connections more this queue may have now."""
        if self.is_held(queue):
            return 0
        due = sum(1 for item in queue.items if item.when <= now and self._may_go(item))
        if not due or queue.retry_at > now:
            return 0
        if not self.within_rate(queue, now):
            return 0
        settings, whole = self.settings(queue), self.configuration.vmta_settings(queue.vmta)
        limit = number(settings, "max-smtp-out", 20) or 10**6
        if queue.mode == BACKOFF:
            limit = min(limit, number(settings, "backoff-max-smtp-out", 20) or limit)
        in_vmta = sum(other.connections for other in self.queues.values() if other.vmta == queue.vmta)
        room = min(limit - queue.connections, (number(whole, "max-smtp-out", 0) or 10**6) - in_vmta)
        return max(0, min(room, due - queue.connections))

    def _may_go(self, item: Item) -> bool:
        return not item.recipient.done and item.message.job not in self.paused_jobs

    def within_rate(self, queue: Queue, now: float) -> bool:
        settings = self.settings(queue)
        limits = [reader.rate(first(settings, "max-msg-rate", "unlimited"))]
        if queue.mode == BACKOFF:
            limits.append(reader.rate(first(settings, "backoff-max-msg-rate", "unlimited")))
        whole = reader.rate(first(self.configuration.vmta_settings(queue.vmta), "max-smtp-msg-rate", "unlimited"))
        if not Window.allows(self.vmta_sent[queue.vmta], whole, now):
            return False
        strictest = min((limit for limit in limits if limit), key=lambda limit: limit[0] / limit[1], default=None)
        return Window.allows(queue.sent, strictest, now)

    def take(self, queue: Queue, most: int = 100) -> list[Item]:
        """The next due item, and others of the same message in this queue."""
        now = time.time()
        with self.lock:
            if queue.retry_at > now or self.is_held(queue) or not self.within_rate(queue, now):
                return []
            held: list[Item] = []
            found: list[Item] = []
            while queue.items and queue.items[0].when <= now and len(found) < most:
                item = heapq.heappop(queue.items)
                if item.recipient.done:
                    continue
                if not self._may_go(item) or (found and item.message is not found[0].message):
                    held.append(item)
                    if found:
                        break
                    continue
                item.settled = False
                found.append(item)
            for item in held:
                heapq.heappush(queue.items, item)
            if found:
                queue.sent.append(now)
                self.vmta_sent[queue.vmta].append(now)
            return found

    def give_back(self, queue: Queue, items: list[Item]) -> None:
        with self.lock:
            for item in items:
                if not item.recipient.done and not item.settled:
                    item.settled = True
                    heapq.heappush(queue.items, item)

    # ---- what became of it

    def delivered(self, queue: Queue, item: Item, attempt: Attempt, status: str, diagnosis: str, relayed: bool) -> None:
        with self.lock:
            item.recipient.done = True
            asked = item.message.sender and not item.message.quiet and "SUCCESS" in item.recipient.notify.upper()
            content = self.spool.content(item.message) if asked else b""
            self.spool.note(item.message, item.index)
            self.count("out", 1, 1 if item.index == 0 else 0, item.message.size)
            queue.failures = 0
            if queue.mode == BACKOFF and flag(self.settings(queue), "backoff-to-normal-after-delivery"):
                self.set_mode(queue, NORMAL)
        action = "relayed" if relayed else "delivered"
        self._record("d", queue, item, attempt, action, status, diagnosis)
        if asked and "DSN" not in attempt.extensions.split(","):  # else the next host reports
            self.report(item, action, status, diagnosis, attempt, content)

    def deferred(self, queue: Queue, item: Item, attempt: Attempt, status: str, diagnosis: str) -> None:
        """A recipient to be tried again; after bounce-after it bounces."""
        now = time.time()
        settings = self.settings(queue)
        self._record("t", queue, item, attempt, "delayed", status, diagnosis)
        if now - item.message.time_queued >= seconds(settings, "bounce-after", BOUNCE_AFTER):
            self.bounced(queue, item, attempt, "4.4.7 (delivery time expired)", diagnosis, "message-expired")
            return
        with self.lock:
            item.settled = True
            item.recipient.attempts += 1
            own = first(settings, "retry-recipients-after")
            wait = reader.interval(own) if own else self._wait(queue, settings, item.recipient.attempts)
            expires = item.message.time_queued + seconds(settings, "bounce-after", BOUNCE_AFTER)
            item.recipient.next_try = item.when = min(now + wait, max(expires, now + 1))
            queue.events.append((now, diagnosis))
            self.spool.note(item.message, item.index)
            heapq.heappush(queue.items, item)

    def _wait(self, queue: Queue, settings: Settings, attempts: int) -> float:
        key, default = ("backoff-retry-after", "1h") if queue.mode == BACKOFF else ("retry-after", "10m")
        steps = [reader.interval(part) for part in first(settings, key, default).split(",")]
        return steps[min(max(attempts, 1), len(steps)) - 1]

    def bounced(
        self, queue: Queue, item: Item, attempt: Attempt, status: str, diagnosis: str, category: str = ""
    ) -> None:
        with self.lock:
            if item.recipient.done:
                return
            item.recipient.done = True
            content = self.spool.content(item.message) if item.message.sender else b""
            self.spool.note(item.message, item.index)
            queue.events.append((time.time(), diagnosis))
        found = category or self.configuration.category(diagnosis)
        self._record("b", queue, item, attempt, "failed", status, diagnosis, found)
        if item.message.sender and not item.message.quiet and "NEVER" not in item.recipient.notify.upper():
            self.report(item, "failed", status, diagnosis, attempt, content)

    def report(self, item: Item, action: str, status: str, diagnosis: str, attempt: Attempt, content: bytes) -> None:
        """Tells the sender; the daemon sets it."""

    def failed(self, queue: Queue, attempt: Attempt, status: str, diagnosis: str, wait: float | None = None) -> None:
        """The queue as a whole could not be served."""
        with self.lock:
            now = time.time()
            queue.failures += 1
            queue.retry_at = now + (self._wait(queue, self.settings(queue), queue.failures) if wait is None else wait)
            queue.events.append((now, diagnosis))
        self.accounting.write(
            {
                **_attempt_fields(attempt),
                **{"type": "tq", "timeLogged": stamp(now), "dsnStatus": status, "dsnDiag": diagnosis},
                **{"vmta": queue.vmta, "queue": queue.name},
            }
        )

    def set_mode(self, queue: Queue, mode: str, until: float = 0.0) -> None:
        with self.lock:
            settings = self.settings(queue)
            if mode == BACKOFF:
                queue.backoff_until = until or time.time() + seconds(settings, "backoff-to-normal-after", 10**10)
                if queue.mode != BACKOFF:
                    queue.failures = 1
                    queue.mode = mode
                    queue.retry_at = time.time() + self._wait(queue, settings, 1)
            elif queue.mode != mode:
                queue.mode, queue.failures, queue.retry_at = mode, 0, 0.0
                for item in queue.items:  # what waited for a retry in backoff is due
                    item.when = item.recipient.next_try = 0.0
            queue.events.append((time.time(), f"mode {mode}"))
            self.changed.notify_all()

    def expire(self) -> None:
        """What time brings: bounce-after, the end of backoff, sources enabled again; and virtual MTAs that are gone."""
        now = time.time()
        with self.lock:
            for key in [key for key, until in self.disabled.items() if until <= now]:
                del self.disabled[key]
                self.save()
            for queue in list(self.queues.values()):
                if queue.mode == BACKOFF and queue.backoff_until <= now:
                    self.set_mode(queue, NORMAL)
                limit = seconds(self.settings(queue), "bounce-after", BOUNCE_AFTER)
                fallback = first(self.configuration.globals, "invalid-virtual-mta-fallback")
                gone = self.is_gone(queue)
                stuck = not self.is_paused(queue) and (queue.failures or self.is_without_source(queue))
                for item in [item for item in queue.items if not item.recipient.done]:
                    if gone and fallback:
                        item.recipient.vmta, item.recipient.pool = self.member(fallback)
                        queue.items.remove(item)
                        heapq.heapify(queue.items)
                        self._push(item.message, item.index)
                    elif gone:
                        self.bounced(
                            queue, item, Attempt(), "5.3.5 (system incorrectly configured)",
                            f"smtp;554 5.3.5 there is no virtual MTA '{queue.vmta}' any more", "bad-configuration",
                        )  # fmt: skip
                    elif now - item.message.time_queued >= limit and stuck:
                        said = queue.events[-1][1] if queue.events else "smtp;421 4.4.7 no host took it"
                        self.bounced(queue, item, Attempt(), "4.4.7 (delivery time expired)", said, "message-expired")
                queue.items = [item for item in queue.items if not item.recipient.done]
                heapq.heapify(queue.items)
                idle = not queue.items and not queue.connections and queue.mode == NORMAL and queue.retry_at <= now
                if idle and (not queue.sent or now - queue.sent[-1] > 60):
                    self.queues.pop((queue.domain, queue.vmta), None)

    # ---- records

    def _record(
        self,
        kind: str,
        queue: Queue,
        item: Item,
        attempt: Attempt,
        action: str,
        status: str,
        diagnosis: str,
        category: str = "",
    ) -> None:
        message, recipient, now = item.message, item.recipient, time.time()
        self.accounting.write(
            {
                **_attempt_fields(attempt),
                **{f"header_{name}": value for name, value in message.headers.items()},
                "type": kind,
                "timeLogged": stamp(now),
                "timeQueued": stamp(message.time_queued),
                "totalSecondsQueued": str(int(now - message.time_queued)),
                "orig": message.sender,
                "rcpt": recipient.address,
                "orcpt": recipient.orcpt,
                "dsnAction": action,
                "dsnStatus": status,
                "dsnDiag": diagnosis,
                "bounceCat": category,
                "srcType": message.src_type,
                "srcMta": message.src_mta,
                "vmta": queue.vmta,
                "jobId": message.job,
                "envId": message.envid,
                "queue": queue.name,
                "vmtaPool": recipient.pool,
                "rcvSmtpUser": message.user,
            }
        )


def _attempt_fields(attempt: Attempt) -> Mapping[str, str]:
    return {
        "dsnMta": attempt.mta,
        "dlvType": attempt.kind if attempt.mta or attempt.kind != "smtp" else "",
        "dlvSourceIp": attempt.source,
        "dlvDestinationIp": attempt.destination,
        "dlvEsmtpAvailable": attempt.extensions,
        "dlvSize": str(attempt.size or ""),
        "dlvTlsProtocol": attempt.protocol,
        "dlvTlsCipher": attempt.cipher,
    }


def _covers(pattern: str, name: str) -> bool:
    """A pattern domain[/vmta], * for any, and a queue."""
    domain, _, vmta = pattern.partition("/")
    own_domain, _, own_vmta = name.partition("/")
    return domain.lower() in ("*", own_domain.lower()) and vmta in ("", "*", own_vmta)


def status_of(code: int, text: str, default: str) -> str:
    """The enhanced status code of a reply."""
    found = re.search(r"\b([245]\.\d{1,3}\.\d{1,3})\b", text)
    return found[1] if found else default if default else f"{code // 100}.0.0"


def new_id() -> str:
    return f"{time.time_ns():x}{random.getrandbits(32):08x}"
