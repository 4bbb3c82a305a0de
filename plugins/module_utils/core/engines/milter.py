# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DKIM signer's settings as data: what the signing role and the engines must agree on."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.mailops.mta.plugins.module_utils.core.model import ED25519, RSA

RSPAMD, POWERMTA = "rspamd", "powermta"
# What signs on a host, with the DKIM algorithms that it signs with.
SIGNERS: Mapping[str, tuple[str, ...]] = {RSPAMD: (RSA, ED25519), POWERMTA: (RSA,)}

MILTER_SOCKET = "/run/rspamd/dkim.sock"

FRONT = "front"  # the front listener's name for the signer; no stream can have it

# Each event whose macros are sent costs a part of the signing time. The signer needs the name of the instance and, at
# the front listener, the login.
_NO_MACROS = {
    f"milter_{event}_macros": ""
    for event in ("connect", "helo", "mail", "rcpt", "data", "end_of_header", "end_of_data")
}


def postfix_settings(stream: str) -> dict[str, str]:
    """What a Postfix instance needs so that its mail is signed or refused, never sent unsigned.

    The macro ``{daemon_name}`` tells the signer whose mail it sees (milter(7), MILTER_README).
    """
    return {
        "smtpd_milters": f"unix:{MILTER_SOCKET}",
        "milter_default_action": "tempfail",
        **_NO_MACROS,
        "milter_macro_daemon_name": stream,
        "milter_connect_macros": "{daemon_name}",
        **({"milter_mail_macros": "{auth_authen}"} if stream == FRONT else {}),
    }


def workers(cpus: int) -> int:
    """How many signing processes a host with so many CPUs gets.

    Each connection wakes every idle one (0.012 ms of CPU each, measured), and signing takes a third of a message's CPU.
    So half the CPUs, and never one alone, which a large message would hold up.
    """
    return max(2, (cpus + 1) // 2)
