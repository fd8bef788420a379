"""A cluster for one command: a real master and real workers as children on loopback, gone with whoever started them.

`submit` without a cluster uses one with a single worker; `LocalCluster` one with several. Nothing is different from a
cluster of machines but the lifetime: the data directory is temporary, the tokens are fresh and valid for nothing else,
and metadata is not synced, since it would be read by nobody.

Start takes most of a small job's time, so all children start at once and import side by side; workers are told where
the master is when it knows (`child`). Whoever starts a cluster goes on with work of its own and asks for the address
late.

However the parent ends, the children end and the directory goes: in order through `close`, else each child by itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from minireduce.attempt.places import META_NAME, PART_NAME, attempt_directory
from minireduce.auth import tokens
from minireduce.errors import RequestError, Unavailable
from minireduce.launch import daemon
from minireduce.launch.daemon import MASTER, WORKER, Daemon
from minireduce.launch.forked import Forked, can_be_handed_over

if TYPE_CHECKING:
    from minireduce.client.connection import Connection
    from minireduce.client.parts import OwnPart
    from minireduce.ids import AttemptId

MASTER_WAIT_S = 5.0


class EmbeddedCluster:
    """A master and `workers` workers that live as long as this object. `slots` are those of each worker.
    `is_for_one_job`: no other job follows the first.
    """

    def __init__(self, *, workers: int = 1, slots: int | None = None, is_for_one_job: bool = False) -> None:
        self._root = _make_root()
        self._tokens = tokens.generate()
        self._address: str | None = None
        self._connection: Connection | None = None
        self._is_closed = False
        self._masters: list[Daemon] = []
        self._workers: list[Daemon] = []
        try:
            token_file = self._root / "token"
            tokens.store(token_file, self._tokens)
            at = ["--token-file", str(token_file)]
            of_master = [*self._place("master"), "--http-port", "0", *at]
            of_workers = [*at, *([] if slots is None else ["--slots", str(slots)])]
            of_workers += [*(["--alone"] if workers == 1 else []), *(["--once"] if is_for_one_job else []), "-"]
            first, *others = (f"worker-{number}" for number in range(1, workers + 1))
            self._start_both(of_master, first, of_workers)
            for name in others:
                self._workers.append(self._start(WORKER, name, [*self._place(name), *of_workers]))
        except BaseException:
            self.close()
            raise

    def _start_both(self, of_master: list[str], name: str, of_worker: list[str]) -> None:
        """Start the master and the first worker: from one process, where this system allows that."""
        of_worker = [*self._place(name), *of_worker]
        if not can_be_handed_over():
            self._masters.append(self._start(MASTER, "master", of_master))
            self._workers.append(self._start(WORKER, name, of_worker))
            return
        names = "master", name
        logs = self._log("master"), self._log(name)
        master, worker = daemon.start_both(of_master, of_worker, names=names, logs=logs, environment=_environment())
        self._masters.append(master)
        self._workers.append(worker)

    def _start(self, module: str, name: str, arguments: list[str]) -> Daemon:
        return daemon.start(module, arguments, name=name, log=self._log(name), environment=_environment())

    def _place(self, name: str) -> list[str]:
        place = ["--data-dir", str(self._root / name), "--host", "127.0.0.1", "--port", "0"]
        return [*place, "--embedded", str(self._root)]

    def _log(self, name: str) -> Path:
        return self._root / f"{name}.log"

    @property
    def client_token(self) -> str:
        return self._tokens.require_client()

    @property
    def address(self) -> str:
        """`host:port` of the master, once it serves and all workers have joined. Raises what kept them from it."""
        if self._address is None:
            if self._is_closed:
                raise RequestError("this cluster has ended", hint="run jobs inside its `with` block, or start another")
            try:
                master = self._masters[0]
                if isinstance(master.process, Forked) and not master.process.was_forked:
                    self._workers[0].ready()  # tells what kept both from starting
                address = str(master.ready()["address"])
                for worker in self._workers:
                    worker.tell(address)
                for worker in self._workers:
                    worker.ready()
            except BaseException:
                self.close()
                raise
            self._address = address
        return self._address

    @property
    def connection(self) -> Connection:
        """The connection that the jobs of this process share: to make one takes longer than a small job's questions."""
        if self._connection is None:
            self._connection = self.connect()
        return self._connection

    def connect(self) -> Connection:
        """A new connection to the master, once `address` can be told."""
        from minireduce.client.connection import Connection
        from minireduce.wire.calls import Credentials

        # Nobody starts a master of ours again, so there is no point in waiting as for others.
        return Connection(self.address, Credentials(self.client_token), master_wait_s=MASTER_WAIT_S)

    def open_part(self, attempt: AttemptId, damaged: int = 0) -> OwnPart | None:
        """The part that an attempt left on a worker here: they are our own, and so is what lies there. Of the copies
        of a part, `damaged` come first that the caller had already, and could not use.

        So a small job does without the block server, whose start takes longer than all else that the job needs.
        """
        from minireduce.client.parts import OwnPart

        for worker in self._workers:
            directory = attempt_directory(self._root / worker.name, attempt)
            with contextlib.suppress(FileNotFoundError):
                kept_at_ns = (directory / META_NAME).stat().st_ctime_ns
                if damaged:
                    damaged -= 1
                    continue
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                return OwnPart(os.open(directory / PART_NAME, flags), kept_at_ns)
        return None

    def check(self) -> None:
        """Raise Unavailable if the master or every worker has ended: nobody would start them again, and a job would
        wait for ever. While a worker is left, the cluster makes again what another one took along.
        """
        if self._is_closed:
            return
        ended = [each for each in (*self._masters, *self._workers) if each.process.poll() is not None]
        if ended and (ended[0] in self._masters or len(ended) == len(self._workers)):
            raise Unavailable(f"the {ended[0].name} of this command's cluster has ended: {ended[0].last_words()}")

    def close(self) -> None:
        """End all processes and remove all they wrote. Harmless when repeated."""
        if not self._is_closed:
            self._is_closed = True
            if self._connection is not None:
                self._connection.close()
            # The master has no children and no data that anybody will read; workers end their tasks first.
            daemon.stop(self._workers, at_once=self._masters)
            shutil.rmtree(self._root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make_root() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="minireduce-"))
    except OSError as cause:
        raise RequestError(
            f"a temporary directory cannot be made: {cause.strerror}", hint="name a place for it with TMPDIR"
        ) from cause


def _environment() -> dict[str, str]:
    """This process's own, less what speaks of another cluster."""
    return {name: value for name, value in os.environ.items() if name not in {"MINIREDUCE_TOKEN", "MINIREDUCE_MASTER"}}
