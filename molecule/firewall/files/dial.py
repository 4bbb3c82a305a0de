# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP connections for the scenario: try some, hold many, answer all.

usage: dial.py try CALLS              CALLS: [[source or "", address, port, expected state], ...] as JSON
       dial.py hold FILE COUNT CALLS  opens COUNT connections for each call, writes to FILE how many are open, and waits
       dial.py answer PORT...         takes connections on these ports of every address of the host
"""

import errno
import json
import select
import socket
import sys
import time

PROHIBITED = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)


def dial(source, address, port):
    """The state of one call, and its socket where it is open."""
    try:
        opened = socket.create_connection((address, port), 3, source_address=(source, 0) if source else None)
    except ConnectionRefusedError:
        return "closed", None
    except TimeoutError:
        return "filtered", None
    except OSError as error:
        return "prohibited" if error.errno in PROHIBITED else str(error), None
    return "open", opened


def attempt(calls):
    wrong = []
    for source, address, port, expected in calls:
        state, opened = dial(source, address, port)
        if opened:
            opened.close()
        if state != expected:
            wrong.append(f"from {source or 'the host'} to {address} port {port}: {state}, expected {expected}")
    print("\n".join(wrong) or f"{len(calls)} calls as expected")
    return 1 if wrong else 0


def hold(file, count, calls):
    held, opened = [], []
    for source, address, port, *_expected in calls:
        sockets = [dial(source, address, port)[1] for _number in range(count)]
        held += sockets
        opened.append(sum(one is not None for one in sockets))
    with open(file, "w", encoding="utf-8") as told:
        json.dump(opened, told)
    time.sleep(600)
    return held


def answer(ports):
    """Closes a connection when its caller does. What another service answers already is left to it."""
    listeners, held = [], []
    for port in ports:
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((address, port))
            except OSError:
                continue
            listener.listen(512)
            listeners.append(listener)
    while True:
        for ready in select.select(listeners + held, [], [])[0]:
            if ready in listeners:
                held.append(ready.accept()[0])
            elif not ready.recv(4096):
                held.remove(ready)
                ready.close()


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if verb == "try":
        sys.exit(attempt(json.loads(words[0])))
    elif verb == "hold":
        hold(words[0], int(words[1]), json.loads(words[2]))
    else:
        answer([int(word) for word in words])
