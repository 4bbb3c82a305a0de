#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_key
short_description: Make DKIM keys in the key store
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Makes the keys that are missing in the store of the host it runs on, and returns the DNS records of all keys.
  - Only public parts are returned. Private keys stay in the store. C(openssl) makes them and hands them over in a pipe.
  - A key that is there is never made anew. One that has another algorithm or size, is cut short, does not belong to its
    public part, or can be read by others is a finding. Then the module fails with all findings and makes nothing.
  - A new file is complete and on disk before it gets its name. Two runs at once wait for each other.
options:
  directory:
    description:
      - Directory of the store. It is made with mode C(0700) where it is missing.
      - It belongs to the user that runs this module, and so do its files.
    type: path
    default: /var/lib/mailops/dkim
  keys:
    description: The keys that must be there. This is the variable C(mta_dkim_keys) of the host C(fleet).
    type: list
    elements: dict
    required: true
    suboptions:
      domain:
        description: Signing domain, as A-labels.
        type: str
        required: true
      selector:
        description: Selector, one label.
        type: str
        required: true
      algorithm:
        description: Algorithm of the key.
        type: str
        choices: [rsa, ed25519]
        required: true
      bits:
        description: Size. V(2048), V(3072) or V(4096) for RSA, V(256) for Ed25519.
        type: int
        required: true
      ttl:
        description: TTL of its record in seconds.
        type: int
        default: 3600
      record:
        description:
          - The name at which its record stands, where that is not C(<selector>._domainkey.<domain>) and an alias leads
            to it.
        type: str
  lock_timeout_seconds:
    description: How long to wait for another run on the same store.
    type: float
    default: 60
attributes:
  check_mode:
    support: full
    description: Tells which keys would be made. Their records have null values then.
  diff_mode:
    support: full
    description: Shows the names of the keys.
  idempotent:
    support: full
    description: A key that is there stays as it is.
notes:
  - To give a domain another key, give it another selector. The old key stays in the store.
requirements:
  - openssl 1.1.1 or newer
"""

EXAMPLES = r"""
- name: Make the missing keys on the key host
  mailops.mta.dkim_key:
    keys: "{{ hostvars['fleet'].mta_dkim_keys }}"
  delegate_to: "{{ hostvars['fleet'].mta_fleet.key_host }}"
  register: dkim_keys

- name: Make two keys
  mailops.mta.dkim_key:
    keys:
      - {domain: tx.example.com, selector: s1, algorithm: rsa, bits: 2048}
      - {domain: tx.example.com, selector: s1-ed25519, algorithm: ed25519, bits: 256}
"""

RETURN = r"""
records:
  description: The record set of each key in the order of O(keys). Can be given to M(mailops.mta.dns_records).
  returned: success
  type: list
  elements: dict
  sample:
    - name: s1-ed25519._domainkey.tx.example.com
      type: TXT
      ttl: 3600
      values: ["v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
      reason: DKIM key (ed25519) of tx.example.com
created:
  description: Names of the keys that were made, or would be.
  returned: success
  type: list
  elements: str
  sample: [s1._domainkey.tx.example.com]
findings:
  description: What is wrong with the store.
  returned: failure
  type: list
  elements: dict
  sample:
    - severity: error
      where: /var/lib/mailops/dkim/s1._domainkey.tx.example.com.pem
      found: s1._domainkey.tx.example.com
      why: it is cut short
      remedy: Restore the file from a backup, or give the key a new selector in the fleet file
"""

import contextlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core import finding
from ansible_collections.mailops.mta.plugins.module_utils.core.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.shell.keys import DIRECTORY, KeyStore, StoreError


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": DIRECTORY},
            "keys": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "domain": {"type": "str", "required": True},
                    "selector": {"type": "str", "required": True},
                    "algorithm": {"type": "str", "choices": ["rsa", "ed25519"], "required": True},
                    "bits": {"type": "int", "required": True},
                    "ttl": {"type": "int", "default": 3600},
                    "record": {"type": "str"},
                },
            },
            "lock_timeout_seconds": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    store = KeyStore(module.params["directory"], module.get_bin_path("openssl", required=True))
    wanted = {_key(given): given for given in module.params["keys"]}
    lock = contextlib.nullcontext() if module.check_mode else store.locked(module.params["lock_timeout_seconds"])
    try:
        with lock:
            found = store.survey([_key(given) for given in module.params["keys"]])
            if found.findings:
                module.fail_json(
                    msg="The key store is not in order, nothing was changed:\n" + finding.report(found.findings),
                    findings=[one.as_dict() for one in found.findings],
                )
            public = dict(found.public)
            if not module.check_mode:
                for key in found.unsealed:
                    store.seal(key, found)
                public.update(store.make_all(found.missing))
    except (OSError, StoreError) as error:
        module.fail_json(
            msg=f"The key store {store.directory} cannot be used: {error}. "
            "Keys that were made before this stay. Run again when the cause is gone."
        )
    created = [key.name for key in found.missing]
    before = sorted(found.public)
    module.exit_json(
        changed=bool(created or found.unsealed),
        created=created,
        records=[_record(key, given, public.get(key.name)) for key, given in wanted.items()],
        diff={
            "before": "".join(f"{name}\n" for name in before),
            "after": "".join(f"{name}\n" for name in sorted([*before, *created])),
            "before_header": store.directory,
            "after_header": store.directory,
        },
    )


def _key(given):
    return Key(given["domain"], given["selector"], given["algorithm"], given["bits"])


def _record(key, given, public):
    return {
        "name": given["record"] or key.name,
        "type": "TXT",
        "ttl": given["ttl"],
        "values": [public.record] if public else None,
        "reason": f"DKIM key ({key.algorithm}) of {key.domain}",
    }


if __name__ == "__main__":
    main()
