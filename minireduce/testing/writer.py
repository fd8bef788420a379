"""A simulated client that writes a file into the block store, by the real `BlockWriting` machine.

It follows the protocol of the real client: create, then for each block place, send down the pipeline and commit, then
close. What gets no answer is asked again, which must be harmless; a file that cannot be finished (its lease ran out,
nobody takes its blocks) is begun anew under another lease. `then` is told the file's status once closing it was
acknowledged, and from then on it must not be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from minireduce.core.replica_messages import Replica
from minireduce.core.storage import writing
from minireduce.core.storage.requests import AddBlock, CloseFile, CommitBlock, CreateFile
from minireduce.core.storage.views import FileStatus, PlacedBlock
from minireduce.errors import MinireduceError, Unavailable
from minireduce.testing.blocks import HOP_TIMEOUT_S, Written

if TYPE_CHECKING:
    from minireduce.testing.client import SimClient

AGAIN_S = 0.5
Steps = Generator[Any, Any, FileStatus]


class SimWriter:
    """Writes `data` to `path` for a client."""

    def __init__(
        self, client: SimClient, path: str, data: bytes, replication: int, then: Callable[[FileStatus], None]
    ) -> None:
        self._client = client
        self._world = client.world
        self._path = path
        self._data = data
        self._replication = replication
        self._then = then
        self._tries = 0
        self._steps: Steps

    def start(self) -> None:
        """Begin, or begin anew."""
        self._tries += 1
        self._steps = self._write(f"{self._path}, try {self._tries}")
        self._go(None)

    def _write(self, lease: str) -> Steps:
        opened = yield CreateFile(self._path, lease, lease, replication=self._replication)
        size, excluded = opened.block_size_bytes, dict[str, None]()
        for position, begin in enumerate(range(0, len(self._data), size)):
            data = self._data[begin : begin + size]
            machine = writing.BlockWriting(len(data), excluded)
            action = machine.begin()
            while not isinstance(action, writing.BlockDone):
                match action:
                    case writing.PlaceBlock(left_out, pause_s):
                        yield pause_s
                        placed = yield AddBlock(opened.file_id, lease, position, left_out)
                        event: writing.Event = writing.BlockPlaced(placed)
                    case writing.SendBlock(placed):
                        event = yield placed, data
                    case writing.CommitToMaster(replica, workers):
                        is_enough = yield CommitBlock(opened.file_id, lease, replica, workers)
                        event = writing.BlockCommitted() if is_enough else writing.CommitRefused()
                    case writing.GiveUp(error):
                        raise error
                action = machine.advance(event)
        status: FileStatus = yield CloseFile(opened.file_id, lease, len(self._data))
        return status

    def _go(self, value: Any) -> None:
        """Take the next step with the answer to the last one."""
        agenda, client = self._world.agenda, self._world.client
        try:
            asked = self._steps.throw(value) if isinstance(value, MinireduceError) else self._steps.send(value)
        except StopIteration as done:
            self._world.trace.tell("client", f"has written {self._path}")
            self._then(done.value)
            return
        except MinireduceError as error:
            self._world.trace.tell("client", f"begins {self._path} anew: {error.message}")
            self._world.strikes["file begun anew"] += 1
            agenda.after(AGAIN_S, client, self.start)
            return
        match asked:
            case float():
                agenda.after(asked, client, lambda: self._go(None))
            case (PlacedBlock() as placed, data):
                self._send(placed, data)
            case _:
                self._ask(asked)

    def _ask(self, request: Any) -> None:
        def answered(value: Any) -> None:
            if isinstance(value, Unavailable):
                self._world.agenda.after(AGAIN_S, self._world.client, lambda: self._ask(request))
            else:
                self._go(value)

        self._client.request(request, answered, lambda: self._ask(request), is_single=True)

    def _send(self, placed: PlacedBlock, data: bytes) -> None:
        replica = Replica(placed.block_id, placed.generation, len(data))
        self._world.blocks[replica.block_id, replica.generation] = data
        first, *others = placed.targets

        def answered(written: Written | None) -> None:
            if written is None or not written[0]:
                self._go(writing.SendingFailed(Unavailable(f"{first.worker} did not take it")))
            else:
                self._go(writing.BlockSent(*written))

        self._client.ask_worker(
            first.address,
            lambda worker, reply: worker.blocks.receive(replica, data, others, reply),
            answered,
            timeout_s=HOP_TIMEOUT_S * len(placed.targets),
        )
