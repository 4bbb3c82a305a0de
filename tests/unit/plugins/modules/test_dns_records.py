# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.doc_fragments import dns
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.rrset import RecordSet
from ansible_collections.mailops.mta.plugins.module_utils.providers import memory, table
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access
from ansible_collections.mailops.mta.plugins.modules import dns_records

ARGUMENTS: dict[str, Any] = {
    "owner": "us",
    "zones": [{"name": "example.com", "provider": "memory"}],
    "records": [{"name": "a.example.com", "type": "A", "ttl": 60, "values": ["192.0.2.1"]}],
}


class Ended(Exception):
    """What the module returned."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, memory.MemoryZone]:
    zones: dict[str, memory.MemoryZone] = {}
    monkeypatch.setattr(memory, "_STORE", zones)
    return zones


def run(monkeypatch: pytest.MonkeyPatch, check: bool = False, **arguments: Any) -> dict[str, Any]:
    class Module(basic.AnsibleModule):  # type: ignore[misc]
        def __init__(self, argument_spec: Any, **_keywords: Any) -> None:
            validated = ArgumentSpecValidator(argument_spec).validate({**ARGUMENTS, **arguments})
            if validated.error_messages:
                raise Ended({"failed": True, "msg": "; ".join(validated.error_messages)})
            self.params = validated.validated_parameters
            self.check_mode = check
            self._diff = True
            self.warnings: list[str] = []

        def warn(self, warning: str) -> None:
            self.warnings.append(warning)

        def exit_json(self, **result: Any) -> None:
            raise Ended({"failed": False, "warnings": self.warnings, **result})

        def fail_json(self, **result: Any) -> None:
            raise Ended({"failed": True, **result})

    monkeypatch.setattr(dns_records, "AnsibleModule", Module)
    with pytest.raises(Ended) as ended:
        dns_records.main()
    result = ended.value.args[0]
    json.dumps(result)
    return dict(result)


def test_first_second_and_checked_run(monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone]) -> None:
    checked = run(monkeypatch, check=True)
    assert (checked["changed"], store["example.com"].state) == (True, {})
    first = run(monkeypatch)
    assert first["diff"] == checked["diff"]
    assert first["diff"][0]["after"].splitlines()[-1] == "a.example.com 60 A 192.0.2.1"
    assert first["zones"][0]["created"] == 1
    second = run(monkeypatch)
    assert (second["changed"], second["diff"], second["findings"]) == (False, [], [])


def test_what_may_leave_is_a_warning(monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone]) -> None:
    run(monkeypatch)
    monkeypatch.setattr(dns_records.time, "time", lambda: 86400.0 * 20000)
    noted = run(monkeypatch, records=[])
    assert (noted["changed"], noted["zones"][0]["deleted"], len(noted["warnings"])) == (True, 0, 1)
    kept = run(monkeypatch, records=[])
    assert (kept["changed"], len(kept["warnings"])) == (False, 1)
    assert kept["zones"][0]["leaving"] == [{"record": "a.example.com 60 A 192.0.2.1", "until": "2024-10-14"}]
    assert run(monkeypatch, records=[], retire="now", check=True)["zones"][0]["deleted"] == 1
    monkeypatch.setattr(dns_records.time, "time", lambda: 86400.0 * 20010 - 1)
    assert not run(monkeypatch, records=[])["changed"]
    monkeypatch.setattr(dns_records.time, "time", lambda: 86400.0 * 20010)
    assert not run(monkeypatch, records=[], retire="never")["changed"]
    assert run(monkeypatch, records=[])["zones"][0]["deleted"] == 1
    assert store["example.com"].state == {}


def test_records_of_a_key_host_come_as_they_are(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone]
) -> None:
    old = RecordSet.of("old._domainkey.example.com", "TXT", 60, ["v=DKIM1; p=CC"])
    store["example.com"] = memory.MemoryZone([old])
    key = {
        "name": "m1._domainkey.example.com",
        "type": "TXT",
        "ttl": 60,
        "values": ["v=DKIM1; p=AAAA"],
        "reason": "DKIM key of example.com",
        "streams": ["tx"],
        "domain": "example.com",
        "selector": "m1",
        "algorithm": "rsa",
        "life": "active",
        "signs": True,
    }
    first = run(monkeypatch, records=[{**key, "state": "present"}])
    assert (first["changed"], first["unknown_keys"]) == (True, [old.name])
    gone = {**key, "state": "absent", "life": "withdrawn", "signs": False}
    checked = run(monkeypatch, check=True, records=[gone], retire="never")
    last = run(monkeypatch, records=[gone], retire="never")
    assert last["diff"] == checked["diff"]
    assert (last["zones"][0]["deleted"], last["findings"]) == (1, [])
    assert store["example.com"].state == {old.key: old}
    again = run(monkeypatch, records=[gone], retire="never")
    assert (again["changed"], again["unknown_keys"]) == (False, [old.name])
    # A zone that is not read whole does not tell what else it holds.
    run(monkeypatch, records=[key, {**key, "name": "m2._domainkey.example.com"}])
    assert run(monkeypatch, records=[key], scope="changes")["unknown_keys"] == []


SERIES = [{"domain": "example.com", "delegate": None}, {"domain": "brand.test", "delegate": "dkim.example.com"}]
DELEGATED = {"name": "k1.brand.test.dkim.example.com", "type": "TXT", "values": ["v=DKIM1; k=rsa; p=AAAA"]}
LEFT = {"name": "m1._domainkey.left.example.com", "type": "TXT", "values": ["v=DKIM1; p=AAAA"]}
OF_KEYS = (
    # what a key host gives, and whether it is written at its name
    ({"name": "m1._domainkey.example.com", "type": "TXT", "values": ["k=rsa; p=AAAA"]}, True),
    ({"name": "m1._domainkey.example.com", "type": "CNAME", "values": [DELEGATED["name"]]}, True),
    (DELEGATED, True),
    ({**DELEGATED, "values": ["v=DKIM1; p="], "state": "absent"}, False),
    ({**DELEGATED, "values": None}, False),  # a plan: the key is not made yet
    (LEFT, False),
    ({**LEFT, "values": ["v=DKIM1; p="]}, False),
    ({**LEFT, "type": "CNAME", "values": ["attacker.example"]}, False),
    ({**DELEGATED, "name": "k1.left.test.dkim.example.com"}, False),
    # The delegation left with its domain: what is kept there leaves as other values do, and not at once.
    ({**DELEGATED, "name": "k1.left.test.keys.example.com", "domain": "left.test"}, False),
    ({**DELEGATED, "name": "k1.left.test.keys.example.com", "domain": "left.test", "state": "absent"}, False),
)
NOT_OF_KEYS = (
    {"name": "www.example.com", "type": "A", "values": ["192.0.2.66"]},
    {"name": "m1._domainkey.example.com", "type": "MX", "values": ["1 a.example.com"]},
    {"name": "m1._domainkey.example.com", "type": "NS", "values": ["a.example.com"]},
    {"name": "_domainkey.example.com", "type": "CNAME", "values": ["a.example.com"]},
    {"name": "example.com", "type": "TXT", "values": ["v=spf1 +all"]},
    {"name": "example.com", "type": "TXT", "values": ['"v=spf1 " "+all"']},
    {"name": "_dmarc.example.com", "type": "TXT", "values": ["v=DKIM1; p=AAAA", "v=DMARC1; p=none"]},
    {"name": "_dmarc.example.com", "type": "TXT", "values": None},
    {"name": "www.example.com", "type": "CNAME", "values": ["v=DKIM1;"]},
    {**DELEGATED, "type": "CNAME"},
    {**DELEGATED, "values": ["x"]},
    {"name": "a.example.com", "type": "A", "values": ["192.0.2.1"], "state": "absent"},
    {"name": "a.example.com", "type": "A", "values": None},
    # What would keep other records of a domain that has left.
    {"name": "example.com", "type": "TXT", "ttl": 0, "values": ["v=DKIM1; p=AAAA"]},
    {"name": "gone.example.com", "type": "TXT", "values": ["v=DKIM1; x"]},
    {"name": "gone.example.com", "type": "TXT", "values": ["v=DKIM1; p=AAAA"]},
    {"name": "gone.example.com", "type": "TXT", "values": ["v=DKIM1; p=AAAA"], "domain": "example.com"},
    {"name": "_domainkey.gone.example.com", "type": "TXT", "values": None},
    # Names that are none of a selector, and texts that are no key.
    {"name": "*._domainkey.example.com", "type": "TXT", "values": ["v=DKIM1; p=AAAA"]},
    {"name": "*._domainkey.example.com", "type": "CNAME", "values": ["a.example.com"]},
    {"name": "*._domainkey.left.example.com", "type": "TXT", "values": None},
    {**DELEGATED, "name": "*.brand.test.dkim.example.com"},
    {"name": "a.b._domainkey.example.com", "type": "TXT", "values": ["v=DKIM1; p=AAAA"]},
    {"name": "m1._domainkey.example.com", "type": "TXT", "values": ["free text, no key"]},
    {"name": "m1._domainkey.example.com", "type": "TXT", "values": ["v=DKIM1; x"]},
    {"name": "m1._domainkey.left.example.com", "type": "TXT", "values": ["v=spf1 -all"]},
    {"name": "m1._domainkey.left.example.com", "type": "TXT", "values": ["free text"], "state": "absent"},
    {**DELEGATED, "values": ["v=DKIM1; p=AAAA", "v=DKIM1; x"]},
)


@pytest.mark.parametrize(("record", "written"), OF_KEYS)
def test_a_key_host_gives_records_of_keys(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone], record: dict[str, Any], written: bool
) -> None:
    assert not run(monkeypatch, dkim_records=[record], dkim_series=SERIES)["failed"]
    assert ((record["name"], record["type"]) in store["example.com"].state) == written


@pytest.mark.parametrize("record", NOT_OF_KEYS)
def test_a_key_host_gives_no_other_record(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone], record: dict[str, Any]
) -> None:
    refused = run(monkeypatch, dkim_records=[record], dkim_series=SERIES)
    assert (refused["failed"], store) == (True, {})
    assert f"record {record['name']} {record['type']}" in refused["msg"]


def test_what_a_key_host_cannot_change_stays(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone]
) -> None:
    run(monkeypatch, dkim_records=[LEFT], dkim_series=[{"domain": "left.example.com"}])
    before = dict(store["example.com"].state)
    stays = run(monkeypatch, dkim_records=[{**LEFT, "values": ["v=DKIM1; p=EVIL"]}], dkim_series=SERIES, retire="now")
    assert (stays["changed"], store["example.com"].state) == (False, before)
    revoked = {"name": "google._domainkey.left.example.com", "type": "TXT", "values": ["v=DKIM1; p="]}
    foreign = RecordSet.of(revoked["name"], "TXT", 60, ["v=DKIM1; p=GOOGLE"])
    store["example.com"] = memory.MemoryZone([*before.values(), foreign])
    assert not run(monkeypatch, dkim_records=[LEFT, revoked], dkim_series=SERIES)["changed"]
    run(monkeypatch, dkim_records=[{**LEFT, "state": "absent"}], dkim_series=SERIES)
    assert (LEFT["name"], "TXT") not in store["example.com"].state


def test_a_key_host_keeps_no_other_record_and_hides_no_key(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone]
) -> None:
    spf = {"name": "gone.example.com", "type": "TXT", "ttl": 60, "values": ["v=spf1 -all"]}
    run(monkeypatch, records=[spf])
    planted = RecordSet.of("planted._domainkey.left.example.com", "TXT", 60, ["v=DKIM1; p=AAAA"])
    store["example.com"] = memory.MemoryZone([*store["example.com"].state.values(), planted])
    said = {"name": planted.name, "type": "TXT", "values": list(planted.values)}
    for named in ([said], [{**said, "state": "absent"}], [{**said, "values": None}]):
        told = run(monkeypatch, records=[], dkim_records=[LEFT, *named], dkim_series=SERIES)
        assert (told["failed"], told["unknown_keys"]) == (False, [planted.name])
    run(monkeypatch, records=[], dkim_records=[LEFT], dkim_series=SERIES, retire="now")
    assert ("gone.example.com", "TXT") not in store["example.com"].state


def test_records_of_zones_that_others_run_are_told(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone]
) -> None:
    zones = [*ARGUMENTS["zones"], {"name": "2.0.192.in-addr.arpa", "provider": "external"}]
    pointer = {"name": "1.2.0.192.in-addr.arpa", "type": "PTR", "ttl": 60, "values": ["a.example.com"]}
    result = run(monkeypatch, zones=zones, records=[*ARGUMENTS["records"], pointer])
    assert result["external"] == ["1.2.0.192.in-addr.arpa 60 PTR a.example.com."]
    assert [zone["name"] for zone in result["zones"]] == ["example.com"]


def test_secrets_are_found_wherever_they_stand() -> None:
    account = json.dumps({"client_id": "c", "private_key": "line\nline"})
    found = dns_records.secrets(
        {
            "a": {"url": "http://x", "api_key": "k1"},
            "b": {"class": "x.Y", "settings": {"token": "k2", "more": ["k3"]}},
            "c": {"project": "p", "service_account": account},
        }
    )
    assert {"k1", "k2", "k3", account, "line\nline"} <= found
    assert not found & {"http://x", "x.Y", "p", "c"}
    assert dns_records.secrets({"url": "https://me:hidden@x.test/", "list": ["k 4\n", {"a": "k5"}]}) >= {
        "hidden",
        "k 4",
        "k+4%0A",
        "k5",
    }


def test_whose_key_crosses_a_network_in_clear_text_is_told() -> None:
    urls = {
        "near": "http://127.0.0.1:1",
        "inner": "http://10.0.0.1:8081",
        "safe": "https://a.example",
        "odd": "http://[",
    }
    credentials = {label: {"url": url, "api_key": "k"} for label, url in urls.items()}
    assert list(dns_records.in_clear_text({**credentials, "none": None})) == [("inner", "10.0.0.1")]


def test_choices_are_the_services() -> None:
    choices = dns_records.argument_spec()["zones"]["options"]["provider"]["choices"]
    assert choices == sorted(services.NAMES)
    assert sorted(table.OPEN) == sorted(services.SERVICES)


def test_one_conflict_fails_at_the_end(monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone]) -> None:
    alias = RecordSet.of("a.example.com", "CNAME", 60, ["elsewhere.test"])
    store["example.com"] = memory.MemoryZone([alias])
    other = {"name": "b.example.net", "type": "A", "values": ["192.0.2.2"]}
    zones = [*ARGUMENTS["zones"], {"name": "example.net", "provider": "memory"}]
    result = run(monkeypatch, zones=zones, records=[*ARGUMENTS["records"], other])
    assert (result["failed"], result["changed"]) == (True, True)
    assert "1 of 2 zone(s)" in result["msg"]
    assert store["example.com"].state == {alias.key: alias}


PDNS = {"name": "example.com", "provider": "powerdns", "credentials": "pdns"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"owner": "a;b"}, "owner"),
        ({"zones": [{"name": "b ü ß.test", "provider": "memory"}]}, "name"),
        ({"zones": [*ARGUMENTS["zones"], {"name": "EXAMPLE.com.", "provider": "memory"}]}, "twice"),
        ({"zones": [PDNS]}, "none of that name"),
        ({"zones": [PDNS], "credentials": {"pdns": {"url": "http://192.0.2.1"}}}, "without api_key"),
        ({"zones": [PDNS], "credentials": {"pdns": {"url": "x", "api_key": "s", "key": "y"}}}, "with key"),
        ({"zones": [{**ARGUMENTS["zones"][0], "options": {"server": "x"}}]}, "options with server"),
        ({"zones": [{**ARGUMENTS["zones"][0], "options": {"servers": "x"}}]}, "no list"),
        ({"zones": [{**ARGUMENTS["zones"][0], "options": {"servers": ["x:y"]}}]}, "no server"),
        ({"zones": [{**ARGUMENTS["zones"][0], "options": {"servers_wait_seconds": "x"}}]}, "number of seconds"),
        ({"records": [{"name": "a.example.net", "type": "A", "values": ["192.0.2.1"]}]}, "no zone for it"),
        ({"records": [{"name": "a.example.com", "type": "A", "values": ["host"]}]}, "'host'"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone], arguments: dict[str, Any], says: str
) -> None:
    result = run(monkeypatch, **arguments)
    assert (result["failed"], result["zones"], store) == (True, [], {})
    assert says in result["msg"]


def test_every_wrong_record_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, store: dict[str, memory.MemoryZone]
) -> None:
    records = [{"name": f"h{n}.example.com", "type": "A", "values": ["no"]} for n in range(3)]
    assert len(run(monkeypatch, records=records)["findings"]) == 3


def test_only_secrets_are_struck_out() -> None:
    credentials = {
        "a": {"url": "http://x", "api_key": "s1"},
        "b": {"server": "x", "port": 53, "key_name": "k", "key_secret": "s2", "token": "s3"},
    }
    assert dns_records.secrets(credentials) == {"s1", "s2", "s3"}


def test_every_credential_is_public_or_secret_on_purpose() -> None:
    secret = {
        "api_key",
        "api_token",
        "application_secret",
        "client_secret",
        "consumer_key",
        "key_secret",
        "secret_access_key",
        "service_account",
        "session_token",
        "settings",
    }
    for service in services.SERVICES.values():
        assert {*service.required, *service.optional} <= services.PUBLIC | secret


SHARED = {
    **yaml.safe_load(dns.ModuleDocFragment.ZONES)["options"],
    **yaml.safe_load(dns.ModuleDocFragment.RECORDS)["options"],
    **yaml.safe_load(dns.ModuleDocFragment.DKIM_RECORDS)["options"],
}


def test_documentation_and_specification_agree() -> None:
    documented = {**yaml.safe_load(dns_records.DOCUMENTATION)["options"], **SHARED}
    specified = dns_records.argument_spec()
    assert set(documented) == set(specified)
    for name, option in SHARED.items():
        inner = specified[name].get("options", {})
        assert set(option.get("suboptions", {})) == set(inner)
        for key, part in option.get("suboptions", {}).items():
            assert {word: part[word] for word in ("type", "choices", "default", "elements") if word in part} == {
                word: value for word, value in inner[key].items() if word != "required"
            }


def test_examples_are_valid() -> None:
    for task in yaml.safe_load(dns_records.EXAMPLES):
        arguments = task["mailops.mta.dns_records"]
        if isinstance(arguments["zones"], list):
            assert not ArgumentSpecValidator(dns_records.argument_spec()).validate(arguments).error_messages
        assert set(arguments) <= set(dns_records.argument_spec())


@pytest.mark.parametrize(("given", "limits"), [(120.0, (20.0, 120.0)), (3.0, (3.0, 3.0))])
def test_the_time_for_a_zone_bounds_its_reading(
    monkeypatch: pytest.MonkeyPatch, given: float, limits: tuple[float, float]
) -> None:
    seen: list[tuple[float, float]] = []

    def opened(access: Access) -> memory.MemoryZone:
        seen.append((access.timeout_seconds, access.reading_seconds))
        return memory.MemoryZone()

    monkeypatch.setitem(table.OPEN, "memory", opened)
    run(monkeypatch, timeout_seconds=given)
    assert seen == [limits]
