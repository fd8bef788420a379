"""Ray Data on a local Ray."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray
from common import KEY_CHARACTERS, NEEDLE, run
from ray.data.aggregate import Sum


def start(slots: int) -> None:
    if not ray.is_initialized():
        ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="error")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.default_hash_shuffle_parallelism = slots


def write(data: ray.data.Dataset, output: Path) -> None:
    rows = data.to_arrow_refs()
    with (output / "part-00000").open("w", encoding="utf-8", newline="") as out:
        for reference in rows:
            columns = [column.to_pylist() for column in ray.get(reference).columns]
            out.writelines("\t".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


def count_words(batch: pa.Table) -> pa.Table:
    counts: Counter[str] = Counter()
    for line in batch["text"].to_pylist():
        counts.update(line.split())
    return pa.table({"word": list(counts), "n": list(counts.values())})


def wordcount(source: Path, output: Path, slots: int) -> None:
    start(slots)
    lines = ray.data.read_text(str(source), drop_empty_lines=True)
    counts = lines.map_batches(count_words, batch_format="pyarrow", batch_size=None)
    write(counts.groupby("word").aggregate(Sum("n")), output)


def has_needle(batch: pa.Table) -> pa.Table:
    return batch.filter(pc.match_substring(batch["text"], NEEDLE))


def grep(source: Path, output: Path, slots: int) -> None:
    start(slots)
    write(ray.data.read_text(str(source)).map_batches(has_needle, batch_format="pyarrow", batch_size=None), output)


def split_pairs(batch: pa.Table) -> pa.Table:
    pairs = [line.partition(" ") for line in batch["text"].to_pylist()]
    return pa.table({"k": [pair[0] for pair in pairs], "n": [int(pair[2]) for pair in pairs]})


def group_by(source: Path, output: Path, slots: int) -> None:
    start(slots)
    pairs = ray.data.read_text(str(source)).map_batches(split_pairs, batch_format="pyarrow", batch_size=None)
    write(pairs.groupby("k").aggregate(Sum("n")), output)


def with_key(batch: pa.Table) -> pa.Table:
    line = pc.replace_substring(batch["text"], "\r", "")
    return pa.table(
        {"key": pc.utf8_slice_codeunits(line, 0, KEY_CHARACTERS), "line": pc.binary_join_element_wise(line, "\r", "")}
    )


def terasort(source: Path, output: Path, slots: int) -> None:
    start(slots)
    records = ray.data.read_text(str(source)).map_batches(with_key, batch_format="pyarrow", batch_size=None)
    write(records.sort("key").select_columns(["line"]), output)


def split_two(first: str, second: str):
    def split(batch: pa.Table) -> pa.Table:
        rows = [line.split() for line in batch["text"].to_pylist()]
        return pa.table({first: [row[0] for row in rows], second: [row[1] for row in rows]})

    return split


def join(source: Path, output: Path, slots: int) -> None:
    start(slots)
    users, orders = (
        ray.data.read_text(str(source / name)).map_batches(
            split_two("k", column), batch_format="pyarrow", batch_size=None
        )
        for name, column in (("users.txt", "name"), ("orders.txt", "amount"))
    )
    joined = orders.join(users, join_type="inner", num_partitions=slots, on=("k",))
    write(joined.select_columns(["name", "amount"]), output)


if __name__ == "__main__":
    run({body.__name__: body for body in (wordcount, grep, group_by, terasort, join)})
