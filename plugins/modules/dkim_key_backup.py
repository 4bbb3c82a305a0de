#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_key_backup
short_description: Read the whole DKIM key store as one backup
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Returns the journal and all keys of the store, the withdrawn ones too, as one compressed tar in base64 form, with
    the hash of every file. It is taken while no other run can change the store.
  - The backup holds private keys. With O(content=true) the task must say C(no_log=true), else the module fails.
    Encrypt what you write.
  - A store in which a key or the journal is damaged is not backed up, so that no good backup is replaced by a bad one.
extends_documentation_fragment:
  - mailops.mta.attributes.reads
options:
  directory:
    description: Directory of the store.
    type: path
    default: /var/lib/mailops/dkim
  content:
    description:
      - Whether to return the backup. Without it nothing that is returned is secret, so the task needs no C(no_log) and
        shows what is wrong with the store.
    type: bool
    default: true
  mark:
    description: The RV(mark) of an older backup. RV(goes_on) then says whether the store has gone on from there.
    type: str
  lock_timeout_seconds:
    description: How long to wait for another run on the same store.
    type: float
    default: 60
attributes:
  idempotent:
    details: The same store makes the same backup.
seealso:
  - module: mailops.mta.dkim_key_restore
"""

EXAMPLES = r"""
- name: See what state the key store has, and that it is in order
  mailops.mta.dkim_key_backup:
    content: false
  delegate_to: "{{ hostvars['fleet'].mta_fleet.key_host }}"
  register: dkim_store

- name: Read the key store
  mailops.mta.dkim_key_backup:
  delegate_to: "{{ hostvars['fleet'].mta_fleet.key_host }}"
  register: dkim_backup
  no_log: true
"""

RETURN = r"""
backup:
  description: The backup in base64 form.
  returned: success and O(content=true)
  type: str
  sample: H4sIAAAAAAAC/+3S...
serial:
  description: Number of the state that the journal has come to.
  returned: success
  type: int
  sample: 42
state:
  description: Name of exactly this content.
  returned: success
  type: str
  sample: 3f0c9a1be42d7705
mark:
  description: Name of the journal as it is.
  returned: success
  type: str
  sample: 5120-9a0c41d2be77f350
goes_on:
  description: Whether the journal begins with the one that O(mark) names. True without O(mark).
  returned: success
  type: bool
  sample: true
key_count:
  description: How many private keys are in it.
  returned: success
  type: int
  sample: 12
findings:
  description: What is wrong with the store.
  returned: failure
  type: list
  elements: dict
  sample:
    - severity: error
      where: /var/lib/mailops/dkim/s1._domainkey.tx.example.com.pem
      found: a key
      why: it is cut short
      remedy: Restore the file from a backup
"""

import base64
import contextlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core import finding
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim import backup
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import DIRECTORY, KeyStore, StoreError


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": DIRECTORY},
            "content": {"type": "bool", "default": True},
            "mark": {"type": "str"},
            "lock_timeout_seconds": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    if module.params["content"] and not module.no_log:
        module.fail_json(msg="This task returns private keys. Write 'no_log: true' into it")
    store = KeyStore(module.params["directory"], "openssl")
    there = os.path.lexists(store.directory)
    try:
        with store.locked(module.params["lock_timeout_seconds"]) if there else contextlib.nullcontext():
            content, findings = backup.read(store.directory)
    except (OSError, StoreError) as error:
        module.fail_json(msg=f"The key store {store.directory} cannot be read: {error}")
    if findings:
        module.fail_json(
            msg="The key store is not in order, no backup was made:\n" + finding.report(findings),
            findings=[one.as_dict() for one in findings],
        )
    packed = {"backup": base64.b64encode(backup.pack(content)).decode("ascii")} if module.params["content"] else {}
    module.exit_json(
        changed=False,
        serial=content.serial,
        state=backup.digest(content),
        mark=content.mark,
        goes_on=module.params["mark"] is None or content.goes_on_from(module.params["mark"]),
        key_count=sum(path.endswith(".pem") for path in content.files),
        **packed,
    )


if __name__ == "__main__":
    main()
