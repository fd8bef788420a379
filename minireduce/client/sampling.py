"""Choose the bounds of `Range()` when a job is submitted, from keys that its map gives for a sample of the input.

Records are taken from many places of the input, evenly spread over its bytes, since files are often sorted. The map is
called in this process. Where it raises, the rest of that place is passed over: whether a record is bad is for the tasks
to find out.

The bounds travel with the program as a parameter of a name that no user can give.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from minireduce.api.job import Job
from minireduce.api.partitioners import Range
from minireduce.api.step import Step
from minireduce.client.inputs import InputFile, Inputs
from minireduce.client.stored_inputs import StoredFile
from minireduce.core.spec import Program
from minireduce.core.storage.drafts import SCHEME
from minireduce.engine.context import Aside, TaskContext
from minireduce.engine.parameters import bounds_parameter
from minireduce.engine.ranges import choose_bounds, sample_keys
from minireduce.engine.read import sampled_pairs
from minireduce.engine.read_batches import batch_of, numbers_of, opener
from minireduce.engine.split import is_splittable, plan_ranges
from minireduce.errors import MinireduceError

PLACES = 40
PLACE_BYTES = 64 << 10
KEYS_PER_PLACE_MAX = 2000

Open = Callable[[str], BinaryIO]
"""Opens a file of the input, of this machine or stored."""

Fill = Callable[[Path], None]
"""Puts files into a new directory."""


def needs_bounds(job: Job[Any, Any]) -> bool:
    """Whether the job asks for ranges that were not chosen yet."""
    partition = job.steps[0].partition
    return isinstance(partition, Range) and partition.bounds is None


def choose(
    job: Job[Any, Any], inputs: Inputs, partitions: int, open_file: Open, fill: Fill | None = None
) -> tuple[bytes, ...]:
    """The bounds for this input."""
    return choose_bounds(take_sample(job, inputs, open_file, fill), partitions)


def take_sample(job: Job[Any, Any], inputs: Inputs, open_file: Open, fill: Fill | None = None) -> list[bytes]:
    """Encoded keys from all over this input. They depend on nothing else, so no cluster need be there yet.

    `fill` puts what goes along with the job where its map finds that in a task.
    """
    if fill is None:
        return _sampled(job, inputs, open_file, lambda _: None)
    with tempfile.TemporaryDirectory(prefix="minireduce-") as folder:
        work_dir = Path(folder) / "work"
        return _sampled(job, inputs, open_file, lambda context: context.work_in(work_dir, fill))


def _sampled(job: Job[Any, Any], inputs: Inputs, open_file: Open, lend: Callable[[TaskContext], None]) -> list[bytes]:
    sample: list[bytes] = []
    step_bytes = max(1, sum(file.size_bytes for file in (*inputs.files, *inputs.parts)) // PLACES)
    for index, each in enumerate(inputs.several or (inputs,)):
        step = job.steps[0].of_input(index) if inputs.several else job.steps[0]
        for records, context in _places(step, each, step_bytes, open_file):
            lend(context)
            context.aside = Aside()
            with contextlib.suppress(Exception):
                sample += sample_keys(step, records, context, KEYS_PER_PLACE_MAX)
    return sample


def bound(program: Program, sample: list[bytes], partitions: int) -> Program:
    """The program with bounds that cut the sample into as many parts."""
    bounds = choose_bounds(sample, partitions)
    return replace(program, parameters=(*program.parameters, bounds_parameter(bounds)))


def _places(
    step: Step, inputs: Inputs, step_bytes: int, open_file: Open
) -> Iterator[tuple[Iterator[Any], TaskContext]]:
    """Some records of each place, and the context that they are walked in; places are `step_bytes` apart."""
    if inputs.numbers is not None:
        for begin, end in plan_ranges(inputs.numbers.count, PLACES):
            context = TaskContext(path="<sample>")
            yield numbers_of(step)(begin, min(end, begin + KEYS_PER_PLACE_MAX), context=context), context
        return
    if inputs.parts:
        yield from _pairs(step, inputs, step_bytes, open_file)
        return
    waiting = 0
    for file in inputs.files:
        offsets = range(waiting, file.size_bytes, step_bytes)
        waiting = (offsets.stop + step_bytes - 1 - waiting) // step_bytes * step_bytes + waiting - file.size_bytes
        for offset in offsets if is_splittable(file.path) and not inputs.is_whole else offsets[:1]:
            context = TaskContext(path=file.path)
            if (stream := _opened(file, open_file)) is None:
                continue
            with stream:
                opened = opener(step)(
                    stream, offset=offset, length=PLACE_BYTES, input_format=step.input, context=context
                )
                yield opened, context


def _pairs(step: Step, inputs: Inputs, step_bytes: int, open_file: Open) -> Iterator[tuple[Iterator[Any], TaskContext]]:
    """The same of an earlier result, whose parts are read in frames: one of each place."""
    for part in inputs.parts:
        if not part.size_bytes or (stream := _opened(part, open_file)) is None:
            continue
        with stream, contextlib.suppress(MinireduceError):  # of a damaged part the tasks will tell
            for found in sampled_pairs(stream, part.path, step_bytes, allow_pickle=True):
                context = TaskContext(path=part.path)
                kept = found[:: max(1, len(found) // KEYS_PER_PLACE_MAX)]
                yield iter([batch_of(kept, step.input)]) if step.map_batch else context.walk(kept), context


def _opened(file: InputFile | StoredFile, open_file: Open) -> BinaryIO | None:
    try:
        return open_file(f"{SCHEME}{file.path}" if isinstance(file, StoredFile) else file.path)
    except (OSError, MinireduceError):
        return None  # the tasks will tell
