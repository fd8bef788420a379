"""A master that keeps what it no longer needs is found."""

from __future__ import annotations

import pytest

from minireduce.core.compute.history import History
from minireduce.testing import sim

pytestmark = pytest.mark.timeout(600)


def test_a_master_that_keeps_the_tasks_of_jobs_that_are_over_is_found(monkeypatch):
    real = History.keep

    def keep(history, job, *rest):
        real(history, job, *rest)
        vars(history).setdefault("kept", []).append(job)

    monkeypatch.setattr(History, "keep", keep)
    errors = [sim.run_seed(seed).error for seed in range(3)]
    assert any("all jobs are over, but the master keeps" in error for error in errors), errors
