"""Draw what a seed is made of: the machines, their settings, the jobs, and the faults that they meet.

What is drawn can be cut down afterwards without drawing anew (`Cut`): fewer faults, fewer jobs, calm weather. So a seed
that fails can be shrunk to what it needs to fail, and told again in one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from minireduce.core.settings import QueueSettings, WorkerSettings
from minireduce.core.spec import DEFAULT_QUEUE
from minireduce.frozen import dataclass
from minireduce.testing.cluster import CLUSTER_SETTINGS, WORKER_SETTINGS, SimCluster
from minireduce.testing.faults import Plan, draw_plan
from minireduce.testing.network import Weather
from minireduce.testing.worker import WorkerShape
from minireduce.testing.workload import FAILS_ALWAYS, BadLine, How, SimJob, lines_of_splits

WORKERS = (6, 12)
STORED_SHARE = 0.6
"""Of the seeds: their jobs read from the block store, the others files that all machines see."""

SPOILT_SHARE = 0.25
SKEWED_SHARE = 0.15
WAVERING_SHARE = 0.05
"""Of the jobs."""

HOT_FRACTION = 0.9
HOT_LINES = 30

_WORDS = ("the", "of", "map", "reduce", "split", "worker", "master", "sort", "merge", "spill", "key", "value")

SEEDS_PER_REAL = 15
"""In one of so many seeds the real engine computes the tasks."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What of a seed is kept. None: all."""

    faults: frozenset[int] | None = None
    jobs: frozenset[int] | None = None
    has_weather: bool = True

    @property
    def is_whole(self) -> bool:
        return self.faults is None and self.jobs is None and self.has_weather

    def plan(self, plan: Plan) -> Plan:
        """What is left of a plan."""
        kept = plan.faults
        if self.faults is not None:
            kept = tuple(fault for number, fault in enumerate(kept) if number in self.faults)
        weather = plan.weather if self.has_weather else Weather(delay_s=plan.weather.delay_s)
        return replace(plan, weather=weather, faults=kept)


WHOLE = Cut()

SHARED_SHARE = 0.5
"""Of the seeds: their jobs differ in queue, priority, weight and memory."""

MERGING_SHARE = 0.5
"""Of the seeds: free slots merge ahead, for reduces of few runs too."""

MEMORY_PER_SLOT_BYTES = 256 << 20


def draw_shapes(rng: Random) -> list[WorkerShape]:
    """The machines: some racks, and more slots on some than on others."""
    racks = rng.randint(1, 4)
    slots_max = rng.choice((1, 2, 2, 4))
    slots = [rng.randint(1, slots_max) for _ in range(rng.randint(*WORKERS))]
    return [
        WorkerShape(count, f"/r{number % racks}", count * MEMORY_PER_SLOT_BYTES) for number, count in enumerate(slots)
    ]


def draw_queues(rng: Random, slots: int) -> tuple[QueueSettings, ...]:
    """Some queues, now and then one that may use only a part of the slots."""
    more = [
        QueueSettings(name, weight=rng.choice((0.5, 1.0, 3.0)), slots_max=rng.choice((0, 0, max(2, slots // 3))))
        for name in ("nightly", "people")[: rng.randint(0, 2)]
    ]
    return (QueueSettings(DEFAULT_QUEUE), *more)


def share(rng: Random, job: SimJob, queues: Sequence[QueueSettings], shapes: Sequence[WorkerShape]) -> SimJob:
    """The job with a queue, a priority, a weight and a memory limit. At least half of the workers can run it."""
    usual = sorted(shape.memory_bytes for shape in shapes)[len(shapes) // 2]
    limits = (job.memory_bytes, job.memory_bytes, MEMORY_PER_SLOT_BYTES, MEMORY_PER_SLOT_BYTES * 3 // 2)
    return replace(
        job,
        queue=rng.choice(queues).name,
        priority=rng.choice((0, 0, 0, 1, -1)),
        weight=rng.choice((1.0, 1.0, 0.5, 4.0)),
        memory_bytes=min(usual, rng.choice(limits)),
    )


def skew(rng: Random, job: SimJob) -> SimJob:
    """Now and then a job most of whose words are the same, in splits of unlike sizes."""
    if rng.random() >= SKEWED_SHARE:
        return job
    hot = rng.choice(_WORDS)
    texts = [
        "\n".join(" ".join(hot if rng.random() < HOT_FRACTION else word for word in line.split()) for line in lines)
        for lines in (text.splitlines() for text in job.texts)
    ]
    most = rng.randrange(len(texts))
    texts[most] = "\n".join([texts[most], *([hot] * HOT_LINES)])
    return _fitting(replace(job, texts=tuple(texts)))


def waver(rng: Random, job: SimJob) -> SimJob:
    """Now and then a job with a mapper that gives other pairs each time; it may fail if that is seen too late."""
    if rng.random() >= WAVERING_SHARE or not job.reducers[0]:
        return job
    return replace(job, wavering=(f"s0_m{rng.randrange(job.splits_total)}",))


def draw_settings(rng: Random) -> WorkerSettings:
    """Limits of workers, now and then so small that they are reached."""
    return replace(
        WORKER_SETTINGS,
        master_wait_s=rng.choice((600.0, 600.0, 12.0)),
        fetches_max=rng.choice((8, 8, 1)),
        prefetch_bytes_max=rng.choice((1 << 30, 1 << 30, 30)),
    )


def draw_job(rng: Random, key: str, splits: int, *, is_stored: bool) -> SimJob:
    """A job of one to three steps, some words, sometimes code that raises."""
    if is_stored:
        return _store(rng, draw_job(rng, key, splits, is_stored=False))
    texts = tuple(
        "\n".join(" ".join(rng.choices(_WORDS, k=rng.randint(1, 6))) for _ in range(rng.randint(0, 6)))
        for _ in range(splits)
    )
    reducers = tuple(rng.randint(1, 6) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    if rng.random() < 0.15:
        reducers = (*reducers[:-1], 0)
    failing: list[tuple[str, int]] = []
    if rng.random() < 0.3:
        failing.append((f"s0_m{rng.randrange(len(texts))}", rng.randint(1, 3)))
    if rng.random() < 0.2 and reducers[0]:
        failing.append((f"s0_r{rng.randrange(reducers[0])}", rng.randint(1, 3)))
    if rng.random() < 0.05:
        failing = [(f"s0_m{rng.randrange(len(texts))}", FAILS_ALWAYS)]
    return SimJob(key, texts, reducers, tuple(failing), is_result=rng.random() < 0.3)


def _store(rng: Random, job: SimJob) -> SimJob:
    """The job with its input in the block store, in as many splits; what fails is one of these."""
    texts = (*job.texts, "so that there is something to read")
    size = len(SimJob(job.key, texts, (1,)).data)
    split_bytes = max(8, size // len(job.texts))
    return _fitting(replace(job, texts=texts, split_bytes=split_bytes, replication=rng.choice((2, 3))))


def _fitting(job: SimJob) -> SimJob:
    """The job without failures of maps that it does not have."""
    most = {"m": job.splits_total, "r": job.reducers[0]}
    return replace(job, failing=tuple(each for each in job.failing if int(each[0][4:]) < most[each[0][3]]))


def spoil(rng: Random, job: SimJob) -> SimJob:
    """Now and then a job some of whose lines cannot be computed; mostly one that may leave them out."""
    if rng.random() >= SPOILT_SHARE:
        return job
    places = [(split, at) for split, lines in enumerate(lines_of_splits(job)) for at in range(len(lines))]
    chosen = rng.sample(places, min(len(places), rng.randint(1, 4)))
    bad = tuple(BadLine(f"s0_m{split}", at, rng.choice(list(How))) for split, at in sorted(chosen))
    return replace(job, bad=bad, skipped_max=rng.choice((len(bad), len(bad), 10, 1)))


def build(seed: int, *, cut: Cut = WHOLE, is_calm: bool = False, is_told: bool = False) -> tuple[SimCluster, Plan]:
    """The cluster of a seed, with its jobs submitted. `is_calm`: nothing fails but user code."""
    draws = Random(f"{seed}/plan")  # noqa: S311 - chance, not secrets
    is_stored = draws.random() < STORED_SHARE
    plan = cut.plan(draw_plan(draws, has_blocks=is_stored))
    if is_calm:
        plan = Plan(Weather(delay_s=plan.weather.delay_s), (), 0.0)
    shapes, settings = draw_shapes(draws), draw_settings(draws)
    if Random(f"{seed}/merging").random() < MERGING_SHARE:  # noqa: S311 - chance, not secrets
        settings = replace(settings, merges_ahead=True, merge_runs_min=2)
    slots = sum(shape.slots for shape in shapes)
    shares = Random(f"{seed}/shares")  # noqa: S311 - chance, not secrets
    is_shared = shares.random() < SHARED_SHARE and not is_calm  # preempted attempts would not count in a calm seed
    queues = draw_queues(shares, slots) if is_shared else CLUSTER_SETTINGS.queues
    cluster = SimCluster(
        seed,
        workers=shapes,
        plan=plan,
        is_told=is_told,
        settings=settings,
        cluster_settings=replace(CLUSTER_SETTINGS, queues=queues),
    )
    speculates = Random(f"{seed}/speculation")  # noqa: S311 - chance, not secrets
    for number in range(draws.randint(3, 5)):
        kills_at_s = draws.uniform(1.0, 15.0) if draws.random() < 0.08 else 0.0
        splits = draws.choice((draws.randint(1, 6), slots * draws.randint(2, 5)))
        job = draw_job(draws, f"job {number} of seed {seed}", slots * 4 if not number else splits, is_stored=is_stored)
        job = replace(job, speculation=speculates.random() < 0.5 and not is_calm)
        is_real = seed % SEEDS_PER_REAL == 0
        spoils = Random(f"{seed}/bad/{number}")  # noqa: S311 - chance, not secrets
        job = replace(job, is_real=True) if is_real else spoil(spoils, waver(shares, skew(shares, job)))
        if is_shared:
            job = share(shares, job, queues, shapes)
        after_s = draws.uniform(0.0, 12.0) if number else 0.0
        cluster.jobs_drawn += 1
        if cut.jobs is None or number in cut.jobs:
            cluster.submit(job, after_s=after_s, kills_at_s=kills_at_s if number else 0.0)
    return cluster, plan
