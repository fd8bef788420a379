"""Sum numbers by key as `group_by.py` does, a column at a time."""

from typing import Any

from minireduce import Job, Sum, columns


def pairs(batch: Any) -> Any:
    key, number = columns.fields(batch["line"], " ", 2)
    return columns.pairs(key, number.cast("int64"))


job = Job(map_batch=pairs, reduce=Sum())
