#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_signer
short_description: Configure rspamd as a DKIM signer
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Writes the signer's configuration, rules and systemd drop-in as one set, and makes the service use it.
  - The set is tested with C(rspamadm configtest) in a copy first. Afterwards the signer must answer on its socket.
    Where it does not, all files are put back as they were and the old configuration runs on.
  - A change is a reload, which keeps the socket open, except for a change of the drop-in, which needs a restart.
  - Keys that are not in the list are deleted from the host once the new configuration runs. They stay in the key store.
options:
  directory:
    description: Directory of the configuration, with the keys in its directory C(keys).
    type: path
    default: /etc/rspamd/mailops
  socket:
    description: Path of the milter socket that the configuration opens.
    type: path
    required: true
  configuration:
    description:
      - Content of C(rspamd.conf). C(@CPUS@) in it stands for the number of the host's CPUs.
    type: str
    required: true
  rules:
    description: Content of C(signing.lua).
    type: str
    required: true
  unit:
    description: Content of the drop-in C(/etc/systemd/system/rspamd.service.d/mailops.conf).
    type: str
    required: true
  keys:
    description: The keys that the configuration names. M(mailops.mta.dkim_signer_key) has brought them.
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
      algorithm:
        description: Algorithm of the key.
        type: str
        choices: [rsa, ed25519]
        required: true
attributes:
  check_mode:
    support: full
    description: Where rspamd is installed, the new configuration is tested in check mode as well.
  diff_mode:
    support: full
    description: Shows the files. Of keys that go it shows the names only.
  idempotent:
    support: full
    description: Nothing is written or reloaded where the set is in place and the service runs.
"""

EXAMPLES = r"""
- name: Configure the signer
  mailops.mta.dkim_signer:
    socket: "{{ mta_dkim.socket }}"
    configuration: "{{ lookup('ansible.builtin.template', 'rspamd.conf.j2') }}"
    rules: "{{ lookup('ansible.builtin.file', 'signing.lua') }}"
    unit: "{{ lookup('ansible.builtin.template', 'mailops.conf.j2') }}"
    keys: "{{ mta_dkim['keys'] }}"
"""

RETURN = r"""
files:
  description: Files that were written or deleted, or would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/rspamd/mailops/rspamd.conf]
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.shell import rspamd


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/etc/rspamd/mailops"},
            "socket": {"type": "path", "required": True},
            "configuration": {"type": "str", "required": True},
            "rules": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "keys": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "domain": {"type": "str", "required": True},
                    "selector": {"type": "str", "required": True},
                    "algorithm": {"type": "str", "choices": ["rsa", "ed25519"], "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    directory, socket = module.params["directory"], module.params["socket"]
    configuration = module.params["configuration"].replace("@CPUS@", str(os.cpu_count() or 1))
    files = [
        rspamd.File(os.path.join(directory, "signing.lua"), module.params["rules"].encode("utf-8")),
        rspamd.File(os.path.join(directory, "rspamd.conf"), configuration.encode("utf-8")),
        rspamd.File(rspamd.UNIT, module.params["unit"].encode("utf-8")),
    ]
    keys = [
        rspamd.key_path(directory, Key(given["domain"], given["selector"], given["algorithm"]))
        for given in module.params["keys"]
    ]
    try:
        changed = rspamd.differing(files)
        absent = [path for path in keys if not os.path.exists(path)]
        stale = rspamd.stale(directory, keys)
        if absent and not module.check_mode:
            module.fail_json(msg="Keys are missing on this host: " + ", ".join(absent))
        if changed and shutil.which("rspamadm"):
            rspamd.test(configuration, module.params["rules"], directory)
        started = not changed and not rspamd.running()
        diff = [_difference(file) for file in changed]
        diff += [{"before_header": path, "before": "a private key\n", "after": ""} for path in stale]
        if not module.check_mode:
            if changed:
                rspamd.install(changed, directory, socket)
            elif started:
                rspamd.start(socket)
            for path in stale:
                os.unlink(path)
    except rspamd.SignerError as error:
        module.fail_json(msg=f"The signer was not changed: {error}")
    except OSError as error:
        module.fail_json(msg=f"The signer cannot be configured: {error}")
    module.exit_json(
        changed=bool(changed or stale or started),
        files=sorted([*(file.path for file in changed), *stale]),
        diff=diff,
    )


def _difference(file):
    before = (rspamd.held(file.path) or b"").decode("utf-8", "replace")
    after = file.content.decode("utf-8")
    return {"before_header": file.path, "after_header": file.path, "before": before, "after": after}


if __name__ == "__main__":
    main()
