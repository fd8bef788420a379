"""Messages between simulated processes: late, lost, repeated, out of order, or all that and a link cut one way.

A link is an ordered pair of node names. What is sent on it arrives after a drawn delay, in order, unless chance says
otherwise: `Weather` holds the chances, drawn once per seed, so that some seeds have none and others lose a third.
Bytes travel, not objects: who sends encodes with the real codec, who receives decodes.

Losing messages within a stream is harsher than TCP, which loses a stream's tail or nothing; the protocol numbers and
repeats its messages, so it must stand that.

`heal` ends all of it: nothing is lost from then on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from minireduce.frozen import dataclass
from minireduce.testing.agenda import Agenda, Node


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is. Chances are per message."""

    delay_s: tuple[float, float] = (0.0005, 0.01)
    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    reorder_delay_s: float = 0.3


LOSS_BORNE_MAX = 0.01


class SimNetwork:
    """`strikes` counts what happened to messages."""

    def __init__(self, agenda: Agenda, rng: random.Random, weather: Weather, strikes: Counter[str]) -> None:
        self._agenda = agenda
        self._rng = rng
        self._weather = weather
        self._strikes = strikes
        self._cut_until: dict[tuple[str, str], float] = {}
        self._last_arrival: dict[tuple[str, str], float] = {}

    @property
    def is_stormy(self) -> bool:
        """Whether so many messages are lost or late that everything takes much longer."""
        return self._weather.loss > LOSS_BORNE_MAX or self._weather.reorder > LOSS_BORNE_MAX

    def cut(self, source: str, target: str, seconds: float) -> None:
        """Let nothing pass from `source` to `target` for a while; the other way stays open."""
        self._cut_until[source, target] = self._agenda.clock.now() + seconds

    def is_cut(self, source: str, target: str) -> bool:
        """Whether what is sent now would be lost for sure."""
        return self._cut_until.get((source, target), 0.0) > self._agenda.clock.now()

    def heal(self) -> None:
        """From now on every message arrives, once and in order."""
        self._weather = Weather(delay_s=self._weather.delay_s)
        self._cut_until.clear()

    def send(self, source: Node, target: Node, deliver: Callable[[], None], *, is_single: bool = False) -> None:
        """Let `deliver` happen at `target` after a delay, or not at all, or twice; `is_single`: once and in order."""
        link = (source.name, target.name)
        if self.is_cut(*link):
            self._strikes["message cut off"] += 1
            return
        if self._chance(self._weather.loss):
            self._strikes["message lost"] += 1
            return
        self._deliver(link, target, deliver, may_reorder=not is_single)
        if not is_single and self._chance(self._weather.repeat):
            self._strikes["message repeated"] += 1
            self._deliver(link, target, deliver, may_reorder=True)

    def _deliver(self, link: tuple[str, str], target: Node, deliver: Callable[[], None], *, may_reorder: bool) -> None:
        now = self._agenda.clock.now()
        arrival = now + self._rng.uniform(*self._weather.delay_s)
        if may_reorder and self._chance(self._weather.reorder):
            self._strikes["message reordered"] += 1
            arrival += self._rng.uniform(0.0, self._weather.reorder_delay_s)
        else:
            arrival = max(arrival, self._last_arrival.get(link, 0.0))
            self._last_arrival[link] = arrival
        self._agenda.after(arrival - now, target, deliver)

    def _chance(self, probability: float) -> bool:
        return probability > 0.0 and self._rng.random() < probability
