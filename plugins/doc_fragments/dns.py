# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules for DNS have in common; their argument specifications take it from arguments/dns.py."""

from __future__ import annotations


class ModuleDocFragment:
    ZONES = r"""
options:
  zones:
    description: The zones and who serves them, as in the variable C(mta_dns) of the host C(fleet).
    type: list
    elements: dict
    suboptions:
      name:
        description: The zone's name. What is in several zones belongs to the longest of them.
        type: str
        required: true
      provider:
        description: The service. Zones of V(external) are run by somebody else and never written.
        type: str
        required: true
        choices:
          - azure
          - cloudflare
          - desec
          - digitalocean
          - external
          - gandi
          - google
          - hetzner
          - memory
          - octodns
          - ovh
          - powerdns
          - rfc2136
          - route53
      credentials:
        description: Which entry of the option C(credentials) of M(mailops.mta.dns_records) opens it.
        type: str
      options:
        description:
          - Settings of this zone.
          - C(servers) lists its authoritative servers (addresses or names, C(:port) where it is not 53). Else its NS
            records do, where servers are asked; M(mailops.mta.dns_records) then asks none.
          - C(servers_wait_seconds) is how long they may lag after a change, 10 by default.
          - C(hosted_zone_id) names one of several hosted zones of the same name (V(route53)).
          - C(managed_zone) names the zone where its name does not tell (V(google)).
          - C(resource_group) is the one of this zone (V(azure)).
        type: dict
        default: {}
      signed:
        description: Whether the zone is signed (DNSSEC). M(mailops.mta.dns_audit) judges by it.
        type: bool
        default: false
"""

    RECORDS = r"""
options:
  records:
    description: The record sets that the fleet needs. Record sets of the same name and type are united.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The full name.
        type: str
        required: true
      type:
        description: The type, such as V(TXT).
        type: str
        required: true
      ttl:
        description: Seconds. 3600 where nothing is given.
        type: int
      values:
        description:
          - The values as in a zone file. TXT is written as plain text of any length, or in quotes.
          - Where there are none, nothing is known about this record set yet.
        type: list
        elements: str
      state:
        description: V(absent) says that these values must not stand there. Where another entry has them, they stay.
        type: str
        choices: [present, absent]
        default: present
      reason:
        description: What it is for.
        type: str
      streams:
        description: Which streams need it.
        type: list
        elements: str
      domain:
        description: Whose DKIM key it is. Like what follows it is not used here; records of a key host fit as they are.
        type: str
      selector:
        description: The selector of that key.
        type: str
      algorithm:
        description: The algorithm of that key.
        type: str
      life:
        description: Where in its life that key is.
        type: str
      signs:
        description: Whether hosts sign with that key.
        type: bool
"""

    # Ansible's tests read fragments as they stand, so the suboptions are here twice.
    DKIM_RECORDS = r"""
options:
  dkim_records:
    description:
      - The record sets of DKIM keys as the key host gives them (RV(mailops.mta.dkim_rotation#module:records)).
      - One that is none of a DKIM key is an error, and then nothing is written.
      - A selector is one label and no wildcard, and the text of a key is one of RFC 6376.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The full name.
        type: str
        required: true
      type:
        description: The type, such as V(TXT).
        type: str
        required: true
      ttl:
        description: Seconds. 3600 where nothing is given.
        type: int
      values:
        description:
          - The values as in a zone file. TXT is written as plain text of any length, or in quotes.
          - Where there are none, nothing is known about this record set yet.
        type: list
        elements: str
      state:
        description: V(absent) says that these values must not stand there. Where another entry has them, they stay.
        type: str
        choices: [present, absent]
        default: present
      reason:
        description: What it is for.
        type: str
      streams:
        description: Which streams need it.
        type: list
        elements: str
      domain:
        description: Whose DKIM key it is. Like what follows it is not used here; records of a key host fit as they are.
        type: str
      selector:
        description: The selector of that key.
        type: str
      algorithm:
        description: The algorithm of that key.
        type: str
      life:
        description: Where in its life that key is.
        type: str
      signs:
        description: Whether hosts sign with that key.
        type: bool
  dkim_series:
    description:
      - What the fleet signs with, C(mta_dkim_series) of the host C(fleet). C(domain) and C(delegate) are read.
      - Values of O(dkim_records) count at names of these domains only. Of domains that have left, values that are
        absent are to go, and others stay as they are, below C(_domainkey) or a delegation of the fleet.
    type: list
    elements: dict
    default: []
"""

    RESOLVERS = r"""
options:
  resolvers:
    description:
      - Recursive resolvers for what is not asked at the zones' own servers, as addresses.
        A port other than 53 follows a colon, after an IPv6 address in brackets.
      - Empty asks the system's resolvers.
    type: list
    elements: str
    default: []
  timeout_seconds:
    description: How long to wait for one answer. Every server is tried twice.
    type: float
    default: 5.0
"""
