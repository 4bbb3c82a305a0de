# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the relay probes as data: they hold the lists of others, and none of them could end a message."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.proof import relay

IP, HERE, NAME, OWN = "198.18.0.11", "198.18.0.80", "mx.example.com", "news.example.com"
SENDERS = [f"relay-probe@{OWN}", "relay-probe@tx.example.com"]
RECIPIENT = "relay-probe@sink.test"
PROBES = relay.probes(RECIPIENT, SENDERS)


def said(ip: str = IP) -> list[tuple[str, ...]]:
    here = "fd00::80" if ":" in ip else HERE
    return [tuple(relay.filled(command, ip, here, NAME) for command in probe.commands) for probe in PROBES]


def recipients(ip: str = IP) -> set[str]:
    return {commands[1].split(" NOTIFY")[0] for commands in said(ip) if len(commands) == 3}


def test_a_mail_probe_ends_with_the_beginning_of_a_text() -> None:
    assert not [probe for probe in PROBES if any("LAST" in command or command == "." for command in probe.commands)]
    for probe in PROBES:
        if len(probe.commands) == 3:
            mail, rcpt, text = probe.commands
            assert (mail[:10], rcpt[:8], text in relay.TEXT) == ("MAIL FROM:", "RCPT TO:", True)
            assert probe.opens == (("354",) if text == "DATA" else ("2",))
    # The chunk is as long as it says, with the end of line that every command gets.
    line, _end, chunk = relay.TEXT[1].partition("\r\n")
    assert line == f"BDAT {len(chunk) + 2}"


def test_each_envelope_is_tried_by_data_and_by_bdat() -> None:
    by: dict[tuple[str, ...], list[str]] = {}
    for probe in PROBES:
        if len(probe.commands) == 3:
            by.setdefault((*probe.opening, *probe.commands[:2]), []).append(probe.commands[2][:4])
    assert {tuple(texts) for texts in by.values()} == {("DATA", "BDAT")}


@pytest.mark.parametrize("name", ["<postmaster>", '<"postmaster">', "<POSTMASTER>", "<@news.example.com:postmaster>"])
@pytest.mark.parametrize("sender", [SENDERS[0], ""])
@pytest.mark.parametrize("dsn", [False, True])
def test_postmaster_is_tried_in_every_spelling_with_every_option(name: str, sender: str, dsn: bool) -> None:
    mail = f"MAIL FROM:<{sender}>{relay.RET if dsn else ''}"
    rcpt = f"RCPT TO:{name}{relay.NOTIFY if dsn else ''}"
    assert (mail, rcpt, "DATA") in said()


def test_every_sender_is_tried() -> None:
    mails = {commands[0] for commands in said() if commands and commands[-1] == "DATA" and RECIPIENT in commands[1]}
    assert {f"MAIL FROM:<{sender}>" for sender in (*SENDERS, "", RECIPIENT, f"relay-probe@[{IP}]")} <= mails
    assert {
        f"MAIL FROM:<{sender}>" for sender in (f"relay-probe@{NAME}", "relay-probe@localhost", "relay-probe")
    } <= mails


# The recipients of nmap's smtp-open-relay.nse, which are those of Metasploit's smtp_relay too: u is the user, t the
# foreign domain, n the name that the server greets with, i its address literal, ' a double quote.
FORMS = "u@t u%t@i u%t@n 'u@t' 'u%t' u@t@i 'u@t'@i u@t@n @i:u@t @n:u@t t!u t!u@i t!u@n"


@pytest.mark.parametrize("form", FORMS.split())
@pytest.mark.parametrize("ip", [IP, "fd00::11"])
def test_the_lists_of_others_are_held(form: str, ip: str) -> None:
    literal = f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"
    parts = {"u": "relay-probe", "t": "sink.test", "n": NAME, "i": literal, "'": '"'}
    assert f"RCPT TO:<{''.join(parts.get(letter, letter) for letter in form)}>" in recipients(ip)


def test_nothing_is_left_to_fill_in() -> None:
    assert not [command for commands in said() for command in commands if "$" in command]


def test_a_fleet_without_senders_is_tried_by_the_name_that_the_server_gives() -> None:
    probes = relay.probes(RECIPIENT, [])
    assert ("MAIL FROM:<>", f"RCPT TO:<relay-probe%sink.test@{relay.NAME}>", "DATA") in [p.commands for p in probes]


@pytest.mark.parametrize(
    ("family", "code", "state"),
    [
        ("bare postmaster", 354, "open"),
        ("bare postmaster", 554, "refused"),
        ("bare postmaster", 451, "unknown"),
        ("VRFY", 250, "open"),
        ("VRFY", 252, "refused"),
        ("VRFY", 502, "refused"),
        ("ETRN", 250, "open"),
        ("ETRN", 459, "refused"),
        ("XCLIENT", 220, "open"),
        ("XCLIENT", 550, "refused"),
        ("AUTH before TLS", 334, "open"),
        ("AUTH before TLS", 538, "refused"),
        ("command before TLS", 250, "open"),
        ("command before TLS", 221, "refused"),
    ],
)
def test_what_counts_as_open(family: str, code: int, state: str) -> None:
    probe = next(probe for probe in PROBES if probe.family == family and probe.commands)
    assert probe.state(code) == state


def test_the_first_way_in_is_told_in_full_and_the_others_by_name() -> None:
    assert relay.opened({"VRFY": "VRFY (VRFY root): 250 root"})["detail"] == "VRFY (VRFY root): 250 root"
    found = relay.opened({"EXPN": "EXPN (EXPN a): 250 a", "VRFY": "b", "ETRN": "c"})
    assert found == {"state": "open", "detail": "EXPN (EXPN a): 250 a; open as well: VRFY, ETRN"}
