#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: dns_audit
short_description: Compare the DNS of a fleet with what every authoritative server shows
version_added: 0.2.0
description:
  - Asks each authoritative server of each zone for every declared record set and compares it with what the fleet file
    says. Missing and other values, unequal or lame servers, wrong TTLs and too large answers are findings.
  - Judges what is published as well. SPF that would break, weak or revoked DKIM keys, MTA-STS policies that are not
    served as announced or whose certificate ends, TLSA records outside DNSSEC, reverse names at hosters.
  - Prints the DNS registry of a domain. What stands where, why, and who uses it.
  - Changes nothing, and needs no credentials. What could not be found out is unknown, never ok.
  - Only a validating resolver can tell that a zone is signed.
  - What is wrong in a zone of V(external), which somebody else runs, is a warning. So is a value that is declared
    absent and that a server still shows.
extends_documentation_fragment:
  - mailops.mta.dns.zones
  - mailops.mta.dns.records
  - mailops.mta.dns.dkim_records
  - mailops.mta.dns.resolvers
options:
  zones:
    required: true
  expectations:
    description:
      - The variable V(mta_proof) of the host C(fleet).
      - Without it neither SPF nor reverse names at hosters are judged, and records are grouped by zone only.
    type: dict
    default: {}
  domains:
    description: Look at what concerns these domains only. Empty looks at everything.
    type: list
    elements: str
    default: []
  ask:
    description: Whether to ask DNS. Without it only RV(registry) and RV(table) say something.
    type: bool
    default: true
  fetch_policies:
    description: Whether to fetch the MTA-STS policies that are announced, from where senders fetch them.
    type: bool
    default: true
  ca_file:
    description: A file on the target with certificates of further CAs that policy hosts may use.
    type: path
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details: It changes nothing.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation changes nothing.
    support: full
seealso:
  - module: mailops.mta.alignment_info
  - module: mailops.mta.dns_records
author:
  - mailops.mta contributors (@mailops)
"""

EXAMPLES = r"""
- name: Audit the DNS of the fleet
  mailops.mta.dns_audit:
    zones: "{{ hostvars['fleet'].mta_dns.zones }}"
    records: "{{ hostvars['fleet'].mta_dns.records }}"
    dkim_records: "{{ dkim.records }}"
    dkim_series: "{{ hostvars['fleet'].mta_dkim_series }}"
    expectations: "{{ hostvars['fleet'].mta_proof }}"
  delegate_to: fleet
  run_once: true
  register: audit

- name: Show the audit
  ansible.builtin.debug:
    msg: "{{ audit.lines }}"

- name: Show what one domain has in DNS, without asking anybody
  mailops.mta.dns_audit:
    zones: "{{ hostvars['fleet'].mta_dns.zones }}"
    records: "{{ hostvars['fleet'].mta_dns.records }}"
    expectations: "{{ hostvars['fleet'].mta_proof }}"
    domains: [tx.example.com]
    ask: false
  delegate_to: fleet
  run_once: true
"""

RETURN = r"""
ok:
  description: True where no finding is an error.
  returned: always
  type: bool
  sample: true
table:
  description:
    - One row for each declared record set.
    - The state is C(ok), C(missing), C(drift) (something else stands there), C(unequal) (not all servers show it),
      C(external) (somebody else's zone does not have it yet) or C(unknown).
  returned: always
  type: list
  elements: dict
  sample:
    - domain: tx.example.com
      zone: example.com
      provider: powerdns
      name: tx.example.com
      type: TXT
      ttl: 3600
      values: ["v=spf1 ip4:203.0.113.10 -all"]
      state: ok
      reason: "stream transactional: SPF, the addresses of its pool"
      streams: [transactional]
lines:
  description: The table, the findings and what to do next as text for people. Empty where nobody was asked.
  returned: always
  type: list
  elements: str
  sample: ["1 record sets in 1 zones, 0 errors, 0 warnings"]
registry:
  description: What each domain has in DNS, why and who uses it, as text for people.
  returned: always
  type: list
  elements: str
  sample: ["tx.example.com (used by transactional)"]
findings:
  description: Everything that is wrong, with the remedy.
  returned: always
  type: list
  elements: dict
  sample:
    - severity: error
      where: tx.example.com MX at ns2.example.com (192.0.2.2)
      found: nothing
      why: "'10 bounces.example.com' is declared (stream transactional: takes its bounces)"
      remedy: Run the playbook mailops.mta.dns
errors:
  description: The findings of severity error as text, one a line.
  returned: always
  type: list
  elements: str
  sample: []
metrics:
  description: The audit in the text format of Prometheus. Empty where nobody was asked.
  returned: always
  type: str
  sample: |
    # HELP mta_dns_audit_timestamp_seconds When the audit ran.
    # TYPE mta_dns_audit_timestamp_seconds gauge
    mta_dns_audit_timestamp_seconds 1800000000
questions:
  description: How many DNS questions were asked.
  returned: always
  type: int
  sample: 42
"""

import dataclasses
import time
from typing import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.arguments import dns
from ansible_collections.mailops.mta.plugins.module_utils.core.audit import judge, report, subject
from ansible_collections.mailops.mta.plugins.module_utils.core.audit.notes import Audit, Fetched, World
from ansible_collections.mailops.mta.plugins.module_utils.core.audit.subject import Subject
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import Question
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns.asker import Asker
from ansible_collections.mailops.mta.plugins.module_utils.shell.web import policies

ARGUMENTS = {
    "zones": {**dns.ZONES, "required": True},
    "records": dns.RECORDS,
    **dns.OF_KEY_HOST,
    "expectations": {"type": "dict", "default": {}},
    "domains": {"type": "list", "elements": "str", "default": []},
    "ask": {"type": "bool", "default": True},
    "fetch_policies": {"type": "bool", "default": True},
    "ca_file": {"type": "path"},
    **dns.RESOLVERS,
}


class AuditAsker(Asker):
    """Asks policy hosts as well."""

    def __init__(self, resolvers: list[str], timeout_seconds: float, ca_file: str | None) -> None:
        super().__init__(resolvers, timeout_seconds)
        self._ca_file = ca_file

    def policy(self, domain: str) -> Fetched:
        host = f"mta-sts.{domain}"
        answers = self.resolve([Question(host, "A"), Question(host, "AAAA")])
        addresses = [value for answer in answers.values() for value in answer.values]
        unknown = next((answer.detail for answer in answers.values() if answer.detail and not addresses), "")
        if unknown:
            return Fetched(problem=f"the address of {host} is unknown ({unknown})")
        return policies.fetch(host, addresses, self.timeout_seconds, self._ca_file)


def ask_and_judge(given: Subject, asker: AuditAsker, fetch_policies: bool, now: float) -> tuple[Audit, int]:
    """The audit, and how many questions it took."""
    fetched = {domain: asker.policy(domain) for domain in judge.policy_domains(given)} if fetch_policies else {}
    return asker.settle(lambda resolver, servers: judge.judge(given, World(resolver, servers, fetched, now)))


def run(module: AnsibleModule, clock: Callable[[], float] = time.time) -> None:
    params = module.params
    of_keys, problems = plan.of_key_host(params["dkim_records"], params["dkim_series"], written=False)
    given = subject.subject(params["zones"], params["records"] + of_keys, params["expectations"], params["domains"])
    given = dataclasses.replace(given, findings=(*problems, *given.findings))
    result, questions = Audit({}, given.findings, ()), 0
    if params["ask"]:
        try:
            asker = AuditAsker(params["resolvers"], params["timeout_seconds"], params["ca_file"])
        except ValueError as error:
            module.fail_json(msg=f"resolvers: {error}")
        result, questions = ask_and_judge(given, asker, params["fetch_policies"], clock())
    module.exit_json(
        changed=False,
        ok=not errors(result.findings),
        table=report.table(given, result.states),
        lines=report.lines(given, result) if params["ask"] else [],
        registry=report.registry(given, result.states, params["ask"]),
        findings=[finding.as_dict() for finding in result.findings],
        errors=[str(finding) for finding in errors(result.findings)],
        metrics=report.metrics(result) if params["ask"] else "",
        questions=questions,
    )


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
