"""The worker as a whole: data directory, block server, zygote, machine and loop, put together and taken apart in order.

What takes time to start is started before it is needed: the zygote at once, beside the stream to the master, and the
block server when the master has taken the worker in, which is before anybody can want anything of it. Its port is bound
from the beginning, so its address is known, and who comes early waits.

At the end attempts stop first, so that nothing writes any more; then the stream; then block server and zygote, which
would end by themselves with this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from minireduce.clock import Clock
from minireduce.config import Compression
from minireduce.core.messages import WorkerProfile
from minireduce.core.replica_messages import RemoveReplica, VerifyReplica
from minireduce.core.settings import WorkerSettings
from minireduce.core.work.attempts import StartAttempt, StartBatch, StopAttempt
from minireduce.core.work.copies import CopyEnded, KeepCopy
from minireduce.core.work.fetches import CancelFetch
from minireduce.core.work.merging import StartMerge, StopMerge
from minireduce.core.work.orders import CloseProgram, OpenProgram, RemoveFetched, RemoveJob, RemoveOutputs
from minireduce.core.work.requests import StartFetches
from minireduce.core.work.session import CloseStream, OpenStream, Remember, SendHello, SendUp
from minireduce.core.worker import CheckReplica, DeleteReplica, StartReplication, WorkerState
from minireduce.disk import Disk
from minireduce.errors import Corruption
from minireduce.frozen import dataclass
from minireduce.machine import machine_id
from minireduce.worker.account import python_directories, task_ids
from minireduce.worker.block_server_process import BlockServerProcess
from minireduce.worker.block_store import BLOCKS_NAME, BlockStore
from minireduce.worker.collecting import CollectionLimits, Collector
from minireduce.worker.control_groups import ControlGroups
from minireduce.worker.directory_marks import DirectoryMarks
from minireduce.worker.fetcher import Fetcher
from minireduce.worker.input_reader import InputReader
from minireduce.worker.loop import WorkerLoop
from minireduce.worker.orders import Orders
from minireduce.worker.outputs import Outputs
from minireduce.worker.running import Running
from minireduce.worker.scrubbing import ScrubLimits
from minireduce.worker.slots import PRINTED_BYTES_MAX, SPARES, Slots
from minireduce.worker.stream import MasterStreams
from minireduce.worker.zygote_process import ZygoteProcess

if TYPE_CHECKING:
    from minireduce.wire.calls import Credentials

log = logging.getLogger(__name__)

SERVING_AFTER_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker is set up. `listening` is the block server's socket, `data_address` how others reach it.

    The first of `data_dirs` holds what the worker knows of itself and what attempts make, all of them hold replicas.
    `task_user` is the account of tasks, empty for the worker's own. Certificate and key (PEM) are what the block server
    shows beyond loopback; `authority_pem` is whom fetches trust there. `groups` are the control groups of tasks, where
    there are any.
    `new_data_dirs` are those of `data_dirs` that took the place of others. `gives_descriptors`: readers on this host
    may have those of replicas. `serves_at_once`: the block server starts before anybody has come. `keeps_spares`: a job
    that follows another finds processes ready.
    """

    data_dirs: tuple[Path, ...]
    listening: socket.socket
    data_address: str
    host: str
    rack: str
    slots: int
    memory_bytes: int
    worker_token: str = field(repr=False)
    settings: WorkerSettings
    software_version: str
    task_user: str = ""
    groups: ControlGroups | None = None
    attempt_log_bytes_max: int = PRINTED_BYTES_MAX
    shuffle_compression: Compression = Compression.AUTO
    spill_compression: Compression = Compression.AUTO
    collection: CollectionLimits = CollectionLimits()
    authority_pem: bytes | None = None
    certificate_pem: str = ""
    key_pem: str = field(default="", repr=False)
    gives_descriptors: bool = True
    scrub: ScrubLimits = ScrubLimits()
    new_data_dirs: tuple[Path, ...] = ()
    serves_at_once: bool = True
    keeps_spares: bool = True
    weight: float = 1.0

    @property
    def data_dir(self) -> Path:
        return self.data_dirs[0]


class Worker:
    """A worker. `start`, then `run` until it ends, then `close`, whatever happened."""

    def __init__(
        self,
        options: WorkerOptions,
        clock: Clock,
        disk: Disk,
        *,
        zygote: ZygoteProcess,
        on_joined: Callable[[], None],
    ) -> None:
        account = options.task_user
        owner = task_ids(account, options.data_dir, python_directories()) if account else None
        self._options = options
        self._disk = disk
        self._directories = DirectoryMarks(disk, options.data_dirs, options.new_data_dirs)
        self._identity = self._directories.identity_file
        for data_dir, why in self._directories.missing.items():
            log.error("the data directory %s is done without: %s", data_dir, why)
        self._outputs = Outputs(options.data_dir, disk, task_ids=owner)
        self._joined = asyncio.Event()
        self._on_joined = on_joined
        machine = self._machine()
        self._collector = Collector(self._outputs, clock, options.collection, machine.knows)
        self.loop = WorkerLoop(
            machine, clock, tick_interval_s=options.settings.tick_interval_s, on_joined=self._has_joined
        )
        worker = self._identity.identity.worker
        inputs = InputReader(
            disk,
            options.data_dirs,
            worker,
            options.authority_pem,
            self.loop.tell,
            hands_over=options.gives_descriptors,
        )
        self._slots = Slots(
            slots=options.slots,
            zygote=zygote,
            on_progress=self.loop.tell,
            on_printed=self.loop.tell,
            read_range=inputs.read,
            task_user=options.task_user,
            groups=options.groups,
            printed_bytes_max=options.attempt_log_bytes_max,
            spares=SPARES if options.keeps_spares else 0,
        )
        self._running = Running(
            self._outputs, self._slots, inputs, self.loop.tell, compression=options.spill_compression.value
        )
        self._fetcher = Fetcher(
            self._outputs,
            self.loop.tell,
            authority_pem=options.authority_pem,
            compression=options.shuffle_compression,
        )
        self._block_server = BlockServerProcess(
            options.listening,
            Orders(
                data_dirs=tuple(map(str, options.data_dirs)),
                worker=worker,
                worker_token=options.worker_token,
                certificate_pem=options.certificate_pem,
                key_pem=options.key_pem,
                authority_pem=(options.authority_pem or b"").decode(),
                gives_descriptors=options.gives_descriptors,
                scrub_period_s=options.scrub.period_s,
                scrub_bytes_per_s=options.scrub.bytes_per_s,
                missing={str(data_dir): why for data_dir, why in self._directories.missing.items()},
            ),
            self.loop.tell,
        )
        self._streams: MasterStreams | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._copying: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start what imports for a while beside this process."""
        await self._slots.start()
        self._beside.append(asyncio.create_task(self._start_serving(), name="start of the block server"))

    async def run(self, master_address: str, credentials: Credentials) -> None:
        """Serve the master until the machine ends the worker. Raises the error for which it did."""
        streams = self._streams = MasterStreams(master_address, credentials, self.loop.tell)
        self._beside.append(asyncio.create_task(self._collector.run(), name="collecting"))
        self.loop.perform_with(
            {
                OpenStream: lambda action: streams.open(action.stream),
                CloseStream: lambda action: streams.close(action.stream),
                SendHello: lambda action: streams.send(action.stream, action.hello),
                SendUp: lambda action: streams.send(action.stream, action.up),
                Remember: lambda action: self.loop.on_disk(
                    self._directories.remember, action.epoch, action.txid, action.cluster
                ),
                OpenProgram: lambda action: self._running.open_program(action.opened),
                CloseProgram: lambda action: self._running.drop_job(action.job),
                StartAttempt: self._running.start,
                StartBatch: self._running.start_batch,
                StopAttempt: lambda action: self._running.stop(action.attempt),
                StartMerge: self._running.start_merge,
                StopMerge: lambda action: self._running.stop(action.attempt),
                StartFetches: self._fetcher.start,
                CancelFetch: lambda action: self._fetcher.cancel(action.fetch),
                KeepCopy: self._keep_copy,
                RemoveOutputs: self._remove_outputs,
                RemoveFetched: lambda action: self.loop.on_disk(self._outputs.remove_fetched, action.attempt),
                RemoveJob: self._remove_job,
                StartReplication: lambda action: self._block_server.order(action.order),
                DeleteReplica: lambda action: self._block_server.order(RemoveReplica(action.replica)),
                CheckReplica: lambda action: self._block_server.order(VerifyReplica(action.replica)),
            }
        )
        await self.loop.run()

    async def close(self) -> None:
        """End everything that this worker started."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, *self._copying, return_exceptions=True)
        await self._running.close()
        if self._streams is not None:
            await self._streams.close_all()
        await asyncio.gather(self._fetcher.close(), self._block_server.close())
        self.loop.close()

    def _has_joined(self) -> None:
        self._joined.set()
        self._on_joined()

    async def _start_serving(self) -> None:
        """Start the block server: without a master too, since others may still know what lies here."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._joined.wait(), SERVING_AFTER_S_MAX)
        if self._options.serves_at_once:
            await self._block_server.start()
        else:
            await self._block_server.start_when_wanted()

    def _machine(self) -> WorkerState:
        known = self._identity.identity
        options = self._options
        store = self._open_store()
        profile = WorkerProfile(
            worker=known.worker,
            incarnation=known.incarnation,
            host=options.host,
            rack=options.rack,
            slots=options.slots,
            memory_bytes=options.memory_bytes,
            data_address=options.data_address,
            machine_id=machine_id(),
            software_version=options.software_version,
            capacity_bytes=store.directories.capacity_bytes(),
            free_bytes=store.directories.measure().free_bytes,
            weight=options.weight,
        )
        return WorkerState(
            profile,
            options.settings,
            rng=Random(),  # noqa: S311 - jitter
            highest=(known.highest_epoch, known.highest_txid),
            cluster=known.cluster,
            outputs=self._outputs.held(),
            replicas=store.replicas(),
        )

    def _open_store(self) -> BlockStore:
        """What the disks hold before the block server starts, so that the master can be told at once."""
        roots = [data_dir / BLOCKS_NAME for data_dir in self._options.data_dirs]
        missing = {data_dir / BLOCKS_NAME: why for data_dir, why in self._directories.missing.items()}
        store = BlockStore(self._disk, roots, missing=missing)
        store.open()
        return store

    def _keep_copy(self, action: KeepCopy) -> None:
        task = asyncio.create_task(self._keep_copy_and_tell(action), name=f"copy of {action.order.part.attempt}")
        self._copying.add(task)
        task.add_done_callback(self._copying.discard)

    async def _keep_copy_and_tell(self, action: KeepCopy) -> None:
        part, error = action.order.part, ""
        try:
            await asyncio.to_thread(self._outputs.keep_copy, part, is_text=action.order.is_text)
        except (OSError, Corruption) as raised:
            error = str(raised)
        self.loop.tell(CopyEnded(part.attempt, error))

    def _remove_outputs(self, action: RemoveOutputs) -> None:
        for attempt in action.attempts:
            self.loop.on_disk(self._outputs.remove, attempt)

    def _remove_job(self, action: RemoveJob) -> None:
        self._running.drop_job(action.job)
        self.loop.on_disk(self._outputs.remove_job, action.job)
