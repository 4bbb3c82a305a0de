# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which mail each stream admits: the From domains that are its own, its senders, its size, and who reaches it by the
front listener.

The signer of a Postfix host reads the whole as JSON (signing.lua, file ``streams.json``)::

    {streams: {name: {from: {spelling: domain}, senders: [spelling], max_message_bytes}},
     front: {header, default, logins: {login: stream}, networks: [{network, streams: [name]}]} or null}

A spelling is a domain as A-labels, and as U-labels (RFC 5890 2.3.2.1) where these differ. An instance names its stream
to the signer by the milter macro ``{daemon_name}``, so a stream's mail is signed with the stream's own keys only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.model import Fleet, Front, Stream

# What a front listener may add to a message before the stream's own listener sees it: a Received field, Date and
# Message-ID. The front listener keeps to the limit of the stream, and the stream takes so much more.
TRACE_BYTES = 16384


def admission(fleet: Fleet, host: str) -> dict[str, Any]:
    """What the signer of a host enforces. A host of the front listener knows every stream."""
    front = fleet.front if fleet.front and host in fleet.front.hosts else None
    streams = fleet.streams.values() if front else fleet.streams_on(host)
    return {
        "streams": {stream.name: _stream(stream) for stream in streams},
        "front": front and _front(fleet, front),
    }


def senders(stream: Stream) -> list[str]:
    """Every spelling of a domain that an envelope sender of the stream may have."""
    domains = dict.fromkeys((*stream.domains, stream.return_path.domain))
    return [spelling for domain in domains for spelling in names.spellings(domain)]


def largest_message_bytes(fleet: Fleet) -> int:
    """What the front listener takes: each stream's own limit is for the signer to see to."""
    return max((stream.max_message_bytes for stream in fleet.streams.values()), default=0)


def networks(fleet: Fleet) -> dict[str, list[str]]:
    """The streams of each network that a stream names in ``inject_from``, the longest prefix first.

    A network has also the streams of the wider networks around it.
    """
    own = {
        ipaddress.ip_network(network): network for stream in fleet.streams.values() for network in stream.inject_from
    }
    ordered = sorted(own, key=lambda network: (-network.prefixlen, network.version, network.network_address.packed))
    streams = fleet.streams.values()
    return {own[network]: [stream.name for stream in streams if _admits(stream, network)] for network in ordered}


def stream_of_network(streams: Iterable[str], default: str) -> Optional[str]:
    """Where a message without header and login goes: to the default stream, or to the one that the network has.

    None: the network has several streams, and the default is none of them.
    """
    found = list(streams)
    if not found or default in found:
        return default
    return found[0] if len(found) == 1 else None


def _admits(stream: Stream, network: Any) -> bool:
    wider = (ipaddress.ip_network(wide) for wide in stream.inject_from)
    return any(outer.version == network.version and network.subnet_of(outer) for outer in wider)


def _stream(stream: Stream) -> dict[str, Any]:
    return {
        "from": {spelling: domain for domain in stream.domains for spelling in names.spellings(domain)},
        "senders": senders(stream),
        "max_message_bytes": stream.max_message_bytes,
    }


def _front(fleet: Fleet, front: Front) -> dict[str, Any]:
    return {
        "header": front.header,
        "default": front.default,
        "logins": {login: stream.name for stream in fleet.streams.values() for login in stream.inject_users},
        "networks": [{"network": network, "streams": streams} for network, streams in networks(fleet).items()],
    }
