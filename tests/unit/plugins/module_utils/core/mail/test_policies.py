# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the record texts: what is built is read back as it was, and what a receiver refuses is refused."""

from __future__ import annotations

import base64
import ipaddress

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Bimi, Dmarc, MtaSts
from hypothesis import given
from hypothesis import strategies as st

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=2, max_size=3).map(lambda labels: ".".join((*labels, "test")))
IPS = st.ip_addresses().map(str)
MAILBOXES = st.builds("{}@{}".format, st.from_regex(r"[a-z0-9!,;%+=#.-]{1,12}", fullmatch=True), NAMES)
POLICIES = st.sampled_from(("none", "quarantine", "reject"))
MODES = st.sampled_from(("r", "s"))

MECHANISMS = st.one_of(
    st.builds(policies.Mechanism, st.sampled_from("+-~?"), st.sampled_from(("include", "exists")), domain=NAMES),
    st.builds(
        policies.Mechanism,
        st.sampled_from("+-~?"),
        st.sampled_from(("a", "mx")),
        domain=st.one_of(st.just(""), NAMES),
        prefix4=st.integers(0, 32),
        prefix6=st.integers(0, 128),
    ),
    st.builds(policies.Mechanism, st.sampled_from("+-~?"), st.just("ptr"), domain=st.one_of(st.just(""), NAMES)),
    st.builds(policies.Mechanism, st.sampled_from("+-~?"), st.just("all")),
    st.ip_addresses(v=4).map(lambda ip: policies.Mechanism("+", "ip4", network=str(ip))),
    st.ip_addresses(v=6).map(lambda ip: policies.Mechanism("-", "ip6", network=str(ip))),
)
MODIFIERS = st.one_of(st.just(()), NAMES.map(lambda name: (("redirect", name),)))


@given(st.lists(MECHANISMS, max_size=6).map(tuple), MODIFIERS)
def test_spf_is_read_back_as_it_was(mechanisms, modifiers):
    record = policies.Spf(mechanisms, modifiers)
    assert policies.parse_spf(record.text) == record


@given(st.lists(IPS, max_size=12), st.lists(NAMES, max_size=3), st.sampled_from(("-all", "~all")))
def test_the_built_spf_holds_exactly_the_pool(ips, include, last):
    text = policies.spf(ips, include=include, all=last)
    record = policies.parse_spf(text)
    assert text.endswith(last)
    assert record.text == text
    held = [ipaddress.ip_network(mechanism.network) for mechanism in record.mechanisms if mechanism.network]
    assert sum(network.num_addresses for network in held) == len(set(ips))
    for ip in map(ipaddress.ip_address, ips):
        assert any(network.version == ip.version and ip in network for network in held)
    assert [mechanism.domain for mechanism in record.mechanisms if mechanism.name == "include"] == include
    assert policies.spf(reversed(ips), include=include, all=last) == text


@st.composite
def pools(draw):
    """Single addresses and runs of neighbours, up to what ten records hold."""
    starts = draw(st.lists(st.tuples(IPS, st.integers(1, 9)), max_size=120))
    found = []
    for ip, count in starts:
        first = ipaddress.ip_address(ip)
        last = min(int(first) + count, 2**first.max_prefixlen)
        found.extend(str(type(first)(number)) for number in range(int(first), last))
    return tuple(dict.fromkeys(found))


@given(pools(), st.lists(LABELS.map("{}.test".format), max_size=2, unique=True), st.sampled_from(("-all", "~all")))
def test_a_split_spf_holds_exactly_the_pool_within_every_limit(pool, include, last):
    room = 400
    parts = policies.spf_records("mail.example.test", pool, tuple(include), last, room)
    (name, top), *rest = parts.items()
    parsed = {part: policies.parse_spf(text) for part, text in parts.items()}
    assert name == "mail.example.test"
    assert top.endswith(last)
    assert len(rest) > policies.SPF_MAX_LOOKUPS or len(top) <= policies.SPF_MAX_TEXT
    assert all(len(text) <= room for _part, text in rest)
    included = [each.domain for each in parsed[name].mechanisms if each.name == "include"]
    assert included == [*(part for part, _text in rest), *include]
    assert (len(rest) > 0) == (len(policies.spf(pool, include, last)) > room)
    held = [
        ipaddress.ip_network(each.network) for record in parsed.values() for each in record.mechanisms if each.network
    ]
    assert sum(network.num_addresses for network in held) == len(pool)
    assert set(map(ipaddress.ip_address, pool)) == {ip for network in held for ip in network}
    assert parsed[name].lookups == len(rest) + len(include)
    spare = len(policies.SPF_VERSION + " -all") + len(" ip6:") + 43
    assert len(rest) <= policies.SPF_MAX_LOOKUPS or len(policies.spf(pool)) > policies.SPF_MAX_LOOKUPS * (room - spare)
    # A part that nothing more fits into is never left behind half empty.
    assert all(len(text) + len(" ip6:") + 43 > room for _part, text in rest[:-1])


def test_neighbours_become_a_block():
    pool = [f"203.0.113.{last}" for last in (20, 23, 22, 21, 30)]
    assert policies.spf(pool) == "v=spf1 ip4:203.0.113.20/30 ip4:203.0.113.30 -all"


@pytest.mark.parametrize(
    "text",
    [
        "v=spf2 -all",
        "v=spf1-all",
        "v=spf1 ip4:203.0.113.300 -all",
        "v=spf1 ip4:2001:db8::1 -all",
        "v=spf1 ip6:203.0.113.1 -all",
        "v=spf1 ip4 -all",
        "v=spf1 ip4:0x7f000001 -all",
        "v=spf1 include -all",
        "v=spf1 include: -all",
        "v=spf1 a: -all",
        "v=spf1 a/33 -all",
        "v=spf1 mx//129 -all",
        "v=spf1 exists/24 -all",
        "v=spf1 all:x.test",
        "v=spf1 nonsense -all",
        "v=spf1 redirect=a.test redirect=b.test",
        "v=spf1 redirect=",
    ],
)
def test_a_broken_spf_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        policies.parse_spf(text)
    assert policies.spf_problems(text)


def test_spf_limits():
    assert policies.spf_problems("v=spf1 a mx -all") == []
    assert "11 DNS lookups" in policies.spf_problems("v=spf1 " + "a " * 10 + "redirect=x.test")[0]
    assert "characters" in policies.spf_problems(policies.spf(f"203.0.{third}.1" for third in range(40)))[0]


@given(
    st.sampled_from(("rsa", "ed25519")),
    st.binary(max_size=300),
    st.lists(st.sampled_from(("sha1", "sha256")), unique=True).map(tuple),
    st.lists(st.sampled_from(("y", "s")), unique=True).map(tuple),
)
def test_dkim_is_read_back_as_it_was(key_type, key, hashes, flags):
    record = policies.DkimRecord(key_type, base64.b64encode(key).decode(), hashes, ("email",), flags)
    assert policies.parse_dkim(record.text) == record
    assert policies.parse_dkim(record.text.replace("; ", " ;\t").replace("p=", "p= ")) == record


WORDS = st.lists(st.sampled_from(("sha1", "sha256", "email", "*", "chat", "y", "s", "x")), unique=True).map(tuple)


@given(WORDS, WORDS, WORDS)
def test_each_tag_that_keeps_receivers_from_a_dkim_key_is_said_once(hashes, services, flags):
    found = policies.dkim_problems(policies.DkimRecord("rsa", "", hashes, services, flags))
    bad = [
        *(["h="] if hashes and "sha256" not in hashes else []),
        *(["s="] if services and "email" not in services and "*" not in services else []),
        *(["t="] if "y" in flags else []),
    ]
    assert [shown[:2] for shown, _why in found] == bad


@pytest.mark.parametrize(
    "text",
    [
        "v=DKIM1",
        "k=rsa; v=DKIM1; p=",
        "v=DKIM2; p=",
        "v=DKIM1; p=a",
        "v=DKIM1; p=; p=",
        "v=DKIM1; h=; p=",
        "v=DKIM1; h= : ; p=",
        "s=; p=",
    ],
)
def test_a_broken_dkim_record_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        policies.parse_dkim(text)


@given(
    st.builds(
        policies.DmarcRecord,
        policy=POLICIES,
        subdomain_policy=st.one_of(st.just(""), POLICIES),
        missing_policy=st.one_of(st.just(""), POLICIES),
        alignment_dkim=MODES,
        alignment_spf=MODES,
        rua=st.lists(MAILBOXES, max_size=3).map(tuple),
        ruf=st.lists(MAILBOXES, max_size=2).map(tuple),
        failure_options=st.sampled_from(("", "1", "0:d:s")),
        testing=st.booleans(),
        psd=st.sampled_from(("", "y", "n", "u")),
    )
)
def test_dmarc_is_read_back_as_it_was(record):
    assert policies.parse_dmarc(record.text) == record
    assert policies.is_dmarc(record.text)


@given(
    st.builds(
        Dmarc,
        policy=POLICIES,
        subdomain_policy=st.one_of(st.none(), POLICIES),
        rua=st.lists(MAILBOXES, max_size=3).map(tuple),
        alignment_dkim=MODES,
        alignment_spf=MODES,
        rua_authorised=st.just(()),
        missing_policy=st.one_of(st.none(), POLICIES),
        testing=st.booleans(),
    )
)
def test_the_built_dmarc_says_what_was_wanted_and_no_removed_tag(wanted):
    found = policies.parse_dmarc(policies.dmarc(wanted))
    assert (found.policy, found.subdomain_policy or None, found.rua) == (
        wanted.policy,
        wanted.subdomain_policy,
        wanted.rua,
    )
    assert (found.alignment_dkim, found.alignment_spf) == (wanted.alignment_dkim, wanted.alignment_spf)
    assert (found.missing_policy or None, found.testing) == (wanted.missing_policy, wanted.testing)
    assert not set(policies.tag_list(policies.dmarc(wanted))) & {"pct", "rf", "ri"}


def test_dmarc_of_old_is_read_and_its_removed_tags_are_named():
    found = policies.parse_dmarc("v=DMARC1;p=none;pct=50;ri=86400; rua=mailto:a@x.test!10m")
    assert found.removed == ("pct", "ri")
    assert policies.parse_dmarc("v=DMARC1; rua=mailto:a@x.test").policy == "none"


@pytest.mark.parametrize(
    "text",
    [
        "p=none; v=DMARC1",
        "v=DMARC1",
        "v=DMARC1; p=maybe",
        "v=DMARC1; p=none; rua=a@x.test",
        "v=DMARC1; p=none; adkim=x",
    ],
)
def test_a_broken_dmarc_record_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        policies.parse_dmarc(text)


@given(st.lists(MAILBOXES, min_size=1, max_size=3).map(tuple))
def test_tls_rpt_is_read_back_as_it_was(rua):
    assert policies.parse_tls_rpt(policies.tls_rpt(rua)).rua == rua


def test_bimi_names_a_logo_and_its_evidence():
    assert policies.bimi(Bimi("https://x.test/a.svg", "")) == "v=BIMI1; l=https://x.test/a.svg"
    assert policies.bimi(Bimi("https://x.test/a.svg", "https://x.test/a.pem")) == (
        "v=BIMI1; l=https://x.test/a.svg; a=https://x.test/a.pem"
    )


STS = st.builds(MtaSts, st.sampled_from(("none", "testing", "enforce")), st.integers(0, 31557600))


@given(st.lists(NAMES, min_size=1, max_size=3).map(tuple), STS)
def test_the_mta_sts_policy_is_read_back_as_it_was(mx, wanted):
    found = policies.parse_mta_sts_policy(policies.mta_sts_policy(mx, wanted))
    assert (found.mode, found.mx, found.max_age_seconds) == (wanted.mode, mx, wanted.max_age_seconds)


@given(NAMES, NAMES, STS, STS)
def test_the_mta_sts_id_changes_with_the_policy_and_only_with_it(mx, other_mx, wanted, other):
    first, second = policies.mta_sts_policy([mx], wanted), policies.mta_sts_policy([other_mx], other)
    assert (policies.mta_sts_record(first) == policies.mta_sts_record(second)) == (first == second)
    assert policies.parse_mta_sts_record(policies.mta_sts_record(first)).text == policies.mta_sts_record(first)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (policies.parse_tls_rpt, "v=TLSRPTv1"),
        (policies.parse_tls_rpt, "v=TLSRPTv1; rua="),
        (policies.parse_mta_sts_record, "v=STSv1"),
        (policies.parse_mta_sts_record, "v=STSv1; id=a-b"),
        (policies.parse_mta_sts_policy, "version: STSv1\nmode: testing\nmax_age: 1"),
        (policies.parse_mta_sts_policy, "version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 99999999"),
        (policies.parse_mta_sts_policy, "mode: none\nmax_age: 1"),
        (policies.parse_mta_sts_policy, "version: STSv1\nmode: all\nmax_age: 1"),
        (policies.parse_mta_sts_policy, "version: STSv1\nnonsense"),
    ],
)
def test_broken_transport_records_are_refused(parse, text):
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


def test_reports_are_allowed_by_a_dmarc_record_only():
    assert policies.authorises_reports(["x", "v=DMARC1"])
    assert policies.authorises_reports(["v=DMARC1; rua=mailto:a@x.test"])
    assert not policies.authorises_reports(["v=DMARC10"])
    assert not policies.authorises_reports([])
