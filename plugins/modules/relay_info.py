#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: relay_info
short_description: Try from outside whether a mail server takes mail for others
version_added: 0.1.0
description:
  - Connects to every listener and asks it to take mail for a foreign recipient, once from each sender.
    It stops before DATA, so no message is ever sent.
  - Run it on a host that no listener allows, else it proves nothing.
options:
  listeners:
    description:
      - What to try. Each has C(host), C(ips) and C(ports).
        The inventory plugin derives it as C(mta_proof.listeners) of the host C(fleet).
    type: list
    elements: dict
    required: true
  recipient:
    description: A mailbox that none of the servers is responsible for.
    type: str
    required: true
  senders:
    description:
      - Envelope senders to try. Include one of each sending domain, since a server must not trust its own domains
        when strangers use them. The empty sender is always tried.
    type: list
    elements: str
    default: []
  timeout_seconds:
    description: How long to wait for a connection or a reply. A connection is tried twice.
    type: float
    default: 5.0
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details: The probe is the same; it changes nothing.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details: It changes nothing.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation changes nothing.
    support: full
author:
  - mailops.mta contributors (@mailops)
"""

EXAMPLES = r"""
- name: Try every port from outside
  mailops.mta.relay_info:
    listeners: "{{ hostvars['fleet'].mta_proof.listeners }}"
    recipient: nobody@sink.example.net
    senders: [probe@news.example.com]
  delegate_to: rx1
  run_once: true
  register: relay
"""

RETURN = r"""
results:
  description:
    - One entry for each address and port. The state C(open) takes foreign mail, C(refused) answers and refuses it,
      C(closed) has no listener, C(filtered) gives no answer at all, C(unknown) neither took nor refused it for good.
  returned: always
  type: list
  elements: dict
  sample:
    - host: mta1
      ip: 10.0.0.11
      port: 2525
      state: refused
      detail: "554 5.7.1 Client host rejected: Access denied"
"""

import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule

AT_ONCE = 32
IMPLICIT_TLS_PORT = 465


def probe(host: str, ip: str, port: int, recipient: str, senders: list, timeout_seconds: float) -> dict:
    outcomes = []
    for sender in senders:
        outcomes.append(attempt(ip, port, recipient, sender, timeout_seconds))
        if outcomes[-1][0] in ("open", "closed", "filtered"):
            break
    return {"host": host, "ip": ip, "port": port, **verdict(outcomes)}


def verdict(outcomes: list) -> dict:
    """Open if once open; else what all attempts agree on; else unknown, with what disagrees."""
    for wanted in ("open", "unknown"):
        for state, detail in outcomes:
            if state == wanted:
                return {"state": state, "detail": detail}
    states = {state for state, _detail in outcomes}
    if len(states) == 1:
        return {"state": states.pop(), "detail": outcomes[0][1]}
    return {"state": "unknown", "detail": "; ".join(dict.fromkeys(detail for _state, detail in outcomes))}


def attempt(ip: str, port: int, recipient: str, sender: str, timeout_seconds: float) -> tuple[str, str]:
    """One conversation up to RCPT: its state, and what was said."""
    try:
        try:
            connection = dial(ip, port, timeout_seconds)
        except (socket.timeout, TimeoutError):
            # A lost packet or a stale neighbour entry is no firewall.
            connection = dial(ip, port, timeout_seconds)
    except ConnectionRefusedError as fault:
        return "closed", str(fault)
    except (socket.timeout, TimeoutError):
        return "filtered", "no answer"
    except OSError as fault:
        return "unknown", f"{type(fault).__name__}: {fault}"
    try:
        replies = [connection.getreply()]
        for command in ("EHLO probe.invalid", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
            if not 200 <= replies[-1][0] < 400:
                break
            replies.append(connection.docmd(command))
        else:
            if 200 <= replies[-1][0] < 400:
                return "open", f"{spoken(replies[-1])} (sender '{sender}')"
        return ("refused" if replies[-1][0] >= 500 else "unknown"), spoken(replies[-1])
    except smtplib.SMTPServerDisconnected as fault:
        # smtplib makes a hang-up of a time-out.
        if isinstance(fault.__context__, (socket.timeout, TimeoutError)):
            return "unknown", "it took the connection and then said nothing in time"
        return "refused", "it hangs up"
    except (OSError, smtplib.SMTPException) as fault:
        return "unknown", f"{type(fault).__name__}: {fault}"
    finally:
        connection.close()


def dial(ip: str, port: int, timeout_seconds: float) -> smtplib.SMTP:
    raw = socket.create_connection((ip, port), timeout_seconds)
    if port == IMPLICIT_TLS_PORT:
        # A relay is open whoever signed its certificate.
        context = ssl._create_unverified_context()
        raw = context.wrap_socket(raw)
    connection = smtplib.SMTP(timeout=timeout_seconds, local_hostname="probe.invalid")
    connection.sock = raw
    return connection


def spoken(reply: tuple[int, bytes]) -> str:
    return f"{reply[0]} {reply[1].decode('utf-8', 'replace')}"[:300].replace("\n", " ")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "listeners": {"type": "list", "elements": "dict", "required": True},
            "recipient": {"type": "str", "required": True},
            "senders": {"type": "list", "elements": "str", "default": []},
            "timeout_seconds": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    targets = [
        (listener["host"], ip, int(port))
        for listener in parameters["listeners"]
        for ip in listener["ips"]
        for port in listener["ports"]
    ]
    senders = list(dict.fromkeys([*parameters["senders"], ""]))
    with ThreadPoolExecutor(AT_ONCE) as workers:
        results = list(
            workers.map(
                lambda target: probe(*target, parameters["recipient"], senders, parameters["timeout_seconds"]), targets
            )
        )
    module.exit_json(changed=False, results=results)


if __name__ == "__main__":
    main()
