# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of names and addresses: one form for each, and words made of them never clash."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from hypothesis import example, given
from hypothesis import strategies as st

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
IPS = st.ip_addresses().map(str)


@given(NAMES)
def test_the_canonical_form_is_a_fixed_point(name):
    assert names.to_ascii(name) == name
    assert names.to_ascii(f" {name.upper()}. ") == name


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("Bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("例え.test", "xn--r8jz45g.test"),
    ],
)
def test_umlauts_become_a_labels(written, canonical):
    assert names.to_ascii(written) == canonical
    assert names.hostname_problem(canonical) is None


@pytest.mark.parametrize("written", ["straße.example", "a\u200db.example", "ü" * 64 + ".example"])
def test_what_idna_versions_read_differently_is_refused(written):
    with pytest.raises(ValueError, match=r"."):
        names.to_ascii(written)


@pytest.mark.parametrize(
    "name", ["", "a", "a..b", "-a.b", "a-.b", "a_b.c", "a." + "b" * 64, "1.2.3.4", "a b.c", "*.a.b"]
)
def test_what_is_no_host_name_is_refused(name):
    assert names.hostname_problem(name)


@pytest.mark.parametrize("name", ["_dmarc.a.b", "s1._domainkey.a.b", "*.a.b", "a.b", "10.2.0.192.in-addr.arpa"])
def test_owners_of_records_may_have_underscores(name):
    assert names.owner_problem(name) is None


@given(NAMES, st.lists(NAMES, max_size=5))
def test_the_enclosing_zone_is_the_longest(name, zones):
    holding = [zone for zone in [*zones, name] if names.is_within(name, zone)]
    assert names.enclosing(name, {*zones, name}) == max(holding, key=len)
    assert names.enclosing(name, zones) in {*[zone for zone in zones if names.is_within(name, zone)], None}


@example("0.0.0.0", "::ffff:0.0.0.0")
@given(IPS, IPS)
def test_address_labels_are_words_and_tell_addresses_apart(one, other):
    assert set(names.address_label(one)) <= set("0123456789abcdef-")
    assert (names.address_label(one) == names.address_label(other)) is (one == other)


@given(IPS)
def test_the_reverse_name_leads_back(ip):
    name = names.reverse_name(ip)
    labels = name.split(".")
    if name.endswith(".in-addr.arpa"):
        assert ".".join(reversed(labels[:4])) == ip
    else:
        assert int("".join(reversed(labels[:32])), 16) == int(ipaddress.IPv6Address(ip))


@given(st.ip_addresses(v=4), st.integers(25, 32))
def test_a_classless_zone_names_its_network_and_may_own_records(ip, length):
    network = ipaddress.IPv4Network(f"{ip}/{length}", strict=False)
    first = str(network.network_address)
    zone = f"{first.rpartition('.')[2]}/{length}.{names.reverse_parent(str(network))}"
    assert names.classless_network(zone) == str(network)
    assert names.reverse_name(first).endswith(f".{names.reverse_parent(str(network))}")
    assert names.owner_problem(zone) is None
    assert names.owner_problem(f"10.{zone}") is None


@pytest.mark.parametrize(
    ("zone", "legal"),
    [
        ("0/26.example.com", False),
        ("a/26.113.0.203.in-addr.arpa", False),
        ("113.0.203.in-addr.arpa", True),
        ("0-63.113.0.203.in-addr.arpa", True),
        ("1/26.113.0.203.in-addr.arpa", True),
        ("0/26.0.203.in-addr.arpa", True),
        ("0/26", False),
    ],
)
def test_other_names_hold_no_network(zone, legal):
    assert names.classless_network(zone) is None
    assert (names.owner_problem(zone) is None) == legal


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:DB8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:54", ("2001:db8::1", 54)),
        (" Ns1.Example.com ", ("ns1.example.com", 53)),
        ("bücher.example:54", ("xn--bcher-kva.example", 54)),
    ],
)
def test_servers_are_written_as_people_do(text: str, server: tuple[str, int]) -> None:
    assert names.endpoint(text) == server
    assert names.endpoint(names.endpoint_text(*server)) == server


@pytest.mark.parametrize("text", ["", "ns1:port", "ns1:70000", ":53", "a b", "[::1"])
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no server"):
        names.endpoint(text)


def test_a_key_stands_where_verifiers_look_or_where_an_alias_leads() -> None:
    assert names.alias_name("example.com", "s1") == "s1._domainkey.example.com"
    assert names.record_name("example.com", "s1", None) == names.alias_name("example.com", "s1")
    assert names.record_name("example.com", "s1", "dkim.example.net") == "s1.example.com.dkim.example.net"
