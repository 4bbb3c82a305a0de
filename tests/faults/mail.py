# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole fleet and its mail: what is refused at injection, where each bounce goes, and what comes back after a death.

``python tests/faults/mail.py [STEP ...]`` makes the containers, plays it, and removes them. A step is a word of a
function's name.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable

from world_of_faults import ENVIRONMENT, ROOT, Failed, World, prove, run, take

WORLD = 9
PASSWORD = "lab-only-password"
SITE = ("playbooks/site.yml", "--tags", "addresses,postfix")
RECEIVER = "default-receiver.test"  # the operator whose answers the bounces are made of
TOO_LARGE_BYTES = 3_000_000  # of its SIZE, see inventories/lab/group_vars
GOING = """\
---
streams:
  going:
    domain: going.acme.test
    port: 2530
    inject_from: [{gateway}/32]
    addresses: [{{ip: {address}, host: mta2}}]
"""


def text(author: str, *lines: str, body: str = "hello") -> str:
    return "\r\n".join([f"From: {author}", "To: x@sink.test", *lines, "", body, ""])


def hand_in(
    world: World,
    host: str,
    port: int,
    sender: str,
    message: str,
    recipient: str = "x@sink.test",
    login: str = "",
    options: tuple[str, ...] = (),
) -> str:
    """The server's refusal, or nothing where it took the message."""
    address = world.ip(0, {"mta1": 11, "mta2": 12, "mta3": 13}[host])
    with smtplib.SMTP(address, port, local_hostname="app.lab.test", timeout=60) as smtp:
        if login:
            smtp.starttls(context=ssl._create_unverified_context())
            smtp.login(login, PASSWORD)
        smtp.ehlo_or_helo_if_needed()
        try:
            smtp.sendmail(sender, [recipient], message.encode(), mail_options=options)
        except smtplib.SMTPResponseException as refusal:
            return f"{refusal.smtp_code} {refusal.smtp_error.decode()}"
        except smtplib.SMTPRecipientsRefused as refusal:
            return str(refusal.recipients)
    return ""


def seen(world: World) -> list[dict]:
    return [json.loads(line) for line in world.inside("rx1", "cat /var/lib/receiver/seen.jsonl").splitlines()]


def await_seen(world: World, what: str, wanted: Callable[[dict], bool], seconds: float = 90) -> dict:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for line in seen(world):
            if wanted(line):
                return line
        time.sleep(1)
    raise Failed(f"within {seconds:g} seconds nothing arrived that is {what}")


def await_true(what: str, fact: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not fact():
        prove(time.monotonic() < end, f"within {seconds:g} seconds this did not become true: {what}")
        time.sleep(1)


def await_inside(world: World, host: str, test: str, seconds: float) -> None:
    command = ("podman", "exec", world.container(host), "sh", "-c", test)
    await_true(f"on {host}: {test}", lambda: run(*command, check=False).returncode == 0, seconds)


def the_fleet_is_set_up(world: World) -> None:
    world.fragments.mkdir(exist_ok=True)
    going = GOING.format(gateway=world.ip(0, 1), address=world.ip(1, 50))
    (world.fragments / "going.yml").write_text(going, encoding="utf-8")
    world.play("playbooks/site.yml")


# ---- what is refused at injection

REFUSED = (
    # stream's port, sender, message, what the answer names
    (2528, "a@acme-outreach.test", text("ceo@tx.acme.test"), ("5.7.1", "stream cold", "tx.acme.test")),
    (2528, "a@acme-outreach.test", text("ceo@nobody.example"), ("5.7.1", "stream cold", "nobody.example")),
    (2528, "", text("ceo@tx.acme.test"), ("5.7.1", "stream cold")),
    (2528, "a@acme-outreach.test", text("a@sub.acme-outreach.test"), ("5.7.1", "stream cold")),
    (2528, "a@acme-outreach.test", text("a@acme-outreach.test", "Subject: one", "Subject: two"), ("Subject",)),
    (2528, "a@acme-outreach.test", text("a@acme-outreach.test", "Date: x", "date: y"), ("Date",)),
    (2528, "a@acme-outreach.test", text("a@acme-outreach.test", "To: y@sink.test"), ("To",)),
    (2528, "a@acme-outreach.test", text("a@acme-outreach.test", "From: ceo@tx.acme.test"), ("From",)),
    (2528, "a@acme-outreach.test", text("a@acme-outreach.test, ceo@tx.acme.test"), ("exactly one",)),
    (2528, "a@acme-outreach.test", text("a@acme-outreach.test", body="x" * 999), ("998",)),
    (2528, "a@acme-outreach.test", text("a@acme-outreach.test", "X-Long: " + "y" * 1200), ("998",)),
    (2528, "a@acme-outreach.test", text("a@acme-outreach.test", body="form\x0cfeed"), ("FF",)),
    (2500, "a@mail.acme.test", text("a@mail.acme.test", "X-Binding: transactional"), ("5.7.1", "stream transactional")),
    (2500, "a@tx.acme.test", text("a@tx.acme.test", "X-Binding: bulk", "X-Binding: cold"), ("bulk and cold",)),
    (2500, "a@tx.acme.test", text("a@tx.acme.test", "X-Binding: nothing"), ("5.7.1",)),
    (2500, "a@tx.acme.test", text("a@tx.acme.test", body="x" * 1500), ("998",)),
)


def what_can_never_be_right_is_refused_at_injection(world: World) -> None:
    for port, sender, message, names in REFUSED:
        answer = hand_in(world, "mta2", port, sender, message)
        prove(answer.startswith("5"), f"{message[:60]!r} from <{sender}> was answered {answer or '250'!r}")
        prove(all(name in answer for name in names), f"{answer!r} does not name {names}")
    ports = {"transactional": 2525, "marketing": 2526}
    for stream in ports:
        held = world.inside("mta1", f"postqueue -c /etc/postfix-{stream} -j; postqueue -c /etc/postfix-front -j")
        prove(not held.strip(), f"a refused message is in a queue: {held}")


def a_login_decides_whatever_the_sender(world: World) -> None:
    for sender in ("", "a@mail.acme.test"):
        for stream, author in (("transactional", "ceo@tx.acme.test"), ("cold", "ceo@acme-outreach.test")):
            message = text(author, f"X-Binding: {stream}")
            answer = hand_in(world, "mta1", 2500, sender, message, login="campaigns")
            prove(answer.startswith("554 5.7.1") and "marketing" in answer and stream in answer, f"answered {answer!r}")
    own = text("a@mail.acme.test", "Message-ID: <own-stream@mail.acme.test>", "X-Binding: marketing")
    prove(not hand_in(world, "mta1", 2500, "", own, login="campaigns"), "its own stream refuses the login")
    line = await_seen(world, "of its own stream", lambda one: one.get("message_id") == "<own-stream@mail.acme.test>")
    prove(all(one["result"] == "pass" for one in line["dkim"]), f"{line['dkim']}")


def u_labels_of_an_own_domain_are_signed(world: World) -> None:
    for number, domain in enumerate(
        ("news.bücher.test", "news.BÜCHER.test", "news.bu\u0308cher.test", "news.xn--bcher-kva.test")
    ):
        mark = f"<u-label-{number}@news.acme.test>"
        message = text(f"a@{domain}", f"Message-ID: {mark}")
        answer = hand_in(world, "mta1", 2527, "a@news.acme.test", message, options=("BODY=8BITMIME", "SMTPUTF8"))
        prove(not answer, f"{domain}: {answer}")
        line = await_seen(world, f"From {domain}", lambda one, mark=mark: one.get("message_id") == mark)
        signed = {one["domain"]: one["result"] for one in line["dkim"]}
        prove(signed == {"news.xn--bcher-kva.test": "pass"}, f"{domain} is signed {line['dkim']}")


def odd_messages_are_refused_or_arrive_signed(world: World) -> None:
    command = [sys.executable, "tests/fuzz/messages.py", "--count", "75", "--inventory", str(world.inventory)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    prove(done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:])


# ---- bounces


def bounce_to(world: World, mailbox: str, signed_by: str | None) -> None:
    line = await_seen(
        world,
        f"a bounce to {mailbox}",
        lambda one: one["event"] == "accepted" and one["mail_from"] == "<>" and mailbox in one["rcpt_to"],
        200,
    )
    prove("MAILER-DAEMON@" in line["from"], f"the bounce is From {line['from']}")
    if signed_by:
        signed = {one["domain"]: one["result"] for one in line["dkim"]}
        prove(signed == {signed_by: "pass"} and line["dmarc"]["result"] == "pass", f"{line['dkim']}, {line['dmarc']}")


def a_bounce_of_a_refusal_reaches_the_injector(world: World) -> None:
    message = text("a@mail.acme.test", "Subject: refused")
    prove(not hand_in(world, "mta2", 2526, "refused@mail.acme.test", message, f"reject@{RECEIVER}"), "not taken")
    bounce_to(world, "refused@bounce.mail.acme.test", "mail.acme.test")


def a_bounce_of_old_mail_reaches_the_injector(world: World) -> None:
    message = text("a@acme-outreach.test", "Subject: old")
    prove(not hand_in(world, "mta2", 2528, "old@acme-outreach.test", message, f"defer@{RECEIVER}"), "not taken")
    bounce_to(world, "old@acme-outreach.test", "acme-outreach.test")


def a_bounce_of_large_mail_reaches_the_injector(world: World) -> None:
    message = text("a@news.acme.test", "Subject: large", body="\r\n".join(["x" * 98] * (TOO_LARGE_BYTES // 100 + 100)))
    prove(not hand_in(world, "mta2", 2527, "large@news.acme.test", message, f"someone@{RECEIVER}"), "not taken")
    bounce_to(world, "large@news.acme.test", "news.acme.test")


def a_bounce_of_the_front_listener_reaches_the_injector(world: World) -> None:
    """The stream refuses what its front has taken; here by a setting that only this test makes."""
    bulk = "/etc/postfix-bulk"
    setting = f"postconf -c {bulk} -e 'smtpd_recipient_restrictions = {{}}'; postfix -c {bulk} reload; sleep 2"
    usual = world.inside("mta1", f"postconf -c {bulk} -h smtpd_recipient_restrictions").strip()
    world.inside("mta1", setting.format("reject"))
    try:
        message = text("a@news.acme.test", "X-Binding: bulk", "Subject: front")
        prove(not hand_in(world, "mta1", 2500, "front@news.acme.test", message), "the front refuses the message")
        bounce_to(world, "front@news.acme.test", "tx.acme.test")
    finally:
        world.inside("mta1", setting.format(usual))


def a_bounce_of_a_draining_stream_reaches_the_injector(world: World) -> None:
    world.inside("rx1", "systemctl stop receiver-simulator")
    message = text("a@going.acme.test", "Subject: draining")
    prove(not hand_in(world, "mta2", 2530, "drained@going.acme.test", message, f"reject@{RECEIVER}"), "not taken")
    world.remove_fragments()
    world.play(*SITE)
    closed = world.inside("mta2", "ss -Hltn sport = :2530 | wc -l; postqueue -c /etc/postfix-going -j | wc -l")
    prove(closed.split() == ["0", "1"], f"the stream is not draining: {closed}")
    world.inside("rx1", "systemctl start receiver-simulator; sleep 2")
    world.inside("mta2", "postqueue -c /etc/postfix-going -f")
    bounce_to(world, "drained@going.acme.test", None)


# ---- boot and death

KILL = "kill -KILL $(systemctl show -p MainPID --value {0}); sleep 1; systemctl show -p MainPID --value {0}"
# What makes a listen address late: a unit that takes it away before Postfix starts and gives it back after 30 seconds.
LATE = """
cat > /etc/systemd/system/late-address.service <<'END'
[Unit]
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
ExecStart=/sbin/ip address del {ip}/20 dev eth0
[Install]
WantedBy=sysinit.target
END
cat > /etc/systemd/system/late-address-back.service <<'END'
[Service]
ExecStart=/bin/sh -c 'sleep 30; ip address add {ip}/20 dev eth0; ip route replace default via {gateway}'
[Install]
WantedBy=multi-user.target
END
systemctl -q enable late-address.service late-address-back.service
"""


def units(world: World, *streams: str) -> list[str]:
    """Debian 13 names a unit after the instance's directory without ``postfix-``."""
    by_directory = "postfix-%I" in world.inside("mta1", "systemctl cat postfix@.service")
    return [f"postfix@{stream}" if by_directory else f"postfix@postfix-{stream}" for stream in streams]


def what_is_killed_comes_back(world: World) -> None:
    for unit in (*units(world, "transactional", "front"), "rspamd", "dovecot"):
        before = world.inside("mta1", f"systemctl show -p MainPID --value {unit}").strip()
        prove(before not in ("", "0"), f"systemd does not know the main process of {unit}")
        world.inside("mta1", KILL.format(unit))
        await_inside(
            world,
            "mta1",
            f"systemctl -q is-active {unit} && test $(systemctl show -p MainPID --value {unit}) != {before}",
            150,
        )
    message = text("a@tx.acme.test", "Message-ID: <after-kill@tx.acme.test>", "X-Binding: transactional")
    await_true(
        "the front takes mail", lambda: not hand_in(world, "mta1", 2500, "a@tx.acme.test", message, login="shop")
    )
    await_seen(world, "sent after the kills", lambda one: one.get("message_id") == "<after-kill@tx.acme.test>")


def a_host_comes_back_from_a_reboot_with_its_address_late(world: World) -> None:
    bulk, *others = units(world, "bulk", "transactional", "marketing", "front")
    reboot(world, "mta1", 11, [bulk, *others, "rspamd", "dovecot"])
    for port, domain in (
        (2525, "tx.acme.test"),
        (2526, "mail.acme.test"),
        (2527, "news.acme.test"),
        (2500, "tx.acme.test"),
    ):
        sends(world, "mta1", port, domain)


def a_powermta_host_comes_back_from_a_reboot_with_its_address_late(world: World) -> None:
    """The stand-in, whose unit is started again by the drop-in of the role."""
    reboot(world, "mta3", 13, ["pmta"])
    for port, domain in ((2526, "mail.acme.test"), (2527, "news.acme.test")):
        sends(world, "mta3", port, domain)


def reboot(world: World, host: str, last: int, services: list[str]) -> None:
    """Stops and starts the host, whose listen address comes 30 seconds late. The first service fails until then."""
    container, ip = world.container(host), world.ip(0, last)
    world.inside(host, LATE.format(ip=ip, gateway=world.ip(0, 1)))
    run("podman", "stop", "--time", "5", container)
    run("podman", "start", container)
    await_inside(world, host, f"journalctl -b -u {services[0]} --no-pager | grep -q Failed", 60)
    prove(not world.inside(host, f"ip -o address | grep -F ' {ip}/' || true"), f"{ip} was not late")
    for unit in services:
        await_inside(world, host, f"systemctl -q is-active {unit}", 150)
    world.inside(host, "systemctl -q disable late-address.service late-address-back.service")


def sends(world: World, host: str, port: int, domain: str) -> None:
    mark = f"<after-boot-{host}-{port}@{domain}>"
    message = text(f"a@{domain}", f"Message-ID: {mark}")

    def taken() -> bool:
        try:
            return not hand_in(world, host, port, f"a@{domain}", message)
        except OSError:  # the neighbours remember the old MAC address for some seconds
            return False

    await_true(f"port {port} of {host} takes mail", taken)
    line = await_seen(world, f"sent through port {port}", lambda one: one.get("message_id") == mark)
    prove(line["spf"]["result"] == "pass", f"port {port} sends from {line['source_ip']}")


STEPS = (
    the_fleet_is_set_up,
    what_can_never_be_right_is_refused_at_injection,
    a_login_decides_whatever_the_sender,
    u_labels_of_an_own_domain_are_signed,
    odd_messages_are_refused_or_arrive_signed,
    a_bounce_of_a_refusal_reaches_the_injector,
    a_bounce_of_old_mail_reaches_the_injector,
    a_bounce_of_large_mail_reaches_the_injector,
    a_bounce_of_the_front_listener_reaches_the_injector,
    a_bounce_of_a_draining_stream_reaches_the_injector,
    what_is_killed_comes_back,
    a_host_comes_back_from_a_reboot_with_its_address_late,
    a_powermta_host_comes_back_from_a_reboot_with_its_address_late,
)


def main() -> int:
    world = World(WORLD)
    chosen = [step for step in STEPS if not sys.argv[1:] or any(word in step.__name__ for word in sys.argv[1:])]
    if "MTA_FAULTS_REUSE" in ENVIRONMENT:
        return 1 if take(chosen, world) else 0
    with world.up():
        return 1 if take(chosen, world) else 0


if __name__ == "__main__":
    raise SystemExit(main())
