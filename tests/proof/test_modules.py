# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that send, wait and knock, against real SMTP servers on loopback. Run it by its path."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from aiosmtpd.controller import Controller
from ansible_collections.mailops.mta.plugins.modules import proof_message, relay_info, sink_info

PROBE = {
    "label": "203-0-113-20",
    "stream": "bulk",
    "host": "mta1",
    "domain": "news.example.com",
    "recipient": "verify-203-0-113-20@sink.test",
}


class Handler:
    def __init__(self, reply="250 OK", only_sender=None):
        self.reply = reply
        self.only_sender = only_sender
        self.mails = []

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.only_sender is not None and envelope.mail_from != self.only_sender:
            return "554 5.7.1 Access denied"
        if self.reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.reply

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(envelope)
        return "250 2.0.0 OK"


@pytest.fixture
def serve():
    controllers = []

    def start(handler):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        controllers.append(Controller(handler, hostname="127.0.0.1", port=port))
        controllers[-1].start()
        return port

    yield start
    for controller in controllers:
        controller.stop()


def test_a_probe_is_sent_as_the_message_id_says(serve):
    handler = Handler()
    sent = proof_message.send({**PROBE, "port": serve(handler)}, "run", 0, "127.0.0.1", 5)
    (mail,) = handler.mails
    assert (sent["error"], sent["message_id"]) == (None, "<run.203-0-113-20.0@news.example.com>")
    assert (mail.mail_from, mail.rcpt_tos) == ("verify@news.example.com", [PROBE["recipient"]])
    assert f"Message-ID: {sent['message_id']}".encode() in mail.content


def test_a_refused_probe_says_so(serve):
    sent = proof_message.send({**PROBE, "port": serve(Handler("550 5.1.1 no"))}, "run", 0, "127.0.0.1", 5)
    assert "550" in sent["error"]
    assert "refused" in proof_message.send({**PROBE, "port": 9}, "run", 0, "127.0.0.1", 5)["error"]


@pytest.mark.parametrize(
    ("handler", "state"),
    [
        (Handler(), "open"),
        (Handler(only_sender="probe@news.example.com"), "open"),
        (Handler(only_sender="<>"), "open"),
        (Handler("554 5.7.1 Relay access denied"), "refused"),
        (Handler("450 4.2.0 later"), "unknown"),
    ],
)
def test_the_relay_probe_tells_open_from_refused(serve, handler, state):
    port = serve(handler)
    found = relay_info.probe("mta1", "127.0.0.1", port, "x@sink.test", ["probe@news.example.com", ""], 5)
    assert found["state"] == state
    assert handler.mails == []


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("refused", "open"), "open"),
        (("unknown", "open"), "open"),
        (("filtered", "open"), "open"),
        (("refused", "filtered"), "unknown"),
        (("refused", "unknown"), "unknown"),
        (("filtered", "filtered"), "filtered"),
        (("refused", "refused"), "refused"),
        (("closed",), "closed"),
    ],
)
def test_no_fault_hides_an_open_relay_or_makes_a_refusal(states, state):
    assert relay_info.verdict([(found, found) for found in states])["state"] == state


def test_the_relay_probe_tells_closed_silent_and_hanging_up():
    assert relay_info.probe("h", "127.0.0.1", 9, "x@sink.test", [""], 1)["state"] == "closed"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert relay_info.probe("h", *silent.getsockname(), "x@sink.test", [""], 0.3)["state"] == "unknown"
    with socket.create_server(("127.0.0.1", 0)) as rude:
        threading.Thread(target=lambda: rude.accept()[0].close(), daemon=True).start()
        assert relay_info.probe("h", *rude.getsockname(), "x@sink.test", [""], 1)["state"] == "refused"


def test_the_sink_is_read_while_it_is_written(tmp_path):
    path = tmp_path / "seen.jsonl"
    lines = [json.dumps({"message_id": f"<{number}>", "event": "accepted"}) + "\n" for number in range(3)]
    assert sink_info.complete_lines(str(path), 0) == ([], 0)
    path.write_text(lines[0] + "no json\n" + lines[1] + lines[2][:9])
    entries, offset = sink_info.complete_lines(str(path), 0)
    assert [entry["message_id"] for entry in entries] == ["<0>", "<1>"]
    with path.open("a") as sink:
        sink.write(lines[2][9:])
    entries, offset = sink_info.complete_lines(str(path), offset)
    assert ([entry["message_id"] for entry in entries], offset) == (["<2>"], path.stat().st_size)
    assert sink_info.complete_lines(str(path), offset) == ([], offset)


def test_waiting_ends_when_all_have_come_and_skips_deferrals(tmp_path):
    path = tmp_path / "seen.jsonl"
    path.write_text(json.dumps({"message_id": "<1>", "event": "deferred"}) + "\n")

    def write_later():
        time.sleep(0.7)
        with path.open("a") as sink:
            sink.write(json.dumps({"message_id": "<1>", "event": "accepted"}) + "\n")

    threading.Thread(target=write_later, daemon=True).start()
    found = sink_info.wait(str(path), {"<1>"}, 5)
    assert found["<1>"]["event"] == "accepted"
    assert sink_info.wait(str(path), {"<2>"}, 0.1) == {}
