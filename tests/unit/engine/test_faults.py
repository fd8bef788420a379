"""What users are told when their code goes wrong."""

from __future__ import annotations

import io
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pytest

from minireduce import Aggregation, Job, Min, Sum, columns, task
from minireduce.disk import RealDisk
from minireduce.engine import gather
from minireduce.engine.bad_records import Care
from minireduce.engine.context import TaskContext
from minireduce.engine.errors import UserCodeError
from minireduce.engine.index import read_index
from minireduce.engine.map import DATA_NAME, INDEX_NAME, MapOutput, run_map, run_map_only
from minireduce.engine.merge import RunSlice
from minireduce.engine.read import open_records
from minireduce.engine.reduce import run_reduce
from minireduce.engine.workplace import Workplace
from minireduce.errors import Corruption
from minireduce.launch.inline import run_inline


def map_text(
    job: Job[Any, Any], text: bytes, directory: Path, *, partitions: int = 1, limit: int = 1 << 26
) -> MapOutput:
    context = TaskContext(path="books/a.txt")
    step = job.steps[0]
    records = open_records(io.BytesIO(text), offset=0, length=len(text), input_format=step.input, context=context)
    return run_map(step, records, partitions, Workplace(directory, "part", "pairs", limit, context, RealDisk()))


def map_part(job: Job[Any, Any], text: bytes, directory: Path) -> None:
    context = TaskContext(path="books/a.txt")
    step = job.steps[0]
    records = open_records(io.BytesIO(text), offset=0, length=len(text), input_format=step.input, context=context)
    run_map_only(step, records, Workplace(directory, "part", "pairs", 1 << 26, context, RealDisk()))


def reduce_all(job: Job[Any, Any], directories: list[Path], out: Path, output: Any = "text") -> bytes:
    runs = [RunSlice(d / DATA_NAME, *read_index(d / INDEX_NAME)[0], i) for i, d in enumerate(directories)]
    run_reduce(job.steps[0], runs, Workplace(out, "part", output, 1 << 26, TaskContext(), RealDisk()))
    return (out / "part").read_bytes()


def failing(job: Job[Any, Any], text: bytes, directory: Path) -> UserCodeError:
    with pytest.raises(UserCodeError) as caught:
        map_text(job, text, directory)
    return caught.value


def divide(line: str) -> Iterator[tuple[str, int]]:
    yield line, 1
    yield line, 1 // int(line)


def test_an_exception_shows_the_users_frames_and_the_record(tmp_path: Path) -> None:
    error = failing(Job(divide, Sum()), b"1\n2\n0\n4\n", tmp_path)
    assert "map divide raised ZeroDivisionError" in error.message
    assert "record '0' of books/a.txt at offset 4" in error.message
    assert (error.path, error.offset, error.record) == ("books/a.txt", 4, "'0'")
    assert error.exception_type == "builtins.ZeroDivisionError"
    assert "1 // int(line)" in error.traceback_text
    assert "minireduce/engine" not in error.traceback_text
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert pickle.loads(pickle.dumps(error)).record == "'0'"


def returns_none(line: str) -> Any:
    del line


def returns_pair(line: str) -> Any:
    return line, 1


def yields_word(line: str) -> Any:
    yield line


def yields_none(line: str) -> Any:
    del line
    yield None


def yields_triple(line: str) -> Any:
    yield line, 1, 2


def takes_two(one: str, two: str) -> Any:
    yield one, two


def mixes(line: str) -> Any:
    yield (line if line != "3" else 3), 1


def leaves(line: str) -> Any:
    yield line, 1
    if line == "3":
        raise SystemExit(7)


def noted(line: str) -> Iterator[tuple[str, int]]:
    error = ValueError(f"no number: {line}")
    error.add_note("see the manual\nof numbers")
    yield line, 1
    raise error


def test_notes_of_an_exception_stand_in_its_traceback_and_not_in_place_of_what_it_says(tmp_path: Path) -> None:
    error = failing(Job(noted, Sum()), b"a\n", tmp_path)
    assert "map noted raised ValueError: no number: a" in error.message
    assert "see the manual\nof numbers" in error.traceback_text


@pytest.mark.parametrize(
    ("function", "message", "record"),
    [
        (returns_none, "map returned None", "'ab'"),
        (returns_pair, r"map returned \('ab', 1\)", "'ab'"),
        (yields_word, "map yielded 'ab', which is no", "'ab'"),
        (yields_none, "map yielded None, which is no", "'ab'"),
        (yields_triple, r"map yielded \('ab', 1, 2\), which is no", "'ab'"),
        (takes_two, "takes_two.*missing 1 required positional argument", "'ab'"),
        (mixes, "str in one record and int in another.*'ab' from record 'ab' of books/a.txt at offset 0", "'3'"),
        (leaves, "map leaves raised SystemExit: 7", "'3'"),
    ],
)
@pytest.mark.parametrize("is_map_only", [False, True])
def test_wrong_maps_are_told_by_their_record(
    function: Any, message: str, record: str, is_map_only: bool, tmp_path: Path
) -> None:
    text = b"ab\n3\n"
    context = TaskContext(path="books/a.txt")
    if is_map_only:
        job = Job(function)
        records = open_records(io.BytesIO(text), offset=0, length=5, input_format=job.steps[0].input, context=context)
        with pytest.raises(UserCodeError, match=message) as caught:
            run_map_only(job.steps[0], records, Workplace(tmp_path, "part", "pairs", 0, context, RealDisk()))
        error = caught.value
    else:
        error = failing(Job(function, Sum()), text, tmp_path)
        assert re.search(message, str(error))
    assert error.record == record


@pytest.mark.parametrize("is_careful", [False, True])
def test_an_input_that_cannot_be_read_is_no_fault_of_a_record(is_careful: bool, tmp_path: Path) -> None:
    context, care = TaskContext(path="books/a.txt"), Care(is_careful=is_careful)
    step = Job(counts_strings).steps[0]
    with Path("/proc/self/mem").open("rb") as stream, pytest.raises(OSError, match="Input/output error"):
        run_map_only(
            step,
            open_records(stream, offset=0, length=100, input_format=step.input, context=context),
            Workplace(tmp_path, "part", "pairs", 0, context, RealDisk(), care),
        )
    assert care.suspects == []


def counts_strings(line: str) -> Any:
    yield line, line


def test_what_cannot_be_summed_is_told_by_its_record(tmp_path: Path) -> None:
    error = failing(Job(counts_strings, Sum()), b"ab\n3\n", tmp_path)
    assert "sums are of int and float, not of str: 'ab'" in error.message
    assert error.record == "'ab'"


class Ints(Aggregation[str, int, int]):
    """Sums of what its `add` makes ints of."""

    def start(self) -> int:
        return 0

    def add(self, state: int, value: str) -> int:
        return state + int(value)

    def merge(self, left: int, right: int) -> int:
        return left + right

    def finish(self, state: int) -> int:
        return state


def to_one(line: str) -> Iterator[tuple[str, str]]:
    yield "all", line


def to_one_in_columns(batch: Any) -> Any:
    return columns.pairs(pa.array(["all"] * len(batch)), batch["line"])


@pytest.mark.parametrize("fold_pairs", [20, 50_000])
@pytest.mark.parametrize("is_columnar", [False, True], ids=["records", "columns"])
def test_what_an_aggregation_raises_names_it_and_no_record_that_is_innocent(
    is_columnar: bool, fold_pairs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "FOLD_PAIRS", fold_pairs)
    lines = ["x" if number == 10 else str(number) for number in range(400)]
    (tmp_path / "in.txt").write_text("\n".join(lines))
    job: Job[Any, Any] = Job(map_batch=to_one_in_columns, reduce=Ints()) if is_columnar else Job(to_one, Ints())
    with pytest.raises(UserCodeError, match="add of Ints raised ValueError: invalid literal") as caught:
        run_inline(job, [tmp_path / "in.txt"])
    assert (caught.value.record, caught.value.position, caught.value.offset) == ("", None, None)
    assert "return state + int(value)" in caught.value.traceback_text
    with job.run(tmp_path / "in.txt", inline=True, skip_bad_records=1) as result:
        assert dict(result) == {"all": sum(range(400)) - 10}
        assert [(bad.position, bad.record) for bad in result.skipped] == [(10, "x")]


def test_values_that_have_no_order_are_the_fault_of_the_aggregation_also_where_spills_meet(tmp_path: Path) -> None:
    def numbers_then_words(line: str) -> Iterator[tuple[str, Any]]:
        yield "all", int(line) if line.isdigit() else line

    job: Job[Any, Any] = Job(numbers_then_words, Min())
    text = "".join(f"{number}\n" for number in range(20)) + "word\n" * 20
    with pytest.raises(UserCodeError, match="add of Min raised TypeError: '<' not supported") as caught:
        map_text(job, text.encode(), tmp_path)
    assert caught.value.record == ""
    with pytest.raises(UserCodeError, match="merge of Min raised TypeError: '<' not supported") as caught:
        map_text(job, text.encode(), tmp_path, limit=1)
    assert caught.value.record == ""


def to_partition(key: str, partitions: int) -> int:
    return len(key) + partitions - partitions


def one(line: str) -> Iterator[tuple[str, int]]:
    yield line, 1


def test_a_partition_that_does_not_exist_is_told_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match=r"(?s)partition gave 3 for the key 'ccc'.*from 0 to 2"):
        map_text(Job(one, Sum(), partition=to_partition), b"a\nccc\n", tmp_path, partitions=3)


def test_a_partition_function_places_its_keys(tmp_path: Path) -> None:
    made = map_text(Job(one, Sum(), partition=to_partition), b"a\nbb\n", tmp_path, partitions=4)
    assert [size > 130 for size in made.partition_bytes] == [False, True, True, False]


def by_length(line: str) -> Iterator[tuple[Any, int]]:
    yield (line if len(line) > 1 else len(line)), 1


def test_kinds_that_differ_between_tasks_are_told_when_their_runs_meet(tmp_path: Path) -> None:
    job = Job(by_length, Sum())
    for name, text in (("m0", b"abc\n"), ("m1", b"d\n"), ("out", b"")):
        (tmp_path / name).mkdir()
        if text:
            map_text(job, text, tmp_path / name)
    with pytest.raises(UserCodeError, match=r"str in one record and int in another.*'abc' from record 'abc'.*'d'"):
        reduce_all(job, [tmp_path / "m0", tmp_path / "m1"], tmp_path / "out")


def test_kinds_that_differ_between_partitions_are_told_too(tmp_path: Path) -> None:
    job = Job(by_length, Sum(), partition=lambda key, _: int(isinstance(key, str)))
    for name, text in (("m0", b"abc\n"), ("m1", b"d\n"), ("out", b"")):
        (tmp_path / name).mkdir()
        if text:
            map_text(job, text, tmp_path / name, partitions=2)
    with pytest.raises(UserCodeError, match="str in one record and int in another"):
        reduce_all(job, [tmp_path / "m0", tmp_path / "m1"], tmp_path / "out")


def raising(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
    for value in values:
        if key == "b":
            raise KeyError(key)
        yield key, value


def test_a_reduce_that_raises_is_told_by_its_key(tmp_path: Path) -> None:
    job = Job(one, raising)
    (tmp_path / "out").mkdir()
    map_text(job, b"a\nb\nc\n", tmp_path)
    with pytest.raises(UserCodeError, match="reduce raising raised KeyError: 'b'\n  at key 'b'") as caught:
        reduce_all(job, [tmp_path], tmp_path / "out")
    assert "raise KeyError(key)" in caught.value.traceback_text


def other_key(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield key + "!", sum(values)


def test_a_combine_that_changes_its_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="combine other_key: combine yielded the key 'a!' for 'a'"):
        map_text(Job(one, other_key, combine=other_key), b"a\n", tmp_path)


def test_a_damaged_run_is_corruption_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    map_text(Job(one, Sum()), b"a\nb\nc\n", tmp_path)
    data = tmp_path / DATA_NAME
    raw = bytearray(data.read_bytes())
    raw[-60] ^= 1
    data.write_bytes(raw)
    with pytest.raises(Corruption, match=r"output\.data"):
        reduce_all(Job(one, Sum()), [tmp_path], tmp_path / "out")


class Opened:
    """A map that must be entered before it is used."""

    def __init__(self) -> None:
        self.entered = 0
        self.left: list[type[BaseException] | None] = []

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left.append(kind)

    def __call__(self, line: str) -> Iterator[tuple[str, int]]:
        assert len(self.left) < self.entered
        task.counter("mine", "lines").add()
        task.status(f"at {task.input_path}:{task.offset}")
        yield line, 1 // len(line)


def test_a_map_that_is_a_context_manager_is_entered_once_per_attempt(tmp_path: Path) -> None:
    opened = Opened()
    map_text(Job(opened, Sum()), b"a\nb\n", tmp_path)
    assert (opened.entered, opened.left) == (1, [None])
    (tmp_path / "second").mkdir()
    with pytest.raises(UserCodeError):
        map_text(Job(opened, Sum()), b"a\n\n", tmp_path / "second")
    assert opened.entered == 2
    assert len(opened.left) == 2


class Slamming(Opened):
    """A function that fails when it is left, and would have every other failure forgotten."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        super().__exit__(kind, error, trace)
        if kind is None:
            raise ValueError("slammed")
        return True


class SlammingGroups(Slamming):
    """The same of a reduce or combine."""

    def __call__(self, key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:  # type: ignore[override]
        yield key, sum(values)


def one_each(line: str) -> Iterator[tuple[str, int]]:
    yield line, 1 // len(line)


SLAMMED = {
    "map": Job(Slamming(), Sum()),
    "map of a part": Job(Slamming()),
    "combine": Job(one_each, SlammingGroups(), combine=SlammingGroups()),
    "reduce": Job(one_each, SlammingGroups()),
}


@pytest.mark.parametrize("name", ["map", "map of a part", "combine", "reduce"])
def test_what_is_raised_on_leaving_is_the_users_and_no_records(name: str, tmp_path: Path) -> None:
    job, role = SLAMMED[name], name.partition(" ")[0]
    run: Callable[[], object] = partial(map_part if "part" in name else map_text, job, b"a\nb\n", tmp_path)
    if role == "reduce":
        run()
        run = partial(reduce_all, job, [tmp_path], tmp_path)
    with pytest.raises(UserCodeError) as caught:
        run()
    error = caught.value
    assert f"{role} Slamming" in error.message
    assert "raised ValueError: slammed" in error.message
    assert error.traceback_text.endswith("ValueError: slammed\n")
    assert "in __exit__" in error.traceback_text
    assert (error.record, error.offset, error.position) == ("", None, None)
    with pytest.raises(UserCodeError, match=rf"{role} Slamming\w* raised ValueError: slammed"):
        job.test(["a", "b"])


def test_what_went_wrong_before_leaving_is_told_and_cannot_be_swallowed(tmp_path: Path) -> None:
    for run in (map_text, map_part):
        with pytest.raises(UserCodeError, match="map Slamming raised ZeroDivisionError") as caught:
            run(Job(Slamming(), Sum()), b"a\n\n", tmp_path)
        assert caught.value.offset == 2


def test_a_partition_and_the_packing_of_values_come_before_the_map_is_left(tmp_path: Path) -> None:
    class Placing(Opened):
        def place(self, key: str, partitions: int) -> int:
            assert len(self.left) < self.entered
            return len(key) % partitions

    opened = Placing()
    job = Job(opened, Sum(), partition=opened.place)
    map_text(job, b"a\nbb\n", tmp_path, partitions=2)
    assert opened.left == [None]


def test_user_code_sees_its_task(tmp_path: Path) -> None:
    context = TaskContext(path="f.txt")
    job = Job(Opened(), Sum())
    records = open_records(io.BytesIO(b"a\nb\n"), offset=0, length=4, input_format=job.steps[0].input, context=context)
    run_map(job.steps[0], records, 1, Workplace(tmp_path, "part", "pairs", 1 << 20, context, RealDisk()))
    assert context.counters["mine", "lines"] == 2
    assert context.status == "at f.txt:2"
    assert (task.input_path, task.offset, task.attempt_id, task.work_dir) == (None, None, None, None)
    task.counter("mine", "lines").add()
    task.status("outside of a task, this goes nowhere")
    assert context.counters["mine", "lines"] == 2


class Unpackable:
    """A value whose own code fails when it is pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        raise RuntimeError("no pickle of mine")


@pytest.mark.parametrize(("value", "told"), [(Unpackable(), "no pickle of mine"), (threading.Lock(), "")])
def test_a_value_that_cannot_be_stored_shows_no_frames_but_the_users(value: object, told: str, tmp_path: Path) -> None:
    def yields_it(line: str) -> Iterator[tuple[str, object]]:
        yield line, value

    with pytest.raises(UserCodeError) as caught:
        map_text(Job(yields_it, lambda key, values: [(key, list(values))]), b"a\n", tmp_path)
    assert told in caught.value.traceback_text
    assert "msgpack" not in caught.value.traceback_text
    assert "minireduce/engine" not in caught.value.traceback_text
    assert bool(told) == bool(caught.value.traceback_text)


def test_the_traceback_ends_at_what_the_user_called_of_ours(tmp_path: Path) -> None:
    def words(line: str) -> Iterator[tuple[str, int]]:
        task.counter("lines", "read").add("one")  # type: ignore[arg-type]
        yield line, 1

    with pytest.raises(UserCodeError) as caught:
        map_text(Job(words, Sum()), b"a\n", tmp_path)
    assert 'task.counter("lines", "read").add("one")' in caught.value.traceback_text
    assert "minireduce/engine" not in caught.value.traceback_text
    assert "minireduce/api" not in caught.value.traceback_text
