#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_rotation
short_description: Make, rotate and withdraw DKIM keys
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Takes every key in the store of the host it runs on one step further, as far as that is due and proven.
  - A key is made, published, verified, active, retiring and withdrawn. What was not seen never moves a key.
  - It only decides and remembers. M(mailops.mta.dns_records) publishes RV(records), the role C(mailops.mta.dkim) brings
    RV(signing) and RV(holding) to the signing hosts, M(mailops.mta.dkim_dns_info) and M(mailops.mta.dkim_signer_info)
    gather the evidence. The playbook C(mailops.mta.rotate_dkim) does all of it.
  - Without O(evidence) it makes the keys that are missing and says what there is.
  - Only public parts are returned. The store's journal holds every step, when it was taken and on what evidence.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  directory:
    description:
      - Directory of the store. It is made with mode C(0700) where it is missing.
      - It belongs to the user that runs this module, and so do its files.
    type: path
    default: /var/lib/mailops/dkim
  series:
    description:
      - What the fleet signs with, an entry for each domain and algorithm. This is the variable C(mta_dkim_series) of
        the host C(fleet).
      - Keys of the journal that no entry names are brought to their end.
    type: list
    elements: dict
    required: true
    suboptions:
      domain:
        description: Signing domain, as A-labels.
        type: str
        required: true
      algorithm:
        description: Algorithm of its keys.
        type: str
        choices: [rsa, ed25519]
        required: true
      bits:
        description: Size of new keys. V(2048), V(3072) or V(4096) for RSA, V(256) for Ed25519.
        type: int
        required: true
      ttl_seconds:
        description: TTL of their records.
        type: int
        default: 3600
      hosts:
        description: Inventory names of the hosts that sign with it.
        type: list
        elements: str
        default: []
      selector:
        description: What selectors begin with.
        type: str
        required: true
      every_days:
        description: Replace a key that is so old. Not by age where it is absent or V(0).
        type: int
      quarters:
        description: Replace keys when these quarters of the year begin.
        type: list
        elements: int
        default: []
      slots:
        description: Selectors to use in turn.
        type: list
        elements: str
        default: []
      delegate:
        description: Domain that holds the keys; the signing domain has aliases (CNAME) that lead there.
        type: str
      external:
        description: Whether somebody else sets these aliases.
        type: bool
        default: false
      first_key:
        description: Whether the first key is used as soon as every server shows it, or waits for caches like others.
        type: str
        choices: [now, wait]
        default: now
      margin_seconds:
        description: What is added to each wait for caches.
        type: int
        default: 3600
      keep_retired_seconds:
        description: How long a key stays published after nothing signs with it. Longer than mail waits in queues.
        type: int
        default: 604800
      proof:
        description: Whether the old key waits until a receiver has found a signature by the new one good.
        type: bool
        default: false
      streams:
        description: Streams of mail that it signs.
        type: list
        elements: str
        default: []
  evidence:
    description: What was seen. Entries that are absent count as not seen.
    type: dict
    suboptions:
      looks:
        description: C(looks) of M(mailops.mta.dkim_dns_info).
        type: list
        elements: dict
      hosts:
        description: C(signer) of M(mailops.mta.dkim_signer_info) of each host that answered, by its inventory name.
        type: dict
      passed:
        description: C(domain) and C(selector) of signatures that a receiver found good.
        type: list
        elements: dict
  serial:
    description:
      - RV(serial) of the call that came before the evidence was gathered. Evidence is dropped where another run went
        further meanwhile.
    type: int
  requests:
    description: What a person wants.
    type: list
    elements: dict
    default: []
    suboptions:
      domain:
        description: Signing domain.
        type: str
        required: true
      algorithm:
        description: Only keys of this algorithm.
        type: str
        choices: [rsa, ed25519]
      selector:
        description: Only this key.
        type: str
      reason:
        description:
          - With V(demand) the key is replaced, with all waits.
          - With V(compromised) it is replaced, and revoked in DNS (an empty C(p=)) as soon as no host signs with it.
            Mail on its way that it signed then fails. A compromised key that nothing signs with is revoked at once.
        type: str
        choices: [demand, compromised]
        default: demand
  without:
    description: Signing hosts that are off for good, so that nothing waits for them.
    type: list
    elements: str
    default: []
  hosts:
    description: All signing hosts of the fleet, which must show that a domain that left the fleet is not signed for.
    type: list
    elements: str
    default: []
  zones:
    description: Names of the zones of the fleet. Records of keys that left it are withdrawn from these only.
    type: list
    elements: str
    default: []
  unknown_keys:
    description: C(unknown_keys) of M(mailops.mta.dns_records), each of which becomes a finding.
    type: list
    elements: str
    default: []
  steps:
    description:
      - Whether to take steps. With V(false) it only tells what there is, and changes nothing.
      - RV(table), RV(lines) and RV(metrics) are empty then.
    type: bool
    default: true
  lock_timeout_seconds:
    description: How long to wait for another run on the same store.
    type: float
    default: 60
attributes:
  check_mode:
    details: Tells the steps. Records of keys that would be made have null values.
  diff_mode:
    details: Shows each key and its state.
  idempotent:
    details: The same evidence has nothing more to say.
requirements:
  - openssl 1.1.1 or newer
"""

EXAMPLES = r"""
- name: Make the keys that are missing, and see what there is
  mailops.mta.dkim_rotation:
    series: "{{ hostvars['fleet'].mta_dkim_series }}"
  delegate_to: "{{ hostvars['fleet'].mta_fleet.key_host }}"
  run_once: true
  register: dkim_keys

- name: Replace the key of one domain in two algorithms
  mailops.mta.dkim_rotation:
    series:
      - {domain: tx.example.com, algorithm: rsa, bits: 2048, selector: mail, quarters: [1, 3], hosts: [mta1, mta2]}
      - {domain: tx.example.com, algorithm: ed25519, bits: 256, selector: mail, quarters: [1, 3], hosts: [mta1, mta2]}
    requests:
      - {domain: tx.example.com}
"""

RETURN = r"""
serial:
  description: Number of the state of the store. It grows with each run that takes a step.
  returned: success
  type: int
  sample: 17
serial_after:
  description: RV(serial), or in check mode the one that a run would leave where it takes a step.
  returned: success
  type: int
  sample: 17
to_be_made:
  description: Keys that a run would make and bring to hosts, in check mode only. They have no fingerprint yet.
  returned: success
  type: list
  elements: dict
  sample: [{domain: tx.example.com, selector: s1-2026q4, algorithm: rsa}]
resting:
  description: Whether the store was restored or copied and nothing that it holds may be used yet.
  returned: success
  type: bool
  sample: false
moving:
  description: Whether what DNS shows may take a key further, so that it is worth asking.
  returned: success
  type: bool
  sample: false
following:
  description: Whether signing hosts have to show that they hold a new key, or that they have left an old one.
  returned: success
  type: bool
  sample: false
proving:
  description: Whether an old key waits until a receiver has found a signature by its successor good.
  returned: success
  type: bool
  sample: false
ask:
  description: Names and types that M(mailops.mta.dkim_dns_info) should look at.
  returned: success
  type: list
  elements: dict
  sample: [{name: mail2027q1._domainkey.tx.example.com, type: TXT}]
records:
  description:
    - Record sets of all keys, for M(mailops.mta.dns_records). C(life) is the state of the key, or V(revoked).
    - Values are null where a key is not made yet, or where a restored store must not be believed.
  returned: success
  type: list
  elements: dict
  sample:
    - name: mail2027q1-ed25519._domainkey.tx.example.com
      type: TXT
      ttl: 3600
      values: ["v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
      state: present
      reason: DKIM key (ed25519) of tx.example.com, active
      streams: [transactional]
      domain: tx.example.com
      selector: mail2027q1-ed25519
      algorithm: ed25519
      life: active
      signs: true
signing:
  description: The key that each domain and algorithm is to be signed with.
  returned: success
  type: list
  elements: dict
  sample:
    - {domain: tx.example.com, selector: mail2027q1, algorithm: rsa, fingerprint: 5f2d9c1c09b94bd2a60a5e6b0b4b7d4e}
holding:
  description: The keys that each signing host must have. C(private) is false for those that the store has lost.
  returned: success
  type: list
  elements: dict
  sample:
    - domain: tx.example.com
      selector: mail2027q1
      algorithm: rsa
      fingerprint: 5f2d9c1c09b94bd2a60a5e6b0b4b7d4e
      private: true
steps:
  description: The steps that were taken, or would be.
  returned: success
  type: list
  elements: str
  sample: ["tx.example.com rsa: mail2027q1 active: every server shows it and every host holds it"]
waits:
  description: What keeps keys from going on. C(until) is set where it is only time.
  returned: success
  type: list
  elements: dict
  sample:
    - domain: tx.example.com
      algorithm: rsa
      selector: mail2027q1
      what: mta2 must show that the key is there
      until: null
      remedy: Bring it back and run rotate_dkim.yml
findings:
  description: What a person should look at; after a failure, what is wrong with the store, the clocks or the requests.
  returned: always
  type: list
  elements: dict
  sample: []
table:
  description: A row for each series, with what happens next, when and why.
  returned: success
  type: list
  elements: dict
  sample:
    - domain: tx.example.com
      algorithm: rsa
      signs: mail2027q1
      age_days: 12
      others: [mail2026q3 retiring]
      next: withdraw mail2026q3
      when: 2027-01-19 04:00Z
      why: mail that it signed may still be on its way
      streams: [transactional]
lines:
  description: The same for a person.
  returned: success
  type: list
  elements: str
  sample: []
metrics:
  description: The same for Prometheus (textfile collector).
  returned: success
  type: str
  sample: ""
"""

import contextlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core import finding
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import report as rotation_text
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.keys import DIRECTORY, KeyStore, StoreError
from ansible_collections.mailops.mta.plugins.module_utils.shell.dkim.rotation import Order, Refused, Run

ALGORITHMS = ["rsa", "ed25519"]
ARGUMENTS = {
    "directory": {"type": "path", "default": DIRECTORY},
    "series": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "domain": {"type": "str", "required": True},
            "algorithm": {"type": "str", "choices": ALGORITHMS, "required": True},
            "bits": {"type": "int", "required": True},
            "ttl_seconds": {"type": "int", "default": 3600},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "selector": {"type": "str", "required": True},
            "every_days": {"type": "int"},
            "quarters": {"type": "list", "elements": "int", "default": []},
            "slots": {"type": "list", "elements": "str", "default": []},
            "delegate": {"type": "str"},
            "external": {"type": "bool", "default": False},
            "first_key": {"type": "str", "choices": ["now", "wait"], "default": "now", "no_log": False},
            "margin_seconds": {"type": "int", "default": 3600},
            "keep_retired_seconds": {"type": "int", "default": 604800},
            "proof": {"type": "bool", "default": False},
            "streams": {"type": "list", "elements": "str", "default": []},
        },
    },
    "evidence": {
        "type": "dict",
        "options": {
            "looks": {"type": "list", "elements": "dict"},
            "hosts": {"type": "dict"},
            "passed": {"type": "list", "elements": "dict", "no_log": False},
        },
    },
    "serial": {"type": "int"},
    "requests": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "domain": {"type": "str", "required": True},
            "algorithm": {"type": "str", "choices": ALGORITHMS},
            "selector": {"type": "str"},
            "reason": {"type": "str", "choices": [life.DEMAND, life.COMPROMISED], "default": life.DEMAND},
        },
    },
    "without": {"type": "list", "elements": "str", "default": []},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "zones": {"type": "list", "elements": "str", "default": []},
    "unknown_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "steps": {"type": "bool", "default": True},
    "lock_timeout_seconds": {"type": "float", "default": 60},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    store = KeyStore(params["directory"], module.get_bin_path("openssl", required=True))
    order = Order(
        params["series"],
        params["evidence"],
        params["serial"],
        params["requests"],
        params["without"],
        params["hosts"],
        params["zones"],
        params["unknown_keys"],
        params["steps"],
    )
    reads = module.check_mode or not params["steps"]
    lock = contextlib.nullcontext() if reads else store.locked(params["lock_timeout_seconds"])
    try:
        with lock:
            report = Run(store, order, module.check_mode).go()
    except Refused as refused:
        module.fail_json(
            msg="Nothing was changed:\n" + finding.report(refused.findings),
            findings=[one.as_dict() for one in refused.findings],
        )
    except (OSError, StoreError) as error:
        module.fail_json(
            msg=f"The key store {store.directory} cannot be used: {error}. "
            "Keys that were made before this stay. Run again when the cause is gone.",
            findings=[],
        )
    told = {**result(report, params["steps"], module.check_mode), "diff": difference(report, store.directory)}
    # Else Ansible sends back all that it was given, which is most of the result for a thousand domains.
    module.exit_json(changed=report.changed, invocation={"module_args": {"directory": store.directory}}, **told)


def result(report, stepped, check_mode):
    done, now, wanted = report.done, report.now, report.policies
    held = [(policy, done.store.keys_of(policy)) for policy in wanted]
    steps = [f"{policy.domain} {policy.algorithm}: {action.text}" for policy, action in done.actions]
    rows = rotation_text.table(done, wanted, now) if stepped else []
    asked = [
        {"name": name, "type": rtype}
        for policy, keys in held
        for name, rtype in life.questions(keys, policy, report.evidence.of(policy))
    ]
    records = [record for policy, keys in held for record in life.records(keys, policy)]
    chosen = [(policy, life.signing(keys, policy)) for policy, keys in held]
    if done.resting:  # what was true in the backup may do harm now
        records = [{**record, "values": None, "state": "present"} for record in records]
        chosen = []
    return {
        "serial": done.store.serial,
        "serial_after": done.store.serial + (1 if check_mode and done.actions else 0),
        "to_be_made": [
            {"domain": policy.domain, "selector": key.selector, "algorithm": policy.algorithm}
            for policy, keys in held
            for key in keys
            if key.state == life.NEW and not key.record
        ],
        "resting": done.resting,
        "moving": any(life.is_moving(keys) for _policy, keys in held),
        "following": any(life.is_followed(keys, policy) for policy, keys in held),
        "proving": any(policy.proof and life.is_superseded(keys, policy) for policy, keys in held),
        "ask": asked,
        "records": records,
        "signing": [_key(policy, key) for policy, key in chosen if key],
        "holding": [
            {**_key(policy, key), "private": key.private}
            for policy, keys in ([] if done.resting else held)
            for key in life.holding(keys, policy)
        ],
        "steps": steps,
        "waits": [
            {
                "domain": policy.domain,
                "algorithm": policy.algorithm,
                "selector": wait.selector,
                "what": wait.what,
                "until": wait.until,
                "remedy": wait.remedy,
            }
            for policy, wait in done.waits
        ],
        "findings": [one.as_dict() for one in done.findings],
        "table": rows,
        "lines": rotation_text.lines(done, rows, steps) if stepped else [],
        "metrics": rotation_text.metrics(done, wanted, rows, now, report.hosts_behind) if stepped else "",
    }


def _key(policy, key):
    return {
        "domain": policy.domain,
        "selector": key.selector,
        "algorithm": policy.algorithm,
        "fingerprint": key.fingerprint,
    }


def difference(report, directory):
    return {
        "before": _states(report.before),
        "after": _states(report.done.store),
        "before_header": directory,
        "after_header": directory,
    }


def _states(store):
    found = []
    for (domain, algorithm), keys in store.series.items():
        for key in keys:
            revoked = ", revoked" if key.revoked else ""
            replace = f", to be replaced ({key.replace})" if key.replace else ""
            found.append(f"{domain} {algorithm} {key.selector} {key.state}{revoked}{replace}\n")
    return "".join(sorted(found))


if __name__ == "__main__":
    main()
