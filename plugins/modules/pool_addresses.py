#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pool_addresses
short_description: Have the pool addresses on the interface of a host
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Adds the missing addresses now, and writes a systemd unit that adds them at every boot before Postfix starts.
    That works whether ifupdown, systemd-networkd, NetworkManager or nothing configures the network.
  - Only addresses that this module added are ever removed, and only when no Postfix instance of the host sends from
    them any more.
  - IPv6 addresses are added as deprecated, so that the kernel never chooses one for other traffic.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  addresses:
    description: Addresses that must be there, as in C(mta_addresses).
    type: list
    elements: str
    required: true
  interface:
    description: Name of the interface. Without it, the one of the default route.
    type: str
attributes:
  diff_mode:
    details: Shows the files that differ.
"""

EXAMPLES = r"""
- name: Have the pool addresses on the interface
  mailops.mta.pool_addresses:
    addresses: [203.0.113.10, "2001:db8::10"]
    interface: eth0
"""

RETURN = r"""
added:
  description: Addresses that were missing.
  returned: always
  type: list
  elements: str
  sample: [203.0.113.10]
removed:
  description: Addresses that left the list.
  returned: always
  type: list
  elements: str
  sample: []
kept:
  description: Addresses that left the list, but a Postfix instance still sends from them.
  returned: always
  type: list
  elements: str
  sample: [203.0.113.9]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.shell.host.addresses import AddressError, converge


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True},
            "interface": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        change = converge(module.params["addresses"], module.params["interface"] or "", check_mode=module.check_mode)
    except (AddressError, ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(change.added or change.removed or change.files),
        added=list(change.added),
        removed=list(change.removed),
        kept=list(change.kept),
        diff=change.diff,
    )


if __name__ == "__main__":
    main()
