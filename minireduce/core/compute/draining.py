"""Workers that take in no more work: they are to be done without, or stop in good order."""

from __future__ import annotations

from minireduce.core.compute import homes
from minireduce.core.compute.state import ComputeState
from minireduce.ids import WorkerId


def worker_drains(state: ComputeState, worker: WorkerId) -> None:
    """A worker takes in no more: what waits to come to it need not wait for that, and what only it holds is wanted
    elsewhere.
    """
    homes.leave(state, worker)
    state.copies.worker_drains(worker)
    state.ask_everybody()  # what avoided the others may come to them now


def worker_stays(state: ComputeState) -> None:
    """A worker that was to be done without takes work again."""
    state.want_copies()
    state.ask_everybody()
