#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: powermta_acceptance
short_description: Try on a real PowerMTA what this collection takes for granted of it
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - This collection was written without a PowerMTA at hand. This module tries each of its assumptions on a host with
    PowerMTA and a licence, and writes a report that can be sent back.
  - Small configurations stand in C(/etc/pmta/config) one after the other, each for the time of C(pmta test config).
    The one that stood there is kept beside it, comes back in any case, and at the next run after a kill.
  - For some seconds the running PowerMTA has a listener on the loopback interface and a virtual MTA that reaches
    nobody, brought and taken by two reloads. Three messages wait there; they are paused, listed and deleted as
    M(mailops.mta.powermta_queue) does it. Other queues are not touched.
  - It is for a host that does no work. It refuses where mail waits.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  force:
    description: Try also where mail waits, or where that cannot be told.
    type: bool
    default: false
attributes:
  check_mode:
    support: partial
    details: It tries nothing.
  diff_mode:
    support: none
    details: What it changes it puts back.
  idempotent:
    details: It leaves the host as it was.
"""

EXAMPLES = r"""
- name: Try each assumption
  mailops.mta.powermta_acceptance:
  register: tried

- name: Show what to report back
  ansible.builtin.debug:
    msg: "{{ tried.lines }}"
"""

RETURN = r"""
assumptions:
  description: Each assumption, whether it held, and what was seen.
  returned: always
  type: list
  elements: dict
  sample:
    - name: config.pool
      says: a pool lists virtual MTAs
      verdict: held
      seen: ""
all_held:
  description: Whether none did not hold. Some may not have been tried.
  returned: always
  type: bool
  sample: true
standin:
  description: Whether it ran on the lab's stand-in for PowerMTA, which proves nothing about PowerMTA.
  returned: always
  type: bool
  sample: false
lines:
  description: The report as text. It names no person, address, domain or licence.
  returned: always
  type: list
  elements: str
  sample: ["held          config.pool: a pool lists virtual MTAs"]
lines_proven:
  description: The same for the case that the proof by mail (playbook C(verify)) has passed afterwards.
  returned: always
  type: list
  elements: str
  sample: ["held          mail.relay: no port takes mail for strangers"]
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import assumptions
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import acceptance
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta.configuration import PowermtaError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"force": {"type": "bool", "default": False}},
        supports_check_mode=True,
    )
    try:
        found = acceptance.run(force=module.params["force"], check_mode=module.check_mode)
    except (PowermtaError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        assumptions=[asdict(each) for each in found.outcomes],
        all_held=all(each.verdict != assumptions.FAILED for each in found.outcomes),
        standin=assumptions.is_standin(found.facts.values()),
        lines=found.lines(proven=False),
        lines_proven=found.lines(proven=True),
    )


if __name__ == "__main__":
    main()
