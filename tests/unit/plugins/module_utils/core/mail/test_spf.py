# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPF: pyspf, which shares no code with ours, says the same over one zone held in memory."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import (
    NO,
    UNKNOWN,
    YES,
    Answer,
    Answers,
    Question,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import policies, spf
from hypothesis import given
from hypothesis import strategies as st

pyspf = pytest.importorskip("spf")
pytest.importorskip("dns")


class Zone(dict):
    """Every name that it does not hold does not exist."""

    def get(self, question, default=None):
        values = super().get((question.name, question.rtype))
        return Answer(YES, tuple(values)) if values else Answer(NO)


class Query(pyspf.query):
    """pyspf with one correction: it counts a redirect where it reads the record, evaluated or not.

    RFC 7208 4.6.4 limits the terms that cause DNS queries "during SPF evaluation", and 6.1 has a redirect evaluated
    only where no mechanism matched. Here a redirect counts when its record is evaluated.
    """

    depth = -1

    def check1(self, record, domain, recursion):
        if recursion == self.depth:  # an include goes one deeper
            self.check_lookups()
        before, self.depth = self.depth, recursion
        try:
            return super().check1(record, domain, recursion)
        finally:
            self.depth = before

    def check0(self, record, recursion):
        self.lookups -= (record or "").count(" redirect=")
        return super().check0(record, recursion)


def oracle(zone, ip, domain, sender=None, ehlo=None, kind=Query):
    def look_up(name, rtype, tcpfallback=True, timeout=30):
        for value in dict.get(zone, (str(name).lower().rstrip("."), rtype), ()):
            if rtype == "TXT":
                yield (name, rtype), (value.encode(),)
            elif rtype == "MX":
                preference, _space, host = value.partition(" ")
                yield (name, rtype), (int(preference), host)
            else:
                yield (name, rtype), value

    before = pyspf.DNSLookup
    pyspf.DNSLookup = lambda *arguments, **named: list(look_up(*arguments, **named))
    try:
        query = kind(i=ip, s=sender or f"postmaster@{domain}", h=ehlo or domain, strict=True)
        return query.check()[0]
    finally:
        pyspf.DNSLookup = before


def ours(zone, ip, domain, **more):
    return spf.evaluate(ip, domain, Answers(zone), **more)


# pyspf takes an IPv4-mapped IPv6 address for IPv4; no mail comes from one.
SOURCES = st.ip_addresses().filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None)


@given(st.lists(SOURCES, min_size=1, max_size=10), SOURCES, st.sampled_from(("-all", "~all")))
def test_pyspf_lets_exactly_the_pool_pass(pool, stranger, last):
    zone = Zone({("x.test", "TXT"): ["site=1", policies.spf(map(str, pool), all=last)]})
    for ip in pool:
        assert oracle(zone, str(ip), "x.test") == ours(zone, str(ip), "x.test").result == "pass"
    expected = "pass" if stranger in pool else {"-all": "fail", "~all": "softfail"}[last]
    assert oracle(zone, str(stranger), "x.test") == ours(zone, str(stranger), "x.test").result == expected


@given(st.integers(0, 2**32 - 5), st.sets(st.integers(0, 8), min_size=1))
def test_neighbours_outside_the_pool_do_not_pass(base, offsets):
    base = min(base, 2**32 - 10)
    zone = Zone({("x.test", "TXT"): [policies.spf(str(ipaddress.IPv4Address(base + offset)) for offset in offsets)]})
    for offset in range(9):
        ip = str(ipaddress.IPv4Address(base + offset))
        expected = "pass" if offset in offsets else "fail"
        assert oracle(zone, ip, "x.test") == ours(zone, ip, "x.test").result == expected


HOSTS = ("x.test", "a.test", "b.test", "c.test", "void.test")
SIMPLE = (
    *("a", "mx", "a/24", "mx/30", "ip4:192.0.2.0/28", "-ip4:192.0.2.7", "ip6:2001:db8::/64", "?all", "-all"),
    *("a:%{d}", "exists:%{ir}.%{v}.a.test", "a:%{o}", "mx:%{d2}"),
)


def records(host):
    """SPF records of ``host``; none refers to itself, which pyspf refuses before it evaluates anything."""
    others = st.sampled_from([other for other in HOSTS[1:] if other != host])
    names = st.builds(
        "{}{}:{}".format,
        st.sampled_from(("", "-", "~", "?")),
        st.sampled_from(("include", "a", "mx", "exists")),
        others,
    )
    return st.builds(
        lambda terms, redirect: " ".join(("v=spf1", *terms, *redirect)),
        st.lists(st.one_of(names, st.sampled_from(SIMPLE)), max_size=5),
        st.one_of(st.just(()), others.map(lambda other: (f"redirect={other}",))),
    )


IPS = st.lists(st.integers(0, 15).map("192.0.2.{}".format), max_size=2, unique=True)
MXS = st.lists(st.sampled_from(HOSTS).map("10 {}".format), max_size=2, unique=True)
ZONES = st.fixed_dictionaries(
    {
        (host, rtype): values
        for host in HOSTS[:-1]
        for rtype, values in (("TXT", st.lists(records(host), max_size=1)), ("A", IPS), ("MX", MXS))
    }
)


@given(ZONES, st.integers(0, 15).map("192.0.2.{}".format))
def test_any_record_is_judged_as_pyspf_judges_it(zone, ip):
    assert ours(Zone(zone), ip, "x.test").result == oracle(Zone(zone), ip, "x.test")


def test_a_redirect_that_is_not_evaluated_costs_no_lookup():
    """Found by search: 9 of 10 lookups by RFC 7208 4.6.4, and 11 for pyspf as it comes, which says permerror.

    x.test: a (1), include a.test (2), a (9). a.test: include b.test (3), redirect b.test (6). b.test, evaluated twice:
    a (4, 7), a c.test (5, 8), which matches, so its redirect is evaluated neither time. x.test has no address: its two
    "a" are the two void lookups that the section allows.
    """
    zone = Zone(
        {
            ("x.test", "TXT"): ["v=spf1 a include:a.test a"],
            ("a.test", "TXT"): ["v=spf1 include:b.test redirect=b.test"],
            ("b.test", "TXT"): ["v=spf1 a -a:c.test redirect=a.test"],
            ("b.test", "A"): ["192.0.2.0"],
            ("c.test", "A"): ["192.0.2.1"],
        }
    )
    found = ours(zone, "192.0.2.1", "x.test")
    assert (found.result, found.lookups, found.voids) == ("neutral", 9, 2)
    assert oracle(zone, "192.0.2.1", "x.test") == "neutral"
    assert oracle(zone, "192.0.2.1", "x.test", kind=pyspf.query) == "permerror"


@pytest.mark.parametrize("order", [("x.test", "void.test"), ("void.test", "x.test")])
def test_every_mx_host_is_looked_up_whichever_matches(order):
    """Found by search: RFC 7208 5.4 looks up each MX name and then compares, so the third void lookup counts."""
    zone = Zone(
        {
            ("x.test", "TXT"): ["v=spf1 a:void.test a:void.test mx -all"],
            ("x.test", "A"): ["192.0.2.0"],
            ("x.test", "MX"): [f"10 {host}" for host in order],
        }
    )
    assert ours(zone, "192.0.2.0", "x.test").result == oracle(zone, "192.0.2.0", "x.test") == "permerror"


@pytest.mark.parametrize(("redirects", "result"), [(10, "pass"), (11, "permerror")])
def test_a_redirect_that_is_evaluated_costs_a_lookup(redirects, result):
    zone = Zone({(f"r{n}.test", "TXT"): [f"v=spf1 redirect=r{n + 1}.test"] for n in range(redirects)})
    zone[(f"r{redirects}.test", "TXT")] = ["v=spf1 ip4:192.0.2.1 -all"]
    assert ours(zone, "192.0.2.1", "r0.test").result == oracle(zone, "192.0.2.1", "r0.test") == result


def test_limits():
    eleven = {("x.test", "TXT"): ["v=spf1 " + " ".join(f"include:s{number}.test" for number in range(11)) + " -all"]}
    eleven.update({(f"s{number}.test", "TXT"): ["v=spf1 -all"] for number in range(11)})
    assert ours(Zone(eleven), "192.0.2.1", "x.test").result == "permerror"
    voids = Zone({("x.test", "TXT"): ["v=spf1 a:v1.test a:v2.test a:v3.test ip4:192.0.2.1 -all"]})
    assert ours(voids, "192.0.2.1", "x.test").result == "permerror"
    two = Zone({("x.test", "TXT"): ["v=spf1 -all", "v=spf1 +all"]})
    assert ours(two, "192.0.2.1", "x.test").result == oracle(two, "192.0.2.1", "x.test") == "permerror"


def test_what_is_not_known_is_asked_and_unknown_until_then():
    known = {Question("x.test", "TXT"): Answer(YES, ("v=spf1 include:y.test -all",))}
    answers = Answers(known)
    assert spf.evaluate("192.0.2.1", "x.test", answers).result == UNKNOWN
    assert answers.wanted == {Question("y.test", "TXT")}
    known[Question("y.test", "TXT")] = Answer(UNKNOWN, detail="SERVFAIL")
    result = spf.evaluate("192.0.2.1", "x.test", Answers(known))
    assert (result.result, "SERVFAIL" in result.why) == (UNKNOWN, True)


POOLS = st.lists(st.integers(0, 40).map("192.0.2.{}".format), min_size=1, max_size=12)
INCLUDES = st.lists(st.sampled_from(["a.test", "b.test", "c.test"]), max_size=3, unique=True)


def allowed(text):
    """The addresses and includes that a policy lets send."""
    record = policies.parse_spf(text)
    networks = [ipaddress.ip_network(each.network) for each in record.mechanisms if each.network]
    return {str(ip) for network in networks for ip in network}, {
        each.domain for each in record.mechanisms if each.domain
    }


@given(POOLS, POOLS, INCLUDES, INCLUDES)
def test_a_widened_policy_lets_exactly_both_send(new_ips, old_ips, new_includes, old_includes):
    new, old = policies.spf(new_ips, new_includes), policies.spf(old_ips, old_includes)
    text = spf.widened(new, old)
    assert allowed(text) == tuple(a | b for a, b in zip(allowed(new), allowed(old)))
    assert spf.widened(new, text) == text
    assert text.endswith(" -all")
    assert spf.widened(new, new) == new


def test_a_policy_is_not_widened_beyond_a_limit_or_by_nonsense():
    new = policies.spf(["192.0.2.1"], [f"n{number}.test" for number in range(6)])
    assert spf.widened(new, policies.spf([], [f"o{number}.test" for number in range(6)])) is None
    scattered = [f"10.{number}.0.1" for number in range(0, 200, 2)]
    assert spf.widened(new, policies.spf(scattered)) is None
    assert allowed(spf.widened(new, policies.spf(scattered[:30])))[0] == {"192.0.2.1", *scattered[:30]}
    assert spf.widened(new, "v=spf1 nonsense") == new
    assert spf.widened(new, "v=spf1 -ip4:192.0.2.9 ?include:x.test ~all") == new


@pytest.mark.parametrize("macro", ["%{d" + "9" * 4301 + "}", "%{d" + "9" * 3000 + "r}", "%{d1000}", "%{d000}"])
def test_a_macro_of_many_digits_is_an_error_of_its_owner(macro):
    found = ours(Zone({("a.example", "TXT"): [f"v=spf1 exists:{macro}.x.example -all"]}), "192.0.2.1", "a.example")
    assert found.result == "permerror"


def test_a_record_is_read_up_to_a_length():
    def judged(length):
        text = "v=spf1 ip4:192.0.2.1".ljust(length - 5) + " -all"
        return ours(Zone({("a.example", "TXT"): [text]}), "192.0.2.1", "a.example")

    assert judged(4096).result == "pass"
    assert judged(4097).result == "permerror"
    assert "has 4097 characters; 4096 are read" in judged(4097).why


class Cut(str):
    """Counts the characters that are searched for dots."""

    looked = 0

    def rstrip(self, *which):
        return Cut(super().rstrip(*which))

    def lower(self):
        return Cut(super().lower())

    def __getitem__(self, which):
        return Cut(super().__getitem__(which))

    def partition(self, separator):
        Cut.looked += len(self)
        return tuple(map(Cut, super().partition(separator)))


@given(st.lists(st.integers(0, 63), min_size=1, max_size=60))
def test_a_name_that_is_too_long_loses_labels_from_the_left(sizes):
    text = ".".join("x" * size for size in sizes)
    wanted = text.rstrip(".")
    while len(wanted) > 253:
        wanted = wanted.partition(".")[2]
    check = spf._Check("192.0.2.1", "a@b.example", "b.example", Answers(Zone()))
    assert check.expand(text, "b.example") == wanted


def test_cutting_a_name_takes_no_longer_for_a_longer_one(monkeypatch):
    monkeypatch.setattr(spf, "_MACRO", Expanded())
    check = spf._Check("192.0.2.1", "a@b.example", "b.example", Answers(Zone()))
    Cut.looked = 0
    assert len(check.expand("a." * 100000 + "example", "b.example")) <= 253
    assert Cut.looked <= 254


class Expanded:
    """In the place of the pattern of macros: a text without any."""

    def sub(self, value, text):
        return Cut(text)
