from __future__ import annotations

import random
from collections import Counter

from minireduce.testing.agenda import Agenda, Node
from minireduce.testing.clock import ManualClock
from minireduce.testing.network import SimNetwork, Weather


class Bench:
    def __init__(self, weather: Weather) -> None:
        self.agenda = Agenda(ManualClock())
        self.strikes: Counter[str] = Counter()
        self.network = SimNetwork(self.agenda, random.Random(1), weather, self.strikes)
        self.here, self.there = Node("here"), Node("there")
        self.here.start()
        self.there.start()
        self.got: list[int] = []

    def send(self, count: int, *, is_single: bool = False) -> list[int]:
        for number in range(count):
            deliver = lambda number=number: self.got.append(number)  # noqa: E731 - bound to its number
            self.network.send(self.here, self.there, deliver, is_single=is_single)
        while self.agenda.next_time() is not None:
            self.agenda.happen()
        return self.got


def test_in_fair_weather_all_arrives_once_in_order_and_late():
    bench = Bench(Weather(delay_s=(0.01, 0.5)))
    assert bench.send(100) == list(range(100))
    assert bench.agenda.clock.now() >= 0.01
    assert not bench.strikes


def test_messages_are_lost_and_the_losses_counted():
    bench = Bench(Weather(loss=0.5))
    assert len(bench.send(1000)) == 1000 - bench.strikes["message lost"]
    assert 400 < bench.strikes["message lost"] < 600


def test_messages_are_repeated_and_reordered_but_never_single_ones():
    bench = Bench(Weather(repeat=0.3, reorder=0.3))
    got = bench.send(200)
    assert len(got) == 200 + bench.strikes["message repeated"]
    assert got != sorted(got)
    assert set(got) == set(range(200))
    other = Bench(Weather(repeat=1.0, reorder=1.0))
    assert other.send(50, is_single=True) == list(range(50))


def test_a_cut_is_one_way_and_ends():
    bench = Bench(Weather())
    bench.network.cut("here", "there", 2.0)
    assert bench.network.is_cut("here", "there")
    assert not bench.network.is_cut("there", "here")
    assert bench.send(3) == []
    assert bench.strikes["message cut off"] == 3
    bench.agenda.clock.advance(2.0)
    assert bench.send(3) == [0, 1, 2]


def test_a_healed_network_loses_nothing():
    bench = Bench(Weather(loss=1.0, repeat=1.0, reorder=1.0))
    bench.network.cut("here", "there", 60.0)
    bench.network.heal()
    assert bench.send(20) == list(range(20))


def test_what_is_on_its_way_to_a_process_that_starts_again_is_lost():
    bench = Bench(Weather(delay_s=(1.0, 1.0)))
    bench.network.send(bench.here, bench.there, lambda: bench.got.append(1))
    bench.there.end()
    bench.there.start()
    assert bench.send(0) == []
