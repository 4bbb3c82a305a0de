#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: alignment_info
short_description: Prove that every source address of a fleet is aligned
version_added: 0.1.0
description:
  - Asks DNS what a receiver asks and compares it with what the fleet file says.
    FCrDNS and SPF of every address; SPF, DKIM, DMARC, MX, TLS-RPT and MTA-STS records of every stream.
  - Judges what a sink saw of mail from each address and what a relay probe found, where those are given.
  - Answers with one row for each address and with findings. What could not be found out (time-out, SERVFAIL) is
    unknown, and unknown is an error, never a pass.
options:
  expectations:
    description:
      - What must be found. The inventory plugin derives it as the variable V(mta_proof) of the host C(fleet).
    type: dict
    required: true
  resolvers:
    description:
      - Recursive resolvers to ask, as addresses.
        A port other than 53 follows a colon, after an IPv6 address in brackets.
      - Empty asks the system's resolvers.
    type: list
    elements: str
    default: []
  timeout_seconds:
    description: How long to wait for one answer. Every resolver is tried twice.
    type: float
    default: 5.0
  sent:
    description:
      - What M(mailops.mta.proof_message) returned as C(sent), by host.
      - The messages themselves are those of O(expectations). Of its own messages each host tells C(message_id) and
        C(error). A host that tells them in another shape is an error, and whatever else it says is left out.
    type: dict
    default: {}
  observations:
    description:
      - What the sink saw, as M(mailops.mta.sink_info) returns it.
      - Leave it out where no sink was asked; the table then shows C(-), not C(ok).
    type: list
    elements: dict
  relay:
    description:
      - What M(mailops.mta.relay_info) found.
      - Leave it out where nothing was probed; the table then shows C(-).
    type: list
    elements: dict
  keys:
    description:
      - The DKIM record sets of the key host, as M(mailops.mta.dkim_rotation) returns them.
      - Exactly one key of each domain and algorithm must sign, and DNS must show every key as the key host has it.
      - Leave it out where the key host was not asked. Nobody knows the selectors then, so only signatures that the sink
        saw are judged.
    type: list
    elements: dict
  hosts:
    description: Judge the addresses of these hosts only. Empty judges all.
    type: list
    elements: str
    default: []
  streams:
    description: Judge the addresses of these streams only. Empty judges all.
    type: list
    elements: str
    default: []
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
author:
  - mailops.mta contributors (@mailops)
"""

EXAMPLES = r"""
- name: Prove the fleet's DNS
  mailops.mta.alignment_info:
    expectations: "{{ hostvars['fleet'].mta_proof }}"
    resolvers: [198.18.0.53]
  delegate_to: fleet
  run_once: true
  register: proof

- name: Show the proof
  ansible.builtin.debug:
    msg: "{{ proof.lines }}"
"""

RETURN = r"""
ok:
  description: True where no finding is an error.
  returned: always
  type: bool
  sample: true
table:
  description:
    - One row for each address. Each check is C(ok), C(warn), C(FAIL), C(unknown), or C(-) where nobody was asked.
  returned: always
  type: list
  elements: dict
  sample:
    - stream: bulk
      host: mta1
      address: 203.0.113.20
      ehlo: 203-0-113-20.news.example.com
      fcrdns: ok
      spf: ok
      dkim: ok
      dmarc: ok
      mx: ok
      reports: ok
      source: "-"
      tls: "-"
      records: ok
      relay: "-"
lines:
  description: The table, the findings and the verdict as text for people.
  returned: always
  type: list
  elements: str
  sample: ["1 addresses, 0 errors, 0 warnings"]
findings:
  description: Everything that is wrong, with the remedy.
  returned: always
  type: list
  elements: dict
  sample:
    - severity: error
      where: 20.113.0.203.in-addr.arpa PTR
      found: no record
      why: receivers refuse mail from 203.0.113.20 without a reverse name
      remedy: Publish exactly one PTR record, 203-0-113-20.news.example.com
errors:
  description: The findings of severity error as text, one a line.
  returned: always
  type: list
  elements: str
  sample: []
questions:
  description: How many DNS questions were asked.
  returned: always
  type: int
  sample: 42
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import Answer, Answers, Question
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors
from ansible_collections.mailops.mta.plugins.module_utils.core.proof import judge, sent
from ansible_collections.mailops.mta.plugins.module_utils.shell.dns import resolver

# Each round answers what the one before could not go on without: an SPF include of an include, ten deep (RFC 7208),
# and the addresses behind the last. More rounds than this means records that grow while they are read.
MAX_ROUNDS = 30

ARGUMENTS = {
    "expectations": {"type": "dict", "required": True},
    "resolvers": {"type": "list", "elements": "str", "default": []},
    "timeout_seconds": {"type": "float", "default": 5.0},
    "sent": {"type": "dict", "default": {}},
    "observations": {"type": "list", "elements": "dict"},
    "relay": {"type": "list", "elements": "dict"},
    "keys": {"type": "list", "elements": "dict", "no_log": False},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "streams": {"type": "list", "elements": "str", "default": []},
}


def prove(parameters: dict, ask) -> tuple[judge.Proof, int]:
    """Judge, ask what was missing, judge again."""
    probes, problems = sent.read(parameters["expectations"], parameters["sent"])
    seen = judge.Seen(
        observations=parameters["observations"],
        probes=probes,
        relay=parameters["relay"],
        keys=parameters["keys"],
    )
    known: dict[Question, Answer] = {}
    for _round in range(MAX_ROUNDS):
        answers = Answers(known)
        proof = judge.judge(
            parameters["expectations"], answers, seen, hosts=parameters["hosts"], streams=parameters["streams"]
        )
        if not answers.wanted:
            break
        known.update(ask(answers.wanted))
    return judge.Proof(proof.rows, (*problems, *proof.findings)), len(known)


def note(module: AnsibleModule) -> str:
    if module.params["observations"] is not None:
        return ""
    why = "check mode sends no mail" if module.check_mode else "no sink was asked"
    return f"'-': {why}, so nobody saw mail arrive; only DNS (and relay, where shown) is proven."


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        asker = resolver.Resolver(module.params["resolvers"], module.params["timeout_seconds"])
    except ValueError as error:
        module.fail_json(msg=f"resolvers: {error}")
    proof, questions = prove(module.params, asker.ask)
    module.exit_json(
        changed=False,
        ok=not errors(proof.findings),
        table=list(proof.rows),
        lines=judge.lines(proof, note(module)),
        errors=[str(finding) for finding in errors(proof.findings)],
        findings=[finding.as_dict() for finding in proof.findings],
        questions=questions,
    )


if __name__ == "__main__":
    main()
