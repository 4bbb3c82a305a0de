# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the bridge to octoDNS has: nothing is dropped without a word, TXT is carried, failures are told apart.

The failures are those of a real provider, octodns-powerdns, before a PowerDNS stand-in on the loopback interface.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import Change, RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import octodns
from ansible_collections.mailops.mta.plugins.module_utils.providers.octodns import OctoDns
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import (
    Access,
    Conflict,
    Faulty,
    Permanent,
    ProviderError,
    Throttled,
    Transient,
    Unreachable,
)
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers import harness
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins import octodns as standin
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.providers.standins import powerdns

ZONE = harness.ZONE
POWERDNS = "octodns_powerdns.PowerDnsProvider"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> standin.StandIn:
    made = standin.StandIn(ZONE)
    made.install(monkeypatch)
    return made


def opened(**credentials: Any) -> OctoDns:
    return octodns.open_zone(Access(ZONE, {**standin.CREDENTIALS, **credentials}))


def update(provider: OctoDns, wanted: RecordSet) -> None:
    provider.write([Change(provider.read().get(wanted.key), wanted)])


def test_octodns_gets_semicolons_as_it_writes_them(service: standin.StandIn) -> None:
    policy = RecordSet.of(f"_dmarc.{ZONE}", "TXT", 3600, ["v=DMARC1; p=reject; rua=mailto:d@example.com"])
    update(opened(), policy)
    assert service.data["_dmarc", "TXT"]["values"] == ["v=DMARC1\\; p=reject\\; rua=mailto:d@example.com"]
    assert opened().read()[policy.key] == policy


@pytest.mark.parametrize(
    "theirs", ["quote \\" + '"' + " \\\\ \\195\\188", '"quoted"', 'raw "', "b\u00fccher", "a; b", "k=v\\; x", "z" * 700]
)
def test_a_neighbours_value_is_carried_letter_by_letter(service: standin.StandIn, theirs: str) -> None:
    key = ("", "TXT")
    service.data[key] = {"type": "TXT", "ttl": 7200, "values": ["old"]}
    provider = opened()
    before = provider.read()[ZONE, "TXT"]
    # As the provider would hand it out, past octoDNS's own unquoting.
    record = provider._records[ZONE, "TXT"]
    record.values = [type(record)._value_type(theirs)]
    shown = next(iter(octodns._values(record)))
    before = RecordSet.of(ZONE, "TXT", before.ttl, [shown])
    for after in (
        RecordSet.of(ZONE, "TXT", 7200, [shown, "v=spf1 -all"]),
        RecordSet.of(ZONE, "TXT", 3600, [shown, "v=spf1 -all"]),
        RecordSet.of(ZONE, "TXT", 3600, [shown]),
    ):
        provider.write([Change(before, after)])
        assert [value for value in service.data[key]["values"] if value != "v=spf1 -all"] == [theirs]
        assert service.data[key]["ttl"] == after.ttl
        before = after


@pytest.mark.parametrize("text", ['say "hi"', "back\\slash", "b\u00fccher", "bell\x07"])
def test_a_text_that_providers_write_differently_is_refused(service: standin.StandIn, text: str) -> None:
    before = dict(service.data)
    with pytest.raises(Permanent, match=f"^odd.{ZONE} TXT: ") as caught:
        update(opened(), RecordSet.of(f"odd.{ZONE}", "TXT", 3600, ["fine", text]))
    assert caught.value.remedy
    assert service.data == before


def test_a_type_that_the_provider_lacks_is_refused_and_not_dropped(service: standin.StandIn) -> None:
    provider = opened()
    provider.read()
    assert "TLSA" in provider.limits.types
    assert "SSHFP" not in provider.limits.types
    good = RecordSet.of(f"a.{ZONE}", "A", 3600, ["192.0.2.1"])
    bad = RecordSet.of(f"a.{ZONE}", "SSHFP", 3600, ["4 2 " + "ab" * 32])
    with pytest.raises(Permanent, match=f"^a.{ZONE} SSHFP: .* carries no SSHFP"):
        provider.write([Change(None, good), Change(None, bad)])
    assert ("a", "A") not in service.data


def test_what_a_provider_would_alter_is_refused(service: standin.StandIn) -> None:
    before = dict(service.data)
    with pytest.raises(Permanent, match=f"multi-value PTR .* 1.{ZONE}"):
        update(opened(), RecordSet.of(f"1.{ZONE}", "PTR", 3600, ["a.example", "b.example"]))
    assert service.data == before


def test_what_a_provider_alters_without_a_word_is_refused(
    service: standin.StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longer(self: Any, desired: Any) -> Any:
        for record in list(desired.records):
            other = record.copy()
            other.ttl = max(300, other.ttl)
            desired.add_record(other, replace=True)
        return desired

    monkeypatch.setattr(standin.InMemory, "_process_desired_zone", longer)
    with pytest.raises(Permanent, match=f"a.{ZONE}. A: .* would not keep it as it is"):
        update(opened(), RecordSet.of(f"a.{ZONE}", "A", 60, ["192.0.2.1"]))
    update(opened(), RecordSet.of(f"a.{ZONE}", "A", 300, ["192.0.2.1"]))
    assert ("a", "A") in service.data


def test_data_that_octodns_refuses_name_the_record(service: standin.StandIn) -> None:
    with pytest.raises(Permanent, match=f"^srv.{ZONE} SRV: octoDNS refuses it: .*invalid name"):
        update(opened(), RecordSet.of(f"srv.{ZONE}", "SRV", 3600, [f"0 5 587 mx.{ZONE}"]))


def test_what_octodns_keeps_beside_a_record_survives(service: standin.StandIn) -> None:
    extra = {"memory": {"proxied": True}}
    service.data["www", "A"] = {"type": "A", "ttl": 3600, "values": ["192.0.2.1"], "octodns": extra}
    update(opened(), RecordSet.of(f"www.{ZONE}", "A", 3600, ["192.0.2.2"]))
    assert service.data["www", "A"]["octodns"] == extra
    assert service.data["www", "A"]["values"] == ["192.0.2.2"]


def test_a_dynamic_record_is_read_and_never_changed(service: standin.StandIn) -> None:
    service.data["www", "A"] = data = {
        "type": "A",
        "ttl": 60,
        "values": ["192.0.2.1"],
        "dynamic": {"pools": {"one": {"values": [{"value": "192.0.2.1"}]}}, "rules": [{"pool": "one"}]},
    }
    provider = opened()
    shown = provider.read()[f"www.{ZONE}", "A"]
    assert shown.values == ("192.0.2.1",)
    for after in (RecordSet.of(*shown.key, 60, ["192.0.2.2"]), None):
        with pytest.raises(Permanent, match=f"^www.{ZONE} A is a dynamic record"):
            provider.write([Change(shown, after)])
    assert service.data["www", "A"] == data


def test_a_provider_that_writes_whole_zones_loses_nothing(
    service: standin.StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(self: Any, plan: Any) -> None:
        service.data = {(each.name, each._type): {**each.data, "type": each._type} for each in plan.desired.records}

    monkeypatch.setattr(standin.InMemory, "_apply", whole)
    before = opened().read()
    sets = [RecordSet.of(f"h{number}.{ZONE}", "A", 3600, ["192.0.2.1"]) for number in range(3)]
    provider = opened()
    provider.read()
    for each in sets:  # several writes after one read, as batches are
        provider.write([Change(None, each)])
    assert opened().read() == {**before, **{each.key: each for each in sets}}


def test_the_safety_limits_of_octodns_do_not_count(service: standin.StandIn) -> None:
    sets = [RecordSet.of(f"h{number}.{ZONE}", "A", 3600, ["192.0.2.1"]) for number in range(30)]
    provider = opened()
    before = provider.read()
    provider.write([Change(None, each) for each in sets])
    provider.read()
    provider.write([Change(each, None) for each in sets])
    assert opened().read() == before


def test_an_alias_takes_the_place_of_an_address_in_one_write(service: standin.StandIn) -> None:
    address = RecordSet.of(f"www.{ZONE}", "A", 3600, ["192.0.2.1"])
    alias = RecordSet.of(f"www.{ZONE}", "CNAME", 3600, ["elsewhere.example"])
    update(opened(), address)
    for old, new in ((address, alias), (alias, address)):
        provider = opened()
        provider.read()
        provider.write([Change(None, new), Change(old, None)])
        state = opened().read()
        assert new.key in state
        assert old.key not in state


def test_a_zone_that_is_not_there_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Permanent, match=f"has no zone {ZONE}"):
        opened().read()


@pytest.mark.parametrize(
    ("credentials", "found"),
    [
        ({"class": "octodns_missing.Provider"}, "cannot be loaded"),
        ({"class": "octodns.provider.base.Missing"}, "cannot be loaded"),
        ({"class": "Provider"}, "cannot be loaded"),
        ({"class": ""}, "cannot be loaded"),
        ({"class": "octodns.provider"}, "does not take these settings"),
        ({"settings": {1: "a"}}, "does not take these settings"),
        ({"settings": {}}, "does not take these settings"),
        ({"settings": {"token": "a-token", "colour": "green"}}, "does not take these settings"),
        ({"class": POWERDNS, "settings": {"host": "x", "api_key": "k", "mode_of_operation": "x"}}, "does not take"),
    ],
)
def test_a_provider_that_cannot_be_had(credentials: dict[str, Any], found: str) -> None:
    with pytest.raises(Permanent, match=found) as caught:
        opened(**credentials).read()
    assert caught.value.why
    assert caught.value.remedy


def test_octodns_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "octodns.record", None)
    with pytest.raises(Permanent, match="cannot be loaded") as caught:
        opened()
    assert "install octodns" in caught.value.remedy


def test_settings_must_be_names_and_values() -> None:
    with pytest.raises(Permanent, match="settings"):
        opened(settings=["token"])


def test_what_a_provider_says_of_itself_is_told(service: standin.StandIn) -> None:
    with pytest.raises(Permanent, match=r"refused the request .*the token is not valid"):
        opened(settings={"token": "other"}).read()


# ---- A real provider before a stand-in of its server


class Server:
    """The PowerDNS stand-in on a loopback port. ``fault`` decides over each request."""

    def __init__(self) -> None:
        self.stand_in = powerdns.StandIn(ZONE)
        self.fault: harness.Fault | None = None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                url = powerdns.CREDENTIALS["url"] + self.path

                def carry_out() -> Any:
                    return owner.stand_in.request(self.command, url, body, self.headers)

                try:
                    answer = owner.fault(carry_out) if owner.fault else carry_out()
                except harness.AnswerLost:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_PATCH = do_POST = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def provider(self, api_key: str = powerdns.CREDENTIALS["api_key"]) -> OctoDns:
        settings = {"host": "127.0.0.1", "port": self.http.server_port, "api_key": api_key}
        return opened(**{"class": POWERDNS, "settings": settings})


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


NEW = RecordSet.of(f"a.{ZONE}", "TXT", 3600, ["v=DKIM1; k=rsa; p=" + "Ab+/" * 180])


def test_a_real_provider_writes_and_reads(server: Server) -> None:
    provider = server.provider()
    before = provider.read()
    provider.write([Change(None, NEW)])
    assert server.provider().read() == {**before, NEW.key: NEW}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Permanent),
        (401, Permanent),
        (403, Permanent),
        (409, Conflict),
        (412, Conflict),
        (422, Permanent),
        (429, Throttled),
        (500, Faulty),
        (503, Faulty),
    ],
)
@pytest.mark.parametrize("verb", ["read", "write"])
def test_statuses(server: Server, status: int, kind: type[ProviderError], verb: str) -> None:
    provider = server.provider()
    provider.read()
    server.fault = harness.status(status, b'{"error": "because"}', retry_after="7")
    with pytest.raises(ProviderError) as caught:
        provider.read() if verb == "read" else provider.write([Change(None, NEW)])
    assert caught.type is kind
    assert f"HTTP {status}" in caught.value.found
    assert "because" in caught.value.found
    if isinstance(caught.value, (Throttled, Faulty)):
        assert caught.value.after == 7
    server.fault = None
    assert NEW.key not in server.provider().read()


def test_a_wrong_key_and_a_missing_zone(server: Server) -> None:
    with pytest.raises(Permanent, match="refused the key"):
        server.provider("wrong-key").read()
    server.stand_in.zone = "other.example"
    with pytest.raises(Permanent, match=f"has no zone {ZONE}"):
        server.provider().read()


def test_a_lost_answer_is_unsure_and_no_answer_is_not(server: Server) -> None:
    provider = server.provider()
    provider.read()
    server.fault = harness.dropped
    with pytest.raises(Transient) as caught:
        provider.write([Change(None, NEW)])
    assert caught.value.unsure
    server.fault = None
    assert NEW.key in server.provider().read()
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(Unreachable) as refused:
        server.provider().read()
    assert not refused.value.unsure


@pytest.mark.parametrize("spaces", range(30))
def test_no_half_of_a_secret_is_shown(server: Server, spaces: int) -> None:
    said = f"{'x ' * 130}{'y' * spaces} SECRETabcdefgh"
    server.fault = harness.status(400, said.encode())
    with pytest.raises(ProviderError) as caught:
        server.provider().read()
    told = octodns.problem(RuntimeError(said), "it", ZONE)
    assert "SECRET" not in f"{caught.value.found} {told.found}".replace("SECRETabcdefgh", "")
