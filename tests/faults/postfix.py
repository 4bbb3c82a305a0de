# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered messages under load while a Postfix stream is reloaded, restarted, changed, broken, drained and removed.

Runs in one container without a network: ``python tests/faults/postfix.py [SCENARIO ...]``. Each scenario says how many
messages were accepted, how many never arrived (must be 0) and how many arrived twice.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGE = os.environ.get("MTA_MOLECULE_IMAGE", "localhost/mta-molecule:bookworm")
NODE = os.environ.get("MTA_FAULTS_NODE", "mta-faults")
FLEET: dict[str, Any] = {
    "plugin": "mailops.mta.fleet",
    "domain": "fault.test",
    "bounce_host": "bounces.fault.test",
    "hosts": {"node": {"listen": ["198.18.9.1"], "interface": "lo"}},
    "zones": {"fault.test": {"provider": "memory"}, "18.198.in-addr.arpa": {"provider": "memory"}},
    "streams": {
        name: {
            "domain": f"{name}.fault.test",
            "port": port,
            "inject_from": ["127.0.0.0/8"],
            "addresses": [{"ip": f"198.18.1.{last + n}", "host": "node"} for n in range(2)],
        }
        for name, port, last in (("bulk", 2601, 10), ("other", 2602, 20))
    },
}


def podman(*arguments: str, text: str | None = None, check: bool = True) -> str:
    done = subprocess.run(["podman", *arguments], input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"podman {' '.join(arguments)[:120]}: {done.stderr[-3000:] or done.stdout[-3000:]}")
    return done.stdout


def instances(document: dict[str, Any]) -> list[dict[str, Any]]:
    sys.path.insert(0, str(ROOT / "build" / "collections"))
    from ansible_collections.mailops.mta.plugins.module_utils.core.engines.postfix import instances as postfix
    from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse

    parsed, findings = parse.parse(document)
    if parsed is None:
        raise SystemExit("\n".join(str(finding) for finding in findings))
    found = postfix.instances(parsed, "node")
    for instance in found:  # the signer is not what this is about
        for name in ("smtpd_milters", "non_smtpd_milters"):
            instance["main_cf"][name] = ""
    return found


def variants() -> dict[str, list[dict[str, Any]]]:
    def variant(**changes: Any) -> list[dict[str, Any]]:
        document = copy.deepcopy(FLEET)
        bulk = document["streams"]["bulk"]
        bulk["addresses"][0].update({key: value for key, value in changes.items() if key == "share"})
        if changes.get("without_first"):
            del bulk["addresses"][0]
        if "port" in changes:
            bulk["port"] = changes["port"]
        if changes.get("without_bulk"):
            del document["streams"]["bulk"]
        if "receivers" in changes:
            bulk["receivers"] = changes["receivers"]
        if "group" in changes:
            document["receivers"] = {"partner": {"domains": changes["group"], "concurrency": 5}}
        return instances(document)

    broken = variant()
    broken[0]["main_cf"]["smtpd_helo_requird"] = "yes"
    silent = variant()
    silent[0]["main_cf"]["smtpd_hard_error_limit"] = "many"
    return {
        "base": variant(),
        "three": variant(share=3),
        "drained": variant(share=0),
        "less": variant(without_first=True),
        "moved": variant(port=2701),
        "slower": variant(receivers={"default": {"concurrency": 7}}),
        "removed": variant(without_bulk=True),
        "grouped": variant(group=["partner.test"]),
        "regrouped": variant(group=["partner.test"], without_first=True),
        "broken": broken,
        "silent": silent,
    }


def start() -> None:
    podman("rm", "--force", "--ignore", "--time", "0", NODE)
    options = ("--network", "none", "--systemd", "always", "--cap-add", "NET_ADMIN")
    podman("run", "-d", "--name", NODE, *options, IMAGE, "/lib/systemd/systemd")
    podman("exec", NODE, "systemctl", "is-system-running", "--wait", check=False)
    install = (
        "apt-get update && apt-get install -y --no-install-recommends postfix postfix-lmdb postfix-pcre"
        " && mkdir -p /root/lib/ansible_collections/mailops/mta/plugins"
        " && for ip in 198.18.9.1 198.18.9.9 198.18.1.10 198.18.1.11 198.18.1.20 198.18.1.21;"
        " do ip addr add $ip/32 dev lo || exit 1; done; echo nameserver 127.0.0.1 > /etc/resolv.conf;"
        " echo 198.18.9.9 partner.test >> /etc/hosts"
    )
    podman("exec", "-e", "DEBIAN_FRONTEND=noninteractive", NODE, "sh", "-c", install)


def main() -> int:
    if "MTA_FAULTS_REUSE" not in os.environ:
        start()
    source = str(ROOT / "plugins" / "module_utils")
    podman("cp", source, f"{NODE}:/root/lib/ansible_collections/mailops/mta/plugins/")
    for name, target in (("postfix_node.py", "/root/node.py"), ("numbered_mail.py", "/root/lib/numbered_mail.py")):
        podman("cp", str(Path(__file__).with_name(name)), f"{NODE}:{target}")
    podman("exec", "-i", NODE, "sh", "-c", "cat > /root/variants.json", text=json.dumps(variants()))
    command = ["podman", "exec", "-e", "PYTHONPATH=/root/lib", NODE, "python3", "-u", "/root/node.py", *sys.argv[1:]]
    run = subprocess.run(command, check=False)
    if "MTA_FAULTS_KEEP" not in os.environ:
        podman("rm", "--force", "--ignore", "--time", "0", NODE)
    return run.returncode


if __name__ == "__main__":
    raise SystemExit(main())
