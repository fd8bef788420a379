"""A job on one page that needs nothing else: how it went, what failed, what it counted, and its tasks over time.

The picture is drawn as SVG in the page, a line for each slot and a bar for each attempt, coloured by its end. Nothing
is fetched from anywhere and no script runs; all text that comes from jobs is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from minireduce.client.timeline import Bar, lay_out
from minireduce.core.views import JobView, TaskView

WIDTH, LABEL, ROW = 1100, 160, 7
BARS_MAX = 20_000
ATTEMPTS_MAX = 200
"""So many attempts that did not succeed are listed."""

_COLOURS = {
    "succeeded": "#4a9",
    "failed": "#d33",
    "lost": "#e90",
    "killed": "#999",
    "returned": "#ccc",
    "running": "#48c",
}

_UNREMARKABLE = frozenset({"succeeded", "running", "returned"})

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 0.5rem 0 2rem }
th, td { text-align: left; padding: 0.15rem 1.2rem 0.15rem 0; vertical-align: top; white-space: pre-wrap }
th { border-bottom: 1px solid #888 }
pre { background: #8881; padding: 1rem; overflow-x: auto }
svg text { font: 10px system-ui, sans-serif; fill: currentColor }
"""


def render(job: JobView, tasks: Sequence[TaskView]) -> str:
    """The page."""
    bars = lay_out(tasks)
    unsuccessful = [each for task in tasks for each in task.attempts if each.state not in _UNREMARKABLE]
    facts = (("job", job.job), ("name", job.name), ("state", str(job.state)), ("time", f"{job.elapsed_s:.1f} s"))
    more = (("output", job.output_path or str(job.output)), ("reason", job.reason), ("attempts", str(_count(tasks))))
    return "".join(
        (
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f"<title>{escape(job.job)} · minireduce</title><style>{_STYLE}</style><body>",
            f"<h1>{escape(job.name or job.job)}</h1>",
            _table(("", ""), ((name, value) for name, value in (*facts, *more) if value)),
            *(f"<p>{escape(note)}</p>" for note in job.notes),
            "<h2>Tasks over time</h2>",
            _legend(),
            _picture(bars),
            "<h2>Tasks</h2>",
            _table(
                ("step", "kind", "tasks", "done"),
                ((str(each.step), str(each.kind), str(each.total), str(each.done)) for each in job.tasks),
            ),
            f"<h2>Attempts that did not succeed: {len(unsuccessful)}</h2>" if unsuccessful else "",
            _table(
                ("attempt", "state", "worker", "seconds", "message"),
                (
                    (str(each.attempt), each.condition, each.worker, f"{each.elapsed_s:.1f}", each.message)
                    for each in unsuccessful[:ATTEMPTS_MAX]
                ),
            )
            if unsuccessful
            else "",
            *(
                f"<h3>{escape(str(failed.attempt))} on {escape(failed.worker)}</h3>"
                f"<pre>{escape(failed.error.traceback or failed.error.summary)}</pre>"
                for failed in job.errors
            ),
            "<h2>Counters</h2>",
            _table(("group", "counter", "value"), ((group, name, f"{value:,}") for group, name, value in job.counters)),
            "</body></html>",
        )
    )


def _count(tasks: Iterable[TaskView]) -> int:
    return sum(len(task.attempts) for task in tasks)


def _legend() -> str:
    words = [f'<span style="color:{colour}">■</span> {name}' for name, colour in _COLOURS.items()]
    return f"<p>{' '.join(words)}</p>"


def _picture(bars: Sequence[Bar]) -> str:
    """A line for each slot of each worker; the time in which attempts wait is not drawn."""
    shown = [bar for bar in bars if not bar.is_waiting][:BARS_MAX]
    if not shown:
        return "<p>No attempt of it is kept.</p>"
    lines = {row: line for line, row in enumerate(dict.fromkeys((bar.worker, bar.row) for bar in shown))}
    last_s = max(*(bar.end_s for bar in shown), 0.001)
    scale = (WIDTH - LABEL) / last_s
    height = len(lines) * ROW + 20
    drawn = [
        f'<rect x="{LABEL + bar.begin_s * scale:.1f}" y="{lines[bar.worker, bar.row] * ROW}" '
        f'width="{max(0.5, (bar.end_s - bar.begin_s) * scale):.1f}" height="{ROW - 1}" '
        f'fill="{_COLOURS.get(bar.attempt.state, "#999")}"><title>{escape(str(bar.attempt.attempt))} '
        f"{escape(bar.attempt.condition)}, {bar.end_s - bar.begin_s:.2f} s</title></rect>"
        for bar in shown
    ]
    firsts = {worker: lines[worker, row] for worker, row in reversed(lines)}
    names = [f'<text x="0" y="{line * ROW + ROW}">{escape(worker)}</text>' for worker, line in firsts.items()]
    ends = f'<text x="{LABEL}" y="{height - 4}">0 s</text><text x="{WIDTH}" y="{height - 4}" text-anchor="end">'
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" role="img" aria-label="attempts over time">'
        f"{''.join(names)}{''.join(drawn)}{ends}{last_s:.1f} s</text></svg>"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
