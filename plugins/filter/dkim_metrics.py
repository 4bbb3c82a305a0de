# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: dkim_metrics
short_description: Let metrics of DKIM keys through, and nothing else
version_added: 0.2.0
author: mailops.mta contributors (@mailops)
description:
  - Returns the metrics that a key host gave, where each line is one of M(mailops.mta.dkim_rotation).
  - Fails and names the first line that is another one. A file for a textfile collector could otherwise say anything of
    the controller and of whatever else is watched there.
positional: _input
options:
  _input:
    description: RV(mailops.mta.dkim_rotation#module:metrics).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write the metrics for the textfile collector
  ansible.builtin.copy:
    content: "{{ keys.metrics | mailops.mta.dkim_metrics }}"
    dest: /var/lib/prometheus/node-exporter/dkim.prom
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The same text.
  type: str
"""

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import report


def dkim_metrics(text: Any) -> Any:
    problem = report.metrics_problem(text)
    if problem:
        raise AnsibleFilterError(problem)
    return text


class FilterModule:
    def filters(self) -> dict[str, Callable[[Any], Any]]:
        return {"dkim_metrics": dkim_metrics}
