#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_private_key_info
short_description: Read private DKIM keys from the key store
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Returns the private keys that a signing host needs, for M(mailops.mta.dkim_signer_key). They travel in memory only.
  - The task must say C(no_log=true). Without it the module fails, since Ansible would print the keys.
  - Each key is checked against its public part before it is given away.
extends_documentation_fragment:
  - mailops.mta.dkim.wanted
  - mailops.mta.attributes.reads
options:
  directory:
    description: Directory of the store.
    type: path
    default: /var/lib/mailops/dkim
attributes:
  check_mode:
    details: It changes nothing. Keys that are missing are left out in check mode and a failure otherwise.
"""

EXAMPLES = r"""
- name: Read the private keys of this signer
  mailops.mta.dkim_private_key_info:
    keys: "{{ dkim_rotation.holding | selectattr('domain', 'in', mta_dkim.domains) }}"
  delegate_to: "{{ hostvars['fleet'].mta_fleet.key_host }}"
  register: private_keys
  no_log: true
"""

RETURN = r"""
private_keys:
  description: The keys as they were asked for in the order of O(keys), with their private part.
  returned: success
  type: list
  elements: dict
  sample:
    - domain: tx.example.com
      selector: s1
      algorithm: rsa
      private_key: "-----BEGIN PRIVATE KEY-----..."
missing:
  description: Names of the keys that are not in the store. Not empty in check mode only.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.arguments import dkim
from ansible_collections.mailops.mta.plugins.module_utils.core import finding
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import DIRECTORY, KeyStore


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": DIRECTORY},
            **dkim.WANTED,
        },
        supports_check_mode=True,
    )
    if not module.no_log:
        module.fail_json(msg="This task returns private keys. Write 'no_log: true' into it")
    store = KeyStore(module.params["directory"], module.get_bin_path("openssl", required=True))
    wanted = {_key(given): given for given in module.params["keys"] if given["private"]}
    found = store.survey([_key(given) for given in module.params["keys"] if given["private"]])
    findings = found.findings + [
        Finding(
            f"{store.directory}/{key.name}.pem",
            f"fingerprint {found.public[key.name].fingerprint}",
            f"the key with {given['fingerprint']} is wanted",
            "Look with rotate_dkim.yml which key is in use, and restore that one from a backup",
        )
        for key, given in wanted.items()
        if key.name in found.public and given["fingerprint"] not in (None, found.public[key.name].fingerprint)
    ]
    missing = [key.name for key in found.missing]
    if findings:
        module.fail_json(
            msg="The key store is not in order, no key was read:\n" + finding.report(findings),
            findings=[one.as_dict() for one in findings],
        )
    if missing and not module.check_mode:
        module.fail_json(msg=f"The key store {store.directory} has no {', '.join(missing)}. Run dkim_rotation first")
    module.exit_json(
        changed=False,
        missing=missing,
        private_keys=[
            {
                **{name: given[name] for name in ("domain", "selector", "algorithm", "fingerprint") if given[name]},
                "private_key": found.private[key.name],
            }
            for key, given in wanted.items()
            if key.name in found.private
        ],
    )


def _key(given):
    return Key(given["domain"], given["selector"], given["algorithm"])


if __name__ == "__main__":
    main()
