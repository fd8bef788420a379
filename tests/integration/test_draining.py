"""A worker is taken out of service while it holds the only replicas, and thrown away: nothing is lost."""

from __future__ import annotations

import json
import time
from pathlib import Path

from scenes.cluster import ProcessCluster

from minireduce.client.fs import FileSystem

SETTINGS = {"MINIREDUCE_BLOCK_SIZE": "1MiB", "MINIREDUCE_WORKER_LOST_S": "3", "MINIREDUCE_REPLICAS_MIN": "1"}
CONTENT = bytes(range(256)) * (5 << 12)
WAIT_S = 60.0


def told(cluster: ProcessCluster, *arguments: str) -> str:
    process = cluster.command(*arguments)
    said, complained = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, complained.decode()
    return said.decode()


def test_a_drained_worker_can_be_thrown_away_and_draining_outlives_the_master(tmp_path: Path) -> None:
    with ProcessCluster(tmp_path, workers=2, settings=SETTINGS) as cluster, cluster.connect() as connection:
        files = FileSystem(connection)
        with files.open("/f", "wb", replication=1) as file:
            file.write(CONTENT)
        worker = next(worker for worker, view in cluster.workers().items() if view.blocks)
        said = told(cluster, "cluster", "drain", worker, "--wait")
        assert f"{worker} is drained and may be stopped" in said
        shown = {each["worker"]: each for each in json.loads(told(cluster, "cluster", "workers", "--json"))}
        assert shown[worker]["drain"]["is_done"] is True
        assert "live, drained" in told(cluster, "cluster", "workers")

        name = cluster.daemon_of(worker)
        cluster.kill("master")
        cluster.start_master()
        assert cluster.workers()[worker].drain is not None

        cluster.kill(name)
        with files.open("/f", "rb") as file:
            assert file.read() == CONTENT
        with files.open("/g", "wb", replication=1) as file:
            file.write(CONTENT)
        with files.open("/g", "rb") as file:
            assert file.read() == CONTENT


def test_a_worker_that_is_taken_back_gives_up_what_is_too_much(tmp_path: Path) -> None:
    with ProcessCluster(tmp_path, workers=2, settings=SETTINGS) as cluster, cluster.connect() as connection:
        files = FileSystem(connection)
        with files.open("/f", "wb", replication=1) as file:
            file.write(CONTENT)
        worker = next(worker for worker, view in cluster.workers().items() if view.blocks)
        told(cluster, "cluster", "drain", worker, "--wait")
        assert sum(view.blocks for view in cluster.workers().values()) > 5
        assert f"{worker} is in service" in told(cluster, "cluster", "undrain", worker)
        give_up_at = time.monotonic() + WAIT_S
        while sum(view.blocks for view in cluster.workers().values()) > 5:
            assert time.monotonic() < give_up_at, "what is too much was not removed"


def test_a_worker_that_is_not_there_cannot_be_drained(tmp_path: Path) -> None:
    with ProcessCluster(tmp_path, workers=1, settings=SETTINGS) as cluster:
        process = cluster.command("cluster", "drain", "nobody")
        _, complained = process.communicate(timeout=WAIT_S)
        assert process.returncode == 2
        assert b"there is no worker nobody" in complained
        assert b"minireduce cluster workers" in complained
