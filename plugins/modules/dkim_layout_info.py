#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_layout_info
short_description: Read the DKIM keys of an old signer
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Finds the keys that OpenDKIM, PowerMTA or rspamd sign with on this host by their configuration, or all keys of a
    directory, for M(mailops.mta.dkim_key_import).
  - Reads PKCS#8 and PKCS#1 in PEM form, DER in base64 form, and Ed25519 seeds in base64 form as rspamd writes them.
    All come out as PKCS#8.
  - What cannot be read is a finding and does not keep the rest from being read.
extends_documentation_fragment:
  - mailops.mta.attributes.reads
options:
  kind:
    description:
      - V(opendkim) reads an C(opendkim.conf) with its tables, V(opendkim_key_table) a C(KeyTable) alone, V(powermta)
        the lines C(domain-key selector,domain,path) of a configuration, V(rspamd) a C(dkim_signing.conf), V(directory)
        files that are named C(<domain>.<selector>.key).
    type: str
    choices: [opendkim, opendkim_key_table, powermta, rspamd, directory]
    required: true
  path:
    description:
      - The file or directory. Without it the usual one, which is C(/etc/opendkim.conf), C(/etc/opendkim/KeyTable),
        C(/etc/pmta/config), C(/etc/rspamd/local.d/dkim_signing.conf) or C(/var/lib/rspamd/dkim).
    type: path
  content:
    description:
      - Whether to return the private keys. The task must say C(no_log=true) then. Without it nothing that is returned
        is secret.
    type: bool
    default: true
requirements:
  - openssl 1.1.1 or newer
seealso:
  - module: mailops.mta.dkim_key_import
"""

EXAMPLES = r"""
- name: See which keys OpenDKIM has
  mailops.mta.dkim_layout_info:
    kind: opendkim
    content: false
  register: old_keys

- name: Read the keys of rspamd
  mailops.mta.dkim_layout_info:
    kind: rspamd
    path: /etc/rspamd/local.d/dkim_signing.conf
  register: old_keys
  no_log: true
"""

RETURN = r"""
dkim_keys:
  description: The keys.
  returned: success
  type: list
  elements: dict
  sample:
    - domain: example.com
      selector: s1
      algorithm: rsa
      bits: 2048
      fingerprint: 5f0c8d3b6a7e4e0c9f1f2a3b4c5d6e7f
      path: /etc/opendkim/keys/example.com/s1.private
private_keys:
  description: The private keys, as PKCS#8 in PEM form, by their fingerprints.
  returned: O(content=true)
  type: dict
  sample:
    5f0c8d3b6a7e4e0c9f1f2a3b4c5d6e7f: "-----BEGIN PRIVATE KEY-----..."
findings:
  description: What could not be read, or is not used by the signer.
  returned: success
  type: list
  elements: dict
  sample:
    - severity: error
      where: /etc/opendkim/KeyTable:4
      found: s1._domainkey.example.org
      why: it is not domain:selector:key
      remedy: Correct the line, or leave it out
report:
  description: The findings as text.
  returned: success
  type: str
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core import finding
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim import imports

USUAL = {
    "opendkim": "/etc/opendkim.conf",
    "opendkim_key_table": "/etc/opendkim/KeyTable",
    "powermta": "/etc/pmta/config",
    "rspamd": "/etc/rspamd/local.d/dkim_signing.conf",
    "directory": "/var/lib/rspamd/dkim",
}


def main():
    module = AnsibleModule(
        argument_spec={
            "kind": {"type": "str", "choices": sorted(USUAL), "required": True},
            "path": {"type": "path"},
            "content": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    if module.params["content"] and not module.no_log:
        module.fail_json(msg="This task returns private keys. Write 'no_log: true' into it")
    kind = module.params["kind"]
    held, findings = imports.read(
        kind, module.params["path"] or USUAL[kind], module.get_bin_path("openssl", required=True)
    )
    private = {one.public.fingerprint: one.private for one in held}
    module.exit_json(
        changed=False,
        dkim_keys=[_told(one) for one in held],
        findings=[one.as_dict() for one in findings],
        report=finding.report(findings),
        **({"private_keys": private} if module.params["content"] else {}),
    )


def _told(held):
    return {
        "domain": held.key.domain,
        "selector": held.key.selector,
        "algorithm": held.key.algorithm,
        "bits": held.public.bits,
        "fingerprint": held.public.fingerprint,
        "path": held.path,
    }


if __name__ == "__main__":
    main()
