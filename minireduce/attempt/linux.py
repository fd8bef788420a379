"""What this package asks of Linux and Python's library has no name for.

Process control (`prctl`) goes through the C library. Memory is read from `/proc/PID/statm`: resident less shared pages
are the anonymous ones (RssAnon), and one read of it takes a few microseconds; how much of them a process does not share
with others says `/proc/PID/smaps_rollup`, which takes the longer the more there are. Children of other processes are
found by reading `/proc/*/stat`, since the list that some kernels keep of them is not there on all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import resource
import signal
from pathlib import Path

from minireduce.errors import RequestError

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_PSS_ANON = re.compile(rb"^Pss_Anon: +([0-9]+) kB$", re.MULTILINE)
_IOLBF = 1  # the same in all C libraries of Linux

PAGE_BYTES = resource.getpagesize()
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl option {option}: {os.strerror(code)}")


def name_process(name: str) -> None:
    """Show this process as `name` (15 bytes at most) in `ps` and `top`."""
    _prctl(_PR_SET_NAME, name.encode())


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends. Call it after the last change of account, which undoes
    it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)


def buffer_lines_of_c() -> None:
    """Have C's `stdout` written line by line: into a pipe it would be by blocks, and a crash would lose the last."""
    _libc.setvbuf(ctypes.c_void_p.in_dll(_libc, "stdout"), None, _IOLBF, 0)


def flush_streams_of_c() -> None:
    """Write out what C's streams hold."""
    _libc.fflush(None)


def account_ids(account: str) -> tuple[int, int]:
    """User and group number of an account. Raises RequestError when there is none."""
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        raise RequestError(f"there is no account {account!r} here", hint="set task_user to one that exists") from None
    return entry.pw_uid, entry.pw_gid


def run_as(account: str) -> None:
    """Give up root for `account` and its groups, for good."""
    entry = pwd.getpwnam(account)
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def kill_group(pid: int) -> None:
    """SIGKILL the process group that `pid` leads; an empty one is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill(pid: int) -> None:
    """SIGKILL one process; a missing one is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def parents() -> dict[int, int]:
    """Every process of this machine and its parent, zombies included, in ascending order."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it ended while we looked
                # The name in parentheses may hold anything; what follows the last one is: state, parent, ...
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split(maxsplit=2)
                found[int(entry.name)] = int(fields[1])
    return dict(sorted(found.items()))


def children(parent: int) -> list[int]:
    """The processes whose parent is `parent`, zombies included, in ascending order."""
    return [pid for pid, its_parent in parents().items() if its_parent == parent]


def own_children() -> list[int]:
    """The children of this process, which has a single thread; zombies included, in no order.

    A kernel that keeps a list of them is asked for it, which takes a fiftieth of the time. The list may lack some when
    a child ends while it is read: whoever waits for ends should look again after each.
    """
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_bytes().split()]
    except OSError:
        return children(os.getpid())


def has_children() -> bool:
    """Whether this process has any child, be it only its exit status."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def most_resident_bytes() -> int:
    """The most memory that this process ever had in use at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def anonymous_bytes(statm: bytes) -> int:
    """RssAnon, from the text of a `/proc/PID/statm`."""
    fields = statm.split(maxsplit=3)
    return (int(fields[1]) - int(fields[2])) * PAGE_BYTES


def anonymous_bytes_of(pid: int) -> int:
    """A process's RssAnon; 0 when it has ended."""
    try:
        return anonymous_bytes(Path(f"/proc/{pid}/statm").read_bytes())
    except OSError:
        return 0


def anonymous_share_bytes(pid: int) -> int:
    """The same with each page divided among those that share it, as parents and children do after a fork. All of them
    where the system does not say; 0 when the process has ended.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
    except OSError:
        return anonymous_bytes_of(pid)
    found = _PSS_ANON.search(text)
    return int(found[1]) << 10 if found else anonymous_bytes_of(pid)


def own_anonymous_bytes() -> int:
    """This process's RssAnon."""
    return anonymous_bytes(Path("/proc/self/statm").read_bytes())


def give_back_freed_memory() -> None:
    """Have the allocator of C return to the system what it keeps of freed memory. glibc knows how; others keep less."""
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(0)


def limit_data_bytes(allowance: int) -> None:
    """Let this process map at most `allowance` bytes more of private writable memory than now (RLIMIT_DATA).

    It counts address space that allocators and thread stacks reserve and never touch, so an allowance must be generous.
    """
    mapped = int(Path("/proc/self/statm").read_bytes().split()[5]) * PAGE_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = mapped + allowance
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
