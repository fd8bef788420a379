"""From `StartAttempt` to `AttemptEnded`, with task processes that the test plays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from scenes.worker import OUTPUT, SPLIT, fetched_file, map_attempt, open_job, reduce_attempt, succeeded

from minireduce.attempt.conversation import MapTask, PartFile, ReduceTask, RunFile
from minireduce.core.spec import StepSpec
from minireduce.core.task_data import OutputSource, PartInput, PartitionInput, TaskError, TaskOutput
from minireduce.core.work.attempts import (
    AttemptEnded,
    CopyFoundDamaged,
    Failed,
    InputRun,
    Killed,
    Lost,
    OutputFoundMissing,
    StartAttempt,
    Succeeded,
)
from minireduce.disk import RealDisk
from minireduce.engine.index import encode_index
from minireduce.worker.input_reader import InputReader
from minireduce.worker.outputs import Outputs
from minireduce.worker.running import NO_INPUT, Running

STEP = StepSpec(2, 1 << 20, 5.0, record_bytes_max=999)


def write_into(directory: Path) -> None:
    """As a task with an output does."""
    directory.mkdir(exist_ok=True)


class PlayedSlots:
    """Task processes whose outcomes are set beforehand."""

    def __init__(self, outcome) -> None:
        self.outcome = outcome
        self.tasks = []
        self.stopped = []
        self.dropped = []

    async def run(self, program, task, *, task_timeout_s):
        self.tasks.append((program, task, task_timeout_s))
        write_into(Path(task.directory))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def stop(self, attempt) -> None:
        self.stopped.append(attempt)

    def drop_job(self, job) -> None:
        self.dropped.append(job)


def play(tmp_path: Path, order: StartAttempt, outcome, *, stop: str = "", outputs: Outputs | None = None):
    """The tasks that were run and the events that were told. `stop`: when the order to do so comes, if it comes."""
    told = []
    slots = PlayedSlots(outcome)

    async def act() -> None:
        ended = asyncio.Event()

        def tell(event) -> None:
            told.append(event)
            if isinstance(event, AttemptEnded):
                ended.set()

        inputs = InputReader(RealDisk(), [tmp_path], "w1", None, tell)
        running = Running(outputs or Outputs(tmp_path, RealDisk()), slots, inputs, tell)
        running.open_program(open_job())
        if stop == "before it starts":
            running.stop(order.attempt)
        running.start(order)
        if stop == "before its process began":
            running.stop(order.attempt)
        await asyncio.wait_for(ended.wait(), 10)

    asyncio.run(act())
    return [task for _, task, _ in slots.tasks], told


def start_map(source=SPLIT, runs=()) -> StartAttempt:
    return StartAttempt(map_attempt(), source, STEP, runs, output_text=False)


def start_reduce(*runs: InputRun) -> StartAttempt:
    return StartAttempt(reduce_attempt(), PartitionInput(1, len(runs)), STEP, runs, output_text=True)


def test_a_map_of_a_split_gets_its_directory_and_its_limits(tmp_path: Path):
    (task,), told = play(tmp_path, start_map(), Succeeded(OUTPUT, ()))
    assert task.work == MapTask(SPLIT, 2)
    assert Path(task.directory).parent.is_dir()  # its own it makes itself, when it needs it
    assert (task.memory_limit_bytes, task.record_bytes_max, task.output_text) == (1 << 20, 999, False)
    assert told == [AttemptEnded(map_attempt(), Succeeded(OUTPUT, ()))]
    assert Outputs(tmp_path, RealDisk()).held() == (succeeded(map_attempt()),)


def test_for_a_part_without_pairs_nothing_is_written_and_its_readers_read_nothing(tmp_path: Path):
    empty = TaskOutput(b"digest", 0, 0)
    _, told = play(tmp_path, start_map(), Succeeded(empty, ()))
    assert told == [AttemptEnded(map_attempt(), Succeeded(empty, ()))]
    assert Outputs(tmp_path, RealDisk()).held() == ()
    source = OutputSource(map_attempt(0), "w2", "w2:1", 0)
    (task,), _ = play(tmp_path, start_map(PartInput(source)), Succeeded(empty, ()))
    assert task.work == MapTask(NO_INPUT, 2)


@pytest.mark.parametrize("outcome", [Failed(TaskError("raised", "E", "no")), Lost("gone"), Killed()])
def test_an_outcome_without_output_is_told_and_nothing_is_kept(tmp_path: Path, outcome):
    _, told = play(tmp_path, start_map(), outcome)
    assert told == [AttemptEnded(map_attempt(), outcome)]
    assert Outputs(tmp_path, RealDisk()).held() == ()


def test_a_reduce_reads_own_outputs_in_place_and_others_where_they_were_fetched(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    own = outputs.prepare(map_attempt(0))
    (own / "output.data").write_bytes(b"aaabbbb")
    (own / "output.index").write_bytes(encode_index([3, 4]))
    fetched = fetched_file(outputs, reduce_attempt(), map_attempt(1))
    fetched.write_bytes(b"12345")
    order = start_reduce(InputRun(map_attempt(0), is_own=True), InputRun(map_attempt(1), is_own=False))
    (task,), _ = play(tmp_path, order, Killed())
    assert task.work == ReduceTask(
        (RunFile(str(own / "output.data"), 3, 4, 0), RunFile(str(fetched), 0, 5, 1)),
    )
    assert task.output_text


@pytest.mark.parametrize("damage", ["missing", "damaged", "short"])
def test_an_own_output_that_cannot_be_read_is_told_and_the_attempt_is_lost(tmp_path: Path, damage: str):
    outputs = Outputs(tmp_path, RealDisk())
    own = outputs.prepare(map_attempt(0))
    index = encode_index([3, 4])
    (own / "output.data").write_bytes(b"aaabbb" if damage == "short" else b"aaabbbb")
    if damage != "missing":
        (own / "output.index").write_bytes(index[:-1] + b"\0" if damage == "damaged" else index)
    tasks, told = play(tmp_path, start_reduce(InputRun(map_attempt(0), is_own=True)), Killed())
    assert tasks == []
    assert told[0] == OutputFoundMissing(map_attempt(0))
    assert isinstance(told[1].outcome, Lost)


@pytest.mark.parametrize("is_own", [True, False])
def test_a_map_of_a_later_step_reads_a_part(tmp_path: Path, is_own):
    outputs = Outputs(tmp_path, RealDisk())
    if is_own:
        path = outputs.prepare(reduce_attempt()) / "part"
    else:
        path = fetched_file(outputs, map_attempt(), reduce_attempt())
    path.write_bytes(b"pairs")
    source = OutputSource(reduce_attempt(), "w", "w:1", 5)
    (task,), _ = play(tmp_path, start_map(PartInput(source), (InputRun(reduce_attempt(), is_own),)), Killed())
    assert task.work == MapTask(PartFile(str(path)), 2)


def test_a_missing_own_part_is_told(tmp_path: Path):
    source = OutputSource(reduce_attempt(), "w", "w:1", 5)
    order = start_map(PartInput(source), (InputRun(reduce_attempt(), is_own=True),))
    tasks, told = play(tmp_path, order, Killed())
    assert (tasks, told[0]) == ([], OutputFoundMissing(reduce_attempt()))


def test_an_attempt_that_is_stopped_before_its_process_began_is_killed(tmp_path: Path):
    tasks, told = play(tmp_path, start_map(), Succeeded(OUTPUT, ()), stop="before its process began")
    assert (tasks, told) == ([], [AttemptEnded(map_attempt(), Killed())])


def test_an_order_to_stop_a_merge_that_has_ended_stops_no_attempt_that_starts_after(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    fetched_file(outputs, reduce_attempt(), map_attempt(0)).write_bytes(b"12345")
    order = start_reduce(InputRun(map_attempt(0), is_own=False))
    tasks, told = play(tmp_path, order, Succeeded(OUTPUT, ()), stop="before it starts", outputs=outputs)
    assert len(tasks) == 1
    assert told == [AttemptEnded(reduce_attempt(), Succeeded(OUTPUT, ()))]


def test_a_disk_that_refuses_loses_the_attempt_and_a_mistake_of_ours_too(tmp_path: Path):
    (tmp_path / "jobs").write_bytes(b"in the way")
    tasks, (ended,) = play(tmp_path, start_map(), Succeeded(OUTPUT, ()))
    assert tasks == []
    assert "disk" in ended.outcome.reason
    (tmp_path / "jobs").unlink()
    _, (ended,) = play(tmp_path, start_map(), KeyError("what"))
    assert isinstance(ended.outcome, Lost)


def test_a_damaged_run_is_named_since_it_would_only_be_read_again(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    own = outputs.prepare(map_attempt(0))
    (own / "output.data").write_bytes(b"aaabbbb")
    (own / "output.index").write_bytes(encode_index([3, 4]))
    fetched = fetched_file(outputs, reduce_attempt(), map_attempt(1))
    fetched.write_bytes(b"12345")
    order = start_reduce(InputRun(map_attempt(0), is_own=True), InputRun(map_attempt(1), is_own=False))
    _, told = play(tmp_path, order, Lost(f"{own / 'output.data'} is damaged between 3 and 7"))
    assert told[0] == OutputFoundMissing(map_attempt(0))
    fetched.write_bytes(b"12345")
    _, told = play(tmp_path, order, Lost(f"{fetched} ends at 5, but its data goes on to 7"))
    assert told[0] == CopyFoundDamaged(reduce_attempt(), map_attempt(1))
    fetched.write_bytes(b"12345")
    _, told = play(tmp_path, order, Lost("its process was killed from outside"))
    assert [type(event) for event in told] == [AttemptEnded]


def test_of_runs_that_share_a_file_the_damaged_one_is_named_and_all_when_the_file_is_gone(tmp_path: Path):
    outputs = Outputs(tmp_path, RealDisk())
    file, path = outputs.open_together(reduce_attempt(), 7)
    with file:
        file.write(b"aaabbbb")
    outputs.keep_together(reduce_attempt(), map_attempt(0), path, 0, 3)
    outputs.keep_together(reduce_attempt(), map_attempt(1), path, 3, 4)
    order = start_reduce(InputRun(map_attempt(0), is_own=False), InputRun(map_attempt(1), is_own=False))

    def told_of(reason: str):
        for number in (0, 1):  # an attempt that ended took what was fetched for it along
            outputs.keep_together(reduce_attempt(), map_attempt(number), path, 3 * number, 3 + number)
        (task,), told = play(tmp_path, order, Lost(reason), outputs=outputs)
        assert task.work == ReduceTask((RunFile(path, 0, 3, 0), RunFile(path, 3, 4, 1)))
        return [event.source.task.index for event in told if isinstance(event, CopyFoundDamaged)]

    assert told_of(f"{path}@3 is damaged between 3 and 7") == [1]
    assert told_of(f"{path}@0 ends at 2, but its data goes on to 3") == [0]
    assert told_of(f"{path} cannot be opened") == [0, 1]
