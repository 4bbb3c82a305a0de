# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every key of the fleet file. ansible-doc of the inventory plugin shows them, and the tables of docs/fleet.md are made
from them (``python tests/tools/fleet_keys.py``).

A name in angle brackets stands for a name that the user chooses. A key of a stream that is described "as" a fleet-wide
key has the shape of that key. Paragraphs that begin with ``Range:``, ``Default:`` (one that is computed) and
``Example:`` are read by the tables and by the test, which asks the parser whether they are true.
"""

from __future__ import annotations


class ModuleDocFragment:
    KEYS = r"""
options:
  plugin:
    description:
      - The inventory plugin that reads the file.
      - 'Example: C(plugin: mailops.mta.fleet)'
    type: str
    required: true
    choices: [mailops.mta.fleet]
  domain:
    description:
      - The organisational domain.
      - 'Example: C(domain: example.com)'
    type: str
    required: true
  name:
    description:
      - The owner of what the fleet publishes in DNS. Two fleets in one zone need two names.
      - 'Default: the value of O(domain)'
      - 'Example: C(name: outbound)'
    type: str
  bounce_host:
    description:
      - The host that receives bounces. It is the MX of every return-path domain.
      - If its name is in a zone of the file that is not V(external), and no record of the file gives it an address,
        you get a warning. Write the address in O(records), or prove with C(docs/dns_audit.md) that another tool
        publishes it.
      - 'Default: none; the key is needed unless each stream has C(return_path.mx)'
      - 'Example: C(bounce_host: bounces.example.com)'
    type: str
  key_host:
    description:
      - The host that keeps the DKIM keys.
      - 'Default: the only host; with two hosts or more the key is needed'
      - 'Example: C(key_host: mta1)'
    type: str
  hosts:
    description:
      - The hosts by name. Beside the keys below, a host may have any connection variable of Ansible, a key that
        begins with C(ansible_).
      - 'Example: C(hosts: {mta1: {ansible_host: 10.0.0.11}})'
    type: dict
    required: true
    suboptions:
      <host>:
        description:
          - The name of the host in the inventory.
        type: dict
        suboptions:
          engine:
            description:
              - The mail server of the host. V(none) is a host that sends no mail. It serves MTA-STS policies or
                keeps the keys, is not in the group C(mta) and needs no C(listen).
              - 'Example: C(engine: powermta)'
            type: str
            choices: [postfix, powermta, none]
            default: postfix
          listen:
            description:
              - Addresses on which applications reach the host.
              - 'Default: the value of C(ansible_host), if that is an address; otherwise the key is needed'
              - 'Example: C(listen: [10.0.0.21])'
            type: list
            elements: str
          families:
            description:
              - Address families with which the host sends.
              - 'Example: C(families: [ipv4])'
            type: list
            elements: str
            choices: [ipv4, ipv6]
            default: [ipv4, ipv6]
          interface:
            description:
              - Network interface for the addresses of the pools. Up to 15 letters, digits, dots, hyphens and
                underscores.
              - 'Default: the interface of the default route'
              - 'Example: C(interface: eth1)'
            type: str
          bounce_listen:
            description:
              - Addresses on which a PowerMTA host receives bounces and complaints, port 25.
              - 'Example: C(bounce_listen: [203.0.113.60])'
            type: list
            elements: str
          firewall:
            description:
              - Whether the collection manages the firewall of the host, see C(docs/firewall.md). V(false) is for a
                host that has a firewall of its own.
              - 'Example: C(firewall: false)'
            type: bool
            default: true
  zones:
    description:
      - The DNS zones by name, and the service of each. Internationalised names (IDN) are accepted.
      - 'Example: C(zones: {example.com: {provider: powerdns, credentials: pdns}})'
    type: dict
    required: true
    suboptions:
      <zone>:
        description:
          - The name of the zone.
        type: dict
        suboptions:
          provider:
            description:
              - The DNS service. The page C(docs/dns.md) lists its credentials and options. V(external) is a zone
                that somebody else runs. Its records are listed and audited, and never written.
              - 'Example: C(provider: rfc2136)'
            type: str
            required: true
            choices:
              - external
              - azure
              - cloudflare
              - desec
              - digitalocean
              - gandi
              - google
              - hetzner
              - octodns
              - ovh
              - powerdns
              - rfc2136
              - route53
          credentials:
            description:
              - The entry of the variable C(mta_dns_credentials) with the credentials of the service.
              - 'Default: none; most services need the key'
              - 'Example: C(credentials: rdns)'
            type: str
          options:
            description:
              - Options of the service, see C(docs/dns.md).
              - 'Example: C(options: {servers: [ns1.example.com]})'
            type: dict
          signed:
            description:
              - Whether the zone is signed with DNSSEC, which C(return_path.tlsa) needs.
              - 'Example: C(signed: true)'
            type: bool
            default: false
          network:
            description:
              - The IPv4 network of a classless reverse zone (RFC 2317), /25 or longer.
              - 'Default: taken from a zone name such as V(0/26.113.0.203.in-addr.arpa)'
              - 'Example: C(network: 203.0.113.0/26)'
            type: str
  streams:
    description:
      - The streams of mail by name. A name has up to 31 small letters, digits and underscores.
      - 'Example: C(streams: {bulk: {domain: news.example.com, port: 2527, inject_from: [10.0.0.0/8], addresses:
        [{ip: 203.0.113.20, host: mta1}]}})'
    type: dict
    required: true
    suboptions:
      <stream>:
        description:
          - The name of the stream.
        type: dict
        suboptions:
          domain:
            description:
              - The From domain of the stream. No other stream may use it.
              - 'Example: C(domain: tx.example.com)'
            type: str
            required: true
          extra_domains:
            description:
              - Further From domains. Each has DKIM keys and policies of its own.
              - 'Example: C(extra_domains: [billing.example.com])'
            type: list
            elements: str
          port:
            description:
              - The port on which applications inject the mail of this stream, on every host of the stream.
              - 'Range: 1 to 65535'
              - 'Example: C(port: 2526)'
            type: int
            required: true
          inject_from:
            description:
              - Networks that may inject mail, none wider than /8 (IPv6 /16).
              - 'Default: none; C(inject_from) or C(inject_users) is needed'
              - 'Example: C(inject_from: [10.20.0.0/16])'
            type: list
            elements: str
          inject_users:
            description:
              - SASL logins that may inject mail, over TLS.
              - 'Example: C(inject_users: [shop])'
            type: list
            elements: str
          addresses:
            description:
              - The pool of the stream.
              - 'Example: C(addresses: [{ip: 203.0.113.11, host: mta1}])'
            type: list
            elements: dict
            required: true
            suboptions:
              ip:
                description:
                  - The source address, IPv4 or IPv6. An address that the Internet does not route, such as
                    C(10.0.0.0/8) or C(fc00::/7), is a warning, except under C(.test).
                  - 'Default: none; C(ip) or C(ip6) is needed'
                  - 'Example: C(ip: 203.0.113.12)'
                type: str
              ip6:
                description:
                  - An IPv6 source address with the same EHLO name.
                  - 'Example: C(ip6: 2001:db8::10)'
                type: str
              host:
                description:
                  - The host that has the address.
                  - 'Example: C(host: mta2)'
                type: str
                required: true
              ehlo:
                description:
                  - The EHLO name. Two addresses of a stream with the same last part, such as 203.0.113.10 and
                    198.51.100.10, need C(ehlo) for one of them.
                  - 'Default: derived from the last part of the address, such as C(mta10.tx.example.com) for
                    203.0.113.10'
                  - 'Example: C(ehlo: out1.tx.example.com)'
                type: str
              share:
                description:
                  - The part of the traffic that the address gets, relative to the other addresses of the pool on
                    its host. V(0) drains the address. On PowerMTA every share except V(0) counts the same.
                  - 'Range: 0 to 100'
                  - 'Example: C(share: 2)'
                type: int
                default: 1
              warmup_from:
                description:
                  - The day on which a new address of a PowerMTA host begins to follow C(warmup).
                  - 'Default: the address is established'
                  - 'Example: C(warmup_from: 2026-11-09)'
                type: str
          separate_from:
            description:
              - V(all), or the names of streams that may not share the organisational domain of this stream.
              - 'Example: C(separate_from: all)'
            type: list
            elements: str
          return_path:
            description:
              - The domain of every envelope sender of the stream.
              - 'Example: C(return_path: {domain: r.tx.example.com})'
            type: dict
            suboptions:
              domain:
                description:
                  - The return-path domain. Every envelope sender of the stream is moved to it.
                  - 'Default: C(domain) of the stream'
                  - 'Example: C(domain: r.tx.example.com)'
                type: str
              mx:
                description:
                  - The hosts that receive the bounces of the stream.
                  - 'Default: O(bounce_host)'
                  - 'Example: C(mx: [bounces.example.net])'
                type: list
                elements: str
              tlsa:
                description:
                  - Data of TLSA records with usage 2 or 3 (RFC 7672). They are published for each host of C(mx) in
                    a zone of the file, which must be C(signed).
                  - 'Example: C(tlsa: ["3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"])'
                type: list
                elements: str
          spf:
            description:
              - What the SPF record says beside the pool.
              - 'Example: C(spf: {all: ~all})'
            type: dict
            suboptions:
              include:
                description:
                  - Domains whose SPF record is included.
                  - 'Example: C(include: [spf.example.net])'
                type: list
                elements: str
              all:
                description:
                  - What receivers do with mail from every other address.
                  - 'Example: C(all: ~all)'
                type: str
                choices: [-all, ~all]
                default: -all
          dkim:
            description: As O(dkim), for this stream.
            type: dict
          dmarc:
            description: As O(dmarc), for this stream.
            type: dict
          mta_sts:
            description: As O(mta_sts), for this stream.
            type: dict
          tls_rpt:
            description: As O(tls_rpt), for this stream.
            type: list
            elements: str
          bimi:
            description: As O(bimi), for this stream.
            type: dict
          caa:
            description: As O(caa), for this stream.
            type: dict
          verifications:
            description: As O(verifications), for this stream.
            type: list
            elements: str
          warmup:
            description: As O(warmup), for this stream.
            type: dict
          ttl_seconds:
            description: As O(ttl_seconds), for this stream.
            type: int
          queue_life_seconds:
            description: As O(queue_life_seconds), for this stream.
            type: int
          max_message_bytes:
            description: As O(max_message_bytes), for this stream.
            type: int
          remove_received:
            description: As O(remove_received), for this stream.
            type: bool
          receivers:
            description:
              - Limits of this stream at receiver groups, by the name of the group. A new group is written at the top
                level only.
              - 'Example: C(receivers: {google: {concurrency: 2}})'
            type: dict
            suboptions:
              <group>:
                description: As the group of O(receivers), without C(domains).
                type: dict
  receivers:
    description:
      - Receiver groups, which are mailboxes behind the same operator, and the limits of one source address at each.
        V(google), V(microsoft), V(yahoo), V(apple) and V(default) are known. Other groups need C(domains).
      - 'Default: the limits of the known groups'
      - 'Example: C(receivers: {webde: {domains: [web.de, gmx.de], concurrency: 3}})'
    type: dict
    suboptions:
      <group>:
        description:
          - The name of the receiver group.
        type: dict
        suboptions:
          domains:
            description:
              - The recipient domains of the group.
              - 'Default: those of the known group; a new group needs the key, and C(default) cannot have it'
              - 'Example: C(domains: [web.de, gmx.de])'
            type: list
            elements: str
          concurrency:
            description:
              - Connections from one source address at the same time.
              - 'Range: 1 to 1000'
              - 'Default: that of the known group, else of C(default) (10)'
              - 'Example: C(concurrency: 3)'
            type: int
          messages_per_connection:
            description:
              - Messages in one connection.
              - 'Range: 1 to 10000'
              - 'Default: that of the known group, else of C(default) (100)'
              - 'Example: C(messages_per_connection: 20)'
            type: int
          rate_delay_seconds:
            description:
              - Pause between two deliveries of one source address, in seconds.
              - 'Range: 0 to 3600'
              - 'Default: that of the known group, else of C(default) (0)'
              - 'Example: C(rate_delay_seconds: 1)'
            type: int
          tls:
            description:
              - V(encrypt) sends over TLS only, V(may) over TLS where the receiver offers it.
              - 'Default: that of the known group, else of C(default) (V(may))'
              - 'Example: C(tls: encrypt)'
            type: str
            choices: [may, encrypt]
  front:
    description:
      - A listener for applications that cannot choose a port.
      - 'Default: no front listener'
      - 'Example: C(front: {port: 2500, default: one, inject_from: [10.0.0.0/8]})'
    type: dict
    suboptions:
      port:
        description:
          - The port of the listener.
          - 'Range: 1 to 65535'
          - 'Example: C(port: 2501)'
        type: int
        required: true
      header:
        description:
          - The header field that names the stream of a message. It is removed before the message leaves.
          - 'Example: C(header: X-Stream)'
        type: str
        default: X-Binding
      default:
        description:
          - The stream of a message that names none.
          - 'Example: C(default: two)'
        type: str
        required: true
      inject_from:
        description:
          - Networks that may inject mail, none wider than /8 (IPv6 /16).
          - 'Example: C(inject_from: [10.20.0.0/16])'
        type: list
        elements: str
      hosts:
        description:
          - The hosts with the listener.
          - 'Default: every host with an engine'
          - 'Example: C(hosts: [mta1])'
        type: list
        elements: str
  verify:
    description:
      - Where proof mail goes, see C(docs/proof.md).
      - 'Default: none; DNS is proven and mail is not'
      - 'Example: C(verify: {sink_domain: sink.example.net, sink_host: sink1})'
    type: dict
    suboptions:
      sink_domain:
        description:
          - The mail domain of the sink.
          - 'Example: C(sink_domain: sink.example.org)'
        type: str
        required: true
      sink_host:
        description:
          - The inventory host that runs the sink.
          - 'Example: C(sink_host: sink2)'
        type: str
        required: true
  records:
    description:
      - Further record sets that the fleet owns. A name that follows from a stream is refused, but further TXT
        values may be added there.
      - 'Default: no further record sets'
      - >-
        Example: C(records: [{name: www.example.com, type: A, values: [203.0.113.80], reason: web site of marketing}])
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The full name.
          - 'Example: C(name: web.example.com)'
        type: str
        required: true
      type:
        description:
          - The record type.
          - 'Example: C(type: TXT)'
        type: str
        required: true
      values:
        description:
          - The values as in a zone file, TXT as plain text.
          - 'Example: C(values: [203.0.113.81])'
        type: list
        elements: str
        required: true
      ttl_seconds:
        description:
          - The TTL in seconds.
          - 'Range: 30 to 86400'
          - 'Default: O(ttl_seconds) of the fleet'
          - 'Example: C(ttl_seconds: 300)'
        type: int
      reason:
        description:
          - What the record set is for, and who uses it.
          - 'Example: C(reason: web site of sales)'
        type: str
        required: true
  organisational_dmarc:
    description:
      - The policy at C(_dmarc.) of O(domain). Its keys are those of O(dmarc) without C(inherit).
      - 'Default: not published'
      - 'Example: C(organisational_dmarc: {policy: quarantine})'
    type: dict
  dkim:
    description:
      - How DKIM keys are made and replaced. The keys and their selectors are on the key host alone, see
        C(docs/dkim.md).
      - 'Example: C(dkim: {rsa_bits: 3072})'
    type: dict
    suboptions:
      algorithms:
        description:
          - The algorithms of the keys. A message is signed with each.
          - 'Default: V(rsa) and V(ed25519); V(rsa) alone if a host of the stream has an engine without Ed25519
            (PowerMTA)'
          - 'Example: C(algorithms: [rsa])'
        type: list
        elements: str
        choices: [rsa, ed25519]
      rsa_bits:
        description:
          - The size of RSA keys, a multiple of 1024.
          - 'Range: 2048 to 4096'
          - 'Example: C(rsa_bits: 3072)'
        type: int
        default: 2048
      selector:
        description:
          - What selectors begin with, up to 40 small letters, digits and hyphens. A date follows. A key that has
            this bare name already is taken over as the first one.
          - 'Example: C(selector: mail)'
        type: str
        default: s1
      rotation:
        description:
          - When a key is replaced, by the calendar or by its age.
          - 'Example: C(rotation: {every_days: 180})'
        type: dict
        suboptions:
          quarters:
            description:
              - A key is replaced when these quarters of the year begin.
              - 'Range: 1 to 4'
              - 'Example: C(quarters: [2, 4])'
            type: list
            elements: int
            default: [1, 3]
          every_days:
            description:
              - A key is replaced at this age in days. It must leave the time to publish a key, to wait for caches
                and to retire the old key. V(0) replaces keys on demand only.
              - 'Range: 0 to 3650'
              - 'Default: none; C(quarters) decide'
              - 'Example: C(every_days: 180)'
            type: int
      delegate:
        description:
          - A domain of yours that holds the keys, at C(<selector>.<domain>.<delegate>). An alias (CNAME) at
            C(<selector>._domainkey.<domain>) points to each.
          - 'Default: not delegated'
          - 'Example: C(delegate: dkim.example.com)'
        type: str
      slots:
        description:
          - Fixed selectors, used in turn. They are for a sending domain whose zone is V(external). Its owner sets
            the aliases once, and no new key needs another. Two or more, and with C(delegate) only.
          - 'Default: none; selectors have dates'
          - 'Example: C(slots: [a, b])'
        type: list
        elements: str
      first_key:
        description:
          - V(now) signs with the first key of a domain as soon as every authoritative server publishes it. V(wait)
            also waits for caches, which may hold that there is no key because somebody asked for it before.
          - 'Example: C(first_key: wait)'
        type: str
        choices: [now, wait]
        default: now
      margin_seconds:
        description:
          - What is added to every wait for caches, in seconds.
          - 'Range: 0 to 604800'
          - 'Example: C(margin_seconds: 7200)'
        type: int
        default: 3600
      keep_retired_seconds:
        description:
          - How long a key stays published after the last host signed with it, in seconds. At least until mail in
            the queue was tried for the last time (C(queue_life_seconds) and 4300 more) and a TTL is over.
          - 'Range: 60 to 5184000'
          - 'Default: C(queue_life_seconds) + 172800'
          - 'Example: C(keep_retired_seconds: 1209600)'
        type: int
  dmarc:
    description:
      - The DMARC policy (RFC 9989).
      - 'Example: C(dmarc: {policy: reject})'
    type: dict
    suboptions:
      policy:
        description:
          - The policy (p).
          - 'Example: C(policy: quarantine)'
        type: str
        choices: [none, quarantine, reject]
        default: none
      subdomain_policy:
        description:
          - The policy of subdomains (sp).
          - 'Default: not published, which means C(policy)'
          - 'Example: C(subdomain_policy: reject)'
        type: str
        choices: [none, quarantine, reject]
      missing_policy:
        description:
          - The policy of names that do not exist (np).
          - 'Default: not published, which means C(subdomain_policy)'
          - 'Example: C(missing_policy: reject)'
        type: str
        choices: [none, quarantine, reject]
      testing:
        description:
          - Asks receivers not to apply the policies yet (t=y).
          - 'Example: C(testing: true)'
        type: bool
        default: false
      rua:
        description:
          - Mail addresses that receive aggregate reports.
          - 'Default: C(dmarc@) and O(domain) of the fleet'
          - 'Example: C(rua: [reports@example.com])'
        type: list
        elements: str
      rua_authorised:
        description:
          - Foreign domains that have agreed to receive the reports (RFC 9990). If a zone of the file holds such a
            domain, the agreement is published there.
          - 'Example: C(rua_authorised: [example.org])'
        type: list
        elements: str
      alignment_dkim:
        description:
          - How the DKIM domain must match the From domain (adkim), V(r) relaxed or V(s) strict.
          - 'Example: C(alignment_dkim: s)'
        type: str
        choices: [r, s]
        default: r
      alignment_spf:
        description:
          - How the return-path domain must match the From domain (aspf), V(r) relaxed or V(s) strict.
          - 'Example: C(alignment_spf: s)'
        type: str
        choices: [r, s]
        default: r
      inherit:
        description:
          - Whether the domains of the stream publish no policy of their own and inherit that of
            O(organisational_dmarc).
          - 'Example: C(inherit: true)'
        type: bool
        default: false
  mta_sts:
    description:
      - The MTA-STS policy of the return-path domain (RFC 8461).
      - 'Example: C(mta_sts: {mode: enforce, host: mta1, addresses: [203.0.113.50]})'
    type: dict
    suboptions:
      mode:
        description:
          - What senders do when TLS fails. V(none) publishes no policy.
          - 'Example: C(mode: testing)'
        type: str
        choices: [none, testing, enforce]
        default: none
      max_age_seconds:
        description:
          - How long senders keep the policy, in seconds.
          - 'Range: 86400 to 31557600'
          - 'Example: C(max_age_seconds: 86400)'
        type: int
        default: 604800
      host:
        description:
          - The host of this inventory that serves the policy. It gets the group C(mta_sts).
          - 'Example: C(host: mta1)'
        type: str
      addresses:
        description:
          - The addresses on which the Internet reaches C(host).
          - 'Default: none; C(host) needs the key'
          - 'Example: C(addresses: [203.0.113.50])'
        type: list
        elements: str
      cname:
        description:
          - The policy host of somebody else, instead of C(host) and C(addresses).
          - 'Example: C(cname: mta-sts.example.org)'
        type: str
  tls_rpt:
    description:
      - Mail addresses that receive TLS reports (RFC 8460).
      - 'Default: C(tls@) and O(domain) of the fleet'
      - 'Example: C(tls_rpt: [reports@example.com])'
    type: list
    elements: str
  bimi:
    description:
      - The BIMI record. It needs the DMARC policy V(quarantine) or V(reject).
      - 'Default: no BIMI record'
      - 'Example: C(bimi: {logo: "https://example.com/logo.svg"})'
    type: dict
    suboptions:
      logo:
        description:
          - The https URL of the SVG file.
          - 'Example: C(logo: "https://example.com/new.svg")'
        type: str
        required: true
      evidence:
        description:
          - The https URL of the mark certificate.
          - 'Example: C(evidence: "https://example.com/logo.pem")'
        type: str
  caa:
    description:
      - Who may issue the certificates of the MTA-STS policy hosts (RFC 8659). What C(issue) or C(issuewild) does
        not list may not be issued.
      - 'Default: no CAA record'
      - 'Example: C(caa: {issue: [letsencrypt.org]})'
    type: dict
    suboptions:
      issue:
        description:
          - The certificate authorities that may issue certificates.
          - 'Example: C(issue: [letsencrypt.org])'
        type: list
        elements: str
      issuewild:
        description:
          - The certificate authorities that may issue wildcard certificates.
          - 'Example: C(issuewild: [letsencrypt.org])'
        type: list
        elements: str
      iodef:
        description:
          - Where authorities report requests that they refused, a mailto or https URL.
          - 'Example: C(iodef: "mailto:security@example.com")'
        type: str
  verifications:
    description:
      - TXT values by which others see that the domains of the stream are yours.
      - 'Example: C(verifications: [google-site-verification=0123456789abcdef])'
    type: list
    elements: str
  warmup:
    description:
      - The schedule of addresses that have C(warmup_from), see C(docs/powermta.md).
      - 'Example: C(warmup: {messages_per_day: [50, 100, 200]})'
    type: dict
    suboptions:
      messages_per_day:
        description:
          - What an address may send to one receiver group on its first day, on its second day and so on.
          - 'Range: 1 to 100000000'
          - 'Default: 30 days, from 50 to 1,000,000 messages'
          - 'Example: C(messages_per_day: [50, 100, 200])'
        type: list
        elements: int
  ttl_seconds:
    description:
      - The TTL of the records, in seconds.
      - 'Range: 30 to 86400'
      - 'Example: C(ttl_seconds: 300)'
    type: int
    default: 3600
  queue_life_seconds:
    description:
      - How long mail is tried that no receiver takes, in seconds (C(maximal_queue_lifetime) of Postfix). Below half
        a day, mail is tried more often. A sign-in code, for example, is worthless after an hour.
      - 'Range: 60 to 2592000'
      - 'Example: C(queue_life_seconds: 3600)'
    type: int
    default: 432000
  max_message_bytes:
    description:
      - The size of the largest message, in bytes (C(message_size_limit) of Postfix, C(max-message-size) of
        PowerMTA). The stream and the front listener refuse a larger one (552).
      - 'Range: 65536 to 104857600'
      - 'Example: C(max_message_bytes: 20480000)'
    type: int
    default: 10240000
  remove_received:
    description:
      - Whether the C(Received) fields of your applications are removed, so that receivers do not see the address
        from which an application injected the message.
      - 'Example: C(remove_received: true)'
    type: bool
    default: false
"""
