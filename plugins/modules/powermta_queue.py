#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: powermta_queue
short_description: Pause, resume, back off or empty a queue of PowerMTA
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Reads the state of the queue, changes what differs, and reads it again. What PowerMTA says to the command itself is
    documented nowhere and decides nothing.
  - Nothing of this is part of the configuration. It may be gone when PowerMTA restarts.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  queue:
    description: C(domain/virtual-mta), as C(pmta show queues) names it. C(*) in either part stands for all, see
      O(every_queue).
    type: str
    required: true
  state:
    description:
      - C(paused) holds the mail back, C(running) lets it go.
      - C(deleted) deletes what waits, for good. It needs O(confirm).
    type: str
    choices: [paused, running, deleted]
  mode:
    description: C(backoff) has PowerMTA use the C(backoff-...) settings of the domain, C(normal) the ordinary ones.
    type: str
    choices: [normal, backoff]
  confirm:
    description: The same name as in O(queue), once more. For O(state=deleted) and for patterns.
    type: str
  every_queue:
    description: Allows a pattern in O(queue).
    type: bool
    default: false
  orig:
    description: Delete only mail with this envelope sender.
    type: str
  rcpt:
    description: Delete only mail to this recipient.
    type: str
  older_than_seconds:
    description: Delete only what waits longer than this.
    type: int
attributes:
  diff_mode:
    details: Shows the state before and after. Mail itself is never shown.
  idempotent:
    support: partial
    details: A second run changes nothing, where PowerMTA shows the state of the queue. One in which nothing waits may
      not be listed; then the command is sent again and a warning says so.
notes:
  - Runs as root, or as a member of the group C(pmta).
seealso:
  - module: mailops.mta.powermta_info
"""

EXAMPLES = r"""
- name: Hold back what goes to one receiver from one address
  mailops.mta.powermta_queue:
    queue: gmail.com/bulk-203-0-113-20
    state: paused

- name: Send slowly to it from everywhere
  mailops.mta.powermta_queue:
    queue: gmail.com/*
    mode: backoff
    every_queue: true
    confirm: gmail.com/*

- name: Delete what has waited there for two days
  mailops.mta.powermta_queue:
    queue: gmail.com/bulk-203-0-113-20
    state: deleted
    confirm: gmail.com/bulk-203-0-113-20
    older_than_seconds: 172800
"""

RETURN = r"""
commands:
  description: The commands that were run, or would be.
  returned: always
  type: list
  elements: list
  sample: [[pmta, pause, queue, gmail.com/bulk-203-0-113-20]]
deleted:
  description: How many recipients were deleted, or would be, counted before. Null where PowerMTA did not tell.
  returned: with O(state=deleted)
  type: int
  sample: 77
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import queue
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import operation
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta.configuration import PowermtaError

_DELETED = "deleted"
_FILTERS = ("orig", "rcpt", "older_than_seconds")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "queue": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["paused", "running", "deleted"]},
            "mode": {"type": "str", "choices": ["normal", "backoff"]},
            "confirm": {"type": "str"},
            "every_queue": {"type": "bool", "default": False},
            "orig": {"type": "str"},
            "rcpt": {"type": "str"},
            "older_than_seconds": {"type": "int"},
        },
        required_one_of=[("state", "mode")],
        supports_check_mode=True,
    )
    given = module.params
    problem = refusal(given)
    if problem:
        module.fail_json(msg=problem)
    try:
        done = run(given, module.check_mode)
    except PowermtaError as error:
        module.fail_json(msg=str(error))
    for warning in done.warnings:
        module.warn(warning)
    module.exit_json(
        changed=done.changed,
        commands=done.commands,
        diff={"before": done.before, "after": done.after},
        **({"deleted": done.deleted} if given["state"] == _DELETED else {}),
    )


def refusal(given):
    """Why nothing is done with these options, or nothing."""
    deletes = given["state"] == _DELETED
    if deletes and given["mode"]:
        return "a queue that is deleted has no mode: give state or mode"
    filters = [name for name in _FILTERS if given[name] is not None]
    if filters and not deletes:
        return f"{', '.join(filters)} choose mail to delete: they go with state: deleted only"
    if given["older_than_seconds"] is not None and given["older_than_seconds"] < 1:
        return "older_than_seconds is a number of seconds from 1 on"
    wrong = [queue.address_problem(given[name]) for name in ("orig", "rcpt") if given[name] is not None]
    return next(filter(None, wrong), "") or queue.refusal(
        given["queue"], deletes=deletes, confirm=given["confirm"], every_queue=given["every_queue"]
    )


def run(given, check_mode):
    if given["state"] == _DELETED:
        chosen = (given["orig"] or "", given["rcpt"] or "", given["older_than_seconds"] or 0)
        return operation.delete(given["queue"], *chosen, check_mode=check_mode)
    wanted = {}
    if given["state"]:
        wanted["paused"] = given["state"] == "paused"
    if given["mode"]:
        wanted["mode"] = given["mode"]
    return operation.set_queue(given["queue"], wanted, check_mode=check_mode)


if __name__ == "__main__":
    main()
