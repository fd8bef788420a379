"""Take a part from a worker on this host as a file, instead of its bytes through a socket.

As with replicas (`local_blocks`) the worker hands a read-only descriptor over, to whoever may read the part over HTTP
and is on its host. The file is given a second name where the output is filled, so that no byte is copied or written
once more: a part is synced before it counts as made. It must be ours for that, and on the same file system; elsewhere
its bytes are copied from the descriptor. Where a worker hands none over, they are asked for over HTTP.

Invariant: a name that was given here is never written through, since the bytes are the worker's too; whoever fetches a
part again removes the name first.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minireduce.client.page_cache import is_all_in_memory, is_unread
from minireduce.errors import Unavailable
from minireduce.wire.local_door import NONCE_HEADER, PROOF_HEADER, SOCKET_HEADER, read_offer

if TYPE_CHECKING:
    import http.client

OK = 200
READ_BYTES = 1 << 20


def open_part(door: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> int | None:
    """A descriptor of the part that the worker serves at `path`; None where it gives none. Raises as `door` does."""
    from minireduce.client.local_blocks import fetch_descriptor, is_same_host

    door.connect()
    if not is_same_host(door.sock):
        return None
    door.request("GET", f"{path}/local", headers=dict(headers))
    answer = door.getresponse()
    answer.read()
    if answer.status != OK:
        return None  # asked for its bytes the worker says why
    with contextlib.suppress(Unavailable, OSError):
        return fetch_descriptor(
            read_offer(*(answer.getheader(name, "") for name in (SOCKET_HEADER, NONCE_HEADER, PROOF_HEADER)))
        )
    return None


def link(descriptor: int, target: Path) -> bool:
    """Give an open file the name `target` too, with the rights of a file made there; whether that could be done."""
    file, folder = os.fstat(descriptor), target.parent.stat()
    is_ours = file.st_uid == os.geteuid() and stat.S_ISREG(file.st_mode)
    if not is_ours or file.st_dev != folder.st_dev or folder.st_mode & stat.S_ISGID:
        return False
    try:
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Only with a directory does Python follow the link that /proc has for a descriptor.
            os.link(f"/proc/self/fd/{descriptor}", target.name, dst_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)
        os.fchmod(descriptor, folder.st_mode & 0o666)
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def is_as_written(descriptor: int, size_bytes: int, kept_at_ns: int) -> bool:
    """Whether an open part is still what its writer gave to the kernel, so that reading it would tell nothing.

    Nobody has changed the file, its rights or its names since its worker noted that it keeps it: else the time of its
    last change, which only the kernel sets, would be later. And no page of it would come or has come from the disk, as
    far as the kernel can tell (`page_cache`).
    """
    file = os.fstat(descriptor)
    is_unchanged = (file.st_size, file.st_nlink) == (size_bytes, 1) and file.st_ctime_ns < kept_at_ns
    return is_unchanged and is_unread(descriptor) and is_all_in_memory(descriptor, size_bytes)


def pieces(descriptor: int) -> Iterator[bytes]:
    """The bytes of an open file from its beginning. Raises OSError."""
    offset = 0
    while piece := os.pread(descriptor, READ_BYTES, offset):
        offset += len(piece)
        yield piece
