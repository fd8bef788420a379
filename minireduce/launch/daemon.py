"""Start one daemon as a child process, learn where it listens, and end it.

A daemon is started by the interpreter that runs this, without the current directory in its module path, in a session of
its own: Ctrl-C in the terminal reaches the command, which then ends its children in order. What a daemon says while it
starts goes to its log, and when it cannot start, its last words become the error of whoever started it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from minireduce.errors import HINT_MARK, RequestError, Unavailable
from minireduce.launch.child import read_announcement
from minireduce.launch.forked import Forked
from minireduce.leaving import wait_for

MASTER = "minireduce.launch.master_main"
WORKER = "minireduce.launch.worker_main"
BOTH = "minireduce.launch.both_main"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_LAST_WORDS_BYTES = 4096


@dataclass(eq=False)
class Daemon:
    """A master or a worker that this process has started. `name` is for people."""

    name: str
    process: subprocess.Popen[bytes] | Forked
    log: Path
    _said: BinaryIO  # the log, held open: an embedded daemon removes the directory of its log when it ends
    _ready_fd: int | None

    def ready(self) -> dict[str, Any]:
        """What the daemon announced once it served. Raises what kept it from starting; ask once."""
        assert self._ready_fd is not None
        watching = select.poll()
        watching.register(self._ready_fd, select.POLLIN)
        if not watching.poll(START_TIMEOUT_S * 1000):
            raise Unavailable(f"the {self.name} did not start within {START_TIMEOUT_S:g} s", hint=f"see {self.log}")
        ready_fd, self._ready_fd = self._ready_fd, None
        announced = read_announcement(ready_fd)
        if announced is None:
            self.process.wait()
            raise self._cause_of_end()
        return announced

    def close_pipes(self) -> None:
        """Let go of all descriptors: an embedded daemon ends by that."""
        self._said.close()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        if self._ready_fd is not None:
            os.close(self._ready_fd)
            self._ready_fd = None

    def tell(self, line: str) -> None:
        """Send a line to the daemon's standard input. One that has ended shows that in `ready`."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def let_go(self) -> None:
        """Let the daemon outlive this process, without a complaint that nobody waited for it."""
        self.close_pipes()
        self.process.returncode = 0

    def last_words(self) -> str:
        """The last line of the log, with how the process ended."""
        lines, status = self._log_end().splitlines(), self.process.returncode
        return f"status {'unknown' if status is None else status}: {lines[-1] if lines else 'it said nothing'}"

    def _cause_of_end(self) -> RequestError:
        """The error that the daemon printed last, or that it ended without one."""
        before, marker, said = self._log_end().rpartition("error: ")
        if marker and (not before or before.endswith("\n")):
            message, _, hint = said.partition(HINT_MARK)
            return RequestError(message.strip(), hint=hint.strip() or None)
        return RequestError(f"the {self.name} ended at its start with {self.last_words()}")

    def _log_end(self) -> str:
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        return self._said.read().decode(errors="replace").strip()


def start(
    module: str, arguments: Sequence[str], *, name: str, log: Path, environment: dict[str, str] | None = None
) -> Daemon:
    """Start the daemon whose main is in `module`. Returns at once; `Daemon.ready` waits.

    Its standard input is a pipe that this process holds; a daemon told to be embedded ends with it.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        ready_read, ready_write = _pipe(ours, theirs)
        sink = theirs.enter_context(log.open("ab"))
        words = [*arguments, "--ready-fd", str(ready_write)]
        process = _start(module, words, sink, passed=(ready_write,), environment=environment)
        ours.pop_all()
    return Daemon(name, process, log, log.open("rb"), ready_read)


def start_both(
    master: Sequence[str],
    worker: Sequence[str],
    *,
    names: tuple[str, str],
    logs: tuple[Path, Path],
    environment: dict[str, str] | None = None,
) -> tuple[Daemon, Daemon]:
    """Start a master and a worker that share what both import (`both_main`), with these arguments. Each is as if it had
    been started alone, but that nobody here learns the status with which the master ends.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        handover, its_handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.enter_context(handover)
        theirs.enter_context(its_handover)
        its_stdin, stdin = _pipe(theirs, ours)
        master_read, master_write = _pipe(ours, theirs)
        worker_read, worker_write = _pipe(ours, theirs)
        master_sink, worker_sink = (theirs.enter_context(log.open("ab")) for log in logs)
        for_master = (its_handover.fileno(), its_stdin, master_sink.fileno())
        words = [*map(str, for_master), *master, "--ready-fd", str(master_write)]
        words += ["--", *worker, "--ready-fd", str(worker_write)]
        passed = (*for_master, master_write, worker_write)
        process = _start(BOTH, words, worker_sink, passed=passed, environment=environment)
        ours.pop_all()
    forked = Forked(handover, os.fdopen(stdin, "wb"))
    return (
        Daemon(names[0], forked, logs[0], logs[0].open("rb"), master_read),
        Daemon(names[1], process, logs[1], logs[1].open("rb"), worker_read),
    )


def _pipe(of_reader: contextlib.ExitStack, of_writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe, whose ends are closed with what keeps them."""
    reading, writing = os.pipe()
    of_reader.callback(os.close, reading)
    of_writer.callback(os.close, writing)
    return reading, writing


def _start(
    module: str, words: Sequence[str], sink: BinaryIO, *, passed: tuple[int, ...], environment: dict[str, str] | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - a module of ours, without a shell
        [sys.executable, "-P", "-m", module, *words],
        stdin=subprocess.PIPE,
        stdout=sink,
        stderr=sink,
        pass_fds=passed,
        start_new_session=True,
        env=environment,
    )


def stop(daemons: Sequence[Daemon], *, at_once: Sequence[Daemon] = ()) -> None:
    """End these children, side by side, and reap them. Those `at_once` hold nothing that is worth a farewell."""
    for daemon in (*at_once, *daemons):
        daemon.close_pipes()
        _signal(daemon, signal.SIGKILL if daemon in at_once else signal.SIGTERM)
    for daemon in (*at_once, *daemons):
        try:
            _wait_for(daemon, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _signal(daemon, signal.SIGKILL)
            daemon.process.wait()


def _wait_for(daemon: Daemon, timeout_s: float) -> None:
    if isinstance(daemon.process, Forked):
        daemon.process.wait(timeout_s)
    else:
        wait_for(daemon.process, timeout_s)


def _signal(daemon: Daemon, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        daemon.process.send_signal(number)
