#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_key_import
short_description: Take keys of an old signer over into the DKIM key store
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Places keys in the store under their selectors, and makes each the first key of its series. Rotation goes on from
    there as with a key of its own.
  - Keys for which the fleet does not sign are left out. Where any other key does not fit, nothing is imported, and no
    key is ever overwritten.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  directory:
    description: Directory of the store. It is made where it is missing.
    type: path
    default: /var/lib/mailops/dkim
  series:
    description: The series of the fleet. This is C(mta_dkim_series) of the host C(fleet).
    type: list
    elements: dict
    required: true
  dkim_keys:
    description: The keys, without anything secret. This is what M(mailops.mta.dkim_layout_info) returned.
    type: list
    elements: dict
    required: true
    suboptions:
      domain:
        description: Signing domain.
        type: str
        required: true
      selector:
        description: Selector.
        type: str
        required: true
      fingerprint:
        description: First 32 hexadecimal digits of SHA-256 over the public key (SubjectPublicKeyInfo).
        type: str
        required: true
      algorithm:
        description: Algorithm. It is read from the key.
        type: str
      bits:
        description: Size. It is read from the key.
        type: int
      path:
        description: Where the key lay.
        type: str
  private_keys:
    description: The private keys by their fingerprints. This is what M(mailops.mta.dkim_layout_info) returned.
    type: dict
    required: true
  without:
    description: Paths of keys that are not to be imported.
    type: list
    elements: str
    default: []
  lock_timeout_seconds:
    description: How long to wait for another run on the same store.
    type: float
    default: 60
attributes:
  check_mode:
    details: Tells which keys would be imported, and which do not fit.
  diff_mode:
    support: none
    details: The names are in RV(imported).
  idempotent:
    details: A key that was imported before stays as it is.
requirements:
  - openssl 1.1.1 or newer
seealso:
  - module: mailops.mta.dkim_layout_info
"""

EXAMPLES = r"""
- name: Read the keys of the old signer
  mailops.mta.dkim_layout_info:
    kind: opendkim
  delegate_to: old.example.com
  register: old_keys
  no_log: true

- name: Take them over
  mailops.mta.dkim_key_import:
    series: "{{ hostvars['fleet'].mta_dkim_series }}"
    dkim_keys: "{{ old_keys.dkim_keys }}"
    private_keys: "{{ old_keys.private_keys }}"
  delegate_to: "{{ hostvars['fleet'].mta_fleet.key_host }}"
  vars:
    ansible_pipelining: true # without it the keys would stand in a temporary file of Ansible for a moment
"""

RETURN = r"""
imported:
  description: Names of the keys that were imported, or would be.
  returned: success
  type: list
  elements: str
  sample: [s1._domainkey.example.com]
present:
  description: Names of the keys that were imported before.
  returned: success
  type: list
  elements: str
  sample: []
serial:
  description: Number of the state that the store has afterwards.
  returned: success
  type: int
  sample: 1
findings:
  description: Which keys were left out, or do not fit, and why.
  returned: always
  type: list
  elements: dict
  sample:
    - severity: warning
      where: s1._domainkey.example.net
      found: a key to import
      why: the fleet does not sign for this domain with this algorithm
      remedy: Let a stream send with it and import again, or leave it out
"""

import contextlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core import finding
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.imports import Import
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import DIRECTORY, KeyStore, StoreError


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": DIRECTORY},
            "series": {"type": "list", "elements": "dict", "required": True},
            "dkim_keys": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "domain": {"type": "str", "required": True},
                    "selector": {"type": "str", "required": True},
                    "fingerprint": {"type": "str", "required": True},
                    "algorithm": {"type": "str"},
                    "bits": {"type": "int"},
                    "path": {"type": "str"},
                },
            },
            "private_keys": {"type": "dict", "required": True, "no_log": True},
            "without": {"type": "list", "elements": "str", "default": []},
            "lock_timeout_seconds": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    store = KeyStore(module.params["directory"], module.get_bin_path("openssl", required=True))
    given = [one for one in module.params["dkim_keys"] if one["path"] not in module.params["without"]]
    lock = contextlib.nullcontext() if module.check_mode else store.locked(module.params["lock_timeout_seconds"])
    try:
        with lock:
            result = Import(store, module.params["series"], module.check_mode).go(given, module.params["private_keys"])
    except KeyError as error:
        module.fail_json(msg=f"An entry of series has no {error}. Give it mta_dkim_series")
    except (OSError, StoreError) as error:
        module.fail_json(
            msg=f"The key store {store.directory} cannot be used: {error}. "
            "Keys that were placed before this stay. Run again when the cause is gone."
        )
    findings = [one.as_dict() for one in result.findings]
    if finding.errors(result.findings):
        module.fail_json(msg="Nothing was imported:\n" + finding.report(result.findings), findings=findings)
    for one in result.findings:
        module.warn(str(one))
    module.exit_json(
        changed=bool(result.imported),
        imported=list(result.imported),
        present=list(result.present),
        serial=result.serial,
        findings=findings,
    )


if __name__ == "__main__":
    main()
