#!/usr/bin/python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mta_sts_host
short_description: Serve MTA-STS policies over HTTPS
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Runs Apache httpd as a service of its own (C(mailops-mta-sts.service)) that serves the MTA-STS policy of each host
    (RFC 8461) and nothing else, by a certificate that is given or that mod_md gets from an ACME CA (RFC 8555).
  - Given certificates are judged first. OpenSSL must take the pair, and the certificate must be valid now and cover the
    host. The new configuration is tested in a copy. Only then a file is touched. Where the service does not serve every
    policy afterwards, the old files are put back.
  - A changed policy is one replaced file, without a reload. Other changes are a reload, a changed unit is a restart.
extends_documentation_fragment:
  - mailops.mta.attributes
options:
  policies:
    description: What is served.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: Name of the policy host, C(mta-sts.) and the domain.
        type: str
        required: true
      domain:
        description: The mail domain. It is not used here.
        type: str
      policy:
        description: The text, with CRLF as it is to be served.
        type: str
        required: true
      id:
        description: The id of the TXT record. It is not used here.
        type: str
  certificates:
    description:
      - Certificates that are given. A host without one gets its own by O(acme).
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description:
          - The host that it is for, or C(*.example.com) for all hosts directly below a domain, or C(*) for all hosts.
          - The most exact one serves a host, and must cover it.
        type: str
        required: true
      certificate:
        description: The certificate and those of the intermediate CAs in PEM, or the path of a file on the host.
        type: str
        required: true
      private_key:
        description: The private key in PEM, not encrypted, or the path of a file on the host.
        type: str
        required: true
  acme:
    description:
      - The CA for all other hosts. To set it is to agree to the terms of the CA.
    type: dict
    suboptions:
      directory_url:
        description: Address of the CA's directory.
        type: str
        required: true
      email:
        description: Address that the CA writes to.
        type: str
        required: true
      challenge:
        description:
          - How the CA looks whether the host is ours. V(tls-alpn-01) needs no port but 443. For V(http-01) port 80 is
            opened as well, and answers nothing else.
        type: str
        choices: [tls-alpn-01, http-01]
        default: tls-alpn-01
      ca_file:
        description:
          - The CA of the directory itself where that is a private one, in PEM or as the path of a file on the host.
        type: str
  listen:
    description: Addresses to listen on. An empty list means all, because a policy is for the whole world.
    type: list
    elements: str
    default: []
  directory:
    description: Directory of the configuration, certificates and policies. It belongs to this module alone.
    type: path
    default: /etc/mailops-mta-sts
  policies_only:
    description:
      - Only replace the policies that are served already. This is what must happen before a new id is published in DNS.
    type: bool
    default: false
  wait_seconds:
    description:
      - How long to wait for certificates of ACME. The module fails where one is missing then. The server goes on
        trying.
      - 0 does not wait, and warns.
    type: int
    default: 120
attributes:
  check_mode:
    details: Judges the certificates, and the configuration where httpd is installed.
  diff_mode:
    support: partial
    details: Shows the configuration and the policies, of certificates the files' names, of private keys nothing.
  idempotent:
    details: Nothing is written or reloaded where the files are in place and every policy is served.
"""

EXAMPLES = r"""
- name: Serve the policies of this host, by ACME
  mailops.mta.mta_sts_host:
    policies: "{{ mta_mta_sts.policies }}"
    acme:
      directory_url: https://acme-v02.api.letsencrypt.org/directory
      email: postmaster@example.com

- name: Serve one policy by a certificate that is given
  mailops.mta.mta_sts_host:
    policies:
      - host: mta-sts.example.com
        policy: "version: STSv1\r\nmode: testing\r\nmx: mx.example.com\r\nmax_age: 86400\r\n"
    certificates:
      - host: "*.example.com"
        certificate: /etc/ssl/certs/wildcard.pem
        private_key: /etc/ssl/private/wildcard.key
"""

RETURN = r"""
files:
  description: Files that were written or deleted, or would be.
  returned: always
  type: list
  elements: str
  sample: [/etc/mailops-mta-sts/httpd.conf]
pending:
  description: Hosts that have no certificate of ACME yet, with what mod_md says about it.
  returned: always
  type: dict
  sample: {mta-sts.example.com: "the CA considers the answer to the challenge invalid"}
findings:
  description: What is wrong with the input. Errors stop the module before anything is touched.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import contextlib
import hashlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import Finding, errors, report
from ansible_collections.mailops.mta.plugins.module_utils.core.web import policy_host
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import install, lock
from ansible_collections.mailops.mta.plugins.module_utils.shell.web import policy_host as server


class Plan:
    """What the host must hold and serve, and the findings about it."""

    def __init__(self, params):
        hosts = [names.to_ascii(given["host"]) for given in params["policies"]]
        self.directory = params["directory"]
        self.policies = {host: given["policy"] for host, given in zip(hosts, params["policies"])}
        self.acme = _acme(params["acme"])
        self.listen = [address.strip() for address in params["listen"]]
        self.findings = policy_host.check(hosts, self.listen, self.acme)
        self.serving, self.chains, self.keys, self.ca = {}, {}, {}, None

    def choose_certificates(self, certificates, ca):
        pairs = [(given["host"].strip().lower(), given) for given in certificates]
        patterns = [pattern for pattern, _given in pairs]
        self.serving, found = policy_host.assign(self.policies, patterns, self.acme is not None)
        self.findings += found
        for pattern, given in pairs:
            if pattern in self.serving.values():
                self._take(pattern, given)
        if ca is not None:
            self.ca = self._read("acme.ca_file", ca)

    def _take(self, pattern, given):
        where = f"certificates: {pattern}"
        chain, key = self._read(where, given["certificate"]), self._read(where, given["private_key"])
        if chain and "PRIVATE KEY" in chain:
            what, why = "a private key among the certificates", "it would stand in a file for all to read"
            self.findings.append(Finding(where, what, why, "Give the key as private_key alone"))
        if chain and key:
            self.findings += server.judge(
                pattern, chain, key, [host for host, serving in self.serving.items() if serving == pattern]
            )
            self.chains[pattern], self.keys[pattern] = chain, key

    def _read(self, where, value):
        """PEM text, or that of a file on the host."""
        if not value.startswith("/"):
            return value.strip() + "\n"
        try:
            with open(value, encoding="utf-8") as file:
                return file.read().strip() + "\n"
        except (OSError, ValueError) as error:
            text = f"cannot be read ({error.__class__.__name__})"
            remedy = "Put the file on this host, or give its text"
            self.findings.append(Finding(where, value, text, remedy))
            return None

    def policy_files(self):
        return [_file(policy_host.policy_file(self.directory, host), text) for host, text in self.policies.items()]

    def files(self):
        certificates = {
            pattern: hashlib.sha256(chain.encode("utf-8")).hexdigest()[:16] for pattern, chain in self.chains.items()
        }
        place = os.path.join(self.directory, "certificates")
        names_of = {host: certificates.get(pattern) for host, pattern in self.serving.items()}
        text = policy_host.configuration(self.directory, names_of, self.listen, self.acme)
        parts = {"server": server.SERVER, "directory": self.directory, "group": server.GROUP}
        found = self.policy_files()
        for pattern, name in certificates.items():
            found.append(_file(os.path.join(place, name + ".pem"), self.chains[pattern]))
            found.append(_file(os.path.join(place, name + ".key"), self.keys[pattern], server.GROUP))
        if self.ca is not None:
            found.append(_file(os.path.join(self.directory, "ca.pem"), self.ca))
        found.append(_file(os.path.join(self.directory, "event.sh"), server.EVENT_SCRIPT.format(**parts)))
        found.append(_file(os.path.join(self.directory, "httpd.conf"), text))
        found.append(_file(server.UNIT_PATH, server.UNIT.format(**parts)))
        return list({file.path: file for file in found}.values())

    def sites(self):
        return [
            server.Site(
                host, text.encode("utf-8"), server.leaf(self.chains[self.serving[host]]) if self.serving[host] else None
            )
            for host, text in self.policies.items()
        ]


def _file(path, text, group=None):
    return install.File(path, text.encode("utf-8"), group)


def _acme(given):
    if not given:
        return None
    return policy_host.Acme(given["directory_url"], given["email"], given["challenge"], given["ca_file"] is not None)


def main():
    module = AnsibleModule(
        argument_spec={
            "policies": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "host": {"type": "str", "required": True},
                    "domain": {"type": "str"},
                    "policy": {"type": "str", "required": True},
                    "id": {"type": "str"},
                },
            },
            "certificates": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "host": {"type": "str", "required": True},
                    "certificate": {"type": "str", "required": True},
                    "private_key": {"type": "str", "required": True, "no_log": True},
                },
            },
            "acme": {
                "type": "dict",
                "options": {
                    "directory_url": {"type": "str", "required": True},
                    "email": {"type": "str", "required": True},
                    "challenge": {
                        "type": "str",
                        "choices": list(policy_host.CHALLENGES),
                        "default": policy_host.TLS_ALPN_01,
                    },
                    "ca_file": {"type": "str"},
                },
            },
            "listen": {"type": "list", "elements": "str", "default": []},
            "directory": {"type": "path", "default": "/etc/mailops-mta-sts"},
            "policies_only": {"type": "bool", "default": False},
            "wait_seconds": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    # A key that was given in the wrong place is no less a secret.
    module.no_log_values.update(
        given["certificate"] for given in module.params["certificates"] if "PRIVATE KEY" in given["certificate"]
    )
    plan = Plan(module.params)
    if not module.params["policies_only"]:
        plan.choose_certificates(module.params["certificates"], (module.params["acme"] or {}).get("ca_file"))
        plan.findings += [
            Finding("listen", address, "this host has no such address", "Correct it, or leave listen empty")
            for address in plan.listen
            if not server.has_address(address)
        ]
    told = {"findings": [finding.as_dict() for finding in plan.findings]}
    if errors(plan.findings):
        msg = "Nothing was changed:\n" + report(plan.findings)
        module.fail_json(msg=msg, changed=False, files=[], pending={}, **told)
    for finding in plan.findings:
        module.warn(str(finding))
    try:
        patience = module.params["wait_seconds"] + 60
        with contextlib.nullcontext() if module.check_mode else lock.locked(server.LOCK, patience):
            if module.params["policies_only"]:
                _replace_policies(module, plan, told)
            else:
                _serve(module, plan, told)
    except server.HostError as error:
        module.fail_json(msg=f"The policy host was not changed: {error}", files=[], pending={}, **told)
    except OSError as error:
        module.fail_json(msg=f"The policy host cannot be configured: {error}", files=[], pending={}, **told)


def _replace_policies(module, plan, told):
    changed = [file for file in install.differing(plan.policy_files()) if os.path.exists(file.path)]
    if changed and not module.check_mode:
        install.write(changed)
    _finish(module, changed, [], {}, told)


def _serve(module, plan, told):
    wanted = plan.files()
    changed, stale = install.differing(wanted), server.stale(plan.directory, wanted)
    address = plan.listen[0] if plan.listen else "127.0.0.1"
    sites = plan.sites()

    def fault():
        return server.first_fault(sites, address)

    if changed and os.path.exists(server.SERVER):
        server.test(wanted, plan.directory)
    ill = not changed and not (server.service(plan.directory).running() and fault() is None)
    pending = {}
    if not module.check_mode:
        if changed:
            server.replace(changed, plan.directory, fault)
        elif ill:
            server.follow([os.path.join(plan.directory, "httpd.conf")], plan.directory, fault)
        server.remove(stale)
        pending = _wait_for_acme(module, plan, sites, address, asked=bool(changed or ill))
    _finish(module, changed, stale, pending, told, ill)


def _wait_for_acme(module, plan, sites, address, asked):
    waiting = [site for site in sites if site.certificate is None]

    def pending():
        return [site.host for site in waiting if server.fault(site, address)]

    if module.params["wait_seconds"] and not asked and pending():
        server.retry()
    server.wait_for(module.params["wait_seconds"], lambda: not pending())
    return {host: server.acme_detail(host) for host in pending()}


def _finish(module, changed, stale, pending, told, ill=False):
    result = {
        "changed": bool(changed or stale or ill),
        "files": sorted([*(file.path for file in changed), *stale]),
        "pending": pending,
        "diff": [_difference(file) for file in changed if file.group is None]
        + [{"before_header": path, "before": "present\n", "after": ""} for path in stale if not path.endswith(".key")],
        **told,
    }
    missing = [
        Finding(
            host,
            "no certificate yet",
            f"ACME: {detail}. Until then senders see no policy here, and go on as without one (RFC 8461 3.3)",
            "See that the name points to this host in DNS and that the CA reaches it; the server goes on trying",
        )
        for host, detail in pending.items()
    ]
    if missing and module.params["wait_seconds"]:
        module.fail_json(msg="The policies are in place, but not all are served:\n" + report(missing), **result)
    for finding in missing:
        module.warn(str(finding))
    module.exit_json(**result)


def _difference(file):
    shown = file.difference
    if file.path.endswith(".pem"):
        before = shown["before"] and "a certificate\n"
        return {**shown, "before": before, "after": "another certificate\n" if before else "a certificate\n"}
    return shown


if __name__ == "__main__":
    main()
