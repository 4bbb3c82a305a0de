# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this collection takes for granted of PowerMTA without having seen one, as data, and the judgement over each.

A trial is a small configuration that ``pmta test config`` must accept, or refuse. The others are judged by what a host
says and does, see ``shell/engines/powermta/acceptance.py``. Nothing in a report identifies anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

HELD, FAILED, UNTRIED = "held", "did not hold", "not tried"

BASE = """\
postmaster postmaster@acceptance.example
log-file /var/log/pmta/log
run-as-root no
smtp-listener 127.0.0.1:25990
<spool /var/spool/pmta>
    deliver-only no
</spool>
"""
_VMTAS = """\
<virtual-mta acceptance-1>
    smtp-source-host 192.0.2.1 mta1.acceptance.example
</virtual-mta>
<virtual-mta acceptance-2>
    smtp-source-host 192.0.2.2 mta2.acceptance.example
</virtual-mta>
"""
EXTRA = "/etc/pmta/mailops-acceptance"  # where the files of trials stand
KEY = f"{EXTRA}/key.pem"  # an RSA key that is made for the trial


@dataclass(frozen=True)
class Trial:
    """A configuration: ``text`` below BASE, with further files by their names in EXTRA."""

    name: str
    says: str
    text: str
    accepted: bool = True
    files: tuple[tuple[str, str], ...] = ()
    line: int = 0  # of the error that must be named, 0 where none is expected


@dataclass(frozen=True)
class Said:
    """What ``pmta test config`` did."""

    exit_code: int
    stdout: tuple[str, ...]
    stderr: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(line for line in (*self.stdout, *self.stderr) if line.lstrip().startswith("Error"))


@dataclass(frozen=True)
class Outcome:
    name: str
    says: str
    verdict: str
    seen: str = ""


def _pool(*lines: str) -> str:
    inner = "".join(f"    {line}\n" for line in lines)
    return f"{_VMTAS}<virtual-mta-pool acceptance>\n    virtual-mta acceptance-1\n{inner}</virtual-mta-pool>\n"


_ONE = "<virtual-mta acceptance-1>\n    smtp-source-host 192.0.2.1 mta1.acceptance.example\n</virtual-mta>\n"

TRIALS: tuple[Trial, ...] = (
    Trial("config.base", "the smallest configuration is accepted", ""),
    Trial("config.comment", "a line of comment, and one behind a value", "# a remark\nhost-name a.example # another\n"),
    Trial("config.source-host", "smtp-source-host takes an IP and then the EHLO name", _ONE),
    Trial(
        "config.source-host-ipv6",
        "a virtual MTA has an IPv4 and an IPv6 source, one a line",
        _ONE.replace("</", "    smtp-source-host 2001:db8::1 mta1.acceptance.example\n</"),
    ),
    Trial("config.pool", "a pool lists virtual MTAs", _pool("virtual-mta acceptance-2")),
    Trial("config.pool-twice", "a pool may list a virtual MTA twice", _pool("virtual-mta acceptance-1")),
    Trial(
        "config.pool-domain",
        "a pool holds the limits of its stream, for all domains and for a macro",
        "domain-macro acceptance a.example, b.example\n"
        + _pool(
            "<domain *>",
            "    dkim-sign yes",
            "    bounce-after 5d",
            "    retry-after 10m",
            "    max-smtp-out 20",
            "    max-msg-per-connection 100",
            "    max-msg-rate 60/m",
            "    use-starttls yes",
            "    require-starttls no",
            "</domain>",
            "<domain $acceptance>",
            "    max-smtp-out 5",
            "    max-msg-rate unlimited",
            "</domain>",
        ),
    ),
    Trial(
        "config.backoff",
        "backoff settings, and a list of replies that lead to them",
        "<smtp-pattern-list acceptance>\n    reply /421 .*try later/ mode=backoff\n</smtp-pattern-list>\n"
        "<domain *>\n    smtp-pattern-list acceptance\n    backoff-retry-after 1h\n    backoff-max-smtp-out 1\n"
        "    backoff-max-msg-rate 1/m\n    backoff-to-normal-after 90m\n</domain>\n",
    ),
    Trial(
        "config.rollup",
        "receivers are put together by their MX, and the rollup has limits of its own",
        "<mx-rollup-list>\n    mx *.mail.example acceptance.rollup\n</mx-rollup-list>\n"
        "<domain acceptance.rollup>\n    max-smtp-out 5\n    smtp-hosts lookup-mx:a.example\n</domain>\n",
    ),
    Trial(
        "config.cold",
        "a pool diverts some mail to a cold virtual MTA, which stands in another pool as well",
        _pool("cold-virtual-mta acceptance-2", "<domain *>", "    max-cold-virtual-mta-msg 50/d,100/d", "</domain>")
        + "<virtual-mta-pool acceptance-apart>\n    virtual-mta acceptance-2\n"
        "    <domain *>\n        dkim-sign yes\n    </domain>\n</virtual-mta-pool>\n",
    ),
    Trial(
        "config.rewrite",
        "a virtual MTA names a rewrite-list, whose mail-from moves every envelope sender to one domain",
        "<rewrite-list acceptance>\n    mail-from *@* *@bounce.a.example\n</rewrite-list>\n"
        + _ONE.replace("</", "    rewrite-list acceptance\n</"),
    ),
    Trial(
        "config.include-keys",
        "a virtual MTA includes a file with its keys, and one that has none yet",
        _ONE.replace("</", f"    include {EXTRA}/some/a.keys\n    include {EXTRA}/some/b.keys\n</")
        + "<domain *>\n    dkim-sign yes\n</domain>\n",
        files=(("some/a.keys", f"domain-key s1,a.example,{KEY}\n"), ("some/b.keys", "# no key yet\n")),
    ),
    Trial(
        "config.from",
        "a source lets one From domain pass by an expression with codes and a look-ahead, and leads all else away",
        _VMTAS + "<pattern-list acceptance>\n"
        "    header From /^\\s*(?:[^\\x22\\x3c\\x3e@]*\\x3c[^\\x3c\\x3e@]+@a\\.example\\x3e)\\s*$/"
        " virtual-mta=acceptance-1\n"
        "    mail-from /^/ virtual-mta=acceptance-2\n</pattern-list>\n"
        "<pattern-list acceptance-login>\n"
        "    header X-Binding /^(?!\\s*acceptance\\s*$)/ virtual-mta=acceptance-2\n"
        "    mail-from /^/ call-to: acceptance\n</pattern-list>\n"
        "<source acceptance>\n    pattern-list acceptance-login\n</source>\n"
        "smtp-listener 127.0.0.1:25991 source=acceptance\n",
    ),
    Trial(
        "config.refusing",
        "a listener refuses everybody, and the mail of a virtual MTA goes there to bounce",
        "<virtual-mta acceptance-refused>\n    smtp-source-host 127.0.0.1 mta1.acceptance.example\n    <domain *>\n"
        "        smtp-hosts [127.0.0.2]:25991\n        bounce-upon-5xx-greeting yes\n        bounce-after 1h\n"
        "        use-starttls no\n    </domain>\n</virtual-mta>\n<source acceptance-refused>\n    smtp-service no\n"
        "</source>\nsmtp-listener 127.0.0.2:25991 source=acceptance-refused\n",
    ),
    Trial(
        "config.reports",
        "bounces have a From address of ours, and those to a From domain go to the mail hosts of the return path",
        'custom-dsn-from-header "Mail Delivery System <MAILER-DAEMON@mta1.acceptance.example>"\n'
        "<domain a.example>\n    smtp-hosts lookup-mx:bounce.a.example\n</domain>\ndomain-macro _acceptance a.example\n"
        + _pool("<domain $_acceptance>", '    smtp-hosts ""', "</domain>"),
    ),
    Trial(
        "config.trace",
        "a pool removes Received fields, and a source hides where a message came from and limits its size",
        _pool("<domain *>", "    remove-header X-Binding,Received", "</domain>")
        + "<source acceptance>\n    default-virtual-mta acceptance\n    hide-message-source yes\n"
        "    max-message-size 10256384b\n</source>\nsmtp-listener 127.0.0.1:25991 source=acceptance\n",
    ),
    Trial(
        "config.source",
        "a named source chooses the pool, and a listener the source",
        _pool() + "<source acceptance>\n    default-virtual-mta acceptance\n    process-x-virtual-mta no\n</source>\n"
        "smtp-listener 127.0.0.1:25991 source=acceptance\n",
    ),
    Trial(
        "config.listener-ipv6",
        "smtp-listener takes an IPv6 address in brackets",
        "<source acceptance>\n    process-x-virtual-mta no\n</source>\nsmtp-listener [::1]:25991 source=acceptance\n",
    ),
    Trial(
        "config.relay",
        "networks that may relay, IPv4 and IPv6, and the settings of all others",
        "<source 0/0>\n    always-allow-relaying no\n    process-x-virtual-mta no\n    reject-invalid-virtual-mta yes\n"
        "    allow-starttls no\n    require-starttls-before-auth yes\n    allow-unencrypted-plain-auth no\n"
        "    add-date-header yes\n    add-message-id-header yes\n    remove-header X-Binding\n"
        "    suppress-local-dsn yes\n    auto-qualify-domain no\n    accept-invalid-recipients no\n</source>\n"
        "<source 192.0.2.0/24>\n    always-allow-relaying yes\n    suppress-local-dsn no\n</source>\n"
        "<source ::1/128>\n    always-allow-relaying yes\n</source>\n",
    ),
    Trial(
        "config.login",
        "a login has a source, and that has the right to relay",
        "<source acceptance-login>\n    always-allow-relaying yes\n    require-auth yes\n</source>\n"
        '<smtp-user acceptance>\n    password "Xx0-acceptance-only"\n    source acceptance-login\n</smtp-user>\n',
    ),
    Trial(
        "config.pattern",
        "a source chooses by recipient and by header",
        _VMTAS + "<pattern-list acceptance>\n    rcpt-to /^verify-1@a\\.example$/ virtual-mta=acceptance-1\n"
        "    header X-Binding /^\\s*acceptance-2\\s*$/ virtual-mta=acceptance-2\n</pattern-list>\n"
        "<source acceptance>\n    pattern-list acceptance\n    process-x-virtual-mta no\n</source>\n"
        "smtp-listener 127.0.0.1:25991 source=acceptance\n",
    ),
    Trial(
        "config.forward",
        "a virtual MTA hands all mail to another host and port",
        "<virtual-mta acceptance-forward>\n    smtp-source-host 192.0.2.1 mta1.acceptance.example\n    <domain *>\n"
        "        smtp-hosts [192.0.2.9]:2526,[192.0.2.10]:2526\n        dkim-sign no\n    </domain>\n</virtual-mta>\n",
    ),
    Trial(
        "config.dkim",
        "domain-key takes a selector, a domain and a PEM file",
        _ONE.replace("</", f"    domain-key s1,a.example,{KEY}\n    domain-key s1,example,{KEY}\n</")
        + "<domain *>\n    dkim-sign yes\n</domain>\n",
    ),
    Trial(
        "config.categories",
        "bounce categories are chosen by expressions",
        "<bounce-category-patterns>\n    /5\\.1\\.1|user unknown/ bad-mailbox\n    /./ other\n"
        "</bounce-category-patterns>\n",
    ),
    Trial(
        "config.bounces",
        "bounces and complaints are processed by address",
        "relay-domain bounce.a.example\n"
        "<bounce-processor>\n    forward-unmatched-to postmaster@a.example\n    <address-list>\n"
        "        address /^(?!fbl@).*@bounce\\.a\\.example$/\n    </address-list>\n</bounce-processor>\n"
        "<feedback-loop-processor>\n    forward-unmatched-to postmaster@a.example\n    <address-list>\n"
        "        address fbl@bounce.a.example\n    </address-list>\n</feedback-loop-processor>\n",
    ),
    Trial(
        "config.accounting",
        "an accounting file with chosen records and columns",
        "<acct-file /var/log/pmta/acceptance.csv>\n    records d,b,t,tq,r\n"
        "    record-fields d timeLogged,timeQueued,orig,rcpt,dsnAction,dsnStatus,dsnDiag,vmta,queue,vmtaPool\n"
        "    record-fields tq timeLogged,dsnStatus,dsnDiag,dsnMta,dlvType,dlvSourceIp,dlvDestinationIp,vmta,queue\n"
        "    max-size 52428800\n    delete-after 8d\n    iso-times yes\n    world-readable no\n</acct-file>\n",
    ),
    Trial(
        "config.monitor",
        "the monitor is for named addresses only",
        "http-mgmt-port 8080\nhttp-redirect-to-https no\nhttp-access 127.0.0.1 monitor\n"
        "http-access 192.0.2.0/24 monitor,deny-logs\n",
    ),
    Trial(
        "config.include",
        "include takes a pattern of files",
        f"include {EXTRA}/some/*.conf\n",
        files=(("some/10-a.conf", _ONE), ("some/20-b.conf", "host-name a.example\n")),
    ),
    Trial(
        "config.include-link",
        "the directory that include names may be a symbolic link",
        f"include {EXTRA}/link/*.conf\n",
        files=(("some/10-a.conf", _ONE), ("link", "some")),
    ),
    Trial(
        "config.include-order",
        "included files are read by name, so a later one may name what an earlier one holds",
        f"include {EXTRA}/some/*.conf\n",
        files=(
            (
                "some/10-a.conf",
                "<pattern-list acceptance>\n    rcpt-to /x/ virtual-mta=acceptance-1\n</pattern-list>\n",
            ),
            ("some/20-b.conf", f"{_ONE}<source acceptance>\n    pattern-list acceptance\n</source>\n"),
        ),
    ),
    Trial("refuses.directive", "an unknown directive is an error", "ehlo-hostname a.example\n", False, line=8),
    Trial("refuses.argument", "a missing argument is an error", "\nhost-name\n", False, line=9),
    Trial("refuses.section", "a section that does not end is an error", "<virtual-mta acceptance-1>\n", False),
    Trial(
        "refuses.place",
        "a directive in a section that does not have it is an error",
        "<dns>\n    max-smtp-out 1\n</dns>\n",
        False,
    ),
    Trial(
        "refuses.name-twice",
        "a pool with the name of a virtual MTA is an error",
        _ONE + "<virtual-mta-pool acceptance-1>\n    virtual-mta acceptance-1\n</virtual-mta-pool>\n",
        False,
    ),
    Trial(
        "refuses.two-pools",
        "a virtual MTA in two pools that both have domains is an error",
        _pool("<domain *>", "    dkim-sign yes", "</domain>")
        + "<virtual-mta-pool acceptance-apart>\n    virtual-mta acceptance-1\n    <domain *>\n        dkim-sign yes\n"
        "    </domain>\n</virtual-mta-pool>\n",
        False,
    ),
    Trial(
        "refuses.in-include",
        "an error in an included file is found",
        f"include {EXTRA}/some/*.conf\n",
        False,
        files=(("some/10-a.conf", "ehlo-hostname a.example\n"),),
        line=1,
    ),
)

# What only mail shows: see docs/proof.md.
MAIL: tuple[tuple[str, str], ...] = (
    ("mail.address", "each address sends from its IPs with its EHLO name, chosen by the recipient's pattern"),
    ("mail.return-path", "rewrite-list changes the domain of the envelope sender, so SPF is that of the return path"),
    ("mail.dkim", "what PowerMTA signs verifies, by the key that was given to it"),
    ("mail.from", "a rule of a pattern-list lets a From field of the stream pass"),
    ("mail.relay", "no port takes mail for strangers"),
)

_PLACE = re.compile(r"Error in line (\d+) of (\S+?):")
_LONGEST = 160


def judged(trials: Sequence[Trial], tested: Mapping[str, Said], why_not: str) -> list[Outcome]:
    """The outcome of each trial; where none was run, or the smallest configuration is refused, of none."""
    base = tested.get(TRIALS[0].name)
    if base is not None and base.errors:
        why_not = f"the smallest configuration is refused, so no other could be tried: {_short(base.errors)}"
    made = []
    for trial in trials:
        done = tested.get(trial.name)
        tried = done is not None and (trial is TRIALS[0] or not (base is None or base.errors))
        made.append(
            _judge(trial, done)
            if tried and done
            else Outcome(trial.name, trial.says, UNTRIED, why_not or "it was left out")
        )
    return [*made, *_of_all(tested)]


def _judge(trial: Trial, done: Said) -> Outcome:
    held = bool(done.errors) != trial.accepted
    seen = _short(done.errors)
    if held and trial.line:
        place = _PLACE.search(done.errors[0])
        held = place is not None and int(place.group(1)) == trial.line
    if not held and not seen:
        seen = "PowerMTA accepts it"
    return Outcome(trial.name, trial.says, HELD if held else FAILED, "" if held and trial.accepted else seen)


def _of_all(tested: Mapping[str, Said]) -> list[Outcome]:
    """What holds of ``pmta test config`` itself."""
    says = "what is wrong is told on standard output, by lines that begin with Error"
    good = [tested[trial.name] for trial in TRIALS if trial.accepted and trial.name in tested]
    bad = [tested[trial.name] for trial in TRIALS if not trial.accepted and trial.name in tested]
    if not bad:
        return [Outcome("test-config.errors", says, UNTRIED, "no configuration was tried")]
    held = all(any(line.lstrip().startswith("Error") for line in done.stdout) for done in bad)
    codes = "exit codes: " + ", ".join(
        f"{sorted({done.exit_code for done in some})} for {what}"
        for what, some in (
            ("accepted", [done for done in good if not done.errors]),
            ("refused", [done for done in (*good, *bad) if done.errors]),
        )
        if some
    )
    return [Outcome("test-config.errors", says, HELD if held else FAILED, codes)]


def by_mail(proven: bool) -> list[Outcome]:
    """What the playbook verify judges, before and after it has passed."""
    if proven:
        return [Outcome(name, says, HELD, "by the playbook verify") for name, says in MAIL]
    return [Outcome(name, says, UNTRIED, "the playbook verify, which follows, has to pass") for name, says in MAIL]


def outcome(name: str, says: str, held: Optional[bool], seen: str = "") -> Outcome:
    return Outcome(name, says, UNTRIED if held is None else HELD if held else FAILED, _cut(seen))


def _short(lines: Sequence[str]) -> str:
    return _cut("; ".join(line.strip() for line in lines[:2]))


def _cut(text: str) -> str:
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 3] + "..."


def report(facts: Mapping[str, str], outcomes: Sequence[Outcome], shapes: Mapping[str, Sequence[str]]) -> list[str]:
    """The text to send: what it ran on, each assumption, the keys of PowerMTA's answers."""
    standin = is_standin(facts.values())
    made = ["What to report back to the mailops.mta collection", "=" * 49, ""]
    if standin:
        made += ["THIS RAN ON THE LAB'S STAND-IN FOR POWERMTA. It proves nothing about PowerMTA itself.", ""]
    made += [f"{name}: {_cut(value)}" for name, value in facts.items()] + [""]
    for verdict in (FAILED, UNTRIED, HELD):
        for each in sorted((one for one in outcomes if one.verdict == verdict), key=lambda one: one.name):
            made.append(f"{verdict:<13} {each.name}: {each.says}")
            made += [f"{'':<13}   {each.seen}"] if each.seen else []
    made += ["", "Keys of the answers in JSON (names and types, no values):"]
    for command, keys in shapes.items():
        made += [f"  {command}", *(f"    {key}" for key in keys or ["(no answer in JSON)"])]
    counted = [f"{sum(each.verdict == verdict for each in outcomes)} {verdict}" for verdict in (HELD, FAILED, UNTRIED)]
    made += ["", f"{len(outcomes)} assumptions: {', '.join(counted)}."]
    if standin:
        made.append("This ran on the lab's stand-in for PowerMTA: there is nothing to report.")
    return made


def is_standin(texts: Iterable[str]) -> bool:
    return any("standin" in text.lower().replace("-", "").replace(" ", "") for text in texts)
