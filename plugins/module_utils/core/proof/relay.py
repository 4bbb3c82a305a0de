# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stranger tries on a listener, and what the answers say. docs/proof.md explains the families.

A probe opens a connection and says one command after another. The listener is open if the last command gets an answer
of ``opens``. No probe ends a message: DATA is the last word, and of BDAT only a chunk that is not the last is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import Template

OPEN = "open"
CLOSED = "closed"
REFUSED = "refused"
FILTERED = "filtered"  # no answer at all: a firewall, or a vantage that reaches nothing
UNKNOWN = "unknown"

# What a command may hold until the listener is known: its own address and ours as literals, the name it greets with.
IP, HERE, NAME = "$IP", "$HERE", "$NAME"

_EHLO = f"EHLO {HERE}"  # no name, so that no check of names answers before the check of relaying
START_TLS = "STARTTLS"
PLAIN = (_EHLO,)
HELO = ("HELO localhost",)
TLS = (_EHLO, START_TLS, _EHLO)
INJECTED = (_EHLO, f"{START_TLS}\r\nNOOP")  # the second command comes in plain text, before the handshake
RET = " RET=FULL ENVID=relay-probe"
NOTIFY = " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;relay-probe@sink.invalid"
_CHUNK = "X: probe\r\n"
TEXT = ("DATA", f"BDAT {len(_CHUNK)}\r\n{_CHUNK[:-2]}")


@dataclass(frozen=True)
class Probe:
    """``home``: the domain that its recipient belongs to at the end. Where a listener takes all mail for that domain,
    as one that reads bounces does, the probe shows nothing.
    """

    family: str
    commands: tuple[str, ...] = ()
    opens: tuple[str, ...] = ("354",)
    refuses: tuple[str, ...] = ()  # beside 5xx
    opening: tuple[str, ...] = PLAIN
    offers: str = ""  # open if EHLO offers this
    home: str = ""
    plain: bool = False  # only where the connection begins without TLS

    @property
    def path(self) -> tuple[str, ...]:
        return (*self.opening, *self.commands)

    @property
    def told(self) -> str:
        """As a person would type it."""
        said = [command.partition("\r\n")[0] for command in self.commands] or [f"EHLO offers {self.offers}"]
        return f"{self.family} ({', '.join(said)})"

    def state(self, code: int) -> str:
        """What the answer to the last command says."""
        if str(code).startswith(self.opens):
            return OPEN
        return REFUSED if str(code).startswith(("5", *self.refuses)) else UNKNOWN


def refusal(code: int) -> str:
    """What an answer to an earlier command says that lets the conversation go no further."""
    return REFUSED if code >= 500 else UNKNOWN


# Recipients by which servers have been made to relay, as relay tests (MAPS, nmap) collected them, and the domain that
# each belongs to at the end.
_FORMS: tuple[tuple[str, str, str], ...] = (
    ("percent hack", "<$USER%$THERE>", ""),
    ("percent hack", "<$USER%$THERE@$OWN>", "$OWN"),
    ("percent hack", "<$USER%$THERE@$IP>", IP),
    ("percent hack", "<$USER%$THERE@$NAME>", NAME),
    ("percent hack", "<$USER%$THERE@localhost>", "localhost"),
    ("percent hack", "<$USER%$THERE%$OWN@$NAME>", NAME),
    ("quoted recipient", '<"$USER@$THERE">', ""),
    ("quoted recipient", '<"$USER%$THERE">', ""),
    ("quoted recipient", '<"$USER@$THERE"@$OWN>', "$OWN"),
    ("quoted recipient", '<"$USER@$THERE"@$IP>', IP),
    ("quoted recipient", '<"$USER@$THERE"@$NAME>', NAME),
    ("quoted recipient", '<"$USER%$THERE"@$OWN>', "$OWN"),
    ("quoted recipient", "<$USER\\@$THERE@$OWN>", "$OWN"),
    ("two domains", "<$USER@$THERE@$OWN>", "$OWN"),
    ("two domains", "<$USER@$THERE@$IP>", IP),
    ("two domains", "<$USER@$THERE@$NAME>", NAME),
    ("source route", "<@$OWN:$USER@$THERE>", ""),
    ("source route", "<@$IP:$USER@$THERE>", ""),
    ("source route", "<@$NAME:$USER@$THERE>", ""),
    ("source route", "<@$OWN,@$NAME:$USER@$THERE>", ""),
    ("source route", "<$OWN:$USER@$THERE>", ""),
    ("bang path", "<$THERE!$USER>", ""),
    ("bang path", "<$THERE!$USER@$OWN>", "$OWN"),
    ("bang path", "<$THERE!$USER@$IP>", IP),
    ("bang path", "<$THERE!$USER@$NAME>", NAME),
    ("bang path", "<$OWN!$THERE!$USER>", ""),
    ("bang path", "<$NAME!$USER@$THERE>", ""),
    ("address literal", "<$USER@$HERE>", ""),
    ("address literal", "<$USER@$IP>", IP),
    ("address literal", "<$USER@[127.0.0.1]>", ""),
    ("address literal", "<$USER@[IPv6:::1]>", ""),
    ("odd spelling", "$USER@$THERE", ""),
    ("odd spelling", "<$USER@$THERE.>", ""),
    ("odd spelling", "<$USER @ $THERE>", ""),
    ("odd spelling", "<$OWN <$USER@$THERE>>", ""),
)
# smtpd(8) asks none of its restrictions about a recipient that reads "postmaster" after it took quotes, case and route
# away, and a report on that message goes wherever its sender says.
POSTMASTER = "<postmaster>"
_POSTMASTERS: tuple[tuple[str, str], ...] = (
    (POSTMASTER, ""),
    ("<Postmaster>", ""),
    ("<POSTMASTER>", ""),
    ("<pOsTmAsTeR>", ""),
    ('<"postmaster">', ""),
    ('<"PostMaster">', ""),
    ("<post\\master>", ""),
    ('<"post\\master">', ""),
    ("postmaster", ""),
    ("<postmaster (x)>", ""),
    ("< postmaster >", ""),
    ("<@$OWN:postmaster>", ""),
    ('<@$IP:"postmaster">', ""),
    ("<postmaster@>", ""),
    ("<postmaster.>", ""),
    ("<postmaster@$IP>", IP),
    ("<postmaster@[127.0.0.1]>", ""),
    ("<postmaster@[IPv6:::1]>", ""),
    ("<postmaster@$NAME>", NAME),
    ("<postmaster@localhost>", "localhost"),
    ("<postmaster@$OWN>", "$OWN"),
)
# Names that have a mailbox on many hosts.
_LOCAL = ("<root>", "<mailer-daemon>", "<abuse>", "<double-bounce>")


def probes(recipient: str, senders: Iterable[str]) -> tuple[Probe, ...]:
    """All of them, in an order that needs few connections. ``recipient`` must be foreign to every listener."""
    user, _at, there = recipient.rpartition("@")
    tried = list(dict.fromkeys((*senders, "")))
    own = next((sender.rpartition("@")[2] for sender in tried if sender), NAME)
    main = tuple(dict.fromkeys((next((sender for sender in tried if sender), recipient), "")))
    known = {"USER": user, "THERE": there, "OWN": own}
    found = [
        *_foreign(recipient, tried),
        *_recipients(_FORMS, main, known),
        *_postmasters(tried, main, recipient, known),
        *_commands(recipient, own),
        *(replace(probe, opening=HELO) for probe in _by_another_way("after HELO", recipient, main)),
        *(replace(probe, opening=TLS) for probe in _by_another_way("under TLS", recipient, main)),
        Probe("anonymous login", ("AUTH ANONYMOUS",), opens=("235", "334"), opening=TLS),
        # The answer to the command in plain text comes before the one to QUIT.
        Probe("command before TLS", ("QUIT",), opens=("250",), refuses=("221",), opening=INJECTED, plain=True),
    ]
    return tuple(found)


def families(recipient: str, senders: Iterable[str]) -> dict[str, int]:
    """How many probes each family has."""
    return dict(Counter(probe.family for probe in probes(recipient, senders)))


def _envelope(family: str, sender: str, recipient: str, *, dsn: bool = False, home: str = "") -> Iterator[Probe]:
    mail = f"MAIL FROM:<{sender}>{RET if dsn else ''}"
    rcpt = f"RCPT TO:{recipient}{NOTIFY if dsn else ''}"
    for text in TEXT:
        yield Probe(family, (mail, rcpt, text), opens=("354",) if text == "DATA" else ("2",), home=home)


def _foreign(recipient: str, senders: Sequence[str]) -> Iterator[Probe]:
    strangers = (recipient, f"relay-probe@{IP}", f"relay-probe@{NAME}", "relay-probe@localhost", "relay-probe")
    for sender in dict.fromkeys((*senders, *strangers)):
        yield from _envelope("foreign recipient", sender, f"<{recipient}>")


def _recipients(
    forms: Iterable[tuple[str, str, str]], senders: Iterable[str], known: Mapping[str, str]
) -> Iterator[Probe]:
    for sender in senders:
        for family, form, home in forms:
            yield from _envelope(family, sender, _with(form, known), home=_with(home, known))


def _postmasters(
    senders: Iterable[str], main: Sequence[str], recipient: str, known: Mapping[str, str]
) -> Iterator[Probe]:
    for sender in dict.fromkeys((*senders, recipient)):
        for dsn in (False, True):
            family = "bare postmaster with DSN options" if dsn else "bare postmaster"
            for form, home in _POSTMASTERS if sender in main else _POSTMASTERS[:1]:
                yield from _envelope(family, sender, _with(form, known), dsn=dsn, home=_with(home, known))
    for form in _LOCAL:
        yield from _envelope("local name", main[0], form, dsn=True)


def _by_another_way(family: str, recipient: str, senders: Iterable[str]) -> Iterator[Probe]:
    for sender in senders:
        yield from _envelope(family, sender, f"<{recipient}>")
        yield from _envelope(family, sender, POSTMASTER)


def _commands(recipient: str, own: str) -> Iterator[Probe]:
    for asked in ("postmaster", "root", f"postmaster@{own}", recipient):
        yield Probe("VRFY", (f"VRFY {asked}",), opens=("250", "251"), refuses=("2",))
    for asked in ("postmaster", "root", "staff"):
        yield Probe("EXPN", (f"EXPN {asked}",), opens=("250",), refuses=("2",))
    yield Probe("ETRN", (f"ETRN {own}",), opens=("2",), refuses=("458", "459"))
    for keyword, sets in (
        ("XCLIENT", ("ADDR=127.0.0.1", "NAME=localhost ADDR=127.0.0.1", "ADDR=IPV6:::1", "LOGIN=postmaster")),
        ("XFORWARD", ("ADDR=127.0.0.1", "NAME=localhost ADDR=127.0.0.1 PROTO=ESMTP HELO=localhost")),
    ):
        yield Probe(keyword, offers=keyword)
        for attributes in sets:
            yield Probe(keyword, (f"{keyword} {attributes}",), opens=("2",))
    yield Probe("AUTH before TLS", offers="AUTH", plain=True)
    for mechanism in ("PLAIN", "LOGIN"):
        yield Probe("AUTH before TLS", (f"AUTH {mechanism}",), opens=("235", "334"), plain=True)


def takes_mail_for(domain: str) -> Probe:
    """Whether a listener takes mail for any mailbox of a domain, which is no fault."""
    return Probe("mail for own domains", ("MAIL FROM:<>", f"RCPT TO:<relay-probe-nobody@{domain}>"), opens=("2",))


def filled(command: str, ip: str, here: str, name: str) -> str:
    """A command for one listener."""
    return _with(command, {"IP": literal(ip), "HERE": literal(here), "NAME": name or literal(ip)})


def literal(ip: str) -> str:
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def _with(text: str, known: Mapping[str, str]) -> str:
    return Template(text).safe_substitute(known)


def opened(found: Mapping[str, str]) -> dict[str, str]:
    """The verdict on an open listener, of what each family was answered: one in full, the others by name."""
    first, *others = found
    return {"state": OPEN, "detail": found[first] + (f"; open as well: {', '.join(others)}" if others else "")}


def verdict(outcomes: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Open if once open; else what all attempts agree on; else unknown, with what disagrees."""
    for wanted in (OPEN, UNKNOWN):
        for state, detail in outcomes:
            if state == wanted:
                return {"state": state, "detail": detail}
    states = {state for state, _detail in outcomes}
    if len(states) == 1:
        return {"state": states.pop(), "detail": outcomes[0][1]}
    return {"state": UNKNOWN, "detail": "; ".join(dict.fromkeys(detail for _state, detail in outcomes))}
