"""A job's attempts laid out over time: which slot of which worker each took, as a trace that other programs read.

The master says when an attempt was launched, when it started (had its input and a slot) and when it ended, but slots
have no names. So each attempt is put into the first row of its worker that is free at its start; there are as many rows
as slots were used. The time between launch and start, in which an attempt waits for its input and a slot, takes
rows of its own.

The trace is in the event format of Chrome's tracing, which Perfetto reads too: a process for each worker, a thread for
each row, times in microseconds since the job was submitted. How an attempt ended is its category, part of its name
(viewers colour by name, numbers aside) and, for viewers that know colours, its `cname`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from minireduce.core.views import AttemptView, JobView, TaskView
from minireduce.frozen import dataclass
from minireduce.ids import WorkerId

WAITING_S_MIN = 0.001
"""A shorter time between launch and start is not shown."""

COLOURS = {
    "succeeded": "good",
    "failed": "terrible",
    "lost": "bad",
    "killed": "grey",
    "returned": "grey",
    "running": "thread_state_running",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of one attempt's time in one row of its worker; both count from 0."""

    attempt: AttemptView
    worker: WorkerId
    row: int
    is_waiting: bool
    begin_s: float
    end_s: float


def lay_out(tasks: Iterable[TaskView]) -> list[Bar]:
    """The attempts of a job as bars, by worker and time; bars of one row do not overlap."""
    attempts = [attempt for task in tasks for attempt in task.attempts]
    bars: list[Bar] = []
    for is_waiting in (False, True):
        rows: dict[WorkerId, list[float]] = {}
        stretches = [
            (begin_s, end_s, attempt)
            for attempt in attempts
            for begin_s, end_s in [_stretch(attempt, is_waiting=is_waiting)]
            if end_s > begin_s or (not is_waiting and attempt.started_at_s >= 0)
        ]
        for begin_s, end_s, attempt in sorted(stretches, key=lambda each: (each[0], each[2].attempt)):
            ends = rows.setdefault(attempt.worker, [])
            row = next((row for row, free_s in enumerate(ends) if free_s <= begin_s), len(ends))
            ends[row : row + 1] = [end_s]
            bars.append(Bar(attempt, attempt.worker, row, is_waiting, begin_s, end_s))
    return sorted(bars, key=lambda bar: (bar.worker, bar.is_waiting, bar.row, bar.begin_s))


def _stretch(attempt: AttemptView, *, is_waiting: bool) -> tuple[float, float]:
    """From when to when it ran, or waited; nothing is an empty stretch."""
    end_s = attempt.launched_at_s + attempt.elapsed_s
    if not is_waiting:
        return (attempt.started_at_s, end_s) if attempt.started_at_s >= 0 else (0.0, 0.0)
    until_s = attempt.started_at_s if attempt.started_at_s >= 0 else end_s
    return (attempt.launched_at_s, until_s) if until_s - attempt.launched_at_s >= WAITING_S_MIN else (0.0, 0.0)


def to_trace(job: JobView, bars: Sequence[Bar]) -> dict[str, Any]:
    """The trace, ready to be written as JSON."""
    workers = {worker: number for number, worker in enumerate(sorted({bar.worker for bar in bars}), start=1)}
    slots = max((bar.row + 1 for bar in bars if not bar.is_waiting), default=0)
    events: list[dict[str, Any]] = [
        _name("process_name", pid, 0, f"worker {worker}") for worker, pid in workers.items()
    ]
    rows = {(bar.worker, bar.is_waiting, bar.row) for bar in bars}
    for worker, is_waiting, row in sorted(rows):
        text = f"waiting {row}" if is_waiting else f"slot {row}"
        events.append(_name("thread_name", workers[worker], _thread(row, slots, is_waiting=is_waiting), text))
    for bar in bars:
        task, attempt = bar.attempt.attempt.task, bar.attempt
        doing = "waits: " if bar.is_waiting else ""
        events.append(
            {
                "ph": "X",
                "name": f"{doing}{task.kind} {task.index} {attempt.condition}",
                "cat": attempt.state,
                "cname": COLOURS.get(attempt.state, "grey"),
                "pid": workers[bar.worker],
                "tid": _thread(bar.row, slots, is_waiting=bar.is_waiting),
                "ts": round(bar.begin_s * 1e6),
                "dur": max(1, round((bar.end_s - bar.begin_s) * 1e6)),
                "args": {
                    "attempt": str(attempt.attempt),
                    "step": task.step,
                    "state": attempt.state,
                    "message": attempt.message,
                },
            }
        )
    about = {"job": job.job, "name": job.name, "state": str(job.state), "reason": job.reason}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _thread(row: int, slots: int, *, is_waiting: bool) -> int:
    """The number of a row, from 1; those in which attempts wait come after all slots."""
    return row + 1 + (slots if is_waiting else 0)


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}
