"""Processes of a real cluster are killed at chosen moments of a job; the output stays that of a sequential run.

The moments are made by gates: a map or reduce of the job waits for a file lock that the test holds, so the test looks
at the cluster while exactly the work it wants is under way.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster, watch
from scenes.gated import SETTINGS, SPLITS, Stage, closed, done, finish, running, submit, tried

from minireduce.core.views import JobState
from minireduce.ids import TaskKind


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, open_splits=2)


def test_two_workers_die_one_while_mapping_and_one_while_reducing(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=5, settings=SETTINGS) as cluster, cluster.connect() as connection:
        with closed(stage.reduce_gate):
            with closed(stage.map_gate):
                client = submit(cluster, stage)
                mapping = []

                def some_maps_are_done_and_some_run(view, tasks):
                    mapping[:] = running(tasks, TaskKind.MAP)
                    return done(view, TaskKind.MAP) >= 1 and bool(mapping)

                watch_latest(connection, some_maps_are_done_and_some_run)
                cluster.kill(cluster.daemon_of(mapping[0].worker))
            reducing = []

            def every_map_is_done_and_a_reduce_runs(view, tasks):
                reducing[:] = running(tasks, TaskKind.REDUCE)
                return done(view, TaskKind.MAP) == SPLITS and bool(reducing)

            view = watch_latest(connection, every_map_is_done_and_a_reduce_runs)
            cluster.kill(cluster.daemon_of(reducing[0].worker))
        finish(client, cluster, stage)
        assert watch_latest(connection, lambda view, _: view.state is JobState.SUCCEEDED).job == view.job


def test_the_master_dies_in_the_middle_and_no_finished_map_runs_again(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=3, settings=SETTINGS) as cluster, cluster.connect() as connection:
        with closed(stage.reduce_gate):
            with closed(stage.map_gate):
                client = submit(cluster, stage)
                finished = {}

                def two_maps_are_done_and_some_run(view, tasks):
                    finished.update({t.task: tried(t) for t in tasks if t.state == "done"})
                    return len(finished) == 2 and bool(running(tasks, TaskKind.MAP))

                view = watch_latest(connection, two_maps_are_done_and_some_run)
                cluster.kill("master")
                cluster.start_master()
            again = {}

            def every_map_is_done(view, tasks):
                again.update({t.task: tried(t) for t in tasks})
                return done(view, TaskKind.MAP) == SPLITS

            watch_latest(connection, every_map_is_done)
            # The master that started again shows what was launched since: of a map done before, nothing new.
            assert {task: again[task] - before for task, before in finished.items() if again[task] - before} == {}
        finish(client, cluster, stage)
        ended = watch_latest(connection, lambda view, _: view.state is JobState.SUCCEEDED)
        assert ended.job == view.job


def watch_latest(connection, moment):
    return watch(connection, "@", moment)


def test_a_map_output_that_is_damaged_on_disk_is_made_again(tmp_path, stage):
    with ProcessCluster(tmp_path, workers=2, settings=SETTINGS) as cluster, cluster.connect() as connection:
        with closed(stage.map_gate):
            client = submit(cluster, stage)
            watch(connection, "@", lambda view, _: done(view, TaskKind.MAP) >= 2)
            damaged = sorted(tmp_path.glob("worker-*/jobs/*/*_a0/output.data"))[:2]
            assert len(damaged) == 2, "the moment did not come"
            for path in damaged:
                flip_a_bit(path)
        finish(client, cluster, stage)


def flip_a_bit(path: Path) -> None:
    """In the middle of a file, and its length and times are as they were."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
