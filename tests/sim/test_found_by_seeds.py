"""Bugs that seeds have found and no page of tests/scenarios shows, each as the shortest run that shows it again."""

from __future__ import annotations

from dataclasses import replace

from minireduce.testing.cluster import WORKER_SETTINGS, SimCluster
from minireduce.testing.workload import SimJob


def test_a_worker_that_gave_up_on_its_master_says_so_when_the_master_is_back():
    settings = replace(WORKER_SETTINGS, master_wait_s=1.5)
    cluster = SimCluster(workers=1, settings=settings, map_s=(1.0, 1.0), is_told=True)
    cluster.submit(SimJob("words", texts=("a b", "b c", "c"), reducers=(1,)))
    lines = cluster.world.trace.lines
    cluster.run_until(lambda: any("launches reduce 0" in line for line in lines))
    cluster.run_for(0.1)
    cluster.master.kill("to be away for longer than the worker waits")
    cluster.run_for(8.0)
    assert any("giving up what was done" in line for line in lines)
    cluster.master.start()
    cluster.run_to_end(seconds_max=60.0)
    cluster.run_for(30.0)
    cluster.judge()


def test_a_part_that_its_living_worker_lost_before_the_client_came_is_made_again():
    cluster = SimCluster(workers=2, map_s=(1.0, 1.0), is_told=True)
    client = cluster.submit(SimJob("words", texts=("a b", "b c"), reducers=(1,)))
    cluster.run_until(lambda: any("is publishing" in line for line in cluster.world.trace.lines))
    holder = next(
        worker for worker in cluster.workers.values() if any(a.task.kind == "reduce" for a in worker.disk.outputs)
    )
    holder.disk.outputs.clear()
    cluster.run_to_end(seconds_max=60.0)
    cluster.run_for(30.0)
    cluster.judge()
    assert client.obtained == (b"a\t1\nb\t2\nc\t1\n",)
