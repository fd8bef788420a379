"""The ordinary run of simulation seeds. More: `python -m minireduce.testing.sim --seeds A:B`, or the nightly marker."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from minireduce.core.compute.load import WorkerLoad
from minireduce.testing import sim
from minireduce.testing.draw import Cut, build
from minireduce.testing.faults import FaultKind
from minireduce.testing.planted import PLANTED
from minireduce.testing.shrink import shrink

SEEDS = 300
PARTS = 4
EVENTS_MIN = 3_000_000
CALM_SEEDS = range(10)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_three_hundred_seeds_hold_and_every_kind_of_fault_strikes_in_each_quarter_of_them(part: int):
    each = SEEDS // PARTS
    assert each >= sim.SEEDS_THAT_SHOW_EVERY_FAULT
    summary = sim.run_seeds(range(part * each, (part + 1) * each))
    print(sim.report(summary, 0.0))
    assert not summary.failed, sim.report(summary, 0.0)
    assert not summary.invalid
    assert not summary.never_struck
    assert summary.events > EVENTS_MIN / PARTS


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_ten_thousand_more_seeds_hold():
    assert sim.run_seeds(range(1_000, 11_000)).is_green


def test_the_same_seeds_give_the_same_trace_in_processes_that_hash_strings_differently():
    def hashes(hash_seed: str) -> str:
        command = [sys.executable, "-m", "minireduce.testing.sim", "--seeds", "0:6", "--hashes"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout

    first, second = hashes("1"), hashes("2")
    assert first == second
    assert len({line.split()[1] for line in first.splitlines()}) == 6


def test_another_seed_is_another_run():
    assert sim.run_seed(1).trace != sim.run_seed(2).trace


def test_collecting_the_story_does_not_change_the_run():
    silent, told = sim.run_seed(3), sim.run_seed(3, is_told=True)
    assert (silent.trace, silent.events) == (told.trace, told.events)
    assert not silent.story
    assert "launches map 0 on worker-" in told.story


def test_a_failing_seed_prints_the_one_line_that_repeats_it(monkeypatch, capsys):
    monkeypatch.setattr(sim, "LIVENESS_S_MAX", -1_000.0)  # which is before any job of it ends
    monkeypatch.setattr(sim, "SHRUNK_MAX", 0)
    assert sim.main(["--seeds", "5:6"]) == 1
    printed = capsys.readouterr().out
    assert "python -m minireduce.testing.sim --seeds 5:6 --story" in printed
    assert "0 held, 1 failed, 0 invalid" in printed


def test_a_failing_seed_is_shrunk_to_what_it_needs_and_still_fails(capsys):
    bug = next(bug for bug in PLANTED if bug.name == "fetch failure ignored")
    with bug.planted():
        caught = bug.hunt(range(100))
        assert caught is not None
        _, plan = build(caught.seed)
        small = sim.shrunk(sim.run_seed(caught.seed))
        assert small.error
        assert small.cut.faults is not None
        assert len(small.cut.faults) <= 3 < len(plan.faults)
        command = sim.command_for(small.seed, small.cut)
        print(command)
        assert sim.main(shlex.split(command.removesuffix("--story"))[3:]) == 1
    assert sim.main(shlex.split(command.removesuffix("--story"))[3:]) == 0
    assert "1 held, 0 failed" in capsys.readouterr().out


def test_shrinking_finds_the_two_of_sixteen_that_matter_together():
    asked: list[Cut] = []

    def fails(cut: Cut) -> bool:
        asked.append(cut)
        return cut.faults is None or {3, 11} <= cut.faults

    assert shrink(16, 4, fails) == Cut(frozenset({3, 11}), frozenset({3}), has_weather=False)
    assert len(asked) < 60


def test_when_nothing_fails_but_user_code_every_attempt_counts():
    for seed in CALM_SEEDS:
        outcome = sim.run_seed(seed, is_calm=True)
        assert not outcome.error, f"seed {seed}: {outcome.error}"


def test_a_seed_whose_faults_all_missed_is_invalid_and_not_green(monkeypatch):
    monkeypatch.setattr("minireduce.testing.injector.Injector._strike", lambda *_: None)
    summary = sim.run_seeds(range(2))
    assert summary.invalid == [0, 1]
    assert not summary.failed
    assert not summary.is_green


def test_a_scheduler_that_leaves_slots_idle_while_tasks_wait_is_found(monkeypatch):
    monkeypatch.setattr(WorkerLoad, "slots_free", property(lambda load: 1 - load.slots_used))
    errors = [sim.run_seed(seed).error for seed in range(8)]
    assert any("slots stood idle" in error for error in errors)


def test_many_seeds_in_which_a_fault_never_struck_are_not_green():
    summary = sim.Summary(seeds=300)
    summary.strikes.update({kind: 1 for kind in FaultKind if kind is not FaultKind.LOG_FULL})
    assert summary.never_struck == [FaultKind.LOG_FULL]
    assert not summary.is_green
