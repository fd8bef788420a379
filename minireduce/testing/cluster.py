"""A whole cluster in one process and one thread: the real machines, and everything around them simulated.

    cluster = SimCluster(seed=7, workers=3)
    client = cluster.submit(SimJob("words", texts=("a b a",), reducers=(2,)))
    cluster.run_until(lambda: client.is_done)

Nothing happens but what `run_until` lets happen, in an order that the seed decides. A test may step in between: kill a
worker, cut a link, restart the master. `sim` draws all that from the seed instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from minireduce.core.settings import ClusterSettings, WorkerSettings
from minireduce.testing.checkers import Checker
from minireduce.testing.client import SimClient
from minireduce.testing.faults import CALM, Plan
from minireduce.testing.injector import Injector
from minireduce.testing.master import SimMaster
from minireduce.testing.worker import SimWorker, WorkerShape
from minireduce.testing.workload import SimJob
from minireduce.testing.world import World
from minireduce.testing.wrong import Wrong

EVENTS_MAX = 400_000

CLUSTER_SETTINGS = ClusterSettings(repair_delay_s=15.0, block_size_bytes=250, copies_per_worker_max=2)
WORKER_SETTINGS = WorkerSettings(tick_interval_s=0.25)
"""As in production, but for small blocks that are soon repaired, and coarser ticks, which cost most of the events."""


class SimCluster:
    """A master, workers and clients; `workers` by name, "worker-1" first. Given as a number, each has `slots`.
    Those `absent` are there when a test starts them.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        workers: int | Sequence[WorkerShape] = 3,
        slots: int = 1,
        plan: Plan = CALM,
        is_told: bool = False,
        map_s: tuple[float, float] = (1.0, 6.0),
        settings: WorkerSettings = WORKER_SETTINGS,
        cluster_settings: ClusterSettings = CLUSTER_SETTINGS,
        absent: Collection[str] = (),
    ) -> None:
        self.world = World(seed, plan.weather, is_told=is_told)
        self.master = SimMaster(self.world, settings=cluster_settings)
        self._by_address: dict[str, SimWorker] = {}
        self.workers: dict[str, SimWorker] = {}
        shapes = [WorkerShape(slots)] * workers if isinstance(workers, int) else workers
        for number, shape in enumerate(shapes, start=1):
            worker = SimWorker(
                self.world,
                f"worker-{number}",
                master=self.master,
                peers=self._by_address,
                shape=shape,
                settings=settings,
                map_s=map_s,
            )
            self.workers[worker.name] = worker
        self.clients: list[SimClient] = []
        self.jobs_drawn = 0  # of a seed, submitted or cut away
        self.injector = Injector(self.world, self.master, self.workers, plan)
        self.injector.is_over = lambda: all(client.is_done for client in self.clients)
        self.checker = Checker(self.world, self.master, self.workers)
        self.world.watchers.append(self.checker)
        self.master.start()
        for worker in self.workers.values():
            if worker.name not in absent:
                worker.start()

    def submit(self, job: SimJob, *, after_s: float = 0.0, kills_at_s: float = 0.0) -> SimClient:
        """A client that sees `job` through to its end, or kills it on the way."""
        client = SimClient(self.world, job, master=self.master, workers=self._by_address, kills_at_s=kills_at_s)
        self.clients.append(client)
        self.world.agenda.after(after_s, self.world.client, client.start)
        return client

    def run_until(self, is_reached: Callable[[], bool], *, seconds_max: float = 600.0) -> None:
        """Let things happen until `is_reached`. Raises Wrong when that takes longer than `seconds_max`."""
        agenda = self.world.agenda
        end = self.world.clock.now() + seconds_max
        while not is_reached():
            next_time = agenda.next_time()
            if next_time is None or next_time > end:
                raise Wrong(f"not reached within {seconds_max:.0f} s: {self.describe()}")
            if agenda.happened > EVENTS_MAX:
                raise Wrong(f"more than {EVENTS_MAX} events: {self.describe()}")
            agenda.happen()

    def run_for(self, seconds: float) -> None:
        """Let things happen for a while."""
        end = self.world.clock.now() + seconds
        while (next_time := self.world.agenda.next_time()) is not None and next_time <= end:
            self.world.agenda.happen()
        self.world.clock.advance_to(end)

    def run_to_end(self, *, seconds_max: float = 600.0) -> None:
        """Until every client has seen the end of its job."""
        waiting = list(self.clients)

        def are_all_done() -> bool:
            while waiting and waiting[-1].is_done:  # asked after each event, so no more than needed is looked at
                waiting.pop()
            return not waiting

        self.run_until(are_all_done, seconds_max=seconds_max)

    def repair(self, *, seconds_max: float = 300.0) -> None:
        """Somebody reads all replicas, and damage is mended. Raises Wrong when that takes longer than `seconds_max`."""
        if self.world.files:
            for worker in self.workers.values():
                if worker.node.is_up:
                    worker.blocks.scrub()
            end = self.world.clock.now() + seconds_max
            while wrong := self.checker.what_is_wrong_with_files():
                if self.world.clock.now() > end:
                    raise Wrong(wrong)
                self.run_for(1.0)

    def judge(self) -> None:
        """What must hold when all is over. Raises Wrong."""
        self.checker.judge(self.clients)

    def describe(self) -> str:
        """Where everything stands, for a failure's report."""
        return "; ".join([*self._jobs(), *(f"{worker.name} {_how(worker)}" for worker in self.workers.values())])

    def _jobs(self) -> Iterable[str]:
        for client in self.clients:
            view = client.view
            if view is None:
                yield f"{client.job.key} has no answer, {client.refusals}"
            else:
                counts = ", ".join(
                    f"{count.kind} {count.step}: {count.done} of {count.total}, {count.running} run"
                    for count in view.tasks
                )
                yield f"{client.job.key} is {view.state} ({counts}) {view.reason} {view.waiting_for}"


def _how(worker: SimWorker) -> str:
    if not worker.node.is_up:
        return "is down"
    return "is paused" if worker.node.is_paused else "is up"
