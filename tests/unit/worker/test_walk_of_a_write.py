"""The bytes that docs/formats.md shows are those that are written."""

from __future__ import annotations

import re
from pathlib import Path

from minireduce.core.replica_messages import Replica
from minireduce.disk import RealDisk
from minireduce.wire.packets import Unsealer, seal
from minireduce.worker.block_store import BlockStore

TEXT = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
DATA = b"hello, blocks\n"


def shown() -> list[bytes]:
    """The blocks of hexadecimal bytes in the walk."""
    walk = TEXT.partition("## One write, byte by byte")[2].partition("\n## ")[0]
    return [
        bytes.fromhex("".join(re.findall(r"\b[0-9a-f]{2}\b(?= |$)", block, re.MULTILINE)))
        for block in re.findall(r"```\n(.*?)```", walk, re.DOTALL)
    ]


def test_the_walk_of_one_write_shows_the_bytes_that_end_up_on_disk(tmp_path):
    store = BlockStore(RealDisk(), (tmp_path,))
    store.open()
    writer = store.create(Replica(1, 1, len(DATA)))
    writer.write(Unsealer(len(DATA), "it").feed(b"".join(seal(DATA))))
    writer.commit()
    assert [path.name for path in sorted(tmp_path.rglob("*.*"))] == ["1.1.data", "1.1.sums"]
    assert shown() == [(tmp_path / "01" / "1.1.data").read_bytes(), (tmp_path / "01" / "1.1.sums").read_bytes()]
