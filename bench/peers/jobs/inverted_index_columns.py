"""Index words as `inverted_index.py` does, a column at a time."""

from pathlib import PurePath
from typing import Any

import pyarrow.compute as pc

from minireduce import Distinct, Job, columns, task


def words(batch: Any) -> Any:
    return columns.pairs(pc.unique(columns.words(batch["line"])), PurePath(task.input_path or "").name)


job = Job(map_batch=words, reduce=Distinct())
