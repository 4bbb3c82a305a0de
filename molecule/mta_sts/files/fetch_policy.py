# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks for policies as a sender does (RFC 8461 3.3): by name, TLS 1.2 or newer, a certificate of a known CA.

usage: fetch_policy.py CA_FILE [--path PATH] [--port PORT] HOST[=CONNECT_TO]...
Prints a JSON object: for each host its status, content type, body and certificate, or the error.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import socket
import ssl


def ask(context: ssl.SSLContext | None, name: str, port: int, path: str) -> dict:
    host, _equals, connect_to = name.partition("=")
    try:
        raw = socket.create_connection((connect_to or host, port), timeout=5)
        connection = context.wrap_socket(raw, server_hostname=host) if context else raw
        seen = {"tls": connection.version(), "certificate": digest(connection)} if context else {}
        asking = http.client.HTTPConnection(host)
        asking.sock = connection
        asking.request("GET", path)
        answer = asking.getresponse()
        body = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return {"error": str(error)}
    return {"status": answer.status, "type": answer.getheader("Content-Type"), "body": body, **seen}


def digest(connection: ssl.SSLSocket) -> str:
    return hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ca_file")
    parser.add_argument("hosts", nargs="+")
    parser.add_argument("--path", default="/.well-known/mta-sts.txt")
    parser.add_argument("--port", type=int, default=443)
    options = parser.parse_args()
    context = None
    if options.port == 443:
        context = ssl.create_default_context(cafile=options.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    answers = {host.partition("=")[0]: ask(context, host, options.port, options.path) for host in options.hosts}
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
