# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the tree: no text is lost, what is built is read back as it was, and no text is too broken for a finding."""

from __future__ import annotations

import importlib.util
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import includes, syntax, writing
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import ERROR, WARNING
from hypothesis import example, given
from hypothesis import strategies as st

PIECES = st.sampled_from(
    (
        *("<domain a.test>", "</domain>", "<virtual-mta x>", "</virtual-mta>", "<pattern-list p>", "</pattern-list>"),
        *("<domain", "< domain>", "</", "<", ">", "<%= x %>", "{{ x }}", "${X}", "\x00", "\r", "\ufeff", "\u00a0"),
        *("reply /busy/ mode=backoff", "reply /open", "header X /a", "mail-from /x/ <pattern-list>", "/a b/ other"),
        *("domain-macro m a,", "b, c,", "include conf.d/*", 'command "/x \\"y\\""', 'command "open', "max-smtp-out 2"),
        *("# remark", "#", " ", "\t", "\n", "\n", "\n", "\r\n", ",", "/", "\\", '"'),
    )
)
RIGHT_LINES = st.sampled_from(
    (
        *("<domain a.test>\n Max-Smtp-Out\t2 # few\n</domain *>", "max-smtp-out 2#x", "  # remark  ", "", "no-value  "),
        *("<pattern-list p>\n mail-from /a b/  <pattern-list> # x\n* virtual-mta=x\n</pattern-list>\n</pattern-list>",),
        *('command  "/x \\"y\\" <domain>" ', "/a  b/\tother", "domain-macro m a, # one\n# two\n b", "<DNS >\n</dns>"),
    )
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=25).map("".join))

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)
WORDS = st.one_of(st.from_regex(r"[!$-;=?-z|~]{1,12}", fullmatch=True), st.text(max_size=12))
REGEXES = st.sampled_from((r"/4\.2\.1 try <later>/", r"/a\/b \x23/", "/x/", '/say "no/'))


def _built(make, *arguments):
    try:
        return make(*arguments)
    except ValueError:
        return None


def _is_there(node):
    return node is not None


def bare(nodes):
    """The nodes as if they had been built."""
    made = (
        replace(node, body=bare(node.body), closing=None) if isinstance(node, syntax.Section) else node
        for node in nodes
    )
    return tuple(replace(node, source=None) for node in made)


DIRECTIVES = st.one_of(
    st.builds(lambda name, words: _built(writing.directive, name, *words), NAMES, st.lists(WORDS, max_size=3)),
    st.builds(
        lambda name, regex: writing.directive(name, regex, "x=y"), st.sampled_from(("reply", "rcpt-to")), REGEXES
    ),
    st.builds(lambda regex: writing.directive(regex, "bad-mailbox"), REGEXES),
).filter(_is_there)
REMARKS = st.builds(lambda text: _built(writing.remark, text), st.text(max_size=20)).filter(_is_there)
TAGS = st.sampled_from(("domain", "virtual-mta", "source", "pattern-list", "smtp-user", "acct-file"))


def _sections(bodies):
    """Sections as a configuration can hold them: none stands directly in one of its own kind, but for rules."""

    def make(tag, argument, body):
        kept = [node for node in body if not (isinstance(node, syntax.Section) and node.key == tag)]
        return _built(writing.section, tag, argument, kept)

    return st.builds(make, TAGS, WORDS, st.lists(bodies, max_size=4)).filter(_is_there)


RULES = st.builds(
    lambda name, regex, inner: writing.section(
        "pattern-list", "p", [writing.section("pattern-list", f"{name} {regex}", inner), *inner]
    ),
    st.sampled_from(("mail-from", "rcpt-to")),
    REGEXES,
    st.lists(DIRECTIVES, max_size=2),
)
LEAVES = st.one_of(DIRECTIVES, REMARKS)
NODES = st.lists(st.one_of(st.recursive(LEAVES, _sections, max_leaves=12), RULES), max_size=6).map(tuple)


@given(TEXTS)
@example("\ufeff<domain *>\r\n  dkim-sign yes # now\r\n</domain *>")
@example("<pattern-list p>\nmail-from /a/ <pattern-list>\nrcpt-to /b/ virtual-mta=x\n</pattern-list>\n</pattern-list>")
def test_no_text_is_lost(text):
    assert writing.text(syntax.parse(text).nodes) == text


@given(NODES)
def test_what_is_built_is_read_back_as_it_was(nodes):
    document = syntax.parse(writing.text(nodes))
    assert document.nodes == nodes
    assert document.findings == ()


@given(TEXTS)
def test_every_node_knows_its_line(text):
    lines = text.split("\n")

    def visit(nodes):
        for node in nodes:
            assert node.source.split("\n")[0] == lines[node.place.line - 1]
            if isinstance(node, syntax.Section):
                visit(node.body)

    visit(syntax.parse(text).nodes)


@given(TEXTS)
@example("{{ x")
@example("${X")
def test_a_line_that_is_not_understood_is_a_finding(text):
    document = syntax.parse(text, "f")
    noted = {finding.where.split(":")[1] for finding in document.findings}

    def visit(nodes):
        for node in nodes:
            code = node.source.partition("#")[0].strip(" \t\r\n")
            if isinstance(node, syntax.Blank) and code:
                assert str(node.place.line) in noted
            elif isinstance(node, syntax.Section):
                visit(node.body)

    visit(document.nodes)


@given(st.lists(st.one_of(RIGHT_LINES, PIECES), max_size=8).map("\n".join))
def test_what_has_no_finding_means_the_same_in_canonical_form(text):
    document = syntax.parse(text)
    again = syntax.parse(writing.text(bare(document.nodes)))
    if not document.findings:
        assert again.nodes == document.nodes
        assert again.findings == ()


@given(TEXTS, TEXTS)
def test_includes_lose_nothing_and_end(first, second):
    files = {"/etc/pmta/config": f"include a\n{first}", "/etc/pmta/a": f"seen 1\n{second}\ninclude config\n"}
    assert includes.load(files).nodes[0] == writing.directive("seen", 1)


@given(st.text())
@example("${x")
def test_a_quoted_value_is_one_word_with_the_same_meaning(value):
    quoted = _built(writing.quoted, value)
    if quoted is None:
        assert re.search(r"[#{]|<%", value) or not value.isprintable()
        return
    assert syntax.words(f"a {quoted} b") == ("a", quoted, "b")
    assert syntax.unquoted(quoted) == value
    assert writing.directive("command", quoted).value == quoted


def test_words():
    assert syntax.words('a  "b c"\td') == ("a", '"b c"', "d")
    assert syntax.words(r"/user \/ unknown/ bounce-queue") == (r"/user \/ unknown/", "bounce-queue")
    assert syntax.words("/var/pickup /var/bad mail/") == ("/var/pickup", "/var/bad", "mail/")
    assert syntax.words("X-Binding /^ *bulk *$/ virtual-mta=bulk") == ("X-Binding", "/^ *bulk *$/", "virtual-mta=bulk")
    assert syntax.words("") == ()


def test_a_file_is_read_as_a_tree():
    text = (
        "Run-As-Root no # never root\n"
        "\n"
        "<virtual-mta bulk-1>\n"
        "    smtp-source-host 203.0.113.10 mta1.example.test\n"
        "    <domain *>\n"
        "        dkim-sign yes\n"
        "    </domain *>\n"
        "</virtual-mta>\n"
    )
    root, blank, mta = syntax.parse(text, "/etc/pmta/config").nodes
    assert (root.key, root.value, root.comment, str(root.place)) == (
        "run-as-root",
        "no",
        "# never root",
        "/etc/pmta/config:1",
    )
    assert blank == syntax.Blank("")
    assert (mta.key, mta.argument, mta.place.line) == ("virtual-mta", "bulk-1", 3)
    (host,) = syntax.values(mta.body, "smtp-source-host")
    assert syntax.words(host.value) == ("203.0.113.10", "mta1.example.test")
    (domain,) = syntax.sections(mta.body, "domain")
    assert domain.body == (writing.directive("dkim-sign", True),)


def test_built_nodes_are_printed_with_an_indent():
    nodes = [
        writing.remark("one stream"),
        writing.section("source", "bulk", [writing.directive("process-x-virtual-mta", False), writing.remark("")]),
        writing.section("dns", "", []),
    ]
    assert (
        writing.text(nodes) == "# one stream\n<source bulk>\n    process-x-virtual-mta no\n\n</source>\n<dns>\n</dns>\n"
    )


def test_a_list_of_domains_goes_on_after_a_comma():
    text = "domain-macro yahoo yahoo.com, # the first\n   ymail.com,\n# none\n   rocketmail.com\nmax-smtp-out 2\n"
    macro, other = syntax.parse(text).nodes
    assert macro.value == "yahoo yahoo.com, ymail.com, rocketmail.com"
    assert macro.source.count("\n") == 4
    assert other.key == "max-smtp-out"
    assert writing.text([syntax.Directive(macro.name, macro.value)]) == f"domain-macro {macro.value}\n"


def test_rules_within_rules():
    text = "<pattern-list p>\nmail-from /a b/ <pattern-list>\n* virtual-mta=x\n</pattern-list>\n</pattern-list>\n"
    document = syntax.parse(text)
    (rules,) = document.nodes
    (inner,) = rules.body
    assert (inner.key, inner.argument) == ("pattern-list", "mail-from /a b/")
    assert inner.body == (writing.directive("*", "virtual-mta=x"),)
    assert not document.findings


BROKEN = {
    "not closed": ("<domain a.test>\nmax-smtp-out 2\n", 1, "a section that is not closed"),
    "closed but not open": ("max-smtp-out 2\n</domain>\n", 2, "it closes a section that is not open"),
    "wrong closing": ("<virtual-mta-pool a>\n</virtual-mta>\n", 2, "it closes <virtual-mta-pool> of line 1"),
    "crossing": ("<virtual-mta a>\n<domain b>\n</virtual-mta>\n", 2, "a section that is not closed"),
    "in itself": ("<domain a>\n<domain b>\n</domain>\n", 1, "a section that is not closed"),
    "two tags": ("<domain a> dkim-sign yes </domain>\n", 1, "a tag that shares its line"),
    "a tag in a value": ("<domain a>\ndkim-sign yes </domain>\n", 2, "a tag that shares its line"),
    "no end of tag": ("<domain a\n</domain>\n", 1, "a tag without its '>'"),
    "a blank in a tag": ("< domain a>\n</domain>\n", 1, "a tag that is not written <name argument>"),
    "no tag": ("<>\n", 1, "'<' without the name of a section"),
    "swallowed quotes": ('command "/bin/x #1"\n', 1, "a comment that begins inside a quoted value"),
    "swallowed regex": ("reply /busy #4/ mode=backoff\n", 1, "a comment that begins inside a regex"),
    "swallowed pattern": ("/busy #4/ other\n", 1, "a comment that begins inside a regex"),
    "open quotes": ('command "/bin/x\n', 1, "a quoted value that does not end"),
    "regex over lines": ("reply /busy\n  or full/ mode=backoff\nreply /x/ skip-mx\n", 1, "a regex that ends on line 2"),
    "open regex": ("header X-A /busy\nreply /x/ skip-mx\n", 1, "a regex that does not end"),
    "comma at the end": ("domain-macro a b.test,\nmax-smtp-out 2\n", 1, "a list that ends with a comma"),
    "template": ("password {{ secret }}\n", 1, "'{{' of a template that was not rendered"),
    "template line": ("{% for x in y %}\n", 1, "'{%' of a template that was not rendered"),
    "erb": ("host-name <%= @fqdn %>\n", 1, "'<%' of a template that was not rendered"),
    "slashes": ("// none\n", 1, "no name of a directive"),
    "erb in a tag": ("<domain <%= @d %>>\n</domain>\n", 1, "'<%' of a template that was not rendered"),
    "shell": ("\n\nhost-name ${HOST}\n", 3, "'${' of a template that was not rendered"),
    "assignment": ("max-smtp-out=2\n", 1, "'=' right after the name"),
    "no name": ("=\n", 1, "no name of a directive"),
    "no UTF-8": ("max-smtp-out 2\udcff\n", 1, "the byte 0xFF, which is no UTF-8"),
    "nul": ("max-smtp-out 2\x00\n", 1, "the character U+0000"),
    "no-break space": ("max-smtp-out\u00a02\n", 1, "the character U+00A0"),
    "byte order mark": ("\ufeffmax-smtp-out 2\n", 1, "a byte order mark"),
}


@pytest.mark.parametrize(("text", "line", "found"), BROKEN.values(), ids=BROKEN)
def test_each_broken_line_is_a_finding_at_its_place(text, line, found):
    document = syntax.parse(text, "f")
    at = [finding for finding in document.findings if finding.where.partition(": ")[0] == f"f:{line}"]
    assert found in [finding.found for finding in at]
    assert all(finding.severity == ERROR for finding in at)
    assert all(finding.why and finding.remedy for finding in document.findings)


def test_what_follows_a_broken_line_is_read():
    text = "".join(f"{broken[0]}max-message-size 5\n" for broken in BROKEN.values())
    found = []

    def visit(nodes):
        for node in nodes:
            if isinstance(node, syntax.Section):
                visit(node.body)
            else:
                found.append(node)

    visit(syntax.parse(text).nodes)
    assert len(syntax.values(found, "max-message-size")) == len(BROKEN)


@pytest.mark.parametrize(
    "name", ["two tags", "a tag in a value", "no end of tag", "a blank in a tag", "wrong closing", "erb in a tag"]
)
def test_a_broken_tag_is_one_finding(name):
    assert len(syntax.parse(BROKEN[name][0]).findings) == 1


def test_windows_line_ends_are_one_warning():
    document = syntax.parse("a 1\nb 2\r\nc 3\r\n", "f")
    (finding,) = document.findings
    assert (finding.where, finding.severity) == ("f:2", WARNING)
    assert [node.value for node in document.nodes] == ["1", "2", "3"]


FINE = (
    "reply /mailbox <.*> full/ bounce-rcpt\n",
    'custom-dsn-from-header "Mail <mail@example.test>"\n',
    "# {{ ansible_managed }} <%= %> \u00a0\n",
    "reply /^421 4.7.0 \\[\\w{2}\\]/ mode=backoff\n",
    "<source {pickup}>\n</source>\n<acct-file |/usr/bin/collect --all>\n</acct-file>\n",
    'command "/usr/bin/take \\"$user\\""\n',
    "<domain yahoo.$tld>\n</domain>\n",
    "pickup /var/pickup /var/bad\n",
)


@pytest.mark.parametrize("text", FINE)
def test_what_is_right_is_no_finding(text):
    assert syntax.parse(text).findings == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda: writing.directive("password", "a#b"),
        lambda: writing.directive("password", "a\nb"),
        lambda: writing.directive("command", '"open'),
        lambda: writing.directive("dkim-sign", "yes </domain>"),
        lambda: writing.directive("two words"),
        lambda: writing.directive("reply", "/open"),
        lambda: writing.section("domain", "a>", ()),
        lambda: writing.section("domain", "a#b", ()),
        lambda: writing.remark("a\nb"),
        lambda: writing.quoted("a#b"),
        lambda: writing.quoted("a\nb"),
    ],
)
def test_what_no_line_can_carry_is_refused(make):
    with pytest.raises(ValueError, match=r"carr|hold"):
        make()


def test_no_finding_shows_a_value():
    secret = "hunter2"
    lines = (
        f'password "{secret}',
        f'password "{secret} #x"',
        f"password={secret}",
        f"password {secret} {{{{ x }}}}",
        f"password {secret}\x00",
        f"password {secret} </smtp-user>",
        f"<password {secret}",
        f"reply /{secret}",
    )
    for line in lines:
        findings = syntax.parse(line + "\n").findings
        assert findings, line
        assert secret not in "".join(map(str, findings)), line


@pytest.mark.parametrize(
    "piece",
    [
        *('\\"', '"', "/", "\\/", "<", "<a ", "<a", "</x>\n", "<a>\n", "{{", "${x", "\x00", "\r", " ", ",", "a,", "\n"),
        *(
            "reply /a\n",
            "/a\n",
            "domain-macro x a,\n",
            "include config\n",
            "<a>\n<b>\n",
            "<pattern-list>\n",
            "/ ",
            "$a",
        ),
    ],
)
def test_no_text_takes_more_than_its_share_of_time(piece):
    begin = time.process_time()
    for start in ("", 'x "', "reply /", "<domain "):
        text = start + piece * (20_000 // len(piece))
        document = includes.load({"/etc/pmta/config": text})
        assert len(document.findings) <= len(text)
        syntax.words(text)
    assert time.process_time() - begin < 5  # a thirtieth of it; what runs beside this costs none of it


# --- The corpus of the fuzzer ---------------------------------------------------------------------------------------

_loaded = importlib.util.spec_from_file_location("fuzz_powermta", Path(__file__).parents[6] / "fuzz" / "powermta.py")
fuzz = importlib.util.module_from_spec(_loaded)
_loaded.loader.exec_module(fuzz)
CORPUS = fuzz.corpus()


@pytest.mark.parametrize("name", CORPUS)
def test_the_laws_hold_for_the_corpus(name):
    fuzz.prove(CORPUS[name], CORPUS["sections.conf"])


# --- Includes -------------------------------------------------------------------------------------------------------


def test_includes_stand_in_their_place():
    files = {
        "/etc/pmta/config": "a 1\ninclude conf.d/*.conf\n<source x>\ninclude /srv/rights\n</source>\nz 9\n",
        "/etc/pmta/conf.d/20.conf": "c 3\n",
        "/etc/pmta/conf.d/10.conf": "b 2\n",
        "/etc/pmta/conf.d/10.conf.bak": "never 0\n",
        "/etc/pmta/conf.d/deep/10.conf": "never 0\n",
        "/srv/rights": "log-data no\n",
    }
    document = includes.load(files)
    assert document.findings == ()
    *plain, source, last = document.nodes
    assert [(node.name, str(node.place)) for node in (*plain, *source.body, last)] == [
        ("a", "/etc/pmta/config:1"),
        ("b", "/etc/pmta/conf.d/10.conf:1"),
        ("c", "/etc/pmta/conf.d/20.conf:1"),
        ("log-data", "/srv/rights:1"),
        ("z", "/etc/pmta/config:6"),
    ]


@pytest.mark.parametrize(
    ("files", "where", "found", "severity"),
    [
        ({}, "/etc/pmta/config", "no such file", ERROR),
        ({"/etc/pmta/config": "include x\n"}, "/etc/pmta/config:1: include", "no file is at /etc/pmta/x", ERROR),
        ({"/etc/pmta/config": "\ninclude x/*\n"}, "/etc/pmta/config:2: include", "no file matches", WARNING),
        ({"/etc/pmta/config": "include https://x.test/y\n"}, "/etc/pmta/config:1: include", "a web server", WARNING),
        ({"/etc/pmta/config": "include config\n"}, "/etc/pmta/config:1: include", "which led here", ERROR),
        ({"/etc/pmta/config": "include\n"}, "/etc/pmta/config:1: include", "no file", ERROR),
        (
            {"/etc/pmta/config": "<smtp-user x>\ninclude y\n</smtp-user>\n", "/etc/pmta/y": ""},
            "/etc/pmta/config:2: include",
            "an include in <smtp-user>",
            ERROR,
        ),
        ({"/etc/pmta/config": "include y\n", "/etc/pmta/y": "<domain x>"}, "/etc/pmta/y:1", "not closed", ERROR),
    ],
)
def test_an_include_that_cannot_be_is_a_finding(files, where, found, severity):
    (finding,) = includes.load(files).findings
    assert finding.where.startswith(where)
    assert found in finding.found
    assert finding.severity == severity


def test_includes_that_would_grow_without_end_do_not():
    files = {f"/etc/pmta/{n}": f"include {n + 1}\ninclude {n + 1}\n" for n in range(60)}
    files["/etc/pmta/config"] = "include 0\n"
    document = includes.load(files)
    assert any("more than" in finding.found for finding in document.findings)
