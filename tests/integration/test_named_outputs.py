"""What tasks give to named outputs is there once, whole, wherever the job runs and whatever becomes of attempts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from minireduce import Job, JobFailed, JobResult, LocalCluster, Sum, Text, task
from minireduce.errors import RequestError

OUTPUTS = {"errors": Text(), "many": Text()}
LINES = [f"{'abcde'[n % 5]} {n}" if n % 7 else f"? {n}" for n in range(200)]
ERRORS = [(n, {"line": line, "raw": line.encode()}) for n, line in enumerate(LINES) if line.startswith("?")]
COUNTS = {key: sum(line.startswith(key) for line in LINES) for key in "abcde"}


def give(line: str) -> bool:
    """Give a line that is no good to `errors`."""
    key, number = line.split()
    if key == "?":
        task.emit("errors", int(number), {"line": line, "raw": line.encode()})
    return key == "?"


def pairs(line: str) -> Iterator[tuple[str, int]]:
    if not give(line):
        yield line[0], 1


def all_pairs(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    return ((line[0], 1) for line in lines if not give(line))


def pairs_of_batch(batch: Any) -> Any:
    import pyarrow as pa

    good = [line[0] for line in batch["line"].to_pylist() if not give(line)]
    return pa.record_batch({"key": pa.array(good, pa.string()), "value": pa.array([1] * len(good), pa.int64())})


def total(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
    count = sum(values)
    task.emit("many", key, count)
    yield key, count


def same(key: str, count: int) -> Iterator[tuple[str, int]]:
    task.emit("late", key, -count)
    yield key, count


MAPS: dict[str, dict[str, Any]] = {
    "map": {"map": pairs},
    "map_records": {"map_records": all_pairs},
    "map_batch": {"map_batch": pairs_of_batch},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("MINIREDUCE_MASTER", raising=False)
        with LocalCluster(workers=2, slots=1) as started:
            yield started


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("MINIREDUCE_MASTER", raising=False)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Four files, so four maps."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(4):
        (folder / f"{index}.txt").write_text("".join(f"{line}\n" for line in LINES[index * 50 : index * 50 + 50]))
    return folder


def where_to_run(where: str, cluster: LocalCluster) -> dict[str, Any]:
    return {"inline": {"inline": True}, "embedded": {"slots": 1}, "cluster": {"master": cluster}}[where]


def parts_of(result: JobResult[Any, Any]) -> list[bytes]:
    """The typed parts as they were fetched, and what was beside them."""
    result.fetch_all()
    assert result._folder is not None
    return [path.read_bytes() for path in sorted(result._folder.rglob("part-*"))]


@pytest.mark.parametrize("lane", list(MAPS))
def test_all_lanes_and_places_give_the_same(lane: str, cluster: LocalCluster, text: Path) -> None:
    job = Job(**MAPS[lane], reduce=total, outputs=OUTPUTS)
    seen = []
    for where in ("inline", "embedded", "cluster"):
        result = job.run(text, reducers=3, split_size=200, **where_to_run(where, cluster))
        assert dict(result) == COUNTS
        for _ in range(2):
            assert sorted(result.outputs["errors"]) == ERRORS
        assert dict(result.outputs["many"]) == COUNTS
        assert len(result.outputs["errors"].head(2)) == 2
        seen.append(parts_of(result))
        result.close()
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("where", ["inline", "cluster"])
def test_a_map_without_reduce_and_a_declared_aggregation_give_too(
    where: str, cluster: LocalCluster, text: Path
) -> None:
    for reduce in (None, Sum()):
        result = Job(pairs, reduce, outputs={"errors": Text()}).run(text, **where_to_run(where, cluster))
        assert sorted(result.outputs["errors"]) == ERRORS
        result.close()


@pytest.mark.parametrize("where", ["inline", "cluster"])
def test_several_inputs_and_batches_of_groups_give_too(where: str, cluster: LocalCluster, text: Path) -> None:
    def joined(key: str, left: Any, right: Iterator[int]) -> Iterator[tuple[str, int]]:
        task.emit("many", key, len(list(left)))
        yield key, sum(right)

    def totals(batch: Any) -> Any:
        import pyarrow as pa

        counts = {key.as_py(): len(batch.filter(pa.compute.equal(batch["key"], key))) for key in batch["key"].unique()}
        for key, count in counts.items():
            task.emit("many", key, count)
        return pa.record_batch({"key": pa.array(list(counts)), "value": pa.array(list(counts.values()))})

    join = Job({"left": pairs, "right": pairs}, joined, outputs=OUTPUTS)
    both = join.run({"left": text, "right": text}, reducers=2, **where_to_run(where, cluster))
    assert sorted(both.outputs["errors"], key=lambda pair: pair[0]) == sorted(ERRORS * 2, key=lambda pair: pair[0])
    batches = Job(pairs, reduce_batch=totals, outputs=OUTPUTS).run(text, reducers=2, **where_to_run(where, cluster))
    assert sorted(batches.outputs["errors"]) == ERRORS
    for result in (both, batches):
        assert dict(result) == dict(result.outputs["many"]) == COUNTS
        result.close()


@pytest.mark.parametrize("where", ["inline", "cluster"])
def test_what_every_step_gives_arrives_with_the_last(where: str, cluster: LocalCluster, text: Path) -> None:
    job = Job(pairs, total, outputs=OUTPUTS).then(same, outputs={"late": Text()}).then(None, Sum())
    result = job.run(text, reducers=2, **where_to_run(where, cluster))
    assert dict(result) == COUNTS
    assert {name: len(list(given)) for name, given in result.outputs.items()} == {
        "errors": len(ERRORS),
        "late": 5,
        "many": 5,
    }
    assert dict(result.outputs["late"]) == {key: -count for key, count in COUNTS.items()}
    again = Job(lambda key, count: [(key, count)], input=result, outputs={"errors": Text()})
    second = again.run(**where_to_run(where, cluster))
    assert dict(second) == COUNTS  # a job over a result reads its pairs alone
    assert list(second.outputs["errors"]) == []
    second.close()
    result.close()


@pytest.mark.parametrize("where", ["inline", "cluster"])
def test_a_later_step_calls_its_input_the_same_wherever_that_lies(
    where: str, cluster: LocalCluster, text: Path
) -> None:
    def placed(key: str, count: int) -> Iterator[tuple[str, int]]:
        task.emit("late", key, task.input_path)
        yield key, count

    job = Job(pairs, Sum(), outputs={"errors": Text()}).then(placed, Sum(), outputs={"late": Text()})
    with job.run(text, reducers=2, **where_to_run(where, cluster)) as result:
        places = dict(result.outputs["late"])
    assert sorted(places) == sorted(COUNTS)
    assert set(places.values()) == {"step-0/part-00000", "step-0/part-00001"}


@pytest.mark.parametrize("where", ["inline", "cluster"])
@pytest.mark.parametrize("reduce", [None, Sum()])
def test_what_earlier_steps_gave_does_not_depend_on_a_map_that_asks_for_its_pairs(
    reduce: Sum | None, where: str, cluster: LocalCluster, text: Path
) -> None:
    def deaf(_: Iterator[tuple[str, int]]) -> list[tuple[str, int]]:
        return []

    job = Job(pairs, Sum(), outputs={"errors": Text()}).then(map_records=deaf, reduce=reduce)
    with job.run(text, reducers=2, **where_to_run(where, cluster)) as result:
        assert list(result) == []
        assert sorted(result.outputs["errors"]) == ERRORS


@pytest.mark.parametrize("where", ["inline", "embedded", "cluster"])
def test_text_goes_into_a_directory_for_each_output(
    where: str, cluster: LocalCluster, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = Job(pairs, total, outputs=OUTPUTS | {"never": Text()})
    result = job.run(text, output=out, reducers=2, **where_to_run(where, cluster))
    with pytest.raises(RequestError, match="wrote text"):
        list(result.outputs["errors"])
    result.close()
    assert sorted(path.name for path in out.iterdir()) == [
        "_SUCCESS",
        "errors",
        "many",
        "never",
        "part-00000",
        "part-00001",
    ]
    lines = [line for part in sorted(out.glob("part-*")) for line in part.read_text().splitlines()]
    assert dict(line.split("\t") for line in lines) == {key: str(count) for key, count in COUNTS.items()}
    given = [line for part in (out / "errors").iterdir() for line in part.read_text().splitlines()]
    assert sorted(int(line.split("\t")[0]) for line in given) == [number for number, _ in ERRORS]
    assert list((out / "never").iterdir()) == []


class Leaving:
    """A function that gives how often it was called when it is left, and more than is held in memory."""

    def __init__(self, role: str, function: Any) -> None:
        self.role, self.function, self.calls = role, function, 0

    def __enter__(self) -> Any:
        self.calls = 0
        return self

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return self.function(*arguments)

    def __exit__(self, *_: object) -> None:
        task.emit("left", self.role, self.calls)
        for _ in range(3):
            task.emit("left", f"large {self.role}", bytes(40 << 10))


@pytest.mark.parametrize("where", ["inline", "cluster"])
@pytest.mark.parametrize("lane", list(MAPS))
@pytest.mark.parametrize("reduce", [total, None])
def test_what_a_context_manager_gives_on_leaving_is_there(
    reduce: Any, lane: str, where: str, cluster: LocalCluster, text: Path
) -> None:
    mapper = {lane: Leaving("map", MAPS[lane][lane])}
    reducer = None if reduce is None else Leaving("reduce", reduce)
    job: Job[Any, Any] = Job(**mapper, reduce=reducer, outputs=OUTPUTS | {"left": Text()})
    reducers = {} if reduce is None else {"reducers": 2}
    with job.run(text, split_size=200, **reducers, **where_to_run(where, cluster)) as result:
        given = list(result.outputs["left"])
        assert sorted(result.outputs["errors"]) == ERRORS
    calls = [value for key, value in given if key == "map"]
    large = [len(value) for key, value in given if key == "large map"]
    assert calls
    assert large == [40 << 10] * 3 * len(calls)
    assert sum(calls) == (len(LINES) if lane == "map" else len(calls))
    reduces = [value for key, value in given if key == "reduce"]
    assert sum(reduces) == (len(COUNTS) if reduce else 0)
    assert len(reduces) == (2 if reduce else 0)
    assert sum(key == "large reduce" for key, _ in given) == 3 * len(reduces)


def test_the_block_store_gets_them_as_well(cluster: LocalCluster, text: Path) -> None:
    job = Job(pairs, Sum(), outputs={"errors": Text()})
    job.run(text, output="mr:///named/out", reducers=2, master=cluster).close()
    with cluster.connect() as connection:
        fs = connection.fs
        names = [entry.path.rpartition("/")[2] for entry in fs.ls("/named/out")]
        lines = b"".join(fs.open(entry.path).read() for entry in fs.ls("/named/out/errors")).splitlines()
    assert names == ["_SUCCESS", "errors", "part-00000", "part-00001"]
    assert sorted(int(line.split(b"\t")[0]) for line in lines) == [number for number, _ in ERRORS]


def test_an_attempt_that_dies_leaves_nothing(cluster: LocalCluster, text: Path, tmp_path: Path) -> None:
    once = tmp_path / "once"

    def dying(line: str) -> Iterator[tuple[str, int]]:
        give(line)
        if line == LINES[140] and not once.exists():
            once.touch()
            os._exit(9)
        yield line[0], 1

    result = Job(dying, Sum(), outputs={"errors": Text()}).run(text, master=cluster, reducers=2)
    assert once.exists()
    assert sorted(result.outputs["errors"]) == ERRORS
    result.close()


def test_a_backup_attempt_gives_nothing_twice(cluster: LocalCluster, text: Path, tmp_path: Path) -> None:
    gate, first = tmp_path / "gate", tmp_path / "first"
    os.mkfifo(gate)

    def waiting(line: str) -> Iterator[tuple[str, int]]:
        if not give(line):
            yield line[0], 1
        if line == LINES[140]:
            (tmp_path / f"at-{task.attempt_id}").touch()
            try:
                first.touch(exist_ok=False)
            except FileExistsError:
                gate.write_text("go on")
            else:
                gate.read_text()  # until another attempt has come as far

    with Job(waiting, total, outputs=OUTPUTS).run(text, master=cluster, reducers=2, split_size=200) as result:
        assert sorted(result.outputs["errors"]) == ERRORS
        assert sorted(result.outputs["many"]) == sorted(COUNTS.items())
    assert len(list(tmp_path.glob("at-*"))) == 2


def test_a_worker_that_is_lost_with_what_maps_and_a_reduce_gave_costs_nothing(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIREDUCE_WORKER_LOST_S", "1")
    killed = tmp_path / "killed"

    def killing(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        task.emit("many", key, count := sum(values))
        if not killed.exists():
            killed.touch()
            zygote = psutil.Process().parent()
            assert zygote is not None
            worker = zygote.parent()
            assert worker is not None
            worker.kill()
            worker.wait()
        yield key, count

    with LocalCluster(workers=2, slots=1) as cluster:
        job = Job(pairs, killing, outputs=OUTPUTS, speculation=False)
        with job.run(text, reducers=2, split_size=200, master=cluster) as result:
            assert sorted(result.outputs["errors"]) == ERRORS
            assert sorted(result.outputs["many"]) == sorted(COUNTS.items())
            assert dict(result) == COUNTS
        assert sum(worker.process.poll() is not None for worker in cluster._workers) == 1


@pytest.mark.parametrize("where", ["inline", "cluster"])
def test_a_record_that_is_left_out_has_given_nothing(where: str, cluster: LocalCluster, text: Path) -> None:
    def picky(line: str) -> Iterator[tuple[str, int]]:
        if not give(line):
            yield line[0], 1
        elif line.endswith("7"):
            raise ValueError(line)

    job = Job(picky, Sum(), outputs={"errors": Text()}, skip_bad_records=100)
    result = job.run(text, reducers=2, **where_to_run(where, cluster))
    assert sorted(result.outputs["errors"]) == [pair for pair in ERRORS if pair[0] % 10 != 7]
    assert dict(result) == COUNTS
    assert len(result.skipped) == sum(number % 10 == 7 for number, _ in ERRORS)
    result.close()


@pytest.mark.parametrize("where", ["inline", "cluster"])
def test_what_cannot_be_given_is_told_with_its_record(where: str, cluster: LocalCluster, text: Path) -> None:
    def undeclared(line: str) -> Iterator[tuple[str, int]]:
        task.emit("eror", line, 1)
        yield line, 1

    with pytest.raises(JobFailed, match="no output 'eror'") as failed:
        Job(undeclared, Sum(), outputs=OUTPUTS).run(text, **where_to_run(where, cluster))
    assert "'? 0'" in str(failed.value)
    assert "errors, many" in str(failed.value) + str(failed.value.hint)
    with pytest.raises(JobFailed, match="no output 'eror'"):
        Job(undeclared, Sum()).run(text, **where_to_run(where, cluster))


@pytest.mark.parametrize("where", ["inline", "cluster"])
@pytest.mark.parametrize("later", [0, 1])
def test_what_cannot_be_text_is_the_fault_of_its_record_where_the_job_writes_text(
    later: int, where: str, cluster: LocalCluster, text: Path, tmp_path: Path
) -> None:
    def odd(line: str) -> Iterator[tuple[str, int]]:
        key, number = line.split()
        if key == "?":
            task.emit("errors", int(number), math.nan if number == "63" else None)
        yield key, 1

    job = Job(odd, Sum(), outputs={"errors": Text()})
    job = job.then(None, Sum()) if later else job
    with job.run(text, **where_to_run(where, cluster)) as typed:
        assert math.isnan(dict(typed.outputs["errors"])[63])
    with pytest.raises(JobFailed, match="nan has no text form") as failed:
        job.run(text, output=tmp_path / "out", **where_to_run(where, cluster))
    assert "record '? 63' of" in str(failed.value)
    with job.run(text, output=tmp_path / "out", skip_bad_records=1, **where_to_run(where, cluster)) as result:
        assert [skipped.record for skipped in result.skipped] == ["? 63"]
    given = [line for part in (tmp_path / "out" / "errors").iterdir() for line in part.read_text().splitlines()]
    assert sorted(map(int, given)) == [number for number, _ in ERRORS if number != 63]


@pytest.mark.parametrize("where", ["inline", "embedded"])
def test_more_than_the_memory_limit_is_given(where: str, cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{n}\n" for n in range(60)))

    def large(line: str) -> Iterator[tuple[int, int]]:
        for at in range(20):
            task.emit("large", int(line) * 20 + at, bytes(64 << 10))
        yield int(line), 1

    job = Job(large, Sum(), outputs={"large": Text()}, memory_limit="64MB")
    with job.run(path, reducers=1, **where_to_run(where, cluster)) as result:
        given = [(key, len(value)) for key, value in result.outputs["large"]]
    assert given == [(number, 64 << 10) for number in range(1200)]


def test_the_command_puts_them_into_the_output_or_asks_for_one(minireduce: Any, text: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "from minireduce import Job, Sum, Text, task\n"
        "def words(line):\n"
        "    if line.startswith('?'):\n"
        "        task.emit('errors', line, None)\n"
        "    else:\n"
        "        yield line[0], 1\n"
        "job = Job(words, Sum(), outputs={'errors': Text()})\n"
    )
    refused = minireduce("submit", job, text, "--inline")
    assert refused.status == 2
    assert "-o" in refused.err
    ran = minireduce("submit", job, text, "--inline", "-o", tmp_path / "out")
    assert ran.status == 0, ran.err
    given = [line for part in (tmp_path / "out" / "errors").iterdir() for line in part.read_text().splitlines()]
    assert sorted(given) == sorted(line for line in LINES if line.startswith("?"))
    shown = minireduce("submit", job, text, "--inline", "--json")
    assert shown.out.count('"output": "errors"') == len(ERRORS)
