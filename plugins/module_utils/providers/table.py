# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each service of core/dns/services.py is opened, one line each."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.mailops.mta.plugins.module_utils.providers import (
    azure,
    cloudflare,
    desec,
    digitalocean,
    gandi,
    google,
    hetzner,
    memory,
    octodns,
    ovh,
    powerdns,
    rfc2136,
    route53,
)
from ansible_collections.mailops.mta.plugins.module_utils.providers.provider import Access, Provider

OPEN: dict[str, Callable[[Access], Provider]] = {
    "azure": azure.open_zone,
    "cloudflare": cloudflare.open_zone,
    "desec": desec.open_zone,
    "digitalocean": digitalocean.open_zone,
    "gandi": gandi.open_zone,
    "google": google.open_zone,
    "hetzner": hetzner.open_zone,
    "memory": memory.open_zone,
    "octodns": octodns.open_zone,
    "ovh": ovh.open_zone,
    "powerdns": powerdns.open_zone,
    "rfc2136": rfc2136.open_zone,
    "route53": route53.open_zone,
}
