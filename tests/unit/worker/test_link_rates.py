"""When answers of a source are compressed."""

from __future__ import annotations

import pytest

from minireduce.config import Compression
from minireduce.worker.link_rates import JUDGED_BYTES_MIN, TRY_OTHER_EVERY, LinkRates

MIB = 1 << 20
FAST, SLOW, SLOWER = 500 * MIB, 20 * MIB, 10 * MIB


def ask(rates: LinkRates, plain: float, compressed: float, bytes_total: int = 8 * MIB, address: str = "a:1") -> bool:
    """One request over a source of these rates; whether it was compressed."""
    asked = rates.begin(address)
    rates.end(asked, bytes_total, bytes_total / (compressed if asked.is_compressed else plain))
    return asked.is_compressed


def asks(rates: LinkRates, plain: float, compressed: float, times: int = 10 * TRY_OTHER_EVERY) -> float:
    return sum(ask(rates, plain, compressed) for _ in range(times)) / times


@pytest.mark.parametrize(("choice", "share"), [(Compression.ALWAYS, 1.0), (Compression.NEVER, 0.0)])
def test_who_says_always_or_never_gets_that(choice: Compression, share: float):
    assert asks(LinkRates(choice), SLOW, FAST) == share
    assert asks(LinkRates(choice), FAST, SLOW) == share


def test_a_source_that_is_fast_is_never_asked_to_compress():
    assert asks(LinkRates(Compression.AUTO), FAST, 2 * FAST) == 0


def test_a_slow_source_compresses_where_that_brings_more():
    assert asks(LinkRates(Compression.AUTO), SLOW, 3 * SLOW) > 0.9


def test_a_slow_source_does_not_compress_where_that_brings_less():
    assert 0 < asks(LinkRates(Compression.AUTO), SLOW, SLOWER) < 0.1


def test_a_link_that_becomes_fast_is_noticed_and_one_that_becomes_slow_too():
    rates = LinkRates(Compression.AUTO)
    asks(rates, SLOW, 3 * SLOW)
    asks(rates, FAST, 3 * SLOW)
    assert asks(rates, FAST, 3 * SLOW) == 0
    asks(rates, SLOWER, 3 * SLOW)
    assert asks(rates, SLOWER, 3 * SLOW) > 0.9


def test_small_answers_say_nothing():
    rates = LinkRates(Compression.AUTO)
    assert not any(ask(rates, 1.0, FAST, JUDGED_BYTES_MIN - 1) for _ in range(100))


def test_requests_that_share_a_link_are_judged_together():
    rates = LinkRates(Compression.AUTO)
    asked = [rates.begin("a:1") for _ in range(4)]
    for each in asked:  # each gets a quarter of a fast link
        rates.end(each, 8 * MIB, 4 * 8 * MIB / FAST)
    assert asks(rates, FAST, 2 * FAST) == 0


def test_each_source_is_judged_by_itself():
    rates = LinkRates(Compression.AUTO)
    asks(rates, SLOW, 3 * SLOW)
    assert not any(ask(rates, FAST, FAST, address="b:1") for _ in range(20))
    assert asks(rates, SLOW, 3 * SLOW) > 0.9
