# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook against hosts that were taken: an MTA that stands first, the sink, a policy host, the key host.

usage: trust.py [PLAYBOOK ...]

A taken host is an interpreter that keeps what it is sent and answers every module with facts: for each variable that
roles and playbooks name, a value of its own. The other hosts are interpreters that keep what they get; only the key
store's modules run for real, on a directory. After each playbook

- no file is on the controller that the operator has not named,
- a taken MTA host was sent its own keys and passwords and nothing else, a sink and a policy host none,
- no value of a taken host was sent to another host, nor to a module on the controller.

Then with hosts that lie in what a module returns: of the state of their keys, of messages, of records and metrics.
Then with a key host that is away: the other hosts are finished, nothing is deleted from DNS, the run fails at its end.
Then runs that must not end well: where facts of a host become variables of plays, and where no host has work.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = Path(os.environ.get("MTA_TRUST_COLLECTIONS", ROOT / "build" / "collections"))
HOUSE = COLLECTIONS / "ansible_collections" / "mailops" / "mta"
WORK = ROOT / "build" / "faults" / "trust"
MARK = "TAKENHOSTSAYS"
SECRETS = {
    "password of tx": "TX-PASSWORD-OF-A-LOGIN",
    "password of bulk": "BULK-PASSWORD-OF-A-LOGIN",
    "credentials of DNS": "DNS-API-KEY-OF-THE-CONTROLLER",
    "password of backups": "PASSWORD-OF-THE-BACKUPS",
    "key of another policy host": "KEY-OF-ANOTHER-POLICY-HOST",
    "file of the controller": "A-FILE-OF-THE-CONTROLLER",
}
OWN_POLICY_KEY = "KEY-OF-THIS-POLICY-HOST"
REAL = ("dkim_rotation", "dkim_private_key_info", "dkim_key_backup", "dkim_key_restore", "dkim_key_import")
FILES = ("copy", "file", "find", "slurp", "stat")
PLAYBOOKS = (
    "dns",
    "site",
    "rotate_dkim",
    "backup_dkim",
    "restore_dkim",
    "import_dkim",
    "verify",
    "dns_audit",
    "dns_registry",
    "mta_sts",
    "powermta_acceptance",
)
# Answers that let every task behind them go on.
ANSWER: dict[str, Any] = {
    "changed": False,
    "rc": 0,
    "stdout": "",
    "stderr": "",
    "stat": {"exists": True, "isdir": False, "islnk": False, "size": 5, "checksum": "0", "mode": "0644", "path": "/x"},
    "status": {},
    "signer": {"serial": 1, "signs": [], "unknown": [], "holds": [], "problems": []},
    "sent": [],
    "seen": [],
    "missing": [],
    "results": [],
    "looks": [],
    "unknown_keys": [],
    "ok": True,
    "lines": [],
    "lines_proven": [],
    "registry": [],
    "table": [],
    "findings": [],
    "errors": [],
    "metrics": "",
    "assumptions": [],
    "all_held": True,
    "dkim_keys": [],
    "private_keys": [],
    "report": "",
    "serial": 1,
    "serial_after": 1,
    "to_be_made": [],
    "resting": False,
    "moving": False,
    "following": False,
    "proving": False,
    "ask": [],
    "records": [],
    "signing": [],
    "holding": [],
    "steps": [],
    "waits": [],
    "state": "0123",
    "key_count": 1,
    "backup": "x",
    "added": [],
    "serial_before": 1,
    "serial_backup": 1,
}
FLEET = """
plugin: mailops.mta.fleet
domain: yourdomain.example
bounce_host: b.yourdomain.example
key_host: keys
verify: {{sink_domain: sink.yourdomain.example, sink_host: rx1}}
mta_sts: {{mode: testing, host: sts1, addresses: [203.0.113.80]}}
hosts:
  first: {{listen: [10.0.0.10], engine: postfix, {first}}}
  keys: {{listen: [10.0.0.11], engine: postfix, {keys}}}
  other: {{listen: [10.0.0.12], engine: postfix, {other}}}
  power: {{listen: [10.0.0.13], engine: powermta, {power}}}
  sts1: {{engine: none, {sts1}}}
zones:
  yourdomain.example: {{provider: powerdns, credentials: pdns}}
  113.0.203.in-addr.arpa: {{provider: powerdns, credentials: pdns}}
streams:
  tx:
    domain: tx.yourdomain.example
    port: 2525
    inject_users: [txlogin]
    addresses: [{{ip: 203.0.113.10, host: keys}}, {{ip: 203.0.113.12, host: other}}]
  bulk:
    domain: bulk.yourdomain.example
    port: 2526
    inject_users: [bulklogin]
    addresses: [{{ip: 203.0.113.11, host: first}}]
  power:
    domain: power.yourdomain.example
    port: 2527
    inject_from: [10.0.0.0/8]
    addresses: [{{ip: 203.0.113.13, host: power}}]
"""
HOSTS = ("first", "keys", "other", "power", "sts1", "rx1")
INTERPRETER = """#!{python}
import json, pathlib, re, subprocess, sys
here = pathlib.Path({work!r})
given = sys.argv[1] if len(sys.argv) > 1 and pathlib.Path(sys.argv[1]).is_file() else None
data = pathlib.Path(given).read_bytes() if given else sys.stdin.buffer.read()
found = re.search(rb"plugins\\.modules\\.(\\w+)|ansible\\.modules\\.(\\w+)", data)
name = (found.group(1) or found.group(2)).decode() if found else "?"
with open(here / "sent" / {host!r}, "ab") as sent:
    sent.write(b"\\n=== " + name.encode() + b"\\n" + data)
    for path in re.findall(rb'"([^"]*/tmp/[^"]*)"', data):
        if {taken} and pathlib.Path(path.decode()).is_file():
            sent.write(b"\\n" + pathlib.Path(path.decode()).read_bytes())
if name in {real!r}:
    sys.exit(subprocess.run([{python!r}, *([given] if given else ["-"])], input=None if given else data).returncode)
print((here / {answer!r}).read_text())
"""


class World:
    def __init__(self, taken: tuple[str, ...], away: tuple[str, ...] = ()) -> None:
        self.taken, self.away = taken, away
        self.inject = False
        shutil.rmtree(WORK, ignore_errors=True)
        for name in ("sent", "canary", "named", "group_vars", "host_vars", "passwords"):
            (WORK / name).mkdir(parents=True)
        self.store = WORK / "store"
        (WORK / "ansible.cfg").write_text("")
        (WORK / "secret").write_text(SECRETS["file of the controller"])
        (WORK / "canary-logins").mkdir()
        (WORK / "canary-logins" / "bulklogin").write_text(SECRETS["file of the controller"])
        (WORK / "honest.json").write_text(json.dumps(ANSWER))
        other = {"name": "www.yourdomain.example", "type": "A", "values": ["192.0.2.66"], "reason": "x"}
        stats = {"per_host": False, "data": {"mta_dns_force": True, "mta_dns_retire": "now"}}
        said = {**ANSWER, "ansible_facts": facts(), "ansible_stats": stats, "records": [other]}
        (WORK / "taken.json").write_text(json.dumps(said))
        variables = {name: self.interpreter(name) for name in HOSTS}
        (WORK / "fleet.yml").write_text(FLEET.format(**{name: flow(one) for name, one in variables.items()}))
        (WORK / "rx.yml").write_text(json.dumps({"all": {"hosts": {"rx1": variables["rx1"]}}}))
        (WORK / "host_vars" / "fleet.yml").write_text(
            yaml.safe_dump(
                {"ansible_python_interpreter": self.script("fleet", self.on_the_controller(), "honest.json")}
            )
        )
        (WORK / "group_vars" / "all.yml").write_text(yaml.safe_dump(self.operator()))

    def on_the_controller(self) -> tuple[str, ...]:
        """The modules that run for real. dns_records refuses what a taken key host gives, before it asks a server."""
        return (*FILES, "dns_records") if "keys" in self.taken else FILES

    def operator(self) -> dict[str, Any]:
        """What the operator has set, where facts of a host would beat it."""
        return {
            "mta_dkim_store_directory": str(self.store),
            "mta_dns_credentials": {"pdns": {"url": "https://192.0.2.1", "api_key": SECRETS["credentials of DNS"]}},
            "mta_sasl_passwords": {"txlogin": SECRETS["password of tx"], "bulklogin": SECRETS["password of bulk"]},
            "mta_powermta_passwords": {"txlogin": SECRETS["password of tx"], "bulklogin": SECRETS["password of bulk"]},
            "mta_proof_file": str(WORK / "named" / "proof.json"),
            "mta_dns_audit_file": str(WORK / "named" / "audit.json"),
            "mta_dns_metrics_file": str(WORK / "named" / "dns.prom"),
            "mta_dkim_metrics_file": str(WORK / "named" / "dkim.prom"),
            "mta_dkim_backup_directory": str(WORK / "named" / "backups"),
            "mta_dkim_backup_secret": SECRETS["password of backups"],
            "mta_dkim_import_host": "first",
            "mta_dkim_import_kind": "directory",
            "mta_resolvers": ["127.0.0.1:1"],
            "mta_sts_certificates": [
                {
                    "host": "mta-sts.elsewhere.example",
                    "certificate": "x",
                    "private_key": SECRETS["key of another policy host"],
                },
                {"host": "*.TX.yourdomain.example", "certificate": "x", "private_key": OWN_POLICY_KEY},
            ],
            "powermta_acceptance_directory": str(WORK / "named"),
        }

    def interpreter(self, host: str) -> dict[str, Any]:
        taken = host in self.taken
        real = () if taken or host != "keys" else REAL
        if host in self.away:
            return {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_become": False}
        script = self.script(host, real, "taken.json" if taken else "honest.json")
        return {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": script}

    def script(self, host: str, real: tuple[str, ...], answer: str) -> str:
        path = WORK / f"python-{host}"
        path.write_text(
            INTERPRETER.format(
                python=sys.executable, work=str(WORK), host=host, taken=host in self.taken, real=real, answer=answer
            )
        )
        path.chmod(0o755)
        return str(path)

    def play(self, name: str, *more: str) -> tuple[int, str]:
        """Exit code and output."""
        for log in (WORK / "sent").iterdir():
            log.unlink()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CONFIG": str(WORK / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_INJECT_FACT_VARS": str(self.inject),
            "ANSIBLE_PYTHON_INTERPRETER": "/nonexistent",
        }
        if name == "restore_dkim":
            backups = sorted((WORK / "named" / "backups").glob("*.vault")) or [WORK / "secret"]
            more = (*more, "-e", f"mta_dkim_backup_file={backups[0]}")
        inventories = ("-i", str(WORK / "fleet.yml"), "-i", str(WORK / "rx.yml"))
        done = subprocess.run(
            ["ansible-playbook", *inventories, *more, f"{HOUSE}/playbooks/{name}.yml"],
            cwd=WORK,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        (WORK / f"{name}.log").write_text(done.stdout + done.stderr)
        return done.returncode, done.stdout + done.stderr

    def say(self, **said: Any) -> None:
        """Taken hosts answer like honest ones but for this."""
        (WORK / "taken.json").write_text(json.dumps({**ANSWER, **said}))

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.store / "journal.jsonl").read_text().splitlines()]

    def names_are_free(self) -> None:
        server = {"server": "ns1", "status": "no", "values": [], "ttl": 300, "detail": ""}
        names = {path.stem.split("/")[-1] for path in self.store.glob("*._domainkey.*.pem")}
        looks = [{"name": name, "type": "TXT", "whole": True, "why": "", "servers": [server]} for name in sorted(names)]
        (WORK / "honest.json").write_text(json.dumps({**ANSWER, "looks": looks}))

    def sent(self, host: str) -> str:
        path = WORK / "sent" / host
        return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""

    def keys(self) -> dict[str, str]:
        """A part of each private key that the store has, by domain."""
        found = {}
        for path in self.store.rglob("*.pem") if self.store.exists() else ():
            text = path.read_text()
            if "PRIVATE KEY" in text:
                lines = text.splitlines()
                domain = path.name.partition("._domainkey.")[2].removesuffix(".pem")
                found[f"key {path.name} of {domain}"] = lines[-2] if len(lines) > 3 else lines[1]
        return found


def flow(variables: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {json.dumps(value)}" for key, value in variables.items())


def facts() -> dict[str, Any]:
    """A value for every variable that a role or a playbook of this collection names."""
    files = [*(HOUSE / "roles").glob("*/*/*.yml"), *(HOUSE / "playbooks").rglob("*.yml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    names = set(re.findall(r"\b_*(?:mta|dkim|dns|postfix|powermta|firewall|addresses)_[a-z_]+\b", text))
    # What the host needs of its own to come as far as the tasks that matter.
    own = {"mta_engine", "mta_postfix", "mta_powermta", "mta_firewall", "mta_addresses", "mta_interface", "mta_mta_sts"}
    own |= {
        name
        for name in names
        if name.startswith(("postfix_", "powermta_", "firewall_", "addresses_", "__", "mta_sts_"))
    }
    said: dict[str, Any] = {name: f"{WORK}/canary/{MARK}-{name}" for name in sorted(names - own)}
    everything = ["tx.yourdomain.example", "bulk.yourdomain.example", "power.yourdomain.example"]
    logins = {"txlogin": [MARK], "bulklogin": [MARK]}
    return {
        **{name: value for name, value in said.items() if name.endswith(("_file", "_directory", "_resolvers"))},
        "inventory_hostname": "keys",
        "omit": f"{WORK}/canary/omit",
        "dns_looks_now": [{"name": MARK, "type": "TXT", "whole": True, "why": "", "servers": []}],
        "dns_serial_now": 1,
        "ansible_sftp_executable": f"{WORK}/canary/sftp",
        "ansible_control_path_dir": f"{WORK}/canary/ssh",
        "mta_dkim": {"signer": "rspamd", "socket": f"/run/{MARK}", "domains": everything, "admission": {}},
        "mta_control": {"mta_fleet": {"name": MARK, "key_host": "first"}, "mta_proof_file": f"{WORK}/canary/control"},
        "mta_dns_force": True,
        "dns_force": True,
        "mta_dns_retire": "now",
        "dns_retire": "now",
        "mta_dkim_requests": [{"domain": everything[0], "what": MARK}],
        "mta_dkim_without": [MARK],
        "mta_dkim_backend": {"kind": "hashi_vault", "url": f"https://{MARK}"},
        "dkim_key_store_host": "first",
        "mta_sasl_users": logins,
        "postfix_sasl_users": logins,
        "mta_grants": {host: {"domains": everything, "logins": list(logins)} for host in HOSTS},
        "powermta_package": str(WORK / "secret"),
        "powermta_password_directory": str(WORK / "canary-logins"),
        "powermta_acceptance_directory": f"{WORK}/canary",
        "mta_proof_streams": [MARK],
        "mta_proof_sink_host": "first",
        "mta_dkim_import_host": "other",
    }


def judge(world: World, playbook: str, before: dict[str, str]) -> list[str]:
    problems = [f"the controller has {path}" for path in (WORK / "canary").rglob("*")]
    own = {"first": {"bulk.yourdomain.example", "password of bulk"}, "power": {"power.yourdomain.example"}}
    if "keys" in world.taken:  # all keys are there, and it may see what a backup is told of them
        own["keys"] = {"tx.yourdomain.example", "bulk.yourdomain.example", "power.yourdomain.example", "password of tx"}
    secrets = {**SECRETS, **before, **world.keys()}
    for host in (*HOSTS, "fleet"):
        sent = world.sent(host)
        if host in world.taken:
            for what, secret in secrets.items():
                if secret in sent and not any(what.endswith(mine) for mine in own.get(host, ())):
                    problems.append(f"{host} was sent the {what}")
        elif MARK in sent:
            context = sent[max(sent.index(MARK) - 60, 0) :][:120].replace("\n", " ")
            problems.append(f"{host} was sent what a taken host says: {context}")
    told = world.sent("fleet")
    if re.search(r'\\?"force\\?": true', told) and playbook in ("dns", "site", "rotate_dkim"):
        problems.append("the safety limit of DNS was switched off")
    published = told.partition("=== dns_records")[2].partition("\n=== ")[0]
    refused = "none of a DKIM key" in (WORK / f"{playbook}.log").read_text()
    if "192.0.2.66" in published and not refused:
        problems.append("a record that the fleet file does not have is published")
    if re.search(r'\\?"retire\\?": \\?"now', told):
        problems.append("records are deleted at once")
    return problems


def main() -> int:
    wanted = sys.argv[1:] or PLAYBOOKS
    failed = 0
    places = {
        "an MTA that stands first, PowerMTA, sink, policy host": ("first", "power", "rx1", "sts1"),
        "key host": ("keys",),
    }
    for place, taken in places.items():
        world = World(())
        world.play(
            "dns"
        )  # the keys, made while all was well, and held after every server has said that their names are free
        world.names_are_free()
        world.play("dns")
        keys = world.keys()
        if not keys:
            print("no key was made: see", WORK / "dns.log")
            return 1
        store = Path(shutil.copytree(world.store, WORK.parent / "trust-store", dirs_exist_ok=True))
        world = World(taken)
        shutil.copytree(store, world.store)
        reached = 0
        for playbook in wanted:
            world.play(playbook)
            problems = judge(world, playbook, keys)
            failed += bool(problems)
            reached += any(world.sent(host) for host in taken)
            print(f"{'taken' if problems else 'held ':5} {place}: {playbook}", flush=True)
            for problem in sorted(set(problems)):
                print(f"      {problem}")
            if playbook == "mta_sts" and "sts1" in taken and OWN_POLICY_KEY not in world.sent("sts1"):
                failed += 1
                print("      the control failed: the policy host was not sent its own key, so nothing was tried")
            if playbook == "site" and "first" in taken and not keys_of(world, "bulk.", "first"):
                failed += 1
                print("      the control failed: the host was not sent its own key, so nothing was tried")
        if not reached:
            failed += 1
            print(f"      the control failed: no playbook asked {place}")
    failed += one_host_lies(store)
    failed += key_host_away()
    failed += nothing_was_done()
    print(f"{failed} playbooks with taken hosts let something through. Logs: {WORK}")
    return 1 if failed else 0


def one_host_lies(store: Path) -> int:
    """What a module returned is data of one host: others are judged without it, and the run names that host."""
    held: dict[str, bool] = {}

    def world(taken: str, *real: str, **said: Any) -> World:
        made = World((taken,))
        shutil.copytree(store, made.store)
        made.say(**said)
        made.script("fleet", (*FILES, *real), "honest.json")
        return made

    theirs = {"label": "203-0-113-12", "stream": "tx", "host": "other", "domain": "tx.yourdomain.example"}
    lie = {**theirs, "port": 2525, "recipient": "x", "message_id": "<EVIL@x>", "error": None}
    for sent in (5, [lie]):
        one = world("first", "alignment_info", sent=sent)
        _code, output = one.play("verify")
        held[f"verify.yml judges the others where a host says it sent {sent}"] = (
            "host first: what it says of its messages" in output and "203.0.113.12" in output
        )
        held[f"the sink is asked where a host says it sent {sent}"] = "=== sink_info" in one.sent("rx1")
    far = {"serial": 2**53 - 1, "signs": [], "unknown": [], "holds": [], "problems": []}
    # The store is the key host's own, not a copy, and no host has a table yet.
    one = World(("first",))
    unknown = {**far, "serial": None}
    (WORK / "honest.json").write_text(json.dumps({**ANSWER, "signer": unknown}))
    one.say(signer=unknown)
    one.play("dns")
    before = {line["key"]["selector"]: line["key"]["state"] for line in one.journal()}
    one.say(signer=far)
    code, output = one.play("rotate_dkim")
    after = one.journal()
    held["rotate_dkim.yml is red where a host claims a state that cannot be"] = code != 0 and "host first" in output
    held["its state is not the key store's"] = after[-1]["serial"] < 100
    held["no key is withdrawn for it"] = bool(before) and "withdrawn" not in {line["key"]["state"] for line in after}
    planted = [{"name": "www.yourdomain.example", "type": "A", "values": ["192.0.2.66"], "reason": "x"}]
    for playbook in ("dns_audit", "dns_registry"):
        _code, output = world("keys", "dns_audit", records=planted).play(playbook)
        refused = "record www.yourdomain.example A: the key host gives it, and it is none of a DKIM key"
        held[f"{playbook}.yml refuses what a key host makes up"] = refused in output and "192.0.2.66" not in output
    for metrics, written in (("", True), ('node_filesystem_avail_bytes{device="x"} 1e15\n', False)):
        code, output = world("keys", metrics=metrics).play("rotate_dkim")
        there = (WORK / "named" / "dkim.prom").exists()
        held[f"rotate_dkim.yml {'writes' if written else 'refuses'} metrics {metrics!r}"] = (
            there == written and ("no series of DKIM keys" in output) != written
        )
    for what, so in held.items():
        print(f"{'held ' if so else 'BROKEN'} a host that lies: {what}", flush=True)
    return sum(not so for so in held.values())


def key_host_away() -> int:
    """The other hosts are finished, DNS loses nothing, and the run is red; a plan of DNS needs no host."""
    world = World((), away=("keys",))
    code, output = world.play("site")
    records = world.sent("fleet").partition("=== dns_records")[2].partition("\n=== ")[0]
    finished = "=== postfix_instances" in world.sent("other")
    listed, _output = world.play("dns_registry")
    listed_without = listed == 0 and "=== dns_audit" in world.sent("fleet")
    proof, proved = world.play("verify")
    proof_made = "=== alignment_info" in world.sent("fleet")
    audit, audited = world.play("dns_audit")
    audit_made = "=== dns_audit" in world.sent("fleet")
    plan, planned = World((), away=("first", "keys", "other", "power")).play("dns", "--check", "--diff")
    held = {
        "site.yml is red": code != 0,
        "it names the key host": "key host keys cannot be reached" in output,
        "another host is finished": finished,
        "DNS is published": "203.0.113.10" in records,
        "dns_registry.yml names the records without it": listed_without,
        "verify.yml looks at the rest": proof_made,
        "verify.yml is red and says why": proof != 0 and "keys and their records were not checked" in proved,
        "dns_audit.yml looks at the rest": audit_made,
        "dns_audit.yml is red and says why": audit != 0 and "keys and their records were not checked" in audited,
        "nothing is deleted": re.search(r'\\?"retire\\?": \\?"never', records) is not None,
        "dns.yml --check works without hosts": plan == 0,
        "it says what it has not": "were not checked" in planned,
    }
    for what, so in held.items():
        print(f"{'held ' if so else 'BROKEN'} key host away: {what}")
    return sum(not so for so in held.values())


# Hosts that the playbook has no work for.
IDLE = {
    "site": "fleet",
    "dns": "sts1",
    "rotate_dkim": "fleet",
    "verify": "sts1",
    "dns_audit": "sts1",
    "mta_sts": "first",
    "powermta_acceptance": "first",
}


def nothing_was_done() -> int:
    """A run is red where facts would become variables, which is Ansible's default, and where no host has work."""
    failed = 0
    world = World(("first",))
    for playbook in PLAYBOOKS:
        world.inject = True
        code, output = world.play(playbook)
        asked = [host for host in HOSTS if world.sent(host)]
        world.inject = False
        so = code != 0 and not asked and "inject_facts_as_vars = false" in output
        failed += not so
        print(f"{'held ' if so else 'BROKEN'} facts that become variables: {playbook} asks no host and is red")
    world.inject = True
    world.play("site", "--skip-tags", "always")
    asked = [
        what for what, secret in {**SECRETS, **world.keys()}.items() for host in HOSTS if secret in world.sent(host)
    ]
    failed += bool(asked)
    print(f"{'BROKEN' if asked else 'held '} facts that become variables, --skip-tags always: no secret leaves {asked}")
    world.inject = False
    for playbook in PLAYBOOKS:
        code, output = world.play(playbook, "-e", "awx_workflow_job_id=7")
        so = code != 0 and not any(world.sent(host) for host in HOSTS) and "part of a workflow" in output
        failed += not so
        print(f"{'held ' if so else 'BROKEN'} workflow of AWX: {playbook} asks no host and is red")
    for playbook, limit in IDLE.items():
        code, output = world.play(playbook, "--limit", limit)
        so = code != 0 and "is in this run, so nothing was done" in output
        failed += not so
        print(f"{'held ' if so else 'BROKEN'} --limit {limit}: {playbook} is red")
    code, output = World((), away=("keys",)).play("site", "--tags", "dkim")
    so = code != 0 and "key host keys cannot be reached" in output
    print(f"{'held ' if so else 'BROKEN'} key host away: site.yml --tags dkim is red and says why")
    return failed + (not so)


def keys_of(world: World, domain: str, host: str) -> bool:
    return any(f"of {domain}" in what and part in world.sent(host) for what, part in world.keys().items())


if __name__ == "__main__":
    sys.exit(main())
