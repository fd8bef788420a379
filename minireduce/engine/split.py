"""Cut a file into splits, the pieces that one map task reads each.

Boundaries depend on the size of the file and the split size only, never on the number of workers, since the same splits
and reducers promise the same bytes. As in Hadoop the last split may be a tenth larger than the others, so that no task
starts for a handful of bytes. What a split means for records is decided in `read`.
"""

from __future__ import annotations

SLOP = 1.1
WHOLE_FILE_SUFFIXES = (".gz", ".bz2", ".zst", ".xz")


def is_splittable(path: str) -> bool:
    """Whether records can be found in the middle of this file: not in compressed ones."""
    return not path.endswith(WHOLE_FILE_SUFFIXES)


def plan_splits(size_bytes: int, split_size_bytes: int, *, splittable: bool) -> list[tuple[int, int]]:
    """(offset, length) of each split, ascending and without gaps; none for an empty file."""
    if size_bytes == 0:
        return []
    if not splittable:
        return [(0, size_bytes)]
    splits = []
    offset = 0
    while size_bytes - offset > split_size_bytes * SLOP:
        splits.append((offset, split_size_bytes))
        offset += split_size_bytes
    splits.append((offset, size_bytes - offset))
    return splits


def plan_ranges(count: int, splits: int) -> list[tuple[int, int]]:
    """(begin, end) of each of the ranges that share `count` numbers evenly, ascending; some are empty if few are."""
    return [(count * index // splits, count * (index + 1) // splits) for index in range(splits)]
