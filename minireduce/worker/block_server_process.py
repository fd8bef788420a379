"""The worker's end of its block server: give it its socket and orders, and start it again should it end.

The worker itself binds the port, before anything else is ready, so that it can tell the master its address at once.
Callers that come before the server serves, or between two lives of it, wait in the socket's queue. Where nobody may
ever come, as to the worker of one small job, the server is started for the first caller or order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import replace

from minireduce.errors import RequestError
from minireduce.worker.block_messages import ReplicaCommand, ReplicaEvent, event_from_line, to_line
from minireduce.worker.orders import Orders

log = logging.getLogger(__name__)

BACKLOG = 1024
RESTART_S_MIN = 0.1
RESTART_S_MAX = 10.0
ALLOCATION = {
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(4 << 20),
}
"""Pieces of 1 MiB come and go: up to so much of what was freed stays with the process, since giving it back to the
system and taking it again costs a quarter of what taking in a block does. The names are glibc's."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises RequestError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as cause:
        raise RequestError(
            f"the block server cannot listen on {host}:{port}: {cause.strerror}", hint="choose another with --port"
        ) from cause
    listening.setblocking(False)
    return listening


class BlockServerProcess:
    """The block server of this worker, kept alive until `close`. What it says of replicas goes to `tell`."""

    def __init__(self, listening: socket.socket, orders: Orders, tell: Callable[[ReplicaEvent], None]) -> None:
        self._tell = tell
        self._listening = listening
        self._orders = replace(orders, socket_fd=listening.fileno())
        self._process: Process | None = None
        self._early: list[bytes] = []
        self._is_wanted = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process; it gets ready while the worker goes on."""
        self._process = await self._spawn()
        self._watching = asyncio.create_task(self._watch(), name="block server")

    async def start_when_wanted(self) -> None:
        """Start the process when there is a first caller, or something for it to do."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listening, self._is_wanted.set)
        try:
            await self._is_wanted.wait()
        finally:
            loop.remove_reader(self._listening)
        await self.start()

    @property
    def pid(self) -> int | None:
        """The process as it is now, for tests."""
        return self._process.pid if self._process is not None else None

    def order(self, command: ReplicaCommand) -> None:
        """Have the server do something, once it runs. One that ends first leaves it undone; the master asks again."""
        if self._process is None:
            self._early.append(to_line(command))
            self._is_wanted.set()
        elif self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(to_line(command))

    async def close(self) -> None:
        """End the process and give the port free."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()  # it holds nothing that this could hurt, and nobody waits for a farewell
            await self._process.wait()
        self._listening.close()

    async def _spawn(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "minireduce.worker.block_server",
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=(self._listening.fileno(),),
            env={**ALLOCATION, **os.environ},
        )
        assert process.stdin is not None
        process.stdin.writelines([self._orders.to_line(), *self._early])
        self._early.clear()
        with contextlib.suppress(ConnectionError):  # it ended at once, which `_watch` sees
            await process.stdin.drain()
        return process

    async def _watch(self) -> None:
        pause_s = RESTART_S_MIN
        while self._process is not None:
            await self._listen(self._process)
            status = await self._process.wait()
            log.error("the block server ended with status %s; starting it again in %g s", status, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_S_MAX)
            self._process = await self._spawn()

    async def _listen(self, process: Process) -> None:
        """Pass on what the server says, until it ends."""
        assert process.stdout is not None
        while (line := await process.stdout.readline()).endswith(b"\n"):
            self._tell(event_from_line(line))
        self._orders = replace(self._orders, lists_replicas=True)
