"""What a running job shows on standard error."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from minireduce.cli import progress
from minireduce.cli.progress import Progress, describe
from minireduce.core.spec import OutputKind
from minireduce.core.views import JobState, JobView, TaskCounts
from minireduce.errors import Unavailable
from minireduce.ids import TaskKind

RUNNING = JobView(
    "job-3f9a01-1",
    "words",
    JobState.RUNNING,
    OutputKind.TEXT,
    "/out",
    0.0,
    4.2,
    0.25,
    (TaskCounts(0, TaskKind.MAP, 4, 1, 2), TaskCounts(0, TaskKind.REDUCE, 1, 0, 0)),
    (),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which tests move."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_job_is_described_by_its_tasks_and_its_time() -> None:
    assert describe(RUNNING) == "job-3f9a01-1 running  25% · map 1/4, reduce 0/1 · 4.2 s"


def test_steps_that_are_done_are_left_out_and_what_is_waited_for_is_told() -> None:
    tasks = (TaskCounts(0, TaskKind.MAP, 4, 4, 0), TaskCounts(1, TaskKind.MAP, 2, 1, 1))
    shown = replace(RUNNING, tasks=tasks, waiting_for="a free slot")
    assert describe(shown).split(" · ")[1:] == ["step 2 map 1/2", "4.2 s", "waiting for a free slot"]


def test_a_terminal_has_one_line_that_is_written_over_and_taken_away() -> None:
    stream = Terminal()
    live = Progress(stream=stream)
    live(RUNNING)
    live(replace(RUNNING, fraction=0.5))
    live.say("done")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\r\x1b[Kdone\n")


def test_elsewhere_a_line_comes_now_and_then(clock: list[float]) -> None:
    stream = io.StringIO()
    plain = Progress(stream=stream)
    for clock[0] in (1.0, 4.9, 5.1, 6.0, 10.2):
        plain(RUNNING)
    assert stream.getvalue() == f"{describe(RUNNING)}\n" * 2


def test_a_quiet_command_says_nothing(clock: list[float]) -> None:
    stream = Terminal()
    quiet = Progress(is_quiet=True, stream=stream)
    clock[0] = 100.0
    quiet(RUNNING)
    quiet.say("done")
    quiet.wait(Unavailable("gone"), 0.0)
    assert stream.getvalue() == ""


def test_a_master_that_is_away_is_told_once_each_time() -> None:
    stream = io.StringIO()
    plain = Progress(stream=stream)
    for _ in range(3):
        plain.wait(Unavailable("the master cannot be reached"), 1.0)
    plain(RUNNING)
    plain.wait(Unavailable("the master cannot be reached"), 1.0)
    assert stream.getvalue() == "waiting: the master cannot be reached\n" * 2
