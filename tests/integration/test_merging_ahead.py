"""Merging ahead in real task processes: the same bytes with it and without, whatever happens to the merge and its runs.

The last map of the job looks at the worker's disk: it ends once the groups are there that the test wants to see.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minireduce import Job, LocalCluster
from minireduce.attempt.conversation import MergeTask, RunFile, RunTask
from minireduce.attempt.load import python_version
from minireduce.core.spec import Program
from minireduce.core.work.attempts import Killed
from minireduce.core.work.merging import NotMerged
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.worker.slots import Slots

MAPS = 24
LIMIT_BYTES = 16 << 20  # of which a merge takes four runs at once
GROUPS_SEEN = 3
SPLIT_BYTES = 450  # each file is one


def watching(home: Path, harm: Callable[[list[Path]], None]) -> Callable[[str], Iterator[tuple[str, str]]]:
    """A mapper whose last map waits until some groups were merged, and then does them harm."""
    groups_seen = GROUPS_SEEN

    def mapped(line: str) -> Iterator[tuple[str, str]]:
        import time

        if line == "the last":
            found: list[Path] = []
            until = time.monotonic() + 40
            while len(found) < groups_seen:
                if time.monotonic() > until:
                    raise TimeoutError(f"{len(found)} groups were merged")
                time.sleep(0.02)
                found = sorted(home.rglob("*.ahead"), key=lambda path: int(path.stem))
            harm(found)
            return
        yield line[:2], line

    return mapped


def joined(key: str, values: Iterator[str]) -> Iterator[tuple[str, str]]:
    yield key, ",".join(values)


def lay_out(folder: Path) -> Path:
    folder.mkdir()
    for index in range(MAPS):
        (folder / f"{index:02d}.txt").write_text("".join(f"{n % 10:02d} {index} {n}\n" for n in range(50)))
    (folder / "last.txt").write_text("the last\n")
    return folder


def run_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[list[Path]], None]) -> None:
    """The job with merging ahead, harm done, gives what it gives in this process, pair for pair."""
    folder = lay_out(tmp_path / "in")
    last = folder / "last.txt"
    last.rename(tmp_path / "last.txt")
    plain: Job[Any, Any] = Job(watching(tmp_path, nothing), joined, memory_limit=LIMIT_BYTES)
    expected = plain.run(folder, inline=True, reducers=1, split_size=SPLIT_BYTES)
    (tmp_path / "last.txt").rename(last)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("MINIREDUCE_MERGE_AHEAD", "on")
    with LocalCluster(workers=1, slots=2) as cluster:
        job: Job[Any, Any] = Job(watching(tmp_path, harm), joined, memory_limit=LIMIT_BYTES)
        result = job.run(folder, reducers=1, split_size=SPLIT_BYTES, master=cluster)
        assert list(result) == list(expected)
        spilled = [each.counters["minireduce"]["SPILLED_RECORDS"] for each in (result, expected)]
        assert spilled[0] == spilled[1] > 0


def nothing(_: list[Path]) -> None:
    """Leave all as it is."""


def damage_originals(groups: list[Path]) -> None:
    """Spoil a run that is in a group, which the reduce does not read any more, and one that is in none yet."""
    maps = sorted(groups[0].parents[2].glob("*_m*/output.data"))
    for path in (maps[1], maps[-1]):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("harm", [nothing, damage_originals])
def test_a_job_gives_the_same_with_groups_that_a_free_slot_made(tmp_path, monkeypatch, harm):
    run_both(tmp_path, monkeypatch, harm)


@pytest.mark.parametrize("by", ["the worker", "a kill from outside"])
def test_a_merge_whose_process_ends_in_the_middle_is_not_held_against_anybody(tmp_path: Path, by: str) -> None:
    """Its first run is a pipe that nobody writes to, so it does not end by itself."""
    begun = tmp_path / "begun"
    pipe = tmp_path / "run"
    os.mkfifo(pipe)
    attempt = AttemptId(TaskId("job-000001-1", 0, TaskKind.REDUCE, 0), 0)
    runs = tuple(RunFile(str(pipe), 0, 1000, order) for order in range(8))
    work = MergeTask(runs, str(tmp_path / "0.ahead"), runs_here=8, bytes_here=8000, groups_before=0)
    task = RunTask(attempt, work, str(tmp_path), output_text=False, memory_limit_bytes=LIMIT_BYTES)
    text = f"from minireduce import Job, Sum\njob = Job(print, Sum())\nopen({str(begun)!r}, 'w').close()\n".encode()
    program = Program("source", text, hashlib.sha256(text).hexdigest(), "/jobs/sums.py", python_version())

    async def play() -> None:
        told: list[object] = []
        slots = Slots(slots=1, on_progress=told.append)
        await slots.start()
        merging = asyncio.create_task(slots.merge(program, task, task_timeout_s=60.0))
        while not begun.exists():
            assert not merging.done(), merging.result()
            await asyncio.sleep(0.01)
        if by == "the worker":
            slots.stop(attempt)
            assert await merging == Killed()
        else:
            process = slots._runs[attempt].process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            assert await merging == NotMerged()
        assert told == []  # of an attempt that has not begun nobody hears how far it is
        await slots.close()

    asyncio.run(play())
