# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts say of their messages: whatever a hostile one says, nobody else's proof is another one for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible_collections.mailops.mta.plugins.module_utils.core.dns.answers import NO, Answer
from ansible_collections.mailops.mta.plugins.module_utils.core.proof import judge, sent
from ansible_collections.mailops.mta.plugins.modules import alignment_info, sink_info
from hypothesis import given
from hypothesis import strategies as st


def probe(host: str, label: str, **more: Any) -> dict[str, Any]:
    return {
        "stream": "tx",
        "host": host,
        "label": label,
        "domain": "tx.test",
        "port": 2525,
        "recipient": f"{label}@sink.test",
        **more,
    }


PROBES = [probe("taken", "l1"), probe("other", "l2"), probe("other", "l3")]
INTRUDERS = [probe("other", "apart-tx", sender="bulk.test")]
EXPECTED = {"probes": PROBES, "intruders": INTRUDERS}
HONEST = {
    "taken": [{**PROBES[0], "message_id": "<1@tx.test>", "error": None}],
    "other": [
        {**one, "message_id": f"<o{number}@tx.test>", "error": error}
        for number, (one, error) in enumerate(zip((*PROBES[1:], *INTRUDERS), (None, None, "refused (550, b'x')")))
    ],
}


def test_honest_hosts_are_believed() -> None:
    probes, findings = sent.read(EXPECTED, HONEST)
    assert (probes, findings) == ([*HONEST["taken"], *HONEST["other"]], [])
    assert sent.message_ids(EXPECTED, HONEST) == ["<1@tx.test>", "<o0@tx.test>", "<o1@tx.test>"]
    assert sent.read(EXPECTED, {"taken": None, "other": []}) == ([], [])


ODD = [5, "x", {}, [[1]], [{"error": None}], [{"message_id": 7, "error": None}], [{"message_id": "<1>", "error": []}]]
ODD += [[HONEST["taken"][0]] * 2, [{"message_id": "a b", "error": None}], [{"message_id": "<1>\n", "error": None}]]


@pytest.mark.parametrize("answer", ODD, ids=str)
def test_an_answer_of_another_shape_names_its_host_and_spoils_no_other(answer: Any) -> None:
    probes, findings = sent.read(EXPECTED, {**HONEST, "taken": answer})
    assert probes == HONEST["other"]
    assert [(one.where, one.severity) for one in findings] == [("host taken", "error")]


def test_a_host_does_not_speak_for_another_one() -> None:
    lie = {**PROBES[1], "message_id": "<evil@x>", "error": None}
    probes, findings = sent.read(EXPECTED, {**HONEST, "taken": [lie], "unknown": [lie]})
    assert probes[0] == {**PROBES[0], "message_id": "<evil@x>", "error": None}
    assert probes[1:] == HONEST["other"]
    assert [one.where for one in findings] == ["host unknown"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["message_id", "error", "host", "label"]), inner),
)


@given(answer=ANYTHING)
def test_nothing_that_one_host_says_changes_what_is_known_of_others(answer: Any) -> None:
    probes, _findings = sent.read(EXPECTED, {**HONEST, "taken": answer})
    assert [one for one in probes if one["host"] == "other"] == HONEST["other"]
    assert all(
        {**one, "message_id": "", "error": ""} == {**PROBES[0], "message_id": "", "error": ""} for one in probes[:-3]
    )


def test_the_proof_names_the_host_and_judges_the_others() -> None:
    addresses = [
        {"stream": "tx", "host": host, "label": label, "ips": ["192.0.2.1"], "ehlo": "e.test"}
        for host, label in (("taken", "l1"), ("other", "l2"))
    ]
    stream = {
        "name": "tx",
        "port": 2525,
        "domains": ["tx.test"],
        "return_path": {"domain": "tx.test", "mx": []},
        "spf": "v=spf1 -all",
        "spf_parts": {},
        "dkim": [],
        "dmarc": "v=DMARC1; p=none",
        "dmarc_at": [],
        "report_authorisations": [],
        "tls_rpt": None,
        "mta_sts": None,
    }
    expected = {**EXPECTED, "addresses": addresses, "streams": [stream], "records": [], "front_header": None}
    # As if the stream of the other host took mail of a domain that is not its own.
    lie = {**INTRUDERS[0], "message_id": "<x>", "error": None}
    parameters = {"expectations": expected, "observations": [], "relay": None, "keys": None, "hosts": [], "streams": []}

    def proof(answers: dict[str, Any]) -> judge.Proof:
        asked = {**parameters, "sent": answers}
        return alignment_info.prove(asked, lambda questions: dict.fromkeys(questions, Answer(NO)))[0]

    honest, lied = proof(HONEST), proof({**HONEST, "taken": [lie, lie]})
    assert any(one.where == "host taken" for one in lied.findings)
    row = next(index for index, one in enumerate(honest.rows) if one["host"] == "other")
    assert lied.rows[row] == honest.rows[row]
    assert lied.rows[row]["apart"] == "ok"


def test_the_sink_is_asked_for_messages_that_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    seen = tmp_path / "seen.jsonl"
    seen.write_text(json.dumps({"message_id": "<o0@tx.test>", "event": "accepted"}) + "\n")
    ended: dict[str, Any] = {}

    class Module(basic.AnsibleModule):  # type: ignore[misc]
        def __init__(self, **_keywords: Any) -> None:
            answers = {**HONEST, "taken": [{"error": None}]}
            self.params = {"path": str(seen), "expectations": EXPECTED, "sent": answers, "wait_seconds": 0.0}

        def exit_json(self, **result: Any) -> None:
            ended.update(result)

    monkeypatch.setattr(sink_info, "AnsibleModule", Module)
    sink_info.main()
    assert ([one["message_id"] for one in ended["seen"]], ended["missing"]) == (["<o0@tx.test>"], ["<o1@tx.test>"])
