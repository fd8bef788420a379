"""`minireduce logs`: what a job's attempts printed and how they ended; `--follow` shows it as it comes.

Attempts that succeeded and printed nothing are counted, not listed. A traceback is shown once; of the attempts that
ended with the same one it is said so.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from minireduce.cli.failures import found_bad, told_by_user_code
from minireduce.cli.jobs import connected, job_argument
from minireduce.cli.options import Common, common_options, json_option
from minireduce.cli.show import as_plain, duration, plural, print_json

if TYPE_CHECKING:
    from minireduce.client.connection import Connection
    from minireduce.core.task_data import TaskError
    from minireduce.core.texts import AttemptText, StreamText
    from minireduce.core.views import AttemptView, JobView, PrintedPiece, TaskView
    from minireduce.ids import AttemptId, TaskId

FOLLOW_INTERVAL_S = 0.5


@click.command(epilog="Example:  minireduce logs @ --task job-3f9a01-1_s0_m00012")
@job_argument
@click.option("--task", "task_name", metavar="TASK", help="Only this task.")
@click.option("--full", is_flag=True, help="Of one task, all that its workers keep; the master keeps both ends.")
@click.option("-f", "--follow", is_flag=True, help="Show what is printed as it comes, until the job has ended.")
@json_option
@common_options
def logs(job: str, task_name: str | None, common: Common, *, full: bool, follow: bool, is_json: bool) -> None:
    """Show what the attempts of a job printed, the tracebacks of those that failed, and which records it left out."""
    from minireduce.ids import parse_task_id

    only = None if task_name is None else parse_task_id(task_name)
    if full and (only is None or follow):
        raise click.UsageError("--full shows one task as it is: add --task TASK, and leave --follow out")
    with connected(common) as connection:
        if follow:
            _follow(connection, job, only, is_json=is_json)
        else:
            _show(connection, job, only, full=full, is_json=is_json)


def _show(connection: Connection, job: str, only: TaskId | None, *, full: bool, is_json: bool) -> None:
    from minireduce.client import jobs as client
    from minireduce.client import printed
    from minireduce.client.quarantine import fetch_skipped
    from minireduce.core.texts import texts
    from minireduce.errors import NotFound
    from minireduce.wire import methods
    from minireduce.wire.questions import ListTasks

    shown = client.view(connection, job)
    tasks = connection.call(methods.LIST_TASKS, ListTasks(shown.job))
    pieces, left_out = printed.read_all(connection, shown.job, only)
    printed_texts = list(texts(pieces))
    skipped = fetch_skipped(connection, shown.job)
    chosen = [task for task in tasks if only is None or task.task == only]
    is_told = any(failed.attempt.task == only for failed in shown.errors)
    if only is not None and not chosen and not is_told and not printed_texts:
        raise NotFound(f"{shown.job} has no task {only}", hint=f"minireduce logs {shown.job}")
    if full:
        printed_texts = _with_whole(connection, shown.job, chosen, printed_texts)
    if is_json:
        told = {
            "tasks": chosen,
            "errors": shown.errors,
            "printed": printed_texts,
            "left_out": left_out,
            "skipped": skipped,
        }
        print_json(as_plain(told))
        return
    _Page(shown, chosen, {text.attempt: text for text in printed_texts}).show(only)
    for line in found_bad([bad for bad in skipped if only is None or bad.task == str(only)]):
        print(line)
    if left_out:
        print(f"and {plural(left_out, 'piece')} more that found no room (job_logs_size)")


def _with_whole(connection: Connection, job: str, tasks: list[TaskView], known: list[AttemptText]) -> list[AttemptText]:
    """The texts that workers keep, and of the others what the master does."""
    from minireduce.client import printed

    ended = [attempt for task in tasks for attempt in task.attempts if attempt.state != "running"]
    whole, silent = printed.read_whole(connection, job, ended)
    for worker, reason in silent.items():
        print(f"note: of attempts on {worker} only what the master keeps is shown: {reason}", file=sys.stderr)
    texts = {text.attempt: text for text in (*known, *whole)}
    return [texts[attempt] for attempt in sorted(texts)]


class _Page:
    """Attempt after attempt, each under a heading."""

    def __init__(self, shown: JobView, tasks: list[TaskView], texts: Mapping[AttemptId, AttemptText]) -> None:
        self._shown = shown
        self._views = {attempt.attempt: attempt for task in tasks for attempt in task.attempts}
        self._texts = texts
        self._errors = {failed.attempt: failed for failed in shown.errors}
        self._told: dict[str, AttemptId] = {}

    def show(self, only: TaskId | None) -> None:
        """Print everything; with `only` the quiet attempts of that task too."""
        wanted = {each for each in self._errors if only is None or each.task == only}
        attempts = sorted({*self._views, *self._texts, *wanted})
        silent = 0
        for attempt in attempts:
            view = self._views.get(attempt)
            is_silent = view is not None and attempt not in self._texts and attempt not in self._errors
            if is_silent and only is None and view is not None and not view.message:
                silent += 1
            else:
                self._show_attempt(attempt, view)
        if not attempts:
            print(f"{self._shown.job} {self._shown.state}, and nothing more is kept of its attempts")
        elif silent:
            print(f"{plural(silent, 'attempt')} more, which printed nothing")

    def _show_attempt(self, attempt: AttemptId, view: AttemptView | None) -> None:
        error, text = self._errors.get(attempt), self._texts.get(attempt)
        if view is not None:
            words = f": {view.message}" if view.message else ""
            print(f"== {attempt} {view.state} on {view.worker}, {duration(view.elapsed_s)}{words}")
        elif error is not None:
            print(f"== {attempt} failed on {error.worker}: {error.error.kind}")
        elif text is not None:
            print(f"== {attempt} on {text.worker}")
        if error is not None:
            print(self._told_once(attempt, error.error), end="")
        if text is not None:
            for name, said in (("stdout", text.stdout), ("stderr", text.stderr)):
                if said:
                    print(f"-- {name}")
                    print(said, end="" if said.endswith("\n") else "\n")

    def _told_once(self, attempt: AttemptId, error: TaskError) -> str:
        """The error; of a traceback that was shown before, only where."""
        first = self._told.setdefault(error.traceback, attempt) if error.traceback else attempt
        if first == attempt:
            return told_by_user_code(error)
        return f"the traceback of {first} again\n{told_by_user_code(replace(error, traceback=''))}"


def _follow(connection: Connection, job: str, only: TaskId | None, *, is_json: bool) -> None:
    """Print pieces as they come. Those that came after the job's end are few, and the last page shows them."""
    from minireduce.client import jobs as client
    from minireduce.client import printed
    from minireduce.core.views import JobState

    shown = client.view(connection, job)
    flow = _Flow(is_json=is_json)
    after = 0
    while True:
        is_over = shown.state is not JobState.RUNNING  # asked for before the page: what came before is on it
        page = printed.read_page(connection, shown.job, after, only)
        for piece in page.pieces:
            flow.show(piece)
        after = page.last
        if page.pieces:
            sys.stdout.flush()
        elif is_over:
            return
        else:
            shown = client.await_change(connection, shown.job, shown.state, FOLLOW_INTERVAL_S)


class _Flow:
    """Pieces in the order in which they come, under a heading whenever another attempt or stream speaks."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._streams: dict[tuple[AttemptId, str], StreamText] = {}
        self._speaker: tuple[AttemptId, str] | None = None
        self._is_line_begun = False

    def show(self, piece: PrintedPiece) -> None:
        from minireduce.core.texts import StreamText

        key = (piece.attempt, piece.stream)
        text = self._streams.setdefault(key, StreamText()).read(piece)
        if not text:
            return
        if self._is_json:
            print_json({"attempt": piece.attempt, "worker": piece.worker, "stream": piece.stream, "text": text})
            return
        if key != self._speaker:
            print(f"{chr(10) if self._is_line_begun else ''}== {piece.attempt} on {piece.worker}, {piece.stream}")
            self._speaker = key
        print(text, end="")
        self._is_line_begun = not text.endswith("\n")
