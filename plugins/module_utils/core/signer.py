# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DKIM signer's settings as data: what the signing role and the engines must agree on."""

from __future__ import annotations

MILTER_SOCKET = "/run/rspamd/dkim.sock"
