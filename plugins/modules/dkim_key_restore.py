#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_key_restore
short_description: Bring a backup into the DKIM key store
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Adds the keys and the lines of the journal that the backup has and the store has not. What the store has more than
    the backup stays. Keys that either of the two knows as withdrawn are withdrawn afterwards.
  - Nothing is overwritten. Where a key differs, or the two journals have gone different ways, nothing is done at all.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  directory:
    description: Directory of the store. It is made where it is missing.
    type: path
    default: /var/lib/mailops/dkim
  backup:
    description: What M(mailops.mta.dkim_key_backup) returned.
    type: str
    required: true
  lock_timeout_seconds:
    description: How long to wait for another run on the same store.
    type: float
    default: 60
attributes:
  check_mode:
    details: Tells what would be added, and what is in the way.
  diff_mode:
    details: Shows the names of the files and the serial of the journal.
  idempotent:
    details: A store that has all of the backup stays as it is.
requirements:
  - openssl 1.1.1 or newer
seealso:
  - module: mailops.mta.dkim_key_backup
"""

EXAMPLES = r"""
- name: Restore the key store
  mailops.mta.dkim_key_restore:
    backup: "{{ dkim_backup.backup }}"
  delegate_to: "{{ hostvars['fleet'].mta_fleet.key_host }}"
  vars:
    ansible_pipelining: true # without it the keys would stand in a temporary file of Ansible for a moment
"""

RETURN = r"""
added:
  description: Files that were added, or would be.
  returned: success
  type: list
  elements: str
  sample: [s1._domainkey.tx.example.com.pem, s1._domainkey.tx.example.com.pub]
withdrawn:
  description: Names of keys that were usable here and are withdrawn by the backup.
  returned: success
  type: list
  elements: str
  sample: []
serial:
  description: Number of the state that the store has afterwards.
  returned: success
  type: int
  sample: 42
serial_before:
  description: Number of the state that the store had.
  returned: success
  type: int
  sample: 0
serial_backup:
  description: Number of the state in the backup.
  returned: success
  type: int
  sample: 42
findings:
  description: What is in the way.
  returned: failure
  type: list
  elements: dict
  sample:
    - severity: error
      where: /var/lib/mailops/dkim/s1._domainkey.tx.example.com.pem
      found: another key
      why: the backup has another key of this name, and no key is ever overwritten
      remedy: Find out which of the two the record in DNS belongs to; move the other file away and run again
"""

import base64
import binascii
import contextlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core import finding
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import store as keystore
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim import backup
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import DIRECTORY, KeyStore, StoreError


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": DIRECTORY},
            "backup": {"type": "str", "required": True, "no_log": True},
            "lock_timeout_seconds": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    store = KeyStore(module.params["directory"], module.get_bin_path("openssl", required=True))
    lock = contextlib.nullcontext() if module.check_mode else store.locked(module.params["lock_timeout_seconds"])
    try:
        given = backup.unpack(base64.b64decode(module.params["backup"], validate=True))
        _refuse(module, "The backup", keystore.problems(given, "backup"))
        with lock:
            held, problems = backup.read(store.directory)
            _refuse(module, "The key store", store.survey([]).findings + problems)
            merge = keystore.merge(held, given, store.directory)
            _refuse(module, "The backup does not fit the store, which", merge.findings)
            if not module.check_mode:
                backup.apply(store, merge)
    except (binascii.Error, backup.BackupError) as error:
        module.fail_json(msg=f"The backup cannot be read: {error}")
    except (OSError, StoreError) as error:
        module.fail_json(
            msg=f"The key store {store.directory} cannot be used: {error}. "
            "What was added before this stays. Run again when the cause is gone."
        )
    after = max(held.serial, given.serial) if merge.journal is not None else held.serial
    module.exit_json(
        changed=merge.changes,
        added=sorted(merge.add),
        withdrawn=list(merge.archive),
        serial=after,
        serial_before=held.serial,
        serial_backup=given.serial,
        diff={
            "before": _listing(held.serial, held.files),
            "after": _listing(after, {*held.files, *merge.add}),
            "before_header": store.directory,
            "after_header": store.directory,
        },
    )


def _refuse(module, what, findings):
    if findings:
        module.fail_json(
            msg=f"{what} is not in order, nothing was changed:\n" + finding.report(findings),
            findings=[one.as_dict() for one in findings],
        )


def _listing(serial, paths):
    return "".join(f"{line}\n" for line in [f"serial {serial}", *sorted(paths)])


if __name__ == "__main__":
    main()
