"""Lines with a word that few lines have, a column at a time."""

from typing import Any

import pyarrow as pa

from minireduce import Job, columns

NEEDLE = "warnings.warn"


def matching(batch: Any) -> Any:
    lines = batch["line"].filter(columns.matches(batch["line"], NEEDLE.replace(".", r"\.")))
    return columns.pairs(lines, pa.nulls(len(lines)))


job = Job(map_batch=matching)
