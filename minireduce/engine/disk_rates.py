"""Decide whether what goes to disk is worth compressing, by how long writing it takes.

Writes end up in the page cache in no time until the kernel's limit for pages that are not on disk yet is reached; from
then on a write takes as long as the disk does. So the time of the latest writes says whether the disk is the limit. To
compress pays where the bytes that it saves would have taken longer to write than it took to save them, with a margin
for decompressing them again. Below `TRIED_BELOW_BYTES_PER_S` a frame is tried, to see what it saves and costs; while
that is not worth it, every `TRY_EVERY`th one is, as data change. Above, nothing is tried.

The times are those that passed, so where other processes need the cores, to compress is dearer. What lies in the past
counts less with every MiB. What reading takes is not known here: to save it comes on top where pages are read from disk
again, and is lost where the page cache holds them.

Not here: clocks, and compressing itself (frame_compression.py).
"""

from __future__ import annotations

from typing import Literal

from minireduce.frozen import dataclass

Choice = Literal["auto", "always", "never"]
"""When frames are compressed: where the disk is the limit, or without asking."""

TRIED_BELOW_BYTES_PER_S = 400e6
"""No compression gains on a disk that is faster: it takes 0.2 to 1.5 ms a MB, and what reads it 0.1 to 0.3."""
JUDGED_BYTES_MIN = 1 << 20
WRITTEN_BYTES_REMEMBERED = 4 << 20
TRIED_BYTES_REMEMBERED = 1 << 20
TRY_EVERY = 16
MARGIN = 1.5


@dataclass(slots=True)
class DiskRates:
    """What one process has seen of the disk that its tasks write to, and of what compressing brings."""

    written_bytes: float = 0.0
    written_s: float = 0.0
    tried_bytes: float = 0.0
    saved_bytes: float = 0.0
    tried_s: float = 0.0
    left_plain: int = 0

    def wrote(self, size_bytes: int, seconds: float) -> None:
        """So many bytes were written in this time, compressed or not."""
        self.written_bytes += size_bytes
        self.written_s += seconds
        if self.written_bytes > WRITTEN_BYTES_REMEMBERED:
            self.written_bytes /= 2
            self.written_s /= 2

    def tried(self, plain_bytes: int, stored_bytes: int, seconds: float) -> None:
        """Compressing a frame took this time, and it came to so many bytes on disk."""
        self.tried_bytes += plain_bytes
        self.saved_bytes += plain_bytes - stored_bytes
        self.tried_s += seconds
        if self.tried_bytes > TRIED_BYTES_REMEMBERED:
            self.tried_bytes /= 2
            self.saved_bytes /= 2
            self.tried_s /= 2

    def is_worth_trying(self) -> bool:
        """Whether to compress the next frame."""
        if self.written_bytes < JUDGED_BYTES_MIN or self.written_s * TRIED_BELOW_BYTES_PER_S < self.written_bytes:
            return False
        if not self.tried_bytes:
            return True
        saved_s = self.saved_bytes * self.written_s / self.written_bytes
        if saved_s > MARGIN * self.tried_s:
            return True
        self.left_plain += 1
        return self.left_plain % TRY_EVERY == 0
