"""Time that a test owns: it stands still until it is told to go on.

`ManualClock` is one machine's two readings. `SkewedClock` is another machine's view of the same time: it started at
another moment and runs a little fast or slow, so code that compares readings of two machines is found out. It may jump
ahead, as after a sleep of the whole machine.

Invariant: `now` never goes back; `time` may be set anywhere, as on a real machine.
"""

from __future__ import annotations

from minireduce.errors import InvariantViolation


class ManualClock:
    """A clock that moves only by `advance`. Satisfies `minireduce.clock.Clock`."""

    def __init__(self, now: float = 0.0, *, time: float = 1_700_000_000.0) -> None:
        self._now = now
        self._time = time

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return self._time

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on both readings."""
        if seconds < 0:
            raise InvariantViolation(f"a monotonic clock cannot go back {-seconds} s")
        self._now += seconds
        self._time += seconds

    def advance_to(self, now: float) -> None:
        """Let time pass until `now`."""
        if now > self._now:
            self._time += now - self._now
            self._now = now

    def set_time(self, time: float) -> None:
        """Somebody set the wall clock; intervals are not touched by that."""
        self._time = time


class SkewedClock:
    """What another machine reads while `base` reads the truth: `offset_s` apart, `drift` seconds a second too fast."""

    def __init__(self, base: ManualClock, *, offset_s: float = 0.0, drift: float = 0.0) -> None:
        self._base = base
        self._offset_s = offset_s
        self._rate = 1.0 + drift

    def now(self) -> float:
        return self._offset_s + self._base.now() * self._rate

    def jump(self, seconds: float) -> None:
        """This machine's time goes ahead at once."""
        self._offset_s += seconds

    def time(self) -> float:
        return self._base.time() + self._offset_s
