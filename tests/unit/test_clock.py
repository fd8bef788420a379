from __future__ import annotations

from minireduce.clock import Clock, SystemClock


def test_now_never_goes_back():
    clock: Clock = SystemClock()
    readings = [clock.now() for _ in range(1000)]
    assert readings == sorted(readings)


def test_time_names_a_moment_of_this_century():
    year_2020_s, year_2100_s = 1_577_836_800, 4_102_444_800
    assert year_2020_s < SystemClock().time() < year_2100_s
