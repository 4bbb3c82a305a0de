# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bounce (RFC 3464) and a complaint (RFC 5965), as receivers send them to a return-path domain.

usage: inbound.py HOST RETURN_PATH_DOMAIN RUN
"""

from __future__ import annotations

import smtplib
import sys

HOST, DOMAIN, RUN = sys.argv[1:]
ORIGINAL = f"From: news@{DOMAIN}\r\nTo: {{to}}\r\nSubject: news\r\nMessage-ID: <{RUN}@{DOMAIN}>\r\n"
REPORT = """\
From: postmaster@default-receiver.test\r
To: {recipient}\r
Subject: report {run}\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type={kind}; boundary=b\r
\r
--b\r
Content-Type: text/plain\r
\r
A report.\r
--b\r
Content-Type: message/{kind}\r
\r
{fields}\r
--b\r
Content-Type: {original}\r
\r
{headers}\r
--b--\r
"""


def report(recipient: str, kind: str, to: str, original: str, *fields: str) -> None:
    text = REPORT.format(
        recipient=recipient,
        run=RUN,
        kind=kind,
        fields="\r\n".join(fields),
        original=original,
        headers=ORIGINAL.format(to=to),
    )
    with smtplib.SMTP(HOST, 25, local_hostname="mx.default-receiver.test", timeout=20) as client:
        client.sendmail("", [recipient], text)


gone, angry = (f"{name}+{RUN}@default-receiver.test" for name in ("gone", "angry"))
report(
    f"news@{DOMAIN}",
    "delivery-status",
    gone,
    "text/rfc822-headers",
    "Reporting-MTA: dns; mx.default-receiver.test",
    "",
    f"Final-Recipient: rfc822; {gone}",
    "Action: failed",
    "Status: 5.1.1",
    "Diagnostic-Code: smtp; 550 5.1.1 no such mailbox",
)
report(
    f"fbl@{DOMAIN}",
    "feedback-report",
    angry,
    "message/rfc822",
    "Feedback-Type: abuse",
    "User-Agent: test/1",
    "Version: 1",
    f"Original-Mail-From: <news@{DOMAIN}>",
    f"Original-Rcpt-To: <{angry}>",
)
