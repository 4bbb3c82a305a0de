#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: proof_message
short_description: Send one proof message from every address of a host
version_added: 0.1.0
description:
  - Hands one small message for each probe to the stream's own listener on this host.
  - The recipient C(verify-<label>@<sink domain>) makes the engine use the address with that label.
  - A probe that the listener does not take is no failure of the module; its RV(sent) entry says why.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  probes:
    description:
      - What to send. The inventory plugin derives it as C(mta_proof.probes) of the host C(fleet).
      - Each has C(label), C(stream), C(host), C(domain) (of the From address), C(port) and C(recipient), and may have
        C(sender), the domain of the envelope sender where it is another one.
    type: list
    elements: dict
    required: true
  listener:
    description: The address on which the streams' listeners are reached from this host.
    type: str
    default: 127.0.0.1
  timeout_seconds:
    description: How long to wait for one reply of a listener.
    type: float
    default: 10.0
attributes:
  check_mode:
    details: Sends nothing; RV(sent) is empty.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each run sends new messages.
seealso:
  - module: mailops.mta.sink_info
  - module: mailops.mta.alignment_info
author:
  - mailops.mta contributors (@mailops)
"""

EXAMPLES = r"""
- name: Send one message from every address of this host
  mailops.mta.proof_message:
    probes: "{{ hostvars['fleet'].mta_proof.probes | selectattr('host', 'equalto', inventory_hostname) }}"
  register: proof_messages
"""

RETURN = r"""
sent:
  description: The probes, each with the Message-ID it went out with, or with the error of the listener.
  returned: always
  type: list
  elements: dict
  sample:
    - label: 203-0-113-20
      stream: bulk
      host: mta1
      domain: news.example.com
      port: 2527
      recipient: verify-203-0-113-20@sink.example.net
      message_id: <6f0c2d1e.203-0-113-20.0@news.example.com>
      error: null
"""

import smtplib
import uuid
from email.message import EmailMessage
from email.utils import formatdate

from ansible.module_utils.basic import AnsibleModule


def message(probe: dict, message_id: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = f"verify@{probe['domain']}"
    mail["To"] = probe["recipient"]
    mail["Subject"] = f"Proof of {probe['label']} in stream {probe['stream']}"
    mail["Date"] = formatdate()
    mail["Message-ID"] = message_id
    mail.set_content("This message proves that its source address is aligned. Nobody needs to read it.\n")
    return mail


def send(probe: dict, run: str, number: int, listener: str, timeout_seconds: float) -> dict:
    message_id = f"<{run}.{probe['label']}.{number}@{probe['domain']}>"
    sender = f"verify@{probe.get('sender') or probe['domain']}"
    error = None
    try:
        with smtplib.SMTP(listener, int(probe["port"]), "localhost", timeout=timeout_seconds) as connection:
            connection.send_message(message(probe, message_id), sender, [probe["recipient"]])
    except (OSError, smtplib.SMTPException) as fault:
        error = f"{type(fault).__name__}: {fault}"
    return {**probe, "message_id": message_id, "error": error}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "probes": {"type": "list", "elements": "dict", "required": True},
            "listener": {"type": "str", "default": "127.0.0.1"},
            "timeout_seconds": {"type": "float", "default": 10.0},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    for probe in parameters["probes"]:
        missing = {"label", "stream", "host", "domain", "port", "recipient"} - set(probe)
        if missing:
            module.fail_json(msg=f"a probe lacks {', '.join(sorted(missing))}")
    if module.check_mode:
        module.exit_json(changed=bool(parameters["probes"]), sent=[])
    run = uuid.uuid4().hex
    sent = [
        send(probe, run, number, parameters["listener"], parameters["timeout_seconds"])
        for number, probe in enumerate(parameters["probes"])
    ]
    module.exit_json(changed=any(probe["error"] is None for probe in sent), sent=sent)


if __name__ == "__main__":
    main()
