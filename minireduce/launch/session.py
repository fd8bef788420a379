"""Run a job from beginning to end: what `Job.run`, `Job.submit` and `minireduce submit` have in common.

A `Session` is where jobs run: the cluster that settings name, or one that starts here and now for this session alone.
Starting that takes longer than anything else a small job needs, so it begins first, and the session waits for it only
when the job is ready to be submitted.

A `JobHandle` is a job that was submitted. Its end is the client's work too: text parts are published by whoever waits
(`client.publish`), typed ones are read through a `JobResult`. An embedded cluster ends with its session, so a result
takes its parts along before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Self, TypeVar

from minireduce import config
from minireduce.api.bad_record import BadRecord
from minireduce.api.partitioners import Range
from minireduce.api.skipping import parse_skip_limit
from minireduce.api.step import REDUCERS_MAX
from minireduce.config import Configuration
from minireduce.core.spec import JobSpec, OutputKind, Program
from minireduce.core.views import ClusterView, JobState, JobView
from minireduce.errors import JobFailed, RequestError, Unavailable

if TYPE_CHECKING:
    from minireduce.api.job import Job
    from minireduce.api.results import Result
    from minireduce.client.connection import Connection
    from minireduce.client.fs import FileSystem
    from minireduce.client.inputs import Inputs, Named
    from minireduce.client.job_spec import Wishes
    from minireduce.client.outputs import Destination
    from minireduce.client.parts import OpenOwn, PartsOfJob
    from minireduce.client.result import JobResult
    from minireduce.client.staging import OnUpload
    from minireduce.ids import JobId
    from minireduce.launch.embedded import EmbeddedCluster

K = TypeVar("K")
V = TypeVar("V")

FOLLOW_INTERVAL_S = 5.0
EMBEDDED_HINT = "mend it; --inline (`inline=True`) runs the same in one process, under a debugger too"

OnView = Callable[[JobView], None]


class Session:
    """The cluster of one command or call. `cluster`: one that runs already; else settings decide."""

    def __init__(
        self, configuration: Configuration, *, slots: int | None = None, cluster: EmbeddedCluster | None = None
    ) -> None:
        self.configuration = configuration
        self.settings = configuration.settings
        self._owned: EmbeddedCluster | None = None
        self._cluster = cluster
        self._connection: Connection | None = None
        if self.settings.master is not None or cluster is not None:
            if slots is not None:
                raise RequestError(
                    "slots belong to workers, and the cluster has its own",
                    hint="give --slots without --master, for an embedded cluster",
                )
        else:
            from minireduce.launch.embedded import EmbeddedCluster

            self._cluster = self._owned = EmbeddedCluster(slots=slots)

    @property
    def is_embedded(self) -> bool:
        """Whether the cluster ends with this session."""
        return self._owned is not None

    @property
    def connection(self) -> Connection:
        """The connection to the cluster, once that serves."""
        if self._connection is None:
            if self._cluster is not None:
                self._connection = self._cluster.connect()
            else:
                from minireduce.client.connection import open_connection

                self._connection = open_connection(self.configuration)
        return self._connection

    @property
    def open_own(self) -> OpenOwn | None:
        """What opens parts on workers that this process started itself; None for others'."""
        return self._cluster.open_part if self._cluster is not None else None

    @property
    def store(self) -> FileSystem | None:
        """The cluster's block store; None where the cluster is new and so has nothing stored."""
        return None if self.is_embedded else self.connection.fs

    def resolve(self, inputs: Sequence[str | os.PathLike[str]]) -> Inputs:
        """The files that `inputs` mean, on this machine and in the cluster. Raises RequestError."""
        from minireduce.client.inputs import resolve
        from minireduce.client.store_paths import is_store_path

        is_store_meant = any(is_store_path(os.fspath(named)) for named in inputs)
        return resolve(inputs, self.store if is_store_meant else None)

    def find_output(self, named: str | os.PathLike[str]) -> Destination:
        """What an OUTPUT means. Raises RequestError."""
        from minireduce.client.outputs import find_output
        from minireduce.client.store_paths import is_store_path

        return find_output(named, self.store if is_store_path(os.fspath(named)) else None)

    def check(self) -> None:
        """Raise Unavailable where the cluster cannot come back by itself."""
        if self._cluster is not None:
            self._cluster.check()

    def describe(self) -> ClusterView:
        """Slots and memory of the cluster as it is now."""
        from minireduce.wire import methods
        from minireduce.wire.questions import DescribeCluster

        return self.connection.call(methods.DESCRIBE_CLUSTER, DescribeCluster())

    def submit(
        self,
        job: Job[K, V],
        program: Program,
        inputs: Inputs,
        wishes: Wishes,
        *,
        owns_session: bool = False,
        on_upload: OnUpload | None = None,
        reads_in_place: bool = True,
    ) -> JobHandle[K, V]:
        """Submit the job, once its local input is where workers can read it; `on_upload` hears of that.

        `reads_in_place`: whether workers that see the files of this machine may also open those of the input.

        Raises RequestError where this cluster cannot run the job.
        """
        from minireduce.client import jobs, parts, publish  # noqa: F401 - imported while the cluster starts
        from minireduce.client.job_spec import make_spec, must_be_uploaded
        from minireduce.machine import machine_id

        connection, cluster, here, key = (
            self.connection,
            self.describe(),
            machine_id() if reads_in_place else "",
            jobs.new_key(),
        )
        readable = inputs
        is_uploaded = must_be_uploaded(inputs, cluster, here)
        if is_uploaded:
            from minireduce.client.staging import remove, upload

            copies = min(self.settings.staging_replication, cluster.workers_live)
            readable = upload(connection.fs, inputs, key, replication=copies, on_upload=on_upload)
        try:
            spec = make_spec(job, program, readable, wishes, cluster=cluster, settings=self.settings, machine_id=here)
            if isinstance(job.steps[0].partition, Range):
                from minireduce.client.sampling import bound

                spec = replace(spec, program=bound(job, spec.program, inputs, spec.steps[0].reducers, self._open))
            submitted = self._send(spec, key)
        except RequestError:  # after any other the job may run all the same
            if is_uploaded:
                remove(connection.fs, key)
            raise
        return JobHandle(
            self,
            submitted,
            wishes,
            owns_session=owns_session,
            reads=inputs.results,
            may_skip=spec.skips_bad_records,
            spec=spec,
        )

    def _send(self, spec: JobSpec, key: str) -> JobId:
        """Submit a job, and say of one whose submission had no answer that it may run all the same."""
        from minireduce.client import jobs

        try:
            return jobs.submit(self.connection, spec, key)
        except Unavailable as error:
            if self.is_embedded:
                raise
            raise Unavailable(
                f"nobody knows whether {spec.name!r} was submitted: {error.message}",
                hint=f"once the master is back, `minireduce jobs --master {self.connection.address}` shows it if so",
            ) from error

    def _open(self, path: str) -> BinaryIO:
        from minireduce.client.store_paths import is_store_path

        return self.connection.fs.open(path) if is_store_path(path) else Path(path).open("rb")

    def close(self) -> None:
        """Let go of the cluster; one that belongs to this session ends."""
        if self._connection is not None:
            self._connection.close()
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JobHandle(Generic[K, V]):
    """A job that was submitted. `owns_session`: a cluster that was started for this job alone ends with it.

    `reads` are results that the job reads, which this keeps from going before it. `may_skip`: whether it may leave out
    bad records, so that the master has to be asked for them. `spec`: what was submitted.
    """

    def __init__(
        self,
        session: Session,
        job: str,
        wishes: Wishes,
        *,
        owns_session: bool = False,
        reads: Sequence[Result[Any, Any]] = (),
        may_skip: bool = True,
        spec: JobSpec | None = None,
    ) -> None:
        self.id = job
        self.spec = spec
        self._session = session
        self._may_skip = may_skip
        self._wishes = wishes
        self._owns_session = owns_session
        self._reads = reads
        self._result: JobResult[K, V] | None = None
        self._last: JobView | None = None  # what is told of the job once its cluster has ended

    @property
    def state(self) -> str:
        """running, publishing, succeeded, failed or killed."""
        return str(self.view().state)

    @property
    def progress(self) -> float:
        """How much of the job is done, from 0 to 1."""
        return self.view().fraction

    def view(self) -> JobView:
        """The job as the master shows it now, or showed it last."""
        from minireduce.client import jobs

        return self._last or jobs.view(self._session.connection, self.id)

    def kill(self, reason: str = "killed by its submitter", *, wait_s: float | None = None) -> None:
        """Stop the job; nothing of it is published. `wait_s`: how long a master that does not answer is waited for."""
        from minireduce.client import jobs

        jobs.kill(self._session.connection, self.id, reason, wait_s=wait_s)

    def follow(self, on_view: OnView | None = None, *, interval_s: float = FOLLOW_INTERVAL_S) -> JobView:
        """Wait until every part is made; `on_view` sees progress every `interval_s`.

        Raises JobFailed, JobKilled, and Unavailable, by which the job has not ended.
        """
        from minireduce.client import jobs
        from minireduce.client.quarantine import fetch_skipped

        def look(shown: JobView) -> None:
            if shown.state is JobState.RUNNING:
                self._session.check()
            if on_view is not None:
                on_view(shown)

        seen = None if on_view is not None else JobState.RUNNING  # nobody looks on: the end is what counts
        with self._left_running():
            shown = jobs.follow(self._session.connection, self.id, on_view=look, interval_s=interval_s, seen=seen)
        try:
            jobs.raise_for_state(shown)
        except JobFailed as failed:
            failed.skipped = fetch_skipped(self._session.connection, self.id)
            if self._session.is_embedded:  # its logs end with it
                failed.hint = EMBEDDED_HINT if failed.errors else None
            raise
        return shown

    def parts(self) -> PartsOfJob:
        """The parts of the job, all of which are made."""
        from minireduce.client.parts import PartsOfJob

        wait_s = self._session.settings.master_wait_s
        return PartsOfJob(
            self._session.connection, self.id, wait_s=wait_s, is_made=True, open_own=self._session.open_own
        )

    def skipped(self) -> tuple[BadRecord, ...]:
        """The records that the job has left out, as they could not be computed. Ask before it is closed."""
        from minireduce.client.quarantine import fetch_skipped

        return fetch_skipped(self._session.connection, self.id) if self._may_skip else ()

    def publish(self, stream: BinaryIO | None = None) -> JobView:
        """Put the text parts where they were wanted, or into `stream`, and have the master close the job."""
        from minireduce.client.publish import publish_stream
        from minireduce.core.requests import ConfirmPublished
        from minireduce.wire import methods

        destination = self._wishes.destination
        with self._left_running():
            if destination is not None:
                destination.publish(self.parts(), self.id, overwrite=self._wishes.overwrite, skipped=self.skipped())
            elif stream is not None:
                publish_stream(self.parts(), stream)
            else:
                raise RequestError(f"{self.id} writes text, and no place for it is named", hint="give a stream")
            self._session.connection.call(methods.CONFIRM_PUBLISHED, ConfirmPublished(self.id))
            return self.view()

    @contextmanager
    def _left_running(self) -> Iterator[None]:
        """Name the job where its master cannot be asked any more: it goes on, and people must be able to find it."""
        try:
            yield
        except Unavailable as error:
            if self._session.is_embedded:  # the job ends with it
                raise
            hint = f"once the master is back, `minireduce status {self.id} --master {self._session.connection.address}`"
            if self._wishes.output is OutputKind.TEXT:
                hint += " shows it; its output can be put in place here no more, so kill it and submit it again"
            else:
                hint += " shows it, and its result can be waited for again"
            raise Unavailable(f"{self.id} may go on, but nothing is heard of it: {error.message}", hint=hint) from error

    def wait(self) -> JobResult[K, V]:
        """The result, once the job has succeeded and its output is in place.

        Raises:
            JobFailed: user code raised.
            JobKilled: somebody ended the job.
        """
        if self._result is None:
            try:
                self._result = self._finish(self.follow())
            finally:
                if self._owns_session and self._session.is_embedded:
                    self._last = self.view()
                    self._session.close()
        return self._result

    def _finish(self, shown: JobView) -> JobResult[K, V]:
        from minireduce.client.result import JobResult, read_counters
        from minireduce.core.requests import CloseResult
        from minireduce.wire import methods

        if shown.state is JobState.PUBLISHING:
            counters = read_counters(self.publish().counters)
            return JobResult(self.id, counters, None, skipped=self.skipped())
        counters = read_counters(shown.counters)
        connection = self._session.connection
        if self._session.is_embedded:
            result: JobResult[K, V] = JobResult(
                self.id, counters, self.parts(), allow_pickle=True, skipped=self.skipped()
            )
            result.fetch_all()
            return result
        return JobResult(
            self.id,
            counters,
            self.parts(),
            allow_pickle=True,
            skipped=self.skipped(),
            on_close=lambda: connection.call(methods.CLOSE_RESULT, CloseResult(self.id)),
        )


def run(
    job: Job[K, V],
    *inputs: Named,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    inline: bool = False,
    master: str | EmbeddedCluster | None = None,
    slots: int | None = None,
    reducers: int | None = None,
    skip_bad_records: int | str | None = None,
    **options: Any,
) -> JobResult[K, V]:
    """Run `job` over `inputs` and wait for its end; see `Job.run`."""
    if not inline:
        handle = submit(
            job,
            *inputs,
            output=output,
            overwrite=overwrite,
            master=master,
            slots=slots,
            reducers=reducers,
            skip_bad_records=skip_bad_records,
            **options,
        )
        return handle.wait()
    from minireduce.client.inputs import find_inputs, resolve
    from minireduce.client.outputs import find_output
    from minireduce.launch.here import run_here

    if master is not None or slots is not None:
        raise RequestError("inline runs here and now, one task at a time", hint="leave master and slots out")
    _check_reducers(reducers)
    configuration = config.load(options)
    target = None if output is None else find_output(output, None)
    if target is not None:
        target.check(overwrite=overwrite)
    found = find_inputs(job, inputs, resolve)
    return run_here(
        job,
        found,
        configuration.settings,
        target=target,
        overwrite=overwrite,
        reducers=reducers,
        skip_limit=None if skip_bad_records is None else parse_skip_limit(skip_bad_records),
    )


def submit(
    job: Job[K, V],
    *inputs: Named,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    master: str | EmbeddedCluster | None = None,
    slots: int | None = None,
    reducers: int | None = None,
    name: str | None = None,
    speculation: bool = True,
    skip_bad_records: int | str | None = None,
    **settings: object,
) -> JobHandle[K, V]:
    """Start `job` over `inputs`; see `Job.submit`. `settings` are settings by name, such as `memory_limit`."""
    from minireduce.client.inputs import find_inputs
    from minireduce.client.job_spec import Wishes
    from minireduce.client.program import pickle_program

    _check_reducers(reducers)
    cluster = None if isinstance(master, str) else master
    configuration = config.load({"master": master if cluster is None else None, **settings})
    session = Session(configuration, slots=slots, cluster=cluster)
    try:
        target = None if output is None else session.find_output(output)
        found = find_inputs(job, inputs, session.resolve)
        if target is not None:
            target.check(overwrite=overwrite)
            target.check_apart(found)
        wishes = Wishes(
            output=OutputKind.RESULT if target is None else OutputKind.TEXT,
            destination=target,
            overwrite=overwrite,
            reducers=reducers,
            name=name,
            speculation=speculation,
            skip_limit=None if skip_bad_records is None else parse_skip_limit(skip_bad_records),
        )
        return session.submit(job, pickle_program(job), found, wishes, owns_session=True)
    except BaseException:
        session.close()
        raise


def _check_reducers(reducers: object) -> None:
    if reducers is not None and (type(reducers) is not int or not 1 <= reducers <= REDUCERS_MAX):
        raise RequestError(f"reducers={reducers!r} must be a whole number from 1 to {REDUCERS_MAX}")
