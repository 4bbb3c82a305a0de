# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in (it is not PowerMTA): the commands of pmta that the daemon answers, over a Unix socket.

A request is a line of JSON, the words of the command; the answer is a line of JSON: code, text, data.
Of the shapes in "data", that of status is publicly described for PowerMTA's monitor; those of queues and vmtas follow
what programs expect that read it; all others (domains, jobs, settings, disabled sources, list, delete, license) are
this stand-in's own guess. That the command line answers in the same shapes as the monitor is a guess as well.
"""

from __future__ import annotations

import contextlib
import fnmatch
import grp
import json
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import NAME, ROOT, VERSION, reader
from .answer import Answer, version
from .queues import BACKOFF, NORMAL, Item, Queue
from .routing import DEFAULT, first, flag
from .server import Server

SYSTEMS = (BACKOFF, NORMAL)


class Wrong(Exception):
    """A command that cannot be done."""


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if 0 < at < 1e11 else ""


def _options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    options = {word[2:].partition("=")[0].lower(): word.partition("=")[2] for word in words if word.startswith("--")}
    return options, [word for word in words if not word.startswith("--")]


def _table(rows: Iterable[tuple[object, ...]], *titles: str) -> str:
    every = [titles, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(titles))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in every)


class Control:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.stop = threading.Event()

    def listen(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        os.chmod(path, 0o660)
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam("pmta").gr_gid)
        listener.listen(32)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, _peer = listener.accept()
            threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), sock, sock.makefile("rwb") as file:
            answer = self.run(json.loads(file.readline()))
            file.write(json.dumps({"code": answer.code, "text": answer.text, "data": answer.data}).encode() + b"\n")

    def run(self, words: list[str]) -> Answer:
        options, plain = _options(words)
        for length in (3, 2, 1):
            name = "_".join(plain[:length]).replace("-", "_").lower()
            handler: Callable[[dict[str, str], list[str]], Answer] | None = getattr(self, f"do_{name}", None)
            if plain and handler:
                try:
                    with self.server.queues.lock:
                        return handler(options, plain[length:])
                except (Wrong, ValueError) as error:
                    return Answer(f"Error: {error}", None, 1)
                except Exception as error:
                    return Answer(str(error) if str(error).startswith("Error") else f"Error: {error}", None, 1)
        return Answer(f"Error: unknown command '{' '.join(plain)}'", None, 1)

    # ---- what is there

    def _queues(self, options: dict[str, str], words: list[str]) -> list[Queue]:
        queues = self.server.queues
        found = [
            queue for queue in queues.queues.values() if queue.live() or queue.mode == BACKOFF or queue.connections
        ]
        for pattern in words[:1]:
            found = [queue for queue in found if fnmatch.fnmatchcase(queue.name, _pattern(pattern))]
        if "mode" in options:
            found = [queue for queue in found if queue.mode == options["mode"]]
        if "paused" in options:
            found = [queue for queue in found if queues.is_paused(queue) == (options["paused"] == "yes")]
        if "connected" in options:
            found = [queue for queue in found if bool(queue.connections) == (options["connected"] == "yes")]
        found.sort(
            key=lambda queue: (-len(queue.live()), queue.name) if options.get("sort") != "name" else (0, queue.name)
        )
        return found[: int(options.get("maxitems") or len(found))]

    def _queue(self, queue: Queue) -> dict[str, Any]:
        live = queue.live()
        due = min((item.when for item in live), default=0.0)
        return {
            "name": queue.name,
            "rcp": len(live),
            "kb": round(sum(item.message.size for item in live) / 1024, 1),
            "conn": queue.connections,
            "errors": [{"time": _when(at), "text": text} for at, text in queue.events],
            "paused": "yes" if self.server.queues.is_paused(queue) else "no",
            "mode": queue.mode,
            "retryTime": _when(max(queue.retry_at, due)) if live else "",
        }

    def do_show_queues(self, options: dict[str, str], words: list[str]) -> Answer:
        rows = [self._queue(queue) for queue in self._queues(options, words)]
        names = {row["name"] for row in rows}
        # A pause of a queue without mail is a fact too.
        for name in sorted(self.server.queues.paused - names):
            if "*" not in name and "/" in name and options.get("paused", "yes") == "yes" and not words:
                rows.append({"name": name, "rcp": 0, "kb": 0, "conn": 0, "errors": [], "paused": "yes", "mode": NORMAL})
                rows[-1]["retryTime"] = ""
        text = _table(
            (
                (row["name"], row["rcp"], row["kb"], row["conn"], row["paused"], row["mode"], row["retryTime"])
                for row in rows
            ),
            *("queue", "rcpt", "KB", "conn", "paused", "mode", "retry"),
        )
        return Answer(text, {"title": "Queues", "queues": rows})

    def do_show_topqueues(self, options: dict[str, str], words: list[str]) -> Answer:
        answer = self.do_show_queues({"maxitems": "10", **options}, words)
        assert answer.data is not None
        answer.data["title"] = "Top queues"
        return answer

    def _grouped(self, part: int) -> dict[str, list[Queue]]:
        found: dict[str, list[Queue]] = {}
        for queue in self.server.queues.queues.values():
            found.setdefault(queue.name.split("/", 1)[part], []).append(queue)
        return found

    def _sums(self, name: str, queues: list[Queue]) -> dict[str, Any]:
        live = [item for queue in queues for item in queue.live()]
        total = sum(len(queue.live()) for queue in self.server.queues.queues.values())
        return {
            "name": name,
            "rcp": len(live),
            "kb": round(sum(item.message.size for item in live) / 1024, 1),
            "pctOfTotal": round(100 * len(live) / total, 1) if total else 0,
            "conn": sum(queue.connections for queue in queues),
            "dom": len({queue.domain for queue in queues if queue.live()}),
        }

    def do_show_vmtas(self, options: dict[str, str], words: list[str]) -> Answer:
        queues = self._grouped(1)
        names = [
            *self.server.configuration.vmtas,
            *(name for name in queues if name not in self.server.configuration.vmtas),
        ]
        rows = [self._sums(name, queues.get(name, [])) for name in names]
        rows = [row for row in rows if not words or row["name"] in words][: int(options.get("maxitems") or len(rows))]
        text = _table(((row["name"], row["rcp"], row["kb"], row["conn"], row["dom"]) for row in rows), *_VMTA_TITLES)
        return Answer(text, {"title": "VirtualMTAs", "vmtas": rows})

    def do_show_domains(self, options: dict[str, str], words: list[str]) -> Answer:
        rows = [self._sums(name, queues) for name, queues in sorted(self._grouped(0).items())]
        rows = [row for row in rows if row["rcp"]][: int(options.get("maxitems") or len(rows))]
        text = _table(
            ((row["name"], row["rcp"], row["kb"], row["conn"]) for row in rows), "domain", "rcpt", "KB", "conn"
        )
        return Answer(text, {"title": "Domains", "domains": rows})

    do_show_topdomains = do_show_domains

    def do_show_jobs(self, options: dict[str, str], words: list[str]) -> Answer:
        jobs: dict[str, list[Item]] = {}
        for queue in self.server.queues.queues.values():
            for item in queue.live():
                jobs.setdefault(item.message.job, []).append(item)
        paused = self.server.queues.paused_jobs
        rows = [{"id": job, "rcp": len(items), "paused": job in paused} for job, items in sorted(jobs.items()) if job]
        text = _table(((row["id"], row["rcp"], row["paused"]) for row in rows), "job", "rcpt", "paused")
        return Answer(text, {"title": "Jobs", "jobs": rows})

    def do_show_status(self, options: dict[str, str], words: list[str]) -> Answer:
        data = self._status()
        status = data["status"]
        traffic = status["traffic"]["total"]
        lines = [
            f"{NAME} on {data['mta']['fullHostName']}",
            f"running since {status['startupTime']}",
            _table(
                ((way, traffic[way]["rcp"], traffic[way]["msg"], traffic[way]["kb"]) for way in ("in", "out")),
                *("traffic", "rcpt", "msg", "KB"),
            ),
            f"connections in {status['conn']['smtpIn']['cur']}, out {status['conn']['smtpOut']['cur']}",
            f"queued {status['queue']['smtp']['rcp']} recipients",
        ]
        return Answer("\n".join(lines), data)

    def _status(self) -> dict[str, Any]:
        server, queues = self.server, self.server.queues
        live = [item for queue in queues.queues.values() for item in queue.live()]
        now = int(time.time() // 60)

        def three(totals: Mapping[str, float]) -> dict[str, dict[str, float]]:
            return {
                way: {name: round(totals.get(f"{way}.{name}", 0), 1) for name in ("rcp", "msg", "kb")}
                for way in ("in", "out")
            }

        def over(minutes: Iterable[int]) -> dict[str, float]:
            found: dict[str, float] = {}
            for minute in minutes:
                for name, count in queues.minutes.get(minute, {}).items():
                    found[name] = found.get(name, 0) + count
            return found

        total = {f"{way}.{name}": count for way, counter in queues.traffic.items() for name, count in counter.items()}
        hour, minute = over(range(now - 59, now + 1)), over([now - 1])
        nothing = {"rcp": 0, "dom": 0, "kb": 0}
        domains = len({queue.domain for queue in queues.queues.values() if queue.live()})
        kilobytes = round(sum(item.message.size for item in live) / 1024, 1)
        top = over([max(queues.minutes, key=lambda at: queues.minutes[at]["out.rcp"], default=now)])
        return {
            "mta": {
                "product": {
                    "name": "PowerMTA stand-in",
                    "version": VERSION,
                    "variant": "lab only, it is not PowerMTA",
                    "buildDate": "",
                    "bits": 64,
                },
                "os": {"name": platform.system(), "version": platform.release()},
                "fullHostName": socket.getfqdn(),
            },
            "status": {
                "timeNow": _when(time.time()),
                "startupTime": _when(server.started),
                "shuttingDown": self.stop.is_set(),
                "traffic": {
                    "total": three(total),
                    "lastHr": three(hour),
                    "lastMin": three(minute),
                    "topPerHr": three(hour),
                    "topPerMin": three(top),
                },
                "bounceProcessed": queues.processed["bounce-processor"],
                "feedbackLoopProcessed": queues.processed["feedback-loop-processor"],
                "conn": {
                    "smtpIn": {
                        "cur": len(server.sessions),
                        "max": int(first(server.configuration.globals, "total-max-smtp-in", "100")),
                        "top": server.top_in,
                    },
                    "smtpOut": {
                        "cur": server.delivery.total(),
                        "max": int(first(server.configuration.globals, "total-max-smtp-out", "200")),
                        "top": server.delivery.top,
                    },
                },
                "resolver": {"namesCached": 0, "queriesPending": 0},
                "queue": {
                    "smtp": {"rcp": len(live), "dom": domains, "kb": kilobytes},
                    **dict.fromkeys(("pipe", "discard", "file", "alias"), nothing),
                    **dict.fromkeys(("bounceProcessor", "feedbackLoopProcessor"), nothing),
                },
                "spool": {
                    "initPct": 100,
                    "totalRcp": len(live),
                    "maxRcp": 0,
                    "files": {"inUse": len({item.message.id for item in live}), "recycled": 0, "total": 0},
                },
            },
        }

    def do_show_version(self, options: dict[str, str], words: list[str]) -> Answer:
        return version()

    def do_show_license(self, options: dict[str, str], words: list[str]) -> Answer:
        with open(f"{ROOT}/license", encoding="utf-8") as file:
            text = file.read().strip()
        return Answer(text, {"license": {"text": text, "product": "PowerMTA stand-in"}})

    def do_show_settings(self, options: dict[str, str], words: list[str]) -> Answer:
        if not words:
            raise Wrong("show settings DOMAIN[/VMTA]")
        domain, _, vmta = words[0].partition("/")
        return _settings(self.server.configuration.domain(domain.lower(), vmta or DEFAULT))

    def do_show_vmta_settings(self, options: dict[str, str], words: list[str]) -> Answer:
        configuration = self.server.configuration
        if not words or words[0] not in configuration.groups:
            raise Wrong(f"there is no virtual MTA '{' '.join(words)}'")
        group = configuration.groups[words[0]]
        answer = _settings(
            {key: value for key, value in configuration.vmta_settings(words[0]).items() if key != "domain"}
        )
        assert answer.data is not None
        answer.data["settings"].update(
            {
                "smtp-source-host": [f"{ip} {name}" for ip, name in group.hosts],
                "cold-virtual-mta": group.cold,
                "virtual-mta": group.members,
                "domain-key": [f"{key.selector},{key.domain},{key.file}" for key in configuration.keys_for(words[0])],
            }
        )
        answer.text += "".join(f"\nsmtp-source-host {ip} {name}" for ip, name in group.hosts)
        return answer

    def do_show_disabled_sources(self, options: dict[str, str], words: list[str]) -> Answer:
        rows = [
            {"ip": ip, "queue": queue, "reenableTime": _when(until)}
            for (ip, queue), until in sorted(self.server.queues.disabled.items())
            if not words or fnmatch.fnmatchcase(queue, _pattern(words[0]))
        ]
        text = _table(((row["ip"], row["queue"], row["reenableTime"]) for row in rows), "source", "queue", "until")
        return Answer(text, {"sources": rows})

    # ---- messages

    def _items(self, options: dict[str, str]) -> list[tuple[Queue, Item]]:
        found = []
        age = reader.interval(options["older-than"]) if options.get("older-than") else 0
        for queue in self.server.queues.queues.values():
            if "queue" in options and not fnmatch.fnmatchcase(queue.name, _pattern(options["queue"])):
                continue
            for item in queue.live():
                message = item.message
                if (
                    fnmatch.fnmatchcase(message.sender, options.get("orig", "*"))
                    and fnmatch.fnmatchcase(item.recipient.address, options.get("rcpt", "*"))
                    and options.get("jobid", message.job) == message.job
                    and options.get("envid", message.envid) == message.envid
                    and time.time() - message.time_queued >= age
                ):
                    found.append((queue, item))
        return found

    def do_list(self, options: dict[str, str], words: list[str]) -> Answer:
        rows = [
            {
                **{"id": item.message.id, "queue": queue.name, "orig": item.message.sender},
                **{"rcpt": item.recipient.address, "timeQueued": _when(item.message.time_queued)},
                **{"jobId": item.message.job, "envId": item.message.envid},
            }
            for queue, item in self._items(options)
        ]
        rows = rows[: int(options.get("maxitems") or len(rows))]
        text = _table(
            ((row["id"], row["queue"], row["orig"], row["rcpt"]) for row in rows), "id", "queue", "from", "to"
        )
        return Answer(text, {"messages": rows})

    def do_delete(self, options: dict[str, str], words: list[str]) -> Answer:
        if not {"queue", "orig", "rcpt", "jobid", "envid", "older-than"} & set(options):
            raise Wrong("delete needs --queue, --orig, --rcpt, --jobId, --envId or --older-than")
        found = self._items(options)
        for _queue, item in found:
            item.recipient.done = True
            self.server.queues.spool.note(item.message, item.index)
        messages = len({item.message.id for _queue, item in found})
        return Answer(f"{len(found)} recipients deleted.", {"deleted": {"msg": messages, "rcp": len(found)}})

    # ---- what can be changed

    def _wake(self, text: str) -> Answer:
        self.server.queues.save()
        self.server.queues.changed.notify_all()
        return Answer(text, {})

    def do_pause_queue(self, options: dict[str, str], words: list[str]) -> Answer:
        self.server.queues.paused.add(_needed(words, "queue"))
        return self._wake(f"Queue {words[0]} is paused.")

    def do_resume_queue(self, options: dict[str, str], words: list[str]) -> Answer:
        pattern = _pattern(_needed(words, "queue"))
        paused = self.server.queues.paused
        paused -= {name for name in paused if name == words[0] or fnmatch.fnmatchcase(name, pattern)}
        return self._wake(f"Queue {words[0]} goes on.")

    def do_pause_job(self, options: dict[str, str], words: list[str]) -> Answer:
        self.server.queues.paused_jobs.add(_needed(words, "job"))
        return self._wake(f"Job {words[0]} is paused.")

    def do_resume_job(self, options: dict[str, str], words: list[str]) -> Answer:
        self.server.queues.paused_jobs.discard(_needed(words, "job"))
        return self._wake(f"Job {words[0]} goes on.")

    def do_disable_source(self, options: dict[str, str], words: list[str]) -> Answer:
        if len(words) != 2:
            raise Wrong("disable source IP DOMAIN/VMTA")
        after = options.get("reenable-after", "")
        until = time.time() + reader.interval(after) if after and after != "never" else 1e11
        self.server.queues.disabled[words[0], words[1]] = until
        return self._wake(f"Source {words[0]} is disabled for {words[1]}.")

    def do_enable_source(self, options: dict[str, str], words: list[str]) -> Answer:
        if len(words) != 2:
            raise Wrong("enable source IP DOMAIN/VMTA")
        disabled = self.server.queues.disabled
        gone = [
            key
            for key in disabled
            if words[0] in ("*", key[0]) and (key[1] == words[1] or fnmatch.fnmatchcase(key[1], _pattern(words[1])))
        ]
        for key in gone:
            del disabled[key]
        return self._wake(f"{len(gone)} disabled sources are enabled.")

    def do_set_queue(self, options: dict[str, str], words: list[str]) -> Answer:
        mode = options.get("mode", "")
        if mode not in SYSTEMS:
            raise Wrong("set queue --mode=normal|backoff DOMAIN/VMTA")
        queues = self.server.queues
        domain, slash, vmta = _needed(words, "queue").partition("/")
        if slash and "*" not in words[0]:
            queues.queues.setdefault((domain.lower(), vmta), Queue(domain.lower(), vmta))
        found = [queue for queue in queues.queues.values() if fnmatch.fnmatchcase(queue.name, _pattern(words[0]))]
        for queue in found:
            queues.set_mode(queue, mode)
        return self._wake(f"{len(found)} queues are in mode {mode}.")

    def do_schedule(self, options: dict[str, str], words: list[str]) -> Answer:
        found = [
            queue
            for queue in self.server.queues.queues.values()
            if fnmatch.fnmatchcase(queue.name, _pattern(_needed(words, "queue")))
        ]
        for queue in found:
            queue.retry_at = 0.0
            for item in queue.items:
                item.when = item.recipient.next_try = 0.0
        return self._wake(f"{len(found)} queues are tried now.")

    def do_reload(self, options: dict[str, str], words: list[str]) -> Answer:
        self.server.reload()
        return Answer("The configuration is loaded.", {})

    def do_rotate_acct(self, options: dict[str, str], words: list[str]) -> Answer:
        self.server.accounting.rotate()
        return Answer("Accounting files are rotated.", {})

    def do_rotate_log(self, options: dict[str, str], words: list[str]) -> Answer:
        return Answer("The log is opened anew for each line here.", {})

    def do_reset_counters(self, options: dict[str, str], words: list[str]) -> Answer:
        queues = self.server.queues
        for counter in queues.traffic.values():
            counter.clear()
        queues.minutes.clear()
        queues.processed.clear()
        return Answer("Counters are zero.", {})

    do_reset_status = do_reset_counters

    def do_clear_dnscache(self, options: dict[str, str], words: list[str]) -> Answer:
        self.server.delivery.configured()
        return Answer("The DNS cache is empty.", {})

    # ---- for the monitor

    def do_standin_monitor(self, options: dict[str, str], words: list[str]) -> Answer:
        configuration = self.server.configuration
        keys = [node.words[0] for node in configuration.tree.all("http-api-key")]
        right = configuration.http_right(words[0])
        if options.get("key") and options["key"] in keys:
            right = "admin"
        return Answer(right, {"redirect": flag(configuration.globals, "http-redirect-to-https", True)})


_VMTA_TITLES = ("vmta", "rcpt", "KB", "conn", "domains")


def _pattern(text: str) -> str:
    return text if "/" in text else f"{text}/*"


def _needed(words: list[str], what: str) -> str:
    if len(words) != 1:
        raise Wrong(f"a {what} is needed")
    return words[0]


def _settings(settings: dict[str, list[str]]) -> Answer:
    secret = {"password", "auth-password"}
    plain = {key: " ".join(words) if key not in secret else "..." for key, words in sorted(settings.items())}
    return Answer("\n".join(f"{key} {value}" for key, value in plain.items()), {"settings": plain})
