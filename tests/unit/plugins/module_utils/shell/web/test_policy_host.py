# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates are judged as a sender judges them, and what is served is compared byte by byte."""

from __future__ import annotations

import datetime
import http.server
import ssl
import threading

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.web import policy_host as core
from ansible_collections.mailops.mta.plugins.module_utils.shell.web import policy_host
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

HOST = "mta-sts.example.com"
DAY = datetime.timedelta(days=1)
POLICY = b"version: STSv1\r\nmode: testing\r\nmx: mx.example.com\r\nmax_age: 86400\r\n"


def pem(key, password=None):
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how).decode()


def issue(names, first=-1, last=30, key=None):
    """A certificate of an unknown CA for these names, with its key, both PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    authority = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "throwaway")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + first * DAY)
        .not_valid_after(now + last * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
        .sign(authority, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), pem(key)


def judged(chain, key, hosts=(HOST,)):
    return [(finding.severity, finding.found) for finding in policy_host.judge("*", chain, key, list(hosts))]


UNKNOWN = [("warning", "its chain ends at no CA that this host knows")]


@pytest.mark.parametrize("names", [[HOST], ["*.example.com"], ["x.example.com", HOST]])
def test_a_good_certificate_of_an_unknown_ca_is_a_warning_only(names):
    assert judged(*issue(names)) == UNKNOWN


def test_an_rsa_key_is_as_good():
    assert judged(*issue([HOST], key=rsa.generate_private_key(65537, 2048))) == UNKNOWN


@pytest.mark.parametrize(
    ("names", "first", "last", "found"),
    [
        ([HOST], -2, -1, "it has expired"),
        ([HOST], 1, 2, "it is not valid yet"),
        (["example.com"], -1, 30, "its names do not cover the host"),
        (["*.com"], -1, 30, "its names do not cover the host"),
    ],
)
def test_what_a_sender_refuses_is_an_error(names, first, last, found):
    assert judged(*issue(names, first, last)) == [("error", found)]


def test_each_host_that_is_not_covered_is_named():
    findings = policy_host.judge("*", *issue([HOST]), [HOST, "a.example.net", "b.example.net"])
    assert [finding.where for finding in findings] == [
        "certificates: * for a.example.net",
        "certificates: * for b.example.net",
    ]


def test_what_the_server_could_not_load_is_an_error_that_shows_no_key():
    chain, key = issue([HOST])
    other = issue([HOST])[1]
    locked = pem(ec.generate_private_key(ec.SECP256R1()), b"secret")
    for bad_chain, bad_key, word in (
        (chain, other, "of another certificate"),
        (key, key, "no PEM certificate"),
        (chain, locked, "encrypted"),
        (chain, "nonsense\n", "OpenSSL does not take it"),
        (chain.replace("M", "N", 3), key, ""),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", key, ""),
        (*issue([HOST], key=rsa.generate_private_key(65537, 1024)), "OpenSSL does not take it"),
    ):
        findings = policy_host.judge("*", bad_chain, bad_key, [HOST])
        assert [finding.severity for finding in findings] == ["error"]
        assert word in findings[0].found
        assert not [
            line for line in bad_key.splitlines() if len(line) > 20 and line in str(findings) and "-" not in line
        ]


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, kind, body = self.server.answers.get((self.headers["Host"], self.path), (404, "text/html", b"none"))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(name="served")
def fixture_served(tmp_path):
    """A server on loopback: its port, its certificate (DER), and what it answers."""
    chain, key = issue([HOST])
    (tmp_path / "pair.pem").write_text(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(tmp_path / "pair.pem"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers = {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port, policy_host.leaf(chain), server.answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_policy_is_fetched_by_name_with_its_bytes_and_certificate(served):
    port, certificate, answers = served
    answers[HOST, core.POLICY_PATH] = (200, "text/plain", POLICY)
    assert policy_host.fetch("127.0.0.1", HOST, port) == policy_host.Reply(certificate, 200, "text/plain", POLICY)
    assert policy_host.fetch("127.0.0.1", "other.example.com", port).status == 404


@pytest.mark.parametrize(
    ("answer", "own", "word"),
    [
        ((200, "text/plain", POLICY), True, None),
        ((200, "text/plain; charset=utf-8", POLICY), True, None),
        ((200, "text/plain", POLICY), False, "another certificate"),
        ((200, "text/plain", POLICY.replace(b"\r", b"")), True, "another policy"),
        ((200, "text/html", POLICY), True, "200 text/html"),
        ((301, "text/plain", POLICY), True, "answers 301"),
        ((503, "text/html", b""), True, "answers 503"),
    ],
)
def test_only_the_exact_policy_by_the_right_certificate_is_no_fault(served, monkeypatch, answer, own, word):
    port, certificate, answers = served
    answers[HOST, core.POLICY_PATH] = answer
    fetch = policy_host.fetch
    monkeypatch.setattr(policy_host, "fetch", lambda address, host: fetch(address, host, port))
    site = policy_host.Site(HOST, POLICY, certificate if own else b"other")
    fault = policy_host.fault(site, "127.0.0.1")
    assert fault is None if word is None else word in fault
    # One that waits for ACME answers 503, and is no reason to put the old configuration back.
    waiting = policy_host.first_fault([policy_host.Site(HOST, POLICY, None)], "127.0.0.1")
    assert (waiting is None) == (word is None or not own or answer[0] == 503)


def test_a_port_that_is_closed_is_a_fault():
    assert "does not answer" in policy_host.fault(policy_host.Site(HOST, POLICY, None), "127.255.255.254")


def test_files_of_hosts_that_left_are_found_and_removed_with_their_directories(tmp_path):
    directory = str(tmp_path)
    for host in ("a.example", "b.example"):
        path = tmp_path / "sites" / host / ".well-known" / "mta-sts.txt"
        path.parent.mkdir(parents=True)
        path.write_bytes(POLICY)
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "old.key").write_text("x")
    wanted = [policy_host.File(core.policy_file(directory, "a.example"), POLICY.decode())]
    assert policy_host.differing(wanted) == ([] if (tmp_path.stat().st_uid == 0) else wanted)
    stale = policy_host.stale(directory, wanted)
    assert [path[len(directory) :] for path in stale] == [
        "/certificates/old.key",
        "/sites/b.example/.well-known/mta-sts.txt",
    ]
    policy_host.remove(stale)
    assert policy_host.stale(directory, wanted) == []
    assert [path.name for path in (tmp_path / "sites").iterdir()] == ["a.example"]


def test_what_mod_md_says_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(core, "STATE_DIRECTORY", str(tmp_path))
    assert policy_host.acme_detail(HOST) == "it has not been asked yet"
    job = tmp_path / "staging" / HOST / "job.json"
    job.parent.mkdir(parents=True)
    for broken in ("{", "[]", '{"log": {"entries": [1]}}'):
        job.write_text(broken)
        assert policy_host.acme_detail(HOST) == "it has not been asked yet"
    job.write_text('{"log": {"entries": [{"type": "message-errored"}, {"type": "progress", "detail": "no answer"}]}}')
    assert policy_host.acme_detail(HOST) == "no answer"


UNASKED = "it has not been asked yet"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"log": {"entries": [{"type": "progress", "detail": {}}, {"type": "progress", "detail": "x"}]}}', "x"),
        ('{"log": {"entries": [{"type": "progress", "detail": [1]}, {"type": "progress"}]}}', UNASKED),
        ('{"log": {"entries": [7]}}', UNASKED),
        ('{"log": []}', UNASKED),
        ("[" * 200000, UNASKED),
    ],
)
def test_what_mod_md_wrote_in_another_shape_ends_no_run(text, shown, monkeypatch):
    monkeypatch.setattr(policy_host.files, "read", lambda _path: text)
    assert policy_host.acme_detail(HOST) == shown
