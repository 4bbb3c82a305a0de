#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postfix_instances
short_description: Make the Postfix instances of a host what the fleet says
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Brings every instance to its wanted state in one task. New files are staged and checked by Postfix itself, a
    warning counts as an error, and where the check fails the old configuration keeps running. After a reload or a
    start each listener must answer, else the old files are put back.
  - A change of shares, logins or probes only rewrites an indexed table, which Postfix reads without a reload. A reload
    happens only where it is needed, since it parks mail that is being delivered for 300 seconds.
  - An instance on the host that is not in the list takes no more mail and delivers what it holds. A later run removes
    it when its queue is empty. A queue that holds mail is never removed.
  - A transport that is not in the list any more gets no more mail and is removed by a run O(retire_seconds) later.
  - Only instances whose C(multi_instance_group) is V(mailops) are ever touched. The primary instance is kept off the
    network.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  instances:
    description: The instances, as in C(mta_postfix.instances) of a host.
    type: list
    elements: dict
    required: true
  settings:
    description: Parameters for C(main.cf) of every instance. They go over those of the instance.
    type: dict
    default: {}
  queue_root:
    description:
      - Directory of the queues, each in a directory named after its instance.
      - A fast volume is worth more than any parameter.
    type: path
    default: /var/spool
  retire_seconds:
    description: How long a transport stays after it left the list. Less than 300 seconds is for tests only.
    type: int
    default: 600
attributes:
  check_mode:
    details: Says what would change, also where Postfix is not installed yet.
  diff_mode:
    details: Shows the files that differ. No secrets are in them.
  idempotent:
    details: A second run changes nothing until a drained instance or transport can be removed.
"""

EXAMPLES = r"""
- name: Make the instances what the fleet says
  mailops.mta.postfix_instances:
    instances: "{{ mta_postfix.instances }}"
    queue_root: /srv/mail

- name: Take every stream off this host, without losing what is queued
  mailops.mta.postfix_instances:
    instances: []
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: ["postfix-bulk: tables changed (shares)", "postfix-cold: takes no more mail, delivers what it holds"]
draining:
  description: Instances and transports that left the fleet and are not gone yet.
  returned: always
  type: list
  elements: dict
  sample:
    - {instance: postfix-cold, messages: 12}
    - {instance: postfix-bulk, transport: out-203-0-113-9-google, seconds_left: 480}
instances:
  description: The wanted instances with the number of messages in each part of their queue.
  returned: always
  type: list
  elements: dict
  sample:
    - name: postfix-bulk
      queue: {maildrop: 0, incoming: 0, active: 3, deferred: 120, hold: 0, corrupt: 0, saved: 0}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.postfix.instances import (
    LOCK,
    Host,
    PostfixError,
    queue_counts,
)
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import lock


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "instances": {"type": "list", "elements": "dict", "required": True},
            "settings": {"type": "dict", "default": {}},
            "queue_root": {"type": "path", "default": "/var/spool"},
            "retire_seconds": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    root = module.params["queue_root"]
    instances = [
        {**instance, "queue_directory": f"{root}/{instance['name']}"} for instance in module.params["instances"]
    ]
    host = Host(
        check_mode=module.check_mode,
        settings={name: _text(value) for name, value in module.params["settings"].items()},
        retire_seconds=module.params["retire_seconds"],
    )
    try:
        with lock.locked(LOCK, patience_seconds=60):
            outcome = host.apply(instances)
    except (PostfixError, TimeoutError, OSError) as error:
        module.fail_json(msg=str(error))
    result = {
        "changed": bool(outcome.actions),
        "actions": outcome.actions,
        "draining": outcome.draining,
        "diff": outcome.diff,
        "instances": [
            {"name": instance["name"], "queue": queue_counts(instance["queue_directory"])} for instance in instances
        ],
    }
    if outcome.errors:
        module.fail_json(msg="\n".join(outcome.errors), **result)
    module.exit_json(**result)


def _text(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
