"""The simulation finds what it should: each planted bug is caught within a bounded number of seeds."""

from __future__ import annotations

import pytest

from minireduce.testing.planted import PLANTED, PLANTED_BESIDES
from minireduce.testing.planting import PlantedBug, error_of_storage

SEEDS_MAX = 150
SEEDS_OF_A_NIGHT = 1_000
ALL = (*PLANTED, *PLANTED_BESIDES)


def _id_of(bug: PlantedBug) -> str:
    return bug.name.replace(" ", "_")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", ALL, ids=_id_of)
def test_planted_bug_is_caught(bug: PlantedBug, record_property):
    caught = bug.hunt(range(bug.first_seed, bug.first_seed + SEEDS_MAX))
    assert caught is not None, f"{bug.name!r} was not found in {SEEDS_MAX} seeds from {bug.first_seed} on"
    assert caught.seed < SEEDS_OF_A_NIGHT
    record_property("caught_by_seed", caught.seed)
    print(f"{bug.name}: caught by seed {caught.seed}: {caught.error[:160]}")
    assert not bug.error_of(caught.seed), "the same seed holds without the bug"


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("bug", ALL, ids=_id_of)
def test_planted_bug_is_caught_within_a_thousand_seeds_from_the_first_on(bug: PlantedBug):
    caught = bug.hunt(range(SEEDS_OF_A_NIGHT))
    assert caught is not None
    print(f"{bug.name}: caught by seed {caught.seed}")


def test_the_twenty_that_must_be_found_are_these():
    assert {bug.name for bug in PLANTED} == {
        "reply before persist",
        "block fsync left out",
        "directory fsync left out",
        "zombie wins",
        "stale epoch accepted",
        "old incarnation accepted",
        "repeated report counted",
        "lost reply never resent",
        "counter doubled",
        "finished reduce run again",
        "lost map output not made again",
        "fetch failure ignored",
        "corrupt replica counted as good",
        "surplus removed on a stale view",
        "stale generation accepted",
        "lease recovery takes the longest replica",
        "record at a split edge doubled",
        "locality wait without end",
        "repair without limit",
        "backup on the same worker",
    }
    assert len({bug.name for bug in ALL}) == len(ALL) == 23


def test_the_four_of_the_block_store_are_judged_by_its_own_simulation():
    assert {bug.name for bug in ALL if bug.error_of is error_of_storage} == {
        "surplus removed on a stale view",
        "stale generation accepted",
        "lease recovery takes the longest replica",
        "repair without limit",
    }
