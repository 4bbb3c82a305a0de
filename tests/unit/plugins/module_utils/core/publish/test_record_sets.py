# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the registry: an answer has the size that it has on the wire. What stands in it is tested with the fleet."""

from __future__ import annotations

import dns.message
import dns.rrset
from ansible_collections.mailops.mta.plugins.module_utils.core.dns import txt
from ansible_collections.mailops.mta.plugins.module_utils.core.publish import record_sets
from hypothesis import given
from hypothesis import strategies as st

LABELS = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)


@given(
    st.lists(LABELS, min_size=1, max_size=5).map(".".join),
    st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=600), min_size=1, max_size=4, unique=True),
)
def test_an_answer_has_the_size_of_the_message(name, texts):
    query = dns.message.make_query(f"{name}.", "TXT", use_edns=0, payload=1232)
    reply = dns.message.make_response(query, our_payload=1232)
    reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "TXT", *map(txt.quote, texts)))
    assert record_sets.answer_size(name, texts) == len(reply.to_wire(max_size=65535))
