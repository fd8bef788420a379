"""Join as `join.py` does, with the lines of both files cut and brought together a column at a time."""

from typing import Any

from minireduce import Job, columns


def keyed(batch: Any) -> Any:
    return columns.pairs(*columns.fields(batch["line"], " ", 2))


def joined(users: Any, orders: Any) -> Any:
    found = columns.join(users, orders)
    return columns.pairs(found["left"], found["right"])


job = Job(map_batch={"users": keyed, "orders": keyed}, reduce_batch=joined)
