#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_signer_info
short_description: Find out with which DKIM keys a host really signs
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Shows a running rspamd a message for each domain through its milter socket, as Postfix does. A milter only
    answers, so nothing is delivered. Each signature that comes back is verified with the key files of the host. So it
    is not a configuration that tells what signs, but signatures.
  - PowerMTA has nothing that could be asked in this way. There it is its configuration that tells, and only where the
    running PowerMTA has read what is in place. For each domain it is the key that its lines C(domain-key) select, whose
    file must be whole. That a signature comes of it shows at a receiver only (M(mailops.mta.sink_info)).
  - Tells also which keys the host holds, whole and with the right owner and mode, and which state of the key store it
    was given.
  - Private keys are read and never returned.
  - A signer that is broken or absent is no failure, but what was to be found out.
extends_documentation_fragment:
  - mailops.mta.attributes.reads
options:
  signer:
    description: What signs on this host.
    type: str
    choices: [rspamd, powermta]
    default: rspamd
  directory:
    description: Directory of the signer. By default C(/etc/rspamd/mailops) or C(/etc/pmta/dkim).
    type: path
  socket:
    description: Path of the milter socket of rspamd.
    type: path
  domains:
    description: Domains that the host signs for. Those that it was told to sign for before are asked about as well.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Find out what signs here
  mailops.mta.dkim_signer_info:
    signer: "{{ mta_dkim.signer }}"
    socket: "{{ mta_dkim.socket }}"
    domains: "{{ mta_dkim.domains }}"
  register: found
"""

RETURN = r"""
signer:
  description: What was found.
  returned: always
  type: dict
  sample:
    serial: 17
    clock: 1795561200.5
    signs:
      - domain: tx.example.com
        selector: mail-20261124
        algorithm: rsa
        fingerprint: 0123456789abcdef0123456789abcdef
    unknown: []
    holds:
      - domain: tx.example.com
        selector: mail-20261124
        algorithm: rsa
        fingerprint: 0123456789abcdef0123456789abcdef
    problems: []
  contains:
    serial:
      description: State of the key store that was brought last. Null where there is none.
      type: int
    clock:
      description: The host's clock, seconds since 1970.
      type: float
    signs:
      description:
        - Keys that made a signature which was verified, or that PowerMTA's configuration selects. Null where the signer
          does not answer, or where PowerMTA does not run with what is in place.
      type: list
      elements: dict
    unknown:
      description:
        - Domains whose message was not signed, or by a key that lies in no file here, or not by one key whatever way it
          takes through PowerMTA. They have no entry in C(signs).
      type: list
      elements: str
    holds:
      description: Keys that the host could sign with.
      type: list
      elements: dict
    problems:
      description: What is wrong.
      type: list
      elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import evidence, key_files, powermta


def main():
    module = AnsibleModule(
        argument_spec={
            "signer": {"type": "str", "choices": list(key_files.SIGNERS), "default": key_files.RSPAMD},
            "directory": {"type": "path"},
            "socket": {"type": "path"},
            "domains": {"type": "list", "elements": "str", "required": True},
        },
        required_if=[("signer", key_files.RSPAMD, ["socket"])],
        supports_check_mode=True,
    )
    held = key_files.of(module.params["signer"], module.params["directory"])
    if module.params["signer"] == key_files.POWERMTA:
        found = powermta.gather(held.directory, module.params["domains"])
    else:
        found = evidence.gather(held.directory, module.params["socket"], module.params["domains"])
    module.exit_json(changed=False, signer={**found, "clock": time.time()})


if __name__ == "__main__":
    main()
