# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics pass the filter unchanged or not at all; which lines are refused, the tests of dkim_rotation hold."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mailops.mta.plugins.filter import dkim_metrics
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import report


def test_metrics_pass_unchanged_or_not_at_all() -> None:
    passes = dkim_metrics.FilterModule().filters()["dkim_metrics"]
    metrics = f"mta_dkim_keys {len(report.GAUGES)}\n"
    assert passes(metrics) == metrics
    with pytest.raises(AnsibleFilterError, match="no series of DKIM keys"):
        passes(f"{metrics}mta_dns_audit_ok 1\n")
    with pytest.raises(AnsibleFilterError, match="a text is expected"):
        passes({"metrics": metrics})
