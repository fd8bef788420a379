"""What goes from a worker's disk though nobody asks for it, and what stays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from scenes.worker import JOB, Scene, launch_map, map_attempt, open_job, succeeded

from minireduce.core.messages import DropJob
from minireduce.disk import RealDisk
from minireduce.testing.clock import ManualClock
from minireduce.worker.collecting import CollectionLimits, Collector
from minireduce.worker.outputs import Outputs

ORPHAN = "job-00ff00-9"


class Bench:
    def __init__(self, root: Path, *known: str, **limits: float) -> None:
        self.jobs = root / "jobs"
        self.outputs = Outputs(root, RealDisk())
        self.clock = ManualClock()
        self.known = set(known)
        self.collector = Collector(self.outputs, self.clock, CollectionLimits(**limits), lambda job: job in self.known)

    def plant(self, job: str, *, log_bytes: int = 0, age_s: float = 0.0, index: int = 0) -> Path:
        directory = self.jobs / job / f"{job}_s0_m{index:05d}_a0"
        directory.mkdir(parents=True)
        (directory / "output.data").write_bytes(b"pairs")
        (directory / "stdout").write_bytes(b"x" * log_bytes)
        os.utime(directory / "stdout", (1000.0 - age_s, 1000.0 - age_s))
        return directory

    def collect(self, after_s: float = 0.0) -> list[str]:
        """Look once more; the names that are left."""
        self.clock.advance(after_s)
        asyncio.run(self.collector.collect())
        return sorted(path.name for path in self.jobs.iterdir())


def test_the_files_of_a_job_that_nobody_knows_go_after_their_time_and_no_others(tmp_path):
    bench = Bench(tmp_path, JOB, orphans_keep_s=100.0)
    bench.plant(JOB)
    bench.plant(ORPHAN)
    bench.plant("not-a-job")
    assert bench.collect() == [JOB, ORPHAN, "not-a-job"]
    assert bench.collect(99.0) == [JOB, ORPHAN, "not-a-job"]
    assert bench.collect(2.0) == [JOB, "not-a-job"]


def test_a_job_that_is_named_again_is_no_orphan_and_has_its_whole_time_after(tmp_path):
    bench = Bench(tmp_path, orphans_keep_s=100.0)
    bench.plant(ORPHAN)
    bench.collect()
    bench.known.add(ORPHAN)
    assert bench.collect(200.0) == [ORPHAN]
    bench.known.clear()
    assert bench.collect(99.0) == [ORPHAN]
    assert bench.collect(99.0) == [ORPHAN]
    assert bench.collect(2.0) == []


def test_what_an_interrupted_removal_had_set_aside_goes(tmp_path):
    bench = Bench(tmp_path)
    bench.plant(ORPHAN)
    bench.outputs.set_aside(ORPHAN)
    assert [path.name.startswith(".aside-") for path in bench.jobs.iterdir()] == [True]
    bench.plant(ORPHAN)
    again = Bench(tmp_path)
    assert again.collect() == [ORPHAN]


def test_what_attempts_printed_goes_beyond_the_limit_the_oldest_first_and_outputs_stay(tmp_path):
    bench = Bench(tmp_path, JOB, logs_bytes_max=250)
    kept = [bench.plant(JOB, log_bytes=100, age_s=age_s, index=index) for index, age_s in enumerate((5, 50, 1, 20))]
    bench.collect()
    assert [(path / "stdout").exists() for path in kept] == [True, False, True, False]
    assert all((path / "output.data").exists() for path in kept)


def test_a_worker_knows_the_jobs_that_are_open_or_whose_outputs_it_holds():
    scene = Scene(outputs=(succeeded(map_attempt()),))
    assert scene.machine.knows(JOB)
    assert not scene.machine.knows(ORPHAN)
    scene = Scene().join()
    assert not scene.machine.knows(JOB)
    scene.command(open_job(), launch_map())
    assert scene.machine.knows(JOB)
    scene.command(DropJob(JOB))
    assert scene.machine.knows(JOB), "a process of it still runs"
