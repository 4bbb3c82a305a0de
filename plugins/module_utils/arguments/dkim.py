# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that the modules of DKIM signers share. Their documentation stands in plugins/doc_fragments/dkim.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA

KEY: dict[str, Any] = {
    "domain": {"type": "str", "required": True},
    "selector": {"type": "str", "required": True},
    "algorithm": {"type": "str", "choices": [RSA, ED25519], "required": True},
    "fingerprint": {"type": "str", "required": True},
}
_KEYS: dict[str, Any] = {"type": "list", "elements": "dict", "required": True, "no_log": False}
STATE: dict[str, Any] = {
    "serial": {"type": "int", "required": True},
    "keys": {**_KEYS, "options": {**KEY, "private": {"type": "bool", "default": True}}},
    "signing": {**_KEYS, "options": KEY},
}
