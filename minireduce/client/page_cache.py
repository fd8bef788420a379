"""Ask the kernel whether it still holds in memory what was written to a file.

While it does, nothing is learnt by reading a file back: what comes is the memory that the writer filled, whatever the
disk has made of it. Linux tells since 6.5, by `cachestat(2)`; where it does not, the answer is no.
"""

from __future__ import annotations

import ctypes
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
