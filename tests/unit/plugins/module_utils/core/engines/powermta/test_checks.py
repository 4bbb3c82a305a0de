# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker of PowerMTA configurations: each rule has a text that breaks it, and the same text put right, about which
no rule says anything."""

from __future__ import annotations

import re
import time

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import checks, table
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING, Finding
from hypothesis import given, settings
from hypothesis import strategies as st

MAIN = "/etc/pmta/config"
HOST = """\
run-as-root no
postmaster postmaster@example.com
log-file /var/log/pmta/pmta.log
<spool /var/spool/pmta>
</spool>
"""
LISTENER = "smtp-listener 10.0.0.5:25\n"
VMTA = """\
<virtual-mta one>
    smtp-source-host 203.0.113.1 one.example.com
</virtual-mta>
<virtual-mta two>
    smtp-source-host 203.0.113.2 two.example.com
</virtual-mta>
"""
BASE = HOST + LISTENER + VMTA


def check(text: str, version: str = "5.0", **files: str) -> list[Finding]:
    return checks.check(
        {MAIN: text, **{f"/etc/pmta/{name}.conf": each for name, each in files.items()}}, version=version
    )


def case(name: str, bad: str, said: str, good: str, severity: str = ERROR, base: str = BASE) -> object:
    return pytest.param(bad, said, good, severity, base, id=name)


def domain(*lines: str, pattern: str = "*") -> str:
    return "\n".join([f"<domain {pattern}>", *lines, "</domain>", ""])


def vmta(*lines: str, name: str = "three") -> str:
    own = "smtp-source-host 203.0.113.3 three.example.com"
    return "\n".join([f"<virtual-mta {name}>", own, *lines, "</virtual-mta>", ""])


def pool(*lines: str, name: str = "pool") -> str:
    return "\n".join([f"<virtual-mta-pool {name}>", *lines, "</virtual-mta-pool>", ""])


def source(name: str, *lines: str) -> str:
    return "\n".join([f"<source {name}>", *lines, "</source>", ""])


def replies(*lines: str) -> str:
    body = [f"reply {line}" for line in lines]
    used = domain("smtp-pattern-list list", "backoff-to-normal-after 1h", "reenable-source-ip-after 1h")
    return "\n".join([used.rstrip("\n"), "<smtp-pattern-list list>", *body, "</smtp-pattern-list>", ""])


def patterns(*lines: str) -> str:
    return "\n".join(["<pattern-list list>", *lines, "</pattern-list>", source("10/8", "pattern-list list")])


def acct(*lines: str) -> str:
    return "\n".join(["<acct-file /var/log/pmta/acct.csv>", *lines, "</acct-file>", ""])


def bounces(*lines: str) -> str:
    return "\n".join(["<bounce-category-patterns>", *lines, "</bounce-category-patterns>", ""])


def processor(line: str, kind: str = "bounce") -> str:
    return f"<{kind}-processor>\n<address-list>\n{line}\n</address-list>\n</{kind}-processor>\n"


KEY = "domain-key s1,example.com,/etc/pmta/dkim/a.pem\n"
SIGN = domain("dkim-sign yes")
USER = "<smtp-user shop>\npassword geheim123\nsource login\n</smtp-user>\n"

STREAM = "smtp-listener 10.0.0.5:26 source=s\n"

CASES = [
    # names, scopes, versions, values
    case("unknown", "smtp-servce yes\n", "smtp-servce: unknown directive.*did you mean 'smtp-service'", ""),
    case("unknown_in_domain", domain("max-smtp-outs 3"), "did you mean 'max-smtp-out'", domain("max-smtp-out 3")),
    case("ehlo_hostname", vmta("ehlo-hostname a.example.com"), "smtp-source-host.*Write smtp-source-host", vmta()),
    case("x_binding", vmta("X-Binding three"), "X-Binding: .*pattern-list", vmta()),
    case("keytable", "KeyTable /etc/opendkim/KeyTable\n", "OpenDKIM.*domain-key", ""),
    case("section_as_line", "virtual-mta four\n", "it may stand in <virtual-mta-pool>", ""),
    case("section_without_tag", "acct-file /var/log/a.csv\n", "it is a section, which begins with <acct-file>", ""),
    case(
        "unknown_section",
        "<virtual-mat x>\n</virtual-mat>\n",
        "no section <virtual-mat>, did you mean 'virtual-mta'",
        "",
    ),
    case(
        "section_in_wrong_place",
        source("10/8", "<domain *>", "</domain>"),
        "may stand outside of all sections",
        SIGN + KEY,
    ),
    case("section_without_name", "<smtp-user>\npassword x\n</smtp-user>\n", "it needs an argument", ""),
    case(
        "wrong_scope",
        source("10/8", "max-msg-rate 1/h"),
        "stands in <source>, and it may stand in <domain>",
        domain("max-msg-rate 1/h"),
    ),
    case("wrong_scope_top", "dkim-sign yes\n", "stands in no section, and it may stand in <domain>", SIGN + KEY),
    case("no_value", domain("max-smtp-out"), "max-smtp-out: argument missing", domain("max-smtp-out 3")),
    case("bool", domain("use-starttls maybe"), "yes or no is expected", domain("use-starttls no")),
    case("interval", domain("retry-after 10 m"), "10m is what holds", domain("retry-after 10m,1h")),
    case("rate", domain("max-msg-rate 0/h"), "a rate such as", domain("max-msg-rate 83/10m")),
    case("size", acct("max-size 500k"), "at least 1M", acct("max-size 1M")),
    case("idle", domain("connection-idle-timeout 11m"), "up to 10m", domain("connection-idle-timeout 10m")),
    case("priority", domain("queue-priority 101"), "from 0 to 100", domain("queue-priority 100")),
    case("legacy", "sync-msg-create false\n", "the manuals of 5.0 do not have it", "", WARNING),
    case("deprecated", domain("max-msg-per-hour 5"), "Write max-msg-rate N/h", domain("max-msg-rate 5/h"), WARNING),
    case(
        "twice",
        domain("max-smtp-out 5", "max-smtp-out 9"),
        "config:1[0-9] says it already",
        domain("max-smtp-out 9"),
        WARNING,
    ),
    case(
        "reopened",
        domain("max-smtp-out 5") + domain("retry-after 1h"),
        "opens it already",
        domain("max-smtp-out 5", "retry-after 1h"),
        WARNING,
    ),
    case("records_twice", acct("records d", "records b"), "into one line", acct("records d,b")),
    case("pickup_twice", "pickup /a /b\npickup /c /d\n", "says it already", "pickup /a /b\n"),
    case(
        "vault_twice",
        "<vault a>\n</vault>\n<vault a>\n</vault>\n",
        "opens it already",
        "<vault a>\n</vault>\n",
        WARNING,
    ),
    case(
        "hash_in_password",
        USER.replace("geheim123", "geheim#123") + source("login"),
        "cuts off",
        USER + "# a remark\n" + source("login"),
    ),
    # what every host needs
    case("root", "", "run-as-root: missing", "run-as-root no\n", WARNING, BASE.replace("run-as-root no\n", "")),
    case(
        "root_yes",
        "run-as-root yes\n",
        "a fault of root",
        "run-as-root no\n",
        WARNING,
        BASE.replace("run-as-root no\n", ""),
    ),
    case(
        "postmaster",
        "",
        "postmaster: missing",
        "postmaster a@b.example\n",
        WARNING,
        re.sub("postmaster .*\n", "", BASE),
    ),
    case("log_file", "", "log-file: missing", "log-file /x\n", ERROR, re.sub("log-file .*\n", "", BASE)),
    case("spool", "", "<spool>: missing", "<spool /x>\n</spool>\n", ERROR, re.sub("</?spool.*\n", "", BASE)),
    case("listener", "", "smtp-listener: missing", LISTENER, WARNING, HOST + VMTA),
    case("out", "total-max-smtp-out 1200\n", "Standard licence", "total-max-smtp-out 200\n", WARNING),
    case("far_out", "total-max-smtp-out 9000\n", "advised against", "total-max-smtp-out 200\n", WARNING),
    case("csrf", "http-csrf-protection no\n", "any page", "http-csrf-protection yes\n", WARNING),
    # names that lead nowhere, and what nothing names
    case(
        "default_vmta",
        source("10/8", "default-virtual-mta tow"),
        "did you mean 'two'",
        source("10/8", "default-virtual-mta two"),
    ),
    case(
        "by_source_ip",
        source("10/8", "default-virtual-mta by-smtp-source"),
        "no virtual MTA",
        source("10/8", "default-virtual-mta by-smtp-source-ip"),
    ),
    case(
        "default_name",
        source("10/8", "default-virtual-mta default"),
        "no virtual MTA",
        source("10/8", "default-virtual-mta {default}"),
    ),
    case(
        "reroute",
        domain("backoff-reroute-to-virtual-mta x"),
        "no virtual MTA",
        domain('backoff-reroute-to-virtual-mta ""'),
    ),
    case("fallback", "invalid-virtual-mta-fallback x\n", "no virtual MTA", "invalid-virtual-mta-fallback one\n"),
    case("user_source", USER, "'login': no <source> has this name", USER + source("login")),
    case(
        "listener_source",
        "smtp-listener 10.0.0.5:26 source=blk\n" + source("bulk"),
        "did you mean 'bulk'",
        "smtp-listener 10.0.0.5:26 source=bulk\n" + source("bulk"),
    ),
    case(
        "listener_section",
        "<smtp-listener 10.0.0.5:26>\nsource blk\n</smtp-listener>\n",
        "no <source>",
        "<smtp-listener 10.0.0.5:26>\nsource bulk\n</smtp-listener>\n" + source("bulk"),
    ),
    case(
        "list", domain("smtp-pattern-list lost"), "no <smtp-pattern-list> has this name", replies("/421/ mode=backoff")
    ),
    case(
        "suppression",
        source("10/8", "suppression-lists a,b") + "<address-list a>\n</address-list>\n",
        "'b': no <address-list>",
        source("10/8", "suppression-lists a") + "<address-list a>\n</address-list>\n",
    ),
    case(
        "unused_list",
        "<rewrite-list r>\nfrom-domain a.example b.example\n</rewrite-list>\n",
        "nothing names it",
        "<rewrite-list r>\nfrom-domain a.example b.example\n</rewrite-list>\n" + vmta("rewrite-list r"),
        WARNING,
    ),
    case("unused_source", source("bulk"), "no listener and no user names it", source("{auth}"), WARNING),
    case(
        "queue_to",
        domain("queue-to corp.rollup", pattern="a.example"),
        "no <domain> of its name has smtp-hosts",
        domain("queue-to corp.rollup", pattern="a.example") + domain("smtp-hosts mx.example", pattern="corp.rollup"),
    ),
    case(
        "queue_to_vmta",
        domain("queue-to b.example/x", pattern="a.example"),
        "no virtual MTA",
        domain("queue-to b.example/one", pattern="a.example"),
    ),
    # virtual MTAs, pools and addresses
    case("name_space", pool("virtual-mta one", name="two"), "both share one space of names", pool("virtual-mta one")),
    case("member", pool("virtual-mta nine"), "no virtual MTA has this name", pool("virtual-mta one")),
    case("empty_pool", pool(), "no virtual-mta stands in it", pool("virtual-mta one")),
    case(
        "pool_in_pool",
        pool("virtual-mta one") + pool("virtual-mta pool", name="outer"),
        "it is a pool",
        pool("virtual-mta one"),
    ),
    case("weights", pool("virtual-mta one 3"), "no weights", pool("virtual-mta one")),
    case(
        "weight",
        pool("virtual-mta one", "weight 3"),
        "weight: unknown directive: a pool has no weights",
        pool("virtual-mta one"),
    ),
    case(
        "member_twice", pool("virtual-mta one", "virtual-mta one"), "member already", pool("virtual-mta one"), WARNING
    ),
    case(
        "two_pools",
        pool("virtual-mta one", SIGN, KEY) + pool("virtual-mta one", "virtual-mta two", SIGN, KEY, name="other"),
        "both pools hold <domain>",
        pool("virtual-mta one", SIGN, KEY) + pool("virtual-mta one", "virtual-mta two", name="other"),
    ),
    case(
        "no_address",
        "<virtual-mta x>\nhost-name x.example.com\n</virtual-mta>\n",
        "no smtp-source-host",
        "<virtual-mta x>\n<domain *>\nsmtp-hosts [10.0.0.6]:2526\n</domain>\n</virtual-mta>\n",
    ),
    case(
        "global_address",
        "smtp-source-host 203.0.113.9 x.example.com\n<virtual-mta x>\n</virtual-mta>\n",
        "no smtp-source-host",
        "smtp-source-host 203.0.113.9 x.example.com\n",
        WARNING,
    ),
    case(
        "order",
        "<virtual-mta x>\nsmtp-source-host x.example.com 203.0.113.9\n</virtual-mta>\n",
        "Write smtp-source-host 203.0.113.9 x.example.com",
        "<virtual-mta x>\nsmtp-source-host 203.0.113.9 x.example.com\n</virtual-mta>\n",
    ),
    case(
        "source_ip",
        "<virtual-mta x>\nsmtp-source-ip 203.0.113.9\nhost-name x.example.com\n</virtual-mta>\n",
        "Write smtp-source-host 203.0.113.9 x.example.com",
        vmta(),
        WARNING,
    ),
    case(
        "no_fqdn",
        "<virtual-mta x>\nsmtp-source-host 203.0.113.9 localhost\n</virtual-mta>\n",
        "no full domain name",
        vmta(),
    ),
    case(
        "one_name",
        vmta() + vmta(name="x").replace("three.example", "other.example"),
        "greets with three.example.com",
        vmta() + vmta(name="x"),
        WARNING,
    ),
    case(
        "proxies",
        "<proxy p>\nserver p.example:99\nclient 10.0.0.1 a.example\n</proxy>\n<virtual-mta x>\nuse-proxy p\n"
        "smtp-proxy-source-host 10.0.0.1 p.example:99 203.0.113.7 x.example\n</virtual-mta>\n",
        "exclude each other",
        "<proxy p>\nserver p.example:99\nclient 10.0.0.1 a.example\n</proxy>\n"
        "<virtual-mta x>\nuse-proxy p\n</virtual-mta>\n",
    ),
    case(
        "proxy_source",
        vmta("smtp-proxy-source-host 10.0.0.1 p.example:99 203.0.113.7 x.example"),
        "exclude each other",
        vmta(),
    ),
    case(
        "cold_without",
        domain("max-cold-virtual-mta-msg 50/d,100/d"),
        "nothing has a cold-virtual-mta",
        domain("max-cold-virtual-mta-msg 50/d,100/d") + vmta("cold-virtual-mta one"),
        WARNING,
    ),
    case(
        "cold_elsewhere",
        pool("virtual-mta one", domain("max-cold-virtual-mta-msg 50/d"))
        + vmta("cold-virtual-mta two")
        + domain("max-cold-virtual-mta-msg 9/d"),
        "<virtual-mta-pool pool> has no cold-virtual-mta",
        pool("virtual-mta one", "cold-virtual-mta two", domain("max-cold-virtual-mta-msg 50/d")),
        WARNING,
    ),
    case(
        "cold_unlimited",
        vmta("cold-virtual-mta one"),
        "without one nothing is diverted",
        vmta("cold-virtual-mta one", domain("max-cold-virtual-mta-msg 50/d")),
        WARNING,
    ),
    case(
        "cold_member",
        pool("virtual-mta one", "virtual-mta two", "cold-virtual-mta two", domain("max-cold-virtual-mta-msg 5/d")),
        "full member of the pool as well",
        pool("virtual-mta one", "cold-virtual-mta two", domain("max-cold-virtual-mta-msg 5/d")),
        WARNING,
    ),
    case(
        "cold_missing",
        vmta("cold-virtual-mta lost", domain("max-cold-virtual-mta-msg 50/d")),
        "no virtual MTA",
        vmta("cold-virtual-mta one", domain("max-cold-virtual-mta-msg 50/d")),
    ),
    case(
        "invalid_taken",
        source("10/8", "reject-invalid-virtual-mta no"),
        "taken and then bounced",
        source("10/8", "reject-invalid-virtual-mta no") + "invalid-virtual-mta-fallback one\n",
        WARNING,
    ),
    # rules that choose
    case(
        "target",
        patterns("mail-from /a/ virtual-mta=on"),
        "did you mean 'one'",
        patterns("mail-from /a/ virtual-mta=one"),
    ),
    case(
        "x_binding_rule",
        patterns("header X-Binding /^bulk$/ virtual-mta=bulk"),
        "no virtual MTA",
        patterns("header X-Binding /^bulk$/ virtual-mta=one"),
    ),
    case(
        "result",
        patterns("mail-from /a/ virtualmta=one"),
        "did you mean 'virtual-mta'",
        patterns("mail-from /a/ virtual-mta=one"),
    ),
    case("no_result", patterns("mail-from /a/"), "argument missing", patterns("mail-from /a/ recipient-priority=70")),
    case("result_priority", patterns("* recipient-priority=x"), "from 0 to 100", patterns("* recipient-priority=70")),
    case(
        "unknown_rule",
        patterns("subject /a/ virtual-mta=one"),
        "a rule of a pattern-list begins with",
        patterns("header Subject /a/ virtual-mta=one"),
    ),
    case(
        "regex",
        patterns("mail-from /(a/ virtual-mta=one"),
        "unterminated|missing \\)",
        patterns("mail-from /(a)/ virtual-mta=one"),
    ),
    case(
        "call",
        patterns("mail-from /a/ call-to: lost"),
        "no <pattern-list> has this name",
        "<pattern-list found>\n* virtual-mta=one\n</pattern-list>\n" + patterns("mail-from /a/ call-to: found"),
    ),
    case(
        "dead_rule",
        patterns("mail-from /.*/ virtual-mta=one", "header X /a/ virtual-mta=two"),
        "matches everything",
        patterns("header X /a/ virtual-mta=two", "mail-from /.*/ virtual-mta=one"),
        WARNING,
    ),
    case(
        "same_rule",
        patterns("mail-from /a/ virtual-mta=one", "mail-from /a/ virtual-mta=two"),
        "the same pattern",
        patterns("mail-from /a/ virtual-mta=one", "mail-from /b/ virtual-mta=two"),
        WARNING,
    ),
    case(
        "dead_nested",
        patterns("* virtual-mta=one", "header X /a/ <pattern-list>", "* virtual-mta=two", "</pattern-list>"),
        "never reached",
        patterns("header X /a/ <pattern-list>", "* virtual-mta=two", "</pattern-list>", "* virtual-mta=one"),
        WARNING,
    ),
    case(
        "rcpt_to",
        patterns("rcpt-to /gmail/ virtual-mta=one"),
        "for the whole message",
        patterns("rcpt-to /^probe\\.one@sink\\.example$/ virtual-mta=one"),
        WARNING,
    ),
    case(
        "rcpt_to_limit",
        patterns("rcpt-to /gmail/ virtual-mta=one"),
        "for the whole message",
        patterns("rcpt-to /gmail/ virtual-mta=one").replace(
            "pattern-list list\n</source>", "pattern-list list\nmax-rcpt-per-message 1\n</source>"
        ),
        WARNING,
    ),
    case(
        "list_later",
        source("10/8", "pattern-list l") + "<pattern-list l>\n* virtual-mta=one\n</pattern-list>\n",
        "reads from top to bottom",
        "<pattern-list l>\n* virtual-mta=one\n</pattern-list>\n" + source("10/8", "pattern-list l"),
    ),
    case(
        "two_lists",
        patterns("* virtual-mta=one").replace("</source>", "pattern-list list\n</source>"),
        "says it already",
        patterns("* virtual-mta=one"),
    ),
    # replies
    case("action", replies("/421/ mode=backoff,skip"), "no action 'skip'", replies("/421/ mode=backoff,skip-mx")),
    case("mode", replies("/421/ mode=backof"), "no mode 'backof'", replies("/421/ mode=backoff")),
    case(
        "both_modes",
        replies("/421/ mode=backoff,mode=normal"),
        "both modes",
        replies("/421/ mode=normal,skip-mx", "/x/ mode=backoff"),
    ),
    case(
        "normal_after",
        replies("/421/ backoff-to-normal-after=1h", "/x/ mode=backoff"),
        "needs mode=backoff",
        replies("/421/ mode=backoff,backoff-to-normal-after=1h"),
    ),
    case(
        "reenable",
        replies("/x/ mode=backoff,reenable-after=1h"),
        "needs disable-source-ip",
        replies("/x/ mode=backoff,disable-source-ip,reenable-after=1h"),
    ),
    case(
        "skip_and_bounce",
        replies("/x/ skip-mx,bounce-queue", "/y/ mode=backoff"),
        "exclude each other",
        replies("/x/ skip-mx,bounce-rcpt", "/y/ mode=backoff"),
    ),
    case(
        "action_twice",
        replies("/x/ skip-mx,skip-mx", "/y/ mode=backoff"),
        "says skip-mx twice",
        replies("/y/ mode=backoff"),
    ),
    case("no_action", replies("/x/", "/y/ mode=backoff"), "argument missing", replies("/y/ mode=backoff")),
    case(
        "bad_after",
        replies("/x/ mode=backoff,backoff-to-normal-after=soon"),
        "an interval",
        replies("/x/ mode=backoff"),
    ),
    case(
        "dead_reply",
        replies("/./ mode=backoff", "/421/ skip-mx"),
        "matches everything",
        replies("/421/ skip-mx", "/./ mode=backoff"),
        WARNING,
    ),
    case(
        "for_ever",
        domain("smtp-pattern-list l") + "<smtp-pattern-list l>\nreply /4/ mode=backoff\n</smtp-pattern-list>\n",
        "nothing ever ends that",
        domain("smtp-pattern-list l", "backoff-to-normal-after-delivery yes")
        + "<smtp-pattern-list l>\nreply /4/ mode=backoff\n</smtp-pattern-list>\n",
        WARNING,
    ),
    case(
        "for_ever_inherited",
        domain("smtp-pattern-list l", pattern="a.example")
        + domain("backoff-to-normal-after 1h", pattern="*.b.example")
        + "<smtp-pattern-list l>\nreply /4/ mode=backoff\n</smtp-pattern-list>\n",
        "nothing ever ends that",
        domain("smtp-pattern-list l", pattern="a.example")
        + domain("backoff-to-normal-after 1h")
        + "<smtp-pattern-list l>\nreply /4/ mode=backoff\n</smtp-pattern-list>\n",
        WARNING,
    ),
    case(
        "disabled_for_ever",
        domain("smtp-pattern-list l") + "<smtp-pattern-list l>\nreply /4/ disable-source-ip\n</smtp-pattern-list>\n",
        "nothing ever enables it again",
        domain("smtp-pattern-list l", "reenable-source-ip-after 1h")
        + "<smtp-pattern-list l>\nreply /4/ disable-source-ip\n</smtp-pattern-list>\n",
        WARNING,
    ),
    case("never_backs_off", domain("backoff-to-normal-after 1h"), "by hand only", replies("/4/ mode=backoff"), WARNING),
    # DKIM
    case("unsigned", KEY, "says dkim-sign yes", KEY + SIGN, WARNING),
    case("unkeyed", SIGN, "there is no domain-key", KEY + SIGN, WARNING),
    case(
        "key_elsewhere",
        vmta(KEY) + pool("virtual-mta one", SIGN),
        "there is no domain-key",
        pool("virtual-mta one", KEY, SIGN),
        WARNING,
    ),
    case(
        "behind_star",
        "domain-key s,*,/a\n" + KEY + SIGN,
        "all domains, and the first that fits signs",
        KEY + "domain-key s,*,/a\n" + SIGN,
        WARNING,
    ),
    case(
        "behind_parent",
        KEY + "domain-key s,news.example.com,/a\n" + SIGN,
        "a key for example.com",
        "domain-key s,news.example.com,/a\n" + KEY + SIGN,
        WARNING,
    ),
    case("key_twice", KEY + KEY + SIGN, "says it already", KEY.replace("s1", "s2") + KEY + SIGN, WARNING),
    case("ed25519", KEY + domain("dkim-sign yes", "dkim-algorithm ed25519-sha256"), "signs with RSA only", KEY + SIGN),
    case(
        "sha1",
        KEY + domain("dkim-sign yes", "dkim-algorithm rsa-sha1"),
        "RFC 8301",
        KEY + domain("dkim-sign yes", "dkim-algorithm rsa-sha256"),
        WARNING,
    ),
    case(
        "headers",
        KEY + domain("dkim-sign yes", "dkim-headers X-A,Return-Path"),
        "the field return-path",
        KEY + domain("dkim-sign yes", "dkim-headers X-A"),
    ),
    case(
        "identity",
        KEY + domain("dkim-sign yes", "dkim-identity @exampel.com"),
        "did you mean 'example.com'",
        KEY + domain("dkim-sign yes", "dkim-identity @news.example.com"),
        WARNING,
    ),
    case(
        "vault",
        "domain-key s,example.com,{vault}:/x:key\n" + SIGN,
        "there is no <vault>",
        "<vault v>\n</vault>\ndomain-key s,example.com,{vault}:/x:key\n" + SIGN,
    ),
    # deliveries, rollups, accounting, bounces, macros
    case("pipe", domain("type pipe"), "needs command", domain("type pipe", 'command "/bin/x --to \\"$to\\""')),
    case(
        "starttls",
        domain("use-starttls no") + domain("require-starttls yes", pattern="a.example"),
        "turns STARTTLS off",
        domain("use-starttls yes") + domain("require-starttls yes", pattern="a.example"),
    ),
    case(
        "immediate",
        "<smtp-listener 10.0.0.5:465>\nimmediate-tls yes\n</smtp-listener>\n",
        "needs a certificate",
        "<smtp-listener 10.0.0.5:465>\nimmediate-tls yes\ntls-certificate /a.pem\n</smtp-listener>\n",
    ),
    case(
        "user",
        "<smtp-user a>\n</smtp-user>\n",
        "no password",
        "<smtp-user a>\nauthentication-method system\n</smtp-user>\n",
    ),
    case(
        "rollup_name",
        "<mx-rollup-list>\nmx mx.a.example a\n</mx-rollup-list>\n",
        "ends with .rollup",
        "<mx-rollup-list>\nmx mx.a.example a.rollup\n</mx-rollup-list>\n",
    ),
    case(
        "rollup_way",
        "<mx-rollup-list>\nmx *.a.example a.rollup\n</mx-rollup-list>\n",
        "does not say where to connect to",
        "<mx-rollup-list>\nmx *.a.example a.rollup rollup-by-ip\n</mx-rollup-list>\n",
    ),
    case(
        "rollup_hosts",
        "<mx-rollup-list>\nmx *.a.example a.rollup\n</mx-rollup-list>\n",
        "does not say where to connect to",
        "<mx-rollup-list>\nmx *.a.example a.rollup\n</mx-rollup-list>\n"
        + domain("smtp-hosts lookup-mx:a.example", pattern="a.rollup"),
    ),
    case(
        "move_interval",
        acct("move-interval 5m"),
        "nothing is moved",
        acct("move-interval 5m", "move-to /var/x"),
        WARNING,
    ),
    case(
        "delete_after", acct("delete-after 8d", "move-to /var/x"), "are not deleted", acct("delete-after 8d"), WARNING
    ),
    case(
        "fields",
        acct("records d,b", "record-fields f *"),
        "no records of this type",
        acct("records d,b,feedback-loop", "record-fields f *"),
        WARNING,
    ),
    case("record_type", acct("records d,x"), "types of records", acct("records d,tq")),
    case(
        "category",
        bounces("/policy/ ploicy-related"),
        "did you mean 'policy-related'",
        bounces("/policy/ invalid-mailbox"),
        WARNING,
    ),
    case(
        "dead_category",
        bounces("/./ other", "/quota/ quota-issues"),
        "never reached",
        bounces("/quota/ quota-issues", "/./ other"),
        WARNING,
    ),
    case(
        "processor",
        "relay-domain a.example\n" + processor("domain b.example"),
        "no relay-domain has it",
        "relay-domain [*.]b.example\n" + processor("domain b.example"),
        WARNING,
    ),
    case(
        "no_addresses",
        "<feedback-loop-processor>\n</feedback-loop-processor>\n",
        "no mail reaches it",
        processor("address fbl@b.example", "feedback-loop"),
        WARNING,
    ),
    case(
        "macro",
        domain(pattern="yahoo.$tdl") + "domain-macro tld com, fr\n" + domain(pattern="x.$tld"),
        "did you mean 'tld'",
        domain(pattern="yahoo.$tld") + "domain-macro tld com, fr\n",
    ),
    case(
        "macro_loop",
        "domain-macro a x.example, $b\ndomain-macro b $a\n",
        "contains itself",
        "domain-macro a x.example, $b\ndomain-macro b y.example\n" + domain(pattern="$a"),
    ),
    case(
        "macro_unused",
        "domain-macro a x.example\n",
        "no pattern uses it",
        "domain-macro a x.example\nrelay-domain $a\n",
        WARNING,
    ),
    case(
        "macro_twice",
        "domain-macro a x.example\ndomain-macro A y.example\n" + domain(pattern="$a"),
        "defines a already",
        "domain-macro a x.example, y.example\n" + domain(pattern="$a"),
    ),
    # who is let in
    case(
        "relay_all",
        "smtp-listener 203.0.113.5:25\n" + source("0/0", "always-allow-relaying yes"),
        "an open relay",
        "smtp-listener 203.0.113.5:25\n" + source("0/0", "always-allow-relaying yes", "require-auth yes"),
    ),
    case(
        "relay_v6",
        "smtp-listener 203.0.113.5:25\n"
        + source("0/0", "require-auth yes")
        + source("::/0", "always-allow-relaying yes"),
        "an open relay",
        source("::/0", "always-allow-relaying no"),
    ),
    case(
        "relay_half",
        "smtp-listener 0.0.0.0:26\n" + source("128/1", "always-allow-relaying yes"),
        "an open relay",
        source("10/8", "always-allow-relaying yes"),
    ),
    case(
        "relay_inside",
        source("0/0", "always-allow-relaying yes"),
        "everywhere",
        source("0/0", "always-allow-relaying no"),
        WARNING,
    ),
    case(
        "relay_wide",
        source("203.0/15", "always-allow-relaying yes"),
        "a wide public network",
        source("203.0.113/24", "always-allow-relaying yes"),
        WARNING,
    ),
    case(
        "relay_by_default",
        source("0/0", "always-allow-relaying yes"),
        "0.0.0.0:25: an open relay",
        LISTENER,
        ERROR,
        HOST + VMTA,
    ),
    case("relay_global", "always-allow-relaying yes\n", "an open relay", "always-allow-relaying no\n"),
    case(
        "relay_listener",
        "smtp-listener 203.0.113.5:2525 source=bulk\n" + source("bulk", "always-allow-relaying yes"),
        "an open relay",
        "smtp-listener 203.0.113.5:2525 source=bulk\n"
        + source("bulk", "always-allow-relaying yes", "require-auth yes"),
    ),
    case(
        "relay_listener_general",
        "smtp-listener 203.0.113.5:2525 source=bulk\n" + source("bulk", "always-allow-relaying yes"),
        "an open relay",
        "smtp-listener 203.0.113.5:2525 source=bulk\n"
        + source("bulk", "always-allow-relaying yes")
        + source("0/0", "require-auth yes")
        + source("::/0", "require-auth yes"),
    ),
    case(
        "relay_loopback",
        "smtp-listener 127.0.0.1:2525 source=bulk\n" + source("bulk", "always-allow-relaying yes"),
        "whoever reaches it",
        "smtp-listener 127.0.0.1:2525 source=bulk\n" + source("bulk"),
        WARNING,
    ),
    case("relay_domain", "relay-domain *.com\n", "an open relay", "relay-domain *.example.com\n"),
    case("relay_every_domain", "relay-domain *\n", "an open relay", "relay-domain example\n"),
    case("relay_address", "relay-address /.*/\n", "an open relay", "relay-address /^bounce-.*@example\\.com$/\n"),
    case(
        "apart",
        "smtp-listener 10.0.0.5:26 source=s\n" + source("s", "default-virtual-mta one", "process-x-virtual-mta yes"),
        "chooses any other one",
        "smtp-listener 10.0.0.5:26 source=s\n" + source("s", "default-virtual-mta one", "process-x-virtual-mta no"),
        WARNING,
    ),
    case(
        "apart_inherited",
        STREAM + source("s", "default-virtual-mta one") + source("0/0", "process-x-virtual-mta yes"),
        "config:15: default-virtual-mta.*<source s> inherits it",
        STREAM
        + source("s", "default-virtual-mta one", "process-x-virtual-mta no")
        + source("0/0", "process-x-virtual-mta yes"),
        WARNING,
    ),
    case(
        "apart_inherited_from_a_network",
        STREAM + source("s", "default-virtual-mta one") + source("10/8", "process-x-virtual-mta yes"),
        "<source s> inherits it",
        STREAM + source("s", "default-virtual-mta one") + source("10/8", "process-x-virtual-mta no"),
        WARNING,
    ),
    case(
        "relay_domain_by_macro",
        "domain-macro m a.example,*\nrelay-domain $m\n",
        "an open relay",
        "domain-macro m a.example,b.example\nrelay-domain $m\n",
    ),
    case(
        "relay_mapped",
        "smtp-listener 203.0.113.5:2525\n" + source("::ffff:0:0/96", "always-allow-relaying yes"),
        "everywhere may send to everybody",
        "smtp-listener 203.0.113.5:2525\n" + source("::ffff:10.0.0.0/104", "always-allow-relaying yes"),
    ),
    case(
        "listen_at_the_monitor",
        "smtp-listener 10.0.0.5:8080\n",
        "the web monitor listens at the port 8080",
        "smtp-listener 10.0.0.5:8080\nhttp-mgmt-port 8081\n",
    ),
    case(
        "listen_at_a_moved_monitor",
        "smtp-listener 10.0.0.5:1983\nhttp-mgmt-port 1983\n",
        "the web monitor listens at the port 1983",
        "smtp-listener 10.0.0.5:8080\nhttp-mgmt-port 0\n",
    ),
    case(
        "backoff_is_faster",
        domain("max-msg-rate 1/h", "backoff-max-msg-rate 1/m"),
        "backing off makes it faster",
        domain("max-msg-rate 60/h", "backoff-max-msg-rate 1/m"),
        WARNING,
    ),
    case("listen_twice", "smtp-listener 10.0.0.5:25\n", "listens there already", "smtp-listener 10.0.0.5:26\n"),
    case("listener_option", "smtp-listener 10.0.0.5:26 sorce=x\n", "only source=NAME", "smtp-listener 10.0.0.5:26\n"),
    case("listen_v6", "smtp-listener [::1]:25\n", "do not show how a listener for IPv6", "", WARNING),
    case("http", "http-access 0/0 monitor\n", "everybody may open it", "http-access 10.0.0.9 monitor,deny-logs\n"),
    case(
        "http_wide", "http-access 203.0/15 monitor\n", "a wide network", "http-access 203.0.113.0/24 monitor\n", WARNING
    ),
    case("http_off", "http-access 0/0 admin\n", "everybody may open it", "http-access 0/0 admin\nhttp-mgmt-port 0\n"),
    case(
        "http_dead",
        "http-access 10/8 none\nhttp-access 10.1.2.3 admin\n",
        "for all of it already",
        "http-access 10.1.2.3 admin\nhttp-access 10/8 none\n",
        WARNING,
    ),
]


@pytest.mark.parametrize(("bad", "said", "good", "severity", "base"), CASES)
def test_a_rule(bad: str, said: str, good: str, severity: str, base: str) -> None:
    found = [each for each in check(base + bad) if re.search(said, str(each))]
    assert found, "\n".join(map(str, check(base + bad)))
    assert {each.severity for each in found} == {severity}
    assert [str(each) for each in check(base + good)] == []


def test_every_rule_of_the_list_has_a_case_that_breaks_it() -> None:
    rules = (*checks.routing.RULES, *checks.rules.RULES, *checks.access.RULES, *checks.settings.RULES)
    silent = {rule.__name__ for rule in rules}
    for each in CASES:
        bad, _said, _good, _severity, base = each.values
        tree = checks.build(checks.syntax.parse(base + bad, MAIN).nodes, MAIN)
        silent -= {rule.__name__ for rule in rules if rule.__name__ in silent and list(rule(tree))}
    assert silent == set()


def test_the_line_that_is_meant_is_written_out() -> None:
    """Of an address and a name in lines that PowerMTA does not read, the one line that it reads."""
    old = "<virtual-mta x>\nsmtp-source-ip 203.0.113.9\nehlo-hostname x.example.com\n</virtual-mta>\n"
    found = check(BASE + old)
    assert {each.remedy for each in found} == {"Write smtp-source-host 203.0.113.9 x.example.com"}
    assert sorted(each.severity for each in found) == [ERROR, WARNING]


def test_tabs_are_blanks() -> None:
    text = BASE + "domain-macro tld com,fr\n" + domain("max-msg-rate 1/h", pattern="yahoo.$tld")
    text += patterns(
        "header X-A /^a$/ virtual-mta=one", "mail-from /b/ <pattern-list>", "* virtual-mta=two", "</pattern-list>"
    )
    text += KEY + SIGN + pool("virtual-mta one") + acct("records d,b", "record-fields b *")
    assert check(text) == []
    lines = [line if line.startswith(("<", "domain-key")) else line.replace(" ", "\t") for line in text.splitlines()]
    assert check("\n".join(lines)) == []


def test_a_name_in_another_case_is_no_error() -> None:
    assert severities(source("10/8", "default-virtual-mta One"), "5.0", "where it is defined") == {WARNING}
    assert severities(source("10/8", "default-virtual-mta One"), "5.0", "no virtual MTA") == set()


def test_a_pattern_that_includes_nothing_hides_nothing() -> None:
    text = BASE + source("10/8", "default-virtual-mta far")
    assert severities("include /etc/pmta/none/*.conf\n" + source("10/8", "default-virtual-mta far"), "5.0", "far") == {
        ERROR
    }
    assert {each.severity for each in check(text)} == {ERROR}


def test_a_key_that_comes_with_the_message() -> None:
    assert check(BASE + SIGN + source("10/8", "process-x-dkim-key yes")) == []


def test_a_slash_inside_a_regex() -> None:
    assert severities(replies("/a/b/ mode=backoff"), "5.0", "ends at a slash") == {ERROR}
    assert severities(patterns("mail-from /a/b/ virtual-mta=one"), "5.0", "ends at a slash") == {ERROR}
    assert check(BASE + replies("/a\\/b/ mode=backoff") + patterns("mail-from /a\\/b/ virtual-mta=one")) == []


def test_of_an_unrendered_template_nothing_else_is_said() -> None:
    """Its value is not there yet; the lines around it are judged."""
    found = check(BASE + domain("max-smtp-out {{ most }}", "max-msg-rate fast"))
    assert [each.where.rpartition(":")[2].strip() for each in found] == ["max-smtp-out", "max-msg-rate"]


UGLY = """\
# PMTA CONFIG mta07 -- last change 2019 by kev, DO NOT TOUCH!!!
Host-Name\tMTA07.example.com
http-mgmt-port 1983
http-access 0/0 admin
HTTP-ACCESS 127.0.0.1 monitor
run-as-root true
pickup /var/spool/pmta/pickup /var/spool/pmta/badmail
spool /var/spool/pmta
smtp-listener 0/0:2525
sync-msg-create false
<source {pmta-auth}>
\talways-allow-relaying yes
\tprocess-x-virtual-mta yes
</source>
<smtp-user mailer>
\tpassword hunter2hunter2
\tsource {pmta-auth}
</smtp-user>
<source 0/0>
\tsmtp-service yes
\tlog-connections no
\tdefault-virtual-mta rotation
\tpattern-list rota
</source>
<virtual-mta vmta1>
\tsmtp-source-host mta07a.example.com 198.51.100.7   # first
\thost-name mta07a.example.com
\tauto-cold-virtual-mta 198.51.100.9 warm.example.com
</virtual-mta>
<virtual-mta vmta2>
\tsmtp-source-host 198.51.100.8 mta07b.example.com
</virtual-mta>
<virtual-mta-pool rotation>
\tvirtual-mta vmta1
\tvirtual-mta vmta2
\tvirtual-mta vmta3
</virtual-mta-pool>
<domain $yahoo>
\tmax-msg-rate 50/h
\tmax-cold-virtual-mta-msg 20/d,40/d
</domain>
<domain hotmail.com>
\tsmtp-pattern-list block-list
\tqueue-to hotmail.rollup
</domain>
<domain hotmail.com>
\tbackoff-max-msg-rate 1/m
</domain>
<smtp-pattern-list blocked-errors>
\treply /generating high volumes of.* complaints/ mode=backoff
\treply /ip.*blacklist # spamhaus/ mode=backoff
</smtp-pattern-list>
<acct-file /var/log/pmta/acct.csv>
\trecord-fields d timeQueued,orig
\tmove-interval 5m
\tmax-size 50M
</acct-file>
domain-macro yahoo yahoo.com,ymail.com,
   rocketmail.com
"""


def test_a_configuration_that_grew_for_years() -> None:
    """Each of its faults is found at its line, and nothing that works is called an error."""
    told = {(int(match[1]), each.severity) for each in check(UGLY) if (match := re.search(r"config:(\d+)", each.where))}
    errors = {line for line, severity in told if severity == ERROR}
    named = {number: line.split()[0] for number, line in enumerate(UGLY.splitlines(), 1) if number in errors}
    assert list(named.values()) == [
        "http-access",
        "pattern-list",
        "smtp-source-host",
        "virtual-mta",
        "smtp-pattern-list",
        "queue-to",
        "reply",
    ]
    warned = {UGLY.splitlines()[line - 1].split()[0] for line, severity in told if severity == WARNING}
    assert warned == {
        *(
            "HTTP-ACCESS",
            "run-as-root",
            "spool",
            "sync-msg-create",
            "auto-cold-virtual-mta",
            "<domain",
            "move-interval",
        ),
        "<smtp-pattern-list",
    }
    assert "hunter2" not in "".join(map(str, check(UGLY)))


SECRETS = (
    "<smtp-user a>\npassword {}\n</smtp-user>\n",
    "<smtp-user a>\npassword {} {}\npassword {}\n</smtp-user>\n",
    '<smtp-user a>\npassword "{}\n</smtp-user>\n',
    "<smtp-user a>\npassword {}#x\npasswrod {}\n</smtp-user>\n",
    "<source a>\npassword {}\n</source>\n",
    "<source a>\npassword a://{}\n</source>\n",
    "<smtp-listener 10.0.0.5:26>\ntls-certificate /a.pem\t{}\ntls-certificate /a.pem\t{}\n</smtp-listener>\n",
    "<acct-file /a>\nprivacy-policy {}\n</acct-file>\n",
    "<domain *>\nauth-password {}\nauth-password {}\n</domain>\n",
    "http-api-key {}\nhttp-api-key x{}/\n",
    "volume-audit-api-key {}\nvolume-audit-api-key {}\n",
    "smtp-server-tls-certificate /a.pem {} x y\n<domain *>\nsmtp-server-tls-certificate /a.pem {}\n</domain>\n",
    "<vault v>\naccess-token {}\nserver-url https://u:{}@\n</vault>\n",
    "<acct-file /a>\nprivacy-policy siphash-hexkey {} {}\n</acct-file>\n",
    "<transmissions-api>\napi-key {} {}\napi-kye {}\n</transmissions-api>\n",
    "<acct-file /a>\nhttp-webhook-url ftp://user:{}@host/\n</acct-file>\n",
    "<smtp-user u {}>\n</smtp-user>\n",
    "<password {}>\n</password>\n",
    "<domain *>\nsmtp-hosts u:{}@h\n</domain>\n",
    "<proxy p>\nserver 1.1.1.1 u {}\n</proxy>\n",
)


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("version", ["4.0", "5.0", "6.0"])
def test_no_finding_holds_a_secret(text: str, version: str) -> None:
    found = check(text.replace("{}", "QzK7vTop"), version)
    assert found
    assert "QzK7vTop" not in "".join(map(str, found))


def severities(text: str, version: str, words: str) -> set[str]:
    return {each.severity for each in check(BASE + text, version) if words in str(each)}


@pytest.mark.parametrize(
    ("text", "words", "old", "new"),
    [
        (source("10/8", "check-iprev-inbound yes"), "since 4.5", "4.0", "4.5"),
        (domain("use-mta-sts yes"), "since a later 5.0", "4.5", "5.0"),
        (domain("max-msg-rate 83/10m"), "needs PowerMTA 5.0", "4.5", "5.0r3"),
        (replies("/x/ mode=backoff,defer-queue"), "since 4.5", "4.0r9", "4.5r13"),
    ],
)
def test_what_a_version_does_not_have_yet(text: str, words: str, old: str, new: str) -> None:
    assert severities(text, old, words) == {ERROR}
    assert severities(text, new, words) == set()


def test_what_nobody_has_described_may_be_new() -> None:
    assert severities("new-setting yes\n", "5.0r8", "no such directive") == {ERROR}
    assert severities("new-setting yes\n", "5.5r1", "no such directive") == {WARNING}
    assert severities("<new-section x>\n</new-section>\n", "6.0", "no section") == {WARNING}


@pytest.mark.parametrize("version", ["", "new", "5.", "r8"])
def test_a_version_that_is_none(version: str) -> None:
    with pytest.raises(ValueError, match="is no version of PowerMTA"):
        check(BASE, version)


def test_includes_are_one_configuration_with_places_of_their_own() -> None:
    main = HOST + LISTENER + "include /etc/pmta/vmtas.conf\ninclude /etc/pmta/lists.conf\n"
    lists = "<pattern-list l>\n* virtual-mta=one\n</pattern-list>\n"
    assert check(main, vmtas=VMTA, lists=lists + source("10/8", "pattern-list l")) == []
    (found,) = check(main, vmtas=VMTA, lists=lists.replace("one", "on") + source("10/8", "pattern-list l"))
    assert found.where == "/etc/pmta/lists.conf:2: *"
    assert "did you mean 'one'" in found.why


def test_what_an_unread_file_may_hold_is_no_error() -> None:
    """A name that is not there may be defined where nobody could look."""
    text = "include http://config.example/vmtas\n" + BASE + source("10/8", "default-virtual-mta far")
    assert {each.severity for each in check(text)} == {WARNING}
    assert {each.severity for each in check(text.partition("\n")[2])} == {ERROR}


def test_names_that_exist_elsewhere() -> None:
    text = BASE + source("10/8", "default-virtual-mta far")
    assert [str(each) for each in check(text)] != []
    assert checks.check({MAIN: text}, MAIN, names=frozenset({"far"})) == []


def test_no_file_at_all_is_one_finding() -> None:
    (found,) = checks.check({}, MAIN)
    assert found.where == MAIN


def test_findings_come_in_the_order_of_the_lines() -> None:
    lines = [int(match[1]) for each in check(UGLY) if (match := re.search(r"config:(\d+)", each.where))]
    assert lines == sorted(lines)
    assert len(set(lines)) > 10


def test_everything_that_the_table_knows_is_known_here() -> None:
    """In each of its scopes a directive with a fitting value is neither unknown nor out of place."""
    for name, spec in table.DIRECTIVES.items():
        for scope in spec.scopes:
            line = f"{name} x\n" if name[:1] != "/" else "/x/ x\n"
            text = line if scope == table.GLOBAL else f"<{scope} x>\n{line}</{scope}>\n"
            parents = table.SECTIONS[scope].parents if scope != table.GLOBAL else frozenset({table.GLOBAL})
            if table.GLOBAL not in parents:
                parent = sorted(parents)[0]
                text = f"<{parent} x>\n{text}</{parent}>\n"
            for each in check(text):
                assert "no such directive" not in each.why, str(each)
                assert not re.search(f": {re.escape(name)}$", each.where) or "it may stand" not in each.why, str(each)


WORDS = st.sampled_from(
    [
        *table.DIRECTIVES,
        *table.SECTIONS,
        *("*", "$a", "one", "10/8", "0/0", "yes", "/x/", "/(/", "mode=backoff", "virtual-mta=one", "source=one", "#"),
        *("call-to: one", "[*.]a.b", '""', '"', "1/d", "a,b,c", "queue.rollup", "\\", "é", "{default}"),
    ]
)
LINES = st.one_of(
    st.lists(WORDS, min_size=1, max_size=5).map(" ".join),
    st.tuples(st.sampled_from([*table.SECTIONS]), WORDS).map(lambda pair: f"<{pair[0]} {pair[1]}>"),
    st.sampled_from([f"</{tag}>" for tag in table.SECTIONS]),
    st.text(max_size=30),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=40).map("\n".join), st.sampled_from(["4.0", "5.0r8", "6.0"]))
def test_no_text_breaks_it(text: str, version: str) -> None:
    for each in check(text, version):
        assert all((each.where, each.found, each.why, each.remedy))
        assert each.severity in (ERROR, WARNING)
        assert not each.remedy.endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"wrong-name-{number}-{number * 7919 % 1000} x\n" for number in range(3000)),
        "".join(
            f"<source 10.{n % 250}.{n // 250}.0/24>\ndefault-virtual-mta lost{n}\n</source>\n" for n in range(3000)
        ),
        pool(*(f"virtual-mta v{number}\ncold-virtual-mta v{number}" for number in range(5000))),
        "relay-domain " + "a." * 200_000 + "b\n<domain " + "c." * 200_000 + "d>\nqueue-to x\n</domain>\n",
        "".join(f"domain-macro m{n} a{n}.example, $m{n + 1}\n<domain x.$m{n}>\n</domain>\n" for n in range(1000)),
        "domain-key s,*,/f\n" + "".join(f"domain-key s,d{number}.example,/f\n" for number in range(5000)),
    ],
    ids=["unknown", "lost", "pool", "long", "macros", "keys"],
)
def test_the_time_grows_with_the_text(text: str) -> None:
    """A quadratic search takes minutes of the processor for these, and what is there now half a second."""
    begin = time.process_time()  # what runs beside this costs none of it
    assert check(text)
    assert time.process_time() - begin < 30
