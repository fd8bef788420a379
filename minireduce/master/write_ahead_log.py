"""Tell a write-ahead log of SQLite that was damaged from one that a crash cut off.

SQLite stops reading its log at the first frame that is not whole, and says nothing: after a crash that is the end of a
transaction which nobody was told of. But each transaction is synced before the next one is begun, so where behind such
a frame one ends and another begins, a synced one was damaged, and what SQLite would drop had been acknowledged. It is
to be asked before SQLite opens the files, since that folds the log in and removes it.

The header is synced before any frame that follows it, so a wrong one is damage. The log must be begun anew at each
start (`PRAGMA wal_checkpoint(TRUNCATE)`), or the end of a transaction that a crash cut off could be counted later.

Damage to the last transaction alone cannot be told from a crash here, nor can a log that was cut off between two: a
mirror tells, or workers that remember the commit. The layout is SQLite's (https://www.sqlite.org/walformat.html).
"""

from __future__ import annotations

import struct
from pathlib import Path

from minireduce.errors import Corruption

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682


def check_log(path: Path) -> None:
    """Raise Corruption if the log at `path` lost what was synced. One that is absent or empty lost nothing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    if len(content) <= _HEADER_BYTES:
        return
    magic, page_bytes = struct.unpack_from(">I4xI", content)
    order = ">" if magic & 1 else "<"
    sums = _checksum((0, 0), content[: _HEADER_BYTES - 8], order)
    if magic & ~1 != _MAGIC or sums != struct.unpack_from(">II", content, _HEADER_BYTES - 8):
        raise Corruption(f"the header of {path} is damaged, so the latest commits cannot be read")
    salts = content[16:24]
    frame_bytes = _FRAME_HEADER_BYTES + page_bytes
    is_broken = has_ended = False
    frames = 0
    for begin in range(_HEADER_BYTES, len(content) - frame_bytes + 1, frame_bytes):
        head = content[begin : begin + _FRAME_HEADER_BYTES]
        if not is_broken:
            page = content[begin + _FRAME_HEADER_BYTES : begin + frame_bytes]
            sums = _checksum(_checksum(sums, head[:8], order), page, order)
            is_whole = sums == struct.unpack_from(">II", head, 16)
            is_ours = is_whole or head[8:16] == salts  # a frame of an earlier log has other salts, and other sums
            is_broken = not is_whole or head[8:16] != salts
            frames += not is_broken
        else:
            is_ours = head[8:16] == salts
        if not is_broken or not is_ours:
            continue
        if has_ended:
            raise Corruption(f"{path} is damaged behind its frame {frames}, so commits that were synced are lost")
        has_ended = head[4:8] != bytes(4)  # only the last frame of a transaction says how large the database is


def _checksum(sums: tuple[int, int], data: bytes, order: str) -> tuple[int, int]:
    """SQLite's checksum, carried on over `data`, whose length is a multiple of 8."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
