# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# demo: boot the lab, set up the fleet, send mail, print the proof     test: everything that gates a change
# bench: the figures of docs/performance.md (BENCH="fleet dns")        lint: the quick gates only
# clean: remove what the others made in this checkout and in containers; the cache stays (CACHE=1 removes it as well)
.POSIX:
.PHONY: demo test bench lint clean python system
.DEFAULT_GOAL = test
PYTHON = .venv/bin/python
CACHE_HOME = $${XDG_CACHE_HOME:-$$HOME/.cache}/mailops-mta

python:
	@sh tests/tools/bootstrap.sh python

system:
	@sh tests/tools/bootstrap.sh system

demo: python system
	$(PYTHON) molecule/lab.py demo

test: python system
	@$(PYTHON) tests/tools/gates.py $(GATES)

lint: python
	$(PYTHON) -m nox --tags quick

bench: python system
	$(PYTHON) -m nox --session bench -- $(BENCH)

clean:
	if [ -x $(PYTHON) ] && command -v podman >/dev/null; then $(PYTHON) molecule/lab.py clean; fi
	rm -rf build .venv .hypothesis .ansible .ruff_cache .nox
	if [ -n "$(CACHE)" ]; then rm -rf "$(CACHE_HOME)"; fi
