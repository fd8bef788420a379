"""A worker over two directories, one of which stops working: the worker goes on, says so, and nothing is lost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from scenes.cluster import ProcessCluster

from minireduce.client.fs import FileSystem
from minireduce.errors import RequestError

SETTINGS = {"MINIREDUCE_BLOCK_SIZE": "64KiB", "MINIREDUCE_REPAIR_DELAY_S": "1"}
CONTENT = bytes(range(256)) * 256 * 16
WAIT_S = 60.0


def told(cluster: ProcessCluster, *arguments: str) -> str:
    process = cluster.command(*arguments)
    said, complained = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, complained.decode()
    return said.decode()


def blocks_in(directory: Path) -> int:
    return len(list(directory.glob("blocks/*/*.data")))


def test_a_directory_that_stops_working_is_named_and_its_blocks_are_made_again(tmp_path: Path) -> None:
    first, second = tmp_path / "worker-2", tmp_path / "second"
    with ProcessCluster(tmp_path, workers=1, settings=SETTINGS) as cluster, cluster.connect() as connection:
        cluster.start_worker("worker-2", "--data-dir", str(second))
        cluster.await_worker("worker-2")
        files = FileSystem(connection)
        with files.open("/f", "wb", replication=2) as file:
            file.write(CONTENT)
        give_up_at = time.monotonic() + WAIT_S
        while blocks_in(first) + blocks_in(second) < 16:
            assert time.monotonic() < give_up_at, "not all replicas came"
        # Both lie on one file system, where the room is always the same: have blocks in each.
        if not blocks_in(second):
            first, second = second, first
        shutil.rmtree(second / "blocks")
        (second / "blocks").touch()
        worker = next(worker for worker, view in cluster.workers().items() if len(view.directories) == 2)
        with files.open("/f", "rb") as file:
            assert file.read() == CONTENT
        while not any(each.problem for each in cluster.workers()[worker].directories):
            assert time.monotonic() < give_up_at, "the directory is not named"
        assert f"{worker}: {second}/blocks takes no more blocks: it cannot be read" in told(
            cluster, "cluster", "workers"
        )
        while blocks_in(first) < 16:
            assert time.monotonic() < give_up_at, f"only {blocks_in(first)} blocks were made again"
        with files.open("/f", "rb") as file:
            assert file.read() == CONTENT


def test_a_directory_that_comes_up_empty_is_done_without_until_people_call_it_new(tmp_path: Path) -> None:
    second = tmp_path / "second"
    with ProcessCluster(tmp_path, workers=1, settings=SETTINGS) as cluster, cluster.connect() as connection:
        cluster.start_worker("worker-2", "--data-dir", str(second))
        cluster.await_worker("worker-2")
        with FileSystem(connection).open("/f", "wb", replication=2) as file:
            file.write(CONTENT)
        cluster.kill("worker-2")
        second.rename(tmp_path / "away")  # what its disk holds while it is not mounted
        cluster.start_worker("worker-2", "--data-dir", str(second))
        cluster.await_worker("worker-2")
        await_problem(cluster, f"{second}/blocks takes no more blocks: it is not the directory that was there before")
        give_up_at = time.monotonic() + WAIT_S
        while blocks_in(tmp_path / "worker-2") < 16:
            assert time.monotonic() < give_up_at, "what was in it is not made again"
        assert not (second / "blocks").exists()
        cluster.kill("worker-2")
        cluster.start_worker("worker-2", "--data-dir", str(second), "--new-data-dir", str(second))
        cluster.await_worker("worker-2")
        assert (second / "blocks").exists()


def await_problem(cluster: ProcessCluster, text: str) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while text not in (said := told(cluster, "cluster", "workers")):
        assert time.monotonic() < give_up_at, said


def test_a_worker_of_another_cluster_is_refused_and_the_master_goes_on(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with ProcessCluster(tmp_path / "other", workers=1):
        pass
    with ProcessCluster(tmp_path, workers=1) as cluster:
        shutil.copytree(tmp_path / "other" / "worker-1", tmp_path / "stranger")
        cluster.start_worker("stranger")
        with pytest.raises(RequestError, match=r"belongs to cluster [0-9a-f]{6}, and this is the master of cluster"):
            cluster.await_worker("stranger")
        assert len(cluster.workers()) == 1
