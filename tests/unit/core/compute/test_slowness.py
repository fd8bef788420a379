from __future__ import annotations

from minireduce.core.compute.slowness import ATTEMPTS_COUNTED_MAX, WorkerSpeed
from minireduce.core.settings import ClusterSettings

SETTINGS = ClusterSettings()


def worker_of(*speeds):
    worker = WorkerSpeed()
    for speed in speeds:
        worker.add(speed, 0.0)
    return worker


def test_one_slow_attempt_makes_no_slow_worker():
    worker = worker_of(1.0, 0.1, 1.1)
    assert not worker.judge((), 1.0, SETTINGS)
    assert not worker.is_slow


def test_several_slow_attempts_do():
    worker = worker_of(0.1, 0.2)
    assert not worker.judge((), 1.0, SETTINGS)
    worker.add(0.1, 1.0)
    assert worker.judge((), 1.0, SETTINGS)
    assert worker.is_slow


def test_attempts_that_are_overdue_count_with_those_that_ended():
    worker = worker_of(0.1)
    assert worker.judge((0.2, 0.2), 1.0, SETTINGS)
    assert worker.is_slow


def test_a_slow_worker_gets_a_share_of_its_slots_and_at_least_one():
    worker = worker_of(0.26, 0.26, 0.26)
    worker.judge((), 1.0, SETTINGS)
    assert [worker.slots_of(slots) for slots in (0, 1, 2, 8, 32)] == [0, 1, 1, 2, 8]


def test_a_worker_that_is_not_slow_gets_all_its_slots():
    worker = worker_of(0.8, 0.7, 0.6)
    worker.judge((), 1.0, SETTINGS)
    assert worker.slots_of(8) == 8


def test_a_worker_recovers_when_its_latest_attempts_are_fast():
    worker = worker_of(*[0.1] * 20)
    worker.judge((), 1.0, SETTINGS)
    for _ in range(ATTEMPTS_COUNTED_MAX // 2 + 1):
        assert worker.is_slow
        worker.add(1.0, 2.0)
    assert worker.judge((), 2.0, SETTINGS)
    assert not worker.is_slow


def test_what_was_long_ago_counts_no_more():
    worker = worker_of(0.1, 0.1, 0.1)
    worker.judge((), 1.0, SETTINGS)
    assert worker.is_slow
    assert worker.judge((), SETTINGS.slow_worker_remembered_s + 1.0, SETTINGS)
    assert not worker.is_slow
