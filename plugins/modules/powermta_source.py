#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: powermta_source
short_description: Keep a source IP of PowerMTA from queues for a while
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Reads which sources are disabled, changes what differs, and reads it again.
  - Mail of a queue all of whose sources are disabled waits. With this collection a virtual MTA has one source of each
    family, so its mail waits, it does not leave from elsewhere. To move traffic, change the shares in the fleet file.
  - Nothing of this is part of the configuration. It may be gone when PowerMTA restarts.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  ip:
    description: The source IP.
    type: str
    required: true
  queue:
    description: C(domain/virtual-mta). C(*) in either part stands for all.
    type: str
    default: "*/*"
  state:
    description: Whether PowerMTA may use it.
    type: str
    choices: [enabled, disabled]
    required: true
  reenable_after_seconds:
    description: PowerMTA uses it again by itself after this time. Without it, not before it is told to. The time of a
      source that is disabled for a time already is left as it is.
    type: int
attributes:
  diff_mode:
    details: Shows the state before and after.
  idempotent:
    details: A second run changes nothing, until a source has come back by itself.
notes:
  - Runs as root, or as a member of the group C(pmta).
seealso:
  - module: mailops.mta.powermta_info
"""

EXAMPLES = r"""
- name: Keep an address from one receiver for an hour
  mailops.mta.powermta_source:
    ip: 203.0.113.20
    queue: gmail.com/bulk-203-0-113-20
    state: disabled
    reenable_after_seconds: 3600

- name: Use it again everywhere
  mailops.mta.powermta_source:
    ip: 203.0.113.20
    state: enabled
"""

RETURN = r"""
commands:
  description: The commands that were run, or would be.
  returned: always
  type: list
  elements: list
  sample: [[pmta, disable, source, --reenable-after=3600s, 203.0.113.20, gmail.com/bulk-203-0-113-20]]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import queue
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import operation
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta.configuration import PowermtaError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ip": {"type": "str", "required": True},
            "queue": {"type": "str", "default": "*/*"},
            "state": {"type": "str", "choices": ["enabled", "disabled"], "required": True},
            "reenable_after_seconds": {"type": "int"},
        },
        supports_check_mode=True,
    )
    given = module.params
    problem = refusal(given)
    if problem:
        module.fail_json(msg=problem)
    try:
        done = operation.set_source(
            given["ip"],
            given["queue"],
            disabled=given["state"] == "disabled",
            reenable_after_seconds=given["reenable_after_seconds"] or 0,
            check_mode=module.check_mode,
        )
    except PowermtaError as error:
        module.fail_json(msg=str(error))
    for warning in done.warnings:
        module.warn(warning)
    module.exit_json(changed=done.changed, commands=done.commands, diff={"before": done.before, "after": done.after})


def refusal(given):
    """Why nothing is done with these options, or nothing."""
    seconds = given["reenable_after_seconds"]
    if seconds is not None and (given["state"] == "enabled" or seconds < 1):
        return "reenable_after_seconds goes with state: disabled, and is a number of seconds from 1 on"
    return queue.source_problem(given["ip"]) or queue.problem(given["queue"])


if __name__ == "__main__":
    main()
