#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sasl_logins
short_description: Have Dovecot answer for the logins of Postfix
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Writes the password file and the configuration of Dovecot, for the version that is installed, and sees that Dovecot
    runs now, after a reboot and after a failure.
  - Dovecot checks its configuration first. Where it refuses, the old one is put back.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  passwords:
    description: A crypt(3) hash for each login.
    type: dict
    required: true
  configurations:
    description: The text of C(dovecot.conf) for each version, by the beginning of what C(dovecot --version) says.
    type: dict
    required: true
  directory:
    description: Directory of Dovecot's configuration.
    type: path
    default: /etc/dovecot
attributes:
  check_mode:
    details: Says what would change, also where Dovecot is not installed yet.
  diff_mode:
    support: partial
    details: Shows the configuration, never the passwords.
"""

EXAMPLES = r"""
- name: Let one login in
  mailops.mta.sasl_logins:
    passwords:
      shop: $6$saltsalt$L5eGcZGZF7IdEQj0UHBZCdrHvXFBTr/pXIoiKQwUO4hQeQxnvXPxVwjGEy1IfLkd2rhWLmEEhOwgMJpmcyCH/1
    configurations:
      "2.3": "{{ lookup('ansible.builtin.file', 'dovecot-2.3.conf') }}"
      "2.4": "{{ lookup('ansible.builtin.file', 'dovecot-2.4.conf') }}"
"""

RETURN = r"""
logins:
  description: The logins that are let in.
  returned: always
  type: list
  elements: str
  sample: [shop]
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files

USERS = "mailops-users"
CONFIGURATION = "dovecot.conf"
UNIT = "/etc/systemd/system/dovecot.service.d/mailops.conf"
UNIT_TEXT = """\
# Managed by Ansible (mailops.mta.sasl_logins): without Dovecot no application can log in.
[Unit]
StartLimitIntervalSec=0

[Service]
Restart=on-failure
RestartSec=5
TimeoutStopSec=20
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "passwords": {"type": "dict", "required": True, "no_log": True},
            "configurations": {"type": "dict", "required": True},
            "directory": {"type": "path", "default": "/etc/dovecot"},
        },
        supports_check_mode=True,
    )
    directory, passwords = module.params["directory"], module.params["passwords"]
    bad = [login for login in passwords if ":" in login or "\n" in f"{login}{passwords[login]}" or not passwords[login]]
    if bad:
        module.fail_json(msg=f"these logins or their hashes cannot stand in a password file: {', '.join(sorted(bad))}")
    program = module.get_bin_path("dovecot", opt_dirs=["/usr/sbin"])
    if program is None:
        if module.check_mode:
            module.exit_json(changed=True, logins=sorted(passwords))
        module.fail_json(msg="Dovecot is not installed on this host")
    version = module.run_command([program, "--version"], check_rc=True)[1].strip()
    text = next((text for start, text in module.params["configurations"].items() if version.startswith(start)), None)
    if text is None:
        known = ", ".join(module.params["configurations"])
        module.fail_json(msg=f"no configuration is for Dovecot {version}; there is one for {known}")
    wanted = {
        USERS: "".join(f"{login}:{{CRYPT}}{passwords[login]}\n" for login in sorted(passwords)),
        CONFIGURATION: text,
    }
    before = files.read_all(directory, wanted)
    changed = [name for name in wanted if before.get(name) != wanted[name]]
    shown = ({name: texts[name] for name in [CONFIGURATION] if name in texts} for texts in (before, wanted))
    comes_back = files.read(UNIT) == UNIT_TEXT
    result = {"logins": sorted(passwords), "diff": files.diff(directory, *shown)}
    running = all(
        module.run_command(["systemctl", "--quiet", verb, "dovecot.service"])[0] == 0
        for verb in ("is-enabled", "is-active")
    )
    if not module.check_mode:
        for name in changed:
            path = os.path.join(directory, name)
            files.write(path, wanted[name], mode=0o600 if name == USERS else 0o644)
            if name == USERS:
                shutil.chown(path, "root", "dovecot")
                os.chmod(path, 0o640)
        if CONFIGURATION in changed:
            code, _out, error = module.run_command(["doveconf", "-n", "-c", os.path.join(directory, CONFIGURATION)])
            if code:
                if CONFIGURATION in before:
                    files.write(os.path.join(directory, CONFIGURATION), before[CONFIGURATION])
                module.fail_json(msg=f"Dovecot refuses its configuration, the old one was put back: {error.strip()}")
        if not comes_back:
            os.makedirs(os.path.dirname(UNIT), exist_ok=True)
            files.write(UNIT, UNIT_TEXT)
            module.run_command(["systemctl", "daemon-reload"], check_rc=True)
        if not running:
            module.run_command(["systemctl", "--quiet", "enable", "dovecot.service"], check_rc=True)
        if CONFIGURATION in changed or not running:
            module.run_command(["systemctl", "restart", "dovecot.service"], check_rc=True)
    module.exit_json(changed=bool(changed) or not running or not comes_back, **result)


if __name__ == "__main__":
    main()
