"""Join as `join.py` does, with the lines of both files cut a column at a time."""

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow.compute as pc

from minireduce import Job, columns


def keyed(batch: Any) -> Any:
    parts = pc.split_pattern(batch["line"], " ", max_splits=1)
    return columns.pairs(pc.list_element(parts, 0), pc.list_element(parts, 1))


def joined(_: str, users: Collection[str], orders: Iterator[str]) -> Iterator[tuple[str, str]]:
    for amount in orders:
        for name in users:
            yield name, amount


job = Job(map_batch={"users": keyed, "orders": keyed}, reduce=joined)
