"""What attempts print: taken from pipes as it comes, kept up to a limit, and given out piece by piece.

File descriptors 1 and 2 of a task process are pipes to its worker, so everything that prints is caught, C libraries and
child processes too, and what was printed before a crash is here when the process is gone. The pipes live as long as the
process; a process prints for one attempt at a time. Nothing is made for an attempt that prints nothing.

Of each stream the beginning and the end are kept, half of the limit each; what lay between is counted. Positions are
those in the whole of what was printed, so a gap shows where something was left out. While the attempt runs, pieces are
handed on for the master (`pieces`): the beginning as it comes, and of a long text ever again its latest end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import Path

from minireduce.attempt.places import STDERR_NAME, STDOUT_NAME
from minireduce.core.texts import left_out_note
from minireduce.core.work.printed import TextPrinted
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId

READ_BYTES = 1 << 16
HEAD_BYTES_MAX = 32 << 10
"""Of each text, so much of the beginning goes to the master."""

END_BYTES_MAX = 16 << 10
"""And so much of the end of one that is longer."""

HAND_ON_INTERVAL_S = 1.0
END_INTERVAL_S = 5.0
"""How often the beginning, and how often the end of a longer text is handed on while its attempt runs."""

DRAIN_BYTES_MAX = 1 << 20
"""More than this no pipe holds, so more than this is of a process that still prints."""


@dataclass(slots=True)
class Printed:
    """What one attempt printed to one stream."""

    kept_bytes_max: int
    bytes_total: int = 0
    handed_on: int = 0  # up to this position
    _head: bytearray = field(default_factory=bytearray)
    _tail: bytearray = field(default_factory=bytearray)

    def add(self, data: bytes) -> None:
        """More was printed."""
        half = self.kept_bytes_max // 2
        self.bytes_total += len(data)
        room = half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            if len(self._tail) > 2 * half:  # seldom, so that each byte is moved about once
                del self._tail[: len(self._tail) - half]

    def pieces(self, head_bytes_max: int, tail_bytes_max: int) -> Iterator[tuple[int, bytes, bool]]:
        """What was not handed on yet, with its position: of the first bytes all, of the others the last ones, which
        are marked as an end.
        """
        head_end = min(head_bytes_max, len(self._head))
        if self.handed_on < head_end:
            yield self.handed_on, bytes(self._head[self.handed_on : head_end]), False
        if self.bytes_total > max(self.handed_on, head_end):
            begin = max(head_end, self.bytes_total - tail_bytes_max)
            yield begin, self._from(begin), True
        self.handed_on = self.bytes_total

    def has_head_to_hand_on(self, head_bytes_max: int) -> bool:
        """Whether something of the first bytes was not handed on yet."""
        return self.handed_on < min(head_bytes_max, len(self._head))

    def text(self) -> bytes:
        """All that is kept, with a line where something was left out."""
        tail = self._tail[-(self.kept_bytes_max // 2) :] if self._tail else b""
        left_out = self.bytes_total - len(self._head) - len(tail)
        note = left_out_note(left_out).encode() if left_out else b""
        return bytes(self._head) + note + bytes(tail)

    def _from(self, begin: int) -> bytes:
        if begin < len(self._head):
            return bytes(self._head[begin:]) + bytes(self._tail)
        return bytes(self._tail[begin - (self.bytes_total - len(self._tail)) :])


class PrintPipe:
    """One stream of one task process, as the worker reads it. `kept` is of the attempt that runs now."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)  # the task's end is its process's to close
        os.set_blocking(self._read_end, False)
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._kept_bytes_max = 0
        self.kept: Printed | None = None
        self._loop.add_reader(self._read_end, self._read)

    def begin(self, kept_bytes_max: int) -> None:
        """What comes from now on is another attempt's."""
        self._kept_bytes_max = kept_bytes_max
        self.kept = None

    def drain(self) -> None:
        """Take in what was printed before now."""
        left = DRAIN_BYTES_MAX
        while left > 0 and (taken := self._read()):
            left -= taken

    def close(self) -> None:
        """Let go of the pipe."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)

    def _read(self) -> int:
        """Take in what is there; how much it was."""
        if not self._is_open:
            return 0
        try:
            data = os.read(self._read_end, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:  # nobody is left who could print
            self.close()
            return 0
        if self.kept is None:
            self.kept = Printed(self._kept_bytes_max)
        self.kept.add(data)
        return len(data)


class ProcessPrinting:
    """Both streams of one task process, and the attempt that prints now. `tell` takes pieces for the master."""

    def __init__(self, tell: Callable[[TextPrinted], None]) -> None:
        self._tell = tell
        self._streams = {STDOUT_NAME: PrintPipe(), STDERR_NAME: PrintPipe()}
        self._attempt: AttemptId | None = None
        self._handed_on_at = self._end_handed_on_at = 0.0

    @property
    def write_ends(self) -> tuple[int, ...]:
        """What the task process prints to, `stdout` first; whoever sends them closes them."""
        return tuple(pipe.write_end for pipe in self._streams.values())

    def begin(self, attempt: AttemptId, kept_bytes_max: int, now: float) -> None:
        """What comes from now on is this attempt's."""
        self._attempt = attempt
        self._handed_on_at = self._end_handed_on_at = now
        for pipe in self._streams.values():
            pipe.begin(kept_bytes_max)

    @property
    def has_text(self) -> bool:
        """Whether the attempt has printed anything by now."""
        for pipe in self._streams.values():
            pipe.drain()
        return any(pipe.kept is not None for pipe in self._streams.values())

    def said(self, stream: str) -> str:
        """What the attempt has printed so far, as far as it is kept."""
        kept = self._streams[stream].kept
        return kept.text().decode(errors="replace") if kept is not None else ""

    def hand_on(self, now: float) -> None:
        """Tell what is new, if it is time: of a long text seldom, since each time it is another end."""
        if now - self._handed_on_at < HAND_ON_INTERVAL_S:
            return
        is_time_for_ends = now - self._end_handed_on_at >= END_INTERVAL_S
        for stream, pipe in self._streams.items():
            kept = pipe.kept
            if kept is not None and (is_time_for_ends or kept.has_head_to_hand_on(HEAD_BYTES_MAX)):
                self._hand_on(stream, kept, is_of_failure=False)
        self._handed_on_at = now
        if is_time_for_ends:
            self._end_handed_on_at = now

    async def end(self, directory: Path, *, is_of_failure: bool) -> None:
        """The attempt prints no more: tell what is left, and leave all that is kept in its directory."""
        for stream, pipe in self._streams.items():
            pipe.drain()
            if pipe.kept is None:
                continue
            if is_of_failure:
                pipe.kept.handed_on = 0
            self._hand_on(stream, pipe.kept, is_of_failure=is_of_failure)
            with contextlib.suppress(OSError):  # for people only; the output is what must not be lost
                await asyncio.to_thread(_write_text, directory / stream, pipe.kept.text())

    def close(self) -> None:
        """Let go of the pipes."""
        for pipe in self._streams.values():
            pipe.close()

    def _hand_on(self, stream: str, kept: Printed, *, is_of_failure: bool) -> None:
        assert self._attempt is not None
        for offset, data, is_end in kept.pieces(HEAD_BYTES_MAX, END_BYTES_MAX):
            self._tell(TextPrinted(self._attempt, stream, offset, data, is_end, is_of_failure))


def _write_text(path: Path, text: bytes) -> None:
    """Leave `text` for people, in a directory that may belong to tasks: a link that waits there is not followed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
