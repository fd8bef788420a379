"""Count words as `wordcount.py` does, to the same answer, but a column at a time."""

from typing import Any

from minireduce import Job, Sum, columns


def words(batch: Any) -> Any:
    return columns.pairs(columns.words(batch["line"]), 1)


job = Job(map_batch=words, reduce=Sum())
