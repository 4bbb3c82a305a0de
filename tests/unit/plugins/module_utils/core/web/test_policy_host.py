# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy host: each name has one certificate and one virtual host, and no input writes lines of its own."""

from __future__ import annotations

import itertools
import re

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors
from ansible_collections.mailops.mta.plugins.module_utils.core.web import policy_host

ACME = policy_host.Acme("https://ca.example/dir", "postmaster@example.com")
EXACT, WIDE = "mta-sts.example.com", "*.example.com"


@pytest.mark.parametrize("order", list(itertools.permutations([EXACT, WIDE, "*"])))
def test_the_most_exact_certificate_serves_a_host_in_any_order(order):
    hosts = [EXACT, "other.example.com", "mta-sts.example.net"]
    serving, findings = policy_host.assign(hosts, order, has_acme=False)
    assert serving == {EXACT: EXACT, "other.example.com": WIDE, "mta-sts.example.net": "*"}
    assert findings == []


def test_a_star_covers_one_label_as_in_certificates():
    serving, _findings = policy_host.assign(["mta-sts.mail.example.com", "example.com"], [WIDE], has_acme=True)
    assert set(serving.values()) == {None}


@pytest.mark.parametrize("has_acme", [True, False])
def test_a_host_without_a_certificate_is_for_acme_or_a_finding(has_acme):
    serving, findings = policy_host.assign([EXACT], [], has_acme)
    assert serving == {EXACT: None}
    assert [finding.where for finding in findings] == ([] if has_acme else [EXACT])


def test_a_certificate_that_is_not_used_is_a_warning_and_one_given_twice_an_error():
    _serving, findings = policy_host.assign([EXACT], [EXACT, EXACT, "mta-sts.gone.example"], has_acme=False)
    assert [(finding.where, finding.severity) for finding in findings] == [
        (f"certificates: {EXACT}", "error"),
        ("certificates: mta-sts.gone.example", "warning"),
    ]


def test_good_input_has_no_findings():
    assert policy_host.check([EXACT], ["192.0.2.1", "2001:db8::1"], ACME) == []
    assert policy_host.check([EXACT], [], None) == []


@pytest.mark.parametrize("text", ["x\nListen 80", "x y", 'x"', "<VirtualHost>", "../x", "", "x;y", "ü", "$(x)", "a\tb"])
def test_no_input_writes_lines_of_its_own(text):
    acme = policy_host.Acme(f"https://ca.example/{text} ", f"a@{text}b ")
    findings = errors(policy_host.check([f"{text}"], [text], acme))
    assert {finding.where for finding in findings} == {"policies", "listen", "acme.directory_url", "acme.email"}


def test_no_policy_and_one_given_twice_are_findings():
    assert [finding.found for finding in policy_host.check([], [], None)] == ["there is none"]
    assert [finding.why for finding in policy_host.check([EXACT, EXACT], [], None)] == ["it is given twice"]


@pytest.mark.parametrize("challenge", policy_host.CHALLENGES)
@pytest.mark.parametrize("listen", [(), ("192.0.2.1", "2001:db8::1")])
def test_every_host_has_one_virtual_host_and_one_way_to_its_certificate(listen, challenge):
    files = {f"mta-sts.d{number}.example": f"file{number}" if number % 3 else None for number in range(300)}
    acme = policy_host.Acme("https://ca.example/dir", "a@example.com", challenge)
    text = policy_host.configuration("/etc/x", files, listen, acme)
    for host, file in files.items():
        block = re.findall(rf"<VirtualHost \*:443>\n    ServerName {re.escape(host)}\n(.*?)</VirtualHost>", text, re.S)
        assert len(block) == 1
        assert (f"SSLCertificateFile /etc/x/certificates/{file}.pem" in block[0]) == (file is not None)
        assert (f"MDomain {host}\n" in text) == (file is None)
    assert len(re.findall("^MDomain", text, re.M)) == 100
    opened = re.findall("^Listen (.*)$", text, re.M)
    ports = ["443", "80"] if challenge == "http-01" else ["443"]
    assert opened == ([f"{ip}:{port}" for port in ports for ip in ("192.0.2.1", "[2001:db8::1]")] if listen else ports)
    assert ("acme-tls/1" in text) == (challenge == "tls-alpn-01")


def test_nothing_of_acme_runs_where_every_certificate_is_given():
    text = policy_host.configuration("/etc/x", {EXACT: "file"}, [], policy_host.Acme("https://ca.example/", "a@b.c"))
    assert "MD" not in text
    assert "md_module" not in text


def test_the_order_of_the_policies_changes_nothing():
    hosts = {f"mta-sts.d{number}.example": None for number in range(9)}
    turned = dict(reversed(hosts.items()))
    assert policy_host.configuration("/x", hosts, [], ACME) == policy_host.configuration("/x", turned, [], ACME)
