#!/usr/bin/env python3
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: PT009, PT027 (they are for pytest)
"""Tests of the PowerMTA stand-in (it is not PowerMTA) that need no container: python molecule/standin/selftest.py"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from powermta_standin import accounting, inbound, queues, reader, routing
from powermta_standin.spool import Message, Recipient, Spool

BASE = "postmaster a@b.test\nlog-file /var/log/pmta/log\n<spool /var/spool/pmta>\n</spool>\n"
VMTAS = """
<virtual-mta a-1>
    smtp-source-host 192.0.2.1 a1.example.com
</virtual-mta>
<virtual-mta a-2>
    smtp-source-host 192.0.2.2 a2.example.com
</virtual-mta>
<virtual-mta cold>
    smtp-source-host 192.0.2.3 a3.example.com
</virtual-mta>
"""
POOL = """
<virtual-mta-pool a>
    virtual-mta a-1
    virtual-mta a-2
    cold-virtual-mta cold
    <domain *>
        max-smtp-out 10
        max-cold-virtual-mta-msg 1/d,2/d
    </domain>
</virtual-mta-pool>
"""


class Case(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name)

    def load(self, text: str, **more: str) -> routing.Configuration:
        for name, content in {"config": text, **more}.items():
            path = self.root / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return routing.load(str(self.root))

    def refuses(self, text: str, message: str) -> None:
        with self.assertRaises(reader.ConfigError) as caught:
            self.load(text)
        self.assertTrue(str(caught.exception).startswith("Error in line "), caught.exception)
        self.assertIn(message, str(caught.exception))


class Reader(Case):
    def test_takes_what_the_grammar_takes(self) -> None:
        macros = "domain-macro tld com, de,\n  fr # more\ndomain-macro all yahoo.$tld, aol.com\n"
        configuration = self.load(
            f'{BASE}{VMTAS}{POOL}{macros}<domain $all>\nQueue-Priority 70\nsmtp-hosts ""\n</domain>\n'
            "<acct-file |/usr/bin/cat>\n</acct-file>\nsmtp-listener [2001:db8::1]:25\n",
        )
        self.assertEqual(configuration.domain("yahoo.fr", "a-1")["queue-priority"], ["70"])
        self.assertEqual(configuration.domain("yahoo.at", "a-1").get("queue-priority"), None)
        self.assertIn(("2001:db8::1", 25), configuration.listeners)

    def test_an_include_stands_in_its_place(self) -> None:
        text = "include conf.d/*.conf\n"
        configuration = self.load(text, **{"conf.d__20.conf": POOL, "conf.d__10.conf": BASE + VMTAS})
        self.assertEqual(configuration.pools["a"].members, ["a-1", "a-2"])
        with self.assertRaisesRegex(reader.ConfigError, r"Error in line 2 of .*30\.conf: argument missing"):
            self.load(text, **{"conf.d__30.conf": "\nhost-name\n"})

    def test_refuses_with_the_line(self) -> None:
        self.refuses(BASE + "\n\nmax-smtp-out 3\n", "may not stand at the top level")
        self.refuses(BASE + "host-name\n", "Error in line 5 of")

    def test_refuses(self) -> None:
        source = "<source s>\n{}\n</source>\n"
        for text, message in (
            ("ehlo-hostname x\n", "unknown directive 'ehlo-hostname'"),
            ("run-as-root perhaps\n", "not yes or no"),
            ("run-as-root # no\n", "argument missing"),
            ("total-max-smtp-out many\n", "not a number"),
            ("smtp-listener 10.0.0.5\n", "not ip:port"),
            ("smtp-listener 127.0.0.1:25 source=none\n", "no source 'none'"),
            ("<domain *>\nretry-after 5 m\n</domain>\n", "too many"),
            ("<domain *>\nretry-after 5x\n</domain>\n", "invalid interval"),
            ("<domain *>\nmax-msg-rate 0/d\n</domain>\n", "invalid rate"),
            ("<domain *>\nsmtp-pattern-list none\n</domain>\n", "no smtp-pattern-list"),
            ("<domain *>\n<source x>\n", "may not stand in <domain>"),
            ("<domain *>\n", "is not closed"),
            ("</domain>\n", "closes nothing"),
            ("<virtual-mta x>\nsmtp-source-host mail.example.com 10.0.0.1\n</virtual-mta>\n", "not an IP address"),
            (VMTAS + VMTAS, "already"),
            (VMTAS + POOL.replace("virtual-mta a-2", "virtual-mta a-9"), "no virtual-mta 'a-9'"),
            (VMTAS + POOL + POOL.replace("pool a>", "pool b>"), "both"),
            (VMTAS + POOL.replace("pool a>", "pool a-1>"), "already"),
            (source.format("pattern-list p") + "<pattern-list p>\n* virtual-mta=a\n</pattern-list>\n", "before"),
            (source.format("default-virtual-mta none"), "no virtual-mta or pool"),
            ("<pattern-list p>\n</pattern-list>\n" + source.format("pattern-list p\npattern-list p"), "twice"),
            ("<pattern-list p>\nrcpt-to /(/ virtual-mta=a\n</pattern-list>\n", "invalid regular expression"),
            ("<smtp-pattern-list p>\nreply /x/ mode=backoff,mode=normal\n</smtp-pattern-list>\n", "twice"),
            ("<smtp-pattern-list p>\nreply /x/ skip-mx,bounce-queue\n</smtp-pattern-list>\n", "skip-mx"),
            ("<acct-file a.csv>\nrecords d\nrecords b\n</acct-file>\n", "twice"),
            ("<acct-file a.csv>\nmax-size 10k\n</acct-file>\n", "less than 1M"),
            ("<smtp-user u>\n</smtp-user>\n", "no password"),
            ("domain-key a,b,/none\n", "cannot read"),
            ("domain-macro a $b\ndomain-macro b $a\n", "contains itself"),
            ("include none.conf\n", "cannot read"),
        ):
            with self.subTest(text=text):
                self.refuses(BASE + text, message)
        self.refuses(VMTAS + "log-file x\n", "no spool")

    def test_lab_only_refusal(self) -> None:
        (self.root / "standin-refuse").write_text("192.0.2.2", encoding="utf-8")
        self.refuses(BASE + VMTAS, "Error in line 10 of")


class Routing(Case):
    def test_narrow_beats_wide_and_the_login_beats_all(self) -> None:
        configuration = self.load(
            BASE + VMTAS + POOL + "<source 10.1/16>\nalways-allow-relaying yes\n</source>\n"
            "<source 0/0>\nalways-allow-relaying no\nprocess-x-virtual-mta yes\n</source>\n"
            "<source s>\ndefault-virtual-mta a\nprocess-x-virtual-mta no\n</source>\n"
            "<source login>\ndefault-virtual-mta a-2\n</source>\n"
            "<smtp-user u>\npassword p\nsource login\n</smtp-user>\n"
        )
        inside, outside = configuration.connection("10.1.2.3", "s"), configuration.connection("192.0.2.9", "s", "u")
        self.assertTrue(routing.flag(inside, "always-allow-relaying"))
        self.assertFalse(routing.flag(outside, "always-allow-relaying"))
        headers = [("X-Virtual-MTA", "a-1")]
        self.assertEqual(configuration.route(inside, headers, "", []), "a")
        self.assertEqual(configuration.route(outside, headers, "", []), "a-2")
        open_ = configuration.connection("10.1.2.3")
        self.assertEqual(configuration.route(open_, headers, "", []), "a-1")
        with self.assertRaisesRegex(routing.Refused, r"5\.5\.0"):
            configuration.route(open_, [("x-virtual-mta", "none")], "", [])

    def test_patterns(self) -> None:
        configuration = self.load(
            BASE + VMTAS + POOL + r"<pattern-list p>" + "\n"
            r"header X-Binding /^\s*bulk\s*$/ virtual-mta=a-1" + "\n"
            "rcpt-to /@x\\.test$/ <pattern-list>\nmail-from /^two@/ virtual-mta=a-2\n</pattern-list>\n"
            "* virtual-mta=a\n</pattern-list>\n<source s>\npattern-list p\n</source>\n"
        )
        settings = configuration.connection("10.0.0.1", "s")
        self.assertEqual(configuration.route(settings, [("x-binding", " BULK ")], "", ["a@x.test"]), "a-1")
        self.assertEqual(configuration.route(settings, [], "two@b", ["a@x.test"]), "a-2")
        self.assertEqual(configuration.route(settings, [], "two@b", ["a@y.test"]), "a")

    def test_domain_sections_merge(self) -> None:
        configuration = self.load(
            BASE
            + VMTAS.replace("a1.example.com\n", "a1.example.com\n<domain x.test>\nmax-smtp-out 1\n</domain>\n", 1)
            + POOL
            + "<domain [*.]x.test>\nbounce-after 1d\n</domain>\n"
            "<domain *>\nmax-smtp-out 99\nretry-after 1m\n</domain>\n"
        )
        settings = configuration.domain("x.test", "a-1")
        self.assertEqual(
            [settings[key][0] for key in ("max-smtp-out", "retry-after", "bounce-after")], ["1", "1m", "1d"]
        )
        self.assertEqual(configuration.domain("x.test", "a-2")["max-smtp-out"], ["10"])
        self.assertEqual(configuration.domain("x.test", "cold")["max-smtp-out"], ["99"])

    def test_monitor_is_closed_and_ordered(self) -> None:
        self.assertEqual(self.load(BASE).http_right("127.0.0.1"), "none")
        configuration = self.load(BASE + "http-access 10.0.0.1 none\nhttp-access 10/8 monitor,deny-logs\n")
        self.assertEqual([configuration.http_right(f"10.0.0.{last}") for last in (1, 2)], ["none", "monitor,deny-logs"])

    def test_international_names_are_one(self) -> None:
        configuration = self.load(BASE + "relay-domain *.bücher.test\n")
        self.assertTrue(configuration.relays("a@news.xn--bcher-kva.test"))
        self.assertFalse(configuration.relays("a@xn--bcher-kva.test"))


class Rewriting(Case):
    def list(self, *rules: str) -> routing.Configuration:
        lines = "".join(f"{rule}\n" for rule in rules)
        vmtas = VMTAS.replace("a1.example.com\n", "a1.example.com\nrewrite-list r\n", 1)
        return self.load(f"{BASE}<rewrite-list r>\n{lines}</rewrite-list>\n{vmtas}")

    def test_the_envelope_sender_by_the_first_rule(self) -> None:
        for rule, sender, wanted in (
            ("mail-from *@* *@bounce.test", "a@b.test", "a@bounce.test"),
            ("mail-from *@* *@bounce.test", "", ""),
            ("mail-from *@b.test x@*", "a@B.test", "x@B.test"),
            ("mail-from *@b.test *@c.test", "a@d.test", "a@d.test"),
            ("mail-from a@* <>", "a@d.test", ""),
            ("mail-from <> a@d.test", "", "a@d.test"),
        ):
            with self.subTest(rule=rule, sender=sender):
                self.assertEqual(self.list(rule).rewritten("a-1", sender), wanted)
        self.assertEqual(self.list("mail-from *@* *@bounce.test").rewritten("a-2", "a@b.test"), "a@b.test")

    def test_the_from_field_by_its_own_rules(self) -> None:
        configuration = self.list("from-domain *.b.test c.test")
        self.assertEqual(configuration.from_domain("a-1", "x.b.test"), "c.test")
        self.assertEqual(configuration.from_domain("a-1", "b.test"), "b.test")
        self.assertEqual(configuration.rewritten("a-1", "a@x.b.test"), "a@x.b.test")


class Recipients(Case):
    def test_a_name_without_a_domain_becomes_one_of_ours_unless_that_is_switched_off(self) -> None:
        configuration = self.load(BASE + "host-name mail.a.test\npostmaster boss@b.test\n")
        for address, wanted in (
            ("postmaster", "postmaster@mail.a.test"),
            ("user@host", "user@host.a.test"),
            ("@x.test,@y.test:user@z.test", "user@z.test"),
            ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ):
            self.assertEqual(configuration.qualified({}, address), wanted)
        off = {"auto-qualify-domain": ["no"]}
        for address in ("postmaster", '"postmaster"', "user@host", "@z.test", "user@", "user@.test", "a@b c.test"):
            with self.subTest(address=address), self.assertRaises(ValueError):
                configuration.qualified(off, address)
        self.assertEqual(configuration.final("POSTMASTER@mail.a.test"), ["a@b.test", "boss@b.test"])
        self.assertEqual(configuration.final("postmaster@other.test"), ["postmaster@other.test"])
        self.assertTrue(configuration.relays("any@mail.a.test"))
        self.assertFalse(configuration.relays("user%mail.a.test@other.test"))


class Queueing(Case):
    def queues(self, text: str) -> queues.Queues:
        configuration = self.load(text.replace("/var/spool/pmta", str(self.root / "spool")))
        return queues.Queues(Spool(configuration.spool), configuration, accounting.Accounting(configuration.tree))

    def add(self, waiting: queues.Queues, target: str = "a") -> Recipient:
        vmta, pool = waiting.member(target)
        recipient = Recipient("u@x.test", "", vmta, pool)
        waiting.place(recipient, lambda domain: [], True)
        message = Message(queues.new_id(), "s@b.test", time.time(), [recipient])
        waiting.add(message, b"From: s@b.test\r\n\r\nhello\r\n")
        return recipient

    def test_a_pool_takes_turns_and_cold_ones_get_their_share_of_the_day(self) -> None:
        waiting = self.queues(BASE + VMTAS + POOL)
        self.assertEqual([self.add(waiting).vmta for _turn in range(4)], ["cold", "a-2", "a-1", "a-2"])
        again = self.queues(BASE + VMTAS + POOL)  # after a restart the count goes on
        self.assertNotEqual(self.add(again).vmta, "cold")
        tomorrow = time.time() + 86400
        with mock.patch("time.time", return_value=tomorrow), _day_of(tomorrow):
            self.assertEqual([self.add(again).vmta for _turn in range(3)].count("cold"), 2)

    def test_nothing_is_lost_over_a_restart(self) -> None:
        waiting = self.queues(BASE + VMTAS + POOL)
        for _turn in range(5):
            self.add(waiting, "a-1")
        queue = waiting.queues["x.test", "a-1"]
        (item,) = waiting.take(queue)
        waiting.delivered(queue, item, queues.Attempt(), "2.0.0", "smtp;250", True)
        (item,) = waiting.take(queue)
        waiting.deferred(queue, item, queues.Attempt(), "4.0.0", "smtp;450 later")
        again = self.queues(BASE + VMTAS + POOL)
        self.assertEqual(len(again.queues["x.test", "a-1"].live()), 4)
        self.assertEqual(
            sorted(found.recipient.attempts for found in again.queues["x.test", "a-1"].live()), [0, 0, 0, 1]
        )

    def test_a_virtual_mta_that_is_gone_bounces_its_mail(self) -> None:
        self.add(self.queues(BASE + VMTAS + POOL), "a-1")
        acct = f"<acct-file {self.root}/acct.csv>\n</acct-file>\n"
        waiting = self.queues(BASE + VMTAS.replace("a-1", "b-1") + acct)
        waiting.expire()
        (file,) = self.root.glob("acct-*-0000.csv")
        waiting.accounting.close()
        (row,) = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
        self.assertEqual((row["type"], row["dsnStatus"][:5], row["vmta"]), ("b", "5.3.5", "a-1"))
        self.assertEqual(os.listdir(waiting.spool.directory), [])

    def test_pause_backoff_and_disabled_sources_hold_mail(self) -> None:
        waiting = self.queues(BASE + VMTAS + POOL)
        self.add(waiting, "a-1")
        queue = waiting.queues["x.test", "a-1"]
        self.assertEqual(waiting.ready(queue, time.time()), 1)
        waiting.paused.add("x.test/a-1")
        self.assertEqual(waiting.ready(queue, time.time()), 0)
        waiting.paused.clear()
        waiting.disabled["192.0.2.1", "*/a-1"] = 1e11
        self.assertEqual(waiting.ready(queue, time.time()), 0)
        waiting.disabled.clear()
        waiting.set_mode(queue, queues.BACKOFF)
        self.assertEqual(waiting.ready(queue, time.time()), 0)
        waiting.set_mode(queue, queues.NORMAL)
        self.assertEqual(waiting.ready(queue, time.time()), 1)


def _day_of(when: float) -> mock._patch[mock.MagicMock]:
    return mock.patch("time.localtime", return_value=time.gmtime(when))


class Accounts(Case):
    def rows(self, text: str, *records: dict[str, str]) -> tuple[list[str], list[dict[str, str]]]:
        configuration = self.load(BASE + f"<acct-file {self.root}/acct.csv>\n{text}\n</acct-file>\n")
        accounts = accounting.Accounting(configuration.tree)
        for record in records:
            accounts.write(record)
        accounts.close()
        file = max(self.root.glob("acct-????-??-??-????.csv"))
        with file.open(encoding="utf-8", newline="") as handle:
            found = csv.DictReader(handle)
            return list(found.fieldnames or ()), list(found)

    def test_header_first_and_columns_of_all_types(self) -> None:
        awkward = {"type": "d", "rcpt": "ü@x.test", "dsnDiag": 'smtp;250 "ok", \n said'}
        names, rows = self.rows("records d,tq", awkward, {"type": "tq", "queue": "x/y"}, {"type": "b", "rcpt": "no"})
        self.assertEqual(names[:4], ["type", "timeLogged", "timeQueued", "orig"])
        self.assertEqual([row["type"] for row in rows], ["d", "tq"])
        self.assertEqual((rows[0]["dsnDiag"], rows[1]["rcpt"]), (awkward["dsnDiag"], ""))

    def test_fields_can_be_chosen(self) -> None:
        names, _rows = self.rows("records d\nrecord-fields d *,!orcpt,header_X-Test", {"type": "d"})
        self.assertNotIn("orcpt", names)
        self.assertEqual(names[-1], "header_X-Test")
        names, _rows = self.rows(
            "records d\nrecord-fields d rcpt,timeLogged", {"type": "d"}
        )  # other columns: a new file
        self.assertEqual(names, ["type", "rcpt", "timeLogged"])

    def test_rotation_begins_the_next_number(self) -> None:
        configuration = self.load(BASE + f"<acct-file {self.root}/acct.csv>\n</acct-file>\n")
        accounts = accounting.Accounting(configuration.tree)
        accounts.write({"type": "d"})
        accounts.rotate()
        accounts.write({"type": "d"})
        accounts.close()
        self.assertEqual(len(list(self.root.glob("acct-*-0000.csv")) + list(self.root.glob("acct-*-0001.csv"))), 2)


class Reports(unittest.TestCase):
    def test_reports_become_records(self) -> None:
        parts = "Reporting-MTA: dns; mx.x\n\nFinal-Recipient: rfc822; u@x\nAction: {}\nStatus: 5.2.2\n"
        head = 'Content-Type: multipart/report; boundary="b"\n\n--b\nContent-Type: message/{}\n\n{}\n--b--\n'
        for action, kind in (("failed", "rb"), ("delayed", "rs")):
            text = head.format("delivery-status", parts.format(action))
            (record,) = inbound.bounce(text.encode(), "", "r@me", "x", lambda diagnosis: "other")
            self.assertEqual((record["type"], record["rcpt"], record["orig"]), (kind, "u@x", "r@me"))
        fields = "Feedback-Type: abuse\nOriginal-Rcpt-To: <u@x>\n"
        (record,) = inbound.feedback(head.format("feedback-report", fields).encode(), [])
        self.assertEqual((record["feedbackType"], record["rcpt"]), ("abuse", "u@x"))
        self.assertEqual(inbound.bounce(b"Subject: hello\n\nhello\n", "", "r@me", "x", str), [])


class Honesty(unittest.TestCase):
    def test_every_file_says_what_it_is(self) -> None:
        for path in Path(__file__).parent.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                self.assertIn("PowerMTA stand-in", path.read_text(encoding="utf-8"), path)


if __name__ == "__main__":
    unittest.main()
