# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many DNS questions at once over given resolvers. Each gets one of three answers; no fault becomes a no."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mailops.mta.plugins.module_utils.core.answers import NO, UNKNOWN, YES, Answer, Question

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.query
    import dns.rcode
    import dns.rdata
    import dns.rdatatype
    import dns.resolver
except ImportError:
    DNSPYTHON_ERROR = traceback.format_exc()
else:
    DNSPYTHON_ERROR = None

_AT_ONCE = 32
_TRIES = 2  # a lost packet is no answer; a second round over all servers is


class Resolver:
    """``servers`` are addresses, with ``:port`` (IPv6: ``[address]:port``) where it is not 53; none: the system's."""

    def __init__(self, servers: Sequence[str] = (), timeout_seconds: float = 5.0) -> None:
        self.servers = [_endpoint(server) for server in servers or dns.resolver.Resolver().nameservers]
        self.timeout_seconds = timeout_seconds

    def ask(self, questions: Iterable[Question]) -> dict[Question, Answer]:
        wanted = list(dict.fromkeys(questions))
        with ThreadPoolExecutor(_AT_ONCE) as workers:
            return dict(zip(wanted, workers.map(self._one, wanted)))

    def _one(self, question: Question) -> Answer:
        try:
            query = dns.message.make_query(question.name, question.rtype, use_edns=0, payload=1232)
        except (dns.exception.DNSException, UnicodeError, ValueError) as error:
            return Answer(UNKNOWN, detail=f"it is no DNS name ({error})")
        faults: list[str] = []
        for address, port in self.servers * _TRIES:
            try:
                reply, _tcp = dns.query.udp_with_fallback(
                    query, address, timeout=self.timeout_seconds, port=port, ignore_unexpected=True
                )
                answer = _answer(reply)
            except dns.exception.Timeout:
                answer = Answer(UNKNOWN, detail="time-out")
            except (dns.exception.DNSException, OSError, EOFError) as error:
                answer = Answer(UNKNOWN, detail=f"{type(error).__name__} {error}".strip())
            if answer.status != UNKNOWN:
                return answer
            fault = f"{answer.detail} from {address}"
            if fault not in faults:
                faults.append(fault)
        return Answer(UNKNOWN, detail="; ".join(faults))


def _endpoint(server: str) -> tuple[str, int]:
    if server.startswith("["):
        address, _bracket, port = server[1:].partition("]")
        return address, int(port.lstrip(":") or 53)
    if server.count(":") == 1:
        address, _colon, port = server.partition(":")
        return address, int(port)
    return server, 53


def _answer(reply: dns.message.Message) -> Answer:
    if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Answer(UNKNOWN, detail=dns.rcode.to_text(reply.rcode()))
    chain = reply.resolve_chaining()
    if chain.answer is not None:
        return Answer(YES, tuple(sorted(_text(rdata) for rdata in chain.answer)))
    kinds = {rrset.rdtype for rrset in reply.authority}
    if reply.rcode() == dns.rcode.NOERROR and dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds:
        return Answer(UNKNOWN, detail="a referral instead of an answer")
    return Answer(NO)


def _text(rdata: dns.rdata.Rdata) -> str:
    if rdata.rdtype == dns.rdatatype.TXT:
        return b"".join(rdata.strings).decode("ascii", "backslashreplace")
    if rdata.rdtype in (dns.rdatatype.PTR, dns.rdatatype.CNAME, dns.rdatatype.NS):
        return _name(rdata.target)
    if rdata.rdtype == dns.rdatatype.MX:
        return f"{rdata.preference} {_name(rdata.exchange)}"
    return rdata.to_text()


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
