"""The one retry policy: what a client does while the other side cannot answer.

Only `Unavailable` is tried again; every other error is an answer. Pauses double up to a bound, and each is drawn from
the upper half of its range, so that clients that lost the same master do not come back in step. A master that has never
answered is given up soon, since most often its address is wrong; one that has answered is waited for as long as its
workers wait for it.

The clock, the pause and the draw are given, so that tests neither wait nor chance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from minireduce.errors import Unavailable

T = TypeVar("T")

FIRST_PAUSE_S = 0.05
PAUSE_MAX_S = 2.0


@dataclass
class Retry:
    """Calls something until it answers, or until `first_wait_s` or `wait_s` have passed without an answer.

    `on_wait(error, waited_s)` is called before each pause, for whoever shows progress.
    """

    first_wait_s: float
    wait_s: float
    on_wait: Callable[[Unavailable, float], None] | None = None
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    draw: Callable[[float, float], float] = field(default_factory=lambda: random.SystemRandom().uniform)
    has_answered: bool = False

    def call(self, attempt: Callable[[], T]) -> T:
        """What `attempt` answers. Raises the last Unavailable when time is up, and any other error at once."""
        began = self.clock()
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                answer = attempt()
            except Unavailable as error:
                waited_s = self.clock() - began
                if waited_s + pause_s > (self.wait_s if self.has_answered else self.first_wait_s):
                    raise
                if self.on_wait is not None:
                    self.on_wait(error, waited_s)
                self.pause(self.draw(pause_s / 2, pause_s))
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
            else:
                self.has_answered = True
                return answer
