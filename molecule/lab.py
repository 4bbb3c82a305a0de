#!/usr/bin/env python3
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: containers with real mail and DNS servers, and a receiver simulator that writes down what arrives.

What it sends and expects comes from the fleet in inventories/lab/fleet.yml, as ansible-inventory tells it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
INVENTORY = TOP / "inventories/lab"
PROOF = TOP / "build/lab-proof.json"
AUDIT = TOP / "build/lab-audit.json"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mailops-mta"
WAIT_SECONDS = 60
ENVIRONMENT = {
    **os.environ,
    "ANSIBLE_COLLECTIONS_PATH": str(TOP / "build/collections"),
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    "CONTAINERS_CONF": os.environ.get("CONTAINERS_CONF") or str(TOP / "molecule/containers.conf"),
}


class LabError(Exception):
    """What went wrong, for a person."""


@dataclass(frozen=True)
class Stream:
    name: str
    domain: str
    port: int
    addresses: tuple[str, ...]
    logins: tuple[str, ...]
    hosts: tuple[str, ...]
    algorithms: frozenset[str]


@dataclass(frozen=True)
class Lab:
    streams: tuple[Stream, ...]
    host_ips: dict[str, str]
    receivers: dict[str, str]  # operator: a domain of it
    front: dict | None
    password: str
    prefix: str  # of the containers' names
    policies: dict[str, str]  # MTA-STS policy host: the address that serves it
    standins: tuple[str, ...]  # hosts on which a stand-in plays PowerMTA


@dataclass(frozen=True)
class Sending:
    """One message, and what it must look like at the receiver."""

    stream: Stream
    way: str  # port, login or header
    receiver: str
    recipient: str
    host: str
    message_id: str


def run(title: str, command: Sequence[str | Path]) -> None:
    """Run a step; its output is shown only when it fails, unless LAB_VERBOSE is set."""
    with step(title):
        quiet = not os.environ.get("LAB_VERBOSE")
        done = subprocess.run(
            [str(part) for part in command],
            cwd=TOP,
            env=ENVIRONMENT,
            text=True,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
        )
        if done.returncode:
            raise LabError(f"{done.stdout or ''}\n{title} failed: {' '.join(map(str, command))}")


@contextmanager
def step(title: str) -> Iterator[None]:
    print(f"{title} ...", end=" ", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"failed after {time.monotonic() - start:.1f} s", flush=True)
        raise
    print(f"{time.monotonic() - start:.1f} s", flush=True)


def tool(name: str) -> Path | str:
    beside = Path(sys.executable).parent / name
    return beside if beside.exists() else name


def typed(name: str) -> str:
    """A tool as a person types it at the top of the checkout."""
    path = Path(tool(name))
    return str(path.relative_to(TOP)) if path.is_relative_to(TOP) else name


LAB = f"{typed('python')} molecule/lab.py"
PLAY = f"{typed('ansible-playbook')} -i inventories/lab playbooks"


def playbook(title: str, name: str, *options: str, inventory: Path = INVENTORY) -> None:
    run(title, [tool("ansible-playbook"), "-i", inventory, *options, TOP / name])


def link_collection() -> None:
    link = TOP / "build/collections/ansible_collections/mailops/mta"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to("../../../..")


def plain(value):
    """ansible-inventory wraps text that is not a template."""
    if isinstance(value, dict):
        wrapped = value.get("__ansible_unsafe")
        return wrapped if wrapped is not None else {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def read_lab() -> Lab:
    link_collection()
    done = subprocess.run(
        [tool("ansible-inventory"), "-i", INVENTORY, "--list"], cwd=TOP, env=ENVIRONMENT, text=True, capture_output=True
    )
    if done.returncode:
        raise LabError(done.stderr)
    inventory = json.loads(done.stdout)
    hosts = plain(inventory["_meta"]["hostvars"])
    fleet = hosts["fleet"]
    series = fleet["mta_dkim_series"]
    return Lab(
        streams=tuple(
            Stream(
                name=name,
                domain=stream["domain"],
                port=stream["port"],
                addresses=tuple(stream["addresses"]),
                logins=tuple(stream.get("logins", ())),
                hosts=tuple(inventory[f"stream_{name}"]["hosts"]),
                algorithms=frozenset(each["algorithm"] for each in series if each["domain"] == stream["domain"]),
            )
            for name, stream in fleet["mta_fleet"]["streams"].items()
        ),
        host_ips={name: variables["lab_ip"] for name, variables in hosts.items() if "lab_ip" in variables},
        receivers={receiver["name"]: receiver["domains"][0] for receiver in fleet["lab_receivers"]},
        front=fleet["mta_fleet"].get("front"),
        password=fleet["lab_password"],
        prefix=hosts["rx1"]["lab_prefix"],
        policies={
            policy["host"]: variables["lab_ip"]
            for variables in hosts.values()
            for policy in variables.get("mta_mta_sts", {}).get("policies", ())
        },
        standins=tuple(inventory.get("engine_powermta", {}).get("hosts", ())),
    )


def sendings(lab: Lab) -> list[Sending]:
    """Every stream by its port to every receiver; by login and by header to two of them."""
    mark = f"{int(time.time()):x}{secrets.token_hex(3)}"
    plan = []
    for stream in lab.streams:
        few = [name for name in ("sink", "google") if name in lab.receivers]
        ways = [("port", name, stream.hosts) for name in lab.receivers]
        if lab.front:
            ways += [("login", name, lab.front["hosts"]) for name in few if stream.logins]
            ways += [("header", name, lab.front["hosts"]) for name in few]
        for number, (way, receiver, hosts) in enumerate(ways):
            plan.append(
                Sending(
                    stream=stream,
                    way=way,
                    receiver=receiver,
                    recipient=f"{stream.name}.{way}@{lab.receivers[receiver]}",
                    host=hosts[number % len(hosts)],
                    message_id=f"<{mark}.{len(plan)}@{stream.domain}>",
                )
            )
    return plan


def compose(sending: Sending, header: str | None) -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"Lab {sending.stream.name} <demo@{sending.stream.domain}>"
    message["To"] = sending.recipient
    message["Subject"] = f"{sending.stream.name} by {sending.way} to {sending.receiver}"
    message["Date"] = formatdate()
    message["Message-ID"] = sending.message_id
    if header:
        message[header] = sending.stream.name
    message.set_content(f"Sent through the stream {sending.stream.name} by {sending.way}.\n")
    return message


def inject(lab: Lab, sending: Sending) -> None:
    port = sending.stream.port if sending.way == "port" else lab.front["port"]
    with smtplib.SMTP(lab.host_ips[sending.host], port, local_hostname="app.lab.test", timeout=20) as client:
        if sending.way == "login":
            # The lab's certificates are self-signed.
            client.starttls(context=ssl._create_unverified_context())
            client.login(sending.stream.logins[0], lab.password)
        client.send_message(
            compose(sending, lab.front["header"] if sending.way == "header" else None),
            from_addr=f"demo@{sending.stream.domain}",
            to_addrs=[sending.recipient],
        )


def read_seen(lab: Lab) -> list[dict]:
    done = subprocess.run(
        ["podman", "exec", f"{lab.prefix}-rx1", "cat", "/var/lib/receiver/seen.jsonl"],
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
    )
    if done.returncode:
        raise LabError(f"The receivers are not up ({done.stderr.strip()}); start them: {LAB} up")
    return [json.loads(line) for line in done.stdout.splitlines()]


def send_all(lab: Lab, plan: Sequence[Sending]) -> list[str]:
    """Inject every message; what was refused is returned as problems."""
    problems = []
    with step(f"Send {len(plan)} messages: {len(lab.streams)} streams by port, by login and by header"):
        for sending in plan:
            try:
                inject(lab, sending)
            except (smtplib.SMTPException, OSError) as error:
                problems.append(f"{sending.stream.name} by {sending.way} was not taken by {sending.host}: {error}")
    return problems


def wait_for(lab: Lab, plan: Sequence[Sending]) -> dict[str, dict]:
    wanted = {sending.message_id for sending in plan}
    with step("Wait for the receivers"):
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = {line["message_id"]: line for line in read_seen(lab) if line.get("message_id") in wanted}
            arrived = sum(line["event"] == "accepted" for line in found.values())
            if arrived == len(wanted) or time.monotonic() > deadline:
                return found
            time.sleep(1)


def shortcomings(sending: Sending, seen: dict | None, header: str | None) -> list[str]:
    """What is wrong with one message as its receiver saw it."""
    if seen is None:
        return ["did not arrive"]
    if seen["event"] != "accepted":
        return [f"was {seen['event']}: {seen['answer']}"]
    stream = sending.stream
    passed = {entry["algorithm"].partition("-")[0] for entry in seen["dkim"] if entry["result"] == "pass"}
    wrong = [
        (seen["source_ip"] not in stream.addresses, f"came from {seen['source_ip']}, which is not in the pool"),
        (seen["fcrdns"]["result"] != "pass", f"PTR and name of {seen['source_ip']} do not match"),
        (seen["ehlo"] not in seen["fcrdns"]["names"], f"EHLO {seen['ehlo']} is not the PTR {seen['fcrdns']['names']}"),
        (seen["tls"] is None, "came without TLS"),
        (seen["spf"]["result"] != "pass", f"SPF {seen['spf']['result']}"),
        (not stream.algorithms <= passed, f"DKIM lacks {', '.join(sorted(stream.algorithms - passed))}"),
        (seen["dmarc"]["result"] != "pass", f"DMARC {seen['dmarc']['result']}"),
        (
            header is not None and header.lower() in (name.lower() for name in seen["headers"]),
            f"still carries the header {header}",
        ),
    ]
    return [reason for bad, reason in wrong if bad]


def dkim_cell(seen: dict, algorithm: str) -> str:
    results = {entry["result"] for entry in seen.get("dkim", []) if entry["algorithm"].startswith(algorithm)}
    return "/".join(sorted(results)) or "-"


def seen_cells(seen: dict) -> tuple[str, ...]:
    tls = seen.get("tls")
    return (
        seen.get("source_ip", ""),
        seen.get("ehlo") or "",
        (tls or {}).get("version") or "-",
        seen.get("spf", {}).get("result", "-"),
        dkim_cell(seen, "rsa"),
        dkim_cell(seen, "ed25519"),
        seen.get("dmarc", {}).get("result", "-"),
    )


SEEN_TITLES = ("source address", "EHLO", "TLS", "SPF", "DKIM rsa", "DKIM ed25519", "DMARC")


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows)]
    for row in (titles, ["-" * width for width in widths], *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def send_and_show(lab: Lab) -> int:
    plan = sendings(lab)
    problems = send_all(lab, plan)
    found = wait_for(lab, plan)
    header = lab.front["header"] if lab.front else None
    rows = []
    for sending in plan:
        seen = found.get(sending.message_id, {})
        wrong = shortcomings(sending, seen or None, header)
        rows.append((sending.stream.name, sending.way, sending.receiver, *seen_cells(seen), "; ".join(wrong)))
        problems += [f"{sending.stream.name} by {sending.way} to {sending.receiver} {reason}" for reason in wrong]
    print()
    print_table(("stream", "way", "receiver", *SEEN_TITLES, ""), rows)
    print(f"\n{len(rows)} messages, {len(rows) - sum(bool(row[-1]) for row in rows)} as they should be.")
    for problem in problems:
        print(f"wrong: {problem}")
    return 1 if problems else 0


def up() -> Lab:
    link_collection()
    run("Image (built when it is not in the cache)", ["sh", TOP / "molecule/image/build.sh"])
    playbook("Containers", "molecule/shared/create.yml", inventory=INVENTORY / "lab.yml")
    lab = read_lab()
    playbook("Resolver, DNS servers, receivers and ACME CA", "molecule/shared/prepare.yml")
    return lab


def judge(title: str, name: str, variable: str, data: Path) -> dict:
    """A playbook that writes its findings to a file; they are shown with the rest instead of ending the demo."""
    data.unlink(missing_ok=True)
    failed = None
    try:
        playbook(title, name, "-e", f"{variable}={data}")
    except LabError as error:
        failed = error
    if not data.exists():
        raise failed or LabError(f"{name} wrote no {data}")
    return json.loads(data.read_text(encoding="utf-8"))


def show(result: dict, what: str, titles: Sequence[str]) -> bool:
    print()
    print_table(titles, [[cell(row[title]) for title in titles] for row in result["table"]])
    for finding in result["findings"]:
        print(f"{finding['severity']}: {finding['where']}: {finding['found']}; {finding['why']}. {finding['remedy']}")
    print(f"\n{len(result['table'])} {what}; findings: {len(result['findings'])}.\n")
    return result["ok"]


def cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def prove() -> bool:
    result = judge("verify.yml: prove it from outside", "playbooks/verify.yml", "mta_proof_file", PROOF)
    first = ["stream", "host", "address", "ehlo"]
    return show(result, "addresses", first + [title for title in result["table"][0] if title not in first])


def audit() -> bool:
    result = judge(
        "dns_audit.yml: ask every authoritative server", "playbooks/dns_audit.yml", "mta_dns_audit_file", AUDIT
    )
    result["table"].sort(key=lambda row: row["state"] == "ok")
    return show(result, "record sets", ("state", "name", "type", "ttl", "zone", "streams"))


def fetch_policies(lab: Lab) -> bool:
    """Print each MTA-STS policy as a sender fetches it: by its name, with a certificate of the lab's ACME CA."""
    context = ssl.create_default_context(cafile=CACHE / lab.prefix / "trusted.pem")
    failed = False
    for host, address in lab.policies.items():
        url = f"https://{host}/.well-known/mta-sts.txt"
        try:
            raw = socket.create_connection((address, 443), timeout=20)
            with context.wrap_socket(raw, server_hostname=host) as secured:
                connection = http.client.HTTPConnection(host)
                connection.sock = secured
                connection.request("GET", url.partition(host)[2])
                policy = connection.getresponse().read().decode()
            print(f"{url}: {', '.join(policy.splitlines())}\n")
        except (OSError, http.client.HTTPException) as error:
            failed = True
            print(f"wrong: {url} cannot be fetched: {error}\n")
    return not failed


def do_up(_: argparse.Namespace) -> int:
    up()
    print(f"\nNext: {LAB} demo, or {PLAY}/site.yml")
    return 0


def do_demo(_: argparse.Namespace) -> int:
    start = time.monotonic()
    lab = up()
    playbook("site.yml: publish and set up the fleet", "playbooks/site.yml")
    proved = [prove(), audit(), fetch_policies(lab)]
    code = send_and_show(lab) or (0 if all(proved) else 1)
    if lab.standins:
        print(
            f"\n{', '.join(lab.standins)} is not PowerMTA, which needs a license: the lab's stand-in (molecule/standin)"
            "\ntook and sent the mail there. playbooks/powermta_acceptance.yml proves the same on a PowerMTA of yours."
        )
    print(f"\nThe demo took {time.monotonic() - start:.0f} s.")
    if code:
        print(f"Next: read what is wrong above; {LAB} seen shows all that the receivers wrote down.")
    else:
        print("What a domain has in DNS, why, and who uses it:")
        print(f"  {PLAY}/dns_registry.yml -e mta_dns_domain={lab.streams[0].domain}")
        print("What happens next to each DKIM key, when and why (run it daily):")
        print(f"  {PLAY}/rotate_dkim.yml")
        print("Next: add a stream to inventories/lab/fleet.yml and run it again; make clean removes the lab.")
    return code


def do_send(_: argparse.Namespace) -> int:
    code = send_and_show(read_lab())
    print(f"\nNext: {LAB} seen --json shows every detail.")
    return code


def do_seen(options: argparse.Namespace) -> int:
    lines = read_seen(read_lab())[-options.last :]
    if options.json:
        for line in lines:
            print(json.dumps(line, ensure_ascii=False))
        return 0
    print_table(
        ("time", "event", "receiver", *SEEN_TITLES, "subject or answer"),
        [
            (
                line["time"][11:19],
                line["event"],
                line["personality"],
                *seen_cells(line),
                " ".join((line.get("answer") or line.get("subject") or "").split())[:60],
            )
            for line in lines
        ],
    )
    print(f"\nNext: --json shows every field; --last N shows more than {options.last}.")
    return 0


def do_clean(_: argparse.Namespace) -> int:
    link_collection()
    worlds = sorted((TOP / "build").glob("world-*"))
    for inventory in (INVENTORY, *worlds):
        playbook(
            f"Remove the containers of {inventory.name}", "molecule/shared/destroy.yml", inventory=inventory / "lab.yml"
        )
    for world in worlds:
        shutil.rmtree(world)
    for data in (PROOF, AUDIT):
        data.unlink(missing_ok=True)
    print(f"\nThe image stays, and so does its copy in {CACHE}. To remove them too:")
    print(f"  podman rmi localhost/mta-molecule:bookworm localhost/mta-services:bookworm; rm -r {CACHE}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, action, text in (
        ("up", do_up, "image, containers, DNS servers and receivers; the mail servers stay bare"),
        (
            "demo",
            do_demo,
            "up, site.yml, verify.yml, dns_audit.yml, messages through every stream, and what the receivers saw",
        ),
        ("send", do_send, "the messages of the demo once more"),
        ("seen", do_seen, "what the receivers wrote down"),
        ("clean", do_clean, "remove containers, networks and generated inventories; the image stays"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        if name == "seen":
            command.add_argument("--last", type=int, default=50, metavar="N", help="the last N lines (50)")
            command.add_argument("--json", action="store_true", help="every field, one JSON object a line")
    options = parser.parse_args()
    try:
        return options.action(options)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
