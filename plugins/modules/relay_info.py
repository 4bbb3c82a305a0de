#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: relay_info
short_description: Try from outside whether a mail server is open to strangers
version_added: 0.1.0
description:
  - Connects to every listener and tries what has made mail servers relay, take text or give away what they should not.
    Foreign recipients in every spelling, the bare recipient postmaster with and without delivery reports, DATA and
    BDAT, XCLIENT, XFORWARD, VRFY, EXPN, ETRN, AUTH before TLS, and commands in front of the TLS handshake.
    The page docs/proof.md of the collection lists them and says what counts as open.
  - No message is ever sent. Where a server takes text, the connection ends before the text does.
  - Run it on a host that no listener allows, else it proves nothing.
extends_documentation_fragment:
  - mailops.mta.attributes.reads
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
    details: The probe is the same; it changes nothing.
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
    - One entry for each address and port. The state C(open) lets strangers in, and C(detail) names the probes that show
      it. C(refused) answers and refuses all of them, C(closed) has no listener, C(filtered) gives no answer at all,
      C(unknown) neither took nor refused one of them for good, or stopped answering.
  returned: always
  type: list
  elements: dict
  sample:
    - host: mta1
      ip: 10.0.0.11
      port: 2525
      state: refused
      detail: "554 5.7.1 Client host rejected: Access denied"
probes:
  description: How many probes of each family were there to try on every listener.
  returned: always
  type: dict
  sample: {foreign recipient: 20, percent hack: 24, VRFY: 4}
"""

from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.proof.relay import families, opened, probes, verdict
from ansible_collections.mailops.mta.plugins.module_utils.shell.proof.relay import outcomes

AT_ONCE = 32


def probe(host: str, ip: str, port: int, recipient: str, senders: list, timeout_seconds: float) -> dict:
    by, said = outcomes(ip, port, probes(recipient, senders), timeout_seconds)
    return {"host": host, "ip": ip, "port": port, **(opened(by) if by else verdict(said))}


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
    module.exit_json(changed=False, results=results, probes=families(parameters["recipient"], senders))


if __name__ == "__main__":
    main()
