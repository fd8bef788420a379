"""Master and worker of a command's own cluster, forked from one process that has imported what both need.

Imports are most of a small job's start, and asyncio, gRPC and the messages are more than half of those of a master as
of a worker. So this process starts the zygote, which has imports of its own, then imports what both need, and forks:
the child is the master, and it becomes the worker. Nothing is computed and no thread started before: gRPC may be
imported before a fork, but its objects must be made after.

To whoever started both, the worker is a child like any other. The master is not; it is handed a descriptor of that
process (pidfd), which shows when it ends and takes signals, and can mean no other process, ever. The worker reaps it.

    python -m minireduce.launch.both_main HANDOVER STDIN LOG MASTER_OPTION... -- WORKER_OPTION...

HANDOVER is a socket for that descriptor; STDIN and LOG are what the master has for standard input and for its output.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from minireduce.worker.zygote_process import ZygoteProcess

if TYPE_CHECKING:
    import argparse

SHARED = (
    "asyncio",
    "grpc.aio",
    "minireduce.auth.tokens",
    "minireduce.auth.transport",
    "minireduce.clock",
    "minireduce.config",
    "minireduce.core.link",
    "minireduce.core.settings",
    "minireduce.wire.calls",
    "minireduce.wire.methods",
)
"""What master and worker both import. None of it may start a thread."""

BETWEEN = "--"


def main(arguments: list[str]) -> NoReturn:
    zygote = ZygoteProcess.begin()  # before anything is imported that it need not wait for: these flags are our own

    from minireduce.launch.common import run_daemon
    from minireduce.leaving import leave

    leave(run_daemon(lambda: _run(arguments, zygote)))


def _run(arguments: list[str], zygote: ZygoteProcess) -> None:
    try:
        from minireduce.launch import master_main, worker_main

        stdin, log = int(arguments[1]), int(arguments[2])
        middle = arguments.index(BETWEEN)
        master = master_main.parse(arguments[3:middle])
        worker = worker_main.parse(arguments[middle + 1 :])
        with socket.socket(fileno=int(arguments[0])) as handover:
            for name in SHARED:
                importlib.import_module(name)
            pid = os.fork()
            if pid == 0:
                zygote.forget()
                os.close(worker.ready_fd)
                handover.close()
                _become_master(master, stdin, log)
            descriptor = os.pidfd_open(pid)
            socket.send_fds(handover, [pid.to_bytes(8, "little")], [descriptor])
        for each in (descriptor, stdin, log, master.ready_fd):
            os.close(each)
        try:
            _become_worker(worker, zygote)
        finally:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # the master is ended first; one that is not is nobody's to wait for
    finally:
        zygote.end()


def _become_worker(options: argparse.Namespace, zygote: ZygoteProcess) -> None:
    from minireduce.attempt.linux import name_process
    from minireduce.launch.worker_serving import run

    name_process("minireduce-work")
    run(options, zygote)


def _become_master(options: argparse.Namespace, stdin: int, log: int) -> NoReturn:
    """The child's side of the fork."""
    from minireduce.attempt.linux import name_process
    from minireduce.launch.common import run_daemon
    from minireduce.launch.master_main import serve
    from minireduce.leaving import leave

    os.setsid()
    for descriptor, number in ((stdin, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    os.close(stdin)
    os.close(log)
    name_process("minireduce-mast")
    leave(run_daemon(lambda: serve(options)))


if __name__ == "__main__":
    main(sys.argv[1:])
