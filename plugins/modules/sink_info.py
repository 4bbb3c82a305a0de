#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: sink_info
short_description: Wait for proof messages at the sink and tell what it saw of them
version_added: 0.1.0
description:
  - Reads the sink's record of what it received, one JSON object a line.
  - It reads until every message has come or the time is over. A deferral is not the end of a message, a rejection is.
options:
  path:
    description: The file that the sink writes.
    type: path
    default: /var/lib/receiver/seen.jsonl
  expectations:
    description: The variable V(mta_proof) of the host C(fleet), whose C(probes) and C(intruders) were sent.
    type: dict
    required: true
  sent:
    description:
      - What M(mailops.mta.proof_message) returned as C(sent), by host. Messages that a listener took are waited for.
    type: dict
    required: true
  wait_seconds:
    description: How long to wait for them.
    type: float
    default: 60.0
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details: It changes nothing.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation changes nothing.
    support: full
seealso:
  - module: mailops.mta.proof_message
author:
  - mailops.mta contributors (@mailops)
"""

EXAMPLES = r"""
- name: Wait for the proof messages at the sink
  mailops.mta.sink_info:
    expectations: "{{ hostvars['fleet'].mta_proof }}"
    sent:
      mta1: "{{ hostvars['mta1'].proof_messages.sent }}"
  delegate_to: rx1
  register: sink
"""

RETURN = r"""
seen:
  description: What the sink wrote about the messages, as it wrote it.
  returned: always
  type: list
  elements: dict
  sample:
    - message_id: <6f0c2d1e.203-0-113-20.0@news.example.com>
      source_ip: 203.0.113.20
      ehlo: 203-0-113-20.news.example.com
      tls: TLSv1.3
      mail_from: bounce@news.example.com
      spf: {result: pass, domain: news.example.com}
      dkim: [{domain: news.example.com, selector: s1, algorithm: rsa-sha256, result: pass}]
      dmarc: {result: pass, domain: news.example.com}
missing:
  description: The messages that did not come in time.
  returned: always
  type: list
  elements: str
  sample: []
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core import foreign
from ansible_collections.mailops.mta.plugins.module_utils.core.proof import sent

DEFERRED = "deferred"  # it will come again


def complete_lines(path: str, offset: int) -> tuple[list[dict], int]:
    """The entries after ``offset`` that are written to the end, and where the next one begins."""
    try:
        with open(path, "rb") as seen:
            seen.seek(offset)
            data = seen.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    entries = []
    for line in data[:end].splitlines():
        try:
            entry = foreign.parsed(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries, offset + end


def wait(path: str, wanted: set[str], wait_seconds: float) -> dict[str, dict]:
    found: dict[str, dict] = {}
    offset = 0
    give_up = time.monotonic() + wait_seconds
    while True:
        entries, offset = complete_lines(path, offset)
        for entry in entries:
            if entry.get("message_id") in wanted and entry.get("event") != DEFERRED:
                found[entry["message_id"]] = entry
        if wanted <= set(found) or time.monotonic() > give_up:
            return found
        time.sleep(0.5)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/receiver/seen.jsonl"},
            "expectations": {"type": "dict", "required": True},
            "sent": {"type": "dict", "required": True},
            "wait_seconds": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    wanted = set(sent.message_ids(module.params["expectations"], module.params["sent"]))
    try:
        found = wait(module.params["path"], wanted, module.params["wait_seconds"])
    except OSError as error:
        module.fail_json(msg=f"cannot read {module.params['path']}: {error}")
    module.exit_json(changed=False, seen=list(found.values()), missing=sorted(wanted - set(found)))


if __name__ == "__main__":
    main()
