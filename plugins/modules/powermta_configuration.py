#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: powermta_configuration
short_description: Make PowerMTA on a host what the fleet says
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Renders the configuration of PowerMTA from a host's slice of the fleet as a set of fragments, checks it with the
    collection's own checker, sets it in place with one rename, has C(pmta test config) read it, and has PowerMTA
    reload. Where any of these refuses, the old set comes back and PowerMTA runs on with it.
  - PowerMTA is restarted only where a reload does not do, for C(run-as-root) and for the C(type) of a domain.
  - Nothing that holds mail is deleted. A virtual MTA that leaves the fleet stays as long as mail waits for it, and at
    least for one run. PowerMTA would bounce its mail.
  - An address that warms up follows its schedule with each day that this module runs, see RV(addresses).
  - A run that is killed leaves the whole old set or the whole new one, and the next run finishes it.
options:
  host:
    description: The slice of the host, the variable C(mta_powermta) of the inventory plugin.
    type: dict
    required: true
  passwords:
    description:
      - Clear passwords of the logins. PowerMTA cannot take hashes. Without white space, quotes, backslash, number sign,
        braces and angle brackets, which its configuration cannot hold.
    type: dict
    default: {}
  fragments:
    description:
      - Fragments of your own, by name. Each becomes the file C(90-local-NAME.conf) and is checked with all others.
    type: dict
    default: {}
  monitor_from:
    description: Addresses or networks, in CIDR form, that may read the web monitor. The host itself always may.
    type: list
    elements: str
    default: []
  monitor_port:
    description: TCP port of the web monitor. C(0) switches it off.
    type: int
    default: 8080
  spool_directory:
    description: Where PowerMTA keeps queued mail.
    type: path
    default: /var/spool/pmta
  log_directory:
    description: Where PowerMTA writes its log and its accounting.
    type: path
    default: /var/log/pmta
  certificate:
    description: PEM file with certificate and private key for logins. Without one there are no logins over TLS.
    type: path
    default: ""
  accounting_days:
    description: Days after which an accounting file is deleted.
    type: int
    default: 8
  accounting_max_bytes:
    description: Size at which the next accounting file begins, C(1048576) or more.
    type: int
    default: 52428800
  version:
    description: Version of PowerMTA, for the directives that it has.
    type: str
    default: "5.0"
attributes:
  check_mode:
    support: full
    description: Renders and checks. What C(pmta test config) says of it is only known in a real run.
  diff_mode:
    support: full
    description: Shows the fragments, except for the one that holds passwords.
  idempotent:
    support: full
    description: Nothing is written or reloaded where the set in place is the wanted one and PowerMTA has read it.
notes:
  - Passwords stand in C(45-users.conf), mode 0640, which root writes and the group C(pmta) reads.
requirements:
  - PowerMTA 4.5 or newer, outside of check mode
"""

EXAMPLES = r"""
- name: Configure PowerMTA
  mailops.mta.powermta_configuration:
    host: "{{ mta_powermta }}"
    passwords: "{{ mta_powermta_passwords }}"
    monitor_from: [10.0.0.5]
"""

RETURN = r"""
files:
  description: Files that changed, or would.
  returned: success
  type: list
  elements: str
  sample: [/etc/pmta/conf.d/30-stream-bulk.conf]
effort:
  description: What PowerMTA had to do. One of C(nothing), C(load), C(reload), C(restart), C(start).
  returned: success
  type: str
  sample: reload
draining:
  description: Virtual MTAs that left the fleet and stay until their queues are empty.
  returned: success
  type: list
  elements: dict
  sample:
    - {virtual_mta: bulk-203-0-113-20, recipients: 12}
addresses:
  description: What each virtual MTA does today. One of C(live), C(drained), C(waiting) for its first day, C(cold).
  returned: success
  type: dict
  sample: {bulk-203-0-113-20: live, bulk-203-0-113-23: cold}
findings:
  description: Warnings of the checker.
  returned: success
  type: list
  elements: dict
  sample: []
"""

import contextlib
import datetime
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import (
    dkim,
    drain,
    effort,
    slices,
    ways_in,
)
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import fragments as powermta
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration, operation

LOCAL = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}\Z")
PASSWORD = re.compile(r"[!$-&(-;=?-\[\]-_a-z|~]{1,128}\Z")  # printable, without what a configuration cannot hold


def main():
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "dict", "required": True},
            "passwords": {"type": "dict", "default": {}, "no_log": True},
            "fragments": {"type": "dict", "default": {}, "no_log": True},  # they may hold secrets of their own
            "monitor_from": {"type": "list", "elements": "str", "default": []},
            "monitor_port": {"type": "int", "default": 8080},
            "spool_directory": {"type": "path", "default": "/var/spool/pmta"},
            "log_directory": {"type": "path", "default": "/var/log/pmta"},
            "certificate": {"type": "path", "default": ""},
            "accounting_days": {"type": "int", "default": 8},
            "accounting_max_bytes": {"type": "int", "default": 52428800},
            "version": {"type": "str", "default": "5.0"},
        },
        supports_check_mode=True,
    )
    try:
        result = configure(module.params, module.check_mode, datetime.date.today())
    except configuration.PowermtaError as error:
        module.fail_json(msg=str(error))
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"PowerMTA cannot be configured: {error}")
    for finding in result["findings"]:
        module.warn(str(finding))
    module.exit_json(**{**result, "findings": [finding.as_dict() for finding in result["findings"]]})


def configure(params, check_mode, today, root=configuration.ROOT):
    """``root``: PowerMTA's own directory. Raises PowermtaError, OSError, ValueError."""
    host = params["host"]
    options = slices.Options(
        today=today,
        directory=configuration.Paths(root).conf_d,
        passwords=_passwords(host, params["passwords"]),
        monitor_from=tuple(params["monitor_from"]),
        monitor_port=params["monitor_port"],
        spool_directory=params["spool_directory"],
        log_directory=params["log_directory"],
        certificate=params["certificate"],
        accounting_days=params["accounting_days"],
        accounting_max_bytes=params["accounting_max_bytes"],
    )
    wanted = {**powermta.files(host, options), **_local(params["fragments"])}
    with contextlib.nullcontext() if check_mode else configuration.alone(root):
        before = configuration.current(root)
        # Only of a PowerMTA that has read the set in place: else it may lead new mail to what is to go.
        queued = operation.waiting() if configuration.in_force(root) else None
        if configuration.running() and not configuration.is_ours(root):
            _refuse_to_strand(wanted)
        stays = drain.draining(before, wanted, queued)
        # The role dkim writes the keys; what a virtual MTA includes must be there before the role was here.
        kept = {*slices.keys_files(host), *stays.files, powermta.DKIM}
        gone = {name: None for name in before if name not in kept}
        empty = {name: dkim.without_keys() for name in slices.keys_files(host) if name not in before}
        change = configuration.apply(
            {**gone, **empty, **wanted, powermta.DRAINING: stays.fragment},
            start=True,
            check_mode=check_mode,
            version=params["version"],
            root=root,
        )
    return {
        "changed": bool(change.changed) or change.effort != configuration.NOTHING,
        "files": list(change.changed),
        "effort": change.effort,
        "diff": change.diff,
        "draining": [
            {"virtual_mta": name, "recipients": None if queued is None else queued.get(name.casefold(), 0)}
            for name in stays.virtual_mtas
        ],
        "addresses": {name: what for stream in host["streams"] for name, what in slices.states(stream, today).items()},
        "findings": list(change.findings),
    }


def _refuse_to_strand(wanted):
    """PowerMTA bounces what waits for a virtual MTA that is gone, and this configuration has none of the old ones."""
    waits = operation.waiting()
    if waits is None:
        raise configuration.PowermtaError(
            "A PowerMTA with a configuration of its own runs here and does not tell what waits in it, so nothing was "
            "changed: mail of virtual MTAs that are gone would bounce. See that its queues are empty, stop it, run it"
        )
    known = {"{default}"}.union(*map(effort.virtual_mtas, wanted.values()))
    stranded = sorted(name for name, count in waits.items() if count and name.lower() not in known)
    if stranded:
        raise configuration.PowermtaError(
            "A PowerMTA with a configuration of its own runs here, and mail waits in its virtual MTAs "
            f"{', '.join(stranded)}. They are not in the new configuration, and their mail would bounce, so nothing "
            "was changed. Wait until they are empty, or give them as fragments (powermta_fragments) for as long"
        )


def _passwords(host, passwords):
    missing = [login for login in ways_in.logins(host) if login not in passwords]
    if missing:
        raise ValueError(f"passwords has no entry for {', '.join(missing)}. Add one for each")
    wrong = [login for login, password in sorted(passwords.items()) if not PASSWORD.match(str(password))]
    if wrong:
        raise ValueError(
            f"the passwords of {', '.join(wrong)} cannot stand in its configuration. Use up to 128 letters, digits and"
            " signs without white space, quotes, backslash, number sign, braces and angle brackets"
        )
    return {login: str(password) for login, password in passwords.items()}


def _local(fragments):
    wrong = [name for name in fragments if not LOCAL.match(name)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no name of a fragment. Use small letters, digits, hyphens and underscores")
    return {f"90-local-{name}.conf": str(text).rstrip("\n") + "\n" for name, text in fragments.items()}


if __name__ == "__main__":
    main()
