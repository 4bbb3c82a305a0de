# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail without pause through three rotations of every DKIM key and an emergency, under kills, outages and a lost host.

``python tests/faults/rotation.py`` makes a world, plays it, and removes it. The receiver verifies every message as it
arrives and again at the end of its queue life, through a caching resolver that is kept asking for the selectors to
come. MTA_ROTATION_ROUNDS=3 plays the three rotations three times.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rotation_dns import Servers
from rotation_mail import Mail, Way
from world_of_faults import ENVIRONMENT, ROOT, World, await_port, changes, kill_tree, prove, recap, run, take

sys.path.insert(0, str(ROOT / "molecule"))
from lab import plain

WORLD = 9
PLAYBOOK = "playbooks/rotate_dkim.yml"
PACE_SECONDS = 15  # how often cron would run it
PATIENCE_SECONDS = 600
KILLS = 8
TASKS = 48  # of a run with something to do
QUEUE_LIFE_SECONDS = 60
LAST_TRY_SECONDS = QUEUE_LIFE_SECONDS * 6 // 5  # when Postfix has tried it for the last time
TTL_SECONDS = 30
KEEP_RETIRED_SECONDS = LAST_TRY_SECONDS + TTL_SECONDS + 3
JOURNAL = "/var/lib/mailops/dkim/journal.jsonl"
KEY_HOST, AWAY = "mta1", "mta2"
STOLEN = "mail.acme.test"  # whose keys are compromised while the host is away
SSH = ("--ssh-extra-args", "-o ServerAliveInterval=2 -o ServerAliveCountMax=2", "--timeout", "4")
LOGS = ROOT / "build/faults-rotation"
Series = tuple[str, str]  # domain, algorithm

# Ends what a killed playbook left running on a host: all that its ssh sessions have started.
END_REMOTE = """\
import os, signal
def read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().replace(b"\\0", b" ").decode()
    except OSError:
        return ""
parent = {pid: read(pid, "stat").rpartition(")")[2].split()[1:2] for pid in os.listdir("/proc") if pid.isdigit()}
sessions = {pid for pid in parent if read(pid, "cmdline").startswith("sshd: root@")}
def below(pid):
    above = (parent.get(pid) or ["0"])[0]
    return above in sessions or (above != "0" and below(above))
for pid in parent:
    if pid not in sessions and below(pid):
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
"""


@dataclass(frozen=True)
class Keys:
    """What the key host's journal says."""

    series: dict[Series, dict[int, dict[str, Any]]]
    lines: list[dict[str, Any]]

    @classmethod
    def read(cls, world: World) -> Keys:
        text = world.inside(KEY_HOST, f"cat {JOURNAL}")
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        series: dict[Series, dict[int, dict[str, Any]]] = {}
        for line in lines:
            series.setdefault((line["domain"], line["algorithm"]), {})[line["key"]["id"]] = line["key"]
        return cls(series, lines)

    def signing(self) -> dict[Series, int]:
        return {
            name: max((n for n, key in keys.items() if key["state"] == "active" and not key["revoked"]), default=0)
            for name, keys in self.series.items()
        }

    def settled_after(self, before: dict[Series, int]) -> bool:
        """Every series signs with a newer key and with no other."""
        active = {
            name: [n for n, key in keys.items() if key["state"] == "active"] for name, keys in self.series.items()
        }
        return all(len(found) == 1 and found[0] > before[name] for name, found in active.items())

    def at_rest(self) -> bool:
        keys = [key for keys in self.series.values() for key in keys.values()]
        return all(key["state"] == "active" or key["cleared"] for key in keys)

    def period(self, domain: str, algorithm: str, selector: str) -> list[tuple[int, float]]:
        """When hosts were to sign with it; a slot's selector has several periods."""
        periods: list[tuple[int, float]] = []
        open_since: dict[int, int] = {}
        for line in self.lines:
            key = line["key"]
            if (line["domain"], line["algorithm"], key["selector"]) != (domain, algorithm, selector):
                continue
            if key["state"] == "active":
                open_since.setdefault(key["id"], line["wall"])
            elif key["id"] in open_since:
                periods.append((open_since.pop(key["id"]), line["wall"]))
        return periods + [(begin, float("inf")) for begin in open_since.values()]

    def revoked(self) -> dict[tuple[str, str], int]:
        """Since when the key of a domain and selector is revoked."""
        found: dict[tuple[str, str], int] = {}
        for line in self.lines:
            if line["key"]["revoked"]:
                found.setdefault((line["domain"], line["key"]["selector"]), line["wall"])
        return found


class Playing:
    """One run of the playbook. Its output grows in a file, so that it can be watched and outlive a kill."""

    def __init__(self, world: World, number: int, requests: Iterable[dict[str, str]]) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log = LOGS / f"{number:03d}.log"
        asked = ("-e", json.dumps({"mta_dkim_requests": list(requests)}))
        with self.log.open("w", encoding="utf-8") as out:
            command = world.command(PLAYBOOK, *SSH, *asked)
            options = {"stdout": out, "stderr": subprocess.STDOUT, "cwd": ROOT, "env": ENVIRONMENT}
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
        self.begin = time.monotonic()

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def tasks(self) -> int:
        return self.output.count("\nTASK [")

    def over(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def kill(self) -> None:
        """As when the machine that runs it is cut off: none of its processes gets to say a word."""
        kill_tree(self.process)


@dataclass
class Story:
    world: World
    servers: Servers
    mail: Mail
    series: list[dict[str, Any]]
    dice: random.Random
    figures: Counter[str] = field(default_factory=Counter)
    before: dict[Series, int] = field(default_factory=dict)
    due: float = 0.0  # when cron starts the next run
    pending: list[dict[str, str]] = field(default_factory=list)
    stolen: set[tuple[str, str]] = field(default_factory=set)

    def hosts_of(self, name: Series) -> list[str]:
        return next(each["hosts"] for each in self.series if (each["domain"], each["algorithm"]) == name)

    def keys(self) -> Keys:
        return Keys.read(self.world)

    def ask(self, reason: str = "demand", domains: Iterable[str] = ()) -> None:
        """A request belongs to each run until the journal has it."""
        signing = self.keys().signing()
        chosen = set(domains) or {domain for domain, _algorithm in signing}
        self.before.update({name: number for name, number in signing.items() if name[0] in chosen})
        self.pending = [{"domain": domain, "reason": reason} for domain in sorted(chosen)]

    def start(self) -> Playing:
        time.sleep(max(0.0, self.due - time.monotonic()))
        self.due = time.monotonic() + PACE_SECONDS
        if self.pending and self._was_heard(self.keys()):
            self.pending = []
        self.figures["runs"] += 1
        return Playing(self.world, self.figures["runs"], self.pending)

    def _was_heard(self, keys: Keys) -> bool:
        domains = {request["domain"] for request in self.pending}
        return all(
            number > self.before[name] or keys.series[name][number]["replace"]
            for name, number in keys.signing().items()
            if name[0] in domains
        )

    def steal(self, domain: str) -> None:
        """Somebody else has the keys of a domain; replacing them is one rotation more of this domain."""
        self.stolen = {(domain, key["selector"]) for key in signing_keys(self.keys()) if key["domain"] == domain}
        self.ask("compromised", [domain])

    def superseded_on(self, host: str) -> set[tuple[Series, str]]:
        """The keys that a host may still sign with, although others are the ones to sign with."""
        keys = self.keys()
        newest = keys.signing()
        return {
            (name, key["selector"])
            for name, of_series in keys.series.items()
            if host in self.hosts_of(name)
            for number, key in of_series.items()
            if key["state"] == "active" and number != newest[name]
        }

    def play_until_new_keys_are_due_on(self, host: str) -> Playing:
        """A run that is going on, and has put new keys to use by the journal."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            prove(time.monotonic() < end, f"no new key was put to use within {PATIENCE_SECONDS} seconds")
            playing = self.start()
            while not playing.over():
                if self.superseded_on(host):
                    return playing
                time.sleep(0.3)

    def play(self) -> Playing:
        playing = self.start()
        playing.wait()
        return playing

    def play_until(self, what: str, fact: Callable[[Keys], bool]) -> None:
        """Runs as cron would start them, until the journal shows it."""
        end, said = time.monotonic() + PATIENCE_SECONDS, ""
        while not fact(self.keys()):
            prove(time.monotonic() < end, f"not within {PATIENCE_SECONDS} seconds: {what}; the last run said\n{said}")
            said = self.play().output[-4000:]

    def finish_rotation(self) -> None:
        self.play_until("every series signs with its new key", lambda keys: keys.settled_after(self.before))
        self.figures["rotations"] += 1


def a_rotation_survives_kills_of_the_playbook(story: Story) -> None:
    story.ask()
    # A run is cut into as many parts as there are kills: each part has one.
    moments = [TASKS * (n + story.dice.random()) / KILLS for n in range(KILLS)]
    story.dice.shuffle(moments)
    for number, moment in enumerate(moments):
        story.due = 0.0
        playing = story.start()
        while playing.tasks < moment and not playing.over():
            time.sleep(0.05)
        time.sleep(story.dice.random() * 0.5)
        if not playing.over():
            playing.kill()
            story.figures["kills"] += 1
        if number % 2:
            for host in (KEY_HOST, AWAY):
                run("podman", "exec", story.world.container(host), "python3", "-c", END_REMOTE)
    story.finish_rotation()


def another_survives_two_runs_at_once_and_dns_outages(story: Story) -> None:
    story.ask()
    with story.servers.provider_refuses(20):
        first = story.start()
        story.due = 0.0
        second = story.start()
        story.figures["runs at once"] += 2
    first.wait()
    second.wait()
    with story.servers.secondary_lags(20):
        story.play()
    with story.servers.secondary_is_down(20):
        story.play()
    story.finish_rotation()


def a_third_waits_for_a_host_that_is_away(story: Story) -> None:
    story.ask()
    playing = story.play_until_new_keys_are_due_on(AWAY)
    story.mail.pause(AWAY)
    run("podman", "stop", "--time", "1", story.world.container(AWAY))
    story.figures["hosts away"] += 1
    playing.wait()
    old = story.superseded_on(AWAY)
    prove(bool(old), f"{AWAY} went too late to miss a step")
    story.steal(STOLEN)
    story.play()
    gone = old - story.superseded_on(AWAY)
    prove(not gone, f"while {AWAY} was away, what it may sign with did not stay in use: {gone}")
    run("podman", "start", story.world.container(AWAY))
    for port in {22, *(way.port for way in story.mail.ways if way.host == AWAY)}:
        await_port(story.world.ip(0, 12), port)
    story.mail.resume(AWAY)
    time.sleep(5)  # mail that its old table signs
    story.finish_rotation()


def a_compromised_key_is_revoked_once_nobody_signs_with_it(story: Story) -> None:
    story.play_until("the stolen keys are revoked", lambda keys: story.stolen <= set(keys.revoked()))
    story.figures["emergencies"] += 1


def signing_keys(keys: Keys) -> list[dict[str, Any]]:
    return [
        {"domain": name[0], "algorithm": name[1], **keys.series[name][number]}
        for name, number in keys.signing().items()
        if number
    ]


def all_comes_to_rest(story: Story) -> None:
    story.mail.stop()
    time.sleep(KEEP_RETIRED_SECONDS)
    story.play_until("every old key is withdrawn", Keys.at_rest)
    last = story.play()
    counts = recap(last.output)
    prove(last.process.returncode == 0, f"the last run failed:\n{last.output[-4000:]}")
    prove(changes(counts) == 0, f"the last run changed something: {counts}")


def dns_shows_the_keys_in_use_and_no_other(story: Story) -> None:
    keys = story.keys()
    wanted: dict[str, str] = {}
    for of_series in keys.series.values():
        for key in of_series.values():
            wanted.setdefault(key["name"], "")
            if key["state"] == "active":
                wanted[key["name"]] = key["record"]
    wrong = []
    for name, shown in story.servers.show(wanted).items():
        for server, found in shown.items():
            texts = ["".join(text.strip('"').split('" "')) for text in found]
            if texts != ([wanted[name]] if wanted[name] else []):
                wrong.append(f"{name} on {server}: {found}")
    prove(not wrong, "\n".join(wrong))


def hosts_that_differ(story: Story, keys: Keys) -> list[str]:
    wanted: dict[str, dict[str, set[str]]] = {}
    for key in signing_keys(keys):
        for host in story.hosts_of((key["domain"], key["algorithm"])):
            name = f"{key['selector']}._domainkey.{key['domain']}.{key['fingerprint'][:8]}.key"
            wanted.setdefault(host, {}).setdefault(key["domain"], set()).add(name)
    wrong = []
    for host, domains in wanted.items():
        found = story.world.inside(host, "cd /etc/rspamd/mailops/signing && grep -sH . -- * || true")
        table: dict[str, set[str]] = {}
        for line in found.split():
            table.setdefault(line.partition(":")[0], set()).add(line.partition(":")[2])
        if table != domains:
            wrong.append(f"{host} signs with {table}, not with {domains}")
    return wrong


def every_host_signs_with_one_key_of_each_series(story: Story) -> None:
    wrong = hosts_that_differ(story, story.keys())
    prove(not wrong, "\n".join(wrong))


def every_message_arrived_and_verified_twice(story: Story) -> None:
    mail = story.mail
    end = time.monotonic() + LAST_TRY_SECONDS + 30
    while True:
        lines = [
            json.loads(line)
            for line in story.world.inside("rx1", "cat /var/lib/receiver/verified.jsonl").split("\n")
            if line
        ]
        seen = {when: {line["number"] for line in lines if line["when"] == when} for when in ("arrival", "end")}
        missing = set(mail.sent) - seen["end"]
        if not missing or time.monotonic() > end:
            break
        time.sleep(2)
    verdict = Verdict(story)
    for line in lines:
        verdict.judge(line)
    story.figures.update(verdict.figures)
    story.figures["messages"] = len(mail.sent)
    story.figures["lost"] = len(set(mail.sent) - seen["arrival"])
    story.figures["refused"] = len(mail.refused)
    story.figures["unsure"] = len(mail.unsure)
    wrong = verdict.wrong
    wrong += [f"number {n} was taken by {mail.sent[n].way} and never arrived" for n in set(mail.sent) - seen["arrival"]]
    wrong += [f"number {n} was not verified at the end of its life" for n in missing & seen["arrival"]]
    wrong += [f"refused: {text}" for text in mail.refused]
    prove(not wrong, "\n".join(wrong[:40]) + f"\n{len(wrong)} in all")
    prove(story.figures["revoked"] > 0, "no message showed that the compromised keys are revoked")


class Verdict:
    """Of each verification: whether it is as it should be, and by keys that the host should have used."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.keys = story.keys()
        self.revoked = self.keys.revoked()
        self.figures: Counter[str] = Counter()
        self.wrong: list[str] = []

    def judge(self, line: dict[str, Any]) -> None:
        mail, number, when = self.story.mail, line["number"], line["when"]
        sent = mail.sent.get(number) or mail.unsure[number]
        found = Counter(signature["algorithm"] for signature in line["signatures"])
        wanted = Counter(each["algorithm"] for each in self.story.series if each["domain"] == sent.way.domain)
        faults = [] if found == wanted else [f"signatures {dict(found)} instead of {dict(wanted)}"]
        exempt = False
        for signature in line["signatures"]:
            name = (signature["domain"], signature["selector"])
            text = f"{signature['algorithm']} signature by {name[1]} of {name[0]}"
            self.figures["asked again"] += signature["again"]
            if signature["domain"] != sent.way.domain:
                faults.append(f"{text}: another domain")
            periods = self.keys.period(signature["domain"], signature["algorithm"], signature["selector"])
            if not any(begin <= sent.end + 1 and sent.begin <= end + 1 for begin, end in periods):
                faults.append(f"{text}: made {sent.begin:.0f} to {sent.end:.0f}, and to be used in {periods}")
            if signature["passed"]:
                continue
            if sent.begin <= self.revoked.get(name, 0) <= line["wall"] + 1:
                exempt = True
            else:
                faults.append(f"{text}: {signature['reason']}; the resolver showed {signature['shown']}")
        if faults:
            self.figures[f"failed at {when}"] += 1
            where = f"number {number} ({when}, {line['age']} s old, {time.ctime(line['wall'])}, {sent.way.host})"
            self.wrong += [f"{where}: {fault}" for fault in faults]
        elif exempt:
            self.figures["revoked"] += 1
        else:
            self.figures[f"verified at {when}"] += 1


ROWS = (
    "messages",
    "lost",
    "refused",
    "unsure",
    "verified at arrival",
    "failed at arrival",
    "verified at end",
    "failed at end",
    "revoked",
    "asked again",
    "rotations",
    "emergencies",
    "runs",
    "kills",
    "runs at once",
    "DNS outages",
    "hosts away",
    "seconds",
)
ROTATIONS = (
    a_rotation_survives_kills_of_the_playbook,
    another_survives_two_runs_at_once_and_dns_outages,
    a_third_waits_for_a_host_that_is_away,
    a_compromised_key_is_revoked_once_nobody_signs_with_it,
)
END = (
    all_comes_to_rest,
    dns_shows_the_keys_in_use_and_no_other,
    every_host_signs_with_one_key_of_each_series,
    every_message_arrived_and_verified_twice,
)


def compress_time(world: World) -> None:
    """The world's fleet file: queues live a minute, keys change when somebody asks."""
    fleet = yaml.safe_load(world.fleet_file.read_text(encoding="utf-8"))
    fleet["queue_life_seconds"] = QUEUE_LIFE_SECONDS
    fleet["ttl_seconds"] = TTL_SECONDS
    fleet["dkim"] = {"margin_seconds": 2, "keep_retired_seconds": KEEP_RETIRED_SECONDS, "rotation": {"every_days": 0}}
    for stream in fleet["streams"].values():
        stream.pop("queue_life_seconds", None)
        stream.pop("mta_sts", None)
        stream.get("dkim", {}).pop("keep_retired_seconds", None)
        if "slots" in stream.get("dkim", {}):
            stream["dkim"]["slots"] = ["k1", "k2", "k3"]
    world.fleet_file.write_text(yaml.safe_dump(fleet, allow_unicode=True, sort_keys=False), encoding="utf-8")


def coming_names(series: list[dict[str, Any]]) -> list[str]:
    """The selectors that are asked for before anybody has made a key."""
    today = datetime.datetime.now(datetime.timezone.utc)
    days = [f"{today + datetime.timedelta(days=n):%Y%m%d}" for n in range(2)]
    names = []
    for each in series:
        suffix = "-ed25519" if each["algorithm"] == "ed25519" else ""
        stems = each["slots"] or [f"{each['selector']}-{day}{letter}" for day in days for letter in ("", *"bcdef")]
        names += [f"{stem}{suffix}._domainkey.{each['domain']}" for stem in stems]
    return names


def inventory(world: World) -> dict[str, Any]:
    """The variables of each host, as Ansible has them."""
    listing = str(Path(sys.executable).parent / "ansible-inventory")
    return plain(json.loads(run(listing, "-i", str(world.inventory), "--list").stdout)["_meta"]["hostvars"])


def begin_story(world: World, seed: int) -> Story:
    hosts = inventory(world)
    fleet = hosts["fleet"]
    series, streams = fleet["mta_dkim_series"], fleet["mta_fleet"]["streams"]
    ways = {
        (each["domain"], host): Way(each["domain"], host, hosts[host]["lab_ip"], streams[each["streams"][0]]["port"])
        for each in series
        for host in each["hosts"]
    }
    zones = [zone["name"] for zone in fleet["mta_dns"]["zones"] if not zone["name"].endswith(".arpa")]
    return Story(world, Servers(world, zones), Mail(list(ways.values())), series, random.Random(seed))


def start_receiver(story: Story) -> subprocess.Popen[str]:
    container = story.world.container("rx1")
    run("podman", "cp", str(Path(__file__).with_name("rotation_receiver.py")), f"{container}:/root/verify.py")
    command = ["podman", "exec", "-i", container, "python3", "/root/verify.py", str(LAST_TRY_SECONDS)]
    receiver = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert receiver.stdin is not None
    receiver.stdin.write("\n".join(coming_names(story.series)))
    receiver.stdin.close()
    return receiver


def table(figures: Counter[str]) -> str:
    return "\n".join(f"{name:<22} {figures[name]:>6}" for name in ROWS)


def play(rounds: int) -> tuple[bool, dict[str, int]]:
    """Whether all was proven, and the figures."""
    begin = time.monotonic()
    seed = int(os.environ.get("MTA_ROTATION_SEED") or time.time())
    print(f"MTA_ROTATION_SEED={seed}", flush=True)
    world = World(WORLD)
    compress_time(world)
    with world.up():
        story = begin_story(world, seed)
        world.play("playbooks/site.yml")
        # Where the secondary was late, the first keys are not in use yet.
        story.play_until(
            "every host has keys", lambda keys: all(keys.signing().values()) and not hosts_that_differ(story, keys)
        )
        receiver = start_receiver(story)
        story.mail.start()
        print(f"the world is up: {time.monotonic() - begin:.0f} s", flush=True)
        failed = take([*ROTATIONS * rounds, *END], story)
        story.figures["DNS outages"] = story.servers.outages
        receiver.terminate()
    story.figures["seconds"] = round(time.monotonic() - begin)
    print(table(story.figures))
    return not failed, {name: story.figures[name] for name in ROWS}


def main() -> int:
    return 0 if play(int(os.environ.get("MTA_ROTATION_ROUNDS", "1")))[0] else 1


if __name__ == "__main__":
    raise SystemExit(main())
