"""How much memory this machine gives to us: what it has, or what the control group that we live in may use."""

from __future__ import annotations

import os
from pathlib import Path

_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory_bytes(limit_files: tuple[Path, ...] = _LIMIT_FILES) -> int:
    """RAM, or the limit of our control group (version 2, then 1) where that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in limit_files:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():  # "max" where there is no limit
            return min(total, int(text))
    return total
