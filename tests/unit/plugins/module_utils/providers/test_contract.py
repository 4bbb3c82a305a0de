# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every provider must do, in one suite.

Without more it runs against the memory provider and strict stand-ins. With MTA_DNS_CONTRACT, a JSON list of
``{"provider", "zone", "credentials", "label"}``, it runs against those real servers instead; their zones hold SOA and
NS only. ``label`` tells two servers of one provider apart.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import rrset, txt
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, Key, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import ownership, plan
from ansible_collections.mailops.mta.plugins.module_utils.core.zones.plan import Wanted
from ansible_collections.mailops.mta.plugins.module_utils.providers import memory, rest, table
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access, Conflict, Provider
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import zones as sync
from ansible_collections.mailops.mta.plugins.module_utils.shell.http import client
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness

REAL = json.loads(os.environ.get("MTA_DNS_CONTRACT", "[]"))
# What a server keeps in a zone by itself, the signatures of DNSSEC among it.
SERVERS_OWN = frozenset(("NS", "DNSKEY", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "CDS", "CDNSKEY"))
NOW = plan.Retire(plan.NOW)
STAND_INS = ["memory", *harness.STAND_INS]


def label(server: dict[str, Any]) -> str:
    return str(server.get("label") or server["provider"])


def _same(zone: Provider) -> Provider:
    return zone


@pytest.fixture(params=[label(each) for each in REAL] or STAND_INS)
def reopen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Provider]]:
    """Opens one zone, which is empty at first, as often as a test likes; each opening is another controller."""
    opened: Callable[[], Provider]
    if REAL:
        (found,) = (each for each in REAL if label(each) == request.param)
        opened = partial(table.OPEN[found["provider"]], Access(found["zone"], found["credentials"]))
        clear(opened())
    elif request.param == "memory":
        opened = partial(_same, memory.MemoryZone())
    elif hasattr(harness.stand_in(request.param).StandIn, "request"):
        opened, _line = harness.over_http(request.param)
    else:
        module = harness.stand_in(request.param)
        server = module.StandIn(harness.ZONE)
        server.install(monkeypatch)
        opened = partial(table.OPEN[request.param], Access(harness.ZONE, module.CREDENTIALS, module.OPTIONS))
    yield opened
    if REAL:
        clear(opened())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins bear any number of requests in a second."""
    if not REAL:
        monkeypatch.setattr(rest.Throttle, "wait", lambda throttle: None)


@pytest.fixture
def lacks(request: pytest.FixtureRequest) -> frozenset[str]:
    """First labels of what the service's own description says it cannot hold."""
    param = request.node.callspec.params["reopen"]
    return frozenset(getattr(harness.stand_in(param), "LACKS", ()) if param in harness.STAND_INS else ())


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> str:
    if not REAL:
        return "example.com"
    param = request.node.callspec.params["reopen"]
    return str(next(each["zone"] for each in REAL if label(each) == param))


def clear(provider: Provider) -> None:
    for batch in sync.cut(
        [Change(each, None) for each in provider.read().values() if each.type not in SERVERS_OWN], provider
    ):
        provider.write(batch)


def ours(provider: Provider) -> dict[Key, RecordSet]:
    return {key: each for key, each in provider.read().items() if key[1] not in SERVERS_OWN}


def put(provider: Provider, *sets: RecordSet) -> None:
    wanted = fitting(provider, *sets)
    state = provider.read()
    for batch in sync.cut([Change(state.get(each.key), each) for each in wanted], provider):
        provider.write(batch)


def go(zone: str, reopen: Callable[[], Provider], wanted: Wanted, owner: str = "us", **policy: Any) -> sync.Outcome:
    clock = Clock()
    pace = client.Pace() if REAL else client.Pace(sleep=clock.sleep, dice=lambda: 1.0, clock=lambda: clock.now)
    return sync.run(sync.Job(zone, "x", reopen, wanted), sync.Policy(owner, **policy), pace)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def fitting(provider: Provider, *sets: RecordSet) -> tuple[RecordSet, ...]:
    """``sets`` as this service can hold them."""
    provider.read()  # some services tell limits of the zone only then
    return plan.fit(Wanted(sets), provider.limits)[0].sets


def everything(zone: str, provider: Provider, lacks: frozenset[str] = frozenset()) -> list[RecordSet]:
    """One record set of each kind that mail needs, and some that services spoil; as far as the service has them."""
    sets = [
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
    return list(fitting(provider, *(each for each in sets if each.name.partition(".")[0] not in lacks)))


def test_what_is_written_is_read(reopen: Callable[[], Provider], zone: str, lacks: frozenset[str]) -> None:
    sets = everything(zone, reopen(), lacks)
    put(reopen(), *sets)
    assert ours(reopen()) == {each.key: each for each in sets}


def test_what_stands_at_some_names_is_read_alone(reopen: Callable[[], Provider], zone: str) -> None:
    sets = [RecordSet.of(f"h{number}.{zone}", "TXT", 3600, [f"text {number}"]) for number in range(30)]
    put(reopen(), *sets, RecordSet.of(f"h3.{zone}", "A", 3600, ["192.0.2.1"]))
    names = {f"h3.{zone}", f"h7.{zone}", f"missing.{zone}"}
    part = {key: each for key, each in reopen().read(names).items() if key[0] in names}
    assert part == {key: each for key, each in reopen().read().items() if key[0] in names}
    assert len([key for key in part if key[1] not in SERVERS_OWN]) == 3


def test_applying_a_plan_leaves_nothing_to_plan(
    reopen: Callable[[], Provider], zone: str, lacks: frozenset[str]
) -> None:
    wanted = Wanted(tuple(everything(zone, reopen(), lacks)))
    outcome = go(zone, reopen, wanted)
    assert (outcome.findings, outcome.count("create")) == ([], len(wanted.sets))
    again = go(zone, reopen, wanted)
    assert (again.changed, again.findings) == (False, [])
    gone = go(zone, reopen, Wanted(()), retire=NOW, force=True)
    assert (gone.findings, gone.count("delete")) == ([], len(wanted.sets))
    assert ours(reopen()) == {}


def test_foreign_values_and_their_ttl_survive(reopen: Callable[[], Provider], zone: str, lacks: frozenset[str]) -> None:
    texts = ["site-verification=abc", "z" * min(600, reopen().limits.txt_max)]
    foreign = RecordSet.of(zone, "TXT", 7200, texts)
    put(
        reopen(),
        foreign,
        RecordSet.of(f"www.{zone}", "A", 3600, ["192.0.2.80"]),
        RecordSet.of(f"*.{zone}", "A", 3600, ["192.0.2.81"]),
        RecordSet.of(zone, "CAA", 3600, ['0 issue "ca.example"', '128 iodef "mailto:a@example.com"']),
    )
    before = ours(reopen())
    for value in ("v=spf1 -all", "v=spf1 mx -all"):
        outcome = go(zone, reopen, Wanted((RecordSet.of(zone, "TXT", 300, [value]),)))
        assert outcome.findings == []
        kept = RecordSet.of(zone, "TXT", before[zone, "TXT"].ttl, [*texts, value])
        assert ours(reopen())[zone, "TXT"] == kept
    go(zone, reopen, Wanted(()), retire=NOW)
    assert ours(reopen()) == before


@pytest.mark.parametrize("changed_only", [False, True])
def test_an_absent_value_of_ours_goes_and_a_foreign_one_stays(
    reopen: Callable[[], Provider], zone: str, changed_only: bool
) -> None:
    """At once, whatever ``retire`` says; then nothing is left to plan, and it stays theirs when others put it there."""
    name = f"k1._domainkey.{zone}"
    keys = [f"v=DKIM1; k=rsa; p={letter * 392}" for letter in "AB"]
    foreign = RecordSet.of(name, "TXT", 3600, ["site-verification=abc"])
    kept = RecordSet.of(f"k2._domainkey.{zone}", "TXT", 3600, keys[1:])
    put(reopen(), foreign)
    go(zone, reopen, Wanted((RecordSet.of(name, "TXT", 3600, keys[:1]), kept)))
    assert len(ours(reopen())[foreign.key].values) == 2
    absent = RecordSet.of(name, "TXT", 3600, [*keys, "site-verification=abc"])
    gone = Wanted((kept,), absent=(absent, RecordSet.of(kept.name, "TXT", 60, keys[:1])))
    never: dict[str, Any] = {"retire": plan.Retire(plan.NEVER), "changed_only": changed_only}
    outcome = go(zone, reopen, gone, **never)
    assert (outcome.findings, outcome.count("update"), outcome.count("delete")) == ([], 1, 0)
    after = ours(reopen())
    assert after[foreign.key].values == foreign.values
    assert after[kept.key].values == kept.values
    assert not go(zone, reopen, gone, **never).changed
    put(reopen(), RecordSet.of(name, "TXT", 3600, [keys[0], *foreign.values]))
    assert not go(zone, reopen, gone, **never).changed
    assert keys[0] in ours(reopen())[foreign.key].values


def test_updates_of_values_and_ttl(reopen: Callable[[], Provider], zone: str) -> None:
    one = RecordSet.of(f"a.{zone}", "A", 3600, ["192.0.2.1", "192.0.2.2"])
    for new in (
        RecordSet.of(one.name, "A", 3600, ["192.0.2.2", "192.0.2.3"]),
        RecordSet.of(one.name, "A", 7200, ["192.0.2.2", "192.0.2.3"]),
        RecordSet.of(one.name, "A", 300, ["192.0.2.9"]),
    ):
        put(reopen(), one)
        put(reopen(), new)
        assert ours(reopen()) == {new.key: fitting(reopen(), new)[0]}


def test_two_writers_lose_nothing(reopen: Callable[[], Provider], zone: str) -> None:
    """Both read, both write the same record set: what either wants stands at the end."""
    first, second = reopen(), reopen()
    one, other = (fitting(first, RecordSet.of(zone, "TXT", 3600, [value]))[0] for value in ("first", "second"))
    for provider in (first, second):
        provider.read()
    first.write([Change(None, one)])
    if second.limits.exact:
        with pytest.raises(Conflict):
            second.write([Change(None, other)])
        put(second, RecordSet.of(zone, "TXT", one.ttl, ["first", "second"]))
    else:
        # No compare-and-swap: whoever is overtaken sees it when he looks at what he wrote.
        with suppress(Conflict):
            second.write([Change(None, other)])
        go(zone, reopen, Wanted((RecordSet.of(zone, "TXT", one.ttl, ["first"]),)), "us")
        go(zone, reopen, Wanted((RecordSet.of(zone, "TXT", one.ttl, ["second"]),)), "them")
    assert ours(reopen())[zone, "TXT"].values == ("first", "second")


def test_two_controllers_side_by_side_end_with_both(reopen: Callable[[], Provider], zone: str) -> None:
    """Another fleet's whole run falls between the reading and the writing of ours, and again ours into theirs."""
    jobs = {owner: Wanted((RecordSet.of(zone, "TXT", 3600, [f"of {owner}"]),)) for owner in ("us", "them")}

    class Overtaken:
        """Lets the other one run once before its first write."""

        def __init__(self, provider: Provider, other: Callable[[], object]) -> None:
            self._provider, self._other = provider, other

        def __getattr__(self, name: str) -> Any:
            return getattr(self._provider, name)

        def write(self, changes: Any) -> None:
            other, self._other = self._other, lambda: None
            other()
            self._provider.write(changes)

    outcome = go(zone, lambda: Overtaken(reopen(), lambda: go(zone, reopen, jobs["them"], "them")), jobs["us"])
    assert outcome.findings == []
    shown = ours(reopen())[zone, "TXT"].values
    if not reopen().limits.exact and "of them" not in shown:
        # Without compare-and-swap, what was overwritten after its owner looked comes back with that owner's next run.
        go(zone, reopen, jobs["them"], "them")
    go(zone, reopen, jobs["us"])
    assert ours(reopen())[zone, "TXT"].values == ("of them", "of us")


if REAL:

    def test_four_controllers_at_the_same_moment_lose_nothing(reopen: Callable[[], Provider], zone: str) -> None:
        """All have read before the first writes; each comes back to what it finds."""
        for number in range(4):
            barrier = threading.Barrier(4)

            class Together:
                def __init__(self, provider: Provider, meet: Callable[[], object]) -> None:
                    self._provider, self._meet = provider, meet

                def __getattr__(self, name: str) -> Any:
                    return getattr(self._provider, name)

                def write(self, changes: Any) -> None:
                    meet, self._meet = self._meet, lambda: None
                    meet()
                    self._provider.write(changes)

            def run(owner: str, number: int = number, meet: Callable[[], object] = barrier.wait) -> sync.Outcome:
                wanted = Wanted((RecordSet.of(f"race.{zone}", "TXT", 3600, [f"{owner} {number}"]),))
                return go(zone, lambda: Together(reopen(), meet), wanted, owner, retire=NOW)  # type: ignore[arg-type]

            with ThreadPoolExecutor(4) as pool:
                outcomes = list(pool.map(run, "abcd"))
            assert [str(each) for outcome in outcomes for each in outcome.findings if each.severity == "error"] == []
            shown = ours(reopen())[f"race.{zone}", "TXT"].values
            wanted = tuple(f"{owner} {number}" for owner in "abcd")
            # Without compare-and-swap a writer may bring back what another one had just taken away.
            assert set(wanted) <= set(shown)
            assert shown == wanted or not reopen().limits.exact


def test_a_large_zone_goes_in_batches(reopen: Callable[[], Provider], zone: str) -> None:
    long = "v=DKIM1; k=rsa; p=" + "Ab+/" * 98
    sets = tuple(RecordSet.of(f"s{n}._domainkey.{zone}", "TXT", 3600, [f"{long}{n}"]) for n in range(700))
    outcome = go(zone, reopen, Wanted(sets))
    assert (outcome.findings, outcome.count("create")) == ([], 700)
    assert not go(zone, reopen, Wanted(sets)).changed
    one_more = Wanted((*sets, RecordSet.of(f"more.{zone}", "A", 3600, ["192.0.2.1"])))
    outcome = go(zone, reopen, one_more, changed_only=True)
    assert (outcome.findings, outcome.count("create"), outcome.count("update")) == ([], 1, 0)
    assert not go(zone, reopen, one_more).changed


def test_presentation_is_understood_by_every_service(
    reopen: Callable[[], Provider], zone: str, lacks: frozenset[str]
) -> None:
    null_mx = RecordSet.of(f"nomail.{zone}", "MX", 3600, [rrset.canonical("MX", "0 .")])
    if "nomail" not in lacks:
        put(reopen(), null_mx)
        assert ours(reopen()) == {null_mx.key: null_mx}


def test_times_to_live_beyond_the_bounds_settle(reopen: Callable[[], Provider], zone: str) -> None:
    for ttl in (1, 2**31 - 1):
        wanted = Wanted((RecordSet.of(f"a.{zone}", "A", ttl, ["192.0.2.1"]),))
        assert go(zone, reopen, wanted).findings == []
        assert not go(zone, reopen, wanted).changed


# ---- Faults of services over HTTP


HTTP = [] if REAL else [name for name in harness.STAND_INS if hasattr(harness.stand_in(name).StandIn, "request")]
LATER = ("409", "429", "429 with Retry-After", "500")
HAPPENED = ("time-out after the write", "truncated", "dropped after commit")
OURS = Wanted(
    (
        RecordSet.of(harness.ZONE, "TXT", 3600, ["v=spf1 -all"]),
        RecordSet.of(f"mta1.{harness.ZONE}", "A", 3600, ["192.0.2.1", "192.0.2.2"]),
    )
)


def faulty(name: str) -> tuple[Callable[[], Provider], harness.Line, dict[Key, RecordSet]]:
    """A zone with what others wrote, and what it holds."""
    opened, line = harness.over_http(name)
    put(
        opened(),
        RecordSet.of(harness.ZONE, "TXT", 7200, ["theirs"]),
        RecordSet.of(f"www.{harness.ZONE}", "A", 3600, ["192.0.2.80"]),
    )
    return opened, line, ours(opened())


def on_writes(name: str, fault: harness.Fault, times: int) -> harness.Faults:
    left = [times]

    def decide(_number: int, method: str, url: str) -> harness.Fault | None:
        if not harness.is_write(name, method, url) or not left[0]:
            return None
        left[0] -= 1
        return fault

    return decide


def foreign(state: dict[Key, RecordSet]) -> set[str]:
    listed = {value for each in OURS.sets for value in each.values}
    return {
        f"{each.name} {each.type} {value}"
        for each in state.values()
        for value in each.values
        if value not in listed and not ownership.is_manifest(each.name, harness.ZONE)
    }


@pytest.mark.parametrize("fault", harness.FAULTS)
@pytest.mark.parametrize("name", HTTP)
def test_a_fault_in_a_write_passes_or_is_told(name: str, fault: str) -> None:
    opened, line, before = faulty(name)
    line.faults = on_writes(name, harness.FAULTS[fault], 1)
    outcome = go(harness.ZONE, opened, OURS)
    line.faults = harness.no_faults
    after = ours(opened())
    assert foreign(after) == foreign(before)
    assert outcome.changed == (after != before)
    if fault in (*LATER, *HAPPENED):
        assert outcome.findings == []
        assert {each.key for each in OURS.sets} <= set(after)
    if outcome.findings:
        text = str(outcome.findings[0])
        assert harness.ZONE in text
        assert outcome.findings[0].remedy
        assert "TXT" in text
    final = go(harness.ZONE, opened, OURS)
    assert final.findings == []
    assert final.changed == bool(outcome.findings)
    assert not go(harness.ZONE, opened, OURS).changed
    assert foreign(ours(opened())) == foreign(before)


@pytest.mark.parametrize("fault", harness.FAULTS)
@pytest.mark.parametrize("name", HTTP)
def test_a_fault_in_every_write_ends_in_a_finding(name: str, fault: str) -> None:
    opened, line, before = faulty(name)
    line.faults = on_writes(name, harness.FAULTS[fault], -1)
    outcome = go(harness.ZONE, opened, OURS)
    line.faults = harness.no_faults
    after = ours(opened())
    assert foreign(after) == foreign(before)
    assert outcome.changed == (after != before)
    if fault not in HAPPENED:
        assert [harness.ZONE in str(each) and bool(each.remedy) for each in outcome.findings] == [True]
        assert after == before
    assert go(harness.ZONE, opened, OURS).findings == []
    assert not go(harness.ZONE, opened, OURS).changed


@pytest.mark.parametrize("fault", harness.FAULTS)
@pytest.mark.parametrize("name", HTTP)
def test_a_fault_in_every_request_changes_nothing(name: str, fault: str) -> None:
    opened, line, before = faulty(name)
    line.faults = lambda number, method, url: harness.FAULTS[fault]
    outcome = go(harness.ZONE, opened, OURS)
    line.faults = harness.no_faults
    assert not outcome.changed
    assert [harness.ZONE in str(each) and bool(each.remedy) for each in outcome.findings] == [True]
    assert ours(opened()) == before


@pytest.mark.parametrize("name", HTTP)
def test_a_hundred_zones_in_bad_weather(name: str) -> None:
    """15 % of 429, 15 % of 503 and 15 % of replies that are dropped after the request was carried out."""
    dice = random.Random(3)

    def weather(_number: int, _method: str, _url: str) -> harness.Fault | None:
        roll = dice.random()
        if roll < 0.15:
            return harness.FAULTS["429"]
        if roll < 0.30:
            return harness.status(503)
        return harness.dropped if roll < 0.45 else None

    for _zone in range(100):
        opened, line, before = faulty(name)
        line.faults = weather
        outcome = go(harness.ZONE, opened, OURS, timeout_seconds=10_000)
        line.faults = harness.no_faults
        assert (outcome.findings, outcome.changed) == ([], True)
        assert not go(harness.ZONE, opened, OURS).changed
        assert foreign(ours(opened())) == foreign(before)


@pytest.mark.parametrize("name", HTTP)
def test_killed_at_any_request_the_next_run_finishes(name: str) -> None:
    class Killed(BaseException):
        """What SIGKILL does: no handler runs."""

    def kill(carry_out: Callable[[], client.Response]) -> client.Response:
        carry_out()
        raise Killed

    for at in range(1, 30):
        opened, line, before = faulty(name)
        begin = len(line.requests)
        line.faults = lambda number, _method, _url, last=begin + at: kill if number == last else None  # type: ignore[misc]
        try:
            go(harness.ZONE, opened, OURS)
        except Killed:
            pass
        else:
            return
        line.faults = harness.no_faults
        assert go(harness.ZONE, opened, OURS).findings == []
        assert not go(harness.ZONE, opened, OURS).changed
        assert foreign(ours(opened())) == foreign(before)
    pytest.fail("a run of two record sets takes more than 30 requests")


@pytest.mark.parametrize(
    "body",
    [
        b'{"errors": [{"code": [1], "name": {}, "reason": [1]}], "result": []}',
        b'{"errors": 5, "error": {"errors": 5, "code": [1], "details": 5}, "errorCode": {}}',
        b'{"error": {"errors": [{"reason": {}}], "code": {}, "details": {"fields": [5]}}, "errorCode": [1]}',
        b'{"error": {"errors": true, "details": {"fields": 5}}}',
        b'{"errors": [{"code": 1e999}], "result": [], "result_info": {"total_pages": 1e999}}',
        b"[1e999]",
    ],
)
@pytest.mark.parametrize("status", [200, 400, 404, 422])
@pytest.mark.parametrize("name", HTTP)
def test_an_answer_of_another_shape_is_no_fault_of_ours(name: str, status: int, body: bytes) -> None:
    for writes_only in (False, True):
        opened, line, _before = faulty(name)
        fault = harness.status(status, body)
        line.faults = on_writes(name, fault, -1) if writes_only else lambda _number, _method, _url: fault  # noqa: B023
        assert "a fault of the collection" not in str(go(harness.ZONE, opened, OURS).findings)


@pytest.mark.parametrize(
    "body",
    [
        '{"message": "%300", "error": {"message": "%300"}}',
        '{"errors": [{"name": "x", "description": "%300"}]}',
        '[{"records": ["%600"]}]',
        '{"error": {"details": {"fields": [{"name": "x", "messages": ["%300"]}]}}}',
        "<Response><Error><Code>InvalidClientTokenId</Code><Message>%600</Message></Error></Response>",
    ],
)
@pytest.mark.parametrize("name", HTTP)
def test_no_half_of_a_secret_is_shown(name: str, body: str) -> None:
    for length in range(60):  # what stands before it moves it over the place where the text is cut
        opened, line, _before = faulty(name)
        said = body
        for limit in (300, 600):
            said = said.replace(f"%{limit}", f"{'x ' * (limit // 2 - 30)}{'y' * length} SECRETabcdefgh")
        line.faults = on_writes(name, harness.status(400, said.encode()), -1)
        shown = str(go(harness.ZONE, opened, OURS).findings)
        assert "SECRET" not in shown.replace("SECRETabcdefgh", "")
