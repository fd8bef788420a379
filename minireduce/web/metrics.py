"""The cluster in Prometheus' text format (version 0.0.4). Gauges of now: whoever wants history scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from minireduce.core.views import ClusterView, JobState, JobView, WorkerView
from minireduce.ids import TaskKind

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[dict[str, str], float]


def render(cluster: ClusterView, jobs: Sequence[JobView], workers: Sequence[WorkerView]) -> str:
    """All metrics."""
    states = Counter(job.state for job in jobs)
    live = [worker for worker in workers if worker.state == "live"]
    by_state = Counter(worker.state for worker in workers)
    running = [job for job in jobs if job.state is JobState.RUNNING]
    problems = len(cluster.problems)
    metrics: list[tuple[str, str, Iterable[Sample]]] = [
        ("minireduce_epoch", "Times that this cluster's master has started.", [({}, cluster.epoch)]),
        ("minireduce_problems", "What the master goes on in spite of, such as a failed mirror.", [({}, problems)]),
        ("minireduce_jobs", "Jobs that are remembered.", [({"state": state}, states[state]) for state in JobState]),
        (
            "minireduce_workers",
            "Workers.",
            [({"state": state}, by_state[state]) for state in ("live", "lost", "expected")],
        ),
        ("minireduce_slots", "Slots of live workers.", [({}, sum(worker.slots for worker in live))]),
        ("minireduce_slots_used", "Slots in use.", [({}, sum(worker.slots_used for worker in live))]),
        ("minireduce_tasks_running", "Tasks of running jobs with an attempt.", _tasks(running, "running")),
        ("minireduce_tasks_done", "Finished tasks of running jobs.", _tasks(running, "done")),
        ("minireduce_tasks_total", "Tasks of running jobs.", _tasks(running, "total")),
        (
            "minireduce_worker_free_bytes",
            "Free disk of a live worker.",
            [({"worker": worker.worker}, worker.free_bytes) for worker in live],
        ),
    ]
    return "".join(_metric(*metric) for metric in metrics)


def _tasks(jobs: Sequence[JobView], field: str) -> list[Sample]:
    total: Counter[str] = Counter()
    for job in jobs:
        for counts in job.tasks:
            total[counts.kind] += getattr(counts, field)
    return [({"kind": kind}, total[kind]) for kind in TaskKind]


def _metric(name: str, meaning: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
