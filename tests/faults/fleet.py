# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's life in a world of its own: a stream comes by one file and goes again, and a host cannot be reached.

``python tests/faults/fleet.py`` makes the containers, plays it, and removes them. Every step says what it proves.
"""

from __future__ import annotations

import json

import yaml
from world_of_faults import World, await_port, changes, prove, run, take

WORLD = 8
# A run costs by host, stream and zone. Two hosts and two streams live this life; molecule/site has the whole fleet.
HOSTS = ("mta1", "mta2")
STREAMS = ("transactional", "marketing")
# What moves only mail and addresses needs no other role; the runs that a stream comes and goes by are whole.
MAIL_ONLY = ("--tags", "addresses,postfix")
IMPATIENT = ("--ssh-common-args", "-o ConnectTimeout=3")
STREAM = """\
---
streams:
  receipts:
    domain: receipts.acme.test
    port: 2529
    inject_from: [{gateway}/32]
    addresses:
      - {{ip: {one}, host: mta1}}
      - {{ip: {two}, host: mta2}}
"""


def make_small(world: World) -> None:
    fleet = yaml.safe_load(world.fleet_file.read_text(encoding="utf-8"))
    fleet["hosts"] = {name: fleet["hosts"][name] for name in HOSTS}
    fleet["streams"] = {name: fleet["streams"][name] for name in STREAMS}
    for stream in fleet["streams"].values():
        stream["addresses"] = [each for each in stream["addresses"] if each["host"] in HOSTS]
    world.fleet_file.write_text(yaml.safe_dump(fleet, allow_unicode=True, sort_keys=False), encoding="utf-8")


def a_stream_comes_by_one_file(world: World) -> None:
    world.fragments.mkdir(exist_ok=True)
    addresses = {"gateway": world.ip(0, 1), "one": world.ip(1, 50), "two": world.ip(1, 51)}
    (world.fragments / "receipts.yml").write_text(STREAM.format(**addresses), encoding="utf-8")
    world.play("playbooks/site.yml")
    world.play("playbooks/verify.yml")
    _code, again = world.play("playbooks/site.yml")
    prove(changes(again) == 0, f"a second run changed {again}")


def a_stream_with_mail_drains_first(world: World) -> None:
    world.inside("rx1", "systemctl stop receiver-simulator")
    world.inside(
        "mta1",
        "for n in 1 2 3; do printf 'From: <a@receipts.acme.test>\\nSubject: waits-%s\\n\\n.\\n' $n > /tmp/waits;"
        " smtp-source -f a@receipts.acme.test -t someone@default-receiver.test -F /tmp/waits 127.0.0.1:2529;"
        " done; sleep 2",
    )
    world.remove_fragments()
    world.play("playbooks/site.yml")
    world.play("playbooks/site.yml", "--tags", "dns,addresses,postfix")
    state = world.inside("mta1", "postqueue -c /etc/postfix-receipts -j | wc -l; ss -Hltn sport = :2529 | wc -l")
    prove(state.split() == ["3", "0"], f"the drained stream should hold 3 messages and listen nowhere: {state!r}")
    gone = world.inside("mta2", "ls -d /etc/postfix-receipts 2>/dev/null | wc -l")
    prove(gone.strip() == "0", "the stream is still on the host that held no mail of it")
    prove(world.ip(1, 50) in world.inside("mta1", "ip -o addr"), "the address left before its mail")
    kept = run("podman", "exec", world.container("dns1"), "python3", "-c", LOOKUP).stdout
    prove("v=spf1" in kept, f"the SPF record left before the mail: {kept!r}")


LOOKUP = "import dns.resolver as r; print(*r.resolve('receipts.acme.test', 'TXT'))"


def its_mail_arrives_once_and_then_it_goes(world: World) -> None:
    world.inside("rx1", "systemctl start receiver-simulator; sleep 2")
    world.inside("mta1", "postqueue -c /etc/postfix-receipts -f; sleep 5")
    lines = [json.loads(line) for line in world.inside("rx1", "cat /var/lib/receiver/seen.jsonl").splitlines()]
    arrived = sorted(str(line.get("subject")) for line in lines if str(line.get("subject")).startswith("waits-"))
    prove(arrived == ["waits-1", "waits-2", "waits-3"], f"of three messages these arrived: {arrived}")
    world.play("playbooks/site.yml", *MAIL_ONLY)
    world.play("playbooks/site.yml", *MAIL_ONLY)
    left = world.inside("mta1", "ls -d /etc/postfix-receipts 2>/dev/null | wc -l; ip -o addr")
    prove(left.split()[0] == "0", "an empty stream is still there")
    prove(world.ip(1, 50) not in left, "its address is still there")


def an_unreachable_host_stops_no_other(world: World) -> None:
    run("podman", "stop", "--time", "1", world.container("mta2"))
    code, counts = world.play("playbooks/site.yml", *IMPATIENT, check=False)
    prove(code != 0, "a run with a host down ended well")
    prove(counts["mta1"]["failed"] == 0 and counts["mta1"]["ok"] > 10, f"the other host was not finished: {counts}")
    prove(counts["mta2"]["unreachable"] == 1, f"the host that is down is not named: {counts}")
    code, _counts = world.play("playbooks/verify.yml", *IMPATIENT, check=False)
    prove(code != 0, "the proof passed with a host down")
    run("podman", "start", world.container("mta2"))
    # It has another MAC address now, and the neighbours remember the old one for some seconds.
    await_port(world.ip(0, 12), 22)
    world.play("playbooks/site.yml")
    world.play("playbooks/verify.yml")


STEPS = (
    a_stream_comes_by_one_file,
    a_stream_with_mail_drains_first,
    its_mail_arrives_once_and_then_it_goes,
    an_unreachable_host_stops_no_other,
)


def main() -> int:
    world = World(WORLD, *HOSTS, "dns1", "rx1", "fleet", "localhost")
    make_small(world)
    with world.up("playbooks/site.yml"):
        return 1 if take(STEPS, world) else 0


if __name__ == "__main__":
    raise SystemExit(main())
