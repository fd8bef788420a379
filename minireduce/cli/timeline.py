"""`minireduce timeline` and `minireduce report`: a job's attempts over time, as files for other programs and people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minireduce.cli.jobs import connected, job_argument
from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import plural, print_json
from minireduce.errors import RequestError

if TYPE_CHECKING:
    from minireduce.core.views import JobView, TaskView


@click.command(epilog="Example:  minireduce timeline @ -o trace.json")
@job_argument
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="Where it goes.")
@json_option
@common_options
def timeline(job: str, output: Path, common: Common, *, is_json: bool) -> None:
    """Write a job's attempts as a trace: one row a slot, readable in Perfetto and in chrome://tracing."""
    from minireduce.client.timeline import lay_out, to_trace

    shown, tasks = _ask(job, common)
    trace = to_trace(shown, lay_out(tasks))
    _write(output, json.dumps(trace))
    _tell(shown, tasks, output, is_json=is_json)


@click.command(epilog="Example:  minireduce report @ -o report.html")
@job_argument
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="Where it goes.")
@json_option
@common_options
def report(job: str, output: Path, common: Common, *, is_json: bool) -> None:
    """Write one page about a job: its tasks over time, what failed, its counters."""
    from minireduce.client.report import render

    shown, tasks = _ask(job, common)
    _write(output, render(shown, tasks))
    _tell(shown, tasks, output, is_json=is_json)


def _ask(job: str, common: Common) -> tuple[JobView, list[TaskView]]:
    from minireduce.client import jobs as client
    from minireduce.wire import methods
    from minireduce.wire.questions import ListTasks

    with connected(common) as connection:
        shown = client.view(connection, job)
        return shown, list(connection.call(methods.LIST_TASKS, ListTasks(shown.job)))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as cause:
        raise RequestError(f"{path} cannot be written: {cause.strerror}", hint="name another with -o") from cause


def _tell(shown: JobView, tasks: list[TaskView], output: Path, *, is_json: bool) -> None:
    attempts = sum(len(task.attempts) for task in tasks)
    if is_json:
        print_json({"job": shown.job, "attempts": attempts, "output": output})
    else:
        print(f"{output}: {plural(attempts, 'attempt')} of {shown.job}, {shown.state}")
