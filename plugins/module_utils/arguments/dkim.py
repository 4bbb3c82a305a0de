# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that the modules of DKIM keys share. Their documentation is in plugins/doc_fragments/dkim.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA

_NAME: dict[str, Any] = {
    "domain": {"type": "str", "required": True},
    "selector": {"type": "str", "required": True},
    "algorithm": {"type": "str", "choices": [RSA, ED25519], "required": True},
}
_KEY: dict[str, Any] = {**_NAME, "fingerprint": {"type": "str", "required": True}}
_PRIVATE: dict[str, Any] = {"private": {"type": "bool", "default": True}}


def _keys(options: dict[str, Any], *, no_log: bool = False) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "required": True, "no_log": no_log, "options": options}


STATE: dict[str, Any] = {
    "serial": {"type": "int", "required": True},
    "keys": _keys({**_KEY, **_PRIVATE}),
    "signing": _keys(_KEY),
}
WANTED: dict[str, Any] = {"keys": _keys({**_NAME, "fingerprint": {"type": "str"}, **_PRIVATE})}
BROUGHT: dict[str, Any] = {
    # Ansible writes list elements to the host's syslog else, whatever their options say.
    "keys": _keys({**_KEY, "private_key": {"type": "str", "required": True, "no_log": True}}, no_log=True),
    "to_be_made": {"type": "list", "elements": "dict", "default": [], "options": _NAME},
}
