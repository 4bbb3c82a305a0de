#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dns_records
short_description: Make the record sets of a fleet stand in its zones
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Compares what is wanted with what the zones hold, shows the difference, and applies it in few writes.
  - Works on values, not on whole record sets. A declared TXT value replaces only the value with the same version tag at
    its name (an SPF policy replaces the SPF policy); every other value and the record set's TTL survive. A declared
    value of another type claims its record set.
  - Values that are no longer declared are deleted when mail in flight needs them no more (O(retire)), and only where
    the zone's own list of values that this O(owner) wrote has them. The list stands in TXT records at
    C(_mailops.<zone>). An SPF policy narrows no sooner, so that an address may leave a pool while its last mail is
    under way.
  - What somebody else changed of our values, and what of theirs is replaced, is a warning of the run that does it.
  - A write is never repeated. After a failure the zone is read and planned anew, so a run that was interrupted is
    finished by the next one.
  - One task serves all zones. A zone that fails does not stop the others; the task fails at the end with every finding.
  - A value that is declared absent leaves at once and whatever O(retire) says, if this O(owner) wrote it.
requirements:
  - dnspython, for the provider V(rfc2136)
  - cryptography, for the provider V(google)
  - octodns and the package of its provider, for the provider V(octodns)
attributes:
  check_mode:
    description: Reads the zones and reports what would change, and writes nothing.
    support: full
  diff_mode:
    description: Shows the values of each zone that change, one a line.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
extends_documentation_fragment:
  - mailops.mta.dns.zones
  - mailops.mta.dns.records
  - mailops.mta.dns.dkim_records
options:
  owner:
    description: The name of the fleet. Values of other owners in the same zone are never touched.
    type: str
    required: true
  zones:
    required: true
  credentials:
    description:
      - Access to the services, by name; see the table in docs/dns.md for what each takes. Only values that are no
        secrets, such as C(url), C(server) and C(key_name), are ever shown.
    type: dict
    default: {}
  retire:
    description:
      - When the values leave that this owner wrote and no longer declares.
      - V(due) deletes what nobody has declared for O(retire_after_days). V(never) only reports. V(now) deletes at once,
        and narrows SPF policies at once.
    type: str
    choices: [due, never, now]
    default: due
  retire_after_days:
    description:
      - How long a value stays after it is no longer declared. The default is five days in the queue of the sender and
        five more for what comes back from the queue of the receiver.
    type: int
    default: 10
  scope:
    description:
      - V(zone) reads whole zones and so finds every drift. V(changes) trusts the list in the zone and looks only at
        record sets that are not as it says, for a quick run after a small change.
    type: str
    choices: [zone, changes]
    default: zone
  force:
    description: Apply a plan even where it touches more than O(max_change_percent).
    type: bool
    default: false
  max_change_percent:
    description: How much of a zone's owned values one run may delete or update. Counts from ten owned record sets.
    type: float
    default: 30
  timeout_seconds:
    description: How long one zone may take, with all waits and repeated readings.
    type: float
    default: 120
seealso:
  - module: community.general.nsupdate
"""

EXAMPLES = r"""
- name: Publish the records of the fleet
  mailops.mta.dns_records:
    owner: example
    zones:
      - {name: example.com, provider: powerdns, credentials: pdns, options: {servers: [192.0.2.53]}}
    records:
      - {name: mta1.example.com, type: A, ttl: 3600, values: [192.0.2.10], reason: EHLO name}
      - {name: example.com, type: TXT, ttl: 3600, values: ["v=spf1 ip4:192.0.2.10 -all"], reason: SPF}
    credentials:
      pdns: {url: "https://ns1.example.com:8081", api_key: "{{ vault_pdns_api_key }}"}
  delegate_to: localhost

- name: Take one key away at once, and leave alone whatever else stands at its name
  mailops.mta.dns_records:
    owner: example
    zones:
      - {name: example.com, provider: powerdns, credentials: pdns}
    records:
      - {name: m1._domainkey.example.com, type: TXT, state: absent, values: ["v=DKIM1; k=rsa; p=MIIBIjAN..."]}
    credentials:
      pdns: {url: "https://ns1.example.com:8081", api_key: "{{ vault_pdns_api_key }}"}
    retire: never
  delegate_to: localhost

- name: Delete at once what the fleet wrote and needs no more
  mailops.mta.dns_records:
    owner: "{{ mta_dns.owner }}"
    zones: "{{ mta_dns.zones }}"
    records: "{{ mta_dns.records }}"
    credentials: "{{ mta_dns_credentials }}"
    retire: now
  delegate_to: localhost
"""

RETURN = r"""
zones:
  description: What happened in each zone.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The zone.
      type: str
      returned: always
    provider:
      description: The service.
      type: str
      returned: always
    changed:
      description: Whether anything in it was written.
      type: bool
      returned: always
    created:
      description: How many record sets came.
      type: int
      returned: always
    updated:
      description: How many record sets are different.
      type: int
      returned: always
    deleted:
      description: How many record sets went.
      type: int
      returned: always
    leaving:
      description: Values that this owner wrote and no longer declares, and the day until which they stay.
      type: list
      elements: dict
      returned: always
    findings:
      description: What is wrong, and what to do about it.
      type: list
      elements: dict
      returned: always
  sample:
    - name: example.com
      provider: powerdns
      changed: true
      created: 2
      updated: 0
      deleted: 0
      leaving:
        - {record: mta9.example.com 3600 A 192.0.2.19, until: "2026-12-04"}
      findings: []
external:
  description: Record sets of zones that somebody else runs, for their owners to set.
  returned: always
  type: list
  elements: str
  sample: ["10.2.0.192.in-addr.arpa 3600 PTR mta1.example.com."]
unknown_keys:
  description:
    - Names below C(_domainkey) that hold a DKIM key or an alias, and that no record declares. A record that is absent
      or gives no values declares only what this O(owner) wrote.
    - Zones count that were read whole, which O(scope=changes) avoids.
  returned: always
  type: list
  elements: str
  sample: [old2019._domainkey.example.com]
findings:
  description: All findings, those of every zone included.
  returned: always
  type: list
  elements: dict
  sample:
    - severity: error
      where: zone example.com (powerdns)
      found: "the PowerDNS API refused the key (HTTP 401: Unauthorized)"
      why: api_key is not the server's
      remedy: correct api_key in the credentials
"""

import json
import re
import time
import urllib.parse
from contextlib import suppress
from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.arguments import dns
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding, errors, report
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import ownership, plan
from ansible_collections.mailops.mta.plugins.module_utils.providers import table
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access
from ansible_collections.mailops.mta.plugins.module_utils.providers.sync import zones as sync

REQUEST_SECONDS = 20.0
DAY_SECONDS = 86400


def argument_spec():
    return {
        "owner": {"type": "str", "required": True},
        "zones": {**dns.ZONES, "required": True},
        "records": dns.RECORDS,
        **dns.OF_KEY_HOST,
        "credentials": {"type": "dict", "default": {}, "no_log": True},
        "retire": {"type": "str", "choices": ["due", "never", "now"], "default": "due"},
        "retire_after_days": {"type": "int", "default": 10},
        "scope": {"type": "str", "choices": ["zone", "changes"], "default": "zone"},
        "force": {"type": "bool", "default": False},
        "max_change_percent": {"type": "float", "default": 30},
        "timeout_seconds": {"type": "float", "default": 120},
    }


def secrets(given):
    """The values that no output may hold; all but those of keys known to be harmless."""
    if isinstance(given, dict):
        inner = [secrets(value) for key, value in given.items() if key not in services.PUBLIC or key == "url"]
        return set().union(*inner)
    if isinstance(given, (list, tuple)):
        return set().union(*map(secrets, given))
    text = "" if given is None else str(given)
    if re.match(r"https?://", text):
        return {part for part in (urllib.parse.urlsplit(text).password,) if part}
    found = {text, text.strip(), urllib.parse.quote_plus(text), urllib.parse.quote(text)} - {""}
    if text.lstrip().startswith("{"):
        with suppress(ValueError):  # an account as JSON text holds a key in other spelling
            found |= secrets(json.loads(text))
    return found


def in_clear_text(credentials):
    """The entries whose key crosses a network unencrypted, and where to."""
    for label, given in credentials.items():
        for name in ("url", "login_url") if isinstance(given, dict) else ():
            with suppress(ValueError):
                parsed = urllib.parse.urlsplit(str(given.get(name) or ""))
                if parsed.scheme == "http" and parsed.hostname and names.reach(parsed.hostname) != "host":
                    yield label, parsed.hostname


def trimmed(credentials):
    """Keys as they were meant: what came from a file or a YAML block ends in a line break."""
    return {key: value.strip() if isinstance(value, str) else value for key, value in credentials.items()}


def jobs(params):
    """The work by zone, the records of zones that are not ours to write, and findings for what cannot be worked on."""
    findings = []
    if not ownership.OWNER.match(params["owner"]):
        findings.append(
            Finding(
                "owner",
                f"'{params['owner']}'",
                "it is written into DNS",
                "use letters, digits, dots and hyphens, 63 at most",
            )
        )
    zones = {}
    for zone in params["zones"]:
        try:
            name = names.to_ascii(zone["name"])
        except ValueError as error:
            findings.append(Finding(f"zone {zone['name']}", "the name", str(error), "write a domain name"))
            continue
        if name in zones:
            findings.append(Finding(f"zone {name}", "given twice", "one service writes it", "leave one entry"))
        zones[name] = zone
    of_keys, problems = plan.of_key_host(params["dkim_records"], params["dkim_series"])
    findings.extend(problems)
    wanted, problems = plan.assign(zones, params["records"] + of_keys)
    findings.extend(problems)
    result = []
    external = []
    for name, zone in zones.items():
        if zone["provider"] == services.EXTERNAL:
            external.extend(line for record_set in wanted[name].sets for line in record_set.lines())
            continue
        service = services.SERVICES[zone["provider"]]
        given = (params["credentials"] or {}).get(zone["credentials"]) if zone["credentials"] else {}
        wrong = _credential_problems(name, zone, given, service) + _option_problems(name, zone["options"], service)
        if wrong:
            findings.extend(wrong)
            continue
        options = zone["options"]
        seconds = params["timeout_seconds"]
        access = Access(name, trimmed(given), options, min(REQUEST_SECONDS, seconds), seconds)
        result.append(
            sync.Job(
                name,
                zone["provider"],
                partial(table.OPEN[zone["provider"]], access),
                wanted[name],
                tuple(str(each) for each in options.get("servers") or ()),
                float(options.get("servers_wait_seconds", 10)),
            )
        )
    return result, external, findings


def _credential_problems(name, zone, given, service):
    where = f"zone {name}"
    label = zone["credentials"]
    if label is None and service.required:
        text = f"{zone['provider']} needs {', '.join(service.required)}"
        return [Finding(where, "no credentials", text, "write credentials: <entry> in the zone, and add the entry")]
    if not isinstance(given, dict):
        return [
            Finding(
                where, f"credentials '{label}'", "there are none of that name", f"add {label} to mta_dns_credentials"
            )
        ]
    missing = [key for key in service.required if not given.get(key)]
    unknown = sorted(set(given) - set(service.required) - set(service.optional))
    findings = []
    if missing:
        text = f"{zone['provider']} needs {', '.join(service.required)}"
        findings.append(
            Finding(where, f"credentials '{label}' without {', '.join(missing)}", text, "add what is missing")
        )
    if unknown:
        known = ", ".join((*service.required, *service.optional)) or "nothing"
        text = f"{zone['provider']} knows {known}"
        findings.append(Finding(where, f"credentials '{label}' with {', '.join(unknown)}", text, "correct the name"))
    return findings


def _option_problems(name, options, service):
    known = (*services.COMMON_OPTIONS, *service.options)
    unknown = sorted(set(options) - set(known))
    findings = []
    if unknown:
        text = f"known are {', '.join(known)}"
        findings.append(Finding(f"zone {name}", f"options with {', '.join(unknown)}", text, "correct the name"))
    listed = options.get("servers") or []
    if not isinstance(listed, list):
        findings.append(Finding(f"zone {name}", "options.servers", "it is no list", "write a list of servers"))
        listed = []
    for each in listed:
        try:
            names.endpoint(str(each))
        except ValueError as error:
            findings.append(Finding(f"zone {name}", "options.servers", str(error), "correct it"))
    wait = options.get("servers_wait_seconds", 10)
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or wait < 0:
        findings.append(
            Finding(f"zone {name}", "options.servers_wait_seconds", "it is no number of seconds", "correct it")
        )
    return findings


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    # Without this every value in it would be struck out of all output, the port 53 out of addresses for example.
    module.no_log_values = secrets(params["credentials"] or {})
    work, external, findings = jobs(params)
    policy = sync.Policy(
        owner=params["owner"],
        retire=plan.Retire(params["retire"], int(time.time() // DAY_SECONDS), params["retire_after_days"]),
        changed_only=params["scope"] == "changes",
        force=params["force"],
        max_change_percent=params["max_change_percent"],
        timeout_seconds=params["timeout_seconds"],
        check=module.check_mode,
        diff=module._diff,
    )
    # Records that cannot stand must not make the rest look like the whole: nothing is written then.
    outcomes = [] if errors(findings) else sync.run_all(work, policy)
    every = findings + [finding for outcome in outcomes for finding in outcome.findings]
    result = {**sync.summary(outcomes), "external": external, "findings": [finding.as_dict() for finding in every]}
    if errors(every):
        failed = len({outcome.zone for outcome in outcomes if errors(outcome.findings)})
        what = (
            f"{failed} of {len(outcomes)} zone(s) are not as wanted"
            if outcomes
            else "The input is refused, nothing was asked"
        )
        module.fail_json(msg=f"{what}:\n{report(every)}", **result)
    for finding in every:
        module.warn(str(finding))
    for label, host in in_clear_text(params["credentials"] or {}):
        module.warn(
            f"credentials '{label}': the key goes to {host} in clear text, and who reads that network has it. "
            f"Have TLS put before the service and write https."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
