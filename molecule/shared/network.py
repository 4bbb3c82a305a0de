#!/usr/bin/env python3
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of one world, and what a rough end leaves of it on the machine.

podman keeps the leases of a network below its name. Leases outlive a container that was removed without
CONTAINERS_CONF (podman then looks for the network elsewhere) or while a process was killed, and until podman 4.4
"podman network rm" keeps them as well. Therefore each network that is made has a new name: PREFIX-<random>.

usage: network.py create|remove PREFIX SUBNET GATEWAY SUBNET6 GATEWAY6
create prints the name; a second line "made" where there was none. remove takes the containers on the network with it.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Network:
    prefix: str
    subnet: str
    gateway: str
    subnet6: str
    gateway6: str

    def names(self) -> list[str]:
        """What podman knows; PREFIX alone is the name that earlier versions gave."""
        wanted = re.compile(rf"{re.escape(self.prefix)}(-[0-9a-f]+)?")
        return [name for name in all_names() if wanted.fullmatch(name)]

    def create(self) -> list[str]:
        names = self.names()
        if names:
            return names[:1]
        self.remove_leftovers()
        name = f"{self.prefix}-{secrets.token_hex(4)}"
        v4 = ("--subnet", self.subnet, "--gateway", self.gateway)
        v6 = ("--ipv6", "--subnet", self.subnet6, "--gateway", self.gateway6)
        run("podman", "network", "create", "--disable-dns", *v4, *v6, name)
        return [name, "made"]

    def remove(self) -> list[str]:
        names = self.names()
        for name in names:
            run("podman", "network", "rm", "--force", "--time", "0", name)
        return names + self.remove_leftovers()

    def remove_leftovers(self) -> list[str]:
        """podman refuses a subnet that an interface has; only a last container that ends well removes both."""
        links = self.stale_bridges()
        for link in links:
            run("ip", "link", "delete", link)
        remove_rules("iptables", self.subnet)
        remove_rules("ip6tables", self.subnet6)
        return links

    def stale_bridges(self) -> list[str]:
        """Those that podman named, with the gateway's address, and on no network that podman still knows."""
        known = all_names()
        networks = inspected("podman", "network", "inspect", *known) if known else []
        used = {each.get("network_interface") for each in networks}
        return [
            link["ifname"]
            for link in inspected("ip", "-json", "address", "show", "type", "bridge")
            if re.fullmatch(r"podman\d+", link.get("ifname", ""))
            and link["ifname"] not in used
            and self.gateway in [address.get("local") for address in link.get("addr_info", ())]
        ]


def all_names() -> list[str]:
    return run("podman", "network", "ls", "--format", "{{.Name}}").split()


def inspected(*command: str) -> list[dict]:
    return json.loads(run(*command) or "[]")


def remove_rules(tool: str, subnet: str) -> None:
    """netavark's for this subnet, and the chain that they lead to."""
    if not shutil.which(tool):
        return
    for table, chain, target in (("nat", "POSTROUTING", "NETAVARK-"), ("filter", "NETAVARK_FORWARD", "")):
        for line in run(tool, "-w", "-t", table, "-S", chain, check=False).splitlines():
            kind, of, *rule = shlex.split(line)
            if (kind, of) == ("-A", chain) and subnet in rule and rule[-1].startswith(target):
                run(tool, "-w", "-t", table, "-D", chain, *rule)
                if target:
                    run(tool, "-w", "-t", table, "-F", rule[-1])
                    run(tool, "-w", "-t", table, "-X", rule[-1])


def main(action: str, *world: str) -> None:
    network = Network(*world)
    print("\n".join(network.create() if action == "create" else network.remove()))


if __name__ == "__main__":
    main(*sys.argv[1:])
