"""What the block server tells without having been asked."""

from __future__ import annotations

import asyncio

from minireduce.core.replica_messages import DirectoriesMeasured, Replica
from minireduce.core.worker import ReplicaDeleted
from minireduce.disk import RealDisk
from minireduce.worker import block_routes
from minireduce.worker.block_routes import BlockRoutes
from minireduce.worker.block_sending import BlockSender
from minireduce.worker.block_store import BLOCKS_NAME, BlockStore


def test_directories_are_measured_anew_when_blocks_went_and_not_before(tmp_path, monkeypatch):
    monkeypatch.setattr(block_routes, "MEASURE_INTERVAL_S", 3600.0)
    monkeypatch.setattr(block_routes, "MEASURE_AGAIN_S", 0.0)
    store = BlockStore(RealDisk(), (tmp_path / BLOCKS_NAME,))
    store.open()

    async def scene() -> None:
        told: asyncio.Queue[object] = asyncio.Queue()
        routes = BlockRoutes(store, "w1", BlockSender(None), told.put_nowait)
        watching = asyncio.create_task(routes.watch_directories())
        try:
            async with asyncio.timeout(20):
                assert isinstance(await told.get(), DirectoriesMeasured)
                for _ in range(2):
                    assert told.empty()
                    await routes.delete(Replica(5, 1, 0))
                    assert await told.get() == ReplicaDeleted(Replica(5, 1, 0))
                    assert isinstance(await told.get(), DirectoriesMeasured)
        finally:
            watching.cancel()

    asyncio.run(scene())
