"""Named outputs: the same bytes however a map spilled, a table that shows damage, and refusals that name the record."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from minireduce import Job, Sum, Text, task
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.disk_rates import DiskRates
from minireduce.engine.errors import InvalidValue, UserCodeError
from minireduce.engine.frame_compression import FrameCompression
from minireduce.engine.frames import Source
from minireduce.engine.index import read_index
from minireduce.engine.map import DATA_NAME, INDEX_NAME, MapOutput
from minireduce.engine.named_outputs import NamedOutputs
from minireduce.engine.part_table import read_table
from minireduce.engine.read import read_pairs
from minireduce.engine.tasks import MapWork, run_task
from minireduce.engine.workplace import Workplace
from minireduce.errors import Corruption, RequestError

ERRORS = {"errors": Text()}


def odd(number: int) -> Iterator[tuple[int, str]]:
    if number % 2:
        task.emit("errors", number, "x" * (number % 50))
    yield number % 11, "y" * 100


def run_map(
    job: Job[Any, Any],
    records: list[Any],
    directory: Path,
    *,
    limit: int = 64 << 20,
    index: int = 1,
    compression: FrameCompression | None = None,
) -> Any:
    context = TaskContext(compression=compression)
    place = Workplace(directory, "part", "pairs", limit, context, RealDisk(), None, index)
    return run_task(job.steps[0], MapWork(context.walk(records), 3), place)


def test_a_map_that_spills_leaves_the_same_bytes(tmp_path: Path) -> None:
    job = Job(odd, Sum(), outputs=ERRORS).replaced(reduce=lambda key, values: [(key, list(values))])
    records = list(range(20_000))
    whole, spilled = run_map(job, records, tmp_path / "a"), run_map(job, records, tmp_path / "b", limit=1 << 20)
    assert isinstance(whole, MapOutput)
    assert whole.digest == spilled.digest
    for name in (DATA_NAME, INDEX_NAME):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == sorted([DATA_NAME, INDEX_NAME])


def outputs_behind(directory: Path, index: int) -> bytes:
    """What stands behind the pairs of this partition of a map output."""
    offset, length = read_index(directory / INDEX_NAME)[index]
    with (directory / DATA_NAME).open("rb") as file:
        table = read_table(Source(file, "it"), offset, length)
    return (directory / DATA_NAME).read_bytes()[offset + table.pairs_bytes : offset + length]


def test_a_map_that_compresses_what_it_writes_leaves_the_same_digest_and_outputs(tmp_path: Path) -> None:
    job = Job(odd, Sum(), outputs=ERRORS).replaced(reduce=lambda key, values: [(key, list(values))])
    records = list(range(20_000))
    plain = run_map(job, records, tmp_path / "a", limit=1 << 20)
    rates = DiskRates()
    compression = FrameCompression("always", rates)
    compressed = run_map(job, records, tmp_path / "b", limit=1 << 20, compression=compression)
    assert rates.saved_bytes > 0
    assert plain.digest == compressed.digest
    assert (tmp_path / "b" / DATA_NAME).stat().st_size < (tmp_path / "a" / DATA_NAME).stat().st_size
    assert outputs_behind(tmp_path / "a", 1) == outputs_behind(tmp_path / "b", 1)
    assert len(outputs_behind(tmp_path / "a", 1)) > 10_000


def test_attempts_that_read_the_same_under_names_of_other_lengths_agree(tmp_path: Path) -> None:
    step = Job(odd, Sum(), outputs=ERRORS).then(lambda key, value: [(str(key), value)], Sum()).steps[1]
    made: list[Any] = []
    for path in ("step-0/part-00000", "/data/of/a/worker/jobs/job-000001-1_s0_r00000_a0/part"):
        context = TaskContext(path=path)
        place = Workplace(tmp_path / str(len(made)), "part", "pairs", 64 << 20, context, RealDisk())
        made.append(run_task(step, MapWork(context.walk([(1, 2), (3, 4)]), 3), place))
    short, long = made
    assert short.digest == long.digest
    assert short.partition_bytes < long.partition_bytes  # the first key's place is in each partition all the same


def test_a_map_that_gives_no_pairs_still_gives_what_is_aside(tmp_path: Path) -> None:
    def only_aside(number: int) -> Iterator[tuple[int, str]]:
        task.emit("errors", number, None)
        yield from ()

    made = run_map(Job(only_aside, Sum(), outputs=ERRORS), [1, 2], tmp_path / "a")
    assert made.partition_bytes[1] > max(made.partition_bytes[0], made.partition_bytes[2])
    none = run_map(Job(only_aside, Sum(), outputs=ERRORS), [], tmp_path / "b")
    assert none.partition_bytes == (0, 0, 0)


def test_every_flipped_byte_of_a_table_is_found(tmp_path: Path) -> None:
    made = run_map(Job(odd, Sum(), outputs=ERRORS).replaced(reduce=None), [1], tmp_path / "a", index=0)
    path = tmp_path / "a" / DATA_NAME
    data = path.read_bytes()[: made.partition_bytes[0]]
    with path.open("rb") as file:
        table = read_table(Source(file, "it"), 0, len(data))
    offset, length = table.outputs["errors"]
    for at in range(offset + length, len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        (tmp_path / "damaged").write_bytes(damaged)
        with (tmp_path / "damaged").open("rb") as file, pytest.raises(Corruption, match="it "):
            read_table(Source(file, "it"), 0, len(damaged))


def refused_from(job: Job[Any, Any], tmp_path: Path) -> str:
    with pytest.raises(UserCodeError) as refused:
        run_map(job, [4, 5, 6], tmp_path / "refused", limit=1 << 20)
    return str(refused.value)


@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda n: task.emit("eror", n, 1), "no output 'eror'"),
        (lambda n: task.emit("errors", math.nan, 1), "NaN"),
        (lambda n: task.emit("errors", n if n < 5 else str(n), 1), "str"),
    ],
)
def test_what_cannot_be_given_names_the_record(give: Callable[[Any], None], told: str, tmp_path: Path) -> None:
    def mapped(number: int) -> Iterator[tuple[int, int]]:
        if number > 4 or told != "no output 'eror'":
            give(number)
        yield number, 1

    message = refused_from(Job(mapped, Sum(), outputs=ERRORS), tmp_path)
    assert told in message
    assert "at record" in message


def test_a_combine_gives_nothing(tmp_path: Path) -> None:
    def combined(key: int, values: Iterator[str]) -> Iterator[tuple[int, str]]:
        task.emit("errors", key, 1)
        yield key, max(values)

    job = Job(odd, combined, combine=combined, outputs=ERRORS)
    assert "combine, which may run any number of times" in refused_from(job, tmp_path)
    with pytest.raises(UserCodeError, match="from combine"):
        Job(lambda line: [(line, line), (line, line)], combined, combine=combined, outputs=ERRORS).test(["a"])


def test_a_process_that_user_code_forks_gives_nothing(tmp_path: Path) -> None:
    def forking(number: int) -> Iterator[tuple[int, int]]:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                task.emit("errors", number, 1)
            except InvalidValue as error:
                os.write(writer, error.message.encode())
            os._exit(0)
        os.waitpid(child, 0)
        yield number, len(os.read(reader, 1000))

    message = "a pair for the output 'errors' from a process that was forked, whose memory goes with it"
    context = TaskContext()
    place = Workplace(tmp_path / "it", "part", "pairs", 64 << 20, context, RealDisk())
    run_task(Job(forking, outputs=ERRORS).steps[0], MapWork(context.walk([1, 2]), 0), place)
    with (tmp_path / "it" / "part").open("rb") as part:
        assert list(read_pairs(part)) == [(1, len(message)), (2, len(message))]
        assert not read_table(Source(part, "it"), 0, part.seek(0, 2)).outputs


def test_a_trial_shows_what_was_given_once() -> None:
    def words(line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            if word == "?":
                task.emit("errors", line, {"n": 1})
            else:
                yield word, 1

    def total(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        count = sum(values)
        task.emit("many", key, count)
        yield key, count

    def all_words(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
        return (pair for line in lines for pair in words(line))

    for lane in ({"map": words}, {"map_records": all_words}):
        job = Job(**lane, reduce=total, combine=lambda key, values: [(key, sum(values))])  # type: ignore[call-overload]
        job = job.replaced(outputs=("errors", "many"))
        tried = job.test(["a ? a", "b"])
        assert tried == [("a", 2), ("b", 1)]
        assert tried.outputs == {"errors": [("a ? a", {"n": 1})], "many": [("a", 2), ("b", 1)]}


@pytest.mark.parametrize(
    "outputs",
    [
        ["errors"],
        {"a/b": Text()},
        {"part-1": Text()},
        {"errors": "text"},
        {1: Text()},
        dict.fromkeys(map("o{}".format, range(101)), Text()),
    ],
)
def test_what_declares_no_output_is_refused(outputs: Any) -> None:
    with pytest.raises(RequestError, match="output"):
        Job(odd, Sum(), outputs=outputs)


class Leaving:
    """A map, reduce or combine that gives something when it is left."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __enter__(self) -> None:
        pass

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __exit__(self, *_: object) -> None:
        for number in range(3):
            task.emit("errors", number, bytes(40 << 10))  # more together than is held in memory


def test_what_a_combine_gives_on_leaving_is_refused(tmp_path: Path) -> None:
    def longest(key: int, values: Iterator[str]) -> Iterator[tuple[int, str]]:
        yield key, max(values)

    job = Job(odd, longest, combine=Leaving(longest), outputs=ERRORS)
    with pytest.raises(UserCodeError, match="'errors' from combine, which may run any number of times"):
        run_map(job, [1, 2], tmp_path)
    with pytest.raises(UserCodeError, match="'errors' from combine"):
        job.test([])


def test_what_is_given_after_it_was_written_is_refused_and_not_lost(tmp_path: Path) -> None:
    named = NamedOutputs(
        ("errors",), (), directory=tmp_path, form="pairs", disk=RealDisk(), progress=lambda: None, index=0
    )
    with named:
        named.give("errors", 1, "x")
        assert named.tail(has_pairs=False) is not None
        with pytest.raises(InvalidValue, match="after the task has written it"):
            named.give("errors", 2, "y")


def test_a_trial_shows_once_what_is_given_on_leaving() -> None:
    def rows(batch: Any) -> Any:
        return pa.record_batch({"key": batch["line"], "value": pa.array([1] * len(batch))})

    def groups(batch: Any) -> Any:
        return pa.record_batch({"key": batch["key"], "value": batch["value"]})

    def lines(given: Iterator[str]) -> Iterator[tuple[str, int]]:
        return ((line, 1) for line in given)

    def total(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield key, sum(values)

    options: list[dict[str, Any]] = [
        {"map": Leaving(lambda line: [(line, 1)]), "reduce": total},
        {"map_records": Leaving(lines), "reduce": total},
        {"map_batch": Leaving(rows), "reduce": total},
        {"map_records": lines, "reduce": Leaving(total)},
        {"map_records": lines, "reduce_batch": Leaving(groups)},
    ]
    for each in options:
        tried = Job(**each, outputs=ERRORS).test(["a", "b"])
        assert tried == [("a", 1), ("b", 1)]
        assert tried.outputs == {"errors": [(number, bytes(40 << 10)) for number in range(3)]}


def test_outside_a_task_giving_is_harmless() -> None:
    task.emit("errors", "key", 1)
    tried = Job(lambda line: [(line, 1)], outputs={"errors": Text()}).test(["a"])
    assert tried.outputs == {"errors": []}  # it waited for no task either
