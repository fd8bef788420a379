"""Sum numbers by key as `group_by.py` does, a column at a time."""

from typing import Any

import pyarrow.compute as pc

from minireduce import Job, Sum, columns


def pairs(batch: Any) -> Any:
    parts = pc.split_pattern(batch["line"], " ", max_splits=1)
    return columns.pairs(pc.list_element(parts, 0), pc.list_element(parts, 1).cast("int64"))


job = Job(map_batch=pairs, reduce=Sum())
