# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of each DNS service: how it is opened and what it can carry. Data only; providers/ talks to them."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY = "memory"  # the stand-in of tests
EXTERNAL = "external"  # a zone that somebody else runs: its records are listed and audited, never written


@dataclass(frozen=True)
class Limits:
    """What one write may carry, and what a zone of the service may hold."""

    max_cost: int = 1_000_000_000  # of one write, in the unit of the provider's ``cost``
    max_changes: int = 1_000_000  # record sets in one write
    atomic: bool = True  # a write happens as a whole or not at all
    exact: bool = False  # a write is refused where a record set is not as it was read (compare and swap)
    requests_per_second: float = 0.0  # of one account; 0: none is known
    ttl_min: int = 0  # seconds
    ttl_max: int = 2**31 - 1
    types: frozenset[str] = frozenset()  # the types that it serves; empty: all
    txt_max: int = 65_000  # bytes of one TXT value

    @property
    def bounds_nothing(self) -> bool:
        """True where a zone may hold whatever DNS can carry."""
        return (self.types, self.ttl_min, self.ttl_max, self.txt_max) == _BOUNDLESS

    def ttl(self, wanted: int) -> int:
        """The TTL that comes nearest to ``wanted``."""
        return max(self.ttl_min, min(self.ttl_max, wanted))


UNLIMITED = Limits()
_BOUNDLESS = (UNLIMITED.types, UNLIMITED.ttl_min, UNLIMITED.ttl_max, UNLIMITED.txt_max)


@dataclass(frozen=True)
class Service:
    """``required`` and ``optional`` are names of credentials, ``options`` of a zone's options."""

    title: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    limits: Limits = UNLIMITED


# Credential values that may be shown; all others are secrets.
PUBLIC = frozenset(
    (
        "application_key",
        "auth_provider_x509_cert_url",
        "auth_uri",
        "client_email",
        "client_x509_cert_url",
        "project_id",
        "token_uri",
        "type",
        "universe_domain",
        "access_key_id",
        "ca_file",
        "class",
        "client_id",
        "key_algorithm",
        "key_name",
        "login_url",
        "port",
        "project",
        "region",
        "resource_group",
        "server",
        "server_id",
        "subscription_id",
        "tenant_id",
        "url",
    )
)

# Options of every zone: authoritative servers that are asked after an apply, and how long they may lag.
COMMON_OPTIONS = ("servers", "servers_wait_seconds")

SERVICES: dict[str, Service] = {
    "azure": Service(
        "Azure DNS",
        ("tenant_id", "client_id", "client_secret", "subscription_id", "resource_group"),
        ("url", "login_url", "ca_file"),
        ("resource_group",),
        # learn.microsoft.com: azure/dns/dns-zones-records (4,096 characters of TXT in a record set, of which a value
        # may take half, so that two fleets find room at a name) and request-limits-and-throttling (10 writes a second).
        Limits(
            max_changes=1,
            exact=True,
            requests_per_second=10,
            ttl_min=1,
            txt_max=2_000,
            types=frozenset(("A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT")),
        ),
    ),
    "cloudflare": Service(
        "Cloudflare",
        ("api_token",),
        ("url", "ca_file"),
        (),
        # developers.cloudflare.com/dns/manage-dns-records: 200 records in a batch of a free zone (the cost), 4,096
        # bytes on the wire in a record. 1,200 requests in five minutes may come at once, so they are not spaced.
        Limits(
            max_cost=200,
            ttl_min=60,
            ttl_max=86400,
            types=frozenset(
                (
                    *("A", "AAAA", "CNAME", "MX", "NS", "OPENPGPKEY", "PTR", "TXT"),
                    *("CAA", "DS", "SMIMEA", "SRV", "SSHFP", "TLSA"),
                )
            ),
            txt_max=4080,
        ),
    ),
    "desec": Service(
        "deSEC",
        ("api_token",),
        ("url", "ca_file"),
        (),
        # desec.readthedocs.io: dns/rrsets, rate-limits. Rates over minutes and hours are told by Retry-After, the
        # smallest TTL by each domain. The web server before the API takes bodies up to 1 MiB.
        Limits(max_cost=1_000_000, requests_per_second=10.0, ttl_min=3600, ttl_max=86400),
    ),
    "digitalocean": Service(
        "DigitalOcean",
        ("api_token",),
        ("url", "ca_file"),
        (),
        # docs.digitalocean.com/reference/api: types, 250 requests in a minute. A TXT value has 512 bytes as a zone file
        # would quote it, which its description does not say and DNSControl found out.
        Limits(
            max_changes=1,
            atomic=False,
            requests_per_second=4.0,
            ttl_min=30,
            types=frozenset(("A", "AAAA", "CAA", "CNAME", "MX", "NS", "SRV", "TXT")),
            txt_max=504,
        ),
    ),
    "gandi": Service(
        "Gandi LiveDNS",
        ("api_token",),
        ("url", "ca_file"),
        (),
        # api.gandi.net/docs/reference: 1,000 requests a minute; /docs/livedns: a TTL is 300 s to 30 days.
        Limits(max_changes=1, requests_per_second=16.0, ttl_min=300, ttl_max=2_592_000),
    ),
    "google": Service(
        "Google Cloud DNS",
        ("project", "service_account"),
        ("url", "ca_file"),
        ("managed_zone",),
        # cloud.google.com/dns/quotas: 1,000 additions, 1,000 deletions and 100,000 bytes of data in a change. Requests
        # are limited by the minute, and differently in each project.
        Limits(
            max_cost=100_000,
            max_changes=1000,
            exact=True,
            types=frozenset(
                "A AAAA CAA CNAME DS HTTPS IPSECKEY MX NAPTR NS PTR SOA SPF SRV SSHFP SVCB TLSA TXT".split()  # noqa: SIM905
            ),
        ),
    ),
    "hetzner": Service(
        "Hetzner",
        ("api_token",),
        ("url", "ca_file"),
        (),
        # docs.hetzner.cloud: one record set in a request, up to three requests for a change. 3,600 requests of a
        # project in an hour may come at once, so they are not spaced.
        Limits(
            max_changes=1,
            atomic=False,
            ttl_min=60,
            types=frozenset(
                (
                    "A",
                    "AAAA",
                    "CAA",
                    "CNAME",
                    "DS",
                    "HINFO",
                    "HTTPS",
                    "MX",
                    "NS",
                    "PTR",
                    "RP",
                    "SRV",
                    "SVCB",
                    "TLSA",
                    "TXT",
                )
            ),
        ),
    ),
    "memory": Service("memory", limits=Limits(max_cost=1_000_000, exact=True)),
    "octodns": Service(
        "octoDNS",
        ("class",),
        ("settings",),
        (),
        # Providers send all changes of a plan in one message, however large: that of octodns-bind is a DNS message.
        # Whether a plan is applied as a whole, each provider decides.
        Limits(max_cost=60_000, atomic=False),
    ),
    "ovh": Service(
        "OVHcloud",
        ("application_key", "application_secret", "consumer_key"),
        ("url", "ca_file"),
        (),
        # A request for each record, and one that deploys them. OVH's own Terraform provider takes a TTL of 60 s or
        # more. The types are those of its API description; no rate is published.
        Limits(
            max_changes=1,
            atomic=False,
            ttl_min=60,
            types=frozenset(
                (
                    *("A", "AAAA", "CAA", "CNAME", "DNAME", "HTTPS", "LOC", "MX", "NAPTR"),
                    *("NS", "PTR", "SRV", "SSHFP", "SVCB", "TLSA", "TXT"),
                )
            ),
        ),
    ),
    "powerdns": Service(
        "PowerDNS",
        ("url", "api_key"),
        ("server_id", "ca_file"),
        (),
        # webserver-max-bodysize is 2 MB by default; half of it leaves room for what JSON adds.
        Limits(max_cost=1_000_000),
    ),
    "rfc2136": Service(
        "dynamic update",
        ("server",),
        ("port", "key_name", "key_secret", "key_algorithm"),
        (),
        # A message holds 65,535 bytes; the header, the zone and the signature take less than the rest.
        Limits(max_cost=60_000, exact=True),
    ),
    "route53": Service(
        "Amazon Route 53",
        ("access_key_id", "secret_access_key"),
        ("session_token", "region", "url", "ca_file"),
        ("hosted_zone_id",),
        # API reference 2013-04-01 and "Quotas" in the Developer Guide: 32,000 characters and 1,000 values in a request
        # (both are in the cost), 4,000 characters in a value, quotes included, five requests a second and account.
        Limits(
            max_cost=32_000,
            exact=True,
            requests_per_second=5,
            txt_max=3_900,
            types=frozenset(
                "A AAAA CAA CNAME DS HTTPS MX NAPTR NS PTR SOA SPF SRV SSHFP SVCB TLSA TXT".split()  # noqa: SIM905
            ),
        ),
    ),
}

NAMES = (EXTERNAL, *SERVICES)
