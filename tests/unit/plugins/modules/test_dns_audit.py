# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit over the wire: servers on the loopback (dnspython's encoding, not ours) and a policy host with TLS."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.module_utils.core.audit import notes
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies as tags
from ansible_collections.mailops.mta.plugins.module_utils.shell.web import policies
from ansible_collections.mailops.mta.plugins.modules import dns_audit
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.dns.still_net import StillNet

dns_message = pytest.importorskip("dns.message")
dns_rrset = pytest.importorskip("dns.rrset")
dns_flags = pytest.importorskip("dns.flags")
dns_rcode = pytest.importorskip("dns.rcode")

NOW = 1_800_000_000.0
ZONE = "example.com"
SPF = "v=spf1 ip4:203.0.113.10 -all"
POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmax_age: 604800\r\n"
RECORDS = [
    {"name": "tx.example.com", "type": "TXT", "ttl": 300, "values": [SPF], "reason": "SPF", "streams": ["tx"]},
    {"name": "tx.example.com", "type": "MX", "ttl": 300, "values": ["10 mx.example.com"], "reason": "bounces"},
    {"name": "mta1.tx.example.com", "type": "AAAA", "ttl": 300, "values": ["2001:DB8::0001"], "reason": "EHLO"},
    {"name": "tx.example.com", "type": "CAA", "ttl": 300, "values": ['0 issue "ca.example"'], "reason": "CA"},
    {"name": "_25._tcp.mx.example.com", "type": "TLSA", "ttl": 300, "values": ["3 1 1 " + "AB" * 32], "reason": "DANE"},
    {"name": "info.tx.example.com", "type": "TXT", "ttl": 300, "values": ["x" * 300 + ' "quoted"; \\'], "reason": "t"},
]


class Authority:
    """A zone on one address; it answers as an authority that also resolves, so that one server plays all parts."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.close = self.socket.close
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.sets: dict[tuple[str, str], Any] = {}
        self.refuses = False
        self.validates = True
        self.put(ZONE, "SOA", "ns1.example.com. h.example.com. 7 1 1 1 300")
        self.put(ZONE, "NS", "ns1.example.com.")
        self.put("mx.example.com", "A", "203.0.113.25")
        for entry in RECORDS:
            self.put(str(entry["name"]), str(entry["type"]), self.presented(entry))

    @staticmethod
    def presented(entry: dict[str, Any]) -> str:
        value = str(entry["values"][0])
        if entry["type"] != "TXT":
            return f"{value}." if entry["type"] == "MX" else value
        text = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text[:200]}" "{text[200:]}"'

    def put(self, name: str, rtype: str, *values: str, ttl: int = 300) -> None:
        rrset = dns_rrset.from_text(f"{name}.", ttl, "IN", rtype, *values) if values else None
        self.sets[name, rtype] = rrset

    def work(self) -> bool:
        found = False
        with suppress(OSError):  # nothing came, or it is closed
            while True:
                wire, peer = self.socket.recvfrom(4096)
                found = True
                self.socket.sendto(self._reply(wire), peer)
        return found

    def _reply(self, wire: bytes) -> Any:
        query = dns_message.from_wire(wire)
        reply = dns_message.make_response(query, recursion_available=True)
        if self.refuses:
            reply.set_rcode(dns_rcode.REFUSED)
        else:
            reply.flags |= dns_flags.AA | (dns_flags.AD if self.validates else 0)
            question = query.question[0]
            name = question.name.to_text(omit_final_dot=True).lower()
            found = self.sets.get((name, question.rdtype.name))
            if found:
                reply.answer.append(found)
            else:
                reply.authority.append(self.sets[ZONE, "SOA"])
        return reply.to_wire()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Authority]]:
    net, servers = StillNet(), [Authority(), Authority()]
    net.servers += servers
    net.install(monkeypatch)
    yield servers
    net.close()


class Ended(Exception):
    """What the module returned."""


class Module:
    def __init__(self, **arguments: Any) -> None:
        validated = ArgumentSpecValidator(dns_audit.ARGUMENTS).validate(arguments)
        assert validated.error_messages == []
        self.params = validated.validated_parameters

    def exit_json(self, **result: Any) -> None:
        raise Ended(result)

    def fail_json(self, **result: Any) -> None:
        raise Ended({"failed": True, **result})


def run(servers: list[Authority], **arguments: Any) -> dict[str, Any]:
    given = {
        "zones": [
            {
                "name": ZONE,
                "provider": "powerdns",
                "credentials": "pdns",
                "options": {"servers": [server.address for server in servers]},
            }
        ],
        "records": RECORDS,
        "resolvers": [servers[0].address] if servers else [],
        "timeout_seconds": 0.5,
        **arguments,
    }
    with pytest.raises(Ended) as ended:
        dns_audit.run(Module(**given), lambda: NOW)  # type: ignore[arg-type]
    result = ended.value.args[0]
    assert json.loads(json.dumps(result)) == result
    return dict(result)


def test_what_is_declared_is_found_as_it_comes_over_the_wire(pair: list[Authority]) -> None:
    result = run(pair)
    assert result["findings"] == []
    assert {row["state"] for row in result["table"]} == {"ok"}
    assert result["ok"]
    assert not result["changed"]
    assert "mta_dns_audit_timestamp_seconds 1800000000\n" in result["metrics"]


@pytest.mark.parametrize("ask", [True, False])
def test_a_key_host_has_its_keys_audited_and_nothing_else(pair: list[Authority], ask: bool) -> None:
    series = [{"domain": "tx.example.com", "delegate": None}]
    left = {"name": "m1._domainkey.left.example.com", "type": "TXT", "values": ["v=DKIM1; p="]}
    planted = [
        {"name": "www.example.com", "type": "A", "values": ["192.0.2.66"], "reason": "x"},
        {"name": "_mta-sts.internal.example.com", "type": "TXT", "values": ["v=STSv1; id=1;"]},
        {"name": "*._domainkey.tx.example.com", "type": "TXT", "values": ["v=DKIM1; p="]},
    ]
    honest = run(pair, ask=ask, dkim_records=[left], dkim_series=series)
    lied = run(pair, ask=ask, dkim_records=[left, *planted], dkim_series=series)
    assert [row["values"] for row in honest["table"] if row["name"] == left["name"]] == [left["values"]]
    assert (lied["table"], lied["ok"]) == (honest["table"], False)
    refused = [one["where"] for one in lied["findings"] if "none of a DKIM key" in one["found"]]
    assert refused == [f"record {one['name']} {one['type']}" for one in planted]


def test_each_server_is_asked_by_itself(pair: list[Authority]) -> None:
    pair[1].put("tx.example.com", "MX")
    result = run(pair)
    assert [finding["where"] for finding in result["findings"]] == [f"tx.example.com MX at {pair[1].address}"]
    assert {row["type"] for row in result["table"] if row["state"] == "unequal"} == {"MX"}
    assert not result["ok"]


def test_ttl_serial_and_another_value(pair: list[Authority]) -> None:
    for server in pair:
        server.put("tx.example.com", "MX", "10 mx.example.com.", ttl=60)
        server.put("tx.example.com", "TXT", '"v=spf1 -all"', '"other=1"')
    pair[1].put(ZONE, "SOA", "ns1.example.com. h.example.com. 8 1 1 1 300")
    result = run(pair)
    assert sorted(finding["where"] for finding in result["findings"]) == [
        "example.com SOA",
        "tx.example.com MX",
        "tx.example.com TXT",
    ]
    assert [text.split(":")[1].strip() for text in result["errors"]] == ["tx.example.com TXT"]


def test_a_resolver_that_does_not_validate_authenticates_no_tlsa(pair: list[Authority]) -> None:
    for server in pair:
        server.validates = False
    result = run(pair)
    assert [(finding["where"], finding["severity"]) for finding in result["findings"]] == [(f"zone {ZONE}", "warning")]
    assert result["ok"]


@pytest.mark.parametrize("silent", [False, True])
def test_a_server_that_is_no_authority_is_one_finding_and_the_other_one_counts(
    pair: list[Authority], silent: bool
) -> None:
    pair[1].refuses = True
    if silent:
        pair[1].socket.close()
    result = run(pair)
    assert [finding["where"] for finding in result["findings"]] == [f"server {pair[1].address} of zone example.com"]
    assert {row["state"] for row in result["table"]} == {"ok"}
    assert f'mta_dns_server_ok{{zone="{ZONE}",server="{pair[1].address}"}} 0\n' in result["metrics"]


def test_where_nobody_answers_the_registry_is_printed_and_all_is_unknown(pair: list[Authority]) -> None:
    for server in pair:
        server.socket.close()
    result = run(pair)
    assert {row["state"] for row in result["table"]} == {"unknown"}
    assert not result["ok"]
    for entry in RECORDS:
        assert any(line.split()[:2] == [entry["name"], entry["type"]] for line in result["registry"])


def test_without_asking_nobody_is_asked(pair: list[Authority]) -> None:
    for server in pair:
        server.socket.close()
    result = run(pair, ask=False)
    assert (result["questions"], result["ok"], result["lines"], result["metrics"]) == (0, True, [], "")
    assert len(result["table"]) == len(RECORDS)


def test_a_resolver_that_is_none_is_refused(pair: list[Authority]) -> None:
    result = run(pair, resolvers=["192.0.2.1:x"])
    assert result["failed"]
    assert "192.0.2.1:x" in result["msg"]


# ---- policies


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own CA for mta-sts.tx.example.com, with its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "40", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=DNS:mta-sts.tx.example.com", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def policy_host(certificate: Path, answer: bytes) -> int:
    """A host that gives ``answer`` to one visitor after another."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            raw, _peer = listener.accept()
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(answer)
            except OSError:
                raw.close()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


HOST = "mta-sts.tx.example.com"


def test_a_policy_comes_with_the_end_of_its_certificate(certificate: Path) -> None:
    port = policy_host(certificate, http("200 OK", POLICY))
    fetched = policies.fetch(HOST, ["127.0.0.1"], 600, str(certificate / "cert.pem"), port)
    assert (fetched.body, fetched.problem) == (POLICY.decode(), "")
    asked = ["openssl", "x509", "-enddate", "-noout", "-in", str(certificate / "cert.pem")]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip().partition("=")[2]
    assert fetched.expires == ssl.cert_time_to_seconds(told)


def test_what_a_sender_would_refuse_is_a_problem(certificate: Path) -> None:
    port = policy_host(certificate, http("200 OK", POLICY))
    ca_file = str(certificate / "cert.pem")
    assert "certificate is refused" in policies.fetch(HOST, ["127.0.0.1"], 600, None, port).problem
    assert "certificate is refused" in policies.fetch("mta-sts.other.test", ["127.0.0.1"], 600, ca_file, port).problem
    assert "ca_file" in policies.fetch(HOST, ["127.0.0.1"], 600, "/nowhere", port).problem
    assert policies.fetch(HOST, [], 600, ca_file, port).problem == f"{HOST} has no address"
    for answer in (http("404 Not Found", b""), http("302 Found", b"")):
        fetched = policies.fetch(HOST, ["127.0.0.1"], 600, ca_file, policy_host(certificate, answer))
        assert fetched.problem.startswith("HTTP ")
        assert fetched.expires
    broken = policies.fetch(HOST, ["127.0.0.1"], 600, ca_file, policy_host(certificate, b"hello\r\n\r\n"))
    assert broken.problem.startswith("127.0.0.1: ")


def test_the_next_address_is_tried(certificate: Path) -> None:
    port = policy_host(certificate, http("200 OK", POLICY))
    fetched = policies.fetch(HOST, ["127.0.0.2", "127.0.0.1"], 600, str(certificate / "cert.pem"), port)
    assert fetched.body == POLICY.decode()


@pytest.mark.parametrize(("served", "findings"), [(POLICY, 0), (POLICY.replace(b"mx.", b"old."), 1)])
def test_the_announced_policy_is_fetched_where_the_resolver_says(
    pair: list[Authority], monkeypatch: pytest.MonkeyPatch, served: bytes, findings: int
) -> None:
    announced = tags.mta_sts_record(POLICY.decode())
    seen = []

    def fetch(host: str, addresses: list[str], _timeout: float, ca_file: str | None) -> notes.Fetched:
        seen.append((host, addresses, ca_file))
        return notes.Fetched(served.decode(), expires=NOW + 90 * 86400)

    monkeypatch.setattr(policies, "fetch", fetch)
    for server in pair:
        server.put("_mta-sts.tx.example.com", "TXT", f'"{announced}"')
        server.put(HOST, "A", "192.0.2.80")
    entry = {"name": "_mta-sts.tx.example.com", "type": "TXT", "ttl": 300, "values": [announced]}
    result = run(pair, records=[*RECORDS, entry], ca_file="/ca.pem")
    assert seen == [(HOST, ["192.0.2.80"], "/ca.pem")]
    assert len(result["findings"]) == findings
    assert run(pair, records=[*RECORDS, entry], fetch_policies=False)["findings"] == []
    assert len(seen) == 1
