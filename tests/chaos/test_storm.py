"""Processes of a real cluster are killed one after the other, the master too: the output is right, nothing is left."""

from __future__ import annotations

import os
import secrets

import pytest
from scenes.storm import Storm

SEED = int(os.environ.get("STORM_SEED", secrets.randbits(32)))


def storm(root, **sizes) -> Storm:
    made = Storm(root, SEED, **sizes)
    print(f"STORM_SEED={SEED} repeats the draws of this storm")
    made.rage()
    print(dict(made.struck))
    return made


def test_a_few_kills_over_a_short_job_leave_the_output_right_and_nothing_else(tmp_path):
    made = storm(tmp_path, kills=4, workers=4, splits=40)
    assert sum(made.struck.values()) == 4


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_twenty_kills_over_a_job_of_minutes_leave_the_output_right_and_nothing_else(tmp_path):
    made = storm(tmp_path, kills=20, workers=5, splits=400)
    assert sum(made.struck.values()) == 20
    assert made.struck["busy worker killed"] >= 5
    assert made.struck["master killed"] >= 1
