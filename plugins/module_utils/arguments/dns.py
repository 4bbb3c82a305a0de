# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that the modules for DNS share. Their documentation stands in plugins/doc_fragments/dns.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dns import services
from ansible_collections.mailops.mta.plugins.module_utils.core.zones import plan

ZONES: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "provider": {"type": "str", "required": True, "choices": sorted(services.NAMES)},
        "credentials": {"type": "str"},
        "options": {"type": "dict", "default": {}},
        "signed": {"type": "bool", "default": False},
    },
}
RECORDS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {
        "name": {"type": "str", "required": True},
        "type": {"type": "str", "required": True},
        "ttl": {"type": "int"},
        "values": {"type": "list", "elements": "str"},
        "state": {"type": "str", "choices": [plan.PRESENT, plan.ABSENT], "default": plan.PRESENT},
        "reason": {"type": "str"},
        "streams": {"type": "list", "elements": "str"},
        "domain": {"type": "str"},
        "selector": {"type": "str"},
        "algorithm": {"type": "str"},
        "life": {"type": "str"},
        "signs": {"type": "bool"},
    },
}
OF_KEY_HOST: dict[str, Any] = {
    "dkim_records": {**RECORDS, "required": False, "default": []},
    "dkim_series": {"type": "list", "elements": "dict", "default": []},
}
RESOLVERS: dict[str, Any] = {
    "resolvers": {"type": "list", "elements": "str", "default": []},
    "timeout_seconds": {"type": "float", "default": 5.0},
}
