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
  - A change of the set is a reload, which keeps the socket open, except for a change of the drop-in, which needs a
    restart.
  - Which keys sign is no part of the set. The rules read a small file of the domain with each message, so another key
    signs from one message to the next, without a reload.
  - A key must be on the host, whole and with the right owner and mode, before anything is changed. Files of keys that
    are not in the list are deleted at last. They stay in the key store.
  - A state of the key store that is older than the one that was brought here before is refused, and nothing is touched.
  - A run that is killed is finished by the next one.
extends_documentation_fragment:
  - mailops.mta.dkim.state
  - mailops.mta.attributes
options:
  directory:
    description: Directory of the configuration, with the keys in its directory C(keys) and what signs in C(signing).
    type: path
    default: /etc/rspamd/mailops
  socket:
    description: Path of the milter socket that the configuration opens.
    type: path
    required: true
  configuration:
    description:
      - Content of C(rspamd.conf). C(@WORKERS@) in it becomes half the number of the host's CPUs, at least 2.
        C(@TRACE_BYTES@) becomes what a front listener may add to a message.
    type: str
    required: true
  admission:
    description:
      - Which mail each stream admits, content of C(streams.json). The inventory plugin derives it as
        C(mta_dkim.admission).
    type: dict
    required: true
  rules:
    description: Content of C(signing.lua).
    type: str
    required: true
  unit:
    description: Content of the drop-in C(/etc/systemd/system/rspamd.service.d/mailops.conf).
    type: str
    required: true
  signing:
    description: Those of O(keys) that sign. A domain that has none is refused for now (451).
attributes:
  check_mode:
    details: Where rspamd is installed, the new configuration is tested in check mode as well.
  diff_mode:
    details: Shows the files. Of keys that go it shows the names only.
  idempotent:
    details: Nothing is written or reloaded where everything is in place and the service runs.
"""

EXAMPLES = r"""
- name: Configure the signer
  mailops.mta.dkim_signer:
    socket: "{{ mta_dkim.socket }}"
    admission: "{{ mta_dkim.admission }}"
    configuration: "{{ lookup('ansible.builtin.template', 'rspamd.conf.j2') }}"
    rules: "{{ lookup('ansible.builtin.file', 'signing.lua') }}"
    unit: "{{ lookup('ansible.builtin.template', 'mailops.conf.j2') }}"
    serial: "{{ rotation.serial }}"
    keys: "{{ rotation.holding | selectattr('domain', 'in', mta_dkim.domains) }}"
    signing: "{{ rotation.signing | selectattr('domain', 'in', mta_dkim.domains) }}"
"""

RETURN = r"""
files:
  description: Files that were written or deleted, or would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/rspamd/mailops/signing/tx.example.com]
reloaded:
  description: Whether the service was started, reloaded or restarted, or would be.
  returned: success
  type: bool
  sample: false
"""

import contextlib
import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.arguments import dkim
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import Installed
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.admission import TRACE_BYTES
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import workers
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files, rspamd


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": rspamd.DIRECTORY},
            "socket": {"type": "path", "required": True},
            "admission": {"type": "dict", "required": True},
            "configuration": {"type": "str", "required": True},
            "rules": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            **dkim.STATE,
        },
        supports_check_mode=True,
    )
    directory = module.params["directory"]
    try:
        with contextlib.nullcontext() if module.check_mode else rspamd.alone(directory):
            result = _configure(module, directory)
    except key_files.SignerError as error:
        module.fail_json(msg=f"The signer was not changed: {error}")
    except OSError as error:
        module.fail_json(msg=f"The signer cannot be configured: {error}")
    module.exit_json(**result)


def _configure(module, directory):
    """Refuses before anything is touched, then goes from what can be undone to what cannot."""
    serial, socket = module.params["serial"], module.params["socket"]
    keys = [(key_files.key_of(given), given["private"]) for given in module.params["keys"]]
    signing = [key_files.key_of(given) for given in module.params["signing"]]
    before = rspamd.installed(directory)
    key_files.refuse_older(directory, before.serial, serial)
    key_files.refuse_missing(rspamd.key_files(directory), keys, signing, module.check_mode)
    tables = rspamd.table_files(directory, signing)
    configuration = module.params["configuration"]
    for mark, value in (("@WORKERS@", workers(os.cpu_count() or 1)), ("@TRACE_BYTES@", TRACE_BYTES)):
        configuration = configuration.replace(mark, str(value))
    whole = [
        rspamd.admission_file(directory, module.params["admission"]),
        install.File(os.path.join(directory, "signing.lua"), module.params["rules"].encode("utf-8")),
        install.File(os.path.join(directory, "rspamd.conf"), configuration.encode("utf-8")),
        install.File(rspamd.UNIT, module.params["unit"].encode("utf-8")),
    ]
    after = Installed(serial, rspamd.digest(whole))
    changed, switched = install.differing(whole), install.differing(tables)
    stale, marks = rspamd.stale(directory, [key for key, _private in keys], tables), rspamd.marks(directory, after)
    follow = bool(changed) or before.digest != after.digest or not rspamd.running(directory)
    if changed and shutil.which("rspamadm"):
        rspamd.test({os.path.basename(file.path): file.content for file in whole[:3]}, directory)
    diff = [file.difference for file in (*changed, *switched)]
    diff += [{"before_header": path, "before": "a file\n", "after": ""} for path in stale]
    touched = bool(switched or follow)
    if not module.check_mode:
        if touched:
            # From here on no older state may come, even where this run is killed.
            rspamd.mark(directory, Installed(serial))
        install.write(switched)  # before a reload, so that new rules find what they read
        if follow:
            rspamd.replace(changed, directory, socket)
        for path in stale:
            os.unlink(path)
        if touched or marks:
            rspamd.mark(directory, after)
    return {
        "changed": bool(touched or stale or marks),
        "files": sorted([*(file.path for file in (*changed, *switched)), *stale, *marks]),
        "reloaded": follow,
        "diff": diff,
    }


if __name__ == "__main__":
    main()
