"""Ask the kernel whether what a file reads as can have come from the disk.

While the kernel still holds in memory what was written, nothing is learnt by reading a file back: what comes is the
memory that the writer filled, whatever the disk has made of it. Linux tells since 6.5 which pages of a file are in
memory, by `cachestat(2)`, but not how they came there: a page that it had to give up is there again once somebody has
read it, from the disk then. So the file must not have been read either since it was written, which the time of its last
access shows. What cannot be told counts against it.

Not seen: what reads without leaving that time, as a file's owner may (`O_NOATIME`, `readahead`), and a page that was
written to the disk, given up and read before the writer wrote the last one.
"""

from __future__ import annotations

import ctypes
import os
import resource

_CACHESTAT = 451  # the number of the call on every architecture that CPython runs on
_NUMBERS = 5


def is_all_in_memory(descriptor: int, size_bytes: int) -> bool:
    """Whether every page of an open file of that size is in the page cache."""
    asked = (ctypes.c_uint64 * 2)(0, size_bytes)
    told = (ctypes.c_uint64 * _NUMBERS)()
    try:
        status = ctypes.CDLL(None).syscall(_CACHESTAT, descriptor, asked, told, 0)
    except (AttributeError, OSError):
        return False
    return status == 0 and told[0] * resource.getpagesize() >= size_bytes


def is_unread(descriptor: int) -> bool:
    """Whether nobody has read an open file since it was last written; False where its file system does not note that.

    Linux notes the first access after a change also where it is sparing with it (`relatime`).
    """
    file = os.fstat(descriptor)
    return file.st_atime_ns <= file.st_mtime_ns and not os.fstatvfs(descriptor).f_flag & os.ST_NOATIME
