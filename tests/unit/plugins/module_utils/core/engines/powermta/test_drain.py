# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal in two steps: nothing that mail waits for is missing, nothing stays for ever, nothing stands there twice."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import fragments as powermta
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import slices
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.drain import POOL_END, draining
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.syntax import sections, values
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.engines.powermta.fleets import (
    DOCUMENT,
    changed,
    documents,
    fleet_of,
    fragments,
    judged,
    picture,
    sections_of,
    written,
)
from hypothesis import given, settings
from hypothesis import strategies as st

ADDRESSES = "streams/bulk/addresses"
ALL = DOCUMENT["streams"]["bulk"]["addresses"]
# An address that a stream took over from another has a name from each, as long as mail waits under the old one.
EXPECTED = (
    "the manuals do not show how a listener for IPv6 is written",
    "can name only one of them",
    "whether PowerMTA minds the case is not known",
)


# Which keys stay is the business of the role dkim; a line of the whole file is another one's.
KEY = "domain-key s1,example.com,/etc/pmta/dkim/keys/s1.key\n"


def without(*last, new=()):
    """The set of mta1 when these addresses left the stream and new ones came."""
    left = [one for one in ALL if one["ip"].rpartition(".")[2] not in last]
    left += [{"ip": f"203.0.113.{one}", "host": "mta1"} for one in new]
    return fragments(fleet_of(changed((ADDRESSES, left))), "mta1")


def step(before, after, queued):
    """The set that the module makes of two, as it does."""
    stays = draining(before, after, queued)
    joined = {**after, **({powermta.DRAINING: stays.fragment} if stays.fragment else {})}
    joined.update({name: before[name] for name in stays.files if name not in joined})
    signs = any("dkim-sign yes" in text for text in joined.values())
    found = judged({**joined, powermta.DKIM: KEY if signs else ""})
    assert [str(one) for one in found if not any(word in one.why for word in EXPECTED)] == []
    return joined


def mtas(texts):
    return set(picture(texts).source_hosts)


WHOLE = without()
GONE = "bulk-203-0-113-21"


def test_an_address_that_leaves_stays_for_a_run_and_goes_when_its_queue_is_empty():
    first = step(WHOLE, without("21"), {})
    seen = picture(first)
    assert seen.source_hosts[GONE] == [("203.0.113.21", "mta21.news.example.com")]
    assert seen.pools["bulk-draining"] == [GONE]
    assert GONE not in seen.pools["bulk"]
    assert all(GONE not in set(seen.targets(source)) for source in seen.sources)
    assert step(first, without("21"), {GONE: 1}) == first
    assert step(first, without("21"), None) == first
    assert step(first, without("21"), {GONE: 0, "bulk-203-0-113-20": 9}) == without("21")


def test_it_keeps_the_settings_of_its_pool():
    first = step(WHOLE, without("21"), {})
    pools = {one.argument: one for one in sections_of(first, "virtual-mta-pool")}
    for old, new in zip(sections(pools["bulk"].body, "domain"), sections(pools["bulk-draining"].body, "domain")):
        assert (old.tag, old.argument) == (new.tag, new.argument)
        told = [(line.key, line.value) for line in old.body if line.key != "max-cold-virtual-mta-msg"]
        assert [(line.key, line.value) for line in new.body] == told
    gone = next(one for one in written(first, "virtual-mta") if one.argument == GONE)
    assert [line.value for line in values(gone.body, "rewrite-list")] == ["bulk"]
    assert [line.value.rpartition("/")[2] for line in values(gone.body, "include")] == [
        slices.keys_file(domain) for domain in ("letters.example.com", "news.example.com")
    ]


def test_addresses_that_leave_one_after_the_other_share_a_pool():
    first = step(WHOLE, without("21"), {})
    last = without("21", "22", "20", new=["25"])
    second = step(first, last, {GONE: 4})
    assert set(picture(second).pools["bulk-draining"]) == {GONE, "bulk-203-0-113-20"}
    assert picture(second).pools["bulk-apart-draining"] == ["bulk-203-0-113-22"]
    third = step(second, last, {"bulk-203-0-113-22": 1})
    assert mtas(third) - mtas(last) == {"bulk-203-0-113-22"}


def test_an_address_that_comes_back_stands_there_once():
    first = step(WHOLE, without("21"), {})
    assert step(first, WHOLE, {GONE: 7}) == WHOLE


def test_a_stream_that_leaves_drains_with_all_that_it_names():
    after = fragments(fleet_of(changed(("streams/bulk", None), ("front", None))), "mta1")
    first = step(WHOLE, after, None)
    assert mtas(first) >= {name for name in mtas(WHOLE) if name.startswith("bulk-")}
    seen = picture(first)
    assert not {"bulk", "bulk-login", "front"} & set(seen.sources)
    assert set(seen.listeners) == {"127.0.0.1:2525"}
    assert {one.argument for one in sections_of(first, "rewrite-list")} == {"bulk"}
    assert {one.argument for one in sections_of(first, "smtp-pattern-list")} >= {"google", "default"}
    assert step(first, after, {}) == after


def test_without_an_answer_about_queues_all_stays():
    first = step(WHOLE, without("21"), None)
    assert step(first, without("21"), None) == first


def test_a_hand_made_virtual_mta_drains_too():
    mine = "<virtual-mta mine>\n    smtp-source-host 203.0.113.99 mine.example.com\n</virtual-mta>\n"
    before = {**WHOLE, "90-local-mine.conf": mine}
    first = step(before, WHOLE, {})
    assert "mine" in mtas(first)
    assert step(first, WHOLE, {}) == WHOLE


@settings(max_examples=8)
@given(st.lists(documents(), min_size=2, max_size=3), st.data())
def test_no_virtual_mta_with_mail_is_ever_missing(history, data):
    """Over any history of a host, with any queues in it, our checker among the judges at each step."""
    place: dict[str, str] = {}
    queued: dict[str, int] = {}
    sets = [fragments(fleet_of(document), "mta1") for document in history]
    for after in sets:
        seen_before = mtas(place) if place else set()
        place = step(place, after, queued if data.draw(st.booleans()) else None)
        assert {name for name, count in queued.items() if count} <= mtas(place)
        assert mtas(after) <= mtas(place) <= seen_before | mtas(after)
        pools = [name for name, members in picture(place).pools.items() if members]
        assert len(pools) == len(set(pools))
        queued = {name: data.draw(st.integers(0, 2)) for name in mtas(place)}
    place = step(step(place, sets[-1], {}), sets[-1], {})
    assert place == sets[-1]


def test_a_set_that_is_not_ours_has_nothing_to_drain():
    assert draining({}, WHOLE, None).fragment is None
    assert draining(WHOLE, WHOLE, None).virtual_mtas == ()
    assert draining({"a.conf": "<<<\n</virtual-mta>\n<virtual-mta >\n"}, WHOLE, None).fragment is None


@pytest.mark.parametrize("queued", [None, {}, {GONE: 3}])
def test_what_drains_is_told(queued):
    found = draining(WHOLE, without("21"), queued)
    assert found.virtual_mtas == (GONE,)
    assert f"<virtual-mta-pool bulk{POOL_END}>" in found.fragment


def mine(name, *lines, domain=()):
    """A virtual MTA of somebody's own fragment."""
    inside = ["<domain *>", "smtp-hosts [198.51.100.9]:25", *domain, "</domain>"] if domain else []
    address = f"smtp-source-host 203.0.113.{90 + len(name) % 9} {name}.example.com"
    return "\n".join([f"<virtual-mta {name}>", address, *lines, *inside, "</virtual-mta>", ""])


def twice(text, queued, after=WHOLE):
    """A fragment of one's own that leaves, and the run after that."""
    first = step({**WHOLE, "90-local-mine.conf": text}, after, {})
    return first, step(first, after, queued)


def test_names_are_told_apart_without_their_case():
    first, second = twice(mine("Marketing"), {"marketing": 3})
    assert second == first
    assert "Marketing" in mtas(first)
    assert twice(mine("Marketing"), {"marketing": 0})[1] == WHOLE
    assert draining({"a.conf": mine("Marketing")}, {"b.conf": mine("marketing")}, None).virtual_mtas == ()
    pool = (
        "<virtual-mta-pool Ours>\nvirtual-mta marketing\n<domain *>\nmax-smtp-out 7\n</domain>\n</virtual-mta-pool>\n"
    )
    seen = twice(mine("Marketing") + pool, {"MARKETING": 1})
    assert seen[0] == seen[1]
    assert "max-smtp-out 7" in seen[1][powermta.DRAINING]


@pytest.mark.parametrize("reroute", ["reroute-to-virtual-mta", "backoff-reroute-to-virtual-mta"])
def test_where_mail_may_be_led_to_stays_as_long_as_what_leads_there(reroute):
    chain = mine("a", domain=[f"{reroute} bb"]) + mine("bb", domain=[f"{reroute} CCC"]) + mine("ccc") + mine("dddd")
    first, second = twice(chain, {"a": 3})
    assert mtas(first) - mtas(WHOLE) == {"a", "bb", "ccc", "dddd"}
    assert mtas(second) - mtas(WHOLE) == {"a", "bb", "ccc"}
    assert step(second, WHOLE, {"a": 1}) == second
    assert mtas(step(second, WHOLE, {"bb": 1})) - mtas(WHOLE) == {"bb", "ccc"}
    assert step(second, WHOLE, {}) == WHOLE


def test_a_pool_that_mail_may_be_led_to_keeps_its_members_and_is_named_as_it_is_called_then():
    pool = "<virtual-mta-pool Other>\nvirtual-mta bb\n<domain *>\nmax-smtp-out 7\n</domain>\n</virtual-mta-pool>\n"
    first, second = twice(mine("a", domain=["reroute-to-virtual-mta other"]) + mine("bb") + pool, {"a": 3})
    assert first == second
    assert f"reroute-to-virtual-mta other{POOL_END}" in first[powermta.DRAINING]
    assert mtas(first) - mtas(WHOLE) == {"a", "bb"}
    kept = draining({"a.conf": mine("a", domain=["reroute-to-virtual-mta bulk"])}, WHOLE, None).fragment
    assert "reroute-to-virtual-mta bulk\n" in kept, "that pool stays where it is"


def test_macros_that_a_macro_names_stay_with_it():
    macros = "domain-macro One a.example\ndomain-macro two $one,b.example\ndomain-macro three c.example\n"
    pool = "<virtual-mta-pool p>\nvirtual-mta a\n<domain $two>\nmax-smtp-out 1\n</domain>\n</virtual-mta-pool>\n"
    text = draining({"a.conf": macros + mine("a") + pool}, {}, {"a": 3}).fragment
    assert "domain-macro One a.example\ndomain-macro two $one,b.example\n" in text
    assert "three" not in text
    assert "domain-macro One" not in draining({"a.conf": macros + mine("a") + pool}, {"b.conf": macros}, None).fragment
    loop = "domain-macro one $two\ndomain-macro two $one\n"
    assert loop in draining({"a.conf": loop + mine("a") + pool}, {}, None).fragment
