# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire codec against dnspython as an independent judge, and against bytes that nobody meant well."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset as records
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import wire as message
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, UNKNOWN, YES, Answer, judge, plain
from hypothesis import example, given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=60, deadline=None)

LABELS = st.one_of(
    st.sampled_from([b"a", b"www", b"_dmarc", b"xn--bcher-kva", b"UPPER"]), st.binary(min_size=1, max_size=20)
)


def cut(data: bytes) -> list[bytes]:
    return [data[at : at + 255] for at in range(0, len(data), 255)] or [b""]


def as_name(labels: list[bytes]) -> dns.name.Name:
    return dns.name.Name([*labels, b""])


# No name ends in a dot of its own: our canonical text would lose it.
NAMES = st.lists(LABELS, max_size=6).filter(lambda labels: not labels or labels[-1][-1:] != b".").map(as_name)
HEX = st.binary(min_size=1, max_size=40).map(bytes.hex)
SHORT = st.integers(0, 65535)
BYTE = st.integers(0, 255)


def rdata(rtype: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dns.rdata.Rdata]:
    def made(values: tuple[Any, ...]) -> dns.rdata.Rdata:
        words = [value.to_text() if isinstance(value, dns.name.Name) else str(value) for value in values]
        return dns.rdata.from_text("IN", rtype, " ".join(words))

    return st.tuples(*parts).map(made)


DATA = {
    "A": rdata("A", st.ip_addresses(v=4)),
    "AAAA": rdata("AAAA", st.ip_addresses(v=6)),
    "NS": rdata("NS", NAMES),
    "CNAME": rdata("CNAME", NAMES),
    "PTR": rdata("PTR", NAMES),
    "DNAME": rdata("DNAME", NAMES),
    "MX": rdata("MX", SHORT, NAMES),
    "SRV": rdata("SRV", SHORT, SHORT, SHORT, NAMES),
    "SOA": rdata("SOA", NAMES, NAMES, *[st.integers(0, 2**32 - 1)] * 5),
    "TXT": st.binary(max_size=600).map(
        lambda data: dns.rdata.from_text(
            "IN", "TXT", " ".join('"{}"'.format("".join(f"\\{b:03}" for b in part)) for part in cut(data))
        )
    ),
    "CAA": rdata(
        "CAA", BYTE, st.sampled_from(["issue", "iodef"]), st.sampled_from(['"ca.example"', r'"a\"b\\c"', '""'])
    ),
    "DS": rdata("DS", SHORT, BYTE, BYTE.filter(lambda n: n > 4), HEX),
    "TLSA": rdata("TLSA", BYTE, BYTE, BYTE.filter(lambda n: n > 2), HEX),
    "SSHFP": rdata("SSHFP", BYTE, BYTE.filter(lambda n: n > 2), HEX),
    "TYPE65280": HEX.map(lambda text: dns.rdata.from_text("IN", "TYPE65280", rf"\# {len(text) // 2} {text}")),
}


def rrset(name: dns.name.Name, ttl: int, datas: list[dns.rdata.Rdata]) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, ttl, datas)


@st.composite
def rrsets(draw: st.DrawFn, names: st.SearchStrategy[dns.name.Name] = NAMES) -> dns.rrset.RRset:
    rtype = draw(st.sampled_from(sorted(DATA)))
    # dnspython reads several records of these types as one.
    most = 1 if rtype in ("CNAME", "SOA", "DNAME") else 3
    return rrset(draw(names), draw(st.integers(0, 2**31 - 1)), draw(st.lists(DATA[rtype], min_size=1, max_size=most)))


@st.composite
def replies(draw: st.DrawFn) -> dns.message.Message:
    made = dns.message.make_query(
        draw(NAMES), draw(st.sampled_from(sorted(DATA))), use_edns=draw(st.sampled_from([0, None]))
    )
    made.flags |= dns.flags.QR | draw(st.sampled_from([0, dns.flags.AA, dns.flags.AD, dns.flags.AA | dns.flags.RA]))
    for section in (made.answer, made.authority, made.additional):
        for each in draw(st.lists(rrsets(), max_size=3)):
            if not any(each.match(other.name, other.rdclass, other.rdtype, other.covers) for other in section):
                section.append(each)
    return made


def canonical(data: dns.rdata.Rdata) -> str:
    """The value by way of dnspython's text and our rules for zone-file text."""
    if data.rdtype == dns.rdatatype.TXT:
        return txt.decode(b"".join(data.strings))
    if data.rdtype == dns.rdatatype.SOA:
        names = [records.canonical_name(name.to_text()) or "." for name in (data.mname, data.rname)]
        return " ".join([*names, *map(str, (data.serial, data.refresh, data.retry, data.expire, data.minimum))])
    return records.canonical(dns.rdatatype.to_text(data.rdtype), data.to_text())


def flat(section: list[dns.rrset.RRset]) -> list[tuple[str, int, int, str]]:
    return sorted(
        (records.canonical_name(each.name.to_text()), int(each.rdtype), each.ttl, canonical(data))
        for each in section
        for data in each
    )


def read(reply: message.Message, section: list[message.Record]) -> list[tuple[str, int, int, str]]:
    # In any order: dnspython shuffles the records of a set.
    return sorted(
        (reply.name(record), record.rtype, record.ttl, reply.value(record)) for record in section if record.rtype != 41
    )


@FEW
@given(replies())
def test_a_reply_is_read_as_dnspython_wrote_it(made: dns.message.Message) -> None:
    reply = message.parse(made.to_wire(max_size=65535))
    assert read(reply, reply.answer) == flat(made.answer)
    assert read(reply, reply.authority) == flat(made.authority)
    assert read(reply, reply.additional) == flat(made.additional)
    assert reply.asked() == records.canonical_name(made.question[0].name.to_text())
    assert reply.rcode == made.rcode()
    assert reply.authoritative == bool(made.flags & dns.flags.AA)
    assert reply.authenticated == bool(made.flags & dns.flags.AD)


@FEW
@given(st.sampled_from(sorted(DATA)).flatmap(lambda rtype: st.tuples(st.just(rtype), DATA[rtype])))
def test_values_are_canonical(typed: tuple[str, dns.rdata.Rdata]) -> None:
    rtype, data = typed
    made = dns.message.make_response(dns.message.make_query("x.test", rtype))
    made.answer.append(rrset(dns.name.from_text("x.test"), 1, [data]))
    reply = message.parse(made.to_wire())
    (record,) = reply.answer
    value = reply.value(record)
    assert records.canonical(rtype, records.presentation(rtype, value)) == value


@FEW
@given(NAMES, st.sampled_from([*DATA, "TYPE99"]), st.booleans(), st.booleans(), st.booleans())
def test_a_query_asks_what_was_meant(
    name: dns.name.Name, rtype: str, recursive: bool, authentic: bool, edns: bool
) -> None:
    asked = message.question(name.to_text(), rtype)
    before, after = message.frame(recursive=recursive, authentic=authentic, edns=edns)
    query = dns.message.from_wire(b"\x12\x34" + before + asked + after)
    (only,) = query.question
    assert (query.id, only.name, only.rdtype, only.rdclass) == (0x1234, name, dns.rdatatype.from_text(rtype), 1)
    assert query.flags == (dns.flags.RD if recursive else 0) | (dns.flags.AD if authentic else 0)
    assert (query.edns, query.payload) == ((0, 1232) if edns else (-1, 0))
    reply = dns.message.make_response(query)
    assert message.parse(reply.to_wire()).repeats(asked)


@pytest.mark.parametrize(
    "name",
    [
        "a..b",
        ".a",
        "x" * 64,
        "x" * 64 + ".test",
        "y." + "x" * 64,
        ".".join(["x" * 63] * 4),
        "a\\",
        "a\\999",
        "a b" * 100,
        "\u00df.test",
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"label|longer|escape|byte|character|IDNA"):
        message.question(name, "A")


@pytest.mark.parametrize("rtype", ["", "a", "NOPE", "TYPE65536", "TYPE"])
def test_what_is_no_type_is_refused(rtype: str) -> None:
    with pytest.raises(ValueError, match="record type"):
        message.question("a.test", rtype)


@pytest.mark.parametrize(
    ("name", "other"), [("A.Test.", "a.test"), ("b\u00fccher.test", "xn--bcher-kva.test"), ("", ".")]
)
def test_one_name_has_one_question(name: str, other: str) -> None:
    assert message.question(name, "A") == message.question(other, "A")


def leading_question(wire: bytes) -> bytes:
    at = 12
    while at < len(wire) and 0 < wire[at] < 64:
        at += wire[at] + 1
    return wire[12 : at + 5] if wire[at : at + 1] == b"\0" else b"\0\0\1\0\1"


def read_all(wire: bytes) -> None:
    """Everything that the resolver does with strangers' bytes."""
    message.is_truncated(wire)
    try:
        reply = message.parse(wire)
    except message.Malformed:
        assert plain(wire, leading_question(wire), True) is None
        return
    for record in (*reply.answer, *reply.authority, *reply.additional):
        for look in (reply.name, reply.target, reply.value):
            with contextlib.suppress(message.Malformed):
                assert isinstance(look(record), str)
    asked = (reply.question[:-4].lower() + reply.question[-4:]) or b"\0\0\1\0\1"
    assert reply.repeats(asked) or not reply.question
    for recursive in (True, False):
        quick = plain(wire, asked, recursive) if asked.endswith(b"\0\1") else None  # we ask for the class IN
        try:
            answer = judge(reply, f"TYPE{int.from_bytes(asked[-4:-2], 'big')}", recursive)
        except message.Malformed:
            assert quick is None
            continue
        assert (answer.status == YES) == bool(answer.values)
        assert quick is None or tuple(quick) == tuple(answer)


@FEW
@given(st.binary(max_size=200))
@example(b"\0\0\x80\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1")
@example(b"\0\0\x80\0\0\0\0\1\0\0\0\0\xc0\x0c" + bytes(10))
@example(b"\0\0\x80\0\0\0\xff\xff\xff\xff\xff\xff")
def test_random_bytes_do_no_harm(data: bytes) -> None:
    read_all(data)
    read_all(b"\0\0\x84\0\0\1\0\3\0\1\0\1\0\0\1\0\1" + data)


@FEW
@given(replies(), st.data())
def test_damaged_replies_do_no_harm(made: dns.message.Message, data: st.DataObject) -> None:
    wire = bytearray(made.to_wire(max_size=65535))
    for _change in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(wire) - 1))
        wire[at] = data.draw(st.one_of(BYTE, st.sampled_from([0, 63, 64, 192, 255])))
    read_all(bytes(wire[: data.draw(st.integers(0, len(wire)))]))


# Judgements

A = dns.rdata.from_text("IN", "A", "192.0.2.1")


def reply_to(
    name: str, rtype: str, answer: str = "", authority: str = "", flags: str = "QR AA", rcode: int = 0
) -> message.Message:
    lines = [f"id 1\nopcode QUERY\nrcode {dns.rcode.to_text(dns.rcode.Rcode(rcode))}\nflags {flags}", ";QUESTION"]
    lines += [f"{name}. IN {rtype}", ";ANSWER", answer, ";AUTHORITY", authority]
    return message.parse(dns.message.from_text("\n".join(line for line in lines if line)).to_wire())


CHAIN = ["a.test. 300 IN CNAME b.test.", "b.test. 60 IN CNAME c.test.", "c.test. 900 IN A 192.0.2.1"]
SOA = "test. 600 IN SOA ns.test. root.test. 1 2 3 4 90"


@pytest.mark.parametrize("order", list(itertools.permutations(CHAIN)), ids=lambda order: order[0][0] + order[1][0])
def test_a_chain_is_followed_in_any_order(order: tuple[str, ...]) -> None:
    answer = judge(reply_to("a.test", "A", "\n".join(order)), "A", True)
    assert (answer, answer.ttl, answer.authoritative) == (Answer(YES, ("192.0.2.1",)), 60, True)


def test_a_chain_in_a_circle_is_broken() -> None:
    with pytest.raises(message.Malformed):
        judge(reply_to("a.test", "A", "a.test. 1 IN CNAME b.test.\nb.test. 1 IN CNAME a.test."), "A", True)


def test_a_dname_leads_on_without_its_cname() -> None:
    reply = reply_to("x.old.test", "A", "old.test. 9 IN DNAME new.test.\nx.new.test. 5 IN A 192.0.2.1")
    assert judge(reply, "A", True) == Answer(YES, ("192.0.2.1",))


def test_records_of_other_names_are_no_answer() -> None:
    reply = reply_to("a.test", "A", "b.test. 1 IN A 192.0.2.1", SOA)
    assert judge(reply, "A", True) == Answer(NO)


@pytest.mark.parametrize("rcode", [0, 3])
def test_no_lasts_as_long_as_the_zone_says(rcode: int) -> None:
    answer = judge(reply_to("a.test", "A", "", SOA, rcode=rcode), "A", False)
    assert (answer, answer.ttl) == (Answer(NO), 90)
    answer = judge(reply_to("a.test", "A", CHAIN[0], SOA.replace("600", "30"), rcode=rcode), "A", True)
    assert (answer, answer.ttl) == (Answer(NO), 30)


NS = "test. 600 IN NS ns.test."


@pytest.mark.parametrize(
    ("reply", "recursive", "detail"),
    [
        (reply_to("a.test", "A", rcode=2), True, "SERVFAIL"),
        (reply_to("a.test", "A", rcode=5), False, "REFUSED"),
        (reply_to("a.test", "A", rcode=16), True, "BADVERS"),
        (reply_to("a.test", "A", rcode=11), True, "RCODE 11"),
        (reply_to("a.test", "A", "", NS, "QR RA"), True, "referral"),
        (reply_to("a.test", "A", "", NS, "QR"), False, "referral"),
        (reply_to("a.test", "A", "a.test. 1 IN A 192.0.2.1", "", "QR RA"), False, "not authoritative"),
        (reply_to("a.test", "A", "", SOA, "QR RA", 3), False, "not authoritative"),
        (reply_to("a.test", "A", "", "", "QR"), True, "does not resolve"),
        (reply_to("a.test", "A", CHAIN[0]), False, "alias of b.test"),
    ],
)
def test_what_proves_nothing_is_unknown(reply: message.Message, recursive: bool, detail: str) -> None:
    answer = judge(reply, "A", recursive)
    assert answer.status == UNKNOWN
    assert detail in answer.detail


def test_several_values_are_a_sorted_set() -> None:
    lines = "\n".join(
        f"a.test. {ttl} IN MX {value}" for ttl, value in ((7, "20 b.test."), (7, "10 C.test."), (7, "0 ."))
    )
    answer = judge(reply_to("a.test", "MX", lines), "MX", True)
    assert (answer.values, answer.ttl) == (("0", "10 c.test", "20 b.test"), 7)


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize(
    "reply",
    [
        reply_to("a.test", "A", "a.test. 5 IN A 192.0.2.1"),
        reply_to("a.test", "MX", "a.test. 5 IN MX 10 b.test.\na.test. 5 IN MX 5 c.test."),
        reply_to("a.test", "A", "", SOA),
        reply_to("a.b.test", "A", "", SOA, rcode=3),
    ],
)
def test_common_replies_are_plain(reply: message.Message, recursive: bool) -> None:
    quick = plain(reply.wire, reply.question, recursive)
    rtype = "MX" if b"\0\x0f" in reply.question else "A"
    assert quick is not None
    assert tuple(quick) == tuple(judge(reply, rtype, recursive))


def test_an_alias_asked_for_is_an_answer() -> None:
    assert judge(reply_to("a.test", "CNAME", CHAIN[0]), "CNAME", True).values == ("b.test",)


def test_answers_are_equal_where_they_say_the_same() -> None:
    assert Answer(YES, ("x",), ttl=1, authoritative=True) == Answer(YES, ("x",))
    assert Answer(YES, ("x",)) != Answer(YES, ("y",))
