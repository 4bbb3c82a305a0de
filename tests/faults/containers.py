# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers come up after every rough end: a killed boot, containers removed behind its back, a full disk.

``python tests/faults/containers.py`` plays it with create.yml and destroy.yml, which `make demo`, `make clean` and the
scenarios use, in a world of its own, and removes that.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from world_of_faults import ENVIRONMENT, ROOT, World, await_port, kill_tree, prove, run, take

WORLD = 10
HOSTS = ("mta1", "mta2")
CREATE, DESTROY = "molecule/shared/create.yml", "molecule/shared/destroy.yml"
PLAIN = ("env", "-u", "CONTAINERS_CONF", "podman")  # as a person types it: with another network backend, maybe
# Of somebody else, with a name as near as can be.
OTHER, OTHER_SUBNET = "mta-mol{}-other", "198.18.240.0/24"


def comes_up(world: World, *before: str) -> None:
    """``before``: environment variables for the run, as env(1) takes them."""
    run("env", *before, *world.command(CREATE))
    for host in HOSTS:
        await_port(world.ip(0, 10 + int(host[-1])), 22)


def kill_boot(world: World, when: Callable[[], bool]) -> None:
    """End the boot and all of its processes without a word, once ``when`` holds."""
    boot = subprocess.Popen(
        world.command(CREATE), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    while not when():
        prove(boot.poll() is None, "the boot was over before it could be killed")
        time.sleep(0.01)
    kill_tree(boot)


def networks(world: World) -> list[str]:
    names = run("podman", "network", "ls", "--format", "{{.Name}}").stdout.split()
    return [name for name in names if re.fullmatch(rf"mta-mol{world.number}(-[0-9a-f]+)?", name)]


def states(world: World) -> list[str]:
    containers = [world.container(host) for host in HOSTS]
    return run(
        "podman", "container", "inspect", "--format", "{{.State.Status}}", *containers, check=False
    ).stdout.split()


def a_boot_that_is_killed_is_finished(world: World) -> None:
    for when in (
        lambda: bool(networks(world)),
        lambda: bool(states(world)),
        lambda: "running" in states(world),
    ):
        world.play(DESTROY)
        kill_boot(world, when)
        comes_up(world)


def containers_that_somebody_removed_or_stopped_come_back(world: World) -> None:
    run(*PLAIN, "rm", "--force", "--time", "0", world.container("mta1"))
    run(*PLAIN, "stop", "--time", "0", world.container("mta2"))
    comes_up(world)
    run(*PLAIN, "rm", "--force", "--time", "0", *map(world.container, HOSTS))
    comes_up(world)


def nothing_of_a_world_is_left(world: World) -> None:
    run(*PLAIN, "rm", "--force", "--time", "0", *map(world.container, HOSTS))
    world.play(DESTROY)
    left = [*networks(world), *states(world)]
    links = json.loads(run("ip", "-json", "address").stdout)
    left += [link["ifname"] for link in links for each in link["addr_info"] if each["local"] == world.ip(0, 1)]
    for tool in ("iptables-save", "ip6tables-save"):
        left += [line for line in run(tool).stdout.splitlines() if f"{world.ip(0, 0)}/" in line]
    prove(not left, f"this is left: {left}")


@contextmanager
def small_disk() -> Iterator[Path]:
    place = ROOT / "build/small-disk"
    place.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place))
    try:
        yield place
    finally:
        run("umount", str(place))
        place.rmdir()


def a_full_disk_is_said_and_forgotten(world: World) -> None:
    with small_disk() as disk:
        cache = f"XDG_CACHE_HOME={disk}"
        with (disk / "filler").open("wb") as filler:
            while True:
                try:
                    os.write(filler.fileno(), bytes(4096))
                except OSError:
                    break
        done = run("env", cache, *world.command(CREATE), check=False)
        prove(done.returncode != 0, "a boot with a full disk ended well")
        prove("No space left on device" in done.stdout, f"the disk is not named:\n{done.stdout[-2000:]}")
        (disk / "filler").unlink()
        comes_up(world, cache)


STEPS = (
    a_boot_that_is_killed_is_finished,
    containers_that_somebody_removed_or_stopped_come_back,
    nothing_of_a_world_is_left,
    a_full_disk_is_said_and_forgotten,
)


@contextmanager
def neighbour(name: str) -> Iterator[None]:
    """A network and a container that are none of the world's business."""
    run("podman", "rm", "--force", "--ignore", "--time", "0", name)
    run("podman", "network", "rm", "--force", name, check=False)
    run("podman", "network", "create", "--disable-dns", "--subnet", OTHER_SUBNET, name)
    try:
        image = "localhost/mta-molecule:bookworm"
        run("podman", "run", "--detach", "--name", name, "--network", name, image, "sleep", "infinity")
        yield
        now = run("podman", "container", "inspect", "--format", "{{.State.Status}}", name, check=False).stdout.strip()
        prove(now == "running", f"the container of somebody else is {now or 'gone'}")
    finally:
        run("podman", "rm", "--force", "--ignore", "--time", "0", name)
        run("podman", "network", "rm", name)


def main() -> int:
    world = World(WORLD, *HOSTS)
    with neighbour(OTHER.format(world.number)):
        try:
            return 1 if take(STEPS, world) else 0
        finally:
            if "MTA_FAULTS_KEEP" not in os.environ:
                world.play(DESTROY, check=False)


if __name__ == "__main__":
    sys.exit(main())
