# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PowerMTA host, which is the lab's stand-in, under bad packages, refusals, kills, edits by hand and removals.

``python tests/faults/powermta.py`` makes one host of a world of its own, plays it, and removes it. Every step says what
it proves. The messages of powermta_node.py are numbered, and go out while all of that happens to their host.
"""

from __future__ import annotations

import copy
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from world_of_faults import ENVIRONMENT, ROOT, Failed, World, changes, prove, recap, run, take

WORLD = 7
HOST = "mta3"
COLD = 25  # messages of a day to one receiver, of an address that warms up
SEED = int(os.environ.get("MTA_FAULTS_SEED", "5"))
SITE = ("playbooks/site.yml", "--tags", "addresses,powermta")
PASSWORD = "lab-only-password"
OTHER = "Package: hello\nVersion: 5.0\nArchitecture: all\nMaintainer: a <a@lab.test>\nDescription: another package\n"
NODE = "/root/node.py"
LIBRARY = "/root/lib/ansible_collections/mailops/mta/plugins"


def role(world: World, *arguments: str) -> tuple[int, str]:
    """The exit code of the role and all that it said."""
    done = run(*world.command(*SITE, *arguments), check=False)
    return done.returncode, done.stdout + done.stderr


def daemon(world: World) -> str:
    """Its process, its set and its license: as long as they are the same, nothing was touched."""
    found = world.inside(HOST, "systemctl show -P MainPID pmta; cd /etc/pmta; readlink conf.d; cat sets/loaded license")
    prove(not found.startswith("0"), "PowerMTA does not run")
    return found


def what_is_no_fitting_package_stops_nothing(world: World) -> None:
    before = daemon(world)
    build = ROOT / "build/faults-powermta"
    build.mkdir(parents=True, exist_ok=True)
    newer, other, none, gone = (build / f"{name}.deb" for name in ("newer", "other", "none", "gone"))
    run("sh", "molecule/standin/build.sh", str(newer), "5.5r1+standin1")
    control = build / "other/DEBIAN/control"
    control.parent.mkdir(parents=True, exist_ok=True)
    control.write_text(OTHER, encoding="utf-8")
    run("dpkg-deb", "--build", str(build / "other"), str(other))
    none.write_text("This is no package.\n", encoding="utf-8")
    for package, words in ((newer, "5.5r1"), (other, "Package: hello"), (none, "no package"), (gone, "gone.deb")):
        code, said = role(world, "-e", f"powermta_package={package}")
        prove(code != 0 and words in said, f"{package.name} was not refused: {said[-1500:]}")
        prove(daemon(world) == before, f"{package.name} changed what runs")


def without_a_license_nothing_is_stopped(world: World) -> None:
    world.inside(HOST, "mv /etc/pmta/license /etc/pmta/license.away")
    pid = world.inside(HOST, "systemctl show -P MainPID pmta")
    code, said = role(world, "-e", "powermta_license=")
    prove(code != 0 and "powermta_license" in said, f"a missing license was not refused: {said[-1500:]}")
    prove(world.inside(HOST, "systemctl show -P MainPID pmta") == pid, "PowerMTA was stopped")
    world.inside(HOST, "mv /etc/pmta/license.away /etc/pmta/license")


def what_powermta_refuses_is_told_and_taken_back(world: World) -> None:
    """The collection's own checker passes it."""
    before = daemon(world)
    world.inside(HOST, "echo -n 'http-mgmt-port 8081' > /etc/pmta/standin-refuse")
    code, said = role(world, "-e", "powermta_monitor_port=8081")
    world.inside(HOST, "rm /etc/pmta/standin-refuse")
    for words in ("pmta test config refuses", "Error in line", "10-host.conf", "The old configuration is back"):
        prove(code != 0 and words in said, f"the refusal does not say {words!r}: {said[-2500:]}")
    prove(daemon(world) == before, "the old set is not in place, or PowerMTA was restarted")


def an_edit_by_hand_is_shown_and_put_back(world: World) -> None:
    edited = "/etc/pmta/conf.d/30-stream-bulk.conf"
    world.inside(HOST, f"echo '# by hand' >> {edited}; sed -i 's/max-smtp-out .*/max-smtp-out 99/' {edited}")
    code, said = role(world, "--check", "--diff")
    prove(code == 0 and "-# by hand" in said and "max-smtp-out 99" in said, f"the edit is not shown: {said[-2500:]}")
    prove(changes(recap(said)) > 0, "the edit counts as no change")
    prove("by hand" in world.inside(HOST, f"cat {edited}"), "check mode changed the file")
    code, said = role(world)
    prove(code == 0 and "by hand" not in world.inside(HOST, f"cat {edited}"), f"the edit stays: {said[-2500:]}")
    code, said = role(world)
    prove(code == 0 and changes(recap(said)) == 0, f"a second run changed {recap(said)}")


def under_mail(world: World) -> int:
    """What powermta_node.py says; its last line has the figures. Returns how much failed."""
    node = world.container(HOST)
    run("podman", "exec", node, "mkdir", "-p", LIBRARY)
    for part in ("module_utils", "modules"):
        run("podman", "cp", str(ROOT / "plugins" / part), f"{node}:{LIBRARY}/")
    for name, target in (("powermta_node.py", NODE), ("numbered_mail.py", "/root/lib/numbered_mail.py")):
        run("podman", "cp", str(Path(__file__).with_name(name)), f"{node}:{target}")
    command = ["podman", "exec", "-i", "-e", "PYTHONPATH=/root/lib", node, "python3", "-u", NODE]
    given = {"variants": variants(world), "seed": SEED, "listen": world.ip(0, 13), "cold": COLD}
    return subprocess.run(command, input=json.dumps(given), text=True, env=ENVIRONMENT, check=False).returncode


def variants(world: World) -> dict[str, dict[str, Any]]:
    """By name, the arguments of the module powermta_configuration for a fleet that was changed in one way."""
    sys.path.insert(0, str(ROOT / "build" / "collections"))
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import slices, ways_in
    from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse

    document = yaml.safe_load(world.fleet_file.read_text(encoding="utf-8"))
    first, second = (address["ip"] for address in document["streams"]["bulk"]["addresses"] if address["host"] == HOST)

    def variant(change: Callable[[dict[str, Any]], None], *gone: str) -> dict[str, Any]:
        """With another ``bulk``, and without the streams that are ``gone`` from this host."""
        changed = copy.deepcopy(document)
        change(changed["streams"]["bulk"])
        for name in gone:
            stream = changed["streams"][name]
            stream["addresses"] = [address for address in stream["addresses"] if address["host"] != HOST]
        parsed, findings = parse.parse(changed)
        if parsed is None:
            raise Failed("\n".join(map(str, findings)))
        host = slices.slice_of(parsed, HOST)
        return {
            "host": host,
            "passwords": dict.fromkeys(ways_in.logins(host), PASSWORD),
            "fragments": {},
            "monitor_from": [],
            "monitor_port": 8080,
            "spool_directory": "/var/spool/pmta",
            "log_directory": "/var/log/pmta",
            "certificate": "/etc/pmta/tls/own.pem",
            "accounting_days": 8,
            "accounting_max_bytes": 52428800,
            "version": "5.0",
        }

    def without(*ips: str) -> Callable[[dict[str, Any]], None]:
        def change(stream: dict[str, Any]) -> None:
            stream["addresses"] = [address for address in stream["addresses"] if address["ip"] not in ips]

        return change

    def warming(ip: str) -> Callable[[dict[str, Any]], None]:
        def change(stream: dict[str, Any]) -> None:
            stream["warmup"] = {"messages_per_day": [COLD]}
            for address in stream["addresses"]:
                if address["ip"] == ip:
                    address["warmup_from"] = datetime.datetime.now(datetime.timezone.utc).date()

        return change

    return {
        "base": variant(lambda stream: None),
        "slower": variant(lambda stream: stream.update(receivers={"default": {"concurrency": 7}})),
        "less": variant(without(second)),
        "fewer": variant(without(second), "marketing"),
        "cold": variant(warming(second)),
        "removed": variant(without(first, second)),
    }


STEPS = (
    what_is_no_fitting_package_stops_nothing,
    without_a_license_nothing_is_stopped,
    what_powermta_refuses_is_told_and_taken_back,
    an_edit_by_hand_is_shown_and_put_back,
)


def main() -> int:
    world = World(WORLD, HOST)
    with world.up():
        code, said = role(world)
        prove(code == 0, f"the role failed: {said[-5000:]}")
        return 1 if take(STEPS, world) + under_mail(world) else 0


if __name__ == "__main__":
    raise SystemExit(main())
