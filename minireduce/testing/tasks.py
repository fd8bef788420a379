"""The task processes of a simulated worker: what they read, how long they take, how they end, what they leave.

Tasks compute real pairs (`workload`; in some runs the real engine) and take a drawn time, longer on a slow worker. They
meet bad records, missing inputs and damaged copies as real ones do, and are told to stop in the middle. Not here: the
worker around them, its fetches and its disk (worker.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minireduce.attempt.batch import LATE_S
from minireduce.core.messages import AttemptSucceeded
from minireduce.core.spec import LocalFiles
from minireduce.core.task_data import PartInput, StoredInput, TaskError
from minireduce.core.work.attempts import (
    AttemptEnded,
    AttemptsGivenBack,
    CopyFoundDamaged,
    Failed,
    Killed,
    Lost,
    OutputFoundMissing,
    ProgressMade,
    StartAttempt,
    StartBatch,
    StopAttempt,
    Succeeded,
)
from minireduce.errors import InvariantViolation, MinireduceError
from minireduce.frozen import dataclass
from minireduce.ids import AttemptId, TaskKind
from minireduce.testing import tell, workload
from minireduce.testing.bad_lines import meet_bad_lines
from minireduce.testing.blocks import StoredRead
from minireduce.testing.workload import Product, SimJob

if TYPE_CHECKING:
    from minireduce.testing.worker import SimWorker

HASTY_BUSY_S = 0.003
HASTY_TRUE_SHARE = 0.6  # of the tasks of such a run; the others take seconds all the same
SPENT_SHARE = 0.1  # of the ends in a batch, after which the process takes no more


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished output on a worker's disk."""

    report: AttemptSucceeded
    partitions: tuple[bytes, ...]
    is_damaged: bool = False


class SimTasks:
    """The attempts that run on `worker`, for one life of its process. `map_s`: how long one takes, from and to."""

    def __init__(self, worker: SimWorker, map_s: tuple[float, float]) -> None:
        self._worker = worker
        self._map_s = map_s
        self._inputs: dict[AttemptId, bytes] = {}
        self._stopping: set[AttemptId] = set()
        self._behind: dict[AttemptId, tuple[StartAttempt, ...]] = {}

    def start(self, order: StartAttempt) -> None:
        """An attempt begins."""
        attempt = order.attempt
        if attempt in self._worker.running or self._worker.merges.is_for(attempt):
            raise InvariantViolation(f"{self._worker.name} is told to start {attempt}, which runs")
        self._worker.running[attempt] = order
        self._worker.world.trace.mark(self._worker.name, f"runs {attempt}")
        self._worker.world.trace.tell(self._worker.name, f"runs {tell.attempt(attempt)}{tell.care(order.care)}")
        if self._worker.slowness > 1.0:
            self._worker.world.strikes["attempt on a slow worker"] += 1
        if isinstance(order.input, StoredInput):
            reading = StoredRead(self._worker, order.input, lambda data: self._has_read(attempt, data))
            self._worker.world.agenda.after(0.0, self._worker.node, reading.start)
        else:
            self._work_on(attempt)
        self._worker.world.moment(f"a {attempt.task.kind} runs", self._worker.name)

    def _has_read(self, attempt: AttemptId, data: bytes | MinireduceError) -> None:
        if isinstance(data, MinireduceError):
            self._worker.world.strikes["stored input could not be read"] += 1
            self._end(attempt, Lost(data.message))
        elif attempt in self._worker.running:
            self._inputs[attempt] = data
            self._work_on(attempt)

    def _work_on(self, attempt: AttemptId) -> None:
        seconds = self._worker.work_rng.uniform(*self._map_s) * self._worker.slowness
        if self._worker.world.is_hasty and self._worker.work_rng.random() < HASTY_TRUE_SHARE:
            seconds = HASTY_BUSY_S
        self._worker.world.agenda.after(seconds / 2, self._worker.node, lambda: self._progress(attempt))
        self._worker.world.agenda.after(seconds, self._worker.node, lambda: self._finish_attempt(attempt))

    def start_batch(self, batch: StartBatch) -> None:
        """Attempts that one process is to go through, one after the other."""
        self._worker.world.strikes["batch begun"] += 1
        self._begin_next(batch.orders)

    def _begin_next(self, orders: tuple[StartAttempt, ...]) -> None:
        first = orders[0].attempt
        self.start(orders[0])
        self._behind[first] = orders[1:]
        self._worker.world.agenda.after(LATE_S, self._worker.node, lambda: self._give_back(self._behind.pop(first, ())))

    def _go_on_with_batch(self, ended: AttemptId, *, is_alive: bool) -> None:
        """The next attempt of a batch begins, or all that are left are given back: the process died, or is spent."""
        behind = self._behind.pop(ended, ())
        if behind and is_alive and self._worker.work_rng.random() > SPENT_SHARE:
            self._begin_next(behind)
        else:
            self._give_back(behind)

    def _give_back(self, orders: tuple[StartAttempt, ...]) -> None:
        if orders:
            self._worker.world.strikes["attempts given back"] += 1
            self._worker.handle(AttemptsGivenBack(tuple(order.attempt for order in orders)))

    def _progress(self, attempt: AttemptId) -> None:
        if attempt in self._worker.running:
            self._worker.handle(ProgressMade(attempt, 0.5, 1))

    def stop(self, order: StopAttempt) -> None:
        """An attempt is not wanted any more; its process takes a moment to end."""
        attempt = order.attempt
        if attempt in self._worker.running and attempt not in self._stopping:
            self._stopping.add(attempt)
            self._worker.world.agenda.after(
                self._worker.work_rng.uniform(0.001, 0.2), self._worker.node, lambda: self._end(attempt, Killed())
            )

    def _finish_attempt(self, attempt: AttemptId) -> None:
        order = self._worker.running.get(attempt)
        if order is None:
            return
        program = self._worker.programs[attempt.task.job]
        failure = (program.body, workload.short_name(attempt.task))
        if self._worker.world.failures_left.get(failure, 0) > 0 or program.failing_on == self._worker.name:
            self._worker.world.failures_left[failure] = max(0, self._worker.world.failures_left.get(failure, 0) - 1)
            self._worker.world.strikes["user code raised"] += 1
            self._end(attempt, Failed(TaskError("raised", "ValueError", "a bad record")))
            return
        missing = [run.source for run in order.runs if run.is_own and not self._has_whole(run.source)]
        copies = [run.source for run in order.runs if (attempt, run.source) in self._worker.damaged]
        if missing or copies:
            for source in missing:
                self._worker.handle(OutputFoundMissing(source))
            for source in copies:
                self._worker.handle(CopyFoundDamaged(attempt, source))
            self._end(attempt, Lost("its input is not there"))
            return
        bad = meet_bad_lines(program, attempt, order.care, self._lines(program, order) or ())
        if bad is not None:
            self._worker.world.strikes["bad record met"] += 1
            self._end(attempt, bad)
            return
        product = self._compute(program, order)
        if workload.short_name(attempt.task) in program.wavering:
            product = workload.waver(product, attempt.number)
        report = AttemptSucceeded(attempt, product.output, product.counters)
        if not product.output.is_empty_part:
            self._worker.disk.outputs[attempt] = Kept(report, product.partitions)
        busy_s = HASTY_BUSY_S if self._worker.world.is_hasty else 0.0
        self._end(attempt, Succeeded(product.output, product.counters, busy_s=busy_s))
        self._worker.world.moment(f"a {attempt.task.kind} is done", self._worker.name)

    def _end(self, attempt: AttemptId, outcome: Succeeded | Failed | Lost | Killed) -> None:
        if attempt in self._worker.running:
            del self._worker.running[attempt]
            self._inputs.pop(attempt, None)
            self._stopping.discard(attempt)
            self._worker.handle(AttemptEnded(attempt, outcome))
            self._go_on_with_batch(attempt, is_alive=isinstance(outcome, Succeeded))

    def _lines(self, program: SimJob, order: StartAttempt) -> list[str] | None:
        """The records of a map of the first step."""
        if isinstance(order.input, LocalFiles):
            return program.texts[order.attempt.task.index].splitlines()
        if isinstance(order.input, StoredInput):
            return workload.lines_of_split(self._inputs[order.attempt], order.input.offset, order.input.length)
        return None

    def _compute(self, program: SimJob, order: StartAttempt) -> Product:
        task = order.attempt.task
        if program.is_real:
            return self._compute_really(program, order)
        lines = self._lines(program, order)
        if lines is not None:
            return workload.run_first_map(program, lines, (place.position for place in order.care.skips))
        inputs = self._fetched_inputs(order)
        if task.kind is TaskKind.MAP:
            return workload.run_later_map(program, task.step, inputs[0])
        return workload.run_reduce(inputs)

    def _compute_really(self, program: SimJob, order: StartAttempt) -> Product:
        from minireduce.testing import real_engine  # imports much, for few seeds

        task = order.attempt.task
        if isinstance(order.input, StoredInput):
            stored = order.input
            return real_engine.compute_stored(program, self._inputs[order.attempt], stored.offset, stored.length)
        if isinstance(order.input, LocalFiles):
            data = program.texts[task.index].encode()
            return real_engine.RealTask(program, 0).map(data, 0, len(data))
        inputs = self._fetched_inputs(order)
        if task.kind is TaskKind.MAP:
            return real_engine.RealTask(program, task.step).map(inputs[0], 0, len(inputs[0]))
        return real_engine.RealTask(program, task.step).reduce(inputs)

    def _fetched_inputs(self, order: StartAttempt) -> list[bytes]:
        """What the tasks before left for this one, in their order."""
        if isinstance(order.input, PartInput) and not order.input.source.bytes_total:
            return [b""]
        if not isinstance(order.input, PartInput):
            return self._worker.merges.inputs(order.attempt, order.runs, order.ahead)
        return [
            self._own_part(run.source) if run.is_own else self._worker.fetched[order.attempt, run.source]
            for run in order.runs
        ]

    def _has_whole(self, attempt: AttemptId) -> bool:
        kept = self._worker.disk.outputs.get(attempt)
        return kept is not None and not kept.is_damaged

    def _own_part(self, attempt: AttemptId) -> bytes:
        return self._worker.disk.outputs[attempt].partitions[0]
