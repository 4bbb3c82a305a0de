# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every provider must do, in one suite.

Without more it runs against the memory provider and strict stand-ins. With MTA_DNS_CONTRACT, a JSON list of
``{"provider", "zone", "credentials"}``, it runs against those real servers instead; their zones hold SOA and NS only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core import records, txt, zones
from ansible_collections.mailops.mta.plugins.module_utils.core.records import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import Wanted
from ansible_collections.mailops.mta.plugins.module_utils.providers import memory, powerdns, rfc2136, sync, table
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access, Conflict, Provider
from ansible_collections.mailops.mta.plugins.module_utils.shell import dnswire, httpclient

REAL = json.loads(os.environ.get("MTA_DNS_CONTRACT", "[]"))


class PowerDnsStandIn:
    """The zone part of the PowerDNS API as its OpenAPI description and documentation give it; refuses what they refuse.

    ``faults`` maps the number of a request to what happens to it: a status, or "lost" (carried out, no answer).
    """

    def __init__(self, zone: str) -> None:
        self.rrsets: dict[Key, dict[str, Any]] = {}
        self.zone = zone
        self.kind = "Native"
        self.requests: list[tuple[str, int]] = []
        self.faults: dict[int, Any] = {}

    def request(self, method: str, path: str, body: bytes | None = None) -> httpclient.Response:
        self.requests.append((method, len(body or b"")))
        fault = self.faults.get(len(self.requests))
        if isinstance(fault, httpclient.Response):
            return fault
        if isinstance(fault, Exception):
            raise fault
        response = self._answer(method, path, body)
        if fault == "lost":
            raise httpclient.AnswerLost("connection dropped")
        return response

    def close(self) -> None:
        pass

    def _answer(self, method: str, path: str, body: bytes | None) -> httpclient.Response:
        if path != f"/api/v1/servers/localhost/zones/{self.zone}.":
            return httpclient.Response(404, {}, b"Not Found")
        if method == "GET":
            answer = {"name": f"{self.zone}.", "kind": self.kind, "rrsets": list(self.rrsets.values())}
            return httpclient.Response(200, {}, json.dumps(answer).encode())
        if len(body or b"") > 2 * 1024 * 1024:
            return httpclient.Response(400, {}, b"")
        new = dict(self.rrsets)
        seen = set()
        for rrset in json.loads(body or b"")["rrsets"]:
            key = (rrset["name"], rrset["type"])
            refusal = self._refusal(rrset) or ("Duplicate RRset" if key in seen else None)
            if refusal:
                return httpclient.Response(422, {}, json.dumps({"error": refusal}).encode())
            seen.add(key)
            new.pop(key, None)
            if rrset["changetype"] == "REPLACE" and rrset["records"]:
                new[key] = {field: rrset[field] for field in ("name", "type", "ttl", "records")}
        self.rrsets = new
        return httpclient.Response(204, {}, b"")

    def _refusal(self, rrset: dict[str, Any]) -> str | None:
        if not rrset["name"].endswith("."):
            return f"RRset {rrset['name']}: not absolute"
        if not f".{rrset['name']}".endswith(f".{self.zone}."):
            return f"RRset {rrset['name']}: Name is out of zone"
        contents = [record["content"] for record in rrset.get("records", ())]
        if len(set(contents)) != len(contents):
            return f"RRset {rrset['name']} has duplicate records"
        if rrset["type"] == "TXT" and not all(content.startswith('"') for content in contents):
            return "Data field in DNS should start with quote"
        if rrset["type"] in ("MX", "CNAME", "PTR", "NS") and not all(content.endswith(".") for content in contents):
            return "content is not absolute"
        return None


class UpdateStandIn:
    """A zone that answers transfers and updates as RFC 2136 3.2 says: prerequisites first, then all or nothing."""

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.rrsets: dict[Key, tuple[int, tuple[Any, ...]]] = {}
        self.lose_next = False

    def transfer(self, peer: dnswire.Peer, zone: str) -> list[dnswire.Rrset]:
        return [dnswire.Rrset(*key, ttl, data) for key, (ttl, data) in self.rrsets.items()]

    def update(self, peer: dnswire.Peer, zone: str, edits: list[dnswire.Edit]) -> None:
        edits = list(edits)
        assert sum(dnswire.size_of(edit) for edit in edits) < 65000
        for edit in edits:
            _ttl, data = self.rrsets.get((edit.name, edit.type), (0, ()))
            if set(data) != set(edit.expected):
                raise dnswire.Refused("NXRRSET" if edit.expected else "YXRRSET")
        for edit in edits:
            _ttl, data = self.rrsets.pop((edit.name, edit.type), (0, ()))
            left = tuple(each for each in data if each not in edit.removed)
            if left or edit.added:
                self.rrsets[edit.name, edit.type] = (edit.ttl, tuple(dict.fromkeys((*left, *edit.added))))
        if self.lose_next:
            self.lose_next = False
            raise dnswire.AnswerLost("timed out")


def _same(zone: Provider) -> Provider:
    return zone


@pytest.fixture(params=[each["provider"] for each in REAL] or ["memory", "powerdns", "rfc2136"])
def reopen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Provider]]:
    """Opens one zone, which is empty at first, as often as a test likes; each opening is another controller."""
    opened: Callable[[], Provider]
    if REAL:
        (found,) = (each for each in REAL if each["provider"] == request.param)
        opened = partial(table.SERVICES[request.param].open, Access(found["zone"], found["credentials"]))
        clear(opened())
    elif request.param == "memory":
        opened = partial(_same, memory.MemoryZone())
    elif request.param == "powerdns":
        access = Access("example.com", {"url": "http://192.0.2.1", "api_key": "x"})
        opened = partial(powerdns.PowerDns, access, PowerDnsStandIn("example.com"))  # type: ignore[arg-type]
    else:
        server = UpdateStandIn("example.com")
        monkeypatch.setattr(dnswire, "transfer", server.transfer)
        monkeypatch.setattr(dnswire, "update", server.update)
        opened = partial(rfc2136.Rfc2136, Access("example.com"), dnswire.Peer("192.0.2.1"))
    yield opened
    if REAL:
        clear(opened())


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> str:
    if not REAL:
        return "example.com"
    param = request.node.callspec.params["reopen"]
    return str(next(each["zone"] for each in REAL if each["provider"] == param))


def clear(provider: Provider) -> None:
    changes = tuple(Change(each, None) for each in provider.read().values() if each.type != "NS")
    for batch in sync.batches(zones.Plan(changes, (), (), (), (), (), 0, 0, 0), provider) if changes else ():
        provider.write(batch)


def ours(provider: Provider) -> dict[Key, RecordSet]:
    return {key: each for key, each in provider.read().items() if key[1] != "NS"}


def put(provider: Provider, *sets: RecordSet) -> None:
    state = provider.read()
    provider.write([Change(state.get(each.key), each) for each in sets])


def everything(zone: str) -> list[RecordSet]:
    """One record set of each kind that mail needs, and some that services spoil."""
    return [
        RecordSet.of(f"mx.{zone}", "A", 300, ["192.0.2.1", "192.0.2.2"]),
        RecordSet.of(f"mx.{zone}", "AAAA", 300, ["2001:db8::10"]),
        RecordSet.of(zone, "MX", 300, [f"10 mx.{zone}", f"20 mx.{zone}"]),
        RecordSet.of(zone, "TXT", 300, ["v=spf1 ip4:192.0.2.1 -all", "site-verification=abc"]),
        RecordSet.of(f"_dmarc.{zone}", "TXT", 60, ["v=DMARC1; p=reject; rua=mailto:d@example.com"]),
        RecordSet.of(f"s1._domainkey.{zone}", "TXT", 3600, ["v=DKIM1; k=rsa; p=" + "Ab+/" * 180]),
        RecordSet.of(
            f"odd.{zone}", "TXT", 60, ['quote " backslash \\ semicolon ;', "bücher", "x" * 255, "y" * 256, ""]
        ),
        RecordSet.of(f"bytes.{zone}", "TXT", 60, [txt.decode(bytes(range(256)))]),
        RecordSet.of(f"alias.{zone}", "CNAME", 60, ["elsewhere.example"]),
        RecordSet.of(f"_25._tcp.mx.{zone}", "TLSA", 60, ["3 1 1 " + "ab" * 32]),
        RecordSet.of(f"caa.{zone}", "CAA", 60, ['0 issue "ca.example"']),
        RecordSet.of(f"*.wild.{zone}", "A", 60, ["192.0.2.3"]),
        RecordSet.of(f"_submission._tcp.{zone}", "SRV", 60, [f"0 5 587 mx.{zone}"]),
        RecordSet.of(f"xn--bcher-kva.{zone}", "A", 60, ["192.0.2.4"]),
        RecordSet.of(f"1.{zone}", "PTR", 60, [f"mx.{zone}"]),
    ]


def test_what_is_written_is_read(reopen: Callable[[], Provider], zone: str) -> None:
    put(reopen(), *everything(zone))
    assert ours(reopen()) == {each.key: each for each in everything(zone)}


def test_applying_a_plan_leaves_nothing_to_plan(reopen: Callable[[], Provider], zone: str) -> None:
    wanted = Wanted(tuple(everything(zone)))
    outcome = sync.run(sync.Job(zone, "x", reopen, wanted), sync.Policy("us"), httpclient.Pace())
    assert (outcome.findings, outcome.count("create")) == ([], len(wanted.sets))
    assert zones.plan(zone, reopen().read(), wanted, "us").empty
    again = sync.run(sync.Job(zone, "x", reopen, wanted), sync.Policy("us"), httpclient.Pace())
    assert (again.changed, again.findings) == (False, [])
    policy = sync.Policy("us", retire=True, force=True)
    gone = sync.run(sync.Job(zone, "x", reopen, Wanted(())), policy, httpclient.Pace())
    assert (gone.findings, gone.count("delete")) == ([], len(wanted.sets))
    assert ours(reopen()) == {}


def test_foreign_values_and_their_ttl_survive(reopen: Callable[[], Provider], zone: str) -> None:
    foreign = RecordSet.of(zone, "TXT", 120, ["site-verification=abc", "z" * 600])
    put(reopen(), foreign, RecordSet.of(f"www.{zone}", "A", 60, ["192.0.2.80"]))
    before = ours(reopen())
    for value in ("v=spf1 -all", "v=spf1 mx -all"):
        wanted = Wanted((RecordSet.of(zone, "TXT", 300, [value]),))
        assert not sync.run(sync.Job(zone, "x", reopen, wanted), sync.Policy("us"), httpclient.Pace()).findings
        assert ours(reopen())[zone, "TXT"] == RecordSet.of(zone, "TXT", 120, [*foreign.values, value])
    policy = sync.Policy("us", retire=True)
    sync.run(sync.Job(zone, "x", reopen, Wanted(())), policy, httpclient.Pace())
    assert ours(reopen()) == before


def test_updates_of_values_and_ttl(reopen: Callable[[], Provider], zone: str) -> None:
    one = RecordSet.of(f"a.{zone}", "A", 60, ["192.0.2.1", "192.0.2.2"])
    for new in (
        RecordSet.of(one.name, "A", 60, ["192.0.2.2", "192.0.2.3"]),
        RecordSet.of(one.name, "A", 300, ["192.0.2.2", "192.0.2.3"]),
        RecordSet.of(one.name, "A", 30, ["192.0.2.9"]),
    ):
        put(reopen(), one)
        put(reopen(), new)
        assert ours(reopen()) == {new.key: new}


def test_a_write_is_all_or_nothing_or_seen_at_once(reopen: Callable[[], Provider], zone: str) -> None:
    """Two controllers read, both write the same record set: neither loses what it wants."""
    first, second = reopen(), reopen()
    for provider in (first, second):
        provider.read()
    first.write([Change(None, RecordSet.of(zone, "TXT", 60, ["first"]))])
    change = Change(None, RecordSet.of(zone, "TXT", 60, ["second"]))
    if isinstance(second, powerdns.PowerDns):  # has no compare-and-swap; both writers verify instead
        second.write([change])
        wanted = Wanted((RecordSet.of(zone, "TXT", 60, ["first"]),))
        sync.run(sync.Job(zone, "x", reopen, wanted), sync.Policy("us"), httpclient.Pace())
    else:
        with pytest.raises(Conflict):
            second.write([change])
        put(second, RecordSet.of(zone, "TXT", 60, ["first", "second"]))
    assert ours(reopen())[zone, "TXT"].values == ("first", "second")


def test_a_large_zone_goes_in_batches(reopen: Callable[[], Provider], zone: str) -> None:
    long = "v=DKIM1; k=rsa; p=" + "Ab+/" * 98
    sets = tuple(RecordSet.of(f"s{n}._domainkey.{zone}", "TXT", 60, [f"{long}{n}"]) for n in range(700))
    outcome = sync.run(sync.Job(zone, "x", reopen, Wanted(sets)), sync.Policy("us"), httpclient.Pace())
    assert (outcome.findings, outcome.count("create")) == ([], 700)
    assert zones.plan(zone, reopen().read(), Wanted(sets), "us").empty


def test_presentation_is_understood_by_every_service(reopen: Callable[[], Provider], zone: str) -> None:
    null_mx = RecordSet.of(f"nomail.{zone}", "MX", 60, [records.canonical("MX", "0 .")])
    put(reopen(), null_mx)
    assert ours(reopen()) == {null_mx.key: null_mx}
