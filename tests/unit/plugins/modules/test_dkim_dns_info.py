# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks over the wire, at servers on the loopback that hold zones as zone files have them (dnspython's encoding)."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Optional

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.modules import dkim_dns_info
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.shell.dns.still_net import StillNet

dns_flags = pytest.importorskip("dns.flags")
dns_message = pytest.importorskip("dns.message")
dns_name = pytest.importorskip("dns.name")
dns_node = pytest.importorskip("dns.node")
dns_rcode = pytest.importorskip("dns.rcode")
dns_rdataclass = pytest.importorskip("dns.rdataclass")
dns_rdatatype = pytest.importorskip("dns.rdatatype")
dns_rrset = pytest.importorskip("dns.rrset")
dns_zone = pytest.importorskip("dns.zone")

KEY = "v=DKIM1; k=rsa; p=" + "Ab+/" * 90
STRINGS = f'"{KEY[:255]}" "{KEY[255:]}"'
HEAD = "@ 900 IN SOA ns1.example.com. h.example.com. 7 1 1 1 300\n@ 900 IN NS ns1.example.com.\n"
ZONE = f"""{HEAD}
new._domainkey 3600 IN TXT {STRINGS}
only-a 60 IN A 192.0.2.1
*.wild 120 IN TXT "v=DKIM1; p=AA"
inside._domainkey 700 IN CNAME target
target 50 IN TXT "v=DKIM1; p=BB"
dangling._domainkey 800 IN CNAME nowhere
outside._domainkey 90 IN CNAME key.elsewhere.test.
"""


class Authority:
    """An authoritative server for example.com. ``fault`` may answer a query otherwise, or not at all (b"")."""

    def __init__(self, text: str = ZONE, fault: Optional[Callable[[Any, Any], Any]] = None) -> None:
        self.zone = dns_zone.from_text(text, origin="example.com.", relativize=False)
        self.fault = fault
        self.asked: list[tuple[str, str]] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.close = self.socket.close
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def work(self) -> bool:
        found = False
        with suppress(OSError):  # nothing came, or it is closed
            while True:
                wire, peer = self.socket.recvfrom(4096)
                found = True
                query = dns_message.from_wire(wire)
                self.asked.append((query.question[0].name.to_text(), query.question[0].rdtype.name))
                reply = self._reply(query)
                if reply is not None:
                    self.socket.sendto(reply.to_wire(), peer)
        return found

    def _reply(self, query: Any) -> Any:
        reply = dns_message.make_response(query)
        reply.flags |= dns_flags.AA
        if self.fault:
            return self.fault(query, reply)
        return self.honest(query, reply)

    def honest(self, query: Any, reply: Any) -> Any:
        """RFC 1034 4.3.2 for one zone without cuts."""
        name, rtype = query.question[0].name, query.question[0].rdtype
        for _step in range(8):
            if not name.is_subdomain(self.zone.origin):
                return reply
            node = self._node(name)
            found = node and node.get_rdataset(dns_rdataclass.IN, rtype)
            alias = node and node.get_rdataset(dns_rdataclass.IN, dns_rdatatype.CNAME)
            if found or not alias:
                break
            reply.answer.append(dns_rrset.from_rdata_list(name, alias.ttl, alias))
            name = alias[0].target
        if found:
            reply.answer.append(dns_rrset.from_rdata_list(name, found.ttl, found))
        else:
            soa = self.zone.get_rdataset(self.zone.origin, dns_rdatatype.SOA)
            reply.authority.append(dns_rrset.from_rdata_list(self.zone.origin, soa.ttl, soa))
            if node is None:
                reply.set_rcode(dns_rcode.NXDOMAIN)
        return reply

    def _node(self, name: Any) -> Any:
        node = self.zone.get_node(name)
        if node is None and any(each.is_subdomain(name) for each in self.zone.nodes):
            return dns_node.Node()  # nothing stands there, but below it
        return node or self.zone.get_node(dns_name.from_text("*", name.parent()))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Authority]]:
    net = StillNet()
    net.install(monkeypatch)

    def start(*arguments: Any) -> Authority:
        server = Authority(*arguments)
        net.servers.append(server)
        return server

    yield start
    net.close()


class Ended(Exception):
    """What the module returned."""


class Module:
    def __init__(self, **arguments: Any) -> None:
        validated = ArgumentSpecValidator(dkim_dns_info.ARGUMENTS).validate(arguments)
        assert validated.error_messages == []
        self.params = validated.validated_parameters

    def exit_json(self, **result: Any) -> None:
        raise Ended(result)

    def fail_json(self, **result: Any) -> None:
        raise Ended({"failed": True, **result})


def run(*servers: Authority, **arguments: Any) -> dict[str, Any]:
    zone = {"name": "example.com", "provider": "external", "options": {"servers": [each.address for each in servers]}}
    given = {"zones": [zone], "resolvers": ["127.0.0.1:9"], "timeout_seconds": 0.5, **arguments}
    with pytest.raises(Ended) as ended:
        dkim_dns_info.run(Module(**given))  # type: ignore[arg-type]
    result = ended.value.args[0]
    assert json.loads(json.dumps(result)) == result
    return dict(result)


def look(*servers: Authority, name: str = "new._domainkey.example.com", rtype: str = "TXT") -> list[dict[str, Any]]:
    """What the servers show, in the order in which they are given."""
    (found,) = run(*servers, names=[{"name": name, "type": rtype}])["looks"]
    assert (found["name"], found["type"], found["whole"], found["why"]) == (name, rtype, True, "")
    shown = {each["server"]: each for each in found["servers"]}
    assert sorted(shown) == sorted(each.address for each in servers)
    return [{**shown[each.address], "server": ""} for each in servers]


def shown(status: str, *values: str, ttl: Optional[int] = None, detail: str = "") -> dict[str, Any]:
    return {"server": "", "status": status, "values": list(values), "ttl": ttl, "detail": detail}


def test_a_key_of_several_strings_is_one_value_at_every_server(serve: Callable[..., Authority]) -> None:
    assert look(serve(), serve()) == [shown("yes", KEY, ttl=3600)] * 2


def test_each_server_shows_its_own_ttl(serve: Callable[..., Authority]) -> None:
    assert [each["ttl"] for each in look(serve(), serve(ZONE.replace("3600", "60")))] == [3600, 60]


def test_a_stale_secondary_shows_nothing_or_the_old_key(serve: Callable[..., Authority]) -> None:
    bare, old = serve(HEAD), serve(f'{HEAD}new._domainkey 3600 IN TXT "v=DKIM1; p=OLD"')
    assert look(serve(), bare, old) == [
        shown("yes", KEY, ttl=3600),
        shown("no", ttl=300),
        shown("yes", "v=DKIM1; p=OLD", ttl=3600),
    ]


@pytest.mark.parametrize("name", ["missing._domainkey.example.com", "only-a.example.com", "_domainkey.example.com"])
@pytest.mark.parametrize(("soa_ttl", "minimum", "ttl"), [(900, 300, 300), (60, 300, 60)])
def test_of_a_no_the_ttl_is_the_negative_one(
    serve: Callable[..., Authority], name: str, soa_ttl: int, minimum: int, ttl: int
) -> None:
    text = ZONE.replace("@ 900 IN SOA", f"@ {soa_ttl} IN SOA").replace("1 1 1 300", f"1 1 1 {minimum}")
    assert look(serve(text), name=name) == [shown("no", ttl=ttl)]


def without_soa(query: Any, reply: Any) -> Any:
    if query.question[0].rdtype.name == "TXT":
        reply.set_rcode(dns_rcode.NXDOMAIN)
    return reply


def test_a_no_that_does_not_say_how_long_it_holds(serve: Callable[..., Authority]) -> None:
    assert look(serve(ZONE, without_soa)) == [shown("no")]


def test_a_wildcard_is_what_stands_at_the_name(serve: Callable[..., Authority]) -> None:
    assert look(serve(), name="x.wild.example.com") == [shown("yes", "v=DKIM1; p=AA", ttl=120)]


@pytest.mark.parametrize(
    ("name", "target", "ttl", "leads_to"),
    [
        ("inside", "target.example.com", 700, "v=DKIM1; p=BB"),
        ("dangling", "nowhere.example.com", 800, "no TXT"),
        ("outside", "key.elsewhere.test", 90, "says nothing"),
    ],
)
def test_an_alias_is_no_key_but_an_alias(
    serve: Callable[..., Authority], name: str, target: str, ttl: int, leads_to: str
) -> None:
    """Whatever it leads to: what is asked is whether the key stands at that name."""
    (found,) = look(serve(), name=f"{name}._domainkey.example.com")
    assert (found["status"], found["values"], found["ttl"]) == ("yes", [], ttl)
    assert f"an alias (CNAME) of {target}" in found["detail"]
    assert leads_to in found["detail"]
    assert look(serve(), name=f"{name}._domainkey.example.com", rtype="CNAME") == [shown("yes", target, ttl=ttl)]


def test_a_key_is_no_alias(serve: Callable[..., Authority]) -> None:
    assert look(serve(), rtype="CNAME") == [shown("no", ttl=300)]


def refuse(_query: Any, reply: Any) -> Any:
    reply.set_rcode(dns_rcode.REFUSED)
    return reply


def refer(_query: Any, reply: Any) -> Any:
    reply.flags &= ~dns_flags.AA
    reply.authority.append(dns_rrset.from_text("com.", 60, "IN", "NS", "a.gtld.test."))
    return reply


def cached(query: Any, reply: Any) -> Any:
    """Somebody's resolver: what it says it has from elsewhere, some time ago."""
    reply.flags &= ~dns_flags.AA
    reply.answer.append(dns_rrset.from_text(query.question[0].name, 60, "IN", query.question[0].rdtype, "x."))
    return reply


@pytest.mark.parametrize(("fault", "says"), [(refuse, "REFUSED"), (refer, "referral"), (cached, "not authoritative")])
def test_a_lame_server_is_unknown_and_not_asked_for_names(
    serve: Callable[..., Authority], fault: Callable[[Any, Any], Any], says: str
) -> None:
    lame = serve(ZONE, fault)
    good, bad = look(serve(), lame)
    assert good == shown("yes", KEY, ttl=3600)
    assert (bad["status"], bad["values"], bad["ttl"]) == ("unknown", [], None)
    assert says in bad["detail"]
    assert {rtype for _name, rtype in lame.asked} == {"NS"}


@pytest.mark.parametrize("closed", [True, False])
def test_an_unreachable_server_is_unknown(serve: Callable[..., Authority], closed: bool) -> None:
    gone = serve(ZONE, lambda _query, _reply: None)
    if closed:
        gone.socket.close()
    good, bad = look(serve(), gone)
    assert (good["status"], bad["status"], bad["ttl"]) == ("yes", "unknown", None)
    assert ("refused" if closed else "time-out") in bad["detail"].lower()


def test_a_fault_at_one_name_is_unknown_there_only(serve: Callable[..., Authority]) -> None:
    def broken(query: Any, reply: Any) -> Any:
        if query.question[0].name.to_text().startswith("new."):
            reply.set_rcode(dns_rcode.SERVFAIL)
            return reply
        return server.honest(query, reply)

    server = serve(ZONE, broken)
    names = [{"name": "new._domainkey.example.com"}, {"name": "x.wild.example.com"}]
    found = run(server, names=names)["looks"]
    assert [each["servers"][0]["status"] for each in found] == ["unknown", "yes"]
    assert "SERVFAIL" in found[0]["servers"][0]["detail"]


def test_many_names_cost_one_question_each_at_each_server(serve: Callable[..., Authority]) -> None:
    lines = "".join(f's{n}._domainkey 300 IN TXT "v=DKIM1; p={n}"\n' for n in range(300))
    names = [{"name": f"s{n}._domainkey.example.com"} for n in range(300)]
    result = run(serve(HEAD + lines), serve(HEAD + lines), names=names)
    assert result["questions"] == 2 * 300 + 2
    wanted = [[[f"v=DKIM1; p={n}"]] * 2 for n in range(300)]
    assert [[each["values"] for each in look["servers"]] for look in result["looks"]] == wanted


def test_without_any_resolver_nothing_is_known_of_a_zone_that_names_no_servers() -> None:
    (found,) = run(names=[{"name": "A._domainkey.Example.NET."}])["looks"]
    assert (found["name"], found["whole"], found["servers"]) == ("a._domainkey.example.net", False, [])
    assert "unknown" in found["why"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"names": [{"name": "a b.test"}]}, "a b.test"),
        ({"names": [], "zones": [{"name": "ß.test", "provider": "external"}]}, "ß.test"),
        ({"names": [], "zones": [{"name": "x.test", "provider": "external", "options": {"servers": ["a:b"]}}]}, "a:b"),
        ({"names": [], "resolvers": ["192.0.2.1:x"]}, "192.0.2.1:x"),
    ],
)
def test_wrong_input_is_refused(arguments: dict[str, Any], says: str) -> None:
    result = run(**arguments)
    assert result["failed"]
    assert says in result["msg"]
