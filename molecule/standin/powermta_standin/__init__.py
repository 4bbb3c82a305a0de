# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PowerMTA stand-in. It is not PowerMTA, contains nothing of it, and plays its part in a lab only.

It listens, routes, signs, queues and accounts as public descriptions of PowerMTA 5.0 say, so that a role, its routing
and its collectors can be proven end to end. Where no description was found it does something plain, and says so.
"""

VERSION = "5.0r8+standin1"
NAME = f"PowerMTA stand-in {VERSION} (it is not PowerMTA)"
ROOT = "/etc/pmta"
LOGS = "/var/log/pmta"
RUN = "/run/pmta"
SOCKET = f"{RUN}/control"
