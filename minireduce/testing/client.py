"""A simulated client: it submits one job, waits for it, reads the parts from the workers, and says that it has them.

It asks again whenever an answer does not come, always with the same key, so a lost request, a lost answer and a master
that restarts all look the same to it. A part counts as read only when its digest is the one that the master has
recorded; only with every part in hand does the client confirm (an output on its own disk) or close (a result). A part
that cannot be read is asked for again later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minireduce.core.requests import CloseResult, ConfirmPublished, KillJob, SubmitJob
from minireduce.core.storage.views import FileStatus
from minireduce.core.task_data import OutputSource
from minireduce.core.views import JobState, JobView, ResultView
from minireduce.core.work.fetches import PART, Fetched, FetchOutcome
from minireduce.errors import MinireduceError, RequestError
from minireduce.ids import JobId
from minireduce.testing import workload
from minireduce.testing.master import SimMaster
from minireduce.testing.worker import SimWorker
from minireduce.testing.workload import SimJob
from minireduce.testing.world import World
from minireduce.testing.writer import SimWriter
from minireduce.wire import codec

ANSWER_TIMEOUT_S = 2.0
POLL_INTERVAL_S = 0.5


class SimClient:
    """One job's client. `obtained` holds the parts once the master has been told of them and has agreed."""

    def __init__(
        self, world: World, job: SimJob, *, master: SimMaster, workers: dict[str, SimWorker], kills_at_s: float = 0.0
    ) -> None:
        self.world = world
        self.job = job
        self.job_id: JobId = ""
        self.view: JobView | None = None
        self.obtained: tuple[bytes, ...] | None = None
        self.refusals: list[MinireduceError] = []
        self._master = master
        self._workers = workers
        self._parts: dict[int, bytes] = {}
        self._kills_at_s = kills_at_s
        self._file_id = 0
        self.has_asked_to_kill = False
        self.has_lost_result = False  # it was told that its result came out otherwise when it was made again

    @property
    def is_done(self) -> bool:
        """Whether the client has seen the end of its job, and has its result."""
        if self.view is None or not self.view.state.is_ended:
            return False
        has_result = self.obtained is not None or self.has_lost_result
        return self.view.state is not JobState.SUCCEEDED or not self.job.is_result or has_result

    def start(self) -> None:
        """Submit the job."""
        self.world.jobs[self.job.body] = self.job
        for name, times in self.job.failing:
            self.world.failures_left[self.job.body, name] = times
        if self._kills_at_s:
            self.world.agenda.after(self._kills_at_s, self.world.client, self._ask_to_kill)
        if self.job.is_stored:
            SimWriter(self, self.path, self.job.data, self.job.replication, self._written).start()
        else:
            self._submit()

    @property
    def path(self) -> str:
        """Where the input of a job lies that reads from the block store."""
        return f"/input/{self.job.key}"

    def _written(self, status: FileStatus) -> None:
        self.world.files[self.path] = self.job.data
        self._file_id = status.inode
        self._submit()

    # ── what it asks ────────────────────────────────────────────────────────────────────────────────────────────────

    def _submit(self) -> None:
        self.world.trace.tell("client", f"submits {self.job.key!r}")
        self.request(SubmitJob(self.job.key, self.job.spec(self._file_id, self.path)), self._submitted, self._submit)

    def _submitted(self, value: Any) -> None:
        if isinstance(value, MinireduceError):
            self.refusals.append(value)
            return
        is_first = not self.job_id
        for watcher in self.world.watchers:
            watcher.submit_acknowledged(self.job, value)
        self.job_id = value
        if is_first:
            self._poll()

    def _poll(self) -> None:
        job = self.job_id
        self._ask(lambda state, now: state.views.job(job, now), self._seen, self._poll)

    def _seen(self, value: Any) -> None:
        if isinstance(value, MinireduceError):
            self.refusals.append(value)
            return
        self.view = value
        if self.is_done:
            self.world.trace.tell("client", f"sees {self.job_id} {value.state}")
        elif value.state in (JobState.PUBLISHING, JobState.SUCCEEDED):
            job = self.job_id
            self._ask(lambda state, now: state.views.result(job, now), self._read_parts, self._poll)
        else:
            self.world.agenda.after(POLL_INTERVAL_S, self.world.client, self._poll)

    def _ask_to_kill(self) -> None:
        if not self.job_id:
            self.world.agenda.after(1.0, self.world.client, self._ask_to_kill)
            return
        self.has_asked_to_kill = True
        self.request(KillJob(self.job_id, "no longer wanted"), lambda _: None, self._ask_to_kill)

    # ── reading and publishing ──────────────────────────────────────────────────────────────────────────────────────

    def _read_parts(self, value: Any) -> None:
        parts = self.job.reducers[-1] or self._final_parts()
        if isinstance(value, RequestError) and "not deterministic" in value.message:
            self.has_lost_result = True
            self.world.trace.tell("client", "is told why there is no result any more")
            self._poll()
            return
        if not isinstance(value, ResultView) or len(value.parts) < parts:
            self.world.agenda.after(POLL_INTERVAL_S, self.world.client, self._poll)
            return
        self._parts.clear()
        for index, (source, digest) in enumerate(zip(value.parts, value.digests, strict=True)):
            self._read_part(index, source, digest, value.read_token)
        self.world.agenda.after(ANSWER_TIMEOUT_S, self.world.client, lambda: self._confirm_or_poll(parts))

    def _final_parts(self) -> int:
        """How many parts a job that ends in a step without reducers has: as many as that step has maps."""
        return next((reducers for reducers in reversed(self.job.reducers) if reducers), self.job.splits_total)

    def _read_part(self, index: int, source: OutputSource, digest: bytes, token: str) -> None:
        if not source.bytes_total:
            self._parts[index] = b""
            return
        worker = self._workers.get(source.address)
        if worker is None or not worker.node.is_up:
            return
        client = self.world.client

        def got(answer: tuple[FetchOutcome, bytes]) -> None:
            outcome, data = answer
            if isinstance(outcome, Fetched) and workload.digest_of([data]) == digest:
                self._parts[index] = data

        def serve() -> None:
            answer = worker.serve(source.attempt, PART, token)
            self.world.network.send(worker.node, client, lambda: got(answer))

        self.world.network.send(client, worker.node, serve)

    def _confirm_or_poll(self, parts: int) -> None:
        if len(self._parts) < parts:
            self._poll()
            return
        read = tuple(self._parts[index] for index in range(parts))
        self.world.trace.tell("client", f"has read {parts} {'part' if parts == 1 else 'parts'}")

        def agreed(value: Any) -> None:
            if not isinstance(value, MinireduceError):
                self.obtained = read
            self._poll()

        body = CloseResult(self.job_id) if self.job.is_result else ConfirmPublished(self.job_id)
        self.request(body, agreed, lambda: self._confirm_or_poll(parts))

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def request(
        self, body: Any, then: Callable[[Any], None], again: Callable[[], None], *, is_single: bool = False
    ) -> None:
        """Ask for a change. `is_single`: the network repeats it not, as placing a block again has a meaning of its own;
        who gets no answer still asks again.
        """
        data = codec.encode(body)
        kind = type(body)
        self.world.trace.mark("client", kind.__name__, data)
        self._carry(
            lambda answer: self._master.on_request(codec.decode(kind, data), answer), then, again, is_single=is_single
        )

    def ask_worker(
        self,
        address: str,
        question: Callable[[SimWorker, Callable[[Any], None]], None],
        then: Callable[[Any], None],
        *,
        timeout_s: float,
    ) -> None:
        """Ask a worker's block server; `then` is told its answer, or None."""
        self.world.ask(self.world.client, self._workers.get(address), question, then, timeout_s=timeout_s)

    def _ask(self, read: Callable[..., Any], then: Callable[[Any], None], again: Callable[[], None]) -> None:
        self._carry(lambda answer: self._master.on_question(read, answer), then, again)

    def _carry(
        self,
        ask: Callable[[Callable[[Any], None]], None],
        then: Callable[[Any], None],
        again: Callable[[], None],
        *,
        is_single: bool = False,
    ) -> None:
        """Ask the master; the first answer counts, and without one the client asks again."""
        client, master = self.world.client, self._master.node
        is_open = [True]

        def got(value: Any) -> None:
            if is_open[0]:
                is_open[0] = False
                then(value)

        def give_up() -> None:
            if is_open[0]:
                is_open[0] = False
                self.world.strikes["request asked again"] += 1
                again()

        def arrive() -> None:
            ask(lambda value: self.world.network.send(master, client, lambda: got(value)))

        if master.is_up:
            self.world.network.send(client, master, arrive, is_single=is_single)
        self.world.agenda.after(ANSWER_TIMEOUT_S, client, give_up)
