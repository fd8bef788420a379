"""Tasks of a batch, and ends of them that are alike, travel as one, and come apart into what they were."""

from __future__ import annotations

from dataclasses import replace

from minireduce.attempt.conversation import (
    Finished,
    InputUnusable,
    MapTask,
    RunBatch,
    RunTask,
    batch_of,
    fold,
    tasks_of,
    unfold,
)
from minireduce.attempt.framing import decode, encode
from minireduce.core.spec import LocalFiles, NumberRange
from minireduce.core.task_data import TaskOutput
from minireduce.ids import AttemptId, TaskId, TaskKind

NOTHING = Finished(TaskOutput(b"d" * 16, 0, 0), (("minireduce", "MAP_INPUT_RECORDS", 1),), busy_s=0.1)
SOMETHING = replace(NOTHING, output=TaskOutput(b"e" * 16, 5, 1), busy_s=0.3)


def test_ends_that_are_alike_share_one_answer_and_keep_their_own_times() -> None:
    ends = [NOTHING, replace(NOTHING, busy_s=0.2), SOMETHING, NOTHING]
    folded = fold(ends)
    assert len(folded) == 3
    assert [(answer.output, busy_s) for answer, busy_s in unfold(folded) if isinstance(answer, Finished)] == [
        (end.output, end.busy_s) for end in ends
    ]


def test_an_end_that_leaves_the_process_spent_is_not_taken_for_one_that_does_not() -> None:
    spent = replace(NOTHING, is_spent=True)
    assert fold([NOTHING, spent]) == (NOTHING, spent)


def test_what_did_not_finish_stands_for_itself() -> None:
    ends = (NOTHING, InputUnusable("gone"))
    assert fold(ends) == ends
    assert list(unfold(ends)) == [(NOTHING, 0.1), (ends[1], 0.0)]


def _task(index: int, source: LocalFiles | NumberRange) -> RunTask:
    attempt = AttemptId(TaskId("job-abcdef-1", 0, TaskKind.MAP, index), 2)
    return RunTask(attempt, MapTask(source, 4), f"/d/{attempt}", output_text=False, memory_limit_bytes=1 << 20)


def test_a_batch_comes_apart_into_the_tasks_that_it_was_made_of():
    ranges = [_task(index, NumberRange(index, index + 5)) for index in range(4)]
    files = [_task(index, LocalFiles("m", ())) for index in range(3)]
    for tasks in (ranges, files, [*ranges, *files], ranges[:1]):
        batch = decode(RunBatch, encode(batch_of(tasks)))
        assert list(tasks_of(batch)) == tasks
