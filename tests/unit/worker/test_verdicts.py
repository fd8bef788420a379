"""What the page of a process that has ended says about the record that it was at."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from minireduce.attempt.conversation import MapTask, RunTask
from minireduce.attempt.progress import ProgressPage, make_page
from minireduce.core.spec import LocalFiles, LocalRange
from minireduce.core.work.attempts import Failed, Lost
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.worker import verdicts
from minireduce.worker.verdicts import LOOKS_MIN, Run, error_at_work, verdict_on

TASK = RunTask(
    AttemptId(TaskId("job-000001-1", 0, TaskKind.MAP, 0), 1),
    MapTask(LocalFiles("here", (LocalRange("/in.txt", 0, 9, "1"),)), 2),
    "/nowhere",
    output_text=False,
    memory_limit_bytes=1,
    record_bytes_max=1,
)


class Silent:
    """A process that printed nothing."""

    def said(self, _: str) -> str:
        return ""


@dataclass
class Process:
    page: ProgressPage
    printing: Silent = field(default_factory=Silent)
    group: None = None


@pytest.fixture
def run() -> Iterator[Run]:
    page, descriptor = make_page()
    os.close(descriptor)
    page.clear(0)
    run = Run((TASK,), 60.0)
    run.process = Process(page)  # type: ignore[assignment]
    yield run
    page.close()


def mark(run: Run, position: int, records: int) -> ProgressPage:
    assert run.process is not None
    page: ProgressPage = run.process.page
    page.marks[1], page.marks[0] = records, position
    return page


def test_a_crash_at_a_record_that_was_marked_alone_blames_it(run: Run) -> None:
    mark(run, 6, 1)
    verdict = verdict_on(run, -signal.SIGSEGV)
    assert isinstance(verdict, Failed)
    assert (verdict.error.position, verdict.error.path) == (6, "/in.txt")
    assert "(at record 7)" in verdict.error.message


def test_a_crash_among_records_that_were_marked_together_blames_none_and_says_which_they_were(run: Run) -> None:
    page = mark(run, 100, 50)
    page.at_record(120, 777)  # as a look some time before had it
    page.show_record(777, "'x'")
    verdict = verdict_on(run, -signal.SIGSEGV)
    assert isinstance(verdict, Failed)
    assert (verdict.error.position, verdict.error.offset, verdict.error.record) == (-1, -1, "")
    assert "(at one of the records 101 to 150)" in verdict.error.message


def test_a_kill_among_records_that_were_marked_together_says_which_they_were(run: Run) -> None:
    mark(run, 100, 50)
    verdict = verdict_on(run, -signal.SIGKILL)
    assert isinstance(verdict, Lost)
    assert "(SIGKILL) at one of the records 101 to 150 of its task, in /in.txt" in verdict.reason


@pytest.mark.parametrize(("looks", "position"), [(LOOKS_MIN - 1, -1), (LOOKS_MIN, 119)])
def test_of_records_marked_together_the_one_that_does_not_end_is_known_while_the_process_looks_at_it(
    run: Run, looks: int, position: int
) -> None:
    page = mark(run, 100, 50)
    page.at_record(120, 777)
    page.show_record(777, "'x'")
    page.looked()
    run.alive_looks = page.read().looks
    for _ in range(looks):
        page.looked()
    error = error_at_work(run, "timeout", "", "no record was finished")
    assert error.position == position
    assert (error.offset == 777) is (position >= 0)


def test_a_record_of_an_earlier_block_is_not_taken_for_one_under_the_mark(run: Run) -> None:
    page = mark(run, 100, 50)
    page.at_record(100, 5)
    page.show_record(5, "'x'")
    for _ in range(verdicts.LOOKS_MIN):
        page.looked()
    assert error_at_work(run, "timeout", "", "no record was finished").position == -1
