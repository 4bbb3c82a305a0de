#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: powermta_info
short_description: Tell what a running PowerMTA does and what waits in it
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Asks PowerMTA's command line and returns data that keep their names whatever PowerMTA's version calls them.
  - Of the answers in JSON only the status is documented by PowerMTA. The others are read by what public programs know
    of them. What is not understood is a finding, never a wrong number.
  - A PowerMTA that is broken or absent is no failure, but what was to be found out. Then the values are null.
  - Events of single recipients, passwords, the licence's serial number and its holder are not returned.
extends_documentation_fragment:
  - mailops.mta.attributes.reads
options:
  gather:
    description:
      - What to ask for. C(settings) needs a O(queue) without a pattern.
    type: list
    elements: str
    choices: [version, status, queues, vmtas, disabled_sources, licence, settings]
    default: [version, status, queues, vmtas, disabled_sources]
  queue:
    description: The queue C(domain/virtual-mta) to ask about, C(*) in either part for all. For queues, disabled sources
      and settings.
    type: str
    default: "*/*"
notes:
  - Runs as root, or as a member of the group C(pmta).
seealso:
  - module: mailops.mta.powermta_queue
  - module: mailops.mta.powermta_source
"""

EXAMPLES = r"""
- name: See what waits for one receiver
  mailops.mta.powermta_info:
    gather: [queues]
    queue: gmail.com/*
  register: found

- name: Show it
  ansible.builtin.debug:
    msg: "{{ found.lines }}"
"""

RETURN = r"""
version:
  description: Product, version and date of the build.
  returned: when gathered
  type: dict
  sample:
    product: PowerMTA
    version: 5.0r8
    built: "2020-09-01 10:00:00"
    raw: {bits: 64}
status:
  description: State, recipients that wait, traffic and connections.
  returned: when gathered
  type: dict
  sample:
    version: 5.0r8
    state: running
    now: "2026-11-25 03:00:00"
    started: "2026-11-24 08:00:00"
    shutting_down: false
    recipients: 805
    spooled_recipients: 805
    traffic: {in_total: 28, out_total: 20, in_last_hour: 7, out_last_hour: 7, in_last_minute: 1, out_last_minute: 1}
    connections: {in_now: 1, in_limit: 100, out_now: 4, out_limit: 200}
    raw: {}
queues:
  description: One entry for each queue. C(raw) holds what PowerMTA says besides.
  returned: when gathered
  type: list
  elements: dict
  sample:
    - name: gmail.com/bulk-203-0-113-20
      recipients: 77
      kilobytes: 769.4
      connections: 2
      paused: false
      mode: backoff
      retry_at: "2026-11-25 03:25:32"
      errors: [connect rate limit reached]
      raw: {}
vmtas:
  description: One entry for each virtual MTA in which something waits.
  returned: when gathered
  type: list
  elements: dict
  sample:
    - name: bulk-203-0-113-20
      recipients: 77
      kilobytes: 769.4
      connections: 2
      domains: 3
      percent: 100.0
      raw: {}
disabled_sources:
  description: Source IPs that PowerMTA does not use, for which queue, and when it will again, where it tells.
  returned: when gathered
  type: list
  elements: dict
  sample:
    - ip: 203.0.113.20
      queue: gmail.com/bulk-203-0-113-20
      reenable_at: "2026-11-25 04:00:00"
      raw: {}
licence:
  description: What it covers and until when.
  returned: when gathered
  type: dict
  sample: {product: PowerMTA, version: "5.0", platform: linux-intel, issued: "2026-01-01", expires: "2027-01-01"}
settings:
  description: The settings of the queue as PowerMTA has loaded them, as it tells them.
  returned: when gathered
  type: dict
  sample: {queue: {max-smtp-out: 20}}
findings:
  description: What could not be told and why.
  returned: always
  type: list
  elements: dict
  sample: []
lines:
  description: Tables for a person.
  returned: always
  type: list
  elements: str
  sample: [PowerMTA 5.0r8]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import queue as names
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import status
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import operation


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": list(operation.GATHER),
                "default": ["version", "status", "queues", "vmtas", "disabled_sources"],
            },
            "queue": {"type": "str", "default": "*/*"},
        },
        supports_check_mode=True,
    )
    gather, queue = module.params["gather"], module.params["queue"]
    problem = names.problem(queue)
    if not problem and "settings" in gather and "*" in queue:
        problem = "settings are those of one queue: name it in the option queue"
    if problem:
        module.fail_json(msg=problem)
    found, findings = operation.gather(gather, queue)
    module.exit_json(
        changed=False,
        **found,
        findings=[finding.as_dict() for finding in findings],
        lines=status.lines(found, findings),
    )


if __name__ == "__main__":
    main()
