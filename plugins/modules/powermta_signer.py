#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: powermta_signer
short_description: Tell PowerMTA which DKIM keys sign
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Writes a line C(domain-key) for each key that signs into a file of its domain in PowerMTA's configuration,
    with the state of the key store that they are of. It is the counterpart of M(mailops.mta.dkim_signer).
  - The fragment becomes part of a new set of the whole configuration, which takes the place of the old one at once and
    is read by a reload. Where PowerMTA refuses it, the old set comes back and runs on.
  - A PowerMTA that does not run, or does not run with a configuration of this collection yet, is left as it is. It
    reads the fragment once the role C(powermta) starts it.
  - A key must be on the host, whole and with the right owner and mode, before anything is changed. Files of keys that
    are not in the list are deleted at last, after PowerMTA has left them. They stay in the key store. Files whose names
    are not those of such keys are left alone.
  - A state of the key store that is older than the one that was brought here before is refused, and nothing is touched.
  - PowerMTA signs with one RSA key of a domain and with no Ed25519 key.
  - A run that is killed is finished by the next one.
extends_documentation_fragment:
  - mailops.mta.dkim.state
  - mailops.mta.attributes
options:
  directory:
    description: Directory of the signer, with the keys in its directory C(keys).
    type: path
    default: /etc/pmta/dkim
  domains:
    description:
      - Domains that this host signs for. The key of any other domain stays for O(keep_days). PowerMTA signs as it
        delivers, and mail that it took before would leave unsigned.
    type: list
    elements: str
    required: true
  keep_days:
    description: How long the key of a domain that left stays on the host. Its record stays in DNS for ten days too.
    type: int
    default: 10
  version:
    description: Version of PowerMTA, for the directives that it has.
    type: str
    default: "5.0"
  keys:
    description:
      - The keys that the host holds. M(mailops.mta.dkim_signer_key) has brought them.
      - Ed25519 keys are left aside.
  signing:
    description:
      - Those of O(keys) that sign, one of each domain. An Ed25519 key is refused.
      - PowerMTA does not refuse mail of a domain that has no key. It would leave unsigned.
attributes:
  check_mode:
    details: The whole new configuration is checked in check mode as well.
  diff_mode:
    details: Shows the fragment. Of keys that go it shows the names only.
  idempotent:
    details: Nothing is written or reloaded where everything is in place and PowerMTA has read it.
"""

EXAMPLES = r"""
- name: Tell PowerMTA which keys sign
  mailops.mta.powermta_signer:
    serial: "{{ rotation.serial }}"
    domains: "{{ mta_dkim.domains }}"
    keys: "{{ rotation.holding | selectattr('domain', 'in', mta_dkim.domains) }}"
    signing: "{{ rotation.signing | selectattr('domain', 'in', mta_dkim.domains) }}"
"""

RETURN = r"""
files:
  description: Files that were written or deleted, or would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/pmta/conf.d/70-dkim.conf]
effort:
  description:
    - What it took to have PowerMTA use the keys, or would take. V(load) is a new set that PowerMTA need not read at
      once, because nothing but the number of the state has changed, or because it does not run.
  returned: success
  type: str
  sample: reload
"""

import datetime
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.arguments import dkim
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import checks
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import dkim as powermta_dkim
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.effort import NOTHING
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": key_files.SIGNERS[key_files.POWERMTA].directory},
            "domains": {"type": "list", "elements": "str", "required": True},
            "keep_days": {"type": "int", "default": 10},
            "version": {"type": "str", "default": checks.VERSION},
            **dkim.STATE,
        },
        supports_check_mode=True,
    )
    try:
        result = configure(module.params, module.check_mode)
    except (key_files.SignerError, configuration.PowermtaError) as error:
        module.fail_json(msg=f"The signer was not changed: {error}")
    except OSError as error:
        module.fail_json(msg=f"The signer cannot be configured: {error}")
    module.exit_json(**result)


def configure(params, check_mode, root=configuration.ROOT):
    """``root``: PowerMTA's own directory. Raises SignerError, PowermtaError, OSError."""
    files = key_files.of(key_files.POWERMTA, params["directory"])
    if check_mode:
        return _configure(files, params, check_mode, root)
    files.make_directories()
    with key_files.alone(files.directory), configuration.alone(root):
        return _configure(files, params, check_mode, root)


def _configure(files, params, check_mode, root):
    """Refuses before anything is touched, then goes from what can be undone to what cannot."""
    serial = params["serial"]
    keys = [(key_files.key_of(given), given["private"]) for given in params["keys"]]
    keys = [(key, private) for key, private in keys if key.algorithm in files.algorithms]
    signing = [key_files.key_of(given) for given in params["signing"]]
    path = os.path.join(configuration.Paths(root).conf_d, powermta_dkim.FRAGMENT)
    try:
        before = powermta_dkim.installed(configuration.current(root))
    except ValueError as error:
        remedy = "Put back the fragment that the role dkim wrote, or delete it, and run mailops.mta.rotate_dkim"
        raise key_files.SignerError(f"{path}: {error}, so an older one cannot be refused. {remedy}") from None
    key_files.refuse_older(path, before.serial, serial)
    staying = powermta_dkim.staying(before, params["domains"], datetime.date.today(), params["keep_days"])
    staying = [one for one in staying if os.path.exists(one.path)]
    try:
        texts = powermta_dkim.domain_keys(signing, serial, files.place, params["domains"], staying, before.files)
    except ValueError as error:
        raise key_files.SignerError(str(error)) from None
    key_files.refuse_missing(files, keys, signing, check_mode)
    change = configuration.apply(texts, check_mode=check_mode, version=params["version"], root=root)
    # PowerMTA has left them, or will not find them when it starts.
    stale = files.stale((key for key, _private in keys), strangers=False)
    stale = [path for path in stale if path not in {one.path for one in staying}]
    if configuration.running() and not (check_mode or configuration.in_force(root)):
        stale = []  # it runs with another configuration, which may name them
    if not check_mode:
        for one in stale:
            os.unlink(one)
    return {
        "changed": bool(change.changed or stale or change.effort != NOTHING),
        "files": sorted([*change.changed, *stale]),
        "effort": change.effort,
        "diff": [*change.diff, *({"before_header": one, "before": "a file\n", "after": ""} for one in stale)],
    }


if __name__ == "__main__":
    main()
