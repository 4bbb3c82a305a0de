#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_signer_key
short_description: Bring private DKIM keys to a signing host
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Writes the private keys of a signing host in the form that its signer reads, for root and the signer's group only.
  - A file's name ends in the first eight digits of its key's fingerprint, so another key is another file, and a file
    that is in use is never written again. Bringing a key makes nothing sign with it, see M(mailops.mta.dkim_signer) and
    M(mailops.mta.powermta_signer).
  - A key that does not have the fingerprint that is asked for is refused, and no key is written.
  - The keys come from M(mailops.mta.dkim_private_key_info) through the controller's memory. No other key is touched.
  - The task must say C(no_log=true), else the module fails.
extends_documentation_fragment:
  - mailops.mta.dkim.brought
  - mailops.mta.attributes
options:
  signer:
    description:
      - What signs on this host. It decides the form of the keys and the group that may read them.
      - PowerMTA reads RSA keys in PEM form. Ed25519 keys are left aside for it, since it cannot sign with them.
    type: str
    choices: [rspamd, powermta]
    default: rspamd
  directory:
    description:
      - Directory of the signer. The keys are written into its directory C(keys).
      - By default C(/etc/rspamd/mailops) or C(/etc/pmta/dkim).
    type: path
attributes:
  check_mode:
    details: Tells whether keys would be written.
  diff_mode:
    support: none
    details: It would show secrets.
  idempotent:
    details: A key that is in place with the right owner and mode is not written.
requirements:
  - rspamd or PowerMTA, outside of check mode
"""

EXAMPLES = r"""
- name: Bring private keys to this signer
  mailops.mta.dkim_signer_key:
    signer: "{{ mta_dkim.signer }}"
    keys: "{{ private_keys }}"
  no_log: true
"""

RETURN = r"""
written:
  description: How many keys were written, or would be.
  returned: success
  type: int
  sample: 2
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.arguments import dkim
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import for_rspamd
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files, private_key


def main():
    module = AnsibleModule(
        argument_spec={
            "signer": {"type": "str", "choices": list(key_files.SIGNERS), "default": key_files.RSPAMD},
            "directory": {"type": "path"},
            **dkim.BROUGHT,
        },
        supports_check_mode=True,
    )
    if not module.no_log:
        module.fail_json(msg="This task carries private keys. Write 'no_log: true' into it")
    held = key_files.of(module.params["signer"], module.params["directory"])
    readable = [given for given in module.params["keys"] if given["algorithm"] in held.algorithms]
    try:
        changed = install.differing([_file(held, given) for given in readable])
        if changed and not module.check_mode:
            held.make_directories()
            with key_files.alone(held.directory):
                install.write(changed)
    except (OSError, ValueError, key_files.SignerError) as error:
        module.fail_json(msg=f"The keys cannot be brought to the signer: {error}")
    coming = [one for one in module.params["to_be_made"] if one["algorithm"] in held.algorithms and module.check_mode]
    module.exit_json(changed=bool(changed or coming), written=len(changed) + len(coming))


def _file(held, given):
    key = key_files.key_of(given)
    content = for_rspamd(given["private_key"]).encode("ascii")  # an RSA key as it is, which PowerMTA reads too
    public = private_key.SignersKey(content).public
    if (public.algorithm, public.fingerprint) != (key.algorithm, key.fingerprint):
        raise ValueError(
            f"{key.file}: the private key is {public.algorithm} with the fingerprint {public.fingerprint}, "
            f"{key.algorithm} with {key.fingerprint} is asked for. The key store has another key under this name: "
            "look at it with mailops.mta.rotate_dkim before any key is changed"
        )
    return held.file(key, content)


if __name__ == "__main__":
    main()
