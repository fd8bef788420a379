"""`jobs status wait kill counters`: what a cluster says of its jobs. `@` is the latest job everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from minireduce.cli.failures import told_by_user_code
from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import as_plain, duration, print_json, print_table

if TYPE_CHECKING:
    from minireduce.client.connection import Connection
    from minireduce.core.views import JobView, TaskView

job_argument = click.argument("job", metavar="JOB")


@contextmanager
def connected(common: Common) -> Iterator[Connection]:
    """The cluster that the flags and settings name."""
    from minireduce.client.connection import open_connection

    with open_connection(common.configuration()) as connection:
        yield connection


@click.command(epilog="Example:  minireduce jobs --master 127.0.0.1:7070")
@json_option
@common_options
def jobs(common: Common, *, is_json: bool) -> None:
    """List the jobs that the cluster remembers, the latest first."""
    from minireduce.wire import methods
    from minireduce.wire.questions import ListJobs

    with connected(common) as connection:
        listed = connection.call(methods.LIST_JOBS, ListJobs())
    if is_json:
        print_json(listed)
        return
    rows = [
        (
            shown.job,
            shown.name,
            shown.state,
            f"{shown.fraction:.0%}",
            _clock(shown.submitted_at),
            duration(shown.elapsed_s),
        )
        for shown in listed
    ]
    print_table(("JOB", "NAME", "STATE", "DONE", "SUBMITTED", "TIME"), rows)


@click.command(epilog="Example:  minireduce status @ --attempts")
@job_argument
@click.option("--attempts", "has_attempts", is_flag=True, help="Each attempt of its tasks too, as far as kept.")
@json_option
@common_options
def status(job: str, common: Common, *, has_attempts: bool, is_json: bool) -> None:
    """Show one job: its state, its tasks, and why it failed or waits."""
    from minireduce.client import jobs as client
    from minireduce.wire import methods
    from minireduce.wire.questions import ListTasks

    tasks: list[TaskView] = []
    with connected(common) as connection:
        shown = client.view(connection, job)
        if has_attempts:
            tasks = list(connection.call(methods.LIST_TASKS, ListTasks(shown.job)))
    if is_json:
        print_json({**as_plain(shown), "attempts": [task.attempts for task in tasks]} if has_attempts else shown)
        return
    _print_status(shown)
    if has_attempts:
        print()
        _print_attempts(tasks)


def _print_attempts(tasks: list[TaskView]) -> None:
    rows = [
        (
            each.attempt,
            each.condition,
            each.worker,
            "-" if each.launched_at_s < 0 else duration(each.elapsed_s),  # an earlier master knew
            each.message,
        )
        for task in tasks
        for each in task.attempts
    ]
    print_table(("ATTEMPT", "STATE", "WORKER", "TIME", "MESSAGE"), rows)


def _print_status(shown: JobView) -> None:
    facts = [
        ("job", shown.job),
        ("name", shown.name),
        ("state", shown.state),
        ("submitted", _clock(shown.submitted_at)),
        ("time", duration(shown.elapsed_s)),
        ("done", f"{shown.fraction:.0%}"),
        ("output", shown.output_path or shown.output),
        ("reason", shown.reason),
        ("waits for", shown.waiting_for),
        *(("note", note) for note in shown.notes),
    ]
    for name, value in facts:
        if value:
            print(f"{name:<10}{value}")
    print()
    print_table(
        ("STEP", "KIND", "TASKS", "DONE", "RUNNING"),
        [(count.step, count.kind, count.total, count.done, count.running) for count in shown.tasks],
    )
    for failed in shown.errors:
        print(f"\n{failed.attempt} on {failed.worker}: {failed.error.kind}")
        print(told_by_user_code(failed.error), end="")


@click.command(epilog="Example:  minireduce wait @ && echo done")
@job_argument
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
@common_options
def wait(job: str, common: Common, *, quiet: bool, is_json: bool) -> None:
    """Wait until a job runs no more; the exit status tells how it ended."""
    from minireduce.cli.progress import Progress
    from minireduce.client import jobs as client

    progress = Progress(is_quiet=quiet or is_json)
    with connected(common) as connection:
        named = client.view(connection, job).job  # `@` may mean another job by the time this one ends
        shown = client.follow(connection, named, on_view=progress, interval_s=progress.interval_s)
        client.raise_for_state(shown)
    if is_json:
        print_json(shown)
    else:
        progress.say(f"{shown.job} {shown.state} in {duration(shown.elapsed_s)}")


@click.command(epilog="Example:  minireduce kill @")
@job_argument
@json_option
@common_options
def kill(job: str, common: Common, *, is_json: bool) -> None:
    """End a job. What it made is removed; a job that had ended stays as it was."""
    from minireduce.client import jobs as client

    with connected(common) as connection:
        named = client.view(connection, job).job
        state = client.kill(connection, named, "killed from the command line")
    if is_json:
        print_json({"job": named, "state": state})
    else:
        print(f"{named} {state}")


@click.command(epilog="Example:  minireduce counters @")
@job_argument
@json_option
@common_options
def counters(job: str, common: Common, *, is_json: bool) -> None:
    """Show a job's counters. Each committed task counts once, whatever was run again."""
    from minireduce.client import jobs as client
    from minireduce.client.result import read_counters

    with connected(common) as connection:
        shown = client.view(connection, job)
    if is_json:
        print_json(read_counters(shown.counters))
    else:
        print_table(
            ("GROUP", "COUNTER", "VALUE"), [(group, name, f"{value:,}") for group, name, value in shown.counters]
        )


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
