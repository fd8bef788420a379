"""What a task does to its pairs, one step at a time: words, keys, sorting, folding, frames."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from minireduce import Job, Sum, columns
from minireduce.engine import columns as value_columns
from minireduce.engine import key_columns, keys
from minireduce.engine.frames import encode_pairs

COUNT = 100_000


@pytest.fixture(scope="module")
def words() -> list[str]:
    draw = random.Random(1)
    return [f"word{int(draw.paretovariate(0.5)) % 20_000}" for _ in range(COUNT)]


@pytest.fixture(scope="module")
def lines(words: list[str]) -> list[str]:
    return [" ".join(words[at : at + 10]) for at in range(0, COUNT, 10)]


def bench_words_of_a_column(benchmark: Any, lines: list[str]) -> None:
    benchmark(columns.words, pa.array(lines))


def bench_words_by_split(benchmark: Any, lines: list[str]) -> None:
    """The Python loop that the column stands beside."""
    benchmark(lambda: [word for line in lines for word in line.split()])


def bench_keys_made_sortable(benchmark: Any, words: list[str]) -> None:
    benchmark(keys.sortable_all, words)


def bench_keys_of_ints_made_sortable(benchmark: Any) -> None:
    benchmark(keys.sortable_all, list(range(COUNT)))


def bench_partitions(benchmark: Any, words: list[str]) -> None:
    texts = keys.sortable_all(words)
    benchmark(keys.partition_all, texts, 16)


def bench_order_of_keys(benchmark: Any, words: list[str]) -> None:
    column = key_columns.of_texts(keys.sortable_all(words))
    benchmark(key_columns.order, column)


def bench_order_of_keys_of_one_length(benchmark: Any) -> None:
    benchmark(key_columns.order, key_columns.of_rows(_rows(11)))


def bench_records_put_in_order(benchmark: Any) -> None:
    records = key_columns.of_rows(_rows(92))
    benchmark(key_columns.take, records, np.random.default_rng(2).permutation(COUNT))


def _rows(width: int) -> Any:
    rows = np.random.default_rng(1).integers(0, 256, (COUNT, width), np.uint8)
    rows[:, 0] = ord(keys.BYTES)
    return rows


def bench_values_made_a_column(benchmark: Any) -> None:
    benchmark(value_columns.make, [1] * COUNT)


def bench_mixed_values_made_a_column(benchmark: Any) -> None:
    benchmark(value_columns.make, [(number, "text") for number in range(COUNT)])


def bench_frames(benchmark: Any, words: list[str]) -> None:
    texts, column = sorted(keys.sortable_all(words)), value_columns.make([1] * COUNT)
    benchmark(encode_pairs, texts, column)


def bench_small_job_in_this_process(benchmark: Any, lines: list[str]) -> None:
    job = Job(lambda line: [(word, 1) for word in line.split()], Sum())
    benchmark(job.test, lines[:1000])
