#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_dns_info
short_description: Look what every authoritative server shows at the names of DKIM keys
version_added: 0.3.0
description:
  - Finds the authoritative servers of each name, at all their addresses, and asks each of them by itself, so that no
    cache and no secondary that lags can make a key look as if everybody had it.
  - The servers of a name are those of its zone's option C(servers), else those that the delegation names and those
    that they name beside them. The zone need not be in O(zones).
  - Is the evidence that M(mailops.mta.dkim_rotation) waits for. Changes nothing, needs no credentials, and never
    fails because of what DNS says; what could not be found out is unknown.
extends_documentation_fragment:
  - mailops.mta.dns.zones
  - mailops.mta.dns.resolvers
  - mailops.mta.attributes.reads
options:
  names:
    description: What to look at.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The full name.
        type: str
        required: true
      type:
        description: V(TXT) for a key, V(CNAME) for an alias that leads to one.
        type: str
        choices: [CNAME, TXT]
        default: TXT
  zones:
    default: []
seealso:
  - module: mailops.mta.dns_audit
  - module: mailops.mta.dns_records
author:
  - mailops.mta contributors (@mailops)
"""

EXAMPLES = r"""
- name: Look whether everybody can see the keys
  mailops.mta.dkim_dns_info:
    names: "{{ dkim_rotation.ask }}"
    zones: "{{ mta_dns.zones }}"
    resolvers: "{{ mta_resolvers }}"
  delegate_to: localhost
  register: dkim_dns

- name: Look at one key by hand
  mailops.mta.dkim_dns_info:
    names:
      - name: mail-20261124._domainkey.example.com
      - name: a._domainkey.example.net
        type: CNAME
  delegate_to: localhost
"""

RETURN = r"""
looks:
  description: One look for each name and type, in the order of O(names).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name, lower case and without a final dot.
      type: str
      returned: always
    type:
      description: The type.
      type: str
      returned: always
    whole:
      description: Whether these are all authoritative servers of the name.
      type: bool
      returned: always
    why:
      description: What hinders to know them all.
      type: str
      returned: always
    servers:
      description:
        - What each server shows.
        - The C(status) is C(yes) with C(values) where it has records of that type at that very name, C(no) where it
          says that there are none, else C(unknown). A name that is an alias is C(yes), without values, to a look at
          V(TXT).
        - The C(ttl), in seconds, is that of the records; of C(no) it says how long that may be remembered (RFC 2308);
          of an alias it is the alias' own. It is null where it is unknown.
        - What makes it unknown stands in C(detail).
      type: list
      elements: dict
      returned: always
  sample:
    - name: mail-20261124._domainkey.example.com
      type: TXT
      whole: true
      why: ""
      servers:
        - server: ns1.example.com (192.0.2.1)
          status: "yes"
          values: ["v=DKIM1; k=rsa; p=MIIBIjAN..."]
          ttl: 3600
          detail: ""
        - server: ns2.example.com (192.0.2.2)
          status: "no"
          values: []
          ttl: 300
          detail: ""
questions:
  description: How many DNS questions were asked.
  returned: always
  type: int
  sample: 8
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.arguments import dns
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import shown
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import Question
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding, report
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns.asker import Asker

ARGUMENTS = {
    "names": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "choices": list(shown.TYPES), "default": "TXT"},
        },
    },
    "zones": {**dns.ZONES, "default": []},
    **dns.RESOLVERS,
}


def questions(entries: list[dict[str, str]]) -> tuple[list[Question], list[Finding]]:
    """Each question once, and a finding for each name that is none."""
    found, findings = [], []
    for entry in entries:
        try:
            name = names.to_ascii(entry["name"])
            problem = names.owner_problem(name)
        except ValueError as error:
            name, problem = "", str(error)
        if problem:
            findings.append(Finding("names", f"'{entry['name']}'", problem, "write a domain name"))
        found.append(Question(name, entry["type"]))
    return list(dict.fromkeys(found)), findings


def known_zones(entries: list[dict]) -> tuple[list[shown.Zone], list[Finding]]:
    found, findings = [], []
    for entry in entries:
        try:
            zone = shown.Zone.of(entry)
            for server in zone.servers:
                names.endpoint(server)
            found.append(zone)
        except ValueError as error:
            findings.append(Finding(f"zone {entry['name']}", "its name or options.servers", str(error), "correct it"))
    return found, findings


def run(module: AnsibleModule) -> None:
    params = module.params
    wanted, wrong = questions(params["names"])
    zones, problems = known_zones(params["zones"])
    if wrong or problems:
        module.fail_json(msg=f"The input is refused, nothing was asked:\n{report([*wrong, *problems])}")
    try:
        asker = Asker(params["resolvers"], params["timeout_seconds"])
    except ValueError as error:
        module.fail_json(msg=f"resolvers: {error}")
    found, asked = asker.settle(partial(shown.look, wanted, zones))
    looks_found = [each.as_dict() for each in found]
    # Else Ansible sends back all names that it was given.
    module.exit_json(changed=False, looks=looks_found, questions=asked, invocation={"module_args": {}})


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
