#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_rules
short_description: Close the listeners of a mail host to strangers, and port 25 to mail from a wrong address
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Keeps one table of nftables, C(inet mailops), in the kernel, and writes a systemd unit that loads it at every boot.
    Other tables are never touched, and neither is any port but those of O(listeners) and outgoing port 25.
  - A listener accepts new connections from its networks and from the host itself. Other sources are refused with
    a TCP reset, or, where the listener has logins, limited in number.
  - New connections to port 25 of other hosts are refused unless they come from one of O(sources).
  - The table is checked before it is used and replaced in one transaction. Connections that are open stay open.
  - A table that was flushed or edited by hand is loaded again.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  state:
    description: C(absent) removes the table, its file and its unit.
    type: str
    choices: [present, absent]
    default: present
  listeners:
    description: Ports of this host on which applications hand in mail.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: A comment in the table.
        type: str
        required: true
      port:
        description: The TCP port.
        type: int
        required: true
      networks:
        description: Networks that may connect.
        type: list
        elements: str
        default: []
      logins:
        description: Whether others may connect as well, in a limited number, to log in.
        type: bool
        default: false
  bounces:
    description: Addresses of this host on which port 25 is open to all.
    type: list
    elements: str
    default: []
  forwards:
    description: Hosts to whose port 25 any address of this host may connect.
    type: list
    elements: str
    default: []
  sources:
    description:
      - Addresses of this host that may connect to port 25 of other hosts. Addresses that
        M(mailops.mta.pool_addresses) still keeps, because an MTA sends from them, are added.
    type: list
    elements: str
    default: []
  connections_per_source:
    description: How many connections to a listener with logins a source may have that is in none of its networks.
      An IPv6 source is a /64.
    type: int
    default: 20
  connections:
    description: How many connections all such sources together may have to one listener.
    type: int
    default: 50
  ssh_ports:
    description: Ports on which ssh answers. A listener on one of them is an error, because its rule would close the
      port to you.
    type: list
    elements: int
    default: [22]
attributes:
  check_mode:
    details: Checks the new table with nft and says what would change.
  diff_mode:
    details: Shows the files that differ, and the table where it was changed by hand.
"""

EXAMPLES = r"""
- name: Close the injection ports to strangers
  mailops.mta.firewall_rules:
    listeners:
      - {name: stream transactional, port: 2525, networks: [10.0.0.0/8], logins: true}
      - {name: stream bulk, port: 2527, networks: [10.0.0.0/8, "2001:db8:1::/64"]}
    sources: [203.0.113.10, 203.0.113.20, "2001:db8::10"]

- name: Take the table away
  mailops.mta.firewall_rules:
    state: absent
"""

RETURN = r"""
loaded:
  description: Whether the table in the kernel was replaced or removed.
  returned: always
  type: bool
  sample: true
files:
  description: Files that were written or removed.
  returned: always
  type: list
  elements: str
  sample: [/etc/mailops/firewall.nft]
kept:
  description: Further addresses that may connect to port 25, because an MTA still sends from them.
  returned: always
  type: list
  elements: str
  sample: [203.0.113.9]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.host import firewall as table
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import addresses, firewall


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "listeners": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "networks": {"type": "list", "elements": "str", "default": []},
                    "logins": {"type": "bool", "default": False},
                },
            },
            "bounces": {"type": "list", "elements": "str", "default": []},
            "forwards": {"type": "list", "elements": "str", "default": []},
            "sources": {"type": "list", "elements": "str", "default": []},
            "connections_per_source": {"type": "int", "default": table.CONNECTIONS_PER_SOURCE},
            "connections": {"type": "int", "default": table.CONNECTIONS},
            "ssh_ports": {"type": "list", "elements": "int", "default": [22]},
        },
        supports_check_mode=True,
    )
    given = module.params
    kept: tuple = ()
    try:
        if given["state"] == "absent":
            change = firewall.remove(check_mode=module.check_mode)
        else:
            closed = table.closing(given["listeners"], given["ssh_ports"])
            if closed:
                module.fail_json(
                    msg=f"ssh answers on the port of {', '.join(closed)}, and the table would close the port to you."
                    " Choose another port for the listener. Nothing was changed."
                )
            kept = addresses.still_sending(given["sources"])
            rules = table.rules(given["listeners"], given["bounces"], given["forwards"], [*given["sources"], *kept])
            text = table.text(rules, given["connections_per_source"], given["connections"])
            change = firewall.converge(text, check_mode=module.check_mode)
    except (firewall.FirewallError, ValueError, OSError) as error:
        module.fail_json(msg=f"{error}. The table of this host was not changed.")
    module.exit_json(
        changed=bool(change.loaded or change.files or change.boot),
        loaded=change.loaded,
        files=list(change.files),
        kept=list(kept),
        diff=change.diff,
    )


if __name__ == "__main__":
    main()
