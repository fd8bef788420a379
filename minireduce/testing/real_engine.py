"""Tasks of simulated jobs computed by the real engine, in this process, on files of a disk in memory.

A share of the seeds run like this. What a worker does with a task is then real from the bytes of its split to the bytes
of its output: reading, mapping, combining, sorting, merging, reducing, writing. What is held against it is the plain
sequential run of the same job (`sequential.py`), which knows nothing of the engine.

Outputs carry a digest of their bytes, so two attempts of one task must agree on every byte.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from minireduce.api.aggregations import Sum
from minireduce.api.job import Job
from minireduce.engine.context import TaskContext
from minireduce.engine.index import DATA_NAME, INDEX_NAME, read_index
from minireduce.engine.merge import RunSlice
from minireduce.engine.part import PartForm
from minireduce.engine.read import open_records, read_pairs
from minireduce.engine.tasks import MapWork, ReduceWork, run_task
from minireduce.engine.workplace import Workplace
from minireduce.testing.disk import SimDisk
from minireduce.testing.sequential import run_sequentially
from minireduce.testing.workload import Product, SimJob, product_of

_WORK = Path("/task")
_PART = "part"
_MEMORY_BYTES = 1 << 24
_COUNTERS = {"MAP_INPUT_RECORDS": "MAP_INPUT", "REDUCE_OUTPUT_RECORDS": "REDUCE_OUTPUT"}


def words(line: str) -> Iterable[tuple[str, int]]:
    """The map of a first step."""
    for word in line.split():
        yield word, 1


def shorten(word: str, count: int) -> Iterable[tuple[str, int]]:
    """The map of a later step."""
    yield word[:-1] or word, count


def job_of(job: SimJob) -> Job[Any, Any]:
    """The same job as a user would write it."""
    made: Job[Any, Any] = Job(words, Sum()) if job.reducers[0] else Job(words)
    for reducers in job.reducers[1:]:
        made = made.then(shorten, Sum()) if reducers else made.then(shorten)
    return made


class RealTask:
    """One attempt."""

    def __init__(self, job: SimJob, step: int) -> None:
        self._step = job_of(job).steps[step]
        is_last = step == len(job.reducers) - 1
        self._partitions = job.reducers[step]
        self._disk = SimDisk(Random(0))  # noqa: S311 - it never crashes
        self._disk.make_directories(_WORK)
        self._context = TaskContext(path="/input")
        form: PartForm = "text" if is_last and not job.is_result else "pairs"
        self._place = Workplace(_WORK, _PART, form, _MEMORY_BYTES, self._context, self._disk)

    def map(self, data: bytes, offset: int, length: int) -> Product:
        """Map a split of a file, or a whole part of the step before."""
        stream = io.BytesIO(data)
        records = open_records(
            stream, offset=offset, length=length, input_format=self._step.input, context=self._context
        )
        if not data:
            records = iter(())
        run_task(self._step, MapWork(records, self._partitions), self._place)
        if not self._partitions:
            return self._product((self._file(_PART),), is_part=True)
        whole = self._file(DATA_NAME)
        index = read_index(self._file(INDEX_NAME))
        return self._product(tuple(whole[begin : begin + size] for begin, size in index), is_part=False)

    def reduce(self, inputs: list[bytes]) -> Product:
        """Reduce one partition of all maps."""
        runs = []
        for order, data in enumerate(inputs):
            path = _WORK / f"run{order}"
            with self._disk.create(path) as file:
                file.write(data)
            runs.append(RunSlice(path, 0, len(data), order))
        run_task(self._step, ReduceWork(runs), self._place)
        return self._product((self._file(_PART),), is_part=True)

    def _file(self, name: str) -> bytes:
        if not self._disk.exists(_WORK / name):
            return b""  # a part without pairs is no file
        with self._disk.open(_WORK / name) as file:
            return file.read()

    def _product(self, partitions: tuple[bytes, ...], *, is_part: bool) -> Product:
        counted = self._context.counters
        counts = [(_COUNTERS[name], value) for (_, name), value in counted.items() if name in _COUNTERS]
        return product_of(partitions, tuple(sorted(counts)), records=0, is_part=is_part)


def compute_stored(job: SimJob, data: bytes, offset: int, length: int) -> Product:
    """The map of a split of a stored file, of which `data` begins with the byte before the split."""
    return RealTask(job, 0).map(bytes(max(0, offset - 1)) + data, offset, length)


def pairs_of(job: SimJob, part: bytes) -> list[tuple[Any, Any]]:
    """What a part of the last step holds."""
    if job.is_result:
        return list(read_pairs(io.BytesIO(part))) if part else []
    lines = part.decode().splitlines()
    return [(word, int(count)) for word, count in (line.split("\t") for line in lines)]


def expected_pairs(job: SimJob) -> list[tuple[Any, Any]]:
    """What all parts hold together, in ascending order."""
    lines = [line for text in job.texts for line in text.splitlines()]
    return sorted(run_sequentially(job_of(job), lines))
