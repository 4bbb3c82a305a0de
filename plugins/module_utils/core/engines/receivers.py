# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver groups that are known without being told: whose mailboxes they are, and what one address may do there.

A limit holds for one source address at the whole operator. Published values differ by ten to a hundred times; these are
the careful ones, and a fleet file may set others.
"""

from __future__ import annotations

from ansible_collections.mailops.mta.plugins.module_utils.core.model import Limits, ReceiverGroup, Reply

DEFAULT = "default"
# Messages that a new address may send to one receiver, day by day.
WARMUP_MESSAGES_PER_DAY = (
    *(50, 100, 250, 500, 1000, 2500, 5000, 10000, 10000, 20000, 20000, 40000, 40000, 75000),
    *(150000,) * 5,
    *(300000,) * 6,
    *(500000,) * 3,
    *(1000000,) * 2,
)
_SHAPING = "KumoMTA shipped shaping file, read 2026-08"

# Outlook.com's consumer mailboxes: outlook, hotmail and live under these country names.
_OUTLOOK = (
    "com at be cl co.id co.il co.th com.ar com.au com.br com.gr com.tr com.vn cz de dk es fr hu ie in it jp kr lv my ph"
    " pt sa sg sk"
)
_HOTMAIL = (
    "com be ca ch cl co.id co.il co.jp co.nz co.th co.uk co.za com.ar com.au com.br com.hk com.tr com.tw de dk es fi fr"
    " gr hu it lt lv my nl no ph se sg sk"
)
_LIVE = (
    "com at be ca cl cn co.kr co.uk co.za com.ar com.au com.mx com.my com.ph com.pt com.sg de dk fi fr hk ie in it jp"
    " nl no ru se"
)
_YAHOO = (
    "com at be bg ca cl co.hu co.id co.il co.in co.kr co.nz co.th co.uk co.za com.ar com.au com.br com.co com.hk com.hr"
    " com.mx com.my com.pe com.ph com.sg com.tr com.tw com.ua com.ve com.vn cz de dk ee es fi fr gr hu ie in it lt lv"
    " nl no pl pt ro se sk"
)


def _under(word: str, endings: str) -> tuple[str, ...]:
    return tuple(f"{word}.{ending}" for ending in endings.split())


DEFAULTS = (
    ReceiverGroup(
        name="google",
        domains=("gmail.com", "googlemail.com"),
        limits=Limits(concurrency=5, messages_per_connection=50, rate_delay_seconds=0, tls="encrypt"),
        source=f"{_SHAPING}: 5 connections, 50 messages each, TLS; Gmail sender guidelines ask for TLS since 2023-12",
        mx=("gmail-smtp-in.l.google.com",),
        slow_down=(
            Reply(
                r"^421[ -]4\.7\.(?:28\b|0\b.*\bunusual rate\b)",
                "421-4.7.28 Gmail has detected an unusual rate of email from your IP address",
            ),
        ),
    ),
    ReceiverGroup(
        name="microsoft",
        domains=(
            *_under("outlook", _OUTLOOK),
            *_under("hotmail", _HOTMAIL),
            *_under("live", _LIVE),
            "msn.com",
            "passport.com",
            "windowslive.com",
        ),
        limits=Limits(concurrency=5, messages_per_connection=50, rate_delay_seconds=0, tls="may"),
        source=f"{_SHAPING}: 5 connections, 50 messages each",
        mx=("outlook-com.olc.protection.outlook.com", "hotmail-com.olc.protection.outlook.com"),
        slow_down=(
            Reply(
                r"^4\d\d[ -]4\.7\.65\d\b|\bRP-00[123]\b",
                "451 4.7.650 The mail server [203.0.113.20] has been temporarily rate limited due to IP reputation",
            ),
        ),
    ),
    ReceiverGroup(
        name="yahoo",
        domains=(
            *_under("yahoo", _YAHOO),
            "ymail.com",
            "rocketmail.com",
            "myyahoo.com",
            "aol.com",
            "aol.co.uk",
            "aol.de",
            "aol.fr",
            "aim.com",
            "verizon.net",
            "netscape.net",
        ),
        limits=Limits(concurrency=10, messages_per_connection=20, rate_delay_seconds=0, tls="may"),
        source=f"{_SHAPING}: 20 messages each connection; connections as for everybody",
        mx=("mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net", "mta7.am0.yahoodns.net"),
        slow_down=(
            Reply(
                r"\[(?:TSS0[45]|IPTS0[45]|TS0[23])\]",
                "421 4.7.0 [TSS04] Messages from 203.0.113.20 temporarily deferred due to user complaints",
            ),
        ),
    ),
    ReceiverGroup(
        name="apple",
        domains=("icloud.com", "me.com", "mac.com"),
        limits=Limits(concurrency=10, messages_per_connection=5, rate_delay_seconds=0, tls="may"),
        source=f"{_SHAPING}: 10 connections, 5 messages each",
        mx=("mx01.mail.icloud.com", "mx02.mail.icloud.com"),
        slow_down=(
            Reply(
                r"\[CS01\]|^4\d\d[ -].*\brate of\b.*\btoo high",
                "450 4.7.1 [CS01] Message rate of 203.0.113.20 is too high, try again later",
            ),
        ),
    ),
    ReceiverGroup(
        name=DEFAULT,
        domains=(),
        limits=Limits(concurrency=10, messages_per_connection=100, rate_delay_seconds=0, tls="may"),
        source=f"{_SHAPING}: 10 connections to a site, 100 messages each",
        slow_down=(
            Reply(
                r"^4\d\d[ -].*\b(?:rate.?limit|throttl|too many (?:connections|messages|recipients))",
                "451 4.7.1 Too many messages from 203.0.113.20, try again later",
            ),
        ),
    ),
)
