#!/usr/bin/env python
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of moto (5.2) with the change batches of Route 53: as a whole or not at all, and exact.

moto keeps a journal instead: it lets a second CREATE through, and refuses DELETE and CREATE that lead back to an
earlier value. Arguments are those of moto.server, and first the zones to make: ``--zone NAME``.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from moto.route53 import models
from moto.route53.exceptions import Route53ClientError
from moto.server import main

_carry_out = models.Route53Backend.change_resource_record_sets


class _NoJournal(models.ChangeList):
    """Remembers nothing and finds every deletion in order: the batch was judged before."""

    def append(self, item: Any) -> None:
        pass

    def has_insert_or_update(self, new_rr_set: dict[str, Any]) -> bool:
        return True


def _change(self: models.Route53Backend, zoneid: str, change_list: list[dict[str, Any]]) -> None:
    zone = self.get_hosted_zone(zoneid)
    now = {(each.name, each.type): (str(each.ttl), sorted(each.records)) for each in zone.rrsets}
    for change in change_list:
        one = change["ResourceRecordSet"]
        key = (one["Name"], one["Type"])
        asked = (str(one.get("TTL")), sorted(each["Value"] for each in one["ResourceRecords"]))
        what = f"resource record set [name='{key[0]}', type='{key[1]}']"
        if change["Action"] == "CREATE":
            if key in now:
                raise Route53ClientError("InvalidChangeBatch", f"[Tried to create {what} but it already exists]")
            now[key] = asked
        elif key not in now:
            raise Route53ClientError("InvalidChangeBatch", f"[Tried to delete {what} but it was not found]")
        elif now.pop(key) != asked:
            said = f"[Tried to delete {what} but the values provided do not match the current values]"
            raise Route53ClientError("InvalidChangeBatch", said)
    zone.rr_changes = _NoJournal()
    _carry_out(self, zoneid, change_list)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--zone", action="append", default=[])
    options, rest = parser.parse_known_args()
    models.Route53Backend.change_resource_record_sets = _change  # type: ignore[method-assign]
    backend = models.route53_backends["123456789012"]["aws"]  # the account of every key that moto does not know
    for name in options.zone:
        backend.create_hosted_zone(f"{name}.", private_zone=False, caller_reference=name)
    sys.exit(main(rest))
