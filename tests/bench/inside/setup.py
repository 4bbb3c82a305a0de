# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the node: Debian's own configuration as a further instance on port 2600, an unsigned stream, and sinks."""

import shutil
import subprocess
import sys

sink, deferring = sys.argv[1:]


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


run("postmulti", "-e", "init")
run("postmulti", "-e", "create", "-I", "postfix-stock")
shutil.copy("/usr/share/postfix/main.cf.debian", "/etc/postfix-stock/main.cf")
with open("/usr/share/postfix/master.cf.dist") as source, open("/etc/postfix-stock/master.cf", "w") as target:
    target.write(source.read().replace("\nsmtp      inet", "\n127.0.0.1:2600 inet"))
for setting in (
    "queue_directory=/var/spool/postfix-stock",
    "data_directory=/var/lib/postfix-stock",
    "multi_instance_enable=yes",
    "multi_instance_name=postfix-stock",
    "inet_interfaces=loopback-only",
    "myhostname=stock.bench.test",
    "mynetworks=127.0.0.0/8",
    "mydestination=",
    "smtp_tls_security_level=may",
    "smtp_bind_address=198.18.9.1",
    "maillog_file=/var/log/stock.log",
):
    run("postconf", "-c", "/etc/postfix-stock", "-e", setting)
run("postconf", "-c", "/etc/postfix-stock", "-Me", "postlog/unix-dgram=postlog unix-dgram n - n - 1 postlogd")
run("postmulti", "-i", "postfix-stock", "-p", "start")
run("postmulti", "-i", "postfix-s5", "-x", "postconf", "-e", "smtpd_milters=", "non_smtpd_milters=")
run("postmulti", "-i", "postfix-s5", "-p", "reload")
for ip, extra in ((sink, []), (deferring, ["-r", "RCPT"])):
    run(
        "systemd-run", "--unit", "sink-" + ip.replace(".", "-"), "smtp-sink", "-u", "postfix", *extra, ip + ":25", "500"
    )
