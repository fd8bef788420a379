"""Join as `join.py` does, with the lines of both files cut and brought together a column at a time."""

from typing import Any

import pyarrow.compute as pc

from minireduce import Job, columns


def keyed(batch: Any) -> Any:
    parts = pc.split_pattern(batch["line"], " ", max_splits=1)
    return columns.pairs(pc.list_element(parts, 0), pc.list_element(parts, 1))


def joined(users: Any, orders: Any) -> Any:
    found = columns.join(users, orders)
    return columns.pairs(found["left"], found["right"])


job = Job(map_batch={"users": keyed, "orders": keyed}, reduce_batch=joined)
