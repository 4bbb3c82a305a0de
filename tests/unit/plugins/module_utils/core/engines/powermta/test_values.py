# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the values of a PowerMTA configuration mean, and which ones it would refuse."""

from __future__ import annotations

import ipaddress
import re
import sys

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import table, values
from hypothesis import assume, given
from hypothesis import strategies as st

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
DOMAINS = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
TYPES = sorted({spec.type for spec in table.DIRECTIVES.values()} | {each.argument for each in table.SECTIONS.values()})
UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(sorted(UNITS))), min_size=1, max_size=5))
def test_an_interval_is_the_sum_of_its_parts(parts):
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert values.interval_seconds(text) == sum(number * UNITS[unit] for number, unit in parts)
    assert values.problem("interval", text) is None


@pytest.mark.parametrize("text", ["", "5", "4d 12h", "h", "-1d", "1.5h", "1y", "٣d"])
def test_what_is_no_interval(text):
    with pytest.raises(ValueError, match="interval"):
        values.interval_seconds(text)


def test_a_size():
    assert [values.size_bytes(text) for text in ("0", "10", "10b", "2K", "1m", "1G", "1t")] == [
        *(0, 10, 10, 2048, 1048576, 1073741824, 1099511627776)
    ]
    for text in ("", "m", "10 M", "1.5g", "10MB", "-1", "10\u212a"):
        with pytest.raises(ValueError, match="size"):
            values.size_bytes(text)


def test_a_rate():
    assert values.rate("100/h") == (100, 3600)
    assert values.rate("83/10m") == (83, 600)
    assert values.rate("1/5s") == (1, 5)
    assert values.rate("5/day") == (5, 86400)
    for text in ("0/h", "5/0m", "5", "5/", "/h", "5/week", "unlimited", "5 / h", "5/\u017f"):
        with pytest.raises(ValueError, match="rate"):
            values.rate(text)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_network_may_lack_the_octets_that_are_zero(ip, length):
    full = ipaddress.ip_network(f"{ip}/{length}", strict=False)
    text = str(full.network_address)
    short = re.sub(r"(\.0){1,3}\Z", "", text)
    assert values.network(f"{short}/{length}") == values.network(f"{text}/{length}") == full
    assert values.network(str(ip)) == ipaddress.ip_network(str(ip))


def test_what_is_no_network():
    assert values.network("0/0") == ipaddress.ip_network("0.0.0.0/0")
    assert values.network("::/0").version == 6
    for text in ("", "10", "10.1", "10/33", "10/", "/8", "a/8", "1.2.3.4.5/8", "10/8/8", "10/255.0.0.0"):
        with pytest.raises(ValueError, match="network"):
            values.network(text)


# --- Domains --------------------------------------------------------------------------------------------------------


def test_macros_stand_for_each_of_their_names():
    macros = {"tld": ("com", "co.uk"), "Yahoo": ("yahoo.$tld", "ymail.com"), "all": ("$yahoo", "aol.com")}
    assert values.expand_macros(macros, "a.test") == ("a.test",)
    assert values.expand_macros(macros, "yahoo.$tld") == ("yahoo.com", "yahoo.co.uk")
    assert values.expand_macros(macros, "$all") == ("yahoo.com", "yahoo.co.uk", "ymail.com", "aol.com")
    assert set(values.expand_macros(macros, "x.$tld.$TLD")) == {
        "x.com.com",
        "x.co.uk.com",
        "x.com.co.uk",
        "x.co.uk.co.uk",
    }


ITEMS = {"a": ("$b", "$c.$d", "$d"), "b": ("x", "$c.y", "$c$d"), "c": ("$d", "z"), "d": ("u", "v", "w")}


@given(
    st.fixed_dictionaries(
        {name: st.lists(st.sampled_from(items), min_size=1, max_size=4) for name, items in ITEMS.items()}
    )
)
def test_macros_in_macros_end_with_names(lists):
    macros = {name: tuple(items) for name, items in lists.items()}
    made = values.expand_macros(macros, "$a.test")
    assert made
    assert len(set(made)) == len(made)
    assert not any("$" in each for each in made)
    for item in macros["a"]:
        assert set(values.expand_macros(macros, f"{item}.test")) <= set(made)


def test_macros_that_would_never_end_are_refused():
    with pytest.raises(ValueError, match="contains itself"):
        values.expand_macros({"a": ("$b",), "b": ("$a",)}, "$a")
    with pytest.raises(ValueError, match="there is no"):
        values.expand_macros({"a": ("$b",)}, "$a")
    with pytest.raises(ValueError, match="more than"):
        values.expand_macros({"a": tuple(f"x{n}" for n in range(200))}, "$a.$a.$a")
    deep = {f"m{n}": (f"$m{n + 1}", f"$M{n + 1}") for n in range(60)}
    with pytest.raises(ValueError, match="more than"):
        values.expand_macros(deep, "$m0")
    assert values.expand_macros({"a": ("x",)}, "$a" * 5000) == ("x" * 5000,)


# --- Types ----------------------------------------------------------------------------------------------------------

RIGHT = {
    "bool": ("yes", "No", "true", "false"),
    "int": ("0", "12"),
    "int(0,100)": ("0", "100"),
    "port": ("0", "65535"),
    "interval|enum(never)": ("4d12h", "never"),
    "interval(10m)": ("10m", "0"),
    "interval_list": ("10m", "10m,1h,1d", "10m, 1h"),
    "days|enum(never)": ("8d", "never"),
    "rate": ("unlimited", "0", "100/h", "83/10m"),
    "cidr rate": ("10/8 100/h", "::1 unlimited"),
    "data_rate": ("6g/10h", "100/s", "unlimited"),
    "day_rate_list": ("50/d,100/d,200/day", "50/d, 100/d"),
    "size(1M)": ("1M", "5g", "1048576"),
    "cidr domain": ("203.0.113.10 mta1.example.test", "10/8 a.test"),
    "cidr access": ("127.0.0.1 monitor,deny-logs", "::1 none"),
    "listener option?": ("127.0.0.1:25", "0/0:2525 source=bulk", "[::1]:25"),
    "domain_pattern": ("*", "a.test", "*.a.test", "[*.]a.test", "[10/8]", "yahoo.$tld", "münchen.test", "{sparkpost}"),
    "email": ("a@b.test", "a@[10.0.0.1]"),
    "email_list|empty": ("a@b.test,c@d.test", '""'),
    "email|mailbox|regex": ("a@b.test", "abuse", "/^bounce-/"),
    "name|empty": ("bulk", "{pmta-auth}", '""'),
    "header_list": ("From, Subject", "From"),
    "record_list": ("d,b,rb", "delivery,bounce"),
    "record field_list": ("d *,!dsnDiag,header_Subject", "b timeLogged"),
    "domain_key": ("s1,a.test,/etc/pmta/a b.pem", "s1, *, {vault}:/p:key"),
    "smtp_hosts|empty": ("a.test", "[10.0.0.1]:25,b.test:26;lookup-mx:c.test", '""'),
    "domain_pattern rollup enum(rollup-by-ip)?": ("*.google.com gmail.rollup", "*.x.test x.rollup rollup-by-ip"),
    "regex text": (r"/user \/ unknown/ bounce-queue", "/x/ mode=backoff,skip-mx"),
    "header regex text": ("X-Binding /^bulk$/ virtual-mta=bulk",),
    "macro domain_list": ("yahoo yahoo.com, $other, ymail.com",),
    "text": ("a b c", '"a b"'),
    "nothing?": ("",),
}
WRONG = {
    "bool": ("", "on", "yes no"),
    "int": ("-1", "1.5", "1k", "٣"),
    "int(0,100)": ("101", "-1"),
    "port": ("65536", "smtp"),
    "interval|enum(never)": ("5", "forever", "4d 12h"),
    "interval(10m)": ("11m",),
    "interval_list": ("10m,,1h", "10m;1h"),
    "rate": ("0/h", "100/week", "1.5/h"),
    "cidr rate": ("10/8", "100/h 10/8", "10/8 100/h x"),
    "data_rate": ("0g/h", "g/h", "6x/h"),
    "size(1M)": ("1k", "10"),
    "cidr domain": ("mta1.example.test 203.0.113.10", "203.0.113.10"),
    "cidr access": ("127.0.0.1", "127.0.0.1 root", "127.0.0.1 none,deny-logs"),
    "listener option?": ("2525", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:25 bulk", "mail.test:25"),
    "domain_pattern": ("", "a b", "*a.test", "a..test", "-a.test", "[10/99]"),
    "email": ("a", "@b.test", "a b@c.test", "a@b@c.test"),
    "email_list|empty": ("a@b.test c@d.test", "a@b.test,"),
    "record_list": ("d,x", "d b"),
    "domain_key": ("s1,a.test", "s1,a b,/x", "s1"),
    "smtp_hosts|empty": ("a b", "a.test,,b.test"),
    "domain_pattern rollup enum(rollup-by-ip)?": ("*.google.com gmail", "*.x.test x.rollup yes"),
    "regex text": ("/x/", "x mode=backoff", "/a/b/ mode=backoff", "/(/ mode=backoff", "/*/ skip-mx", "// skip-mx"),
    "header regex text": ("X-Binding bulk virtual-mta=bulk", "X-Binding: /x/ virtual-mta=bulk"),
    "nothing?": ("x",),
}


@pytest.mark.parametrize(("type", "value"), [(type, value) for type, each in RIGHT.items() for value in each])
def test_a_right_value(type, value):
    assert values.problem(type, value) is None


@pytest.mark.parametrize(("type", "value"), [(type, value) for type, each in WRONG.items() for value in each])
def test_a_wrong_value(type, value):
    assert values.problem(type, value)


@given(
    st.sampled_from(TYPES),
    st.one_of(st.text(), st.text("0123456789abdhimnsx/.,:;*$[]{}\\\"' @\u017f\u212a\u0663", max_size=30)),
)
def test_any_value_is_right_or_has_a_reason(type, value):
    reason = values.problem(type, value)
    assert reason is None or reason


@given(st.sampled_from(TYPES), st.text("xyzXYZ079/\\(", min_size=9, max_size=20).map("qq{}".format))
def test_a_reason_never_shows_the_value(type, value):
    reason = values.problem(type, value)
    assume(reason)
    assert value not in reason


def test_an_unknown_type_is_a_mistake_of_the_caller():
    with pytest.raises(KeyError):
        values.problem("no_such_type", "x")


@pytest.mark.parametrize(
    "regex",
    [r"/(?-i)Exact/", r"/(?<name>x)/", r"/[[:alpha:](]+/", r"/a++b/", r"/\Q(\E/", r"/^*/", r"/(?R)/", r"/\h\K/"],
)
def test_what_pcre_may_know_better_is_no_problem(regex):
    assert values.regex_problem(regex) is None


@pytest.mark.parametrize("regex", ["/(/", "/)/", "/[a/", "/*x/", "/a|+/", "/[z-a]/", "/a", "a", "//", r"/a\/", ""])
def test_what_no_regex_can_be(regex):
    assert values.regex_problem(regex)


def test_a_regex_can_be_too_deep():
    depth = sys.getrecursionlimit()
    assert values.regex_problem(f"/{'(' * depth}{')' * depth}/") in (None, "it is too deep or too large")
