# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: A fleet of mail servers from one checked file
version_added: 0.1.0
author: mailops.mta contributors (@mailops)
description:
  - Reads a fleet file, refuses a wrong one with every finding at once, and makes the hosts, groups and variables of the
    fleet.
  - Each host gets its own derived slice and nothing more. The host C(fleet) (group C(control), connection C(local))
    carries what concerns the whole fleet, such as record sets and keys.
  - Groups are C(mta), C(engine_<engine>), C(stream_<name>) and C(mta_sts), the hosts that serve MTA-STS policies. A
    host with C(engine=none) is in none of the first three.
  - A fleet may be split. Every C(fleet.d/*.yml) beside C(fleet.yml) belongs to it (and C(x.fleet.d/*.yml) to
    C(x.fleet.yml)), with one stream or customer in each, for example. A fragment holds streams and receivers alone.
    Hosts, whose connection variables are code on the controller, and all else stand in C(fleet.yml).
  - A fleet that is refused ends the run with exit code 4, whatever Ansible's settings are. Where the line C(plugin) is
    missing or wrong, Ansible itself only warns, unless C(any_unparsed_is_failed=true) is set.
  - Needs ansible-core 2.19 or newer.
  - The page C(docs/fleet.md) of the collection explains what the options below mean together.
extends_documentation_fragment: [mailops.mta.fleet.keys]
"""

EXAMPLES = r"""
# fleet.yml: one host, one stream
plugin: mailops.mta.fleet
domain: example.com
bounce_host: bounces.example.com
hosts:
  mta1: {ansible_host: 10.0.0.11}
zones:
  example.com: {provider: powerdns, credentials: pdns}
streams:
  transactional:
    domain: tx.example.com
    port: 2525
    inject_from: [10.0.0.0/8]
    addresses:
      - {ip: 203.0.113.10, host: mta1}

# Look at it:
# ansible-inventory -i fleet.yml --graph
"""

import os
import sys

from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.release import __version__ as core_version
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors, report
from ansible_collections.mailops.mta.plugins.module_utils.core.fleet import derive
from ansible_collections.mailops.mta.plugins.module_utils.shell import fleet_file

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18 and older take every text of a fleet file for a template and run it here
    trust_as_template = None

PARSER_ERROR = 4  # as Ansible exits where it cannot read a file


class Refused(SystemExit):
    """The end of the run, with every finding in ``text``.

    Ansible catches whatever is an Exception, warns, tries its other plugins and goes on with the hosts that it has.
    """

    def __init__(self, text):
        super().__init__(PARSER_ERROR)
        self.text = text

    def __str__(self):
        return self.text


class InventoryModule(BaseInventoryPlugin):
    NAME = "mailops.mta.fleet"

    def verify_file(self, path):
        """Ours is also a file that cannot be read, and one of another name that names this plugin: parse says so."""
        if path.endswith(fleet_file.YAML) and os.path.lexists(path):
            return fleet_file.is_fleet_file(path) or fleet_file.fleet_of(path) is not None or fleet_file.says_so(path)
        return False

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        if trust_as_template is None:
            self._refuse(
                f"mailops.mta needs ansible-core 2.19 or newer, and this is {core_version}. Install a newer one."
            )
        if fleet_file.fleet_of(path):
            return  # Ansible walks through a whole directory; a fragment is read with its fleet
        if not fleet_file.is_fleet_file(path):
            self._refuse(f"{path} is no name of a fleet file. Name the file fleet.yml, or with .fleet.yml at its end.")
        self._be_alone(path)
        fleet, findings = fleet_file.read(path)
        if fleet is None:
            self._refuse(
                f"The fleet in {path} is refused, {len(errors(findings))} error(s); no host was touched.\n"
                f"{report(findings)}\nCorrect the file, then look at it with: ansible-inventory -i {path} --graph"
            )
        for finding in findings:
            self.display.warning(str(finding).partition(": ")[2])
        self._fill(fleet)

    def _refuse(self, text):
        self.display.error(text)
        raise Refused(text)

    def _be_alone(self, path):
        other = self.inventory.hosts.get("fleet")
        if other is None:
            return
        place = other.vars.get("inventory_file") or "another inventory source"
        if "mta_fleet" not in other.vars:
            self._refuse(f"{place} has a host 'fleet', which {path} needs for itself. Rename the host in {place}.")
        if os.path.realpath(place) != os.path.realpath(path):
            self._refuse(
                f"{place} and {path} are two fleets, and an inventory holds one: their hosts, keys and records would"
                " mix. Give Ansible one of the two, or unite them in one file."
            )

    def _fill(self, fleet):
        for group in ("mta", "mta_sts", "control"):
            self.inventory.add_group(group)
        self.inventory.add_host("fleet", group="control")
        self._variables(
            "fleet",
            {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                **derive.fleet_variables(fleet),
            },
        )
        for name, host in fleet.hosts.items():
            self.inventory.add_host(name)
            groups = ["mta", f"engine_{host.engine}"] if host.is_mta else []
            for group in [*groups, "mta_sts"] if fleet.policies_on(name) else groups:
                self.inventory.add_host(name, group=self.inventory.add_group(group))
            self._variables(name, derive.host_variables(fleet, name))
            for key, value in host.variables.items():
                self.inventory.set_variable(name, key, _trusted(value))
        for stream in fleet.streams.values():
            group = self.inventory.add_group(f"stream_{stream.name}")
            for address in stream.addresses:
                self.inventory.add_host(address.host, group=group)

    def _variables(self, host, variables):
        # Straight to the host: through the inventory, Ansible tags each of a million derived values with the
        # file it came from, which takes twenty seconds for a fleet of 200 hosts.
        for key, value in variables.items():
            self.inventory.hosts[host].set_variable(key, value)


def _trusted(value):
    """Connection variables may hold templates, as in any inventory."""
    return trust_as_template(value) if isinstance(value, str) else value
