# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof against a real BIND: a sound fleet passes, and each planted fault is caught by the check it concerns.

Needs podman and the services image of the lab; skipped where they are missing. Run it by its path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, YES, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import parse
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies
from ansible_collections.mailops.mta.plugins.module_utils.core.proof import judge
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns.resolver import Resolver
from ansible_collections.mailops.mta.plugins.modules.alignment_info import prove

IMAGE = os.environ.get("PROOF_IMAGE", "localhost/mta-services:bookworm")
NAME = "proofdev"
SERVER = "198.19.64.53"
ZONES = ("acme.test", "outreach.test", "64.19.198.in-addr.arpa", "4.6.0.0.8.9.1.0.0.0.d.f.ip6.arpa", "mx.test")
KEY = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="

DOCUMENT = {
    "plugin": "mailops.mta.fleet",
    "domain": "acme.test",
    "bounce_host": "bounces.mx.test",
    "key_host": "mta1",
    "hosts": {"mta1": {"listen": ["198.19.64.11"]}, "mta2": {"listen": ["198.19.64.12"]}},
    "zones": {zone: {"provider": "rfc2136", "credentials": "x"} for zone in ZONES if zone != "mx.test"},
    "dmarc": {"rua": ["dmarc@mx.test"], "rua_authorised": ["mx.test"]},
    "streams": {
        "tx": {
            "domain": "tx.acme.test",
            "port": 2525,
            "inject_from": ["198.19.64.1/32"],
            "mta_sts": {"mode": "testing"},
            "addresses": [
                {"ip": "198.19.64.20", "ip6": "fd00:198:64::20", "host": "mta1"},
                {"ip": "198.19.64.21", "host": "mta2"},
            ],
        },
        "cold": {
            "domain": "outreach.test",
            "port": 2528,
            "inject_from": ["198.19.64.1/32"],
            "dkim": {"algorithms": ["rsa"]},
            "addresses": [{"ip": f"198.19.64.{last}", "host": "mta2"} for last in range(40, 44)],
        },
    },
}


def sound_records(expected):
    """(owner, type) -> values, as the derived records are."""
    records = {("bounces.mx.test", "A"): ["198.19.64.80"]}
    for address in expected["addresses"]:
        for ip in address["ips"]:
            records[(address["ehlo"], "AAAA" if names.is_ipv6(ip) else "A")] = [ip]
            records[(names.reverse_name(ip), "PTR")] = [address["ehlo"]]
        records[(address["ehlo"], "TXT")] = [policies.spf(address["ips"])]
    for stream in expected["streams"]:
        path = stream["return_path"]["domain"]
        records[(path, "MX")] = [f"10 {host}" for host in stream["return_path"]["mx"]]
        records[(path, "TXT")] = ["site-verification=1234", stream["spf"]]
        for domain in stream["domains"]:
            records[(f"_dmarc.{domain}", "TXT")] = [stream["dmarc"]]
        for key in stream["dkim"]:
            records[(f"{key['selector']}._domainkey.{key['domain']}", "TXT")] = [policies.dkim(key["algorithm"], KEY)]
        for name in stream["report_authorisations"]:
            records[(name, "TXT")] = ["v=DMARC1"]
        records[(f"_smtp._tls.{path}", "TXT")] = [stream["tls_rpt"]]
        if stream["mta_sts"]:
            records[(f"_mta-sts.{path}", "TXT")] = [stream["mta_sts"]]
    return records


class Bind:
    def __init__(self, directory):
        self.directory = directory

    def podman(self, *arguments, check=True):
        return subprocess.run(["podman", *arguments], check=check, capture_output=True, text=True)

    def serve(self, records, lame=()):
        for zone in ZONES:
            lines = [f"$ORIGIN {zone}.", "$TTL 5", "@ SOA ns root 1 60 60 60 1", "@ NS ns", f"ns A {SERVER}"]
            for (owner, rtype), values in records.items():
                if names.enclosing(owner, ZONES) != zone:
                    continue
                for value in values:
                    if rtype == "TXT":
                        text = " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))
                    else:
                        text = f"{value}."[: None if rtype in ("PTR", "MX", "CNAME") else -1]
                    lines.append(f"{owner}. {rtype} {text}")
            (self.directory / zone).write_text("\n".join(lines) + "\n")
        zones = "\n".join(f'zone "{zone}" {{ type primary; file "/z/{zone}"; }};' for zone in ZONES if zone not in lame)
        # A lame zone is handed to an address where no name server answers.
        zones += "\n".join(
            f'zone "{zone}" {{ type forward; forward only; forwarders {{ 127.0.0.9 port 9; }}; }};' for zone in lame
        )
        (self.directory / "named.conf").write_text(
            f'options {{ directory "/tmp"; pid-file none; recursion yes; allow-query {{ any; }}; dnssec-validation no;'
            f" allow-recursion {{ any; }}; empty-zones-enable no; notify no; listen-on {{ any; }}; }};\n{zones}\n"
        )
        self.podman("rm", "-f", "-t", "0", NAME, check=False)
        # fmt: off
        self.podman("run", "-d", "--name", NAME, "--network", NAME, "--ip", SERVER, "-v", f"{self.directory}:/z:ro",
                    "--entrypoint", "/usr/sbin/named", IMAGE, "-g", "-c", "/z/named.conf", "-u", "root")
        # fmt: on
        for _try in range(60):
            answer = Resolver([SERVER], 0.5).ask([Question("mx.test", "SOA")])
            if answer[Question("mx.test", "SOA")].status == YES:
                return
            time.sleep(0.1)
        pytest.fail(self.podman("logs", NAME, check=False).stderr)


@pytest.fixture(scope="module")
def bind(tmp_path_factory):
    if not shutil.which("podman") or subprocess.run(["podman", "image", "exists", IMAGE]).returncode:
        pytest.skip("no podman or no services image")
    server = Bind(tmp_path_factory.mktemp("zones"))
    os.chmod(server.directory, 0o755)
    server.podman("network", "rm", "-f", NAME, check=False)
    server.podman("network", "create", "--subnet", "198.19.64.0/24", "--disable-dns", NAME)
    yield server
    server.podman("rm", "-f", "-t", "0", NAME, check=False)
    server.podman("network", "rm", "-f", NAME, check=False)


@pytest.fixture(scope="module")
def expected():
    value, findings = parse.parse(DOCUMENT)
    if value is None:
        pytest.fail("\n".join(map(str, findings)))
    return judge.expectations(value)


def proof(expected, **more):
    parameters = {"observations": None, "sent": {}, "relay": None, "keys": None, "hosts": [], "streams": []}
    asker = Resolver([SERVER], 1.0)
    return prove({**parameters, "expectations": expected, **more}, asker.ask)[0]


def broken(result, check):
    return {row["address"] for row in result.rows if row[check] in (judge.FAIL, judge.UNKNOWN)}


def test_a_sound_fleet_passes(bind, expected):
    bind.serve(sound_records(expected))
    result = proof(expected)
    assert not result.findings
    for row in result.rows:
        assert [row[check] for check in judge.CHECKS] == ["ok"] * 7 + ["-"] * 3


TX4, TX2, COLD = "198.19.64.20", "198.19.64.21", "198.19.64.40"
SPF = ("outreach.test", "TXT")
COLD_ALL = {f"198.19.64.{last}" for last in range(40, 44)}


def without(owner, rtype):
    return lambda records: records.pop((owner, rtype))


def instead(owner, rtype, *values):
    return lambda records: records.update({(owner, rtype): list(values)})


def eleven_lookups(records):
    records[SPF] = [
        "v=spf1 " + " ".join(f"include:s{i}.outreach.test" for i in range(11)) + " ip4:198.19.64.40/30 -all"
    ]
    for i in range(11):
        records[(f"s{i}.outreach.test", "TXT")] = ["v=spf1 ip4:198.19.64.9 -all"]


def three_voids(records):
    records[SPF] = ["v=spf1 a:v1.outreach.test a:v2.outreach.test a:v3.outreach.test ip4:198.19.64.40/30 -all"]


FAULTS = {
    "missing PTR": (without("40.64.19.198.in-addr.arpa", "PTR"), "fcrdns", {COLD}, "no record"),
    "two PTRs": (
        lambda records: records[("40.64.19.198.in-addr.arpa", "PTR")].append("mail.outreach.test"),
        "fcrdns",
        {COLD},
        "mail.outreach.test",
    ),
    "PTR to another name": (
        instead("40.64.19.198.in-addr.arpa", "PTR", "mail.outreach.test"),
        "fcrdns",
        {COLD},
        "says EHLO",
    ),
    "wrong A": (
        instead("mta40.outreach.test", "A", "198.19.64.99"),
        "fcrdns",
        {COLD},
        "does not lead back",
    ),
    "missing AAAA": (
        without("mta20.tx.acme.test", "AAAA"),
        "fcrdns",
        {"198.19.64.20 fd00:198:64::20"},
        "does not lead back",
    ),
    "SPF lacks one address": (instead(*SPF, "v=spf1 ip4:198.19.64.40/31 ip4:198.19.64.42 -all"), "spf", COLD_ALL, "43"),
    "SPF lets too many": (instead(*SPF, "v=spf1 ip4:198.19.64.0/24 -all"), "spf", COLD_ALL, "fleet file"),
    "SPF of 11 lookups": (eleven_lookups, "spf", COLD_ALL, "costs more than 10"),
    "SPF of 3 voids": (three_voids, "spf", COLD_ALL, "find nothing"),
    "two SPF records": (
        instead(*SPF, "v=spf1 -all", "v=spf1 ip4:198.19.64.40/30 -all"),
        "spf",
        COLD_ALL,
        "2 SPF records",
    ),
    "SPF of the EHLO name": (without("mta40.outreach.test", "TXT"), "spf", {COLD}, "no SPF record"),
    "missing DKIM": (without("s1._domainkey.outreach.test", "TXT"), "dkim", COLD_ALL, "no record"),
    "revoked DKIM": (instead("s1._domainkey.outreach.test", "TXT", "v=DKIM1; p="), "dkim", COLD_ALL, "empty key"),
    "cut DKIM": (instead("s1._domainkey.outreach.test", "TXT", "v=DKIM1"), "dkim", COLD_ALL, "no public key"),
    "wrong DMARC": (instead("_dmarc.outreach.test", "TXT", "v=DMARC1; p=reject"), "dmarc", COLD_ALL, "fleet file"),
    "broken DMARC": (instead("_dmarc.outreach.test", "TXT", "v=DMARC1; p=maybe"), "dmarc", COLD_ALL, "policy"),
    "two DMARC": (
        lambda records: records[("_dmarc.outreach.test", "TXT")].append("v=DMARC1; p=none"),
        "dmarc",
        COLD_ALL,
        "2 records",
    ),
    "missing MX": (without("outreach.test", "MX"), "mx", COLD_ALL, "bounces"),
    "MX without address": (without("bounces.mx.test", "A"), "mx", None, "no address"),
    "missing TLS-RPT": (without("_smtp._tls.outreach.test", "TXT"), "reports", COLD_ALL, "TLS-RPT"),
    "wrong MTA-STS": (instead("_mta-sts.tx.acme.test", "TXT", "v=STSv1; id=1"), "reports", None, "MTA-STS"),
    "reports not allowed": (
        without("outreach.test._report._dmarc.mx.test", "TXT"),
        "reports",
        COLD_ALL,
        "outreach.test._report",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(bind, expected, fault):
    plant, check, addresses, says = FAULTS[fault]
    records = sound_records(expected)
    plant(records)
    bind.serve(records)
    result = proof(expected)
    assert broken(result, check) == addresses or (addresses is None and broken(result, check))
    for other in set(judge.CHECKS) - {check}:
        assert not broken(result, other)
    assert any(says in str(finding) for finding in result.findings if finding.severity == ERROR)
    # What the fault does not concern is not judged with it.
    tx_only = proof(expected, streams=["tx"])
    assert bool(tx_only.findings) == any("tx.acme" in str(f) or "bounces.mx" in f.where for f in result.findings)


def test_a_lame_zone_is_unknown_and_never_passes(bind, expected):
    bind.serve(sound_records(expected), lame=("outreach.test",))
    result = proof(expected)
    cold = [row for row in result.rows if row["stream"] == "cold"]
    assert {row[check] for row in cold for check in ("fcrdns", "spf", "dkim", "dmarc", "mx", "reports")} == {"unknown"}
    assert all(row["spf"] == "ok" for row in result.rows if row["stream"] == "tx")
    assert any("unknown (SERVFAIL" in finding.found for finding in result.findings)


def test_a_dead_resolver_is_unknown(bind, expected):
    answers = Resolver(["198.19.64.77"], 0.2).ask([Question("acme.test", "A"), Question("mx.test", "MX")])
    assert {answer.status for answer in answers.values()} == {"unknown"}


def test_long_answers_come_over_tcp(bind, expected):
    records = sound_records(expected)
    long = "x" * 3000
    records[("long.mx.test", "TXT")] = [long]
    bind.serve(records)
    answers = Resolver([SERVER], 2.0).ask([Question("long.mx.test", "TXT"), Question("none.mx.test", "TXT")])
    assert answers[Question("long.mx.test", "TXT")].values == (long,)
    assert answers[Question("none.mx.test", "TXT")].status == NO
