# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of postfix.py that runs in the container: sink, injectors, faults and the count."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.postfix import instances
from numbered_mail import Load, Server, Session, deferring, lock, sources

VARIANTS = json.loads(Path("/root/variants.json").read_text(encoding="utf-8"))
SINK = "198.18.9.9"
MAIN_CF = Path("/etc/postfix-bulk/main.cf")
MASTER_CF = Path("/etc/postfix-bulk/master.cf")
LOG = Path("/var/log/mail/postfix-bulk.log")
QUICK = {"minimal_backoff_time": "5s", "maximal_backoff_time": "10s", "queue_run_delay": "5s"}
SETTINGS = {**QUICK, "smtp_dns_support_level": "disabled"}
serial = itertools.count(1)


def apply(variant: str, **settings: str) -> instances.Outcome:
    retire = int(settings.pop("retire", "600"))
    host = instances.Host(check_mode=False, settings={**SETTINGS, **settings}, retire_seconds=retire)
    outcome = host.apply(VARIANTS[variant])
    if outcome.errors and variant not in ("broken", "silent"):
        raise SystemExit("\n".join(outcome.errors))
    return outcome


def load_of(
    ports: tuple[int, ...] = (2601,),
    domain: str = "bulk.fault.test",
    pace: float = 0.01,
    domains: tuple[str, ...] = (),
) -> Load:
    """Four senders."""
    return Load(f"{next(serial)}", SINK, [(ports, f"a@{domain}")] * 4, pace, domains)


def verdict(name: str, load: Load, patience: float, **more: object) -> bool:
    load.stop()
    begin = time.time()
    lost = load.lost(patience)
    doubled = load.doubled()
    waited = round(time.time() - begin)
    result = {"accepted": len(load.accepted), "lost": len(lost), "doubled": doubled, "last_after_s": waited}
    print(name, json.dumps({**result, **more}), flush=True)
    return not lost and all(value is not False for value in more.values())


def share_of(first: str, since: float) -> float:
    with lock:
        recent = [source for stamp, source in sources if stamp >= since]
    return round(sum(source == first for source in recent) / max(1, len(recent)), 3)


def reloads() -> bool:
    apply("base")
    load = load_of()
    done = []
    for variant in ("slower", "base", "slower", "base"):
        time.sleep(2)
        done += apply(variant).actions
    return verdict("reload", load, 320, reloads=done.count("postfix-bulk: reload"))


def restarts() -> bool:
    apply("base")
    load = load_of()
    for _round in range(2):
        time.sleep(2)
        unit = instances._Units().unit("postfix-bulk")
        subprocess.run(["systemctl", "restart", unit], check=True)
    return verdict("restart", load, 320)


def kills() -> bool:
    apply("base")
    load = load_of()
    for _round in range(2):
        time.sleep(2)
        with open("/var/spool/postfix-bulk/pid/master.pid", encoding="ascii") as file:
            os.killpg(int(file.read().split()[0]), signal.SIGKILL)
        apply("base")
    return verdict("sigkill", load, 320)


def port_moves() -> bool:
    apply("base")
    load = load_of(ports=(2601, 2701))
    time.sleep(1)
    done = apply("moved").actions
    time.sleep(3)
    done += apply("base").actions
    time.sleep(1)
    return verdict("port change", load, 320, actions=done)


def broken_settings() -> bool:
    apply("base")
    load = load_of()
    errors = []
    before = MAIN_CF.read_text(encoding="utf-8")
    for variant in ("broken", "silent"):
        time.sleep(1)
        errors += apply(variant).errors
    same = before == MAIN_CF.read_text(encoding="utf-8")
    again = apply("base").actions
    print(*errors, sep="\n", flush=True)
    time.sleep(2)
    return verdict("bad settings", load, 320, errors=len(errors), old_files_back=same, nothing_left_to_do=not again)


def share_changes() -> bool:
    apply("base")
    load = load_of(pace=0)
    time.sleep(5)
    equal = share_of("198.18.1.10", time.time() - 4)
    done = apply("three").actions
    time.sleep(1)
    since = time.time()
    while len([stamp for stamp, _source in sources if stamp >= since]) < 2000 and time.time() - since < 60:
        time.sleep(0.5)
    three = share_of("198.18.1.10", since)
    log = LOG.read_text(encoding="utf-8").splitlines()
    counted = len([stamp for stamp, _source in sources if stamp >= since])
    return verdict(
        "shares",
        load,
        320,
        one_to_one=equal,
        three_to_one=three,
        over=counted,
        within_3_percent=abs(three - 0.75) < 0.03,
        no_reload=not any("reload" in line for line in log[-3000:]),
        tables_only=done == ["postfix-bulk: tables changed (shares)"],
    )


def address_drain() -> bool:
    """A queue full of deferred mail, then one address goes: everything leaves by the other one."""
    apply("base")
    deferring.set()
    load = load_of(pace=0)
    time.sleep(5)
    load.going = False
    time.sleep(2)
    done = apply("less").actions
    drained = time.time() + 5
    time.sleep(6)
    deferring.clear()
    subprocess.run(["postqueue", "-c", "/etc/postfix-bulk", "-f"], check=True)
    load.lost(120)
    late = share_of("198.18.1.10", drained)
    kept = "out-198-18-1-10-default" in MASTER_CF.read_text(encoding="utf-8")
    gone = apply("less", retire="1").actions
    left = "out-198-18-1-10-" in MASTER_CF.read_text(encoding="utf-8")
    apply("base")
    return verdict(
        "address drain",
        load,
        320,
        first=done,
        from_old_address=late,
        none_from_old=late == 0.0,
        kept_at_first=kept,
        then=gone,
        gone_later=not left,
    )


def additions() -> bool:
    """Addresses and receiver groups come and go under load: nothing is deferred, and nothing is late.

    A message that is given to a service before the reload has started it waits 300 seconds. The stream beside it, which
    no change touches, says how slow the machine is.
    """
    apply("less", retire="1")
    time.sleep(1.1)
    apply("less", retire="1")  # so that the services of the first address are gone
    begin = len(LOG.read_text(encoding="utf-8"))
    load = load_of(pace=0.02, domains=(f"[{SINK}]", "partner.test"))
    other = load_of(ports=(2602,), domain="other.fault.test", pace=0.1)
    done = []
    for _round in range(3):
        for variant in ("base", "grouped", "regrouped", "less"):
            time.sleep(1.2)
            done += apply(variant, retire="1").actions
    time.sleep(2)
    load.stop()
    other.stop()
    late = load.lost(60) | other.lost(60)
    log = LOG.read_text(encoding="utf-8")[begin:]
    usual = max(other.delays())
    apply("base")
    good = verdict("other stream meanwhile", other, 300)
    return good and verdict(
        "additions",
        load,
        300,
        reloads=done.count("postfix-bulk: reload"),
        longest_s=round(load.delays()[0], 1),
        longest_of_the_other_stream_s=round(usual, 1),
        none_late=not late and load.delays()[0] < 10 + usual,
        none_deferred="status=deferred" not in log,
        none_without_a_service="transport unavailable" not in log,
    )


def stream_removal() -> bool:
    """A stream leaves the fleet with mail in its queue, while another one works on."""
    apply("base")
    deferring.set()
    load = load_of(pace=0)
    time.sleep(3)
    load.going = False
    half_taken("/var/spool/postfix-bulk")
    other = load_of(ports=(2602,), domain="other.fault.test", pace=0.02)
    time.sleep(1)
    first = apply("removed")
    second = apply("removed")
    there = os.path.isdir("/var/spool/postfix-bulk")
    deferring.clear()
    lost = load.lost(320)
    end = time.time() + 330  # a reload parks what is in delivery for 300 s
    while sum(instances.queue_counts("/var/spool/postfix-bulk").values()) and time.time() < end:
        subprocess.run(["postqueue", "-c", "/etc/postfix-bulk", "-f"], check=False)
        time.sleep(0.5)
    left = leftovers("/var/spool/postfix-bulk")
    last = apply("removed")
    gone = not os.path.exists("/var/spool/postfix-bulk") and not os.path.exists("/etc/postfix-bulk")
    settled = not apply("removed").actions
    good = verdict("other stream meanwhile", other, 60)
    return good and verdict(
        "stream removed",
        load,
        5,
        actions=first.actions + last.actions,
        waiting=[entry["messages"] for entry in first.draining + second.draining],
        queue_kept_while_full=there,
        removed_when_empty=gone,
        nothing_left_to_do=settled,
        none_lost=not lost,
        left=left,
    )


def half_taken(queue: str) -> None:
    """What a killed cleanup(8) leaves: a message that no client was answered 250 for. It must hold up nothing."""
    path = os.path.join(queue, "incoming", "0A0B0C0D0E0")
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(b"half a message")
    shutil.chown(path, "postfix")


def leftovers(queue: str) -> list[str]:
    """Each message that is still in a queue: where, its rights, its age, and the last that the log says of it."""
    log = LOG.read_text(encoding="utf-8").splitlines()
    found = []
    for part in instances.QUEUES:
        for folder, _folders, names in os.walk(os.path.join(queue, part)):
            for name in names:
                status = os.stat(os.path.join(folder, name))
                words = [line for line in log if f" {name}: " in line][-3:]
                age = time.time() - status.st_mtime
                found.append(f"{part} {name} {oct(status.st_mode)} {status.st_size} bytes, {age:.0f} s: {words}")
    return found


SCENARIOS = {
    "reload": reloads,
    "restart": restarts,
    "sigkill": kills,
    "port": port_moves,
    "broken": broken_settings,
    "shares": share_changes,
    "additions": additions,
    "address": address_drain,
    "stream": stream_removal,
}


def main() -> int:
    apply("base")  # and the primary instance leaves the address of the sink
    server = Server((SINK, 25), Session)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chosen = sys.argv[1:] or list(SCENARIOS)
    failed = [name for name in chosen if not SCENARIOS[name]()]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} scenarios are as they must be", *failed, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
