"""What a client does while the other side cannot answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from minireduce.client.retry import PAUSE_MAX_S, Retry
from minireduce.errors import NotFound, Unavailable


class Time:
    """A clock that pauses move, and nothing else."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []

    def pause(self, duration_s: float) -> None:
        self.pauses.append(duration_s)
        self.now_s += duration_s

    def retry(self, *, first_wait_s: float = 3.0, wait_s: float = 600.0) -> Retry:
        return Retry(first_wait_s, wait_s, clock=lambda: self.now_s, pause=self.pause, draw=lambda _least, most: most)


def answers_after(failures: int) -> Callable[[], str]:
    left = [failures]

    def attempt() -> str:
        if left[0]:
            left[0] -= 1
            raise Unavailable("nobody answers")
        return "here"

    return attempt


def test_a_call_is_tried_again_with_pauses_that_double() -> None:
    time = Time()
    assert time.retry().call(answers_after(4)) == "here"
    assert time.pauses == [0.05, 0.1, 0.2, 0.4]


def test_pauses_stay_below_a_bound() -> None:
    time = Time()
    retry = time.retry()
    retry.has_answered = True
    retry.call(answers_after(20))
    assert max(time.pauses) == PAUSE_MAX_S


def test_a_master_that_never_answered_is_given_up_soon() -> None:
    time = Time()
    with pytest.raises(Unavailable, match="nobody answers"):
        time.retry().call(answers_after(10_000))
    assert 1.0 < time.now_s <= 3.0


def test_a_master_that_has_answered_is_waited_for() -> None:
    time = Time()
    retry = time.retry()
    retry.call(answers_after(0))
    with pytest.raises(Unavailable):
        retry.call(answers_after(10_000))
    assert 590 < time.now_s <= 600


def test_an_error_that_is_an_answer_is_not_tried_again() -> None:
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise NotFound("no such job")

    with pytest.raises(NotFound):
        Time().retry().call(attempt)
    assert calls == [1]


def test_pauses_are_drawn_from_the_upper_half_of_their_range() -> None:
    ranges: list[tuple[float, float]] = []
    time = Time()
    retry = time.retry()
    retry.draw = lambda least, most: ranges.append((least, most)) or least
    retry.call(answers_after(2))
    assert ranges == [(0.025, 0.05), (0.05, 0.1)]


def test_who_shows_progress_hears_of_every_pause() -> None:
    heard: list[str] = []
    retry = Time().retry()
    retry.on_wait = lambda error, _waited_s: heard.append(error.message)
    retry.call(answers_after(2))
    assert heard == ["nobody answers", "nobody answers"]
