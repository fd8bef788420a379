"""Cut the files of a job into the splits that its map tasks read.

Splits depend on files and settings only, never on workers, so that the same input gives the same splits on every
machine. Small files share a split up to its size: a thousand files of 10 KB are one task and not a thousand. No split
holds files of two inputs, so the index of a split tells the input, which is all that its tasks need to know. Typed
parts of an earlier job are a map task each, however small, since it was that job's reducers that decided how far the
work is spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, TypeVar

from minireduce.api.formats import NUMBERS_PER_SPLIT, Numbers
from minireduce.client.inputs import InputFile, Inputs
from minireduce.client.stored_inputs import StoredFile
from minireduce.core.spec import LocalFiles, LocalRange, NumberRange, Split, StoredFiles, StoredRange
from minireduce.engine.split import is_splittable, plan_ranges, plan_splits

if TYPE_CHECKING:
    from minireduce.api.step import Step

RANGES_PER_SPLIT_MAX = 4096
STORED_RANGES_PER_SPLIT_MAX = 256
"""Fewer than of local files, since a task is told where each block of them is."""

FILLED_FRACTION_MIN = 0.5
"""A split of small files that is filled so far ends before a container that does not fit in whole."""
SPLIT_SHARE = 1 / 8
"""Of the memory limit: about as many bytes of pairs in columns a map holds without a spill."""
SPLIT_BYTES_MIN = 8 << 20
"""Splits are not made smaller than this for want of memory: each is a task, and a run to merge."""
SPREAD_BYTES_MIN = 4 << 20
"""What is smaller is no faster in two tasks than in one."""
EVEN_BYTES_MIN = 16 << 20
"""A slot's share is cut in two while the halves are not smaller: more tasks than slots even out how long each takes."""

R = TypeVar("R")


def spread_split_size(split_size_bytes: int, input_bytes: int, slots: int) -> int:
    """How large splits may be so that each slot gets one, or two: else a small input would be mapped by one of them
    alone, and one that differs in what it holds would leave slots idle until the slowest map is done.
    """
    share_bytes = -(-input_bytes // max(1, slots))
    half_bytes = -(-share_bytes // 2)
    return min(split_size_bytes, max(SPREAD_BYTES_MIN, half_bytes if half_bytes >= EVEN_BYTES_MIN else share_bytes))


def fitting_split_size(step: Step, split_size_bytes: int, memory_limit_bytes: int) -> int:
    """How large splits of a step may be so that its maps do not spill where that can be: else each pair would be
    written and read once more. Aggregations hold less than they read, and pairs of Python objects far more.
    """
    maps = [each.map_batch for each in step.inputs] or [step.map_batch]
    if None in maps or step.is_map_only or step.aggregation is not None or step.combine is not None:
        return split_size_bytes
    return min(split_size_bytes, max(SPLIT_BYTES_MIN, int(memory_limit_bytes * SPLIT_SHARE)))


def plan_splits_of_each(
    inputs: Inputs, split_size_bytes: int, machine_id: str
) -> tuple[tuple[Split, ...], tuple[int, ...]]:
    """The splits of `inputs`; where there are several, also which is the first after those of each."""
    planned = [plan_input_splits(each, split_size_bytes, machine_id) for each in inputs.several or (inputs,)]
    ends = tuple(accumulate(map(len, planned))) if inputs.several else ()
    return tuple(split for splits in planned for split in splits), ends


def plan_input_splits(inputs: Inputs, split_size_bytes: int, machine_id: str) -> tuple[Split, ...]:
    """The splits of one input, in reading order. Empty files add none."""
    if inputs.numbers is not None:
        return _spread(inputs.numbers)
    if inputs.parts:
        return tuple(_whole(part, machine_id) for part in inputs.parts if part.size_bytes)
    splits: list[Split] = []
    for is_stored, files in groupby(inputs.files, key=lambda file: isinstance(file, StoredFile)):
        if is_stored:
            gathered = _gather(
                files,
                split_size_bytes,
                _stored_range,
                STORED_RANGES_PER_SPLIT_MAX,
                lambda file: file.container,
                is_whole=inputs.is_whole,
            )
            splits.extend(map(_as_split, gathered))
        else:
            local = _gather(files, split_size_bytes, _local_range, RANGES_PER_SPLIT_MAX, is_whole=inputs.is_whole)
            splits.extend(LocalFiles(machine_id, ranges) for ranges in local)
    return tuple(splits)


def _spread(numbers: Numbers) -> tuple[NumberRange, ...]:
    splits = numbers.splits or -(-numbers.count // NUMBERS_PER_SPLIT)
    return tuple(NumberRange(begin, end) for begin, end in plan_ranges(numbers.count, splits))


def _whole(file: InputFile | StoredFile, machine_id: str) -> LocalFiles | StoredRange:
    if isinstance(file, StoredFile):
        return _stored_range(file, 0, file.size_bytes)
    return LocalFiles(machine_id, (_local_range(file, 0, file.size_bytes),))


def _as_split(ranges: tuple[StoredRange, ...]) -> StoredRange | StoredFiles:
    return ranges[0] if len(ranges) == 1 else StoredFiles(ranges)


def _local_range(file: InputFile, offset: int, length: int) -> LocalRange:
    return LocalRange(file.path, offset, length, file.fingerprint)


def _stored_range(file: StoredFile, offset: int, length: int) -> StoredRange:
    return StoredRange(file.path, file.file_id, offset, length)


def _gather(
    files: Iterable[Any],
    split_size_bytes: int,
    make_range: Callable[[Any, int, int], R],
    ranges_max: int,
    container_of: Callable[[Any], int] = lambda _: 0,
    *,
    is_whole: bool = False,
) -> Iterator[tuple[R, ...]]:
    """Ranges of one split each: neighbours that fit into one split together, and pieces of what does not fit alone.

    What lies together in a container, which is on one set of machines, is not cut in two where the split before it is
    half full already.
    """
    shared: list[R] = []
    room = split_size_bytes
    for file, together_bytes in _by_container(files, container_of):
        pieces = plan_splits(file.size_bytes, split_size_bytes, splittable=not is_whole and is_splittable(file.path))
        is_small = len(pieces) == 1 and pieces[0][1] <= split_size_bytes
        is_filled = together_bytes > room and room <= split_size_bytes * (1 - FILLED_FRACTION_MIN)
        is_full = is_filled or len(shared) == ranges_max
        if shared and pieces and (not is_small or pieces[0][1] > room or is_full):
            yield tuple(shared)
            shared, room = [], split_size_bytes
        ranges = [make_range(file, offset, length) for offset, length in pieces]
        if is_small:
            shared += ranges
            room -= pieces[0][1]
        else:
            yield from ((part,) for part in ranges)
    if shared:
        yield tuple(shared)


def _by_container(files: Iterable[Any], container_of: Callable[[Any], int]) -> Iterator[tuple[Any, int]]:
    """The files, and with the first of each container how many bytes of it follow in a row; 0 with all others."""
    for container, run in groupby(files, key=container_of):
        first, *others = run
        yield first, first.size_bytes + sum(file.size_bytes for file in others) if container else 0
        yield from ((file, 0) for file in others)
