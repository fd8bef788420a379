"""Choose the bounds of `Range()` from a sample of keys, and find the partition of a key among them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

import numpy as np

from minireduce.api import task
from minireduce.api.step import Step
from minireduce.engine import arrow_columns, kernels, key_columns, keys
from minireduce.engine.batches import mapped_batches
from minireduce.engine.context import TaskContext
from minireduce.engine.emit import as_pair, mapped
from minireduce.engine.key_columns import Index, Keys
from minireduce.engine.kinds import Kinds

_KERNEL_BOUNDS_MAX = 32  # more are looked up key by key


def choose_bounds(sample: Sequence[bytes], partitions: int) -> tuple[bytes, ...]:
    """The encoded keys with which the partitions after the first begin, so that each gets its share of the sample."""
    ordered = sorted(sample)
    return tuple(ordered[len(ordered) * index // partitions] for index in range(1, partitions)) if ordered else ()


def sample_keys(step: Step, records: Iterable[Any], context: TaskContext, keys_max: int) -> list[bytes]:
    """The encoded keys that the map gives for records (for a `map_batch`, batches), at most so many."""
    kinds = Kinds()
    with ExitStack() as stack:
        stack.enter_context(task.entered(context))
        if step.map_batch is None:
            pairs = islice(mapped(step, records, stack), keys_max)
            return [keys.encode(kinds.admit(as_pair(pair)[0])) for pair in pairs]
        sample: list[bytes] = []
        for key, _ in mapped_batches(step, records, stack, context, None):
            sample += arrow_columns.encoded_bytes(key[:keys_max], kinds)
            if len(sample) >= keys_max:
                break
        return sample[:keys_max]


def partition_all(encoded: Keys, bounds: tuple[bytes, ...], partitions: int) -> Index:
    """The partition of each key: how many bounds it has reached."""
    found = np.zeros(len(encoded), np.int64)
    if isinstance(encoded, list) or len(bounds) > _KERNEL_BOUNDS_MAX:
        raw = [text.encode("latin-1") for text in encoded] if isinstance(encoded, list) else encoded.to_pylist()
        found = np.fromiter((bisect_right(bounds, key) for key in raw), np.int64, len(raw))
    else:
        for bound in bounds:
            found += key_columns.booleans(kernels.call("greater_equal", encoded, key_columns.of_bytes([bound])[0]))
    return np.minimum(found, partitions - 1)
