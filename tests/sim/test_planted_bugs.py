"""The simulation finds what it should: each planted bug is caught within a bounded number of seeds."""

from __future__ import annotations

import pytest

from minireduce.testing import sim
from minireduce.testing.planted import PLANTED, PlantedBug

SEEDS_MAX = 150
SEEDS_OF_A_NIGHT = 1_000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name.replace(" ", "_"))
def test_planted_bug_is_caught(bug: PlantedBug, record_property):
    outcome = bug.hunt(range(bug.first_seed, bug.first_seed + SEEDS_MAX))
    assert outcome is not None, f"{bug.name!r} was not found in {SEEDS_MAX} seeds from {bug.first_seed} on"
    assert outcome.seed < SEEDS_OF_A_NIGHT
    record_property("caught_by_seed", outcome.seed)
    print(f"{bug.name}: caught by seed {outcome.seed}: {outcome.error[:160]}")
    assert not sim.run_seed(outcome.seed).error, "the same seed holds without the bug"


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name.replace(" ", "_"))
def test_planted_bug_is_caught_within_a_thousand_seeds_from_the_first_on(bug: PlantedBug):
    outcome = bug.hunt(range(SEEDS_OF_A_NIGHT))
    assert outcome is not None
    print(f"{bug.name}: caught by seed {outcome.seed}")


def test_there_are_at_least_twenty_and_each_has_its_name():
    assert len({bug.name for bug in PLANTED}) == len(PLANTED) >= 20
