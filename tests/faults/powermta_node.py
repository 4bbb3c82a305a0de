# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of powermta.py that runs on the PowerMTA host, the stand-in: a receiver, senders, faults and the count."""

from __future__ import annotations

import csv
import datetime
import json
import os
import random
import signal
import smtplib
import socketserver
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

# The module's own work needs nothing of Ansible, which is not on this host.
sys.modules["ansible"] = types.ModuleType("ansible")
sys.modules["ansible.module_utils"] = types.ModuleType("ansible.module_utils")
sys.modules["ansible.module_utils.basic"] = types.ModuleType("ansible.module_utils.basic")
sys.modules["ansible.module_utils.basic"].AnsibleModule = None

from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import fragments as core
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import slices
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.plugins.modules import powermta_configuration as module
from numbered_mail import Load, Server, Session, arrived, arrived_at, deferring, lock, sources

GIVEN = json.load(sys.stdin)
VARIANTS = GIVEN["variants"]
SINK = GIVEN["listen"]
STREAMS = {stream["name"]: stream for stream in VARIANTS["base"]["host"]["streams"]}
LEAVES = next(
    address
    for address in STREAMS["bulk"]["addresses"]
    if address["name"] not in {one["name"] for one in VARIANTS["less"]["host"]["streams"][-1]["addresses"]}
)
FRONT = VARIANTS["base"]["host"]["front"]
SENDS_REPORTS = VARIANTS["base"]["host"]["streams"][0]["addresses"][0]
POST = "127.0.0.3"  # a receiver that refuses in several ways, and takes the reports
DNS = ("127.0.0.1", 53)
LATEST_SECONDS = 10.0
KILLS = 12
PATIENCE_SECONDS = 60
PACE_SECONDS = 0.02
REFUSE, FAIL_RELOAD = Path("/etc/pmta/standin-refuse"), Path("/etc/pmta/standin-fail-reload")


class Wrong(Exception):
    """What was to be proven is not so."""


def prove(fact: object, text: str) -> None:
    if not fact:
        raise Wrong(text)


class Names(socketserver.BaseRequestHandler):
    """There is no name at all, and one is told so at once: without DNS each message would wait for it."""

    def handle(self) -> None:
        asked, sock = self.request
        question = asked[12 : asked.index(b"\0", 12) + 5]
        sock.sendto(asked[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question, self.client_address)


class Post(socketserver.StreamRequestHandler):
    """It refuses by the recipient's name, and takes what has no sender."""

    reports: ClassVar[list[dict[str, str]]] = []
    holding = threading.Event()  # what drains waits

    def handle(self) -> None:
        self.say("220 post")
        told = {"ip": self.client_address[0]}
        while line := self.rfile.readline().decode("utf-8", "replace"):
            verb, rest = line[:4].upper(), line.strip().lower()
            if verb == "EHLO":
                told["ehlo"] = rest[5:]
                self.say("250-post\r\n250 SIZE 3000")
            elif verb == "MAIL":
                told["sender"] = rest.partition("<")[2].partition(">")[0]
                size = int(rest.partition("size=")[2].partition(" ")[0] or 0)
                self.say("552 5.3.4 it is too large" if size > 3000 and told["sender"] else "250 ok")
            elif verb == "RCPT":
                told["rcpt"] = rest.partition("<")[2].partition(">")[0]
                self.say(self._answer(told["rcpt"].partition("@")[0].partition("-")[0]))
            elif verb == "DATA":
                self.say("354 go")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                if not told["sender"]:
                    with lock:
                        self.reports.append({**told, "text": b"".join(lines).decode("utf-8", "replace")})
                self.say("250 taken" if not told["sender"] else "554 5.6.0 not that content")
            else:
                self.say("221 bye" if verb == "QUIT" else "250 ok")
                if verb == "QUIT":
                    return

    def _answer(self, name: str) -> str:
        if name == "old" or (name == "draining" and self.holding.is_set()):
            return "450 4.2.0 later"
        return "550 5.1.1 no such mailbox" if name in ("gone", "draining") else "250 ok"

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class Pulse:
    """How long this process itself had to wait for its turn while something was measured."""

    def __enter__(self) -> Pulse:
        self.longest, self._going = 0.0, True
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._going = False

    def _beat(self) -> None:
        while self._going:
            begin = time.monotonic()
            time.sleep(0.05)
            self.longest = max(self.longest, time.monotonic() - begin)


def load_of(name: str, streams: tuple[str, ...]) -> Load:
    """A sender for each stream."""
    senders = [((stream["port"],), f"a@{stream['domains'][0]}") for stream in map(STREAMS.__getitem__, streams)]
    return Load(name, SINK, senders, PACE_SECONDS)


def hurry() -> None:
    pmta("schedule", "*/*")


def came_from(ips: list[str]) -> int:
    with lock:
        return sum(source in ips for _stamp, source in sources)


def configure(variant: str, check_mode: bool = False) -> dict:
    return module.configure(VARIANTS[variant], check_mode, datetime.date.today())


def refused(variant: str) -> str:
    try:
        configure(variant)
    except configuration.PowermtaError as error:
        return str(error)
    raise Wrong(f"{variant} was not refused")


def pmta(*words: str) -> str:
    return subprocess.run(["pmta", *words], capture_output=True, text=True, check=False).stdout


def pid() -> int:
    shown = subprocess.run(["systemctl", "show", "-P", "MainPID", "pmta"], capture_output=True, text=True, check=True)
    return int(shown.stdout)


def waiting(virtual_mta: str) -> int:
    queues = json.loads(pmta("--json", "show", "queues"))["data"]["queues"]
    return sum(queue["rcp"] for queue in queues if queue["name"].endswith(f"/{virtual_mta}"))


def until(fact: Callable[[], object], text: str, patience: float = PATIENCE_SECONDS) -> None:
    end = time.monotonic() + patience
    while not fact():
        prove(time.monotonic() < end, f"not within {patience} seconds: {text}")
        time.sleep(0.3)


def drained(virtual_mtas: list[str]) -> bool:
    hurry()
    return not sum(map(waiting, virtual_mtas))


def bounces(status: str = "") -> list[str]:
    """Recipients that PowerMTA bounced."""
    found = []
    for path in sorted(Path("/var/log/pmta").glob("acct-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            found += [row["rcpt"] for row in rows if row["type"] == "b" and row["dsnStatus"].startswith(status)]
    found = [rcpt for rcpt in found if not rcpt.endswith(f"@[{POST}]")]  # those are to bounce
    return found


def defined() -> set[str]:
    text = "".join(configuration.current().values())
    return {line.split()[1].rstrip(">") for line in text.splitlines() if line.startswith("<virtual-mta ")}


def fragments(variant: str) -> dict[str, str]:
    """What the set of a variant is on its own."""
    params = VARIANTS[variant]
    names = ("passwords", "monitor_port", "spool_directory", "log_directory", "certificate")
    more = {name: params[name] for name in (*names, "accounting_days", "accounting_max_bytes")}
    return core.files(params["host"], slices.Options(today=datetime.date.today(), **more))


def whole(*variants: str) -> bool:
    """Whether the set in place is one of these, PowerMTA would read it, and it runs."""
    known = [fragments(variant) for variant in variants]
    there = {name: text for name, text in configuration.current().items() if not name.endswith(slices.KEYS_END)}
    return there in known and "Error" not in pmta("test", "config") and configuration.running()


def runs_on(load: Load, text: str) -> None:
    with lock:
        before = len(load.accepted), sum(arrived.values())
    until(lambda: len(load.accepted) > before[0] and sum(arrived.values()) > before[1], f"{text}: mail does not flow")


# ---- what happens


def the_role_and_this_say_the_same(load: Load) -> None:
    done = configure("base")
    prove(not done["changed"], f"after the role there was something left: {done['files']} {done['effort']}")


def refusals_leave_the_old_set_running(load: Load) -> None:
    before, first = configuration.current(), pid()
    REFUSE.write_text("max-smtp-out 7", encoding="utf-8")
    told = refused("slower")
    REFUSE.unlink()
    prove("test config refuses" in told and "Error in line" in told, f"the refusal is not told: {told}")
    FAIL_RELOAD.touch()
    told = refused("slower")
    FAIL_RELOAD.unlink()
    prove("pmta reload failed" in told, f"the failed reload is not told: {told}")
    prove(configuration.current() == before, "the old set is not in place")
    prove(pid() == first, "PowerMTA was restarted")
    runs_on(load, "after the refusals")
    # The way back was refused as well, so nobody knows what it runs with, and the next run makes sure.
    prove(not configuration.in_force(), "a set that was not seen to be read counts as read")
    prove(configuration.apply({}, start=True).effort == "restart", "the next run does not make sure")
    prove(configuration.in_force(), "the old set is not in force")
    runs_on(load, "after the restart")


def changes_reload_under_mail(load: Load) -> None:
    for variant in ("slower", "base", "slower", "base"):
        effort = configure(variant)["effort"]
        prove(effort == configuration.RELOAD, f"{variant} took a {effort}")
        runs_on(load, variant)


def a_restart_and_kills_of_the_daemon(load: Load) -> None:
    subprocess.run(["systemctl", "restart", "pmta"], check=True)
    runs_on(load, "after a restart")
    for _round in range(2):
        first = pid()
        os.kill(first, signal.SIGKILL)
        until(lambda first=first: pid() not in (0, first), "its watchdog starts PowerMTA again")
        until(configuration.running, "PowerMTA runs again")
        configure("base")
        runs_on(load, "after SIGKILL")
    prove(not configure("base")["changed"], "something is left to do after SIGKILL")


def an_address_leaves_after_its_mail(load: Load) -> None:
    name = LEAVES["name"]
    deferring.set()
    until(lambda: waiting(name), f"mail waits for {name}")
    first, second = configure("less"), configure("less")
    for done in (first, second):
        prove([one["virtual_mta"] for one in done["draining"]] == [name], f"it is not drained: {done['draining']}")
        prove(done["draining"][0]["recipients"], f"nothing waits: {done['draining']}")
    prove(not second["changed"], f"while it drains, a run changed {second['files']}")
    prove(name in defined(), f"{name} left before its mail")
    held = waiting(name)
    deferring.clear()
    until(lambda: drained([name]), f"the queues of {name} are empty")
    before = came_from(LEAVES["ips"])
    prove(before >= held, f"only {before} of {held} left from {name}")
    done = configure("less")
    prove(not done["draining"] and name not in defined(), f"{name} stays without mail: {done['draining']}")
    runs_on(load, "without the address")
    prove(came_from(LEAVES["ips"]) == before, f"new mail left from {name}")
    configure("base")


def a_stream_leaves_and_comes_back(load: Load) -> None:
    names = [address["name"] for address in STREAMS["bulk"]["addresses"]]
    deferring.set()
    until(lambda: all(map(waiting, names)), "mail of bulk waits")
    done = configure("removed")
    prove([one["virtual_mta"] for one in done["draining"]] == names, f"draining: {done['draining']}")
    done = configure("base")  # while its mail waits
    still = {one["virtual_mta"] for one in done["draining"]} & set(names)
    prove(not still, f"what came back still drains: {still}")
    configure("removed")
    deferring.clear()
    until(lambda: drained(names), "the queues of bulk are empty")
    done = configure("removed")
    prove(not defined() & set(names), f"the stream stays without mail: {done['draining']}")
    runs_on(load, "without the stream")
    configure("base")
    runs_on(load, "with the stream")


def seconds_of(variant: str) -> float:
    begin = time.monotonic()
    configure(variant)
    return time.monotonic() - begin


def killed(variant: str, moment: float) -> bool:
    """Whether a run was killed at this moment, in seconds; False where it was faster."""
    child = os.fork()
    if not child:
        try:
            configure(variant)
        finally:
            os._exit(0)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def a_killed_run_is_finished_by_the_next(load: Load) -> None:
    dice = random.Random(GIVEN["seed"])
    takes = min(map(seconds_of, ("slower", "base", "slower")))  # the fastest: the machine may be busy
    moments = [takes * 1.1 * (number + dice.random()) / KILLS for number in range(KILLS)]
    dice.shuffle(moments)
    died, new = 0, 0
    for number, moment in enumerate(moments):
        variant = ("base", "slower")[number % 2]
        died += killed(variant, moment)
        prove(whole("base", "slower"), f"killed after {moment:.3f} s, the set is neither the old nor the new one")
        new += whole(variant)
        configure(variant)
        prove(
            whole(variant) and configuration.in_force(),
            f"a run killed after {moment:.3f} s was not finished by the next",
        )
        prove(not configure(variant)["changed"], f"there is something left after a kill at {moment:.3f} s")
    prove(died >= KILLS // 2 and 0 < new < KILLS, f"{died} of {KILLS} died, {new} with the new set in place")
    configure("base")
    runs_on(load, "after the kills")


def two_runs_at_once(load: Load) -> None:
    for _round in range(3):
        children = []
        for variant in ("slower", "base"):
            child = os.fork()
            if not child:
                code = 1
                try:
                    configure(variant)
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        codes = [os.waitpid(child, 0)[1] for child in children]
        prove(codes == [0, 0], f"of two runs at once, they ended with {codes}")
        prove(whole("base", "slower") and configuration.in_force(), "two runs at once left neither set in force")
    configure("base")
    runs_on(load, "after two runs at once")


def a_cold_address_takes_its_schedule_and_no_more(load: Load) -> None:
    """One that warms up gets so many messages of a day; the warm one beside it gets the rest."""
    name, others = (
        LEAVES["name"],
        [ip for one in STREAMS["bulk"]["addresses"] if one is not LEAVES for ip in one["ips"]],
    )
    told = configure("cold")
    prove(told["addresses"][name] == "cold", f"it is {told['addresses'][name]}")
    before, warm = came_from(LEAVES["ips"]), came_from(others)
    until(lambda: came_from(others) > warm + 4 * GIVEN["cold"], "the warm address sends on")
    until(lambda: drained([name]), f"the queue of {name} is empty")
    # What it had as a warm one when the change came is on top, and what came before the first count is missing.
    taken = came_from(LEAVES["ips"]) - before
    prove(abs(taken - GIVEN["cold"]) <= 10, f"it took {taken} of {GIVEN['cold']} messages")
    configure("base")
    runs_on(load, "after the warm-up")


def new_addresses_and_streams_delay_no_mail(load: Load) -> None:
    """An address and a stream leave and come while mail goes through the others."""
    configure("fewer")
    gone = [LEAVES["name"], *(one["name"] for one in STREAMS["marketing"]["addresses"])]
    until(lambda: drained(gone), f"the queues of {gone} are empty")
    configure("fewer")
    prove(not defined() & set(gone), f"{gone} are there yet")
    with Pulse() as pulse:
        begin = time.time()
        with lock:
            before = len(load.accepted)
        configure("base")
        until(lambda: came_since(LEAVES["ips"], begin), f"mail leaves from {LEAVES['ips']}")
        until(lambda: len(load.accepted) > before + 200, "mail is accepted")
        ends = time.time()
        numbers = [number for number, when in list(load.accepted_at.items()) if begin <= when <= ends]
        until(lambda: all(number in arrived_at for number in numbers), "what was accepted meanwhile arrives")
    slowest = max(arrived_at[number] - load.accepted_at[number] for number in numbers)
    bound = LATEST_SECONDS + pulse.longest  # a machine that stalls delays everything
    prove(slowest <= bound, f"a message of {len(numbers)} took {slowest:.1f} s of {bound:.1f} while an address came")
    print(f"        of {len(numbers)} messages meanwhile the slowest took {slowest:.2f} s", flush=True)


def came_since(ips: list[str], since: float) -> bool:
    with lock:
        return any(when >= since and source in ips for when, source in sources)


def bounces_reach_the_injector(load: Load) -> None:
    """Refused by the receiver at each step, too large for it, too old, of what drains, and refused by us."""
    bulk, short = STREAMS["bulk"], STREAMS["marketing"]
    own, other = bulk["domains"][0], short["domains"][0]
    unreachable = min(VARIANTS["base"]["host"]["forwards"], key=lambda one: one["queue_life_seconds"])
    draining = [f"draining-{number}" for number in range(4)]
    header = FRONT["header"]
    kinds = {
        "gone": (bulk["port"], own, {}),
        "content": (bulk["port"], own, {}),
        "large": (bulk["port"], own, {}),
        "foreign": (bulk["port"], other, {}),
        "name": (FRONT["port"], own, {header: "nobody"}),
        "front": (FRONT["port"], own, {header: short["name"]}),
        "forward": (FRONT["port"], unreachable["domains"][0], {header: unreachable["stream"]}),
        "old": (short["port"], other, {}),
        **dict.fromkeys(draining, (bulk["port"], own, {})),
    }
    Post.holding.set()
    for kind, (port, domain, headers) in kinds.items():
        fields = "".join(f"{name}: {value}\r\n" for name, value in {"From": f"a@{domain}", **headers}.items())
        body = "x" * 70 + "\r\n"
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
            text = f"{fields}Subject: {kind}\r\n\r\n{body * (100 if kind == 'large' else 1)}"
            smtp.sendmail(f"injector-{kind}@[{POST}]", [f"{kind}@[{POST}]"], text)
    until(lambda: waiting(LEAVES["name"]), f"mail waits for {LEAVES['name']}")
    prove(LEAVES["name"] in [one["virtual_mta"] for one in configure("less")["draining"]], "it does not drain")
    Post.holding.clear()

    def reported() -> bool:
        hurry()
        with lock:
            return set(kinds) <= {report["rcpt"].partition("@")[0].partition("-")[2] for report in Post.reports}

    try:
        until(reported, "every injector has its report", 3 * PATIENCE_SECONDS)
    finally:
        configure("base")
    for kind in kinds:
        found = [report for report in Post.reports if report["rcpt"] == f"injector-{kind}@[{POST}]"]
        prove(len(found) == 1, f"{kind}: {len(found)} reports came")
        ehlo, text = found[0]["ehlo"], found[0]["text"]
        seen = (found[0]["ip"] in SENDS_REPORTS["ips"], ehlo == SENDS_REPORTS["ehlo"], found[0]["sender"] == "")
        prove(all(seen), f"{kind}: its report comes from {found[0]['ip']} as {ehlo} from <{found[0]['sender']}>")
        for words in (f"<MAILER-DAEMON@{ehlo}>", f"Final-Recipient: rfc822;{kind}@[{POST}]", "Action: failed"):
            prove(words in text, f"{kind}: its report does not say {words}")
    runs_on(load, "after the bounces")
    prove(not came_to_post(kinds), "a message that was refused came all the same")


def came_to_post(kinds: dict) -> list[str]:
    """Recipients of deliveries to it, but for the reports."""
    found = []
    for path in sorted(Path("/var/log/pmta").glob("acct-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += [row["rcpt"] for row in csv.DictReader(file) if row["type"] == "d"]
    return [rcpt for rcpt in found if rcpt.partition("@")[0] in kinds]


def removal_at_once_loses_mail(_load: object = None) -> None:
    """What the two steps are for, on the stand-in. These messages are none of the numbered ones."""
    name = LEAVES["name"]
    deferring.set()
    load = load_of("control", ("bulk",))
    until(lambda: waiting(name) > 2, f"mail waits for {name}")
    load.stop()
    held = waiting(name)
    with configuration.alone():
        configuration.apply(fragments("less"), start=True)
    until(lambda: len(bounces("5.3.5")) >= held, "PowerMTA bounces what waits for a virtual MTA that is gone")
    deferring.clear()
    configure("base")
    lost = load.lost(10, hurry)
    prove(len(lost) == held, f"{held} messages waited for it and {len(lost)} were lost")
    print(f"ok      removal at once loses mail: {len(lost)} of {len(load.accepted)}, bounced with 5.3.5", flush=True)


EVENTS = (
    the_role_and_this_say_the_same,
    refusals_leave_the_old_set_running,
    changes_reload_under_mail,
    a_restart_and_kills_of_the_daemon,
    an_address_leaves_after_its_mail,
    a_stream_leaves_and_comes_back,
    a_killed_run_is_finished_by_the_next,
    two_runs_at_once,
    a_cold_address_takes_its_schedule_and_no_more,
    new_addresses_and_streams_delay_no_mail,
    bounces_reach_the_injector,
)


def main() -> int:
    servers = (Server((SINK, 25), Session), Server((POST, 25), Post), socketserver.ThreadingUDPServer(DNS, Names))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    Path("/etc/resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="utf-8")
    pmta("reload")
    load, failed = load_of("mail", tuple(STREAMS)), 0
    for event in EVENTS:
        begin, name = time.monotonic(), event.__name__.replace("_", " ")
        try:
            event(load)
            print(f"ok      {name}, {time.monotonic() - begin:.0f} s", flush=True)
        except (Wrong, configuration.PowermtaError) as error:
            failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
            deferring.clear()
    load.stop()
    lost, bounced = load.lost(PATIENCE_SECONDS, hurry), bounces()
    try:
        removal_at_once_loses_mail()
    except (Wrong, configuration.PowermtaError) as error:
        failed += 1
        print(f"FAILED  removal at once loses mail: {error}", flush=True)
    figures = {"messages": len(load.accepted), "lost": len(lost), "bounced": len(bounced), "doubled": load.doubled()}
    print(json.dumps(figures), flush=True)
    return 1 if failed or lost or bounced or not load.accepted else 0


if __name__ == "__main__":
    raise SystemExit(main())
