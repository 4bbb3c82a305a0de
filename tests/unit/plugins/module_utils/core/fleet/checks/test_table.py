# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of checks names each check once."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from ansible_collections.mailops.mta.plugins.module_utils.core.fleet.checks import table

FOLDER = Path(inspect.getfile(table)).parent


def test_every_check_of_the_folder_is_in_the_table_once():
    written = []
    for path in FOLDER.glob("*.py"):
        module = importlib.import_module(f"{table.__name__.rpartition('.')[0]}.{path.stem}")
        for name, value in inspect.getmembers(module, inspect.isfunction):
            if module is not table and value.__module__ == module.__name__ and not name.startswith("_"):
                written.append(value)
    assert len(table.CHECKS) == len(set(table.CHECKS))
    assert set(table.CHECKS) == set(written)
