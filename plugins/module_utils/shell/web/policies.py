# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches MTA-STS policies as a sender does (RFC 8461 3.3): by HTTPS, with trust in the certificate, no redirects."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Sequence
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.audit.notes import Fetched
from ansible_collections.mailops.mta.plugins.module_utils.core.web.policy_host import POLICY_PATH
from ansible_collections.mailops.mta.plugins.module_utils.shell.http.client import watched

_MAX_BODY = 65536  # RFC 8461 3.3 suggests no more
_MAX_ADDRESSES = 8  # of one host that are tried
_WHOLE = 3  # an answer may take this many times the time limit of a single wait


def fetch(
    host: str, addresses: Sequence[str], timeout_seconds: float, ca_file: Optional[str] = None, port: int = 443
) -> Fetched:
    """The policy from the first of ``addresses`` that answers; ``ca_file`` adds CAs to those of the system."""
    if not addresses:
        return Fetched(problem=f"{host} has no address")
    context = ssl.create_default_context()
    try:
        if ca_file:
            context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        return Fetched(problem=f"ca_file {ca_file} cannot be read ({error})")
    problems = []
    for address in addresses[:_MAX_ADDRESSES]:
        try:
            return _fetch(host, address, port, timeout_seconds, context)
        except ssl.SSLCertVerificationError as error:
            return Fetched(problem=f"its certificate is refused: {error.verify_message}")
        except (OSError, http.client.HTTPException) as error:
            problems.append(f"{address}: {str(error) or type(error).__name__}")
    return Fetched(problem="; ".join(problems))


def _fetch(host: str, address: str, port: int, timeout_seconds: float, context: ssl.SSLContext) -> Fetched:
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(socket.create_connection((address, port), timeout=timeout_seconds))
        connection = stack.enter_context(context.wrap_socket(raw, server_hostname=host))
        expires = ssl.cert_time_to_seconds(str((connection.getpeercert() or {})["notAfter"]))
        asking = http.client.HTTPConnection(host)
        asking.sock = connection
        with watched(connection, _WHOLE * timeout_seconds):
            asking.request("GET", POLICY_PATH, headers={"User-Agent": "mailops.mta"})
            answer = asking.getresponse()
            body = answer.read(_MAX_BODY)
    if answer.status != 200:
        return Fetched(problem=f"HTTP {answer.status}", expires=expires)
    if answer.length:
        return Fetched(problem="the answer is cut off or far too long", expires=expires)
    return Fetched(body.decode("utf-8", "replace"), expires=expires)
