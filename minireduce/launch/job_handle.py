"""A job that was submitted, from there to its end.

Its end is the client's work too: text parts are published by whoever waits (`client.publish`), typed ones are read
through a `JobResult`. An embedded cluster ends with its session, so a result takes its parts along before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Generic, TypeVar

from minireduce.api.bad_record import BadRecord
from minireduce.core.spec import JobSpec, OutputKind
from minireduce.core.views import JobState, JobView
from minireduce.errors import JobFailed, RequestError, Unavailable

if TYPE_CHECKING:
    from minireduce.client.job_spec import Wishes
    from minireduce.client.parts import PartsOfJob
    from minireduce.client.result import JobResult
    from minireduce.launch.session import Session

K = TypeVar("K")
V = TypeVar("V")

FOLLOW_INTERVAL_S = 5.0
EMBEDDED_HINT = "mend it; --inline (`inline=True`) runs the same in one process, under a debugger too"

OnView = Callable[[JobView], None]


class JobHandle(Generic[K, V]):
    """A job that was submitted. `owns_session`: a cluster that was started for this job alone ends with it.

    `reads` are results, and copies of files, that the job reads: this keeps them from going before it. `may_skip`:
    whether it may leave out bad records, so that the master has to be asked for them. `spec`: what was submitted.
    `outputs`: the names of its outputs beside its pairs.
    """

    def __init__(
        self,
        session: Session,
        job: str,
        wishes: Wishes,
        *,
        owns_session: bool = False,
        reads: Sequence[object] = (),
        may_skip: bool = True,
        spec: JobSpec | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        self.id = job
        self.spec = spec
        self._outputs = outputs
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
                failed.hint = (jobs.own_hint(shown.errors) or EMBEDDED_HINT) if failed.errors else None
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
                destination.publish(
                    self.parts(),
                    self.id,
                    overwrite=self._wishes.overwrite,
                    skipped=self.skipped(),
                    outputs=self._outputs,
                )
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
            if self._session.is_of_this_process:  # nobody starts its master again
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
            return JobResult(self.id, counters, None, skipped=self.skipped(), outputs=self._outputs)
        counters = read_counters(shown.counters)
        connection = self._session.connection
        if self._session.is_embedded:
            result: JobResult[K, V] = JobResult(
                self.id, counters, self.parts(), allow_pickle=True, skipped=self.skipped(), outputs=self._outputs
            )
            result.fetch_all()
            return result

        def close_at_master() -> None:
            if not connection.is_closed:  # a cluster that has ended keeps nothing
                connection.call(methods.CLOSE_RESULT, CloseResult(self.id))

        return JobResult(
            self.id,
            counters,
            self.parts(),
            allow_pickle=True,
            skipped=self.skipped(),
            outputs=self._outputs,
            on_close=close_at_master,
        )
