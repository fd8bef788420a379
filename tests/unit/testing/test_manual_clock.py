from __future__ import annotations

import pytest

from minireduce.errors import InvariantViolation
from minireduce.testing.clock import ManualClock, SkewedClock


def test_time_stands_still_until_it_is_told_to_go_on():
    clock = ManualClock(now=5.0, time=1000.0)
    assert (clock.now(), clock.time()) == (5.0, 1000.0)
    clock.advance(2.5)
    assert (clock.now(), clock.time()) == (7.5, 1002.5)


def test_the_monotonic_reading_never_goes_back_but_the_wall_clock_may():
    clock = ManualClock(now=5.0)
    with pytest.raises(InvariantViolation, match="cannot go back"):
        clock.advance(-1.0)
    clock.advance_to(4.0)  # what was due is late by now
    assert clock.now() == 5.0
    clock.set_time(10.0)
    assert (clock.now(), clock.time()) == (5.0, 10.0)


def test_a_skewed_clock_is_apart_and_drifts():
    base = ManualClock()
    skewed = SkewedClock(base, offset_s=100.0, drift=0.01)
    base.advance(1000.0)
    assert skewed.now() == pytest.approx(100.0 + 1010.0)
