"""How a running job shows itself on standard error: one live line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from minireduce.cli.show import duration, size
from minireduce.core.views import JobState, JobView
from minireduce.errors import MinireduceError

LIVE_INTERVAL_S = 0.2
PLAIN_INTERVAL_S = 5.0
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Call it with each view of the job. Nothing is shown where `is_quiet`."""

    def __init__(self, *, is_quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_quiet = is_quiet
        self._is_live = not is_quiet and self._stream.isatty()
        self._has_line = False
        self._is_waiting = False
        self._shown_at_s = time.monotonic()
        self.interval_s = LIVE_INTERVAL_S if self._is_live else PLAIN_INTERVAL_S

    def __call__(self, shown: JobView) -> None:
        self._is_waiting = False
        if shown.state is not JobState.RUNNING:
            self.clear()
        elif self._is_live:
            self._live(describe(shown))
        elif time.monotonic() - self._shown_at_s >= PLAIN_INTERVAL_S:
            self._shown_at_s = time.monotonic()
            self.say(describe(shown))

    def upload(self, done_bytes: int, bytes_total: int) -> None:
        """Input is on its way to the cluster, since no worker can read it in place."""
        text = f"uploading input: {size(done_bytes)} of {size(bytes_total)}"
        if done_bytes == bytes_total:
            self.say(f"uploaded input: {size(bytes_total)}")
        elif self._is_live:
            self._live(text)
        elif time.monotonic() - self._shown_at_s >= PLAIN_INTERVAL_S:
            self._shown_at_s = time.monotonic()
            self.say(text)

    def wait(self, error: MinireduceError, waited_s: float) -> None:
        """The master does not answer: said once for each time that it is away."""
        del waited_s
        if not self._is_waiting:
            self.say(f"waiting: {error.message}")
        self._is_waiting = True

    def _live(self, text: str) -> None:
        width = shutil.get_terminal_size().columns
        self._stream.write(_CLEAR_LINE + text[: width - 1])
        self._stream.flush()
        self._has_line = True

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._is_quiet:
            self.clear()
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def clear(self) -> None:
        """Take the live line away."""
        if self._has_line:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()
            self._has_line = False


def describe(shown: JobView) -> str:
    """Where a job stands, in one line."""
    steps = max((count.step for count in shown.tasks), default=0) + 1
    tasks = ", ".join(
        (f"step {count.step + 1} " if steps > 1 else "") + f"{count.kind} {count.done}/{count.total}"
        for count in shown.tasks
        if count.total and (steps == 1 or count.done < count.total)
    )
    waiting = f" · waiting for {shown.waiting_for}" if shown.waiting_for else ""
    return f"{shown.job} {shown.state} {shown.fraction:4.0%} · {tasks} · {duration(shown.elapsed_s)}{waiting}"
