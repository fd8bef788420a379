"""Turn the bytes of a split into records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from minireduce.api.formats import InputFormat
from minireduce.engine.context import TaskContext

RECORD_BYTES_MAX = 64 << 20


def open_records(
    stream: BinaryIO,
    *,
    offset: int,
    length: int,
    input_format: InputFormat[Any],
    context: TaskContext,
    record_bytes_max: int = RECORD_BYTES_MAX,
) -> Iterator[Any]:
    """Records of a split, whatever the format and compression (by the suffix of `context.path`).

    `stream` is the whole file, seekable unless it is compressed; it is read past the end of the split to finish the
    last record.
    """
    raise NotImplementedError


def read_pairs(stream: BinaryIO, *, name: str = "", allow_pickle: bool = True) -> Iterator[tuple[Any, Any]]:
    """The pairs of a typed part, checked. Raises Corruption naming `name`."""
    raise NotImplementedError
