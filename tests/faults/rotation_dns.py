# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second authoritative server for the world's zones, and what can go wrong with the servers and the provider."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from world_of_faults import ENVIRONMENT, World

# Knot fetches each zone from PowerDNS every two seconds. Unbound keeps "no" for as long as the SOA lets it: half a
# minute, so that a key that is used too early is noticed.
DATABASE = "sqlite3 /var/lib/powerdns/pdns.sqlite3"
SECONDARY = """\
set -e
ip address replace {secondary}/20 dev eth0
mkdir -p /var/lib/secondary /run/secondary
chown knot:knot /var/lib/secondary /run/secondary
cat > /etc/knot/secondary.conf <<'LAB'
server:
    listen: {secondary}@53
    rundir: /run/secondary
    user: knot:knot
database:
    storage: /var/lib/secondary
remote:
  - id: primary
    address: {primary}
    via: {secondary}
template:
  - id: default
    storage: /var/lib/secondary
    master: primary
    refresh-min-interval: 2
    refresh-max-interval: 2
    retry-max-interval: 2
    zonefile-sync: -1
zone:
LAB
echo 'allow-axfr-ips={secondary}' >> /etc/powerdns/pdns.conf
echo 'ns4.lab.test. IN A {secondary}' >> /etc/bind/lab.test.zone
for zone in {zones}; do
    echo "  - domain: $zone" >> /etc/knot/secondary.conf
    echo "$zone. IN NS ns4.lab.test." >> /etc/bind/lab.test.zone
    pdnsutil set-meta "$zone" SOA-EDIT-API INCREASE
    pdnsutil add-record "$zone" @ NS 3600 ns4.lab.test
done >/dev/null
{database} "update records set content = replace(content, ' 604800 5', ' 604800 30') where type = 'SOA'"
for zone in {zones}; do pdnsutil increase-serial "$zone"; done >/dev/null
sed -i /cache-max-negative-ttl/d /etc/unbound/unbound.conf
cat > /etc/systemd/system/secondary.service <<'LAB'
[Service]
ExecStart=/usr/sbin/knotd -c /etc/knot/secondary.conf
LAB
systemctl daemon-reload
systemctl restart pdns named secondary unbound
for zone in {zones}; do
    timeout 60 sh -c "until dig +short @{secondary} $zone SOA | grep -q ns1; do sleep 0.2; done"
done
"""
DENIED = " ".join(
    f"create trigger denied_{what} before {what} on records begin select raise(abort, 'denied'); end;"
    for what in ("insert", "update", "delete")
)
ALLOWED = " ".join(f"drop trigger denied_{what};" for what in ("insert", "update", "delete"))
KNOT = "knotc --socket /run/secondary/knot.sock"
LOOK = """\
import json, sys
import dns.message, dns.query
servers, names = json.load(sys.stdin)
def ask(name, server):
    answer = dns.query.udp_with_fallback(dns.message.make_query(name, "TXT"), server, timeout=5)[0]
    return [str(each) for one in answer.answer for each in one]
print(json.dumps({name: {server: ask(name, server) for server in servers} for name in names}))
"""


class Servers:
    def __init__(self, world: World, zones: Iterable[str]) -> None:
        self.world = world
        self.addresses = (world.ip(0, 54), world.ip(0, 57))
        self.outages = 0
        primary, secondary = self.addresses
        world.inside(
            "dns1", SECONDARY.format(primary=primary, secondary=secondary, zones=" ".join(zones), database=DATABASE)
        )

    @contextmanager
    def _fault(self, begin: str, end: str, seconds: float) -> Iterator[None]:
        """At least so long; the body may take longer."""
        started = time.monotonic()
        self.world.inside("dns1", begin)
        self.outages += 1
        try:
            yield
            time.sleep(max(0.0, started + seconds - time.monotonic()))
        finally:
            self.world.inside("dns1", end)

    def provider_refuses(self, seconds: float) -> AbstractContextManager[None]:
        """The API answers every change with an error (500); servers answer as before."""
        return self._fault(f'{DATABASE} "{DENIED}"', f'{DATABASE} "{ALLOWED}"', seconds)

    def secondary_lags(self, seconds: float) -> AbstractContextManager[None]:
        return self._fault(f"{KNOT} zone-freeze", f"{KNOT} zone-thaw", seconds)

    def secondary_is_down(self, seconds: float) -> AbstractContextManager[None]:
        return self._fault("systemctl stop secondary", "systemctl start secondary", seconds)

    def show(self, names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
        """What each authoritative server has at these names: TXT records and the aliases that lead to them."""
        command = ["podman", "exec", "-i", self.world.container("dns1"), "python3", "-c", LOOK]
        question = json.dumps([self.addresses, sorted(set(names))])
        done = subprocess.run(command, input=question, text=True, capture_output=True, env=ENVIRONMENT, check=True)
        return json.loads(done.stdout)
