"""Damage that no reader meets is found by the worker, and mended, with real processes and files."""

from __future__ import annotations

import time
from pathlib import Path

from scenes.cluster import ProcessCluster, holds

from minireduce.client.fs import FileSystem

SETTINGS = {"MINIREDUCE_SCRUB_PERIOD_S": "2", "MINIREDUCE_BLOCK_SIZE": "64KiB"}
CONTENT = bytes(range(256)) * 600
WAIT_S = 60.0


def test_a_bit_that_nobody_reads_is_found_and_mended(tmp_path: Path) -> None:
    with ProcessCluster(tmp_path, workers=2, settings=SETTINGS) as cluster, cluster.connect() as connection:
        files = FileSystem(connection)
        with files.open("/f", "wb", replication=2) as file:
            file.write(CONTENT)
        replica = min((tmp_path / "worker-1" / "blocks").glob("*/*.data"))
        good = replica.read_bytes()
        replica.write_bytes(good[:1000] + bytes([good[1000] ^ 4]) + good[1001:])
        give_up_at = time.monotonic() + WAIT_S
        while not holds(replica, good):
            assert time.monotonic() < give_up_at, "the damage was not mended"
        with files.open("/f", "rb") as file:
            assert file.read() == CONTENT
