"""The pages as HTML: text in tables, no script, all that comes from outside escaped where it enters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from minireduce.core.texts import AttemptText
from minireduce.core.views import AttemptError, AttemptView, ClusterView, JobView, TaskView, WorkerView

TASKS_MAX = 1000

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 0.5rem 0 2rem }
th, td { text-align: left; padding: 0.15rem 1.2rem 0.15rem 0; vertical-align: top; white-space: pre-wrap }
th { border-bottom: 1px solid #888; font-weight: 600 }
pre { background: #8881; padding: 1rem; overflow-x: auto }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ddd } a { color: #8bf } }
"""


def login(error: str = "") -> str:
    """The form that takes the client's token."""
    return _page(
        "log in",
        f"<p>{escape(error)}</p>" if error else "",
        "<p>Give the client token: the first line of the master's token file.</p>",
        '<form method="post" action="/login"><input type="password" name="token" autofocus size="60">'
        " <button>Log in</button></form>",
    )


def overview(cluster: ClusterView, jobs: Sequence[JobView], workers: Sequence[WorkerView]) -> str:
    """Jobs and workers."""
    return _page(
        f"cluster {cluster.cluster_id}",
        f"<p>minireduce {escape(cluster.software_version)}, epoch {cluster.epoch}: {cluster.workers_live} live workers,"
        f" {cluster.slots} slots.</p>",
        *(f"<p><strong>{escape(problem)}</strong></p>" for problem in cluster.problems),
        "<h2>Jobs</h2>",
        _table(
            ("job", "state", "done", "seconds", "name", "waits for"),
            ((_job_link(job.job), *_cells(*_job_cells(job))) for job in jobs),
        ),
        "<h2>Workers</h2>",
        _table(
            ("worker", "state", "host", "rack", "slots", "heard"),
            (
                _cells(
                    worker.worker,
                    worker.condition,
                    worker.host,
                    worker.rack,
                    f"{worker.slots_used} of {worker.slots}",
                    f"{worker.last_heard_s:.1f} s ago",
                )
                for worker in workers
            ),
        ),
    )


def job(view: JobView, tasks: Sequence[TaskView]) -> str:
    """One job: where it stands, what went wrong, its counters and its tasks."""
    errors = [_error(failed) for failed in view.errors]
    return _page(
        view.job,
        f"<p>{escape(view.name)}: {view.state}, {view.fraction:.0%} in {view.elapsed_s:.1f} s. "
        f"{escape(view.reason)} {escape(view.waiting_for)}</p>",
        *(f"<p>{escape(note)}</p>" for note in view.notes),
        *errors,
        "<h2>Tasks</h2>",
        _table(
            ("task", "state", "attempt", "worker", "state", "done", "seconds", "message"),
            (row for task in tasks[:TASKS_MAX] for row in _task_rows(task)),
        ),
        f"<p>and {len(tasks) - TASKS_MAX} more</p>" if len(tasks) > TASKS_MAX else "",
        "<h2>Counters</h2>",
        _table(("group", "counter", "value"), (_cells(group, name, str(n)) for group, name, n in view.counters)),
        '<p><a href="/">all jobs</a></p>',
    )


def task(view: JobView, shown: TaskView, errors: Sequence[AttemptError], printed: Sequence[AttemptText]) -> str:
    """One task of a job: its attempts, what went wrong in them, and what they printed."""
    texts = [
        f"<h3>{escape(str(each.attempt))} on {escape(each.worker)}: {name}</h3><pre>{escape(said)}</pre>"
        for each in printed
        for name, said in (("stdout", each.stdout), ("stderr", each.stderr))
        if said
    ]
    return _page(
        str(shown.task),
        f"<p>{shown.state}, of {_job_anchor(view.job)}, which is {view.state}.</p>",
        _table(
            ("attempt", "worker", "state", "done", "seconds", "message"),
            (_cells(*_attempt_cells(attempt)) for attempt in shown.attempts),
        ),
        *(_error(failed) for failed in errors),
        "<h2>Printed</h2>" if texts else "<p>Its attempts have printed nothing that is kept.</p>",
        *texts,
    )


def _error(failed: AttemptError) -> str:
    told = failed.error.traceback or failed.error.summary
    return f"<h3>{escape(str(failed.attempt))} on {escape(failed.worker)}</h3><pre>{escape(told)}</pre>"


def _job_cells(view: JobView) -> tuple[str, ...]:
    return str(view.state), f"{view.fraction:.0%}", f"{view.elapsed_s:.1f}", view.name, view.waiting_for


def _task_rows(task: TaskView) -> Iterable[tuple[str, ...]]:
    job, name = escape(task.task.job), escape(str(task.task))
    link = f'<td><a href="/jobs/{job}/tasks/{name}">{name}</a></td>'
    if not task.attempts:
        yield (link, *_cells(task.state, "", "", "", "", "", ""))
    for attempt in task.attempts:
        yield (link, *_cells(task.state, *_attempt_cells(attempt)))


def _attempt_cells(attempt: AttemptView) -> tuple[str, ...]:
    return (
        str(attempt.attempt.number),
        attempt.worker,
        attempt.condition,
        f"{attempt.fraction:.0%}",
        f"{attempt.elapsed_s:.1f}",
        attempt.message,
    )


def _job_link(job_id: str) -> str:
    return f"<td>{_job_anchor(job_id)}</td>"


def _job_anchor(job_id: str) -> str:
    return f'<a href="/jobs/{escape(job_id)}">{escape(job_id)}</a>'


def _cells(*texts: str) -> tuple[str, ...]:
    return tuple(f"<td>{escape(text)}</td>" for text in texts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _page(title: str, *parts: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)} · minireduce</title>'
        f"<style>{_STYLE}</style><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"
    )
