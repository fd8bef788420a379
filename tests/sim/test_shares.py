"""Each rule of sharing that seeds are judged by is found out when it is broken."""

from __future__ import annotations

import pytest

from minireduce.core.compute.fair_share import Queue, Queues
from minireduce.core.compute.load import WorkerLoad
from minireduce.core.work.attempts import Attempts
from minireduce.testing import sim
from minireduce.testing.draw import build

pytestmark = pytest.mark.timeout(600)

SEEDS = range(24)


def first_error() -> str:
    return next((error for error in (sim.run_seed(seed).error for seed in SEEDS) if error.startswith("Wrong")), "")


def test_a_queue_that_takes_more_slots_than_it_may_is_found(monkeypatch):
    monkeypatch.setattr(Queue, "is_full", property(lambda _: False))
    assert "brought queue" in first_error()


def test_memory_that_nobody_counts_is_found(monkeypatch):
    monkeypatch.setattr(WorkerLoad, "has_memory_for", lambda *_: True)
    real = Attempts.__init__

    def without_limit(self, *, slots, memory_bytes):
        real(self, slots=slots, memory_bytes=1 << 60)

    monkeypatch.setattr(Attempts, "__init__", without_limit)
    assert "attempts that may use" in first_error()


def test_a_small_job_that_is_starved_by_a_large_one_is_found(monkeypatch):
    def first_come(self, jobs, now):
        del now
        return next((job for job in jobs if not self.of(job).is_full), None)

    monkeypatch.setattr(Queues, "first", first_come)
    assert "could use it" in first_error()


def test_books_that_do_not_agree_are_found(monkeypatch):
    def count(self, job, change):
        job.slots_used += change
        self.of(job).slots_used += max(change, 0)

    monkeypatch.setattr(Queues, "count", count)
    assert "slots, its jobs" in first_error()


def test_seeds_differ_in_all_that_is_shared():
    jobs = [client.job for seed in range(60) for client in build(seed)[0].clients]
    for trait in ("queue", "priority", "weight", "memory_bytes", "wavering"):
        assert len({getattr(job, trait) for job in jobs}) > 2, trait
    words = [[word for text in job.texts for word in text.split()] for job in jobs]
    assert sum(len(each) > 50 and max(map(each.count, set(each))) > 0.8 * len(each) for each in words) > 5
