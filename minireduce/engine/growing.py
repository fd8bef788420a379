"""Put columns that come one after the other into one piece of memory, as they come.

To keep each of them and join all at the end would have the system give twice the memory, and its first use costs more
than copying what stands in it. Room is taken for many columns at once; only when it is full, or a column has another
form than those before, is there a second piece, and then they are joined at the end after all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minireduce.engine import columns, key_columns
from minireduce.engine.columns import PACKED, Column

_LENGTHS_SHARE = 8  # of the room for bytes, one part of so many is for their lengths


class GrowingColumn:
    """The columns that were added, as one; keys in an array are added as packed values are."""

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes = room_bytes
        self._full: list[Column] = []
        self._form = PACKED
        self._room: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._used = 0
        self._lengths: GrowingColumn | None = None

    def add(self, column: Column) -> None:
        """Copy one to the end."""
        form = columns.form(column)
        data = np.frombuffer(column if isinstance(column, np.ndarray) else columns.packed_blob(column), np.uint8)
        if form != self._form or self._used + len(data) > len(self._room):
            self._end_piece()
            self._form, self._room = form, np.empty(max(self._room_bytes, len(data)), np.uint8)
        self._room[self._used : self._used + len(data)] = data
        self._used += len(data)
        if form == PACKED:
            if self._lengths is None:
                self._lengths = GrowingColumn(self._room_bytes // _LENGTHS_SHARE)
            self._lengths.add(columns.packed_lengths(column))

    def taken(self) -> Column:
        """All of them, in the form that they have in common; nothing may be added any more. There must be some."""
        self._end_piece()
        return columns.concatenate(self._full)

    def _end_piece(self) -> None:
        data, self._used = self._room[: self._used], 0
        if self._form != PACKED:
            self._full.append(data.view(np.int64 if self._form == columns.INTEGERS else np.float64))
        elif self._lengths is not None:
            self._full.append(key_columns.of_parts(np.asarray(self._lengths.taken()), data))
            self._lengths = None
