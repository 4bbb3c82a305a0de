# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.milter import workers


@pytest.mark.parametrize(("cpus", "wanted"), [(1, 2), (2, 2), (4, 2), (5, 3), (16, 8)])
def test_half_the_cpus_sign_and_never_one_alone(cpus: int, wanted: int) -> None:
    assert workers(cpus) == wanted
