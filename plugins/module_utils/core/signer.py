# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DKIM signer's settings as data: what the signing role and the engines must agree on."""

from __future__ import annotations

from ansible_collections.mailops.mta.plugins.module_utils.core.model import POSTFIX, POWERMTA

RSPAMD = "rspamd"
SIGNERS = {POSTFIX: RSPAMD, POWERMTA: POWERMTA}  # what signs on a host with this engine; PowerMTA does it itself

MILTER_SOCKET = "/run/rspamd/dkim.sock"

# What a Postfix instance needs so that its mail is signed or refused for now, never sent unsigned. The signer reads no
# macros: sending none saves about a tenth of the signing cost.
POSTFIX_SETTINGS = {
    "smtpd_milters": f"unix:{MILTER_SOCKET}",
    "milter_default_action": "tempfail",
    "milter_connect_macros": "",
    "milter_helo_macros": "",
    "milter_mail_macros": "",
    "milter_rcpt_macros": "",
    "milter_data_macros": "",
    "milter_end_of_header_macros": "",
    "milter_end_of_data_macros": "",
}


def workers(cpus: int) -> int:
    """How many signing processes a host with so many CPUs gets.

    Each connection wakes every idle one (0.012 ms of CPU each, measured), and signing takes a third of a message's CPU.
    So half the CPUs, and never one alone, which a large message would hold up.
    """
    return max(2, (cpus + 1) // 2)
