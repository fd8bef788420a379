"""Which machine this is, as far as files are concerned: equal for two processes that see the same local files.

A worker reads a client's files in place when both name the same machine, and checks each file's fingerprint before it
trusts that. So the name must differ where file systems differ: it is made from the kernel's boot id, the mount
namespace, which tells a container from its host, and the root directory, which a process may have changed for itself.
`/etc/machine-id` is not used: images of one origin share it.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path


def machine_id() -> str:
    """16 hexadecimal digits, stable until the machine boots again."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/mnt").stat().st_ino
        root = Path("/").stat()
        mounts = f"{namespace}:{root.st_dev}:{root.st_ino}"
    except OSError:  # not Linux: such a machine runs no worker, and its files are uploaded
        boot, mounts = platform.node(), ""
    return hashlib.sha256(f"{boot}:{mounts}".encode()).hexdigest()[:16]


def fingerprint(status: os.stat_result) -> str:
    """What tells a changed or another file from the one that was submitted: size, inode and time of change."""
    return f"{status.st_size}:{status.st_ino}:{status.st_mtime_ns}"
