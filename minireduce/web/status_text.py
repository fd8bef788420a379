"""The cluster on one plain page, for `curl` and for people in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from minireduce.core.views import ClusterView, JobView, WorkerView

JOBS_MAX = 50


def render(cluster: ClusterView, jobs: Sequence[JobView], workers: Sequence[WorkerView]) -> str:
    """The text; it may hold what UTF-8 cannot, if a job's name does."""
    lines = [
        f"cluster {cluster.cluster_id} epoch {cluster.epoch} minireduce {cluster.software_version}",
        f"workers {cluster.workers_live} live of {len(workers)}, slots {cluster.slots}",
        *(f"PROBLEM: {problem}" for problem in cluster.problems),
        "",
        *_table(("WORKER", "STATE", "HOST", "SLOTS", "HEARD"), [_worker(worker) for worker in workers]),
        "",
        *_table(("JOB", "STATE", "DONE", "SECONDS", "NAME"), [_job(job) for job in jobs[:JOBS_MAX]]),
    ]
    if len(jobs) > JOBS_MAX:
        lines.append(f"and {len(jobs) - JOBS_MAX} earlier jobs")
    return "\n".join(lines) + "\n"


def _worker(worker: WorkerView) -> tuple[str, ...]:
    slots = f"{worker.slots_used}/{worker.slots}"
    return worker.worker, worker.condition, worker.host or "-", slots, f"{worker.last_heard_s:.1f} s ago"


def _job(job: JobView) -> tuple[str, ...]:
    name = " ".join(job.name.split()) or "-"  # one line a job, whatever its name holds
    return job.job, str(job.state), f"{job.fraction:.0%}", f"{job.elapsed_s:.1f}", name


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *rows)
    ]
