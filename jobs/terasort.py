"""Sort records of 100 bytes by their first ten, ascending through all parts: `bench/gensort.py` makes such records."""

from typing import Any

from minireduce import FixedWidth, Identity, Job, Range, columns

KEY_BYTES = 10
RECORD_BYTES = 100


def cut(batch: Any) -> Any:
    record = batch["record"]
    return columns.pairs(columns.cut(record, 0, KEY_BYTES), columns.cut(record, KEY_BYTES, RECORD_BYTES))


job = Job(
    map_batch=cut,
    reduce=Identity(),
    input=FixedWidth(RECORD_BYTES),
    output=FixedWidth(RECORD_BYTES),
    partition=Range(),
    name="terasort",
)
