"""Compressing is tried where writes are slow, goes on where it saves more time than it takes, and is left where not."""

from __future__ import annotations

from minireduce.engine.disk_rates import TRIED_BELOW_BYTES_PER_S, TRY_EVERY, DiskRates

FRAME = 256 << 10
SLOW_S = FRAME / 100e6
FAST_S = FRAME / 2000e6


def written(rates: DiskRates, frames: int, *, each_s: float, shrinks_to: float, compressing_s: float = 0.0003) -> int:
    """Write so many frames as the rates say; how many were compressed. `each_s` is for a whole one."""
    compressed = 0
    for _ in range(frames):
        share = 1.0
        if rates.is_worth_trying():
            compressed += 1
            rates.tried(FRAME, int(FRAME * shrinks_to), compressing_s)
            share = shrinks_to
        rates.wrote(int(FRAME * share), each_s * share)
    return compressed


def test_nothing_is_tried_before_a_mebibyte_was_written() -> None:
    rates = DiskRates()
    assert written(rates, 4, each_s=SLOW_S, shrinks_to=0.3) == 0
    assert rates.is_worth_trying()


def test_nothing_is_tried_while_the_page_cache_takes_all() -> None:
    assert written(DiskRates(), 1000, each_s=FAST_S, shrinks_to=0.1, compressing_s=0.0) == 0


def test_on_a_slow_disk_all_that_shrinks_is_compressed() -> None:
    assert written(DiskRates(), 104, each_s=SLOW_S, shrinks_to=0.3) == 100


def test_what_does_not_shrink_is_tried_now_and_then() -> None:
    tried = written(DiskRates(), 4 + 1 + 10 * TRY_EVERY, each_s=SLOW_S, shrinks_to=1.0)
    assert tried == 1 + 10


def test_compressing_that_takes_longer_than_it_saves_is_left() -> None:
    saved_s = SLOW_S * 0.5
    assert written(DiskRates(), 4 + 1 + TRY_EVERY, each_s=SLOW_S, shrinks_to=0.5, compressing_s=saved_s) == 2
    assert written(DiskRates(), 24, each_s=SLOW_S, shrinks_to=0.5, compressing_s=saved_s / 2) == 20


def test_it_begins_when_the_disk_becomes_the_limit_and_ends_when_it_no_longer_is() -> None:
    rates = DiskRates()
    assert written(rates, 200, each_s=FAST_S, shrinks_to=0.3) == 0
    assert written(rates, 60, each_s=SLOW_S, shrinks_to=0.3) > 40
    written(rates, 400, each_s=FAST_S, shrinks_to=0.3)
    assert written(rates, 100, each_s=FAST_S, shrinks_to=0.3) == 0


def test_data_that_begin_to_shrink_are_found() -> None:
    rates = DiskRates()
    written(rates, 100, each_s=SLOW_S, shrinks_to=1.0)
    written(rates, 10 * TRY_EVERY, each_s=SLOW_S, shrinks_to=0.2)
    assert written(rates, 50, each_s=SLOW_S, shrinks_to=0.2) == 50


def test_the_bound_is_by_bytes_as_they_are_written() -> None:
    rates = DiskRates()
    rates.wrote(2 << 20, (2 << 20) / TRIED_BELOW_BYTES_PER_S * 0.99)
    assert not rates.is_worth_trying()
    rates.wrote(1 << 20, (1 << 20) / TRIED_BELOW_BYTES_PER_S * 1.1)
    assert rates.is_worth_trying()
