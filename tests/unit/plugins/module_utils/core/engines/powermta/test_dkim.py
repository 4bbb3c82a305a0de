# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fragment with the keys can be read back, and each domain is signed for with its own key and no other."""

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import dkim, effort, includes, syntax
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import tree as powermta_tree
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.dkim import Choice, Keys, Reference
from hypothesis import given
from hypothesis import strategies as st

LABEL = st.sampled_from(["a", "bb", "c-c", "xn--9ca"])
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "test"]))
PLACE = "/etc/pmta/dkim/keys"
FINGERPRINT = "0123456789abcdef" * 2
STATE = {dkim.FRAGMENT: "# state 1 of the key store\n"}
SIGNS = "<domain *>\n    dkim-sign yes\n</domain>\n"


def key(domain: str, selector: str = "s1", algorithm: str = "rsa") -> SigningKey:
    return SigningKey(domain, selector, algorithm, FINGERPRINT)


KEYS = st.lists(st.builds(key, domain=DOMAIN, selector=LABEL), max_size=8, unique_by=lambda one: one.domain)


def tree(text: str) -> powermta_tree.Tree:
    document = syntax.parse(text)
    assert document.findings == ()
    return powermta_tree.build(document.nodes, "config")


def path(one: SigningKey) -> str:
    return f"{PLACE}/{one.file}"


def of_one_stream(files: dict[str, str]) -> powermta_tree.Tree:
    """A configuration whose virtual MTA includes all keys, longest domain first."""
    names = sorted((name for name in files if name.endswith(".keys")), key=len, reverse=True)
    texts = {f"/c/{name}": text for name, text in files.items()}
    lines = "".join(f"    include /c/{name}\n" for name in names)
    document = includes.load({"/c/config": f"<virtual-mta v>\n{lines}</virtual-mta>\n", **texts}, "/c/config")
    assert document.findings == ()
    return powermta_tree.build(document.nodes, "/c/config")


@given(keys=KEYS, serial=st.integers(0, 10**12))
def test_the_files_can_be_read_back_and_have_one_text(keys: list[SigningKey], serial: int) -> None:
    files = dkim.domain_keys(keys, serial, PLACE)
    found = dkim.installed(files)
    assert found.serial == serial
    assert sorted((one.domain, one.selector, one.path) for one in found.references) == sorted(
        (one.domain, one.selector, path(one)) for one in keys
    )
    assert dkim.domain_keys(reversed(keys), serial, PLACE) == files
    assert all(syntax.parse(text).findings == () for text in files.values())


@given(keys=KEYS)
def test_no_key_is_one_of_the_whole_file_and_each_is_in_that_of_its_domain(keys: list[SigningKey]) -> None:
    files = dkim.domain_keys(keys, 1, PLACE, ["none.test"], files=["dkim-before.test.keys"])
    assert not [name for name, text in files.items() if name.endswith(".conf") and "domain-key" in text]
    held = {name: [one.domain for one in dkim.installed({**STATE, name: files[name]}).references] for name in files}
    assert {name: domains for name, domains in held.items() if domains} == {
        f"dkim-{one.domain}.keys": [one.domain] for one in keys
    }
    assert {"dkim-none.test.keys", "dkim-before.test.keys"} <= set(files)


@given(keys=KEYS)
def test_every_domain_has_its_own_key_before_those_of_domains_above(keys: list[SigningKey]) -> None:
    choice = Choice(of_one_stream(dkim.domain_keys(keys, 1, PLACE)))
    for one in keys:
        assert choice.of(one.domain) == Reference(one.selector, one.domain, path(one))


@given(keys=KEYS, domain=DOMAIN)
def test_a_domain_without_a_key_of_its_own_is_signed_for_by_none(keys: list[SigningKey], domain: str) -> None:
    if domain not in {one.domain for one in keys}:
        with pytest.raises(ValueError, match=r"leaves unsigned|is signed for"):
            Choice(of_one_stream(dkim.domain_keys(keys, 1, PLACE))).of(domain)


LINES = st.lists(st.tuples(LABEL, st.one_of(DOMAIN, st.just("*"))), max_size=8)


def first(lines: list[tuple[str, str]], domain: str) -> Optional[tuple[str, str]]:
    """As the manual puts it: one after the other."""
    return next((line for line in lines if line[1] == "*" or f".{domain}".endswith(f".{line[1]}")), None)


@given(above=LINES, one=LINES, other=LINES, domain=DOMAIN)
def test_a_domain_is_known_only_where_all_that_name_it_lead_to_its_key(
    above: list[tuple[str, str]], one: list[tuple[str, str]], other: list[tuple[str, str]], domain: str
) -> None:
    lines = [[f"domain-key {selector},{name},/k\n" for selector, name in each] for each in (above, one, other)]
    text = "".join(
        [*lines[0], *("".join([f"<virtual-mta {n}>\n", *each, "</virtual-mta>\n"]) for n, each in enumerate(lines[1:]))]
    )
    naming = [each for each in (one, other) if {domain, "*"} & {name for _selector, name in each}]
    ways = {first(each, domain) for each in (*naming, above)} - {None}
    known = len(ways) == 1 and next(iter(ways))[1] == domain
    try:
        chosen = Choice(tree(text)).of(domain)
    except ValueError:
        assert not known
    else:
        assert known
        assert {(chosen.selector, chosen.domain)} == ways


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("domain-key s1, a.test, /k", Reference("s1", "a.test", "/k")),
        ('domain-key s1,a.test,"/a b/k"', Reference("s1", "a.test", "/a b/k")),
        ('domain-key "s1,A.test,/k"', Reference("s1", "a.test", "/k")),
        ("domain-key s1,é.test,/k", Reference("s1", "xn--9ca.test", "/k")),
        ("domain-key s1,a.test", Reference("", "*", "")),
    ],
)
def test_lines_of_others_are_read_as_powermta_reads_them(line: str, expected: Reference) -> None:
    (node,) = syntax.parse(line).nodes
    assert isinstance(node, syntax.Directive)
    assert dkim.reference(node) == expected


def test_a_new_state_alone_is_no_reason_for_a_reload() -> None:
    before, after, other = (
        dkim.domain_keys([key("a.test", selector)], serial, PLACE)
        for selector, serial in (("s1", 1), ("s1", 2), ("s2", 2))
    )
    assert effort.effort(before, after)[0] == effort.LOAD
    assert effort.effort(after, other)[0] == effort.RELOAD


def test_what_powermta_cannot_sign_with_is_refused() -> None:
    with pytest.raises(ValueError, match="RSA"):
        dkim.domain_keys([key("a.test", algorithm="ed25519")], 1, PLACE)
    with pytest.raises(ValueError, match="one key of a domain"):
        dkim.domain_keys([key("a.test", "s1"), key("a.test", "s2")], 1, PLACE)


def test_no_fragment_is_not_the_same_as_one_that_tells_no_state() -> None:
    assert dkim.installed({}) == Keys(None)
    for broken in ("", "# state x of the key store\n", "# state 1 of the key store\n# state 2 of the key store\n"):
        with pytest.raises(ValueError, match="state"):
            dkim.installed({dkim.FRAGMENT: broken})


@pytest.mark.parametrize(
    "line",
    [
        "<domain *>\n    dkim-identity @b.test\n</domain>\n",
        "<virtual-mta v>\n<domain *>\n    second-dkim-sign yes\n</domain>\n</virtual-mta>\n",
        "<source 10.0.0.0/8>\n    process-x-dkim-options true\n</source>\n",
    ],
)
def test_what_has_other_keys_sign_is_a_doubt(line: str) -> None:
    assert dkim.doubts(tree(SIGNS)) == []
    assert len(dkim.doubts(tree(SIGNS + line))) == 1
    assert dkim.doubts(tree(SIGNS + "<domain b.test>\n    dkim-identity strict-from\n</domain>\n")) == []


def test_nothing_signs_where_no_section_says_so() -> None:
    for text in ("", "<domain *>\n    dkim-sign no\n</domain>\n"):
        assert "unsigned" in dkim.doubts(tree(text))[0]
