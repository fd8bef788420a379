"""What the zygote and all tasks find in their environment beside what their worker has.

It must stand there before the interpreter starts, so the worker gives it to the zygote.
"""

from __future__ import annotations

THREAD_LIMITS = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "ARROW_IO_THREADS",
        "POLARS_MAX_THREADS",
    ),
    "1",
)
"""A slot is a core: libraries in a task use one thread, unless user code says otherwise."""

ALLOCATION = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
"""Arrays come and go by the megabyte. Arrow takes them from the allocator that Python has, for its own keeps what one
kind of array has freed where the next cannot use it, up to the task's limit; and what is freed stays with the process,
since giving it back and taking it again costs more than many a kernel. The names with the underscore are glibc's.
"""

ENVIRONMENT = {
    **THREAD_LIMITS,
    **ALLOCATION,
    "PYTHONHASHSEED": "0",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""What the worker adds to the environment of the zygote.

The last one keeps pyarrow's allocator from starting a thread of its own in a process that forks.
"""
