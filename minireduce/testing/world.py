"""What all parts of one simulation share: time, chance, the network, the trace, and who watches.

Chance comes in one stream of numbers a concern ("network", "disk", "work", "faults", ...), all from one seed: a draw
more in one does not shift the others, so a fault that is added leaves the rest of a seed as it was.

A *moment* is something worth hitting with a fault ("a map runs", "rows were written"): parts announce moments, and the
faults of a seed wait for the n-th of a kind. A *watcher* is told what the machines do and judges it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from minireduce.core import cluster as master_machine
from minireduce.core.effects import Row
from minireduce.ids import JobId, WorkerId
from minireduce.testing.agenda import Agenda, Node
from minireduce.testing.clock import ManualClock
from minireduce.testing.network import SimNetwork, Weather
from minireduce.testing.trace import Trace
from minireduce.testing.workload import SimJob


class Watcher(Protocol):
    """Judges what happens; raises `checkers.Wrong`."""

    def master_started(self, rows: Sequence[Row]) -> None: ...
    def master_advanced(self, event: master_machine.Event, actions: Sequence[master_machine.Action]) -> None: ...
    def submit_acknowledged(self, job: SimJob, job_id: JobId) -> None: ...


class Process(Protocol):
    """Somebody who can be asked."""

    node: Node


P = TypeVar("P", bound=Process)
OnMoment = Callable[[str, str], None]


HASTY_SHARE = 0.3


class World:
    """One simulation's common ground. In a run that `is_hasty` all tasks say that they take milliseconds; most do."""

    def __init__(self, seed: int, weather: Weather, *, is_told: bool = False) -> None:
        self.seed = seed
        self.clock = ManualClock()
        self.agenda = Agenda(self.clock)
        self.strikes: Counter[str] = Counter()
        self.is_hasty = self.rng("haste").random() < HASTY_SHARE
        self.trace = Trace(self.clock, is_told=is_told)
        self.network = SimNetwork(self.agenda, self.rng("network"), weather, self.strikes)
        self.client = Node("client")
        self.client.start()
        self.watchers: list[Watcher] = []
        self.on_moment: OnMoment | None = None
        self.jobs: dict[bytes, SimJob] = {}  # by program: what a task process would load
        self.failures_left: dict[tuple[bytes, str], int] = {}
        self.blocks: dict[tuple[int, int], bytes] = {}  # by block and generation: what clients have sent
        self.files: dict[str, bytes] = {}  # by path: what was closed, and that was acknowledged

    def rng(self, concern: str) -> random.Random:
        """The numbers of one concern, the same for the same seed in every process."""
        return random.Random(f"{self.seed}/{concern}")  # noqa: S311 - chance, not secrets

    def ask(
        self,
        asker: Node,
        answerer: P | None,
        question: Callable[[P, Callable[[Any], None]], None],
        then: Callable[[Any], None],
        *,
        timeout_s: float,
    ) -> None:
        """Ask another process over the network; `then` is told the first answer, or None: refused, lost or too late."""
        is_open, life = [True], asker.life

        def end(value: Any) -> None:
            if is_open[0] and asker.life == life:
                is_open[0] = False
                then(value)

        if answerer is None or not answerer.node.is_up:
            self.agenda.after(0.01, asker, lambda: end(None))
            return
        self.agenda.after(timeout_s, asker, lambda: end(None))

        def reply(value: Any) -> None:
            self.network.send(answerer.node, asker, lambda: end(value), is_single=True)

        self.network.send(asker, answerer.node, lambda: question(answerer, reply), is_single=True)

    def moment(self, name: str, actor: str) -> None:
        """Something happened that faults may wait for."""
        if self.on_moment is not None:
            self.on_moment(name, actor)


def read_token(job: JobId) -> str:
    """What opens a job's outputs in a simulation."""
    return f"read {job}"


def address_of(worker: WorkerId) -> str:
    """Where a simulated worker's block server listens."""
    return f"{worker}:80"
