"""Compress frames on their way to disk, and take them back: lz4, each frame by itself.

Of the codecs that pyarrow has it is the one whose worst is the least: what does not shrink costs a fifth of zstd's time
or less, and reading a fourth. pyarrow is loaded by who compresses or decompresses something. It takes 6 MB, so that
tasks with less memory than `COLUMNAR_LIMIT_BYTES_MIN`, which do without it, never compress; and a frame of more than
`FRAME_BYTES_MAX`, which holds one huge pair, stays as it is, since both forms of it stand in memory at once.

`auto` asks `DiskRates`, and tells it what every write took.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from minireduce.engine.disk_rates import Choice, DiskRates
from minireduce.engine.memory import COLUMNAR_LIMIT_BYTES_MIN

if TYPE_CHECKING:
    import pyarrow as pa

FRAME_BYTES_MAX = 1 << 20
_CODEC = "lz4_raw"
_SHRUNK_BYTES_MIN = 16  # more than it takes to say so
_SHRUNK_SHARE_MIN = 16  # by a sixteenth: for less nobody should have to decompress it


class FrameCompression:
    """How one attempt compresses what it writes; `rates` outlive it."""

    def __init__(self, choice: Choice, rates: DiskRates, clock: Callable[[], float] = time.perf_counter) -> None:
        self._is_always = choice == "always"
        self._rates = rates
        self._clock = clock

    def compressed(self, payload: Sequence[Any], plain_bytes: int) -> bytes | None:
        """The pieces of a payload in fewer bytes; None if they are to be written as they are."""
        if plain_bytes > FRAME_BYTES_MAX or not (self._is_always or self._rates.is_worth_trying()):
            return None
        codec = _codec()
        began_s = self._clock()
        made: bytes = codec.compress(b"".join(payload), asbytes=True)
        has_shrunk = len(made) + max(_SHRUNK_BYTES_MIN, plain_bytes // _SHRUNK_SHARE_MIN) <= plain_bytes
        self._rates.tried(plain_bytes, len(made) if has_shrunk else plain_bytes, self._clock() - began_s)
        return made if has_shrunk else None

    def write(self, write: Callable[[Any], object], pieces: list[Any]) -> None:
        """Write these, and keep in mind how long that took."""
        began_s = self._clock()
        for piece in pieces:
            write(piece)
        self._rates.wrote(sum(map(len, pieces)), self._clock() - began_s)


def compression_for(choice: Choice, memory_limit_bytes: int, rates: DiskRates) -> FrameCompression | None:
    """What an attempt with so much memory compresses with; None if it never does."""
    if choice == "never" or memory_limit_bytes < COLUMNAR_LIMIT_BYTES_MIN:
        return None
    return FrameCompression(choice, rates)


def decompress(payload: memoryview, plain_bytes: int) -> bytes | None:
    """What was compressed to this; None if that is no such thing."""
    if plain_bytes > FRAME_BYTES_MAX:
        return None
    try:
        made: bytes = _codec().decompress(payload, plain_bytes, asbytes=True)
    except (OSError, ValueError):
        return None
    return made if len(made) == plain_bytes else None


@functools.cache
def _codec() -> pa.Codec:
    import pyarrow as pa

    return pa.Codec(_CODEC)
