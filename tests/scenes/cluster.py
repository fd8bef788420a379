"""A real cluster of processes on loopback, whose parts can be killed and started again.

Data directories outlive the processes, tokens are the cluster's own, and every daemon is reaped in the end.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from minireduce.auth import tokens
from minireduce.client import jobs
from minireduce.client.connection import Connection
from minireduce.core.views import JobView, TaskView, WorkerView
from minireduce.launch import daemon
from minireduce.launch.daemon import MASTER, WORKER, Daemon
from minireduce.wire import methods
from minireduce.wire.calls import Credentials
from minireduce.wire.questions import ListTasks, ListWorkers, WaitJob

MOMENTS_S = 0.05
"""How long the master is asked to wait for a change of state before a view is looked at again."""


class ProcessCluster:
    """A master and workers as processes. `settings` reach all of them through the environment."""

    def __init__(self, root: Path, *, workers: int, slots: int = 1, settings: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.slots = slots
        self.token_file = root / "token"
        self.tokens = tokens.generate()
        tokens.store(self.token_file, self.tokens)
        # Directories of tests are for their owner alone, so tasks must be the owner's too.
        own = {"MINIREDUCE_TASK_USER": pwd.getpwuid(os.geteuid()).pw_name}
        self.environment = {**os.environ, **own, **(settings or {})}
        self.environment["MINIREDUCE_TOKEN_FILE"] = str(self.token_file)
        self.daemons: dict[str, Daemon] = {}
        self._commands: list[subprocess.Popen[bytes]] = []
        self.address = ""
        self._addresses: dict[str, str] = {}
        self.start_master()
        for number in range(1, workers + 1):
            self.start_worker(f"worker-{number}")
        for number in range(1, workers + 1):
            self.await_worker(f"worker-{number}")

    def start_master(self) -> None:
        """Start the master on its own data; the second time at the same address."""
        port = self.address.rpartition(":")[2] or "0"
        self._start(MASTER, "master", "--port", port, "--http-port", "0")
        self.address = str(self.daemons["master"].ready()["address"])

    def start_worker(self, name: str, *options: str) -> None:
        """Start a worker on its own data. Returns at once; `await_worker` waits until it has joined."""
        self._start(WORKER, name, "--slots", str(self.slots), "--port", "0", *options, self.address)

    def await_worker(self, name: str) -> None:
        self._addresses[name] = str(self.daemons[name].ready()["address"])

    def _start(self, module: str, name: str, *arguments: str) -> None:
        self.daemons[name] = daemon.start(
            module,
            ["--data-dir", str(self.root / name), "--token-file", str(self.token_file), *arguments],
            name=name,
            log=self.root / f"{name}.log",
            environment=self.environment,
        )

    def kill(self, name: str) -> None:
        """`kill -9`, and nothing said to anybody."""
        victim = self.daemons.pop(name)
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
        victim.close_pipes()

    def connect(self) -> Connection:
        return Connection(self.address, Credentials(self.tokens.require_client()), master_wait_s=60.0)

    def workers(self) -> dict[str, WorkerView]:
        """The workers by id."""
        with self.connect() as connection:
            return {view.worker: view for view in connection.call(methods.LIST_WORKERS, ListWorkers())}

    def daemon_of(self, worker: str) -> str:
        """The name of the process that is this worker, told by where it serves its data."""
        address = self.workers()[worker].data_address
        return next(name for name, announced in self._addresses.items() if announced == address)

    def is_daemon_of(self, name: str, worker: str) -> bool:
        """Whether the process of this name is this worker; false for one that has never told its address."""
        return self.workers()[worker].data_address == self._addresses.get(name)

    def command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `minireduce ARGUMENTS` against this cluster. One that a failing test leaves behind ends with it."""
        command = subprocess.Popen(
            [str(Path(sys.executable).with_name("minireduce")), *arguments, "--master", self.address],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._commands.append(command)
        return command

    def close(self) -> None:
        for command in self._commands:
            if command.poll() is None:
                command.kill()
            for pipe in (command.stdin, command.stdout, command.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            command.wait()
        daemon.stop(list(self.daemons.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def watch(connection: Connection, job: str, moment: Callable[[JobView, tuple[TaskView, ...]], bool]) -> JobView:
    """Look at a job until `moment` holds. Fails when the job ends before."""
    shown = jobs.view(connection, job)
    while not moment(shown, connection.call(methods.LIST_TASKS, ListTasks(shown.job))):
        assert not shown.state.is_ended, f"{shown.job} is {shown.state}, and its moment never came: {shown.reason}"
        shown = connection.call(methods.WAIT_JOB, WaitJob(shown.job, shown.state, MOMENTS_S))
    return shown


def holds(path: Path, data: bytes) -> bool:
    """Whether a file is there and is this. It may come and go while we look."""
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False
