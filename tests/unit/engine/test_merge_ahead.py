"""A reduce that is given the groups of its first pass leaves the same bytes as one that makes them itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minireduce import Identity, Job, Mean, Sum
from minireduce.disk import RealDisk
from minireduce.engine.context import TaskContext
from minireduce.engine.index import read_index
from minireduce.engine.map import DATA_NAME, INDEX_NAME, run_map
from minireduce.engine.merge import Ahead, Passes, RunSlice
from minireduce.engine.merge_ahead import merge_ahead, passes_for_certain
from minireduce.engine.reduce import run_reduce
from minireduce.engine.workplace import Workplace

LIMIT_BYTES = 16 << 20
AT_ONCE = 4
MAPS = 15
EMPTY = (2, 3)


def collected(key: str, values: Iterator[Any]) -> Iterator[tuple[str, list[Any]]]:
    yield key, list(values)


def first(key: str, values: Iterator[Any]) -> Iterator[tuple[str, Any]]:
    yield key, next(values)


JOBS: dict[str, Job[Any, Any]] = {
    "a function": Job(lambda line: [(line[:1], line)], collected),
    "a sum": Job(lambda line: [(line[:1], len(line) / 3)], Sum()),
    "a mean": Job(lambda line: [(line[:1], len(line) / 3)], Mean()),
    "the pairs themselves": Job(lambda line: [(line[:1], line)], Identity()),
}


def runs_of(job: Job[Any, Any], folder: Path) -> list[RunSlice]:
    """The outputs of some maps, of which two have nothing."""
    runs = []
    for index in range(MAPS):
        directory = folder / f"m{index}"
        directory.mkdir()
        records = [] if index in EMPTY else [f"{'abc'[(index + n) % 3]}{index}.{n}{'x' * n}" for n in range(40)]
        context = TaskContext()
        run_map(
            job.steps[0],
            context.walk(records),
            1,
            Workplace(directory, "part", "pairs", LIMIT_BYTES, context, RealDisk()),
        )
        runs.append(RunSlice(directory / DATA_NAME, *read_index(directory / INDEX_NAME)[0], index))
    return runs


def reduced(job: Job[Any, Any], runs: list[RunSlice], folder: Path, ahead: Ahead | None = None) -> tuple[bytes, Any]:
    folder.mkdir()
    context = TaskContext()
    run_reduce(job.steps[0], runs, Workplace(folder, "part", "pairs", LIMIT_BYTES, context, RealDisk()), ahead)
    assert [path.name for path in folder.iterdir()] == ["part"]
    return (folder / "part").read_bytes(), sorted(context.counters.items())


def all_ahead(job: Job[Any, Any], runs: list[RunSlice], folder: Path) -> tuple[Ahead, list[Path]]:
    """All groups that are certain, each begun behind the last."""
    step = job.steps[0]
    passes = passes_for_certain(step, memory_limit_bytes=LIMIT_BYTES, bytes_here=1)
    assert passes == Passes(AT_ONCE, AT_ONCE)
    filled = sum(1 for run in runs if run.length)
    ahead, place, groups = {}, 0, 0
    while passes.is_certain(groups, filled):
        path = folder / f"{place}.ahead"
        at = Workplace(folder, "part", "pairs", LIMIT_BYTES, TaskContext(), RealDisk())
        made = merge_ahead(step, runs[place:], passes, path, at)
        assert made is not None
        whole, count = made
        ahead[tuple(run.order for run in runs[place : place + count] if run.length)] = whole
        place, groups = place + count, groups + 1
    return ahead, [whole.path for whole in ahead.values()]


@pytest.mark.parametrize("name", list(JOBS))
def test_groups_made_ahead_give_the_same_bytes_and_counts_and_the_originals_stay(tmp_path: Path, name: str) -> None:
    job = JOBS[name]
    runs = runs_of(job, tmp_path)
    plain = reduced(job, runs, tmp_path / "plain")
    originals = [run.file.read_bytes() for run in runs if isinstance(run.file, Path)]
    ahead, paths = all_ahead(job, runs, tmp_path)
    assert list(ahead) == [(0, 1, 4, 5), (6, 7, 8, 9), (10, 11, 12, 13)]
    assert reduced(job, runs, tmp_path / "ahead", ahead) == plain
    assert not any(path.exists() for path in paths), "they were not used"
    assert [run.file.read_bytes() for run in runs if isinstance(run.file, Path)] == originals


def test_a_group_of_other_runs_is_left_alone(tmp_path: Path) -> None:
    job = JOBS["a function"]
    runs = runs_of(job, tmp_path)
    plain = reduced(job, runs, tmp_path / "plain")
    ahead, paths = all_ahead(job, runs, tmp_path)
    others = {(0, 1, 4, 6): ahead[0, 1, 4, 5]}
    assert reduced(job, runs, tmp_path / "ahead", others) == plain
    assert paths[0].exists()


def test_what_may_still_change_or_calls_the_users_combine_is_not_done_ahead() -> None:
    combined = Job(lambda line: [(line, 1)], collected, combine=first).steps[0]
    plain = JOBS["a sum"].steps[0]
    assert passes_for_certain(combined, memory_limit_bytes=LIMIT_BYTES, bytes_here=1 << 30) is None
    large = 256 << 20
    assert passes_for_certain(plain, memory_limit_bytes=large, bytes_here=1000) is None  # arrays, or not
    assert passes_for_certain(plain, memory_limit_bytes=large, bytes_here=1 << 20) == Passes(128, 128)


def test_a_group_is_certain_only_when_what_is_still_to_come_cannot_make_it_smaller() -> None:
    passes = Passes(4, 4)
    for runs in range(40):
        full = passes.groups(runs).count(4)
        assert [before for before in range(runs // 4) if passes.is_certain(before, runs)] == list(range(full))
