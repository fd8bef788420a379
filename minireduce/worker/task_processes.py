"""The worker's end of the zygote and of its task processes: fork one, speak to it, learn how it ended.

A `Zygote` here is one life of the zygote process; when it ends, so have all its task processes, and a new object takes
its place. Processes are killed by asking the zygote, their parent, for whom a number cannot mean another process by
then. Only when the zygote itself is gone are the groups it left killed from here.

Elsewhere: which task runs in which process, and what its end means (`slots`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from minireduce.attempt import linux
from minireduce.attempt.conversation import (
    Exited,
    Fork,
    Forked,
    ForkRefused,
    FromTask,
    FromZygote,
    Kill,
    Ready,
    ToTask,
    ToZygote,
)
from minireduce.attempt.framing import LENGTH, PACKET_BYTES_MAX, decode, encode, frame_length, to_frame
from minireduce.attempt.progress import ProgressPage, make_page
from minireduce.core.work.printed import TextPrinted
from minireduce.errors import MinireduceError, Unavailable
from minireduce.worker.control_groups import ControlGroup, ControlGroups
from minireduce.worker.printing import ProcessPrinting
from minireduce.worker.zygote_process import ZygoteProcess

READ_BUFFER_BYTES = 1 << 20
ZYGOTE_END_S_MAX = 5.0
GONE = "the zygote, which forks task processes, ended"


class TaskProcess:
    """One task process as its worker sees it. `exited` gives its exit status; None when nobody learned it."""

    def __init__(
        self,
        pid: int,
        connection: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        page: ProgressPage,
        printing: ProcessPrinting,
        zygote: Zygote,
    ) -> None:
        self.pid = pid
        self.page = page
        self.printing = printing
        self.idle_bytes = 0
        self.group: ControlGroup | None = None
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._zygote = zygote
        self._statm: int | None = None

    async def ready(self) -> None:
        """Wait until it can take a program. Raises Unavailable when it ends before."""
        message = await self.receive()
        if not isinstance(message, Ready):
            raise Unavailable("a task process ended before it began; the log of this worker may say why")
        self.idle_bytes = message.idle_bytes
        with contextlib.suppress(OSError):
            # Held open: the file belongs to this process for ever, even when its number is used again.
            self._statm = os.open(f"/proc/{self.pid}/statm", os.O_RDONLY | os.O_CLOEXEC)

    def send(self, message: ToTask) -> None:
        self._writer.write(to_frame(message))

    def hand_over(self, message: ToTask, descriptor: int) -> bool:
        """Send a short message with a descriptor beside it; False, and nothing sent, when the socket is full."""
        frame = to_frame(message)
        if self._writer.transport.get_write_buffer_size():
            return False  # what comes first must go first
        try:
            sent = socket.send_fds(self._connection, [frame], [descriptor])
        except BlockingIOError:
            return False
        except OSError:
            return True  # it is gone, as whoever waits for its answer is about to see
        self._writer.write(frame[sent:])
        return True

    async def receive(self) -> FromTask | None:
        """What the process says next; None when it has closed its end, as it does by ending, or talks nonsense."""
        try:
            length = frame_length(await self._reader.readexactly(LENGTH.size))
            message: FromTask = decode(FromTask, await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        except (MinireduceError, ValueError):  # user code can reach the socket; whoever waits kills the process
            return None
        return message

    def anonymous_bytes(self) -> int:
        """Its RssAnon; 0 when it has ended."""
        if self._statm is None:
            return 0
        try:
            text = os.pread(self._statm, 128, 0)
        except OSError:
            return 0
        return linux.anonymous_bytes(text) if text else 0

    def kill(self) -> None:
        """Kill its process group. `exited` follows."""
        self._zygote.kill(self.pid)

    def discard(self) -> None:
        """Kill it, and let go of it when it has ended; nobody need wait for that."""
        self.kill()
        self.exited.add_done_callback(lambda _: self.close())

    def close(self) -> None:
        """Let go of what this end holds, once it has ended."""
        self._writer.close()
        self.page.close()
        self.printing.close()
        if self.group is not None:
            self._zygote.leave_group(self.group)
            self.group = None
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None


class Zygote:
    """One life of the zygote. `when_gone` is called once, when it ends without having been closed."""

    def __init__(
        self,
        process: ZygoteProcess,
        *,
        user: str = "",
        groups: ControlGroups | None = None,
        when_gone: Callable[[Zygote], None],
        on_printed: Callable[[TextPrinted], None],
    ) -> None:
        self._user = user
        self._groups = groups
        self._on_printed = on_printed
        self._when_gone = when_gone
        self._is_closing = False
        self._tokens = itertools.count(1)
        self._forking: dict[int, asyncio.Future[int]] = {}
        self._processes: dict[int, TaskProcess] = {}
        self._early_exits: dict[int, int] = {}
        self._abandoned: set[int] = set()
        self._outgoing: deque[tuple[bytes, Sequence[int]]] = deque()
        self._process = process

    def start(self) -> None:
        """Speak to the process from here on. It imports while the worker goes on; what it is asked meanwhile waits."""
        self._loop = asyncio.get_running_loop()
        self._gone = self._loop.create_future()
        self._control = self._process.control
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._read)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def fork(self) -> TaskProcess:
        """A new task process that is ready for a program. Raises Unavailable when none can be made."""
        if self._gone.done():
            raise Unavailable(GONE)
        ours, theirs = socket.socketpair()
        page, page_descriptor = make_page()
        printing = ProcessPrinting(self._on_printed)
        token = next(self._tokens)
        forked = self._forking[token] = self._loop.create_future()
        descriptors = (theirs.detach(), page_descriptor, *printing.write_ends)
        self._send(Fork(token, self._user), descriptors)
        try:
            pid = await forked
        except BaseException:
            ours.close()
            page.close()
            printing.close()
            if forked.done() and not forked.cancelled() and forked.exception() is None:
                self._abandon(forked.result())
            raise
        finally:
            del self._forking[token]
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=READ_BUFFER_BYTES)
        process = TaskProcess(pid, ours, reader, writer, page, printing, self)
        self._processes[pid] = process
        if self._groups is not None:
            process.group = self._groups.enter(pid)  # before it has a program that could start others
        if pid in self._early_exits:
            self._exited(pid, self._early_exits.pop(pid))
        try:
            await process.ready()
        except BaseException:
            process.discard()
            raise
        return process

    def kill(self, pid: int) -> None:
        if pid in self._processes:
            self._send(Kill(pid))

    def leave_group(self, group: ControlGroup) -> None:
        """The process that this group was for has ended."""
        if self._groups is not None:
            self._groups.leave(group)

    async def close(self) -> None:
        """End the zygote and every process below it; returns when they are gone."""
        self._is_closing = True
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._gone), ZYGOTE_END_S_MAX)
        self._process.kill()
        await self._gone

    def _send(self, message: ToZygote, descriptors: Sequence[int] = ()) -> None:
        self._outgoing.append((encode(message), descriptors))
        self._flush()

    def _flush(self) -> None:
        """Send what waits; when the socket is full, go on when it is not."""
        while self._outgoing:
            packet, descriptors = self._outgoing[0]
            try:
                socket.send_fds(self._control, [packet], descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._control, self._flush)
                return
            except OSError:
                return  # it is gone, as the reader is about to see
            self._outgoing.popleft()
            for descriptor in descriptors:
                os.close(descriptor)
        self._loop.remove_writer(self._control)

    def _read(self) -> None:
        """Take in all that the zygote has said."""
        while True:
            try:
                packet = self._control.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._end()
                return
            match decode(FromZygote, packet):
                case Forked(token, pid):
                    forked = self._forking.get(token)
                    if forked is not None and not forked.done():
                        forked.set_result(pid)
                    else:
                        self._abandon(pid)
                case ForkRefused(token, reason):
                    forked = self._forking.get(token)
                    if forked is not None and not forked.done():
                        forked.set_exception(Unavailable(f"this machine gives no process for a task: {reason}"))
                case Exited(pid, status):
                    self._exited(pid, status)

    def _abandon(self, pid: int) -> None:
        """End a process that was made for somebody who has given up meanwhile."""
        if self._early_exits.pop(pid, None) is None:
            self._abandoned.add(pid)
            self._send(Kill(pid))

    def _exited(self, pid: int, status: int) -> None:
        process = self._processes.pop(pid, None)
        if pid in self._abandoned:
            self._abandoned.discard(pid)
        elif process is None:
            self._early_exits[pid] = status  # before `fork` came to see it
        elif not process.exited.done():
            process.exited.set_result(status)

    def _end(self) -> None:
        """The zygote's end of the socket is closed: it is gone, or about to go."""
        self._loop.remove_reader(self._control)
        self._loop.remove_writer(self._control)
        self._process.end()
        for _, descriptors in self._outgoing:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outgoing.clear()
        for forked in self._forking.values():
            if not forked.done():
                forked.set_exception(Unavailable(GONE))
        for pid, process in sorted(self._processes.items()):
            linux.kill_group(pid)
            if not process.exited.done():
                process.exited.set_result(None)
        self._processes.clear()
        if not self._gone.done():
            self._gone.set_result(None)
        if not self._is_closing:
            self._when_gone(self)
