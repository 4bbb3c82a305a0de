# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The assumptions as data: our own checker shares each of them, and the judgement tells right from wrong."""

from __future__ import annotations

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import assumptions, checks
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.assumptions import Outcome, Said, Trial
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors

MAIN = "/etc/pmta/config"
GOOD, BAD = Said(0, ()), Said(0, ("Error in line 8 of /etc/pmta/config: argument missing",))


def files_of(trial: Trial) -> dict[str, str]:
    """By path, as PowerMTA would find them; a symbolic link is a second path."""
    links = {name: target for name, target in trial.files if "/" not in name}
    files = {MAIN: assumptions.BASE + trial.text}
    for name, text in trial.files:
        if "/" in name:
            paths = [name, *(name.replace(target, link, 1) for link, target in links.items())]
            files.update({f"{assumptions.EXTRA}/{path}": text for path in paths})
    return files


@pytest.mark.parametrize("trial", assumptions.TRIALS, ids=lambda trial: trial.name)
def test_our_checker_says_the_same(trial: Trial) -> None:
    found = errors(checks.check(files_of(trial), MAIN))
    assert bool(found) != trial.accepted, "\n".join(map(str, found))
    if trial.line:
        place = f"{assumptions.EXTRA}/{trial.files[0][0]}" if trial.files else MAIN
        assert any(finding.where.startswith(f"{place}:{trial.line}:") for finding in found)


def test_names_are_their_own() -> None:
    names = [trial.name for trial in assumptions.TRIALS]
    assert len({*names}) == len(names)


def judged(**tested: Said) -> dict[str, Outcome]:
    given = {name.replace("__", ".").replace("_", "-"): each for name, each in tested.items()}
    return {each.name: each for each in assumptions.judged(assumptions.TRIALS, given, "")}


def test_each_trial_is_judged_by_what_was_expected_of_it() -> None:
    found = judged(config__base=GOOD, config__pool=GOOD, config__rewrite=BAD, refuses__place=BAD, refuses__section=GOOD)
    assert found["config.pool"].verdict == assumptions.HELD
    assert found["config.rewrite"].verdict == assumptions.FAILED
    assert "argument missing" in found["config.rewrite"].seen
    assert found["refuses.place"].verdict == assumptions.HELD
    assert found["refuses.section"].verdict == assumptions.FAILED
    assert found["config.cold"].verdict == assumptions.UNTRIED
    assert found["test-config.errors"].verdict == assumptions.FAILED, "refuses.section had no error"


def test_the_line_of_an_error_counts() -> None:
    assert judged(config__base=GOOD, refuses__directive=BAD)["refuses.directive"].verdict == assumptions.HELD
    elsewhere = Said(1, ("Error in line 3 of /etc/pmta/config: unknown directive",))
    assert judged(config__base=GOOD, refuses__directive=elsewhere)["refuses.directive"].verdict == assumptions.FAILED
    nowhere = Said(1, ("Error: unknown directive",))
    assert judged(config__base=GOOD, refuses__directive=nowhere)["refuses.directive"].verdict == assumptions.FAILED


def test_errors_on_the_other_channel_are_seen_and_told() -> None:
    found = judged(config__base=GOOD, refuses__place=Said(1, (), BAD.stdout))
    assert found["refuses.place"].verdict == assumptions.HELD
    assert found["test-config.errors"].verdict == assumptions.FAILED
    assert found["test-config.errors"].seen == "exit codes: [0] for accepted, [1] for refused"


def test_nothing_is_concluded_when_the_smallest_configuration_is_refused() -> None:
    found = judged(config__base=BAD, config__pool=GOOD, refuses__place=BAD)
    assert found["config.base"].verdict == assumptions.FAILED
    assert found["config.pool"].verdict == found["refuses.place"].verdict == assumptions.UNTRIED
    assert "smallest" in found["config.pool"].seen


def test_a_report_counts_and_says_where_it_ran() -> None:
    outcomes = [
        *assumptions.judged(assumptions.TRIALS, {trial.name: GOOD for trial in assumptions.TRIALS}, ""),
        *assumptions.by_mail(False),
    ]
    lines = assumptions.report({"product": "PowerMTA 5.0r8"}, outcomes, {"show queues": ["data.queues[].name: text"]})
    assert not any("stand-in" in line.lower() for line in lines)
    assert f"{len(outcomes)} assumptions" in lines[-1]
    assert sum(line.startswith("not tried") for line in lines) == len(assumptions.MAIL)
    assert lines.index(next(line for line in lines if line.startswith("did not hold"))) < lines.index(
        next(line for line in lines if line.startswith("held"))
    )
    standin = assumptions.report({"packages": "powermta-standin 5.0r8+standin1"}, outcomes, {})
    assert "STAND-IN" in standin[3]
    assert "stand-in" in standin[-1]
