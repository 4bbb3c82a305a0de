#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: powermta_config_info
short_description: Check a PowerMTA configuration without PowerMTA
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Reads a configuration with all that it includes, whoever wrote it, and says what PowerMTA would refuse, what has no
    effect and what lets strangers in. Each finding has its file, line, directive, reason and remedy.
  - It needs no PowerMTA and no licence, changes nothing and asks nobody. It knows what the public guides of 4.5 and 5.0
    say. C(pmta test config) has the last word.
  - No password and no key of the configuration is returned.
options:
  path:
    description:
      - The file that PowerMTA starts with, on the host that the task runs on. Its includes are read as well, except
        those over HTTP, which are a finding.
    type: path
    default: /etc/pmta/config
  version:
    description:
      - The version of the PowerMTA that shall read it. What came later is an error. A directive that nobody has
        described is an error up to 5.0 and a warning from then on.
    type: str
    default: "5.0"
  content:
    description: A text to check as if it lay at O(path), such as one that a template gave.
    type: str
  files:
    description: Texts by their absolute paths, to be included as if they lay there. They go before what lies there.
    type: dict
    default: {}
  fail_on:
    description: From which severity on a finding makes the task fail.
    type: str
    choices: [error, warning, never]
    default: never
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: N/A
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: Check the configuration of this host
  mailops.mta.powermta_config_info:
  register: powermta

- name: Show what is wrong with it
  ansible.builtin.debug:
    var: powermta.lines

- name: Refuse to go on with a template that is not right for 4.5
  mailops.mta.powermta_config_info:
    content: "{{ lookup('ansible.builtin.template', 'config.j2') }}"
    files:
      /etc/pmta/domains.conf: "{{ lookup('ansible.builtin.file', 'domains.conf') }}"
    version: "4.5"
    fail_on: error
  delegate_to: localhost
"""

RETURN = r"""
findings:
  description: What is wrong, in the order of the files.
  returned: always
  type: list
  elements: dict
  sample:
    - severity: error
      where: "/etc/pmta/config:48: smtp-source-host"
      found: "'mail2.example.com 203.0.113.11'"
      why: >-
        the address comes first, then the name; several scripts that are handed around have it the wrong way
      remedy: Write smtp-source-host 203.0.113.11 mail2.example.com
lines:
  description: All of it as text, a row for each file and a line for each finding.
  returned: always
  type: list
  elements: str
  sample:
    - file              lines  errors  warnings
    - -----------------------------------------
    - /etc/pmta/config  112    1       0
files:
  description: The files that were read, the first one first.
  returned: always
  type: list
  elements: str
  sample: [/etc/pmta/config, /etc/pmta/domains.conf]
counts:
  description: How much was checked, and how many findings there are.
  returned: always
  type: dict
  sample:
    files: 1
    lines: 112
    directives: 71
    virtual_mtas: 4
    pools: 1
    sources: 2
    domains: 9
    users: 0
    errors: 1
    warnings: 0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import checks, includes, report
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import sources

ARGUMENTS = {
    "path": {"type": "path", "default": "/etc/pmta/config"},
    "version": {"type": "str", "default": checks.VERSION},
    # They may hold passwords; what Ansible logs of the arguments must not.
    "content": {"type": "str", "no_log": True},
    "files": {"type": "dict", "default": {}, "no_log": True},
    "fail_on": {"type": "str", "choices": ["error", "warning", "never"], "default": "never"},
}


def main():
    run(AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True))


def run(module):
    path, version, limit = (module.params[name] for name in ("path", "version", "fail_on"))
    given = {name: str(text) for name, text in module.params["files"].items()}
    if module.params["content"] is not None:
        given[path] = module.params["content"]
    texts, unread = sources.read(path, given)
    document = includes.load(texts, path)
    try:
        findings = [*unread, *checks.judge(document, path, version=version)]
    except ValueError as error:
        module.fail_json(msg=str(error))
    errors = sum(finding.severity == ERROR for finding in findings)
    counted = report.counts(document, texts, path)
    result = {
        "changed": False,
        "findings": [finding.as_dict() for finding in findings],
        "lines": report.lines(findings, texts, counted),
        "files": list(texts),
        "counts": {**counted, "errors": errors, "warnings": len(findings) - errors},
    }
    if (errors and limit != "never") or (findings and limit == "warning"):
        module.fail_json(msg="\n".join(["The configuration is not right.", *result["lines"]]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
