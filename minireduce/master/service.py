"""What each method of the master does: ask the machine for a change, or show one of its views.

No decision is made here. A conversation with a worker is two flows: what the worker says is taken in by a task of its
own, what the machine wants to say waits in the stream's queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from minireduce.core.cluster import ClusterState
from minireduce.core.compute.history import TABLE as HISTORY
from minireduce.core.compute.history import merge_tasks, read_tasks
from minireduce.core.compute.printed import TABLE as PRINTED
from minireduce.core.compute.printed import show_piece
from minireduce.core.messages import Hello, Up
from minireduce.core.requests import ComputeRequest, DrainWorker, SubmitJob
from minireduce.core.storage.requests import FileRequest
from minireduce.core.storage.views import DirectoryPage, FileBlocks, FileHealth, FileStatus, StoreView, Summary
from minireduce.core.tables import TABLES_BY_NAME, place_of
from minireduce.core.views import (
    ClusterView,
    JobState,
    JobView,
    PrintedPage,
    ResultView,
    SkippedView,
    TaskView,
    WorkerView,
)
from minireduce.errors import MinireduceError, NotFound, RequestError
from minireduce.ids import JobId, TaskId
from minireduce.master.loop import MasterLoop, WorkerStream
from minireduce.master.metadata import Metadata
from minireduce.wire import methods
from minireduce.wire.file_questions import (
    FILES_PER_CALL_MAX,
    DescribeStore,
    GetBlocks,
    GetFiles,
    GetHealth,
    GetStatus,
    GetSummary,
    ListDirectory,
)
from minireduce.wire.limits import PROGRAM_BYTES_MAX
from minireduce.wire.methods import Method
from minireduce.wire.questions import (
    CertifyBlockServer,
    DescribeCluster,
    GetJob,
    GetResult,
    ListJobs,
    ListSkipped,
    ListTasks,
    ListWorkers,
    OpenLogs,
    ReadPrinted,
    WaitJob,
)
from minireduce.wire.service import Answer, Converse, Send

Sign = Callable[[bytes, Sequence[str]], bytes]
"""From a request (PEM) and the hosts that its server is reached as to a certificate (PEM)."""

WAIT_S_MAX = 60.0
LATEST = "@"
ROWS_OF_HISTORY_MAX = 10_000  # of one to a thousand attempts each
PIECES_PER_PAGE_MAX = 128  # of what attempts printed, each of some 32 KiB at most

_FILE_CHANGES = (
    methods.MAKE_DIRECTORY,
    methods.RENAME_PATH,
    methods.REMOVE_PATH,
    methods.CHANGE_ATTRIBUTES,
    methods.CREATE_FILE,
    methods.APPEND_FILE,
    methods.HURRY_REPAIR,
    methods.ADD_BLOCK,
    methods.COMMIT_BLOCK,
    methods.CLOSE_FILE,
    methods.CLOSE_CONTAINER,
    methods.ABANDON_FILE,
    methods.RENEW_LEASE,
    methods.REPORT_DAMAGE,
)


class MasterService:
    """The methods of the master over one machine and its durable rows.

    `sign` signs certificates, where this master has an authority.
    """

    def __init__(self, loop: MasterLoop, state: ClusterState, metadata: Metadata, sign: Sign | None = None) -> None:
        self._loop = loop
        self._state = state
        self._metadata = metadata
        self._sign = sign

    def answers(self) -> dict[Method[Any, Any], Answer]:
        """The answer of each method that is a question with one reply."""
        return {
            methods.SUBMIT_JOB: self._submit,
            methods.KILL_JOB: self._change,
            methods.CONFIRM_PUBLISHED: self._change,
            methods.CLOSE_RESULT: self._change,
            methods.GET_JOB: self._get_job,
            methods.LIST_JOBS: self._list_jobs,
            methods.WAIT_JOB: self._wait_job,
            methods.LIST_TASKS: self._list_tasks,
            methods.READ_PRINTED: self._read_printed,
            methods.OPEN_LOGS: self._open_logs,
            methods.LIST_SKIPPED: self._list_skipped,
            methods.GET_RESULT: self._get_result,
            methods.DESCRIBE_CLUSTER: self._describe_cluster,
            methods.LIST_WORKERS: self._list_workers,
            methods.DRAIN_WORKER: self._change,
            **dict.fromkeys(_FILE_CHANGES, self._change),
            methods.GET_STATUS: self._get_status,
            methods.LIST_DIRECTORY: self._list_directory,
            methods.GET_SUMMARY: self._get_summary,
            methods.GET_FILES: self._get_files,
            methods.GET_HEALTH: self._get_health,
            methods.GET_BLOCKS: self._get_blocks,
            methods.DESCRIBE_STORE: self._describe_store,
            methods.CERTIFY_BLOCK_SERVER: self._certify_block_server,
        }

    def conversations(self) -> dict[Method[Any, Any], Converse]:
        """The two-way streams."""
        return {methods.CONNECT: self._converse}

    # ── views, for the pages too ────────────────────────────────────────────────────────────────────────────────────

    async def jobs(self) -> list[JobView]:
        """All jobs that are remembered, the latest first."""
        return (await self._loop.read(self._state.views.jobs))[::-1]

    async def job(self, job: JobId) -> JobView:
        """One job, the latest for "@". Raises NotFound."""
        if job != LATEST:
            return await self._loop.read(lambda now: self._state.views.job(job, now))
        jobs = await self.jobs()
        if not jobs:
            raise NotFound("this cluster has had no job yet", hint="start one with `minireduce submit`")
        return jobs[0]

    async def tasks(self, job: JobId) -> list[TaskView]:
        """The tasks of a job with their attempts, as far as they are kept, also those of earlier masters. Raises
        NotFound.
        """
        known = await self._loop.read(lambda now: self._state.views.tasks(job, now))
        if not await self._loop.read(lambda now: self._state.views.has_history(job, now)):
            return known
        rows = await asyncio.to_thread(self._metadata.read, HISTORY, (job,), after=-1, rows_max=ROWS_OF_HISTORY_MAX)
        return merge_tasks(read_tasks(rows), known)

    async def printed(self, job: JobId, after: int = 0, task: TaskId | None = None) -> PrintedPage:
        """A page of what the attempts of a job, or of one of its tasks, have printed. Raises NotFound."""
        key = (job,) if task is None else (task.job, task.step, str(task.kind), task.index)
        left_out = await self._loop.read(lambda now: self._state.views.printed_left_out(job, now))
        rows = await asyncio.to_thread(self._metadata.read, PRINTED, key, after=after, rows_max=PIECES_PER_PAGE_MAX)
        last = place_of(TABLES_BY_NAME[PRINTED])(rows[-1]) if rows else after
        return PrintedPage(tuple(show_piece(row) for row in rows), last, left_out)

    async def workers(self) -> list[WorkerView]:
        """All workers in the order in which they came."""
        return await self._loop.read(self._state.views.workers)

    async def cluster(self) -> ClusterView:
        """What a client must know to submit."""
        view = await self._loop.read(lambda _now: self._state.views.cluster())
        return replace(view, problems=self._metadata.problems)

    async def store(self) -> StoreView:
        """The block store in numbers."""
        return await self._loop.read(lambda _now: self._state.storage.view())

    # ── methods ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _submit(self, request: SubmitJob) -> Any:
        program = request.spec.program
        if program.size_bytes > PROGRAM_BYTES_MAX:
            raise RequestError(
                f"the program has {program.size_bytes >> 20} MiB with all that goes along, and "
                f"{PROGRAM_BYTES_MAX >> 20} MiB is the limit",
                hint="leave data out of it, and read it as input",
            )
        return await self._change(request)

    async def _change(self, request: ComputeRequest | DrainWorker | FileRequest) -> Any:
        return await self._loop.request(request)

    async def _get_job(self, request: GetJob) -> JobView:
        return await self.job(request.job)

    async def _list_jobs(self, _request: ListJobs) -> list[JobView]:
        return await self.jobs()

    async def _list_tasks(self, request: ListTasks) -> list[TaskView]:
        return await self.tasks(request.job)

    async def _read_printed(self, request: ReadPrinted) -> PrintedPage:
        return await self.printed(request.job, request.after, request.task)

    async def _open_logs(self, request: OpenLogs) -> str:
        return await self._loop.read(lambda now: self._state.views.read_token(request.job, now))

    async def _list_skipped(self, request: ListSkipped) -> tuple[SkippedView, ...]:
        return await self._loop.read(lambda now: self._state.views.skipped(request.job, now))

    async def _get_result(self, request: GetResult) -> ResultView:
        return await self._loop.read(lambda now: self._state.views.result(request.job, now))

    async def _describe_cluster(self, _request: DescribeCluster) -> ClusterView:
        return await self.cluster()

    async def _list_workers(self, _request: ListWorkers) -> list[WorkerView]:
        return await self.workers()

    async def _get_status(self, request: GetStatus) -> FileStatus:
        return await self._loop.read(lambda _now: self._state.storage.status(request.path))

    async def _list_directory(self, request: ListDirectory) -> DirectoryPage:
        return await self._loop.read(lambda _now: self._state.storage.page(request.path, request.after))

    async def _get_summary(self, request: GetSummary) -> Summary:
        return await self._loop.read(lambda _now: self._state.storage.summary(request.path))

    async def _get_files(self, request: GetFiles) -> tuple[FileBlocks, ...]:
        if len(request.paths) > FILES_PER_CALL_MAX:
            raise RequestError(f"{len(request.paths)} files in one call are more than {FILES_PER_CALL_MAX}")
        read, length, machine_id = self._state.storage.file_blocks, request.length, request.machine_id
        return await self._loop.read(lambda _now: tuple(read(path, 0, length, machine_id) for path in request.paths))

    async def _get_health(self, request: GetHealth) -> FileHealth:
        return await self._loop.read(lambda _now: self._state.storage.health(request.path))

    async def _get_blocks(self, request: GetBlocks) -> FileBlocks:
        path, offset, length, machine_id = request.path, request.offset, request.length, request.machine_id
        return await self._loop.read(lambda _now: self._state.storage.file_blocks(path, offset, length, machine_id))

    async def _describe_store(self, _request: DescribeStore) -> StoreView:
        return await self.store()

    async def _wait_job(self, request: WaitJob) -> JobView:
        job = (await self.job(request.job)).job
        try:
            return await asyncio.wait_for(
                self._changed(job, request.seen), min(max(request.timeout_s, 0.0), WAIT_S_MAX)
            )
        except TimeoutError:
            return await self.job(job)

    async def _changed(self, job: JobId, seen: JobState) -> JobView:
        while True:
            watcher = self._loop.watch(job)  # before the look, so that no change falls in between
            try:
                view = await self.job(job)
                if view.state is not seen:
                    return view
                await watcher
            finally:
                self._loop.unwatch(job, watcher)

    # ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _certify_block_server(self, request: CertifyBlockServer) -> bytes:
        if self._sign is None:
            raise RequestError(
                "this master has no authority of its own that could sign", hint="give --tls-cert and --tls-key"
            )
        return self._sign(request.request_pem, request.hosts)

    async def _converse(self, incoming: AsyncIterator[Hello | Up], send: Send) -> None:
        hello = await anext(incoming, None)
        if not isinstance(hello, Hello):
            raise RequestError("a worker's stream begins with its hello")
        stream = self._loop.open_stream(hello)
        listening = asyncio.create_task(self._listen(stream, incoming))
        try:
            while (message := await stream.outgoing.get()) is not None:
                if isinstance(message, MinireduceError):
                    raise message
                await send(message)
        finally:
            listening.cancel()
            self._loop.close_stream(stream)

    async def _listen(self, stream: WorkerStream, incoming: AsyncIterator[Hello | Up]) -> None:
        """Take in what the worker says; its silence for good ends the stream."""
        error: MinireduceError | None = None
        try:
            async for message in incoming:
                self._loop.take_message(stream, message)
        except MinireduceError as raised:
            error = raised
        finally:
            stream.end(error)
